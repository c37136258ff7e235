//! Which of a network's addresses stands for it: at most one of each family.
//!
//! Of the fit ones on interfaces that are not down: those of interfaces that are known to be up first,
//! then another interface's before the loopback's, the lowest interface number, primary before
//! secondary (v4) or temporary (v6), the lowest address. So the choice depends on what is there now,
//! and not on how it came about. An interface may be unknown because there are more than we look at, or
//! than the kernel tells: its addresses still keep connections away from the network's loopback.

use super::message::{Assigned, Interface};
use crate::factory::message::Family;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Interfaces that are looked at, the first in the kernel's order. 64 × 12 bytes.
const INTERFACES: usize = 64;

/// How far behind others an address stands: interface unknown, the loopback, its number, secondary.
type Rank = (bool, bool, u32, bool);

/// The choice, also while it is being made: first all interfaces, then all addresses.
#[derive(Clone, Debug)]
pub struct Choice {
    interfaces: [Option<Interface>; INTERFACES],
    v4: Option<(Rank, Ipv4Addr)>,
    v6: Option<(Rank, Ipv6Addr)>,
}

impl Choice {
    /// Of a network without any interface.
    pub const fn new() -> Self {
        Self { interfaces: [None; INTERFACES], v4: None, v6: None }
    }

    /// Takes note of an interface.
    pub fn interface(&mut self, interface: Interface) {
        if let Some(place) = self.interfaces.iter_mut().find(|place| place.is_none()) {
            *place = Some(interface);
        }
    }

    /// Takes note of an address.
    pub fn assigned(&mut self, assigned: Assigned) {
        let Assigned { address, interface, fit, secondary } = assigned;
        let mut interfaces = self.interfaces.iter().flatten();
        let known = interfaces.find(|known| known.index == interface);
        if !fit || known.is_some_and(|known| !known.up) {
            return;
        }
        let loopback = known.is_some_and(|known| known.loopback);
        let rank = (known.is_none(), loopback, interface, secondary);
        match address {
            IpAddr::V4(v4) => {
                self.v4 = Some(self.v4.map_or((rank, v4), |best| best.min((rank, v4))));
            }
            IpAddr::V6(v6) => {
                self.v6 = Some(self.v6.map_or((rank, v6), |best| best.min((rank, v6))));
            }
        }
    }

    /// Where a connection to the network itself goes: to its address of that family, or else of the
    /// other one; if it has neither, to its loopback.
    pub fn destination(&self, family: Family, port: u16) -> SocketAddr {
        let (v4, v6) = (self.v4.map(|(_, v4)| v4.into()), self.v6.map(|(_, v6)| v6.into()));
        let ip: IpAddr = match family {
            Family::V4 => v4.or(v6).unwrap_or(Ipv4Addr::LOCALHOST.into()),
            Family::V6 => v6.or(v4).unwrap_or(Ipv6Addr::LOCALHOST.into()),
        };
        SocketAddr::new(ip, port)
    }

    /// Whether this is the address of IPv6.
    pub fn is_own(&self, address: Ipv6Addr) -> bool {
        self.v6.is_some_and(|(_, own)| own == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(index: u32) -> Interface {
        Interface { index, up: true, loopback: index == 1 }
    }

    fn on(interface: u32, address: &str) -> Assigned {
        let address = address.parse().expect("an address");
        Assigned { address, interface, fit: true, secondary: false }
    }

    /// What is chosen among addresses on interfaces 1 (the loopback) to 4, whatever their order.
    fn chosen(addresses: &[Assigned]) -> [String; 2] {
        let choose = |addresses: &mut dyn Iterator<Item = &Assigned>| {
            let mut choice = Choice::new();
            (1..=4).for_each(|index| choice.interface(up(index)));
            addresses.for_each(|&address| choice.assigned(address));
            [Family::V4, Family::V6].map(|family| choice.destination(family, 80).ip().to_string())
        };
        let forwards = choose(&mut addresses.iter());
        assert_eq!(forwards, choose(&mut addresses.iter().rev()), "the order makes a difference");
        forwards
    }

    fn both(v4: &str, v6: &str) -> [String; 2] {
        [v4.to_owned(), v6.to_owned()]
    }

    #[test]
    fn network_without_an_address_of_its_own_is_reached_at_its_loopback() {
        assert_eq!(chosen(&[]), both("127.0.0.1", "::1"));
        let unfit = Assigned { fit: false, ..on(2, "10.0.0.1") };
        assert_eq!(chosen(&[unfit]), both("127.0.0.1", "::1"));
    }

    #[test]
    fn network_with_an_address_is_never_reached_at_its_loopback() {
        assert_eq!(chosen(&[on(2, "10.0.0.1")]), both("10.0.0.1", "10.0.0.1"));
        assert_eq!(chosen(&[on(2, "fd00::1")]), both("fd00::1", "fd00::1"));
        assert_eq!(chosen(&[on(2, "10.0.0.1"), on(3, "fd00::1")]), both("10.0.0.1", "fd00::1"));
    }

    #[test]
    fn lowest_interface_goes_first_and_the_loopback_last() {
        let addresses = [on(1, "10.0.0.1"), on(3, "10.0.0.2"), on(2, "10.0.0.3"), on(2, "fd00::9")];
        assert_eq!(chosen(&addresses), both("10.0.0.3", "fd00::9"));
        let only_loopback = [on(1, "10.0.0.1"), on(1, "fd00::1")];
        assert_eq!(chosen(&only_loopback), both("10.0.0.1", "fd00::1"));
    }

    #[test]
    fn primary_address_goes_first_then_the_lowest() {
        let secondary = |address| Assigned { secondary: true, ..on(2, address) };
        let addresses = [
            secondary("10.0.0.1"),
            on(2, "10.0.0.3"),
            on(2, "10.0.0.2"),
            secondary("fd00::1"),
            on(2, "fd00::3"),
            on(2, "fd00::2"),
        ];
        assert_eq!(chosen(&addresses), both("10.0.0.2", "fd00::2"));
    }

    #[test]
    fn address_of_an_interface_that_is_down_is_no_choice() {
        let mut choice = Choice::new();
        choice.interface(Interface { up: false, ..up(2) });
        choice.assigned(on(2, "10.0.0.1"));
        assert_eq!(choice.destination(Family::V4, 1), ([127, 0, 0, 1], 1).into());
    }

    #[test]
    fn address_of_an_unknown_interface_is_the_last_choice_but_for_the_loopback() {
        let mut choice = Choice::new();
        (1..1000).for_each(|index| choice.interface(up(index)));
        choice.assigned(on(999, "10.0.0.9"));
        assert_eq!(choice.destination(Family::V4, 1), ([10, 0, 0, 9], 1).into());
        choice.assigned(on(64, "10.0.0.64"));
        assert_eq!(choice.destination(Family::V4, 1), ([10, 0, 0, 64], 1).into());
    }
}

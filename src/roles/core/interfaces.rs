//! Listeners whose interface has gone.
//!
//! A socket is held to an interface by its number, not by its name: when that goes the socket hears
//! nothing any more, and when one of the same name comes, which has another number, it does not hear that
//! either. No event says so, so as long as there are such listeners each is asked, once a second, what
//! its interface is called now. One that has no answer has failed, as one that was destroyed has, and is
//! tried again like others until there is an interface of that name.

use super::world::World;
use crate::limits::{INTERFACES_MS, LOOKS, SOCKETS};
use crate::sys::{Errno, socket};
use crate::table::Table;
use crate::wire::Protocol;
use std::os::fd::{AsFd, OwnedFd};

/// When listeners are asked.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// The next time; `None` while there are none.
    next_ms: Option<u64>,
    /// Those from this place on, now.
    walk: Option<u32>,
}

impl Interfaces {
    /// When there is something to do, if there are such listeners.
    pub(super) fn due_ms(&self, has_held: bool) -> Option<u64> {
        let next_ms = if self.walk.is_some() { None } else { self.next_ms };
        has_held.then(|| next_ms.unwrap_or(0))
    }
}

impl World {
    /// Asks the next of the listeners that are held to an interface.
    pub(super) fn look_at_interfaces(&mut self, table: &mut Table<OwnedFd>, now_ms: u64) {
        if !table.has_held() {
            self.interfaces = Interfaces::default();
            return;
        }
        let due_ms = *self.interfaces.next_ms.get_or_insert(now_ms + INTERFACES_MS);
        if due_ms <= now_ms {
            self.interfaces.next_ms = Some(now_ms + INTERFACES_MS);
            self.interfaces.walk.get_or_insert(0);
        }
        let Some(mut place) = self.interfaces.walk else { return };
        let mut sockets = 0;
        for _ in 0..LOOKS {
            let Some(slot) = table.next_slot(place) else {
                self.interfaces.walk = None;
                return;
            };
            place = slot.index + 1;
            // One that is paused would go on deaf.
            let held = table.listener(slot).or_else(|| table.paused(slot));
            let Some((listener, key, _)) = held else { continue };
            let Some(interface) = key.interface else { continue };
            sockets += 1;
            if !socket::is_held_to(listener.as_fd(), interface.padded()) {
                if key.protocol == Protocol::Udp {
                    self.hush(slot, key, listener.as_fd());
                    // Its flows end with it: nothing is to be in the way where the same interface comes back.
                    self.copies.release(key.side, slot);
                }
                table.fail(slot, Errno(libc::ENODEV));
                // Nor are the sockets of its flows held to one that is there: what comes by the next one is not for them.
                if key.protocol == Protocol::Udp {
                    table.end_flows(slot, 0, self);
                }
            }
            if sockets == SOCKETS {
                break;
            }
        }
        self.interfaces.walk = Some(place);
    }
}

//! An address of the container's network in a spec, not of this host's: the target's, and where a reverse
//! one listens.
//!
//! So an interface is its number there: names of that network cannot be looked up from here.

use super::Problem;
use crate::wire::{Address, TargetAddress};
use core::net::{Ipv4Addr, Ipv6Addr};

/// Reads a target's address: IPv4 as it is, IPv6 in brackets, a link-local one with `%NUMBER`.
///
/// # Errors
/// It is none, or nothing can be connected to it.
pub fn parse(word: &str) -> Result<TargetAddress, Problem> {
    let address = address(word)?;
    if !address.may_be_target() {
        return Err(Problem::NotATarget(word.to_owned()));
    }
    Ok(Some(address).into())
}

/// The same, but for whether anything can be connected to it.
pub(super) fn address(word: &str) -> Result<Address, Problem> {
    match word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        None => word.parse::<Ipv4Addr>().map(Address::V4).map_err(|_| not_an_address(word)),
        Some(inner) => parse_v6(word, inner),
    }
}

fn parse_v6(word: &str, inner: &str) -> Result<Address, Problem> {
    let (inner, interface) = match inner.split_once('%') {
        Some((inner, interface)) => (inner, Some(interface)),
        None => (inner, None),
    };
    let address: Ipv6Addr = inner.parse().map_err(|_| not_an_address(word))?;
    let scope = match (interface, address.is_unicast_link_local()) {
        (None, false) => 0,
        (None, true) => return Err(Problem::TargetInterface(address.to_string())),
        (Some(_), false) => return Err(Problem::NeedlessInterface(address.to_string())),
        (Some(number), true) => match number.parse() {
            Ok(index @ 1..) if number.bytes().all(|byte| byte.is_ascii_digit()) => index,
            _ => return Err(Problem::TargetInterface(address.to_string())),
        },
    };
    Ok(Address::V6 { address, scope })
}

fn not_an_address(word: &str) -> Problem {
    Problem::NotATargetAddress(word.to_owned())
}

/// A target's address as it stands before a colon: IPv6 in brackets, an interface as its number.
#[must_use]
pub fn written(address: Address) -> String {
    match address {
        Address::V4(v4) => v4.to_string(),
        Address::V6 { address, scope: 0 } => format!("[{address}]"),
        Address::V6 { address, scope } => format!("[{address}%{scope}]"),
    }
}

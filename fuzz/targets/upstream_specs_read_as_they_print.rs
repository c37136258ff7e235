//! What is a spec of pasta's command line prints as one that is read as the same; what is none is an
//! error with a text. Any list of ports prints as its spec.

#![no_main]

use fuzz::bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pesto::client::upstream::{Entry, Listen, Spec};
use pesto::wire::{Address, Bind, Interface, PortRange, TargetAddress};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        match text.parse::<Spec>() {
            Ok(spec) => check(&spec),
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
    check(&value(&mut Bytes::new(bytes)));
});

fn check(spec: &Spec) {
    let printed = spec.to_string();
    assert_eq!(printed.parse::<Spec>().as_ref(), Ok(spec), "{printed}");
}

fn value(bytes: &mut Bytes<'_>) -> Spec {
    let names: [&[u8]; 4] = [b"lo", b"eth0", b"a.b-c:1", b"]"];
    let (bind, name) = (bytes.bind(), bytes.byte());
    let interface = names.get(usize::from(name)).and_then(|name| Interface::new(name));
    let listen = match bind {
        // It belongs to an interface, which is its scope.
        Bind::V6 { address, scope } if address.is_unicast_link_local() => {
            let bind = Bind::V6 { address, scope: scope.max(1) };
            Listen { bind: Some(bind), interface: None }
        }
        // No address, and every one.
        Bind::Any if name & 1 == 0 => Listen { bind: None, interface },
        bind => Listen { bind: Some(bind), interface },
    };
    let mut entries = vec![entry(bytes)];
    while !bytes.is_empty() && entries.len() < 8 {
        entries.push(entry(bytes));
    }
    Spec::Ports(listen, entries)
}

fn entry(bytes: &mut Bytes<'_>) -> Entry {
    match bytes.byte() % 6 {
        0 => Entry::Auto,
        1 => Entry::Except(bytes.range()),
        2 => Entry::All { target: target(bytes) },
        kind => {
            let ports = bytes.range();
            let to = (kind == 3).then(|| bytes.port());
            let to = to.and_then(|first| PortRange::from_width(first, ports.width()));
            Entry::Range { ports, target: target(bytes), to }
        }
    }
}

fn target(bytes: &mut Bytes<'_>) -> TargetAddress {
    let address = bytes.bind().address().filter(|address| address.may_be_target());
    match address {
        Some(Address::V6 { address, scope }) if address.is_unicast_link_local() => {
            TargetAddress::V6 { address, scope: scope.max(1) }
        }
        other => other.into(),
    }
}

//! What is a publish spec prints as one that is read as the same; what is none is an error with a text.
//! Rules that a spec could ask for print as that spec.

#![no_main]

use fuzz::bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pesto::client::spec::{Spec, Wish, of_rule};
use pesto::wire::{Interface, Ports, Rule, RuleId, Side, TargetAddress};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_text(text);
    }
    check_value(&mut Bytes::new(bytes));
});

fn check_text(text: &str) {
    for side in [Side::Inbound, Side::Reverse] {
        match Spec::of(side, text) {
            Ok(spec) => {
                assert_eq!(spec.words, text);
                assert!(!spec.wishes.is_empty());
                for wish in spec.wishes {
                    check_wish(&wish);
                }
            }
            Err(problem) => assert!(!problem.to_string().is_empty()),
        }
    }
}

fn check_wish(wish: &Wish) {
    let rule = wish.rule(RuleId(1));
    assert_eq!(rule.checked(), Ok(rule));
    let printed = of_rule(&rule);
    let again = Spec::of(wish.side, &printed);
    assert_eq!(again.map(|spec| spec.wishes), Ok(vec![*wish]), "{printed}");
}

/// Any rule that this client could have made.
fn check_value(bytes: &mut Bytes<'_>) {
    let Ok(rule) = bytes.rule().checked() else { return };
    let Rule { side, protocol, bind, ports, .. } = rule;
    let len = usize::from(bytes.byte() % 16);
    let interface = Interface::new(bytes.take(len));
    let if_listening = bytes.byte() & 1 != 0;
    let Some(target) = pesto::wire::PortRange::from_width(rule.target.first_port, ports.width())
    else {
        return;
    };
    // An interface stands with link-local addresses, and there it must; `bytes` gives them all one.
    let needs_scope = |address: Option<pesto::wire::Address>| {
        matches!(address, Some(pesto::wire::Address::V6 { address, scope: 0 })
            if address.is_unicast_link_local())
    };
    let address: TargetAddress = rule.target.address;
    if needs_scope(bind.address()) || needs_scope(address.address()) {
        return;
    }
    let ports = match ports {
        Ports::Pick { .. } => Ports::Pick { width: target.width() },
        fixed @ Ports::Fixed(_) => fixed,
    };
    check_wish(&Wish { side, protocol, bind, interface, ports, address, target, if_listening });
}

use super::*;
use crate::client::spec::{self, Spec};
use crate::wire::RuleId;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn rule(words: &str) -> Rule {
    words.parse::<Spec>().expect(words).wishes[0].rule(RuleId(7))
}

/// What is left of a rule, and what was taken, as specs.
fn cut_of(from: &str, what: &str) -> Option<(Vec<String>, String)> {
    let cut = cut(&rule(from), &rule(what))?;
    Some((cut.left.iter().map(spec::of_rule).collect(), spec::of_rule(&cut.taken)))
}

#[test]
fn ports_of_a_range_are_taken_out() {
    for (from, what, left) in [
        ("80-89:180-189", "80-89:180-189", &[][..]),
        ("80-89:180-189", "80:180", &[":81-89:181-189"]),
        ("80-89:180-189", "89:189", &[":80-88:180-188"]),
        ("80-89:180-189", "84-85:184-185", &[":80-83:180-183", ":86-89:186-189"]),
        ("80-89:180-189", "81-88:181-188", &[":80:180", ":89:189"]),
        // Only what is there is taken.
        ("80-89:180-189", "85-95:185-195", &[":80-84:180-184"]),
        ("127.0.0.1:80-82:80-82", "127.0.0.1:81:81", &["127.0.0.1:80:80", "127.0.0.1:82:82"]),
        ("1-65535:1-65535", "65535:65535", &[":1-65534:1-65534"]),
        ("1-65535:1-65535", "1:1", &[":2-65535:2-65535"]),
        // One family of any address, and both of one family.
        ("80:80", "0.0.0.0:80:80", &["[::]:80:80"]),
        ("80:80", "[::]:80:80", &["0.0.0.0:80:80"]),
        ("0.0.0.0:80:80", "80:80", &[]),
        ("80-82:80-82", "0.0.0.0:81:81", &[":80:80", "[::]:81:81", ":82:82"]),
    ] {
        let left: Vec<String> =
            left.iter().map(|left| format!("{}/tcp", left.trim_start_matches(':'))).collect();
        assert_eq!(cut_of(from, what).expect(what).0, left, "{what} of {from}");
    }
}

#[test]
fn what_leads_elsewhere_or_listens_elsewhere_is_not_taken() {
    for (from, what) in [
        ("80-89:180-189", "84:84"),
        ("80-89:180-189", "90:190"),
        ("80:80", "127.0.0.1:80:80"),
        ("0.0.0.0:80:80", "127.0.0.1:80:80"),
        ("127.0.0.1:80:80", "80:80"),
        ("0.0.0.0:80:80", "[::]:80:80"),
        ("80:80/tcp", "80:80/udp"),
        ("80:80", "80"),
    ] {
        assert_eq!(cut_of(from, what), None, "{what} of {from}");
    }
}

/// Every socket of a rule, and where it leads.
fn sockets(rule: &Rule) -> BTreeSet<(bool, u16, u16)> {
    let families = match rule.bind {
        Bind::Any => &[false, true][..],
        Bind::V4(_) => &[false],
        Bind::V6 { .. } => &[true],
    };
    let ports = fixed(rule).expect("fixed ports").iter();
    let leads = |port| rule.target_port(port).expect("its port").get();
    ports.flat_map(|port| families.iter().map(move |v6| (*v6, port.get(), leads(port)))).collect()
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let bind = prop_oneof![Just(""), Just("0.0.0.0:"), Just("[::]:")];
    (bind, 1_u16..30, 0_u16..30, 0_u16..2).prop_map(|(bind, first, more, shift)| {
        let (last, to) = (first + more, first + shift);
        rule(&format!("{bind}{first}-{last}:{to}-{}", to + more))
    })
}

proptest! {
    #[test]
    fn every_socket_is_either_left_or_taken_and_leads_where_it_led(
        one in any_rule(), other in any_rule()
    ) {
        let (had, wanted) = (sockets(&one), sockets(&other));
        let shared: BTreeSet<_> = had.intersection(&wanted).copied().collect();
        let Some(Cut { taken, left }) = cut(&one, &other) else {
            prop_assert!(shared.is_empty());
            return Ok(());
        };
        prop_assert_eq!(sockets(&taken), shared);
        let mut all = sockets(&taken);
        for part in left {
            prop_assert!(part.checked().is_ok());
            prop_assert_eq!((part.id, part.label), (one.id, one.label));
            for socket in sockets(&part) {
                prop_assert!(all.insert(socket), "twice: {:?}", socket);
            }
        }
        prop_assert_eq!(all, had);
    }
}

//! Why the daemon did not do a step, in the user's words.

use super::draft::Names;
use crate::client::error::{Error, Exit};
use crate::client::instance::{advised, quoted};
use crate::client::session::Session;
use crate::client::spec::ports_text;
use crate::wire::{Answer, Protocol, Refusal, Rule, RuleId, Side, TargetAddress};

/// Two rules that want the same port.
pub(super) fn conflict(names: &Names, first: RuleId, second: RuleId) -> Error {
    let (one, other) = (names.of(first), names.of(second));
    let message = match (names.is_new(first), names.is_new(second)) {
        (false, true) | (true, false) => {
            let (new, old, newer, id) = if names.is_new(first) {
                (one, other, first, second)
            } else {
                (other, one, second, first)
            };
            if names.is_leaving(id) {
                format!(
                    "{new}: {old} holds that port until this change is done; make it two changes: \
                     first {} {}",
                    advised("rm"),
                    names.option_of(id)
                )
            } else {
                let part = names.in_the_way(id, newer);
                let rm = advised("rm");
                let out = names
                    .exclusion(id, newer)
                    .map_or_else(String::new, |words| format!("; or exclude it too: {words}"));
                format!("{new}: {old} has that port already; remove it first: {rm} {part}{out}")
            }
        }
        _ if names.is_switched_on(first) != names.is_switched_on(second) => {
            let (on, id) =
                if names.is_switched_on(first) { (first, second) } else { (second, first) };
            format!(
                "{}: {} has that port; switch that off first: {} {}",
                names.now_of(on),
                names.of(id),
                advised("disable"),
                names.in_the_way(id, on)
            )
        }
        _ if names.are_same(first, second) && one == other => {
            format!("{one}: named twice; once is enough")
        }
        _ if names.are_same(first, second) => {
            format!("{one} and {other} are the same forward; leave one out")
        }
        _ => format!("{one} and {other} want the same port; leave one out"),
    };
    Error::refused(message)
}

/// A rule that the daemon cannot have, although it knows each of its parts.
pub(super) fn unsupported(words: &str, rule: &Rule) -> Error {
    let is_plain = rule.side == Side::Inbound && rule.protocol == Protocol::Tcp;
    let what = if rule.interface.is_some() && !is_plain {
        "cannot listen on one interface for that; name an address of it instead".to_owned()
    } else {
        format!("cannot do that; `{}` shows what it can", advised("status"))
    };
    Error::refused(format!("{words}: this daemon {what}"))
}

/// A reverse rule that leads where this daemon may never lead.
pub(super) fn forbidden(words: &str, rule: &Rule) -> Error {
    let ports = ports_text(rule.target.first_port.get(), rule.ports.width().get());
    let place = match rule.target.address {
        TargetAddress::V4(address) => format!("{address}:{ports}"),
        TargetAddress::V6 { address, .. } => format!("[{address}]:{ports}"),
        TargetAddress::Automatic => format!("127.0.0.1:{ports}"),
    };
    Error::refused(format!(
        "{words}: this daemon may not lead the container to {place}: that must be allowed when it is started; start \
         it again with -r, or with --allow-reverse {} (pesto run, pesto attach)",
        quoted(&place)
    ))
}

/// An answer that ends the change.
pub(super) fn refused(session: &Session, words: &str, answer: &Answer) -> Error {
    match answer {
        Answer::Refused(Refusal::Unsupported, _) => Error::refused(format!(
            "{words}: this daemon cannot do that; `{}` shows what it can",
            advised("status")
        )),
        Answer::Refused(Refusal::TableFull, _) => Error::refused(format!(
            "{words}: the table is full; remove rules, or use ranges, which are one rule each"
        )),
        Answer::Refused(Refusal::Expired, _) => Error::new(
            Exit::Moved,
            format!(
                "{words}: it took too long and was rolled back; nothing was changed, try again"
            ),
        ),
        Answer::Invalid(field) => {
            Error::refused(format!("{words}: the daemon finds the rule's {field:?} wrong"))
        }
        other => session.unexpected(other),
    }
}

//! Labels: a rule's owner's word for it. The daemon keeps 24 bytes with each rule and never looks
//! at them; here they are text in UTF-8, shorter ones padded with zeros.

use crate::wire::Label;
use std::fmt;

/// How long a label may be, in bytes.
pub const MOST: usize = Label::NONE.0.len();

/// What is wrong with a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Nothing in it.
    Empty,
    /// So many bytes.
    TooLong(usize),
    /// A control character, such as a newline.
    Control,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(out, "a label has 1 to {MOST} bytes"),
            Self::TooLong(bytes) => write!(
                out,
                "a label may be {MOST} bytes long, and this one has {bytes} \
                 (a character outside ASCII is 2 to 4 bytes); choose a shorter one"
            ),
            Self::Control => {
                out.write_str("a label has no control characters; leave line breaks and tabs out")
            }
        }
    }
}

impl std::error::Error for Problem {}

/// Reads what a user wrote.
///
/// # Errors
/// [`Problem`].
pub fn parse(words: &str) -> Result<Label, Problem> {
    if words.is_empty() {
        return Err(Problem::Empty);
    }
    if words.chars().any(char::is_control) {
        return Err(Problem::Control);
    }
    let mut label = Label::NONE;
    let place = label.0.get_mut(..words.len()).ok_or(Problem::TooLong(words.len()))?;
    place.copy_from_slice(words.as_bytes());
    Ok(label)
}

/// A label as text; `None` without one. Another client may have put anything there: control
/// characters are escaped, bytes that are no UTF-8 are shown as U+FFFD.
#[must_use]
pub fn text(label: Label) -> Option<String> {
    let end = label.0.iter().rposition(|&byte| byte != 0)? + 1;
    let escaped = |char: char| {
        if char.is_control() { char.escape_default().to_string() } else { char.to_string() }
    };
    Some(String::from_utf8_lossy(&label.0[..end]).chars().map(escaped).collect())
}

/// Which label a rule has, for the middle of a sentence.
#[must_use]
pub fn phrase(label: Label) -> String {
    match text(label) {
        Some(text) => format!("with the label \"{text}\""),
        None => "without a label".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_read_as_it_is_written() {
        for words in ["w", "web", "a web server, 1 of 2", "grüße", &"x".repeat(24)] {
            let label = parse(words).expect(words);
            assert_eq!(text(label).as_deref(), Some(words));
        }
        assert_eq!(text(Label::NONE), None);
    }

    #[test]
    fn wrong_label_is_refused_with_its_length() {
        assert_eq!(parse(""), Err(Problem::Empty));
        assert_eq!(parse(&"x".repeat(25)), Err(Problem::TooLong(25)));
        // 13 characters, 26 bytes.
        assert_eq!(parse(&"ü".repeat(13)), Err(Problem::TooLong(26)));
        for control in ["a\nb", "\t", "\u{1b}[2J", "\u{7f}", "\u{9b}", "\0"] {
            assert_eq!(parse(control), Err(Problem::Control), "{control:?}");
        }
    }

    #[test]
    fn foreign_label_cannot_reach_the_terminal() {
        let mut label = Label::NONE;
        label.0[..6].copy_from_slice(b"\x1b[2J\xff\n");
        assert_eq!(text(label).as_deref(), Some("\\u{1b}[2J\u{fffd}\\n"));
    }
}

//! `pesto batch`: many steps as one change. All lines are read before anything is asked for.

use super::{make, tell};
use crate::client::args::{Batch, Line, Step, hint};
use crate::client::error::Error;
use crate::client::file;
use crate::client::output;
use clap::Parser;
use clap::error::ErrorKind;

/// A step and where it was asked for.
#[derive(Debug)]
struct Placed {
    place: String,
    step: Step,
}

/// `pesto batch`
///
/// # Errors
/// A line is wrong, or its step cannot be made: nothing was changed. Or not all of it could be
/// bound, which was allowed.
pub fn batch(args: &Batch) -> Result<u8, Error> {
    let (name, text) = file::read_text(&args.file)?;
    let steps = parse(&name, &text)?;
    let done = make(&args.change, &|draft| {
        steps.iter().try_for_each(|Placed { place, step }| {
            step.make(draft).map_err(|error| at(place, error))
        })
    })?;
    tell(&output::differences(&done, args.change.json)?, done)
}

/// What is not told in the words of a spec, which has its place in them, gets it here.
fn at(place: &str, error: Error) -> Error {
    if error.message.starts_with(place) {
        return error;
    }
    Error { message: format!("{place}: {}", error.message), ..error }
}

fn parse(name: &str, text: &str) -> Result<Vec<Placed>, Error> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        let wrong = |why: &str| Error::refused(format!("{place}: {why}: {}", line.trim()));
        let words = shlex::split(line).ok_or_else(|| wrong("a quote is not closed"))?;
        if words.is_empty() {
            continue;
        }
        if words.iter().any(|word| word.ends_with(';') || word == "&&") {
            return Err(wrong("a line is one step; write the next on a line of its own"));
        }
        let parsed = Line::try_parse_from(&words).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(':');
            if error.kind() == ErrorKind::InvalidSubcommand {
                return wrong(&format!("{first}; a line is an add, rm, enable or disable"));
            }
            match hint(&words[0], &error) {
                Some(hint) => wrong(&format!("{first}, {hint}")),
                None => wrong(first),
            }
        })?;
        let mut step = parsed.step;
        for spec in step.specs_mut() {
            spec.words = format!("{place}: {}", spec.words);
        }
        steps.push(Placed { place, step });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_a_command_or_nothing() {
        let text = "# all\n\n  add -p 8080:80 --label 'a b' # web\nrm --kill -p 9:9\n\
                    disable --label x\n";
        let steps = parse("f", text).expect("steps");
        let places: Vec<&str> = steps.iter().map(|step| step.place.as_str()).collect();
        assert_eq!(places, ["f:3", "f:4", "f:5"]);
        let Step::Add(what) = &steps[0].step else { panic!("{steps:?}") };
        assert_eq!(what.publish[0].words, "f:3: 8080:80");
        assert!(what.label.is_some());
    }

    #[test]
    fn wrong_line_is_named() {
        for (line, why) in [
            (
                "list",
                "unrecognized subcommand 'list'; a line is an add, rm, enable or disable: list",
            ),
            (
                "add",
                "the following required arguments were not provided, name ports with -p SPEC, or",
            ),
            ("add -p 8080:x", "invalid value '8080:x'"),
            ("add -p '8080:80", "a quote is not closed"),
            ("add -p 1:1 --dry-run", "unexpected argument '--dry-run'"),
            ("rm -p 1:1; add -p 1:2", "a line is one step"),
            ("rm", "the following required arguments"),
            ("add 8080:80", "unexpected argument '8080:80' found, write -p 8080:80: add 8080:80"),
            ("-h", "unexpected argument '-h'"),
        ] {
            let error = parse("f", &format!("add -p 1:1\n{line}\n")).expect_err(line);
            assert!(error.message.starts_with(&format!("f:2: {why}")), "{}", error.message);
            assert_eq!(error.message.lines().count(), 1, "{}", error.message);
        }
    }
}

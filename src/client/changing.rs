//! The commands that change the table: `add`, `rm`, `enable`, `disable`.

use super::args::{Add, Change, Rm, Switch};
use super::change::{self, Done, Edit, Removal};
use super::error::Error;
use super::instance::Selector;
use super::output::{self, Report, print, print_json};
use super::session::Session;

/// `pesto add`
///
/// # Errors
/// Nothing was added; or not all of it could be bound, which was allowed.
pub fn add(args: &Add) -> Result<u8, Error> {
    let done = make(&args.change, &|draft| draft.add(&args.publish, args.label))?;
    print(&output::report(&done, args.change.json)?)?;
    end(done)
}

/// `pesto rm`
///
/// # Errors
/// Nothing was removed.
pub fn remove(args: &Rm) -> Result<u8, Error> {
    let how = Removal::from(&args.how);
    let done = make(&args.change, &|draft| draft.remove(&args.publish, args.label, how))?;
    report(&args.change, done)
}

/// `pesto enable` and `pesto disable`
///
/// # Errors
/// Nothing was switched; or not all of it could be bound, which was allowed.
pub fn switch(args: &Switch, active: bool) -> Result<u8, Error> {
    let done = make(&args.change, &|draft| draft.switch(&args.publish, args.label, active))?;
    report(&args.change, done)
}

/// Makes a change on the user's terms.
pub(super) fn make(args: &Change, edit: Edit<'_>) -> Result<Done, Error> {
    let (mut session, hello) = Session::open(&Selector::from(args.which.clone()).find()?)?;
    change::make(&mut session, &hello, &args.terms(), edit)
}

fn report(args: &Change, done: Done) -> Result<u8, Error> {
    if args.json { print_json(&Report::from(&done)) } else { print(&output::deeds(&done)) }?;
    end(done)
}

/// The exit status: what could not be bound is told now.
pub(super) fn end(done: Done) -> Result<u8, Error> {
    match done.failed {
        Some(failed) => Err(failed.kept(done.dry_run)),
        None => Ok(0),
    }
}

//! The commands that change the table, and those that read and write tables as files.

mod batch;

pub use batch::batch;

use super::args::{Add, Apply, Change, Diff, Rm, Save, Switch, TableFile};
use super::change::{self, Done, Edit, Removal};
use super::error::{Error, Exit};
use super::failure::{self, FailedBind};
use super::file::{self, Wanted};
use super::instance::Selector;
use super::output::{self, print};
use super::session::Session;

/// `pesto add`
///
/// # Errors
/// Nothing was added; or not all of it could be bound, which was allowed.
pub fn add(args: &Add) -> Result<u8, Error> {
    let done = make(&args.change, &|draft| draft.add(&args.what.specs(), args.what.label))?;
    tell(&output::report(&done, args.change.json)?, done)
}

/// `pesto rm`
///
/// # Errors
/// Nothing was removed.
pub fn remove(args: &Rm) -> Result<u8, Error> {
    let how = Removal::from(&args.how);
    let done = make(&args.change, &|draft| draft.remove(&args.what.specs(), args.what.label, how))?;
    report(&args.change, done)
}

/// `pesto enable` and `pesto disable`
///
/// # Errors
/// Nothing was switched; or not all of it could be bound, which was allowed.
pub fn switch(args: &Switch, active: bool) -> Result<u8, Error> {
    let done =
        make(&args.change, &|draft| draft.switch(&args.what.specs(), args.what.label, active))?;
    report(&args.change, done)
}

/// `pesto apply`
///
/// # Errors
/// The file is wrong, or the table is not what it says; or not all of it could be bound, which was
/// allowed.
pub fn apply(args: &Apply) -> Result<u8, Error> {
    let wanted = read(&args.table)?;
    let done = make(&args.change, &|draft| draft.turn_into(&wanted))?;
    tell(&output::differences(&done, args.change.json)?, done)
}

/// `pesto diff`
///
/// # Errors
/// The file is wrong, or the table cannot be what it says, or is and does not listen. The status is that of
/// `apply` then.
pub fn diff(args: &Diff) -> Result<u8, Error> {
    let wanted = read(&args.table)?;
    let (mut session, hello) = Session::open(&Selector::from(args.which.clone()).find()?)?;
    let done = change::compare(&mut session, &hello, &|draft| draft.turn_into(&wanted))?;
    print(&output::differences(&done, args.json)?)?;
    match done.failed {
        Some(failed) if done.changed => Err(failed.kept(true)),
        Some(failed) => Err(failed.there()),
        None => Ok(u8::from(done.changed)),
    }
}

/// `pesto save`
///
/// # Errors
/// There is no daemon, or its table cannot be a file.
pub fn save(args: &Save) -> Result<u8, Error> {
    let path = Selector::from(args.which.clone()).find()?;
    print(&file::save(&Session::open(&path)?.0.snapshot()?.rules)?)?;
    Ok(0)
}

fn read(table: &TableFile) -> Result<Vec<Wanted>, Error> {
    file::read(&table.file, table.format, table.service.as_deref())
}

/// Makes a change on the user's terms.
pub(super) fn make(args: &Change, edit: Edit<'_>) -> Result<Done, Error> {
    let (mut session, hello) = Session::open(&Selector::from(args.which.clone()).find()?)?;
    let made = change::make(&mut session, &hello, &args.terms(), edit);
    made.map_err(|error| if args.allow_failed { error } else { offer(error) })
}

/// Ports that cannot be had now, and perhaps later, need not keep the others from being had.
fn offer(mut error: Error) -> Error {
    let may_be_had = |bind: &FailedBind| {
        bind.ports.first_port > 0 && bind.ports.errno != libc::EPERM.unsigned_abs()
    };
    let may_be = error.exit == Exit::BindFailed
        && !error.failed.is_empty()
        && error.failed.iter().all(may_be_had)
        && !error.message.ends_with(failure::IS_KEPT);
    if may_be {
        error.message +=
            "\nnothing was changed; --allow-failed goes on without what cannot be had yet";
    }
    error
}

fn report(args: &Change, done: Done) -> Result<u8, Error> {
    tell(&output::deeds_report(&done, args.json)?, done)
}

/// Prints what was done: the exit status. What could not be bound is told last.
fn tell(text: &str, done: Done) -> Result<u8, Error> {
    let printed = print(text);
    if done.changed && !done.dry_run { output::after_deed(printed) } else { printed }?;
    match done.failed {
        Some(failed) if !done.changed => Err(Error { exit: Exit::Partly, ..failed.there() }),
        Some(failed) => Err(failed.kept(done.dry_run)),
        None => Ok(0),
    }
}

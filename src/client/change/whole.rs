//! What `apply` does: the table is what a file says, and nothing else.

use super::add::check_reach;
use super::draft::Draft;
use crate::client::error::Error;
use crate::client::file::Wanted;
use crate::wire::Side;

impl Draft<'_> {
    /// Makes the table exactly this. A rule that listens where one has listened is that rule.
    ///
    /// # Errors
    /// The daemon does not do that.
    pub fn turn_into(&mut self, wanted: &[Wanted]) -> Result<(), Error> {
        self.keeps_picks = true;
        self.tell_difference();
        self.rules.clear();
        for one in wanted {
            self.check_features(&one.rule, &one.words)?;
            let place = (one.rule.bind, one.rule.interface);
            // What is there, by whatever words, can be saved and applied again.
            if !self.before.iter().any(|old| (old.bind, old.interface) == place) {
                check_reach(&one.rule, &one.words)?;
            }
            let rule = self.insert(one.rule, &one.words)?;
            if one.unlabelled {
                self.unlabelled.insert(rule.id);
            }
        }
        Ok(())
    }

    /// Takes all away that leads one way.
    pub fn clear(&mut self, side: Side) {
        self.rules.retain(|rule| rule.side != side);
    }
}

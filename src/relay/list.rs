//! First-in-first-out lists through the flows themselves: no memory of their own.

use crate::arena::{Arena, Ref};

/// How many lists there can be.
pub(super) const LISTS: usize = 6;

/// What can be in lists.
pub(super) trait Linked {
    /// Its neighbours in each.
    fn links(&mut self) -> &mut [Links; LISTS];
    /// The same, to look at.
    fn linked(&self) -> &[Links; LISTS];
}

/// No neighbour on this side.
const NONE: u32 = u32::MAX;
/// Not in the list.
const OUT: u32 = u32::MAX - 1;

/// A flow's neighbours in one list, by their places: whoever is in a list is in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    behind: u32,
}

impl Links {
    /// Those of a flow that is not in the list.
    pub(super) const UNLINKED: Self = Self { before: OUT, behind: OUT };

    /// Whether the flow is in the list.
    pub(super) const fn is_linked(self) -> bool {
        self.before != OUT
    }
}

/// A list; `which` of a flow's links it uses. Lists must not share one: each takes a flow out as its own.
#[derive(Debug)]
pub(super) struct List {
    which: usize,
    first: u32,
    last: u32,
}

impl List {
    pub(super) const fn new(which: usize) -> Self {
        Self { which, first: NONE, last: NONE }
    }

    pub(super) fn first(&self, flows: &Arena<impl Linked>) -> Option<Ref> {
        flows.at(self.first)
    }

    pub(super) fn last(&self, flows: &Arena<impl Linked>) -> Option<Ref> {
        flows.at(self.last)
    }

    /// All flows in it, the first one first.
    pub(super) fn iter<'a, F: Linked>(
        &self,
        flows: &'a Arena<F>,
    ) -> impl Iterator<Item = Ref> + 'a {
        let which = self.which;
        core::iter::successors(self.first(flows), move |&flow| {
            flows.at(flows.get(flow)?.linked()[which].behind)
        })
    }

    /// Whether a flow is in it.
    pub(super) const fn holds(&self, links: &[Links; LISTS]) -> bool {
        links[self.which].is_linked()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Adds a flow at the end; one that is in the list already stays where it is.
    pub(super) fn push(&mut self, flows: &mut Arena<impl Linked>, flow: Ref) {
        let last = self.last;
        let Some(links) = self.links(flows, flow) else { return };
        if links.is_linked() {
            return;
        }
        *links = Links { before: last, behind: NONE };
        match self.links_at(flows, last) {
            Some(links) => links.behind = flow.index,
            None => self.first = flow.index,
        }
        self.last = flow.index;
    }

    /// Takes a flow out; nothing happens if it is not in.
    pub(super) fn remove(&mut self, flows: &mut Arena<impl Linked>, flow: Ref) {
        let Some(links) = self.links(flows, flow) else { return };
        if !links.is_linked() {
            return;
        }
        let Links { before, behind } = core::mem::replace(links, Links::UNLINKED);
        match self.links_at(flows, before) {
            Some(links) => links.behind = behind,
            None => self.first = behind,
        }
        match self.links_at(flows, behind) {
            Some(links) => links.before = before,
            None => self.last = before,
        }
    }

    /// Takes the first flow out.
    pub(super) fn pop(&mut self, flows: &mut Arena<impl Linked>) -> Option<Ref> {
        let first = self.first(flows)?;
        self.remove(flows, first);
        Some(first)
    }

    fn links<'a>(&self, flows: &'a mut Arena<impl Linked>, flow: Ref) -> Option<&'a mut Links> {
        flows.get_mut(flow)?.links().get_mut(self.which)
    }

    fn links_at<'a>(&self, flows: &'a mut Arena<impl Linked>, place: u32) -> Option<&'a mut Links> {
        let flow = flows.at(place)?;
        self.links(flows, flow)
    }
}

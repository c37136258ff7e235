//! First-in-first-out lists through the flows themselves: no memory of their own.

use super::flow::Flow;
use crate::arena::{Arena, Ref};

/// A flow's neighbours in one list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    before: Option<Ref>,
    behind: Option<Ref>,
    linked: bool,
}

/// A list; `which` of a flow's links it uses. Lists must not share one: each takes a flow out as its own.
#[derive(Debug)]
pub(super) struct List {
    which: usize,
    first: Option<Ref>,
    last: Option<Ref>,
}

impl List {
    pub(super) const fn new(which: usize) -> Self {
        Self { which, first: None, last: None }
    }

    pub(super) const fn first(&self) -> Option<Ref> {
        self.first
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds a flow at the end; one that is in the list already stays where it is.
    pub(super) fn push(&mut self, flows: &mut Arena<Flow>, flow: Ref) {
        let Some(links) = self.links(flows, Some(flow)) else { return };
        if links.linked {
            return;
        }
        *links = Links { before: self.last, behind: None, linked: true };
        match self.links(flows, self.last) {
            Some(links) => links.behind = Some(flow),
            None => self.first = Some(flow),
        }
        self.last = Some(flow);
    }

    /// Takes a flow out; nothing happens if it is not in.
    pub(super) fn remove(&mut self, flows: &mut Arena<Flow>, flow: Ref) {
        let Some(links) = self.links(flows, Some(flow)) else { return };
        if !links.linked {
            return;
        }
        let Links { before, behind, .. } = core::mem::take(links);
        match self.links(flows, before) {
            Some(links) => links.behind = behind,
            None => self.first = behind,
        }
        match self.links(flows, behind) {
            Some(links) => links.before = before,
            None => self.last = before,
        }
    }

    /// Takes the first flow out.
    pub(super) fn pop(&mut self, flows: &mut Arena<Flow>) -> Option<Ref> {
        let first = self.first?;
        self.remove(flows, first);
        Some(first)
    }

    fn links<'a>(&self, flows: &'a mut Arena<Flow>, flow: Option<Ref>) -> Option<&'a mut Links> {
        flows.get_mut(flow?)?.links.get_mut(self.which)
    }
}

//! A fixed number of places, each free or in use, and references that know when theirs was reused.
//!
//! The memory is reserved once and never moves or grows; a place is first touched when it is first
//! used. A [`Ref`] holds a tag that changes whenever its place is freed: what it named is found
//! again, or nothing, never something else.

/// Names a place while it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ref {
    /// Which place.
    pub index: u32,
    /// Which use of it.
    pub tag: u32,
}

#[derive(Debug)]
struct Place<T> {
    tag: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Used(T),
    Free { next: Option<u32> },
}

/// The places.
#[derive(Debug)]
pub struct Arena<T> {
    places: Vec<Place<T>>,
    first_free: Option<u32>,
    used: usize,
    capacity: usize,
}

impl<T> Arena<T> {
    /// Reserves room for `capacity` values, fewer than 2³².
    pub fn new(capacity: usize) -> Self {
        Self { places: Vec::with_capacity(capacity), first_free: None, used: 0, capacity }
    }

    /// How many places are in use.
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many places are free.
    pub const fn free(&self) -> usize {
        self.capacity - self.used
    }

    /// Puts a value into a free place; it comes back when there is none.
    ///
    /// # Errors
    /// The value, when the arena is full.
    pub fn insert(&mut self, value: T) -> Result<Ref, T> {
        let index = match self.first_free {
            Some(index) => index,
            None if self.places.len() < self.capacity => {
                let Ok(index) = u32::try_from(self.places.len()) else { return Err(value) };
                self.places.push(Place { tag: 0, content: Content::Free { next: None } });
                index
            }
            None => return Err(value),
        };
        let Some(place) = self.places.get_mut(index as usize) else { return Err(value) };
        if let Content::Free { next } = place.content {
            self.first_free = next;
        }
        place.content = Content::Used(value);
        self.used += 1;
        Ok(Ref { index, tag: place.tag })
    }

    /// Takes a value out.
    pub fn remove(&mut self, reference: Ref) -> Option<T> {
        self.get(reference)?;
        let place = self.places.get_mut(reference.index as usize)?;
        let free = Content::Free { next: self.first_free };
        let Content::Used(value) = core::mem::replace(&mut place.content, free) else {
            return None;
        };
        place.tag = place.tag.wrapping_add(1);
        self.first_free = Some(reference.index);
        self.used -= 1;
        Some(value)
    }

    /// The value, if it is still there.
    pub fn get(&self, reference: Ref) -> Option<&T> {
        match self.places.get(reference.index as usize) {
            Some(Place { tag, content: Content::Used(value) }) if *tag == reference.tag => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value, if it is still there.
    pub fn get_mut(&mut self, reference: Ref) -> Option<&mut T> {
        match self.places.get_mut(reference.index as usize) {
            Some(Place { tag, content: Content::Used(value) }) if *tag == reference.tag => {
                Some(value)
            }
            _ => None,
        }
    }

    /// The reference of the value in a place, if it is in use.
    pub fn at(&self, index: u32) -> Option<Ref> {
        match self.places.get(index as usize) {
            Some(Place { tag, content: Content::Used(_) }) => Some(Ref { index, tag: *tag }),
            _ => None,
        }
    }

    /// The reference of the first value at or behind a place: walks all values when it is called
    /// with 0 and then with one more than the last answer's index.
    pub fn next_from(&self, index: u32) -> Option<Ref> {
        (index..).zip(self.places.get(index as usize..)?).find_map(|(index, place)| {
            matches!(place.content, Content::Used(_)).then_some(Ref { index, tag: place.tag })
        })
    }

    /// All values and their references, in the order of places.
    pub fn iter(&self) -> impl Iterator<Item = (Ref, &T)> {
        (0..).zip(&self.places).filter_map(|(index, place)| match &place.content {
            Content::Used(value) => Some((Ref { index, tag: place.tag }, value)),
            Content::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_of_a_freed_place_names_nothing() {
        let mut arena = Arena::new(2);
        let first = arena.insert('a').expect("room");
        assert_eq!(arena.remove(first), Some('a'));
        let second = arena.insert('b').expect("room");
        assert_eq!(second.index, first.index);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(second), Some(&'b'));
    }

    #[test]
    fn full_arena_hands_the_value_back() {
        let mut arena = Arena::new(1);
        let place = arena.insert('a').expect("room");
        assert_eq!(arena.insert('b'), Err('b'));
        assert_eq!(arena.free(), 0);
        arena.remove(place);
        assert!(arena.insert('c').is_ok());
    }

    #[test]
    fn memory_never_moves() {
        let mut arena = Arena::new(1000);
        let before = arena.places.as_ptr();
        while arena.insert(0_u64).is_ok() {}
        assert_eq!(arena.places.as_ptr(), before);
        assert_eq!(arena.len(), 1000);
    }

    #[test]
    fn walk_by_reference_meets_every_value_once() {
        let mut arena = Arena::new(5);
        let all: Vec<Ref> = (0..5).filter_map(|value| arena.insert(value).ok()).collect();
        arena.remove(all[0]);
        arena.remove(all[3]);
        let mut met = Vec::new();
        let mut next = 0;
        while let Some(reference) = arena.next_from(next) {
            met.push(arena.get(reference).copied());
            next = reference.index + 1;
        }
        assert_eq!(met, [Some(1), Some(2), Some(4)]);
    }
}

//! Which rule has most of something, as numbers go up and down by one.
//!
//! The rules are kept in their order, so that each change is an exchange of two places, and nobody looks for
//! the first one.

/// A number for each of so many rules.
#[derive(Debug)]
pub(super) struct Ranks {
    numbers: Box<[u32]>,
    /// The rules, those with most first; and at which place each is.
    order: Box<[u32]>,
    places: Box<[u32]>,
    /// How many rules have more than so many: the first place of those that have no more.
    above: Box<[u32]>,
}

impl Ranks {
    /// For so many rules, with numbers up to `most`: four bytes for each of these, touched as they are reached, and twelve for a rule.
    pub(super) fn new(rules: usize, most: usize) -> Self {
        let order: Box<[u32]> = (0..).take(rules).collect();
        let numbers = vec![0; rules].into();
        Self { numbers, places: order.clone(), order, above: vec![0; most + 1].into() }
    }

    /// A rule has one more.
    pub(super) fn raise(&mut self, rule: u32) {
        let number = self.numbers[rule as usize];
        let first = self.above[number as usize];
        self.exchange(rule, first);
        self.numbers[rule as usize] = number + 1;
        self.above[number as usize] = first + 1;
    }

    /// A rule has one less.
    pub(super) fn lower(&mut self, rule: u32) {
        let number = self.numbers[rule as usize] - 1;
        let last = self.above[number as usize] - 1;
        self.exchange(rule, last);
        self.numbers[rule as usize] = number;
        self.above[number as usize] = last;
    }

    /// Has a rule at a place, and the one that was there where the rule was.
    fn exchange(&mut self, rule: u32, place: u32) {
        let other = self.order[place as usize];
        let from = self.places[rule as usize];
        self.order.swap(place as usize, from as usize);
        self.places.swap(rule as usize, other as usize);
    }

    /// What a rule has.
    pub(super) fn of(&self, rule: u32) -> u32 {
        self.numbers[rule as usize]
    }

    /// The rules that have any, those with most first.
    pub(super) fn first(&self) -> impl Iterator<Item = u32> + '_ {
        self.order.iter().copied().take_while(|&rule| self.numbers[rule as usize] > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_in_the_order_of_their_numbers_whatever_changes() {
        const RULES: u32 = 7;
        let mut ranks = Ranks::new(RULES as usize, 50);
        let mut numbers = [0_u32; RULES as usize];
        // A generator that is as good as any here.
        let mut state = 1_u32;
        let mut highest = 0;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let rule = (state >> 16) % RULES;
            let number = &mut numbers[rule as usize];
            if *number == 50 || *number > 0 && state >> 30 == 0 {
                *number -= 1;
                ranks.lower(rule);
            } else {
                *number += 1;
                ranks.raise(rule);
            }
            highest = highest.max(*number);
            let first: Vec<u32> = ranks.first().map(|rule| numbers[rule as usize]).collect();
            assert!(first.is_sorted_by(|one, next| one >= next), "{first:?}");
            assert_eq!(first.len(), numbers.iter().filter(|&&number| number > 0).count());
        }
        assert_eq!(highest, 50);
    }
}

//! The reference's listeners that depend on their targets: who is asked about, and what becomes of them.

use crate::reference::Reference;
use crate::spot::{Link, NO_DEVICE, Spot, spots, wanted};
use pesto::table::{Question, socket_address};
use pesto::wire::{Address, Plan, Ports, Protocol, Rule, Side, TargetAddress};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A COMMIT that is done, and whose answer waits for a round of questions.
#[derive(Debug)]
pub struct Committing {
    pub owner: Option<usize>,
    pub sequence: u32,
    pub plan: Plan,
    /// What is new, and was not heard of yet.
    pub unheard: BTreeSet<Spot>,
    pub over: bool,
}

/// What is asked about a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// No other one has its label.
    rule: Rule,
    /// Of its ports, from this one on.
    from: u16,
    count: u16,
    /// A bit for each port that was the daemon's own when it was asked.
    own: u32,
}

impl Asked {
    /// Whether it is that question.
    pub fn is(&self, question: &Question) -> bool {
        let Rule { side, protocol, target, .. } = self.rule;
        let Ports::Fixed(range) = self.rule.ports else { return false };
        let (first, first_target) = (range.first().above(self.from), self.target(0));
        *question
            == Question {
                rule: question.rule,
                side,
                protocol,
                target: target.address,
                first_target: target.first_port.above(self.from).expect("in range"),
                first: first.expect("in range"),
                count: self.count,
                own: match target.address {
                    // Were its network to have another address.
                    TargetAddress::Automatic => [question.own[0], self.own],
                    _ => [self.own; 2],
                },
            }
            && question.first_target.get() == first_target
    }

    fn target(&self, step: u16) -> u16 {
        self.rule.target.first_port.get() + self.from + step
    }

    /// Its listeners at one of the ports.
    fn spots_at(&self, step: u16) -> impl Iterator<Item = Spot> + use<> {
        let Ports::Fixed(range) = self.rule.ports else { panic!("no ports") };
        let port = range.first().get() + self.from + step;
        spots(&self.rule).into_iter().filter(move |spot| spot.address.port() == port)
    }

    /// Whether a socket of that network takes what is sent to the target of a port.
    fn is_taken_by(&self, step: u16, spot: &Spot) -> bool {
        let is_at = |wanted: IpAddr| {
            let ip = spot.address.ip();
            ip == wanted || ip.is_unspecified() && ip.is_ipv4() == wanted.is_ipv4()
        };
        spot.protocol == self.rule.protocol
            && spot.address.port() == self.target(step)
            && match self.rule.target.address.address() {
                None => is_at(Ipv4Addr::LOCALHOST.into()) || is_at(Ipv6Addr::LOCALHOST.into()),
                Some(Address::V4(address)) => is_at(address.into()),
                Some(Address::V6 { address, .. }) => is_at(address.into()),
            }
    }

    fn bits(&self, is: impl Fn(u16) -> bool) -> u32 {
        (0..self.count).filter(|step| is(*step)).fold(0, |bits, step| bits | 1 << step)
    }
}

/// Whether its listeners come and go.
pub const fn is_conditional(rule: &Rule) -> bool {
    rule.active && rule.if_listening
}

/// How many listeners an answer has changed.
#[derive(Debug, Default)]
pub struct Turned {
    pub paused: usize,
    pub resumed: usize,
    /// Of the ports where somebody listens, so many are the daemon's own.
    pub own: u32,
}

impl Reference {
    pub fn inquires(&self) -> bool {
        !self.stopping && self.rules.values().any(is_conditional)
    }

    /// Where the n-th of the rules leads that depend on who listens there, counted around.
    pub fn nth_target(&self, number: usize) -> Option<Spot> {
        let all: Vec<_> = self.rules.values().filter(|rule| is_conditional(rule)).collect();
        let Rule { side, protocol, target, .. } = all.get(number.checked_rem(all.len())?)?;
        let loopback = Address::V4(Ipv4Addr::LOCALHOST);
        let address = target.address.address().unwrap_or(loopback);
        let side = if *side == Side::Inbound { Side::Reverse } else { Side::Inbound };
        let address = socket_address(address, target.first_port.get());
        Some(Spot { side, protocol: *protocol, address, link: None })
    }

    /// The next question of a round: the place of a rule, and of a port of it.
    pub fn next_question(&self, cursor: &mut (usize, u16)) -> Option<Asked> {
        while let Some(rule) = self.rules.values().nth(cursor.0) {
            if is_conditional(rule)
                && let Ports::Fixed(range) = rule.ports
                && range.width().get() > cursor.1
            {
                let (from, count) = (cursor.1, range.width().get() - cursor.1);
                cursor.1 += count;
                return Some(self.asked(*rule, from, count));
            }
            *cursor = (cursor.0 + 1, 0);
        }
        None
    }

    fn asked(&self, rule: Rule, from: u16, count: u16) -> Asked {
        let asked = Asked { rule, from, count, own: 0 };
        Asked { own: self.own(&asked), ..asked }
    }

    /// A connection to the target of a listener was refused: what is asked at once.
    pub fn doubt(&mut self, spot: &Spot) -> Option<Asked> {
        let rule = *self.rule_of(spot);
        if !is_conditional(&rule) || !self.listening().contains(spot) {
            return None;
        }
        self.doubted.insert(*spot);
        let Ports::Fixed(range) = rule.ports else { return None };
        Some(self.asked(rule, spot.address.port() - range.first().get(), 1))
    }

    /// At which of the ports that are asked about the daemon itself listens. Of UDP all that is bound is there.
    fn own(&self, asked: &Asked) -> u32 {
        let there = match asked.rule.protocol {
            Protocol::Tcp => self.listening(),
            Protocol::Udp => self.had().into_iter().chain(self.bound_for_shadow()).collect(),
        };
        let there: Vec<_> = there.into_iter().filter(|spot| spot.side != asked.rule.side).collect();
        // Either family will do for a target that is not named, and any address of a loopback: there is no other one.
        let takes = |step: u16, spot: &Spot| {
            let port = asked.target(step);
            match asked.rule.target.address.address() {
                None => {
                    let ip = spot.address.ip();
                    spot.protocol == asked.rule.protocol
                        && spot.address.port() == port
                        && (ip.is_unspecified() || ip.is_loopback())
                }
                Some(_) => asked.is_taken_by(step, spot),
            }
        };
        asked.bits(|step| there.iter().any(|spot| takes(step, spot)))
    }

    /// What the kernel says: who listens there, whoever it is. Of UDP that is who is bound.
    pub fn told(&self, asked: &Asked) -> u32 {
        let own: BTreeSet<_> = match asked.rule.protocol {
            Protocol::Tcp => self.listening(),
            Protocol::Udp => self.had().into_iter().chain(self.bound_for_shadow()).collect(),
        };
        let all: Vec<_> = own.iter().chain(&self.foreign).collect();
        // A connection to one's own address comes by the loopback.
        let hears = |spot: &Spot| spot.side != asked.rule.side && spot.link != Some(Link::Passing);
        asked.bits(|step| all.iter().any(|spot| hears(spot) && asked.is_taken_by(step, spot)))
    }

    /// The answer to a question that was asked before.
    pub fn hear(&mut self, asked: &Asked, told: u32) -> Turned {
        let mut turned = Turned::default();
        // One that was replaced has others.
        if self.stopping || self.rules.get(&asked.rule.id) != Some(&asked.rule) {
            return turned;
        }
        let own = asked.own | self.own(asked);
        turned.own = (told & own).count_ones();
        for step in 0..asked.count {
            let listens = (told & !own) >> step & 1 == 1;
            for spot in asked.spots_at(step) {
                self.hear_of(spot);
                let was_doubted = self.doubted.remove(&spot);
                if listens {
                    turned.resumed += usize::from(self.paused.remove(&spot));
                    continue;
                }
                self.doubted.insert(spot);
                if was_doubted && !self.failed.contains_key(&spot) {
                    turned.paused += usize::from(self.paused.insert(spot));
                }
            }
        }
        turned
    }

    /// A question to which there is no answer: what is not known changes nothing.
    pub fn is_unknown(&mut self, asked: &Asked) {
        if self.rules.get(&asked.rule.id) == Some(&asked.rule) {
            (0..asked.count).flat_map(|step| asked.spots_at(step)).for_each(|at| self.hear_of(at));
        }
    }

    fn hear_of(&mut self, spot: Spot) {
        if let Some(commit) = &mut self.committing {
            commit.unheard.remove(&spot);
        }
    }

    /// A round is over that was begun at this generation.
    pub fn inquired(&mut self, generation: u64) {
        if let Some(commit) = &mut self.committing
            && generation == self.generation
        {
            assert!(commit.unheard.is_empty(), "nobody has asked about {:?}", commit.unheard);
            commit.over = true;
        }
    }

    /// The tables were swapped: which of the new listeners wait to be asked about.
    pub fn condition(&mut self, bound: &BTreeSet<Spot>) -> BTreeSet<Spot> {
        let (all, depends) = (
            wanted(self.rules.values()),
            wanted(self.rules.values().filter(|rule| is_conditional(rule))),
        );
        let new: BTreeSet<_> = bound.intersection(&depends).copied().collect();
        // Those that depend no longer listen.
        let freed = self.paused.iter().filter(|spot| !depends.contains(spot)).copied();
        let freed: Vec<_> = freed.collect();
        self.doubted.retain(|spot| all.contains(spot) && !freed.contains(spot));
        self.paused.retain(|spot| depends.contains(spot));
        self.paused.extend(&new);
        new
    }

    /// It was noticed that a listener's interface has gone.
    pub fn lost(&mut self, spot: Spot) {
        self.failed.insert(spot, NO_DEVICE);
        self.paused.remove(&spot);
        self.dead.remove(&spot);
    }
}

//! How long things may take: a peer's silence, a target's answer, a connection that is half closed.
//!
//! Each is an option of the daemon's, and of the commands that start one. Both read them by what
//! stands here, so names and bounds are the same; the defaults are in [`crate::limits`].

use crate::relay::flows::Patience;
use crate::sys::socket::Keepalive;
use core::ops::RangeInclusive;

/// All of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For every socket of a peer: the kernel counts these.
    pub keepalive: Keepalive,
    /// For every flow: the core does.
    pub patience: Patience,
    /// From one question whether a target listens to the next, where a listener depends on it.
    pub if_listening_ms: u64,
}

/// An option that sets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Silence until a peer is asked whether it is there; 0: it never is.
    KeepaliveIdle,
    /// From one such question to the next.
    KeepaliveInterval,
    /// How many of them.
    KeepaliveProbes,
    /// What was sent and is not acknowledged; 0: the kernel's own.
    UserTimeout,
    /// See [`Patience::connect_ms`].
    ConnectTimeout,
    /// See [`Patience::half_closed_ms`]; 0: for ever.
    HalfClosedTimeout,
    /// See [`UdpPatience::unanswered_ms`](crate::relay::udp::UdpPatience).
    UdpTimeout,
    /// See [`UdpPatience::answered_ms`](crate::relay::udp::UdpPatience).
    UdpStreamTimeout,
    /// See [`Times::if_listening_ms`].
    IfListeningInterval,
}

impl Setting {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::KeepaliveIdle,
        Self::KeepaliveInterval,
        Self::KeepaliveProbes,
        Self::UserTimeout,
        Self::ConnectTimeout,
        Self::HalfClosedTimeout,
        Self::UdpTimeout,
        Self::UdpStreamTimeout,
        Self::IfListeningInterval,
    ];

    /// The option, what it may be, and that in words.
    const fn facts(self) -> (&'static str, RangeInclusive<u32>, &'static str) {
        match self {
            // The kernel takes no more (MAX_TCP_KEEPIDLE and others, net/tcp.h).
            Self::KeepaliveIdle => ("--keepalive-idle", 0..=32_767, "0 to 32767 seconds"),
            Self::KeepaliveInterval => ("--keepalive-interval", 1..=32_767, "1 to 32767 seconds"),
            Self::KeepaliveProbes => ("--keepalive-probes", 1..=127, "1 to 127"),
            // A day, an hour, a week: more is a mistake.
            Self::UserTimeout => ("--user-timeout", 0..=86_400, "0 to 86400 seconds"),
            Self::ConnectTimeout => ("--connect-timeout", 1..=3600, "1 to 3600 seconds"),
            Self::HalfClosedTimeout => {
                ("--half-closed-timeout", 0..=604_800, "0 to 604800 seconds")
            }
            Self::UdpTimeout => ("--udp-timeout", 1..=86_400, "1 to 86400 seconds"),
            Self::UdpStreamTimeout => ("--udp-stream-timeout", 1..=86_400, "1 to 86400 seconds"),
            // More often it would be most of what a daemon does, less often nobody would wait for it.
            Self::IfListeningInterval => {
                ("--if-listening-interval", 10..=60_000, "10 to 60000 milliseconds")
            }
        }
    }

    /// As it is written on a command line.
    #[must_use]
    pub const fn option(self) -> &'static str {
        self.facts().0
    }

    /// What its value should be, for a message.
    #[must_use]
    pub const fn wanted(self) -> &'static str {
        self.facts().2
    }

    /// Its value; `None` if that is no whole number, or out of bounds.
    #[must_use]
    pub fn parse(self, text: &str) -> Option<u32> {
        text.parse().ok().filter(|number| self.facts().1.contains(number))
    }
}

/// The values that a command line gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given([Option<u32>; Setting::ALL.len()]);

impl Given {
    /// The place of one.
    pub const fn place(&mut self, setting: Setting) -> &mut Option<u32> {
        &mut self.0[setting as usize]
    }

    /// Those that were given, as words for another command line.
    pub fn words(self) -> impl Iterator<Item = String> {
        let given = Setting::ALL.into_iter().zip(self.0);
        given.filter_map(|(setting, value)| Some(format!("{}={}", setting.option(), value?)))
    }

    /// What holds where these are given and all others stay as in `times`.
    #[must_use]
    pub fn over(self, mut times: Times) -> Times {
        let Times { keepalive, patience, if_listening_ms } = &mut times;
        for (setting, value) in Setting::ALL.into_iter().zip(self.0) {
            let Some(value) = value else { continue };
            let ms = 1000 * u64::from(value);
            match setting {
                Setting::KeepaliveIdle => keepalive.idle_s = value.cast_signed(),
                Setting::KeepaliveInterval => keepalive.interval_s = value.cast_signed(),
                Setting::KeepaliveProbes => keepalive.probes = value.cast_signed(),
                Setting::UserTimeout => keepalive.unacknowledged_ms = 1000 * value,
                Setting::ConnectTimeout => patience.connect_ms = ms,
                Setting::HalfClosedTimeout => {
                    patience.half_closed_ms = if ms == 0 { u64::MAX } else { ms };
                }
                Setting::UdpTimeout => patience.udp.unanswered_ms = ms,
                Setting::UdpStreamTimeout => patience.udp.answered_ms = ms,
                Setting::IfListeningInterval => *if_listening_ms = u64::from(value),
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TIMES;
    use crate::relay::udp::UdpPatience;

    #[test]
    fn each_setting_has_its_own_place_and_takes_its_bounds_alone() {
        let mut given = Given::default();
        for (at, setting) in Setting::ALL.into_iter().enumerate() {
            assert_eq!(setting as usize, at);
            let (option, bounds, wanted) = setting.facts();
            let (least, most) = bounds.into_inner();
            let of = wanted.trim_end_matches(" seconds").trim_end_matches(" milliseconds");
            assert_eq!(of, format!("{least} to {most}"), "{option}");
            for number in [least, most] {
                assert_eq!(setting.parse(&number.to_string()), Some(number), "{option}");
            }
            for text in ["", "x", "-1", "1.5", "10s", " 1", &(most + 1).to_string()] {
                assert_eq!(setting.parse(text), None, "{option} {text}");
            }
            *given.place(setting) = Some(7);
        }
        assert_eq!(given.words().count(), Setting::ALL.len());
        let keepalive = Keepalive { idle_s: 7, interval_s: 7, probes: 7, unacknowledged_ms: 7000 };
        let udp = UdpPatience { unanswered_ms: 7000, answered_ms: 7000 };
        let patience = Patience { connect_ms: 7000, half_closed_ms: 7000, udp };
        assert_eq!(given.over(TIMES), Times { keepalive, patience, if_listening_ms: 7 });
    }

    #[test]
    fn what_is_not_given_stays() {
        let mut given = Given::default();
        assert_eq!(given.words().count(), 0);
        assert_eq!(given.over(TIMES), TIMES);
        *given.place(Setting::HalfClosedTimeout) = Some(0);
        assert_eq!(given.words().collect::<Vec<_>>(), ["--half-closed-timeout=0"]);
        let patience = Patience { half_closed_ms: u64::MAX, ..TIMES.patience };
        assert_eq!(given.over(TIMES), Times { patience, ..TIMES });
    }
}

//! Decides which of many failures of one kind are worth a warning.

use std::fmt;
use std::time::{Duration, Instant};

use crate::logging::Level;

/// How long no further warning is given after the first one. The pause doubles with each further warning.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Failures of one kind in a row. The first failure is logged as a warning, then some at growing intervals, and at last
/// the end. An outage that begins again shortly after its end goes on with the interval that it had reached, so that
/// what fails now and then for hours does not fill the log.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// `None`: all is well.
    since: Option<Instant>,
    failures: u32,
    /// Whether a warning was given for it.
    told: bool,
    /// No warning before this.
    quiet_until: Option<Instant>,
    pause: Duration,
}

/// An outage that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub(crate) failures: u32,
    pub(crate) lasted: Duration,
}

impl Outage {
    /// Notes a failure, and returns the level at which to log it.
    pub(crate) fn failed(&mut self, now: Instant) -> Level {
        let begins = self.since.is_none();
        if begins {
            (self.since, self.failures, self.told) = (Some(now), 0, false);
        }
        self.failures = self.failures.saturating_add(1);
        let calm = match self.quiet_until {
            None => true,
            Some(until) if now < until => return Level::Debug,
            Some(until) => begins && now.saturating_duration_since(until) > self.pause,
        };
        self.pause = if calm { FIRST_PAUSE } else { self.pause.saturating_mul(2).min(LONGEST_PAUSE) };
        self.quiet_until = Some(now + self.pause);
        self.told = true;
        Level::Warn
    }

    /// Notes that there will be no further attempt. That is not logged.
    pub(crate) fn abandon(&mut self) {
        self.since = None;
    }

    /// Notes a success. `Some`: an outage is over for which a warning was given, so its end is to be logged as well.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<Over> {
        let since = self.since.take()?;
        self.told.then(|| Over { failures: self.failures, lasted: now.saturating_duration_since(since) })
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = if self.failures == 1 { "attempt" } else { "attempts" };
        write!(f, "after {} failed {attempts} in {:.1?}", self.failures, self.lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_told_when_it_begins_at_growing_intervals_and_when_it_ends() {
        let (begin, mut outage) = (Instant::now(), Outage::default());
        let told: Vec<u32> = (0..3600).filter(|at| outage.failed(begin + *at * SECOND) == Level::Warn).collect();
        assert_eq!(told, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]);
        let over = outage.ended(begin + 3600 * SECOND).unwrap();
        assert_eq!((over.failures, over.lasted), (3600, 3600 * SECOND));
        assert!(outage.ended(begin + 3601 * SECOND).is_none(), "it ends once");
    }

    #[test]
    fn rare_attempts_do_not_shorten_the_interval() {
        let (begin, mut outage) = (Instant::now(), Outage::default());
        let told = (0..60).filter(|at| outage.failed(begin + *at * 60 * SECOND) == Level::Warn).count();
        assert!(told < 15, "{told} warnings in an hour");
    }

    #[test]
    fn what_flickers_is_told_as_rarely_and_what_comes_after_a_calm_time_at_once() {
        let (begin, mut outage) = (Instant::now(), Outage::default());
        let (mut told, mut ends) = (0, 0);
        for at in 0..3600 {
            told += usize::from(outage.failed(begin + at * SECOND) == Level::Warn);
            ends += usize::from(outage.ended(begin + at * SECOND + SECOND / 2).is_some());
        }
        assert!(told < 15 && ends == told, "{told} begins, {ends} ends");
        assert_eq!(outage.failed(begin + 10_000 * SECOND), Level::Warn);
        assert_eq!(outage.failed(begin + 10_010 * SECOND), Level::Warn);
    }
}

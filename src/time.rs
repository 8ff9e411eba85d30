//! Time as values: deadlines and back-off. Nothing here reads a clock except where the name says so.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock in milliseconds since 1970, as record timestamps count. Negative before 1970.
pub(crate) fn wall_clock_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000) + i64::from(since.subsec_millis())
        }
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// A duration in whole milliseconds for the wire, clamped to what an `i32` holds.
pub(crate) fn wire_ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The instant `after` from `now`. A duration that is too long for the clock becomes thirty years, so that no caller
/// has to think of overflow.
pub(crate) fn deadline(now: Instant, after: Duration) -> Instant {
    const AS_GOOD_AS_NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now.checked_add(after.min(AS_GOOD_AS_NEVER)).unwrap_or(now)
}

/// Exponential back-off with jitter (KIP-580): `initial * 2^n`, varied by a fifth either way, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The wait before the first retry.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row (0 counts as 1).
    pub(crate) fn after(self, failures: u32, random: &mut RandomNumbers) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let exact = self.initial.saturating_mul(1 << doublings).min(self.max);
        exact.mul_f64(0.8 + 0.4 * random.unit()).min(self.max)
    }
}

/// A small pseudo-random generator (SplitMix64) for jitter and partition choice; not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct RandomNumbers(u64);

impl RandomNumbers {
    /// A generator that always yields the same numbers.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator seeded from the standard library's randomly keyed hasher.
    pub(crate) fn from_entropy() -> Self {
        use std::hash::{BuildHasher, Hasher};
        Self(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 where `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(bound).unwrap_or(0);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_within_a_fifth_and_stops_at_the_maximum() {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut random = RandomNumbers::seeded(7);
        for (failures, exact) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000)] {
            for _ in 0..100 {
                let wait = backoff.after(failures, &mut random).as_millis();
                assert!(wait >= exact * 8 / 10 && wait <= (exact * 12 / 10).min(1000), "{failures}: {wait}");
            }
        }
    }

    #[test]
    fn random_numbers_stay_below_their_bound() {
        let mut random = RandomNumbers::from_entropy();
        assert_eq!(random.below(0), 0);
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[random.below(5)] = true;
            let unit = random.unit();
            assert!((0.0..1.0).contains(&unit));
        }
        assert_eq!(seen, [true; 5]);
    }

    #[test]
    fn a_deadline_cannot_overflow() {
        let now = Instant::now();
        assert!(deadline(now, Duration::MAX) > now);
        assert_eq!(wire_ms(Duration::MAX), i32::MAX);
    }
}

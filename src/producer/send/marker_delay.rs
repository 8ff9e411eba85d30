//! How long the first batch of a transaction is held after the end of the one before it (transactions V2).
//!
//! The coordinator answers EndTxn when it has decided, and writes the markers after that. If a batch of the next
//! transaction arrives before they are written, its broker keeps it for `add.partitions.to.txn.retry.backoff.ms`, 20
//! ms, although the markers take only one or two. So it is faster to hold the batch back for a moment: as long as
//! recent transactions needed, and no longer than [`MOST`]. Time that passes in the program between two transactions
//! counts.

use std::time::{Duration, Instant};

/// If a batch takes at least so long, its broker has kept it because it came too early. A little less than the broker's
/// default.
const KEPT: Duration = Duration::from_millis(18);
/// Only a transaction whose commit was called this soon after its first batch is looked at: in a longer one the time
/// says nothing.
const SHORT: Duration = Duration::from_millis(8);
/// The first delay, and half of the second.
const LEAST: Duration = Duration::from_micros(250);
const MOST: Duration = Duration::from_millis(4);
/// Every transaction whose batch was not kept makes the delay shorter by this part: a 16th.
const DECAY: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct MarkerDelay {
    length: Duration,
    /// When the last transaction ended.
    ended: Option<Instant>,
}

impl MarkerDelay {
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// Until when a batch that could be sent now is to be held.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let until = self.ended?.checked_add(self.length)?;
        (until > now).then_some(until)
    }

    /// A transaction's first batch was sent at `sent`, its commit called at `asked`, and its last batch answered at
    /// `flushed`.
    pub(super) fn learn(&mut self, sent: Instant, asked: Instant, flushed: Instant) {
        if asked.saturating_duration_since(sent) > SHORT {
            return;
        }
        self.length = if flushed.saturating_duration_since(sent) >= KEPT {
            self.length.saturating_mul(2).clamp(LEAST, MOST)
        } else {
            let shorter = self.length.saturating_sub(self.length / DECAY);
            // A delay that is shorter than the precision of a thread's sleep is useless.
            if shorter < LEAST / 4 { Duration::ZERO } else { shorter }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(marker_delay: &mut MarkerDelay, asked_ms: u64, flushed_ms: u64) {
        let sent = Instant::now();
        marker_delay.learn(sent, sent + Duration::from_millis(asked_ms), sent + Duration::from_millis(flushed_ms));
    }

    #[test]
    fn there_is_no_delay_until_a_batch_was_kept() {
        let mut marker_delay = MarkerDelay::default();
        let now = Instant::now();
        marker_delay.end(now);
        learn(&mut marker_delay, 0, 2);
        assert_eq!(marker_delay.until(now), None);
        learn(&mut marker_delay, 0, 21);
        assert_eq!(marker_delay.until(now), Some(now + LEAST));
        assert_eq!(marker_delay.until(now + LEAST), None, "the program has let it pass");
    }

    #[test]
    fn the_delay_is_bounded_and_forgotten() {
        let mut marker_delay = MarkerDelay::default();
        (0..100).for_each(|_| learn(&mut marker_delay, 0, 1000));
        assert_eq!(marker_delay.length, MOST);
        (0..100).for_each(|_| learn(&mut marker_delay, 0, 1));
        assert_eq!(marker_delay.length, Duration::ZERO);
    }

    #[test]
    fn a_long_transaction_changes_nothing() {
        let mut marker_delay = MarkerDelay::default();
        learn(&mut marker_delay, 100, 101);
        assert_eq!(marker_delay.length, Duration::ZERO);
        learn(&mut marker_delay, 0, 20);
        learn(&mut marker_delay, 100, 101);
        assert_eq!(marker_delay.length, LEAST);
    }
}

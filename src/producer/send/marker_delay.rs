//! How long the first batch of a transaction is held after the end of the one before it (transactions V2).
//!
//! The coordinator answers EndTxn when it has decided, and writes the markers then. A batch of the next transaction that
//! arrives before they are written is kept by its broker for `add.partitions.to.txn.retry.backoff.ms`, 20 ms, although
//! what it waits for takes one or two. A client that begins at once is better off waiting a little itself: as long as
//! has helped lately, and no longer than [`MOST`]. Time that the program lets pass by itself counts.

use std::time::{Duration, Instant};

/// What a broker keeps a batch for that comes too early. As its default.
const KEPT: Duration = Duration::from_millis(18);
/// A transaction tells something if its commit was called this soon after its first batch was sent.
const SHORT: Duration = Duration::from_millis(8);
/// The first delay, and half of the second.
const LEAST: Duration = Duration::from_micros(250);
const MOST: Duration = Duration::from_millis(4);
/// Every transaction that was not kept makes the delay shorter by this part of it.
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

    /// Until when a batch is to be held that could go now.
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
            // Shorter than a thread's sleep is precise.
            if shorter < LEAST / 4 { Duration::ZERO } else { shorter }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(marker_delay: &mut MarkerDelay, asked_ms: u64, flushed_ms: u64) {
        let sent = Instant::now();
        marker_delay.learn(sent, sent + Duration::from_millis(asked_ms), sent + Duration::from_millis(flushed_ms));
    }

    #[test]
    fn there_is_no_gap_until_a_batch_was_kept() {
        let mut marker_delay = MarkerDelay::default();
        let now = Instant::now();
        marker_delay.end(now);
        told(&mut marker_delay, 0, 2);
        assert_eq!(marker_delay.until(now), None);
        told(&mut marker_delay, 0, 21);
        assert_eq!(marker_delay.until(now), Some(now + LEAST));
        assert_eq!(marker_delay.until(now + LEAST), None, "the program has let it pass");
    }

    #[test]
    fn the_gap_is_bounded_and_forgotten() {
        let mut marker_delay = MarkerDelay::default();
        (0..100).for_each(|_| told(&mut marker_delay, 0, 1000));
        assert_eq!(marker_delay.length, MOST);
        (0..100).for_each(|_| told(&mut marker_delay, 0, 1));
        assert_eq!(marker_delay.length, Duration::ZERO);
    }

    #[test]
    fn a_long_transaction_tells_nothing() {
        let mut marker_delay = MarkerDelay::default();
        told(&mut marker_delay, 100, 101);
        assert_eq!(marker_delay.length, Duration::ZERO);
        told(&mut marker_delay, 0, 20);
        told(&mut marker_delay, 100, 101);
        assert_eq!(marker_delay.length, LEAST);
    }
}

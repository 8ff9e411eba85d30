//! Holding batches back: on a quick link they wait for an answer, so that they share the next request.

use std::time::Instant;

use super::{Turn, Up};
use crate::producer::send::wake_up::WakeOn;

/// After how many times [`QUICK`] batches no longer wait for an answer.
const HOLD_FACTOR: u32 = 4;
/// Which batches wait for an answer on a quick link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Nothing,
    /// Batches that are not full.
    Partial,
    /// All batches: the broker is working on one request, and another one is on its way.
    All,
}

impl Turn {
    /// Which batches wait for the answers that are due.
    pub(super) fn hold(&self, now: Instant) -> Hold {
        match self.hold_end() {
            Some(end) if now < end => {
                if self.in_flight() > 1 {
                    Hold::All
                } else {
                    Hold::Partial
                }
            }
            _ => Hold::Nothing,
        }
    }

    /// Until when batches wait for the answers that are due, at the latest.
    pub(crate) fn hold_end(&self) -> Option<Instant> {
        let up = self.up()?;
        let quick = up.round_trip.is_some_and(|time| time < self.rules.quick);
        let first = up.in_flight.front().filter(|_| quick)?;
        Some(first.sent + self.rules.quick * HOLD_FACTOR)
    }

    /// Which batches should wake the driver. `Never` while no request can be built.
    pub(crate) fn wake_on(&self, now: Instant) -> WakeOn {
        let Some(up) = self.up() else { return WakeOn::Due };
        if up.in_flight.len() >= self.rules.max_in_flight {
            WakeOn::Never
        } else {
            match self.hold(now) {
                Hold::All => WakeOn::Held,
                Hold::Partial => WakeOn::Full,
                Hold::Nothing => WakeOn::Due,
            }
        }
    }

    /// Whether there is work that other drivers leave to the sender: actions, and further requests that could be sent.
    pub(crate) fn needs_its_sender(&self, now: Instant) -> bool {
        let may_send =
            |up: &Up| !up.leaving && up.muted_until.is_none() && up.in_flight.len() < self.rules.max_in_flight;
        let sendable = !self.ready.is_empty() && self.up().is_some_and(may_send) && self.hold(now) == Hold::Nothing;
        sendable || !self.actions.is_empty() || self.is_deserted()
    }
}

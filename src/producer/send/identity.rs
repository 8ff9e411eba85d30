//! The producer id and epoch under which an idempotent producer writes (KIP-98, KIP-360).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::gate::{CurrentIdentity, TransactionGate};
use crate::error::{Error, Result};
use crate::obstacle::Obstacle;
use crate::producer::buffer::partition::Partition;
use crate::topic::ProducerIdAndEpoch;

/// The identity that all senders of a producer share. The thread `kafka-identity` asks the cluster for it when a
/// sender first needs one, and again when its epochs are used up.
pub(crate) struct Identity {
    state: Mutex<IdentityState>,
    wanted: Condvar,
    /// How often the producer changed to a new epoch.
    bumps: AtomicU64,
    /// The gate of a transactional producer, whose identity is that of its transactions.
    gate: Option<Arc<TransactionGate>>,
    /// Why there is no identity yet.
    obstacle: Obstacle,
}

enum IdentityState {
    /// The producer is not idempotent.
    Unneeded,
    /// There is none yet. `asked`: a sender needs one.
    Absent {
        asked: bool,
    },
    Known(ProducerIdAndEpoch),
    /// The cluster refuses one for good.
    Refused(Error),
    Closed,
}

impl Identity {
    pub(crate) fn new(idempotent: bool) -> Self {
        let state = if idempotent { IdentityState::Absent { asked: false } } else { IdentityState::Unneeded };
        Self {
            state: Mutex::new(state),
            wanted: Condvar::new(),
            bumps: AtomicU64::new(0),
            gate: None,
            obstacle: Obstacle::default(),
        }
    }

    /// The identity of a producer whose transactions say what may be sent.
    pub(crate) fn of_transactions(gate: Arc<TransactionGate>) -> Self {
        Self { gate: Some(gate), ..Self::new(false) }
    }

    /// The identity under which a batch of the partition may be sent now.
    pub(crate) fn for_partition(&self, partition: &Partition) -> CurrentIdentity {
        match &self.gate {
            None => self.current(),
            Some(gate) => gate.current(partition),
        }
    }

    /// Whether all batches that are not in flight are to fail, because their transaction is over. A hint;
    /// [`while_refusing`](Self::while_refusing) is exact.
    pub(crate) fn is_refusing(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_refusing())
    }

    /// Calls `take` if batches are to fail, so that it takes them out of the queues, and returns what it took, with the
    /// error for them. No transaction begins meanwhile.
    pub(crate) fn while_refusing<T>(&self, take: impl FnOnce() -> T) -> Option<(Error, T)> {
        self.gate.as_ref().and_then(|gate| gate.while_refusing(take))
    }

    /// The highest Produce version that may be used.
    pub(crate) fn produce_limit(&self) -> i16 {
        self.gate.as_ref().map_or(i16::MAX, |gate| gate.produce_limit())
    }

    /// The identity. If there is none, the thread `kafka-identity` is woken to ask for one.
    pub(crate) fn current(&self) -> CurrentIdentity {
        let mut state = self.state.lock();
        match &mut *state {
            IdentityState::Unneeded => CurrentIdentity::Unneeded,
            IdentityState::Known(identity) => CurrentIdentity::Known(*identity),
            IdentityState::Refused(error) => CurrentIdentity::Refused(error.clone()),
            IdentityState::Absent { asked } => {
                if !std::mem::replace(asked, true) {
                    self.wanted.notify_all();
                }
                CurrentIdentity::Awaited
            }
            IdentityState::Closed => CurrentIdentity::Awaited,
        }
    }

    /// Changes from `from` to its next epoch, unless another partition has caused that before. After the last epoch a
    /// new producer id is needed.
    pub(crate) fn bump(&self, from: ProducerIdAndEpoch) {
        let mut state = self.state.lock();
        if let IdentityState::Known(current) = *state
            && current == from
        {
            self.bumps.fetch_add(1, Ordering::Relaxed);
            *state = match current.epoch.checked_add(1) {
                Some(epoch) => IdentityState::Known(ProducerIdAndEpoch { epoch, ..current }),
                None => IdentityState::Absent { asked: false },
            };
        }
    }

    /// How often the producer changed to a new epoch.
    pub(crate) fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::Relaxed)
    }

    /// Blocks until a sender needs an identity; false when the producer is closed.
    pub(crate) fn await_need(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            match *state {
                IdentityState::Absent { asked: true } => return true,
                IdentityState::Closed => return false,
                _ => self.wanted.wait(&mut state),
            }
        }
    }

    /// Blocks until the deadline, or until the producer is closed; false when it is closed.
    pub(crate) fn pause(&self, until: std::time::Instant) -> bool {
        let mut state = self.state.lock();
        while !matches!(*state, IdentityState::Closed) {
            if self.wanted.wait_until(&mut state, until).timed_out() {
                return !matches!(*state, IdentityState::Closed);
            }
        }
        false
    }

    /// Notes why the cluster gave no identity. It is asked again.
    pub(crate) fn meet(&self, error: &Error) {
        self.obstacle.meet(error);
    }

    /// Why batches may have to wait now: for an identity, or for their partition to be part of the transaction.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        match &self.gate {
            Some(gate) => gate.obstacle.last(),
            None => self.obstacle.last(),
        }
    }

    /// Notes the cluster's answer.
    pub(crate) fn answered(&self, answer: Result<ProducerIdAndEpoch>) {
        self.obstacle.forget();
        let mut state = self.state.lock();
        if matches!(*state, IdentityState::Absent { .. }) {
            *state = match answer {
                Ok(identity) => IdentityState::Known(identity),
                Err(error) => IdentityState::Refused(error),
            };
        }
    }

    /// Makes every later batch fail with `error`.
    pub(crate) fn refuse(&self, error: Error) {
        if let Some(gate) = &self.gate {
            gate.kill(error);
            return;
        }
        let mut state = self.state.lock();
        if !matches!(*state, IdentityState::Closed | IdentityState::Unneeded) {
            *state = IdentityState::Refused(error);
        }
    }

    pub(crate) fn close(&self) {
        *self.state.lock() = IdentityState::Closed;
        self.wanted.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(identity: &Identity) -> Option<ProducerIdAndEpoch> {
        match identity.current() {
            CurrentIdentity::Known(known) => Some(known),
            _ => None,
        }
    }

    #[test]
    fn an_epoch_is_left_once_however_many_partitions_ask() {
        let identity = Identity::new(true);
        assert!(known(&identity).is_none());
        let first = ProducerIdAndEpoch { producer_id: 7, epoch: 0 };
        identity.answered(Ok(first));
        identity.bump(first);
        identity.bump(first);
        assert_eq!(known(&identity), Some(ProducerIdAndEpoch { producer_id: 7, epoch: 1 }));
    }

    #[test]
    fn after_the_last_epoch_a_new_id_is_asked_for() {
        let identity = Identity::new(true);
        identity.current();
        let last = ProducerIdAndEpoch { producer_id: 7, epoch: i16::MAX };
        identity.answered(Ok(last));
        identity.bump(last);
        assert!(known(&identity).is_none());
        assert!(identity.await_need());
        let next = ProducerIdAndEpoch { producer_id: 8, epoch: 0 };
        identity.answered(Ok(next));
        assert_eq!(known(&identity), Some(next));
    }
}

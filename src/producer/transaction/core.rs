//! What the calls of a transactional producer share: its state, and the outcomes of its transactions. Pure, like the
//! state: it does not wait and reads no clock. A call that waits looks at it again after every change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::state::{
    TransactionActions, TransactionConfig, TransactionEvent, TransactionPhase, TransactionResult, misuse,
};
use crate::error::{Error, ErrorKind, Recovery, Result, Written};
use crate::producer::buffer::partition::gone;

/// The number and the outcome of one transaction. Every call and guard that may ask for the outcome shares it, so that
/// it is still there after later transactions.
#[derive(Debug)]
pub(crate) struct TransactionHandle {
    /// Counts the transactions of the producer, from 1.
    pub(crate) number: u64,
    /// How it ended; or the error with which the producer ended before that was known.
    outcome: OnceLock<Result<TransactionResult>>,
    /// Whether a call has returned the outcome.
    told: AtomicBool,
}

impl TransactionHandle {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, outcome: OnceLock::new(), told: AtomicBool::new(false) })
    }

    /// How the transaction ended, if it has.
    pub(super) fn outcome(&self) -> Option<Result<TransactionResult>> {
        self.outcome.get().cloned()
    }

    /// The result of a commit. Only the outcome that the caller wanted counts as told.
    pub(super) fn committed(&self, outcome: Result<TransactionResult>) -> Result<()> {
        match outcome? {
            TransactionResult::Committed => {
                self.told.store(true, Ordering::Relaxed);
                Ok(())
            }
            TransactionResult::Aborted => {
                let text = "the transaction was aborted by another thread while it was being committed";
                Err(Error::new(ErrorKind::Aborted, Recovery::Retry, text).until_aborted())
            }
        }
    }

    /// The result of an abort.
    pub(super) fn aborted(&self, outcome: Result<TransactionResult>) -> Result<()> {
        match outcome? {
            TransactionResult::Aborted => {
                self.told.store(true, Ordering::Relaxed);
                Ok(())
            }
            TransactionResult::Committed => {
                Err(misuse("there is nothing to abort: the transaction was committed").with_written(Written::Yes))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Core {
    pub(super) state: TransactionPhase,
    /// The last transaction that was begun.
    last: Option<Arc<TransactionHandle>>,
    /// Whether a call has returned that the producer is initialised.
    initialised: bool,
    /// The number of the last transaction that failed.
    pub(super) last_failed: u64,
    /// The number of the last call of `send_offsets`, and of the last one that is done. They are done in order.
    last_offsets: u64,
    offsets_done: u64,
    pub(super) closed: bool,
}

impl Core {
    pub(super) fn new() -> Self {
        Self {
            state: TransactionPhase::Uninitialized { refused: None },
            last: None,
            initialised: false,
            last_failed: 0,
            last_offsets: 0,
            offsets_done: 0,
            closed: false,
        }
    }

    /// Changes the state by an event, and keeps the outcomes that follow. The caller carries out the other actions.
    pub(super) fn on(
        &mut self,
        config: &TransactionConfig,
        now: Instant,
        event: TransactionEvent,
    ) -> TransactionActions {
        let refused = None;
        let state = std::mem::replace(&mut self.state, TransactionPhase::Uninitialized { refused });
        let (state, actions) = state.on(config, now, event);
        self.state = state;
        if let Some((number, ended)) = actions.ended {
            self.decide(number, Ok(ended));
        }
        if let Some((number, error)) = &actions.lost {
            self.decide(*number, Err(error.clone()));
        }
        if let Some(done) = actions.offsets_done {
            self.offsets_done = done;
        }
        actions
    }

    fn decide(&self, number: u64, outcome: Result<TransactionResult>) {
        if let Some(handle) = self.last.as_ref().filter(|handle| handle.number == number) {
            // Only the first outcome counts.
            drop(handle.outcome.set(outcome));
        }
    }

    /// The number of the transaction that has not ended yet.
    pub(super) fn number(&self) -> Option<u64> {
        self.state.open().map(|open| open.number)
    }

    // ---- init_transactions --------------------------------------------------------------------------------------------

    /// Whether the producer is initialised, but no call has returned that, because an earlier call had timed out.
    pub(super) fn is_initialised_untold(&self) -> bool {
        let is_done = !matches!(
            self.state,
            TransactionPhase::Uninitialized { .. } | TransactionPhase::Initializing | TransactionPhase::Fatal(_)
        );
        is_done && !self.initialised
    }

    /// The result of the initialisation, if there is one. The caller returns it.
    pub(super) fn initialised(&mut self) -> Option<Result<()>> {
        match &self.state {
            TransactionPhase::Initializing => None,
            TransactionPhase::Uninitialized { refused: Some(error) } | TransactionPhase::Fatal(error) => {
                Some(Err(error.clone()))
            }
            _ => {
                self.initialised = true;
                Some(Ok(()))
            }
        }
    }

    // ---- transactions -------------------------------------------------------------------------------------------------

    /// The number of the next transaction.
    pub(super) fn next_number(&self) -> u64 {
        self.last.as_ref().map_or(0, |handle| handle.number) + 1
    }

    /// A transaction has begun.
    pub(super) fn begun(&mut self, number: u64) -> Arc<TransactionHandle> {
        self.initialised = true;
        let handle = TransactionHandle::new(number);
        self.last = Some(Arc::clone(&handle));
        handle
    }

    /// The transaction that a call is about: its own; or else the last one, unless a call has returned its outcome.
    pub(super) fn transaction(&self, own: Option<&Arc<TransactionHandle>>) -> Result<Arc<TransactionHandle>> {
        let handle = own.or_else(|| self.last.as_ref().filter(|handle| !handle.told.load(Ordering::Relaxed)));
        handle.map(Arc::clone).ok_or_else(|| self.state.refusal().unwrap_or_else(gone))
    }

    /// The result of a commit or an abort of the transaction, if there is one yet.
    pub(super) fn outcome(&self, handle: &TransactionHandle) -> Option<Result<TransactionResult>> {
        if let Some(outcome) = handle.outcome() {
            return Some(outcome);
        }
        match &self.state {
            TransactionPhase::Abortable(open, error) if open.number == handle.number => Some(Err(error.clone())),
            TransactionPhase::Fatal(error) => Some(Err(error.clone())),
            state if state.open().is_none_or(|open| open.number != handle.number) => Some(Err(gone())),
            _ => None,
        }
    }

    /// Whether the transaction may be committed, now or later.
    pub(super) fn is_in_doubt(&self, handle: &TransactionHandle) -> bool {
        match handle.outcome.get() {
            Some(Ok(TransactionResult::Committed)) => true,
            Some(Ok(TransactionResult::Aborted)) => false,
            Some(Err(error)) => error.may_be_written(),
            None => self.state.open().is_some_and(|open| open.number == handle.number && open.may_be_committed()),
        }
    }

    /// Whether the last transaction has no known outcome and may be committed.
    pub(super) fn is_last_in_doubt(&self) -> bool {
        let undecided = self.last.as_ref().filter(|handle| !matches!(handle.outcome.get(), Some(Ok(_))));
        undecided.is_some_and(|handle| self.is_in_doubt(handle))
    }

    /// Adds to `error`, with which a call about the transaction fails, whether the transaction may be committed all the
    /// same.
    pub(super) fn undecided(&self, handle: &TransactionHandle, error: Error) -> Error {
        let written = if self.is_in_doubt(handle) { Written::Maybe } else { Written::No };
        error.with_written(written)
    }

    // ---- send_offsets -------------------------------------------------------------------------------------------------

    /// The number of the next call of `send_offsets`.
    pub(super) fn next_offsets(&self) -> u64 {
        self.last_offsets + 1
    }

    /// A call has begun.
    pub(super) fn offsets_begun(&mut self, number: u64) {
        self.last_offsets = number;
    }

    /// The result of the call, if there is one yet.
    pub(super) fn offsets_outcome(&self, handle: &TransactionHandle, number: u64) -> Option<Result<()>> {
        if self.offsets_done >= number {
            return Some(Ok(()));
        }
        match &self.state {
            TransactionPhase::Abortable(open, error) if open.number == handle.number => Some(Err(error.clone())),
            TransactionPhase::Fatal(error) => Some(Err(error.clone())),
            TransactionPhase::Draining(_) | TransactionPhase::Aborting(_) => Some(Err(gone())),
            state if state.open().is_none_or(|open| open.number != handle.number) => Some(Err(gone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

//! What the calls of a transactional producer share: its state, and what has become of its transactions. Pure, like the
//! state: it waits for nothing and reads no clock. Whoever waits looks at it again after every change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::state::{
    TransactionActions, TransactionConfig, TransactionEvent, TransactionPhase, TransactionResult, misuse,
};
use crate::error::{Error, ErrorKind, Recovery, Result, Written};
use crate::producer::buffer::partition::gone;

/// What becomes of one transaction. Whoever may ask for it has a share of it, so that it is not lost to them when other
/// transactions end meanwhile.
#[derive(Debug)]
pub(crate) struct Fate {
    /// Counts the transactions of the producer, from 1.
    pub(crate) number: u64,
    /// How it ended; or the error that the producer ended with before that was known.
    outcome: OnceLock<Result<TransactionResult>>,
    /// A call has said so.
    told: AtomicBool,
}

impl Fate {
    fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, outcome: OnceLock::new(), told: AtomicBool::new(false) })
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Result<TransactionResult>> {
        self.outcome.get().cloned()
    }

    /// What a commit says of the outcome. Only the one that was asked for counts as told.
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

    /// What an abort says of the outcome.
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
    /// Of the last transaction that was begun.
    last: Option<Arc<Fate>>,
    /// A call has said that the producer is initialised.
    initialised: bool,
    /// The last transaction that failed.
    pub(super) last_failed: u64,
    /// Counts calls of `send_offsets`, and those that are done, in order.
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

    /// Moves the state. What the state says of its own part of the core is carried out.
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
        if let Some(fate) = self.last.as_ref().filter(|fate| fate.number == number) {
            // The first word counts.
            drop(fate.outcome.set(outcome));
        }
    }

    /// The number of the transaction that has no end yet.
    pub(super) fn number(&self) -> Option<u64> {
        self.state.open().map(|open| open.number)
    }

    // ---- init_transactions --------------------------------------------------------------------------------------------

    /// Whether it need not be asked for: an earlier call had timed out, and nobody has been told yet that it was done.
    pub(super) fn is_initialised_untold(&self) -> bool {
        let is_done = !matches!(
            self.state,
            TransactionPhase::Uninitialized { .. } | TransactionPhase::Initializing | TransactionPhase::Fatal(_)
        );
        is_done && !self.initialised
    }

    /// What came of it, if it has an outcome, which is told now.
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
        self.last.as_ref().map_or(0, |fate| fate.number) + 1
    }

    /// A transaction has begun.
    pub(super) fn begun(&mut self, number: u64) -> Arc<Fate> {
        self.initialised = true;
        let fate = Fate::new(number);
        self.last = Some(Arc::clone(&fate));
        fate
    }

    /// The transaction that a call is about: its own; or else the open one, or the last one whose end nobody has been told.
    pub(super) fn transaction(&self, own: Option<&Arc<Fate>>) -> Result<Arc<Fate>> {
        let fate = own.or_else(|| self.last.as_ref().filter(|fate| !fate.told.load(Ordering::Relaxed)));
        fate.map(Arc::clone).ok_or_else(|| self.state.refusal().unwrap_or_else(gone))
    }

    /// What a commit or an abort of the transaction says, if there is something to say yet.
    pub(super) fn outcome(&self, fate: &Fate) -> Option<Result<TransactionResult>> {
        if let Some(outcome) = fate.outcome() {
            return Some(outcome);
        }
        match &self.state {
            TransactionPhase::Abortable(open, error) if open.number == fate.number => Some(Err(error.clone())),
            TransactionPhase::Fatal(error) => Some(Err(error.clone())),
            state if state.open().is_none_or(|open| open.number != fate.number) => Some(Err(gone())),
            _ => None,
        }
    }

    /// Whether the transaction may have been committed, or may yet be, although nobody knows.
    pub(super) fn is_in_doubt(&self, fate: &Fate) -> bool {
        match fate.outcome.get() {
            Some(Ok(TransactionResult::Committed)) => true,
            Some(Ok(TransactionResult::Aborted)) => false,
            Some(Err(error)) => error.may_be_written(),
            None => self.state.open().is_some_and(|open| open.number == fate.number && open.may_be_committed()),
        }
    }

    /// Whether that is so of the last transaction, whose end is not known.
    pub(super) fn is_last_in_doubt(&self) -> bool {
        let undecided = self.last.as_ref().filter(|fate| !matches!(fate.outcome.get(), Some(Ok(_))));
        undecided.is_some_and(|fate| self.is_in_doubt(fate))
    }

    /// `error`, which a call about the transaction fails with, and whether the transaction may be committed all the same.
    pub(super) fn undecided(&self, fate: &Fate, error: Error) -> Error {
        let written = if self.is_in_doubt(fate) { Written::Maybe } else { Written::No };
        error.with_written(written)
    }

    // ---- send_offsets -------------------------------------------------------------------------------------------------

    /// The number of the next call.
    pub(super) fn next_offsets(&self) -> u64 {
        self.last_offsets + 1
    }

    /// A call has begun.
    pub(super) fn offsets_begun(&mut self, number: u64) {
        self.last_offsets = number;
    }

    /// What the call says, if there is something to say yet.
    pub(super) fn offsets_outcome(&self, fate: &Fate, number: u64) -> Option<Result<()>> {
        if self.offsets_done >= number {
            return Some(Ok(()));
        }
        match &self.state {
            TransactionPhase::Abortable(open, error) if open.number == fate.number => Some(Err(error.clone())),
            TransactionPhase::Fatal(error) => Some(Err(error.clone())),
            TransactionPhase::Draining(_) | TransactionPhase::Aborting(_) => Some(Err(gone())),
            state if state.open().is_none_or(|open| open.number != fate.number) => Some(Err(gone())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

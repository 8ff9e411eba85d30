//! The thread `kafka-txn`: it sends the requests that the state asks for, one at a time, and passes the answers to the
//! state.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::coordinators::{Refused, TransactionCoordinators};
use super::state::{CoordinatorRequest, RetryDelay, TransactionEvent, TransactionPhase};
use super::transactions::Transactions;
use super::verdict::TransactionStep;
use crate::cluster::ClusterClient;
use crate::error::{Error, ErrorKind, Result};
use crate::logging::{Level, debug, error, info, log, warn};
use crate::outage::Outage;
use crate::producer::buffer::partition::PartitionId;
use crate::producer::send::gate::{Begun, ProducerSession, Protocol};
use crate::time::{self, Backoff, RandomNumbers};
use crate::topic::TopicPartition;

/// The wait before the first repetition of a request that came while the previous transaction was being completed,
/// which takes milliseconds. Java's value.
const SOON: Duration = Duration::from_millis(20);

/// What the thread does next.
enum Work {
    Ask(CoordinatorRequest),
    AddPartitions(ProducerSession, Vec<(PartitionId, TopicPartition)>),
    /// Wait until the first batch of a transaction may be sent.
    Hold(Instant),
    /// Wait until no batch is in flight.
    Drain,
    /// Wait for a wake-up.
    Rest,
    End,
}

struct Worker<'a> {
    transactions: &'a Transactions,
    coordinators: TransactionCoordinators,
    request_timeout: Duration,
    retry_backoff: Backoff,
    wake_ups: Receiver<()>,
    random: RandomNumbers,
    /// Requests in a row that are to be repeated.
    failures: u32,
    /// Which of them are logged as warnings.
    outage: Outage,
}

/// Starts the thread. `wake_ups`: the receiving end of the gate's wake-ups.
pub(crate) fn start(
    transactions: Arc<Transactions>,
    wake_ups: Receiver<()>,
    cluster: Arc<ClusterClient>,
    retry_backoff: Backoff,
) -> Result<JoinHandle<()>> {
    let run = move || {
        let request_timeout = cluster.net().request_timeout;
        let (hangups, config) = (Arc::clone(&transactions.hangups), transactions.config.clone());
        let worker = Worker {
            transactions: &transactions,
            coordinators: TransactionCoordinators::new(cluster, hangups, config),
            request_timeout,
            retry_backoff,
            wake_ups,
            random: RandomNumbers::from_entropy(),
            failures: 0,
            outage: Outage::default(),
        };
        if let Err(panic) = crate::thread::catch(|| worker.run()) {
            error!("kafka-txn panicked; the producer cannot go on: {panic}");
            transactions.gate.kill(Error::bug(format!("the thread kafka-txn panicked: {panic}")));
            drop(transactions.lock());
        }
    };
    crate::thread::spawn("kafka-txn", run)
}

impl Worker<'_> {
    fn run(mut self) {
        loop {
            let again = match self.work() {
                Work::End => return,
                Work::Rest => {
                    // Fails only if the gate is gone, which has the sending end.
                    if self.wake_ups.recv().is_err() {
                        return;
                    }
                    continue;
                }
                Work::Hold(until) => {
                    // A sleep of a few milliseconds. No other work is so urgent.
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                    self.transactions.gate.release();
                    self.transactions.senders.look_at_all();
                    continue;
                }
                Work::Drain => {
                    self.drain();
                    continue;
                }
                Work::AddPartitions(session, partitions) => self.add_partitions(session, &partitions),
                Work::Ask(request) => self.ask(&request),
            };
            match again {
                None => self.failures = 0,
                Some(delay) => self.pause(delay),
            }
        }
    }

    fn work(&self) -> Work {
        let transactions = self.transactions;
        let core = transactions.lock();
        if core.closed {
            return Work::End;
        }
        if let TransactionPhase::Open(open) | TransactionPhase::Flushing(open) = &core.state
            && let Protocol::V1 { .. } = open.session.protocol
        {
            let wanted = transactions.gate.wanted();
            if !wanted.is_empty() {
                return Work::AddPartitions(open.session, wanted);
            }
        }
        if let Some(until) = transactions.gate.held() {
            return Work::Hold(until);
        }
        match (&core.state, core.state.request()) {
            (TransactionPhase::Draining(_), _) => Work::Drain,
            (_, Some(request)) => Work::Ask(request),
            (_, None) => Work::Rest,
        }
    }

    /// Waits until no batch of the transaction is left: none is sent any more, and those in flight are answered within
    /// the request timeout, or their connection ends.
    fn drain(&self) {
        let unfinished = &self.transactions.flush.unfinished;
        let line = unfinished.draw_line();
        let deadline = time::deadline(Instant::now(), self.request_timeout);
        if !unfinished.wait(line, deadline) {
            debug!("batches of an aborted transaction are in flight still");
            return;
        }
        let mut core = self.transactions.lock();
        let begun = self.transactions.gate.begun();
        // Only events of calls can be refused, and this is none.
        drop(core.apply(TransactionEvent::Drained { begun }));
    }

    fn add_partitions(
        &mut self,
        session: ProducerSession,
        partitions: &[(PartitionId, TopicPartition)],
    ) -> Option<RetryDelay> {
        let gate = &self.transactions.gate;
        match self.coordinators.add_partitions(session, partitions) {
            Ok(()) => {
                self.done();
                gate.begin(Begun::Yes);
                gate.joined(partitions);
                self.transactions.senders.look_at_all();
                None
            }
            Err(refused) => {
                self.may_have_begun(&refused);
                self.refused(refused)
            }
        }
    }

    /// Whether the request is still to be sent. Once a commit may have been sent, the state must say so, and the
    /// transaction can no longer be aborted. So the coordinator is found before that.
    fn may_ask(&mut self, request: &CoordinatorRequest) -> Result<bool, Refused> {
        if !matches!(request, CoordinatorRequest::End { commit: true, .. }) {
            return Ok(true);
        }
        self.coordinators.reach(TransactionStep::End { commit: true })?;
        let mut core = self.transactions.look();
        let is_wanted =
            !core.closed && matches!(core.state.request(), Some(CoordinatorRequest::End { commit: true, .. }));
        if is_wanted {
            core.on(&self.transactions.config, Instant::now(), TransactionEvent::Asked);
        }
        Ok(is_wanted)
    }

    fn ask(&mut self, request: &CoordinatorRequest) -> Option<RetryDelay> {
        match self.may_ask(request) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(refused) => return self.refused(refused),
        }
        let gate = &self.transactions.gate;
        let begins = match request {
            CoordinatorRequest::AddOffsets { .. } => true,
            CoordinatorRequest::CommitOffsets { session, .. } if session.protocol == Protocol::V2 => {
                // The group may become part of the transaction even if its coordinator refuses the offsets.
                gate.begin(Begun::Maybe);
                true
            }
            CoordinatorRequest::CommitOffsets { .. }
            | CoordinatorRequest::Init { .. }
            | CoordinatorRequest::End { .. } => false,
        };
        match self.coordinators.ask(request) {
            Ok(event) => {
                self.done();
                if begins {
                    gate.begin(Begun::Yes);
                }
                match &event {
                    TransactionEvent::Initialized(session) => {
                        info!("transactional id {:?}: {}", self.transactions.config.id, session.producer);
                    }
                    TransactionEvent::Ended { .. } => {
                        self.transactions.gate.decided();
                        debug!("transactional id {:?}: {event:?}", self.transactions.config.id);
                    }
                    event => debug!("transactional id {:?}: {event:?}", self.transactions.config.id),
                }
                drop(self.transactions.lock().apply(event));
                None
            }
            Err(refused) => {
                if begins {
                    self.may_have_begun(&refused);
                }
                self.refused(refused)
            }
        }
    }

    /// A coordinator has carried out a request.
    fn done(&mut self) {
        self.transactions.gate.obstacle.forget();
        if let Some(over) = self.outage.ended(Instant::now()) {
            warn!(
                "transactional id {:?}: its coordinators carry out requests again, {over}",
                self.transactions.config.id
            );
        }
    }

    /// A request that begins the transaction failed. The transaction may have begun all the same, unless the
    /// coordinator has refused the request.
    fn may_have_begun(&self, refused: &Refused) {
        if !matches!(refused.error.kind(), ErrorKind::Broker(_)) {
            self.transactions.gate.begin(Begun::Maybe);
        }
    }

    /// Whether the request is to be repeated, and when.
    fn refused(&mut self, refused: Refused) -> Option<RetryDelay> {
        let Refused { step, error, sent } = refused;
        let id = &self.transactions.config.id;
        // One failure is usual: a coordinator has moved, or the previous transaction is being completed.
        let level = if self.failures == 0 { Level::Debug } else { self.outage.failed(Instant::now()) };
        log!(level, "transactional id {id:?}: {step:?}: {error:#}");
        let mut core = self.transactions.lock();
        if core.closed {
            return None;
        }
        let begun = self.transactions.gate.begun();
        // A call that times out has this error as its cause.
        self.transactions.gate.obstacle.meet(&error);
        let actions = core.carry_out(TransactionEvent::Refused { step, error, sent, begun });
        drop(core);
        if actions.find {
            self.coordinators.forget(step);
        }
        actions.again
    }

    /// Waits before a repetition. Only a close ends the wait early.
    fn pause(&mut self, delay: RetryDelay) {
        self.failures = self.failures.saturating_add(1);
        let usual = self.retry_backoff;
        let backoff = match delay {
            RetryDelay::Later => usual,
            RetryDelay::Soon => Backoff { initial: usual.initial.min(SOON), ..usual },
        };
        let until = time::deadline(Instant::now(), backoff.after(self.failures, &mut self.random));
        loop {
            match self.wake_ups.recv_deadline(until) {
                // Other wake-ups do not end the wait: their requests would go to the same coordinators.
                Ok(()) => {
                    if self.transactions.look().closed {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

//! The thread `kafka-txn`: it sends what the state of the transaction asks for, one request at a time, and tells it what
//! was answered.

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

/// The wait before the first repetition of a request that came while the previous transaction was being completed: that
/// takes milliseconds. As Java's.
const SOON: Duration = Duration::from_millis(20);

/// What there is to do.
enum Work {
    Ask(CoordinatorRequest),
    AddPartitions(ProducerSession, Vec<(PartitionId, TopicPartition)>),
    /// Wait until the first batch of a transaction may be sent.
    Hold(Instant),
    /// Wait for the end of the batches in flight.
    Drain,
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
    /// Which of them are worth a warning.
    outage: Outage,
}

/// Starts it. `wake_ups` is where the gate's wake-ups arrive.
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
                    // The gate has the other end for as long as the producer lives.
                    if self.wake_ups.recv().is_err() {
                        return;
                    }
                    continue;
                }
                Work::Hold(until) => {
                    // A few milliseconds, which nothing else can be late by.
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
                Some(pace) => self.pause(pace),
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

    /// Waits until no batch of the transaction is left: nothing of it is sent any more, and what is in flight is answered
    /// within the request timeout, or its connection ends.
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
        // An event of the producer's own is not refused.
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

    /// Whether the request is to be sent still. From here on a commit may be done, which must be known to whoever looks,
    /// and it cannot be aborted any more. So its coordinator is found before.
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
                // The group may be part of it although its coordinator refuses the offsets.
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

    /// A coordinator has done what was asked of it.
    fn done(&mut self) {
        self.transactions.gate.obstacle.forget();
        if let Some(over) = self.outage.ended(Instant::now()) {
            warn!(
                "transactional id {:?}: its coordinators do what they are asked again, {over}",
                self.transactions.config.id
            );
        }
    }

    /// A request that begins the transaction was not done, as far as is known. A coordinator that refuses adds nothing.
    fn may_have_begun(&self, refused: &Refused) {
        if !matches!(refused.error.kind(), ErrorKind::Broker(_)) {
            self.transactions.gate.begin(Begun::Maybe);
        }
    }

    /// Whether the request is to be repeated, and when.
    fn refused(&mut self, refused: Refused) -> Option<RetryDelay> {
        let Refused { step, error, sent } = refused;
        let id = &self.transactions.config.id;
        // Once is usual: a coordinator has moved, or the previous transaction is being completed.
        let level = if self.failures == 0 { Level::Debug } else { self.outage.failed(Instant::now()) };
        log!(level, "transactional id {id:?}: {step:?}: {error:#}");
        let mut core = self.transactions.lock();
        if core.closed {
            return None;
        }
        let begun = self.transactions.gate.begun();
        // Whoever gives up waiting says what stood in the way.
        self.transactions.gate.obstacle.meet(&error);
        let actions = core.carry_out(TransactionEvent::Refused { step, error, sent, begun });
        drop(core);
        if actions.find {
            self.coordinators.forget(step);
        }
        actions.again
    }

    /// Waits before a repetition; something new to do may shorten the wait, but not the first time.
    fn pause(&mut self, pace: RetryDelay) {
        self.failures = self.failures.saturating_add(1);
        let usual = self.retry_backoff;
        let backoff = match pace {
            RetryDelay::Later => usual,
            RetryDelay::Soon => Backoff { initial: usual.initial.min(SOON), ..usual },
        };
        let until = time::deadline(Instant::now(), backoff.after(self.failures, &mut self.random));
        loop {
            match self.wake_ups.recv_deadline(until) {
                // Only the end is a reason to hurry: whatever else there is goes to the same coordinators.
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

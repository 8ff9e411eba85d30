//! One broker's turn: what is to be written next, and what an answer means. Pure: it uses no socket, thread or clock.
//! The thread that drives the broker's link passes events to it, and carries out its actions.

mod answers;
mod hold;
mod request;
mod schedule;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::Common;
use super::log_summary::LogSummary;
use super::queue::{Overlap, PartitionQueue};
use crate::cluster::{LeaderHints, Snapshot};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Timeout, Written};
use crate::logging::{debug, info, log, warn};
use crate::outage::Outage;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::{Partition, PartitionId};
use crate::producer::metrics::add;
use crate::protocol::frame::FrameWriter;
use crate::protocol::messages::produce::TopicProduceData;
use crate::protocol::wire::Uuid;
use crate::record::Compression;
use crate::record::compression::Compressor;
use crate::time::{Backoff, RandomNumbers};
use crate::topic::{BrokerId, TopicPartition};

/// The first Produce version that names topics by their ids (KIP-516).
const PRODUCE_BY_TOPIC_ID: i16 = 13;
/// A link is quick while its answers come within this time. On a quick link, batches that become ready while a request
/// is in flight wait for its answer: they share the next request, instead of waking the sender for one each.
pub(crate) const QUICK: Duration = Duration::from_micros(500);

/// The settings that a turn follows.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) acks: i16,
    pub(crate) idempotent: bool,
    pub(crate) transactional_id: Option<Arc<str>>,
    pub(crate) retries: u32,
    pub(crate) retry_backoff: Backoff,
    pub(crate) reconnect_backoff: Backoff,
    pub(crate) max_in_flight: usize,
    pub(crate) max_request_size: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) connections_max_idle: Duration,
    /// [`QUICK`], or zero: no batch waits for an answer.
    pub(crate) quick: Duration,
    pub(crate) compression: Compression,
    pub(crate) client_id: Option<Arc<str>>,
}

impl Rules {
    fn overlap(&self) -> Overlap {
        if self.idempotent {
            Overlap::Sequenced
        } else if self.acks == 0 {
            Overlap::Free
        } else {
            Overlap::Single
        }
    }
}

/// What the driver of the link is to do.
pub(crate) enum Action {
    /// Connect to the broker.
    Connect,
    /// Close the connection: it has been idle for too long, or the broker has another address.
    Disconnect,
    /// Ask the cluster for new metadata.
    RefreshMetadata,
    /// Pass on to the cluster what an answer says about partitions' leaders (KIP-951).
    Hint(LeaderHints),
    /// Hand the queue to another broker's sender.
    Move(Box<PartitionQueue>, BrokerId),
}

/// The state of the connection, as far as the turn knows.
enum ConnectionState {
    Down {
        failures: u32,
        not_before: Option<Instant>,
        /// Why the last connection ended, or was not made; `None`: nothing needed one.
        why: Option<Error>,
    },
    Connecting {
        failures: u32,
        /// As in `Down`.
        why: Option<Error>,
        /// The connection is to be closed as soon as it is made, as in [`Up`].
        leaving: bool,
    },
    Up(Up),
}

/// What there is while the broker is connected.
struct Up {
    /// The version of Produce that the broker speaks.
    version: i16,
    /// Requests without an answer, oldest first.
    in_flight: VecDeque<InFlight>,
    /// The earliest delivery deadline of the batches in flight, or an earlier time.
    expires: Option<Instant>,
    /// The broker's address has changed since the connection was made: nothing more is sent on it.
    leaving: bool,
    /// How long the last answer took; `None` before the first one.
    round_trip: Option<Duration>,
    /// The broker has asked for a pause until then.
    muted_until: Option<Instant>,
    /// When a request was last written, or an answer last read.
    last_used: Instant,
    next_correlation: i32,
}

/// A partition's queue, and when the turn looks at it.
struct Scheduled {
    queue: PartitionQueue,
    /// The queue's time in `timers`, if it has one.
    timer: Option<Instant>,
    /// Whether the partition is in `ready` or `held`.
    listed: bool,
}

/// A request without an answer. It owns the batches whose bytes are being written.
pub(crate) struct InFlight {
    correlation: i32,
    version: i16,
    sent: Instant,
    deadline: Instant,
    /// Whether all of it has been written to the socket. A broker cannot act on a part of it.
    written: bool,
    batches: Vec<BatchInRequest>,
    /// The earliest delivery deadline of its batches without a result; `None`: all have one.
    expires: Option<Instant>,
    /// Its batches by delivery deadline, the earliest last, as positions in `batches`. Made when the first batch
    /// expires; expired batches are removed.
    expiring: Vec<(Instant, usize)>,
}

struct BatchInRequest {
    id: PartitionId,
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    /// `None` once its answer has been handled.
    batch: Option<Box<Batch>>,
}

impl BatchInRequest {
    /// By what an answer names the partition.
    fn key(&self, by_id: bool) -> (Uuid, &str, i32) {
        if by_id { (self.topic_id, "", self.index) } else { (Uuid::default(), &*self.topic, self.index) }
    }
}

/// *Thread*: whoever drives the broker's link.
pub(crate) struct Turn {
    broker: BrokerId,
    /// The broker's address as the cluster says, for errors and the log.
    address: Option<Arc<str>>,
    rules: Rules,
    common: Common,
    compressor: Compressor,
    random: RandomNumbers,
    /// It is searched many times for each batch, so it has a fast hash; the ids are this crate's own, so nobody attacks
    /// it with collisions.
    queues: HashMap<PartitionId, Scheduled, foldhash::fast::RandomState>,
    /// The partitions to look at when a request can be built.
    ready: VecDeque<PartitionId>,
    /// When to look at a partition again even if it gets no notice.
    timers: BTreeSet<(Instant, PartitionId)>,
    /// Used while a request is built: the partitions of `ready` whose batches wait for an answer.
    held: Vec<PartitionId>,
    /// Partitions that were put into `ready`, or got a notice, since they were last looked at.
    fresh: Vec<PartitionId>,
    /// The vectors of finished requests, reused for the next ones.
    spare_batches: Vec<BatchInRequest>,
    spare_topics: Vec<TopicProduceData>,
    connection: ConnectionState,
    /// Which failed connections are worth a warning.
    outage: Outage,
    log_summary: LogSummary,
    frame: FrameWriter,
    actions: VecDeque<Action>,
}

impl Turn {
    pub(crate) fn new(broker: BrokerId, rules: Rules, common: Common) -> Self {
        Self {
            broker,
            address: None,
            compressor: Compressor::new(rules.compression),
            rules,
            common,
            random: RandomNumbers::from_entropy(),
            queues: HashMap::default(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            held: Vec::new(),
            fresh: Vec::new(),
            spare_batches: Vec::new(),
            spare_topics: Vec::new(),
            connection: ConnectionState::Down { failures: 0, not_before: None, why: None },
            outage: Outage::default(),
            log_summary: LogSummary::default(),
            frame: FrameWriter::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over a partition's queue.
    pub(crate) fn adopt(&mut self, queue: PartitionQueue) {
        let id = self.take_in(queue);
        self.list(id);
        self.watch(id);
        // The queue may have been on its way here when a purge was announced.
        self.purge_waiting(id);
    }

    /// Takes a queue back that could not be moved, because its leader's sender cannot be started, or the producer is
    /// closing and this sender has not been told yet. The move is tried again after a pause; meanwhile its batches
    /// expire on time.
    pub(crate) fn take_back(&mut self, queue: PartitionQueue, now: Instant) {
        let id = self.take_in(queue);
        self.purge_waiting(id);
        let wait = self.rules.retry_backoff.after(1, &mut self.random);
        self.watch_until(id, Some(now + wait));
    }

    fn take_in(&mut self, queue: PartitionQueue) -> PartitionId {
        let id = queue.id();
        self.queues.insert(id, Scheduled { queue, timer: None, listed: false });
        id
    }

    fn up(&self) -> Option<&Up> {
        match &self.connection {
            ConnectionState::Up(up) => Some(up),
            ConnectionState::Down { .. } | ConnectionState::Connecting { .. } => None,
        }
    }

    fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.connection {
            ConnectionState::Up(up) => Some(up),
            ConnectionState::Down { .. } | ConnectionState::Connecting { .. } => None,
        }
    }

    fn queue_mut(&mut self, id: PartitionId) -> Option<&mut PartitionQueue> {
        self.queues.get_mut(&id).map(|scheduled| &mut scheduled.queue)
    }

    /// Fails the purged batches: those that wait, and with `in_flight` also those in flight. The latter keep their
    /// bytes until their request is answered; their sequence numbers are resolved then. `purge`: the number of the
    /// purge.
    pub(crate) fn purge(&mut self, purge: u64, in_flight: bool) {
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            if in_flight && let Some(queue) = self.queue_mut(id) {
                queue.spare_no_more(purge);
            }
            self.purge_waiting(id);
        }
        let error = self.purged("the record was purged while it was in flight");
        let ConnectionState::Up(up) = &mut self.connection else { return };
        for in_request in up.in_flight.iter_mut().flat_map(|request| &mut request.batches) {
            let Some(batch) = in_request.batch.as_mut().filter(|batch| batch.came_before(purge)) else { continue };
            if !in_flight {
                batch.spare(purge);
            } else if let Some(scheduled) = self.queues.get_mut(&in_request.id) {
                scheduled.queue.purge_in_flight(batch, error.clone(), &self.common.counters);
            }
        }
    }

    fn purge_waiting(&mut self, id: PartitionId) {
        if !self.queue_mut(id).is_some_and(PartitionQueue::has_purged) {
            return;
        }
        let error = self.purged("the record was purged before it was acknowledged");
        if let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) {
            queue.purge(&error, &self.common);
        }
        // The partition must give notice of later records.
        self.list(id);
        self.watch(id);
    }

    fn purged(&self, text: &'static str) -> Error {
        Error::new(ErrorKind::Purged, Recovery::Retry, text).at_broker(self.broker)
    }

    /// A partition has an open or a full batch.
    pub(crate) fn notice(&mut self, partition: &Partition) {
        let id = partition.id();
        if !self.list(id) {
            self.fresh.push(id);
        }
    }

    /// There is new metadata.
    pub(crate) fn on_metadata(&mut self, snapshot: &Snapshot) {
        if let Some(address) = snapshot.brokers.get(&self.broker) {
            self.address = Some(address.to_string().into());
        }
        // Only partitions for which something has changed are looked at: there may be thousands of them, and as many
        // snapshots.
        let mut changed = Vec::new();
        for (id, Scheduled { queue, .. }) in &mut self.queues {
            if queue.on_metadata(snapshot) || queue.leader() != Some(self.broker) {
                changed.push(*id);
            }
        }
        for id in changed {
            self.attend_to(id);
        }
    }

    /// Something that concerns every partition has changed: the identity, or a thread waits for memory.
    pub(crate) fn look_at_all(&mut self) {
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            if !self.move_if_led_elsewhere(id) {
                self.list(id);
            }
        }
    }

    /// A connection is made; the broker speaks this version of Produce.
    pub(crate) fn connected(&mut self, version: i16, now: Instant) {
        match self.outage.ended(now) {
            Some(over) => warn!("{}: connected again {over}", self.broker_name()),
            None => debug!("{}: connected, Produce version {version}", self.broker_name()),
        }
        add(&self.common.counters.connections_made, 1);
        // The broker's address may have changed while the connection was being made.
        let leaving = matches!(self.connection, ConnectionState::Connecting { leaving: true, .. });
        self.connection = ConnectionState::Up(Up {
            version,
            in_flight: VecDeque::new(),
            expires: None,
            leaving,
            round_trip: None,
            muted_until: None,
            last_used: now,
            next_correlation: 0,
        });
    }

    /// The connection could not be made, or has ended. Batches in flight are sent again.
    pub(crate) fn lost(&mut self, error: Error, now: Instant) {
        let mut error = self.at_this_broker(error);
        if error.kind() == ErrorKind::Timeout(Timeout::Request) {
            error = error.with_hint(&format!("the request_timeout is {:?}", self.rules.request_timeout));
        }
        let failures = match self.connection {
            ConnectionState::Connecting { failures, .. } | ConnectionState::Down { failures, .. } => {
                failures.saturating_add(1)
            }
            ConnectionState::Up(_) => 1,
        };
        if self.up().is_some() {
            add(&self.common.counters.connections_lost, 1);
            info!("{}: the connection ended: {error:#}", self.broker_name());
        } else {
            log!(self.outage.failed(now), "{}: no connection, attempt {failures}: {error:#}", self.broker_name());
        }
        let wait = self.rules.reconnect_backoff.after(failures, &mut self.random);
        self.is_down(failures, Some(now + wait), error, now);
    }

    /// The broker has closed the connection while nothing was sent on it. Brokers do so with idle connections, so it is
    /// no failure, and the next connection is made without a back-off.
    pub(crate) fn closed_while_idle(&mut self, now: Instant) {
        add(&self.common.counters.connections_lost, 1);
        debug!("{}: the broker had closed the idle connection", self.broker_name());
        let error = self.at_this_broker(Error::network("the broker had closed the connection"));
        self.is_down(0, None, error, now);
    }

    fn is_down(&mut self, failures: u32, not_before: Option<Instant>, error: Error, now: Instant) {
        let down = ConnectionState::Down { failures, not_before, why: Some(error.clone()) };
        let left = std::mem::replace(&mut self.connection, down);
        self.actions.push_back(Action::RefreshMetadata);
        for request in self.left_on(left) {
            let written = if request.written { Written::Maybe } else { Written::No };
            for in_request in request.batches {
                if let Some(batch) = in_request.batch {
                    self.unanswered(in_request.id, batch, &error, written, now);
                }
            }
        }
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            let is_led_here = |scheduled: &Scheduled| scheduled.queue.leader() == Some(self.broker);
            if error.is_final() && self.queues.get(&id).is_some_and(is_led_here) {
                self.fail_queue(id, &error, now);
            } else {
                // The partition's timer may have been set for the end of a linger or a back-off.
                self.attend_to(id);
            }
        }
        self.log_summary.log();
    }

    /// Fails all batches of the partition that are not in flight.
    fn fail_queue(&mut self, id: PartitionId, error: &Error, now: Instant) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        // The partition must give notice of later records, so that they fail too.
        let again = queue.fail_all(error, &self.common).then_some(now);
        self.watch_until(id, again);
    }

    /// The broker, for the log.
    fn broker_name(&self) -> String {
        match &self.address {
            Some(address) => format!("broker {} at {address}", self.broker),
            None => format!("broker {}", self.broker),
        }
    }

    /// Adds the broker to the error. An address in the error stays: it is the one that was dialled.
    fn at_this_broker(&self, error: Error) -> Error {
        let (broker, address) = (self.broker, &self.address);
        error.in_context(|context| {
            context.broker = Some(broker);
            if context.address.is_none() {
                context.address.clone_from(address);
            }
        })
    }

    /// Why the broker cannot take and acknowledge batches now, if there is a reason.
    fn obstacle(&self, now: Instant) -> Option<Error> {
        let error = match &self.connection {
            ConnectionState::Down { why, .. } => return why.clone(),
            ConnectionState::Connecting { why: Some(error), .. } => return Some(error.clone()),
            ConnectionState::Connecting { why: None, .. } => {
                Error::timeout(Timeout::Connect, "the connection is not made yet")
            }
            ConnectionState::Up(up) => match up.muted_until {
                Some(until) if until > now => {
                    let left = until.saturating_duration_since(now);
                    let text = format!("the broker has asked for a pause, of which {left:.1?} are left");
                    Error::broker(ErrorCode::THROTTLING_QUOTA_EXCEEDED, Some(&text))
                }
                _ => unanswered_for(up.in_flight.front()?, now),
            },
        };
        Some(self.at_this_broker(error))
    }

    /// The connection was given up because nothing needed it, or because it was to be left.
    pub(crate) fn idled(&mut self) {
        debug!("{}: a connection that is not needed is closed", self.broker_name());
        self.connection = ConnectionState::Down { failures: 0, not_before: None, why: None };
    }

    /// The broker has another address than the one that the connection was made to, where another broker may be by now.
    /// What is in flight is answered or lost, and the next request goes to the new address.
    pub(crate) fn leave_connection(&mut self) {
        match &mut self.connection {
            ConnectionState::Down { .. } => {}
            ConnectionState::Connecting { leaving, .. } | ConnectionState::Up(Up { leaving, .. }) => *leaving = true,
        }
        self.leave_if_answered();
    }

    /// Whether the connection is to be given up now.
    pub(crate) fn is_left(&self) -> bool {
        self.up().is_some_and(|up| up.leaving && up.in_flight.is_empty())
    }

    fn leave_if_answered(&mut self) {
        if self.is_left() {
            self.actions.push_back(Action::Disconnect);
        }
    }

    /// Fails everything, in flight or not: the producer ends. `count` is told of each partition how many records fail,
    /// and what has kept them, if it is known.
    pub(crate) fn fail_all(
        &mut self,
        error: &Error,
        now: Instant,
        count: &mut dyn FnMut(&TopicPartition, u64, Option<Error>),
    ) {
        let why = self.obstacle(now);
        // What was about to move goes nowhere any more.
        for action in std::mem::take(&mut self.actions) {
            if let Action::Move(queue, _) = action {
                self.take_in(*queue);
            }
        }
        let maybe = error.clone().with_written(Written::Maybe);
        let down = ConnectionState::Down { failures: 0, not_before: None, why: None };
        let left = std::mem::replace(&mut self.connection, down);
        for request in self.left_on(left) {
            let silence = self.at_this_broker(unanswered_for(&request, now));
            for in_request in request.batches {
                if let (Some(mut batch), Some(Scheduled { queue, .. })) =
                    (in_request.batch, self.queues.get_mut(&in_request.id))
                {
                    let new = !batch.is_finished();
                    queue.came_back();
                    let cause = batch.end(queue.name(), &maybe, queue.setback().or(Some(&silence)));
                    if new {
                        add(&self.common.counters.records_failed, u64::from(batch.count()));
                        count(queue.name(), u64::from(batch.count()), cause);
                    }
                }
            }
        }
        for Scheduled { queue, .. } in self.queues.values_mut() {
            let (failed, cause) = queue.end(error, why.as_ref(), &self.common.counters);
            count(queue.name(), failed, cause);
        }
    }

    /// The actions since the last call.
    pub(crate) fn take_actions(&mut self) -> VecDeque<Action> {
        std::mem::take(&mut self.actions)
    }

    /// By when the next answer is due, if the oldest request is written and has one to come.
    pub(crate) fn answer_due(&self) -> Option<Instant> {
        self.up()?.in_flight.front().filter(|request| request.written).map(|request| request.deadline)
    }

    /// Whether a request can be sent at once, and would be the only one in flight.
    pub(crate) fn is_ready_for_one(&self) -> bool {
        self.up().is_some_and(|up| !up.leaving && up.in_flight.is_empty() && up.muted_until.is_none())
            && self.actions.is_empty()
    }

    /// How many requests may be in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.rules.max_in_flight
    }

    /// Whether batches wait that cannot be sent now.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many requests are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.up().map_or(0, |up| up.in_flight.len())
    }

    /// Whether brokers answer what is sent to them.
    pub(crate) fn is_answered(&self) -> bool {
        self.rules.acks != 0
    }

    /// When a request was last written on the connection, or an answer last read, if there is a connection.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.up().map(|up| up.last_used)
    }

    /// Whether the turn has no partition any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.queues.is_empty() && self.in_flight() == 0
    }
}

impl Up {
    fn enter(&mut self, request: InFlight) {
        self.expires = [self.expires, request.expires].into_iter().flatten().min();
        self.in_flight.push_back(request);
    }

    /// Takes the oldest request, which is answered.
    fn take_first(&mut self) -> Option<InFlight> {
        let request = self.in_flight.pop_front();
        self.has_left(request)
    }

    /// Takes the newest request, which gets no answer.
    fn take_last(&mut self) -> Option<InFlight> {
        let request = self.in_flight.pop_back();
        self.has_left(request)
    }

    fn has_left(&mut self, request: Option<InFlight>) -> Option<InFlight> {
        if self.in_flight.is_empty() {
            self.expires = None;
        }
        request
    }
}

/// An error that says for how long a request has had no answer.
fn unanswered_for(request: &InFlight, now: Instant) -> Error {
    let time = now.saturating_duration_since(request.sent);
    let text = if request.written {
        format!("the broker has not answered for {time:.1?}")
    } else {
        format!("the broker has not taken all of the request for {time:.1?}")
    };
    Error::timeout(Timeout::Request, text)
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;

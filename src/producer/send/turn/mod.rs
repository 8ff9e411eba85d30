//! One broker's turn: what is to be written next, and what an answer means. Pure: no socket, no thread, no clock of
//! its own. Whoever drives the broker's link fetches events for it and carries its actions out.

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
/// A link is quick while its answers come within this time. Then what comes while a request is in flight waits for the
/// answer: it shares the next request, instead of waking the sender for one of its own.
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
    /// [`QUICK`]; zero: nothing waits for an answer.
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
    /// Make a connection.
    Connect,
    /// Give the connection up: it has been idle for too long, or the broker has another address.
    Disconnect,
    /// Ask the cluster who leads what.
    RefreshMetadata,
    /// Tell the cluster what an answer says of partitions' leaders (KIP-951).
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
        /// As of `Down`.
        why: Option<Error>,
        /// It is to be left as soon as it is made, as in [`Up`].
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
    /// The earliest delivery deadline of what is in flight, or an earlier time.
    expires: Option<Instant>,
    /// The broker has another address than the one that the connection was made to: nothing more is sent on it.
    leaving: bool,
    /// How long the last answer took; `None` before the first one.
    round_trip: Option<Duration>,
    /// The broker has asked for a pause until then.
    muted_until: Option<Instant>,
    /// When something was written or answered last.
    last_used: Instant,
    next_correlation: i32,
}

/// A partition's queue, and when the turn looks at it.
struct Scheduled {
    queue: PartitionQueue,
    /// What stands for it in `timers`.
    timer: Option<Instant>,
    /// Whether it stands in `ready`, or in `held`.
    listed: bool,
}

/// A request without an answer. It owns the batches whose bytes are being written.
pub(crate) struct InFlight {
    correlation: i32,
    version: i16,
    sent: Instant,
    deadline: Instant,
    /// Whether all of it has gone into the socket. A broker cannot act on less.
    written: bool,
    entries: Vec<BatchInRequest>,
    /// The earliest delivery deadline of its batches that have no result; `None`: all have one.
    expires: Option<Instant>,
    /// The places of its batches by their delivery deadlines, the earliest last: made when the first of them expires, and
    /// without those that have expired.
    expiring: Vec<(Instant, usize)>,
}

struct BatchInRequest {
    id: PartitionId,
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    /// Taken when its answer is dealt with.
    batch: Option<Box<Batch>>,
}

impl BatchInRequest {
    /// What an answer calls it by.
    fn key(&self, by_id: bool) -> (Uuid, &str, i32) {
        if by_id { (self.topic_id, "", self.index) } else { (Uuid::default(), &*self.topic, self.index) }
    }
}

/// *Thread*: whoever drives the broker's link.
pub(crate) struct Turn {
    broker: BrokerId,
    /// Where the broker is, as the cluster says, for errors and the log.
    address: Option<Arc<str>>,
    rules: Rules,
    common: Common,
    compressor: Compressor,
    random: RandomNumbers,
    /// Looked at many times for each batch, hence the quick hash; the ids are our own.
    queues: HashMap<PartitionId, Scheduled, foldhash::fast::RandomState>,
    /// The partitions to look at when a request can be built.
    ready: VecDeque<PartitionId>,
    /// When to look at a partition of which nothing is heard before.
    timers: BTreeSet<(Instant, PartitionId)>,
    /// Partitions of `ready` that wait for an answer, while a request is built.
    held: Vec<PartitionId>,
    /// Partitions that were listed or told of lately.
    fresh: Vec<PartitionId>,
    /// Vectors of requests that are done, for the next ones.
    spare_entries: Vec<BatchInRequest>,
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
            spare_entries: Vec::new(),
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
        // It may have been on its way when a purge was told.
        self.purge_waiting(id);
    }

    /// Takes a queue back that could not be moved: its leader's sender cannot be started, or the producer closes and
    /// is about to say so. Moving it is tried again after a pause; meanwhile its batches expire on time.
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

    /// Fails what has been purged: what waits, and with `in_flight` what is in flight. Its bytes stay until its request
    /// is done, and its sequence numbers are resolved then. `purge`: its number among the purges.
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
        for entry in up.in_flight.iter_mut().flat_map(|request| &mut request.entries) {
            let Some(batch) = entry.batch.as_mut().filter(|batch| batch.came_before(purge)) else { continue };
            if !in_flight {
                batch.spare(purge);
            } else if let Some(scheduled) = self.queues.get_mut(&entry.id) {
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
        // Later records must be told of.
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

    /// The cluster has changed.
    pub(crate) fn on_metadata(&mut self, snapshot: &Snapshot) {
        if let Some(address) = snapshot.brokers.get(&self.broker) {
            self.address = Some(address.to_string().into());
        }
        // Only those for which something is different are looked at: there may be thousands, and a snapshot for each.
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

    /// Something that concerns every partition has changed: an identity, a flush, memory that runs out.
    pub(crate) fn look_at_all(&mut self) {
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            if !self.move_if_led_elsewhere(id) {
                self.list(id);
            }
        }
    }

    /// A connection is there; the broker speaks this version of Produce.
    pub(crate) fn connected(&mut self, version: i16, now: Instant) {
        match self.outage.ended(now) {
            Some(over) => warn!("{}: connected again {over}", self.broker_name()),
            None => debug!("{}: connected, Produce version {version}", self.broker_name()),
        }
        add(&self.common.counters.connections_made, 1);
        // The broker's address may have changed while it was made.
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

    /// The connection could not be made, or has ended. What was in flight is sent again.
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

    /// A look shows that the broker has closed the connection while nothing was sent on it. Brokers do so with idle
    /// connections, so it is no failure, and the next connection has no back-off to wait for.
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
            for entry in request.entries {
                if let Some(batch) = entry.batch {
                    self.unanswered(entry.id, batch, &error, written, now);
                }
            }
        }
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            let is_led_here = |scheduled: &Scheduled| scheduled.queue.leader() == Some(self.broker);
            if error.is_final() && self.queues.get(&id).is_some_and(is_led_here) {
                self.fail_queue(id, &error, now);
            } else {
                // Its timer may have been for the end of a linger or a back-off.
                self.attend_to(id);
            }
        }
        self.log_summary.log();
    }

    /// Fails all that the partition has and is not in flight.
    fn fail_queue(&mut self, id: PartitionId, error: &Error, now: Instant) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        // Later records must be told of, so that they fail too.
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

    /// The error, with the broker as its place. An address that it names is the one that was dialled.
    fn at_this_broker(&self, error: Error) -> Error {
        let (broker, address) = (self.broker, &self.address);
        error.in_context(|context| {
            context.broker = Some(broker);
            if context.address.is_none() {
                context.address.clone_from(address);
            }
        })
    }

    /// What keeps the broker from taking and acknowledging batches now, if anything does.
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
            for entry in request.entries {
                if let (Some(mut batch), Some(Scheduled { queue, .. })) = (entry.batch, self.queues.get_mut(&entry.id))
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

    /// The actions that have come up.
    pub(crate) fn take_actions(&mut self) -> VecDeque<Action> {
        std::mem::take(&mut self.actions)
    }

    /// By when the next answer is due, if the request is written and one will come.
    pub(crate) fn answer_due(&self) -> Option<Instant> {
        self.up()?.in_flight.front().filter(|request| request.written).map(|request| request.deadline)
    }

    /// Whether a request could be sent at once, and is not one of several.
    pub(crate) fn is_ready_for_one(&self) -> bool {
        self.up().is_some_and(|up| !up.leaving && up.in_flight.is_empty() && up.muted_until.is_none())
            && self.actions.is_empty()
    }

    /// How many requests may be in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.rules.max_in_flight
    }

    /// Whether there are batches that cannot be handed over now.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many requests have no answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.up().map_or(0, |up| up.in_flight.len())
    }

    /// Whether brokers answer what is sent to them.
    pub(crate) fn is_answered(&self) -> bool {
        self.rules.acks != 0
    }

    /// When something was written or answered last on the connection, if there is one.
    pub(crate) fn last_used(&self) -> Option<Instant> {
        self.up().map(|up| up.last_used)
    }

    /// Whether it has no partition any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.queues.is_empty() && self.in_flight() == 0
    }
}

impl Up {
    fn enter(&mut self, request: InFlight) {
        self.expires = [self.expires, request.expires].into_iter().flatten().min();
        self.in_flight.push_back(request);
    }

    /// The oldest request is answered.
    fn take_first(&mut self) -> Option<InFlight> {
        let request = self.in_flight.pop_front();
        self.has_left(request)
    }

    /// The newest request needs no answer.
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

/// What is known of a request that nobody has answered.
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

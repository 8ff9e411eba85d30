//! One broker's turn: what is to be written next, and what an answer means. Pure: no socket, no thread, no clock of
//! its own. Whoever drives the broker's link fetches events for it and carries its actions out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::bell::Wakeful;
use super::identity::Identity;
use super::news::News;
use super::outcome::{Facts, Verdict, advice, verdict};
use super::queue::{Overlap, PartitionQueue, Readiness};
use crate::bytes::SharedBytes;
use crate::cluster::{LeaderHint, LeaderHints, Snapshot};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
use crate::logging::{debug, info, log, trace, warn};
use crate::net::HostPort;
use crate::outage::Outage;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::budget::Budget;
use crate::producer::buffer::completion::Outcome;
use crate::producer::buffer::partition::{Partition, PartitionId};
use crate::producer::buffer::troubles::Troubles;
use crate::producer::metrics::{Counters, add};
use crate::protocol::frame::FrameWriter;
use crate::protocol::header::{decode_response, encode_request};
use crate::protocol::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::protocol::wire::{Records, Uuid};
use crate::record::Compression;
use crate::record::compression::Compressor;
use crate::time::{Backoff, Random, wire_ms};
use crate::topic::{BrokerId, TopicPartition};

/// The first Produce version that takes zstd (KIP-110).
const PRODUCE_WITH_ZSTD: i16 = 7;
/// The first Produce version that names topics by their ids (KIP-516).
const PRODUCE_BY_TOPIC_ID: i16 = 13;
/// A link is quick while its answers come within this time. Then what comes while a request is in flight waits for the
/// answer: it shares the next request, instead of waking the sender for one of its own.
pub(crate) const QUICK: Duration = Duration::from_micros(500);
/// How much longer than [`QUICK`] an answer may take before nothing waits for it any more, as a factor.
const PATIENCE: u32 = 4;
/// The longest pause that a broker can ask for; a hostile one could ask for 24 days.
const MAX_THROTTLE: Duration = Duration::from_secs(3600);

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

/// What all turns of a producer share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) identity: Arc<Identity>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) troubles: Arc<Troubles>,
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
enum Link {
    Down { failures: u32, not_before: Option<Instant> },
    Connecting { failures: u32 },
    Up { version: i16 },
}

/// What waits for an answer on a quick link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Nothing,
    /// Batches that are not full.
    Partial,
    /// Every batch: a request is on its way besides the one that the broker works at.
    All,
}

/// A request without an answer. It owns the batches whose bytes are being written.
pub(crate) struct InFlight {
    correlation: i32,
    version: i16,
    sent: Instant,
    deadline: Instant,
    /// Whether all of it has gone into the socket. A broker cannot act on less.
    written: bool,
    entries: Vec<Entry>,
}

struct Entry {
    id: PartitionId,
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    /// Taken when its answer is dealt with.
    batch: Option<Box<Batch>>,
}

impl Entry {
    /// What an answer calls it by.
    fn key(&self, by_id: bool) -> (Uuid, &str, i32) {
        if by_id { (self.topic_id, "", self.index) } else { (Uuid::default(), &*self.topic, self.index) }
    }
}

/// The places of `entries` in the order of their keys.
fn sorted_places(entries: &[Entry], by_id: bool) -> Vec<usize> {
    let mut places: Vec<usize> = (0..entries.len()).collect();
    places.sort_unstable_by_key(|place| entries.get(*place).map(|entry| entry.key(by_id)));
    places
}

/// *Thread*: whoever drives the broker's link.
pub(crate) struct Turn {
    broker: BrokerId,
    /// Where the broker is, as the cluster says, for errors and the log.
    address: Option<Arc<str>>,
    rules: Rules,
    common: Common,
    compressor: Compressor,
    random: Random,
    /// Looked at many times for each batch, hence the quick hash; the ids are our own.
    queues: HashMap<PartitionId, PartitionQueue, foldhash::fast::RandomState>,
    /// The partitions to look at when a request can be built.
    ready: VecDeque<PartitionId>,
    /// Partitions may stand there whose queue has left.
    has_strangers: bool,
    /// When to look at a partition of which nothing is heard before.
    timers: BTreeSet<(Instant, PartitionId)>,
    in_flight: VecDeque<InFlight>,
    /// Partitions of `ready` that wait for an answer, while a request is built.
    held: Vec<PartitionId>,
    /// Partitions that were listed or told of lately.
    fresh: Vec<PartitionId>,
    /// Vectors of requests that are done, for the next ones.
    spare_entries: Vec<Entry>,
    spare_topics: Vec<TopicProduceData>,
    /// How long the last answer took on this connection.
    round_trip: Option<Duration>,
    link: Link,
    /// The broker has another address than the one that the connection was made to: nothing more is sent on it.
    leaving: bool,
    /// Why the last connection ended.
    link_error: Option<Error>,
    /// Which failed connections are worth a warning.
    outage: Outage,
    news: News,
    muted_until: Option<Instant>,
    last_used: Instant,
    next_correlation: i32,
    frame: FrameWriter,
    actions: VecDeque<Action>,
}

impl Turn {
    pub(crate) fn new(broker: BrokerId, rules: Rules, common: Common, now: Instant) -> Self {
        Self {
            broker,
            address: None,
            compressor: Compressor::new(rules.compression),
            rules,
            common,
            random: Random::from_entropy(),
            queues: HashMap::default(),
            ready: VecDeque::new(),
            has_strangers: false,
            timers: BTreeSet::new(),
            in_flight: VecDeque::new(),
            held: Vec::new(),
            fresh: Vec::new(),
            spare_entries: Vec::new(),
            spare_topics: Vec::new(),
            round_trip: None,
            link: Link::Down { failures: 0, not_before: None },
            leaving: false,
            link_error: None,
            outage: Outage::default(),
            news: News::default(),
            muted_until: None,
            last_used: now,
            next_correlation: 0,
            frame: FrameWriter::new(),
            actions: VecDeque::new(),
        }
    }

    // ---- events -----------------------------------------------------------------------------------------------

    /// Takes over a partition's queue.
    pub(crate) fn adopt(&mut self, queue: PartitionQueue) {
        let id = self.welcome(queue);
        self.list(id);
        self.watch(id);
        // It may have been on its way when a purge was told.
        self.purge_waiting(id);
    }

    /// Takes a queue back that could not be moved: its leader's sender cannot be started, or the producer closes and
    /// is about to say so. Moving it is tried again after a pause; meanwhile its batches expire on time.
    pub(crate) fn keep(&mut self, queue: PartitionQueue, now: Instant) {
        let id = self.welcome(queue);
        self.purge_waiting(id);
        let wait = self.rules.retry_backoff.after(1, &mut self.random);
        self.watch_until(id, Some(now + wait));
    }

    /// Takes in a queue, which may have been here before.
    fn welcome(&mut self, mut queue: PartitionQueue) -> PartitionId {
        // A partition that left while it was listed would be listed twice, and give two batches to one request.
        if std::mem::take(&mut self.has_strangers) {
            let queues = &self.queues;
            self.ready.retain(|id| queues.contains_key(id));
        }
        queue.timer = None;
        queue.listed = false;
        let id = queue.id();
        self.queues.insert(id, queue);
        id
    }

    /// Fails what has been purged: what waits, and with `in_flight` what is in flight. Its bytes stay until its request
    /// is done, and its sequence numbers are settled then.
    pub(crate) fn purge(&mut self, in_flight: bool) {
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            self.purge_waiting(id);
        }
        let error = self.purged("the record was purged while it was in flight");
        for entry in self.in_flight.iter_mut().flat_map(|request| &mut request.entries) {
            let Some(batch) = entry.batch.as_mut().filter(|batch| batch.is_purged()) else { continue };
            if !in_flight {
                batch.spare();
            } else if let Some(queue) = self.queues.get_mut(&entry.id) {
                // What was sent behind it would share its fate: without an answer a new epoch follows, under which a
                // batch of unknown outcome cannot be sent again. So nothing follows before it is settled.
                queue.sent_again = true;
                add(&self.common.counters.records_failed, u64::from(batch.count()));
                batch.maybe_written = true;
                batch.fail(queue.partition.name(), error.clone());
            }
        }
    }

    fn purge_waiting(&mut self, id: PartitionId) {
        if !self.queues.get_mut(&id).is_some_and(PartitionQueue::has_purged) {
            return;
        }
        let error = self.purged("the record was purged before it was acknowledged");
        if let Some(queue) = self.queues.get_mut(&id) {
            add(&self.common.counters.records_failed, queue.purge(&error));
        }
        // Later records must be told of.
        self.list(id);
        self.watch(id);
    }

    fn purged(&self, text: &'static str) -> Error {
        let recovery = if self.rules.transactional_id.is_some() { Recovery::AbortTransaction } else { Recovery::Retry };
        Error::new(ErrorKind::Purged, recovery, text).at_broker(self.broker)
    }

    /// A partition has an open or a full batch.
    pub(crate) fn notice(&mut self, partition: &Partition) {
        let id = partition.id();
        if !self.list(id) {
            self.fresh.push(id);
        }
    }

    /// The cluster has changed.
    pub(crate) fn see(&mut self, snapshot: &Snapshot) {
        if let Some(address) = snapshot.brokers.get(&self.broker) {
            self.address = Some(address.to_string().into());
        }
        // Only those for which something is different are looked at: there may be thousands, and a snapshot for each.
        let mut changed = Vec::new();
        for (id, queue) in &mut self.queues {
            if queue.see(snapshot) || queue.leader != Some(self.broker) {
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
            Some(over) => warn!("{}: connected again {over}", self.place()),
            None => debug!("{}: connected, Produce version {version}", self.place()),
        }
        add(&self.common.counters.connections_made, 1);
        self.link = Link::Up { version };
        self.link_error = None;
        self.round_trip = None;
        self.last_used = now;
        self.next_correlation = 0;
    }

    /// The connection could not be made, or has ended. What was in flight is sent again.
    pub(crate) fn lost(&mut self, error: Error, now: Instant) {
        let mut error = self.placed(error);
        if error.kind() == ErrorKind::Timeout(Timeout::Request) {
            error = error.with_hint(&format!("the request_timeout is {:?}", self.rules.request_timeout));
        }
        let failures = match self.link {
            Link::Connecting { failures } | Link::Down { failures, .. } => failures.saturating_add(1),
            Link::Up { .. } => 1,
        };
        if matches!(self.link, Link::Up { .. }) {
            add(&self.common.counters.connections_lost, 1);
            info!("{}: the connection ended: {error:#}", self.place());
        } else {
            log!(self.outage.failed(now), "{}: no connection, attempt {failures}: {error:#}", self.place());
        }
        let wait = self.rules.reconnect_backoff.after(failures, &mut self.random);
        self.link_is_down(error, Link::Down { failures, not_before: Some(now + wait) }, now);
    }

    /// A look shows that the broker has closed the connection while nothing was sent on it. Brokers do so with idle
    /// connections, so it is no failure, and the next connection has no back-off to wait for.
    pub(crate) fn closed_while_idle(&mut self, now: Instant) {
        add(&self.common.counters.connections_lost, 1);
        debug!("{}: the broker had closed the idle connection", self.place());
        let error = self.placed(Error::network("the broker had closed the connection"));
        self.link_is_down(error, Link::Down { failures: 0, not_before: None }, now);
    }

    fn link_is_down(&mut self, error: Error, link: Link, now: Instant) {
        self.link = link;
        self.leaving = false;
        self.link_error = Some(error.clone());
        self.muted_until = None;
        self.actions.push_back(Action::RefreshMetadata);
        for request in self.leave_all() {
            let written = if request.written { Written::Maybe } else { Written::No };
            for entry in request.entries {
                if let Some(batch) = entry.batch {
                    self.unanswered(entry.id, batch, &error, written, now);
                }
            }
        }
        let ids: Vec<_> = self.queues.keys().copied().collect();
        for id in ids {
            if error.is_final() && self.queues.get(&id).is_some_and(|queue| queue.leader == Some(self.broker)) {
                self.fail_queue(id, &error, now);
            } else {
                // Its timer may have been for the end of a linger or a back-off.
                self.attend_to(id);
            }
        }
        self.news.tell();
    }

    /// Fails all that the partition has and is not in flight.
    fn fail_queue(&mut self, id: PartitionId, error: &Error, now: Instant) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let failed = queue.fail_all(error);
        queue.is_rid_of(&self.common.troubles);
        add(&self.common.counters.records_failed, failed);
        // Later records must be told of, so that they fail too.
        let again = (!queue.comes_to_rest()).then_some(now);
        self.watch_until(id, again);
    }

    /// The broker, for the log.
    fn place(&self) -> String {
        match &self.address {
            Some(address) => format!("broker {} at {address}", self.broker),
            None => format!("broker {}", self.broker),
        }
    }

    /// The error, with the broker as its place. An address that it names is the one that was dialled.
    fn placed(&self, error: Error) -> Error {
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
        let error = match (&self.link, self.link_error.as_ref()) {
            (Link::Down { .. } | Link::Connecting { .. }, Some(error)) => return Some(error.clone()),
            (Link::Down { .. }, None) => return None,
            (Link::Connecting { .. }, None) => Error::timeout(Timeout::Connect, "the connection is not made yet"),
            (Link::Up { .. }, _) => match self.muted_until {
                Some(until) if until > now => {
                    let left = until.saturating_duration_since(now);
                    let text = format!("the broker has asked for a pause, of which {left:.1?} are left");
                    Error::broker(ErrorCode::THROTTLING_QUOTA_EXCEEDED, Some(&text))
                }
                _ => unanswered_for(self.in_flight.front()?, now),
            },
        };
        Some(self.placed(error))
    }

    /// The connection was given up because nothing needed it, or because it was to be left.
    pub(crate) fn idled(&mut self) {
        debug!("{}: a connection that is not needed is closed", self.place());
        self.link = Link::Down { failures: 0, not_before: None };
        self.leaving = false;
    }

    /// The broker has another address than the one that the connection was made to, where another broker may be by now.
    /// What is in flight is answered or lost, and the next request goes to the new address.
    pub(crate) fn leave_connection(&mut self) {
        self.leaving = !matches!(self.link, Link::Down { .. });
        self.leave_if_answered();
    }

    /// Whether the connection is to be given up now.
    pub(crate) fn is_left(&self) -> bool {
        self.leaving && matches!(self.link, Link::Up { .. }) && self.in_flight.is_empty()
    }

    fn leave_if_answered(&mut self) {
        if self.is_left() {
            self.actions.push_back(Action::Disconnect);
        }
    }

    /// The last request that [`next_request`](Self::next_request) gave is written. True when an answer is to come.
    pub(crate) fn written(&mut self, now: Instant) -> bool {
        self.last_used = now;
        let Some(request) = self.in_flight.back_mut() else { return false };
        request.written = true;
        if self.rules.acks != 0 {
            return true;
        }
        // Nobody will answer: the socket has it, and that is all that was asked for.
        if let Some(request) = self.in_flight.pop_back() {
            self.left(1);
            for entry in request.entries {
                if let Some(batch) = entry.batch {
                    self.returned(entry.id);
                    self.acknowledged(batch, -1, -1, false);
                    self.list(entry.id);
                    self.watch(entry.id);
                }
            }
        }
        false
    }

    /// An answer. An error means that the connection cannot be trusted any further.
    pub(crate) fn answered(&mut self, frame: SharedBytes, now: Instant) -> Result<()> {
        let Some(request) = self.in_flight.front_mut() else {
            return Err(self.placed(Error::misbehaved("an answer came without a request")));
        };
        let (correlation, response) =
            decode_response::<ProduceRequest>(frame, request.version).map_err(|error| error.at_broker(self.broker))?;
        if correlation != request.correlation {
            let text = format!("correlation id {correlation} came where {} was due", request.correlation);
            return Err(Error::misbehaved(text).at_broker(self.broker));
        }
        self.last_used = now;
        let Some(mut request) = self.in_flight.pop_front() else { return Ok(()) };
        self.left(1);
        let round_trip = now.saturating_duration_since(request.sent);
        self.round_trip = Some(round_trip);
        self.common.counters.record_latency(round_trip);
        self.throttle(&response, now);
        let mut hints = LeaderHints::default();
        let result = self.distribute(&mut request, response, &mut hints, now);
        if !hints.leaders.is_empty() {
            self.actions.push_back(Action::Hint(hints));
        }
        // What the answer does not name stays unanswered; the connection goes, and the batches are sent again.
        let mut unnamed = None;
        for entry in request.entries.drain(..) {
            if let Some(batch) = entry.batch {
                let text = format!("the answer does not name partition {}-{}", entry.topic, entry.index);
                let error = self.placed(Error::misbehaved(text));
                self.unanswered(entry.id, batch, &error, Written::Maybe, now);
                unnamed = Some(error);
            }
        }
        self.spare_entries = request.entries;
        self.news.tell();
        match unnamed {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// Times that have come.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(&(then, id)) = self.timers.first() {
            if then > now {
                break;
            }
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.timer = None;
                let expired = queue.take_expired(now);
                if !expired.is_empty() {
                    self.fail_expired(id, expired, now);
                }
            }
            self.expire_in_flight(id, now);
            self.attend_to(id);
        }
        if self.muted_until.is_some_and(|until| until <= now) {
            self.muted_until = None;
        }
        if self.is_unused() && self.idle_deadline() <= now {
            self.actions.push_back(Action::Disconnect);
        }
    }

    fn fail_expired(&mut self, id: PartitionId, expired: VecDeque<Box<Batch>>, now: Instant) {
        let why = self.obstacle(now).or_else(|| self.common.identity.obstacle());
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.fail_expired(expired, why.as_ref());
            self.common.counters.count(&mut queue.failed);
            if queue.in_flight == 0 && !queue.has_sealed() {
                queue.is_rid_of(&self.common.troubles);
            }
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
                self.queues.insert(queue.id(), *queue);
            }
        }
        let maybe = error.clone().with_written(Written::Maybe);
        for request in self.leave_all() {
            let silence = self.placed(unanswered_for(&request, now));
            for entry in request.entries {
                if let (Some(mut batch), Some(queue)) = (entry.batch, self.queues.get(&entry.id)) {
                    let new = !batch.is_finished();
                    let cause = batch.end(queue.partition.name(), &maybe, queue.setback.as_ref().or(Some(&silence)));
                    if new {
                        add(&self.common.counters.records_failed, u64::from(batch.count()));
                        count(queue.partition.name(), u64::from(batch.count()), cause);
                    }
                }
            }
        }
        for queue in self.queues.values_mut() {
            let (failed, cause) = queue.end(error, why.as_ref());
            add(&self.common.counters.records_failed, failed);
            count(queue.partition.name(), failed, cause);
        }
    }

    // ---- what to do next --------------------------------------------------------------------------------------

    /// The actions that have come up.
    pub(crate) fn take_actions(&mut self) -> VecDeque<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Builds the next request, if one can be sent now. Its bytes are [`parts`](Self::parts).
    pub(crate) fn next_request(&mut self, now: Instant) -> bool {
        let built = !self.ready.is_empty() && self.build(now);
        self.look_at_fresh();
        built
    }

    fn build(&mut self, now: Instant) -> bool {
        if self.common.identity.is_refusing() && self.refuse_listed(now) {
            return false;
        }
        let version = match self.link {
            Link::Up { .. } if self.leaving => {
                self.leave_if_answered();
                return false;
            }
            Link::Up { version } if self.muted_until.is_none_or(|until| until <= now) => version,
            Link::Up { .. } | Link::Connecting { .. } => return false,
            Link::Down { .. } => {
                self.connect_if_needed(now);
                return false;
            }
        };
        if self.in_flight.len() >= self.rules.max_in_flight {
            return false;
        }
        let version = version.min(self.common.identity.produce_limit());
        let hold = self.hold(now);
        if hold == Hold::All {
            return false;
        }
        let mut built = false;
        // A partition whose batch could not be encoded is listed again, for what comes behind it.
        while !built && !self.ready.is_empty() {
            let entries = self.gather(version, hold, now);
            if entries.is_empty() {
                self.spare_entries = entries;
            } else {
                built = self.encode(entries, version, now);
            }
        }
        self.ready.extend(self.held.drain(..));
        built
    }

    /// What waits for the answers that are due.
    fn hold(&self, now: Instant) -> Hold {
        match self.hold_end() {
            Some(end) if now < end => {
                if self.in_flight.len() > 1 {
                    Hold::All
                } else {
                    Hold::Partial
                }
            }
            _ => Hold::Nothing,
        }
    }

    /// Until when at the latest something waits for the answers that are due.
    pub(crate) fn hold_end(&self) -> Option<Instant> {
        let quick = self.round_trip.is_some_and(|time| time < self.rules.quick);
        let first = self.in_flight.front().filter(|_| quick)?;
        Some(first.sent + self.rules.quick * PATIENCE)
    }

    /// The pieces of the request that was built last, in their order: frame, batch, frame, batch, ..., frame.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let entries = self.in_flight.back().map(|request| request.entries.as_slice()).unwrap_or_default();
        let batches = entries.iter().filter_map(|entry| entry.batch.as_ref()).map(|batch| Some(batch.bytes()));
        let batches = batches.chain(std::iter::once(None));
        self.frame.segments().zip(batches).flat_map(|(segment, batch)| std::iter::once(segment).chain(batch))
    }

    /// How many bytes they are.
    pub(crate) fn request_len(&self) -> usize {
        self.frame.total_len()
    }

    /// The correlation id and deadline of the request that was built last.
    pub(crate) fn ticket(&self) -> Option<(i32, Instant)> {
        self.in_flight.back().map(|request| (request.correlation, request.deadline))
    }

    /// By when the next answer is due, if the request is written and one will come.
    pub(crate) fn answer_due(&self) -> Option<Instant> {
        self.in_flight.front().filter(|request| request.written).map(|request| request.deadline)
    }

    /// Whether a request could be sent at once, and is not one of several.
    pub(crate) fn is_ready_for_one(&self) -> bool {
        matches!(self.link, Link::Up { .. })
            && !self.leaving
            && self.in_flight.is_empty()
            && self.muted_until.is_none()
            && self.actions.is_empty()
    }

    /// Whether there is something that a driver leaves to the sender: actions, and the rest of what could be sent.
    pub(crate) fn needs_its_sender(&self, now: Instant) -> bool {
        let sendable = !self.ready.is_empty()
            && matches!(self.link, Link::Up { .. })
            && !self.leaving
            && self.muted_until.is_none()
            && self.in_flight.len() < self.rules.max_in_flight
            && self.hold(now) == Hold::Nothing;
        sendable || !self.actions.is_empty() || self.is_deserted()
    }

    /// The broker.
    pub(crate) fn broker(&self) -> BrokerId {
        self.broker
    }

    /// Nothing can be sent for a while, because the socket takes nothing: partitions that another broker leads go there.
    pub(crate) fn stalled(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            match queue.leader {
                Some(leader) if leader != self.broker && queue.in_flight == 0 => {
                    queue.listed = false;
                    self.hand_over(id, leader);
                }
                _ => self.ready.push_back(id),
            }
        }
    }

    /// How many requests may be in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.rules.max_in_flight
    }

    /// When to call [`tick`](Self::tick) although nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // When it is over, only an answer can change anything.
        let hold = self.hold_end().filter(|end| !self.ready.is_empty() && *end > now);
        [self.deadline_of_answered(), hold].into_iter().flatten().min()
    }

    /// [`deadline`](Self::deadline) without what only waits for an answer.
    pub(crate) fn deadline_of_answered(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(then, _)| *then);
        let link = match self.link {
            Link::Down { not_before, .. } if !self.ready.is_empty() => not_before,
            Link::Up { .. } if self.is_unused() => Some(self.idle_deadline()),
            _ => None,
        };
        let mute = if self.ready.is_empty() { None } else { self.muted_until };
        [timer, link, mute].into_iter().flatten().min()
    }

    /// Which batches should wake the driver. None while no request could be built anyway.
    pub(crate) fn wakeful(&self, now: Instant) -> Wakeful {
        if !matches!(self.link, Link::Up { .. }) {
            Wakeful::Due
        } else if self.in_flight.len() >= self.rules.max_in_flight {
            Wakeful::Never
        } else {
            match self.hold(now) {
                Hold::All => Wakeful::Held,
                Hold::Partial => Wakeful::Full,
                Hold::Nothing => Wakeful::Due,
            }
        }
    }

    /// Whether there are batches that cannot be handed over now.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many requests have no answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether brokers answer what is sent to them.
    pub(crate) fn is_answered(&self) -> bool {
        self.rules.acks != 0
    }

    pub(crate) fn last_used(&self) -> Instant {
        self.last_used
    }

    /// Whether it has no partition any more.
    pub(crate) fn is_deserted(&self) -> bool {
        self.queues.is_empty() && self.in_flight.is_empty()
    }

    // ---- building requests ------------------------------------------------------------------------------------

    /// Partitions that were told of, and have not been looked at, because nothing can be built: their batches' deadlines
    /// count from now. Those that have nothing come to rest, or their next record would not be noticed.
    fn look_at_fresh(&mut self) {
        for place in 0..self.fresh.len() {
            let Some(&id) = self.fresh.get(place) else { break };
            if let Some(queue) = self.queues.get(&id).filter(|queue| queue.listed) {
                queue.partition.rest();
                self.watch(id);
            }
        }
        self.fresh.clear();
    }

    /// Asks for a connection if a partition that this broker leads has something to send. Partitions that have
    /// nothing leave the list, those that another broker leads go there.
    fn connect_if_needed(&mut self, now: Instant) {
        let Link::Down { failures, not_before } = self.link else { return };
        if not_before.is_some_and(|then| then > now) {
            if let Some(error) = self.link_error.clone().filter(Error::is_final) {
                self.fail_listed(&error, now);
            }
            return;
        }
        let (mut needed, mut leaderless) = (false, false);
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.listed = false;
            match queue.leader {
                Some(leader) if leader != self.broker => {
                    if !self.move_if_led_elsewhere(id) {
                        self.watch(id);
                    }
                    continue;
                }
                leader => {
                    if !queue.is_idle() {
                        if leader.is_some() {
                            if let Some(error) = &self.link_error {
                                queue.meets(error, &self.common.troubles);
                            }
                            needed = true;
                            self.list(id);
                            continue;
                        }
                        // Looked at again when the cluster has changed.
                        if let Some(obstacle) = queue.obstacle.clone() {
                            queue.meets(&obstacle, &self.common.troubles);
                        }
                        leaderless = true;
                    }
                    self.watch(id);
                }
            }
        }
        if needed {
            self.link = Link::Connecting { failures };
            self.actions.push_back(Action::Connect);
        }
        if leaderless {
            self.actions.push_back(Action::RefreshMetadata);
        }
    }

    /// Fails what the listed partitions have that this broker leads: nothing can be sent to it until it has changed.
    fn fail_listed(&mut self, error: &Error, now: Instant) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            if queue.leader == Some(self.broker) {
                queue.listed = false;
                self.fail_queue(id, error, now);
            } else {
                self.ready.push_back(id);
            }
        }
    }

    /// Fails what the listed partitions have and is not in flight, if its transaction is over.
    fn refuse_listed(&mut self, now: Instant) -> bool {
        let (ready, queues) = (&mut self.ready, &mut self.queues);
        // With the first that fails the transaction may end, and the next one begin: what that has must stay. So all is
        // taken while the gate is held, and nothing fails before.
        let refused = self.common.identity.while_refusing(|| {
            let mut taken = Vec::with_capacity(ready.len());
            for id in ready.drain(..) {
                let Some(queue) = queues.get_mut(&id) else { continue };
                queue.listed = false;
                taken.push((id, queue.take_all()));
            }
            taken
        });
        let Some((error, taken)) = refused else { return false };
        for (id, batches) in taken {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            let failed = queue.fail_taken(batches, &error);
            add(&self.common.counters.records_failed, failed);
            // Later records must be told of.
            let again = (!queue.comes_to_rest()).then_some(now);
            self.watch_until(id, again);
        }
        true
    }

    /// Takes one batch of every partition that is ready, as far as the request has room.
    fn gather(&mut self, version: i16, hold: Hold, now: Instant) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.spare_entries);
        let mut size = 0_usize;
        let hurry = self.common.budget.is_exhausted();
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.listed = false;
            let readiness = queue.readiness(now, self.broker, self.rules.overlap(), hurry, &self.common.identity);
            self.common.counters.count(&mut queue.failed);
            match readiness {
                Readiness::Ready if hold == Hold::Partial && !hurry && !queue.has_sealed() => {
                    queue.listed = true;
                    self.held.push(id);
                }
                Readiness::Ready => {
                    if !entries.is_empty() && size.saturating_add(queue.head_len()) > self.rules.max_request_size {
                        self.ready.push_front(id);
                        queue.listed = true;
                        break;
                    }
                    if let Some(entry) = self.take(id, version) {
                        size = size.saturating_add(entry.batch.as_ref().map_or(0, |batch| batch.len()));
                        entries.push(entry);
                    }
                    if size >= self.rules.max_request_size {
                        break;
                    }
                }
                Readiness::At(then) => self.watch_until(id, Some(then)),
                Readiness::Blocked | Readiness::Empty => self.watch(id),
                Readiness::Leaderless => {
                    if let Some(obstacle) = queue.obstacle.clone() {
                        queue.meets(&obstacle, &self.common.troubles);
                    }
                    self.actions.push_back(Action::RefreshMetadata);
                    self.watch(id);
                }
                Readiness::Move(leader) => self.hand_over(id, leader),
                Readiness::Purged => self.purge_waiting(id),
                Readiness::Refused(error) => self.fail_queue(id, &error, now),
            }
        }
        entries
    }

    /// Takes, compresses and numbers the next batch of a partition.
    fn take(&mut self, id: PartitionId, version: i16) -> Option<Entry> {
        let queue = self.queues.get_mut(&id)?;
        let mut batch = queue.take()?;
        let sealed = if matches!(self.rules.compression, Compression::Zstd(_)) && version < PRODUCE_WITH_ZSTD {
            let text =
                "the broker does not know zstd, which came with Kafka 2.1 (Produce version 7); see `compression`";
            Err(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text))
        } else {
            batch.seal(&mut self.compressor)
        };
        if let Err(error) = sealed {
            add(&self.common.counters.records_failed, u64::from(batch.count()));
            let error = error.at_broker(self.broker).in_context(|context| context.address.clone_from(&self.address));
            batch.fail(queue.partition.name(), error);
            queue.give_up(&batch);
            self.list(id);
            self.watch(id);
            return None;
        }
        // It was built before the partition knew its limit: rather than have it refused, it is split before it is sent.
        let limit = queue.partition.limit();
        if batch.is_over(limit) {
            self.split(id, batch, limit);
            self.list(id);
            self.watch(id);
            return None;
        }
        queue.sent_again |= batch.stamp.is_some();
        queue.number(&mut batch);
        batch.write_stamp(self.rules.transactional_id.is_some());
        batch.attempts += 1;
        batch.not_before = None;
        batch.leader_epoch = queue.leader_epoch;
        queue.in_flight += 1;
        let deadline = batch.deadline();
        queue.in_flight_deadline = Some(queue.in_flight_deadline.map_or(deadline, |other| other.min(deadline)));
        add(&self.common.counters.batches_sent, 1);
        if batch.attempts > 1 {
            add(&self.common.counters.batches_retried, 1);
        }
        let name = queue.partition.name();
        let entry = Entry {
            id,
            topic: Arc::clone(&name.topic),
            topic_id: queue.topic_id,
            index: name.partition,
            batch: Some(batch),
        };
        // Looked at again, for what comes behind it.
        self.list(id);
        self.watch(id);
        Some(entry)
    }

    fn encode(&mut self, mut entries: Vec<Entry>, version: i16, now: Instant) -> bool {
        let by_id = entries.iter().all(|entry| !entry.topic_id.is_zero());
        let version = if by_id { version } else { version.min(PRODUCE_BY_TOPIC_ID - 1) };
        if entries.first().is_some_and(|first| entries.iter().any(|entry| entry.topic != first.topic)) {
            entries.sort_by(|a, b| a.topic.cmp(&b.topic));
        }
        let mut topic_data = std::mem::take(&mut self.spare_topics);
        let mut spare = topic_data.pop().map(|topic| topic.partition_data).unwrap_or_default();
        topic_data.clear();
        spare.clear();
        let mut current: Option<&Arc<str>> = None;
        for entry in &entries {
            let data = PartitionProduceData {
                index: entry.index,
                records: Records::Spliced(entry.batch.as_ref().map_or(0, |batch| batch.len())),
            };
            if let Some(topic) = topic_data.last_mut().filter(|_| current == Some(&entry.topic)) {
                topic.partition_data.push(data);
            } else {
                let by_name = version < PRODUCE_BY_TOPIC_ID;
                let mut partition_data = std::mem::take(&mut spare);
                partition_data.push(data);
                topic_data.push(TopicProduceData {
                    name: if by_name { entry.topic.to_string() } else { String::new() },
                    topic_id: entry.topic_id,
                    partition_data,
                });
                current = Some(&entry.topic);
            }
        }
        let request = ProduceRequest {
            transactional_id: self.rules.transactional_id.as_deref().map(str::to_owned),
            acks: self.rules.acks,
            // 0 would not be a short time but none at all.
            timeout_ms: wire_ms(broker_timeout(self.rules.request_timeout)).max(1),
            topic_data,
        };
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.checked_add(1).unwrap_or(0);
        let client_id = self.rules.client_id.as_deref();
        let encoded = encode_request(&mut self.frame, &request, version, correlation, client_id);
        self.spare_topics = request.topic_data;
        let deadline = crate::time::deadline(now, self.rules.request_timeout);
        if let Err(error) = encoded {
            // Only a fault of this crate, or lengths that no setting allows: fail the batches rather than turn in
            // circles with them.
            for entry in entries {
                if let Some(mut batch) = entry.batch {
                    self.returned(entry.id);
                    if let Some(queue) = self.queues.get_mut(&entry.id) {
                        add(&self.common.counters.records_failed, u64::from(batch.count()));
                        batch.fail(queue.partition.name(), error.clone());
                        queue.give_up(&batch);
                    }
                    self.list(entry.id);
                }
            }
            return false;
        }
        trace!("broker {}: request {correlation} with {} batches", self.broker, entries.len());
        add(&self.common.counters.requests_sent, 1);
        add(&self.common.counters.request_bytes, self.frame.total_len() as u64);
        self.enter(InFlight { correlation, version, sent: now, deadline, written: false, entries });
        true
    }

    // ---- answers ----------------------------------------------------------------------------------------------

    fn throttle(&mut self, response: &ProduceResponse, now: Instant) {
        let Ok(ms) = u64::try_from(response.throttle_time_ms) else { return };
        if ms > 0 {
            let pause = Duration::from_millis(ms).min(MAX_THROTTLE);
            debug!("broker {}: throttled for {pause:?}", self.broker);
            add(&self.common.counters.throttled_ms, ms);
            self.muted_until = Some(now + pause);
        }
    }

    fn distribute(
        &mut self,
        request: &mut InFlight,
        response: ProduceResponse,
        hints: &mut LeaderHints,
        now: Instant,
    ) -> Result<()> {
        let by_id = request.version >= PRODUCE_BY_TOPIC_ID;
        hints.addresses.extend(response.node_endpoints.into_iter().filter_map(|endpoint| {
            let port = u16::try_from(endpoint.port).ok().filter(|port| *port != 0)?;
            Some((BrokerId(endpoint.node_id), HostPort::new(endpoint.host, port)))
        }));
        // The next place is tried before all others, but brokers gather what they answer in hash maps. With thousands of
        // partitions a search through all of them for each would take long.
        let mut place = 0_usize;
        let mut sorted: Option<Vec<usize>> = None;
        for topic in response.responses {
            for answer in topic.partition_responses {
                let is_it = |entry: &Entry| {
                    let same = if by_id { entry.topic_id == topic.topic_id } else { *entry.topic == *topic.name };
                    same && entry.index == answer.index && entry.batch.is_some()
                };
                if !request.entries.get(place).is_some_and(is_it) {
                    let sorted = sorted.get_or_insert_with(|| sorted_places(&request.entries, by_id));
                    let wanted = if by_id {
                        (topic.topic_id, "", answer.index)
                    } else {
                        (Uuid::default(), &*topic.name, answer.index)
                    };
                    let found = sorted
                        .binary_search_by(|place| {
                            request.entries.get(*place).map(|entry| entry.key(by_id)).cmp(&Some(wanted))
                        })
                        .ok()
                        .and_then(|at| sorted.get(at).copied())
                        .filter(|found| request.entries.get(*found).is_some_and(is_it));
                    let Some(found) = found else {
                        let text =
                            format!("the answer names partition {}-{}, which was not asked", topic.name, answer.index);
                        return Err(self.placed(Error::misbehaved(text)));
                    };
                    place = found;
                }
                let Some(entry) = request.entries.get_mut(place) else { continue };
                place += 1;
                let Some(batch) = entry.batch.take() else { continue };
                let leader = &answer.current_leader;
                // What was said of a topic that has been made anew meanwhile has nothing to do with the new one.
                let is_of_this_topic = self.queues.get(&entry.id).is_some_and(|queue| queue.topic_id == entry.topic_id);
                if is_of_this_topic && leader.leader_id >= 0 && leader.leader_epoch >= 0 {
                    hints.leaders.push(LeaderHint {
                        topic: Arc::clone(&entry.topic),
                        partition: entry.index,
                        leader: BrokerId(leader.leader_id),
                        epoch: leader.leader_epoch,
                    });
                }
                self.conclude(entry.id, batch, &answer, now);
            }
        }
        Ok(())
    }

    /// Does what the answer means for a batch.
    fn conclude(&mut self, id: PartitionId, mut batch: Box<Batch>, answer: &PartitionProduceResponse, now: Instant) {
        self.returned(id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let code = ErrorCode(answer.error_code);
        let facts = Facts {
            code,
            idempotent: self.rules.idempotent,
            transactional: self.rules.transactional_id.is_some(),
            count: batch.count(),
            is_due: batch.stamp.is_some_and(|stamp| queue.sequences.is_due(stamp)),
            attempts: batch.attempts,
            retries: self.rules.retries,
        };
        let verdict = verdict(facts);
        if verdict == Verdict::Acknowledge {
            self.news.acknowledge(queue, &self.common.troubles, now);
            if let Some(stamp) = batch.stamp {
                queue.sequences.acknowledge(stamp, batch.count());
            }
            let base_offset = if code.is_none() { answer.base_offset } else { -1 };
            if !code.is_none() || base_offset < 0 {
                add(&self.common.counters.duplicates_recognised, 1);
            }
            // A broker that recognises a batch answers with the batch's own timestamp in the place of the append time,
            // whatever the topic's timestamp type is.
            let recognised = batch.attempts > 1 && answer.log_append_time_ms == batch.max_timestamp();
            let log_append_time = if recognised { -1 } else { answer.log_append_time_ms };
            self.acknowledged(batch, base_offset, log_append_time, true);
        } else {
            add(&self.common.counters.error_answers, 1);
            let name = queue.partition.name().clone();
            let own = answer.error_message.as_deref().filter(|text| !text.is_empty());
            let said = own.unwrap_or(code.meaning());
            let advised = match code {
                ErrorCode::MESSAGE_TOO_LARGE => {
                    let limits = "the topic's max.message.bytes, or the broker's message.max.bytes";
                    Some(format!("{} bytes are over {limits}: {said}", batch.len()))
                }
                _ => advice(code, self.rules.idempotent).map(|advice| format!("{said}; {advice}")),
            };
            let error = self.placed(Error::broker(code, advised.as_deref().or(own))).at_partition(&name);
            batch.maybe_written |= error.written() == Written::Maybe;
            debug!("{error}: {verdict:?}");
            if code.refreshes_metadata() {
                self.actions.push_back(Action::RefreshMetadata);
            }
            self.carry_out(id, batch, verdict, error, answer, now);
        }
        self.attend_to(id);
    }

    fn carry_out(
        &mut self,
        id: PartitionId,
        mut batch: Box<Batch>,
        verdict: Verdict,
        error: Error,
        answer: &PartitionProduceResponse,
        now: Instant,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if verdict != Verdict::Wait {
            // One that waits for those before it was told nothing of its own.
            batch.last_error = Some(error.clone());
        }
        if batch.is_finished() {
            // It expired while it was in flight: its records have their answer, only its numbers remain.
            queue.give_up(&batch);
            return;
        }
        match verdict {
            Verdict::Acknowledge => {}
            Verdict::Retry => {
                let wait = self.rules.retry_backoff.after(batch.attempts, &mut self.random);
                batch.not_before = Some(now + wait);
                self.news.set_back(queue, &error, &self.common.troubles, now);
                queue.put_back(batch);
            }
            Verdict::Wait => {
                if let Some(stamp) = batch.stamp {
                    queue.sequences.refuse(stamp);
                }
                queue.put_back(batch);
            }
            Verdict::NewEpoch => {
                info!("{error:#}: the partition goes on under a new epoch");
                if let Some(stamp) = batch.stamp {
                    queue.sequences.forget(stamp);
                }
                // A broker that refuses every epoch must not be asked in a circle.
                let wait = self.rules.retry_backoff.after(batch.attempts, &mut self.random);
                batch.not_before = Some(now + wait);
                self.news.set_back(queue, &error, &self.common.troubles, now);
                queue.put_back(batch);
            }
            Verdict::Split => {
                let (known, refused) = (queue.partition.limit(), batch.uncompressed_len());
                let limit = queue.partition.learn_limit(refused, now);
                if limit < known {
                    info!("{error:#}: from now on the partition's batches have at most {limit} bytes, uncompressed");
                }
                self.split(id, batch, limit);
            }
            Verdict::Fail | Verdict::FailProducer => {
                add(&self.common.counters.records_failed, u64::from(batch.count()));
                if verdict == Verdict::FailProducer {
                    self.common.identity.refuse(error.clone());
                }
                let (error, records) = record_errors(error, answer, batch.count());
                batch.fail_with_records(queue.partition.name(), error, records);
                queue.give_up(&batch);
            }
        }
    }

    /// Goes on with parts of the batch that are not larger than `limit`.
    fn split(&mut self, id: PartitionId, batch: Box<Batch>, limit: usize) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        add(&self.common.counters.batches_split, 1);
        match batch.split(queue.partition.name(), &self.common.budget, limit) {
            Ok(parts) => queue.put_back_parts(parts),
            Err((mut batch, error)) => {
                add(&self.common.counters.records_failed, u64::from(batch.count()));
                batch.fail(queue.partition.name(), error);
                queue.give_up(&batch);
            }
        }
    }

    /// A batch came back without an answer.
    fn unanswered(&mut self, id: PartitionId, mut batch: Box<Batch>, error: &Error, written: Written, now: Instant) {
        self.returned(id);
        let Some(queue) = self.queues.get_mut(&id) else { return };
        batch.maybe_written |= written == Written::Maybe;
        let error = error.clone().with_written(written);
        batch.last_error = Some(error.clone());
        if batch.is_finished() {
            queue.give_up(&batch);
        } else if batch.attempts > self.rules.retries {
            add(&self.common.counters.records_failed, u64::from(batch.count()));
            batch.fail(queue.partition.name(), error);
            queue.give_up(&batch);
        } else {
            let wait = self.rules.retry_backoff.after(batch.attempts, &mut self.random);
            batch.not_before = Some(now + wait);
            self.news.set_back(queue, &error, &self.common.troubles, now);
            queue.put_back(batch);
        }
        self.attend_to(id);
    }

    fn acknowledged(&mut self, mut batch: Box<Batch>, base_offset: i64, log_append_time: i64, acknowledged: bool) {
        let counters = &self.common.counters;
        if !batch.is_finished() {
            add(&counters.records_acknowledged, u64::from(batch.count()));
            add(&counters.bytes_acknowledged, batch.len() as u64);
            add(&counters.uncompressed_bytes, batch.uncompressed_len() as u64);
        }
        // Whoever is woken finds the memory free.
        batch.release(&self.common.budget);
        batch.finish(Outcome::Acknowledged { base_offset, log_append_time, acknowledged });
    }

    /// A batch of the partition is no longer in flight.
    fn returned(&mut self, id: PartitionId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            if queue.in_flight == 0 {
                queue.sent_again = false;
                queue.in_flight_deadline = None;
            }
        }
    }

    fn expire_in_flight(&mut self, id: PartitionId, now: Instant) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.in_flight_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for request in &mut self.in_flight {
            let silence = |request: &InFlight| {
                let error = unanswered_for(request, now).at_broker(self.broker);
                error.in_context(|context| context.address.clone_from(&self.address))
            };
            let due = |batch: &Batch| !batch.is_finished() && batch.deadline() <= now;
            let is_due = |entry: &Entry| entry.id == id && entry.batch.as_deref().is_some_and(due);
            let silence = request.entries.iter().any(is_due).then(|| silence(request));
            for entry in request.entries.iter_mut().filter(|entry| entry.id == id) {
                let Some(batch) = entry.batch.as_mut().filter(|batch| !batch.is_finished()) else { continue };
                if batch.deadline() <= now {
                    add(&self.common.counters.records_failed, u64::from(batch.count()));
                    add(&self.common.counters.batches_expired, 1);
                    batch.maybe_written = true;
                    batch.expire(queue.partition.name(), true, silence.as_ref());
                } else {
                    next = Some(next.map_or(batch.deadline(), |other| other.min(batch.deadline())));
                }
            }
        }
        queue.in_flight_deadline = next;
    }

    // ---- lists and timers -------------------------------------------------------------------------------------

    /// Has the partition looked at when the next request is built. False if that was so before, or it is not here.
    fn list(&mut self, id: PartitionId) -> bool {
        let newly = self.queues.get_mut(&id).is_some_and(|queue| !std::mem::replace(&mut queue.listed, true));
        if newly {
            self.ready.push_back(id);
            self.fresh.push(id);
        }
        newly
    }

    /// Has the partition looked at when its earliest batch expires.
    fn watch(&mut self, id: PartitionId) {
        self.watch_until(id, None);
    }

    /// Has the partition looked at then, or when its earliest batch expires.
    fn watch_until(&mut self, id: PartitionId, then: Option<Instant>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let wanted = [then, queue.earliest_deadline()].into_iter().flatten().min();
        if queue.timer != wanted {
            if let Some(old) = queue.timer.take() {
                self.timers.remove(&(old, id));
            }
            if let Some(wanted) = wanted {
                self.timers.insert((wanted, id));
            }
            queue.timer = wanted;
        }
    }

    /// Has the partition looked at when the next request is built, and when its earliest batch expires; one that
    /// another broker leads goes there.
    fn attend_to(&mut self, id: PartitionId) {
        if !self.move_if_led_elsewhere(id) {
            self.list(id);
            self.watch(id);
        }
    }

    /// Hands the queue over if another broker leads the partition and nothing of it is in flight. It does not wait until
    /// this link can send again: a throttle may last an hour, and the new leader does not ask for it. True if it goes.
    fn move_if_led_elsewhere(&mut self, id: PartitionId) -> bool {
        let idle = self.queues.get(&id).filter(|queue| queue.in_flight == 0);
        let Some(leader) = idle.and_then(|queue| queue.leader).filter(|leader| *leader != self.broker) else {
            return false;
        };
        self.hand_over(id, leader);
        true
    }

    fn hand_over(&mut self, id: PartitionId, leader: BrokerId) {
        if let Some(queue) = self.queues.remove(&id) {
            if queue.listed {
                // What stands there says that this broker does not take what there is for it.
                self.ready.retain(|listed| *listed != id);
            }
            if let Some(timer) = queue.timer {
                self.timers.remove(&(timer, id));
            }
            self.has_strangers |= queue.listed;
            debug!("{}: moves from broker {} to broker {leader}", queue.partition.name(), self.broker);
            self.actions.push_back(Action::Move(Box::new(queue), leader));
        }
    }

    fn enter(&mut self, request: InFlight) {
        add(&self.common.counters.requests_in_flight, 1);
        self.in_flight.push_back(request);
    }

    fn left(&self, requests: usize) {
        self.common.counters.requests_in_flight.fetch_sub(requests as u64, Ordering::Relaxed);
    }

    fn leave_all(&mut self) -> VecDeque<InFlight> {
        self.left(self.in_flight.len());
        std::mem::take(&mut self.in_flight)
    }

    /// Whether there is a connection, and nothing to be done on it.
    pub(crate) fn is_unused(&self) -> bool {
        matches!(self.link, Link::Up { .. }) && self.in_flight.is_empty() && self.ready.is_empty()
    }

    fn idle_deadline(&self) -> Instant {
        crate::time::deadline(self.last_used, self.rules.connections_max_idle)
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

/// How long a broker may wait for its replicas: a little less than the client waits for the broker, so that its answer,
/// which says more than silence, comes in time.
fn broker_timeout(request_timeout: Duration) -> Duration {
    request_timeout - (request_timeout / 10).min(Duration::from_millis(500))
}

/// The errors of single records (KIP-467): the broker names those at fault, the others failed beside them.
fn record_errors(error: Error, answer: &PartitionProduceResponse, count: u32) -> (Error, Vec<(u32, Error)>) {
    let named: Vec<(u32, Error)> = answer
        .record_errors
        .iter()
        .filter_map(|fault| {
            let index = u32::try_from(fault.batch_index).ok().filter(|index| *index < count)?;
            let text = fault.batch_index_error_message.as_deref().or(answer.error_message.as_deref());
            let code = ErrorCode(answer.error_code);
            let own = Error::broker(code, text).in_context(|context| *context = error.context().clone());
            Some((index, own))
        })
        .collect();
    if named.is_empty() {
        return (error, named);
    }
    let text =
        "the broker refused another record of the same batch; nothing is wrong with this one, which can be sent again";
    let beside = Error::new(error.kind(), Recovery::Retry, text)
        .in_context(|context| *context = error.context().clone())
        .with_source(error);
    (beside, named)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;

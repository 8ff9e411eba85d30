//! What the tests of the turn use: the application's side of a producer, and the broker's side of the connection.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Weak;

use crossbeam_channel::Receiver;

use super::*;
use crate::bytes::SharedBytes;
use crate::producer::api::delivery::Delivery;
use crate::producer::buffer::accumulator::{Accumulator, NotAppended};
use crate::producer::buffer::budget::Budget;
use crate::producer::buffer::callbacks::Callbacks;
use crate::producer::buffer::draft::RecordParts;
use crate::producer::buffer::partition::{OpenState, Placed, Placement, QueueOwner};
use crate::producer::buffer::sticky::FixedPartition;
use crate::producer::buffer::wait_limit::WaitLimit;
use crate::producer::record_metadata::Callback;
use crate::producer::send::identity::Identity;
use crate::producer::send::inbox::{Inbox, InboxReceiver};
use crate::producer::send::wiring::BrokerOwner;
use crate::protocol::header::{decode_request, decode_request_header, encode_response};
use crate::protocol::messages::MetadataResponse;
use crate::protocol::messages::ProduceRequest;
use crate::protocol::messages::ProduceResponse;
use crate::protocol::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use crate::protocol::messages::produce::PartitionProduceResponse;
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, TopicProduceResponse,
};
use crate::protocol::wire::Records;
use crate::record::Headers;
use crate::record::batch::parts_size;
use crate::record::broker::decode_produced;
use crate::record::compression::Decompressor;
use crate::topic::ProducerIdAndEpoch;

/// Everything that a test can set.
pub(super) struct Setup {
    pub(super) rules: Rules,
    pub(super) batch_size: usize,
    pub(super) batch_records: u32,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) buffer_memory: usize,
    pub(super) identity: Option<ProducerIdAndEpoch>,
    pub(super) version: i16,
    pub(super) topics: Vec<(&'static str, usize)>,
}

pub(super) const FIRST: ProducerIdAndEpoch = ProducerIdAndEpoch { producer_id: 7, epoch: 0 };

impl Setup {
    /// Idempotent, one record a batch, no linger; one topic `t` with three partitions.
    pub(super) fn new() -> Self {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        Self {
            rules: Rules {
                transactional_id: None,
                acks: -1,
                idempotent: true,
                retries: u32::MAX,
                retry_backoff: backoff,
                reconnect_backoff: Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(1) },
                max_in_flight: 5,
                max_request_size: 1 << 20,
                request_timeout: Duration::from_secs(30),
                connections_max_idle: Duration::from_secs(540),
                quick: Duration::ZERO,
                compression: Compression::None,
                client_id: Some("tests".into()),
            },
            batch_size: 1 << 14,
            batch_records: 1,
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_secs(120),
            buffer_memory: 1 << 25,
            identity: Some(FIRST),
            version: 11,
            topics: vec![("t", 3)],
        }
    }

    /// With acks 0 or 1, or -1, but without idempotence.
    pub(super) fn plain(acks: i16) -> Self {
        let mut setup = Self::new();
        setup.rules.acks = acks;
        setup.rules.idempotent = false;
        setup.identity = None;
        setup
    }
}

/// The application's side.
pub(super) struct Bench {
    pub(super) accumulator: Accumulator,
    pub(super) common: Common,
    owner: OwnerWithoutLink,
    pub(super) inbox_receiver: InboxReceiver,
}

struct OwnerWithoutLink {
    inbox: Arc<Inbox>,
    queues: RefCell<Vec<PartitionQueue>>,
}

/// An owner without a link, so that no other thread drives the turn.
pub(super) fn owner(inbox: &Arc<Inbox>) -> Arc<dyn QueueOwner> {
    Arc::new(BrokerOwner { inbox: Arc::clone(inbox), link: Weak::new() })
}

impl Placement for OwnerWithoutLink {
    fn place(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed {
        self.queues.borrow_mut().push(PartitionQueue::new(Arc::clone(partition), sealed));
        Ok(owner(&self.inbox))
    }

    fn hurry_all(&self) {}
}

impl Bench {
    pub(super) fn new(setup: &Setup, callbacks: &Callbacks) -> Self {
        let budget = Budget::new(setup.buffer_memory, setup.batch_size);
        let identity = Arc::new(Identity::new(setup.rules.idempotent));
        if let Some(first) = setup.identity {
            identity.answered(Ok(first));
        }
        let (inbox, inbox_receiver) = Inbox::new();
        Self {
            accumulator: Accumulator {
                batch_size: setup.batch_size,
                batch_records: setup.batch_records,
                linger: setup.linger,
                delivery_timeout: setup.delivery_timeout,
                budget: Arc::clone(&budget),
                unfinished: Arc::default(),
                callbacks: callbacks.clone(),
                obstacles: Arc::default(),
            },
            common: Common { identity, budget, counters: Arc::default(), obstacles: Arc::default() },
            owner: OwnerWithoutLink { inbox, queues: RefCell::default() },
            inbox_receiver,
        }
    }

    pub(super) fn send(
        &self,
        partition: &Arc<Partition>,
        value: &[u8],
        started: Option<Instant>,
        mut callback: Option<Callback>,
    ) -> Delivery {
        let headers = Headers::new();
        let record = RecordParts {
            timestamp: 1000,
            key: None,
            value: Some(value),
            headers: &headers,
            parts_size: parts_size(None, Some(value), &headers),
            transaction: 0,
        };
        let mut wait_limit = WaitLimit { started, limit: None };
        let append =
            self.accumulator.append(partition, &record, &mut callback, &mut wait_limit, &self.owner, FixedPartition);
        match append {
            Ok((completion, index)) => Delivery::accepted(completion, index, record.timestamp),
            Err(NotAppended::Elsewhere) => panic!("the record was sent elsewhere"),
            Err(NotAppended::Failed(error)) => panic!("the record was not taken: {error}"),
        }
    }

    /// The queues of partitions that have been used for the first time.
    pub(super) fn new_queues(&self) -> Vec<PartitionQueue> {
        self.owner.queues.take()
    }
}

/// A batch as a broker reads it.
#[derive(Clone, Debug)]
pub(super) struct SentBatch {
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) identity: ProducerIdAndEpoch,
    pub(super) sequence: i32,
    pub(super) values: Vec<String>,
    pub(super) bytes: Vec<u8>,
}

/// A request as a broker reads it.
#[derive(Clone, Debug)]
pub(super) struct SentRequest {
    pub(super) correlation: i32,
    pub(super) version: i16,
    pub(super) acks: i16,
    pub(super) batches: Vec<SentBatch>,
}

impl SentRequest {
    pub(super) fn has(&self, index: i32) -> bool {
        self.batches.iter().any(|batch| batch.index == index)
    }
}

/// Reads the request that the turn has built.
pub(super) fn read_request(turn: &Turn) -> SentRequest {
    let frame = turn.parts().collect::<Vec<_>>().concat();
    assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes(), "the frame's length");
    let frame = SharedBytes::from(frame[4..].to_vec());
    let (header, reader) = decode_request_header(&frame).unwrap();
    assert_eq!(header.client_id.as_deref(), Some("tests"));
    let request: ProduceRequest = decode_request(reader, header.version).unwrap();
    let mut batches = Vec::new();
    for topic in &request.topic_data {
        for data in &topic.partition_data {
            let Records::Inline(bytes) = &data.records else { panic!("no batch for {}-{}", topic.name, data.index) };
            let mut decompressor = Decompressor::new(usize::MAX);
            let batch = decode_produced(bytes, &mut decompressor).unwrap();
            let values = batch
                .records()
                .map(|record| String::from_utf8(record.unwrap().value.unwrap_or_default().to_vec()).unwrap());
            batches.push(SentBatch {
                topic: topic.name.clone(),
                topic_id: topic.topic_id,
                index: data.index,
                identity: batch.identity,
                sequence: batch.base_sequence,
                values: values.collect(),
                bytes: bytes.to_vec(),
            });
        }
    }
    assert_eq!(Some(header.correlation_id), turn.built_request().map(|(correlation, _)| correlation));
    SentRequest { correlation: header.correlation_id, version: header.version, acks: request.acks, batches }
}

/// The broker's answer for a batch.
#[derive(Clone, Default)]
pub(super) struct Answer {
    pub(super) code: i16,
    pub(super) offset: i64,
    pub(super) leader: Option<(i32, i32)>,
    pub(super) record_errors: Vec<(i32, &'static str)>,
}

impl Answer {
    pub(super) fn ok(offset: i64) -> Self {
        Self { offset, ..Self::default() }
    }

    pub(super) fn error(code: ErrorCode) -> Self {
        Self { code: code.0, offset: -1, ..Self::default() }
    }
}

/// The response to `request`, without its length: one answer for each of its batches.
pub(super) fn response(request: &SentRequest, answers: &[Answer]) -> ProduceResponse {
    assert_eq!(request.batches.len(), answers.len());
    let mut response = ProduceResponse::default();
    for (batch, answer) in request.batches.iter().zip(answers) {
        let mut partition = PartitionProduceResponse {
            index: batch.index,
            error_code: answer.code,
            base_offset: answer.offset,
            record_errors: answer
                .record_errors
                .iter()
                .map(|(index, text)| BatchIndexAndErrorMessage {
                    batch_index: *index,
                    batch_index_error_message: Some((*text).to_owned()),
                })
                .collect(),
            ..Default::default()
        };
        if let Some((leader_id, leader_epoch)) = answer.leader {
            partition.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            response.node_endpoints.push(NodeEndpoint {
                node_id: leader_id,
                host: "elsewhere".into(),
                port: 9092,
                ..Default::default()
            });
        }
        response.responses.push(TopicProduceResponse {
            name: batch.topic.clone(),
            topic_id: batch.topic_id,
            partition_responses: vec![partition],
        });
    }
    response
}

pub(super) fn frame(response: &ProduceResponse, version: i16, correlation: i32) -> SharedBytes {
    let mut writer = FrameWriter::new();
    encode_response::<ProduceRequest>(&mut writer, response, version, correlation).unwrap();
    SharedBytes::from(writer.bytes()[4..].to_vec())
}

/// A topic's name, its id, and the leader (-1: none) and leader epoch of each of its partitions.
pub(super) type Led<'a> = (&'a str, u8, &'a [(i32, i32)]);

/// A cluster of two brokers.
pub(super) fn snapshot(topics: &[Led<'_>]) -> Snapshot {
    let broker =
        |node_id| MetadataResponseBroker { node_id, host: format!("b{node_id}"), port: 9092, ..Default::default() };
    let topics = topics.iter().map(|(name, id, leaders)| MetadataResponseTopic {
        name: Some((*name).to_owned()),
        topic_id: Uuid([*id; 16]),
        partitions: leaders
            .iter()
            .zip(0..)
            .map(|((leader_id, leader_epoch), partition_index)| MetadataResponsePartition {
                partition_index,
                leader_id: *leader_id,
                leader_epoch: *leader_epoch,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    let answer =
        MetadataResponse { brokers: vec![broker(0), broker(1)], topics: topics.collect(), ..Default::default() };
    Snapshot::default().merge(answer, 1)
}

impl Turn {
    /// Asserts the invariants of the turn and of its queues, which hold between two calls.
    pub(super) fn assert_invariants(&mut self) {
        let no_requests = VecDeque::new();
        let requests = self.up().map_or(&no_requests, |up| &up.in_flight);
        let mut in_flight: HashMap<PartitionId, usize> = HashMap::new();
        for request in requests {
            for in_request in request.batches.iter().filter(|in_request| in_request.batch.is_some()) {
                *in_flight.entry(in_request.id).or_default() += 1;
            }
            let unfinished = request.batches.iter().filter_map(|in_request| in_request.batch.as_ref());
            let earliest = unfinished.filter(|batch| !batch.is_finished()).map(|batch| batch.deadline()).min();
            assert!(earliest.is_none_or(|earliest| request.expires.is_some_and(|noted| noted <= earliest)));
            let up = self.up().unwrap();
            assert!(request.expires.is_none_or(|expires| up.expires.is_some_and(|noted| noted <= expires)));
        }
        let mut timers = BTreeSet::new();
        for (id, Scheduled { queue, timer, listed }) in &mut self.queues {
            queue.assert_invariants(in_flight.remove(id).unwrap_or(0), &self.common.obstacles);
            timers.extend(timer.map(|then| (then, *id)));
            assert_eq!(self.ready.iter().filter(|other| *other == id).count(), usize::from(*listed), "{id:?}");
        }
        assert!(in_flight.is_empty(), "a batch of a partition that is not here is in flight");
        assert_eq!(self.timers, timers);
    }
}

/// One broker's turn with all that it needs, and a clock that the test moves.
pub(super) struct TurnFixture {
    pub(super) turn: Turn,
    pub(super) now: Instant,
    pub(super) bench: Bench,
    pub(super) version: i16,
    pub(super) partitions: Vec<Arc<Partition>>,
    pub(super) snapshot: Snapshot,
    /// Requests without an answer, oldest first.
    pub(super) sent: VecDeque<SentRequest>,
    pub(super) actions: Vec<Action>,
    /// The offset that the broker gives to the next record of each partition.
    offsets: BTreeMap<(String, i32), i64>,
}

impl TurnFixture {
    /// A fixture whose broker 0 leads all partitions and is connected.
    pub(super) fn new(setup: Setup) -> Self {
        let mut fixture = Self::unconnected(setup);
        fixture.connect();
        fixture
    }

    pub(super) fn unconnected(setup: Setup) -> Self {
        let (callbacks, _) = Callbacks::start().unwrap();
        let bench = Bench::new(&setup, &callbacks);
        // The buffer reads the real clock. With no linger the turn's clock is ahead of it, so that batches are due at
        // once.
        let ahead = if setup.linger.is_zero() { Duration::from_secs(3600) } else { Duration::ZERO };
        let now = Instant::now() + ahead;
        let mut turn = Turn::new(BrokerId(0), setup.rules.clone(), bench.common.clone());
        let mut partitions = Vec::new();
        for (topic, count) in &setup.topics {
            for _ in 0..*count {
                let id = u32::try_from(partitions.len()).unwrap();
                let index = partitions.iter().filter(|p: &&Arc<Partition>| *p.name().topic == **topic).count();
                let name = TopicPartition::new(*topic, i32::try_from(index).unwrap());
                partitions.push(Partition::new(PartitionId(id), name));
            }
        }
        let leaders: Vec<Vec<(i32, i32)>> = setup.topics.iter().map(|(_, count)| vec![(0, 0); *count]).collect();
        let leaders: Vec<Led<'_>> = setup
            .topics
            .iter()
            .zip(&leaders)
            .zip(1..)
            .map(|(((name, _), leaders), id)| (*name, id, &**leaders))
            .collect();
        let snapshot = snapshot(&leaders);
        turn.on_metadata(&snapshot);
        Self {
            turn,
            now,
            bench,
            version: setup.version,
            partitions,
            snapshot,
            sent: VecDeque::new(),
            actions: Vec::new(),
            offsets: BTreeMap::new(),
        }
    }

    pub(super) fn connect(&mut self) {
        self.turn.connected(self.version, self.now);
    }

    /// Puts a record into the buffer, and does nothing else.
    pub(super) fn put(&mut self, partition: usize, value: &str) -> Delivery {
        // Once the test has moved the clock, the record's deadline counts from there.
        let started = (self.now > Instant::now()).then_some(self.now);
        let delivery = self.bench.send(&self.partitions[partition], value.as_bytes(), started, None);
        // A batch's linger counts from the buffer's clock at the moment when it is opened.
        if let OpenState::Lingers { due, .. } = self.partitions[partition].peek() {
            self.now = self.now.max(due - self.bench.accumulator.linger);
        }
        for mut queue in self.bench.new_queues() {
            queue.on_metadata(&self.snapshot);
            self.turn.adopt(queue);
        }
        delivery
    }

    /// [`put`](Self::put), then lets the sender run.
    pub(super) fn send(&mut self, partition: usize, value: &str) -> Delivery {
        let delivery = self.put(partition, value);
        self.run();
        delivery
    }

    pub(super) fn notices(&mut self) {
        while let Ok(partition) = self.bench.inbox_receiver.notices().try_recv() {
            self.turn.notice(&partition);
        }
    }

    /// What the sender's loop does between two sleeps.
    pub(super) fn run(&mut self) {
        self.notices();
        self.turn.tick(self.now);
        while self.turn.next_request(self.now) {
            let request = read_request(&self.turn);
            if self.turn.written(self.now) {
                self.sent.push_back(request);
            }
        }
        self.actions.extend(self.turn.take_actions());
        self.turn.assert_invariants();
    }

    /// Moves the clock and runs.
    pub(super) fn after(&mut self, time: Duration) {
        self.now += time;
        self.run();
    }

    /// The batches of all requests without an answer: (partition, sequence, values).
    pub(super) fn on_the_wire(&self) -> Vec<(i32, i32, String)> {
        let batches = self.sent.iter().flat_map(|request| &request.batches);
        batches.map(|batch| (batch.index, batch.sequence, batch.values.join(","))).collect()
    }

    /// Answers the oldest request, each batch with the answer that `judge` returns, and lets the sender run.
    pub(super) fn answer(&mut self, mut judge: impl FnMut(&SentBatch) -> Answer) {
        let request = self.sent.pop_front().expect("no request is unanswered");
        let answers: Vec<Answer> = request.batches.iter().map(&mut judge).collect();
        let frame = frame(&response(&request, &answers), request.version, request.correlation);
        self.turn.answered(frame, self.now).unwrap();
        self.run();
    }

    pub(super) fn answer_error(&mut self, code: ErrorCode) {
        self.answer(|_| Answer::error(code));
    }

    /// Takes the oldest request as a broker does, and answers that all is written.
    pub(super) fn answer_ok(&mut self) {
        let mut offsets = std::mem::take(&mut self.offsets);
        self.answer(|batch| {
            let next = offsets.entry((batch.topic.clone(), batch.index)).or_insert(0);
            let base = *next;
            *next += i64::try_from(batch.values.len()).unwrap();
            Answer::ok(base)
        });
        self.offsets = offsets;
    }

    /// Has the first batch of partition 0 acknowledged, so that more than one may be in flight.
    pub(super) fn warmed(mut self) -> Self {
        for partition in 0..self.partitions.len() {
            let delivery = self.send(partition, "warm");
            if self.sent.is_empty() {
                self.after(Duration::from_secs(1));
            }
            self.answer_ok();
            assert_eq!(delivery.try_wait().unwrap().unwrap().offset(), Some(0));
        }
        self.actions.clear();
        self
    }

    /// [`warmed`](Self::warmed) where batches linger.
    pub(super) fn warmed_late(mut self) -> Self {
        for partition in 0..self.partitions.len() {
            let delivery = self.put(partition, "warm");
            self.partitions[partition].hurry_open();
            self.after(Duration::from_secs(60));
            self.answer_ok();
            assert_eq!(delivery.try_wait().unwrap().unwrap().offset(), Some(0));
        }
        self.actions.clear();
        self
    }

    /// The connection ends.
    pub(super) fn lose(&mut self) {
        self.sent.clear();
        self.turn.lost(Error::network("cut"), self.now);
        self.run();
    }

    /// Waits for the reconnect back-off and connects.
    pub(super) fn reconnect(&mut self) {
        self.after(Duration::from_secs(1));
        assert!(self.take_actions(|action| matches!(action, Action::Connect)) > 0, "no connection was asked for");
        self.connect();
        self.run();
    }

    /// Gives the turn metadata with these leaders and leader epochs of topic `t`.
    pub(super) fn lead(&mut self, leaders: &[(i32, i32)]) {
        self.snapshot = snapshot(&[("t", 1, leaders)]);
        self.turn.on_metadata(&self.snapshot);
        self.run();
    }

    /// Removes the actions for which `is` is true, and counts them.
    pub(super) fn take_actions(&mut self, is_so: impl Fn(&Action) -> bool) -> usize {
        let before = self.actions.len();
        self.actions.retain(|action| !is_so(action));
        before - self.actions.len()
    }

    /// How often the sender wakes by itself until `until`.
    pub(super) fn idle_until(&mut self, until: Instant) -> usize {
        let mut turns = 0;
        while let Some(deadline) = self.turn.deadline(self.now).filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.run();
            turns += 1;
            assert!(turns < 10_000, "the sender turns in circles");
        }
        self.now = self.now.max(until);
        turns
    }
}

/// A record's error.
pub(super) fn failure(delivery: &Delivery) -> Error {
    delivery.try_wait().expect("the record has no result").expect_err("the record did not fail")
}

pub(super) fn offset(delivery: &Delivery) -> i64 {
    delivery
        .try_wait()
        .expect("the record has no result")
        .expect("the record failed")
        .offset()
        .expect("its offset is not known")
}

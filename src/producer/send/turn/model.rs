//! Random schedules of the real turns and queues against a model of Kafka's logs: two partitions, two brokers, and
//! everything that can happen between them. At the end of a schedule all faults are repaired; then no acknowledged
//! record may be lost, no record may be in a log twice or out of order, and a record that was reported as not written
//! may not be there.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU32;

use super::fixture::{Answer, Bench, FIRST, SentBatch, SentRequest, Setup, frame, read_request, response, snapshot};
use super::*;
use crate::producer::api::delivery::Delivery;
use crate::producer::buffer::callbacks::Callbacks;
use crate::topic::ProducerIdAndEpoch;
use std::sync::atomic::Ordering;

const BROKERS: usize = 2;
const PARTITIONS: usize = 2;

/// The faults that a schedule may have besides the usual ones.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    idempotent: bool,
    /// A request on a connection that has ended may still be carried out, at any later time.
    ghosts: bool,
    /// The cluster loses the end of a log, even if acknowledged, and with it the producer's state.
    truncation: bool,
    /// The cluster forgets producers that send nothing. A log that does not know a producer accepts any of its batches
    /// as the first, so that order is not kept then; no client can notice that.
    forgets: bool,
    /// Brokers before 2.5: an unknown producer must begin at 0; a duplicate has no offset.
    old_brokers: bool,
    /// How many epochs are left at the beginning.
    epochs_left: i16,
}

/// A partition's log, and what its leader knows about producers (`ProducerStateEntry`, `ProducerAppendInfo`).
#[derive(Default)]
struct Log {
    records: Vec<u32>,
    appended: Vec<ModelBatch>,
    leader: usize,
    leader_epoch: i32,
}

#[derive(Clone, Copy)]
struct ModelBatch {
    identity: ProducerIdAndEpoch,
    first: i32,
    last: i32,
    offset: usize,
    /// Whether the leader still knows about it.
    known: bool,
}

impl Log {
    fn append(&mut self, broker: usize, batch: &SentBatch, old: bool) -> Answer {
        if self.leader != broker {
            return Answer::error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let count = u32::try_from(batch.values.len()).unwrap();
        let (identity, first) = (batch.identity, batch.sequence);
        let last = crate::producer::buffer::stamp::advance(first, count - 1);
        if identity.is_some() {
            let of_producer = |known: &&ModelBatch| known.known && known.identity.producer_id == identity.producer_id;
            let state: Vec<ModelBatch> = self.appended.iter().filter(of_producer).copied().collect();
            match state.last() {
                None if old && first != 0 => return Answer::error(ErrorCode::UNKNOWN_PRODUCER_ID),
                None => {}
                Some(latest) if identity.epoch < latest.identity.epoch => {
                    return Answer::error(ErrorCode::INVALID_PRODUCER_EPOCH);
                }
                Some(latest) if identity.epoch > latest.identity.epoch && first != 0 => {
                    return Answer::error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
                Some(latest) if identity.epoch > latest.identity.epoch => {}
                Some(latest) => {
                    let mut recent = state.iter().rev().filter(|known| known.identity == identity).take(5);
                    if let Some(same) = recent.find(|known| known.first == first && known.last == last) {
                        return match old {
                            true => Answer::error(ErrorCode::DUPLICATE_SEQUENCE_NUMBER),
                            false => Answer::ok(i64::try_from(same.offset).unwrap()),
                        };
                    }
                    if first != crate::producer::buffer::stamp::advance(latest.last, 1) {
                        return Answer::error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                    }
                }
            }
        }
        let offset = self.records.len();
        self.appended.push(ModelBatch { identity, first, last, offset, known: true });
        self.records.extend(batch.values.iter().map(|value| value.parse::<u32>().unwrap()));
        Answer::ok(i64::try_from(offset).unwrap())
    }
}

struct OnWire {
    request: SentRequest,
    answers: Option<Vec<Answer>>,
}

/// A purge of all records before this one.
#[derive(Clone, Copy)]
struct Purge {
    number: u64,
    line: usize,
    in_flight: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ModelConnection {
    Down,
    Connecting,
    Up,
}

struct World {
    weather: Weather,
    now: Instant,
    random: RandomNumbers,
    bench: Bench,
    partitions: Vec<Arc<Partition>>,
    turns: Vec<Turn>,
    links: [ModelConnection; BROKERS],
    wires: [VecDeque<OnWire>; BROKERS],
    ghosts: Vec<(usize, VecDeque<SentRequest>)>,
    logs: [Log; PARTITIONS],
    /// The partition, the handle, and how often the callback ran.
    records: Vec<(usize, Delivery, Arc<AtomicU32>)>,
    lost_by_cluster: HashSet<u32>,
    /// Queues on their way from one sender to another.
    moving: Vec<(usize, Box<PartitionQueue>)>,
    purges: Vec<Purge>,
    /// Of how many purges each sender has been told.
    purges_told: [usize; BROKERS],
    /// How many of them every sender has carried out.
    purges_done: usize,
    /// Partitions with purged batches in flight, by broker and index.
    barred: HashSet<(usize, i32)>,
    /// How many requests the brokers refused as a whole.
    refused: u32,
    healing: bool,
    refresh: bool,
    told: String,
}

impl Turn {
    /// The requests and partitions of batches in flight that have no result.
    fn unfinished_in_flight(&self) -> HashSet<(i32, i32)> {
        let requests = self.up().into_iter().flat_map(|up| &up.in_flight);
        let batches =
            requests.flat_map(|request| request.batches.iter().map(|in_request| (request.correlation, in_request)));
        let unfinished =
            |in_request: &BatchInRequest| in_request.batch.as_ref().is_some_and(|batch| !batch.is_finished());
        batches.filter(|(_, sent)| unfinished(sent)).map(|(request, sent)| (request, sent.index)).collect()
    }

    /// Asserts that no purged batch is left, except those in flight that the purge spared.
    fn assert_purged(&mut self, purge: u64) {
        let requests = self.up().into_iter().flat_map(|up| &up.in_flight);
        let mut batches = requests.flat_map(|request| &request.batches).filter_map(|sent| sent.batch.as_ref());
        assert!(!batches.any(|batch| batch.is_purged_by(purge)), "a batch in flight is left by a purge");
        let has_purged = |Scheduled { queue, .. }: &mut Scheduled| queue.has_purged();
        assert!(!self.queues.values_mut().any(has_purged), "a batch that waits is left by a purge");
    }
}

impl World {
    fn new(seed: u64, weather: Weather, callbacks: &Callbacks) -> Self {
        let mut setup = if weather.idempotent { Setup::new() } else { Setup::plain(1) };
        setup.batch_records = 3;
        setup.delivery_timeout = Duration::from_secs(60);
        setup.rules.connections_max_idle = Duration::from_secs(90);
        if weather.idempotent {
            setup.identity = Some(ProducerIdAndEpoch { epoch: i16::MAX - weather.epochs_left, ..FIRST });
        }
        let bench = Bench::new(&setup, callbacks);
        // The buffers read the real clock, which is behind, so that no batch lingers.
        let now = Instant::now() + Duration::from_secs(3600);
        let turn = |broker| {
            let mut turn = Turn::new(BrokerId(broker), setup.rules.clone(), bench.common.clone());
            turn.random = RandomNumbers::seeded(seed);
            turn
        };
        let turns = vec![turn(0), turn(1)];
        let partition = |id: u32| Partition::new(PartitionId(id), TopicPartition::new("t", i32::try_from(id).unwrap()));
        Self {
            weather,
            now,
            random: RandomNumbers::seeded(seed),
            turns,
            partitions: vec![partition(0), partition(1)],
            links: [ModelConnection::Down; BROKERS],
            wires: Default::default(),
            ghosts: Vec::new(),
            logs: Default::default(),
            records: Vec::new(),
            lost_by_cluster: HashSet::new(),
            moving: Vec::new(),
            purges: Vec::new(),
            purges_told: [0; BROKERS],
            purges_done: 0,
            barred: HashSet::new(),
            refused: 0,
            healing: false,
            refresh: false,
            told: String::new(),
            bench,
        }
    }

    fn tell(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.told, "{text}");
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn snapshot(&self) -> Snapshot {
        let leaders: Vec<(i32, i32)> =
            self.logs.iter().map(|log| (i32::try_from(log.leader).unwrap(), log.leader_epoch)).collect();
        snapshot(&[("t", 1, &leaders)])
    }

    // ---- the sender's side ----

    fn send(&mut self, partition: usize) {
        let id = u32::try_from(self.records.len()).unwrap();
        let ran = Arc::new(AtomicU32::new(0));
        let callback = {
            let ran = Arc::clone(&ran);
            Box::new(move |_| {
                ran.fetch_add(1, Ordering::Relaxed);
            })
        };
        // A thread that had to wait for memory opens a batch with an earlier deadline than that of the batch before.
        let waited = if self.chance(10) { Duration::from_secs(30) } else { Duration::ZERO };
        let (started, value) = (Some(self.now - waited), id.to_string());
        let delivery = self.bench.send(&self.partitions[partition], value.as_bytes(), started, Some(callback));
        for mut queue in self.bench.new_queues() {
            queue.on_metadata(&self.snapshot());
            let leader = usize::try_from(queue.leader().unwrap().0).unwrap();
            self.turns[leader].adopt(queue);
        }
        self.records.push((partition, delivery, ran));
    }

    /// What `Producer::purge` does.
    fn purge(&mut self, in_flight: bool) {
        self.tell(format_args!("purge, in flight: {in_flight}"));
        let number = self.bench.accumulator.unfinished.purge();
        self.partitions.iter().for_each(|partition| partition.seal_purged());
        self.purges.push(Purge { number, line: self.records.len(), in_flight });
    }

    /// Tells the senders of purges, sooner or later and each on its own.
    fn tell_of_purges(&mut self) {
        for broker in 0..BROKERS {
            while let Some(Purge { number, in_flight, .. }) = self.purges.get(self.purges_told[broker]).copied()
                && (self.healing || self.chance(60))
            {
                let before = self.turns[broker].unfinished_in_flight();
                self.turns[broker].purge(number, in_flight);
                let turn = &mut self.turns[broker];
                turn.assert_purged(number);
                let after = turn.unfinished_in_flight();
                self.barred.extend(before.difference(&after).map(|(_, index)| (broker, *index)));
                self.purges_told[broker] += 1;
            }
        }
        // A queue on its way to another sender is purged when it arrives.
        let told = self.purges_told.into_iter().min().unwrap();
        let is_leaving = |turn: &Turn| turn.actions.iter().any(|action| matches!(action, Action::Move(..)));
        if told == self.purges_done || !self.moving.is_empty() || self.turns.iter().any(is_leaving) {
            return;
        }
        for Purge { line, in_flight, .. } in self.purges[self.purges_done..told].iter().copied() {
            let all_are_done = || self.records[..line].iter().all(|(_, delivery, _)| delivery.is_done());
            assert!(!in_flight || all_are_done(), "a purge of everything has left records without a result");
        }
        self.purges_done = told;
    }

    /// Lets the senders run until they would sleep.
    fn pump(&mut self) {
        self.tell_of_purges();
        while let Ok(partition) = self.bench.inbox_receiver.notices().try_recv() {
            self.turns.iter_mut().for_each(|turn| turn.notice(&partition));
        }
        let mut rounds = 0;
        loop {
            for broker in 0..BROKERS {
                self.run(broker);
            }
            if self.arrive() {
                continue;
            }
            if let crate::producer::send::gate::CurrentIdentity::Awaited = self.bench.common.identity.current()
                && (self.healing || self.chance(30))
            {
                let next = ProducerIdAndEpoch { producer_id: 8, epoch: 0 };
                self.bench.common.identity.answered(Ok(next));
                self.turns.iter_mut().for_each(Turn::look_at_all);
                continue;
            }
            let due = |turn: &Turn| turn.deadline(self.now).is_some_and(|deadline| deadline <= self.now);
            if !self.turns.iter().any(due) {
                break;
            }
            rounds += 1;
            assert!(rounds < 30, "a sender turns in circles");
        }
        for turn in &mut self.turns {
            turn.assert_invariants();
        }
        for (_, queue) in &mut self.moving {
            queue.assert_invariants(0, &self.bench.common.obstacles);
        }
    }

    fn run(&mut self, broker: usize) {
        self.turns[broker].tick(self.now);
        loop {
            // In the order of a hash map schedules could not be repeated.
            self.turns[broker].ready.make_contiguous().sort_unstable();
            if !self.turns[broker].next_request(self.now) {
                break;
            }
            if !self.healing && self.chance(2) {
                self.tell(format_args!("broker {broker}: partly written"));
                self.lose(broker);
                break;
            }
            let request = read_request(&self.turns[broker]);
            let is_in_flight = |index: &i32| self.wires[broker].iter().any(|wire| wire.request.has(*index));
            self.barred.retain(|(other, index)| *other != broker || is_in_flight(index));
            let is_barred = |batch: &SentBatch| self.barred.contains(&(broker, batch.index));
            assert!(!request.batches.iter().any(is_barred), "something is sent behind what was purged in flight");
            for batch in &request.batches {
                let SentBatch { index, identity, sequence, values, .. } = batch;
                let _ = writeln!(
                    self.told,
                    "b{broker} <- {}:p{index} {}/{sequence} {values:?}",
                    request.correlation, identity.epoch
                );
            }
            assert!(self.turns[broker].written(self.now));
            self.wires[broker].push_back(OnWire { request, answers: None });
            assert!(self.wires[broker].len() <= 5);
        }
        for action in self.turns[broker].take_actions() {
            match action {
                Action::Connect => self.links[broker] = ModelConnection::Connecting,
                Action::Disconnect if !self.turns[broker].is_unused() && !self.turns[broker].is_left() => {}
                Action::Disconnect => {
                    assert!(self.wires[broker].is_empty(), "an idle connection was in use");
                    self.links[broker] = ModelConnection::Down;
                    self.turns[broker].idled();
                }
                Action::RefreshMetadata => self.refresh = true,
                Action::Hint { .. } => {}
                Action::Move(queue, leader) => {
                    let _ = writeln!(self.told, "{} moves to {leader}", queue.name());
                    self.moving.push((usize::try_from(leader.0).unwrap(), queue));
                }
            }
        }
    }

    /// Lets queues arrive at their senders, sooner or later. Returns whether one did.
    fn arrive(&mut self) -> bool {
        let mut arrived = false;
        for (leader, queue) in std::mem::take(&mut self.moving) {
            if self.healing || self.chance(60) {
                self.tell(format_args!("{} is with {leader}", queue.name()));
                self.turns[leader].adopt(*queue);
                arrived = true;
            } else {
                self.moving.push((leader, queue));
            }
        }
        arrived
    }

    // ---- what happens to it ----

    fn lose(&mut self, broker: usize) {
        let left: VecDeque<SentRequest> =
            self.wires[broker].drain(..).filter(|wire| wire.answers.is_none()).map(|wire| wire.request).collect();
        if self.weather.ghosts && !left.is_empty() && self.chance(70) {
            self.ghosts.push((broker, left));
        }
        self.links[broker] = ModelConnection::Down;
        self.tell(format_args!("b{broker} lost"));
        self.turns[broker].lost(Error::network("cut"), self.now);
    }

    fn process(&mut self, broker: usize, request: &SentRequest, troubled: bool) -> Vec<Answer> {
        let mut partitions = HashSet::new();
        if !request.batches.iter().all(|batch| partitions.insert(batch.index)) {
            // A request has one batch for a partition. Of two, a broker would write the last, and its answer would
            // count for the first.
            self.tell(format_args!("b{broker} refuses {}", request.correlation));
            self.refused += 1;
            return vec![Answer::error(ErrorCode::INVALID_REQUEST); request.batches.len()];
        }
        let mut answers = Vec::new();
        for batch in &request.batches {
            let trouble = if troubled && self.chance(40) { self.random.below(10) } else { usize::MAX };
            let log = &mut self.logs[usize::try_from(batch.index).unwrap()];
            let mut apply_and = |code: ErrorCode| match log.append(broker, batch, self.weather.old_brokers) {
                Answer { code: 0, .. } => Answer::error(code),
                failed => failed,
            };
            let answer = match trouble {
                0 => Answer::error(ErrorCode::NOT_ENOUGH_REPLICAS),
                1 => apply_and(ErrorCode::REQUEST_TIMED_OUT),
                2 => Answer::error(ErrorCode::REQUEST_TIMED_OUT),
                3 => Answer::error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                4 => apply_and(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                5 => Answer::error(ErrorCode::INVALID_RECORD),
                6 | 7 => Answer::error(ErrorCode::MESSAGE_TOO_LARGE),
                8 => Answer::error(ErrorCode::UNKNOWN_SERVER_ERROR),
                9 => apply_and(ErrorCode::UNKNOWN_SERVER_ERROR),
                _ => log.append(broker, batch, self.weather.old_brokers),
            };
            let _ = writeln!(
                self.told,
                "b{broker} {}:p{} {}/{}: {:?} at {}",
                request.correlation,
                batch.index,
                batch.identity.epoch,
                batch.sequence,
                ErrorCode(answer.code),
                answer.offset
            );
            answers.push(answer);
        }
        answers
    }

    fn process_next(&mut self, broker: usize) {
        if let Some(position) = self.wires[broker].iter().position(|wire| wire.answers.is_none()) {
            let request = self.wires[broker][position].request.clone();
            let answers = self.process(broker, &request, !self.healing);
            self.wires[broker][position].answers = Some(answers);
        }
    }

    fn answer_next(&mut self, broker: usize) {
        if self.wires[broker].front().is_some_and(|wire| wire.answers.is_some()) {
            let OnWire { request, answers } = self.wires[broker].pop_front().unwrap();
            let frame = frame(&response(&request, &answers.unwrap()), request.version, request.correlation);
            self.tell(format_args!("b{broker} -> {}", request.correlation));
            self.turns[broker].answered(frame, self.now).unwrap();
        }
    }

    fn ghost(&mut self) {
        if self.ghosts.is_empty() {
            return;
        }
        let position = self.random.below(self.ghosts.len());
        let (broker, requests) = &mut self.ghosts[position];
        let broker = *broker;
        match requests.pop_front() {
            Some(request) => {
                self.tell(format_args!("a ghost:"));
                self.process(broker, &request, false);
            }
            None => drop(self.ghosts.remove(position)),
        }
    }

    fn metadata(&mut self) {
        self.refresh = false;
        self.tell(format_args!("metadata"));
        let snapshot = self.snapshot();
        self.turns.iter_mut().for_each(|turn| turn.on_metadata(&snapshot));
    }

    /// Whether no record of the partition is on its way, in the producer or on a connection.
    fn is_quiet(&self, partition: usize) -> bool {
        let index = i32::try_from(partition).unwrap();
        let has = |request: &SentRequest| request.has(index);
        self.records.iter().all(|(at, delivery, _)| *at != partition || delivery.is_done())
            && !self.wires.iter().flatten().any(|wire| has(&wire.request))
            && !self.ghosts.iter().flat_map(|(_, requests)| requests).any(has)
    }

    fn step(&mut self) {
        let (broker, partition) = (self.random.below(BROKERS), self.random.below(PARTITIONS));
        match self.random.below(100) {
            0..25 => {
                for _ in 0..=self.random.below(4) {
                    self.send(partition);
                }
            }
            25..50 => self.process_next(broker),
            50..75 => self.answer_next(broker),
            75..80 if self.links[broker] == ModelConnection::Up => self.lose(broker),
            80..84 => self.ghost(),
            84 if self.chance(40) => {
                // Sometimes several purges begin before senders are told of the first.
                for _ in 0..=self.random.below(3) {
                    let in_flight = self.chance(50);
                    self.purge(in_flight);
                    if self.chance(50) {
                        self.send(partition);
                    }
                }
            }
            84..87 => {
                let log = &mut self.logs[partition];
                log.leader = 1 - log.leader;
                log.leader_epoch += 1;
                self.tell(format_args!("p{partition} has another leader"));
            }
            87..90 => self.metadata(),
            90..97 => {
                let times = [1, 100, 1000, 15_000];
                let time = times[self.random.below(times.len())];
                self.tell(format_args!("{time} ms"));
                self.now += Duration::from_millis(time);
            }
            97 => {
                let log = &mut self.logs[partition];
                // The rest of the log must contain a batch of the producer: a log that does not know it accepts any batch.
                let is_known = |batch: &ModelBatch, end: &ModelBatch| batch.known && batch.identity == end.identity;
                if self.weather.truncation
                    && let [.., before, end] = log.appended.as_slice()
                    && is_known(before, end)
                    && let Some(end) = log.appended.pop()
                {
                    self.lost_by_cluster.extend(log.records.drain(end.offset..));
                    self.tell(format_args!("p{partition} ends at {}", end.offset));
                }
            }
            98 if self.weather.forgets && self.is_quiet(partition) => {
                self.logs[partition].appended.iter_mut().for_each(|appended| appended.known = false);
                self.tell(format_args!("p{partition} forgets"));
            }
            99 => {
                self.tell(format_args!("b{broker} has another address"));
                self.turns[broker].leave_connection();
            }
            _ => {}
        }
        for broker in 0..BROKERS {
            if self.links[broker] == ModelConnection::Connecting && self.chance(40) {
                if self.chance(80) {
                    self.tell(format_args!("b{broker} up"));
                    self.links[broker] = ModelConnection::Up;
                    self.turns[broker].connected(11, self.now);
                } else {
                    self.lose(broker);
                }
            }
        }
        if self.refresh && self.chance(20) {
            self.metadata();
        }
        self.pump();
    }

    /// Repairs all faults, and runs until nothing is left to do.
    fn heal(&mut self) {
        self.healing = true;
        self.tell(format_args!("healing"));
        while !self.ghosts.is_empty() && self.chance(90) {
            self.ghost();
        }
        for round in 0.. {
            assert!(round < 3000, "a record is stuck");
            if self.refresh {
                self.metadata();
            }
            for broker in 0..BROKERS {
                if self.links[broker] == ModelConnection::Connecting {
                    self.links[broker] = ModelConnection::Up;
                    self.turns[broker].connected(11, self.now);
                }
                self.process_next(broker);
                self.answer_next(broker);
            }
            self.pump();
            let busy = self.refresh
                || self.wires.iter().any(|wire| !wire.is_empty())
                || self.links.contains(&ModelConnection::Connecting);
            if busy {
                continue;
            }
            if self.records.iter().all(|(_, delivery, _)| delivery.is_done()) {
                break;
            }
            let next = self.turns.iter().filter_map(|turn| turn.deadline(self.now)).min();
            self.now = self.now.max(next.expect("a record is stuck, and no sender would wake"));
            self.pump();
        }
        while !self.ghosts.is_empty() {
            self.ghost();
        }
    }

    fn check(&self, callbacks: &Callbacks) {
        assert_eq!(self.refused, 0, "requests with two batches of one partition");
        let ids: Vec<Vec<u32>> = self.logs.iter().map(|log| log.records.clone()).collect();
        for log in &ids {
            let mut first_times = log.clone();
            if !self.weather.idempotent {
                let mut seen = HashSet::new();
                first_times.retain(|id| seen.insert(*id));
            }
            for pair in first_times.windows(2) {
                assert!(pair[0] != pair[1], "record {} is there twice", pair[0]);
                assert!(
                    self.weather.forgets || pair[0] < pair[1],
                    "record {} stands before record {}",
                    pair[0],
                    pair[1]
                );
            }
        }
        for (id, (partition, delivery, _)) in self.records.iter().enumerate() {
            let id = u32::try_from(id).unwrap();
            let is_there = ids[*partition].contains(&id);
            match delivery.try_wait().expect("a record has no result") {
                Ok(_) if self.lost_by_cluster.contains(&id) => {}
                Ok(done) => {
                    assert!(is_there, "record {id} was acknowledged and is lost");
                    if let Some(offset) = done.offset() {
                        let offset = usize::try_from(offset).unwrap();
                        assert_eq!(ids[*partition].get(offset), Some(&id), "the offset of record {id}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::Purged => {
                    let was_in_flight = error.to_string().contains("in flight");
                    let is_meant = |purge: &Purge| {
                        usize::try_from(id).unwrap() < purge.line && (purge.in_flight || !was_in_flight)
                    };
                    assert!(self.purges.iter().any(is_meant), "no purge was meant for record {id}: {error}");
                    let said = error.may_be_written();
                    assert!(!is_there || said, "record {id} is there although it was purged before it was sent");
                }
                Err(error) => assert!(
                    !is_there || error.may_be_written(),
                    "record {id} is there although it is said not to be: {error}"
                ),
            }
        }
        assert!(callbacks.wait(Instant::now() + Duration::from_secs(60)));
        for (id, (_, _, ran)) in self.records.iter().enumerate() {
            assert_eq!(ran.load(Ordering::Relaxed), 1, "the callback of record {id}");
        }
        assert_eq!(self.bench.common.budget.used(), 0, "buffer memory that was not given back");
        assert_eq!(self.bench.accumulator.unfinished.count(), 0);
        assert_eq!(self.bench.common.counters.requests_in_flight.load(Ordering::Relaxed), 0);
    }
}

/// What has happened in a set of schedules, to assert that each kind of fault did happen.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    acknowledged: u64,
    failed: u64,
    maybe_written: u64,
    retried: u64,
    split: u64,
    expired: u64,
    bumped: u64,
    duplicates: u64,
    moved: u64,
    purged: u64,
    purged_in_flight: u64,
}

fn explore(seeds: std::ops::Range<u64>, weather: impl Fn(u64) -> Weather) -> Seen {
    let (callbacks, thread) = Callbacks::start().unwrap();
    let mut seen = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed, weather(seed), &callbacks);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..120 {
                world.step();
                seen.steps += 1;
            }
            world.heal();
            world.check(&callbacks);
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}, {:?}:\n{}", world.weather, world.told);
            std::panic::resume_unwind(panic);
        }
        let counters = &world.bench.common.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        seen.acknowledged += read(&counters.records_acknowledged);
        seen.failed += read(&counters.records_failed);
        seen.retried += read(&counters.batches_retried);
        seen.split += read(&counters.batches_split);
        seen.expired += read(&counters.batches_expired);
        seen.bumped += world.bench.common.identity.bumps();
        seen.duplicates += read(&counters.duplicates_recognised);
        seen.moved += u64::try_from(world.told.matches(" moves to ").count()).unwrap();
        for (_, delivery, _) in &world.records {
            let maybe = |error: Error| error.written() == Some(crate::error::Written::Maybe);
            let purged = |error: &Error| error.kind() == ErrorKind::Purged;
            let error = delivery.try_wait().and_then(Result::err);
            seen.purged += u64::from(error.as_ref().is_some_and(purged));
            let in_flight = |error: &Error| purged(error) && error.to_string().contains("in flight");
            seen.purged_in_flight += u64::from(error.as_ref().is_some_and(in_flight));
            seen.maybe_written += u64::from(delivery.try_wait().is_some_and(|result| result.is_err_and(maybe)));
        }
    }
    drop(callbacks);
    thread.join().unwrap();
    seen
}

/// How many schedules each test runs; `KAFKA_MODEL_SCHEDULES` asks for more.
fn schedules(usual: u64) -> u64 {
    std::env::var("KAFKA_MODEL_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn idempotent(seed: u64) -> Weather {
    Weather { idempotent: true, epochs_left: if seed.is_multiple_of(4) { 2 } else { 1000 }, ..Weather::default() }
}

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    let seen = explore(0..schedules(500), idempotent);
    assert!(seen.retried > 0 && seen.split > 0 && seen.expired > 0 && seen.bumped > 0 && seen.moved > 0);
    assert!(seen.acknowledged > seen.failed && seen.maybe_written > 0);
    assert!(seen.purged > seen.purged_in_flight && seen.purged_in_flight > 0);
}

#[test]
fn requests_of_lost_connections_may_come_late() {
    // A new producer id does not fence the requests of the one before it, so the epochs must not run out.
    let weather = |seed| Weather { ghosts: true, epochs_left: 1000, ..idempotent(seed) };
    let seen = explore(0..schedules(500), weather);
    assert!(seen.retried > 0 && seen.bumped > 0 && seen.acknowledged > seen.failed);
}

#[test]
fn a_cluster_may_lose_the_end_of_a_log_and_forget_producers() {
    explore(0..schedules(300), |seed| Weather {
        truncation: true,
        forgets: seed.is_multiple_of(3),
        old_brokers: seed.is_multiple_of(2),
        ..idempotent(seed)
    });
}

#[test]
fn without_idempotence_order_holds_and_nothing_acknowledged_is_lost() {
    explore(0..schedules(300), |_| Weather::default());
}

//! Exactly once, as a program lives it: a process reads records, writes what it made of them, and commits where it stands
//! with it, in transactions. It is killed ten times (SIGKILL) and once left behind as a zombie; brokers are killed and
//! restarted meanwhile, the transaction's coordinator among them. Java's console consumer then finds every record once and in
//! order, and nothing of a transaction that was aborted.
//!
//! What falls when is planned, and nothing is left to a sleep: the process stops at points that it was told, says so, and
//! goes on when it may. How many records go through is [`RECORDS`].

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::internal_unstable::{Client, RawProducer};
use kafka_blocking::{
    Error, ErrorKind, GroupMetadata, NotCommitted, Producer, Record, Recovery, TopicPartition, Transaction,
};

use crate::support::admin::Isolation;
use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::process::{self, Watched};
use crate::support::{tools, wait_for};

const INPUT: &str = "input";
const OUTPUT: &str = "output";
const PARTITIONS: i32 = 4;
const GROUP: &str = "copiers";
const ID: &str = "copier-1";

/// How many records go through, for machines on which the full run takes too long.
const RECORDS: &str = "KAFKA_BLOCKING_EOS_RECORDS";
const FULL: usize = 100_000;

/// How often the process is killed.
const KILLS: usize = 10;
/// The round in which it is left behind as a zombie instead.
const ZOMBIE: usize = 4;
const ROUNDS: usize = KILLS + 1;

fn total() -> usize {
    let total = env::var(RECORDS).map_or(FULL, |text| text.parse().unwrap());
    assert!(total >= 1000, "{RECORDS}: too few for so many rounds");
    total
}

/// How much is done after so many rounds; the last process has a round of its own.
fn share(rounds: usize) -> usize {
    total() * rounds / (ROUNDS + 1)
}

/// The largest transaction: a round has several.
fn largest() -> usize {
    2000.min(share(1) / 4)
}

/// How long anything that is waited for may take. Most of it takes milliseconds, and a lost broker seconds.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn every_input_once_and_in_order_on_4_3() {
    let _turn = crate::turn();
    let cluster = Cluster::start(three(Version::V4_3));
    assert_eq!(cluster.admin().feature_level("transaction.version"), 2);
    Run::new(&cluster).all();
}

#[test]
fn every_input_once_and_in_order_on_4_3_without_transactions_v2() {
    let _turn = crate::turn();
    let cluster = Cluster::start(three(Version::V4_3).feature("transaction.version", 1));
    assert_eq!(cluster.admin().feature_level("transaction.version"), 1);
    Run::new(&cluster).all();
}

#[test]
fn every_input_once_and_in_order_on_3_9() {
    let _turn = crate::turn();
    let cluster = Cluster::start(three(Version::V3_9));
    Run::new(&cluster).all();
}

#[test]
fn every_input_once_and_in_order_on_a_single_broker_of_2_8() {
    let _turn = crate::turn();
    let cluster = Cluster::start(Options::single(Version::V2_8));
    Run::new(&cluster).all();
}

fn three(version: Version) -> Options {
    Options::three(version).property("broker.session.timeout.ms", "4000")
}

/// The moments in a transaction at which the process can stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// Half of its records are handed over, and nobody has waited for them.
    Open,
    /// All of them are acknowledged.
    Written,
    /// The offsets are part of it.
    Offsets,
    /// The commit is about to be called. Nothing stops: what follows falls into it, or behind.
    Ending,
    /// It is committed, and nobody was told.
    Ended,
}

impl Moment {
    const ALL: [Self; 5] = [Self::Open, Self::Written, Self::Offsets, Self::Ending, Self::Ended];
}

/// Where the process stops: at a moment of the first transaction that begins with so many records done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stop {
    done: usize,
    moment: Moment,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:?}", self.done, self.moment)
    }
}

impl Stop {
    fn parse(text: &str) -> Self {
        let (done, name) = text.split_once('-').unwrap();
        let moment = Moment::ALL.into_iter().find(|moment| format!("{moment:?}") == name).unwrap();
        Self { done: done.parse().unwrap(), moment }
    }
}

// ---- the side of the cluster and its killer --------------------------------------------------------------------------

/// Which broker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    TransactionCoordinator,
    GroupCoordinator,
    /// Of the output's first partition.
    Leader,
}

struct Run<'a> {
    cluster: &'a Cluster,
    total: usize,
    processes: Vec<Process<'a>>,
    /// The broker that was started again and may not serve yet.
    starting: Option<usize>,
    brokers_killed: usize,
}

impl<'a> Run<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, total: total(), processes: Vec::new(), starting: None, brokers_killed: 0 }
    }

    fn all(mut self) {
        let begin = Instant::now();
        self.write_input();
        self.start();
        for round in 0..ROUNDS {
            // The broker falls in the middle of the round.
            if let Some((stop, victim)) = self.half(round) {
                self.await_stop(stop);
                self.broker_falls(victim, stop.moment);
            }
            let last = self.last(round);
            self.await_stop(last);
            match round {
                ZOMBIE => self.zombie(last),
                8 => self.both_fall(),
                _ => {
                    self.kill_process();
                    self.start();
                }
            }
        }
        let last = self.process();
        last.wait("done", |events| events.iter().any(|event| event == "done").then_some(()));
        assert!(last.watched.wait(LIMIT).is_some_and(|status| status.success()));
        self.settle();
        let seconds = begin.elapsed().as_secs_f32();
        self.judge();
        eprintln!(
            "{} records in {seconds:.1} s, judged in {:.1} s",
            self.total,
            begin.elapsed().as_secs_f32() - seconds
        );
    }

    /// Where the process stops in the middle of a round, for a broker to fall, and which one.
    fn half(&self, round: usize) -> Option<(Stop, Victim)> {
        let is_single = self.cluster.len() == 1;
        let (moment, victim) = match round {
            1 => (Moment::Written, Victim::TransactionCoordinator),
            3 if !is_single => (Moment::Offsets, Victim::GroupCoordinator),
            7 => (Moment::Open, Victim::Leader),
            9 if !is_single => (Moment::Open, Victim::TransactionCoordinator),
            _ => return None,
        };
        Some((Stop { done: share(round).midpoint(share(round + 1)), moment }, victim))
    }

    /// Where it stops to be killed.
    fn last(&self, round: usize) -> Stop {
        // A zombie has a transaction that is not decided; the kills go through all moments, twice.
        let kill = if round < ZOMBIE { round } else { round.saturating_sub(1) };
        let moment = if round == ZOMBIE { Moment::Offsets } else { Moment::ALL[kill % Moment::ALL.len()] };
        Stop { done: share(round + 1), moment }
    }

    fn write_input(&self) {
        let replicas = self.cluster.len();
        let min_in_sync = format!("min.insync.replicas={}", replicas.div_ceil(2));
        for topic in [INPUT, OUTPUT] {
            let partitions = usize::try_from(PARTITIONS).unwrap();
            self.cluster.admin().create_topic(topic, partitions, replicas, &[&min_in_sync]);
        }
        let producer = Producer::builder(self.cluster.bootstrap()).build().unwrap();
        for number in 0..self.total {
            let partition = i32::try_from(number).unwrap() % PARTITIONS;
            let value = (i32::try_from(number).unwrap() / PARTITIONS).to_string();
            drop(producer.send(Record::to(INPUT).partition(partition).value(value)));
        }
        producer.close_timeout(LIMIT).unwrap();
        assert_eq!(self.cluster.admin().end_offsets(INPUT).iter().sum::<i64>(), i64::try_from(self.total).unwrap());
    }

    /// How many records of the input a partition has.
    fn share_of(&self, partition: i32) -> usize {
        let partitions = usize::try_from(PARTITIONS).unwrap();
        (self.total + partitions - 1 - usize::try_from(partition).unwrap()) / partitions
    }

    /// Starts the next process.
    fn start(&mut self) {
        let number = self.processes.len();
        let mut stops: Vec<Stop> = self.half(number).map(|(stop, _)| stop).into_iter().collect();
        if number < ROUNDS {
            let last = self.last(number);
            stops.push(last);
            if last.moment == Moment::Ending {
                // It does not stop there, and its killer may be slow.
                stops.push(Stop { done: last.done + share(1) / 2, moment: Moment::Open });
            }
        }
        self.processes.push(Process::start(self.cluster, number, &stops));
    }

    fn process(&mut self) -> &mut Process<'a> {
        self.processes.last_mut().unwrap()
    }

    fn await_stop(&mut self, stop: Stop) {
        let wanted = format!("at {stop}");
        self.process().wait(&wanted, |events| events.contains(&wanted).then_some(()));
    }

    fn kill_process(&mut self) {
        let process = self.process();
        assert!(process.watched.ended().is_none(), "it runs until it is killed");
        process.watched.kill();
        assert!(!process::exists(process.watched.pid()));
    }

    /// A broker falls in the middle of a transaction, which goes on to its end without it.
    fn broker_falls(&mut self, victim: Victim, moment: Moment) {
        // The last one is asked to go (SIGTERM) and hands its partitions over.
        let in_order = self.brokers_killed == 4;
        let node = self.kill_broker(victim, in_order);
        let is_single = self.cluster.len() == 1;
        let process = self.process();
        let ended = |events: &[String]| events.iter().filter(|event| event.starts_with("committed")).count();
        let before = ended(&process.events());
        process.go();
        if is_single {
            self.restart(node);
            self.settle();
        }
        let process = self.process();
        let waiting = format!("a commit after the {victim:?} has gone at the moment {moment:?}");
        process.wait(&waiting, |events| (ended(events) > before).then_some(()));
        if !is_single {
            self.restart(node);
        }
    }

    /// The coordinator and the process fall together; another process finds the next coordinator.
    fn both_fall(&mut self) {
        let node = self.kill_broker(Victim::TransactionCoordinator, false);
        self.kill_process();
        self.start();
        if self.cluster.len() == 1 {
            self.restart(node);
            self.settle();
        }
        let ready = |events: &[String]| events.iter().any(|event| event.starts_with("ready")).then_some(());
        self.process().wait("its initialization without the coordinator", ready);
        if self.cluster.len() > 1 {
            self.restart(node);
        }
    }

    /// A process stands still in its transaction, another one takes over, and the first one goes on: it is fenced.
    fn zombie(&mut self, stop: Stop) {
        let zombie = self.processes.len() - 1;
        self.process().watched.signal("STOP");
        self.start();
        let committed = |events: &[String]| events.iter().any(|event| event.starts_with("committed")).then_some(());
        self.process().wait("a commit of the other process", committed);
        let zombie = &mut self.processes[zombie];
        assert_eq!(zombie.events().last(), Some(&format!("at {stop}")));
        zombie.watched.signal("CONT");
        zombie.go();
        assert_eq!(zombie.watched.wait(LIMIT).and_then(|status| status.code()), Some(0), "{}", zombie.complaints());
        assert_eq!(zombie.events().last().map(String::as_str), Some("fenced"));
    }

    /// Returns which one it was. It is gone, and another one has its part, if there is another one.
    fn kill_broker(&mut self, victim: Victim, in_order: bool) -> usize {
        self.settle();
        let admin = self.cluster.admin();
        let who = || match victim {
            Victim::TransactionCoordinator => admin.coordinator("__transaction_state", ID),
            Victim::GroupCoordinator => admin.coordinator("__consumer_offsets", GROUP),
            Victim::Leader => admin.leader(OUTPUT, 0),
        };
        let broker = who();
        let node = self.cluster.node_of(broker);
        let pid = self.cluster.pid(node).unwrap();
        if in_order {
            self.cluster.terminate(node);
        } else {
            self.cluster.kill(node);
        }
        assert!(!process::exists(pid));
        if self.cluster.len() > 1 {
            wait_for("another one in its place", LIMIT, || (who() != broker).then_some(()));
        }
        self.brokers_killed += 1;
        node
    }

    fn restart(&mut self, node: usize) {
        self.cluster.spawn(node);
        self.starting = Some(node);
    }

    fn settle(&mut self) {
        if let Some(node) = self.starting.take() {
            self.cluster.wait_ready(node);
        }
    }

    fn judge(&self) {
        let (single, admin) = (self.cluster.len() == 1, self.cluster.admin());
        assert_eq!(self.brokers_killed, if single { 3 } else { 5 });
        assert_eq!(self.processes.len(), KILLS + 2);
        let events: Vec<String> = self.processes.iter().flat_map(Process::events).collect();
        let count = |name: &str| events.iter().filter(|event| event.starts_with(name)).count();
        let (committed, aborted, failed) = (count("committed"), count("aborted"), count("failed"));
        println!("{committed} transactions committed, {aborted} aborted on purpose, {failed} because they had failed");

        // Records behind the last ones: what is read up to them is all that there is.
        let plain = Producer::builder(self.cluster.bootstrap()).build().unwrap();
        let ends: Vec<_> = (0..PARTITIONS).map(|p| plain.send(Record::to(OUTPUT).partition(p).value("end"))).collect();
        ends.into_iter().for_each(|end| drop(end.wait().unwrap()));
        let wanted = self.total + usize::try_from(PARTITIONS).unwrap();
        let read = tools::console_consumer(self.cluster, OUTPUT, wanted, &["--isolation-level", "read_committed"]);
        for partition in 0..PARTITIONS {
            let mut found = read.iter().filter(|record| record.partition == partition);
            for number in 0..self.share_of(partition) {
                let value = found.next().map(|record| record.value.as_str());
                let number = format!("{partition}:{number} ");
                assert!(
                    value.is_some_and(|value| value.starts_with(&number) && value.ends_with(" to be committed")),
                    "{value:?} instead of {number}"
                );
            }
            let end: Vec<&str> = found.map(|record| record.value.as_str()).collect();
            assert_eq!(end, ["end"], "behind the last record of partition {partition}");
        }
        assert_eq!(read.len(), wanted);

        // There was something to be hidden.
        let (mut all, mut to_be_aborted) = (0_usize, 0_usize);
        admin.read_with(&[OUTPUT], Isolation::Uncommitted, LIMIT, |record| {
            all += 1;
            to_be_aborted += usize::from(record.value.unwrap().ends_with(b" to be aborted"));
        });
        println!("{} records are hidden, {to_be_aborted} of them were aborted on purpose", all - wanted);
        assert!(aborted > 0 && to_be_aborted >= aborted && all - wanted > to_be_aborted);

        let mut reader = RawProducer::connect(self.cluster.bootstrap(), "nobody").unwrap();
        for partition in 0..PARTITIONS {
            let offset = reader.committed_offset(GROUP, INPUT, partition).unwrap().unwrap().offset;
            assert_eq!(usize::try_from(offset).unwrap(), self.share_of(partition));
        }
        if !single {
            // In transactions V2 every end gives another epoch; before that, only every process.
            let (state, epoch) = wait_for("the end of the last transaction", LIMIT, || {
                admin.try_transaction(ID).ok().filter(|(state, _)| state.starts_with("Complete"))
            });
            println!("{state}, epoch {epoch}");
            let v2 = admin.feature_level("transaction.version") == 2;
            let ended = committed + aborted;
            assert!(!v2 || usize::try_from(epoch).unwrap() >= ended, "{epoch} after {ended} transactions");
            assert!(v2 || ended < 100 || usize::try_from(epoch).unwrap() < ended, "{epoch} after {ended} transactions");
        }
    }
}

/// The process that copies, as its killer sees it.
struct Process<'a> {
    cluster: &'a Cluster,
    number: usize,
    watched: Watched,
    /// How often it was told to go on.
    gone_on: usize,
}

impl<'a> Process<'a> {
    fn start(cluster: &'a Cluster, number: usize, stops: &[Stop]) -> Self {
        let directory = cluster.directory();
        File::create(events_of(directory, number)).unwrap();
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut arguments = vec![
            format!("{SERVERS}={}", cluster.bootstrap().join(",")),
            format!("{DIRECTORY}={}", directory.display()),
            format!("{NUMBER}={number}"),
            format!("{STOPS}={}", stops.join(",")),
            env::current_exe().unwrap().display().to_string(),
        ];
        arguments.extend(
            ["--exact", "transaction::exactly_once::copies_until_it_is_killed", "--ignored", "--nocapture"]
                .map(str::to_owned),
        );
        let output = directory.join(format!("copier-{number}.log"));
        // `env` becomes the program, under the same process id.
        let watched = Watched::start("env", arguments, &output, &output);
        Self { cluster, number, watched, gone_on: 0 }
    }

    /// What it has told, oldest first.
    fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(events_of(self.cluster.directory(), self.number)).unwrap();
        // What it wrote when it was killed may be half a line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits for what it tells.
    fn wait(&mut self, what: &str, found: impl Fn(&[String]) -> Option<()>) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ended = self.watched.ended();
            let events = self.events();
            if found(&events).is_some() {
                return;
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "process {} ({ended:?}): waited for {what}; it told {:?}\n{}",
                self.number,
                events.last(),
                self.complaints()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it go on from where it stands.
    fn go(&mut self) {
        self.gone_on += 1;
        File::create(go_of(self.cluster.directory(), self.number, self.gone_on)).unwrap();
    }

    fn complaints(&self) -> String {
        let text = fs::read_to_string(self.cluster.directory().join(format!("copier-{}.log", self.number)));
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(100)..].join("\n")
    }
}

fn events_of(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("copier-{number}.events"))
}

fn go_of(directory: &Path, number: usize, count: usize) -> PathBuf {
    directory.join(format!("copier-{number}.go-{count}"))
}

// ---- the process that copies -----------------------------------------------------------------------------------------

const SERVERS: &str = "COPIER_SERVERS";
const DIRECTORY: &str = "COPIER_DIRECTORY";
const NUMBER: &str = "COPIER_NUMBER";
const STOPS: &str = "COPIER_STOPS";

/// What the tests above run in processes of their own.
#[test]
#[ignore = "runs in a process that is killed"]
fn copies_until_it_is_killed() {
    let Ok(servers) = env::var(SERVERS) else { return };
    let level = env::var("RUST_LOG").unwrap_or_else(|_| "kafka_blocking=debug".into());
    env_logger::Builder::new().parse_filters(&level).format_timestamp_millis().init();
    let directory = PathBuf::from(env::var(DIRECTORY).unwrap());
    let number: usize = env::var(NUMBER).unwrap().parse().unwrap();
    let stops = env::var(STOPS).unwrap();
    let stops = stops.split(',').filter(|stop| !stop.is_empty()).map(Stop::parse).collect();
    let mut copier = Copier {
        servers: servers.split(',').map(str::to_owned).collect(),
        events: OpenOptions::new().append(true).open(events_of(&directory, number)).unwrap(),
        directory,
        number,
        stops,
        gone_on: 0,
        random: Random((u64::try_from(number).unwrap() + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
    };
    copier.run();
}

struct Copier {
    servers: Vec<String>,
    directory: PathBuf,
    number: usize,
    events: File,
    stops: VecDeque<Stop>,
    gone_on: usize,
    random: Random,
}

/// A partition of the input.
struct Input {
    partition: i32,
    /// The numbers that were not done when the process began, from the offset `start` on.
    numbers: Vec<usize>,
    start: i64,
    /// How many are done.
    done: usize,
    /// How many are done or in the open transaction.
    taken: usize,
}

impl Input {
    fn position(&self) -> i64 {
        self.start + i64::try_from(self.taken).unwrap()
    }
}

impl Copier {
    fn run(&mut self) {
        let producer = Producer::builder(&self.servers)
            .transactional_id(ID)
            .transaction_timeout(Duration::from_secs(600))
            .request_timeout(Duration::from_secs(10))
            .max_block(Duration::from_secs(20))
            .build()
            .unwrap();
        self.patiently(|| producer.init_transactions());
        // The former process's transaction has an end now, so what is committed stays.
        let mut client = Client::connect(&self.servers).unwrap().timeout(LIMIT);
        let offsets = self.stored();
        let mut inputs: Vec<Input> = (0..PARTITIONS)
            .zip(offsets)
            .map(|(partition, start)| {
                let end = client.end_offset(INPUT, partition).unwrap();
                let records = client.read_committed(INPUT, partition, start..end).unwrap();
                let numbers = records.iter().map(|record| record.value_text().parse().unwrap()).collect();
                Input { partition, numbers, start, done: 0, taken: 0 }
            })
            .collect();
        let mut total = inputs.iter().map(|input| usize::try_from(input.start).unwrap()).sum();
        self.tell(&format!("ready {total}"));

        for transaction in 0.. {
            if inputs.iter().all(|input| input.done == input.numbers.len()) {
                break;
            }
            match self.copy(&producer, transaction, &mut inputs, total) {
                Fate::Committed => {
                    total += inputs.iter().map(|input| input.taken - input.done).sum::<usize>();
                    inputs.iter_mut().for_each(|input| input.done = input.taken);
                    self.tell(&format!("committed {total}"));
                }
                fate => {
                    inputs.iter_mut().for_each(|input| input.taken = input.done);
                    // And its offsets do not count.
                    let positions: Vec<i64> = inputs.iter().map(Input::position).collect();
                    assert_eq!(self.stored(), positions, "after {fate:?}");
                    self.tell(if fate == Fate::Aborted { "aborted" } else { "failed" });
                }
            }
        }
        producer.close_timeout(LIMIT).unwrap();
        self.tell("done");
    }

    /// One transaction.
    fn copy(&mut self, producer: &Producer, number: usize, inputs: &mut [Input], total: usize) -> Fate {
        let transaction = self.patiently(|| producer.transaction());
        let stop =
            if self.stops.front().is_some_and(|stop| stop.done <= total) { self.stops.pop_front() } else { None };
        // One that is watched is committed.
        let aborts = stop.is_none() && self.random.below(5) == 0;
        let end = if aborts { "aborted" } else { "committed" };
        let size = 1 + if self.random.below(2) == 0 {
            self.random.below(largest())
        } else {
            self.random.below(largest() / 20)
        };
        for i in 0..size {
            let open: Vec<usize> = (0..inputs.len()).filter(|i| inputs[*i].taken < inputs[*i].numbers.len()).collect();
            if open.is_empty() {
                break;
            }
            let input = &mut inputs[open[self.random.below(open.len())]];
            let (partition, value) = (input.partition, input.numbers[input.taken]);
            let value = format!("{partition}:{value} by {}.{number}, to be {end}", self.number);
            input.taken += 1;
            // What fails makes the commit fail.
            drop(transaction.send(Record::to(OUTPUT).partition(partition).value(value)));
            if i == size / 2 {
                self.stop(stop, Moment::Open);
            }
        }
        if stop.is_some_and(|stop| stop.moment == Moment::Written) {
            producer.flush_timeout(LIMIT).unwrap();
            self.stop(stop, Moment::Written);
        }
        let positions = inputs.iter().filter(|input| input.taken > input.done);
        let positions = positions.map(|input| (TopicPartition::new(INPUT, input.partition), input.position()));
        if let Err(error) = transaction.send_offsets(positions, &GroupMetadata::new(GROUP)) {
            log::warn!("offsets: {error:?}");
        }
        self.stop(stop, Moment::Offsets);
        self.stop(stop, Moment::Ending);
        let fate = if aborts { self.abort(transaction, Fate::Aborted) } else { self.commit(transaction) };
        if fate == Fate::Committed {
            self.stop(stop, Moment::Ended);
        }
        fate
    }

    fn commit(&mut self, transaction: Transaction) -> Fate {
        let deadline = Instant::now() + LIMIT;
        let mut outcome = transaction.commit();
        loop {
            let late: NotCommitted = match outcome {
                Ok(()) => return Fate::Committed,
                Err(late) => late,
            };
            match late.error().recovery() {
                Recovery::Retry if Instant::now() < deadline => outcome = late.into_transaction().commit(),
                Recovery::AbortTransaction => {
                    log::warn!("failed: {:?}", late.error());
                    return self.abort(late.into_transaction(), Fate::Failed);
                }
                _ => self.lost(&late.error().clone()),
            }
        }
    }

    fn abort(&mut self, transaction: Transaction, fate: Fate) -> Fate {
        match transaction.abort() {
            Ok(()) => fate,
            // It is on its way, and the next one waits for it.
            Err(error) if error.recovery() == Recovery::Retry => fate,
            Err(error) => self.lost(&error),
        }
    }

    /// The producer has ended.
    fn lost(&mut self, error: &Error) -> ! {
        log::warn!("{error:?}");
        if error.kind() == ErrorKind::Fenced {
            self.tell("fenced");
            exit(0);
        }
        panic!("{error:?}");
    }

    fn patiently<T>(&mut self, call: impl Fn() -> kafka_blocking::Result<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            match call() {
                Ok(value) => return value,
                Err(error) if error.recovery() == Recovery::Retry && Instant::now() < deadline => {
                    log::warn!("once more: {error}");
                }
                Err(error) => self.lost(&error),
            }
        }
    }

    /// Where the group stands, by what is committed.
    fn stored(&mut self) -> Vec<i64> {
        let servers = self.servers.clone();
        self.patiently(|| {
            let mut reader = RawProducer::connect(&servers, "nobody")?;
            let offset = |partition| reader.committed_offset(GROUP, INPUT, partition);
            let offsets: kafka_blocking::Result<Vec<_>> = (0..PARTITIONS).map(offset).collect();
            Ok(offsets?.into_iter().map(|offset| offset.map_or(0, |offset| offset.offset)).collect())
        })
    }

    /// Says that it is at this moment, if it was told to, and stands still.
    fn stop(&mut self, stop: Option<Stop>, moment: Moment) {
        let Some(stop) = stop.filter(|stop| stop.moment == moment) else { return };
        self.tell(&format!("at {stop}"));
        if moment == Moment::Ending {
            return;
        }
        self.gone_on += 1;
        let go = go_of(&self.directory, self.number, self.gone_on);
        wait_for("the word to go on", LIMIT * 2, || go.exists().then_some(()));
    }

    fn tell(&mut self, event: &str) {
        self.events.write_all(format!("{event}\n").as_bytes()).unwrap();
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Committed,
    /// On purpose.
    Aborted,
    /// It was aborted because there was no other way.
    Failed,
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }
}

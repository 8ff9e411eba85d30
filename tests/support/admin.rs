//! Java's admin client and consumer in one resident JVM per cluster, so that making a topic takes milliseconds and
//! what the client under test wrote is read back by another client.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::jars::{self, Version};
use super::kafka::logging;
use super::process::Watched;

const SOURCE: &str = include_str!("java/Judge.java");

/// How long one command may take, apart from reading.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The resident Java helper of a cluster. A failed command panics with Java's reason; the `try_` forms return it.
#[derive(Debug)]
pub struct Admin {
    connection: Mutex<Connection>,
    directory: PathBuf,
}

#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
    _process: Watched,
    reads: usize,
}

/// A record as Java's consumer gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    /// 0 create time, 1 log append time, -1 none.
    pub timestamp_type: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A partition as the cluster's metadata has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    pub leader: Option<i32>,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// Which records [`Admin::read_with`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    Uncommitted,
    Committed,
}

impl Admin {
    /// Starts the helper against `bootstrap`; its files go to `directory`.
    pub fn start(brokers: Version, bootstrap: &str, directory: &Path) -> Self {
        // The clients of 4.x refuse brokers before 2.1; those of 3.9 do not.
        let version = if brokers == Version::V0_11 { Version::V3_9 } else { Version::V4_3 };
        let source = directory.join("Judge.java");
        fs::write(&source, SOURCE).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let log = directory.join("judge.log");
        let mut arguments: Vec<std::ffi::OsString> = vec!["-Xmx512m".into(), "-XX:TieredStopAtLevel=1".into()];
        arguments.extend(["-XX:-UsePerfData".into(), "-cp".into(), jars::class_path(version).into()]);
        arguments.extend(logging(directory));
        arguments.extend([source.into(), bootstrap.into(), port.into()]);
        let mut process = Watched::start("java", arguments, &log, &log);
        let stream = accept(&listener, &mut process, &log);
        stream.set_nodelay(true).unwrap();
        let connection = Connection { stream: BufReader::new(stream), _process: process, reads: 0 };
        Self { connection: Mutex::new(connection), directory: directory.to_owned() }
    }

    /// Creates a topic; settings are `name=value`. What is asked of it later waits until the broker asked knows it.
    pub fn create_topic(&self, topic: &str, partitions: usize, replicas: usize, settings: &[&str]) {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        let mut fields = vec!["create", topic, &partitions, &replicas];
        fields.extend(settings);
        self.run(&fields);
    }

    /// Creates a topic with these replicas (broker ids, the preferred leader first) for each partition.
    pub fn create_topic_on(&self, topic: &str, replicas: &[&[i32]]) {
        let replicas: Vec<String> = replicas.iter().map(|ids| join(ids)).collect();
        let mut fields = vec!["create-on", topic];
        fields.extend(replicas.iter().map(String::as_str));
        self.run(&fields);
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        self.run(&["delete", topic]);
    }

    /// Raises the number of partitions to `total`, and waits until the broker asked shows them: that is a moment after the
    /// controller has made them.
    pub fn add_partitions(&self, topic: &str, total: usize) {
        self.run(&["partitions", topic, &total.to_string()]);
        super::wait_for("the new partitions", Duration::from_secs(60), || {
            (self.try_describe(topic).ok()?.len() == total).then_some(())
        });
    }

    /// The names of all topics that are not internal.
    pub fn topics(&self) -> Vec<String> {
        self.run(&["topics"])
    }

    /// The partitions of a topic in order; the error is Java's, for instance while the topic is not known yet.
    pub fn try_describe(&self, topic: &str) -> Result<Vec<Partition>, String> {
        let ids = |text: &str| text.split(',').filter_map(|id| id.parse().ok()).collect();
        let partition = |text: &String| {
            let mut parts = text.split(';');
            let leader = parts.next().and_then(|id| id.parse().ok()).filter(|id| *id >= 0);
            let mut list = || ids(parts.next().unwrap_or_default());
            Partition { leader, replicas: list(), in_sync: list() }
        };
        Ok(self.try_run(&["describe", topic])?.iter().map(partition).collect())
    }

    /// The partitions of a topic in order.
    pub fn describe(&self, topic: &str) -> Vec<Partition> {
        self.try_describe(topic).unwrap_or_else(|error| panic!("describing {topic}: {error}"))
    }

    /// Waits until a partition has a leader, and returns the leader's id.
    pub fn leader(&self, topic: &str, partition: usize) -> i32 {
        super::wait_for("a leader", Duration::from_secs(60), || self.try_describe(topic).ok()?.get(partition)?.leader)
    }

    /// The broker that coordinates a transactional id or, with the topic `__consumer_offsets`, a group: it leads the
    /// partition of that internal topic where the id belongs. Waits until there is one.
    pub fn coordinator(&self, topic: &str, id: &str) -> i32 {
        super::wait_for("a coordinator", Duration::from_secs(60), || {
            self.try_run(&["coordinator", topic, id]).ok()?[0].parse().ok().filter(|broker| *broker >= 0)
        })
    }

    /// The state and the epoch of a transactional id, as its coordinator has them (KIP-664, Kafka 3.0).
    pub fn try_transaction(&self, id: &str) -> Result<(String, i16), String> {
        let mut answer = self.try_run(&["transaction", id])?.into_iter();
        let mut next = || answer.next().unwrap();
        Ok((next(), next().parse().unwrap()))
    }

    /// The finalized level of a feature; 0 if there is none.
    pub fn feature_level(&self, name: &str) -> u16 {
        self.run(&["feature", name])[0].parse().unwrap()
    }

    /// Sets (`name=value`) or removes (`name=`) settings of a topic.
    pub fn configure_topic(&self, topic: &str, settings: &[&str]) {
        self.run(&[&["config", "topic", topic], settings].concat());
    }

    /// Sets or removes settings of a broker; of all brokers if `id` is none.
    pub fn configure_broker(&self, id: Option<i32>, settings: &[&str]) {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        self.run(&[&["config", "broker", &id], settings].concat());
    }

    /// Sets or removes quotas (`producer_byte_rate=…`) of a client id; of all client ids if `id` is empty.
    pub fn set_quota(&self, client_id: &str, settings: &[&str]) {
        self.run(&[&["config", "client", client_id], settings].concat());
    }

    /// Makes the first replica of each partition its leader, and waits until the broker asked says that it is.
    pub fn elect_preferred_leaders(&self, topic: &str) {
        self.run(&["elect", topic]);
    }

    /// Moves a partition to these brokers and waits until that is done.
    pub fn reassign(&self, topic: &str, partition: usize, replicas: &[i32]) {
        self.run(&["reassign", topic, &partition.to_string(), &join(replicas)]);
    }

    /// Adds an access control entry on a topic: principal `User:ANONYMOUS`, operation `Write`, allowed or denied.
    pub fn add_acl(&self, topic: &str, principal: &str, operation: &str, allow: bool) {
        self.run(&["acl", "add", topic, principal, operation, if allow { "allow" } else { "deny" }]);
    }

    /// Removes what [`Self::add_acl`] added.
    pub fn remove_acl(&self, topic: &str, principal: &str, operation: &str, allow: bool) {
        self.run(&["acl", "delete", topic, principal, operation, if allow { "allow" } else { "deny" }]);
    }

    /// Removes the records of a partition before an offset.
    pub fn delete_records(&self, topic: &str, partition: usize, before: i64) {
        self.run(&["delete-records", topic, &partition.to_string(), &before.to_string()]);
    }

    /// The end offset of each partition.
    pub fn end_offsets(&self, topic: &str) -> Vec<i64> {
        self.run(&["ends", topic]).iter().map(|offset| offset.parse().unwrap()).collect()
    }

    /// All records of a topic, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let mut records = Vec::new();
        self.read_with(&[topic], Isolation::Uncommitted, Duration::from_secs(120), |record| records.push(record));
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Gives all records of some topics, up to the end as it is now, to `each`; per partition in the log's order.
    /// Returns their number. A million small records take some seconds.
    pub fn read_with(
        &self,
        topics: &[&str],
        isolation: Isolation,
        limit: Duration,
        mut each: impl FnMut(Record),
    ) -> usize {
        let file = {
            let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            connection.reads += 1;
            self.directory.join(format!("read-{}.records", connection.reads))
        };
        let isolation = if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" };
        let seconds = limit.as_secs().to_string();
        let command = [&["read", file.to_str().unwrap(), isolation, &seconds], topics].concat();
        let count = self.try_run_within(&command, limit + COMMAND_LIMIT);
        let count: usize = count.unwrap_or_else(|error| panic!("reading {topics:?}: {error}"))[0].parse().unwrap();
        let mut input = Input { file: BufReader::with_capacity(1 << 20, File::open(&file).unwrap()) };
        let topics: Vec<Arc<str>> = topics.iter().map(|topic| Arc::from(*topic)).collect();
        for _ in 0..count {
            each(input.record(&topics));
        }
        fs::remove_file(&file).unwrap();
        count
    }

    fn run(&self, fields: &[&str]) -> Vec<String> {
        self.try_run(fields).unwrap_or_else(|error| panic!("{fields:?}: {error}"))
    }

    /// Runs one command; the error is Java's.
    pub fn try_run(&self, fields: &[&str]) -> Result<Vec<String>, String> {
        self.try_run_within(fields, COMMAND_LIMIT)
    }

    fn try_run_within(&self, fields: &[&str], limit: Duration) -> Result<Vec<String>, String> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = &mut connection.stream;
        stream.get_ref().set_read_timeout(Some(limit)).unwrap();
        stream.get_mut().write_all((fields.join("\t") + "\n").as_bytes()).expect("the Java helper lives");
        let mut line = String::new();
        stream.read_line(&mut line).expect("the Java helper answers in time");
        let mut answer = line.trim_end_matches('\n').split('\t').map(str::to_owned);
        match answer.next().as_deref() {
            Some("ok") => Ok(answer.filter(|field| !field.is_empty()).collect()),
            Some("error") => Err(answer.collect()),
            _ => panic!("the Java helper has gone; see {}/judge.log", self.directory.display()),
        }
    }
}

fn accept(listener: &TcpListener, process: &mut Watched, log: &Path) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + COMMAND_LIMIT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return stream;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        if process.ended().is_some() || Instant::now() > deadline {
            panic!("the Java helper did not start:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn join(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What `Judge.java` writes: big-endian numbers, and bytes after their length (-1: none).
struct Input {
    file: BufReader<File>,
}

impl Input {
    fn record(&mut self, topics: &[Arc<str>]) -> Record {
        Record {
            topic: Arc::clone(&topics[usize::try_from(self.int()).unwrap()]),
            partition: self.int(),
            offset: self.long(),
            timestamp_ms: self.long(),
            timestamp_type: self.int(),
            key: self.bytes(),
            value: self.bytes(),
            headers: (0..self.int()).map(|_| (self.string(), self.bytes())).collect(),
        }
    }

    fn int(&mut self) -> i32 {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes).unwrap();
        i32::from_be_bytes(bytes)
    }

    fn long(&mut self) -> i64 {
        let mut bytes = [0; 8];
        self.file.read_exact(&mut bytes).unwrap();
        i64::from_be_bytes(bytes)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.int()).ok()?;
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes).unwrap();
        Some(bytes)
    }

    fn string(&mut self) -> String {
        String::from_utf8(self.bytes().unwrap()).unwrap()
    }
}

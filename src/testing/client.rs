//! A client with which tests look at any cluster, real or fake.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::seen::{LoggedRecord, decode_records};
use crate::bytes::SharedBytes;
use crate::cluster::coordinator::{self, CoordinatorKey};
use crate::error::{Error, ErrorCode, Recovery, Result, Timeout};
use crate::net::{Connection, Hangup, HostPort, NetConfig};
use crate::protocol::api::Request;
use crate::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::fetch::{FetchPartition, FetchTopic, FetchableTopicResponse};
use crate::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::metadata::MetadataResponseTopic;
use crate::protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
};
use crate::protocol::wire::Records;
use crate::record::aborted::AbortedTransactions;
use crate::time::{self, wire_ms};
use crate::topic::BrokerId;

/// How many bytes one fetch asks for.
const FETCH_BYTES: i32 = 16 << 20;
/// The longest answer that is accepted: the answer to a fetch may be one batch larger than asked for.
const MAX_RESPONSE_BYTES: usize = 256 << 20;
/// How long a broker waits with the answer to a fetch that finds no records.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// The pause before the next attempt, when the cluster cannot answer yet.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The isolation level that leaves aborted transactions out.
const READ_COMMITTED: i8 = 1;
/// From version 13 on a fetch names topics by id.
const FETCH_BY_NAME: i16 = 12;

/// A small tool for tests against any cluster, real or fake: it creates and deletes topics, finds leaders and
/// offsets, and reads what was written.
///
/// A call is repeated after leader changes and broken connections until its time is over; then its error is
/// `Timeout(Wait)`, with the last failure as the cause.
///
/// *Thread*: one at a time; it has no threads of its own.
///
/// ```
/// use kafka_blocking::testing::FakeCluster;
/// use kafka_blocking::testing::internal_unstable::Client;
/// use kafka_blocking::{Producer, Record};
///
/// # fn main() -> kafka_blocking::Result<()> {
/// let cluster = FakeCluster::start(1)?;
/// let mut client = Client::connect(cluster.bootstrap())?;
/// client.create_topic("orders", 1, 1, [])?;
///
/// let producer = Producer::builder(cluster.bootstrap()).build()?;
/// producer.send(Record::to("orders").value("one coffee")).wait()?;
/// producer.close()?;
///
/// assert_eq!(client.read_all("orders", 0)?[0].value_text(), "one coffee");
/// # Ok(())
/// # }
/// ```
pub struct Client {
    bootstrap: Vec<HostPort>,
    config: Arc<NetConfig>,
    pub(super) timeout: Duration,
    connections: BTreeMap<BrokerId, Connection>,
    /// The brokers, as the last metadata answer said.
    brokers: BTreeMap<BrokerId, HostPort>,
    controller: Option<BrokerId>,
    leaders: BTreeMap<(String, i32), BrokerId>,
    hangup: Hangup,
}

impl Client {
    /// Finds a cluster by the addresses of some of its brokers.
    ///
    /// *Blocks*: at most a minute. *Errors*: `Config` for a bad address, `Timeout(Wait)`.
    pub fn connect<S: AsRef<str>>(bootstrap: impl IntoIterator<Item = S>) -> Result<Self> {
        let bootstrap: Result<Vec<HostPort>> =
            bootstrap.into_iter().map(|entry| HostPort::parse(entry.as_ref()).map_err(Error::config)).collect();
        let mut client = Self {
            bootstrap: bootstrap?,
            config: Arc::new(NetConfig {
                client_id: Some("kafka-blocking-testing".into()),
                request_timeout: REQUEST_TIMEOUT,
                connect_timeout: CONNECT_TIMEOUT,
                connect_timeout_max: CONNECT_TIMEOUT,
                send_buffer_bytes: None,
                receive_buffer_bytes: None,
                max_response_bytes: MAX_RESPONSE_BYTES,
                reachability: Arc::default(),
            }),
            timeout: Duration::from_secs(60),
            connections: BTreeMap::new(),
            brokers: BTreeMap::new(),
            controller: None,
            leaders: BTreeMap::new(),
            hangup: Hangup::default(),
        };
        client.until_it_works(|client, deadline| client.refresh(&[], deadline).map(drop))?;
        Ok(client)
    }

    /// How long each call may take. Default: a minute.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Creates a topic, and waits until each of its partitions has a leader.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn create_topic<'c>(
        &mut self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: impl IntoIterator<Item = (&'c str, &'c str)>,
    ) -> Result<()> {
        let config =
            |(name, value): (&str, &str)| CreatableTopicConfig { name: name.to_owned(), value: Some(value.to_owned()) };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.to_owned(),
                num_partitions: partitions,
                replication_factor: replication,
                configs: configs.into_iter().map(config).collect(),
                ..Default::default()
            }],
            timeout_ms: wire_ms(REQUEST_TIMEOUT),
            ..Default::default()
        };
        self.change_topic(
            topic,
            |_| request.clone(),
            |response| response.topics.first().map(|result| (result.error_code, result.error_message.as_deref())),
            ErrorCode::TOPIC_ALREADY_EXISTS,
        )?;
        let wanted = usize::try_from(partitions).unwrap_or(0);
        self.until_it_works(|client, deadline| match client.topic(topic, deadline)?.partitions {
            known if known.len() < wanted => Err(Error::network("not every partition is there yet").at_topic(topic)),
            known => known.iter().try_for_each(|partition| checked(partition.error_code, None, topic)),
        })
    }

    /// Deletes a topic, and waits until the cluster does not know it any more.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        self.change_topic(
            topic,
            |version| DeleteTopicsRequest::named([topic], wire_ms(REQUEST_TIMEOUT), version),
            |response| response.responses.first().map(|result| (result.error_code, result.error_message.as_deref())),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        )?;
        self.until_it_works(|client, deadline| match client.topic(topic, deadline) {
            Ok(_) => Err(Error::network("the topic is still there").at_topic(topic)),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// How many partitions a topic has.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn partitions(&mut self, topic: &str) -> Result<i32> {
        let count = self.until_it_works(|client, deadline| Ok(client.topic(topic, deadline)?.partitions.len()))?;
        i32::try_from(count).map_err(|_| Error::misbehaved("more partitions than can be counted"))
    }

    /// The broker that leads a partition.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn leader(&mut self, topic: &str, partition: i32) -> Result<BrokerId> {
        self.until_it_works(|client, deadline| {
            client.topic(topic, deadline)?;
            client.known_leader(topic, partition)
        })
    }

    /// The offset of a partition's first record.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn start_offset(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.offset_for(topic, partition, -2)
    }

    /// The offset after a partition's last record.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.offset_for(topic, partition, -1)
    }

    fn offset_for(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        self.offset_at(topic, partition, timestamp, 0)
    }

    fn offset_at(&mut self, topic: &str, partition: i32, timestamp: i64, isolation_level: i8) -> Result<i64> {
        let request = ListOffsetsRequest {
            isolation_level,
            topics: vec![ListOffsetsTopic {
                name: topic.to_owned(),
                partitions: vec![ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() }],
            }],
            timeout_ms: wire_ms(REQUEST_TIMEOUT),
            ..Default::default()
        };
        self.until_it_works(|client, deadline| {
            let leader = client.leader_for(topic, partition, deadline)?;
            let response = client.call(leader, &request, deadline)?;
            let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
            let answer = answer.ok_or_else(|| missing("ListOffsets"))?;
            client.checked_by_leader(answer.error_code, topic, partition)?;
            Ok(answer.offset)
        })
    }

    /// The records of a partition that are written now.
    ///
    /// *Errors*: like [`read`](Self::read).
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Result<Vec<LoggedRecord>> {
        let offsets = self.start_offset(topic, partition)?..self.end_offset(topic, partition)?;
        self.read(topic, partition, offsets)
    }

    /// The records of a partition whose offsets are in a range. Waits for those that are not written yet.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `BrokerMisbehaved` and `Compression` for batches that cannot be
    /// decoded, `Timeout(Wait)`.
    pub fn read(&mut self, topic: &str, partition: i32, offsets: Range<i64>) -> Result<Vec<LoggedRecord>> {
        let mut records = Vec::new();
        self.read_with(topic, partition, offsets, |record| records.push(record))?;
        Ok(records)
    }

    /// [`read`](Self::read) for more records than fit into memory: it passes each record to `keep`.
    ///
    /// *Errors*: like [`read`](Self::read).
    pub fn read_with(
        &mut self,
        topic: &str,
        partition: i32,
        offsets: Range<i64>,
        mut keep: impl FnMut(LoggedRecord),
    ) -> Result<()> {
        self.read_at(topic, partition, offsets, false, &mut keep)
    }

    /// The records of a partition whose offsets are in a range, as READ_COMMITTED shows them: without those of aborted
    /// transactions. Waits until every transaction in the range has ended.
    ///
    /// *Errors*: like [`read`](Self::read).
    pub fn read_committed(&mut self, topic: &str, partition: i32, offsets: Range<i64>) -> Result<Vec<LoggedRecord>> {
        let mut records = Vec::new();
        self.read_at(topic, partition, offsets, true, &mut |record| records.push(record))?;
        Ok(records)
    }

    /// The offset up to which READ_COMMITTED sees a partition: where its first open transaction begins.
    ///
    /// *Errors*: `Broker` with the cluster's reason, `Timeout(Wait)`.
    pub fn stable_offset(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.offset_at(topic, partition, -1, READ_COMMITTED)
    }

    fn read_at(
        &mut self,
        topic: &str,
        partition: i32,
        offsets: Range<i64>,
        committed: bool,
        keep: &mut impl FnMut(LoggedRecord),
    ) -> Result<()> {
        let mut next = offsets.start;
        self.until_it_works(|client, deadline| {
            while next < offsets.end {
                let (bytes, aborted) = client.fetch(topic, partition, next, committed, deadline)?;
                let mut records = Vec::new();
                // Not worth a retry: a further fetch would find the same bytes.
                next = decode_records(&bytes, partition, next, aborted, &mut |record| records.push(record))
                    .map_err(|error| error.with_recovery(Recovery::Fix).at_topic(topic))?;
                records.into_iter().filter(|record| record.offset() < offsets.end).for_each(&mut *keep);
                if Instant::now() >= deadline && next < offsets.end {
                    return Err(Error::network(format!("the log ends at offset {next}")).at_topic(topic));
                }
            }
            Ok(())
        })
    }

    fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        committed: bool,
        deadline: Instant,
    ) -> Result<(SharedBytes, AbortedTransactions)> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = FetchRequest {
            max_wait_ms: wire_ms(FETCH_WAIT.min(left)),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: if committed { READ_COMMITTED } else { 0 },
            topics: vec![FetchTopic {
                topic: topic.to_owned(),
                partitions: vec![FetchPartition {
                    partition,
                    fetch_offset: offset,
                    last_fetched_epoch: -1,
                    partition_max_bytes: FETCH_BYTES,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let leader = self.leader_for(topic, partition, deadline)?;
        let version = self.connection(leader, deadline)?.versions().choose_at_most::<FetchRequest>(FETCH_BY_NAME)?;
        let response = self.call_at(leader, &request, version, deadline)?;
        checked(response.error_code, None, topic)?;
        let answer = response.responses.into_iter().flat_map(|FetchableTopicResponse { partitions, .. }| partitions);
        let answer = answer.into_iter().next().ok_or_else(|| missing("Fetch"))?;
        self.checked_by_leader(answer.error_code, topic, partition)?;
        let aborted = answer.aborted_transactions.into_iter().flatten();
        let aborted =
            AbortedTransactions::new(aborted.map(|transaction| (transaction.first_offset, transaction.producer_id)));
        match answer.records {
            Records::Inline(bytes) => Ok((bytes, aborted)),
            Records::Null | Records::Spliced(_) => Ok((SharedBytes::default(), aborted)),
        }
    }

    /// Repeats a call until it works, or fails with an error that a retry cannot cure, or the time is over.
    fn until_it_works<T>(&mut self, mut call: impl FnMut(&mut Self, Instant) -> Result<T>) -> Result<T> {
        let deadline = time::deadline(Instant::now(), self.timeout);
        loop {
            let error = match call(self, deadline) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            if error.recovery() != Recovery::Retry {
                return Err(error);
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(Error::timeout(Timeout::Wait, "the cluster was not ready in time").with_source(error));
            }
            debug!("another attempt after: {error}");
            std::thread::sleep(PAUSE);
        }
    }

    fn call<R: Request>(&mut self, broker: BrokerId, request: &R, deadline: Instant) -> Result<R::Response> {
        let version = self.connection(broker, deadline)?.versions().choose::<R>()?;
        self.call_at(broker, request, version, deadline)
    }

    pub(super) fn call_at<R: Request>(
        &mut self,
        broker: BrokerId,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<R::Response> {
        self.exchange(broker, deadline, |connection, until| connection.call_at(request, version, until))
    }

    /// Runs `call` on a broker's connection, which is dropped after an error.
    fn exchange<T>(
        &mut self,
        broker: BrokerId,
        deadline: Instant,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T> {
        let connection = self.connection(broker, deadline)?;
        let until = deadline.min(connection.default_deadline());
        let answer = call(connection, until);
        if answer.is_err() {
            self.connections.remove(&broker);
            self.leaders.retain(|_, leader| *leader != broker);
        }
        answer.map_err(|error| error.at_broker(broker))
    }

    pub(super) fn connection(&mut self, broker: BrokerId, deadline: Instant) -> Result<&mut Connection> {
        match self.connections.entry(broker) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let address = self.brokers.get(&broker);
                let address = address.ok_or_else(|| Error::network("the broker has no address").at_broker(broker))?;
                let opened = Connection::open_until(address, &self.config, deadline, &self.hangup);
                if opened.is_err() {
                    self.leaders.retain(|_, leader| *leader != broker);
                }
                Ok(vacant.insert(opened?))
            }
        }
    }

    /// The controller, or any broker if the cluster does not name one.
    pub(super) fn controller(&mut self, deadline: Instant) -> Result<BrokerId> {
        if self.controller.is_none() {
            self.refresh(&[], deadline)?;
        }
        let known = self.controller.filter(|id| self.brokers.contains_key(id));
        known.or_else(|| self.brokers.keys().next().copied()).ok_or_else(|| Error::network("no broker is known"))
    }

    /// The present coordinator of a group or a transactional id; the controller is asked.
    pub(super) fn coordinator(&mut self, key: &CoordinatorKey, deadline: Instant) -> Result<BrokerId> {
        let broker = self.controller(deadline)?;
        let answer = self.exchange(broker, deadline, |connection, until| coordinator::ask(connection, key, until))?;
        Ok(coordinator::read(answer)?.broker)
    }

    /// Makes the controller create or delete a topic. `result` finds the result in an answer. `repeated` is the code of
    /// a request whose work was done before; it is no error if an earlier attempt may have done it.
    fn change_topic<R: Request>(
        &mut self,
        topic: &str,
        request: impl Fn(i16) -> R,
        result: impl Fn(&R::Response) -> Option<(i16, Option<&str>)>,
        repeated: ErrorCode,
    ) -> Result<()> {
        let mut unsure = false;
        self.until_it_works(|client, deadline| {
            let controller = client.controller(deadline)?;
            let version = client.connection(controller, deadline)?.versions().choose::<R>()?;
            let answer = client.call_at(controller, &request(version), version, deadline);
            let response = answer.inspect_err(|_| unsure = true)?;
            let (code, message) = result(&response).ok_or_else(|| missing(R::NAME))?;
            match ErrorCode(code) {
                ErrorCode::NOT_CONTROLLER => client.controller = None,
                ErrorCode::REQUEST_TIMED_OUT => unsure = true,
                code if code == repeated && unsure => return Ok(()),
                _ => {}
            }
            checked(code, message, topic)
        })
    }

    /// The leader that is known; if none is, the cluster is asked.
    pub(super) fn leader_for(&mut self, topic: &str, partition: i32, deadline: Instant) -> Result<BrokerId> {
        if let Ok(leader) = self.known_leader(topic, partition) {
            return Ok(leader);
        }
        self.topic(topic, deadline)?;
        self.known_leader(topic, partition)
    }

    fn known_leader(&self, topic: &str, partition: i32) -> Result<BrokerId> {
        let leader = self.leaders.get(&(topic.to_owned(), partition));
        leader.copied().ok_or_else(|| Error::broker(ErrorCode::LEADER_NOT_AVAILABLE, None).at_topic(topic))
    }

    pub(super) fn checked_by_leader(&mut self, code: i16, topic: &str, partition: i32) -> Result<()> {
        if ErrorCode(code).refreshes_metadata() {
            self.leaders.remove(&(topic.to_owned(), partition));
        }
        checked(code, None, topic)
    }

    fn topic(&mut self, topic: &str, deadline: Instant) -> Result<MetadataResponseTopic> {
        let response = self.refresh(&[topic], deadline)?;
        let found = response.topics.into_iter().next().ok_or_else(|| missing("Metadata"))?;
        checked(found.error_code, None, topic)?;
        self.leaders.retain(|(name, _), _| name != topic);
        for partition in &found.partitions {
            if partition.leader_id >= 0 {
                self.leaders.insert((topic.to_owned(), partition.partition_index), BrokerId(partition.leader_id));
            }
        }
        Ok(found)
    }

    /// Asks the brokers that are known, then the bootstrap servers, until one answers.
    fn refresh(&mut self, topics: &[&str], deadline: Instant) -> Result<MetadataResponse> {
        let request = MetadataRequest::named(topics.iter().copied(), false);
        let mut last = None;
        let known: Vec<BrokerId> = self.connections.keys().copied().collect();
        for broker in known {
            match self.call(broker, &request, deadline) {
                Ok(response) => return self.take(response),
                Err(error) => last = Some(error),
            }
        }
        let addresses: Vec<HostPort> = self.brokers.values().chain(&self.bootstrap).cloned().collect();
        for address in addresses {
            let opened = Connection::open_until(&address, &self.config, deadline, &self.hangup);
            let answer = opened.and_then(|mut connection| {
                let deadline = deadline.min(connection.default_deadline());
                connection.call(&request, deadline)
            });
            match answer {
                Ok(response) => return self.take(response),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::config("no bootstrap server was given")))
    }

    fn take(&mut self, response: MetadataResponse) -> Result<MetadataResponse> {
        checked_whole(response.error_code)?;
        let mut brokers = BTreeMap::new();
        for broker in &response.brokers {
            let port = u16::try_from(broker.port).map_err(|_| Error::misbehaved("a broker without a port"))?;
            brokers.insert(BrokerId(broker.node_id), HostPort::new(broker.host.as_str(), port));
        }
        let moved = |id: &BrokerId| brokers.get(id) != self.brokers.get(id);
        self.connections.retain(|id, _| !moved(id));
        self.brokers = brokers;
        self.controller = Some(BrokerId(response.controller_id)).filter(|id| id.0 >= 0);
        Ok(response)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

fn checked(code: i16, detail: Option<&str>, topic: &str) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(Error::broker(code, detail).at_topic(topic)),
    }
}

fn checked_whole(code: i16) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(Error::broker(code, None)),
    }
}

pub(super) fn missing(api: &str) -> Error {
    Error::misbehaved(format!("an answer to {api} lacks what was asked for"))
}

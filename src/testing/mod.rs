//! A Kafka cluster in this process, for tests of programs that use this crate.
//!
//! [`FakeCluster`] speaks Kafka's protocol over loopback, and checks requests as strictly as Kafka does: checksums,
//! sequence numbers, epochs, versions, sizes and topic names. A test sets the faults, so that it can see what a real
//! cluster shows once a month: an answer that is lost after the append, a leader that moves, an error for one
//! partition. And the test can read the cluster's logs.
//!
//! ```
//! use kafka_blocking::testing::{FakeCluster, Fault, On};
//! use kafka_blocking::{ErrorCode, Producer, Record};
//!
//! # fn main() -> kafka_blocking::Result<()> {
//! let cluster = FakeCluster::builder().brokers(3).topic("orders", 2).start()?;
//! // The first write reaches the log, and its answer is lost.
//! let lost = cluster.inject(On::produce().topic("orders"), Fault::DropAnswer);
//!
//! let producer = Producer::builder(cluster.bootstrap()).build()?;
//! producer.send(Record::to("orders").value("one coffee").partition(0)).wait()?;
//! producer.close()?;
//!
//! // The retry was recognised: the record is there once.
//! assert_eq!(lost.fired(), 1);
//! assert_eq!(cluster.records("orders", 0)?[0].value_text(), "one coffee");
//! assert_eq!(cluster.log_len("orders", 0)?, 1);
//! assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
//! # Ok(())
//! # }
//! ```
//!
//! Transactions follow the rules of Kafka 4.3's coordinator, in both protocols ([`FakeClusterBuilder::transactions`]),
//! with fencing, timeouts, markers and the view of READ_COMMITTED. A group has only committed offsets.
//!
//! It does not have members of consumer groups, TLS and SASL, quotas, retention and compaction.
//! Replicas never lag behind.

mod builder;
mod client;
mod fault;
mod groups;
mod handlers;
mod log;
mod raw_producer;
mod seen;
mod server;
mod sessions;
mod state;
pub(crate) mod transactions;
mod validate;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::builder::FakeClusterBuilder;
pub use self::fault::{Fault, FaultHandle, On};
pub use self::groups::CommittedOffset;
pub use self::seen::{LoggedBatch, LoggedRecord, Marker, SeenBatch, SeenRequest, SeenTransaction};
pub use self::transactions::{SeenTransactionalId, TransactionState, TransactionVersion};
pub use self::versions::{Api, KafkaVersion};

/// The clients with which this crate's own tests read and write until there is a consumer and an admin client.
///
/// Not part of the interface: it may change or disappear with any release.
#[doc(hidden)]
pub mod internal_unstable {
    pub use super::client::Client;
    pub use super::raw_producer::RawProducer;
}

use self::builder::Settings;
use self::seen::{decode_records, logged_batch};
use self::server::ServerShared;
use self::state::{Coordinates, FakeState};
use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorCode, Result};
use crate::record::aborted::AbortedTransactions;
use crate::record::compression::{DEFAULT_MAX_DECOMPRESSED_BYTES, Decompressor};
use crate::record::reader::read_batches;
use crate::time;
use crate::topic::BrokerId;

/// A Kafka cluster in this process. See the [module](self) for an example.
///
/// *Thread*: any. Each broker has a thread that accepts connections, and one for each connection, all named
/// `fake-broker-{id}`; `fake-transactions` aborts transactions that take too long. Dropping the cluster closes
/// everything and waits for these threads.
pub struct FakeCluster {
    shared: Arc<ServerShared>,
}

impl FakeCluster {
    /// Starts a cluster of this many brokers, with default settings: the newest Kafka, no topics, and no automatic
    /// creation.
    ///
    /// *Errors*: `Config` for no broker at all; `Network` if the operating system gives no port.
    pub fn start(brokers: usize) -> Result<Self> {
        Self::builder().brokers(brokers).start()
    }

    /// A builder for a cluster with other settings.
    pub fn builder() -> FakeClusterBuilder {
        FakeClusterBuilder::default()
    }

    fn run(settings: Settings, topics: Vec<(String, usize, BTreeMap<String, String>)>) -> Result<Self> {
        let cluster = Self { shared: Arc::new(ServerShared::new(settings)) };
        for broker in cluster.brokers() {
            cluster.shared.open(broker)?;
        }
        for (name, partitions, configs) in topics {
            cluster.create(&name, partitions, configs).map_err(|error| Error::config(error.to_string()))?;
        }
        Ok(cluster)
    }

    /// The addresses of all brokers, alive or not, as a client's bootstrap servers.
    pub fn bootstrap(&self) -> Vec<String> {
        self.brokers().into_iter().map(|broker| self.address(broker)).collect()
    }

    /// The address of a broker, alive or not: `127.0.0.1:port`.
    pub fn address(&self, broker: BrokerId) -> String {
        let port = self.shared.state.lock().brokers.get(&broker).map_or(0, |broker| broker.port);
        format!("{}:{port}", handlers::HOST)
    }

    /// The ids of all brokers, alive or not.
    pub fn brokers(&self) -> Vec<BrokerId> {
        self.shared.state.lock().brokers.keys().copied().collect()
    }
}

/// Topics.
impl FakeCluster {
    /// Creates a topic.
    ///
    /// *Errors*: `Broker`, with the code that a client would get.
    pub fn create_topic(&self, topic: &str, partitions: usize) -> Result<()> {
        self.create(topic, partitions, BTreeMap::new())
    }

    /// Creates a topic with settings of its own; see [`FakeClusterBuilder::topic_with`].
    ///
    /// *Errors*: `Broker`, with the code that a client would get.
    pub fn create_topic_with<'c>(
        &self,
        topic: &str,
        partitions: usize,
        configs: impl IntoIterator<Item = (&'c str, &'c str)>,
    ) -> Result<()> {
        let configs = configs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.create(topic, partitions, configs)
    }

    fn create(&self, topic: &str, partitions: usize, configs: BTreeMap<String, String>) -> Result<()> {
        let settings = &self.shared.settings;
        self.shared.change(|state| match state.creation_fault(topic, partitions, settings.replication) {
            Some((code, message)) => Err(Error::broker(code, Some(&message)).at_topic(topic)),
            None => {
                state.create(topic, partitions, settings.replication, configs, settings);
                Ok(())
            }
        })
    }

    /// Deletes a topic with its records.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        self.shared.change(|state| {
            state.topic(topic)?;
            state.topics.remove(topic);
            Ok(())
        })
    }

    /// Deletes a topic and creates it again, with as many partitions, the same settings and another id. No client sees
    /// the time between.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn recreate_topic(&self, topic: &str) -> Result<()> {
        let settings = &self.shared.settings;
        self.shared.change(|state| {
            let old = state.topic(topic)?;
            let (partitions, configs) = (old.partitions.len(), std::mem::take(&mut old.configs));
            state.topics.remove(topic);
            state.create(topic, partitions, settings.replication, configs, settings);
            Ok(())
        })
    }

    /// Adds partitions to a topic.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn add_partitions(&self, topic: &str, count: usize) -> Result<()> {
        let replication = self.shared.settings.replication;
        self.shared.change(|state| {
            let first = state.topic(topic)?.partitions.len();
            for index in first..first.saturating_add(count) {
                let partition = state.place(index, replication);
                state.topic(topic)?.partitions.push(partition);
            }
            Ok(())
        })
    }

    /// How many partitions a topic has.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn partition_count(&self, topic: &str) -> Result<usize> {
        Ok(self.shared.state.lock().topic(topic)?.partitions.len())
    }

    /// The broker that leads a partition, if one does.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Option<BrokerId>> {
        Ok(self.shared.state.lock().partition(topic, partition)?.leader)
    }
}

/// Faults.
impl FakeCluster {
    /// Sets a fault for the requests that `on` chooses. If several faults match a request, the one that was set first
    /// hits it.
    pub fn inject(&self, on: On, fault: Fault) -> FaultHandle {
        let shared = &self.shared;
        shared.change(|state| state.rules.add(shared, on, fault))
    }

    /// Answers the next `times` Produce requests that name `topic` with an error, only for the partitions of this
    /// topic.
    pub fn fail_produce(&self, topic: &str, code: ErrorCode, times: usize) -> FaultHandle {
        self.inject(On::produce().topic(topic).times(times), Fault::Error(code))
    }

    /// Ends all faults that [`inject`](Self::inject) has set.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.rules.clear());
    }

    /// Ends a broker: it takes no connections, and its connections are closed. Its partitions get another leader if one
    /// of their replicas is alive.
    pub fn kill(&self, broker: BrokerId) {
        self.shared.close(broker);
    }

    /// Starts a broker again that was killed, on the same port if that is still free. It becomes the leader of its
    /// partitions that have none.
    ///
    /// *Errors*: `InvalidInput` if there is no such broker, `Network` if the operating system gives no port.
    pub fn restart(&self, broker: BrokerId) -> Result<()> {
        if !self.shared.state.lock().brokers.contains_key(&broker) {
            return Err(Error::invalid("there is no such broker").at_broker(broker));
        }
        self.shared.open(broker)
    }

    /// Restarts two brokers, each at the address that the other one had.
    ///
    /// *Errors*: `InvalidInput` if there is no such broker, `Network` if the operating system gives no port.
    pub fn swap_addresses(&self, one: BrokerId, other: BrokerId) -> Result<()> {
        for broker in [one, other] {
            if !self.shared.state.lock().brokers.contains_key(&broker) {
                return Err(Error::invalid("there is no such broker").at_broker(broker));
            }
        }
        self.shared.close(one);
        self.shared.close(other);
        self.shared.change(|state| {
            let port = |state: &FakeState, broker| state.brokers.get(&broker).map(|broker| broker.port);
            let ports = (port(state, one), port(state, other));
            for (broker, port) in [(one, ports.1), (other, ports.0)] {
                if let (Some(broker), Some(port)) = (state.brokers.get_mut(&broker), port) {
                    broker.port = port;
                }
            }
        });
        self.shared.open(one)?;
        self.shared.open(other)
    }

    /// Closes all connections to a broker. New ones are accepted at once.
    pub fn cut_connections(&self, broker: BrokerId) {
        self.shared.cut(broker);
    }

    /// Makes a broker hang, as a stopped process does: it accepts connections, but neither carries out nor answers
    /// requests until [`resume`](Self::resume). It stays the leader of its partitions.
    pub fn pause(&self, broker: BrokerId) {
        self.set_paused(broker, true);
    }

    /// Lets a paused broker go on, with the requests that have reached it meanwhile.
    pub fn resume(&self, broker: BrokerId) {
        self.set_paused(broker, false);
    }

    fn set_paused(&self, broker: BrokerId, paused: bool) {
        self.shared.change(|state| {
            if let Some(broker) = state.brokers.get_mut(&broker) {
                broker.paused = paused;
            }
        });
    }

    /// Makes `broker` the leader of a partition, in a new epoch.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition, or the broker is not alive.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: BrokerId) -> Result<()> {
        self.shared.change(|state| {
            if !state.is_alive(broker) {
                return Err(Error::invalid("the broker is not alive").at_broker(broker));
            }
            let partition = state.partition(topic, partition)?;
            partition.leaderless = false;
            if !partition.replicas.contains(&broker) {
                partition.replicas.push(broker);
            }
            partition.lead(Some(broker));
            Ok(())
        })
    }

    /// Takes a partition's leader away. The partition has no leader until [`move_leader`](Self::move_leader).
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn leaderless(&self, topic: &str, partition: i32) -> Result<()> {
        self.shared.change(|state| {
            let partition = state.partition(topic, partition)?;
            partition.leaderless = true;
            partition.lead(None);
            Ok(())
        })
    }

    /// Makes Metadata list only the first `count` partitions of a topic, as a broker that lags behind does; `None`:
    /// all. Records for the other partitions are accepted.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn list_partitions(&self, topic: &str, count: Option<usize>) -> Result<()> {
        self.shared.change(|state| {
            state.topic(topic)?.listed = count;
            Ok(())
        })
    }

    /// Refuses writes with acks=all to a topic with NOT_ENOUGH_REPLICAS, until
    /// [`restore_min_in_sync`](Self::restore_min_in_sync).
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn fall_below_min_in_sync(&self, topic: &str) -> Result<()> {
        self.shared.change(|state| {
            state.topic(topic)?.min_in_sync_unmet = true;
            Ok(())
        })
    }

    /// Ends what [`fall_below_min_in_sync`](Self::fall_below_min_in_sync) has started.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn restore_min_in_sync(&self, topic: &str) -> Result<()> {
        self.shared.change(|state| {
            state.topic(topic)?.min_in_sync_unmet = false;
            Ok(())
        })
    }

    /// Makes a partition forget the producers that wrote to it, as brokers do after a while
    /// (`producer.id.expiration.ms`).
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn lose_producer_state(&self, topic: &str, partition: i32) -> Result<()> {
        self.shared.change(|state| {
            state.partition(topic, partition)?.log.forget_producers();
            Ok(())
        })
    }

    /// Drops the records from `offset` on, as an unclean leader election does. Only whole batches are dropped.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn truncate_log(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.change(|state| {
            state.partition(topic, partition)?.log.truncate(offset);
            Ok(())
        })
    }

    /// Drops the records before `offset`, as retention does.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.shared.change(|state| {
            state.partition(topic, partition)?.log.delete_before(offset);
            Ok(())
        })
    }

    /// Makes every broker forget its fetch sessions, as it does where others need the room.
    pub fn forget_fetch_sessions(&self) {
        self.shared.change(|state| state.sessions.forget(None));
    }

    /// How many fetch sessions there are.
    pub fn fetch_session_count(&self) -> usize {
        self.shared.state.lock().sessions.count()
    }

    /// Changes the bytes of the batch that a record is in, as a bad disk does, or a broker that is none. Readers get what
    /// `change` makes of it; the cluster itself does not look at it any more.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition, or no batch with this offset.
    pub fn damage_batch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        self.shared.change(|state| match state.partition(topic, partition)?.log.damage(offset, change) {
            true => Ok(()),
            false => Err(Error::invalid(format!("there is no batch with offset {offset}")).at_topic(topic)),
        })
    }

    /// Refuses everything about a topic, existing or not, with TOPIC_AUTHORIZATION_FAILED, until
    /// [`allow_topic`](Self::allow_topic).
    pub fn deny_topic(&self, topic: &str) {
        self.shared.change(|state| state.denied_topics.insert(topic.to_owned()));
    }

    /// Ends what [`deny_topic`](Self::deny_topic) has started.
    pub fn allow_topic(&self, topic: &str) {
        self.shared.change(|state| state.denied_topics.remove(topic));
    }

    /// Refuses idempotent producers with CLUSTER_AUTHORIZATION_FAILED, until [`allow_cluster`](Self::allow_cluster).
    pub fn deny_cluster(&self) {
        self.shared.change(|state| state.cluster_denied = true);
    }

    /// Ends what [`deny_cluster`](Self::deny_cluster) has started.
    pub fn allow_cluster(&self) {
        self.shared.change(|state| state.cluster_denied = false);
    }
}

/// Transactions and groups.
impl FakeCluster {
    /// What the coordinator knows of a transactional id.
    pub fn transaction(&self, transactional_id: &str) -> Option<SeenTransactionalId> {
        self.shared.state.lock().transactions.seen(transactional_id)
    }

    /// The broker that coordinates a transactional id, if any is alive.
    pub fn transaction_coordinator(&self, transactional_id: &str) -> Option<BrokerId> {
        self.shared.state.lock().coordinator(Coordinates::Transaction, transactional_id)
    }

    /// The broker that coordinates a group, if any is alive.
    pub fn group_coordinator(&self, group: &str) -> Option<BrokerId> {
        self.shared.state.lock().coordinator(Coordinates::Group, group)
    }

    /// Makes a broker the coordinator of a transactional id, with everything that the former one knew.
    ///
    /// *Errors*: `InvalidInput` if the broker is not alive.
    pub fn move_transaction_coordinator(&self, transactional_id: &str, broker: BrokerId) -> Result<()> {
        self.shared.change(|state| state.move_coordinator(Coordinates::Transaction, transactional_id, broker))
    }

    /// Makes a broker the coordinator of a group, with everything that the former one knew.
    ///
    /// *Errors*: `InvalidInput` if the broker is not alive.
    pub fn move_group_coordinator(&self, group: &str, broker: BrokerId) -> Result<()> {
        self.shared.change(|state| state.move_coordinator(Coordinates::Group, group, broker))
    }

    /// Holds the markers of ended transactions back, until [`release_markers`](Self::release_markers). Meanwhile
    /// readers see such a transaction as open, and its producer's next request gets CONCURRENT_TRANSACTIONS, as from a
    /// slow cluster.
    pub fn hold_markers(&self) {
        self.shared.change(|state| state.markers_held = true);
    }

    /// Writes the markers that were held back, and ends the holding.
    pub fn release_markers(&self) {
        self.shared.change(|state| {
            state.markers_held = false;
            state.write_markers();
        });
    }

    /// Aborts the open transaction of a transactional id as if its time were over, and returns whether there was one.
    /// Its producer is fenced.
    pub fn time_out_transaction(&self, transactional_id: &str) -> bool {
        self.shared.change(|state| {
            let was_open = state.transactions.time_out(transactional_id);
            state.write_markers();
            was_open
        })
    }

    /// Gives a transactional id another epoch, as if it had been used often; 32766 is the last. Returns whether there
    /// is such an id without an open transaction. Its producer has to be initialized after that.
    pub fn set_producer_epoch(&self, transactional_id: &str, epoch: i16) -> bool {
        self.shared.change(|state| state.transactions.set_epoch(transactional_id, epoch))
    }

    /// Makes the coordinator forget a transactional id, as it forgets ids that are not used for long
    /// (`transactional.id.expiration.ms`). Returns whether there was such an id without an open transaction.
    pub fn forget_transactional_id(&self, transactional_id: &str) -> bool {
        self.shared.change(|state| state.transactions.forget(transactional_id))
    }

    /// Refuses everything about a transactional id with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, until
    /// [`allow_transactional_id`](Self::allow_transactional_id).
    pub fn deny_transactional_id(&self, transactional_id: &str) {
        self.shared.change(|state| state.denied_transactional_ids.insert(transactional_id.to_owned()));
    }

    /// Ends what [`deny_transactional_id`](Self::deny_transactional_id) has started.
    pub fn allow_transactional_id(&self, transactional_id: &str) {
        self.shared.change(|state| state.denied_transactional_ids.remove(transactional_id));
    }

    /// Refuses everything about a group with GROUP_AUTHORIZATION_FAILED, until [`allow_group`](Self::allow_group).
    pub fn deny_group(&self, group: &str) {
        self.shared.change(|state| state.denied_groups.insert(group.to_owned()));
    }

    /// Ends what [`deny_group`](Self::deny_group) has started.
    pub fn allow_group(&self, group: &str) {
        self.shared.change(|state| state.denied_groups.remove(group));
    }

    /// Gives a group members, in a generation of the classic protocol: offsets of others, or of another generation, are
    /// refused from now on.
    pub fn set_group_members<'m>(&self, group: &str, generation: i32, members: impl IntoIterator<Item = &'m str>) {
        let members: BTreeSet<String> = members.into_iter().map(str::to_owned).collect();
        self.shared.change(|state| state.groups.set_members(group, generation, members));
    }

    /// The offset that a group has committed for a partition. Those of open transactions do not count.
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset> {
        self.shared.state.lock().groups.offset(group, topic, partition).0
    }
}

/// What the cluster shows.
impl FakeCluster {
    /// The records in a partition's log.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Result<Vec<LoggedRecord>> {
        let (start, batches) = self.stored(topic, partition)?;
        let mut records = Vec::new();
        for batch in batches {
            decode_records(&batch, partition, start, AbortedTransactions::default(), &mut |record| {
                records.push(record)
            })?;
        }
        Ok(records)
    }

    /// The records of a partition that READ_COMMITTED shows: up to the first open transaction, without those of aborted
    /// ones.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn committed_records(&self, topic: &str, partition: i32) -> Result<Vec<LoggedRecord>> {
        let mut state = self.shared.state.lock();
        let log = &state.partition(topic, partition)?.log;
        let (start, end) = (log.start_offset, log.stable_offset());
        let aborted = AbortedTransactions::new(log.aborted(start, end).map(|t| (t.first_offset, t.producer_id)));
        let stable = log.batches().iter().filter(|batch| batch.last_offset < end);
        let bytes: Vec<u8> = stable.flat_map(|batch| batch.bytes.to_vec()).collect();
        drop(state);
        let mut records = Vec::new();
        decode_records(&bytes.into(), partition, start, aborted, &mut |record| records.push(record))?;
        Ok(records)
    }

    /// The offset up to which READ_COMMITTED sees a partition: where its first open transaction begins.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn stable_offset(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.shared.state.lock().partition(topic, partition)?.log.stable_offset())
    }

    /// The records of all of a topic's partitions, one partition after the other.
    ///
    /// *Errors*: `InvalidInput` if there is no such topic.
    pub fn all_records(&self, topic: &str) -> Result<Vec<LoggedRecord>> {
        let mut records = Vec::new();
        for partition in (0..).take(self.partition_count(topic)?) {
            records.append(&mut self.records(topic, partition)?);
        }
        Ok(records)
    }

    /// The batches in a partition's log.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn batches(&self, topic: &str, partition: i32) -> Result<Vec<LoggedBatch>> {
        let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
        let mut batches = Vec::new();
        for bytes in self.stored(topic, partition)?.1 {
            for batch in read_batches(&bytes, &mut decompressor) {
                batches.push(logged_batch(&batch?, bytes.len())?);
            }
        }
        Ok(batches)
    }

    fn stored(&self, topic: &str, partition: i32) -> Result<(i64, Vec<SharedBytes>)> {
        let mut state = self.shared.state.lock();
        let log = &state.partition(topic, partition)?.log;
        Ok((log.start_offset, log.batches().iter().map(|batch| batch.bytes.clone()).collect()))
    }

    /// The offset after a partition's last record or marker: how many were ever written, unless the log was truncated.
    ///
    /// *Errors*: `InvalidInput` if there is no such partition.
    pub fn log_len(&self, topic: &str, partition: i32) -> Result<i64> {
        Ok(self.shared.state.lock().partition(topic, partition)?.log.end_offset)
    }

    /// How many records were written to a topic, with aborted ones, without markers; 0 for a topic that does not exist.
    pub fn record_count(&self, topic: &str) -> i64 {
        self.shared.state.lock().topics.get(topic).map_or(0, state::FakeTopic::record_count)
    }

    /// Waits until `count` records were written to a topic, and returns whether they were. The topic need not exist
    /// yet.
    ///
    /// *Blocks* at most `timeout`.
    pub fn wait_for_records(&self, topic: &str, count: i64, timeout: Duration) -> bool {
        let deadline = time::deadline(Instant::now(), timeout);
        self.shared
            .wait_until(deadline, |state| state.topics.get(topic).map_or(0, state::FakeTopic::record_count) >= count)
    }

    /// Waits until `count` requests of a kind have come, and returns whether they have.
    ///
    /// *Blocks* at most `timeout`.
    pub fn wait_for_requests(&self, api: Api, count: u64, timeout: Duration) -> bool {
        let deadline = time::deadline(Instant::now(), timeout);
        self.shared.wait_until(deadline, |state| state.counts.get(&api).copied().unwrap_or(0) >= count)
    }

    /// The requests that reached the brokers, oldest first; the last 100,000 are kept.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.state.lock().requests.iter().cloned().collect()
    }

    /// How many requests of a kind have reached the brokers.
    pub fn request_count(&self, api: Api) -> u64 {
        self.shared.state.lock().counts.get(&api).copied().unwrap_or(0)
    }

    /// How many connections a broker has.
    pub fn connection_count(&self, broker: BrokerId) -> usize {
        self.shared.state.lock().brokers.get(&broker).map_or(0, |broker| broker.connections.len())
    }

    /// How many connections the cluster has accepted.
    pub fn connections_made(&self) -> u64 {
        self.shared.state.lock().next_connection
    }

    /// Refused requests that no correct client sends, unless the cluster itself has lost something: requests that
    /// cannot be read, unknown versions, damaged batches, sequence numbers with gaps. The last 1,000 are kept.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.state.lock().refusals.iter().cloned().collect()
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl fmt::Debug for FakeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCluster").field("bootstrap", &self.bootstrap()).finish_non_exhaustive()
    }
}

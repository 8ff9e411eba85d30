//! `Producer`: how it starts, and what programs call.

use std::fmt;
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::delivery::Delivery;
use super::not_sent::RecordNotSent;
use super::shared::{SendOptions, Shared};
use super::undelivered::Undelivered;
use crate::cluster::{Cluster, Creation};
use crate::config::client::ClientConfig;
use crate::config::servers::IntoServers;
use crate::error::{Error, Result, Timeout};
use crate::logging::{info, warn};
use crate::producer::buffer::accumulator::Accumulator;
use crate::producer::buffer::budget::Budget;
use crate::producer::buffer::callbacks::Callbacks;
use crate::producer::buffer::flush::Flush;
use crate::producer::buffer::sticky::sticky_share;
use crate::producer::buffer::topic_table::TopicTable;
use crate::producer::buffer::unfinished::UnfinishedBatches;
use crate::producer::config::{Acks, ProducerBuilder, ProducerConfig};
use crate::producer::metrics::ProducerMetrics;
use crate::producer::record_metadata::RecordMetadata;
use crate::producer::send::common::Common;
use crate::producer::send::gate::TransactionGate;
use crate::producer::send::identity::Identity;
use crate::producer::send::identity_worker;
use crate::producer::send::senders::Senders;
use crate::producer::send::turn::{QUICK, Rules};
use crate::producer::transaction::state::TransactionConfig;
use crate::producer::transaction::transactions::Transactions;
use crate::producer::transaction::worker;
use crate::record::Record;
use crate::time;
use crate::topic::{BrokerId, TopicPartition};

/// How long dropping the last handle of a producer may take to deliver what is left.
pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(5);
/// Sends records to Kafka.
///
/// A producer is cheap to clone and meant to be shared: every clone is a handle to the same threads, buffers and
/// connections, and any number of threads may send at once. Records of one thread to one partition keep their order.
///
/// ```no_run
/// use kafka_blocking::{Producer, Record};
///
/// # fn main() -> kafka_blocking::Result<()> {
/// let producer = Producer::builder(["kafka01:9092", "kafka02:9092"]).build()?;
/// let sent = producer.send(Record::to("example.topic").key("user-7").value("hello")).wait()?;
/// println!("{sent}"); // example.topic-2@0: topic, partition and offset
/// # Ok(())
/// # }
/// ```
///
/// [`close`](Self::close) says what could not be delivered. Dropping the last handle closes the producer, too: it
/// delivers what it can within five seconds, and logs what is left.
#[derive(Clone)]
pub struct Producer(pub(crate) Arc<Handle>);

/// What the clones of a producer share. The last clone closes it when it is dropped.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

impl ProducerBuilder {
    /// Checks the settings and starts the producer. No broker is asked before a record is sent.
    ///
    /// *Errors*: `Config`, with every fault of the settings; `Network` where the operating system starts no thread.
    pub fn build(self) -> Result<Producer> {
        let shared = self.shared_cluster();
        let (client, config) = self.validate()?;
        let cluster = match shared {
            Some(cluster) => cluster,
            None => Cluster::start(client.clone())?,
        };
        Producer::start(&cluster, client, config)
    }
}

impl Producer {
    /// A producer's settings, beginning with the bootstrap servers: `host`, `host:port` or `[IPv6]:port`, as a list or
    /// with commas between them. See [`ProducerBuilder::new`].
    pub fn builder<Form>(bootstrap_servers: impl IntoServers<Form>) -> ProducerBuilder {
        ProducerBuilder::new(bootstrap_servers)
    }

    /// The settings of a producer that uses a cluster which it shares with others. Closing or dropping such a producer
    /// leaves the others alone.
    ///
    /// The settings of connections and metadata, from [`bootstrap_servers`](ProducerBuilder::bootstrap_servers) to
    /// [`max_response_bytes`](ProducerBuilder::max_response_bytes), are the cluster's. If one of them is set here too,
    /// by a setter or a property, `build` reports a fault unless it has the cluster's value: so one file of properties
    /// can serve both. [`client_id`](ProducerBuilder::client_id) alone is each producer's own; unless it is set it is
    /// the cluster's.
    ///
    /// ```
    /// use kafka_blocking::{Cluster, Producer};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let fake = FakeCluster::start(1)?;
    /// # let servers = fake.bootstrap();
    /// let cluster = Cluster::builder(servers).build()?;
    /// let producer = Producer::on(&cluster).client_id("payments").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on(cluster: &Cluster) -> ProducerBuilder {
        ProducerBuilder::on(cluster)
    }

    fn start(cluster: &Cluster, client: ClientConfig, config: ProducerConfig) -> Result<Self> {
        let creation = if config.allow_auto_topic_creation { Creation::Allowed } else { Creation::Forbidden };
        // A topic stays in use for as long as a record of it may be on its way.
        let cluster = cluster.client(&client.client_id, creation, config.delivery_timeout);
        let (callbacks, callback_thread) = Callbacks::start()?;
        if let Some(on_failure) = config.on_failure.clone() {
            callbacks.tell_failures(on_failure);
        }
        let budget = Budget::new(config.buffer_memory, config.batch_size());
        let (gate, wake_ups) = config.transactional_id.is_some().then(TransactionGate::new).unzip();
        let gate = gate.map(Arc::new);
        let common = Common {
            identity: Arc::new(match &gate {
                Some(gate) => Identity::of_transactions(Arc::clone(gate)),
                None => Identity::new(config.idempotence),
            }),
            budget: Arc::clone(&budget),
            counters: Arc::default(),
            obstacles: Arc::default(),
        };
        let (identity, counters) = (Arc::clone(&common.identity), Arc::clone(&common.counters));
        let obstacles = Arc::clone(&common.obstacles);
        let topic_table = Arc::new(TopicTable::new());
        let senders = Senders::new(Arc::clone(&cluster), rules(&client, &config), common, Arc::clone(&topic_table));
        let subscription = senders.subscribe();
        let flush = Flush {
            topic_table: Arc::clone(&topic_table),
            unfinished: Arc::new(UnfinishedBatches::default()),
            callbacks: callbacks.clone(),
            obstacles,
        };
        let accumulator = Accumulator {
            batch_size: config.batch_size(),
            batch_records: config.batch_records.unwrap_or(u32::MAX),
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            budget,
            unfinished: Arc::clone(&flush.unfinished),
            callbacks: callbacks.clone(),
            obstacles: Arc::clone(&flush.obstacles),
        };
        let terms =
            config.transactional_id.clone().map(|id| TransactionConfig { id, timeout: config.transaction_timeout });
        let transactions = terms.zip(gate).map(|(terms, gate)| {
            let (senders, counters) = (Arc::clone(&senders), Arc::clone(&counters));
            Transactions::new(terms, config.transaction_max_block(), gate, senders, flush.clone(), counters)
        });
        let shared = Arc::new(Shared {
            process: process::id(),
            cluster,
            subscription,
            senders,
            topic_table,
            accumulator,
            flush,
            identity,
            counters,
            callbacks,
            hangup: Arc::default(),
            sticky_without_key: config.partitioner.is_sticky_without_key(),
            sticky_share: sticky_share(config.batch_size()),
            closed: AtomicBool::new(false),
            ended: OnceLock::new(),
            transactions,
            threads: Mutex::new(vec![callback_thread]),
            client,
            config,
        });
        // From here on a failure drops the handle, which ends the threads that have been started.
        let producer = Self(Arc::new(Handle(Arc::clone(&shared))));
        let retry_backoff = shared.client.retry_backoff;
        let thread = match (&shared.transactions, wake_ups) {
            (Some(transactions), Some(wake_ups)) => {
                Some(worker::start(Arc::clone(transactions), wake_ups, Arc::clone(&shared.cluster), retry_backoff)?)
            }
            _ if shared.config.idempotence => Some(identity_worker::start(
                Arc::clone(&shared.identity),
                Arc::clone(&shared.cluster),
                Arc::downgrade(&shared.senders),
                Arc::clone(&shared.hangup),
                retry_backoff,
            )?),
            _ => None,
        };
        shared.threads.lock().extend(thread);
        info!("producer {} started for {:?}", shared.client.client_id, shared.client.bootstrap_servers);
        Ok(producer)
    }

    /// Sends a record: puts it into the buffer of its partition, from where a background thread sends it.
    ///
    /// It returns a handle. Every failure comes out of the handle, also one that is known at once. A program that does
    /// not need the result says so with [`detach`](Delivery::detach), and can still get all failures in one place, by
    /// [`on_failure`](ProducerBuilder::on_failure).
    ///
    /// *Blocks* only while the topic, or the partition that the record names, is not known yet, or the buffer memory is
    /// used up, at most for `max_block`.
    ///
    /// *Errors*, from the handle: [`manual::errors`](crate::manual::errors) lists them. After a `Timeout(Metadata)` or
    /// `Timeout(BufferMemory)` the record is certainly never sent.
    ///
    /// *Thread*: interceptors and the partitioner run on the calling thread.
    pub fn send(&self, mut record: Record<'_>) -> Delivery {
        self.0.0.send(&mut record, None, &SendOptions::BLOCKING)
    }

    /// [`send`](Self::send), and have `callback` run with the result on the thread `kafka-callbacks`. Callbacks of one
    /// partition run in the order of their records. A failure that is known at once is given to the callback, too.
    ///
    /// *Blocks* as `send` does.
    ///
    /// *Thread*: `kafka-callbacks`, where other callbacks wait until this one returns. After [`close`](Self::close)
    /// that thread is gone, and the callback of a record that is refused runs on the calling thread.
    pub fn send_with(&self, mut record: Record<'_>, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        self.0.0.send(&mut record, Some(Box::new(callback)), &SendOptions::BLOCKING).detach();
    }

    /// [`send`](Self::send) without waiting for anything: if `send` would have to wait, the record is returned with
    /// `WouldBlock`. A topic that is not known yet is asked for meanwhile. For a callback see
    /// [`Delivery::on_complete`].
    ///
    /// ```
    /// use kafka_blocking::{ErrorKind, Producer, Record};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("clicks", 3).start()?;
    /// # let producer = Producer::builder(cluster.bootstrap()).build()?;
    /// match producer.try_send(Record::to("clicks").value("click 1")) {
    ///     Ok(delivery) => delivery.detach(),
    ///     Err(full) if full.error().kind() == ErrorKind::WouldBlock => {
    ///         let later = full.into_record();
    ///         # producer.send(later).wait()?;
    ///     }
    ///     Err(refused) => return Err(refused.into()),
    /// }
    /// # producer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// *Blocks* never. *Errors*: [`RecordNotSent`], which has the record: it was not sent, and will not be unless the
    /// program sends it again. Its error is `WouldBlock`, or one of those of `send` that are known at once. Every later
    /// failure comes out of the handle.
    pub fn try_send<'r>(&self, record: Record<'r>) -> Result<Delivery, RecordNotSent<Record<'r>>> {
        self.0.0.try_send(record, &SendOptions { may_block: false, ..SendOptions::BLOCKING })
    }

    /// Waits until every record that was sent before has its result, and the callbacks of those records have run. It
    /// ends the linger of open batches. A record that failed is no error of this call; it is reported by its handle,
    /// its callback and [`on_failure`](crate::ProducerBuilder::on_failure).
    ///
    /// *Blocks* until then. The records have their results when `delivery_timeout` is over at the latest; callbacks
    /// have a few seconds more. *Errors*: `Timeout(Flush)` after that, which happens only if a callback does not
    /// return.
    pub fn flush(&self) -> Result<()> {
        self.flush_timeout(self.0.0.result_timeout())
    }

    /// [`flush`](Self::flush) with a time limit of its own.
    ///
    /// *Blocks* until then, at most for `timeout`. *Errors*: `Timeout(Flush)`, with the last error of a late partition
    /// as the cause, if there is one; the records stay on their way.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.0.0.flush.run(time::deadline(Instant::now(), timeout), Timeout::Flush)
    }

    /// Gives up the records that have been sent and have no result yet: they fail with `Purged`, their callbacks run, a
    /// `flush` that waits for them ends, and their buffer memory is released. It is for a program that does not need
    /// these records any more, or that must not wait for a cluster that cannot be reached.
    ///
    /// [`Error::written`] is `No` for records that were never part of a request; `Maybe` for those in flight, whose
    /// request cannot be withdrawn, and for those that were to be sent again. The memory of records in flight is
    /// released at the end of their request.
    ///
    /// An idempotent producer stays idempotent: after a purge of records that may be written it goes on under a new
    /// epoch. An open transaction fails if records of it are purged, and must be aborted. Records that are sent after
    /// this has returned are not purged, nor is a [`DirectBatch`](crate::DirectBatch) that was not sent.
    ///
    /// *Blocks* never: each broker's sender does it at its next look, moments later. *Librdkafka*: `rd_kafka_purge`.
    pub fn purge(&self, what: Purge) {
        let shared = &self.0.0;
        let purge = shared.accumulator.unfinished.purge();
        for partition in shared.topic_table.partitions() {
            partition.seal_purged();
        }
        shared.senders.purge(purge, what == Purge::All);
    }

    /// Delivers what has been sent, then ends every thread and connection of the producer. Later sends are refused with
    /// `Closed`. A second close waits for the first and returns the same.
    ///
    /// A transaction that is open is aborted first.
    ///
    /// *Blocks* until each record has its result, which `delivery_timeout` bounds, a few seconds more for callbacks,
    /// and then a moment for the threads. A callback may call it; it then does not wait for itself, nor for another
    /// thread that closes, and only that close returns what was not delivered. A process that was forked off and closes
    /// the producer that it has inherited does nothing: connections, threads and records are the other process's.
    ///
    /// *Errors*: the records that were on their way and were not delivered, by partition, and why: those that failed
    /// meanwhile, and those that had no result in time. The latter have failed with `Closed`, and the last error of
    /// their partition is the cause. Each record's handle says whether it may be written. It also says whether a commit
    /// has no outcome yet ([`commit_in_doubt`](Undelivered::commit_in_doubt)).
    pub fn close(&self) -> Result<(), Undelivered> {
        self.close_timeout(self.0.0.result_timeout())
    }

    /// [`close`](Self::close) with a time limit of its own. What is not delivered then is given up.
    ///
    /// *Blocks* until all is delivered, at most for `timeout`, and then a moment for the threads. *Errors*: as `close`.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), Undelivered> {
        self.0.0.close(timeout)
    }

    /// Waits until the cluster has been reached. Nothing needs this; it is for programs that want to know early. Once a
    /// broker has answered, later calls return at once, and say nothing about the cluster's present state.
    ///
    /// *Blocks* until a broker has answered, at most for `max_block`. *Errors*: `Timeout(Metadata)` with the last
    /// cause; at once an error that waiting does not cure, such as `UnsupportedVersion`; `Closed`.
    pub fn connect(&self) -> Result<()> {
        self.connect_timeout(self.0.0.config.max_block)
    }

    /// [`connect`](Self::connect) with a time limit of its own.
    ///
    /// *Blocks* until a broker has answered, at most for `timeout`. *Errors*: as `connect`.
    pub fn connect_timeout(&self, timeout: Duration) -> Result<()> {
        self.0.0.check_open()?;
        self.0.0.cluster.await_brokers(time::deadline(Instant::now(), timeout))
    }

    /// The topic's partitions.
    ///
    /// *Blocks* while the topic is not known, at most for `max_block`. *Errors*: `Timeout(Metadata)` with the last
    /// cause, `InvalidInput` for a bad name, `Broker` where the cluster refuses the topic, `Closed`.
    pub fn partitions_for(&self, topic: &str) -> Result<Vec<PartitionInfo>> {
        self.0.0.check_open()?;
        let topic = self.0.0.topic(topic, &mut None, true)?;
        Ok(topic
            .metadata
            .partitions
            .iter()
            .map(|partition| PartitionInfo {
                partition: TopicPartition { topic: Arc::clone(&topic.metadata.name), index: partition.index },
                leader: partition.leader,
                replicas: partition.replicas.iter().copied().map(BrokerId).collect(),
                in_sync_replicas: partition.in_sync.iter().copied().map(BrokerId).collect(),
            })
            .collect())
    }

    /// The producer's figures at this moment. Never blocks, and can be called after `close`, too.
    pub fn metrics(&self) -> ProducerMetrics {
        let shared = &self.0.0;
        let budget = &shared.accumulator.budget;
        ProducerMetrics {
            batches_unfinished: shared.accumulator.unfinished.count() as u64,
            buffer_bytes_used: budget.used() as u64,
            buffer_bytes_total: budget.total() as u64,
            threads_waiting_for_memory: budget.waiting() as u64,
            epoch_bumps: shared.identity.bumps(),
            ..shared.counters.snapshot()
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.0.client.client_id)
            .field("bootstrap_servers", &self.0.0.client.bootstrap_servers)
            .finish_non_exhaustive()
    }
}

/// What [`Producer::purge`] gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purge {
    /// Records that wait to be sent, or to be sent again. Those in flight are delivered, and sent again if necessary.
    Queued,
    /// These, and records in flight.
    All,
}

/// A partition, as [`Producer::partitions_for`] returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Its topic and index.
    pub partition: TopicPartition,
    /// The broker that leads it, if one does now.
    pub leader: Option<BrokerId>,
    /// The brokers that hold it.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync with the leader.
    pub in_sync_replicas: Vec<BrokerId>,
}

fn rules(client: &ClientConfig, config: &ProducerConfig) -> Rules {
    Rules {
        acks: match config.acks {
            Acks::All => -1,
            Acks::Leader => 1,
            Acks::None => 0,
        },
        idempotent: config.idempotence,
        transactional_id: config.transactional_id.clone(),
        retries: config.retries,
        retry_backoff: client.retry_backoff,
        reconnect_backoff: client.reconnect_backoff,
        max_in_flight: config.max_in_flight,
        max_request_size: config.max_request_size,
        request_timeout: client.request_timeout,
        connections_max_idle: client.connections_max_idle.unwrap_or(Duration::MAX),
        quick: QUICK,
        compression: config.compression,
        client_id: Some(Arc::clone(&client.client_id)),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            // The inherited producer is never dropped: that would end the other process's connections.
            let _ = Arc::into_raw(Arc::clone(&self.0));
            return;
        }
        if self.0.check_open().is_err() {
            // If it was closed before, that close has returned what was not delivered.
            return;
        }
        if let Err(undelivered) = self.0.close(DROP_TIMEOUT) {
            warn!("{:#}", Error::from(undelivered));
        }
    }
}

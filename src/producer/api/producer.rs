//! `Producer`, and the way of a record on the calling thread.

use std::collections::BTreeMap;
use std::fmt;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cluster::{Cluster, ClusterConfig, TopicMetadata};
use crate::config::client::{ClientConfig, MetadataRecovery};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
use crate::logging::{self, error, info, log, warn};
use crate::net::{Hangup, NetConfig};
use crate::outage::Outage;
use crate::producer::buffer::accumulator::{Accumulator, Entry, Named, Patience, Sticking, Unsent, closed};
use crate::producer::buffer::budget::Budget;
use crate::producer::buffer::callbacks::{Callback, Callbacks, Job};
use crate::producer::buffer::delivery::{Delivery, RecordMetadata};
use crate::producer::buffer::pending::Pending;
use crate::producer::buffer::routes::{
    ADDED_LATELY, Adaptive, Memory, Recent, Routes, Topic, sticky_share, with_memory,
};
use crate::producer::config::{Acks, ProducerBuilder, ProducerConfig};
use crate::producer::metrics::{Counters, Metrics};
use crate::producer::partitioner::{Choice, PartitionRequest, PartitionerError};
use crate::producer::send::identity::Identity;
use crate::producer::send::outcome::advice;
use crate::producer::send::senders::{Loss, Losses, Senders};
use crate::producer::send::turn::{Common, QUICK, Rules};
use crate::producer::transaction::Transactions;
use crate::protocol::messages::InitProducerIdRequest;
use crate::record::Record;
use crate::record::batch::{parts_size, record_size_upper_bound};
use crate::time::{self, Random, wall_clock_ms};
use crate::topic::{BrokerId, ProducerIdAndEpoch, TopicPartition, topic_name_fault};

/// How long dropping the last handle of a producer may take to deliver what is left.
pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the senders may take to fail what was not delivered and to tell it. They do nothing else then, but the
/// machine may stand still, or the program's logger: a close that gave up earlier would not know what it has lost.
const FAIL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long threads may take to end after everything has been failed.
const JOIN_TIMEOUT: Duration = Duration::from_millis(800);

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
/// println!("{}-{} at {}", sent.topic, sent.partition, sent.offset);
/// # Ok(())
/// # }
/// ```
///
/// [`close`](Self::close) says what could not be delivered. Dropping the last handle closes, too: it delivers what it
/// can within five seconds, and logs what is left.
#[derive(Clone)]
pub struct Producer(pub(crate) Arc<Handle>);

/// What the clones of a producer share; the last one closes it.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    /// The process that has the threads. A child that was forked off inherits the handles and none of the threads.
    pub(crate) process: u32,
    pub(crate) client: ClientConfig,
    pub(crate) config: ProducerConfig,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) senders: Arc<Senders>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) accumulator: Accumulator,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) callbacks: Callbacks,
    pub(crate) hangup: Arc<Hangup>,
    /// What the partitioner says of records without a key.
    pub(crate) sticky_without_key: bool,
    pub(crate) closed: AtomicBool,
    /// Records are not taken: the producer is closed, or it is transactional and no transaction is open.
    pub(crate) barred: AtomicBool,
    /// Of a transactional producer.
    pub(crate) transactions: Option<Transactions>,
    /// Guards the threads that `close` joins, and holds a second `close` back until the first has ended.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ProducerBuilder {
    /// Checks the settings and starts the producer. No broker is asked before a record is sent.
    ///
    /// *Errors*: `Config`, with every fault of the settings; `Network` where the operating system starts no thread.
    pub fn build(self) -> Result<Producer> {
        let (client, config) = self.validate()?;
        Producer::start(client, config)
    }
}

impl Producer {
    /// A producer's settings, beginning with the bootstrap servers: `host`, `host:port` or `[IPv6]:port`. See
    /// [`ProducerBuilder::new`].
    pub fn builder<S: Into<String>>(bootstrap_servers: impl IntoIterator<Item = S>) -> ProducerBuilder {
        ProducerBuilder::new(bootstrap_servers)
    }

    fn start(client: ClientConfig, config: ProducerConfig) -> Result<Self> {
        let net = Arc::new(NetConfig {
            client_id: Some(Arc::clone(&client.client_id)),
            request_timeout: client.request_timeout,
            connect_timeout: client.connection_setup_timeout.initial,
            connect_timeout_max: client.connection_setup_timeout.max,
            send_buffer_bytes: client.send_buffer_bytes,
            receive_buffer_bytes: client.receive_buffer_bytes,
            max_response_bytes: client.max_response_bytes,
            reachability: Arc::default(),
        });
        let cluster = Cluster::start(ClusterConfig {
            bootstrap_servers: client.bootstrap_servers.clone(),
            net: Arc::clone(&net),
            max_age: client.metadata_max_age,
            // A topic is in use for as long as a record of it may be on its way.
            max_idle: client.metadata_max_idle.max(config.delivery_timeout),
            retry_backoff: client.retry_backoff,
            rebootstrap: client.metadata_recovery == MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: client.rebootstrap_trigger,
            allow_auto_topic_creation: config.allow_auto_topic_creation,
        })?;
        let (callbacks, callback_thread) = Callbacks::start()?;
        let budget = Budget::new(config.buffer_memory, config.batch_size());
        let transactions = config.transactional_id.clone().map(|id| Transactions::new(id, config.transaction_timeout));
        let (transactions, ear) = transactions.unzip();
        let common = Common {
            identity: Arc::new(match &transactions {
                Some(Transactions { gate, .. }) => Identity::of_transactions(Arc::clone(gate)),
                None => Identity::new(config.idempotence),
            }),
            budget: Arc::clone(&budget),
            counters: Arc::default(),
            troubles: Arc::default(),
        };
        let (identity, counters) = (Arc::clone(&common.identity), Arc::clone(&common.counters));
        let troubles = Arc::clone(&common.troubles);
        let senders = Senders::new(Arc::clone(&cluster), Arc::clone(&net), rules(&client, &config), common);
        let routes = Arc::new(Routes::new());
        cluster.listen({
            let (senders, routes, cluster) = (Arc::downgrade(&senders), Arc::clone(&routes), Arc::downgrade(&cluster));
            move |snapshot| {
                if let (Some(senders), Some(cluster)) = (senders.upgrade(), cluster.upgrade()) {
                    routes.see(snapshot, &cluster);
                    senders.see();
                }
            }
        });
        senders.on_panic({
            let routes = Arc::clone(&routes);
            // The partitions of that sender have no home any more, so nothing may be accepted for them.
            move |error| routes.fail(error)
        });
        let accumulator = Accumulator {
            batch_size: config.batch_size(),
            batch_records: config.batch_records.unwrap_or(u32::MAX),
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            budget,
            pending: Arc::new(Pending::default()),
            callbacks: callbacks.clone(),
            troubles,
        };
        let shared = Arc::new(Shared {
            process: process::id(),
            cluster,
            senders,
            routes,
            accumulator,
            identity,
            counters,
            callbacks,
            hangup: Arc::default(),
            sticky_without_key: config.partitioner.is_sticky_without_key(),
            closed: AtomicBool::new(false),
            barred: AtomicBool::new(false),
            transactions,
            threads: Mutex::new(vec![callback_thread]),
            client,
            config,
        });
        // From here on a failure drops the handle, which ends the threads that have been started.
        let producer = Self(Arc::new(Handle(Arc::clone(&shared))));
        if let Some(ear) = ear {
            let thread = shared.start_transactions(ear, net)?;
            shared.threads.lock().push(thread);
        } else if shared.config.idempotence {
            shared.start_identity_thread()?;
        }
        info!("producer {} started for {:?}", shared.client.client_id, shared.client.bootstrap_servers);
        Ok(producer)
    }

    /// Sends a record: puts it into the buffer of its partition, from where a background thread sends it.
    ///
    /// The answer is a handle. Every failure comes out of it, also those that are known at once; dropping it discards
    /// the answer, not the record.
    ///
    /// *Blocks* only while the topic, or the partition that the record names, is not known yet, or the buffer memory is
    /// used up, at most for `max_block`.
    ///
    /// *Errors*, from the handle: [`manual::errors`](crate::manual::errors) lists them. After a `Timeout(Metadata)` or
    /// `Timeout(BufferMemory)` the record is certainly never sent.
    ///
    /// *Thread*: interceptors and the partitioner run on the calling thread.
    pub fn send(&self, mut record: Record<'_>) -> Delivery {
        self.0.0.send(&mut record, None, &Manner::PATIENT)
    }

    /// [`send`](Self::send), and have `callback` run with the result on the thread `kafka-callbacks`. Callbacks of one
    /// partition run in the order of their records. A failure that is known at once is told by the callback, too, and
    /// by the handle.
    ///
    /// *Blocks* as `send` does.
    ///
    /// *Thread*: `kafka-callbacks`, where other callbacks wait until this one returns. After [`close`](Self::close)
    /// that thread is gone, and the callback of a record that is refused runs on the calling thread.
    pub fn send_with(
        &self,
        mut record: Record<'_>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Delivery {
        self.0.0.send(&mut record, Some(Box::new(callback)), &Manner::PATIENT)
    }

    /// [`send`](Self::send) without waiting for anything: where `send` would have to, the record is refused with
    /// `WouldBlock`, and is certainly never sent. A topic that is not known yet is asked for meanwhile. For a callback
    /// see [`Delivery::on_complete`].
    ///
    /// *Blocks* never. *Errors*, from the handle: `WouldBlock`, and those of `send`.
    pub fn try_send(&self, mut record: Record<'_>) -> Delivery {
        self.0.0.send(&mut record, None, &Manner { patient: false, ..Manner::PATIENT })
    }

    /// Waits until every record that was sent before has its result, and the callbacks of those records have run.
    /// It cuts the linger of open batches. A record that failed is no error of this call; its handle and callback
    /// tell it.
    ///
    /// *Blocks* until then, at most for `timeout`. *Errors*: `Timeout(Flush)`, with what a partition that is late has met as
    /// the cause, if it has met anything; the records stay on their way.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.0.0.flush(time::deadline(Instant::now(), timeout), Timeout::Flush)
    }

    /// Gives up what has been sent and has no result yet: its records fail with `Purged`, their callbacks run, a
    /// `flush` that waits for them ends, and their buffer memory comes free. For a program that knows that they are of
    /// no use any more, or that must not wait for a cluster that is away.
    ///
    /// [`Error::written`] is `No` for records that were never part of a request; `Maybe` for those in flight, whose
    /// request cannot be called back, and for those that were to be sent again. The memory of what is in flight comes
    /// free with the end of its request.
    ///
    /// An idempotent producer stays one: after a purge of what may be written it goes on under a new epoch. An open
    /// transaction has failed with what was purged of it, and must be aborted. Records that are sent when this has
    /// returned are not touched, nor is a [`DirectBatch`] that was not sent.
    ///
    /// *Blocks* never: each broker's sender does it at its next look, moments later. *Librdkafka*: `rd_kafka_purge`.
    pub fn purge(&self, what: Purge) {
        let shared = &self.0.0;
        shared.accumulator.pending.purge();
        for partition in shared.routes.partitions() {
            partition.seal_purged();
        }
        shared.senders.purge(what == Purge::All);
    }

    /// Delivers what has been sent, then ends every thread and connection of the producer. Later sends are refused
    /// with `Closed`. A second close waits for the first and finds nothing to do.
    ///
    /// A transaction that is open is aborted first.
    ///
    /// *Blocks* until all is delivered, at most for `timeout`, and then a moment for the threads. A callback may call
    /// it; it then does not wait for itself. A process that was forked off and closes the producer that it has inherited
    /// does nothing: connections, threads and records are the other process's.
    ///
    /// *Errors*: what was not delivered in time, by partition, and why. Each of those records has failed with `Closed`, with
    /// what its partition met last as the cause, and its handle says whether it may be written.
    /// It also says whether a commit has no outcome yet ([`commit_in_doubt`](Undelivered::commit_in_doubt)).
    pub fn close(&self, timeout: Duration) -> Result<(), Undelivered> {
        self.0.0.close(timeout)
    }

    /// Waits until the cluster has been reached. Nothing needs this; it is for programs that want to know early. Once a
    /// broker has answered, later calls return at once, and say nothing about the cluster's present state.
    ///
    /// *Blocks* until a broker has answered, at most for `timeout`. *Errors*: `Timeout(Metadata)` with the last cause; at
    /// once what no waiting cures, such as `UnsupportedVersion`; `Closed`.
    pub fn connect(&self, timeout: Duration) -> Result<()> {
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
                partition: TopicPartition { topic: Arc::clone(&topic.metadata.name), partition: partition.index },
                leader: partition.leader,
                replicas: partition.replicas.iter().copied().map(BrokerId).collect(),
                in_sync_replicas: partition.in_sync.iter().copied().map(BrokerId).collect(),
            })
            .collect())
    }

    /// The producer's figures at this moment. Never blocks, and can be called after `close`, too.
    pub fn metrics(&self) -> Metrics {
        let shared = &self.0.0;
        let budget = &shared.accumulator.budget;
        Metrics {
            batches_unfinished: shared.accumulator.pending.count() as u64,
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
    /// What waits to be sent, or to be sent again. What is in flight is delivered, and sent again if need be.
    Queued,
    /// That, and what is in flight.
    All,
}

/// A partition, as [`Producer::partitions_for`] tells it.
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

/// What [`Producer::close`] could not deliver in time. With `?` it becomes an [`Error`] of the kind `Timeout(Close)`. Its
/// source is the cause for the first partition of which one is known.
#[derive(Clone, Debug)]
pub struct Undelivered {
    partitions: BTreeMap<TopicPartition, u64>,
    causes: BTreeMap<TopicPartition, Error>,
    commit_in_doubt: bool,
}

impl Undelivered {
    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.partitions.values().sum()
    }

    /// How many of them there are by partition.
    pub fn partitions(&self) -> &BTreeMap<TopicPartition, u64> {
        &self.partitions
    }

    /// Whether the coordinator was asked to commit a transaction, and has not said whether it has. A new producer of the same
    /// transactional id finishes the transaction in [`Producer::init_transactions`]; whether it is committed then, the
    /// topics' records tell.
    pub fn commit_in_doubt(&self) -> bool {
        self.commit_in_doubt
    }

    /// Why they were not delivered, by partition: what each has met last, such as the answer after which its batch was to
    /// be sent again, a connection that could not be made, or how long the broker has not answered. Partitions that have
    /// met nothing but the end of the time are absent.
    pub fn causes(&self) -> &BTreeMap<TopicPartition, Error> {
        &self.causes
    }

    fn new(losses: BTreeMap<TopicPartition, Loss>, commit_in_doubt: bool) -> Self {
        let mut undelivered = Self { partitions: BTreeMap::new(), causes: BTreeMap::new(), commit_in_doubt };
        for (partition, loss) in losses {
            if let Some(cause) = loss.cause {
                undelivered.causes.insert(partition.clone(), cause);
            }
            undelivered.partitions.insert(partition, loss.records);
        }
        undelivered
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.commit_in_doubt {
            f.write_str("the producer was closed before the commit of its transaction had an outcome")?;
            if self.partitions.is_empty() {
                return Ok(());
            }
            f.write_str("; ")?;
        }
        write!(f, "the producer was closed before {} records were delivered:", self.records())?;
        for (partition, records) in self.partitions.iter().take(20) {
            write!(f, " {partition} ({records})")?;
        }
        if self.partitions.len() > 20 {
            write!(f, " and {} partitions more", self.partitions.len() - 20)
        } else {
            Ok(())
        }
    }
}

/// As many records of the same partitions; causes are not compared.
impl PartialEq for Undelivered {
    fn eq(&self, other: &Self) -> bool {
        (&self.partitions, self.commit_in_doubt) == (&other.partitions, other.commit_in_doubt)
    }
}

impl Eq for Undelivered {}

impl std::error::Error for Undelivered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.causes.values().next().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<Undelivered> for Error {
    fn from(undelivered: Undelivered) -> Self {
        let error = Self::timeout(Timeout::Close, undelivered.to_string());
        let error = if undelivered.commit_in_doubt {
            // Nothing says that what was in the transaction may be sent again.
            error.with_recovery(Recovery::Fix).with_written(Written::Maybe)
        } else {
            error
        };
        error.with_source(undelivered)
    }
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

/// A partitioner for one record.
pub(crate) type ChooseFor<'a> = &'a dyn Fn(&PartitionRequest<'_>) -> Result<Choice, PartitionerError>;

/// How a record is sent.
pub(crate) struct Manner<'a> {
    /// The call may wait, for `max_block`.
    pub(crate) patient: bool,
    /// Chooses in the place of the producer's, for this record.
    pub(crate) partitioner: Option<ChooseFor<'a>>,
    /// The transaction that it is to be part of, and of no other; 0: the one that is open, if the producer has any.
    pub(crate) transaction: u64,
}

impl Manner<'_> {
    pub(crate) const PATIENT: Self = Self { patient: true, partitioner: None, transaction: 0 };
}

impl Shared {
    /// Whether this process has inherited the producer of the process that forked it off. The connections are that
    /// one's, and what other threads had locked at that moment stays locked. It costs a system call.
    pub(crate) fn is_inherited(&self) -> bool {
        process::id() != self.process
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    pub(crate) fn send(&self, record: &mut Record<'_>, callback: Option<Callback>, manner: &Manner<'_>) -> Delivery {
        let mut callback = self.config.interceptors.on_send(record, callback);
        let record = &*record;
        with_memory(&record.topic, |memory| {
            let sent = self.try_to_send(record, memory, &mut callback, manner);
            sent.unwrap_or_else(|error| self.reject(error, callback.take()))
        })
    }

    /// Refuses a record that the open transaction, if there is one, cannot do without.
    #[cold]
    pub(crate) fn reject(&self, error: Error, callback: Option<Callback>) -> Delivery {
        let error = self.fail_transaction(error);
        self.refuse(error, callback)
    }

    pub(crate) fn refuse(&self, error: Error, callback: Option<Callback>) -> Delivery {
        if let Some(callback) = callback {
            self.callbacks.post(vec![Job { callback, result: Err(error.clone()) }]);
        }
        Delivery::refused(error, self.callbacks.clone())
    }

    /// The hops of a record on the calling thread: checks, topic, partition, memory, open batch.
    fn try_to_send(
        &self,
        record: &Record<'_>,
        memory: &Memory,
        callback: &mut Option<Callback>,
        manner: &Manner<'_>,
    ) -> Result<Delivery> {
        let patient = manner.patient;
        // When the call began; read only if it has to wait, so that most records cost one look at one clock.
        let mut started = None;
        let parts_size = self.check(record)?;
        let mut recent = self.recent(&record.topic, memory, &mut started, patient)?;
        recent.topic.touch(&self.cluster);
        let choice = self
            .choose(record, &mut recent, memory, &mut started, manner)
            .map_err(|error| error.at_topic(&record.topic))?;
        let timestamp = record.timestamp.unwrap_or_else(wall_clock_ms);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let transaction = manner.transaction;
        let entry = Entry { timestamp, key, value, headers: &record.headers, parts_size, transaction };
        let delivery = self.append(&recent.topic, choice, &entry, callback, started, patient)?;
        memory.set(Some(recent));
        Ok(delivery)
    }

    /// The last hop on the calling thread: into an open batch of the partition, or of the sticky one.
    fn append(
        &self,
        topic: &Topic,
        choice: Choice,
        entry: &Entry<'_>,
        callback: &mut Option<Callback>,
        started: Option<Instant>,
        patient: bool,
    ) -> Result<Delivery> {
        let mut patience = Patience { started, limit: patient.then_some(self.config.max_block) };
        match choice {
            Choice::Partition(index) => {
                let partition = topic.partition(index).ok_or_else(|| no_such_partition(topic, index))?;
                match self.accumulator.append(partition, entry, callback, &mut patience, &*self.senders, Named) {
                    Ok(delivery) => Ok(delivery),
                    Err(Unsent::Failed(error)) => Err(error.at_partition(partition.name())),
                    Err(Unsent::Elsewhere) => Err(Error::bug("a chosen partition was given up")),
                }
            }
            Choice::Sticky => loop {
                let adaptive = self.config.partitioner_adaptive.then_some(Adaptive {
                    senders: &self.senders,
                    availability_timeout: self.config.partitioner_availability_timeout,
                    share: sticky_share(self.config.batch_size()),
                });
                let current = topic.sticky.current(topic, adaptive.as_ref());
                let partition = current.and_then(|index| topic.partition(index));
                let partition = partition.ok_or_else(|| no_such_partition(topic, -1))?;
                let (index, share) = (partition.name().partition, sticky_share(self.config.batch_size()));
                let sticky = Sticking { share, give_up: || topic.sticky.give_up(index) };
                match self.accumulator.append(partition, entry, callback, &mut patience, &*self.senders, sticky) {
                    Ok(delivery) => return Ok(delivery),
                    Err(Unsent::Failed(error)) => return Err(error.at_partition(partition.name())),
                    Err(Unsent::Elsewhere) => {}
                }
            },
        }
    }

    /// What can be said of a record without knowing its topic; how large its parts are.
    pub(crate) fn check(&self, record: &Record<'_>) -> Result<usize> {
        if self.barred.load(Ordering::Acquire) {
            self.check_open()?;
            self.check_transaction()?;
        }
        if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
            return Err(Error::invalid(format!("the record's partition is {partition}; partitions count from 0"))
                .at_topic(&record.topic));
        }
        let parts_size = parts_size(record.key.as_deref(), record.value.as_deref(), &record.headers);
        self.check_entry(record.timestamp, parts_size).map_err(|error| error.at_topic(&record.topic))?;
        Ok(parts_size)
    }

    /// What can be said of a record without knowing where it goes.
    #[inline]
    pub(crate) fn check_entry(&self, timestamp: Option<i64>, parts_size: usize) -> Result<()> {
        if let Some(timestamp) = timestamp.filter(|timestamp| *timestamp < 0) {
            return Err(Error::invalid(format!(
                "the record's timestamp is {timestamp} ms; it counts from 1970 and cannot be before"
            )));
        }
        let size = record_size_upper_bound(parts_size);
        for (limit, bytes) in
            [("max_request_size", self.config.max_request_size), ("buffer_memory", self.config.buffer_memory)]
        {
            if size > bytes {
                let text = format!("the record has up to {size} bytes");
                return Err(Error::new(ErrorKind::RecordTooLarge, Recovery::Fix, text).over_limit(limit, bytes as u64));
            }
        }
        Ok(())
    }

    /// [`topic`](Self::topic), from what the thread remembers if it does.
    pub(crate) fn recent(
        &self,
        name: &str,
        memory: &Memory,
        started: &mut Option<Instant>,
        patient: bool,
    ) -> Result<Box<Recent>> {
        if let Some(recent) = self.routes.recent(name, memory) {
            return Ok(recent);
        }
        self.topic(name, started, patient)?;
        self.routes.recent(name, memory).ok_or_else(|| Error::bug("a topic that came is not there").at_topic(name))
    }

    /// The topic's routes. Where it is not known yet, `started` is when waiting for it began.
    fn topic(&self, name: &str, started: &mut Option<Instant>, patient: bool) -> Result<Arc<Topic>> {
        if let Some(topic) = self.routes.topic(name) {
            return Ok(topic);
        }
        self.check_open()?;
        if let Some(fault) = topic_name_fault(name) {
            return Err(Error::invalid(fault).at_topic(name));
        }
        if !patient || logging::is_inside() {
            self.cluster.ask_for(name);
            let text = "the topic is not known yet; it has been asked for";
            return Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, text).at_topic(name));
        }
        let from = *started.get_or_insert_with(Instant::now);
        let deadline = time::deadline(from, self.config.max_block);
        self.cluster.await_topic(name, deadline, None, |topic| topic.is_known())?;
        if let Some(topic) = self.routes.topic(name) {
            return Ok(topic);
        }
        // Whoever brought the answer has not told of it yet.
        self.cluster.tell();
        self.check_open()?;
        self.routes.topic(name).ok_or_else(|| Error::bug("a topic that came is not there").at_topic(name))
    }

    /// The record's partition: its own, or the partitioner's choice. The topic may be a fresher one afterwards.
    pub(crate) fn choose(
        &self,
        record: &Record<'_>,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        manner: &Manner<'_>,
    ) -> Result<Choice> {
        let &Manner { patient, partitioner, .. } = manner;
        let topic = &recent.topic;
        if let Some(index) = record.partition {
            return self.named(index, recent, memory, started, patient);
        }
        if record.key.is_none() && partitioner.is_none() && self.sticky_without_key {
            return Ok(Choice::Sticky);
        }
        let request = PartitionRequest::new(
            &record.topic,
            record.key.as_deref(),
            record.value.as_deref(),
            &topic.metadata.all,
            &topic.metadata.available,
        );
        let choose = || match partitioner {
            Some(partitioner) => partitioner(&request),
            None => self.config.partitioner.partition(&request),
        };
        let choice = match crate::thread::catch(choose) {
            Ok(Ok(choice)) => choice,
            Ok(Err(cause)) => {
                return Err(Error::invalid("the partitioner refused the record").with_cause(cause));
            }
            Err(panic) => {
                let text = format!("the partitioner panicked; the record was not sent: {panic}");
                return Err(Error::new(ErrorKind::Panicked, Recovery::Fix, text));
            }
        };
        match choice {
            Choice::Partition(index) => self.named(index, recent, memory, started, patient),
            Choice::Sticky => Ok(Choice::Sticky),
        }
    }

    /// A partition that the record or the partitioner names. One that the topic has never had, as far as is known, is
    /// asked for: it may have been added lately.
    fn named(
        &self,
        index: i32,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        patient: bool,
    ) -> Result<Choice> {
        if recent.topic.partition(index).is_some() {
            return Ok(Choice::Partition(index));
        }
        if index < 0 {
            return Err(no_such_partition(&recent.topic, index));
        }
        self.await_partition(index, recent, memory, started, patient)
    }

    #[cold]
    fn await_partition(
        &self,
        index: i32,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        patient: bool,
    ) -> Result<Choice> {
        let name = Arc::clone(&recent.topic.metadata.name);
        let now = Instant::now();
        let since = recent.topic.missed.since(index, now);
        let enough = since + ADDED_LATELY;
        let known_to_be_wrong = || enough <= now && self.cluster.has_answered_since(since);
        if !patient || logging::is_inside() {
            self.cluster.ask_for(&name);
            if known_to_be_wrong() {
                return Err(no_such_partition(&recent.topic, index));
            }
            let text = format!("the topic has no partition {index} as far as is known yet; it has been asked for");
            return Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, text).at_topic(&name));
        }
        let from = *started.get_or_insert(now);
        let deadline = time::deadline(from, self.config.max_block);
        let has_partition = |fresh: &TopicMetadata| fresh.partition(index).is_some();
        match self.cluster.await_topic(&name, deadline, Some(enough.min(deadline)), has_partition) {
            // No fresh answer within a very short time is no better answer than the last one.
            Err(error) if error.kind() == ErrorKind::Timeout(Timeout::Metadata) && known_to_be_wrong() => {
                return Err(no_such_partition(&recent.topic, index));
            }
            answer => drop(answer?),
        }
        if let Some(fresh) = self.routes.recent(&name, memory) {
            *recent = fresh;
        }
        if recent.topic.partition(index).is_none() {
            // Whoever brought the answer may not have told of it yet.
            self.cluster.tell();
            if let Some(fresh) = self.routes.recent(&name, memory) {
                *recent = fresh;
            }
        }
        match recent.topic.partition(index) {
            Some(_) => Ok(Choice::Partition(index)),
            None => Err(no_such_partition(&recent.topic, index)),
        }
    }

    pub(crate) fn flush(&self, deadline: Instant, which: Timeout) -> Result<()> {
        let line = self.accumulator.pending.draw_line();
        for partition in self.routes.partitions() {
            partition.hurry_open();
        }
        if self.accumulator.pending.wait(line, deadline) && self.callbacks.wait(deadline) {
            return Ok(());
        }
        let error = match self.accumulator.pending.count_before(line) {
            0 => Error::timeout(which, "all batches were done, but not all of their callbacks had run in time"),
            unfinished => Error::timeout(which, format!("{unfinished} batches were not acknowledged in time")),
        };
        Err(match self.accumulator.troubles.first() {
            Some(cause) => error.with_source(cause),
            None => error,
        })
    }

    fn close(&self, timeout: Duration) -> Result<(), Undelivered> {
        if self.is_inherited() {
            return Ok(());
        }
        let deadline = time::deadline(Instant::now(), timeout);
        let in_callback = self.callbacks.is_current_thread();
        let Some(mut threads) = (if in_callback { self.threads.try_lock() } else { Some(self.threads.lock()) }) else {
            // Another thread closes, and waits for this callback to return.
            return Ok(());
        };
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.barred.store(true, Ordering::Release);
        let commit_in_doubt = self.close_transactions(deadline);
        let partitions = self.routes.refuse(&closed());
        let delivered = self.flush(deadline, Timeout::Close);
        // Nothing is accepted any more, and what is left fails now.
        let losses = Arc::new(Losses::default());
        self.accumulator.budget.close();
        let error = match &delivered {
            Ok(()) => closed(),
            Err(error) => {
                let text =
                    format!("the producer was closed before the record was delivered, after waiting for {timeout:?}");
                Error::new(ErrorKind::Closed, Recovery::Fatal, text).with_source(error.clone())
            }
        };
        let patience = if delivered.is_ok() { JOIN_TIMEOUT } else { FAIL_TIMEOUT };
        self.senders.close(&error, &losses, time::deadline(Instant::now(), patience));
        for partition in partitions {
            losses.add(partition.name(), partition.abandon(&error), None);
        }
        self.identity.close();
        self.hang_up_transactions();
        self.hangup.hang_up();
        let join_by = time::deadline(Instant::now(), JOIN_TIMEOUT);
        self.cluster.close(join_by);
        self.callbacks.stop();
        for thread in threads.drain(..) {
            // A callback cannot wait for its own thread, which ends when it returns.
            if thread.thread().id() != thread::current().id() {
                crate::thread::join_until(thread, join_by.max(deadline));
            }
        }
        let undelivered = Undelivered::new(losses.take(), commit_in_doubt);
        if undelivered.records() == 0 && !commit_in_doubt { Ok(()) } else { Err(undelivered) }
    }

    fn start_identity_thread(self: &Arc<Self>) -> Result<()> {
        let (identity, cluster, senders) =
            (Arc::clone(&self.identity), Arc::clone(&self.cluster), Arc::downgrade(&self.senders));
        let (hangup, client) = (Arc::clone(&self.hangup), self.client.clone());
        let (work, to_wake) = (Arc::clone(&identity), senders.clone());
        let ask = move || {
            let identity = work;
            let mut random = Random::from_entropy();
            let mut failures = 0;
            let mut outage = Outage::default();
            while identity.await_need() {
                match ask_for_identity(&cluster, &hangup) {
                    Err(error) if error.recovery() == Recovery::Retry => {
                        failures += 1;
                        log!(outage.failed(Instant::now()), "no producer id, attempt {failures}: {error:#}");
                        identity.meet(error);
                        let wait = client.retry_backoff.after(failures, &mut random);
                        if !identity.pause(time::deadline(Instant::now(), wait)) {
                            return;
                        }
                    }
                    answer => {
                        failures = 0;
                        match (&answer, outage.ended(Instant::now())) {
                            (Ok(known), None) => info!("{known}"),
                            (Ok(known), Some(over)) => warn!("{known}, {over}"),
                            (Err(error), _) => warn!("the cluster gives no producer id: {error:#}"),
                        }
                        identity.answered(answer);
                        if let Some(senders) = senders.upgrade() {
                            senders.look_at_all();
                        }
                    }
                }
            }
        };
        let thread = crate::thread::spawn("kafka-identity", move || {
            if let Err(panic) = crate::thread::catch(ask) {
                error!("kafka-identity panicked; the producer cannot go on: {panic}");
                identity.refuse(Error::bug(format!("the thread kafka-identity panicked: {panic}")));
                if let Some(senders) = to_wake.upgrade() {
                    senders.look_at_all();
                }
            }
        })?;
        self.threads.lock().push(thread);
        Ok(())
    }
}

/// Asks any broker for a producer id (KIP-98).
fn ask_for_identity(cluster: &Cluster, hangup: &Hangup) -> Result<ProducerIdAndEpoch> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        // A producer without transactions has none to time out.
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    };
    let response = cluster.call_any(&request, hangup)?;
    match ErrorCode(response.error_code) {
        ErrorCode::NONE if response.producer_id >= 0 && response.producer_epoch >= 0 => {
            Ok(ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch })
        }
        ErrorCode::NONE => Err(Error::misbehaved("a broker answered with a producer id below 0")),
        code => {
            let mut text = format!("{}, when a producer id was asked for", code.meaning());
            if let Some(advice) = advice(code, true) {
                text = format!("{text}; {advice}");
            }
            let recovery = if code.is_retriable() { Recovery::Retry } else { Recovery::Fatal };
            Err(Error::broker(code, Some(&text)).with_recovery(recovery))
        }
    }
}

pub(crate) fn no_such_partition(topic: &Topic, index: i32) -> Error {
    let count = topic.metadata.partitions.len();
    let text = format!("the topic has no partition {index}; it has {count}, from 0");
    Error::new(ErrorKind::NoSuchPartition, Recovery::Fix, text)
        .at_partition(&TopicPartition { topic: Arc::clone(&topic.metadata.name), partition: index })
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.is_inherited() {
            // It stays as it is, for good: letting go of it would end the other process's connections.
            let _ = Arc::into_raw(Arc::clone(&self.0));
            return;
        }
        if let Err(undelivered) = self.0.close(DROP_TIMEOUT) {
            warn!("{:#}", Error::from(undelivered));
        }
    }
}

//! The producer's settings: a builder that accepts any value, and one check that reports every fault.

mod properties;

use std::sync::Arc;
use std::time::Duration;

use super::interceptor::{Chain, ProducerInterceptor};
use super::partitioner::{self, Partitioner};
use crate::cluster::Cluster;
use crate::config::client::{ClientBuilder, ClientConfig, MetadataRecovery, client_setters};
use crate::config::properties::properties_forms;
use crate::config::servers::IntoServers;
use crate::config::{MAX_WIRE_BYTES, check_duration, check_size, report};
use crate::error::{Error, Result};
use crate::producer::record_metadata::OnFailure;
use crate::record::{Compression, Record};

/// Which replicas must have a record before it counts as delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// All in-sync replicas (`all`, -1); with `min.insync.replicas` of the topic it survives the loss of brokers.
    #[default]
    All,
    /// The partition's leader alone (1). A record is lost if the leader fails before another replica has it.
    Leader,
    /// None (0): the record counts as delivered once it is written to the socket. Its offset is not known, nothing is
    /// retried, and no error of a broker is noticed.
    None,
}

/// The settings of a [`Producer`](crate::Producer) to be built.
///
/// Each setter names its default and its property, the name by which Java and librdkafka know it; the manual's page on
/// configuration has them side by side with kiel's and aiokafka's. Nothing is checked before `build`, which then
/// reports every fault at once, and never resolves a contradiction without a word.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct ProducerBuilder {
    pub(super) client: ClientBuilder,
    pub(super) config: ProducerConfig,
    /// The cluster to use, unless the producer makes its own.
    cluster: Option<Cluster>,
    /// The faults of properties.
    pub(super) faults: Vec<String>,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct ProducerConfig {
    pub(crate) acks: Acks,
    pub(crate) idempotence: bool,
    /// Whether idempotence was set, on or off.
    pub(crate) idempotence_was_set: bool,
    pub(crate) transactional_id: Option<Arc<str>>,
    pub(crate) transaction_timeout: Duration,
    pub(super) batch_size: usize,
    pub(crate) batch_records: Option<u32>,
    pub(crate) linger: Duration,
    pub(crate) buffer_memory: usize,
    pub(crate) max_request_size: usize,
    pub(crate) max_block: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) max_in_flight: usize,
    pub(crate) compression: Compression,
    pub(crate) partitioner: Arc<dyn Partitioner>,
    pub(crate) interceptors: Chain<dyn for<'a> ProducerInterceptor<Record<'a>>>,
    pub(crate) partitioner_adaptive: bool,
    /// Zero turns it off.
    pub(crate) partitioner_availability_timeout: Duration,
    pub(crate) allow_auto_topic_creation: bool,
    pub(crate) on_failure: Option<OnFailure>,
    /// `None`: the same as `max_block`.
    transaction_max_block: Option<Duration>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            acks: Acks::All,
            idempotence: true,
            idempotence_was_set: false,
            transactional_id: None,
            transaction_timeout: DEFAULT_TRANSACTION_TIMEOUT,
            batch_size: DEFAULT_BATCH_SIZE,
            batch_records: None,
            linger: ms(5),
            buffer_memory: 32 * 1024 * 1024,
            max_request_size: 1024 * 1024,
            max_block: ms(60_000),
            delivery_timeout: ms(120_000),
            retries: i32::MAX.cast_unsigned(),
            max_in_flight: MAX_IN_FLIGHT_WITH_IDEMPOTENCE,
            compression: Compression::None,
            partitioner: Arc::new(partitioner::java()),
            interceptors: Chain::default(),
            partitioner_adaptive: true,
            partitioner_availability_timeout: Duration::ZERO,
            allow_auto_topic_creation: true,
            on_failure: None,
            transaction_max_block: None,
        }
    }
}

/// Java's default.
const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A broker remembers the last five batches of a producer in a partition to recognise a repeated one.
const MAX_IN_FLIGHT_WITH_IDEMPOTENCE: usize = 5;

/// Five batches of each partition in flight are enough for a broker 5 ms away to take what one thread sends.
const DEFAULT_BATCH_SIZE: usize = 256 * 1024;

impl ProducerBuilder {
    /// A builder with every default, for the cluster that these servers belong to.
    ///
    /// They are given as one text with commas between them, or as a list of such texts ([`IntoServers`]). Each is
    /// `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; the port is 9092 where none is named, and `PLAINTEXT://` may
    /// stand before the host. They are tried in order until one answers with the cluster's metadata; they need not be
    /// all brokers, but with several the start does not depend on one. Property: `bootstrap.servers` (librdkafka: also
    /// `metadata.broker.list`).
    pub fn new<Form>(bootstrap_servers: impl IntoServers<Form>) -> Self {
        let (client, config) = (ClientBuilder::default(), ProducerConfig::default());
        let builder = Self { client, config, cluster: None, faults: Vec::new() };
        builder.bootstrap_servers(bootstrap_servers)
    }

    /// A builder with every default, for a producer that uses this cluster.
    pub(crate) fn on(cluster: &Cluster) -> Self {
        Self { cluster: Some(cluster.clone()), ..Self::new([""; 0]) }
    }

    properties_forms!();

    /// Sets what properties say, with the names and units of Java or librdkafka, as in a `producer.properties` for
    /// either of them. One file may serve all clients of a program: properties for consumers or a schema registry are
    /// ignored.
    ///
    /// A value that cannot be read, a name that is unknown to all of them, and a property that this client does not
    /// support are faults. `build` reports them, and says what to use instead. A later call of a setter or of this
    /// overrides earlier values; but a fault remains.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kafka_blocking::Producer;
    ///
    /// let file = [("linger.ms", "20"), ("acks", "all")];
    /// let builder = Producer::builder(["kafka01:9092"]).properties(file).linger(Duration::ZERO);
    /// ```
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        properties::load(self, properties)
    }

    client_setters!();

    /// Which replicas must have a record before it counts as delivered. Default: [`Acks::All`]. Any other needs
    /// [`idempotence(false)`](Self::idempotence). Property: `acks` (librdkafka: also `request.required.acks`).
    pub fn acks(mut self, acks: Acks) -> Self {
        self.config.acks = acks;
        self
    }

    /// Whether brokers recognise and drop a batch that is sent again (KIP-98), so that retries neither duplicate nor
    /// reorder records. Default: true. It needs acks from all replicas, retries, and at most five requests in flight.
    /// Property: `enable.idempotence`.
    pub fn idempotence(mut self, on: bool) -> Self {
        self.config.set_idempotence(on);
        self
    }

    /// Makes the producer transactional, under this name: records and offsets are written in transactions, which become
    /// visible as a whole or not at all, and the name stays valid after the program has ended. A new producer with the
    /// same name finishes the transaction that the former one left, and fences that one; so two producers that run at
    /// the same time must have different names.
    ///
    /// It needs [`idempotence`](Self::idempotence), and so acks from all replicas. Default: none.
    /// Property: `transactional.id`.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.config.transactional_id = Some(id.into().into());
        self
    }

    /// How long a transaction may take, counted from the first record or offset. After that the coordinator aborts it.
    /// Until then readers of committed records wait. The broker has a limit, `transaction.max.timeout.ms`, 15 minutes
    /// by default; `init_transactions` fails above it. Default: 60 s. Property: `transaction.timeout.ms`.
    pub fn transaction_timeout(mut self, time: Duration) -> Self {
        self.config.transaction_timeout = time;
        self
    }

    /// How long a call about transactions may block: `init_transactions`, `transaction`, `begin_transaction`, `commit`,
    /// `abort` and `send_offsets`, by the guard or by the producer. A commit first delivers what was sent, which
    /// counts, too. Default: as long as [`max_block`](Self::max_block), which limits them in Java.
    /// Property: `transaction.max.block.ms`, which Java's client does not know.
    pub fn transaction_max_block(mut self, time: Duration) -> Self {
        self.config.transaction_max_block = Some(time);
        self
    }

    /// How many bytes of records a partition's batch holds, counted before compression; with 0 every record has its own
    /// batch. A larger record is alone in a batch. A batch is sent when it is full or the linger is over, whichever is
    /// first. It takes no more memory than its records need.
    ///
    /// Default: 262144 (256 KiB), or less if `max_request_size` or `buffer_memory` is less. Java's is 16384; with that
    /// and five requests in flight, a broker 5 ms away gets only a fraction of what it can take:
    /// [`manual::performance`](crate::manual::performance). Property: `batch.size`.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.config.batch_size = bytes;
        self
    }

    /// How many records a partition's batch holds, besides the limit in bytes; what kiel calls `batch_size`.
    /// Default: none. Property: librdkafka's `batch.num.messages`.
    pub fn batch_records(mut self, records: impl Into<Option<u32>>) -> Self {
        self.config.batch_records = records.into();
        self
    }

    /// How long an open batch waits for more records. A thread that waits for a delivery, or flushes, ends it early.
    /// Default: 5 ms. Property: `linger.ms` (librdkafka: also `queue.buffering.max.ms`).
    pub fn linger(mut self, linger: Duration) -> Self {
        self.config.linger = linger;
        self
    }

    /// The bytes of all batches that are not yet delivered. When they reach this, `send` blocks, at most for
    /// [`max_block`](Self::max_block). A batch takes at least 1 KiB, and at most about twice what its records need;
    /// when memory is scarce it is sent before it is full. Default: 33554432 (32 MiB). Property: `buffer.memory`
    /// (librdkafka: `queue.buffering.max.kbytes`, in KiB).
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// The largest request, and so the largest record. The broker has a limit of its own, `message.max.bytes`.
    /// Default: 1048576 (1 MiB). Property: `max.request.size` (librdkafka: `message.max.bytes`).
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.config.max_request_size = bytes;
        self
    }

    /// How long `send`, `partitions_for` and `connect` may block for metadata and buffer memory together; with zero
    /// they never block. Default: 60 s. Property: `max.block.ms` (formerly `metadata.fetch.timeout.ms`).
    pub fn max_block(mut self, time: Duration) -> Self {
        self.config.max_block = time;
        self
    }

    /// How long a record has from `send` to its delivery, waiting and retries included. The records of a batch share
    /// one result, for which the time counts from the first of them. Default: 120 s. Property: `delivery.timeout.ms`
    /// (librdkafka: also `message.timeout.ms`).
    pub fn delivery_timeout(mut self, time: Duration) -> Self {
        self.config.delivery_timeout = time;
        self
    }

    /// How often a batch is sent again at most. It is best left unchanged: [`delivery_timeout`](Self::delivery_timeout)
    /// is the better limit. Default: 2147483647. Property: `retries` (librdkafka: also `message.send.max.retries`).
    pub fn retries(mut self, retries: u32) -> Self {
        self.config.retries = retries;
        self
    }

    /// How many produce requests may be unanswered on one connection. Default: 5, the most that
    /// [`idempotence`](Self::idempotence) allows. The order within a partition is kept with any value.
    /// Property: `max.in.flight.requests.per.connection` (librdkafka: also `max.in.flight`).
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests;
        self
    }

    /// Has `on_failure` called for every record that fails: one place for all failures, for a program that drops its
    /// handles, or counts lost records. It is called once for each record whose handle or callback has an error,
    /// whether the program looks at that or not. This includes records that are refused at once, aborted, purged, or
    /// given up by `close`. A record or batch that is returned to the caller ([`RecordNotSent`](crate::RecordNotSent),
    /// [`BatchNotSent`](crate::BatchNotSent)) has not failed. Records that succeed cost nothing.
    ///
    /// ```
    /// use kafka_blocking::{Producer, Record};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("clicks", 3).start()?;
    /// let producer = Producer::builder(cluster.bootstrap()).on_failure(|error| eprintln!("lost: {error:#}")).build()?;
    /// producer.send(Record::to("clicks").value("click 1")).detach();
    /// producer.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It is called for the records of a batch in their order, and for batches in the order in which they fail; it is
    /// not ordered with callbacks. `flush` and `close` wait for it as for callbacks.
    ///
    /// *Thread*: `kafka-callbacks`, where callbacks wait meanwhile; after [`Producer::close`](crate::Producer::close)
    /// the one that sends. A panic is caught and logged, and the next record follows. Default: none; the log has one
    /// line for each batch that fails.
    pub fn on_failure(mut self, on_failure: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.config.on_failure = Some(OnFailure(Arc::new(on_failure)));
        self
    }

    /// How batches are compressed, each as a whole. Default: [`Compression::None`].
    /// Property: `compression.type` (librdkafka: also `compression.codec`).
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// What chooses the partition of a record that does not name one: one of those in
    /// [`partitioner`](crate::partitioner), a function of key and partitions by
    /// [`partitioner_fn`](crate::partitioner::partitioner_fn), or a type of your own.
    /// Default: [`partitioner::java()`](crate::partitioner::java). Property: `partitioner.class` (librdkafka: `partitioner`).
    pub fn partitioner(mut self, partitioner: impl Partitioner + 'static) -> Self {
        self.config.partitioner = Arc::new(partitioner);
        self
    }

    /// Whether partitions with short queues are chosen more often as the sticky partition (KIP-794). Default: true.
    /// Property: `partitioner.adaptive.partitioning.enable`.
    pub fn partitioner_adaptive(mut self, on: bool) -> Self {
        self.config.partitioner_adaptive = on;
        self
    }

    /// If nothing could be sent to a broker for this long, none of its partitions is chosen as the sticky partition
    /// (KIP-794). It needs [`partitioner_adaptive`](Self::partitioner_adaptive). Default: zero, which turns it off.
    /// Property: `partitioner.availability.timeout.ms`.
    pub fn partitioner_availability_timeout(mut self, time: Duration) -> Self {
        self.config.partitioner_availability_timeout = time;
        self
    }

    /// Whether asking for the metadata of a topic that does not exist lets the broker create it, where its
    /// `auto.create.topics.enable` is on. Default: true, as Java's producer always asks.
    /// Property: librdkafka's `allow.auto.create.topics`.
    pub fn allow_auto_topic_creation(mut self, on: bool) -> Self {
        self.config.allow_auto_topic_creation = on;
        self
    }

    /// Checks every setting and every pair that can contradict each other.
    ///
    /// Errors: `Config`, with all faults.
    pub(crate) fn validate(self) -> Result<(ClientConfig, ProducerConfig)> {
        let Self { client, config, cluster, mut faults } = self;
        let client = match cluster {
            Some(cluster) => client.on(cluster.config(), &mut faults),
            None => client.check(&mut faults),
        };
        config.check_durations(&mut faults);
        config.check_sizes(&mut faults);
        config.check_pairs(&client, &mut faults);
        report(&faults)?;
        Ok((client, config))
    }
}

impl ProducerConfig {
    pub(super) fn set_idempotence(&mut self, on: bool) {
        self.idempotence = on;
        self.idempotence_was_set = true;
    }

    /// How large a batch may be. The default is reduced to lower limits; a size that was set is not, and is a fault
    /// then.
    pub(crate) fn batch_size(&self) -> usize {
        match self.batch_size {
            DEFAULT_BATCH_SIZE => DEFAULT_BATCH_SIZE.min(self.max_request_size).min(self.buffer_memory),
            chosen => chosen,
        }
    }

    /// How long a call about transactions may block.
    pub(crate) fn transaction_max_block(&self) -> Duration {
        self.transaction_max_block.unwrap_or(self.max_block)
    }

    fn check_durations(&self, faults: &mut Vec<String>) {
        let zero = Duration::ZERO;
        let one = Duration::from_millis(1);
        let useless = "nothing could be done in a shorter time";
        let any = "";
        // (setting, value, the least, why not less).
        let bounds = [
            ("linger", self.linger, zero, any),
            ("max_block", self.max_block, zero, any),
            ("transaction_max_block", self.transaction_max_block.unwrap_or(one), one, useless),
            ("delivery_timeout", self.delivery_timeout, one, useless),
            ("transaction_timeout", self.transaction_timeout, one, "a transaction would be aborted before it begins"),
            ("partitioner_availability_timeout", self.partitioner_availability_timeout, zero, any),
        ];
        for (name, value, least, reason) in bounds {
            check_duration(&properties::label(name), value, least, reason, faults);
        }
    }

    fn check_sizes(&self, faults: &mut Vec<String>) {
        let wire = "a length on the wire is a signed 32-bit number";
        let records = self.batch_records.map_or(1, |records| usize::try_from(records).unwrap_or(usize::MAX));
        // (setting, value, the least, the most, why).
        let bounds = [
            (
                "transactional_id",
                self.transactional_id.as_ref().map_or(1, |id| id.len()),
                1,
                32_767,
                "an empty one would be no name, and the length on the wire is a signed 16-bit number",
            ),
            ("batch_size", self.batch_size(), 0, MAX_WIRE_BYTES, wire),
            ("batch_records", records, 1, MAX_WIRE_BYTES, "a batch holds a record, and counts them with 31 bits"),
            ("buffer_memory", self.buffer_memory, 1, usize::MAX, "no record would fit"),
            ("max_request_size", self.max_request_size, 1, MAX_WIRE_BYTES, wire),
            ("max_in_flight", self.max_in_flight, 1, 1_000_000, "without a request nothing is sent"),
        ];
        for (name, value, least, most, reason) in bounds {
            let unit = if name == "transactional_id" { " bytes long" } else { "" };
            check_size(&properties::label(name), value, unit, least..=most, reason, faults);
        }
    }

    fn check_pairs(&self, client: &ClientConfig, faults: &mut Vec<String>) {
        let label = properties::label;
        if self.idempotence {
            let by = if self.idempotence_was_set { "" } else { ", as it is by default" };
            let on = format!("{} is on{by}", label("idempotence"));
            // Idempotence alone cannot be given up where there are transactions, which are written with it.
            let without = match self.transactional_id {
                None => "set idempotence(false) to do without it".to_owned(),
                Some(_) => format!(
                    "transactions cannot do without it, so either leave this setting at its default or leave out {} and \
                     set idempotence(false)",
                    label("transactional_id")
                ),
            };
            if self.acks != Acks::All {
                faults.push(format!(
                    "{} is {:?}, but {on}, and needs acks from all in-sync replicas, Acks::All: {without}",
                    label("acks"),
                    self.acks
                ));
            }
            if self.retries == 0 {
                faults.push(format!("{} is 0, but {on}, and needs retries: {without}", label("retries")));
            }
            if self.max_in_flight > MAX_IN_FLIGHT_WITH_IDEMPOTENCE {
                faults.push(format!(
                    "{} is {}, but {on}, and a broker recognises repeated batches among the last \
                     {MAX_IN_FLIGHT_WITH_IDEMPOTENCE} only: {without}",
                    label("max_in_flight"),
                    self.max_in_flight
                ));
            }
        }
        match self.transactional_id {
            Some(_) if !self.idempotence => faults.push(format!(
                "{} is set, but {} is off, and transactions are written by idempotent producers only: leave out one of \
                 them",
                label("transactional_id"),
                label("idempotence")
            )),
            None if self.transaction_timeout != DEFAULT_TRANSACTION_TIMEOUT => faults.push(format!(
                "{} is {:?}, but {} is not set, and without it there are no transactions",
                label("transaction_timeout"),
                self.transaction_timeout,
                label("transactional_id")
            )),
            _ => {}
        }
        if let (None, Some(time)) = (&self.transactional_id, self.transaction_max_block) {
            faults.push(format!(
                "{} is {time:?}, but {} is not set, and without it there are no transactions",
                label("transaction_max_block"),
                label("transactional_id")
            ));
        }
        if self.delivery_timeout < self.linger.saturating_add(client.request_timeout) {
            faults.push(format!(
                "{} is {:?}, less than {} ({:?}) and {} ({:?}) together, so a record could expire before its first \
                 request is answered",
                label("delivery_timeout"),
                self.delivery_timeout,
                label("linger"),
                self.linger,
                label("request_timeout"),
                client.request_timeout
            ));
        }
        for (name, limit, reason) in [
            ("buffer_memory", self.buffer_memory, "no batch could be filled"),
            ("max_request_size", self.max_request_size, "a full batch could not be sent"),
        ] {
            if self.batch_size() > limit {
                let (name, batch_size) = (label(name), label("batch_size"));
                faults.push(format!("{batch_size} is {}, more than {name}, {limit}: {reason}", self.batch_size()));
            }
        }
        if !self.partitioner_adaptive && !self.partitioner_availability_timeout.is_zero() {
            faults.push(format!(
                "{} is {:?}, but {} is off, and without it no partition is left out",
                label("partitioner_availability_timeout"),
                self.partitioner_availability_timeout,
                label("partitioner_adaptive")
            ));
        }
        if let Some(fault) = self.compression.fault() {
            faults.push(format!("{} {fault}", label("compression")));
        }
        if !cfg!(feature = "zstd") && matches!(self.compression, Compression::Zstd(_)) {
            faults.push(format!(
                "{} is zstd, but this build of kafka-blocking is without its feature \"zstd\"",
                label("compression")
            ));
        }
    }
}

impl ProducerBuilder {
    /// The cluster to use, if one was given.
    pub(super) fn shared_cluster(&self) -> Option<Cluster> {
        self.cluster.clone()
    }

    /// Adds an interceptor after those already there. Default: none. Property: `interceptor.classes`, which can only be
    /// empty here.
    pub fn interceptor(mut self, interceptor: impl for<'a> ProducerInterceptor<Record<'a>> + 'static) -> Self {
        self.config.interceptors.push(Arc::new(interceptor));
        self
    }
}

#[cfg(test)]
mod tests;

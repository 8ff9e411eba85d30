//! A Kafka client for ordinary threaded programs: plain sockets and background threads, no async runtime, no C.
//!
//! It has a producer. [`Producer::send`] puts a record into a buffer and returns at once with a handle, a [`Delivery`];
//! threads of the producer's own group the records into batches, send them to the brokers that lead their partitions,
//! and retry what can be retried. Whoever wants to know what became of a record asks its handle.
//!
//! With a `transactional_id` it writes in transactions: [`manual::transactions`]. A program can also fill batches by itself:
//! [`manual::direct_batches`].
//!
//! And it has an admin client: [`admin::Admin`] creates, describes, alters and deletes topics, and finds offsets
//! ([`manual::admin`]).
//!
//! Consumers, consumer groups, TLS and SASL are not there yet.
//!
//! # Sending
//!
//! ```
//! use kafka_blocking::testing::FakeCluster;
//! use kafka_blocking::{Producer, Record};
//!
//! # fn main() -> kafka_blocking::Result<()> {
//! // A cluster in this process, from the feature `testing`. For a real one: Producer::builder(["kafka01:9092"]).
//! let cluster = FakeCluster::builder().topic("greetings", 3).start()?;
//! let producer = Producer::builder(cluster.bootstrap()).build()?;
//!
//! let sent = producer.send(Record::to("greetings").key("Ada").value("Hello!")).wait()?;
//! println!("{sent}"); // greetings-2@0: topic, partition and offset
//! # assert_eq!(cluster.records("greetings", sent.partition())?[0].value_text(), "Hello!");
//!
//! producer.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! `wait` cuts the linger, so a thread that sends one record at a time does not wait for a timer. A thread that sends
//! many keeps the handles and waits later, takes callbacks, or lets go of the handles with [`Delivery::detach`];
//! [`ProducerBuilder::on_failure`] is one place for all that fails, and [`Producer::flush`] waits for everything. One producer serves
//! the whole program: it is cheap to clone, and any number of threads may send at once. Where several are needed, each with settings of
//! its own, they can share a [`Cluster`].
//!
//! ```
//! use std::time::Duration;
//!
//! use kafka_blocking::{Compression, Delivery, Producer, Record};
//! # use kafka_blocking::testing::FakeCluster;
//!
//! # fn main() -> kafka_blocking::Result<()> {
//! # let cluster = FakeCluster::builder().topic("readings", 12).start()?;
//! # let servers = cluster.bootstrap();
//! let producer = Producer::builder(servers)
//!     .compression(Compression::Lz4)
//!     .linger(Duration::from_millis(20))
//!     .build()?;
//!
//! // Handles: one for each record.
//! let sent: Vec<Delivery> =
//!     (0..100).map(|n| producer.send(Record::to("readings").key("sensor-7").value(n.to_string()))).collect();
//! for delivery in sent {
//!     delivery.wait()?;
//! }
//!
//! // Callbacks: they run on a thread of the producer's own.
//! producer.send_with(Record::to("readings").key("sensor-7").value("100"), |result| {
//!     if let Err(error) = result {
//!         eprintln!("{error}");
//!     }
//! });
//!
//! // Neither. What is on its way when `close` is called is delivered, or named in its error.
//! producer.send(Record::to("readings").key("sensor-7").value("101")).detach();
//! producer.close()?;
//! # let records: i64 = (0..12).map(|partition| cluster.log_len("readings", partition)).sum::<Result<i64, _>>()?;
//! # assert_eq!(records, 102);
//! # Ok(())
//! # }
//! ```
//!
//! # A topic that is not known yet
//!
//! [`ProducerBuilder::build`] asks no broker. The first `send` to a topic asks for the topic's metadata, and waits for it, at most for
//! [`max_block`](ProducerBuilder::max_block), a minute by default; after that the topic is known, and `send` returns at once.
//! [`Producer::connect`] shows earlier whether the cluster can be reached.
//!
//! Asking for a topic that does not exist lets the broker create it, where its `auto.create.topics.enable` is on, with as many partitions
//! as the broker's `num.partitions` says. [`allow_auto_topic_creation(false)`](ProducerBuilder::allow_auto_topic_creation) turns that
//! off. If there is no such topic when the time is over, the record fails: its handle has [`Timeout::Metadata`], with
//! [`ErrorCode::UNKNOWN_TOPIC_OR_PARTITION`] as the cause, and nothing was sent. A name that Kafka does not allow, and a topic that
//! the program has no right to see, are told at once.
//!
//! # What is promised
//!
//! By default a record counts as delivered when all in-sync replicas have it, brokers recognise a batch that is sent
//! again, and the order of a thread's records within a partition holds: [`manual::delivery_guarantees`] says what that
//! includes. [`ProducerBuilder`] has the settings, [`manual::configuration`] their names in Java and librdkafka, and
//! [`partitioner`] the ways to choose a partition.
//!
//! A [`TypedProducer`] sends messages of a program's own types: it makes their keys, and the bytes of both by a serializer of
//! [`serialization`]; [`manual::typed`] tells the whole way.
//!
//! # Errors
//!
//! Every failure is an [`Error`], and every failure of a record comes out of its handle, also one that is known at
//! once. An error answers four questions without anybody reading its text:
//!
//! | question | method | answers |
//! |---|---|---|
//! | What happened? | [`Error::kind`] | [`ErrorKind`]: the caller's fault, a deadline (which), the network, a broker's code, a broker that misbehaves, a fault of this crate |
//! | What now? | [`Error::recovery`] | [`Recovery`]: `Retry` (the same call may succeed later), `Fix` (the call, the settings or the cluster must change), `Fatal` (build a new client), `AbortTransaction` |
//! | May the record be in the log? | [`Error::written`] | [`Written`]: `No`, `Maybe` (sending it again may write it twice), `Yes`; `None` where no record and no commit is meant |
//! | Where? | [`Error::context`] | [`ErrorContext`]: topic, partition, broker, address, request, limit, attempts, sequence |
//!
//! The producer has retried what could be retried before a record fails, for as long as `delivery_timeout` allows. A
//! program that retries by itself should look at `written` first:
//!
//! ```
//! use kafka_blocking::{ErrorKind, Producer, Record, Recovery, Written};
//! # use kafka_blocking::testing::FakeCluster;
//!
//! # fn main() -> kafka_blocking::Result<()> {
//! # let cluster = FakeCluster::builder().topic("orders", 3).start()?;
//! # let producer = Producer::builder(cluster.bootstrap()).build()?;
//! let error = match producer.send(Record::to("orders").partition(100).value("1 apple")).wait() {
//!     Ok(sent) => return Ok(println!("delivered: {sent}")),
//!     Err(error) => error,
//! };
//! match (error.recovery(), error.written()) {
//!     (Recovery::Retry, Some(Written::No)) => println!("try again later: {error}"),
//!     (Recovery::Retry, _) => println!("it may be in the log: {error}"),
//!     (_, _) => println!("trying again does not help: {error}"),
//! }
//! # assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::Fix));
//! # Ok(())
//! # }
//! ```
//!
//! [`manual::errors`] lists what a producer's caller meets.
//!
//! # Threads
//!
//! A record's batch belongs to one thread at a time, and threads hand work on instead of sharing it.
//!
//! | thread | does | there |
//! |---|---|---|
//! | yours | makes keys and bytes of typed messages, partitions the record and copies it into its partition's open batch | |
//! | `kafka-sender-{broker}` | compresses, sends and retries the batches of the partitions that this broker leads | from the first record for one of them |
//! | `kafka-reader-{broker}` | reads the broker's answers | beside its sender, while there is a connection |
//! | `kafka-metadata` | finds out which broker leads what | from `build` to `close`; of a [`Cluster`] that producers share, until the last of them |
//! | `kafka-identity` | gets producer ids | from `build` to `close`, unless `idempotence(false)` |
//! | `kafka-txn` | talks to the coordinators of transactions and groups | likewise, with a `transactional_id`, in the place of `kafka-identity` |
//! | `kafka-callbacks` | runs callbacks, `on_failure`, and interceptors' `on_acknowledgement` | likewise |
//!
//! `send` blocks while its topic, or the partition that the record names, is not known yet, and while the buffer memory
//! is used up, at most for `max_block`; `try_send` never does. [`Producer::close`] ends every thread and connection; dropping the last
//! handle does the same within five seconds. [`manual::threads`] has the rest, with a table of how long each call waits.
//!
//! # What is logged
//!
//! Through the crate [`log`], under targets that begin with `kafka_blocking`. Keys, values and headers are never logged.
//! The levels are part of this crate's interface, the texts are not:
//!
//! | level | what is said |
//! |---|---|
//! | `error` | a thread of the producer panicked, or a callback or an interceptor did |
//! | `warn` | an interceptor failed; or something may be lost or late: a batch failed (once a batch, with the reason; not when the producer is closed, for `close` tells that); a batch is to be sent again, a connection, metadata or a producer id could not be had, a coordinator does not do what it was asked again (when that begins, at growing intervals, and when it ends); dropping the producer left records undelivered; a transaction was dropped without commit or abort |
//! | `info` | what happens now and then: the producer started, who answered for metadata, the producer id, a connection that ended, a topic that was created anew, a partition that goes on under a new epoch or learns how large its batches may be, the identity of a transactional id |
//! | `debug` | what is done about it: each further attempt of an outage, connections made and closed when idle, addresses that did not answer, error answers and what follows from each, throttling, partitions that move to another broker, senders that start and end, properties without an effect |
//! | `trace` | each request, with its size, or the number of its batches |
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `json` | `serialization::json()` and `TypedProducer::json`, through serde | no |
//! | `schema-registry` | `schema_registry`: the client of a schema registry, over http, and the framing of values with a schema's id | no |
//! | `avro` | serializers and deserializers of Avro, with the registry's schemas; it includes `schema-registry` | no |
//! | `schema-registry-tls` | the registry over https | no |
//! | `zstd` | [`Compression::zstd`], in safe Rust; it takes longer to build than everything else | no |
//! | `testing` | `testing::FakeCluster`, a cluster in the process, with faults by script, for tests of programs that use this crate | no |
//!
//! # More
//!
//! The [`manual`] has what is not about one item: guarantees, errors, transactions, configuration, how to test a program that uses this
//! crate, and how to come from Java, rdkafka, aiokafka or kiel. The examples are complete programs: `cargo run --example quickstart`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod admin;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench;
mod bytes;
mod cluster;
mod config;
pub mod error;
mod logging;
pub mod manual;
mod net;
mod obstacle;
mod offsets;
mod outage;
mod producer;
mod protocol;
mod record;
#[cfg(feature = "schema-registry")]
pub mod schema_registry;
pub mod serialization;
#[cfg(feature = "testing")]
pub mod testing;
mod thread;
mod time;
mod topic;

pub use cluster::{Cluster, ClusterBuilder};
pub use config::client::MetadataRecovery;
pub use config::servers::IntoServers;
pub use error::{Error, ErrorCode, ErrorContext, ErrorKind, Recovery, Result, Timeout, Written};
pub use offsets::{GroupMetadata, OffsetAndMetadata};
pub use producer::{
    Acks, Appended, AppendedRecord, BatchDelivery, BatchMetadata, BatchNotSent, Delivery, DirectBatch, Held,
    InTransaction, InterceptorError, LatencyHistogram, NotCommitted, PartitionInfo, Producer, ProducerBuilder,
    ProducerInterceptor, ProducerMetrics, Purge, RecordMetadata, RecordNotSent, Transaction, TransactionMetrics,
    TypedProducer, TypedRecord, TypedTransaction, Undelivered, partitioner,
};
pub use record::{Compression, GzipLevel, Header, Headers, IntoBytes, Record, Timestamp, TimestampType, ZstdLevel};
pub use topic::{BrokerId, IsolationLevel, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

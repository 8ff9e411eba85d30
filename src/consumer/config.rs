//! The consumer's settings: a builder that takes anything, and one check that reports every fault.

mod properties;

use std::time::Duration;

use super::start::{OutOfRange, Start};
use crate::cluster::Cluster;
use crate::config::client::{ClientBuilder, ClientConfig, MetadataRecovery, client_setters};
use crate::config::properties::properties_forms;
use crate::config::servers::IntoServers;
use crate::config::{MAX_WIRE_BYTES, check_duration, check_size, report};
use crate::error::Result;
use crate::record::compression::DEFAULT_MAX_DECOMPRESSED_BYTES;
use crate::topic::{IsolationLevel, TopicPartition, topic_name_fault};

/// The settings of a [`Consumer`](crate::Consumer) to be built.
///
/// Each setter names its default and Java's property. Nothing is checked before `build`, which then reports every fault at
/// once.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct ConsumerBuilder {
    pub(super) client: ClientBuilder,
    pub(super) config: ConsumerConfig,
    cluster: Option<Cluster>,
    /// What was wrong with properties.
    faults: Vec<String>,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerConfig {
    pub(crate) partitions: Vec<(TopicPartition, Start)>,
    pub(crate) topics: Vec<(String, Start)>,
    pub(crate) isolation_level: IsolationLevel,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) buffer_memory: usize,
    pub(crate) fetch_min_bytes: usize,
    pub(crate) fetch_max_bytes: usize,
    pub(crate) fetch_max_wait: Duration,
    pub(crate) max_partition_fetch_bytes: usize,
    pub(crate) max_decompressed_bytes: usize,
    pub(crate) max_poll_bytes: usize,
    pub(crate) max_block: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            partitions: Vec::new(),
            topics: Vec::new(),
            isolation_level: IsolationLevel::Uncommitted,
            out_of_range: OutOfRange::Error,
            buffer_memory: 64 << 20,
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            fetch_max_wait: Duration::from_millis(500),
            max_partition_fetch_bytes: 1 << 20,
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED_BYTES,
            max_poll_bytes: 4 << 20,
            max_block: Duration::from_secs(60),
        }
    }
}

impl ConsumerBuilder {
    /// A builder with every default, for the cluster that these servers belong to; what an entry may be says
    /// [`ProducerBuilder::new`](crate::ProducerBuilder::new).
    /// Property: `bootstrap.servers` (librdkafka: also `metadata.broker.list`).
    pub fn new<Form>(bootstrap_servers: impl IntoServers<Form>) -> Self {
        Self { client: ClientBuilder::default(), config: ConsumerConfig::default(), cluster: None, faults: Vec::new() }
            .bootstrap_servers(bootstrap_servers)
    }

    /// A builder with every default, for a consumer that uses this cluster.
    pub(crate) fn on(cluster: &Cluster) -> Self {
        Self { cluster: Some(cluster.clone()), ..Self::new([""; 0]) }
    }

    properties_forms!();

    /// Sets what properties say, with the names of Java or librdkafka and their units. One file may serve all clients of a
    /// program: what is for producers or a schema registry is left to them. [`manual::consumer`](crate::manual::consumer) has
    /// the names.
    ///
    /// A value that cannot be read, a name that is unknown to all of them, and one that this client does not support are
    /// faults which `build` reports. Whatever is called later, a setter or this again, overrides what was set before; but a
    /// fault stays one.
    ///
    /// ```
    /// use kafka_blocking::Consumer;
    ///
    /// let file = [("fetch.min.bytes", "1000"), ("isolation.level", "read_committed")];
    /// let builder = Consumer::builder("kafka01:9092").properties(file).fetch_min_bytes(1);
    /// ```
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        properties::load(self, properties)
    }

    /// The cluster that it shares with others.
    pub(super) fn shared_cluster(&self) -> Option<Cluster> {
        self.cluster.clone()
    }

    client_setters!();

    /// Reads this partition from there on. Each call adds one.
    ///
    /// ```
    /// use kafka_blocking::{Consumer, Start, TopicPartition};
    ///
    /// let builder = Consumer::builder(["kafka01:9092"])
    ///     .assign(TopicPartition::new("readings", 0), Start::Beginning)
    ///     .assign(TopicPartition::new("readings", 1), Start::Offset(4711));
    /// ```
    pub fn assign(mut self, partition: TopicPartition, start: Start) -> Self {
        self.config.partitions.push((partition, start));
        self
    }

    /// Reads every partition of this topic from there on. Partitions that are added to it later are read from their
    /// beginning. Each call adds one topic.
    pub fn assign_topic(mut self, topic: impl Into<String>, start: Start) -> Self {
        self.config.topics.push((topic.into(), start));
        self
    }

    /// Which records of transactions are seen. Default: [`IsolationLevel::Uncommitted`]. Property: `isolation.level`.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.config.isolation_level = level;
        self
    }

    /// What becomes of a partition whose position its leader does not have. Default: [`OutOfRange::Error`]. Property:
    /// `auto.offset.reset`, which in Java is also where a group begins, and `latest` by default: a consumer that goes to the
    /// end there leaves out records, and nobody is told.
    pub fn out_of_range(mut self, then: OutOfRange) -> Self {
        self.config.out_of_range = then;
        self
    }

    /// At most how many bytes the consumer has in memory: those that were asked for and may come, that have come, that were
    /// decompressed, and that the program holds. What is decompressed may exceed it by one batch for each thread that reads.
    /// Default: 67108864 (64 MiB). Property: librdkafka's
    /// `queued.max.messages.kbytes`, which counts for each partition there; Java has no such setting.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.config.buffer_memory = bytes;
        self
    }

    /// How much a broker lets come together before it answers, for at most `fetch_max_wait`. Default: 1.
    /// Property: `fetch.min.bytes`.
    pub fn fetch_min_bytes(mut self, bytes: usize) -> Self {
        self.config.fetch_min_bytes = bytes;
        self
    }

    /// How much an answer may hold. The first batch of an answer may be larger, or nobody could read it.
    /// Default: 52428800 (50 MiB). Property: `fetch.max.bytes`.
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.config.fetch_max_bytes = bytes;
        self
    }

    /// How long a broker waits for records before it answers without any. Default: 500 ms.
    /// Property: `fetch.max.wait.ms` (librdkafka: `fetch.wait.max.ms`).
    pub fn fetch_max_wait(mut self, time: Duration) -> Self {
        self.config.fetch_max_wait = time;
        self
    }

    /// How much of one partition an answer may hold. Where a batch is larger, the consumer asks for as much as that one
    /// needs. Default: 1048576 (1 MiB). Property: `max.partition.fetch.bytes` (librdkafka: also `fetch.message.max.bytes`).
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.config.max_partition_fetch_bytes = bytes;
        self
    }

    /// How many bytes the records of one batch may take when they are decompressed. A batch with more is an error of its
    /// partition. Default: 134217728 (128 MiB). Java has no such limit.
    pub fn max_decompressed_bytes(mut self, bytes: usize) -> Self {
        self.config.max_decompressed_bytes = bytes;
        self
    }

    /// About how many bytes of batches [`poll`](crate::Consumer::poll) returns at a time, as they came. Default: 4194304
    /// (4 MiB). In Java's place of `max.poll.records`, which counts.
    pub fn max_poll_bytes(mut self, bytes: usize) -> Self {
        self.config.max_poll_bytes = bytes;
        self
    }

    /// How long `build` waits for the metadata of the assigned topics. Default: 60 s. Property: `default.api.timeout.ms`.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.config.max_block = time;
        self
    }

    /// Checks the settings. *Errors*: `Config`, with all faults.
    pub(crate) fn validate(self) -> Result<(ClientConfig, ConsumerConfig)> {
        let mut faults = self.faults;
        let client = match self.cluster {
            Some(cluster) => self.client.on(cluster.config(), &mut faults),
            None => self.client.check(&mut faults),
        };
        self.config.check(&mut faults);
        report(&faults)?;
        Ok((client, self.config))
    }
}

impl ConsumerConfig {
    fn check(&self, faults: &mut Vec<String>) {
        let named = self.partitions.iter().map(|(partition, _)| &*partition.topic);
        for topic in named.chain(self.topics.iter().map(|(topic, _)| topic.as_str())) {
            faults.extend(topic_name_fault(topic).map(|fault| format!("assign: {fault}")));
        }
        for (place, (partition, start)) in self.partitions.iter().enumerate() {
            if partition.index < 0 {
                faults.push(format!("assign: partition {} of {}; they count from 0", partition.index, partition.topic));
            }
            if self.partitions.iter().take(place).any(|(other, _)| other == partition) {
                faults.push(format!("assign: {partition} is there twice"));
            }
            if self.topics.iter().any(|(topic, _)| **topic == *partition.topic) {
                faults.push(format!("assign: {partition} is part of assign_topic, too"));
            }
            check_start(&partition.to_string(), *start, faults);
        }
        for (place, (topic, start)) in self.topics.iter().enumerate() {
            if self.topics.iter().take(place).any(|(other, _)| other == topic) {
                faults.push(format!("assign_topic: {topic} is there twice"));
            }
            check_start(topic, *start, faults);
        }
        let (useful, wire) = ("nothing could be read with less", "the protocol has 31 bits for it");
        // (setting, value, the least, why).
        for (name, value, least, reason) in [
            ("buffer_memory", self.buffer_memory, 64 * 1024, useful),
            ("fetch_min_bytes", self.fetch_min_bytes, 0, wire),
            ("fetch_max_bytes", self.fetch_max_bytes, 1024, useful),
            ("max_partition_fetch_bytes", self.max_partition_fetch_bytes, 1024, useful),
            ("max_decompressed_bytes", self.max_decompressed_bytes, 1024, useful),
            ("max_poll_bytes", self.max_poll_bytes, 1, useful),
        ] {
            check_size(&properties::label(name), value, "", least..=MAX_WIRE_BYTES, reason, faults);
        }
        let zero = Duration::ZERO;
        check_duration(&properties::label("fetch_max_wait"), self.fetch_max_wait, zero, "", faults);
        check_duration(&properties::label("max_block"), self.max_block, zero, "", faults);
    }
}

fn check_start(what: &str, start: Start, faults: &mut Vec<String>) {
    faults.extend(start.check().err().map(|error| format!("assign: {what}: {}", error.message())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_fault_is_told_at_once() {
        let partition = |index| TopicPartition::new("t", index);
        let builder = ConsumerBuilder::new([""; 0])
            .assign(partition(0), Start::Offset(-1))
            .assign(partition(0), Start::End)
            .assign(partition(-1), Start::End)
            .assign_topic("t", Start::End)
            .assign_topic("a b", Start::End)
            .assign_topic("a b", Start::Offset(-2))
            .buffer_memory(10)
            .fetch_max_wait(Duration::MAX);
        let error = builder.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        for part in [
            "bootstrap_servers",
            "t-0: the offset -1",
            "t-0 is there twice",
            "partition -1 of t",
            "t-0 is part of assign_topic",
            "'a b'",
            "a b is there twice",
            "buffer_memory (queued.max.messages.kbytes) is 10",
            "fetch_max_wait",
        ] {
            assert!(text.contains(part) || text.replace('"', "'").contains(part), "{part}: {text}");
        }
    }
}

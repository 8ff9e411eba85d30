//! The settings of a fake cluster.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::FakeCluster;
use super::sessions::SLOTS;
use super::transactions::TransactionVersion;
use super::versions::{Api, KafkaVersion};
use crate::error::{Error, Result};

/// Kafka's default for the largest batch: `message.max.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// The settings of a running cluster.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) brokers: usize,
    pub(super) version: KafkaVersion,
    pub(super) transactions: TransactionVersion,
    pub(super) offered: BTreeMap<Api, RangeInclusive<i16>>,
    /// `None`: unknown topics stay unknown.
    pub(super) auto_create: Option<usize>,
    pub(super) partitions: usize,
    pub(super) replication: usize,
    pub(super) max_message_bytes: usize,
    pub(super) min_in_sync: usize,
    pub(super) sink: bool,
    pub(super) fetch_sessions: usize,
    pub(super) seed: u64,
}

/// The settings of a [`FakeCluster`], each with a default. [`FakeCluster::builder`] makes it.
#[derive(Debug)]
#[must_use = "a cluster starts with start()"]
pub struct FakeClusterBuilder {
    brokers: usize,
    version: KafkaVersion,
    transactions: Option<TransactionVersion>,
    offers: Vec<(Api, Option<RangeInclusive<i16>>)>,
    topics: Vec<(String, usize, BTreeMap<String, String>)>,
    auto_create: Option<usize>,
    replication: Option<usize>,
    max_message_bytes: usize,
    min_in_sync: usize,
    sink: bool,
    fetch_sessions: usize,
    seed: u64,
}

impl Default for FakeClusterBuilder {
    fn default() -> Self {
        Self {
            brokers: 1,
            version: KafkaVersion::default(),
            transactions: None,
            offers: Vec::new(),
            topics: Vec::new(),
            auto_create: None,
            replication: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            min_in_sync: 1,
            sink: false,
            fetch_sessions: SLOTS,
            seed: 0,
        }
    }
}

impl FakeClusterBuilder {
    /// How many brokers there are; their ids are 1, 2, 3 and so on. Default: 1.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// The release of Kafka that the brokers imitate. Default: the newest.
    pub fn version(mut self, version: KafkaVersion) -> Self {
        self.version = version;
        self
    }

    /// Which protocol of transactions is finalized for the cluster. Default: [`TransactionVersion::V2`] from Kafka 4
    /// on, else `V1`. Property of clusters: the feature `transaction.version`.
    pub fn transactions(mut self, version: TransactionVersion) -> Self {
        self.transactions = Some(version);
        self
    }

    /// The versions of one request that the brokers offer, instead of those of the release.
    pub fn offer(mut self, api: Api, versions: RangeInclusive<i16>) -> Self {
        self.offers.push((api, Some(versions)));
        self
    }

    /// Makes one request unknown to the brokers.
    pub fn withdraw(mut self, api: Api) -> Self {
        self.offers.push((api, None));
        self
    }

    /// Adds a topic that exists from the start.
    pub fn topic(self, name: impl Into<String>, partitions: usize) -> Self {
        self.topic_with(name, partitions, [])
    }

    /// Adds a topic that exists from the start, with settings of its own. These have an effect: `max.message.bytes`,
    /// `min.insync.replicas`, `cleanup.policy` (a compacted topic refuses null keys), `message.timestamp.type`,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    pub fn topic_with<'c>(
        mut self,
        name: impl Into<String>,
        partitions: usize,
        configs: impl IntoIterator<Item = (&'c str, &'c str)>,
    ) -> Self {
        let configs = configs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.topics.push((name.into(), partitions, configs));
        self
    }

    /// Makes the brokers create a topic, with this many partitions, when a client asks for its metadata and allows
    /// that. Default: unknown topics stay unknown. Property of brokers: `auto.create.topics.enable`, `num.partitions`.
    pub fn auto_create(mut self, partitions: usize) -> Self {
        self.auto_create = Some(partitions);
        self
    }

    /// How many replicas a partition has. A replica is in sync as long as its broker is alive. Default: 3, or as many
    /// as there are brokers. Property of brokers: `default.replication.factor`.
    pub fn replication(mut self, replicas: usize) -> Self {
        self.replication = Some(replicas);
        self
    }

    /// The largest batch that is accepted, in bytes. Default: 1048588. Property of brokers: `message.max.bytes`.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// How many replicas must be in sync for writes with acks=all. Default: 1. Property: `min.insync.replicas`.
    pub fn min_in_sync(mut self, replicas: usize) -> Self {
        self.min_in_sync = replicas;
        self
    }

    /// Makes the brokers acknowledge everything that is produced, without checking or keeping it; for benchmarks.
    /// Offsets are right, sequence numbers are not checked, and requests are counted but not kept.
    pub fn sink(mut self) -> Self {
        self.sink = true;
        self
    }

    /// How many fetch sessions (KIP-227) a broker has room for; 0: none. Default: 1000.
    /// Broker setting: `max.incremental.fetch.session.cache.slots`.
    pub fn fetch_sessions(mut self, count: usize) -> Self {
        self.fetch_sessions = count;
        self
    }

    /// The seed of everything random: topic ids, and [`On::chance`](super::On::chance). Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts the brokers, each on a port of 127.0.0.1 that the operating system chooses.
    ///
    /// *Errors*: `Config` for settings that contradict each other; `Network` if the operating system gives no port.
    pub fn start(self) -> Result<FakeCluster> {
        if self.brokers == 0 {
            return Err(Error::config("a cluster needs a broker"));
        }
        let mut offered = self.version.offered();
        for (api, versions) in self.offers {
            match versions {
                Some(versions) => offered.insert(api, versions),
                None => offered.remove(&api),
            };
        }
        let settings = Settings {
            brokers: self.brokers,
            version: self.version,
            transactions: self.transactions.unwrap_or_else(|| self.version.transactions()),
            offered,
            auto_create: self.auto_create,
            partitions: self.auto_create.unwrap_or(1),
            replication: self.replication.unwrap_or_else(|| self.brokers.min(3)),
            max_message_bytes: self.max_message_bytes,
            min_in_sync: self.min_in_sync,
            sink: self.sink,
            fetch_sessions: self.fetch_sessions,
            seed: self.seed,
        };
        FakeCluster::run(settings, self.topics)
    }
}

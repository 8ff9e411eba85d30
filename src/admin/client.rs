//! `Admin`, and its twin that only checks.

use std::fmt;
use std::time::Duration;

use super::AdminBuilder;
use super::brokers::Brokers;
use super::items::Attempts;
use crate::cluster::{Cluster, Creation};
use crate::config::client::ClientConfig;
use crate::config::servers::IntoServers;
use crate::time::Backoff;

/// A client that looks after a cluster: it creates, describes, alters and deletes topics, and asks for offsets.
///
/// ```
/// use kafka_blocking::admin::{Admin, NewTopic};
/// # use kafka_blocking::testing::FakeCluster;
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::start(1)?;
/// # let servers = cluster.bootstrap();
/// let admin = Admin::builder(servers).build()?;
/// admin.create_topics([NewTopic::new("payments").partitions(3).config("retention.ms", "86400000")]).all()?;
///
/// for (topic, description) in admin.describe_topics(["payments"]).all()? {
///     println!("{topic} has {} partitions", description.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
///
/// Every call blocks until it has a result, at most for the [`api_timeout`](AdminBuilder::api_timeout): attempts that fail in a
/// way that time may cure are repeated until then, and what time does not cure is told at once. A call about many items gives
/// each of them a result, see [`Results`](super::Results).
///
/// An attempt whose answer was lost may have been carried out. Where a later attempt is then told that there is nothing left to
/// do, the call looks whether what is there is what was wanted: `create_topics` and `create_partitions` compare the topic, and
/// a topic that is gone was deleted. Only if it is not, the error is told. An error says with
/// [`written`](crate::Error::written) whether the change may have been made all the same.
///
/// *Thread*: any; threads may share one client by reference, and no call waits for another's. A call that asks several brokers
/// has threads `kafka-admin` for that, which end with it. Between calls there is the thread `kafka-metadata` alone. Connections
/// are kept for later calls; one that is not used for `connections_max_idle` is closed by the next call.
pub struct Admin {
    pub(super) brokers: Brokers,
    api_timeout: Duration,
    backoff: Backoff,
}

impl Admin {
    /// A client's settings, beginning with the bootstrap servers: `host`, `host:port` or `[IPv6]:port`. See
    /// [`AdminBuilder::new`].
    pub fn builder<Form>(bootstrap_servers: impl IntoServers<Form>) -> AdminBuilder {
        AdminBuilder::new(bootstrap_servers)
    }

    /// The settings of a client that uses a cluster which it shares with others. The settings of connections and metadata are
    /// the cluster's, as with [`Producer::on`](crate::Producer::on).
    ///
    /// ```
    /// use kafka_blocking::Cluster;
    /// use kafka_blocking::admin::Admin;
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let fake = FakeCluster::start(1)?;
    /// # let servers = fake.bootstrap();
    /// let cluster = Cluster::builder(servers).build()?;
    /// let admin = Admin::on(&cluster).client_id("topics").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on(cluster: &Cluster) -> AdminBuilder {
        AdminBuilder::on(cluster)
    }

    pub(super) fn new(cluster: &Cluster, config: &ClientConfig, api_timeout: Duration) -> Self {
        // No topic is kept up to date: each call asks for what it needs.
        let client = cluster.client(&config.client_id, Creation::Forbidden, Duration::ZERO);
        Self { brokers: Brokers::new(client, config.connections_max_idle), api_timeout, backoff: config.retry_backoff }
    }

    /// The same calls, which have the cluster check what is wanted and change nothing. Java: the option `validateOnly`.
    pub fn validate_only(&self) -> ValidateOnly<'_> {
        ValidateOnly { admin: self }
    }

    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.api_timeout, self.backoff)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("api_timeout", &self.api_timeout).finish_non_exhaustive()
    }
}

/// The calls of an [`Admin`] that change something, as checks alone: the cluster answers as it would, and nothing is changed.
/// From [`Admin::validate_only`].
#[derive(Clone, Copy, Debug)]
pub struct ValidateOnly<'a> {
    pub(super) admin: &'a Admin,
}

//! `Cluster`: the handle that programs hold, and what ends the cluster.

use std::fmt;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ClusterBuilder, ClusterClient, Creation, Shared};
use crate::config::client::ClientConfig;
use crate::config::servers::IntoServers;
use crate::error::Result;
use crate::time;

/// How long the drop of the last handle waits for the thread to end.
const JOIN_TIMEOUT: Duration = Duration::from_millis(800);

/// A Kafka cluster that several producers of a program share: its addresses, the settings of connections, and its metadata.
///
/// A producer makes a cluster of its own unless it is told to use one: [`Producer::on`](crate::Producer::on). Producers
/// that share one need one thread and one connection for metadata instead of one each. They ask for each topic once,
/// and learn from one another which brokers answer, which broker leads which partition, and where the coordinators are.
/// Each producer has its own connections for records, its own buffers and all other threads. So closing or dropping one
/// producer leaves the others alone.
///
/// ```
/// use std::time::Duration;
///
/// use kafka_blocking::{Cluster, Producer, Record};
/// # use kafka_blocking::testing::FakeCluster;
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let fake = FakeCluster::builder().topic("payments", 3).topic("clicks", 3).start()?;
/// # let servers = fake.bootstrap();
/// let cluster = Cluster::builder(servers).request_timeout(Duration::from_secs(10)).build()?;
/// let careful = Producer::on(&cluster).client_id("payments").build()?;
/// let quick = Producer::on(&cluster).client_id("clicks").linger(Duration::from_millis(50)).build()?;
///
/// careful.send(Record::to("payments").value("10 EUR")).wait()?;
/// careful.close()?;
/// quick.send(Record::to("clicks").value("home")).wait()?;
/// quick.close()?;
/// # Ok(())
/// # }
/// ```
///
/// A `Cluster` is cheap to clone: every clone is a handle to the same cluster, and so is every producer on it that is
/// not closed. When the last handle is dropped, the cluster's thread and connection end.
///
/// *Blocks*, when the last handle is dropped, until the thread has ended, but for less than a second: a name that is
/// being resolved or a connection that is being made cannot be broken off, and in that case the thread ends by itself
/// later.
///
/// *Thread*: any. `kafka-metadata` runs from [`build`](ClusterBuilder::build) until the last handle is gone. A process that is
/// forked off inherits the handles and not the thread: it can drop them, which changes nothing, and must not build
/// producers on them.
#[derive(Clone)]
pub struct Cluster(Arc<Handle>);

/// What the clones share; the last one ends the cluster.
struct Handle {
    shared: Arc<Shared>,
    /// The process that has the thread.
    process: u32,
}

impl Cluster {
    /// A cluster's settings, beginning with the bootstrap servers: `host`, `host:port` or `[IPv6]:port`. See
    /// [`ClusterBuilder::new`].
    pub fn builder<Form>(bootstrap_servers: impl IntoServers<Form>) -> ClusterBuilder {
        ClusterBuilder::new(bootstrap_servers)
    }

    /// Starts the thread `kafka-metadata`. It asks nothing before a client needs something.
    pub(crate) fn start(config: ClientConfig) -> Result<Self> {
        Ok(Self(Arc::new(Handle { shared: Shared::start(config)?, process: process::id() })))
    }

    /// The checked settings.
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.0.shared.config
    }

    /// A client of the cluster, which names itself `client_id` on the connections that it makes itself. `creation` says
    /// whether its requests may create topics. Its topics are kept up to date for at least `in_use` after their last
    /// use.
    pub(crate) fn client(&self, client_id: &Arc<str>, creation: Creation, in_use: Duration) -> Arc<ClusterClient> {
        Arc::new(ClusterClient::new(self.clone(), Arc::clone(&self.0.shared), client_id, creation, in_use))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("client_id", &self.config().client_id)
            .field("bootstrap_servers", &self.config().bootstrap_servers)
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if process::id() != self.process {
            // `shared` is leaked on purpose: its drop would end the connection of the process that has the thread.
            let _ = Arc::into_raw(Arc::clone(&self.shared));
            return;
        }
        self.shared.close(time::deadline(Instant::now(), JOIN_TIMEOUT));
    }
}

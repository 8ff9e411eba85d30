//! The settings of an admin client.

use std::time::Duration;

use super::Admin;
use crate::cluster::Cluster;
use crate::config::client::{ClientBuilder, MetadataRecovery, client_setters};
use crate::config::properties::{self, Others, PropertyTarget, Setting, Treatment, ms, properties_forms, settings};
use crate::config::servers::IntoServers;
use crate::config::siblings::{self, Sibling};
use crate::config::{check_duration, report};
use crate::error::Result;

const DEFAULT_API_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of an [`Admin`] to be built.
///
/// Each setter names its default and its property, the name by which Java and librdkafka know it. Nothing is checked before
/// [`build`](Self::build), which then reports every fault at once.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct AdminBuilder {
    client: ClientBuilder,
    api_timeout: Duration,
    /// The one to use, where the client makes none of its own.
    cluster: Option<Cluster>,
    /// What was wrong with properties.
    faults: Vec<String>,
}

/// The settings that an admin client has besides those of every client, in the order of the manual.
#[rustfmt::skip]
static SETTINGS: &[Setting<AdminBuilder>] = settings![
    "api_timeout", Some("default.api.timeout.ms"), [], None, None, "60000", "ms",
        |to, _, value| to.api_timeout = ms(value)?;
];

impl PropertyTarget for AdminBuilder {
    const SETTINGS: &'static [Setting<Self>] = SETTINGS;
    const OTHERS: &'static Others =
        &[("bootstrap.controllers", Treatment::Refused("the brokers are asked, never the controllers of KRaft"))];
    const SIBLINGS: &'static [&'static Sibling] =
        &[&siblings::PRODUCERS, &siblings::CONSUMERS, &siblings::SCHEMA_REGISTRY];

    fn client(&mut self) -> &mut ClientBuilder {
        &mut self.client
    }
}

impl AdminBuilder {
    /// A builder with every default, for the cluster that these servers belong to. What an entry may be says
    /// [`ProducerBuilder::new`](crate::ProducerBuilder::new).
    /// Property: `bootstrap.servers` (librdkafka: also `metadata.broker.list`).
    pub fn new<Form>(bootstrap_servers: impl IntoServers<Form>) -> Self {
        let client = ClientBuilder::default();
        let builder = Self { client, api_timeout: DEFAULT_API_TIMEOUT, cluster: None, faults: Vec::new() };
        builder.bootstrap_servers(bootstrap_servers)
    }

    /// A builder with every default, for a client that uses this cluster.
    pub(super) fn on(cluster: &Cluster) -> Self {
        Self { cluster: Some(cluster.clone()), ..Self::new([""; 0]) }
    }

    properties_forms!();

    /// Sets what properties say, with the names of Java or librdkafka and their units. One file may serve all clients of a
    /// program: what is for producers, consumers or a schema registry is left to them.
    ///
    /// A value that cannot be read, a name that is unknown to all of them, and one that is not supported are faults which
    /// `build` reports. Whatever is called later, a setter or this again, overrides what was set before; but a fault stays one.
    ///
    /// ```
    /// use kafka_blocking::admin::Admin;
    ///
    /// let builder = Admin::builder(["kafka01:9092"]).properties([("default.api.timeout.ms", "30000"), ("linger.ms", "20")]);
    /// ```
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(mut self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut faults = properties::load(&mut self, properties);
        self.faults.append(&mut faults);
        self
    }

    /// The longest that a call may take, with all its attempts. A single attempt takes at most
    /// [`request_timeout`](Self::request_timeout). Default: 60 s. Property: `default.api.timeout.ms`.
    pub fn api_timeout(mut self, time: Duration) -> Self {
        self.api_timeout = time;
        self
    }

    client_setters!();

    /// Checks the settings. No broker is asked before the first call.
    ///
    /// *Blocks* never. *Errors*: `Config`, with every fault of the settings; `Network` where the operating system starts no
    /// thread.
    pub fn build(self) -> Result<Admin> {
        let Self { client, api_timeout, cluster, mut faults } = self;
        let config = match &cluster {
            Some(cluster) => client.on(cluster.config(), &mut faults),
            None => client.check(&mut faults),
        };
        let label = properties::label(SETTINGS, "api_timeout").unwrap_or_default();
        let useless = "nothing could be done in a shorter time";
        check_duration(&label, api_timeout, Duration::from_millis(1), useless, &mut faults);
        report(&faults)?;
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => Cluster::start(config.clone())?,
        };
        Ok(Admin::new(&cluster, &config, api_timeout))
    }
}

#[cfg(test)]
mod tests;

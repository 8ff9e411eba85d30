//! The settings of a cluster that several clients share.

use std::time::Duration;

use super::Cluster;
use crate::config::client::{ClientBuilder, MetadataRecovery, client_setters};
use crate::config::properties::{self, Others, PropertyTarget, Setting, properties_forms};
use crate::config::report;
use crate::config::servers::IntoServers;
use crate::config::siblings::{self, Sibling};
use crate::error::Result;

/// The settings of a [`Cluster`] to be built: those of connections and metadata, which all producers on it share.
///
/// Each setter names its default and its property, the name by which Java and librdkafka know it. Nothing is checked before
/// [`build`](Self::build), which then reports every fault at once.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct ClusterBuilder {
    client: ClientBuilder,
    /// What is wrong with the properties that were given, one message each.
    faults: Vec<String>,
}

impl PropertyTarget for ClusterBuilder {
    const SETTINGS: &'static [Setting<Self>] = &[];
    const OTHERS: &'static Others = &[];
    const SIBLINGS: &'static [&'static Sibling] =
        &[&siblings::PRODUCERS, &siblings::CONSUMERS, &siblings::ADMINS, &siblings::SCHEMA_REGISTRY];

    fn client(&mut self) -> &mut ClientBuilder {
        &mut self.client
    }
}

impl ClusterBuilder {
    /// A builder with every default, for the cluster that these servers belong to.
    /// [`ProducerBuilder::new`](crate::ProducerBuilder::new) says what an entry may be. Property: `bootstrap.servers`
    /// (librdkafka: also `metadata.broker.list`).
    pub fn new<Form>(bootstrap_servers: impl IntoServers<Form>) -> Self {
        let builder = Self { client: ClientBuilder::default(), faults: Vec::new() };
        builder.bootstrap_servers(bootstrap_servers)
    }

    properties_forms!();

    /// Sets what properties say, with the names of Java or librdkafka and their units. One file may serve a cluster and
    /// all clients of a program: settings of producers, consumers or a schema registry are left to those.
    ///
    /// A value that cannot be read, a name that is unknown to all of them, and one that is not supported are faults,
    /// which `build` reports. Whatever is called later, a setter or this again, overrides what was set before; but a
    /// fault remains.
    ///
    /// ```
    /// use kafka_blocking::Cluster;
    ///
    /// let builder = Cluster::builder(["kafka01:9092"]).properties([("request.timeout.ms", "10000"), ("linger.ms", "20")]);
    /// ```
    pub fn properties<N: AsRef<str>, V: AsRef<str>>(mut self, properties: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut faults = properties::load(&mut self, properties);
        self.faults.append(&mut faults);
        self
    }

    client_setters!();

    /// Checks the settings and starts the thread `kafka-metadata`. No broker is asked before a producer wants to know something.
    ///
    /// *Blocks* never. *Errors*: `Config`, with every fault of the settings; `Network` where the operating system starts no
    /// thread.
    pub fn build(self) -> Result<Cluster> {
        let Self { client, mut faults } = self;
        let config = client.check(&mut faults);
        report(&faults)?;
        Cluster::start(config)
    }
}

#[cfg(test)]
mod tests;

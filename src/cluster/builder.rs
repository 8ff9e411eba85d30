//! The settings of a cluster that several clients share.

use super::Cluster;
use crate::config::client::{ClientBuilder, MetadataRecovery, client_setters};
use crate::config::properties::{self, Others, Setting, Target, parse_text};
use crate::config::report;
use crate::error::Result;

use std::time::Duration;

/// The settings of a [`Cluster`] to be built: those of connections and metadata, which all producers on it share.
///
/// Each setter names its default and its property, the name by which Java and librdkafka know it. Nothing is checked before
/// [`build`](Self::build), which then reports every fault at once.
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `build`"]
pub struct ClusterBuilder {
    client: ClientBuilder,
    /// What was wrong with properties.
    faults: Vec<String>,
}

impl Target for ClusterBuilder {
    const SETTINGS: &'static [Setting<Self>] = &[];
    const OTHERS: &'static Others = &[];
    const UNKNOWN: &'static str = "is unknown to a cluster, whose settings are those of connections and metadata alone";

    fn client(&mut self) -> &mut ClientBuilder {
        &mut self.client
    }
}

impl ClusterBuilder {
    /// A builder with every default, for the cluster that these servers belong to. What an entry may be says
    /// [`ProducerBuilder::new`](crate::ProducerBuilder::new).
    /// Property: `bootstrap.servers` (librdkafka: also `metadata.broker.list`).
    pub fn new<S: Into<String>>(bootstrap_servers: impl IntoIterator<Item = S>) -> Self {
        let builder = Self { client: ClientBuilder::default(), faults: Vec::new() };
        builder.bootstrap_servers(bootstrap_servers)
    }

    /// The settings in properties with the names of Java or librdkafka, and their units.
    ///
    /// A value that cannot be read, a name that is unknown, and one that is no setting of a cluster, such as `linger.ms`, are
    /// faults which `build` reports. Setters called afterwards override a value, but a fault stays one.
    ///
    /// ```
    /// use kafka_blocking::ClusterBuilder;
    ///
    /// let builder = ClusterBuilder::from_properties([("bootstrap.servers", "kafka01:9092"), ("client.id", "shop")]);
    /// ```
    pub fn from_properties<N: AsRef<str>, V: AsRef<str>>(properties: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = Self::new::<String>([]);
        builder.faults = properties::load(&mut builder, properties);
        builder
    }

    /// [`from_properties`](Self::from_properties) for the text of a Java `.properties` file, as
    /// [`ProducerBuilder::from_properties_text`](crate::ProducerBuilder::from_properties_text) reads it.
    pub fn from_properties_text(text: &str) -> Self {
        match parse_text(text) {
            Ok(properties) => Self::from_properties(properties),
            Err(faults) => Self { faults, ..Self::new::<String>([]) },
        }
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

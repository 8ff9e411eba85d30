//! The settings of topics and brokers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::brokers::{Brokers, Place};
use super::items::{Answers, ItemCall, Items, Routes, Said};
use super::routes::check_topic;
use super::topic_values::check_text;
use super::topics::{gather, gather_same};
use super::{Admin, Results, ValidateOnly};
use crate::error::{Error, Result};
use crate::protocol::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use crate::protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use crate::protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::topic::BrokerId;

/// What has settings. Java: `ConfigResource`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(BrokerId),
    /// All brokers: what is set here holds for each that has no setting of its own.
    EveryBroker,
    /// The levels of a broker's loggers, from Kafka 2.4 on.
    BrokerLoggers(BrokerId),
}

impl ConfigResource {
    /// The topic of this name.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::Topic(name.into())
    }

    /// Type and name, as requests have them.
    fn to_wire(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (2, name.clone()),
            Self::Broker(id) => (4, id.to_string()),
            Self::EveryBroker => (4, String::new()),
            Self::BrokerLoggers(id) => (8, id.to_string()),
        }
    }

    fn of(kind: i8, name: String) -> Option<Self> {
        match kind {
            2 => Some(Self::Topic(name)),
            4 if name.is_empty() => Some(Self::EveryBroker),
            4 => name.parse().ok().map(|id| Self::Broker(BrokerId(id))),
            8 => name.parse().ok().map(|id| Self::BrokerLoggers(BrokerId(id))),
            _ => None,
        }
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Topic(name) => check_topic(name),
            Self::Broker(_) | Self::EveryBroker | Self::BrokerLoggers(_) => Ok(()),
        }
    }

    /// Places an error.
    fn name(&self, error: Error) -> Error {
        match self {
            Self::Topic(name) => error.at_topic(name),
            Self::Broker(id) | Self::BrokerLoggers(id) => error.at_broker(*id),
            Self::EveryBroker => error,
        }
    }
}

/// A setting. Java: `ConfigEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its value. `None` where it has none, or is sensitive: brokers do not tell passwords.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether it is a password or the like.
    pub is_sensitive: bool,
}

/// Where the value of a setting comes from. Java: `ConfigEntry.ConfigSource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// It was set for this topic.
    Topic,
    /// It was set for this broker while it ran.
    Broker,
    /// It was set for all brokers while they ran.
    EveryBroker,
    /// It stands in the broker's file.
    BrokerFile,
    /// It is Kafka's own.
    Default,
    /// It is the level of a logger.
    BrokerLogger,
    /// One that this crate does not know, with its number.
    Other(i8),
}

impl ConfigSource {
    fn of(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::EveryBroker,
            4 => Self::BrokerFile,
            5 => Self::Default,
            6 => Self::BrokerLogger,
            other => Self::Other(other),
        }
    }
}

/// A change of one setting. Java: `AlterConfigOp`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is made by Admin::alter_configs"]
pub struct AlterConfig {
    name: String,
    operation: i8,
    value: Option<String>,
}

impl AlterConfig {
    /// Gives it this value.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 0, value: Some(value.into()) }
    }

    /// Takes its own value away: from then on it has that of the next source.
    pub fn delete(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 1, value: None }
    }

    /// Adds values, separated by commas, to a setting that is a list.
    pub fn append(name: impl Into<String>, values: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 2, value: Some(values.into()) }
    }

    /// Takes values, separated by commas, out of a setting that is a list.
    pub fn subtract(name: impl Into<String>, values: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 3, value: Some(values.into()) }
    }

    fn check(&self) -> Result<(), String> {
        check_text("a setting's name", &self.name)?;
        check_text(&format!("the value of {}", self.name), self.value.as_deref().unwrap_or_default())
    }
}

/// Settings.
impl Admin {
    /// All settings of topics and brokers, by their names. From Kafka 1.1 on. Java: `describeConfigs`.
    ///
    /// *Blocks* until the brokers have answered, at most for `api_timeout`: any of them for topics, each itself for its own.
    ///
    /// *Errors*, for each resource: `Broker` with `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_AUTHORIZATION_FAILED` or
    /// `CLUSTER_AUTHORIZATION_FAILED` (without the right `DESCRIBE_CONFIGS`) and others; `InvalidInput` for a name that no
    /// topic can have; `UnsupportedVersion`; `Timeout(Api)`, with the last cause.
    pub fn describe_configs(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
    ) -> Results<ConfigResource, BTreeMap<String, ConfigEntry>> {
        let resources = resources.into_iter().map(|resource| (resource, ()));
        let (wanted, mut results) = gather_same(resources, |resource, ()| resource.check());
        let outcomes = self.attempts().run(&self.brokers, &DescribeConfigs, wanted);
        results.extend(outcomes.into_iter().map(|(resource, outcome)| (resource, outcome.result)));
        Results::new(results)
    }

    /// Changes settings of topics and brokers, and leaves all others as they are. Of one resource either all changes are made
    /// or none. From Kafka 2.3 on: what older brokers have replaces all settings at once, so two programs would undo each
    /// other's changes. Java: `incrementalAlterConfigs`.
    ///
    /// *Blocks* until the changes are made, at most for `api_timeout`. It may take moments until every broker heeds them.
    ///
    /// *Errors*, for each resource: `Broker` with `INVALID_CONFIG` for an unknown setting or a value that it cannot have,
    /// `INVALID_REQUEST`, `UNKNOWN_TOPIC_OR_PARTITION`, `POLICY_VIOLATION`, `TOPIC_AUTHORIZATION_FAILED` or
    /// `CLUSTER_AUTHORIZATION_FAILED` (without the right `ALTER_CONFIGS`) and others, with the broker's words, which name the
    /// setting; `InvalidInput`; `UnsupportedVersion`; `Timeout(Api)`, with the last cause. An attempt whose answer was lost is
    /// repeated, which comes to the same.
    pub fn alter_configs<A: IntoIterator<Item = AlterConfig>>(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, A)>,
    ) -> Results<ConfigResource, ()> {
        self.alter(changes, false)
    }

    fn alter<A: IntoIterator<Item = AlterConfig>>(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, A)>,
        validate_only: bool,
    ) -> Results<ConfigResource, ()> {
        let changes = changes.into_iter().map(|(resource, changes)| (resource, changes.into_iter().collect()));
        let twice = |resource: &ConfigResource| resource.name(Error::invalid("it is there twice in one call"));
        let check = |resource: &ConfigResource, changes: &Vec<AlterConfig>| {
            resource.check()?;
            let invalid = |text| resource.name(Error::invalid(text));
            changes.iter().try_for_each(|change| change.check().map_err(invalid))
        };
        let (wanted, mut results) = gather(changes, twice, check);
        let outcomes = self.attempts().run(&self.brokers, &AlterConfigs { validate_only }, wanted);
        results.extend(outcomes.into_iter().map(|(resource, outcome)| (resource, outcome.result)));
        Results::new(results)
    }
}

/// Settings.
impl ValidateOnly<'_> {
    /// Whether [`Admin::alter_configs`] would make these changes. *Blocks* and *Errors* as there.
    pub fn alter_configs<A: IntoIterator<Item = AlterConfig>>(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, A)>,
    ) -> Results<ConfigResource, ()> {
        self.admin.alter(changes, true)
    }
}

/// A broker answers for itself, and any of them for the rest.
fn route(brokers: &Brokers, resources: &[&ConfigResource], deadline: Instant) -> Result<Routes<ConfigResource>> {
    let any = brokers.any(deadline)?;
    let place = |resource: &ConfigResource| match resource {
        ConfigResource::Broker(id) | ConfigResource::BrokerLoggers(id) => brokers.broker(*id, deadline),
        ConfigResource::Topic(_) | ConfigResource::EveryBroker => Ok(any.clone()),
    };
    Ok(resources.iter().map(|resource| ((*resource).clone(), place(resource))).collect())
}

struct DescribeConfigs;

impl ItemCall for DescribeConfigs {
    type Key = ConfigResource;
    type Wanted = ();
    type Answer = BTreeMap<String, ConfigEntry>;
    type Request = DescribeConfigsRequest;

    fn route(&self, brokers: &Brokers, items: &[&ConfigResource], deadline: Instant) -> Result<Routes<ConfigResource>> {
        route(brokers, items, deadline)
    }

    fn awaits_unknown(&self, brokers: &Brokers, resource: &ConfigResource) -> bool {
        matches!(resource, ConfigResource::Topic(name) if brokers.has_just_made(name))
    }

    fn misrouted(&self, _: &Brokers, _: &Place) {}

    fn request(&self, items: &Items<'_, ConfigResource, ()>, _: i16, _: Duration) -> DescribeConfigsRequest {
        let resource = |resource: &&ConfigResource| {
            let (resource_type, resource_name) = resource.to_wire();
            DescribeConfigsResource { resource_type, resource_name, configuration_keys: None }
        };
        DescribeConfigsRequest { resources: items.keys().map(resource).collect(), ..Default::default() }
    }

    fn answers(&self, response: DescribeConfigsResponse) -> Answers<ConfigResource, BTreeMap<String, ConfigEntry>> {
        let entry = |config: DescribeConfigsResourceResult| {
            let entry = ConfigEntry {
                value: config.value,
                source: ConfigSource::of(config.config_source),
                is_read_only: config.read_only,
                is_sensitive: config.is_sensitive,
            };
            (config.name, entry)
        };
        let items = response.results.into_iter().filter_map(|result| {
            Some(Said {
                item: ConfigResource::of(result.resource_type, result.resource_name)?,
                code: result.error_code,
                message: result.error_message,
                answer: result.configs.into_iter().map(entry).collect(),
            })
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, resource: &ConfigResource) -> Error {
        resource.name(error)
    }
}

struct AlterConfigs {
    validate_only: bool,
}

impl ItemCall for AlterConfigs {
    type Key = ConfigResource;
    type Wanted = Vec<AlterConfig>;
    type Answer = ();
    type Request = IncrementalAlterConfigsRequest;

    fn changes(&self) -> bool {
        !self.validate_only
    }

    fn route(&self, brokers: &Brokers, items: &[&ConfigResource], deadline: Instant) -> Result<Routes<ConfigResource>> {
        route(brokers, items, deadline)
    }

    fn awaits_unknown(&self, brokers: &Brokers, resource: &ConfigResource) -> bool {
        matches!(resource, ConfigResource::Topic(name) if brokers.has_just_made(name))
    }

    fn misrouted(&self, _: &Brokers, _: &Place) {}

    fn request(
        &self,
        items: &Items<'_, ConfigResource, Vec<AlterConfig>>,
        _: i16,
        _: Duration,
    ) -> IncrementalAlterConfigsRequest {
        let config = |change: &AlterConfig| AlterableConfig {
            name: change.name.clone(),
            config_operation: change.operation,
            value: change.value.clone(),
        };
        let resource = |(resource, changes): (&&ConfigResource, &&Vec<AlterConfig>)| {
            let (resource_type, resource_name) = resource.to_wire();
            AlterConfigsResource { resource_type, resource_name, configs: changes.iter().map(config).collect() }
        };
        IncrementalAlterConfigsRequest {
            resources: items.iter().map(resource).collect(),
            validate_only: self.validate_only,
        }
    }

    fn answers(&self, response: IncrementalAlterConfigsResponse) -> Answers<ConfigResource, ()> {
        let items = response.responses.into_iter().filter_map(|result| {
            Some(Said {
                item: ConfigResource::of(result.resource_type, result.resource_name)?,
                code: result.error_code,
                message: result.error_message,
                answer: (),
            })
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, resource: &ConfigResource) -> Error {
        resource.name(error)
    }
}

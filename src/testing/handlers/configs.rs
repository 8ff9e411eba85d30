//! DescribeConfigs and IncrementalAlterConfigs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Named, Reply, Serve};
use crate::error::ErrorCode;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
};
use crate::protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::testing::builder::Settings;
use crate::testing::state::{FakeState, FakeTopic, TopicRules};
use crate::topic::BrokerId;

/// The numbers that stand for what has settings.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The settings of topics with Kafka's defaults, and the kind of their values.
const TOPIC_CONFIGS: &[(&str, &str, Kind)] = &[
    ("cleanup.policy", "delete", Kind::List),
    ("compression.gzip.level", "-1", Kind::Number),
    ("compression.lz4.level", "9", Kind::Number),
    ("compression.type", "producer", Kind::Text),
    ("compression.zstd.level", "3", Kind::Number),
    ("delete.retention.ms", "86400000", Kind::Number),
    ("file.delete.delay.ms", "60000", Kind::Number),
    ("flush.messages", "9223372036854775807", Kind::Number),
    ("flush.ms", "9223372036854775807", Kind::Number),
    ("follower.replication.throttled.replicas", "", Kind::List),
    ("index.interval.bytes", "4096", Kind::Number),
    ("leader.replication.throttled.replicas", "", Kind::List),
    ("max.compaction.lag.ms", "9223372036854775807", Kind::Number),
    ("max.message.bytes", "", Kind::Number),
    ("message.timestamp.after.max.ms", "3600000", Kind::Number),
    ("message.timestamp.before.max.ms", "9223372036854775807", Kind::Number),
    ("message.timestamp.type", "CreateTime", Kind::Text),
    ("min.cleanable.dirty.ratio", "0.5", Kind::Text),
    ("min.compaction.lag.ms", "0", Kind::Number),
    ("min.insync.replicas", "", Kind::Number),
    ("preallocate", "false", Kind::Text),
    ("retention.bytes", "-1", Kind::Number),
    ("retention.ms", "604800000", Kind::Number),
    ("segment.bytes", "1073741824", Kind::Number),
    ("segment.index.bytes", "10485760", Kind::Number),
    ("segment.jitter.ms", "0", Kind::Number),
    ("segment.ms", "604800000", Kind::Number),
    ("unclean.leader.election.enable", "false", Kind::Text),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    List,
}

fn kind_of(name: &str) -> Option<Kind> {
    TOPIC_CONFIGS.iter().find(|(known, ..)| *known == name).map(|(.., kind)| *kind)
}

/// Why a topic cannot have this setting.
pub(super) fn topic_config_fault(name: &str, value: &str) -> Option<String> {
    match kind_of(name) {
        None => Some(format!("Unknown topic config name: {name}")),
        Some(Kind::Number) if value.parse::<i64>().is_err() => {
            Some(format!("Invalid value {value} for configuration {name}: Not a number"))
        }
        Some(Kind::Text) if name == "message.timestamp.type" && !matches!(value, "CreateTime" | "LogAppendTime") => {
            Some(format!("Invalid value {value} for configuration {name}"))
        }
        Some(_) => None,
    }
}

/// A topic's settings, its own and the others, each with its source.
fn topic_configs(topic: &FakeTopic, settings: &Settings) -> BTreeMap<String, (String, i8)> {
    let default = |name: &str, value: &str| match name {
        "max.message.bytes" => settings.max_message_bytes.to_string(),
        "min.insync.replicas" => settings.min_in_sync.to_string(),
        _ => value.to_owned(),
    };
    let defaults = TOPIC_CONFIGS.iter().map(|(name, value, _)| ((*name).to_owned(), (default(name, value), 5)));
    let own = topic.configs.iter().map(|(name, value)| (name.clone(), (value.clone(), 1)));
    defaults.chain(own).collect()
}

/// A broker's settings: what was set for it, and for all of them.
fn broker_configs(state: &FakeState, broker: Option<BrokerId>) -> BTreeMap<String, (String, i8)> {
    let set = |of: Option<BrokerId>, source: i8| {
        let configs = state.broker_configs.get(&of).into_iter().flatten();
        configs.map(move |(name, value)| (name.clone(), (value.clone(), source)))
    };
    let mut configs: BTreeMap<String, (String, i8)> = set(None, 3).collect();
    if broker.is_some() {
        configs.extend(set(broker, 2));
    }
    configs
}

/// The broker that a resource names, `None` for all of them; an error where this one does not answer for it.
fn broker_named(name: &str, call: &Call<'_>) -> Result<Option<BrokerId>, (ErrorCode, String)> {
    match name.parse() {
        _ if name.is_empty() => Ok(None),
        Ok(id) if BrokerId(id) == call.broker => Ok(Some(BrokerId(id))),
        _ => Err((ErrorCode::INVALID_REQUEST, format!("broker {} does not answer for broker {name}", call.broker))),
    }
}

fn denied(state: &FakeState, kind: i8, name: &str) -> Option<(ErrorCode, String)> {
    let is_denied = kind == TOPIC && state.denied_topics.contains(name);
    is_denied.then(|| (ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".to_owned()))
}

impl Serve for DescribeConfigsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let topics = self.resources.iter().filter(|resource| resource.resource_type == TOPIC);
        topics.map(|resource| (resource.resource_name.as_str().into(), None)).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<DescribeConfigsResponse> {
        let state = call.shared.state.lock();
        let configs = |resource: &DescribeConfigsResource| {
            let name = resource.resource_name.as_str();
            denied(&state, resource.resource_type, name).map_or(Ok(()), Err)?;
            match resource.resource_type {
                TOPIC => match state.topics.get(name) {
                    Some(topic) => Ok(topic_configs(topic, call.settings())),
                    None => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new())),
                },
                BROKER => broker_named(name, call).map(|broker| broker_configs(&state, broker)),
                _ => Err((ErrorCode::INVALID_REQUEST, "the fake cluster has no such settings".into())),
            }
        };
        let describe = |resource: &DescribeConfigsResource| {
            let configs = match configs(resource) {
                Ok(configs) => configs,
                Err((code, message)) => {
                    return DescribeConfigsResult { error_message: Some(message), ..unknown(resource, code) };
                }
            };
            let wanted =
                |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == name));
            let config = |(name, (value, source)): (String, (String, i8))| DescribeConfigsResourceResult {
                name,
                value: Some(value),
                config_source: source,
                ..Default::default()
            };
            DescribeConfigsResult {
                configs: configs.into_iter().filter(|(name, _)| wanted(name)).map(config).collect(),
                ..unknown(resource, ErrorCode::NONE)
            }
        };
        Reply::Answer(DescribeConfigsResponse {
            results: self.resources.iter().map(describe).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> DescribeConfigsResponse {
        let results = self.resources.iter().map(|resource| unknown(resource, code)).collect();
        DescribeConfigsResponse { results, ..Default::default() }
    }

    fn throttle(response: &mut DescribeConfigsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn unknown(resource: &DescribeConfigsResource, code: ErrorCode) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code: code.0,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..Default::default()
    }
}

impl Serve for IncrementalAlterConfigsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let topics = self.resources.iter().filter(|resource| resource.resource_type == TOPIC);
        topics.map(|resource| (resource.resource_name.as_str().into(), None)).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<IncrementalAlterConfigsResponse> {
        let mut responses = Vec::new();
        for resource in &self.resources {
            let (code, message) = match self.alter(resource, call) {
                Ok(()) => (ErrorCode::NONE, None),
                Err((code, message)) => (code, Some(message)),
            };
            responses.push(altered(resource, code, message));
        }
        Reply::Answer(IncrementalAlterConfigsResponse { responses, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> IncrementalAlterConfigsResponse {
        let responses = self.resources.iter().map(|resource| altered(resource, code, None)).collect();
        IncrementalAlterConfigsResponse { responses, ..Default::default() }
    }

    fn throttle(response: &mut IncrementalAlterConfigsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl IncrementalAlterConfigsRequest {
    /// Makes all changes of a resource, or none.
    fn alter(&self, resource: &AlterConfigsResource, call: &Call<'_>) -> Result<(), (ErrorCode, String)> {
        let name = resource.resource_name.as_str();
        let settings = call.settings();
        call.change(|state| {
            denied(state, resource.resource_type, name).map_or(Ok(()), Err)?;
            match resource.resource_type {
                TOPIC => {
                    let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".to_owned());
                    let topic = state.topics.get_mut(name).ok_or_else(unknown)?;
                    let configs = changed(&topic.configs, &topic_configs(topic, settings), &resource.configs)?;
                    let fault = configs.iter().find_map(|(name, value)| topic_config_fault(name, value));
                    fault.map_or(Ok(()), |fault| Err((ErrorCode::INVALID_CONFIG, fault)))?;
                    if !self.validate_only {
                        topic.rules = TopicRules::new(&configs, settings);
                        topic.configs = configs;
                    }
                }
                BROKER => {
                    let broker = broker_named(name, call)?;
                    let own = state.broker_configs.get(&broker).cloned().unwrap_or_default();
                    let configs = changed(&own, &broker_configs(state, broker), &resource.configs)?;
                    if !self.validate_only {
                        state.broker_configs.insert(broker, configs);
                    }
                }
                _ => return Err((ErrorCode::INVALID_REQUEST, "the fake cluster has no such settings".into())),
            }
            Ok(())
        })
    }
}

/// A resource's own settings after the changes. `all` has what holds where it has none.
fn changed(
    own: &BTreeMap<String, String>,
    all: &BTreeMap<String, (String, i8)>,
    changes: &[AlterableConfig],
) -> Result<BTreeMap<String, String>, (ErrorCode, String)> {
    let mut configs = own.clone();
    let mut named = BTreeSet::new();
    for change in changes {
        let invalid = |text: String| Err((ErrorCode::INVALID_REQUEST, text));
        if !named.insert(&change.name) {
            return invalid(format!("Error due to duplicate config keys : {}", change.name));
        }
        let now = configs.get(&change.name).or_else(|| all.get(&change.name).map(|(value, _)| value));
        let mut list: Vec<String> = now.iter().flat_map(|now| now.split(',')).map(str::to_owned).collect();
        list.retain(|item| !item.is_empty());
        let value = change.value.clone().unwrap_or_default();
        match change.config_operation {
            0 if change.value.is_none() => return invalid(format!("Null value not supported for : {}", change.name)),
            0 => drop(configs.insert(change.name.clone(), value)),
            1 => drop(configs.remove(&change.name)),
            2 | 3 if kind_of(&change.name) != Some(Kind::List) => {
                let text = format!("Can't append to or subtract from key {}: it is no list", change.name);
                return Err((ErrorCode::INVALID_CONFIG, text));
            }
            2 => {
                for item in value.split(',') {
                    if !list.iter().any(|known| known == item) {
                        list.push(item.to_owned());
                    }
                }
                configs.insert(change.name.clone(), list.join(","));
            }
            3 => {
                list.retain(|known| !value.split(',').any(|item| item == known));
                configs.insert(change.name.clone(), list.join(","));
            }
            other => return invalid(format!("Unknown operation type {other}")),
        }
    }
    Ok(configs)
}

fn altered(resource: &AlterConfigsResource, code: ErrorCode, message: Option<String>) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        error_code: code.0,
        error_message: message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    }
}

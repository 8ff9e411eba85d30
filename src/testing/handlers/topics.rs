//! CreateTopics, DeleteTopics and DescribeConfigs.

use std::collections::BTreeMap;

use super::{Call, Named, Reply, Serve, reaches_controller};
use crate::error::ErrorCode;
use crate::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use crate::protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use crate::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use crate::protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse,
};
use crate::testing::state::FakeState;

impl Serve for CreateTopicsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        self.topics.iter().map(|topic| (topic.name.as_str().into(), None)).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<CreateTopicsResponse> {
        if !reaches_controller(call) {
            return Reply::Answer(self.refuse(call, ErrorCode::NOT_CONTROLLER));
        }
        let settings = &call.shared.settings;
        let topics = call.change(|state| {
            let mut create = |wanted: &CreatableTopic| {
                let partitions = match (wanted.assignments.len(), wanted.num_partitions) {
                    (0, -1) => settings.partitions,
                    (0, count) => usize::try_from(count).unwrap_or(0),
                    (count, _) => count,
                };
                let assigned = wanted.assignments.first().map(|assignment| assignment.broker_ids.len());
                let replication = match (assigned, wanted.replication_factor) {
                    (Some(count), _) => count,
                    (None, -1) => settings.replication,
                    (None, count) => usize::try_from(count).unwrap_or(0),
                };
                if let Some((code, message)) = state.creation_fault(&wanted.name, partitions, replication) {
                    return refused(&wanted.name, code, Some(message));
                }
                let configs: BTreeMap<String, String> =
                    wanted.configs.iter().filter_map(|c| Some((c.name.clone(), c.value.clone()?))).collect();
                if !self.validate_only {
                    state.create(&wanted.name, partitions, replication, configs.clone(), settings);
                }
                let config = |(name, value): (String, String)| CreatableTopicConfigs {
                    name,
                    value: Some(value),
                    config_source: 1,
                    ..Default::default()
                };
                CreatableTopicResult {
                    name: wanted.name.clone(),
                    topic_id: state.topics.get(wanted.name.as_str()).map(|topic| topic.id).unwrap_or_default(),
                    num_partitions: i32::try_from(partitions).unwrap_or(-1),
                    replication_factor: i16::try_from(replication).unwrap_or(-1),
                    configs: Some(configs.into_iter().map(config).collect()),
                    ..Default::default()
                }
            };
            self.topics.iter().map(&mut create).collect()
        });
        Reply::Answer(CreateTopicsResponse { topics, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> CreateTopicsResponse {
        let topics = self.topics.iter().map(|topic| refused(&topic.name, code, None)).collect();
        CreateTopicsResponse { topics, ..Default::default() }
    }

    fn throttle(response: &mut CreateTopicsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn refused(name: &str, code: ErrorCode, error_message: Option<String>) -> CreatableTopicResult {
    CreatableTopicResult { name: name.to_owned(), error_code: code.0, error_message, ..Default::default() }
}

impl DeleteTopicsRequest {
    /// The topics, at any version.
    fn wanted(&self) -> Vec<DeleteTopicState> {
        let by_name = |name: &String| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
        let states =
            self.topics.iter().map(|topic| DeleteTopicState { name: topic.name.clone(), topic_id: topic.topic_id });
        self.topic_names.iter().map(by_name).chain(states).collect()
    }
}

impl Serve for DeleteTopicsRequest {
    fn named(&self, state: &FakeState) -> Vec<Named> {
        let name = |topic: DeleteTopicState| match topic.name {
            Some(name) => Some((name.into(), None)),
            None => state.name_of(topic.topic_id).map(|name| (name.clone(), None)),
        };
        self.wanted().into_iter().filter_map(name).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<DeleteTopicsResponse> {
        if !reaches_controller(call) {
            return Reply::Answer(self.refuse(call, ErrorCode::NOT_CONTROLLER));
        }
        let responses = call.change(|state| {
            let mut delete = |topic: DeleteTopicState| {
                let (name, missing) = match topic.name {
                    Some(name) => (Some(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    None => (state.name_of(topic.topic_id).map(|name| name.to_string()), ErrorCode::UNKNOWN_TOPIC_ID),
                };
                let deleted = name.as_deref().and_then(|name| state.topics.remove(name));
                DeletableTopicResult {
                    error_code: if deleted.is_some() { 0 } else { missing.0 },
                    topic_id: deleted.map_or(topic.topic_id, |deleted| deleted.id),
                    name,
                    error_message: None,
                }
            };
            self.wanted().into_iter().map(&mut delete).collect()
        });
        Reply::Answer(DeleteTopicsResponse { responses, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> DeleteTopicsResponse {
        let refused = |topic: DeleteTopicState| DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: code.0,
            error_message: None,
        };
        DeleteTopicsResponse { responses: self.wanted().into_iter().map(refused).collect(), ..Default::default() }
    }

    fn throttle(response: &mut DeleteTopicsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

/// The number that stands for topics.
const TOPIC: i8 = 2;

impl Serve for DescribeConfigsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let topics = self.resources.iter().filter(|resource| resource.resource_type == TOPIC);
        topics.map(|resource| (resource.resource_name.as_str().into(), None)).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<DescribeConfigsResponse> {
        let state = call.shared.state.lock();
        let describe = |resource: &DescribeConfigsResource| {
            let topic = state.topics.get(resource.resource_name.as_str());
            if resource.resource_type == TOPIC && topic.is_none() {
                return unknown(resource, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
            let wanted =
                |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| k == name));
            // Only what was set, and the limit on batches, which clients like to know.
            let mut configs = BTreeMap::new();
            if let Some(topic) = topic.filter(|_| resource.resource_type == TOPIC) {
                configs.insert("max.message.bytes".to_owned(), topic.rules.max_message_bytes.to_string());
                configs.extend(topic.configs.clone());
            }
            let config = |(name, value): (String, String)| DescribeConfigsResourceResult {
                name,
                value: Some(value),
                config_source: 1,
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

//! CreateTopics, DeleteTopics and CreatePartitions.

use std::collections::BTreeMap;

use super::configs::topic_config_fault;
use super::{Call, Named, Reply, Serve, reaches_controller};
use crate::error::ErrorCode;
use crate::protocol::messages::create_partitions::{CreatePartitionsTopic, CreatePartitionsTopicResult};
use crate::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfigs, CreatableTopicResult};
use crate::protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use crate::protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse,
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
                if let Some((code, message)) = assignments_fault(wanted, state) {
                    return refused(&wanted.name, code, Some(message));
                }
                let configs: BTreeMap<String, String> =
                    wanted.configs.iter().filter_map(|c| Some((c.name.clone(), c.value.clone()?))).collect();
                if let Some(message) = configs.iter().find_map(|(name, value)| topic_config_fault(name, value)) {
                    return refused(&wanted.name, ErrorCode::INVALID_CONFIG, Some(message));
                }
                if !self.validate_only {
                    state.create(&wanted.name, partitions, replication, configs.clone(), settings);
                    for assigned in &wanted.assignments {
                        let mut partition = state.place(0, 0);
                        state.assign(&mut partition, &assigned.broker_ids);
                        let topic = state.topics.get_mut(wanted.name.as_str());
                        if let Some(place) = topic.and_then(|topic| topic.partition_mut(assigned.partition_index)) {
                            *place = partition;
                        }
                    }
                }
                let config = |(name, value): (String, String)| CreatableTopicConfigs {
                    name,
                    value: Some(value),
                    config_source: 1,
                    ..Default::default()
                };
                let made = state.topics.get(wanted.name.as_str()).map(|topic| topic.id);
                CreatableTopicResult {
                    name: wanted.name.clone(),
                    // That of a request which only checks is nobody's.
                    topic_id: made.unwrap_or_else(|| state.new_id()),
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

/// Why a topic cannot be put where it is to be.
fn assignments_fault(wanted: &CreatableTopic, state: &FakeState) -> Option<(ErrorCode, String)> {
    let mut indices: Vec<i32> = wanted.assignments.iter().map(|assigned| assigned.partition_index).collect();
    indices.sort_unstable();
    if !indices.iter().copied().eq((0..).take(indices.len())) {
        return Some((
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "partitions should be a consecutive 0-based range".into(),
        ));
    }
    let count = wanted.assignments.first().map(|assigned| assigned.broker_ids.len());
    if wanted.assignments.iter().any(|assigned| Some(assigned.broker_ids.len()) != count) {
        return Some((ErrorCode::INVALID_REPLICA_ASSIGNMENT, "partitions have different replication factors".into()));
    }
    wanted.assignments.iter().find_map(|assigned| state.assignment_fault(&assigned.broker_ids))
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
                let denied = name.as_deref().is_some_and(|name| state.denied_topics.contains(name));
                let missing = if denied { ErrorCode::TOPIC_AUTHORIZATION_FAILED } else { missing };
                let deleted = name.as_deref().filter(|_| !denied).and_then(|name| state.topics.remove(name));
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

impl Serve for CreatePartitionsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        self.topics.iter().map(|topic| (topic.name.as_str().into(), None)).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<CreatePartitionsResponse> {
        if !reaches_controller(call) {
            return Reply::Answer(self.refuse(call, ErrorCode::NOT_CONTROLLER));
        }
        let results = call.change(|state| {
            let add = |wanted: &CreatePartitionsTopic| {
                let (code, message) = match self.add(wanted, state) {
                    Ok(()) => (ErrorCode::NONE, None),
                    Err((code, message)) => (code, Some(message)),
                };
                CreatePartitionsTopicResult { name: wanted.name.clone(), error_code: code.0, error_message: message }
            };
            self.topics.iter().map(add).collect()
        });
        Reply::Answer(CreatePartitionsResponse { results, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> CreatePartitionsResponse {
        let refused = |topic: &CreatePartitionsTopic| CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code: code.0,
            error_message: None,
        };
        CreatePartitionsResponse { results: self.topics.iter().map(refused).collect(), ..Default::default() }
    }

    fn throttle(response: &mut CreatePartitionsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl CreatePartitionsRequest {
    fn add(&self, wanted: &CreatePartitionsTopic, state: &mut FakeState) -> Result<(), (ErrorCode, String)> {
        if state.denied_topics.contains(&wanted.name) {
            return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".into()));
        }
        let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic".to_owned());
        let topic = state.topics.get(wanted.name.as_str()).ok_or_else(unknown)?;
        let (there, replication) = (topic.partitions.len(), topic.partitions.first().map_or(1, |p| p.replicas.len()));
        let count = usize::try_from(wanted.count).unwrap_or(0);
        if count <= there {
            let message = format!("The topic {} currently has {there} partition(s); {count} are not more", wanted.name);
            return Err((ErrorCode::INVALID_PARTITIONS, message));
        }
        let mut added: Vec<_> = (there..count).map(|index| state.place(index, replication)).collect();
        if let Some(assignments) = &wanted.assignments {
            if assignments.len() != added.len() {
                let message = format!("{} assignments for {} partitions", assignments.len(), added.len());
                return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
            }
            for (partition, assigned) in added.iter_mut().zip(assignments) {
                state.assignment_fault(&assigned.broker_ids).map_or(Ok(()), Err)?;
                state.assign(partition, &assigned.broker_ids);
            }
        }
        if !self.validate_only
            && let Some(topic) = state.topics.get_mut(wanted.name.as_str())
        {
            topic.partitions.append(&mut added);
        }
        Ok(())
    }
}

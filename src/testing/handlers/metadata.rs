//! Metadata.

use std::collections::BTreeMap;

use super::{CLUSTER_ID, Call, HOST, Named, Reply, Serve};
use crate::error::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{MetadataRequest, MetadataResponse};
use crate::testing::builder::Settings;
use crate::testing::state::{FakePartition, FakeState, FakeTopic};
use crate::testing::versions::KafkaVersion;
use crate::topic::{BrokerId, topic_name_fault};

impl MetadataRequest {
    fn answer(&self, state: &FakeState, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
        let brokers = state.alive().map(|(id, broker)| MetadataResponseBroker {
            node_id: id.0,
            host: HOST.into(),
            port: broker.port.into(),
            rack: None,
        });
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: Some(CLUSTER_ID.into()),
            controller_id: state.controller().map_or(-1, |id| id.0),
            topics,
            ..Default::default()
        }
    }

    fn requested(
        &self,
        wanted: &MetadataRequestTopic,
        state: &mut FakeState,
        settings: &Settings,
    ) -> MetadataResponseTopic {
        let Some(name) = &wanted.name else {
            let Some(name) = state.name_of(wanted.topic_id).cloned() else {
                let topic_id = wanted.topic_id;
                return MetadataResponseTopic { topic_id, name: None, ..failed("", ErrorCode::UNKNOWN_TOPIC_ID) };
            };
            return described(&name, state);
        };
        if state.denied_topics.contains(name) || state.topics.contains_key(name.as_str()) {
            return described(name, state);
        }
        if topic_name_fault(name).is_some() {
            return failed(name, ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        let Some(partitions) = settings.auto_create.filter(|_| self.allow_auto_topic_creation) else {
            return failed(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if state.creation_fault(name, partitions, settings.replication).is_none() {
            state.create(name, partitions, settings.replication, BTreeMap::new(), settings);
        }
        // The creation is under way, so the client has to ask again. Brokers with ZooKeeper use another code for this.
        let under_way = match settings.version {
            KafkaVersion::V0_11 | KafkaVersion::V2_8 => ErrorCode::LEADER_NOT_AVAILABLE,
            _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        failed(name, under_way)
    }
}

impl Serve for MetadataRequest {
    fn named(&self, state: &FakeState) -> Vec<Named> {
        let name = |topic: &MetadataRequestTopic| match &topic.name {
            Some(name) => Some((name.as_str().into(), None)),
            None => state.name_of(topic.topic_id).map(|name| (name.clone(), None)),
        };
        self.topics.iter().flatten().filter_map(name).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<MetadataResponse> {
        let settings = &call.shared.settings;
        Reply::Answer(call.change(|state| {
            let topics = match &self.topics {
                Some(topics) => topics.iter().map(|topic| self.requested(topic, state, settings)).collect(),
                None => {
                    let visible = state.topics.keys().filter(|name| !state.denied_topics.contains(&***name));
                    visible.map(|name| described(name, state)).collect()
                }
            };
            self.answer(state, topics)
        }))
    }

    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> MetadataResponse {
        let state = call.shared.state.lock();
        let topics = self.topics.iter().flatten().map(|topic| MetadataResponseTopic {
            topic_id: topic.topic_id,
            ..failed(topic.name.as_deref().unwrap_or_default(), code)
        });
        let error_code = if call.version >= 13 && self.topics.is_none() { code.0 } else { 0 };
        MetadataResponse { error_code, ..self.answer(&state, topics.collect()) }
    }

    fn throttle(response: &mut MetadataResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

fn failed(name: &str, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.0, name: Some(name.to_owned()), ..Default::default() }
}

fn described(name: &str, state: &FakeState) -> MetadataResponseTopic {
    if state.denied_topics.contains(name) {
        return failed(name, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let Some(FakeTopic { id, partitions, listed, .. }) = state.topics.get(name) else {
        return failed(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let partition = |(index, partition): (i32, &FakePartition)| {
        let (alive, dead): (Vec<BrokerId>, Vec<BrokerId>) =
            partition.replicas.iter().partition(|id| state.is_alive(**id));
        MetadataResponsePartition {
            error_code: if partition.leader.is_some() { 0 } else { ErrorCode::LEADER_NOT_AVAILABLE.0 },
            partition_index: index,
            leader_id: partition.leader_id(),
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
            isr_nodes: alive.into_iter().map(|id| id.0).collect(),
            offline_replicas: dead.into_iter().map(|id| id.0).collect(),
        }
    };
    MetadataResponseTopic {
        name: Some(name.to_owned()),
        topic_id: *id,
        partitions: (0..).zip(partitions).take(listed.unwrap_or(usize::MAX)).map(partition).collect(),
        ..Default::default()
    }
}

//! A fetch as a request, and what of its answer is for which partition. Pure.

use std::sync::Arc;

use super::session::{Plan, SESSIONS, Session, Spec};
use crate::cluster::{LeaderHint, LeaderHints};
use crate::error::ErrorCode;
use crate::net::HostPort;
use crate::protocol::messages::fetch::{
    FetchPartition, FetchTopic, FetchableTopicResponse, ForgottenTopic, PartitionData,
};
use crate::protocol::messages::{FetchRequest, FetchResponse};
use crate::topic::{BrokerId, IsolationLevel, TopicPartition};

/// The first Fetch version that tells where logs have diverged (KIP-320).
const DIVERGENCE: i16 = 12;
/// The first Fetch version that names topics by id.
pub(crate) const TOPIC_IDS: i16 = 13;

/// What each fetch of a consumer asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) isolation_level: IsolationLevel,
}

pub(crate) fn request(plan: &Plan, terms: Terms, version: i16) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (partition, spec) in &plan.fetch {
        let entry = FetchPartition {
            partition: partition.index,
            current_leader_epoch: spec.leader_epoch,
            fetch_offset: spec.stamp.offset,
            last_fetched_epoch: if version >= DIVERGENCE { spec.last_epoch } else { -1 },
            partition_max_bytes: i32::try_from(spec.max_bytes).unwrap_or(i32::MAX),
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| *topic.topic == *partition.topic) {
            Some(topic) => topic.partitions.push(entry),
            None => topics.push(FetchTopic {
                topic: partition.topic.to_string(),
                topic_id: spec.topic_id,
                partitions: vec![entry],
            }),
        }
    }
    let mut forgotten: Vec<ForgottenTopic> = Vec::new();
    for (partition, id) in &plan.forget {
        match forgotten.last_mut().filter(|topic| *topic.topic == *partition.topic && topic.topic_id == *id) {
            Some(topic) => topic.partitions.push(partition.index),
            None => forgotten.push(ForgottenTopic {
                topic: partition.topic.to_string(),
                topic_id: *id,
                partitions: vec![partition.index],
            }),
        }
    }
    FetchRequest {
        max_wait_ms: terms.max_wait_ms,
        min_bytes: terms.min_bytes,
        max_bytes: terms.max_bytes,
        isolation_level: terms.isolation_level.wire(),
        session_id: plan.session_id,
        session_epoch: plan.session_epoch,
        topics,
        forgotten_topics_data: forgotten,
        ..Default::default()
    }
}

/// What came for one partition that was asked for.
pub(crate) struct Came {
    pub(crate) partition: TopicPartition,
    pub(crate) spec: Spec,
    pub(crate) data: PartitionData,
}

/// An answer, taken apart.
pub(crate) struct Answer {
    pub(crate) code: ErrorCode,
    pub(crate) session_id: i32,
    pub(crate) throttle_ms: i32,
    pub(crate) partitions: Vec<Came>,
    pub(crate) hints: LeaderHints,
    /// Partitions that nobody had asked for.
    pub(crate) strangers: usize,
}

/// Takes an answer apart: by what the session asks for, so that nothing that a broker makes up is taken for anything.
pub(crate) fn take_apart(response: FetchResponse, version: i16, session: &Session) -> Answer {
    let mut answer = Answer {
        code: ErrorCode(response.error_code),
        session_id: if version >= SESSIONS { response.session_id } else { 0 },
        throttle_ms: response.throttle_time_ms,
        partitions: Vec::new(),
        hints: LeaderHints::default(),
        strangers: 0,
    };
    for FetchableTopicResponse { topic, topic_id, partitions } in response.responses {
        let name: Option<Arc<str>> =
            if version >= TOPIC_IDS { session.name_of(topic_id).map(Arc::clone) } else { Some(topic.into()) };
        let Some(name) = name else {
            answer.strangers += partitions.len();
            continue;
        };
        for data in partitions {
            let partition = TopicPartition { topic: Arc::clone(&name), index: data.partition_index };
            let Some(spec) = session.spec(&partition).copied() else {
                answer.strangers += 1;
                continue;
            };
            let told = &data.current_leader;
            if told.leader_id >= 0 && told.leader_epoch >= 0 {
                answer.hints.leaders.push(LeaderHint {
                    topic: Arc::clone(&name),
                    topic_id: spec.topic_id,
                    partition: partition.index,
                    leader: BrokerId(told.leader_id),
                    epoch: told.leader_epoch,
                });
            }
            answer.partitions.push(Came { partition, spec, data });
        }
    }
    for endpoint in response.node_endpoints {
        if let Some(port) = u16::try_from(endpoint.port).ok().filter(|port| *port != 0)
            && endpoint.node_id >= 0
        {
            answer.hints.addresses.insert(BrokerId(endpoint.node_id), HostPort::new(endpoint.host, port));
        }
    }
    answer
}

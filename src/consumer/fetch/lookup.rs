//! Where a place is: ListOffsets as a request, and its answer. Pure.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::consumer::start::Start;
use crate::error::ErrorCode;
use crate::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::topic::{IsolationLevel, TopicPartition};

/// A place that is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub(crate) partition: TopicPartition,
    pub(crate) start: Start,
    pub(crate) leader_epoch: i32,
}

/// What the leader says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    At(i64),
    /// There is no record as late as that.
    Nowhere,
    Failed(ErrorCode),
    /// The answer does not name the partition.
    Missing,
}

pub(crate) fn request(
    sought: &[Sought],
    isolation: IsolationLevel,
    now: SystemTime,
    timeout_ms: i32,
) -> ListOffsetsRequest {
    let mut topics: Vec<ListOffsetsTopic> = Vec::new();
    for Sought { partition, start, leader_epoch } in sought {
        let entry = ListOffsetsPartition {
            partition_index: partition.index,
            current_leader_epoch: *leader_epoch,
            timestamp: start.timestamp(now),
        };
        match topics.last_mut().filter(|topic| *topic.name == *partition.topic) {
            Some(topic) => topic.partitions.push(entry),
            None => topics.push(ListOffsetsTopic { name: partition.topic.to_string(), partitions: vec![entry] }),
        }
    }
    ListOffsetsRequest { isolation_level: isolation.wire(), topics, timeout_ms, ..Default::default() }
}

/// What the answer says of each place, in the order in which they were asked for.
pub(crate) fn read(sought: &[Sought], response: &ListOffsetsResponse) -> Vec<Found> {
    let mut found = HashMap::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            let place = match ErrorCode(partition.error_code) {
                ErrorCode::NONE if partition.offset >= 0 => Found::At(partition.offset),
                ErrorCode::NONE => Found::Nowhere,
                code => Found::Failed(code),
            };
            found.insert((topic.name.as_str(), partition.partition_index), place);
        }
    }
    let place = |sought: &Sought| found.get(&(&*sought.partition.topic, sought.partition.index)).copied();
    sought.iter().map(|sought| place(sought).unwrap_or(Found::Missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

    #[test]
    fn every_place_gets_its_own_answer_and_none_that_it_did_not_get() {
        let sought = |topic: &str, partition, start| Sought {
            partition: TopicPartition::new(topic, partition),
            start,
            leader_epoch: 3,
        };
        let all = [
            sought("a", 0, Start::Beginning),
            sought("a", 1, Start::End),
            sought("b", 0, Start::End),
            sought("a", 2, Start::End),
        ];
        let asked = request(&all, IsolationLevel::Committed, SystemTime::now(), 500);
        assert_eq!(asked.topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!((asked.isolation_level, asked.topics[0].partitions[1].timestamp), (1, -1));
        let answer = |index, code: ErrorCode, offset| ListOffsetsPartitionResponse {
            partition_index: index,
            error_code: code.0,
            offset,
            ..Default::default()
        };
        let topic = |name: &str, partitions| ListOffsetsTopicResponse { name: name.into(), partitions };
        let response = ListOffsetsResponse {
            topics: vec![
                topic("b", vec![answer(0, ErrorCode::NONE, -1), answer(7, ErrorCode::NONE, 9)]),
                topic("a", vec![answer(1, ErrorCode::NOT_LEADER_OR_FOLLOWER, 4), answer(0, ErrorCode::NONE, 5)]),
            ],
            ..Default::default()
        };
        assert_eq!(
            read(&all, &response),
            [Found::At(5), Found::Failed(ErrorCode::NOT_LEADER_OR_FOLLOWER), Found::Nowhere, Found::Missing]
        );
    }
}

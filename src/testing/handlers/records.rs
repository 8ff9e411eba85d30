//! DeleteRecords.

use std::sync::Arc;

use super::fetch::leads;
use super::{Call, Named, Reply, Serve};
use crate::error::ErrorCode;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::testing::state::FakeState;
use crate::topic::BrokerId;

impl DeleteRecordsRequest {
    fn respond(
        &self,
        mut answer: impl FnMut(&str, &DeleteRecordsPartition) -> Result<i64, ErrorCode>,
    ) -> DeleteRecordsResponse {
        let topics = self.topics.iter().map(|topic| {
            let result = |partition: &DeleteRecordsPartition| {
                let (low_watermark, code) = match answer(&topic.name, partition) {
                    Ok(offset) => (offset, ErrorCode::NONE),
                    Err(code) => (-1, code),
                };
                let partition_index = partition.partition_index;
                DeleteRecordsPartitionResult { partition_index, low_watermark, error_code: code.0 }
            };
            let partitions = topic.partitions.iter().map(result).collect();
            DeleteRecordsTopicResult { name: topic.name.clone(), partitions }
        });
        DeleteRecordsResponse { topics: topics.collect(), ..Default::default() }
    }
}

fn delete(
    state: &mut FakeState,
    broker: BrokerId,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let name: Arc<str> = topic.into();
    leads(state, Some(&name), wanted.partition_index, -1, broker).map_err(|(code, _)| code)?;
    let topic = state.topics.get_mut(&name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // A topic that is compacted only keeps its records.
    if topic.rules.compacted && !topic.configs.get("cleanup.policy").is_some_and(|policy| policy.contains("delete")) {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let partition = topic.partition_mut(wanted.partition_index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let end = partition.log.end_offset;
    let before = if wanted.offset == -1 { end } else { wanted.offset };
    if !(0..=end).contains(&before) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    partition.log.delete_before(before);
    Ok(partition.log.start_offset)
}

impl Serve for DeleteRecordsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let mut named = Vec::new();
        for topic in &self.topics {
            let name: Arc<str> = topic.name.as_str().into();
            named.extend(topic.partitions.iter().map(|p| (Arc::clone(&name), Some(p.partition_index))));
        }
        named
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<DeleteRecordsResponse> {
        let broker = call.broker;
        Reply::Answer(call.change(|state| self.respond(|topic, partition| delete(state, broker, topic, partition))))
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> DeleteRecordsResponse {
        self.respond(|_, _| Err(code))
    }

    fn throttle(response: &mut DeleteRecordsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

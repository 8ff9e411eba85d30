//! Whom to ask about partitions, and what is common to the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::brokers::{Brokers, place_of};
use super::items::{Items, Routes, broker_error};
use crate::error::{Error, ErrorCode, Result};
use crate::protocol::messages::MetadataRequest;
use crate::protocol::messages::metadata::MetadataResponseTopic;
use crate::topic::{TopicPartition, topic_name_fault};

/// Each partition goes to its leader, as any broker says now.
pub(super) fn to_leaders(
    brokers: &Brokers,
    partitions: &[&TopicPartition],
    deadline: Instant,
) -> Result<Routes<TopicPartition>> {
    let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
    let response = brokers.metadata(&MetadataRequest::named(topics, false), deadline)?;
    let by_name: BTreeMap<&str, &MetadataResponseTopic> =
        response.topics.iter().filter_map(|topic| Some((topic.name.as_deref()?, topic))).collect();
    let leader = |partition: &TopicPartition| {
        let missing = || broker_error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
        let topic = by_name.get(&*partition.topic).ok_or_else(missing)?;
        checked(topic.error_code, None)?;
        let found = topic.partitions.iter().find(|found| found.partition_index == partition.index);
        let found = found.ok_or_else(missing)?;
        if found.leader_id < 0 {
            return Err(broker_error(ErrorCode::LEADER_NOT_AVAILABLE, None));
        }
        place_of(&response, found.leader_id)
    };
    Ok(partitions.iter().map(|partition| ((*partition).clone(), leader(partition))).collect())
}

/// The items of a request by their topics.
pub(super) fn by_topic<'i, W>(items: &Items<'i, TopicPartition, W>) -> BTreeMap<&'i str, Vec<(i32, &'i W)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, &W)>> = BTreeMap::new();
    for (&partition, &wanted) in items {
        topics.entry(&partition.topic).or_default().push((partition.index, wanted));
    }
    topics
}

pub(super) fn checked(code: i16, message: Option<&str>) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(broker_error(code, message)),
    }
}

/// Refuses names that no topic can have: a request must not fail for the others because of one.
pub(super) fn check_topic(name: &str) -> Result<()> {
    topic_name_fault(name).map_or(Ok(()), |fault| Err(Error::invalid(fault).at_topic(name)))
}

pub(super) fn check_partition(partition: &TopicPartition) -> Result<()> {
    check_topic(&partition.topic).map_err(|error| error.at_partition(partition))?;
    if partition.index < 0 {
        return Err(Error::invalid("the partition's index is negative").at_partition(partition));
    }
    Ok(())
}

pub(super) fn named(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

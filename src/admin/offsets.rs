//! Offsets of partitions: finding them, and deleting the records before one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::brokers::{Brokers, Place};
use super::items::{Answers, ItemCall, Items, Routes, Said};
use super::routes::{by_topic, check_partition, named, to_leaders};
use super::topics::{gather, too_old};
use super::{Admin, Results};
use crate::error::{Error, Result};
use crate::protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use crate::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse};
use crate::time::wire_ms;
use crate::topic::{IsolationLevel, TopicPartition};

/// Which offset of a partition is wanted. Java: `OffsetSpec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first one that is there.
    Earliest,
    /// The one that the next record gets; with [`IsolationLevel::Committed`] that of the first record of an open transaction,
    /// if there is one.
    Latest,
    /// That of the first record whose timestamp is not before this.
    Time(SystemTime),
    /// That of the record with the largest timestamp. From Kafka 3.0 on.
    MaxTimestamp,
    /// The first one that the leader itself has, where older records are in a tiered store. From Kafka 3.4 on.
    EarliestLocal,
    /// The last one in the tiered store. From Kafka 3.9 on.
    LatestTiered,
    /// The first one that is still to be put into the tiered store. From Kafka 4.2 on.
    EarliestPendingUpload,
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::EarliestPendingUpload => -6,
            // No time before 1970 is one of the special ones.
            Self::Time(time) => {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
        }
    }

    /// The first version of ListOffsets that knows it, and what to say of an older one.
    fn since(self) -> (i16, &'static str) {
        match self {
            Self::Latest | Self::Earliest | Self::Time(_) => (0, ""),
            Self::MaxTimestamp => (7, "MaxTimestamp needs Kafka 3.0 (ListOffsets 7, KIP-734)"),
            Self::EarliestLocal => (8, "EarliestLocal needs Kafka 3.4 (ListOffsets 8, KIP-405)"),
            Self::LatestTiered => (9, "LatestTiered needs Kafka 3.9 (ListOffsets 9, KIP-1005)"),
            Self::EarliestPendingUpload => (11, "EarliestPendingUpload needs Kafka 4.2 (ListOffsets 11, KIP-1023)"),
        }
    }
}

/// What was found for an [`OffsetSpec`]. Java: `ListOffsetsResultInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundOffset {
    /// The offset. `None` where no record fits, for instance none is as young as the time asked for.
    pub offset: Option<i64>,
    /// The timestamp of the record there, where a timestamp was looked for.
    pub timestamp: Option<SystemTime>,
    /// The epoch of the leader that wrote it, from Kafka 2.1 on.
    pub leader_epoch: Option<i32>,
}

/// Which records of a partition are deleted. Java: `RecordsToDelete`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeleteRecords {
    /// Those before this offset.
    Before(i64),
    /// All that every in-sync replica has, which is up to the high watermark.
    All,
}

/// Offsets.
impl Admin {
    /// Finds offsets of partitions: where they begin and end, and where a time begins. Java: `listOffsets`.
    ///
    /// *Blocks* until the partitions' leaders have answered, at most for `api_timeout`.
    ///
    /// *Errors*, for each partition: `Broker` with `UNKNOWN_TOPIC_OR_PARTITION`, after it has been told so for five seconds,
    /// for brokers learn late of a topic that was just made; `TOPIC_AUTHORIZATION_FAILED` (without the right `DESCRIBE`) and
    /// others; `UnsupportedVersion` where the leader is too old for what is wanted; `InvalidInput` for a negative partition, a name that no topic can have, and a partition that is there twice; `Timeout(Api)`, with the last cause.
    pub fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
    ) -> Results<TopicPartition, FoundOffset> {
        let (wanted, results) = gather(partitions, twice, |partition, _| check_partition(partition));
        self.ask_leaders(&ListOffsets { isolation }, wanted, results)
    }

    /// Deletes the records of partitions before an offset, and answers with the first offset that is left. Nobody gets them
    /// back. Java: `deleteRecords`.
    ///
    /// *Blocks* until the partitions' leaders have answered, at most for `api_timeout`.
    ///
    /// *Errors*, for each partition: `Broker` with `OFFSET_OUT_OF_RANGE` for an offset beyond the high watermark,
    /// `POLICY_VIOLATION` for a topic that is compacted only, `UNKNOWN_TOPIC_OR_PARTITION` as
    /// [`list_offsets`](Self::list_offsets), `TOPIC_AUTHORIZATION_FAILED` (without the right `DELETE`) and others;
    /// `InvalidInput` for a negative offset or partition, a name that no topic can have, and a partition that is there twice;
    /// `Timeout(Api)`, with the last cause.
    pub fn delete_records(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, DeleteRecords)>,
    ) -> Results<TopicPartition, i64> {
        let (wanted, results) = gather(partitions, twice, |partition, wanted| {
            check_partition(partition)?;
            match wanted {
                DeleteRecords::Before(..0) => Err(Error::invalid("the offset is negative").at_partition(partition)),
                _ => Ok(()),
            }
        });
        self.ask_leaders(&DeleteBefore, wanted, results)
    }

    fn ask_leaders<C: ItemCall<Key = TopicPartition>>(
        &self,
        call: &C,
        wanted: BTreeMap<TopicPartition, C::Wanted>,
        mut results: BTreeMap<TopicPartition, Result<C::Answer>>,
    ) -> Results<TopicPartition, C::Answer> {
        let outcomes = self.attempts().run(&self.brokers, call, wanted);
        results.extend(outcomes.into_iter().map(|(partition, outcome)| (partition, outcome.result)));
        Results::new(results)
    }
}

fn twice(partition: &TopicPartition) -> Error {
    Error::invalid("the partition is there twice in one call").at_partition(partition)
}

struct ListOffsets {
    isolation: IsolationLevel,
}

impl ItemCall for ListOffsets {
    type Key = TopicPartition;
    type Wanted = OffsetSpec;
    type Answer = FoundOffset;
    type Request = ListOffsetsRequest;

    fn awaits_unknown(&self, _: &Brokers, _: &TopicPartition) -> bool {
        true
    }

    fn route(&self, brokers: &Brokers, items: &[&TopicPartition], deadline: Instant) -> Result<Routes<TopicPartition>> {
        to_leaders(brokers, items, deadline)
    }

    fn misrouted(&self, _: &Brokers, _: &Place) {}

    fn fault(&self, _: &TopicPartition, wanted: &OffsetSpec, version: i16) -> Option<Error> {
        let (since, text) = wanted.since();
        (version < since).then(|| too_old(text))
    }

    fn request(&self, items: &Items<'_, TopicPartition, OffsetSpec>, _: i16, time: Duration) -> ListOffsetsRequest {
        let partition = |(index, wanted): (i32, &OffsetSpec)| ListOffsetsPartition {
            partition_index: index,
            timestamp: wanted.to_wire(),
            ..Default::default()
        };
        let topics = by_topic(items).into_iter().map(|(name, partitions)| ListOffsetsTopic {
            name: name.to_owned(),
            partitions: partitions.into_iter().map(partition).collect(),
        });
        ListOffsetsRequest {
            isolation_level: self.isolation.wire(),
            topics: topics.collect(),
            timeout_ms: wire_ms(time),
            ..Default::default()
        }
    }

    fn answers(&self, response: ListOffsetsResponse) -> Answers<TopicPartition, FoundOffset> {
        let mut items = Vec::new();
        for topic in response.topics {
            for partition in topic.partitions {
                items.push(Said {
                    item: named(&topic.name, partition.partition_index),
                    code: partition.error_code,
                    message: None,
                    answer: FoundOffset {
                        offset: (partition.offset >= 0).then_some(partition.offset),
                        timestamp: u64::try_from(partition.timestamp)
                            .ok()
                            .and_then(|ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms))),
                        leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
                    },
                });
            }
        }
        Answers { throttle_ms: response.throttle_time_ms, items }
    }

    fn at(error: Error, partition: &TopicPartition) -> Error {
        error.at_partition(partition)
    }
}

struct DeleteBefore;

impl ItemCall for DeleteBefore {
    type Key = TopicPartition;
    type Wanted = DeleteRecords;
    type Answer = i64;
    type Request = DeleteRecordsRequest;

    fn changes(&self) -> bool {
        true
    }

    fn awaits_unknown(&self, _: &Brokers, _: &TopicPartition) -> bool {
        true
    }

    fn route(&self, brokers: &Brokers, items: &[&TopicPartition], deadline: Instant) -> Result<Routes<TopicPartition>> {
        to_leaders(brokers, items, deadline)
    }

    fn misrouted(&self, _: &Brokers, _: &Place) {}

    fn request(
        &self,
        items: &Items<'_, TopicPartition, DeleteRecords>,
        _: i16,
        time: Duration,
    ) -> DeleteRecordsRequest {
        let partition = |(index, wanted): (i32, &DeleteRecords)| DeleteRecordsPartition {
            partition_index: index,
            offset: match wanted {
                DeleteRecords::Before(offset) => *offset,
                DeleteRecords::All => -1,
            },
        };
        let topics = by_topic(items).into_iter().map(|(name, partitions)| DeleteRecordsTopic {
            name: name.to_owned(),
            partitions: partitions.into_iter().map(partition).collect(),
        });
        DeleteRecordsRequest { topics: topics.collect(), timeout_ms: wire_ms(time) }
    }

    fn answers(&self, response: DeleteRecordsResponse) -> Answers<TopicPartition, i64> {
        let mut items = Vec::new();
        for topic in response.topics {
            for partition in topic.partitions {
                items.push(Said {
                    item: named(&topic.name, partition.partition_index),
                    code: partition.error_code,
                    message: None,
                    answer: partition.low_watermark,
                });
            }
        }
        Answers { throttle_ms: response.throttle_time_ms, items }
    }

    fn at(error: Error, partition: &TopicPartition) -> Error {
        error.at_partition(partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_asked_for_in_milliseconds_and_is_never_one_of_the_special_offsets() {
        let at = |ms| OffsetSpec::Time(UNIX_EPOCH + Duration::from_millis(ms)).to_wire();
        assert_eq!((at(0), at(1_700_000_000_123)), (0, 1_700_000_000_123));
        assert_eq!(OffsetSpec::Time(UNIX_EPOCH - Duration::from_millis(2)).to_wire(), 0);
    }
}

//! OffsetFetch.

use crate::protocol::schema::messages;
use crate::protocol::wire::Uuid;

messages! {
    /// The offsets that groups have committed. Version 1 is the first that reads them from Kafka, 2 can ask for all
    /// topics, 6 is flexible, 7 can wait for the end of transactions (KIP-447), 8 asks for many groups at once
    /// (KIP-709), 9 knows the members of KIP-848, 10 names topics by id.
    api 9 OffsetFetch, versions 1..=10, flexible 6.. => OffsetFetchRequest, OffsetFetchResponse;

    OffsetFetchRequest {
        group_id:               String,                                0..=7;
        /// Null asks for all topics.
        topics:                 Option<Vec<OffsetFetchRequestTopic>>,  0..=7, nullable(2..);
        groups:                 Vec<OffsetFetchRequestGroup>,          8..;
        /// Whether the broker answers UNSTABLE_OFFSET_COMMIT for offsets that an open transaction may replace.
        require_stable:         bool,                                  7..;
    }
    OffsetFetchRequestTopic {
        name:                   String,                                0..=7;
        partition_indexes:      Vec<i32>,                              0..=7;
    }
    OffsetFetchRequestGroup {
        group_id:               String,                                8..;
        member_id:              Option<String>,                        9.., ignorable;
        member_epoch:           i32 = -1,                              9.., ignorable;
        /// Null asks for all topics.
        topics:                 Option<Vec<OffsetFetchRequestTopics>>, 8..;
    }
    OffsetFetchRequestTopics {
        name:                   String,                                8..=9, ignorable;
        topic_id:               Uuid,                                  10..,  ignorable;
        partition_indexes:      Vec<i32>,                              8..;
    }

    OffsetFetchResponse {
        throttle_time_ms:       i32,                                   3.., ignorable;
        topics:                 Vec<OffsetFetchResponseTopic>,         0..=7;
        error_code:             i16,                                   2..=7, ignorable;
        groups:                 Vec<OffsetFetchResponseGroup>,         8..;
    }
    OffsetFetchResponseTopic {
        name:                   String,                                0..=7;
        partitions:             Vec<OffsetFetchResponsePartition>,     0..=7;
    }
    OffsetFetchResponsePartition {
        partition_index:        i32,                                   0..=7;
        /// -1 if there is none.
        committed_offset:       i64,                                   0..=7;
        committed_leader_epoch: i32 = -1,                              5..=7, ignorable;
        metadata:               Option<String>,                        0..=7;
        error_code:             i16,                                   0..=7;
    }
    OffsetFetchResponseGroup {
        group_id:               String,                                8..;
        topics:                 Vec<OffsetFetchResponseTopics>,        8..;
        error_code:             i16,                                   8..;
    }
    OffsetFetchResponseTopics {
        name:                   String,                                8..=9, ignorable;
        topic_id:               Uuid,                                  10..,  ignorable;
        partitions:             Vec<OffsetFetchResponsePartitions>,    8..;
    }
    OffsetFetchResponsePartitions {
        partition_index:        i32,                                   8..;
        /// -1 if there is none.
        committed_offset:       i64,                                   8..;
        committed_leader_epoch: i32 = -1,                              8.., ignorable;
        metadata:               Option<String>,                        8..;
        error_code:             i16,                                   8..;
    }
}

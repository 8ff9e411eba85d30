//! ListOffsets.

use crate::protocol::schema::messages;

messages! {
    /// The offset for a timestamp, or for a special value: -1 the end, -2 the start, -3 the largest timestamp (from
    /// version 7, KIP-734), -4 the local log's start (8, KIP-405), -5 the last tiered offset (9, KIP-1005), -6 the
    /// earliest offset that waits for the tiered store (11, KIP-1023). Version 2 knows READ_COMMITTED, 6 is flexible.
    api 2 ListOffsets, versions 1..=11, flexible 6.. => ListOffsetsRequest, ListOffsetsResponse;

    ListOffsetsRequest {
        /// -1 for a consumer.
        replica_id:           i32 = -1,                           0..;
        /// 0 READ_UNCOMMITTED, 1 READ_COMMITTED.
        isolation_level:      i8,                                 2..;
        topics:               Vec<ListOffsetsTopic>,              0..;
        /// How long the broker may wait for tiered storage.
        timeout_ms:           i32,                                10.., ignorable;
    }
    ListOffsetsTopic {
        name:                 String,                             0..;
        partitions:           Vec<ListOffsetsPartition>,          0..;
    }
    ListOffsetsPartition {
        partition_index:      i32,                                0..;
        current_leader_epoch: i32 = -1,                           4.., ignorable;
        timestamp:            i64,                                0..;
    }

    ListOffsetsResponse {
        throttle_time_ms:     i32,                                2.., ignorable;
        topics:               Vec<ListOffsetsTopicResponse>,      0..;
    }
    ListOffsetsTopicResponse {
        name:                 String,                             0..;
        partitions:           Vec<ListOffsetsPartitionResponse>,  0..;
    }
    ListOffsetsPartitionResponse {
        partition_index:      i32,                                0..;
        error_code:           i16,                                0..;
        /// The timestamp of the record found, or -1.
        timestamp:            i64 = -1,                           1..;
        /// The offset of the first record whose timestamp is not before the one asked for, or -1.
        offset:               i64 = -1,                           1..;
        leader_epoch:         i32 = -1,                           4..;
    }
}

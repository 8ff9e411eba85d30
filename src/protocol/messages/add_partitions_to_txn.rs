//! AddPartitionsToTxn.

use crate::protocol::schema::messages;

messages! {
    /// Makes partitions part of a transaction before they are written to (KIP-98). Version 2 answers a fenced producer
    /// with PRODUCER_FENCED, 3 is flexible. Versions from 4 on are used between brokers, never by clients (KIP-890).
    /// Where transactions V2 are in force, Produce 12 does this implicitly.
    api 24 AddPartitionsToTxn, versions 0..=3, flexible 3.. => AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;

    AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: String,                                0..=3;
        v3_and_below_producer_id:      i64,                                   0..=3;
        v3_and_below_producer_epoch:   i16,                                   0..=3;
        v3_and_below_topics:           Vec<AddPartitionsToTxnTopic>,          0..=3;
    }
    AddPartitionsToTxnTopic {
        name:                          String,                                0..;
        partitions:                    Vec<i32>,                              0..;
    }

    AddPartitionsToTxnResponse {
        throttle_time_ms:              i32,                                   0..;
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>,    0..=3;
    }
    AddPartitionsToTxnTopicResult {
        name:                          String,                                0..;
        results_by_partition:          Vec<AddPartitionsToTxnPartitionResult>, 0..;
    }
    AddPartitionsToTxnPartitionResult {
        partition_index:               i32,                                   0..;
        /// Either all partitions are added or none: if one fails, the others have OPERATION_NOT_ATTEMPTED.
        partition_error_code:          i16,                                   0..;
    }
}

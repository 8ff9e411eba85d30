//! TxnOffsetCommit.

use crate::protocol::schema::messages;

messages! {
    /// Commits a group's offsets as part of a transaction (KIP-98). Version 2 adds leader epochs, 3 is flexible and
    /// names the member of the group (KIP-447), 4 knows TRANSACTION_ABORTABLE, 5 adds the group to the transaction
    /// implicitly: transactions V2 (KIP-890), without which at most version 4 may be used.
    api 28 TxnOffsetCommit, versions 0..=5, flexible 3.. => TxnOffsetCommitRequest, TxnOffsetCommitResponse;

    TxnOffsetCommitRequest {
        transactional_id:       String,                               0..;
        group_id:               String,                               0..;
        producer_id:            i64,                                  0..;
        producer_epoch:         i16,                                  0..;
        /// -1 if no member of the group is named.
        generation_id:          i32 = -1,                             3..;
        member_id:              String,                               3..;
        group_instance_id:      Option<String>,                       3..;
        topics:                 Vec<TxnOffsetCommitRequestTopic>,     0..;
    }
    TxnOffsetCommitRequestTopic {
        name:                   String,                               0..;
        partitions:             Vec<TxnOffsetCommitRequestPartition>, 0..;
    }
    TxnOffsetCommitRequestPartition {
        partition_index:        i32,                                  0..;
        /// The offset of the next record to be read.
        committed_offset:       i64,                                  0..;
        committed_leader_epoch: i32 = -1,                             2.., ignorable;
        committed_metadata:     Option<String>,                       0..;
    }

    TxnOffsetCommitResponse {
        throttle_time_ms:       i32,                                  0..;
        topics:                 Vec<TxnOffsetCommitResponseTopic>,    0..;
    }
    TxnOffsetCommitResponseTopic {
        name:                   String,                               0..;
        partitions:             Vec<TxnOffsetCommitResponsePartition>, 0..;
    }
    TxnOffsetCommitResponsePartition {
        partition_index:        i32,                                  0..;
        error_code:             i16,                                  0..;
    }
}

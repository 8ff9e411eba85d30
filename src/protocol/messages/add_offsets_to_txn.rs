//! AddOffsetsToTxn.

use crate::protocol::schema::messages;

messages! {
    /// Makes the offsets of a group part of a transaction (KIP-98). Version 2 answers a fenced producer with
    /// PRODUCER_FENCED, 3 is flexible, 4 knows TRANSACTION_ABORTABLE (KIP-890). Where transactions V2 are in force,
    /// TxnOffsetCommit 5 does this implicitly.
    api 25 AddOffsetsToTxn, versions 0..=4, flexible 3.. => AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;

    AddOffsetsToTxnRequest {
        transactional_id: String, 0..;
        producer_id:      i64,    0..;
        producer_epoch:   i16,    0..;
        group_id:         String, 0..;
    }

    AddOffsetsToTxnResponse {
        throttle_time_ms: i32,    0..;
        error_code:       i16,    0..;
    }
}

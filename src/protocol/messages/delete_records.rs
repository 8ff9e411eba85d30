//! DeleteRecords.

use crate::protocol::schema::messages;

messages! {
    /// Deletes the records of partitions before an offset; their leaders alone can (KIP-107). Version 2 is flexible.
    api 21 DeleteRecords, versions 0..=2, flexible 2.. => DeleteRecordsRequest, DeleteRecordsResponse;

    DeleteRecordsRequest {
        topics:           Vec<DeleteRecordsTopic>,           0..;
        timeout_ms:       i32,                               0..;
    }
    DeleteRecordsTopic {
        name:             String,                            0..;
        partitions:       Vec<DeleteRecordsPartition>,       0..;
    }
    DeleteRecordsPartition {
        partition_index:  i32,                               0..;
        /// -1 for the high watermark.
        offset:           i64,                               0..;
    }

    DeleteRecordsResponse {
        throttle_time_ms: i32,                               0..;
        topics:           Vec<DeleteRecordsTopicResult>,     0..;
    }
    DeleteRecordsTopicResult {
        name:             String,                            0..;
        partitions:       Vec<DeleteRecordsPartitionResult>, 0..;
    }
    DeleteRecordsPartitionResult {
        partition_index:  i32,                               0..;
        /// The first offset that is left.
        low_watermark:    i64,                               0..;
        error_code:       i16,                               0..;
    }
}

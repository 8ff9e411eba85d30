//! CreatePartitions.

use crate::protocol::schema::messages;

messages! {
    /// Adds partitions to topics; the controller alone can (KIP-195, Kafka 1.0). Version 2 is flexible, 3 may be answered
    /// with THROTTLING_QUOTA_EXCEEDED (KIP-599).
    api 37 CreatePartitions, versions 0..=3, flexible 2.. => CreatePartitionsRequest, CreatePartitionsResponse;

    CreatePartitionsRequest {
        topics:           Vec<CreatePartitionsTopic>,              0..;
        timeout_ms:       i32,                                     0..;
        /// Check, and add nothing.
        validate_only:    bool,                                    0..;
    }
    CreatePartitionsTopic {
        name:             String,                                  0..;
        /// How many there shall be, with those that are there.
        count:            i32,                                     0..;
        /// Of the new partitions alone. Null leaves them to the controller.
        assignments:      Option<Vec<CreatePartitionsAssignment>>, 0..;
    }
    CreatePartitionsAssignment {
        broker_ids:       Vec<i32>,                                0..;
    }

    CreatePartitionsResponse {
        throttle_time_ms: i32,                                     0..;
        results:          Vec<CreatePartitionsTopicResult>,        0..;
    }
    CreatePartitionsTopicResult {
        name:             String,                                  0..;
        error_code:       i16,                                     0..;
        error_message:    Option<String>,                          0..;
    }
}

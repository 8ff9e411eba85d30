//! CreateTopics.

use crate::protocol::schema::messages;
use crate::protocol::wire::Uuid;

messages! {
    /// Creates topics; only the controller can. Version 4 accepts -1 for the broker's default number of partitions and
    /// replicas (KIP-464), 5 is flexible and answers with the configuration (KIP-525), 7 with the topic's id.
    api 19 CreateTopics, versions 2..=7, flexible 5.. => CreateTopicsRequest, CreateTopicsResponse;

    CreateTopicsRequest {
        topics:                  Vec<CreatableTopic>,                0..;
        timeout_ms:              i32 = 60000,                        0..;
        /// Whether to check the request only, and create nothing.
        validate_only:           bool,                               1..;
    }
    CreatableTopic {
        name:                    String,                             0..;
        /// -1 for the broker's default, or if there are assignments.
        num_partitions:          i32,                                0..;
        /// -1 for the broker's default, or if there are assignments.
        replication_factor:      i16,                                0..;
        assignments:             Vec<CreatableReplicaAssignment>,    0..;
        configs:                 Vec<CreatableTopicConfig>,          0..;
    }
    CreatableReplicaAssignment {
        partition_index:         i32,                                0..;
        broker_ids:              Vec<i32>,                           0..;
    }
    CreatableTopicConfig {
        name:                    String,                             0..;
        value:                   Option<String>,                     0..;
    }

    CreateTopicsResponse {
        throttle_time_ms:        i32,                                2.., ignorable;
        topics:                  Vec<CreatableTopicResult>,          0..;
    }
    CreatableTopicResult {
        name:                    String,                             0..;
        topic_id:                Uuid,                               7.., ignorable;
        error_code:              i16,                                0..;
        error_message:           Option<String>,                     1.., ignorable;
        num_partitions:          i32 = -1,                           5.., ignorable;
        replication_factor:      i16 = -1,                           5.., ignorable;
        configs:                 Option<Vec<CreatableTopicConfigs>>, 5.., ignorable;
    } + tagged {
        /// Why `configs` is null.
        0 => topic_config_error_code: i16,                           5.., ignorable;
    }
    CreatableTopicConfigs {
        name:                    String,                             5..;
        value:                   Option<String>,                     5..;
        read_only:               bool,                               5..;
        config_source:           i8 = -1,                            5.., ignorable;
        is_sensitive:            bool,                               5..;
    }
}

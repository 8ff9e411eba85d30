//! IncrementalAlterConfigs.

use crate::protocol::schema::messages;

messages! {
    /// Changes single settings of topics and brokers, and leaves the others as they are (KIP-339, Kafka 2.3). Version 1 is
    /// flexible.
    api 44 IncrementalAlterConfigs, versions 0..=1, flexible 1..
        => IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;

    IncrementalAlterConfigsRequest {
        resources:        Vec<AlterConfigsResource>,         0..;
        /// Check, and change nothing.
        validate_only:    bool,                              0..;
    }
    AlterConfigsResource {
        /// 2 a topic, 4 a broker, 8 a broker's loggers.
        resource_type:    i8,                                0..;
        resource_name:    String,                            0..;
        configs:          Vec<AlterableConfig>,              0..;
    }
    AlterableConfig {
        name:             String,                            0..;
        /// 0 set, 1 delete, 2 append, 3 subtract.
        config_operation: i8,                                0..;
        value:            Option<String>,                    0..;
    }

    IncrementalAlterConfigsResponse {
        throttle_time_ms: i32,                               0..;
        responses:        Vec<AlterConfigsResourceResponse>, 0..;
    }
    AlterConfigsResourceResponse {
        error_code:       i16,                               0..;
        error_message:    Option<String>,                    0..;
        resource_type:    i8,                                0..;
        resource_name:    String,                            0..;
    }
}

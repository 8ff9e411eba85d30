//! DescribeConfigs.

use crate::protocol::schema::messages;

messages! {
    /// The configuration of topics and brokers. Version 1 tells where a value comes from, 3 what it means (KIP-226,
    /// KIP-569), 4 is flexible.
    api 32 DescribeConfigs, versions 1..=4, flexible 4.. => DescribeConfigsRequest, DescribeConfigsResponse;

    DescribeConfigsRequest {
        resources:             Vec<DescribeConfigsResource>,       0..;
        include_synonyms:      bool,                               1..;
        include_documentation: bool,                               3..;
    }
    DescribeConfigsResource {
        /// 2 a topic, 4 a broker.
        resource_type:         i8,                                 0..;
        resource_name:         String,                             0..;
        /// Null asks for all.
        configuration_keys:    Option<Vec<String>>,                0..;
    }

    DescribeConfigsResponse {
        throttle_time_ms:      i32,                                0..;
        results:               Vec<DescribeConfigsResult>,         0..;
    }
    DescribeConfigsResult {
        error_code:            i16,                                0..;
        error_message:         Option<String>,                     0..;
        resource_type:         i8,                                 0..;
        resource_name:         String,                             0..;
        configs:               Vec<DescribeConfigsResourceResult>, 0..;
    }
    DescribeConfigsResourceResult {
        name:                  String,                             0..;
        /// Null if it is sensitive.
        value:                 Option<String>,                     0..;
        read_only:             bool,                               0..;
        config_source:         i8 = -1,                            1.., ignorable;
        is_sensitive:          bool,                               0..;
        synonyms:              Vec<DescribeConfigsSynonym>,        1.., ignorable;
        config_type:           i8,                                 3.., ignorable;
        documentation:         Option<String>,                     3.., ignorable;
    }
    DescribeConfigsSynonym {
        name:                  String,                             1..;
        value:                 Option<String>,                     1..;
        source:                i8,                                 1..;
    }
}

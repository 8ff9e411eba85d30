//! ApiVersions.

use crate::protocol::schema::messages;

messages! {
    /// What a broker offers: the first request on every connection. An answer with UNSUPPORTED_VERSION is of
    /// version 0, see [`decode_api_versions`](crate::protocol::header::decode_api_versions).
    api 18 ApiVersions, versions 0..=4, flexible 3.. => ApiVersionsRequest, ApiVersionsResponse;

    ApiVersionsRequest {
        /// Only letters, digits, `-` and `.`; otherwise the broker answers INVALID_REQUEST (KIP-511).
        client_software_name:         String,                   3.., ignorable;
        client_software_version:      String,                   3.., ignorable;
    }

    ApiVersionsResponse {
        error_code:                   i16,                      0..;
        api_keys:                     Vec<ApiVersion>,          0..;
        throttle_time_ms:             i32,                      1.., ignorable;
    } + tagged {
        /// The features that the broker supports.
        0 => supported_features:      Vec<SupportedFeatureKey>, 3.., ignorable;
        /// -1 if the broker does not know the cluster's features.
        1 => finalized_features_epoch: i64 = -1,                3.., ignorable;
        /// The features that are finalized for the cluster (KIP-584).
        2 => finalized_features:      Vec<FinalizedFeatureKey>, 3.., ignorable;
        3 => zk_migration_ready:      bool,                     3.., ignorable;
    }
    ApiVersion {
        api_key:                      i16,                      0..;
        min_version:                  i16,                      0..;
        max_version:                  i16,                      0..;
    }
    SupportedFeatureKey {
        name:                         String,                   3..;
        min_version:                  i16,                      3..;
        max_version:                  i16,                      3..;
    }
    FinalizedFeatureKey {
        name:                         String,                   3..;
        max_version_level:            i16,                      3..;
        min_version_level:            i16,                      3..;
    }
}

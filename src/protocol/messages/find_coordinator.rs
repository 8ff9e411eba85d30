//! FindCoordinator.

use crate::protocol::schema::messages;

messages! {
    /// The broker that coordinates a group or a transactional id. Version 1 knows transactions, 3 is flexible, 4 asks
    /// for many keys at once (KIP-699), 5 knows TRANSACTION_ABORTABLE (KIP-890), 6 share groups
    /// (KIP-932).
    api 10 FindCoordinator, versions 1..=6, flexible 3.. => FindCoordinatorRequest, FindCoordinatorResponse;

    FindCoordinatorRequest {
        key:              String,           0..=3;
        /// 0 a group, 1 a transactional id, 2 a share group's partition.
        key_type:         i8,               1..;
        coordinator_keys: Vec<String>,      4..;
    }

    FindCoordinatorResponse {
        throttle_time_ms: i32,              1.., ignorable;
        error_code:       i16,              0..=3;
        error_message:    Option<String>,   1..=3, ignorable;
        node_id:          i32,              0..=3;
        host:             String,           0..=3;
        port:             i32,              0..=3;
        coordinators:     Vec<Coordinator>, 4..;
    }
    Coordinator {
        key:              String,           4..;
        node_id:          i32,              4..;
        host:             String,           4..;
        port:             i32,              4..;
        error_code:       i16,              4..;
        error_message:    Option<String>,   4.., ignorable;
    }
}

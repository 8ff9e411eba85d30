//! FindCoordinator.

use crate::protocol::schema::messages;

messages! {
    /// The broker that coordinates a group or a transactional id. Version 0 knows only groups, 1 transactions, 3 is
    /// flexible, 4 asks for many keys at once (KIP-699), 5 knows TRANSACTION_ABORTABLE (KIP-890), 6 share groups
    /// (KIP-932).
    api 10 FindCoordinator, versions 0..=6, flexible 3.. => FindCoordinatorRequest, FindCoordinatorResponse;

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

/// What a key of FindCoordinator names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyType {
    Group,
    Transaction,
}

impl FindCoordinatorRequest {
    /// Asks for the coordinator of one key, at any version.
    pub(crate) fn of(key_type: KeyType, key: &str, version: i16) -> Self {
        let key_type = match key_type {
            KeyType::Group => 0,
            KeyType::Transaction => 1,
        };
        let (key, coordinator_keys) = match version {
            ..4 => (key.to_owned(), Vec::new()),
            4.. => (String::new(), vec![key.to_owned()]),
        };
        Self { key, key_type, coordinator_keys }
    }
}

impl FindCoordinatorResponse {
    /// The answer for one key, at any version; `None` where a broker left the key out.
    pub(crate) fn into_coordinator(self, key: &str, version: i16) -> Option<Coordinator> {
        if version < 4 {
            let Self { error_code, error_message, node_id, host, port, .. } = self;
            return Some(Coordinator { key: key.to_owned(), node_id, host, port, error_code, error_message });
        }
        self.coordinators.into_iter().find(|coordinator| coordinator.key == key)
    }
}

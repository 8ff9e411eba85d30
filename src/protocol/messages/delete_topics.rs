//! DeleteTopics.

use crate::protocol::schema::messages;
use crate::protocol::wire::Uuid;

messages! {
    /// Deletes topics; only the controller can. Version 4 is flexible, 5 answers with the broker's text, 6 names topics
    /// by name or id (KIP-516).
    api 20 DeleteTopics, versions 1..=6, flexible 4.. => DeleteTopicsRequest, DeleteTopicsResponse;

    DeleteTopicsRequest {
        topics:           Vec<DeleteTopicState>,     6..;
        topic_names:      Vec<String>,               0..=5, ignorable;
        timeout_ms:       i32,                       0..;
    }
    DeleteTopicState {
        /// Null if the id names the topic.
        name:             Option<String>,            6..;
        topic_id:         Uuid,                      6..;
    }

    DeleteTopicsResponse {
        throttle_time_ms: i32,                       1.., ignorable;
        responses:        Vec<DeletableTopicResult>, 0..;
    }
    DeletableTopicResult {
        /// Null if the broker does not know the id that was asked for.
        name:             Option<String>,            0.., nullable(6..);
        topic_id:         Uuid,                      6.., ignorable;
        error_code:       i16,                       0..;
        error_message:    Option<String>,            5.., ignorable;
    }
}

impl DeleteTopicsRequest {
    /// Names topics at any version.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>, timeout_ms: i32, version: i16) -> Self {
        let names = names.into_iter().map(str::to_owned);
        if version < 6 {
            return Self { topic_names: names.collect(), timeout_ms, ..Self::default() };
        }
        let topics = names.map(|name| DeleteTopicState { name: Some(name), ..Default::default() }).collect();
        Self { topics, timeout_ms, ..Self::default() }
    }
}

//! Metadata.

use crate::protocol::schema::messages;
use crate::protocol::wire::Uuid;

messages! {
    /// The brokers, and the leaders of topics' partitions. Version 4 can ask without creating topics, 9 is flexible,
    /// 12 can ask by topic id (KIP-516), 13 answers with an error for the whole request (KIP-1102).
    api 3 Metadata, versions 4..=13, flexible 9.. => MetadataRequest, MetadataResponse;

    MetadataRequest {
        /// Null asks for every topic, an empty list for none.
        topics:                                Option<Vec<MetadataRequestTopic>>, 0..;
        allow_auto_topic_creation:             bool = true,                       4..;
        include_cluster_authorized_operations: bool,                              8..=10;
        include_topic_authorized_operations:   bool,                              8..;
    }
    MetadataRequestTopic {
        topic_id:                              Uuid,                              10.., ignorable;
        /// Null if the id names the topic.
        name:                                  Option<String>,                    0.., nullable(10..);
    }

    MetadataResponse {
        throttle_time_ms:                      i32,                               3.., ignorable;
        brokers:                               Vec<MetadataResponseBroker>,       0..;
        cluster_id:                            Option<String>,                    2.., ignorable;
        controller_id:                         i32 = -1,                          1.., ignorable;
        topics:                                Vec<MetadataResponseTopic>,        0..;
        cluster_authorized_operations:         i32 = i32::MIN,                    8..=10;
        error_code:                            i16,                               13.., ignorable;
    }
    MetadataResponseBroker {
        node_id:                               i32,                               0..;
        host:                                  String,                            0..;
        port:                                  i32,                               0..;
        rack:                                  Option<String>,                    1.., ignorable;
    }
    MetadataResponseTopic {
        error_code:                            i16,                               0..;
        /// Null if the broker does not know the id that was asked for.
        name:                                  Option<String>,                    0.., nullable(12..);
        topic_id:                              Uuid,                              10.., ignorable;
        is_internal:                           bool,                              1.., ignorable;
        partitions:                            Vec<MetadataResponsePartition>,    0..;
        topic_authorized_operations:           i32 = i32::MIN,                    8..;
    }
    MetadataResponsePartition {
        error_code:                            i16,                               0..;
        partition_index:                       i32,                               0..;
        /// -1 if there is none.
        leader_id:                             i32,                               0..;
        leader_epoch:                          i32 = -1,                          7.., ignorable;
        replica_nodes:                         Vec<i32>,                          0..;
        isr_nodes:                             Vec<i32>,                          0..;
        offline_replicas:                      Vec<i32>,                          5.., ignorable;
    }
}

impl MetadataRequest {
    /// Asks for every topic that the client may see.
    pub(crate) fn all() -> Self {
        Self { topics: None, allow_auto_topic_creation: false, ..Self::default() }
    }

    /// Asks for topics by name. `create` allows the broker to create missing topics, if its own configuration allows
    /// that as well.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>, create: bool) -> Self {
        let topic = |name: &str| MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
        Self {
            topics: Some(names.into_iter().map(topic).collect()),
            allow_auto_topic_creation: create,
            ..Self::default()
        }
    }
}

//! Produce.

use crate::protocol::schema::messages;
use crate::protocol::wire::{Records, Uuid};

messages! {
    /// Appends record batches to partitions. Version 3 is the first of the record batch format v2, 9 is flexible, 10
    /// names the new leader (KIP-951), 12 adds partitions to transactions V2 implicitly (KIP-890), 13 names topics by
    /// id (KIP-516).
    api 0 Produce, versions 3..=13, flexible 9.. => ProduceRequest, ProduceResponse;

    ProduceRequest {
        /// Null unless the producer is transactional.
        transactional_id:          Option<String>,                 3..;
        /// Who must have the records before the answer: -1 all in-sync replicas, 1 the leader; 0 means no answer.
        acks:                      i16,                            0..;
        timeout_ms:                i32,                            0..;
        topic_data:                Vec<TopicProduceData>,          0..;
    }
    TopicProduceData {
        name:                      String,                         0..=12, ignorable;
        topic_id:                  Uuid,                           13..,   ignorable;
        partition_data:            Vec<PartitionProduceData>,      0..;
    }
    PartitionProduceData {
        index:                     i32,                            0..;
        records:                   Records,                        0..;
    }

    ProduceResponse {
        responses:                 Vec<TopicProduceResponse>,      0..;
        throttle_time_ms:          i32,                            1.., ignorable;
    } + tagged {
        /// The addresses of the leaders that partitions name.
        0 => node_endpoints:       Vec<NodeEndpoint>,              10..;
    }
    TopicProduceResponse {
        name:                      String,                         0..=12, ignorable;
        topic_id:                  Uuid,                           13..,   ignorable;
        partition_responses:       Vec<PartitionProduceResponse>,  0..;
    }
    PartitionProduceResponse {
        index:                     i32,                            0..;
        error_code:                i16,                            0..;
        /// The offset of the batch's first record.
        base_offset:               i64,                            0..;
        /// The broker's timestamp for the batch if the topic has LogAppendTime, else -1.
        log_append_time_ms:        i64 = -1,                       2.., ignorable;
        log_start_offset:          i64 = -1,                       5.., ignorable;
        /// The records because of which the broker refused the batch (KIP-467).
        record_errors:             Vec<BatchIndexAndErrorMessage>, 8.., ignorable;
        error_message:             Option<String>,                 8.., ignorable;
    } + tagged {
        /// Set with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH.
        0 => current_leader:       LeaderIdAndEpoch,               10..;
    }
    BatchIndexAndErrorMessage {
        /// The record's index in its batch.
        batch_index:               i32,                            8..;
        batch_index_error_message: Option<String>,                 8..;
    }
    LeaderIdAndEpoch {
        leader_id:                 i32 = -1,                       10..;
        leader_epoch:              i32 = -1,                       10..;
    }
    NodeEndpoint {
        node_id:                   i32,                            10..;
        host:                      String,                         10..;
        port:                      i32,                            10..;
        rack:                      Option<String>,                 10..;
    }
}

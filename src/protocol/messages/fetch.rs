//! Fetch.

use crate::protocol::schema::messages;
use crate::protocol::wire::{Records, Uuid};

messages! {
    /// Reads record batches of partitions. Version 4 is the first of the record batch format v2 and of transactions, 7
    /// has fetch sessions (KIP-227), 9 and 12 detect truncations by leader epochs, 11 can fetch from a follower
    /// (KIP-392), 12 is flexible, 13 names topics by id (KIP-516), 16 tells the new leader (KIP-951).
    api 1 Fetch, versions 4..=18, flexible 12.. => FetchRequest, FetchResponse;

    FetchRequest {
        /// -1 for a consumer.
        replica_id:              i32 = -1,                       0..=14;
        max_wait_ms:             i32,                            0..;
        min_bytes:               i32,                            0..;
        max_bytes:               i32 = i32::MAX,                 3.., ignorable;
        /// 0 READ_UNCOMMITTED, 1 READ_COMMITTED.
        isolation_level:         i8,                             4.., ignorable;
        /// 0 asks for no session or a new one.
        session_id:              i32,                            7.., ignorable;
        /// -1 asks for no session, 0 for a new one.
        session_epoch:           i32 = -1,                       7.., ignorable;
        topics:                  Vec<FetchTopic>,                0..;
        /// The partitions that the session leaves out from now on.
        forgotten_topics_data:   Vec<ForgottenTopic>,            7..;
        /// The consumer's rack (KIP-392).
        rack_id:                 String,                         11.., ignorable;
    } + tagged {
        /// Used between brokers.
        0 => cluster_id:         Option<String>,                 12.., ignorable;
        /// Used between brokers.
        1 => replica_state:      ReplicaState,                   15..;
    }
    ReplicaState {
        replica_id:              i32 = -1,                       15..;
        replica_epoch:           i64 = -1,                       15..;
    }
    FetchTopic {
        topic:                   String,                         0..=12, ignorable;
        topic_id:                Uuid,                           13..,   ignorable;
        partitions:              Vec<FetchPartition>,            0..;
    }
    FetchPartition {
        partition:               i32,                            0..;
        current_leader_epoch:    i32 = -1,                       9.., ignorable;
        fetch_offset:            i64,                            0..;
        /// The epoch of the last record fetched, or -1. If the logs diverged, the broker answers with the position.
        last_fetched_epoch:      i32 = -1,                       12..;
        /// Set by a follower; -1 for a consumer.
        log_start_offset:        i64 = -1,                       5.., ignorable;
        partition_max_bytes:     i32,                            0..;
    } + tagged {
        /// Used between brokers.
        0 => replica_directory_id: Uuid,                         17.., ignorable;
        /// Used between brokers.
        1 => high_watermark:     i64 = i64::MAX,                 18.., ignorable;
    }
    ForgottenTopic {
        topic:                   String,                         7..=12, ignorable;
        topic_id:                Uuid,                           13..,   ignorable;
        partitions:              Vec<i32>,                       7..;
    }

    FetchResponse {
        throttle_time_ms:        i32,                            1.., ignorable;
        error_code:              i16,                            7.., ignorable;
        /// 0 if the broker keeps no session.
        session_id:              i32,                            7..;
        responses:               Vec<FetchableTopicResponse>,    0..;
    } + tagged {
        /// The addresses of the leaders that partitions name.
        0 => node_endpoints:     Vec<NodeEndpoint>,              16..;
    }
    FetchableTopicResponse {
        topic:                   String,                         0..=12, ignorable;
        topic_id:                Uuid,                           13..,   ignorable;
        partitions:              Vec<PartitionData>,             0..;
    }
    PartitionData {
        partition_index:         i32,                            0..;
        error_code:              i16,                            0..;
        high_watermark:          i64,                            0..;
        /// A fetch with READ_COMMITTED ends here.
        last_stable_offset:      i64 = -1,                       4.., ignorable;
        log_start_offset:        i64 = -1,                       5.., ignorable;
        /// Null unless READ_COMMITTED was asked for.
        aborted_transactions:    Option<Vec<AbortedTransaction>>, 4.., ignorable;
        /// The replica to fetch from instead, or -1 (KIP-392).
        preferred_read_replica:  i32 = -1,                       11..;
        records:                 Records,                        0..;
    } + tagged {
        /// Where the logs diverged, if they did.
        0 => diverging_epoch:    EpochEndOffset,                 12..;
        /// Set with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH.
        1 => current_leader:     LeaderIdAndEpoch,               12..;
        /// Used between brokers.
        2 => snapshot_id:        SnapshotId,                     12..;
    }
    EpochEndOffset {
        epoch:                   i32 = -1,                       12..;
        end_offset:              i64 = -1,                       12..;
    }
    LeaderIdAndEpoch {
        leader_id:               i32 = -1,                       12..;
        leader_epoch:            i32 = -1,                       12..;
    }
    SnapshotId {
        end_offset:              i64 = -1,                       0..;
        epoch:                   i32 = -1,                       0..;
    }
    AbortedTransaction {
        producer_id:             i64,                            4..;
        first_offset:            i64,                            4..;
    }
    NodeEndpoint {
        node_id:                 i32,                            16..;
        host:                    String,                         16..;
        port:                    i32,                            16..;
        rack:                    Option<String>,                 16..;
    }
}

//! The brokers' error codes, as one table.

use std::fmt;

use super::{Recovery, Written};

/// An error code of the Kafka protocol. A code that this crate does not know keeps its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub i16);

struct CodeRow {
    code: i16,
    name: &'static str,
    retriable: bool,
    refresh: bool,
    recovery: Recovery,
    written: Written,
    meaning: &'static str,
}

macro_rules! flag {
    (retry) => {
        true
    };
    (stop) => {
        false
    };
    (refresh) => {
        true
    };
    (keep) => {
        false
    };
}

/// One row per code: number, name, whether the request may be sent again unchanged, whether the metadata must be
/// refreshed first, what the caller can do when it gets the error, whether a produced batch may be in the log in spite
/// of the answer, and the meaning. Numbers, names and the first two flags are those of Kafka 4.3's `Errors.java`.
/// `written` follows from what the broker does before it answers with the code.
///
/// The row says what the code means in itself. A client may have a transaction to abort or a membership to renew; what
/// the code means for such a client is decided where that client judges its answers: for a producer in
/// `producer/send/verdict.rs` and `producer/transaction/verdict.rs`.
macro_rules! codes {
    ($($code:literal $name:ident $retry:ident $refresh:ident $recovery:ident $written:ident $meaning:literal;)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("Code ", $code, ": ", $meaning, ".")]
                pub const $name: Self = Self($code);
            )*
        }

        const TABLE: &[CodeRow] = &[$(CodeRow {
            code: $code,
            name: stringify!($name),
            retriable: flag!($retry),
            refresh: flag!($refresh),
            recovery: Recovery::$recovery,
            written: Written::$written,
            meaning: $meaning,
        },)*];
    };
}

codes! {
     -1 UNKNOWN_SERVER_ERROR stop keep Retry Maybe "the broker failed in an unexpected way";
      0 NONE stop keep Retry Yes "no error";
      1 OFFSET_OUT_OF_RANGE stop keep Fix No "the offset is outside the partition's log";
      2 CORRUPT_MESSAGE retry keep Retry No "the record batch failed its CRC or is otherwise corrupt";
      3 UNKNOWN_TOPIC_OR_PARTITION retry refresh Retry No "this broker does not host the topic or partition";
      4 INVALID_FETCH_SIZE stop keep Fix No "the fetch size is not valid";
      5 LEADER_NOT_AVAILABLE retry refresh Retry No "the partition has no leader, an election is under way";
      6 NOT_LEADER_OR_FOLLOWER retry refresh Retry Maybe "the broker no longer leads the partition";
      7 REQUEST_TIMED_OUT retry keep Retry Maybe "the replicas did not acknowledge in time";
      8 BROKER_NOT_AVAILABLE stop keep Retry No "the broker is not available";
      9 REPLICA_NOT_AVAILABLE retry refresh Retry No "the replica is not available";
     10 MESSAGE_TOO_LARGE stop keep Fix No "the batch is larger than the broker accepts";
     11 STALE_CONTROLLER_EPOCH stop keep Retry No "the controller has moved";
     12 OFFSET_METADATA_TOO_LARGE stop keep Fix No "the metadata of the committed offset is too large";
     13 NETWORK_EXCEPTION retry refresh Retry Maybe "the connection broke before the answer";
     14 COORDINATOR_LOAD_IN_PROGRESS retry keep Retry No "the coordinator is loading its state";
     15 COORDINATOR_NOT_AVAILABLE retry keep Retry No "the coordinator is not available";
     16 NOT_COORDINATOR retry keep Retry No "this broker is not the coordinator";
     17 INVALID_TOPIC_EXCEPTION stop keep Fix No "the topic's name is not valid, or the topic may not be written to";
     18 RECORD_LIST_TOO_LARGE stop keep Fix No "the batch is larger than a log segment";
     19 NOT_ENOUGH_REPLICAS retry keep Retry No "fewer replicas are in sync than min.insync.replicas asks for";
     20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retry keep Retry Maybe "written to fewer in-sync replicas than min.insync.replicas asks for";
     21 INVALID_REQUIRED_ACKS stop keep Fix No "the value of acks is not valid";
     22 ILLEGAL_GENERATION stop keep Retry No "the group's generation has passed";
     23 INCONSISTENT_GROUP_PROTOCOL stop keep Fix No "the member's protocols do not fit the group's";
     24 INVALID_GROUP_ID stop keep Fix No "the group id is not valid";
     25 UNKNOWN_MEMBER_ID stop keep Retry No "the coordinator does not know this member";
     26 INVALID_SESSION_TIMEOUT stop keep Fix No "the session timeout is outside the broker's range";
     27 REBALANCE_IN_PROGRESS stop keep Retry No "the group is rebalancing";
     28 INVALID_COMMIT_OFFSET_SIZE stop keep Fix No "the committed offset is too large";
     29 TOPIC_AUTHORIZATION_FAILED stop keep Fix No "not authorized for the topic";
     30 GROUP_AUTHORIZATION_FAILED stop keep Fix No "not authorized for the group";
     31 CLUSTER_AUTHORIZATION_FAILED stop keep Fix No "not authorized for the cluster";
     32 INVALID_TIMESTAMP stop keep Fix No "the record's timestamp is outside the broker's range";
     33 UNSUPPORTED_SASL_MECHANISM stop keep Fix No "the broker does not offer the SASL mechanism";
     34 ILLEGAL_SASL_STATE stop keep Fix No "the request does not fit the state of the SASL handshake";
     35 UNSUPPORTED_VERSION stop keep Fix No "the broker does not know the version of the request";
     36 TOPIC_ALREADY_EXISTS stop keep Fix No "the topic exists already";
     37 INVALID_PARTITIONS stop keep Fix No "the number of partitions is not valid";
     38 INVALID_REPLICATION_FACTOR stop keep Fix No "the replication factor is not valid";
     39 INVALID_REPLICA_ASSIGNMENT stop keep Fix No "the replica assignment is not valid";
     40 INVALID_CONFIG stop keep Fix No "the configuration is not valid";
     41 NOT_CONTROLLER retry keep Retry No "this broker is not the controller";
     42 INVALID_REQUEST stop keep Fix No "the request is not valid";
     43 UNSUPPORTED_FOR_MESSAGE_FORMAT stop keep Fix No "the topic's message format does not support it";
     44 POLICY_VIOLATION stop keep Fix No "a policy of the broker refused the request";
     45 OUT_OF_ORDER_SEQUENCE_NUMBER stop keep Retry No "the batch's sequence is not the next one that the broker expects";
     46 DUPLICATE_SEQUENCE_NUMBER stop keep Retry Yes "the batch had been written before";
     47 INVALID_PRODUCER_EPOCH stop keep Fix No "the producer's epoch is older than the one that the broker knows";
     48 INVALID_TXN_STATE stop keep Fix No "the request does not fit the state of the transaction";
     49 INVALID_PRODUCER_ID_MAPPING stop keep Fix No "the producer id does not belong to the transactional id";
     50 INVALID_TRANSACTION_TIMEOUT stop keep Fix No "the transaction timeout is over the broker's transaction.max.timeout.ms";
     51 CONCURRENT_TRANSACTIONS retry keep Retry No "the previous transaction is still being completed";
     52 TRANSACTION_COORDINATOR_FENCED stop keep Fix No "the transaction coordinator was replaced";
     53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED stop keep Fix No "not authorized for the transactional id";
     54 SECURITY_DISABLED stop keep Fix No "security features are disabled";
     55 OPERATION_NOT_ATTEMPTED stop keep Retry No "another part of the request failed first";
     56 KAFKA_STORAGE_ERROR retry refresh Retry Maybe "the broker's disk failed";
     57 LOG_DIR_NOT_FOUND stop keep Fix No "the log directory was not found";
     58 SASL_AUTHENTICATION_FAILED stop keep Fix No "the credentials were refused";
     59 UNKNOWN_PRODUCER_ID stop keep Retry No "the broker has forgotten the producer id";
     60 REASSIGNMENT_IN_PROGRESS stop keep Retry No "a reassignment of the partition is under way";
     61 DELEGATION_TOKEN_AUTH_DISABLED stop keep Fix No "delegation tokens are disabled";
     62 DELEGATION_TOKEN_NOT_FOUND stop keep Fix No "the delegation token was not found";
     63 DELEGATION_TOKEN_OWNER_MISMATCH stop keep Fix No "the delegation token belongs to another principal";
     64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED stop keep Fix No "delegation token requests are not allowed on this connection";
     65 DELEGATION_TOKEN_AUTHORIZATION_FAILED stop keep Fix No "not authorized for the delegation token";
     66 DELEGATION_TOKEN_EXPIRED stop keep Fix No "the delegation token has expired";
     67 INVALID_PRINCIPAL_TYPE stop keep Fix No "the principal's type is not supported";
     68 NON_EMPTY_GROUP stop keep Fix No "the group has members";
     69 GROUP_ID_NOT_FOUND stop keep Fix No "the group does not exist";
     70 FETCH_SESSION_ID_NOT_FOUND retry keep Retry No "the fetch session is gone";
     71 INVALID_FETCH_SESSION_EPOCH retry keep Retry No "the fetch session's epoch is not valid";
     72 LISTENER_NOT_FOUND retry refresh Retry No "the leader has no listener of this name";
     73 TOPIC_DELETION_DISABLED stop keep Fix No "deleting topics is disabled";
     74 FENCED_LEADER_EPOCH retry refresh Retry No "the leader's epoch is newer than the client's";
     75 UNKNOWN_LEADER_EPOCH retry refresh Retry No "the leader's epoch is older than the client's";
     76 UNSUPPORTED_COMPRESSION_TYPE stop keep Fix No "the broker does not support the compression type";
     77 STALE_BROKER_EPOCH stop keep Retry No "the broker's epoch is stale";
     78 OFFSET_NOT_AVAILABLE retry refresh Retry No "the leader does not know its high watermark yet";
     79 MEMBER_ID_REQUIRED stop keep Retry No "the member must join again with the id that it was given";
     80 PREFERRED_LEADER_NOT_AVAILABLE retry refresh Retry No "the preferred leader is not available";
     81 GROUP_MAX_SIZE_REACHED stop keep Fix No "the group is full";
     82 FENCED_INSTANCE_ID stop keep Fatal No "another member has taken the group instance id";
     83 ELIGIBLE_LEADERS_NOT_AVAILABLE retry refresh Retry No "no eligible leader is available";
     84 ELECTION_NOT_NEEDED stop keep Fix No "the partition has the wanted leader already";
     85 NO_REASSIGNMENT_IN_PROGRESS stop keep Fix No "no reassignment is under way";
     86 GROUP_SUBSCRIBED_TO_TOPIC stop keep Fix No "the group is subscribed to the topic";
     87 INVALID_RECORD stop keep Fix No "the broker refused a record of the batch";
     88 UNSTABLE_OFFSET_COMMIT retry keep Retry No "offsets of a pending transaction stand in the way";
     89 THROTTLING_QUOTA_EXCEEDED retry keep Retry No "the quota is exceeded";
     90 PRODUCER_FENCED stop keep Fatal No "another producer has taken the transactional id";
     91 RESOURCE_NOT_FOUND stop keep Fix No "the resource was not found";
     92 DUPLICATE_RESOURCE stop keep Fix No "the resource exists already";
     93 UNACCEPTABLE_CREDENTIAL stop keep Fix No "the credential is not acceptable";
     94 INCONSISTENT_VOTER_SET stop keep Fix No "the voter sets do not agree";
     95 INVALID_UPDATE_VERSION stop keep Fix No "the update's version is not valid";
     96 FEATURE_UPDATE_FAILED stop keep Fix No "the finalized features could not be updated";
     97 PRINCIPAL_DESERIALIZATION_FAILURE stop keep Fix No "the forwarded principal could not be read";
     98 SNAPSHOT_NOT_FOUND stop keep Retry No "the snapshot was not found";
     99 POSITION_OUT_OF_RANGE stop keep Fix No "the position is out of range";
    100 UNKNOWN_TOPIC_ID retry refresh Retry No "this broker does not know the topic id";
    101 DUPLICATE_BROKER_REGISTRATION stop keep Fix No "the broker id is in use";
    102 BROKER_ID_NOT_REGISTERED stop keep Retry No "the broker id is not registered";
    103 INCONSISTENT_TOPIC_ID retry refresh Retry No "the topic id is not the one in the log";
    104 INCONSISTENT_CLUSTER_ID stop keep Fix No "the request is for another cluster";
    105 TRANSACTIONAL_ID_NOT_FOUND stop keep Fix No "the transactional id was not found";
    106 FETCH_SESSION_TOPIC_ID_ERROR retry keep Retry No "the fetch session's topic ids do not fit";
    107 INELIGIBLE_REPLICA stop keep Retry No "the replica is not eligible to join the in-sync set";
    108 NEW_LEADER_ELECTED stop keep Retry No "a new leader was elected";
    109 OFFSET_MOVED_TO_TIERED_STORAGE stop keep Retry No "the offset is in tiered storage";
    110 FENCED_MEMBER_EPOCH stop keep Retry No "the member's epoch is fenced";
    111 UNRELEASED_INSTANCE_ID stop keep Fix No "the group instance id is still in use";
    112 UNSUPPORTED_ASSIGNOR stop keep Fix No "the group does not support the assignor";
    113 STALE_MEMBER_EPOCH stop keep Retry No "the member's epoch is stale";
    114 MISMATCHED_ENDPOINT_TYPE stop keep Fix No "the request was sent to an endpoint of the wrong type";
    115 UNSUPPORTED_ENDPOINT_TYPE stop keep Fix No "the endpoint's type is not supported";
    116 UNKNOWN_CONTROLLER_ID stop keep Fix No "the controller id is not known";
    117 UNKNOWN_SUBSCRIPTION_ID stop keep Retry No "the telemetry subscription is not known";
    118 TELEMETRY_TOO_LARGE stop keep Fix No "the telemetry push is too large";
    119 INVALID_REGISTRATION stop keep Fix No "the broker's registration is not valid";
    120 TRANSACTION_ABORTABLE stop keep AbortTransaction No "the transaction must be aborted";
    121 INVALID_RECORD_STATE stop keep Fix No "the record's state is not valid";
    122 SHARE_SESSION_NOT_FOUND retry keep Retry No "the share session is gone";
    123 INVALID_SHARE_SESSION_EPOCH retry keep Retry No "the share session's epoch is not valid";
    124 FENCED_STATE_EPOCH stop keep Fix No "the share state's epoch is fenced";
    125 INVALID_VOTER_KEY stop keep Fix No "the voter's key does not fit";
    126 DUPLICATE_VOTER stop keep Fix No "the voter is in the set already";
    127 VOTER_NOT_FOUND stop keep Fix No "the voter is not in the set";
    128 INVALID_REGULAR_EXPRESSION stop keep Fix No "the regular expression is not valid";
    129 REBOOTSTRAP_REQUIRED retry keep Retry No "the client must start again from its bootstrap servers";
    130 STREAMS_INVALID_TOPOLOGY stop keep Fix No "the streams topology is not valid";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH stop keep Fix No "the streams topology's epoch is not valid";
    132 STREAMS_TOPOLOGY_FENCED stop keep Fix No "the streams topology's epoch is fenced";
    133 SHARE_SESSION_LIMIT_REACHED retry keep Retry No "the broker has no room for another share session";
}

impl ErrorCode {
    /// The row of this code. The table starts at -1 and has no gaps, which a test checks.
    fn row(self) -> Option<&'static CodeRow> {
        let row = TABLE.get(usize::try_from(i32::from(self.0) + 1).ok()?)?;
        (row.code == self.0).then_some(row)
    }

    /// Whether this is [`ErrorCode::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The code's name in the protocol, or `UNKNOWN` for one that this crate does not know.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN", |row| row.name)
    }

    /// What the code means, in a few words.
    pub fn meaning(self) -> &'static str {
        self.row().map_or("an error code that this client does not know", |row| row.meaning)
    }

    /// Whether the same request may succeed when it is sent again.
    pub fn is_retriable(self) -> bool {
        self.row().is_some_and(|row| row.retriable)
    }

    /// Whether the code says that the client's metadata is out of date.
    pub fn refreshes_metadata(self) -> bool {
        self.row().is_some_and(|row| row.refresh)
    }

    /// What the caller can do, as far as the code alone tells. For a client it may mean more, such as a transaction
    /// that must be aborted: [`Error::recovery`](crate::Error::recovery) takes that into account.
    pub fn recovery(self) -> Recovery {
        self.row().map_or(Recovery::Retry, |row| row.recovery)
    }

    /// Whether a batch answered with this code may be in the log.
    pub fn written(self) -> Written {
        self.row().map_or(Written::Maybe, |row| row.written)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gaps() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(i32::from(row.code), i32::try_from(index).unwrap() - 1, "{}", row.name);
        }
    }

    #[test]
    fn an_unknown_code_keeps_its_number() {
        for code in [-2, 134, i16::MAX, i16::MIN] {
            assert_eq!(ErrorCode(code).to_string(), format!("UNKNOWN ({code})"));
            assert!(!ErrorCode(code).is_retriable());
        }
        assert_eq!(ErrorCode::NOT_LEADER_OR_FOLLOWER.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
    }
}

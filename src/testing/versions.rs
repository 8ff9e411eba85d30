//! The requests that the fake cluster knows, and the versions of them that a release of Kafka offers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::transactions::TransactionVersion;

/// A release of Kafka: which versions of each request the brokers offer, and where their behaviour changed.
///
/// Default: [`KafkaVersion::V4_3`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KafkaVersion {
    /// 0.11, the first with record batches and idempotent producers.
    V0_11,
    /// 2.8, which has topic ids in its metadata.
    V2_8,
    /// 3.9, the last that could run with ZooKeeper.
    V3_9,
    /// 4.3, which has dropped the oldest versions (KIP-896) and writes to topics by id.
    #[default]
    V4_3,
}

impl KafkaVersion {
    /// Every release that the fake cluster can imitate, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_11, Self::V2_8, Self::V3_9, Self::V4_3];

    /// Whether any broker accepts a request for the controller and forwards it (KIP-590).
    pub(super) fn forwards_to_controller(self) -> bool {
        self >= Self::V3_9
    }

    /// The protocol of transactions that the cluster finalizes by default (KIP-890).
    pub(super) fn transactions(self) -> TransactionVersion {
        if self >= Self::V4_3 { TransactionVersion::V2 } else { TransactionVersion::V1 }
    }

    pub(super) fn offered(self) -> BTreeMap<Api, RangeInclusive<i16>> {
        let row = |api: Api| {
            let [v0_11, v2_8, v3_9, v4_3] = api.versions();
            let range = match self {
                Self::V0_11 => v0_11,
                Self::V2_8 => v2_8,
                Self::V3_9 => v3_9,
                Self::V4_3 => v4_3,
            };
            range.map(|(min, max)| (api, min..=max))
        };
        Api::ALL.into_iter().filter_map(row).collect()
    }
}

/// The first and the last version of a request; `None` where the release does not know the request.
type Range = Option<(i16, i16)>;

macro_rules! apis {
    ($($key:literal $name:ident: $($range:expr),*;)*) => {
        /// A request that the fake cluster answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Api {
            $(
                #[doc = concat!("Request ", $key, ".")]
                $name,
            )*
        }

        impl Api {
            pub(super) const ALL: [Self; [$($key),*].len()] = [$(Self::$name),*];

            /// The request's number in the protocol.
            pub fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            pub(super) fn of(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            fn versions(self) -> [Range; 4] {
                match self {
                    $(Self::$name => [$($range),*],)*
                }
            }
        }
    };
}

apis! {
    // Number, name, and the ranges of 0.11, 2.8, 3.9 and 4.3. Kafka 4 offers Produce from version 0 on, for old
    // versions of librdkafka, but refuses 0 to 2 (KAFKA-18659).
     0 Produce:         Some((0, 3)), Some((0, 9)),  Some((0, 11)), Some((0, 13));
     1 Fetch:           Some((0, 5)), Some((0, 12)), Some((0, 17)), Some((4, 18));
     2 ListOffsets:     Some((0, 2)), Some((0, 6)),  Some((0, 9)),  Some((1, 11));
     3 Metadata:        Some((0, 4)), Some((0, 11)), Some((0, 12)), Some((0, 13));
     9 OffsetFetch:     Some((0, 3)), Some((0, 7)),  Some((0, 9)),  Some((1, 10));
    10 FindCoordinator: Some((0, 1)), Some((0, 3)),  Some((0, 6)),  Some((0, 6));
    18 ApiVersions:     Some((0, 1)), Some((0, 3)),  Some((0, 4)),  Some((0, 4));
    19 CreateTopics:    Some((0, 2)), Some((0, 7)),  Some((0, 7)),  Some((2, 7));
    20 DeleteTopics:    Some((0, 1)), Some((0, 6)),  Some((0, 6)),  Some((1, 6));
    21 DeleteRecords:   Some((0, 0)), Some((0, 2)),  Some((0, 2)),  Some((0, 2));
    22 InitProducerId:  Some((0, 0)), Some((0, 4)),  Some((0, 5)),  Some((0, 5));
    24 AddPartitionsToTxn: Some((0, 0)), Some((0, 3)), Some((0, 5)), Some((0, 5));
    25 AddOffsetsToTxn: Some((0, 0)), Some((0, 3)),  Some((0, 4)),  Some((0, 4));
    26 EndTxn:          Some((0, 0)), Some((0, 3)),  Some((0, 4)),  Some((0, 5));
    28 TxnOffsetCommit: Some((0, 0)), Some((0, 3)),  Some((0, 4)),  Some((0, 5));
    32 DescribeConfigs: Some((0, 0)), Some((0, 4)),  Some((0, 4)),  Some((1, 4));
    37 CreatePartitions: None,        Some((0, 3)),  Some((0, 3)),  Some((0, 3));
    44 IncrementalAlterConfigs: None, Some((0, 1)),  Some((0, 1)),  Some((0, 1));
    60 DescribeCluster: None,         Some((0, 0)),  Some((0, 1)),  Some((0, 2));
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

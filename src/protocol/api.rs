//! Requests, and the choice of the version in which a broker is asked.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use super::messages::ApiVersionsResponse;
use super::schema::Versions;
use super::wire::{At, Wire};
use crate::error::{Error, ErrorKind, Recovery, Result};

/// A request of the protocol.
pub(crate) trait Request: Wire + Debug {
    /// The API's number.
    const KEY: i16;
    /// The API's name, as Kafka writes it.
    const NAME: &'static str;
    /// The versions that this client speaks.
    const VERSIONS: RangeInclusive<i16>;
    /// The first flexible version (KIP-482).
    const FLEXIBLE: i16;
    /// What the broker answers.
    type Response: Wire + Default + Debug;

    /// The layout of request and response at a version.
    #[inline]
    fn at(version: i16) -> At {
        At { version, flexible: version >= Self::FLEXIBLE }
    }
}

/// What a broker offers: the versions of each of its APIs, and the finalized features of the cluster (KIP-584).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VersionTable {
    /// In the order of the keys.
    apis: Vec<(i16, Versions)>,
    features: Vec<(String, i16)>,
}

impl VersionTable {
    pub(crate) fn new(response: &ApiVersionsResponse) -> Self {
        let mut apis: Vec<_> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, Versions { min: api.min_version, max: api.max_version }))
            .collect();
        apis.sort_unstable_by_key(|(key, _)| *key);
        // An epoch of -1 says that the broker does not know the features (yet).
        let features = match response.finalized_features_epoch {
            0.. => response.finalized_features.iter().map(|f| (f.name.clone(), f.max_version_level)).collect(),
            _ => Vec::new(),
        };
        Self { apis, features }
    }

    /// The versions of the API `key` that the broker offers.
    pub(crate) fn offered(&self, key: i16) -> Option<Versions> {
        let at = self.apis.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.apis.get(at).map(|(_, versions)| *versions)
    }

    /// The finalized level of a feature such as `transaction.version`. 0 where the cluster does not have it.
    pub(crate) fn finalized(&self, feature: &str) -> i16 {
        self.features.iter().find(|(name, _)| name == feature).map_or(0, |(_, level)| *level)
    }

    /// Whether transactions V2 are in force (KIP-890). That is a finalized feature of the cluster; the brokers'
    /// versions alone do not say it. Without it a transaction may use Produce up to 11, TxnOffsetCommit and EndTxn up
    /// to 4; see [`choose_at_most`](Self::choose_at_most).
    pub(crate) fn has_transactions_v2(&self) -> bool {
        self.finalized("transaction.version") >= 2
    }

    /// The highest version that both sides speak.
    ///
    /// Kafka 4 advertises Produce from version 0 on, for old versions of librdkafka, but refuses 0 to 2. Our own lower
    /// bound excludes these.
    pub(crate) fn choose<R: Request>(&self) -> Result<i16> {
        self.choose_at_most::<R>(i16::MAX)
    }

    /// The highest version up to `limit` that both sides speak.
    pub(crate) fn choose_at_most<R: Request>(&self, limit: i16) -> Result<i16> {
        let ours = Versions { min: *R::VERSIONS.start(), max: limit.min(*R::VERSIONS.end()) };
        let theirs = self.offered(R::KEY);
        if let Some(theirs) = theirs {
            let version = ours.max.min(theirs.max);
            if ours.contains(version) && theirs.contains(version) {
                return Ok(version);
            }
        }
        let theirs = theirs.map_or_else(|| "does not offer it".to_owned(), |theirs| format!("offers {theirs}"));
        let text = format!("no common version of {}: this client speaks {ours}, the broker {theirs}", R::NAME);
        Err(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text))
    }
}

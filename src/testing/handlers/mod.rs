//! What a broker does with each kind of request.

mod configs;
mod fetch;
mod metadata;
mod produce;
mod records;
mod topics;
mod transactions;

use std::sync::Arc;

use super::builder::Settings;
use super::fault::On;
use super::seen::{SeenBatch, SeenTransaction};
use super::server::ServerShared;
use super::state::FakeState;
use super::transactions::TransactionVersion;
use super::versions::KafkaVersion;
use crate::error::ErrorCode;
use crate::protocol::api::Request;
use crate::protocol::messages::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use crate::protocol::messages::describe_cluster::DescribeClusterBroker;
use crate::protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::record::compression::Decompressor;
use crate::topic::BrokerId;

/// The host of every broker.
pub(super) const HOST: &str = "127.0.0.1";
pub(super) const CLUSTER_ID: &str = "fake-cluster";

/// A topic that a request names, and a partition if it names one.
pub(super) type Named = (Arc<str>, Option<i32>);

/// A request that the cluster answers.
pub(super) trait Serve: Request {
    /// Whether [`serve`](Self::serve) answers an injected error only for the partitions that it is meant for. If not,
    /// [`refuse`](Self::refuse) answers the whole request.
    const ANSWERS_BY_PARTITION: bool = false;

    /// The topics and partitions that the request names.
    fn named(&self, _: &FakeState) -> Vec<Named> {
        Vec::new()
    }

    /// The batches that it produces.
    fn batches(&self, _: &FakeState) -> Vec<SeenBatch> {
        Vec::new()
    }

    /// The transaction or group that it names.
    fn transaction(&self) -> Option<SeenTransaction> {
        None
    }

    /// Does what the request asks for, and answers it.
    fn serve(&self, call: &mut Call<'_>) -> Reply<Self::Response>;

    /// The answer with `code` as the error of everything.
    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> Self::Response;

    fn throttle(response: &mut Self::Response, ms: i32);
}

/// A request's circumstances: broker, connection, version.
pub(super) struct Call<'c> {
    pub(super) shared: &'c Arc<ServerShared>,
    pub(super) broker: BrokerId,
    pub(super) connection: u64,
    pub(super) version: i16,
    pub(super) decompressor: &'c mut Decompressor,
    pub(super) injected: Option<Injected>,
}

/// An error that a test has set.
pub(super) struct Injected {
    pub(super) on: On,
    pub(super) code: ErrorCode,
    /// Whether the request has its effect all the same.
    pub(super) applied: bool,
}

/// What the broker does after a request.
pub(super) enum Reply<T> {
    Answer(T),
    /// No answer is due.
    Silence,
    /// The connection is closed.
    Close,
}

impl Call<'_> {
    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut FakeState) -> T) -> T {
        self.shared.change(change)
    }
}

/// The answer to an ApiVersions request in a version that the broker does not know. From Kafka 2.4 on it lists the
/// versions of ApiVersions itself (KIP-511).
pub(super) fn unsupported_api_versions(settings: &Settings) -> ApiVersionsResponse {
    let api_keys = match settings.version {
        KafkaVersion::V0_11 => Vec::new(),
        _ => offered(settings).filter(|offer| offer.api_key == ApiVersionsRequest::KEY).collect(),
    };
    ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION.0, api_keys, ..Default::default() }
}

fn offered(settings: &Settings) -> impl Iterator<Item = ApiVersion> + '_ {
    settings.offered.iter().map(|(api, versions)| ApiVersion {
        api_key: api.key(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    })
}

/// What KIP-511 allows in the name and the version of a client: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    inner && edge(text.chars().next()) && edge(text.chars().next_back())
}

impl Serve for ApiVersionsRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<ApiVersionsResponse> {
        let named = is_software_name(&self.client_software_name) && is_software_name(&self.client_software_version);
        if call.version >= 3 && !named {
            call.change(|state| state.refuse("a client software name that KIP-511 does not allow".into()));
            return Reply::Answer(self.refuse(call, ErrorCode::INVALID_REQUEST));
        }
        let api_keys = offered(call.settings()).collect();
        let mut response = ApiVersionsResponse { api_keys, ..Default::default() };
        // A feature of level 0 is not listed (KIP-584).
        if call.settings().version >= KafkaVersion::V4_3 {
            let (name, level) = ("transaction.version", 2);
            let supported = SupportedFeatureKey { name: name.into(), min_version: 0, max_version: level };
            response.supported_features.push(supported);
        }
        if call.version >= 3 && call.settings().transactions == TransactionVersion::V2 {
            let name = "transaction.version".into();
            let finalized = FinalizedFeatureKey { name, max_version_level: 2, min_version_level: 2 };
            response.finalized_features.push(finalized);
            response.finalized_features_epoch = 1;
        }
        Reply::Answer(response)
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> ApiVersionsResponse {
        ApiVersionsResponse { error_code: code.0, ..Default::default() }
    }

    fn throttle(response: &mut ApiVersionsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl Serve for DescribeClusterRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<DescribeClusterResponse> {
        if self.endpoint_type != 1 {
            return Reply::Answer(self.refuse(call, ErrorCode::MISMATCHED_ENDPOINT_TYPE));
        }
        let state = call.shared.state.lock();
        let broker = |(id, port): (BrokerId, u16)| DescribeClusterBroker {
            broker_id: id.0,
            host: HOST.into(),
            port: port.into(),
            ..Default::default()
        };
        Reply::Answer(DescribeClusterResponse {
            cluster_id: CLUSTER_ID.into(),
            controller_id: state.controller().map_or(-1, |id| id.0),
            brokers: state.alive().map(|(id, state)| broker((id, state.port))).collect(),
            ..Default::default()
        })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> DescribeClusterResponse {
        DescribeClusterResponse { error_code: code.0, ..Default::default() }
    }

    fn throttle(response: &mut DescribeClusterResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

/// Whether a request that only the controller can carry out may be sent to this broker.
fn reaches_controller(call: &Call<'_>) -> bool {
    call.settings().version.forwards_to_controller()
        || call.shared.state.lock().controller().is_some_and(|controller| controller == call.broker)
}

//! What a broker does with each kind of request.

mod fetch;
mod metadata;
mod produce;
mod topics;

use std::sync::Arc;

use super::builder::Settings;
use super::fault::On;
use super::seen::SeenBatch;
use super::server::Shared;
use super::state::State;
use super::versions::KafkaVersion;
use crate::error::ErrorCode;
use crate::protocol::api::Request;
use crate::protocol::messages::api_versions::ApiVersion;
use crate::protocol::messages::describe_cluster::DescribeClusterBroker;
use crate::protocol::messages::find_coordinator::Coordinator;
use crate::protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use crate::record::compression::Decompressor;
use crate::topic::{BrokerId, ProducerIdAndEpoch};

/// The host of every broker.
pub(super) const HOST: &str = "127.0.0.1";
pub(super) const CLUSTER_ID: &str = "fake-cluster";

/// A topic that a request names, and a partition if it names one.
pub(super) type Named = (Arc<str>, Option<i32>);

/// A request that the cluster answers.
pub(super) trait Serve: Request {
    /// Whether [`serve`](Self::serve) gives an injected error to the partitions that it is meant for. Otherwise
    /// [`refuse`](Self::refuse) answers.
    const ANSWERS_BY_PARTITION: bool = false;

    /// The topics and partitions that the request names.
    fn named(&self, _: &State) -> Vec<Named> {
        Vec::new()
    }

    /// What it produces.
    fn batches(&self, _: &State) -> Vec<SeenBatch> {
        Vec::new()
    }

    /// Does what it asks for.
    fn serve(&self, call: &mut Call<'_>) -> Outcome<Self::Response>;

    /// The answer with `code` in every place that there is for it.
    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> Self::Response;

    fn throttle(response: &mut Self::Response, ms: i32);
}

/// Where and how a request came.
pub(super) struct Call<'c> {
    pub(super) shared: &'c Arc<Shared>,
    pub(super) broker: BrokerId,
    pub(super) connection: u64,
    pub(super) version: i16,
    pub(super) decompressor: &'c mut Decompressor,
    pub(super) injected: Option<Injected>,
}

/// An error from the script.
pub(super) struct Injected {
    pub(super) on: On,
    pub(super) code: ErrorCode,
    /// Whether the request has its effect all the same.
    pub(super) applied: bool,
}

/// What follows from a request.
pub(super) enum Outcome<T> {
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

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.change(change)
    }
}

/// The answer to an ApiVersions request in a version that the broker does not know. From 2.4 on it lists the versions
/// of ApiVersions itself (KIP-511).
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
    fn serve(&self, call: &mut Call<'_>) -> Outcome<ApiVersionsResponse> {
        let named = is_software_name(&self.client_software_name) && is_software_name(&self.client_software_version);
        if call.version >= 3 && !named {
            call.change(|state| state.refuse("a client software name that KIP-511 does not allow".into()));
            return Outcome::Answer(self.refuse(call, ErrorCode::INVALID_REQUEST));
        }
        let api_keys = offered(call.settings()).collect();
        Outcome::Answer(ApiVersionsResponse { api_keys, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> ApiVersionsResponse {
        ApiVersionsResponse { error_code: code.0, ..Default::default() }
    }

    fn throttle(response: &mut ApiVersionsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl Serve for InitProducerIdRequest {
    fn serve(&self, call: &mut Call<'_>) -> Outcome<InitProducerIdResponse> {
        let known = ProducerIdAndEpoch { producer_id: self.producer_id, epoch: self.producer_epoch };
        let id = self.transactional_id.as_deref();
        if known.is_some() != (known.epoch >= 0) || id == Some("") {
            return Outcome::Answer(self.refuse(call, ErrorCode::INVALID_REQUEST));
        }
        let identity = call.change(|state| {
            let denied = state.cluster_denied && id.is_none();
            (!denied).then(|| state.new_producer(id))
        });
        let Some(identity) = identity else {
            return Outcome::Answer(self.refuse(call, ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        };
        Outcome::Answer(InitProducerIdResponse {
            producer_id: identity.producer_id,
            producer_epoch: identity.epoch,
            ..Default::default()
        })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse { error_code: code.0, producer_id: -1, producer_epoch: -1, ..Default::default() }
    }

    fn throttle(response: &mut InitProducerIdResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl FindCoordinatorRequest {
    fn coordinator(&self, version: i16, code: ErrorCode, node: Option<(BrokerId, u16)>) -> FindCoordinatorResponse {
        let (node_id, host, port) = match node {
            Some((id, port)) => (id.0, HOST.to_owned(), i32::from(port)),
            None => (-1, String::new(), -1),
        };
        if version < 4 {
            return FindCoordinatorResponse { error_code: code.0, node_id, host, port, ..Default::default() };
        }
        let coordinator = |key: &String| Coordinator {
            key: key.clone(),
            node_id,
            host: host.clone(),
            port,
            error_code: code.0,
            error_message: None,
        };
        let coordinators = self.coordinator_keys.iter().map(coordinator).collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    }
}

impl Serve for FindCoordinatorRequest {
    fn serve(&self, call: &mut Call<'_>) -> Outcome<FindCoordinatorResponse> {
        let node = call.shared.state.lock().alive().next().map(|(id, broker)| (id, broker.port));
        let code = if node.is_some() { ErrorCode::NONE } else { ErrorCode::COORDINATOR_NOT_AVAILABLE };
        Outcome::Answer(self.coordinator(call.version, code, node))
    }

    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> FindCoordinatorResponse {
        self.coordinator(call.version, code, None)
    }

    fn throttle(response: &mut FindCoordinatorResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl Serve for DescribeClusterRequest {
    fn serve(&self, call: &mut Call<'_>) -> Outcome<DescribeClusterResponse> {
        if self.endpoint_type != 1 {
            return Outcome::Answer(self.refuse(call, ErrorCode::MISMATCHED_ENDPOINT_TYPE));
        }
        let state = call.shared.state.lock();
        let broker = |(id, port): (BrokerId, u16)| DescribeClusterBroker {
            broker_id: id.0,
            host: HOST.into(),
            port: port.into(),
            ..Default::default()
        };
        Outcome::Answer(DescribeClusterResponse {
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

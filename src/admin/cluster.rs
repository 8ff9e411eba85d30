//! What the cluster is.

use super::Admin;
use super::routes::checked;
use crate::error::{Error, Result};
use crate::protocol::api::Request;
use crate::protocol::messages::{DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse};
use crate::topic::BrokerId;

/// What a cluster says of itself. Java: `DescribeClusterResult`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller. Of a cluster with KRaft it is any broker, which passes requests on to the controller.
    pub controller: Option<BrokerId>,
    /// The brokers that are there, in the order of their ids.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker, and where it is. Java: `Node`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its id.
    pub id: BrokerId,
    /// Its host, as the cluster tells it to clients.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack, if it was given one. Property of brokers: `broker.rack`.
    pub rack: Option<String>,
}

/// The cluster.
impl Admin {
    /// Describes the cluster: its id, its controller and its brokers. Java: `describeCluster`.
    ///
    /// *Blocks* until a broker has answered, at most for `api_timeout`. *Errors*: `Broker`; `Timeout(Api)`, with the last
    /// cause.
    pub fn describe_cluster(&self) -> Result<ClusterDescription> {
        self.attempts().until_it_works(|deadline| {
            self.brokers.with_any(deadline, |connection, until| {
                // From Kafka 2.8 on; before, Metadata says the same.
                if connection.versions().offered(DescribeClusterRequest::KEY).is_some() {
                    let response = connection.call(&DescribeClusterRequest::default(), until)?;
                    checked(response.error_code, response.error_message.as_deref())?;
                    return Ok(response.into());
                }
                let response = connection.call(&MetadataRequest::named([], false), until)?;
                checked(response.error_code, None)?;
                if response.brokers.is_empty() {
                    return Err(Error::misbehaved("a metadata answer names no broker"));
                }
                Ok(response.into())
            })
        })
    }
}

impl ClusterDescription {
    fn new(cluster_id: Option<String>, controller: i32, mut brokers: Vec<BrokerDescription>) -> Self {
        brokers.sort_by_key(|broker| broker.id);
        Self { cluster_id, controller: (controller >= 0).then_some(BrokerId(controller)), brokers }
    }
}

impl From<DescribeClusterResponse> for ClusterDescription {
    fn from(response: DescribeClusterResponse) -> Self {
        let brokers = response.brokers.into_iter().map(|broker| BrokerDescription {
            id: BrokerId(broker.broker_id),
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        });
        Self::new(Some(response.cluster_id), response.controller_id, brokers.collect())
    }
}

impl From<MetadataResponse> for ClusterDescription {
    fn from(response: MetadataResponse) -> Self {
        let brokers = response.brokers.into_iter().map(|broker| BrokerDescription {
            id: BrokerId(broker.node_id),
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        });
        Self::new(response.cluster_id, response.controller_id, brokers.collect())
    }
}

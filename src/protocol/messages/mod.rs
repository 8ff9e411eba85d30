//! Kafka's messages, one file per API, each a table.

pub(crate) mod api_versions;
pub(crate) mod create_topics;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod produce;

pub(crate) use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub(crate) use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub(crate) use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub(crate) use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub(crate) use describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
pub(crate) use fetch::{FetchRequest, FetchResponse};
pub(crate) use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub(crate) use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub(crate) use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub(crate) use metadata::{MetadataRequest, MetadataResponse};
pub(crate) use produce::{ProduceRequest, ProduceResponse};

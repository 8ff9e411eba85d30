//! Kafka's messages, one file per API, each a table.

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod api_versions;
pub(crate) mod create_topics;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_fetch;
pub(crate) mod produce;
pub(crate) mod txn_offset_commit;

pub(crate) use add_offsets_to_txn::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
pub(crate) use add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
pub(crate) use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub(crate) use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub(crate) use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub(crate) use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub(crate) use describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
pub(crate) use end_txn::{EndTxnRequest, EndTxnResponse};
pub(crate) use fetch::{FetchRequest, FetchResponse};
pub(crate) use find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
pub(crate) use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub(crate) use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub(crate) use metadata::{MetadataRequest, MetadataResponse};
pub(crate) use offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
pub(crate) use produce::{ProduceRequest, ProduceResponse};
pub(crate) use txn_offset_commit::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

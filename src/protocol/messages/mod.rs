//! Kafka's messages: a file for each API, and in it a table for each structure.

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod offset_fetch;
pub(crate) mod produce;
pub(crate) mod txn_offset_commit;

pub(crate) use add_offsets_to_txn::AddOffsetsToTxnRequest;
pub(crate) use add_partitions_to_txn::AddPartitionsToTxnRequest;
pub(crate) use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub(crate) use create_partitions::{CreatePartitionsRequest, CreatePartitionsResponse};
pub(crate) use create_topics::{CreateTopicsRequest, CreateTopicsResponse};
pub(crate) use delete_records::{DeleteRecordsRequest, DeleteRecordsResponse};
pub(crate) use delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
pub(crate) use describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
pub(crate) use describe_configs::{DescribeConfigsRequest, DescribeConfigsResponse};
pub(crate) use end_txn::EndTxnRequest;
pub(crate) use fetch::{FetchRequest, FetchResponse};
pub(crate) use find_coordinator::FindCoordinatorRequest;
pub(crate) use incremental_alter_configs::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
pub(crate) use init_producer_id::InitProducerIdRequest;
pub(crate) use list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
pub(crate) use metadata::{MetadataRequest, MetadataResponse};
pub(crate) use produce::{ProduceRequest, ProduceResponse};
pub(crate) use txn_offset_commit::TxnOffsetCommitRequest;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::of_a_broker::*;

/// What only the fake cluster and tests use: most answers, and the requests that the producer does not send.
#[cfg(any(test, feature = "testing"))]
mod of_a_broker {
    pub(crate) use super::add_offsets_to_txn::AddOffsetsToTxnResponse;
    pub(crate) use super::add_partitions_to_txn::AddPartitionsToTxnResponse;
    pub(crate) use super::end_txn::EndTxnResponse;
    pub(crate) use super::find_coordinator::FindCoordinatorResponse;
    pub(crate) use super::init_producer_id::InitProducerIdResponse;
    pub(crate) use super::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
    pub(crate) use super::txn_offset_commit::TxnOffsetCommitResponse;
}

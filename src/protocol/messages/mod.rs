//! Kafka's messages, one file per API, each a table.

pub(crate) mod api_versions;
pub(crate) mod init_producer_id;
pub(crate) mod metadata;
pub(crate) mod produce;

pub(crate) use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub(crate) use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub(crate) use metadata::{MetadataRequest, MetadataResponse};
pub(crate) use produce::{ProduceRequest, ProduceResponse};

//! What faults do to the calls of an admin client.

mod faults;
mod versions;

use kafka_blocking::admin::{Admin, AdminBuilder};
use kafka_blocking::testing::FakeCluster;

use crate::common::ms;

/// A client that wastes no time.
fn quick(cluster: &FakeCluster) -> AdminBuilder {
    Admin::builder(cluster.bootstrap()).retry_backoff(ms(5)).retry_backoff_max(ms(40))
}

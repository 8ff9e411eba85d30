//! Suites of promises, each of which runs on several clusters, and the [`Target`] that gives them a cluster.

use std::time::{Duration, Instant};

use kafka_blocking::testing::internal_unstable::Client;
use kafka_blocking::testing::{FakeCluster, LoggedRecord, TransactionVersion};

use super::kafka;

/// Makes a test of each promise, a function of the module `promises`, on each of these clusters, functions of this
/// module.
macro_rules! on_each {
    ($clusters:tt $($promise:ident),* $(,)?) => {
        $($crate::support::target::on_each!(@ $promise $clusters);)*
    };
    (@ $promise:ident [$($cluster:ident),*]) => {
        mod $promise {
            $(
                #[test]
                fn $cluster() {
                    $crate::support::target::$cluster(stringify!($promise), super::promises::$promise);
                }
            )*
        }
    };
}
pub(crate) use on_each;

pub fn on_the_fake_cluster(name: &'static str, promise: fn(&Target)) {
    keeps(name, promise, TransactionVersion::V2);
}

pub fn on_the_fake_cluster_without_transactions_v2(name: &'static str, promise: fn(&Target)) {
    keeps(name, promise, TransactionVersion::V1);
}

fn keeps(name: &'static str, promise: fn(&Target), version: TransactionVersion) {
    let cluster = FakeCluster::builder().transactions(version).start().unwrap();
    promise(&Target { bootstrap: cluster.bootstrap(), name });
    let mut refusals = cluster.refusals();
    // Records that break the topic's own rules are refused on purpose.
    refusals.retain(|refusal| !refusal.contains("INVALID_RECORD"));
    assert_eq!(refusals, Vec::<String>::new());
}

/// For promises about requests that a broker refuses.
pub fn on_the_refusing_fake_cluster(name: &'static str, promise: fn(&Target)) {
    let cluster = FakeCluster::start(1).unwrap();
    promise(&Target { bootstrap: cluster.bootstrap(), name });
}

pub fn on_real_kafka(name: &'static str, promise: fn(&Target)) {
    promise(&Target { bootstrap: kafka::shared_single().bootstrap(), name });
}

pub fn on_real_kafka_without_transactions_v2(name: &'static str, promise: fn(&Target)) {
    promise(&Target { bootstrap: kafka::shared_single_v1().bootstrap(), name });
}

/// A cluster, real or fake, and a name that is free there: of the topic, the group and the transactional id, because a
/// real cluster is shared.
pub struct Target {
    pub bootstrap: Vec<String>,
    pub name: &'static str,
}

impl Target {
    /// A client, with the topic created.
    pub fn client(&self, partitions: i32) -> Client {
        self.client_with(partitions, [])
    }

    /// A client, with the topic created with these settings.
    pub fn client_with<'s>(&self, partitions: i32, settings: impl IntoIterator<Item = (&'s str, &'s str)>) -> Client {
        let mut client = Client::connect(&self.bootstrap).unwrap();
        client.create_topic(self.name, partitions, 1, settings).unwrap();
        client
    }
}

/// The values of records, as text.
pub fn values(records: &[LoggedRecord]) -> Vec<String> {
    records.iter().map(LoggedRecord::value_text).collect()
}

/// Waits until a partition has no open transaction, and returns its end: Kafka writes the markers after it has
/// answered.
pub fn settled(client: &mut Client, topic: &str, partition: i32) -> i64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let stable = client.stable_offset(topic, partition).unwrap();
        let end = client.end_offset(topic, partition).unwrap();
        if stable == end {
            return end;
        }
        assert!(Instant::now() < deadline, "still open at {stable} of {end}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! What the suites of transactions, which run on several clusters each, have of a cluster.

use std::time::{Duration, Instant};

use kafka_blocking::testing::{Client, LoggedRecord};

/// A cluster, real or fake, and a name that is free there: of the topic, the group and the transactional id, because a
/// real cluster is shared.
pub struct Target {
    pub bootstrap: Vec<String>,
    pub name: &'static str,
}

impl Target {
    /// A client, with the topic created.
    pub fn client(&self, partitions: i32) -> Client {
        let mut client = Client::connect(&self.bootstrap).unwrap();
        client.create_topic(self.name, partitions, 1, []).unwrap();
        client
    }
}

/// The values of records, as text.
pub fn values(records: &[LoggedRecord]) -> Vec<String> {
    records.iter().map(LoggedRecord::value_text).collect()
}

/// Waits until a partition has no open transaction, and returns its end: markers are written behind the answer.
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

//! What the programs of the tests share: clusters, fake and real, with the faults and the judges that go with them.
//!
//! * [`jars`] fetches Kafka's own jars with Maven, one set per version.
//! * [`kafka`] starts clusters of one or three brokers and kills, stops and restarts them.
//! * [`admin`] is a resident Java process: topics, leaders, settings, and reading topics back with Java's consumer.
//! * [`tools`] runs Kafka's command line tools.
//! * [`dump`] reads the batches of a log.
//! * [`fake`] builds producers on a fake cluster.
//! * [`proxy`] is a TCP proxy that delays, cuts and loses what passes.
//! * [`registry`] starts a schema registry, and Java's Avro as its judge.
//! * [`script`] is an HTTP server that follows a script of faults.
//! * [`target`] runs suites of promises on several clusters each.
//! * [`ledger`] remembers what was sent and judges what was found.
//! * [`logger`] is the log of a test that has its process to itself.
//!
//! What real servers need lives below `target/real-servers`. No server outlives the test process, however that ends.

#![allow(dead_code, reason = "each program includes all of this, and uses a part")]
#![allow(unreachable_pub, unused_macros, unused_imports)]
// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub mod admin;
pub mod dump;
pub mod fake;
pub mod jars;
pub mod kafka;
pub mod ledger;
pub mod logger;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod script;
pub mod target;
pub mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `target/real-servers`: jars, the servers' data and the locks.
pub fn home() -> PathBuf {
    // Cargo gives integration tests `target/tmp`; its parent is the target directory, wherever that was put.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("real-servers")
}

/// The error of `call` with a broker's code. A busy machine may keep a broker from any answer for longer than the call
/// has, and then there is none, so that the call is made again.
pub fn told_by_a_broker(mut call: impl FnMut() -> kafka_blocking::Error) -> kafka_blocking::Error {
    wait_for("an error with a broker's code", Duration::from_secs(60), || {
        let error = call();
        error.code().is_some().then_some(error)
    })
}

/// Polls `condition` every 20 ms until it yields a value, and panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

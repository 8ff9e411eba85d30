//! Real Kafka while brokers die, stop and move, and connections break.
//!
//! Every test proves that its fault has happened. One test at a time: each brings its cluster back to health, and the
//! machine may be small.

// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod producer;
#[path = "../support/mod.rs"]
mod support;
mod transaction;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use support::kafka::{Cluster, shared_three_proxied};
use support::wait_for;

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The turn of one test. A test that failed before may have left faults behind; they end here.
struct Turn(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

fn turn() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let _ = env_logger::try_init();
    Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The cluster of three, sound: all brokers run, the proxies pass, and nothing is out of sync.
fn sound_cluster() -> &'static Cluster {
    let cluster = shared_three_proxied();
    for node in 0..cluster.len() {
        if cluster.pid(node).is_none() {
            cluster.spawn(node);
        } else {
            cluster.cont(node);
        }
        cluster.proxy(node).pass();
    }
    for node in 0..cluster.len() {
        cluster.wait_ready(node);
    }
    cluster
}

/// Waits until all replicas of a topic are in sync.
fn await_in_sync(cluster: &Cluster, topic: &str) {
    wait_for("all replicas in sync", LIMIT, || {
        let partitions = cluster.admin().try_describe(topic).ok()?;
        let sound = |partition: &support::admin::Partition| {
            partition.leader.is_some() && partition.in_sync.len() == partition.replicas.len()
        };
        partitions.iter().all(sound).then_some(())
    });
}

//! What a producer does to its process, and what the process does to it: signals, and children that are forked off.
//!
//! Each test runs its program in a process of its own: this test once more, with the cluster's address in its environment.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Cluster, Producer, Record};
use support::kafka;
use support::proxy::Cut;

const BOUND: Duration = Duration::from_secs(60);
const ADDRESS: &str = "KAFKA_BLOCKING_TEST_ADDRESS";
const TOPIC: &str = "process";

/// Whether this is the process of the test's program; the cluster's address.
fn address() -> Option<String> {
    std::env::var(ADDRESS).ok()
}

/// Runs the program of a test on a cluster.
fn run(test: &str, address: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ADDRESS, address).output().unwrap()
}

#[track_caller]
fn assert_success(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{text}");
    assert!(output.status.success(), "{text}");
}

/// Runs the program while all connections are cut again and again, by `cut`.
fn run_while_cutting(test: &str, address: &str, cut: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                cut();
                thread::sleep(Duration::from_millis(20));
            }
        });
        let output = run(test, address);
        done.store(true, Ordering::Relaxed);
        assert_success(&output);
    });
}

/// A program that has SIGPIPE at its default, as a host in C may have it, and writes to connections that were cut.
fn writes_to_cut_connections(address: &str) {
    sigpipe::reset();
    let producer = Producer::builder(address.split(','))
        .linger(Duration::ZERO)
        .reconnect_backoff(Duration::from_millis(1))
        .reconnect_backoff_max(Duration::from_millis(2))
        .retry_backoff(Duration::from_millis(1))
        .retry_backoff_max(Duration::from_millis(2))
        .build()
        .unwrap();
    let value = vec![b'v'; 1000];
    let deadline = Instant::now() + BOUND;
    while producer.metrics().connections_lost < 20 {
        assert!(Instant::now() < deadline, "{:?}", producer.metrics());
        drop(producer.try_send(Record::to(TOPIC).value(&*value)));
    }
    // What is left is of no interest.
    producer.close_timeout(Duration::ZERO).ok();
}

#[test]
fn a_cut_connection_does_not_end_a_process_with_sigpipe_at_its_default() {
    if let Some(address) = address() {
        return writes_to_cut_connections(&address);
    }
    let cluster = FakeCluster::builder().topic(TOPIC, 3).sink().start().unwrap();
    run_while_cutting(
        "a_cut_connection_does_not_end_a_process_with_sigpipe_at_its_default",
        &cluster.bootstrap().join(","),
        || cluster.brokers().into_iter().for_each(|broker| cluster.cut_connections(broker)),
    );
}

#[test]
fn connections_to_real_kafka_are_cut_with_sigpipe_at_its_default() {
    if let Some(address) = address() {
        return writes_to_cut_connections(&address);
    }
    let cluster = kafka::shared_three_proxied();
    cluster.admin().create_topic(TOPIC, 3, 3, &[]);
    let cut = || {
        for node in 0..cluster.len() {
            cluster.proxy(node).cut_all(if node == 0 { Cut::Reset } else { Cut::Fin });
        }
    };
    let test = "connections_to_real_kafka_are_cut_with_sigpipe_at_its_default";
    run_while_cutting(test, &cluster.bootstrap().join(","), cut);
}

/// A process whose child drops the handles that it inherits, closes the producer, and ends.
fn forks(address: &str) {
    let producer = Producer::builder(address.split(',')).build().unwrap();
    let send = |number: i32| producer.send(Record::to(TOPIC).partition(0).value(number.to_string()));
    send(0).wait().unwrap();
    // Each may have a leader of its own.
    for partition in 1..3 {
        producer.send(Record::to(TOPIC).partition(partition).value("first")).wait().unwrap();
    }
    let (connections, lost) = (producer.metrics().connections_made, producer.metrics().connections_lost);
    let clones: [Option<Producer>; 3] = std::array::from_fn(|_| Some(producer.clone()));
    for (round, mut clone) in clones.into_iter().enumerate() {
        let mut batch = producer.create_batch();
        assert!(!batch.append("k", "v").unwrap().is_full());
        // Something open, which the child must not send.
        let open = producer.send(Record::to(TOPIC).partition(1).value("open"));
        match fork().unwrap() {
            Fork::Child => {
                let begun = Instant::now();
                drop((clone.take(), batch, open));
                let closed = round % 2 == 0 || producer.close_timeout(BOUND).is_ok();
                drop(producer);
                // Without a thread of its own nothing can take long, but the machine may stand still.
                let quick = begun.elapsed() < Duration::from_millis(4500);
                std::process::exit(if closed && quick { 0 } else { 1 });
            }
            Fork::Parent(child) => {
                let deadline = Instant::now() + BOUND;
                let status = loop {
                    if let Some(status) = waitpid_nohang(child).unwrap() {
                        break status;
                    }
                    assert!(Instant::now() < deadline, "the child does not end");
                    thread::sleep(Duration::from_millis(5));
                };
                assert_eq!(status, 0, "round {round}");
            }
        }
        // The connection and the idempotent producer's numbers are as they were.
        open.wait().unwrap();
        send(i32::try_from(round).unwrap() + 1).wait().unwrap();
        assert_eq!((producer.metrics().connections_made, producer.metrics().connections_lost), (connections, lost));
        let sent = producer.send_batch(batch, TOPIC, 2).unwrap().wait().unwrap();
        assert_eq!(usize::try_from(sent.base_offset().unwrap()), Ok(round + 1));
    }
    // A transaction that the child inherits stays open.
    let producer = Producer::builder(address.split(',')).transactional_id("forks").build().unwrap();
    producer.init_transactions().unwrap();
    let transaction = producer.transaction().unwrap();
    transaction.send(Record::to(TOPIC).partition(1).value("in a transaction")).wait().unwrap();
    match fork().unwrap() {
        Fork::Child => {
            let begun = Instant::now();
            drop((transaction, producer));
            std::process::exit(if begun.elapsed() < Duration::from_millis(4500) { 0 } else { 1 });
        }
        Fork::Parent(child) => assert_eq!(fork::waitpid(child).unwrap(), 0),
    }
    transaction.commit().unwrap();
    producer.close_timeout(BOUND).unwrap();
    // A cluster that the child inherits is not ended by it, nor is a producer that shares it. Of one of them there is nothing
    // else: its producer has gone, and its connection is there still.
    let lone = Cluster::builder(address.split(',')).build().unwrap();
    let asks = |cluster: &Cluster| {
        let producer = Producer::on(cluster).max_block(Duration::from_secs(4)).idempotence(false).build().unwrap();
        assert!(producer.partitions_for("no.such.topic").unwrap_err().code().is_some());
        producer.close_timeout(BOUND).unwrap();
    };
    asks(&lone);
    let cluster = Cluster::builder(address.split(',')).build().unwrap();
    let producer = || Producer::on(&cluster).max_block(Duration::from_secs(4)).build().unwrap();
    let (one, other) = (producer(), producer());
    one.send(Record::to(TOPIC).partition(1).value("shared")).wait().unwrap();
    let before = sockets();
    assert!(!before.is_empty());
    match fork().unwrap() {
        Fork::Child => {
            let begun = Instant::now();
            drop((lone, cluster, one));
            let closed = other.close_timeout(BOUND).is_ok();
            drop(other);
            std::process::exit(if closed && begun.elapsed() < Duration::from_millis(4500) { 0 } else { 1 });
        }
        Fork::Parent(child) => assert_eq!(fork::waitpid(child).unwrap(), 0),
    }
    // What is asked goes over the connection that there was.
    assert!(other.partitions_for("no.such.topic").unwrap_err().code().is_some());
    one.send(Record::to(TOPIC).partition(1).value("shared")).wait().unwrap();
    asks(&lone);
    assert_eq!(sockets(), before);
    drop((lone, cluster));
    other.close_timeout(BOUND).unwrap();
    one.close_timeout(BOUND).unwrap();
}

/// The sockets of this process, each by its own number.
fn sockets() -> BTreeSet<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()));
    targets.filter(|target| target.starts_with("socket:")).collect()
}

#[test]
fn a_forked_child_lets_go_of_a_producer_without_harm_to_its_parents() {
    if let Some(address) = address() {
        return forks(&address);
    }
    let cluster = FakeCluster::builder().topic(TOPIC, 3).start().unwrap();
    assert_success(&run(
        "a_forked_child_lets_go_of_a_producer_without_harm_to_its_parents",
        &cluster.bootstrap().join(","),
    ));
    assert_eq!(cluster.records(TOPIC, 0).unwrap().len(), 4);
    assert_eq!(cluster.refusals(), Vec::<String>::new());
}

#[test]
fn a_forked_child_lets_go_of_a_producer_of_real_kafka() {
    if let Some(address) = address() {
        return forks(&address);
    }
    let cluster = kafka::shared_three();
    cluster.admin().create_topic(TOPIC, 3, 3, &[]);
    assert_success(&run("a_forked_child_lets_go_of_a_producer_of_real_kafka", &cluster.bootstrap().join(",")));
    let read = cluster.admin().read(TOPIC);
    assert_eq!(read.iter().filter(|record| record.partition == 0).count(), 4);
}

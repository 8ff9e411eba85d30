//! The harness for real servers, tried on itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::net::TcpStream;
use std::time::Instant;

use support::jars::{Version, major_version};
use support::kafka::{Cluster, Options};
use support::{process, tools};

#[test]
fn java_versions_old_and_new_are_read() {
    assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
    assert_eq!(major_version("java version \"1.8.0_392\""), Some(8));
    assert_eq!(major_version("openjdk version \"25\" 2025-09-16"), Some(25));
    assert_eq!(major_version("no java here"), None);
}

#[test]
fn a_single_broker_starts_serves_the_tools_and_leaves_nothing() {
    let begin = Instant::now();
    let cluster = Cluster::start(Options::single(Version::V4_3));
    eprintln!("4.3.1, one broker: {:?}", begin.elapsed());
    let begin = Instant::now();
    tools::topics(&cluster, &["--create", "--topic", "by-tool", "--partitions", "3"]);
    eprintln!("kafka-topics: {:?}", begin.elapsed());
    let begin = Instant::now();
    let admin = cluster.admin();
    eprintln!("Java helper: {:?}", begin.elapsed());
    let begin = Instant::now();
    admin.create_topic("by-helper", 2, 1, &["retention.ms=3600000"]);
    eprintln!("topic by the helper: {:?}", begin.elapsed());
    let mut topics = admin.topics();
    topics.sort();
    assert_eq!(topics, ["by-helper", "by-tool"]);
    assert_eq!(admin.describe("by-tool").len(), 3);
    assert_eq!(admin.leader("by-helper", 1), 1);
    assert_eq!(admin.end_offsets("by-helper"), [0, 0]);
    assert_eq!(admin.read("by-helper"), []);
    assert!(admin.try_describe("missing").unwrap_err().contains("UnknownTopicOrPartition"));

    let (pid, address, directory) =
        (cluster.pid(0).unwrap(), cluster.bootstrap()[0].clone(), cluster.directory().to_owned());
    assert!(process::exists(pid));
    drop(cluster);
    assert!(!process::exists(pid));
    assert!(TcpStream::connect(address).is_err());
    assert!(!directory.exists());
}

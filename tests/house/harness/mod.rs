//! The harness for real servers, tried on itself.

// Tests may panic: that is how they fail.

mod ledger;
mod proxy;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::admin::Isolation;
use crate::support::jars::{Version, major_version};
use crate::support::kafka::{Cluster, LOCK_HELD, Options, Port, shared_single};
use crate::support::proxy::{Counts, Cut, Fault, PRODUCE};
use crate::support::{process, tools, wait_for};

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(120);

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
    wait_for("the topics", LIMIT, || {
        let mut topics = admin.topics();
        topics.sort();
        (topics == ["by-helper", "by-tool"]).then_some(())
    });
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

#[test]
fn three_brokers_are_killed_stopped_ended_and_restarted() {
    let begin = Instant::now();
    let cluster = Cluster::start(Options::three(Version::V4_3));
    eprintln!("4.3.1, three brokers: {:?}", begin.elapsed());
    let admin = cluster.admin();
    admin.create_topic_on("t", &[&[1, 2, 3], &[2, 3, 1]]);
    let in_sync = |count: usize| {
        wait_for("the in-sync replicas", LIMIT, || {
            let partitions = admin.try_describe("t").ok()?;
            partitions.iter().all(|partition| partition.in_sync.len() == count).then_some(())
        });
    };
    in_sync(3);
    admin.elect_preferred_leaders("t");
    wait_for("the preferred leaders", LIMIT, || ((admin.leader("t", 0), admin.leader("t", 1)) == (1, 2)).then_some(()));

    let begin = Instant::now();
    let (victim, pid) = (cluster.node_of(1), cluster.pid(0).unwrap());
    cluster.kill(victim);
    assert!(!process::exists(pid));
    assert_eq!(cluster.pid(victim), None);
    wait_for("a new leader", LIMIT, || admin.try_describe("t").ok()?[0].leader.filter(|leader| *leader != 1));
    eprintln!("killed, new leader: {:?}", begin.elapsed());
    let begin = Instant::now();
    cluster.restart(victim);
    eprintln!("restarted: {:?}", begin.elapsed());
    in_sync(3);
    admin.elect_preferred_leaders("t");
    wait_for("the preferred leader", LIMIT, || (admin.leader("t", 0) == 1).then_some(()));

    // A stopped broker keeps its port, answers nothing, and loses its place among the replicas until it goes on.
    cluster.stop(1);
    assert!(TcpStream::connect(&cluster.bootstrap()[1]).is_ok());
    in_sync(2);
    cluster.cont(1);
    in_sync(3);

    let begin = Instant::now();
    let status = cluster.terminate(2);
    eprintln!("ended in order ({status}): {:?}", begin.elapsed());
    in_sync(2);
    cluster.restart(2);
    in_sync(3);
    admin.reassign("t", 0, &[3, 1]);
    wait_for("the other replicas", LIMIT, || (admin.describe("t")[0].replicas == [3, 1]).then_some(()));
}

#[test]
fn every_version_starts_and_keeps_a_topic() {
    for version in [Version::V3_9, Version::V2_8, Version::V0_11] {
        let begin = Instant::now();
        let cluster = Cluster::start(Options::single(version));
        eprintln!("{}, one broker: {:?}", version.number(), begin.elapsed());
        cluster.admin().create_topic("t", 2, 1, &[]);
        assert_eq!(cluster.admin().leader("t", 1), 1);
        assert_eq!(cluster.admin().read("t"), []);
        let begin = Instant::now();
        cluster.restart(0);
        eprintln!("{}, restarted: {:?}", version.number(), begin.elapsed());
        assert_eq!(cluster.admin().leader("t", 0), 1);
    }
}

#[test]
fn what_java_wrote_is_read_back_by_each_reader() {
    let cluster = Cluster::start(Options::single(Version::V4_3).authorizer());
    let admin = cluster.admin();
    admin.create_topic("t", 1, 1, &[]);
    admin.create_topic("big", 4, 1, &[]);
    let before = now_ms();
    let payloads = cluster.directory().join("payloads");
    std::fs::write(&payloads, "one\ntwo\n").unwrap();
    perf(&cluster, "t", 10, &["--payload-file", payloads.to_str().unwrap()]);

    let records = admin.read("t");
    let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    for record in &records {
        assert!((before..=now_ms()).contains(&record.timestamp_ms));
        assert_eq!((&*record.topic, record.partition, record.timestamp_type), ("t", 0, 0));
        assert!(matches!(record.value.as_deref(), Some(b"one" | b"two")));
        assert_eq!((&record.key, record.headers.len()), (&None, 0));
    }
    assert_eq!(admin.end_offsets("t"), [10]);

    let console = tools::console_consumer(&cluster, "t", 10, &[]);
    assert_eq!(console.len(), 10);
    for (printed, record) in console.iter().zip(&records) {
        assert_eq!(printed.value.as_bytes(), record.value.as_deref().unwrap());
        assert_eq!(printed.timestamp, format!("CreateTime:{}", record.timestamp_ms));
        assert_eq!((printed.offset, printed.partition), (record.offset, record.partition));
        assert_eq!((printed.key.as_str(), printed.headers.as_str()), ("null", "NO_HEADERS"));
    }
    assert!(tools::dump_log(&cluster, 0, "t", 0).contains("payload: two"));

    perf(&cluster, "big", 1_000_000, &["--record-size", "100"]);
    let begin = Instant::now();
    let mut bytes = 0;
    let count = admin.read_with(&["t", "big"], Isolation::Committed, LIMIT, |record| {
        bytes += record.value.unwrap().len();
    });
    eprintln!("1,000,010 records read back: {:?}", begin.elapsed());
    assert_eq!((count, bytes), (1_000_010, 100_000_030));

    admin.delete_records("t", 0, 4);
    assert_eq!(admin.read("t")[0].offset, 4);
    tools::configs(
        &cluster,
        &["--alter", "--entity-type", "topics", "--entity-name", "t", "--add-config", "retention.ms=9"],
    );
    admin.configure_topic("t", &["retention.ms=", "max.message.bytes=5000"]);
    admin.configure_broker(None, &["message.max.bytes=2000000"]);
    admin.set_quota("slow", &["producer_byte_rate=1000"]);
    admin.add_partitions("t", 3);
    assert_eq!(admin.describe("t").len(), 3);

    // One denial, and writing is over; the rest stays possible because it is allowed in so many words.
    admin.add_acl("t", "User:ANONYMOUS", "All", true);
    admin.add_acl("t", "User:ANONYMOUS", "Write", false);
    let denied = perf_output(&cluster, "t", 1, &["--record-size", "10"]);
    assert!((denied.stdout + &denied.stderr).contains("TopicAuthorizationException"));
    assert_eq!(admin.read("t").len(), 6);
    let listed = tools::acls(&cluster, &["--list", "--topic", "t"]);
    assert!(listed.contains("operation=WRITE, permissionType=DENY"), "{listed}");
    admin.remove_acl("t", "User:ANONYMOUS", "Write", false);
    perf(&cluster, "t", 1, &["--record-size", "10"]);
    assert_eq!(admin.read("t").len(), 7);
    admin.delete_topic("t");
    wait_for("the deletion", LIMIT, || (!admin.topics().contains(&"t".to_owned())).then_some(()));
}

#[test]
fn a_proxied_broker_is_reached_through_its_proxy_alone() {
    let cluster = Cluster::start(Options::single(Version::V4_3).proxied());
    cluster.admin().create_topic("t", 1, 1, &[]);
    let proxy = cluster.proxy(0);
    assert_eq!(proxy.counts(), Counts::default(), "Java's tools pass by");
    assert_eq!(cluster.bootstrap(), [proxy.address().to_string()]);

    // Java's producer with idempotence gets every third acknowledgement lost; nothing is doubled.
    proxy.inject(PRODUCE, 3, Fault::LoseAnswer(Cut::Reset));
    let bootstrap = cluster.bootstrap()[0].clone();
    let arguments = ["--bootstrap-server", &bootstrap, "--topic", "t", "--num-records", "2000"];
    let arguments = [&arguments[..], &["--throughput", "-1", "--record-size", "1000"]].concat();
    let output = tools::run(&cluster, "org.apache.kafka.tools.ProducerPerformance", &arguments, LIMIT);
    assert!(output.success, "{output:?}");
    let counts = proxy.counts();
    eprintln!("{counts:?}");
    assert!(counts.answers_lost > 5, "{counts:?}");
    assert!(counts.requests[&PRODUCE] >= counts.responses[&PRODUCE]);
    assert_eq!(cluster.admin().end_offsets("t"), [2000]);
}

#[test]
fn a_broker_is_gone_after_its_test_process_was_killed() {
    let (reader, writer) = std::io::pipe().unwrap();
    // Running servers needs a lock, which this process has and the child inherits in this way.
    let _cluster = Cluster::start(Options::single(Version::V4_3));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::starts_a_broker_and_waits_to_be_killed", "--ignored", "--nocapture"])
        .env(LOCK_HELD, "1")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid: u32 = BufReader::new(reader)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split("broker pid ").nth(1)?.parse().ok())
        .expect("the child tells its broker's pid");
    assert!(process::exists(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    wait_for("the broker's end", LIMIT, || (!process::exists(pid)).then_some(()));
    eprintln!("gone after {:?}", begin.elapsed());
}

/// What the test above runs in a child.
#[test]
#[ignore = "waits to be killed"]
fn starts_a_broker_and_waits_to_be_killed() {
    // A static, which nobody drops. It is not stopped: the kernel ends the stopped processes of an orphaned group by
    // itself, and the test would prove nothing.
    let cluster = shared_single();
    println!("\nbroker pid {}", cluster.pid(0).unwrap());
    std::thread::sleep(10 * LIMIT);
}

#[test]
fn a_port_stays_reserved_while_a_server_comes_and_goes() {
    let port = Port::reserve();
    for _ in 0..3 {
        assert!(TcpStream::connect(port.address).is_err());
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&port.address.into()).unwrap();
        socket.listen(1).unwrap();
        assert!(TcpStream::connect(port.address).is_ok());
    }
}

fn perf(cluster: &Cluster, topic: &str, count: usize, arguments: &[&str]) {
    let output = perf_output(cluster, topic, count, arguments);
    assert!(output.success, "{output:?}");
}

fn perf_output(cluster: &Cluster, topic: &str, count: usize, arguments: &[&str]) -> tools::Output {
    let (bootstrap, count) = (cluster.internal_bootstrap(), count.to_string());
    let fixed = ["--bootstrap-server", &bootstrap, "--topic", topic, "--num-records", &count, "--throughput", "-1"];
    let arguments = [&fixed, arguments].concat();
    tools::run(cluster, "org.apache.kafka.tools.ProducerPerformance", &arguments, 2 * LIMIT)
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

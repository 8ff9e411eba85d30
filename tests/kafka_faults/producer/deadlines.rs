//! Outages that outlast the delivery timeout, and clusters that come back elsewhere.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{MetadataRecovery, Producer, ProducerBuilder, Record, Written};

use super::load::{Flow, Load};
use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::proxy::Proxy;
use crate::support::wait_for;
use crate::{LIMIT, await_in_sync, sound_cluster, turn};

const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest that a record may take to its end: on a busy machine some seconds more than the timeout. Every outage that
/// it shall not wait for is longer.
const TOLD: Duration = Duration::from_secs(11);

fn impatient(bootstrap: Vec<String>) -> ProducerBuilder {
    Producer::builder(bootstrap).delivery_timeout(DELIVERY_TIMEOUT).request_timeout(Duration::from_secs(2))
}

#[test]
fn a_broker_that_stops_for_longer_than_the_delivery_timeout() {
    const STOPPED: Duration = Duration::from_secs(13);
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.expiry").partitions(3).threads(3).until_the_end(3_000);
    let ids: Vec<i32> = (0..3).map(|node| cluster.broker_id(node)).collect();
    // One replica each: what the stopped broker leads can go nowhere.
    cluster.admin().create_topic_on(load.topic(), &[&ids[0..1], &ids[1..2], &ids[2..3]]);
    cluster.admin().configure_topic(load.topic(), &["min.insync.replicas=1"]);
    let mut stops = 0;
    let script = |flow: &Flow, _: &Producer| {
        for node in [1, 2] {
            flow.await_acked(flow.acked() + 3_000);
            cluster.stop(node);
            stops += 1;
            thread::sleep(STOPPED);
            // What lies in its sockets is dealt with now, though nobody waits for it any more.
            flow.mark([node]);
            cluster.cont(node);
            flow.await_recovery();
        }
        thread::sleep(Duration::from_secs(1));
    };
    let outcome = load.run(cluster, impatient(cluster.bootstrap()), u64::MAX, script);
    outcome.print("stopped beyond the delivery timeout", format_args!("{stops} stops of {STOPPED:?}"));
    outcome.report.assert_safe();
    assert!(outcome.report.unknown > 0 && outcome.report.failed > 0, "{}", outcome.report);
    assert!(outcome.metrics.batches_expired > 0 && outcome.metrics.epoch_bumps + outcome.metrics.connections_lost > 0);
    assert!(outcome.longest_delivery <= TOLD, "a record took {:?}", outcome.longest_delivery);
}

/// An outage ends while some batches of a partition have expired and later ones, which were sent as well, have not: the
/// sequence has a hole, and what may have been written cannot be sent again under another epoch.
#[test]
fn batches_of_unknown_outcome_behind_an_expired_one() {
    const OUTAGES: u64 = 12;
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.holes").partitions(3).threads(3).until_the_end(3_000).create(cluster);
    let (request_timeout, delivery_timeout) = (Duration::from_millis(600), Duration::from_millis(1_000));
    let mut outages = 0;
    let script = |flow: &Flow, _: &Producer| {
        flow.await_acked(1_000);
        // Not every outage ends at the right moment.
        while outages < OUTAGES || !flow.has_failed_with("OutOfSequence") {
            assert!(outages < 20 * OUTAGES, "no outage ended at the right moment");
            // Late answers, so that what is in flight has been accepted at different times.
            (0..3).for_each(|node| cluster.proxy(node).delay(Duration::from_millis(150), Duration::ZERO));
            thread::sleep(Duration::from_millis(700));
            (0..3).for_each(|node| cluster.proxy(node).blackhole(true));
            // About as long as the oldest of them has.
            thread::sleep(Duration::from_millis(650 + 25 * (outages % OUTAGES)));
            outages += 1;
            flow.mark(0..3);
            // The held back requests go on to the brokers, while the producer comes with new connections.
            (0..3).for_each(|node| cluster.proxy(node).pass());
            flow.await_recovery();
        }
        thread::sleep(Duration::from_secs(1));
    };
    let builder = Producer::builder(cluster.bootstrap())
        .request_timeout(request_timeout)
        .delivery_timeout(delivery_timeout)
        .linger(Duration::from_millis(40))
        .retry_backoff(Duration::from_millis(10))
        .reconnect_backoff(Duration::from_millis(10));
    let outcome = load.run(cluster, builder, u64::MAX, script);
    outcome.print("expired batches before unknown ones", format_args!("{outages} outages"));
    outcome.report.assert_safe();
    assert!(outcome.metrics.batches_expired > 0);
    assert!(outcome.longest_delivery <= TOLD, "a record took {:?}", outcome.longest_delivery);
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    // The second field, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // USER_HZ is 100 wherever Linux runs.
    Duration::from_millis(ticks * 10)
}

#[test]
fn all_brokers_dead_for_longer_than_the_delivery_timeout() {
    const WATCHED: Duration = Duration::from_secs(8);
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.all-dead").until_the_end(500).create(cluster);
    let attempts =
        || -> u64 { (0..3).map(|node| cluster.proxy(node).counts()).map(|c| c.brokerless + c.connections).sum() };
    let (mut cpu, mut connections, mut watched) = (Duration::ZERO, 0, WATCHED);
    let script = |flow: &Flow, _: &Producer| {
        flow.await_acked(500);
        for node in 0..3 {
            cluster.kill(node);
        }
        // Every record that was on its way, and some that are sent meanwhile, come to their end.
        thread::sleep(DELIVERY_TIMEOUT + Duration::from_secs(1));
        let (begin, cpu_before, connections_before) = (Instant::now(), cpu_time(), attempts());
        thread::sleep(WATCHED);
        (cpu, connections) = (cpu_time() - cpu_before, attempts() - connections_before);
        watched = begin.elapsed();
        for node in 0..3 {
            cluster.spawn(node);
        }
        flow.mark(0..12);
        for node in 0..3 {
            cluster.wait_ready(node);
        }
        await_in_sync(cluster, load.topic());
        flow.await_recovery();
        thread::sleep(Duration::from_secs(1));
    };
    let outcome = load.run(cluster, impatient(cluster.bootstrap()), u64::MAX, script);
    let share = 100.0 * cpu.as_secs_f64() / watched.as_secs_f64();
    let faults = format!("3 kills; while all were dead: CPU {share:.1} %, {connections} connections in {watched:.1?}");
    outcome.print("all brokers dead", faults);
    outcome.report.assert_safe();
    assert!(outcome.report.failed > 0, "{}", outcome.report);
    assert!(outcome.longest_delivery <= TOLD, "a record took {:?}", outcome.longest_delivery);
    // Three senders and the metadata thread, each of which waits up to a second between its attempts.
    assert!(connections <= 12 * (watched.as_secs() + 1), "{connections} connections in {watched:?}");
    assert!(share < 15.0, "{share:.1} % of a processor while nothing could be done");
}

/// Has the broker advertise another address from its next start on.
fn advertise(cluster: &Cluster, from: &Proxy, to: &Proxy) {
    let file = cluster.directory().join(format!("broker-{}.properties", cluster.broker_id(0)));
    let text = fs::read_to_string(&file).unwrap();
    let (old, new) = (format!("//{},", from.address()), format!("//{},", to.address()));
    assert_eq!(text.matches(&old).count(), 1);
    fs::write(&file, text.replace(&old, &new)).unwrap();
}

/// The address that the broker itself listens on for clients.
fn listener(cluster: &Cluster) -> std::net::SocketAddr {
    let file = cluster.directory().join(format!("broker-{}.properties", cluster.broker_id(0)));
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with("listeners=")).unwrap();
    line.trim_start_matches("listeners=PLAINTEXT://").split(',').next().unwrap().parse().unwrap()
}

#[test]
fn a_cluster_that_moved_is_found_by_its_bootstrap_address() {
    let _turn = turn();
    let cluster = Cluster::start(Options::single(Version::V4_3).proxied());
    // The address of old and new; the broker advertises another, and later a third.
    let bootstrap = Proxy::start(listener(&cluster));
    let servers = vec![bootstrap.address().to_string()];
    let stubborn = impatient(servers.clone())
        .delivery_timeout(Duration::from_secs(10))
        .metadata_recovery(MetadataRecovery::None)
        .build()
        .unwrap();
    // A topic of its own: its records are none of the ledger's.
    cluster.admin().create_topic("faults.stubborn", 1, 1, &[]);
    let send = |producer: &Producer| producer.send(Record::to("faults.stubborn").partition(0).value("x")).wait();
    let load = Load::new("faults.rebootstrap").partitions(3).threads(2).until_the_end(500).create(&cluster);
    let elsewhere = Proxy::start(listener(&cluster));
    let mut took = Duration::MAX;
    let script = |flow: &Flow, _: &Producer| {
        send(&stubborn).unwrap();
        flow.await_acked(500);
        cluster.kill(0);
        cluster.proxy(0).refuse(true);
        advertise(&cluster, cluster.proxy(0), &elsewhere);
        thread::sleep(Duration::from_secs(1));
        cluster.spawn(0);
        cluster.wait_ready(0);
        let begin = Instant::now();
        flow.mark(0..3);
        flow.await_recovery();
        took = begin.elapsed();
        // One that keeps to the brokers it knew finds nobody, so it was the bootstrap address that helped.
        let error = send(&stubborn).unwrap_err();
        assert_eq!(error.written(), Some(Written::No), "{error}");
    };
    let outcome = load.run(&cluster, Producer::builder(servers), u64::MAX, script);
    outcome.print("rebootstrap", format_args!("the broker moved; found again {took:.2?} after it served"));
    outcome.assert_all_delivered();
    wait_for("connections at the new address", LIMIT, || (elsewhere.counts().connections > 0).then_some(()));
}

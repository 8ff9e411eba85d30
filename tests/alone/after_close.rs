//! A producer that has ended leaves neither threads nor sockets. The only test of its binary, because it counts what
//! the process has.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Cluster, Producer, ProducerBuilder, Record};
use socket2::{Domain, SockAddr, Socket, Type};
use support::kafka::Port;
use support::{kafka, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// The names of the client's threads; the kernel keeps 15 bytes of each.
fn threads() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("kafka-"))
        .collect();
    names.sort();
    names
}

fn sockets() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    links
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn a_closed_producer_leaves_neither_threads_nor_sockets() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("left", 4, 1, &[]);
    assert_eq!(threads(), [""; 0]);
    let before = sockets();
    // A thread that was joined is still listed for a moment, while the kernel clears up.
    let nothing_is_left = |what: &str| {
        wait_for(what, SOON, || (threads().is_empty() && sockets() == before).then_some(()));
    };
    let builder = || Producer::builder(cluster.bootstrap());
    let use_it = |builder: ProducerBuilder| {
        let producer = builder.build().unwrap();
        for number in 0..100 {
            producer.send_with(Record::to("left").partition(number % 4).value("v"), |result| {
                result.unwrap();
            });
        }
        producer
    };

    let producer = use_it(builder());
    producer.flush_timeout(SOON).unwrap();
    let expected = ["kafka-callbacks", "kafka-identity", "kafka-metadata", "kafka-reader-1", "kafka-sender-1"];
    // A thread that has had nothing to do may not have its name yet.
    wait_for("all threads", SOON, || {
        let names: BTreeSet<String> = threads().into_iter().collect();
        names.iter().map(String::as_str).eq(expected).then_some(())
    });
    assert!(sockets() >= before + 2);
    producer.close_timeout(SOON).unwrap();
    nothing_is_left("the end after close");
    drop(producer);
    nothing_is_left("the end after the drop of a closed one");

    drop(use_it(builder()));
    nothing_is_left("the end after a drop");
    builder().build().unwrap().close_timeout(SOON).unwrap();
    nothing_is_left("the end after a close without use");
    drop(builder().build().unwrap());
    nothing_is_left("the end after a drop without use");

    let several: Vec<Producer> = (0..5).map(|_| use_it(builder())).collect();
    thread::scope(|scope| {
        for producer in &several {
            scope.spawn(|| producer.close_timeout(SOON).unwrap());
        }
    });
    nothing_is_left("the end after five closes at once");

    // Producers that share a cluster have one thread for metadata, and the last handle ends it.
    let shared = Cluster::builder(cluster.bootstrap()).build().unwrap();
    let metadata_threads = || threads().iter().filter(|name| *name == "kafka-metadata").count();
    for drops_first in [true, false] {
        let shared = shared.clone();
        let several: Vec<Producer> = (0..3).map(|_| use_it(Producer::on(&shared))).collect();
        for producer in &several {
            producer.flush_timeout(SOON).unwrap();
        }
        assert_eq!(metadata_threads(), 1);
        if drops_first {
            drop(shared);
        }
        drop(several);
        assert_eq!(metadata_threads(), 1);
    }
    let last = use_it(Producer::on(&shared));
    drop(shared);
    last.flush_timeout(SOON).unwrap();
    assert_eq!(metadata_threads(), 1);
    last.close_timeout(SOON).unwrap();
    nothing_is_left("the end after the last one that shared a cluster");

    // With nothing behind it.
    let nobody = Port::reserve();
    let with_port = sockets();
    let producer =
        Producer::builder([nobody.address.to_string()]).max_block(Duration::from_millis(300)).build().unwrap();
    producer.send(Record::to("left").value("v")).wait().unwrap_err();
    producer.close_timeout(SOON).unwrap();
    wait_for("the end after refused connections", SOON, || {
        (threads().is_empty() && sockets() == with_port).then_some(())
    });
    drop(nobody);

    // A broker that stands still while the producer closes.
    let producer = use_it(builder());
    producer.flush_timeout(SOON).unwrap();
    cluster.stop(0);
    let undelivered = producer.send(Record::to("left").value("v"));
    let begin = Instant::now();
    let lost = producer.close_timeout(Duration::from_millis(300));
    let took = begin.elapsed();
    nothing_is_left("the end after a close that gave up");
    cluster.cont(0);
    assert_eq!(lost.unwrap_err().records(), 1);
    undelivered.wait().unwrap_err();
    // It would wait for the request timeout of 30 s.
    assert!(took < Duration::from_secs(20), "{took:?}");

    // A connection that is being made cannot be broken off; it ends with its own time.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&address, Duration::from_millis(200));
        held.push(socket);
        if connected.is_err() {
            break;
        }
    }
    let producer = Producer::builder([address.as_socket().unwrap().to_string()])
        .connection_setup_timeout(Duration::from_secs(8))
        .max_block(Duration::from_millis(300))
        .build()
        .unwrap();
    producer.send(Record::to("left").value("v")).wait().unwrap_err();
    let begin = Instant::now();
    producer.close_timeout(Duration::from_millis(100)).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop((held, listener));
    wait_for("the end of the last attempt to connect", SOON, || {
        (threads().is_empty() && sockets() == before).then_some(())
    });
}

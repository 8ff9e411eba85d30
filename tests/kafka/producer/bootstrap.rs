//! How a producer finds its cluster, and keeps in touch with it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Acks, BrokerId, Error, ErrorKind, Producer, Record, Timeout, TopicPartition, partitioner};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options, Port, shared_single};
use crate::support::proxy::{Cut, Fault, METADATA, Proxy};
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

/// A listener on a free port that notes each visit and does `serve` with it.
fn listener(name: &'static str, visits: &Arc<Mutex<Vec<&'static str>>>, serve: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let visits = Arc::clone(visits);
    thread::spawn(move || {
        for stream in listener.incoming() {
            visits.lock().unwrap().push(name);
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn read_some(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
}

#[test]
fn bootstrap_servers_are_tried_in_order_until_one_answers_with_metadata() {
    let cluster = shared_single();
    cluster.admin().create_topic("order-of-servers", 1, 1, &[]);
    let visits = Arc::new(Mutex::new(Vec::new()));
    let refused = Port::reserve();
    let servers = [
        refused.address.to_string(),
        listener("closes", &visits, drop),
        listener("closes after a request", &visits, |mut stream| read_some(&mut stream)),
        listener("garbage", &visits, |mut stream| {
            read_some(&mut stream);
            let _ = stream.write_all(&[0, 0, 0, 20].into_iter().chain([0xA5; 20]).collect::<Vec<u8>>());
            read_some(&mut stream);
        }),
        listener("half an answer", &visits, |mut stream| {
            read_some(&mut stream);
            let _ = stream.write_all(&[0, 0, 1, 0, 0, 0, 0, 0]);
        }),
        listener("HTTP", &visits, |mut stream| {
            read_some(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            read_some(&mut stream);
        }),
        cluster.bootstrap().remove(0),
        listener("never needed", &visits, drop),
    ];
    // Without an identity there is one thread that asks, and the visits are its alone.
    let producer = Producer::builder(servers).idempotence(false).build().unwrap();
    let begin = Instant::now();
    assert_eq!(producer.send(Record::to("order-of-servers").value("v")).wait().unwrap().offset().unwrap(), 0);
    // None of them is waited for until the request timeout of 30 s.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    producer.close_timeout(SOON).unwrap();
    let expected = ["closes", "closes after a request", "garbage", "half an answer", "HTTP"];
    assert_eq!(*visits.lock().unwrap(), expected);
}

#[test]
fn a_server_that_fails_to_give_metadata_is_passed_over() {
    let cluster = shared_single();
    cluster.admin().create_topic("passed-over", 1, 1, &[]);
    let real = cluster.bootstrap().remove(0);
    let proxy = Proxy::start(real.parse().unwrap());
    proxy.inject(METADATA, 1, Fault::LoseAnswer(Cut::Fin));
    let hanging = Proxy::start(real.parse().unwrap());
    hanging.never_answer(true);
    let servers = [proxy.address().to_string(), hanging.address().to_string(), real];
    let producer =
        Producer::builder(servers).idempotence(false).request_timeout(Duration::from_secs(5)).build().unwrap();
    assert_eq!(producer.send(Record::to("passed-over").value("v")).wait().unwrap().offset().unwrap(), 0);
    assert_eq!(proxy.counts().answers_lost, 1);
    // Once, or again on a machine that stands still for as long as a request may take.
    assert!(hanging.counts().unanswered >= 1);
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn the_cluster_may_come_later_and_the_last_failure_is_told_meanwhile() {
    let cluster = shared_single();
    cluster.admin().create_topic("late", 3, 1, &[]);
    let proxy = Proxy::start(cluster.bootstrap()[0].parse().unwrap());
    proxy.refuse(true);
    let producer = Producer::builder([proxy.address().to_string()]).build().unwrap();
    let limit = Duration::from_secs(3);
    let error = producer.connect_timeout(limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata));
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(cause.kind(), ErrorKind::Network, "{error:?}");
    assert_eq!(cause.context().address.as_deref(), Some(&*proxy.address().to_string()));
    thread::scope(|scope| {
        let sending = scope.spawn(|| producer.send(Record::to("late").partition(2).value("v")).wait());
        proxy.refuse(false);
        assert_eq!(sending.join().unwrap().unwrap().offset().unwrap(), 0);
    });
    producer.connect_timeout(SOON).unwrap();
    let partitions = producer.partitions_for("late").unwrap();
    let names: Vec<TopicPartition> = partitions.iter().map(|info| info.partition.clone()).collect();
    assert_eq!(names, [0, 1, 2].map(|index| TopicPartition::new("late", index)));
    for info in partitions {
        assert_eq!(info.leader, Some(BrokerId(1)));
        assert_eq!((info.replicas, info.in_sync_replicas), (vec![BrokerId(1)], vec![BrokerId(1)]));
    }
    producer.close_timeout(SOON).unwrap();
}

/// `localhost` may mean ::1 first; the broker listens on 127.0.0.1 alone.
#[test]
fn localhost_reaches_a_broker_that_listens_on_ipv4_only() {
    let cluster = shared_single();
    cluster.admin().create_topic("localhost", 1, 1, &[]);
    let port = cluster.bootstrap()[0].rsplit_once(':').unwrap().1.to_owned();
    let producer = Producer::builder([format!("localhost:{port}")]).build().unwrap();
    assert_eq!(producer.send(Record::to("localhost").value("v")).wait().unwrap().offset().unwrap(), 0);
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn partitions_that_are_added_under_load_are_used() {
    let cluster = shared_single();
    cluster.admin().create_topic("growing", 1, 1, &[]);
    let producer = Producer::builder(cluster.bootstrap())
        .metadata_max_age(Duration::from_millis(300))
        .partitioner(partitioner::round_robin())
        .build()
        .unwrap();
    let seen = Mutex::new(BTreeSet::new());
    let done = AtomicBool::new(false);
    let sent = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let metadata = producer.send(Record::to("growing").value("v")).wait().unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
                seen.lock().unwrap().insert(metadata.partition());
            }
        });
        wait_for("the load", SOON, || (seen.lock().unwrap().len() == 1).then_some(()));
        cluster.admin().add_partitions("growing", 4);
        wait_for("the new partitions", SOON, || (seen.lock().unwrap().len() == 4).then_some(()));
        done.store(true, Ordering::Relaxed);
    });
    producer.close_timeout(SOON).unwrap();
    let ends: i64 = cluster.admin().end_offsets("growing").iter().sum();
    assert_eq!(ends, sent.into_inner() as i64, "each once");

    // A record that names a new partition does not wait for the metadata's age.
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    producer.send(Record::to("growing").partition(3).value("v")).wait().unwrap();
    cluster.admin().add_partitions("growing", 6);
    wait_for("the sixth partition", SOON, || producer.send(Record::to("growing").partition(5).value("v")).wait().ok());
    producer.close_timeout(SOON).unwrap();
}

/// Passes connections on to the broker, whose address is known only once it runs.
struct Forwarder {
    address: SocketAddr,
    shared: Arc<Forwarded>,
}

#[derive(Default)]
struct Forwarded {
    target: OnceLock<SocketAddr>,
    accepted: AtomicUsize,
    ended_by_broker: AtomicUsize,
    /// Those over which records were sent: how many the client has not ended, and how many the broker has.
    producing: AtomicUsize,
    refused_by_broker: AtomicUsize,
    /// What each connection began with.
    beginnings: Mutex<Vec<Vec<u8>>>,
}

impl Forwarder {
    fn start(address: &str) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Forwarded::default());
        let forwarded = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let forwarded = Arc::clone(&forwarded);
                thread::spawn(move || forwarded.serve(&client.unwrap()));
            }
        });
        Some(Self { address, shared })
    }

    fn count(&self, which: fn(&Forwarded) -> &AtomicUsize) -> usize {
        which(&self.shared).load(Ordering::SeqCst)
    }
}

impl Forwarded {
    fn serve(&self, client: &TcpStream) {
        let broker = TcpStream::connect(self.target.get().unwrap()).unwrap();
        for stream in [client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let produced = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                copy(&broker, client, |_| {});
                let _ = client.shutdown(Shutdown::Write);
                if produced.load(Ordering::SeqCst) {
                    self.refused_by_broker.fetch_add(1, Ordering::SeqCst);
                }
                self.ended_by_broker.fetch_add(1, Ordering::SeqCst);
            });
            let mut first = true;
            copy(client, &broker, |bytes| {
                if std::mem::take(&mut first) {
                    self.beginnings.lock().unwrap().push(bytes.to_vec());
                }
                // The key of Produce, where a request begins.
                if bytes.get(4..6) == Some(&[0, 0]) && !produced.swap(true, Ordering::SeqCst) {
                    self.producing.fetch_add(1, Ordering::SeqCst);
                }
            });
            if produced.load(Ordering::SeqCst) {
                self.producing.fetch_sub(1, Ordering::SeqCst);
            }
            let _ = broker.shutdown(Shutdown::Write);
        });
    }
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[test]
fn a_broker_that_is_known_by_an_ipv6_address_closes_idle_connections_and_throttles() {
    let forwarder = Forwarder::start("[::1]:0").unwrap_or_else(|| {
        eprintln!("this kernel is without IPv6; the rest of the test runs on IPv4");
        Forwarder::start("127.0.0.1:0").unwrap()
    });
    let options = Options::single(Version::V4_3)
        .advertised(&forwarder.address.to_string())
        .property("connections.max.idle.ms", "10000")
        .property("quota.window.num", "2");
    let cluster = Cluster::start(options);
    forwarder.shared.target.set(cluster.bootstrap()[0].parse().unwrap()).unwrap();
    cluster.admin().create_topic("t", 1, 1, &[]);

    the_client_introduces_itself_to_a_broker_on_ipv6(&forwarder);
    an_idle_connection_is_closed_and_made_again(&forwarder);
    a_connection_that_the_broker_closed_for_idleness_costs_no_record(&forwarder);
    a_brokers_throttling_is_honoured(&cluster, &forwarder);
    a_record_without_acks_is_not_written_into_a_closed_connection(&cluster, &forwarder);
    assert_eq!(cluster.admin().end_offsets("t"), [cluster.admin().read("t").len() as i64]);
}

/// KIP-511: the broker's metrics name the client's software.
fn the_client_introduces_itself_to_a_broker_on_ipv6(forwarder: &Forwarder) {
    let producer = Producer::builder([forwarder.address.to_string()]).client_id("me").build().unwrap();
    assert_eq!(producer.send(Record::to("t").value("v")).wait().unwrap().offset().unwrap(), 0);
    producer.close_timeout(SOON).unwrap();
    let beginnings = forwarder.shared.beginnings.lock().unwrap();
    assert!(beginnings.len() >= 2, "metadata and records have connections of their own");
    let version = env!("CARGO_PKG_VERSION");
    let mut expected = vec![15];
    expected.extend(b"kafka-blocking");
    expected.push(version.len() as u8 + 1);
    expected.extend(version.as_bytes());
    for bytes in beginnings.iter() {
        assert_eq!(bytes[4..6], [0, 18], "the first request is ApiVersions");
        assert_eq!(bytes[12..16], [0, 2, b'm', b'e'], "the client id");
        assert!(bytes.windows(expected.len()).any(|window| window == expected), "{bytes:?}");
    }
}

fn an_idle_connection_is_closed_and_made_again(forwarder: &Forwarder) {
    let producer = Producer::builder([forwarder.address.to_string()])
        .connections_max_idle(Duration::from_millis(500))
        .build()
        .unwrap();
    let first = producer.send(Record::to("t").value("v")).wait().unwrap().offset().unwrap();
    wait_for("the end of the idle connection", SOON, || (forwarder.count(|f| &f.producing) == 0).then_some(()));
    // By the client's will: the broker is slower, and what it ends is lost.
    assert_eq!(producer.send(Record::to("t").value("v")).wait().unwrap().offset().unwrap(), first + 1);
    let metrics = producer.metrics();
    assert_eq!((metrics.connections_made, metrics.connections_lost, metrics.batches_retried), (2, 0, 0), "{metrics:?}");
    producer.close_timeout(SOON).unwrap();
}

fn a_connection_that_the_broker_closed_for_idleness_costs_no_record(forwarder: &Forwarder) {
    let producer = Producer::builder([forwarder.address.to_string()]).build().unwrap();
    let first = producer.send(Record::to("t").value("v")).wait().unwrap().offset().unwrap();
    wait_for("the broker to close every connection", SOON, || {
        (forwarder.count(|f| &f.ended_by_broker) == forwarder.count(|f| &f.accepted)).then_some(())
    });
    let begin = Instant::now();
    for offset in first + 1..first + 4 {
        assert_eq!(producer.send(Record::to("t").value("v")).wait().unwrap().offset().unwrap(), offset);
    }
    // None of them waits until the request timeout of 30 s.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(producer.metrics().connections_made, 2);
    producer.close_timeout(SOON).unwrap();
}

/// KIP-219: the broker answers at once and says how long to be silent. A client that speaks all the same waits for
/// its answer as long, so that short requests beside a long whole show who did the waiting.
fn a_brokers_throttling_is_honoured(cluster: &Cluster, forwarder: &Forwarder) {
    const RATE: f64 = 40_000.0;
    cluster.admin().set_quota("slow", &[&format!("producer_byte_rate={RATE}")]);
    let producer = Producer::builder([forwarder.address.to_string()]).client_id("slow").build().unwrap();
    let other = Producer::builder([forwarder.address.to_string()]).client_id("fast").build().unwrap();
    let send = |producer: &Producer| producer.send(Record::to("t").value(vec![b'x'; 8000])).wait().unwrap();
    wait_for("the quota", SOON, || {
        send(&producer);
        (producer.metrics().throttled > Duration::ZERO).then_some(())
    });
    let before = producer.metrics();
    let begin = Instant::now();
    let records = 30;
    for _ in 0..records {
        send(&producer);
    }
    let took = begin.elapsed();
    let metrics = producer.metrics();
    let rate = f64::from(records) * 8000.0 / took.as_secs_f64();
    assert!(rate < 1.5 * RATE, "{rate} bytes per second");
    assert!(metrics.throttled > before.throttled, "{metrics:?}");
    // Each record takes 200 ms of the quota.
    let quick = Duration::from_millis(120);
    let latency = metrics.request_latency.quantile(0.5);
    assert!(latency < quick, "requests waited instead: {metrics:?}");
    for _ in 0..records {
        send(&other);
    }
    assert_eq!(other.metrics().throttled, Duration::ZERO);
    let latency = other.metrics().request_latency.quantile(0.5);
    assert!(latency < quick, "another client is held back: {:?}", other.metrics());
    producer.close_timeout(SOON).unwrap();
    other.close_timeout(SOON).unwrap();
}

/// With acks=0 a broker refuses by closing the connection. Records sent once that can be seen are not lost with it.
fn a_record_without_acks_is_not_written_into_a_closed_connection(cluster: &Cluster, forwarder: &Forwarder) {
    cluster.admin().create_topic("without-acks", 1, 1, &["max.message.bytes=1000"]);
    let producer =
        Producer::builder([forwarder.address.to_string()]).idempotence(false).acks(Acks::None).build().unwrap();
    for round in 1..=5 {
        let ended = forwarder.count(|f| &f.refused_by_broker);
        producer.send(Record::to("without-acks").value([b'x'; 5000])).wait().unwrap();
        wait_for("the refusal", SOON, || (forwarder.count(|f| &f.refused_by_broker) > ended).then_some(()));
        producer.send(Record::to("without-acks").value("v")).wait().unwrap();
        wait_for("the record", SOON, || (cluster.admin().end_offsets("without-acks") == [round]).then_some(()));
    }
    producer.close_timeout(SOON).unwrap();
}

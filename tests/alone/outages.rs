//! What an operator who sees warnings alone learns of an outage: that it begins, what it is, that it goes on, that it ends.
//!
//! The log is the process's; each test looks at the lines that name its own topics, brokers or client.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::net::TcpListener;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, ErrorCode, ErrorKind, Producer, ProducerBuilder, Record, Timeout};
use log::Level;

const SOON: Duration = Duration::from_secs(60);
const BROKER: BrokerId = BrokerId(1);

struct Collecting;

static LOGGED: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());
static ONCE: Once = Once::new();

impl log::Log for Collecting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

fn collect() {
    ONCE.call_once(|| {
        log::set_logger(&Collecting).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// The warnings that contain `part`.
fn warnings(part: &str) -> Vec<String> {
    let logged = LOGGED.lock().unwrap();
    let warnings = logged.iter().filter(|(level, text)| *level <= Level::Warn && text.contains(part));
    warnings.map(|(_, text)| text.clone()).collect()
}

/// How many lines of `level` contain all of `parts`.
fn lines(level: Level, parts: &[&str]) -> usize {
    let logged = LOGGED.lock().unwrap();
    logged.iter().filter(|(at, text)| *at == level && parts.iter().all(|part| text.contains(part))).count()
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain until {what}: {:#?}", LOGGED.lock().unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn quick(cluster: &FakeCluster) -> ProducerBuilder {
    let (short, long) = (Duration::from_millis(5), Duration::from_millis(20));
    Producer::builder(cluster.bootstrap())
        .linger(Duration::from_millis(1))
        .retry_backoff(short)
        .retry_backoff_max(long)
        .reconnect_backoff(short)
        .reconnect_backoff_max(long)
}

fn one_topic(name: &str, partitions: usize) -> FakeCluster {
    collect();
    FakeCluster::builder().topic(name, partitions).start().unwrap()
}

fn send(producer: &Producer, topic: &str) -> Delivery {
    producer.send(Record::to(topic).partition(0).value("v"))
}

#[test]
fn a_broker_that_is_away_is_warned_of_when_that_begins_and_ends_and_not_at_every_attempt() {
    let cluster = one_topic("away", 1);
    let address = cluster.address(BROKER);
    let producer = quick(&cluster).build().unwrap();
    send(&producer, "away").wait().unwrap();
    cluster.kill(BROKER);
    let waiting = send(&producer, "away");
    let attempts =
        |what: &str| [Level::Warn, Level::Debug].map(|level| lines(level, &[what, &address])).iter().sum::<usize>();
    until("there were many attempts", || {
        attempts("no connection, attempt") > 100 && attempts("no metadata from") > 100
    });
    for what in ["no connection, attempt", "no metadata from"] {
        let warned = lines(Level::Warn, &[what, &address]);
        // One at once, and one more after ten, twenty, forty seconds.
        assert!((1..=4).contains(&warned), "{warned} warnings of {} attempts: {what}", attempts(what));
    }
    assert!(lines(Level::Warn, &["no connection, attempt", &address, "refused"]) > 0, "the cause is told");
    cluster.restart(BROKER).unwrap();
    waiting.wait().unwrap();
    let ended = |parts: &[&str]| lines(Level::Warn, parts) == 1;
    until("the end is told", || ended(&["connected again after", &address]));
    until("the end is told", || lines(Level::Warn, &["metadata comes again, after"]) >= 1);
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_first_server_that_hangs_is_warned_of_while_others_are_still_asked() {
    collect();
    // It takes connections and says nothing.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung_at = hung.local_addr().unwrap().to_string();
    let cluster = FakeCluster::builder().topic("behind-a-hung-server", 1).start().unwrap();
    let address = cluster.address(BROKER);
    cluster.kill(BROKER);
    let time = Duration::from_millis(100);
    let servers = [hung_at.clone(), address.clone()];
    let producer = quick(&cluster)
        .bootstrap_servers(servers)
        .connection_setup_timeout(time)
        .connection_setup_timeout_max(time)
        .build()
        .unwrap();
    let sending = std::thread::spawn({
        let producer = producer.clone();
        move || send(&producer, "behind-a-hung-server").wait()
    });
    until("the hung server is told of", || lines(Level::Warn, &["no metadata from", &hung_at]) == 1);
    until("the other is asked", || lines(Level::Debug, &["no metadata from", &address]) > 0);
    cluster.restart(BROKER).unwrap();
    sending.join().unwrap().unwrap();
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn the_first_retry_of_a_partition_is_a_warning_and_its_end_is_told() {
    let cluster = one_topic("retried", 1);
    let producer = quick(&cluster).build().unwrap();
    send(&producer, "retried").wait().unwrap();
    assert!(warnings("retried-0").is_empty());
    let fault = cluster.fail_produce("retried", ErrorCode::NOT_ENOUGH_REPLICAS, 30);
    send(&producer, "retried").wait().unwrap();
    assert_eq!(fault.fired(), 30);
    until("the end is told", || warnings("retried-0: acknowledged again after 30 failed attempts").len() == 1);
    let told = warnings("retried-0: to be sent again");
    assert!((1..=4).contains(&told.len()), "{told:#?}");
    assert!(told[0].contains("NOT_ENOUGH_REPLICAS"), "{told:#?}");
    assert!(told[0].contains(&format!("broker 1 at {}", cluster.address(BROKER))), "{told:#?}");
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn what_a_partition_has_met_is_forgotten_when_it_has_nothing_left() {
    let cluster = one_topic("left", 2);
    let producer = quick(&cluster).request_timeout(Duration::from_millis(500)).build().unwrap();
    let on = |partition| producer.send(Record::to("left").partition(partition).value("v"));
    (0..2).for_each(|partition| drop(on(partition).wait().unwrap()));
    let fault = cluster.fail_produce("left", ErrorCode::NOT_ENOUGH_REPLICAS, 1);
    let refused = cluster.fail_produce("left", ErrorCode::INVALID_RECORD, 1);
    assert_eq!(on(0).wait().unwrap_err().code(), Some(ErrorCode::INVALID_RECORD));
    assert_eq!((fault.fired(), refused.fired()), (1, 1));
    // It is no reason why another one is late, and no outage of its own that would end with the next record.
    let hung = cluster.inject(On::produce(), Fault::Hang);
    let late = on(1);
    let error = producer.flush_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::Flush), None), "{error:#}");
    late.wait().unwrap();
    assert_eq!(hung.fired(), 1);
    on(0).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    assert!(warnings("left-0: acknowledged again").is_empty());
}

#[test]
fn many_partitions_that_meet_the_same_are_one_warning() {
    let cluster = one_topic("many", 50);
    let producer = quick(&cluster).linger(Duration::from_secs(60)).build().unwrap();
    let on_all = || -> Vec<Delivery> {
        (0..50).map(|partition| producer.send(Record::to("many").partition(partition).value("v"))).collect()
    };
    let first = on_all();
    producer.flush_timeout(SOON).unwrap();
    assert!(first.iter().all(Delivery::is_done));
    let fault = cluster.inject(On::produce().topic("many"), Fault::CutBefore);
    let sent = on_all();
    producer.flush_timeout(SOON).unwrap();
    for delivery in sent {
        delivery.wait().unwrap();
    }
    assert_eq!(fault.fired(), 1);
    until("the ends are told", || !warnings("acknowledged again after").iter().all(|line| !line.contains("many-")));
    let told: Vec<_> = warnings("to be sent again").into_iter().filter(|line| line.contains("many-")).collect();
    // All that was in flight when the connection was cut, which may have been in a few requests.
    assert_eq!(told.len(), 1, "{told:#?}");
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_coordinator_that_refuses_is_warned_of_when_that_begins_and_ends() {
    let cluster = one_topic("coordinated", 1);
    let producer = quick(&cluster).transactional_id("refused").build().unwrap();
    producer.init_transactions().unwrap();
    let error = Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let fault = cluster.inject(On::api(Api::EndTxn).times(100), error);
    let sent = || {
        producer.in_transaction(|transaction| -> kafka_blocking::Result<()> {
            transaction.send(Record::to("coordinated").partition(0).value("v"));
            Ok(())
        })
    };
    sent().unwrap();
    assert_eq!(fault.fired(), 100);
    // One at once, and one more after ten, twenty, forty seconds; and the end.
    let ended = r#"transactional id "refused": its coordinators carry out requests again"#;
    until("the end is told", || warnings(ended).len() == 1);
    let at = format!("broker 1 at {}", cluster.address(BROKER));
    let told = lines(Level::Warn, &[r#"transactional id "refused""#, "COORDINATOR_LOAD_IN_PROGRESS", &at]);
    assert!((1..=4).contains(&told), "{told} warnings of 100 refusals");
    // One is usual, and not worth a warning.
    let before = warnings(r#"transactional id "refused""#).len();
    let fault = cluster.inject(On::api(Api::EndTxn), Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    sent().unwrap();
    assert_eq!((fault.fired(), warnings(r#"transactional id "refused""#).len()), (1, before));
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn close_flush_and_full_memory_tell_what_the_partition_met() {
    let cluster = one_topic("kept", 1);
    let producer =
        quick(&cluster).buffer_memory(40_000).batch_size(10_000).max_block(Duration::from_millis(300)).build().unwrap();
    send(&producer, "kept").wait().unwrap();
    cluster.fall_below_min_in_sync("kept").unwrap();
    let sent = send(&producer, "kept");
    until("it is sent again", || producer.metrics().batches_retried > 7);
    let code = Some(ErrorCode::NOT_ENOUGH_REPLICAS);

    let error = producer.flush_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::Flush), code), "{error:#}");
    assert!(error.to_string().contains("1 batches were not acknowledged"), "{error}");

    let value = vec![b'x'; 9_000];
    let mut held = Vec::new();
    let error = loop {
        let delivery = producer.send(Record::to("kept").partition(0).value(&value));
        match delivery.try_wait() {
            Some(result) => break result.unwrap_err(),
            None => held.push(delivery),
        }
        assert!(held.len() < 10, "the memory has no end");
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::BufferMemory), code), "{error:#}");
    let text = error.to_string();
    // The record's own size, which is 9,000 bytes and a little.
    assert!(text.contains("a record of up to 90") && text.contains("max_block of 300ms"), "{text}");
    assert_eq!(error.context().limit, Some(("buffer_memory", 40_000)));

    let undelivered = producer.close_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(undelivered.records(), 1 + held.len() as u64);
    let causes: Vec<_> = undelivered.causes().values().map(kafka_blocking::Error::code).collect();
    assert_eq!(causes, [code], "{undelivered:?}");
    for delivery in held.iter().chain([&sent]) {
        let error = delivery.try_wait().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, code), "{error:#}");
    }
    let error = kafka_blocking::Error::from(undelivered);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::Close), code));
    let text = format!("{error:#}");
    assert_eq!(text.matches("the producer was closed before").count(), 1, "{text}");
    assert!(text.contains("NOT_ENOUGH_REPLICAS"), "{text}");
}

#[test]
fn dropping_a_producer_logs_what_was_not_delivered_and_why() {
    let cluster = one_topic("dropped", 1);
    let producer = quick(&cluster).build().unwrap();
    send(&producer, "dropped").wait().unwrap();
    cluster.fall_below_min_in_sync("dropped").unwrap();
    send(&producer, "dropped").detach();
    until("it is sent again", || producer.metrics().batches_retried > 0);
    drop(producer);
    let told: Vec<_> = warnings("the producer was closed before 1 records").into_iter().collect();
    let told: Vec<_> = told.iter().filter(|line| line.contains("dropped-0 (1)")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("NOT_ENOUGH_REPLICAS"), "{told:?}");
}

#[test]
fn the_warning_of_a_batch_with_refused_records_has_the_brokers_reason() {
    collect();
    let cluster = FakeCluster::builder().topic_with("compacted", 1, [("cleanup.policy", "compact")]).start().unwrap();
    let producer = quick(&cluster).linger(Duration::from_secs(60)).build().unwrap();
    let keyed = producer.send(Record::to("compacted").partition(0).key("k").value("v"));
    let bare = producer.send(Record::to("compacted").partition(0).value("v"));
    let (keyed, bare) = (keyed.wait().unwrap_err(), bare.wait().unwrap_err());
    assert_eq!((keyed.code(), bare.code()), (Some(ErrorCode::INVALID_RECORD), Some(ErrorCode::INVALID_RECORD)));
    until("the failure is told", || !warnings("compacted-0").is_empty());
    let told = warnings("compacted-0");
    assert_eq!(told.len(), 1, "{told:#?}");
    let reason = bare.to_string();
    let reason = reason.split(" (partition").next().unwrap();
    let count = "2 records failed, of which the broker refuses 1; record 1";
    assert!(told[0].contains(reason) && told[0].contains(count), "{told:#?} without {reason}");
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn the_warning_of_an_expired_batch_has_the_cause() {
    let cluster = one_topic("expired", 1);
    let (request, delivery) = (Duration::from_millis(200), Duration::from_millis(500));
    let producer = quick(&cluster).request_timeout(request).delivery_timeout(delivery).build().unwrap();
    send(&producer, "expired").wait().unwrap();
    cluster.kill(BROKER);
    let error = send(&producer, "expired").wait().unwrap_err();
    let told =
        || -> Vec<_> { warnings("records failed").into_iter().filter(|line| line.contains("expired-0")).collect() };
    until("the failure is told", || !told().is_empty());
    let told = told();
    assert_eq!(told.len(), 1, "{told:#?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(told[0].contains(&cause), "{told:#?}: {cause}");
    cluster.restart(BROKER).unwrap();
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_port_that_just_closes_hints_at_what_it_may_want() {
    collect();
    let cause = |address: &str| {
        let producer = Producer::builder([address]).max_block(Duration::from_millis(500)).build().unwrap();
        let mut text = String::new();
        // On a machine that stands still no attempt may have ended in time.
        until("there is a cause", || {
            let error = send(&producer, "t").wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata), "{error}");
            text = format!("{error:#}");
            std::error::Error::source(&error).is_some()
        });
        producer.close_timeout(SOON).unwrap();
        text
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // As a listener for TLS does once it has seen that the first bytes are none.
            let mut stream = stream.unwrap();
            drop(std::io::Read::read(&mut stream, &mut [0; 1000]));
        }
    });
    let text = cause(&address);
    assert!(text.contains("TLS") && text.contains(&address), "{text}");

    let cluster = one_topic("t", 1);
    let fault = cluster.inject(On::api(Api::Metadata).always(), Fault::CutBefore);
    let text = cause(&cluster.address(BROKER));
    assert!(fault.fired() > 0);
    assert!(text.contains("SASL") && !text.contains("TLS does"), "{text}");
}

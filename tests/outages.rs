//! What is logged of an outage: when it begins, now and then, and when it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]

use std::net::TcpListener;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{BrokerId, Producer, Record};

const SOON: Duration = Duration::from_secs(60);

static LOGGED: Mutex<Vec<(log::Level, String)>> = Mutex::new(Vec::new());

struct Collecting;

impl log::Log for Collecting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines of a level that have this text.
fn lines(level: log::Level, text: &str) -> Vec<String> {
    let logged = LOGGED.lock().unwrap();
    logged.iter().filter(|(of, line)| *of == level && line.contains(text)).map(|(_, line)| line.clone()).collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}: {:?}", LOGGED.lock().unwrap());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_outage_is_told_when_it_begins_ever_more_seldom_and_when_it_ends() {
    log::set_logger(&Collecting).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let cluster = FakeCluster::start(1).unwrap();
    let broker = cluster.address(BrokerId(1));
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung_at = hung.local_addr().unwrap().to_string();
    cluster.kill(BrokerId(1));
    let attempts = Duration::from_millis(100);
    let producer = Producer::builder([hung_at.clone(), broker.clone()])
        .idempotence(false)
        .connection_setup_timeout(attempts)
        .connection_setup_timeout_max(attempts)
        .retry_backoff(Duration::from_millis(5))
        .retry_backoff_max(Duration::from_millis(5))
        .build()
        .unwrap();
    let sent = thread::spawn({
        let producer = producer.clone();
        move || producer.send(Record::to("t").value("v")).wait()
    });
    until("the outage is told", || !lines(log::Level::Warn, &hung_at).is_empty());
    // The text ends with the attempt's number and its cause.
    until("the sixteenth attempt", || !lines(log::Level::Warn, "attempt 16:").is_empty());
    let told = lines(log::Level::Warn, "no metadata");
    let place = told.iter().position(|line| line.contains("attempt 16:"));
    assert_eq!(place, Some(4), "the beginning, and attempts 2, 4, 8 and 16: {told:?}");
    cluster.restart(BrokerId(1)).unwrap();
    cluster.create_topic("t", 1).unwrap();
    sent.join().unwrap().unwrap();
    assert_eq!(lines(log::Level::Info, "metadata comes").len(), 1);
    producer.close(SOON).unwrap();
}

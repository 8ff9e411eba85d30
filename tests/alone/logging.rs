//! A program whose logger sends every line of this crate to Kafka, through the very producer that says it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{ErrorKind, Producer, ProducerBuilder, Record, Recovery, Timeout};

/// Longer than anything here takes, and far shorter than `max_block`.
const BOUND: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 200;
const HOUR: Duration = Duration::from_secs(3600);
/// The thread whose logger panics when it is told of a request, and with what.
const UNLUCKY: &str = "unlucky";
const PANIC: &str = "the logger panics, for the test";

/// Sends what it is told, waits for it, and sends it to a topic that nobody has asked for before.
struct Logger {
    producer: Mutex<Option<Producer>>,
    /// The beginnings of the lines that it was told, and what came of waiting for a record in it.
    told: Mutex<Vec<String>>,
    waits: Mutex<BTreeSet<String>>,
}

static LOGGER: Logger =
    Logger { producer: Mutex::new(None), told: Mutex::new(Vec::new()), waits: Mutex::new(BTreeSet::new()) };

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if thread::current().name() == Some(UNLUCKY) {
            assert!(!record.args().to_string().contains("with 1 batches"), "{PANIC}");
        }
        let Some(producer) = locked(&self.producer).clone() else { return };
        if !record.target().starts_with("kafka_blocking") || record.target().contains("testing") {
            return;
        }
        let line = record.args().to_string();
        let number = {
            let mut told = locked(&self.told);
            told.push(line.clone());
            told.len()
        };
        let value = vec![b'x'; 2000];
        // Each partition needs a sender when it is first written to.
        let partition = i32::try_from(number % PARTITIONS).unwrap();
        let sent = producer.send(Record::to("log").partition(partition).key(line.as_str()).value(&*value));
        // Not for ever: what is found out of such a topic is told as well.
        if number <= 10 {
            drop(producer.send(Record::to(format!("unknown.{number}")).value("v")));
        }
        let text = match sent.wait_timeout(HOUR) {
            None => "on its way".to_owned(),
            Some(result) => format!("{:?}", result.map_err(|error| error.kind()).err()),
        };
        locked(&self.waits).insert(text);
        if let Err(error) = sent.wait() {
            locked(&self.waits).insert(format!("{:?} {:?}", error.kind(), error.recovery()));
        }
    }

    fn flush(&self) {}
}

/// Runs `work` while the logger sends through `producer`, until it was told the lines with `parts`. Nobody may hang.
fn logging_through(producer: &Producer, parts: &[&str], work: impl FnOnce() + Send + 'static) {
    log::set_max_level(log::LevelFilter::Debug);
    *locked(&LOGGER.producer) = Some(producer.clone());
    let (done, when_done) = channel();
    let worker = thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    let ended = when_done.recv_timeout(BOUND);
    assert!(ended.is_ok(), "it hangs after {:#?}", locked(&LOGGER.told));
    worker.join().unwrap();
    // A line may be told a moment after what it tells.
    let deadline = Instant::now() + BOUND;
    for part in parts {
        while !locked(&LOGGER.told).iter().any(|line| line.contains(part)) {
            assert!(Instant::now() < deadline, "nobody said {part:?}: {:#?}", locked(&LOGGER.told));
            thread::sleep(Duration::from_millis(1));
        }
    }
    locked(&LOGGER.told).clear();
    // Its last clone; the producer stays the test's.
    drop(locked(&LOGGER.producer).take());
}

fn builder(cluster: &FakeCluster) -> ProducerBuilder {
    let ms = Duration::from_millis;
    Producer::builder(cluster.bootstrap())
        .linger(ms(1))
        .retry_backoff(ms(5))
        .reconnect_backoff(ms(5))
        .reconnect_backoff_max(ms(40))
        .max_block(HOUR)
}

/// One test, for a process has one logger.
#[test]
fn a_logger_may_send_through_the_producer_that_logs() {
    log::set_logger(&LOGGER).unwrap();
    a_panic_of_the_logger();
    connections_and_topics();
    used_up_memory();
    transactions();
    let waits = locked(&LOGGER.waits);
    assert!(waits.contains("on its way"), "{waits:?}");
    // What it could not have waited for without end.
    assert!(waits.contains(&format!("{:?} {:?}", ErrorKind::Misuse, Recovery::Fix)), "{waits:?}");
    assert!(waits.contains("Some(WouldBlock)"), "{waits:?}");
}

/// A waiting thread that has written its request has the reading half of the connection when it tells of that.
fn a_panic_of_the_logger() {
    log::set_max_level(log::LevelFilter::Trace);
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let producer = builder(&cluster).build().unwrap();
    let unlucky = {
        let producer = producer.clone();
        move || {
            let deadline = Instant::now() + BOUND;
            while Instant::now() < deadline {
                // The sender may have written it.
                producer.send(Record::to("t").value("v")).wait().unwrap();
            }
        }
    };
    let panic = thread::Builder::new().name(UNLUCKY.to_owned()).spawn(unlucky).unwrap().join().unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(PANIC));
    let after = producer.send(Record::to("t").value("after it")).wait_timeout(BOUND);
    assert!(after.unwrap().is_ok(), "its own panic is that thread's alone");
}

fn connections_and_topics() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 2).topic("log", PARTITIONS).start().unwrap();
    let producer = builder(&cluster).build().unwrap();
    producer.partitions_for("log").unwrap();
    logging_through(
        &producer.clone(),
        &["the connection ended", "was deleted and created again", "NOT_LEADER_OR_FOLLOWER"],
        {
            let producer = producer.clone();
            move || {
                for round in 0..5 {
                    for broker in cluster.brokers() {
                        cluster.cut_connections(broker);
                    }
                    cluster.recreate_topic("t").unwrap();
                    let fault = cluster.inject(
                        On::produce().topic("t"),
                        Fault::Error(kafka_blocking::ErrorCode::NOT_LEADER_OR_FOLLOWER),
                    );
                    let sent: Vec<_> = (0..2)
                        .map(|partition| producer.send(Record::to("t").partition(partition).value(format!("{round}"))))
                        .collect();
                    for delivery in sent {
                        delivery.wait_timeout(BOUND).unwrap().unwrap();
                    }
                    assert!(fault.fired() > 0);
                }
            }
        },
    );
    producer.close_timeout(Duration::from_secs(1)).ok();
}

/// The sender itself says that records have failed, while there is no memory for what the logger sends.
fn used_up_memory() {
    let cluster = FakeCluster::builder().topic("t", 1).topic("log", PARTITIONS).start().unwrap();
    let producer = builder(&cluster)
        .buffer_memory(40_000)
        .batch_size(2000)
        .max_request_size(20_000)
        .request_timeout(Duration::from_secs(2))
        .delivery_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    producer.partitions_for("log").unwrap();
    producer.partitions_for("t").unwrap();
    for broker in cluster.brokers() {
        cluster.pause(broker);
    }
    let value = vec![b'v'; 1500];
    let sent: Vec<_> = std::iter::from_fn(|| producer.try_send(Record::to("t").value(&*value)).ok()).collect();
    assert!(sent.len() > 5);
    logging_through(&producer.clone(), &["records failed"], {
        move || {
            for delivery in sent {
                delivery.wait_timeout(BOUND).unwrap().unwrap_err();
            }
        }
    });
    for broker in cluster.brokers() {
        cluster.resume(broker);
    }
    producer.close_timeout(Duration::from_secs(1)).ok();
}

fn transactions() {
    let cluster = FakeCluster::builder().topic("t", 1).topic("log", PARTITIONS).start().unwrap();
    let producer = builder(&cluster).transactional_id("tx").build().unwrap();
    producer.init_transactions().unwrap();
    let transaction = producer.transaction().unwrap();
    transaction.send(Record::to("t").value("v"));
    logging_through(
        &producer.clone(),
        &["a transaction was dropped without commit or abort", "the producer is closed while a transaction is open"],
        {
            let producer = producer.clone();
            move || {
                // It is said while the transaction is left, and while the producer closes.
                drop(transaction);
                producer.begin_transaction().unwrap();
                producer.close_timeout(Duration::from_secs(1)).ok();
            }
        },
    );

    let producer = builder(&cluster).transactional_id("in.doubt").max_block(Duration::from_secs(3)).build().unwrap();
    producer.init_transactions().unwrap();
    let transaction = producer.transaction().unwrap();
    transaction.send(Record::to("t").value("v")).wait().unwrap();
    let fault = cluster.inject(On::api(Api::EndTxn), Fault::Hang);
    let in_doubt = transaction.commit().unwrap_err();
    assert_eq!((in_doubt.error().kind(), fault.fired()), (ErrorKind::Timeout(Timeout::Transaction), 1));
    logging_through(&producer, &["a transaction whose commit has no outcome yet was dropped"], move || drop(in_doubt));
    cluster.clear_faults();
    producer.close_timeout(Duration::from_secs(1)).ok();
}

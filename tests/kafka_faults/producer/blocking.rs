//! What blocks, for how long at most, and what becomes of records when the cluster does not answer: a real Kafka is
//! stopped (SIGSTOP), or its proxy holds everything back.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{
    Delivery, Error, ErrorKind, Producer, ProducerBuilder, Record, RecordMetadata, Result, Timeout, TopicPartition,
    Written,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::ledger::Ledger;
use crate::support::proxy::{Cut, Proxy};
use crate::support::wait_for;
use crate::turn;

const SOON: Duration = Duration::from_secs(60);

/// How late a call may be. What waits wrongly does so for half a minute or more.
const SLACK: Duration = Duration::from_secs(20);

/// The cluster of this file, for one test at a time, because they stop it. It goes on when the test is over.
struct Turn {
    cluster: &'static Cluster,
    stopped: bool,
    _turn: crate::Turn,
}

fn cluster() -> Turn {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let turn = turn();
    let cluster = CLUSTER.get_or_init(|| {
        let cluster = Cluster::shared(&Options::single(Version::V4_3).proxied());
        cluster.admin();
        cluster
    });
    Turn { cluster, stopped: false, _turn: turn }
}

impl Turn {
    fn stop(&mut self) {
        self.cluster.stop(0);
        self.stopped = true;
    }

    fn cont(&mut self) {
        self.cluster.cont(0);
        self.stopped = false;
    }

    fn proxy(&self) -> &Proxy {
        self.cluster.proxy(0)
    }

    fn topic(&self, name: &str, partitions: usize) {
        // A broker that was stopped for long is without a place in its cluster for a moment.
        let command = ["create", name, &partitions.to_string(), "1"];
        wait_for("the topic", SOON, || self.cluster.admin().try_run(&command).ok());
    }

    fn builder(&self) -> ProducerBuilder {
        Producer::builder(self.cluster.bootstrap())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.stopped {
            self.cont();
        }
        self.proxy().pass();
    }
}

/// Runs a call that may take `limit`, and says how long it took.
fn within<T>(what: &str, limit: Duration, call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    let took = begin.elapsed();
    assert!(took < limit + SLACK, "{what} took {took:?} of {limit:?}");
    result
}

fn kind<T>(result: Result<T, impl Into<Error>>) -> Option<ErrorKind> {
    result.err().map(|error| error.into().kind())
}

/// Sends until the buffer is full; the error of the first record that was refused.
fn fill(producer: &Producer, topic: &str, sent: &mut Vec<Delivery>) -> Error {
    for _ in 0..10_000 {
        let delivery = producer.send(Record::to(topic).value([b'x'; 1000]));
        if let Some(Err(error)) = delivery.try_wait() {
            return error;
        }
        sent.push(delivery);
    }
    panic!("the buffer never fills");
}

#[test]
fn send_waits_for_memory_at_most_max_block_and_a_refused_record_is_never_sent() {
    let mut turn = cluster();
    turn.topic("memory", 1);
    let max_block = Duration::from_millis(700);
    let producer = turn.builder().buffer_memory(100_000).max_block(max_block).build().unwrap();
    wait_for("the topic", SOON, || producer.partitions_for("memory").ok());
    turn.stop();
    let ledger = Ledger::new(1);
    let (mut sent, mut refused) = (Vec::new(), 0);
    while refused < 2 {
        let (ticket, value) = ledger.accept(0, "memory", Some(0), 1000);
        let begin = Instant::now();
        let delivery = within("send", max_block, || producer.send(Record::to("memory").value(value)));
        match delivery.try_wait() {
            None => sent.push((ticket, delivery)),
            Some(result) => {
                let error = result.unwrap_err();
                assert!(begin.elapsed() >= max_block, "{:?}", begin.elapsed());
                assert_eq!(
                    (error.kind(), error.written()),
                    (ErrorKind::Timeout(Timeout::BufferMemory), Some(Written::No))
                );
                assert_eq!(error.context().topic.as_deref(), Some("memory"));
                ledger.failed(ticket);
                refused += 1;
            }
        }
    }
    assert!(sent.len() > 10, "{} records fitted", sent.len());
    let metrics = producer.metrics();
    assert!(metrics.buffer_bytes_used <= metrics.buffer_bytes_total, "{metrics:?}");

    // Without waiting: what would have to wait is refused at once.
    assert_eq!(kind(producer.try_send(Record::to("memory").value([b'x'; 1000]))), Some(ErrorKind::WouldBlock));

    turn.cont();
    for (ticket, delivery) in sent {
        let metadata = delivery.wait().unwrap();
        ledger.acked(ticket, metadata.partition(), Some(metadata.offset().unwrap()));
    }
    wait_for("the memory", SOON, || (producer.metrics().buffer_bytes_used == 0).then_some(()));
    producer.close_timeout(SOON).unwrap();
    judge(&turn, &ledger);
}

#[test]
fn try_send_never_waits_for_a_topic_and_succeeds_once_it_is_known() {
    let turn = cluster();
    turn.topic("try", 1);
    let producer = turn.builder().build().unwrap();
    let first = within("try_send", Duration::ZERO, || {
        Error::from(producer.try_send(Record::to("try").value("first")).unwrap_err())
    });
    assert_eq!((first.kind(), first.written()), (ErrorKind::WouldBlock, Some(Written::No)));
    let sent = wait_for("the topic", SOON, || producer.try_send(Record::to("try").value("second")).ok()?.wait().ok());
    assert_eq!(sent.offset().unwrap(), 0);
    producer.close_timeout(SOON).unwrap();
    assert_eq!(turn.cluster.admin().end_offsets("try"), [1]);
}

#[test]
fn every_thread_that_waits_for_memory_goes_on_when_there_is_some() {
    const THREADS: u32 = 64;
    let mut turn = cluster();
    turn.topic("crowd", 1);
    let producer = turn.builder().buffer_memory(50_000).build().unwrap();
    producer.partitions_for("crowd").unwrap();
    turn.stop();
    let ledger = Ledger::new(THREADS as usize + 1);
    let deliver = |thread, send: &dyn Fn(Record<'_>) -> kafka_blocking::Result<Delivery>| {
        let (ticket, value) = ledger.accept(thread, "crowd", Some(0), 2000);
        (ticket, send(Record::to("crowd").value(value)))
    };
    let mut first = Vec::new();
    loop {
        let (ticket, delivery) = deliver(THREADS, &|record| Ok(producer.try_send(record)?));
        match delivery {
            Ok(delivery) => first.push((ticket, delivery)),
            refused => {
                ledger.failed(ticket);
                assert_eq!(kind(refused), Some(ErrorKind::WouldBlock));
                break;
            }
        }
    }
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (producer, ledger, deliver) = (&producer, &ledger, &deliver);
            scope.spawn(move || {
                for _ in 0..10 {
                    let (ticket, delivery) = deliver(thread, &|record| Ok(producer.send(record)));
                    let sent = delivery.unwrap().wait().unwrap();
                    ledger.acked(ticket, sent.partition(), Some(sent.offset().unwrap()));
                }
            });
        }
        wait_for("all threads to wait", SOON, || {
            (producer.metrics().threads_waiting_for_memory == u64::from(THREADS)).then_some(())
        });
        turn.cont();
    });
    for (ticket, delivery) in first {
        let sent = delivery.wait().unwrap();
        ledger.acked(ticket, sent.partition(), Some(sent.offset().unwrap()));
    }
    assert_eq!(producer.metrics().threads_waiting_for_memory, 0);
    producer.close_timeout(SOON).unwrap();
    judge(&turn, &ledger);
}

fn judge(turn: &Turn, ledger: &Ledger) {
    let records: Vec<_> = ledger.topics().iter().flat_map(|topic| turn.cluster.admin().read(topic)).collect();
    let value = |record: &crate::support::admin::Record| record.value.clone().unwrap();
    let all = records.iter().map(|record| (&*record.topic, record.partition, record.offset, value(record)));
    ledger.judge_all(all).assert_safe();
}

#[test]
fn close_wakes_threads_that_wait_for_memory() {
    let mut turn = cluster();
    turn.topic("closed-crowd", 1);
    let producer = turn.builder().buffer_memory(50_000).build().unwrap();
    producer.partitions_for("closed-crowd").unwrap();
    turn.stop();
    thread::scope(|scope| {
        let handles: Vec<_> = (0..60)
            .map(|_| scope.spawn(|| producer.send(Record::to("closed-crowd").value([b'x'; 2000])).wait()))
            .collect();
        wait_for("a waiting thread", SOON, || (producer.metrics().threads_waiting_for_memory > 0).then_some(()));
        let limit = Duration::from_millis(500);
        let lost = within("close", limit, || producer.close_timeout(limit)).unwrap_err();
        assert!(lost.records() > 0);
        // At once, and not when their own time is over.
        within("the end of the waiting", Duration::ZERO, || {
            for handle in handles {
                assert_eq!(kind(handle.join().unwrap()), Some(ErrorKind::Closed));
            }
        });
    });
}

#[test]
fn flush_ends_in_time_and_the_records_stay_on_their_way() {
    let mut turn = cluster();
    turn.topic("flushed", 2);
    let producer = turn.builder().linger(Duration::from_secs(60)).build().unwrap();
    producer.send(Record::to("flushed").value("connects")).wait().unwrap();
    turn.stop();
    let sent: Vec<Delivery> =
        (0..20).map(|number| producer.send(Record::to("flushed").partition(number % 2).value("v"))).collect();
    for limit in [Duration::ZERO, Duration::from_millis(600)] {
        let begin = Instant::now();
        let error = within("flush", limit, || producer.flush_timeout(limit)).unwrap_err();
        assert!(begin.elapsed() >= limit);
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Flush));
    }
    assert!(!sent.iter().any(Delivery::is_done));
    turn.cont();
    producer.flush_timeout(SOON).unwrap();
    for delivery in sent {
        assert!(delivery.is_done());
        delivery.wait().unwrap();
    }
    producer.close_timeout(SOON).unwrap();
    assert_eq!(turn.cluster.admin().end_offsets("flushed").iter().sum::<i64>(), 21);
}

#[test]
fn close_says_what_was_not_delivered_and_what_may_be_written() {
    let mut turn = cluster();
    turn.topic("undelivered", 3);
    // One request in flight with one record of each partition; the others stay in the client.
    let producer = turn.builder().max_in_flight(1).batch_size(0).linger(Duration::ZERO).build().unwrap();
    for partition in 0..3 {
        producer.send(Record::to("undelivered").partition(partition).value("known")).wait().unwrap();
    }
    turn.stop();
    let requests = producer.metrics().requests_sent;
    let counts = [(0, 4_u64), (1, 3), (2, 5)];
    let mut sent = Vec::new();
    for (partition, count) in counts {
        for number in 0..count {
            let record = Record::to("undelivered").partition(partition).value(format!("{partition}/{number}"));
            sent.push((format!("{partition}/{number}"), producer.send(record)));
        }
    }
    wait_for("a request", SOON, || (producer.metrics().requests_sent > requests).then_some(()));
    let limit = Duration::from_millis(500);
    let lost = within("close", limit, || producer.close_timeout(limit)).unwrap_err();
    let expected: BTreeMap<TopicPartition, u64> =
        counts.iter().map(|(partition, count)| (TopicPartition::new("undelivered", *partition), *count)).collect();
    assert_eq!((lost.records(), lost.partitions()), (12, &expected), "{lost}");
    assert!(lost.to_string().contains("undelivered-2 (5)"), "{lost}");
    let error = Error::from(lost);
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Close));

    let (mut maybe, mut never) = (Vec::new(), Vec::new());
    for (value, delivery) in sent {
        assert!(delivery.is_done());
        let error = delivery.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error:?}");
        assert_eq!(error.context().topic.as_deref(), Some("undelivered"), "{error:?}");
        match error.written() {
            Some(Written::No) => never.push(value),
            Some(Written::Maybe) => maybe.push(value),
            Some(Written::Yes) | None => panic!("{error:?}"),
        }
    }
    assert!(!maybe.is_empty() && !never.is_empty(), "{maybe:?} {never:?}");
    turn.cont();
    // The broker reads what had reached it, or not, but never what was reported as certainly not written.
    let second = turn.builder().build().unwrap();
    for partition in 0..3 {
        second.send(Record::to("undelivered").partition(partition).value("after")).wait().unwrap();
    }
    second.close_timeout(SOON).unwrap();
    for record in turn.cluster.admin().read("undelivered") {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        assert!(!never.contains(&value), "{value} was reported as not written");
    }
}

#[test]
fn dropping_handles_and_producer_delivers() {
    let turn = cluster();
    turn.topic("dropped", 2);
    let producer = turn.builder().linger(Duration::from_secs(60)).build().unwrap();
    let clone = producer.clone();
    for number in 0..50 {
        drop(producer.send(Record::to("dropped").partition(number % 2).value("v")));
    }
    drop(producer);
    assert_eq!(turn.cluster.admin().end_offsets("dropped"), [0, 0], "a clone keeps the producer");
    drop(clone);
    assert_eq!(turn.cluster.admin().end_offsets("dropped"), [25, 25]);
}

#[test]
fn a_closed_producer_refuses_and_may_be_closed_again() {
    let turn = cluster();
    turn.topic("closed", 1);
    let producer = turn.builder().build().unwrap();
    let before = producer.send(Record::to("closed").value("v"));
    producer.close_timeout(SOON).unwrap();
    assert_eq!(before.wait().unwrap().offset().unwrap(), 0);
    let at_once = Duration::ZERO;
    for name in ["closed", "never-seen"] {
        let record = || Record::to(name).value("v");
        let error = within("send", at_once, || producer.send(record()).wait()).unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(Written::No)), "{name}");
        assert_eq!(kind(producer.try_send(record())), Some(ErrorKind::Closed));
        let partitions = within("partitions_for", at_once, || producer.partitions_for(name));
        assert_eq!(kind(partitions), Some(ErrorKind::Closed));
    }
    let (told, tell) = channel();
    producer.send_with(Record::to("closed").value("v"), move |result| told.send(kind(result)).unwrap());
    assert_eq!(tell.recv_timeout(SOON).unwrap(), Some(ErrorKind::Closed));
    assert_eq!(kind(producer.connect_timeout(SOON)), Some(ErrorKind::Closed));
    within("flush", at_once, || producer.flush_timeout(SOON)).unwrap();
    within("close", at_once, || producer.close_timeout(SOON)).unwrap();
    within("close of a clone", at_once, || producer.clone().close_timeout(SOON)).unwrap();
    assert_eq!(turn.cluster.admin().end_offsets("closed"), [1]);
}

#[test]
fn a_callback_may_send_flush_and_close() {
    let turn = cluster();
    turn.topic("in-callback", 1);
    let producer = turn.builder().build().unwrap();
    let (told, tell) = channel();
    let inner = producer.clone();
    producer.send_with(Record::to("in-callback").value("first"), move |first| {
        let second = inner.send(Record::to("in-callback").value("second")).wait();
        let third = inner.send(Record::to("in-callback").value("third"));
        let flushed = inner.flush_timeout(SOON);
        let closed = inner.close_timeout(SOON);
        told.send((first, second, third.wait(), flushed, closed)).unwrap();
    });
    let (first, second, third, flushed, closed) = tell.recv_timeout(SOON).unwrap();
    assert_eq!([first, second, third].map(|result| result.unwrap().offset().unwrap()), [0, 1, 2]);
    flushed.unwrap();
    closed.unwrap();
    assert_eq!(kind(producer.send(Record::to("in-callback").value("late")).wait()), Some(ErrorKind::Closed));
}

#[test]
fn a_callback_may_close_while_another_thread_does() {
    let turn = cluster();
    turn.topic("two-closers", 1);
    let producer = turn.builder().build().unwrap();
    let (told, tell) = channel();
    let inner = producer.clone();
    producer.send_with(Record::to("two-closers").value("v"), move |_| {
        // The close of the other thread has begun when sends are refused, and waits for this callback.
        wait_for("the other close", SOON, || {
            (kind(inner.try_send(Record::to("two-closers"))) == Some(ErrorKind::Closed)).then_some(())
        });
        told.send(within("close in the callback", Duration::ZERO, || inner.close_timeout(SOON))).unwrap();
    });
    wait_for("the delivery", SOON, || (producer.metrics().records_acknowledged >= 1).then_some(()));
    within("close", Duration::ZERO, || producer.close_timeout(SOON)).unwrap();
    assert_eq!(tell.try_recv().unwrap(), Ok(()), "close has waited for the callback");
}

#[test]
fn a_delivery_can_be_asked_waited_for_or_called_back() {
    let mut turn = cluster();
    turn.topic("handle", 1);
    let producer = turn.builder().build().unwrap();
    producer.send(Record::to("handle").value("connects")).wait().unwrap();
    turn.stop();
    let waited = producer.send(Record::to("handle").value("1"));
    let called = producer.send(Record::to("handle").value("2"));
    let asked = producer.send(Record::to("handle").value("3"));
    assert!(waited.try_wait().is_none() && !waited.is_done());
    let limit = Duration::from_millis(300);
    let begin = Instant::now();
    assert!(within("wait_timeout", limit, || waited.wait_timeout(limit)).is_none());
    assert!(begin.elapsed() >= limit);
    let (told, tell) = channel();
    let early = told.clone();
    called.on_complete(move |result: Result<RecordMetadata>| early.send(result.unwrap().offset().unwrap()).unwrap());
    assert!(tell.try_recv().is_err());
    turn.cont();
    assert_eq!(waited.wait_timeout(SOON).unwrap().unwrap().offset().unwrap(), 1);
    assert_eq!(tell.recv_timeout(SOON).unwrap(), 2);
    wait_for("the third", SOON, || asked.is_done().then_some(()));
    // A result can be had any number of times, and in every way.
    for _ in 0..2 {
        assert_eq!(asked.try_wait().unwrap().unwrap().offset().unwrap(), 3);
        assert_eq!(asked.wait_timeout(Duration::ZERO).unwrap().unwrap().offset().unwrap(), 3);
    }
    assert!(format!("{asked:?}").contains("offset: Some(3)"), "{asked:?}");
    asked.on_complete(move |result| told.send(result.unwrap().offset().unwrap()).unwrap());
    assert_eq!(tell.recv_timeout(SOON).unwrap(), 3);
    // A refusal is called back as well.
    let (told, tell) = channel();
    producer.send(Record::to("")).on_complete(move |result| told.send(kind(result)).unwrap());
    assert_eq!(tell.recv_timeout(SOON).unwrap(), Some(ErrorKind::InvalidInput));
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn callbacks_run_once_and_in_the_order_of_their_partition() {
    const RECORDS: i64 = 2000;
    let turn = cluster();
    turn.topic("called", 3);
    let producer = turn.builder().batch_size(500).linger(Duration::ZERO).build().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    for number in 0..RECORDS {
        let told = Arc::clone(&told);
        let record = Record::to("called").partition((number % 3) as i32).value(number.to_string());
        producer.send_with(record, move |result| {
            let metadata = result.unwrap();
            let name = thread::current().name().unwrap_or_default().to_owned();
            told.lock().unwrap().push((metadata.partition(), metadata.offset().unwrap(), name));
            // One that panics hurts nobody else.
            assert!(number % 100 != 7, "a callback's panic, which is part of the test");
        });
    }
    // When flush has returned, the callbacks have run.
    producer.flush_timeout(SOON).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.len() as i64, RECORDS);
    let mut next = [0; 3];
    for (partition, offset, thread) in told {
        assert_eq!((offset, thread.as_str()), (next[partition as usize], "kafka-callbacks"));
        next[partition as usize] += 1;
    }
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_slow_callback_delays_no_delivery() {
    let turn = cluster();
    turn.topic("slow", 1);
    let producer = turn.builder().build().unwrap();
    let (release, released) = channel::<()>();
    let (told, tell) = channel();
    producer.send_with(Record::to("slow").value("0"), move |_| {
        told.send(()).unwrap();
        released.recv_timeout(SOON).unwrap();
    });
    tell.recv_timeout(SOON).unwrap();
    for offset in 1..50 {
        assert_eq!(producer.send(Record::to("slow").value("v")).wait().unwrap().offset().unwrap(), offset);
    }
    let limit = Duration::from_millis(300);
    let flushed = within("flush", limit, || producer.flush_timeout(limit));
    assert_eq!(kind(flushed), Some(ErrorKind::Timeout(Timeout::Flush)), "flush waits for callbacks");
    let lost = within("close", limit, || producer.close_timeout(limit));
    assert_eq!(lost, Ok(()), "all was delivered");
    release.send(()).unwrap();
}

/// The callback thread is what would have to make room for a user who sends from it while the buffer is full.
#[test]
fn a_callback_that_blocks_in_send_is_let_go_after_max_block() {
    let mut turn = cluster();
    turn.topic("chain", 1);
    let max_block = Duration::from_millis(500);
    let producer = turn.builder().buffer_memory(60_000).max_block(max_block).build().unwrap();
    let (told, tell) = channel();
    let inner = producer.clone();
    wait_for("the topic", SOON, || producer.partitions_for("chain").ok());
    turn.stop();
    let mut sent = Vec::new();
    fill(&producer, "chain", &mut sent);
    // The callback of a refusal runs while the buffer is full.
    producer.send_with(Record::to("chain").value([b'x'; 1000]), move |refusal| {
        let again = within("send in a callback", max_block, || inner.send(Record::to("chain").value([b'x'; 1000])));
        told.send((kind(refusal), kind(again.wait()))).unwrap();
    });
    let timeout = Some(ErrorKind::Timeout(Timeout::BufferMemory));
    assert_eq!(tell.recv_timeout(SOON).unwrap(), (timeout, timeout));
    turn.cont();
    producer.close_timeout(SOON).unwrap();
    for delivery in sent {
        delivery.wait().unwrap();
    }
}

/// Nothing behind it: each call of a producer without and with knowledge of the cluster ends in time.
fn every_call_ends_in_time(what: &str, servers: &[String], warm: Option<&Producer>, topic: &str) {
    let limit = Duration::from_millis(300);
    let metadata = Some(ErrorKind::Timeout(Timeout::Metadata));
    // Whatever waits for a connection or an answer, and not for its own time, waits for long.
    let cold = || {
        let builder = Producer::builder(servers.iter().cloned()).max_block(limit);
        builder.connection_setup_timeout(Duration::from_secs(30)).request_timeout(SOON).build().unwrap()
    };
    let dropped = cold();
    let cold = cold();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(kind(within("connect", limit, || cold.connect_timeout(limit))), metadata, "{what}");
        });
        scope.spawn(|| {
            let partitions = within("partitions_for", limit, || cold.partitions_for("unknown"));
            assert_eq!(kind(partitions), metadata, "{what}");
        });
        scope.spawn(|| {
            let delivery = within("send", limit, || cold.send(Record::to("unknown").value("v")));
            assert_eq!(kind(delivery.wait()), metadata, "{what}");
            let delivery = within("try_send", Duration::ZERO, || cold.try_send(Record::to("unknown").value("v")));
            assert_eq!(kind(delivery), Some(ErrorKind::WouldBlock), "{what}");
        });
        scope.spawn(|| {
            let Some(warm) = warm else { return };
            let delivery = within("send", Duration::ZERO, || warm.send(Record::to(topic).value("v")));
            assert!(within("wait_timeout", limit, || delivery.wait_timeout(limit)).is_none(), "{what}");
            assert_eq!(
                kind(within("flush", limit, || warm.flush_timeout(limit))),
                Some(ErrorKind::Timeout(Timeout::Flush)),
                "{what}"
            );
            let failed = within("wait", IN_TIME_DELIVERY, || delivery.wait());
            assert_eq!(kind(failed), Some(ErrorKind::Timeout(Timeout::Delivery)), "{what}");
            let delivery = warm.send(Record::to(topic).value("v"));
            let lost = within("close", limit, || warm.close_timeout(limit)).unwrap_err();
            assert_eq!(lost.records(), 1, "{what}");
            assert_eq!(kind(delivery.wait()), Some(ErrorKind::Closed), "{what}");
        });
    });
    within("flush of nothing", Duration::ZERO, || cold.flush_timeout(limit)).unwrap();
    within("close", limit, || cold.close_timeout(limit)).unwrap();
    dropped.try_send(Record::to("unknown")).unwrap_err();
    within("drop", Duration::ZERO, || drop(dropped));
}

/// So much longer than the limits of calls that these come first on a machine that stands still for a while.
const IN_TIME_DELIVERY: Duration = Duration::from_millis(4500);

fn in_time(servers: &[String]) -> Producer {
    Producer::builder(servers.iter().cloned())
        .request_timeout(Duration::from_secs(4))
        .delivery_timeout(IN_TIME_DELIVERY)
        .build()
        .unwrap()
}

#[test]
fn no_call_is_late_when_the_cluster_refuses_hangs_or_vanishes() {
    let mut turn = cluster();
    turn.topic("in-time", 1);
    let servers = turn.cluster.bootstrap();
    let warm = || {
        let producer = in_time(&servers);
        // Which may take longer than its time limits on a busy machine.
        wait_for("a record", Duration::from_secs(60), || producer.send(Record::to("in-time").value("v")).wait().ok());
        producer
    };
    let proxy = turn.proxy();

    let producer = warm();
    proxy.refuse(true);
    assert!(proxy.cut_all(Cut::Reset) > 0);
    every_call_ends_in_time("refused connections", &servers, Some(&producer), "in-time");
    assert!(TcpStream::connect(proxy.address()).is_err());
    proxy.pass();
    proxy.refuse(false);

    let producer = warm();
    proxy.never_answer(true);
    proxy.cut_all(Cut::Fin);
    let before = proxy.counts().unanswered;
    every_call_ends_in_time("a listener that never answers", &servers, Some(&producer), "in-time");
    wait_for("an unanswered request", SOON, || (proxy.counts().unanswered > before).then_some(()));
    proxy.never_answer(false);
    proxy.cut_all(Cut::Reset);

    let producer = warm();
    proxy.blackhole(true);
    // What had passed the gate before is written and counted a moment later.
    let (mut before, mut since) = (u64::MAX, Instant::now());
    wait_for("the last bytes", SOON, || {
        let now = proxy.counts().bytes_to_client;
        if std::mem::replace(&mut before, now) != now {
            since = Instant::now();
        }
        (since.elapsed() > Duration::from_secs(2)).then_some(())
    });
    every_call_ends_in_time("a black hole", &servers, Some(&producer), "in-time");
    assert_eq!(proxy.counts().bytes_to_client, before, "nothing moved");
    proxy.blackhole(false);
    proxy.cut_all(Cut::Reset);

    let producer = warm();
    let dropped = warm();
    turn.stop();
    thread::scope(|scope| {
        scope.spawn(|| {
            let delivery = dropped.send(Record::to("in-time").value("v"));
            // The documented limit of a drop that has something to deliver; here the delivery timeout is shorter.
            within("drop", IN_TIME_DELIVERY, || drop(dropped));
            assert!(delivery.wait().is_err());
        });
        every_call_ends_in_time("a stopped broker", &servers, Some(&producer), "in-time");
    });
    turn.cont();

    // A listener whose queue is full: the kernel drops the client's SYN, as a firewall does.
    let (address, _held) = full_listener();
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_err(), "the queue is not full");
    every_call_ends_in_time("a host that drops packets", &[address.to_string()], None, "in-time");
}

fn full_listener() -> (SocketAddr, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut held = vec![listener];
    for _ in 0..64 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let connected = socket.connect_timeout(&SockAddr::from(address), Duration::from_millis(200));
        held.push(socket);
        if connected.is_err() {
            break;
        }
    }
    (address, held)
}

/// Only this proves that the listener of the test above is none that merely accepts.
#[test]
fn an_open_listener_is_no_full_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_secs(1)).is_ok());
}

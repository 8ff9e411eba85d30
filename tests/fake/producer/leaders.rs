//! Leaders that move, brokers that come and go, topics that change.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On};
use kafka_blocking::{BrokerId, Delivery, Error, ErrorCode, ErrorKind, Producer, Record, Recovery, Timeout};
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// Threads that send all the while, one for each partition.
struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Vec<Delivery>>>,
    /// How many, by partition.
    sent: Arc<[AtomicU64]>,
}

impl Load {
    fn start(producer: &Producer, topic: &'static str, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent: Arc<[AtomicU64]> = (0..partitions).map(|_| AtomicU64::new(0)).collect();
        let senders = (0..partitions).map(|partition| {
            let (producer, stop, sent) = (producer.clone(), Arc::clone(&stop), Arc::clone(&sent));
            thread::spawn(move || {
                let mut deliveries = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let number = deliveries.len() as u64;
                    deliveries.push(send(&producer, topic, partition, number));
                    sent[partition as usize].fetch_add(1, Ordering::Relaxed);
                    if number % 5 == 4 {
                        thread::sleep(Duration::from_micros(500));
                    }
                }
                deliveries
            })
        });
        let load = Self { senders: senders.collect(), stop, sent };
        until("the load runs", || load.sent.iter().all(|sent| sent.load(Ordering::Relaxed) > 20));
        load
    }

    /// Waits until all that has been sent to a partition by now is written, and more.
    #[track_caller]
    fn await_written(&self, cluster: &FakeCluster, topic: &str, partition: i32) {
        // One may be on its way to be counted.
        let sent = self.sent[partition as usize].load(Ordering::Relaxed) + 2;
        until("what was sent is written", || cluster.log_len(topic, partition).unwrap() as u64 >= sent);
    }

    /// Everything that was sent arrives once, in order.
    #[track_caller]
    fn finish(self, cluster: &FakeCluster, topic: &str) {
        self.stop.store(true, Ordering::Relaxed);
        for (sender, partition) in self.senders.into_iter().zip(0..) {
            let deliveries = sender.join().unwrap();
            succeed(&deliveries);
            assert_once_in_order(cluster, topic, partition, deliveries.len() as u64);
        }
    }
}

fn leaders_move(version: KafkaVersion, requests_a_move: u64) {
    const MOVES: u64 = 40;
    let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 3).start().unwrap();
    let producer = quick(&cluster).build().unwrap();
    let load = Load::start(&producer, "t", 3);
    let before = metadata_requests(&cluster);
    for round in 0..MOVES {
        let partition = (round % 3) as i32;
        let leader = cluster.leader("t", partition).unwrap().unwrap();
        cluster.move_leader("t", partition, BrokerId(leader.0 % 3 + 1)).unwrap();
        // Before it comes back to its old leader, nothing is on its way there.
        load.await_written(&cluster, "t", partition);
        thread::sleep(ms(10));
    }
    load.finish(&cluster, "t");
    let requests = metadata_requests(&cluster) - before;
    assert!(requests <= requests_a_move * MOVES + 5, "{requests} metadata requests for {MOVES} moves");
    let moved = producer.metrics();
    assert!(moved.error_answers > 0, "no batch met an old leader");
    assert_eq!((moved.records_failed, moved.epoch_bumps), (0, 0));
    // What was in flight behind a batch that the old leader did not take is refused by it, too.
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn leaders_that_move_under_load_with_hints_cost_no_record() {
    watch_for_panics();
    leaders_move(KafkaVersion::V4_3, 2);
}

#[test]
fn leaders_that_move_under_load_without_hints_cost_no_record() {
    watch_for_panics();
    leaders_move(KafkaVersion::V2_8, 4);
}

#[test]
fn leaders_that_move_under_load_on_the_oldest_brokers_cost_no_record() {
    watch_for_panics();
    leaders_move(KafkaVersion::V0_11, 4);
}

#[test]
fn a_hint_is_followed_without_asking_first() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    // So long a back-off that only the hint can be the reason for going on.
    let producer = patient(&cluster).retry_backoff_max(HOUR).retry_backoff(HOUR).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    let leader = cluster.leader("t", 0).unwrap().unwrap();
    cluster.move_leader("t", 0, BrokerId(leader.0 % 3 + 1)).unwrap();
    succeed(&send_all(&producer, "t", 0, 5, 10));
    assert_eq!(producer.metrics().error_answers, 1);
    assert_once_in_order(&cluster, "t", 0, 10);
    close(&producer);
}

#[test]
fn partitions_that_move_do_not_wait_for_the_old_brokers_throttle() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(2).topic("t", 4).start().unwrap();
    let producer = quick(&cluster).metadata_max_age(ms(200)).build().unwrap();
    for partition in 0..4 {
        succeed(&send_all(&producer, "t", partition, 0, 5));
    }
    let old = cluster.leader("t", 0).unwrap().unwrap();
    let throttle = cluster.inject(On::produce().broker(old), Fault::Throttle(3_600_000));
    succeed(&[send(&producer, "t", 0, 5)]);
    assert_eq!(throttle.fired(), 1);
    let waiting = send_all(&producer, "t", 0, 6, 10);
    cluster.move_leader("t", 0, BrokerId(3 - old.0)).unwrap();
    // What its metadata's age brings is the only word of the new leader.
    succeed(&waiting);
    assert_once_in_order(&cluster, "t", 0, 10);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn an_idle_connection_that_the_broker_has_closed_costs_no_back_off() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster).reconnect_backoff_max(HOUR).reconnect_backoff(HOUR).build().unwrap();
    for number in 0..3 {
        succeed(&[send(&producer, "t", 0, number)]);
        thread::sleep(ms(500));
        let (lost, made) = (producer.metrics().connections_lost, cluster.connections_made());
        let leader = cluster.leader("t", 0).unwrap().unwrap();
        cluster.cut_connections(leader);
        until("the connections are closed", || cluster.connection_count(leader) == 0);
        succeed(&[send(&producer, "t", 0, number + 10)]);
        assert!(producer.metrics().connections_lost > lost && cluster.connections_made() > made);
    }
    close(&producer);
}

#[test]
fn a_partition_without_a_leader_waits_for_one_without_a_storm() {
    watch_for_panics();
    let cluster = three_brokers("t", 2);
    let producer = quick(&cluster).retry_backoff(ms(50)).retry_backoff_max(ms(100)).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    succeed(&send_all(&producer, "t", 1, 0, 5));
    cluster.leaderless("t", 0).unwrap();
    let (before, started) = (metadata_requests(&cluster), Instant::now());
    let sent = send_all(&producer, "t", 0, 5, 10);
    // The other partition is none the worse.
    succeed(&send_all(&producer, "t", 1, 5, 10));
    until("the leader is asked for", || metadata_requests(&cluster) >= before + 3);
    thread::sleep(ms(600));
    let (requests, time) = (metadata_requests(&cluster) - before, started.elapsed());
    let limit = time.as_millis() as u64 / 40 + 5;
    assert!(requests <= limit, "{requests} metadata requests in {time:?}, the back-off is 50 to 100 ms");
    assert!(sent.iter().all(|delivery| !delivery.is_done()));
    cluster.move_leader("t", 0, BrokerId(3)).unwrap();
    succeed(&sent);
    for partition in 0..2 {
        assert_once_in_order(&cluster, "t", partition, 10);
    }
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_partition_without_a_leader_until_the_end_fails_with_that_very_error() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster).request_timeout(ms(2000)).delivery_timeout(ms(3000)).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    cluster.leaderless("t", 0).unwrap();
    let started = Instant::now();
    for delivery in &send_all(&producer, "t", 0, 5, 10) {
        let error = failure(delivery);
        let code = error.code();
        let codes = [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::NOT_LEADER_OR_FOLLOWER];
        assert!(code.is_some_and(|code| codes.contains(&code)), "{error}");
    }
    assert!((ms(2950)..ms(3000) + AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    until("the memory is free", || producer.metrics().buffer_bytes_used == 0);
    cluster.move_leader("t", 0, BrokerId(2)).unwrap();
    succeed(&send_all(&producer, "t", 0, 5, 10));
    assert_once_in_order(&cluster, "t", 0, 10);
    close(&producer);
}

#[test]
fn brokers_that_die_and_return_under_load_cost_no_record() {
    watch_for_panics();
    let cluster = three_brokers("t", 6);
    let producer = quick(&cluster).build().unwrap();
    let load = Load::start(&producer, "t", 6);
    for round in 0..6 {
        let broker = BrokerId(round % 3 + 1);
        let led = (0..6).find(|partition| cluster.leader("t", *partition).unwrap() == Some(broker)).unwrap();
        let before = cluster.log_len("t", led).unwrap();
        until("the broker takes records", || cluster.log_len("t", led).unwrap() > before);
        cluster.kill(broker);
        thread::sleep(ms(60));
        cluster.restart(broker).unwrap();
        // Leaders go back to it, so that the next death matters.
        for partition in 0..6 {
            cluster.move_leader("t", partition, BrokerId((partition + round) % 3 + 1)).unwrap();
        }
        thread::sleep(ms(60));
    }
    // Over connections that were made anew.
    for partition in 0..6 {
        load.await_written(&cluster, "t", partition);
    }
    load.finish(&cluster, "t");
    assert!(producer.metrics().connections_lost >= 4);
    assert_eq!(producer.metrics().records_failed, 0);
    close(&producer);
}

#[test]
fn a_cluster_that_dies_and_returns_costs_no_record() {
    watch_for_panics();
    for version in [KafkaVersion::V4_3, KafkaVersion::V2_8] {
        let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 3).start().unwrap();
        let producer = quick(&cluster).build().unwrap();
        let load = Load::start(&producer, "t", 3);
        until("records flow", || producer.metrics().records_acknowledged > 0);
        for broker in cluster.brokers() {
            cluster.kill(broker);
        }
        thread::sleep(ms(300));
        for broker in cluster.brokers() {
            cluster.restart(broker).unwrap();
        }
        // Over connections that were made anew.
        load.await_written(&cluster, "t", 0);
        thread::sleep(ms(200));
        load.finish(&cluster, "t");
        assert!(producer.metrics().connections_lost >= 1);
        assert_eq!(producer.metrics().records_failed, 0);
        close(&producer);
    }
}

#[test]
fn a_topic_that_is_made_anew_takes_what_comes_after() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 1).start().unwrap();
        let producer = quick(&cluster).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 10));
        succeed(&send_all(&producer, "t", 0, 10, 20));
        cluster.recreate_topic("t").unwrap();
        assert_eq!(cluster.log_len("t", 0).unwrap(), 0);
        // The oldest brokers refuse a sequence that they do not know, when the old leader's refusal has left open
        // whether the batch was written.
        let at_most = if version < KafkaVersion::V2_8 { 20 } else { 0 };
        let acknowledged = succeed_or_lose_sequence(&send_all(&producer, "t", 0, 0, 20), at_most);
        assert_eq!(numbers(&cluster, "t", 0), acknowledged, "{version:?}");
        let sent = succeed(&send_all(&producer, "t", 0, 20, 40));
        assert_eq!(
            sent.last().map(|metadata| metadata.offset().unwrap()),
            Some(acknowledged.len() as i64 + 19),
            "{version:?}"
        );
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn a_topic_that_is_made_anew_under_load_loses_nothing_that_comes_after() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let mut sent = Vec::new();
    for number in 0..2000 {
        sent.push(send(&producer, "t", 0, number));
        if number == 1000 {
            until("most are written", || cluster.log_len("t", 0).unwrap() >= 600);
            cluster.recreate_topic("t").unwrap();
        }
        if number % 10 == 0 {
            thread::sleep(Duration::from_micros(300));
        }
    }
    let offsets: Vec<i64> = succeed(&sent).iter().map(|metadata| metadata.offset().unwrap()).collect();
    let found = numbers(&cluster, "t", 0);
    assert_eq!(repeated(&found), 0);
    // From the first acknowledgement of the new topic on, there is every record where the acknowledgement says.
    let restart = offsets.windows(2).position(|pair| pair[1] < pair[0]).expect("the offsets begin anew") + 1;
    assert!((500..=1001).contains(&restart), "{restart}");
    assert_eq!(found, (restart as u64..2000).collect::<Vec<_>>());
    assert!(offsets[restart..].iter().copied().eq(0..2000 - restart as i64));
    close(&producer);
}

#[test]
fn a_topic_deleted_and_made_anew_goes_on_although_its_leader_had_moved() {
    watch_for_panics();
    // With topic ids, and as brokers before Kafka 2.8 are: leader epochs, and no topic ids.
    for (metadata, idempotent) in [(0..=13, true), (0..=13, false), (0..=9, true), (0..=9, false)] {
        let case = format!("Metadata {metadata:?}, idempotence {idempotent}");
        let cluster = FakeCluster::builder().brokers(3).topic("t", 1).offer(Api::Metadata, metadata).start().unwrap();
        let producer = quick(&cluster).idempotence(idempotent).build().unwrap();
        for round in 0..3 {
            for number in 0..3 {
                succeed(&[send(&producer, "t", 0, number)]);
                let leader = cluster.leader("t", 0).unwrap().unwrap();
                cluster.move_leader("t", 0, BrokerId(leader.0 % 3 + 1)).unwrap();
                succeed(&[send(&producer, "t", 0, number)]);
            }
            cluster.delete_topic("t").unwrap();
            let before = metadata_requests(&cluster);
            let waiting = send_all(&producer, "t", 0, 0, 20);
            // The first may have been on its way; the second was sent when that was answered.
            until("the producer hears that there is no such topic", || metadata_requests(&cluster) >= before + 3);
            cluster.create_topic("t", 1).unwrap();
            let sent = succeed(&waiting);
            assert_eq!(sent.last().map(|metadata| metadata.offset().unwrap()), Some(19), "{case}, round {round}");
            succeed(&send_all(&producer, "t", 0, 20, 40));
            assert_once_in_order(&cluster, "t", 0, 40);
        }
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn partitions_that_are_added_under_load_are_used() {
    watch_for_panics();
    let cluster = three_brokers("t", 2);
    let producer = quick(&cluster).metadata_max_age(ms(100)).partitioner_adaptive(false).build().unwrap();
    let load = Load::start(&producer, "t", 2);
    cluster.add_partitions("t", 3).unwrap();
    // One that is named is looked for at once.
    succeed(&send_all(&producer, "t", 4, 0, 5));
    until("the new partitions are known", || producer.partitions_for("t").unwrap().len() == 5);
    let keyed: Vec<_> =
        (0..200).map(|number| producer.send(Record::to("t").key(format!("key {number}")).value("999999"))).collect();
    let places: std::collections::BTreeSet<i32> = succeed(&keyed).iter().map(|metadata| metadata.partition()).collect();
    assert!(places.contains(&2) && places.contains(&3), "keys go to {places:?}");
    load.stop.store(true, Ordering::Relaxed);
    for (sender, partition) in load.senders.into_iter().zip(0..) {
        let deliveries = sender.join().unwrap();
        succeed(&deliveries);
        let found: Vec<u64> =
            numbers(&cluster, "t", partition).into_iter().filter(|number| *number != 999_999).collect();
        assert_eq!(found, (0..deliveries.len() as u64).collect::<Vec<_>>());
    }
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_partition_that_is_not_listed_for_a_moment_costs_no_record() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 3).start().unwrap();
        let producer = quick(&cluster).metadata_max_age(ms(100)).build().unwrap();
        for partition in 0..3 {
            succeed(&send_all(&producer, "t", partition, 0, 5));
        }
        cluster.list_partitions("t", Some(1)).unwrap();
        // The second answer from now on was made after it.
        let asked = metadata_requests(&cluster);
        until("the metadata is asked for", || metadata_requests(&cluster) >= asked + 2);
        let mut sent = send_all(&producer, "t", 2, 5, 10);
        let tried = producer.try_send(Record::to("t").partition(2).value("10"));
        sent.push(tried.unwrap_or_else(|refused| panic!("{version:?}: {refused}")));
        thread::sleep(ms(300));
        cluster.list_partitions("t", None).unwrap();
        succeed(&sent);
        assert_once_in_order(&cluster, "t", 2, 11);
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn a_partition_that_was_just_added_is_waited_for_although_brokers_lag_behind() {
    watch_for_panics();
    let cluster = three_brokers("t", 2);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    cluster.list_partitions("t", Some(2)).unwrap();
    cluster.add_partitions("t", 3).unwrap();
    let refused = Error::from(producer.try_send(Record::to("t").partition(4).value("0")).unwrap_err());
    assert_eq!((refused.kind(), refused.recovery()), (ErrorKind::WouldBlock, Recovery::Retry), "{refused}");
    let asked = metadata_requests(&cluster);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&producer, "t", 4, 0));
        until("it is asked for again and again", || metadata_requests(&cluster) >= asked + 3);
        cluster.list_partitions("t", None).unwrap();
        sender.join().unwrap()
    });
    succeed(&[sent]);
    assert_once_in_order(&cluster, "t", 4, 1);
    close(&producer);
}

#[test]
fn a_partition_that_the_topic_never_had_is_an_error_after_some_seconds_and_then_soon() {
    watch_for_panics();
    let cluster = three_brokers("t", 2);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    let never_tried = producer.try_send(Record::to("t").partition(8).value("0")).unwrap_err();
    assert_eq!(never_tried.error().kind(), ErrorKind::WouldBlock);
    let wrong = |error: Error| {
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::Fix), "{error}");
        assert_eq!(error.context().partition, Some(8));
    };
    let started = Instant::now();
    wrong(failure(&send(&producer, "t", 8, 0)));
    let first = started.elapsed();
    // Against the default of max_block, a minute.
    assert!(first < ms(2000) + AT_ONCE, "{first:?}");
    // Some of them within a time that is no tenth of the first one's.
    let mut times = (0..20).map(|_| {
        let started = Instant::now();
        wrong(failure(&send(&producer, "t", 8, 0)));
        started.elapsed()
    });
    assert!(times.any(|time| time < ms(200)));
    // Whoever does not wait learns it, too.
    wrong(producer.try_send(Record::to("t").partition(8).value("0")).unwrap_err().into());
    close(&producer);
}

#[test]
fn whoever_asks_in_a_loop_for_what_is_not_there_asks_no_more_often_than_the_back_off() {
    watch_for_panics();
    let cluster = three_brokers("t", 2);
    let producer = quick(&cluster).retry_backoff(ms(50)).retry_backoff_max(ms(100)).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    let ask_for_a_second = |ask: &(dyn Fn() + Sync)| {
        let (before, started) = (metadata_requests(&cluster), Instant::now());
        let asked = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while started.elapsed() < ms(1000) {
                        ask();
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let (requests, time) = (metadata_requests(&cluster) - before, started.elapsed());
        // A fifth less than the back-off is within its jitter.
        let limit = time.as_millis() as u64 / 40 + 3;
        assert!((1..=limit).contains(&requests), "{requests} metadata requests in {time:?}, the back-off is 50 ms");
        asked.into_inner()
    };
    let try_missing_topic = || {
        let error = Error::from(producer.try_send(Record::to("missing").value("0")).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    };
    assert!(ask_for_a_second(&try_missing_topic) > 1000);
    let try_missing_partition = || drop(producer.try_send(Record::to("t").partition(5).value("0")));
    assert!(ask_for_a_second(&try_missing_partition) > 1000);
    ask_for_a_second(&|| assert_eq!(failure(&send(&producer, "t", 7, 0)).kind(), ErrorKind::NoSuchPartition));
    ask_for_a_second(&|| assert_eq!(failure(&send(&producer, "t", 7, 0)).kind(), ErrorKind::NoSuchPartition));
    let impatient = quick(&cluster).retry_backoff(ms(50)).retry_backoff_max(ms(100)).max_block(ms(2)).build().unwrap();
    let timed_out = ErrorKind::Timeout(Timeout::Metadata);
    ask_for_a_second(&|| assert_eq!(failure(&send(&impatient, "missing", 0, 0)).kind(), timed_out));
    close(&impatient);
    close(&producer);
}

#[test]
fn the_threads_of_a_broker_that_is_gone_end() {
    watch_for_panics();
    // No other test has a ninth broker.
    let cluster = FakeCluster::builder().brokers(9).replication(2).topic("t", 9).start().unwrap();
    let producer = quick(&cluster).build().unwrap();
    let of_the_ninth = || kafka_threads().into_iter().filter(|(_, name)| name.ends_with("-9")).count();
    for partition in 0..9 {
        succeed(&send_all(&producer, "t", partition, 0, 5));
    }
    // A thread that has had nothing to do may not have its name yet.
    until("it has a sender and a reader", || of_the_ninth() == 2);
    cluster.kill(BrokerId(9));
    for partition in 0..9 {
        succeed(&send_all(&producer, "t", partition, 5, 10));
    }
    until("its threads end", || of_the_ninth() == 0);
    cluster.restart(BrokerId(9)).unwrap();
    for partition in 0..9 {
        cluster.move_leader("t", partition, BrokerId(9)).unwrap();
        succeed(&send_all(&producer, "t", partition, 10, 15));
        assert_once_in_order(&cluster, "t", partition, 15);
    }
    until("it has threads again", || of_the_ninth() >= 1);
    assert_no_refusals(&cluster);
    close(&producer);
    until("its threads end again", || of_the_ninth() == 0);
}

/// A fixed address before brokers whose addresses change, as a load balancer's.
struct Front {
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
}

impl Front {
    fn new(target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (target, stop) = (Arc::new(Mutex::new(target)), Arc::new(AtomicBool::new(false)));
        let (current, stopped) = (Arc::clone(&target), Arc::clone(&stop));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = stream else { continue };
                let Ok(broker) = TcpStream::connect(&*current.lock().unwrap()) else { continue };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), broker.try_clone().unwrap()),
                    (broker.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(std::net::Shutdown::Both));
                    });
                }
            }
        });
        Self { address, target, stop }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Takes an address without listening there: whoever connects is refused, and nobody else can have it.
fn occupy(address: &str) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.set_reuse_address(false).unwrap();
    socket
}

#[test]
fn a_cluster_that_has_moved_to_other_addresses_is_found_from_the_bootstrap_servers() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let old: Vec<String> = cluster.brokers().into_iter().map(|broker| cluster.address(broker)).collect();
    let front = Front::new(old[0].clone());
    let producer = Producer::builder([front.address.to_string()])
        .linger(ms(1))
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .reconnect_backoff(ms(5))
        .reconnect_backoff_max(ms(40))
        .build()
        .unwrap();
    for partition in 0..3 {
        succeed(&send_all(&producer, "t", partition, 0, 10));
    }
    for broker in cluster.brokers() {
        cluster.kill(broker);
    }
    let occupied: Vec<Socket> = old.iter().map(|address| occupy(address)).collect();
    let sent: Vec<_> = (0..3).flat_map(|partition| send_all(&producer, "t", partition, 10, 20)).collect();
    thread::sleep(ms(100));
    for (broker, old) in cluster.brokers().into_iter().zip(&old) {
        cluster.restart(broker).unwrap();
        assert_ne!(&cluster.address(broker), old);
    }
    *front.target.lock().unwrap() = cluster.address(BrokerId(2));
    succeed(&sent);
    for partition in 0..3 {
        assert_once_in_order(&cluster, "t", partition, 20);
    }
    assert_no_refusals(&cluster);
    drop(occupied);
    close(&producer);
}

#[test]
fn a_topic_that_is_missing_is_asked_for_with_back_off() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer =
        quick(&cluster).retry_backoff(ms(50)).retry_backoff_max(ms(100)).max_block(ms(2000)).build().unwrap();
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let started = Instant::now();
                let error = failure(&send(&producer, "missing", 0, 0));
                assert_eq!(error.kind(), kafka_blocking::ErrorKind::Timeout(Timeout::Metadata), "{error}");
                assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
                assert!((ms(1950)..AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
            });
        }
    });
    let (requests, time) = (metadata_requests(&cluster), started.elapsed());
    let limit = time.as_millis() as u64 / 40 + 15;
    assert!((3..=limit).contains(&requests), "{requests} metadata requests in {time:?}, the back-off is 50 to 100 ms");
    // Nobody waits any more, so nobody asks any more.
    thread::sleep(ms(300));
    assert!(metadata_requests(&cluster) <= requests + 2, "{} after {requests}", metadata_requests(&cluster));
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn topics_that_are_asked_for_at_once_come_at_once() {
    watch_for_panics();
    let cluster = FakeCluster::builder().auto_create(1).start().unwrap();
    let producer = quick(&cluster).build().unwrap();
    let sent: Vec<_> = thread::scope(|scope| {
        let senders: Vec<_> = (0..40)
            .map(|number| {
                let producer = &producer;
                scope.spawn(move || send(producer, &format!("topic.{number}"), 0, 0))
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    succeed(&sent);
    for number in 0..40 {
        assert_once_in_order(&cluster, &format!("topic.{number}"), 0, 1);
    }
    close(&producer);
}

#[test]
fn brokers_that_close_every_connection_are_dialled_with_back_off() {
    watch_for_panics();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (dialled, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let acceptor = thread::spawn({
        let (dialled, stop) = (Arc::clone(&dialled), Arc::clone(&stop));
        move || {
            for stream in listener.incoming() {
                drop(stream);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                dialled.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let producer = Producer::builder([address.to_string()])
        .retry_backoff(ms(50))
        .retry_backoff_max(ms(100))
        .max_block(ms(2000))
        .build()
        .unwrap();
    let started = Instant::now();
    let error = failure(&send(&producer, "t", 0, 0));
    assert_eq!(error.kind(), kafka_blocking::ErrorKind::Timeout(Timeout::Metadata), "{error}");
    assert!(std::error::Error::source(&error).is_some(), "the cause is told: {error}");
    let (count, time) = (dialled.load(Ordering::Relaxed), started.elapsed());
    let limit = time.as_millis() as u64 / 25 + 5;
    assert!((3..=limit).contains(&count), "dialled {count} times in {time:?}, the back-off is 50 to 100 ms");
    close(&producer);
    stop.store(true, Ordering::Relaxed);
    drop(TcpStream::connect(address));
    acceptor.join().unwrap();
}

#[test]
fn a_broker_that_is_down_is_dialled_with_back_off_while_records_wait() {
    watch_for_panics();
    // One replica: nobody else can lead the partition.
    let cluster = FakeCluster::builder().brokers(2).replication(1).topic("t", 2).start().unwrap();
    let producer = Producer::builder(cluster.bootstrap())
        .linger(ms(1))
        .retry_backoff(ms(50))
        .retry_backoff_max(ms(100))
        .reconnect_backoff(ms(50))
        .reconnect_backoff_max(ms(100))
        .build()
        .unwrap();
    for partition in 0..2 {
        succeed(&send_all(&producer, "t", partition, 0, 5));
    }
    let dead = cluster.leader("t", 0).unwrap().unwrap();
    cluster.kill(dead);
    let (before, started) = (metadata_requests(&cluster), Instant::now());
    let sent = send_all(&producer, "t", 0, 5, 10);
    until("the leader is asked for", || metadata_requests(&cluster) >= before + 3);
    thread::sleep(ms(800));
    let (requests, time) = (metadata_requests(&cluster) - before, started.elapsed());
    let limit = time.as_millis() as u64 / 25 + 5;
    assert!(requests <= limit, "{requests} metadata requests in {time:?}, the back-off is 50 to 100 ms");
    cluster.restart(dead).unwrap();
    succeed(&sent);
    assert_eq!(cluster.request_count(Api::InitProducerId), 1);
    assert_once_in_order(&cluster, "t", 0, 10);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_topic_that_was_not_used_for_long_finds_its_new_leader() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster)
        .metadata_max_age(ms(200))
        .metadata_max_idle(ms(5000))
        .request_timeout(ms(5000))
        .delivery_timeout(AT_ONCE)
        .build()
        .unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    thread::sleep(ms(5700));
    let leader = cluster.leader("t", 0).unwrap().unwrap();
    cluster.move_leader("t", 0, BrokerId(leader.0 % 3 + 1)).unwrap();
    // The old leader cannot tell who has taken its place.
    cluster.kill(leader);
    succeed(&[send(&producer, "t", 0, 1)]);
    close(&producer);
}

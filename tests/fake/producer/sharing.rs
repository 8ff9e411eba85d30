//! Producers that share a cluster: what they share, and that none of them disturbs another.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kafka_blocking::testing::{Api, FakeCluster, SeenRequest};
use kafka_blocking::{ErrorKind, Producer, Record, Recovery, Written};

use crate::common::*;

/// Says so when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn closing_or_dropping_a_producer_leaves_the_others_on_its_cluster_alone() {
    watch_for_panics();
    let fake = three_brokers("t", 3);
    let cluster = shared(&fake);
    let lives = on(&cluster).build().unwrap();
    let done = AtomicBool::new(false);
    let goes_on = Barrier::new(2);
    thread::scope(|scope| {
        // Also when the test fails, or its load would go on for ever.
        let ends = Ends(&done);
        let load = scope.spawn(|| {
            let mut sent = Vec::new();
            let mut number = 0;
            goes_on.wait();
            // Something of it is on its way when the others end, each time.
            while !done.load(Ordering::Relaxed) || number < 100 {
                sent.extend((0..3).map(|partition| send(&lives, "t", partition, number)));
                number += 1;
                if number % 50 == 0 {
                    succeed(&sent[sent.len() - 3..]);
                }
            }
            (sent, number)
        });
        goes_on.wait();
        for round in 0..20 {
            let other = on(&cluster).build().unwrap();
            // Another one uses the same partitions, and leads other topics to be known.
            fake.create_topic(&format!("other{round}"), 1).unwrap();
            succeed(&send_all(&other, &format!("other{round}"), 0, 0, 5));
            if round % 2 == 0 { close(&other) } else { drop(other) }
        }
        drop(ends);
        let (sent, number) = load.join().unwrap();
        succeed(&sent);
        for partition in 0..3 {
            assert_once_in_order(&fake, "t", partition, number);
        }
    });
    let metrics = lives.metrics();
    assert_eq!((metrics.batches_retried, metrics.connections_lost, metrics.connections_made), (0, 0, 3), "{metrics:?}");
    assert_no_refusals(&fake);
    close(&lives);
}

#[test]
fn a_call_that_waits_ends_with_its_own_producer_alone() {
    watch_for_panics();
    let fake = one_topic("t", 1);
    let cluster = shared(&fake);
    let [ends, lives] = [0, 1].map(|_| on(&cluster).build().unwrap());
    thread::scope(|scope| {
        let [of_ends, of_lives] = [&ends, &lives].map(|producer| scope.spawn(|| result(&send(producer, "late", 0, 0))));
        // Both ask for the topic, over and over.
        assert!(fake.wait_for_requests(Api::Metadata, 5, BOUND));
        close(&ends);
        let error = of_ends.join().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(Written::No)), "{error}");
        assert!(!of_lives.is_finished());
        // A call that comes later is refused, too.
        assert_eq!(ends.connect_timeout(BOUND).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(failure(&send(&ends, "late", 0, 1)).kind(), ErrorKind::Closed);
        fake.create_topic("late", 1).unwrap();
        of_lives.join().unwrap().unwrap();
    });
    close(&lives);
}

#[test]
fn what_a_closed_producer_wanted_is_not_created_for_the_others() {
    watch_for_panics();
    let fake = FakeCluster::builder().auto_create(1).start().unwrap();
    let cluster = shared(&fake);
    let creates = on(&cluster).build().unwrap();
    let modest = on(&cluster).allow_auto_topic_creation(false).build().unwrap();
    succeed(&send_all(&creates, "t", 0, 0, 3));
    succeed(&send_all(&modest, "t", 0, 3, 5));
    close(&creates);
    fake.delete_topic("t").unwrap();
    let closed = metadata_requests(&fake);
    // Rounds that ask for all that is wanted.
    for number in 0..3 {
        let before = metadata_requests(&fake);
        let sent = modest.try_send(Record::to("missing").value(number.to_string()));
        assert_eq!(sent.unwrap_err().error().kind(), ErrorKind::WouldBlock);
        assert!(fake.wait_for_requests(Api::Metadata, before + 1, BOUND));
    }
    let asked = seen(&fake, Api::Metadata).split_off(closed as usize);
    for topic in ["t", "missing"] {
        let names = |request: &SeenRequest| request.partitions.iter().any(|(name, _)| **name == *topic);
        assert!(asked.iter().any(names), "{topic} was asked for: {asked:?}");
        assert!(fake.partition_count(topic).is_err(), "{topic} was created, and nobody wants that");
    }
    // A producer that may create it, on the same cluster, still can.
    let again = on(&cluster).build().unwrap();
    succeed(&send_all(&again, "t", 0, 0, 1));
    close(&again);
    close(&modest);
}

#[test]
fn each_producer_has_its_own_client_id_and_the_clusters_by_default() {
    watch_for_panics();
    let fake = one_topic("t", 1);
    let cluster = shared(&fake);
    let own = on(&cluster).client_id("own").build().unwrap();
    let plain = on(&cluster).build().unwrap();
    let of = |api| -> Vec<String> { seen(&fake, api).into_iter().filter_map(|request| request.client_id).collect() };
    succeed(&[send(&own, "t", 0, 0)]);
    assert_eq!((of(Api::Produce), of(Api::InitProducerId)), (vec!["own".to_owned()], vec!["own".to_owned()]));
    assert!(of(Api::Metadata).iter().all(|id| id == "shared") && !of(Api::Metadata).is_empty());
    succeed(&[send(&plain, "t", 0, 1)]);
    assert_eq!(of(Api::Produce), ["own", "shared"]);
    assert_eq!(of(Api::InitProducerId), ["own", "shared"]);
    close(&own);
    close(&plain);
}

#[test]
fn a_setting_of_the_cluster_is_refused_by_its_producers_and_says_where_it_belongs() {
    watch_for_panics();
    let fake = one_topic("t", 1);
    let cluster = shared(&fake);
    let text = "bootstrap.servers=elsewhere:9092\nrequest.timeout.ms=7000\nretry.backoff.ms=5\nclient.id=me\n";
    let error = Producer::on(&cluster).properties_text(text).build().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fix));
    let text = error.to_string();
    for part in [
        "2 wrong settings",
        &format!(
            "bootstrap_servers (bootstrap.servers) is elsewhere:9092, but the setting belongs to the cluster that clients share, \
             where it is {}: set it with Cluster::builder",
            fake.bootstrap()[0]
        ),
        "request_timeout (request.timeout.ms) is 7s",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The pair is checked with the cluster's value.
    let error = on(&cluster).delivery_timeout(ms(1000)).build().unwrap_err().to_string();
    assert!(error.contains("delivery_timeout") && error.contains("request_timeout"), "{error}");
    let producer = Producer::on(&cluster).properties([("linger.ms", "7"), ("retry.backoff.ms", "5")]).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    close(&producer);
}

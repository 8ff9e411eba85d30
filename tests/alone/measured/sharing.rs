//! Producers that share a cluster: whose threads and connections they are, and when these end.

use std::thread;

use kafka_blocking::testing::{Api, FakeCluster};
use kafka_blocking::{BrokerId, Record};

use crate::common::*;
use crate::{alone, assert_no_threads, open_descriptors};

const BROKER: BrokerId = BrokerId(1);

fn threads_named(name: &str) -> usize {
    kafka_threads().iter().filter(|(_, thread)| thread == name).count()
}

#[test]
fn producers_on_one_cluster_share_its_thread_its_connection_and_what_it_knows() {
    let _alone = alone();
    let fake = FakeCluster::builder().brokers(3).topic("t", 3).topic("u", 1).start().unwrap();
    let cluster = shared(&fake);
    let [first, second] = [0, 1].map(|_| on(&cluster).idempotence(false).build().unwrap());
    succeed(&send_all(&first, "t", 0, 0, 5));
    let asked = metadata_requests(&fake);
    // What one producer has asked for is known to the other, also to a call that must not wait.
    let sent = second.try_send(Record::to("t").partition(0).value("5"));
    succeed(&[sent.unwrap()]);
    succeed(&send_all(&second, "t", 0, 6, 10));
    assert_eq!(second.partitions_for("t").unwrap().len(), 3);
    assert_eq!(metadata_requests(&fake), asked, "{:?}", seen(&fake, Api::Metadata));
    assert_eq!(threads_named("kafka-metadata"), 1);
    succeed(&send_all(&second, "u", 0, 0, 5));
    let connections: std::collections::HashSet<u64> =
        seen(&fake, Api::Metadata).iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 1, "one connection for metadata");
    assert_once_in_order(&fake, "t", 0, 10);
    for producer in [first, second] {
        close(&producer);
    }
    assert_eq!(threads_named("kafka-metadata"), 1, "the cluster's handle keeps it");
    drop(cluster);
    assert_no_threads();
}

#[test]
fn the_last_handle_ends_the_clusters_thread_and_connection_in_whatever_order_they_go() {
    let _alone = alone();
    let fake = one_topic("t", 1);
    let settled = |wanted: usize| {
        until("the descriptors are closed", || fake.connection_count(BROKER) == 0 && open_descriptors() <= wanted);
    };
    let descriptors = open_descriptors();
    for round in 0..30 {
        let cluster = shared(&fake);
        let clone = cluster.clone();
        let producers = [0, 1].map(|_| on(&cluster).build().unwrap());
        for producer in &producers {
            succeed(&send_all(producer, "t", 0, 0, 3));
        }
        until("all threads are there", || kafka_threads().len() >= 9);
        let [first, second] = producers;
        match round % 5 {
            // The program lets go of the cluster first: the producers keep it.
            0 => {
                drop((cluster, clone));
                close(&first);
                succeed(&send_all(&second, "t", 0, 0, 3));
                close(&second);
            }
            1 => {
                drop((first, second));
                assert_eq!(threads_named("kafka-metadata"), 1);
                drop(cluster);
                assert_eq!(threads_named("kafka-metadata"), 1);
                drop(clone);
            }
            // A builder is a handle, too.
            2 => {
                let builder = on(&cluster);
                drop((cluster, clone, first, second));
                assert_eq!(threads_named("kafka-metadata"), 1);
                drop(builder);
            }
            // All at once.
            3 => thread::scope(|scope| {
                scope.spawn(|| drop(first));
                scope.spawn(|| drop(second));
                scope.spawn(|| drop(cluster));
                scope.spawn(|| drop(clone));
            }),
            // A closed producer is no handle, though a value of it is there still.
            _ => {
                close(&first);
                close(&second);
                drop((cluster, clone));
                assert_no_threads();
                drop((first, second));
            }
        }
        assert_no_threads();
        settled(descriptors);
    }
    // Without any use.
    drop(shared(&fake));
    assert_no_threads();
    settled(descriptors);
    assert_no_panics();
}

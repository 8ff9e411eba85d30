use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use super::*;
use crate::cluster::Creation;
use crate::cluster::tests::{client, cluster_of, only_client};
use crate::error::ErrorCode;
use crate::testing::{Api, FakeCluster};

const MINUTE: Duration = Duration::from_secs(60);

fn subscribe(cluster: &ClusterClient) -> (Subscription, Receiver<Arc<Snapshot>>) {
    let (tell, told) = unbounded();
    (cluster.subscribe(move |snapshot| tell.send(Arc::clone(snapshot)).unwrap()), told)
}

/// Waits until the listener hears a snapshot that knows the topic.
fn hear(told: &Receiver<Arc<Snapshot>>, topic: &str) -> u64 {
    let deadline = Instant::now() + MINUTE;
    loop {
        let snapshot = told.recv_deadline(deadline).unwrap();
        if snapshot.topic(topic).is_some_and(|topic| topic.is_known()) {
            return snapshot.version;
        }
    }
}

#[test]
fn each_subscriber_is_told_until_its_own_subscription_ends() {
    let fake = FakeCluster::builder().topic("a", 1).topic("b", 1).topic("c", 1).start().unwrap();
    let cluster = only_client(&fake);
    let (first, told_first) = subscribe(&cluster);
    let (_second, told_second) = subscribe(&cluster);
    assert!(told_first.is_empty() && told_second.is_empty(), "nothing is known yet");
    cluster.ask_for("a");
    hear(&told_first, "a");
    hear(&told_second, "a");
    // A later subscriber is told at once of what is known.
    let (third, told_third) = subscribe(&cluster);
    assert!(told_third.try_recv().unwrap().topic("a").is_some());
    drop(first);
    third.end();
    cluster.ask_for("b");
    hear(&told_second, "b");
    assert!(cluster.shared.subscribers.0.lock().len() == 1);
    for ended in [&told_first, &told_third] {
        assert!(ended.try_iter().all(|snapshot| snapshot.topic("b").is_none()));
        assert!(ended.recv().is_err(), "its listener is gone");
    }
    third.tell();
    cluster.ask_for("c");
    hear(&told_second, "c");
    cluster.leave();
}

#[test]
fn a_subscriber_that_is_slow_never_hears_an_older_snapshot_after_a_newer_one() {
    let fake = FakeCluster::builder().topic("a", 1).start().unwrap();
    let cluster = only_client(&fake);
    let (subscription, told) = subscribe(&cluster);
    cluster.ask_for("a");
    hear(&told, "a");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    {
                        let mut snapshot = cluster.shared.snapshot.write();
                        let next = Snapshot { version: snapshot.version + 1, ..Snapshot::clone(&snapshot) };
                        *snapshot = Arc::new(next);
                    }
                    cluster.shared.tell();
                }
            });
        }
    });
    let newest = cluster.snapshot().version;
    let versions: Vec<u64> = told.try_iter().map(|snapshot| snapshot.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    assert_eq!(versions.last(), Some(&newest));
    drop(subscription);
    cluster.leave();
}

#[test]
fn what_one_subscriber_may_create_is_not_created_for_the_other() {
    let fake = FakeCluster::builder().auto_create(2).start().unwrap();
    let cluster = cluster_of(&fake);
    let (reader, writer) = (client(&cluster, Creation::Forbidden), client(&cluster, Creation::Allowed));
    let (_reader, told_reader) = subscribe(&reader);
    let (_writer, told_writer) = subscribe(&writer);
    // Both are waited for at the same time, over and over.
    let await_topic = |topic: &'static str, client: &Arc<ClusterClient>, limit| {
        let client = Arc::clone(client);
        std::thread::spawn(move || client.await_topic(topic, Instant::now() + limit, None, |t| t.is_known()))
    };
    let missing = await_topic("missing", &reader, 3 * MINUTE);
    let wanted = await_topic("wanted", &writer, MINUTE);
    assert_eq!(wanted.join().unwrap().unwrap().partitions.len(), 2);
    for told in [&told_reader, &told_writer] {
        hear(told, "wanted");
    }
    // It was asked for, and the answer says that there is no such topic.
    let deadline = Instant::now() + MINUTE;
    while reader.snapshot().topic("missing").is_none() {
        told_reader.recv_deadline(deadline).unwrap();
    }
    let error = reader.snapshot().topic("missing").unwrap().error;
    assert_eq!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    // Rounds that ask for both kinds.
    for _ in 0..3 {
        let before = fake.request_count(Api::Metadata);
        writer.ask_for("wanted");
        assert!(fake.wait_for_requests(Api::Metadata, before + 4, MINUTE));
    }
    assert!(fake.partition_count("missing").is_err(), "nobody may create it");
    // A client that sees a topic because others want it is not interested in it by that.
    assert!(writer.usage("missing").is_none());
    let before = fake.request_count(Api::Metadata);
    writer.ask_for("wanted");
    assert!(fake.wait_for_requests(Api::Metadata, before + 4, MINUTE));
    assert!(fake.partition_count("missing").is_err());
    // Now a client that may create it wants it, and the client that waits gets it too.
    writer.ask_for("missing");
    assert_eq!(missing.join().unwrap().unwrap().partitions.len(), 2);
    for client in [reader, writer] {
        client.leave();
    }
}

//! Fetch sessions (KIP-227): with one, without, and when it is lost.

use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On};
use kafka_blocking::{ErrorCode, Start};

use super::*;

/// Reads all of partitions with so many records each, and checks that each comes once and in order.
#[track_caller]
fn read_all(consumer: &mut Consumer, partitions: usize, records: i64, mut step: impl FnMut(usize)) {
    let (mut next, mut read) = (vec![0; partitions], 0);
    while next.iter().any(|next| *next < records) {
        for record in consumer.poll(BOUND).unwrap().records() {
            let record = record.unwrap();
            let place = record.partition() as usize;
            assert_eq!(record.offset(), next[place]);
            next[place] += 1;
            read += 1;
        }
        step(read);
    }
}

#[test]
fn a_fetch_of_a_session_names_what_has_changed_alone() {
    watch_for_panics();
    let cluster = one_topic("t", 300);
    let builder = consumer(&cluster).fetch_max_wait(ms(50));
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    until("a session is there", || cluster.fetch_session_count() == 1);
    // What a request names are the partitions in it. Once all positions are known, nothing changes any more.
    let fetches = || cluster.requests().into_iter().filter(|request| request.api == Api::Fetch);
    until("nothing is named any more", || {
        let all: Vec<_> = fetches().collect();
        all.len() > 6 && all[all.len() - 6..].iter().all(|request| request.partitions.is_empty())
    });
    write(&cluster, 7, 0, 10);
    assert_eq!(take(&mut consumer, 10).len(), 10);
    let named = || cluster.requests().into_iter().rev().find(|r| r.api == Api::Fetch && !r.partitions.is_empty());
    until("the new position is told", || {
        let partitions = named().unwrap().partitions;
        partitions.len() == 1 && partitions[0].1 == Some(7)
    });
    assert_no_panics();
}

#[test]
fn a_session_that_is_lost_costs_no_record() {
    watch_for_panics();
    let cluster = three_brokers("t", 6);
    for partition in 0..6 {
        for n in 0..20 {
            write(&cluster, partition, 50 * n, 50 * (n + 1));
        }
    }
    let builder = consumer(&cluster).max_partition_fetch_bytes(1024).max_poll_bytes(1).buffer_memory(64 * 1024);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let mut lost = 0;
    read_all(&mut consumer, 6, 1000, |read| {
        if read / 200 > lost {
            lost = read / 200;
            cluster.forget_fetch_sessions();
        }
    });
    assert!(lost > 20);
    assert_no_panics();
}

#[test]
fn every_error_of_a_session_leads_to_a_new_one() {
    watch_for_panics();
    for code in [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        let cluster = one_topic("t", 2);
        let mut consumer =
            consumer(&cluster).assign_topic("t", Start::Beginning).fetch_max_wait(ms(20)).build().unwrap();
        until("a session is there", || cluster.fetch_session_count() == 1);
        // The long poll names nothing, so the whole answer is the error.
        let fault = cluster.inject(On::api(Api::Fetch).times(2), Fault::Error(code));
        until("the errors were answered", || fault.fired() == 2);
        write(&cluster, 0, 0, 10);
        assert_eq!(offsets(&take(&mut consumer, 10)), (0..10).collect::<Vec<_>>(), "{code}");
        assert_no_panics();
    }
}

#[test]
fn a_broker_without_sessions_is_asked_for_every_partition_in_turn() {
    watch_for_panics();
    for (version, slots) in [(KafkaVersion::V4_3, 0), (KafkaVersion::V0_11, 1000)] {
        let cluster = FakeCluster::builder().version(version).fetch_sessions(slots).topic("t", 5).start().unwrap();
        for partition in 0..5 {
            for n in 0..10 {
                write(&cluster, partition, 20 * n, 20 * (n + 1));
            }
        }
        // An answer has room for one batch: the first partition of the request gets it.
        let builder = consumer(&cluster).fetch_max_bytes(1024).max_partition_fetch_bytes(1024).max_poll_bytes(1);
        let mut consumer = builder.buffer_memory(64 * 1024).assign_topic("t", Start::Beginning).build().unwrap();
        read_all(&mut consumer, 5, 200, |_| {});
        assert_eq!(cluster.fetch_session_count(), 0);
        assert_no_panics();
    }
}

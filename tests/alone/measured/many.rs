//! Thousands of partitions at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use kafka_blocking::testing::{FakeCluster, KafkaVersion};
use kafka_blocking::{BrokerId, Delivery, Producer};

use crate::common::*;
use crate::{ALLOCATOR, alone};

const PARTITIONS: i32 = 5000;

/// What the process has allocated and not given back.
fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Runs `work`, and answers by how much the heap has grown at most meanwhile.
fn peak_of(work: impl FnOnce()) -> usize {
    let (done, peak, before) = (AtomicBool::new(false), AtomicUsize::new(0), heap());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(heap().saturating_sub(before), Ordering::Relaxed);
                thread::sleep(ms(1));
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
    peak.into_inner()
}

/// Sends a record to every partition and waits for all.
fn round(producer: &Producer, number: u64) -> Vec<Delivery> {
    let sent: Vec<_> = (0..PARTITIONS).map(|partition| send(producer, "t", partition, number)).collect();
    producer.flush_timeout(BOUND).unwrap();
    sent
}

/// All leaders move at once. With `hints_alone` the cluster is not asked who leads what. Answers what was allocated
/// meanwhile, in bytes.
fn all_leaders_move(version: KafkaVersion, hints_alone: bool, request_bytes: usize) -> usize {
    let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", PARTITIONS as usize).start().unwrap();
    let builder = patient(&cluster).max_request_size(request_bytes);
    let builder = if hints_alone { builder.retry_backoff_max(HOUR).retry_backoff(HOUR) } else { builder };
    let producer = builder.build().unwrap();
    for number in 0..2 {
        succeed(&round(&producer, number));
    }
    let errors = producer.metrics().error_answers;
    for partition in 0..PARTITIONS {
        let leader = cluster.leader("t", partition).unwrap().unwrap();
        cluster.move_leader("t", partition, BrokerId(leader.0 % 3 + 1)).unwrap();
    }
    let (started, requests) = (Instant::now(), metadata_requests(&cluster));
    let allocated = ALLOCATOR.stats().bytes_allocated;
    let peak = peak_of(|| drop(succeed(&round(&producer, 2))));
    let (time, allocated) = (started.elapsed(), ALLOCATOR.stats().bytes_allocated - allocated);
    println!(
        "{version:?}, hints alone: {hints_alone}: {time:?}, {} KiB at most, {} KiB in all",
        peak >> 10,
        allocated >> 10
    );
    let moved = producer.metrics().error_answers - errors;
    // Metadata that the first answers have asked for may come before the last batches go.
    let least = if hints_alone { PARTITIONS } else { 1 };
    assert!(moved as i32 >= least, "only {moved} batches met an old leader");
    let requests = metadata_requests(&cluster) - requests;
    assert!(if hints_alone { requests == 0 } else { requests > 0 }, "{requests} metadata requests");
    assert!(peak < 64 << 20, "{peak} bytes");
    assert!(time < BOUND, "{time:?}");
    for partition in 0..PARTITIONS {
        assert_once_in_order(&cluster, "t", partition, 3);
    }
    assert_no_refusals(&cluster);
    close(&producer);
    allocated
}

#[test]
fn five_thousand_partitions_that_move_at_once_cost_little_more_than_a_round() {
    let _alone = alone();
    for (version, hints_alone) in [(KafkaVersion::V4_3, true), (KafkaVersion::V4_3, false), (KafkaVersion::V2_8, false)]
    {
        let allocated = all_leaders_move(version, hints_alone, 1 << 20);
        assert!(allocated < 256 << 20, "{version:?}: {allocated} bytes");
    }
}

#[test]
fn thousands_of_hints_in_an_answer_each_cost_little() {
    let _alone = alone();
    // So small that each batch is a request of its own.
    let allocated = all_leaders_move(KafkaVersion::V4_3, true, 100);
    assert!(allocated < 4 << 30, "{allocated} bytes");
}

//! What a record costs beside a load that takes all that there is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Acks, Record};

use crate::alone;
use crate::common::*;

#[test]
fn a_partition_under_full_load_does_not_keep_another_one_from_the_broker() {
    let _alone = alone();
    let cluster = FakeCluster::builder().topic("t", 2).sink().start().unwrap();
    let producer = quick(&cluster).acks(Acks::None).idempotence(false).buffer_memory(1 << 20).build().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let value = vec![b'x'; 16_000];
                while !stop.load(Ordering::Relaxed) {
                    drop(producer.send(Record::to("t").partition(0).value(&value[..])));
                }
            });
        }
        until("the load runs", || producer.metrics().requests_sent > 100);
        // How many requests go out while the record of the other partition waits for its own, and this thread for the
        // processor. Nothing else bounds what a record costs: where nobody waits for answers, requests have no end.
        let mut requests: Vec<u64> = (0..11)
            .map_while(|number| {
                let before = producer.metrics().requests_sent;
                // A wait cuts the linger.
                send(&producer, "t", 1, number).wait_timeout(BOUND)?.unwrap();
                Some(producer.metrics().requests_sent - before)
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(requests.len(), 11, "a record does not get out at all");
        requests.sort_unstable();
        assert!(requests[5] <= 100, "requests while records wait for theirs: {requests:?}");
    });
    close(&producer);
}

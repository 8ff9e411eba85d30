//! How records without a key are spread over brokers of which one is slow.

use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::Record;
use kafka_blocking::testing::{Fault, On};

use crate::common::*;

const A_SECOND: u64 = 30_000;

/// Sends records of 100 bytes without a key to three brokers, of which the first answers each request so much later.
/// Answers its share in percent.
fn share_of_a_slow_broker(delay: Duration, adaptive: bool, seconds: u64) -> i64 {
    let cluster = three_brokers("t", 3);
    let producer = quick(&cluster).linger(ms(5)).partitioner_adaptive(adaptive).build().unwrap();
    for partition in 0..3 {
        succeed(&send_all(&producer, "t", partition, 0, 1));
    }
    let slow = (0..3).find(|partition| cluster.leader("t", *partition).unwrap().unwrap().0 == 1).unwrap();
    let late = cluster.inject(On::produce().broker(kafka_blocking::BrokerId(1)).always(), Fault::Delay(delay));
    let (started, value) = (Instant::now(), [b'x'; 100]);
    let mut sent = Vec::new();
    for number in 0..seconds * A_SECOND {
        // At a rate that a machine which stood still does not make up for: its burst would be another load.
        if number % (A_SECOND / 1000) == 0 {
            thread::sleep(Duration::from_micros(900));
        }
        sent.push(producer.send(Record::to("t").value(value)));
    }
    println!("sent {} in {:?}", sent.len(), started.elapsed());
    succeed(&sent);
    assert!(late.fired() > 5, "{} requests were late", late.fired());
    let counts: Vec<i64> = (0..3).map(|partition| cluster.log_len("t", partition).unwrap()).collect();
    println!("{delay:?} late, adaptive: {adaptive}: {counts:?}");
    close(&producer);
    100 * counts[slow as usize] / counts.iter().sum::<i64>()
}

#[test]
fn a_slow_broker_gets_fewer_records_without_a_key() {
    watch_for_panics();
    // A broker that is a little late takes its part in larger batches, and hardly has a queue.
    at_once([(ms(20), 38), (ms(200), 22)], |(delay, limit)| {
        let share = share_of_a_slow_broker(delay, true, 4);
        assert!(share < limit, "{share} % of the records went to a broker that is {delay:?} late");
    });
}

#[test]
fn without_adaptivity_a_slow_broker_gets_as_many_records_as_others() {
    watch_for_panics();
    at_once([ms(20), ms(200)], |delay| {
        let share = share_of_a_slow_broker(delay, false, 4);
        assert!((25..42).contains(&share), "{share} % of the records went to a broker that is {delay:?} late");
    });
}

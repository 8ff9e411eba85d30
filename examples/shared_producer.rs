//! Many threads that share one producer, each waiting for its own records.
//!
//! `cargo run --example shared_producer [BOOTSTRAP_SERVERS]`

mod support;

use std::panic::resume_unwind;
use std::thread;

use kafka_blocking::{Delivery, Producer, Record, Result};

const THREADS: usize = 8;
const RECORDS: usize = 1000;

fn main() -> Result<()> {
    let servers = support::servers(&[("readings", 12)])?;

    // One producer for the whole program: its connections, threads and batches are shared. A reference serves as
    // well as a clone, which is for threads that outlive the scope.
    let producer = Producer::builder(servers).build()?;
    let results: Vec<Result<usize>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|sensor| {
                let producer = &producer;
                scope.spawn(move || measure(producer, sensor))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    for (sensor, result) in results.into_iter().enumerate() {
        println!("sensor {sensor}: {} records delivered", result?);
    }
    let metrics = producer.metrics();
    println!("{} records in {} batches", metrics.records_acknowledged, metrics.batches_sent);
    producer.close()?;
    Ok(())
}

/// Sends a thousand records at full speed, and then waits for all of them: the order within a partition is kept, and
/// an error says which record it was.
fn measure(producer: &Producer, sensor: usize) -> Result<usize> {
    let key = format!("sensor-{sensor}");
    let sent: Vec<Delivery> = (0..RECORDS)
        .map(|reading| producer.send(Record::to("readings").key(&key).value(reading.to_string())))
        .collect();
    let count = sent.len();
    for delivery in sent {
        delivery.wait()?;
    }
    Ok(count)
}

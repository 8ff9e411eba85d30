//! Sends without waiting: first without looking at the result, then with a callback for each record.
//!
//! `cargo run --example fire_and_forget [BOOTSTRAP_SERVERS]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    // Without an address the example talks to a cluster in this process; a program of yours only needs the address.
    let fake = FakeCluster::builder().topic("clicks", 3).start()?;
    let servers = std::env::args().nth(1).map_or_else(|| fake.bootstrap(), |servers| vec![servers]);
    let producer = Producer::builder(servers).build()?;

    // The handle that `send` returns is dropped. The record is sent all the same, and retried if need be; only its
    // result is not seen.
    for n in 0..1000 {
        producer.send(Record::to("clicks").value(format!("click {n}")));
    }

    // Callbacks run on a thread of the producer's own, in the order of the records of a partition. They must not
    // take long, since others wait behind them.
    let delivered = Arc::new(AtomicU32::new(0));
    let failed = Arc::new(AtomicU32::new(0));
    for n in 0..1000 {
        let (delivered, failed) = (Arc::clone(&delivered), Arc::clone(&failed));
        let record = Record::to("clicks").key(format!("user-{}", n % 7)).value(format!("click {n}"));
        producer.send_with(record, move |result| match result {
            Ok(_) => {
                delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                eprintln!("click {n}: {error}");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    // Returns once every record has its result and every callback has run.
    producer.flush(Duration::from_secs(30))?;
    println!("{} delivered, {} failed", delivered.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!("{} in all, those without a callback included", producer.metrics().records_acknowledged);

    // A producer that goes out of scope delivers what is left, too; `close` says what could not be delivered.
    producer.close(Duration::from_secs(10))?;
    Ok(())
}

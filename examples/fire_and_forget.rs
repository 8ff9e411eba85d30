//! Sends without waiting: first without looking at the results, then with a callback for each record.
//!
//! `cargo run --example fire_and_forget [BOOTSTRAP_SERVERS]`

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka_blocking::{Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("clicks", 3)])?;
    // One place for every record that fails, whoever has sent it. It runs on the same thread as callbacks.
    let producer = Producer::builder(servers).on_failure(|error| eprintln!("lost: {error:#}")).build()?;

    // The program lets go of the handle that `send` returns. The record is sent all the same, and retried if need be.
    for n in 0..1000 {
        producer.send(Record::to("clicks").value(format!("click {n}"))).detach();
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
            Err(_) => {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    // Returns once every record has its result and every callback has run.
    producer.flush()?;
    println!("{} delivered, {} failed", delivered.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!("{} in all, those without a callback included", producer.metrics().records_acknowledged);

    // A producer that goes out of scope delivers what is left, too; `close` says what could not be delivered.
    producer.close()?;
    Ok(())
}

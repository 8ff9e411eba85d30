//! A counter as the key maker, and the partition by the counter modulo the partitions: messages go round them evenly,
//! and need no counter of their own.
//!
//! `cargo run --example counter_key [BOOTSTRAP_SERVERS]`

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use kafka_blocking::serialization::{from_fn, text};
use kafka_blocking::{Producer, TypedProducer};
use serde_json::{Value, json};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("example.topic", 3)])?;
    let producer = Producer::builder(servers).build()?;

    // Many threads may send at once, so the state of a key maker is an atomic, or behind a lock.
    let counter = AtomicUsize::new(0);
    let producer = TypedProducer::new(producer, text(), from_fn(Value::to_string))
        .key_maker(move |_| counter.fetch_add(1, Ordering::Relaxed))
        // It gets the number; what is stored as the key are its digits.
        .partitioner_by_key(|key, partitions| {
            let key = key.ok_or("there is no key")?;
            let place = key.checked_rem(partitions.len()).ok_or("the topic has no partitions")?;
            partitions.get(place).copied().ok_or("the topic has no such partition")
        });

    let message = json!({ "how": "now", "brown": "cow" });
    for _ in 0..6 {
        let sent = producer.produce("example.topic", &message).wait()?;
        println!("{sent}");
    }
    producer.close()?;
    Ok(())
}

//! Random colours in a loop, ten records to a batch, each batch compressed with gzip.
//!
//! `cargo run --example random_colours [BOOTSTRAP_SERVERS]`

mod support;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kafka_blocking::{Compression, Producer, Record};

const COLOURS: [&str; 5] = ["blue", "green", "orange", "red", "violet"];

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("colours", 1)])?;

    // A batch goes on its way with its tenth record, or after 100 ms with fewer.
    let producer = Producer::builder(servers)
        .batch_records(10)
        .linger(Duration::from_millis(100))
        .compression(Compression::gzip())
        .build()?;
    let random = RandomState::new();
    for n in 0..95 {
        let index = usize::try_from(random.hash_one(n) % 5).unwrap_or(0);
        let colour = COLOURS.get(index).copied().unwrap_or("grey");
        let record = Record::to("colours").value(serde_json::json!({ "colour": colour }).to_string());
        producer.send_with(record, |result| {
            if let Err(error) = result {
                eprintln!("{error}");
            }
        });
    }
    producer.flush()?;

    let metrics = producer.metrics();
    println!(
        "{} colours in {} batches, {} bytes instead of {}",
        metrics.records_acknowledged,
        metrics.batches_sent,
        metrics.bytes_acknowledged,
        metrics.uncompressed_bytes_acknowledged
    );
    producer.close()?;
    Ok(())
}

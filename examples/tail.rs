//! Follows a topic: prints every record, the oldest first, and those that come.
//!
//! `cargo run --example tail [BOOTSTRAP_SERVERS TOPIC]`

use std::thread;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Consumer, Producer, Record, Start};

fn main() -> kafka_blocking::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [servers, topic] = arguments.as_slice() {
        return tail(Consumer::builder([servers.as_str()]).assign_topic(topic, Start::Beginning).build()?, None);
    }
    // Without arguments the example follows ten records on a cluster in this process.
    let fake = FakeCluster::builder().topic("ticks", 3).start()?;
    let consumer = Consumer::builder(fake.bootstrap()).assign_topic("ticks", Start::Beginning).build()?;
    let producer = Producer::builder(fake.bootstrap()).build()?;
    let writer = thread::spawn(move || {
        (0..10).try_for_each(|n| {
            producer
                .send(Record::to("ticks").key(format!("clock-{}", n % 3)).value(format!("tick {n}")))
                .wait()
                .map(drop)
        })
    });
    tail(consumer, Some(10))?;
    writer.join().unwrap_or(Ok(()))
}

/// Prints so many records; `None`: all that there will ever be.
fn tail(mut consumer: Consumer, count: Option<usize>) -> kafka_blocking::Result<()> {
    for record in consumer.records().take(count.unwrap_or(usize::MAX)) {
        let record = record?;
        let text = |bytes: Option<&[u8]>| {
            bytes.map_or_else(|| "null".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        println!(
            "{}-{} at {}: {} = {}",
            record.topic(),
            record.partition(),
            record.offset(),
            text(record.key()),
            text(record.value())
        );
    }
    consumer.close()
}

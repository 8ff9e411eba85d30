//! Sends one record and prints where it went.

use kafka_blocking::{Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    env_logger::init();
    let address = std::env::args().nth(1).unwrap_or_default();
    let producer = Producer::builder([address]).build()?;
    for n in 0..5 {
        let sent = producer.send(Record::to("example.topic").key("user-7").value(format!("hello {n}"))).wait()?;
        println!("{}-{} at offset {}", sent.topic, sent.partition, sent.offset);
    }
    producer.close(std::time::Duration::from_secs(10))?;
    Ok(())
}

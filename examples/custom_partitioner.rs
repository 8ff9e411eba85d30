//! Partitioners of one's own: a type that keeps the busiest key apart from all others, and a closure.
//!
//! `cargo run --example custom_partitioner [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::partitioner::{Choice, PartitionRequest, Partitioner, PartitionerError, hash, partitioner_fn};
use kafka_blocking::{Producer, Record};

/// Gives one very common key the last partition for itself and spreads all other keys over the rest.
struct Skew {
    common_key: Vec<u8>,
}

impl Partitioner for Skew {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let key = request.key.ok_or("all records are expected to have a key")?;
        let (last, rest) = request.partitions.split_last().ok_or("the topic has no partitions")?;
        if key == self.common_key || rest.is_empty() {
            return Ok(Choice::Partition(*last));
        }
        // The hash of Java's client (`Math.abs(Utils.murmur2(key))`), over the partitions that are left.
        let hash = usize::try_from(hash::murmur2(key).cast_signed().unsigned_abs())?;
        let partition = rest.get(hash % rest.len()).ok_or("the topic has no such partition")?;
        Ok(Choice::Partition(*partition))
    }
}

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("orders", 4)])?;

    let skew = Skew { common_key: b"VeryCommonKey".to_vec() };
    let producer = Producer::builder(&servers).partitioner(skew).build()?;
    for key in ["VeryCommonKey", "Ann's shop", "VeryCommonKey", "Bob's shop", "Carl's shop"] {
        let sent = producer.send(Record::to("orders").key(key).value("1 apple")).wait()?;
        println!("{key}: partition {}", sent.partition());
    }
    // A partitioner's error is the send's error, with the partitioner's own words as its cause.
    if let Err(error) = producer.send(Record::to("orders").value("1 pear")).wait() {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        println!("no key: {error}: {cause}");
    }
    producer.close()?;

    // The short form: the key and the topic's partitions in, one of the partitions out.
    let by_length = partitioner_fn(|key, partitions| {
        let length = key.map_or(0, <[u8]>::len);
        partitions.get(length % partitions.len().max(1)).copied().ok_or("the topic has no partitions")
    });
    let producer = Producer::builder(&servers).partitioner(by_length).build()?;
    let sent = producer.send(Record::to("orders").key("seven..").value("7 plums")).wait()?;
    println!("seven..: partition {}", sent.partition());
    producer.close()?;
    Ok(())
}

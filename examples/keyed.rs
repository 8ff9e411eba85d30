//! Records of one user stay in one partition: by consistent hashing, and by the user's number modulo the partitions.
//!
//! `cargo run --example keyed [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{Producer, Record, partitioner};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("logins", 3)])?;

    // The hash ring keeps a user's partition, and when partitions are added it moves few users.
    let producer = Producer::builder(&servers).partitioner(partitioner::hash_ring()).build()?;
    for user_id in ["ann", "bob", "carl", "ann", "bob", "carl"] {
        let message = serde_json::json!({ "user_id": user_id, "event": "login" });
        let sent = producer.send(Record::to("logins").key(user_id).value(message.to_string())).wait()?;
        println!("hash ring: {user_id} in partition {}", sent.partition());
    }
    producer.close()?;

    // A counter as the key, modulo the number of partitions, goes round them evenly.
    let producer = Producer::builder(&servers).partitioner(partitioner::modulo()).build()?;
    for counter in 0..6 {
        let sent = producer.send(Record::to("logins").key(counter.to_string()).value("login")).wait()?;
        println!("modulo: {counter} in partition {}", sent.partition());
    }
    producer.close()?;
    Ok(())
}

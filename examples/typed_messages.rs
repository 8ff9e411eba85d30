//! Messages of a type of one's own, as JSON, with a key that is made of each message.
//!
//! `cargo run --example typed_messages [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::serialization::{java, json};
use kafka_blocking::{Producer, TypedProducer, partitioner};
use serde_json::{Value, json};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("logins", 3), ("colours", 1)])?;

    // The ring keeps a user in one partition, and moves few users when partitions are added.
    let producer = Producer::builder(servers).partitioner(partitioner::hash_ring()).build()?;

    // `Value` stands for any type that serde serializes. The key maker may fail; then that message is not sent.
    let logins = TypedProducer::new(producer.clone(), java(), json())
        .try_key_maker(|message: &Value| message["user_id"].as_str().map(str::to_owned).ok_or("there is no user_id"));
    for user in ["ann", "bob", "ann"] {
        let sent = logins.produce("logins", &json!({ "user_id": user, "event": "login" })).wait()?;
        println!("{user} in partition {}", sent.partition());
    }

    // The error is that of this one call, and known at once.
    if let Err(error) = logins.produce("logins", &json!({ "name": "carl" })).wait() {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        println!("not sent: {error}: {cause}");
    }

    // Without a key maker the key is null. Both share one producer, with its threads and connections.
    let colours = TypedProducer::json(producer.clone());
    colours.produce("colours", &json!({ "colour": "blue" })).wait()?;

    producer.close()?;
    Ok(())
}

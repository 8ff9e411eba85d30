//! A type of one's own with a serializer of one's own: a function, and one that may fail.
//!
//! `cargo run --example custom_serializer [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::serialization::{from_fn, java, try_from_fn};
use kafka_blocking::{Producer, TypedProducer};

struct Thing {
    stuff: String,
}

impl Thing {
    fn serialize(&self) -> String {
        serde_json::json!({ "stuff": self.stuff }).to_string()
    }
}

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("example.things", 1)])?;
    let producer = Producer::builder(servers).build()?;

    // Things have no key: `()` is null.
    let things: TypedProducer<(), Thing> = TypedProducer::new(producer.clone(), java(), from_fn(Thing::serialize));
    let thing = Thing { stuff: "foo".into() };
    let sent = things.produce("example.things", &thing).wait()?;
    println!("{}: {sent}", thing.serialize());

    // A serializer of a function that may fail: its error is the call's, and nothing is sent.
    let short = try_from_fn(|thing: &Thing| {
        if thing.stuff.len() < 10 { Ok(thing.serialize()) } else { Err(format!("too long: {}", thing.stuff.len())) }
    });
    let things: TypedProducer<(), Thing> = TypedProducer::new(producer, java(), short);
    let long = Thing { stuff: "a long story".into() };
    if let Err(error) = things.produce("example.things", &long).wait() {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        println!("not sent: {error}: {cause}");
    }

    things.close()?;
    Ok(())
}

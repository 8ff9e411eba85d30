//! Keys and values as Java's serializers write them: two of strings, and an integer with a floating point number.
//!
//! `cargo run --example string_serializers [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::serialization::java;
use kafka_blocking::{Producer, TypedProducer, TypedRecord};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("CustomerCountry", 3), ("prices", 1)])?;
    let producer = Producer::builder(servers).build()?;

    // Java: StringSerializer and StringSerializer.
    let countries: TypedProducer<str, str> = TypedProducer::new(producer.clone(), java(), java());
    let record = TypedRecord::to("CustomerCountry").key("Precision Products").value("France");
    let sent = countries.send(record).wait()?;
    println!("{sent}");

    // Java: IntegerSerializer and DoubleSerializer, on the same producer. Without a value the record is a tombstone.
    let prices: TypedProducer<i32, f64> = TypedProducer::new(producer, java(), java());
    prices.send(TypedRecord::to("prices").key(&7).value(&9.99)).wait()?;
    let sent = prices.send(TypedRecord::to("prices").key(&7)).wait()?;
    println!("{sent}");

    prices.close()?;
    Ok(())
}

//! Keys and values as Java's serializers write them: two of strings, and an integer with a floating point number.
//!
//! `cargo run --example string_serializers [BOOTSTRAP_SERVERS]`

use kafka_blocking::serialization::java;
use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, TypedProducer, TypedRecord};

fn main() -> kafka_blocking::Result<()> {
    // Without an address the example talks to a cluster in this process; a program of yours only needs the address.
    let fake = FakeCluster::builder().topic("CustomerCountry", 3).topic("prices", 1).start()?;
    let servers = std::env::args().nth(1).map_or_else(|| fake.bootstrap(), |servers| vec![servers]);
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

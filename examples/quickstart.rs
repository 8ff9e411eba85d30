//! Sends records, waits until each is acknowledged, and prints where it went.
//!
//! `cargo run --example quickstart [BOOTSTRAP_SERVERS]`

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    // Without an address the example talks to a cluster in this process; a program of yours only needs the address.
    let fake = FakeCluster::builder().topic("greetings", 3).start()?;
    let servers = std::env::args().nth(1).map_or_else(|| fake.bootstrap(), |servers| vec![servers]);

    let producer = Producer::builder(servers).build()?;
    for name in ["Ada", "Grace", "Edsger"] {
        let record = Record::to("greetings").key(name).value(format!("Hello, {name}!"));
        let sent = producer.send(record).wait()?;
        println!("{name}: {sent}");
    }
    producer.close()?;
    Ok(())
}

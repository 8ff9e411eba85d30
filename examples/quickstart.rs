//! Sends records, waits until each is acknowledged, and prints where it went.
//!
//! `cargo run --example quickstart [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("greetings", 3)])?;

    let producer = Producer::builder(servers).build()?;
    for name in ["Ada", "Grace", "Edsger"] {
        let record = Record::to("greetings").key(name).value(format!("Hello, {name}!"));
        let sent = producer.send(record).wait()?;
        println!("{name}: {sent}");
    }
    producer.close()?;
    Ok(())
}

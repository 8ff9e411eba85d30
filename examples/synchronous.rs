//! Sends one record at a time, and decides by the error what to do about a failure.
//!
//! `cargo run --example synchronous [BOOTSTRAP_SERVERS]`

use std::time::Duration;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Error, Producer, Record, Recovery, Written};

fn main() -> kafka_blocking::Result<()> {
    // Without an address the example talks to a cluster in this process; a program of yours only needs the address.
    let fake = FakeCluster::builder().topic("CustomerCountry", 3).start()?;
    let servers = std::env::args().nth(1).map_or_else(|| fake.bootstrap(), |servers| vec![servers]);

    // Ten seconds for each record, retries included. `send` itself may wait as long for the topic's metadata.
    let producer = Producer::builder(servers)
        .request_timeout(Duration::from_secs(5))
        .delivery_timeout(Duration::from_secs(10))
        .max_block(Duration::from_secs(10))
        .build()?;

    let record = Record::to("CustomerCountry").key("Precision Products").value("France");
    match producer.send(record).wait() {
        Ok(sent) => println!("delivered: {sent}"),
        Err(error) => explain(&error),
    }

    // The topic has no such partition. The error is known at once, and comes out of `wait` like any other.
    let record = Record::to("CustomerCountry").partition(1_000_000).value("Atlantis");
    match producer.send(record).wait() {
        Ok(sent) => println!("delivered: {sent}"),
        Err(error) => explain(&error),
    }

    producer.close()?;
    Ok(())
}

fn explain(error: &Error) {
    println!("not delivered: {error}");
    match error.written() {
        Some(Written::No) => println!("  it is not in the log"),
        Some(Written::Maybe) => println!("  it may be in the log: sending it again may write it twice"),
        Some(Written::Yes) => println!("  it is in the log all the same"),
        None => println!("  no record is meant"),
    }
    match error.recovery() {
        Recovery::Retry => println!("  the producer has retried until its time was up; later it may work"),
        Recovery::Fix => println!("  the record, the settings or the cluster must change first"),
        Recovery::AbortTransaction => println!("  the transaction must be aborted"),
        Recovery::Fatal => println!("  this producer can do no more; build a new one"),
        // Later versions may know more: nothing that can be repeated without a look.
        other => println!("  {other:?}"),
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        println!("  because: {error}");
        cause = error.source();
    }
}

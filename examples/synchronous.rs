//! Sends one record at a time, and decides by the error what to do about a failure.
//!
//! `cargo run --example synchronous [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{Error, Producer, Record, Recovery, Written};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("CustomerCountry", 3)])?;

    // A record has two minutes, retries included, and `send` may wait a minute for the topic: the defaults. Who sets shorter
    // times loses records in an outage that Kafka itself would have survived, such as the election of a new leader.
    let producer = Producer::builder(servers).build()?;

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

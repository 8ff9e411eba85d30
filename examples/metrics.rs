//! A producer's figures: some of them one by one, and all in Prometheus' text format.
//!
//! `cargo run --example metrics [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{Compression, Producer, Record};

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[("page.views", 6)])?;

    let producer = Producer::builder(servers).compression(Compression::Lz4).build()?;
    for n in 0..10_000 {
        producer.send(Record::to("page.views").key(format!("user-{}", n % 100)).value(format!("/page/{n}"))).detach();
    }
    // A snapshot costs little and can be taken at any time, for instance by the thread that serves /metrics.
    println!("{} batches are on their way", producer.metrics().batches_unfinished);
    producer.flush()?;

    let metrics = producer.metrics();
    println!("{:.1} records per batch", metrics.records_per_batch());
    println!("99 % of the requests took at most {:?}", metrics.request_latency.quantile(0.99));
    // With a label, so that the producers of a program, or of several, can be told apart.
    print!("{}", metrics.to_prometheus(&[("client_id", "page-views")])?);

    producer.close()?;
    Ok(())
}

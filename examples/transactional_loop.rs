//! A hundred records that become visible together, or not at all: the loop that Java programs have.
//!
//! `cargo run --example transactional_loop [BOOTSTRAP_SERVERS]`

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Error, Producer, Record, Recovery};

fn main() -> kafka_blocking::Result<()> {
    // Without an address the example talks to a cluster in this process; a program of yours only needs the address.
    let fake = FakeCluster::builder().topic("my-topic", 3).start()?;
    let servers = std::env::args().nth(1).map_or_else(|| fake.bootstrap(), |servers| vec![servers]);

    // Each instance that runs at the same time has an id of its own, and keeps it when it is started again.
    let producer = Producer::builder(servers).transactional_id("my-transactional-id").build()?;

    // Locks a former instance out, and finishes what it left.
    producer.init_transactions()?;

    for attempt in 1..=3 {
        match hundred_records(&producer) {
            Ok(()) => {
                println!("100 records committed");
                break;
            }
            // Fenced by another instance, not authorized and the like: nothing but a new producer helps.
            Err(error) if error.recovery() == Recovery::Fatal => {
                println!("the producer cannot go on: {error}");
                break;
            }
            // Anything else: nothing of it is visible, and all of it is done again.
            Err(error) => {
                println!("attempt {attempt}: {error}");
                producer.abort_transaction()?;
            }
        }
    }

    producer.close()?;
    Ok(())
}

fn hundred_records(producer: &Producer) -> Result<(), Error> {
    producer.begin_transaction()?;
    for i in 0..100 {
        let number = i.to_string();
        // Nobody need wait for the handles: a record that fails makes the commit fail.
        producer.send(Record::to("my-topic").key(number.as_str()).value(number.as_str())).detach();
    }
    loop {
        match producer.commit_transaction() {
            // Only a commit says what has become of a commit that was late.
            Err(error) if error.recovery() == Recovery::Retry => println!("not yet: {error}"),
            result => return result,
        }
    }
}

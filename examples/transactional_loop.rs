//! A hundred records that become visible together, or not at all.
//!
//! `cargo run --example transactional_loop [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::{NotCommitted, Producer, Record, Recovery, Result};

fn main() -> Result<()> {
    let servers = support::servers(&[("my-topic", 3)])?;

    // Each instance that runs at the same time has an id of its own, and keeps it when it is started again.
    let producer = Producer::builder(servers).transactional_id("my-transactional-id").build()?;

    // Locks a former instance out, and finishes what it left.
    producer.init_transactions()?;

    for attempt in 1.. {
        match hundred_records(&producer) {
            Ok(()) => break,
            // The transaction is aborted, so nothing of it is visible: all of it can be done again.
            Err(error) if error.recovery() == Recovery::Retry && attempt < 3 => {
                println!("attempt {attempt}: {error:#}")
            }
            // Another instance has taken the id over, a record can never be sent, and the like.
            Err(error) => return Err(error),
        }
    }
    println!("100 records committed");
    producer.close()?;
    Ok(())
}

fn hundred_records(producer: &Producer) -> Result<()> {
    // A guard: whatever leaves this function early, a `?` or a panic, drops it, and that aborts the transaction.
    let transaction = producer.transaction()?;
    for i in 0..100 {
        let number = i.to_string();
        // Nobody needs to wait for the handle: a record that fails makes the commit fail.
        transaction.send(Record::to("my-topic").key(number.as_str()).value(number.as_str()));
    }

    // A commit that fails gives the transaction back, because what comes next depends on the error.
    let mut result = transaction.commit();
    loop {
        result = match result {
            // No answer in time: it may be committed or not. The same call, repeated, tells which.
            Err(not_committed) if not_committed.error().recovery() == Recovery::Retry => {
                println!("no answer yet: {:#}", not_committed.error());
                not_committed.into_transaction().commit()
            }
            // Aborts, and the error says whether the work can be done again. `into_transaction().abort()` does it by hand.
            result => return result.map_err(NotCommitted::into),
        }
    }
}

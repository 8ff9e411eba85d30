//! Reads words, writes what it counted, and commits its place in the input with the output: each word counts once,
//! although the program crashes on the way.
//!
//! `cargo run --example consume_process_produce [BOOTSTRAP_SERVERS]`

mod support;

use std::collections::BTreeMap;

// The consumer is not there yet: these are internals of the tests, not for programs.
use kafka_blocking::testing::internal_unstable::{Client, RawProducer};
use kafka_blocking::{GroupMetadata, Producer, Record, Result, TopicPartition};

const INPUT: &str = "sentences";
const OUTPUT: &str = "counts";
const GROUP: &str = "word-count";

fn main() -> Result<()> {
    let servers = support::servers(&[(INPUT, 1), (OUTPUT, 1)])?;

    let writer = Producer::builder(&servers).build()?;
    for sentence in ["to be or not to be", "that is the question"] {
        writer.send(Record::to(INPUT).partition(0).value(sentence)).wait()?;
    }
    writer.close()?;

    // The first run ends in the middle, with counts that are written and not committed.
    let crashed = count(&servers, true);
    println!("first run: {}", crashed.err().map_or_else(|| "done".to_owned(), |error| error.to_string()));
    count(&servers, false)?;

    let mut client = Client::connect(&servers)?;
    let end = client.end_offset(OUTPUT, 0)?;
    let counted = client.read_committed(OUTPUT, 0, 0..end)?;
    let total: usize = counted.iter().filter_map(|record| record.value_text().parse::<usize>().ok()).sum();
    println!("{total} words counted, each once");
    Ok(())
}

/// Processes what the group has not processed yet, a sentence in each transaction.
fn count(servers: &[String], crash: bool) -> Result<()> {
    let producer = Producer::builder(servers).transactional_id("word-count-1").build()?;
    producer.init_transactions()?;

    // A consumer's part, played by internals of the tests: from the group's offset to the end.
    let mut client = Client::connect(servers)?;
    let mut group = RawProducer::connect(servers, "reader")?;
    let start = group.committed_offset(GROUP, INPUT, 0)?.map_or(0, |committed| committed.offset);
    let end = client.end_offset(INPUT, 0)?;
    for sentence in client.read_committed(INPUT, 0, start..end)? {
        let mut words = BTreeMap::new();
        let text = sentence.value_text();
        text.split(' ').for_each(|word| *words.entry(word).or_insert(0) += 1);

        // Whatever leaves this block early, a `?` or a panic, aborts the transaction.
        let transaction = producer.transaction()?;
        for (word, count) in words {
            transaction.send(Record::to(OUTPUT).partition(0).key(word).value(count.to_string())).wait()?;
        }
        if crash && sentence.offset() > 0 {
            // Something that fails.
            transaction.send(Record::to(OUTPUT).partition(1_000_000).value("")).wait()?;
        }
        // The record to be read next.
        let next = [(TopicPartition::new(INPUT, 0), sentence.offset() + 1)];
        transaction.send_offsets(next, &GroupMetadata::new(GROUP))?;
        transaction.commit()?;
    }
    producer.close()?;
    Ok(())
}

//! Sends each line of standard input as a record, like Kafka's `kafka-console-producer`.
//!
//! `console_producer --bootstrap-server HOST:PORT --topic TOPIC [--property parse.key=true]
//! [--property key.separator=:] [--property null.marker=TEXT] [--command-property linger.ms=20]`
//!
//! Each line is sent when it comes, and the program ends at the end of the input. Without arguments it talks to a
//! cluster in this process.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{ProducerBuilder, Record};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    env_logger::init();
    match send_lines() {
        Ok(sent) => println!("{sent}"),
        Err(error) => {
            eprintln!("console_producer: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn send_lines() -> Outcome<String> {
    let fake = FakeCluster::builder().auto_create(3).start()?;
    let (mut topic, mut reader) = (String::from("console"), BTreeMap::new());
    let mut settings = BTreeMap::from([(String::from("bootstrap.servers"), fake.bootstrap().join(","))]);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--topic" => topic = value,
            "--bootstrap-server" | "--broker-list" => drop(settings.insert("bootstrap.servers".into(), value)),
            "--property" | "--reader-property" => reader.extend([name_and_value(&value)?]),
            "--command-property" | "--producer-property" => settings.extend([name_and_value(&value)?]),
            _ => return Err(format!("{option} is none of this program's options").into()),
        }
    }
    let parse_key = reader.get("parse.key").is_some_and(|value| value == "true");
    let separator = reader.get("key.separator").map_or("\t", String::as_str);
    let null = reader.get("null.marker").map(String::as_str);

    let producer = ProducerBuilder::from_properties(settings).build()?;
    let failed = Arc::new(AtomicU64::new(0));
    let mut lines = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        lines += 1;
        let (key, value) = match line.split_once(separator) {
            _ if !parse_key => (None, line.as_str()),
            Some((key, value)) => (Some(key), value),
            None => return Err(format!("no key separator in line {lines}").into()),
        };
        let not_null = |text: &&str| Some(*text) != null;
        let record = Record::to(&topic).key(key.filter(not_null)).value(Some(value).filter(not_null));
        let failed = Arc::clone(&failed);
        producer.send_with(record, move |result| {
            if let Err(error) = result {
                eprintln!("line {lines}: {error}");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    producer.close(Duration::from_secs(60))?;
    match failed.load(Ordering::Relaxed) {
        0 => Ok(format!("{lines} records sent to {topic}")),
        failed => Err(format!("{failed} of {lines} records were not delivered").into()),
    }
}

fn name_and_value(text: &str) -> Outcome<(String, String)> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} has no ="))?;
    Ok((name.to_owned(), value.to_owned()))
}

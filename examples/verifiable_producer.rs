//! Kafka's `kafka-verifiable-producer`: sends counting numbers and prints a line of JSON for each result.
//!
//! The options and the lines are those of Kafka 4.3, so that a test suite made for that tool can drive this client:
//!
//! `verifiable_producer --bootstrap-server HOST:PORT --topic TOPIC [--max-messages N] [--throughput N] [--acks 0|1|-1]
//! [--value-prefix N] [--repeating-keys N] [--message-create-time MS] [--command-config FILE]`
//!
//! What differs: `exception` names an error of this crate; after SIGTERM or SIGINT the exit code is 0 (the JVM's is
//! 143 or 130); without arguments it sends ten records to a cluster in this process.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Error, Producer, ProducerBuilder, Record, RecordMetadata, Timestamp};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Options {
    topic: String,
    max_messages: u64,
    throughput: i64,
    value_prefix: Option<i32>,
    repeating_keys: Option<u64>,
    create_time: Option<i64>,
    /// Java's names and values.
    properties: BTreeMap<String, String>,
}

fn main() -> ExitCode {
    env_logger::init();
    match verify() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verifiable_producer: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> Outcome<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let fake = arguments.is_empty().then(|| FakeCluster::builder().auto_create(3).start()).transpose()?;
    if let Some(fake) = &fake {
        let own = ["--topic", "verifiable", "--max-messages", "10", "--bootstrap-server", &fake.bootstrap().join(",")];
        arguments = own.map(str::to_owned).to_vec();
    }
    let options = Options::read(arguments)?;
    let producer = ProducerBuilder::from_properties(&options.properties).build()?;

    let begin = Instant::now();
    let acked = Arc::new(AtomicU64::new(0));
    print("startup_complete", &[]);
    let sent = run(&options, &producer, &acked)?;
    // Every record tells its own result, also those that this could not deliver.
    let _ = producer.close();
    print("shutdown_complete", &[]);
    let acked = acked.load(Ordering::Relaxed);
    let average = acked as f64 / begin.elapsed().as_secs_f64().max(0.001);
    let figures = [("sent", sent.into()), ("acked", acked.into())];
    let throughput = [("target_throughput", options.throughput.into()), ("avg_throughput", average.into())];
    print("tool_data", &[figures, throughput].concat());
    Ok(())
}

/// Sends until enough are sent or a signal comes, and returns how many were sent.
fn run(options: &Options, producer: &Producer, acked: &Arc<AtomicU64>) -> Outcome<u64> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (stop, stopped) = mpsc::channel();
    let closing = producer.clone();
    thread::spawn(move || {
        signals.forever().next();
        // The main loop may have ended, which is what it is told. Closing here ends a send that waits for a broker.
        let _ = stop.send(());
        let _ = closing.close();
    });
    let begin = Instant::now();
    for number in 0..options.max_messages {
        if stopped.recv_timeout(options.pause(number, begin)) != Err(RecvTimeoutError::Timeout) {
            return Ok(number);
        }
        let key = options.repeating_keys.map(|keys| (number % keys).to_string());
        let value = options.value_prefix.map_or(number.to_string(), |prefix| format!("{prefix}.{number}"));
        let mut record = Record::to(&options.topic).key(key.clone()).value(value.clone());
        if let Some(first) = options.create_time {
            record = record
                .timestamp(Timestamp::from_millis(first.saturating_add(i64::try_from(begin.elapsed().as_millis())?)));
        }
        let (topic, acked) = (options.topic.clone(), Arc::clone(acked));
        producer.send_with(record, move |result| {
            if result.is_ok() {
                acked.fetch_add(1, Ordering::Relaxed);
            }
            tell(&topic, key, value, result);
        });
    }
    Ok(options.max_messages)
}

fn tell(topic: &str, key: Option<String>, value: String, result: Result<RecordMetadata, Error>) {
    let (key, value) = (("key", key.into()), ("value", value.into()));
    match result {
        Ok(sent) => {
            // As Kafka's tool writes an offset that is not known.
            let place = [("offset", sent.offset().unwrap_or(-1).into()), ("topic", sent.topic().into())];
            let partition = ("partition", sent.partition().into());
            print("producer_send_success", &[&[key, value], &place[..], &[partition]].concat());
        }
        Err(error) => {
            let exception = ("exception", format!("{:?}", error.kind()).into());
            let fields = [("topic", topic.into()), key, value, exception, ("message", error.to_string().into())];
            print("producer_send_error", &fields);
        }
    }
}

/// Prints a line of JSON with the fields in this order.
fn print(name: &str, fields: &[(&str, Value)]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut line = format!(r#"{{"timestamp":{now},"name":"{name}""#);
    for (name, value) in fields {
        line.push_str(&format!(r#","{name}":{value}"#));
    }
    // Who reads this may have gone; the records are sent all the same.
    let _ = writeln!(std::io::stdout(), "{line}}}");
}

impl Options {
    fn read(arguments: Vec<String>) -> Outcome<Self> {
        let mut given = BTreeMap::new();
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option, arguments.next()),
            };
            given.insert(name.clone(), value.ok_or_else(|| format!("{name} needs a value"))?);
        }
        let mut take = |name| given.remove(name);
        let required = |name, value: Option<String>| value.ok_or_else(|| format!("the option {name} is required"));
        let (file, older) = (take("--command-config"), take("--producer.config"));
        if file.is_some() && older.is_some() {
            return Err("--producer.config and --command-config are mutually exclusive".into());
        }
        let properties = [
            ("bootstrap.servers", required("--bootstrap-server", take("--bootstrap-server"))?),
            ("acks", take("--acks").unwrap_or_else(|| "-1".to_owned())),
            // Kafka's tool does not retry, so that its user sees every failure. The file may say otherwise.
            ("retries", "0".to_owned()),
        ];
        let mut properties: BTreeMap<String, String> = properties.map(|(name, value)| (name.to_owned(), value)).into();
        if let Some(file) = file.or(older) {
            properties.extend(read_properties(&std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?));
        }
        // Java turns idempotence off in silence where another setting contradicts it and nobody has asked for it.
        let is = |name: &str, value: &str| properties.get(name).is_some_and(|found| found == value);
        let in_flight =
            properties.get("max.in.flight.requests.per.connection").and_then(|text| text.parse::<u32>().ok());
        if is("retries", "0") || is("acks", "0") || is("acks", "1") || in_flight.is_some_and(|requests| requests > 5) {
            properties.entry("enable.idempotence".to_owned()).or_insert_with(|| "false".to_owned());
        }
        let options = Self {
            topic: required("--topic", take("--topic"))?,
            // A negative number means: until a signal comes.
            max_messages: number(take("--max-messages"))?.map_or(u64::MAX, |n: i64| n.try_into().unwrap_or(u64::MAX)),
            throughput: number(take("--throughput"))?.unwrap_or(-1),
            value_prefix: number(take("--value-prefix"))?,
            repeating_keys: number(take("--repeating-keys"))?.filter(|keys| *keys > 0),
            create_time: number(take("--message-create-time"))?.filter(|time| *time != -1),
            properties,
        };
        match given.into_keys().next() {
            Some(unknown) => Err(format!("{unknown} is none of this program's options").into()),
            None => Ok(options),
        }
    }

    /// How long to wait before this record, so that there are no more than `throughput` in a second.
    fn pause(&self, number: u64, begin: Instant) -> Duration {
        match self.throughput {
            ..0 => Duration::ZERO,
            _ if number < 2 => Duration::ZERO,
            0 => Duration::MAX,
            throughput => {
                let due = Duration::from_secs_f64((number - 1) as f64 / throughput as f64);
                due.saturating_sub(begin.elapsed())
            }
        }
    }
}

fn number<N: std::str::FromStr>(text: Option<String>) -> Outcome<Option<N>> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("{text} is not a number that fits here").into())
}

/// The names and values of a `.properties` file without escapes and continued lines.
fn read_properties(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

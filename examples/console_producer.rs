//! Sends each line of standard input as a record, like Kafka's `kafka-console-producer`.
//!
//! `console_producer --bootstrap-server HOST:PORT --topic TOPIC [--property NAME=VALUE] [--command-property linger.ms=20]`
//!
//! The properties say how a line is read, as those of Kafka's `LineMessageReader`: `parse.key=true` (the key ends at
//! `key.separator`, a tab by default), `parse.headers=true` (headers come first, up to `headers.delimiter`, a tab;
//! `headers.separator`, a comma, is between them, and `headers.key.separator`, a colon, within each), `null.marker` (a text
//! that stands for null), and `ignore.error=true` (a line without one of these signs is sent without what would be before
//! it, and a header without one has no value).
//!
//! Each line is sent when it comes, and the program ends at the end of the input. Lines are bytes: they are sent as they
//! are, also where they are not UTF-8. Without arguments it talks to a cluster in this process.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    let (mut topic, mut reader) = (String::from("console"), Vec::new());
    let mut settings = BTreeMap::from([(String::from("bootstrap.servers"), fake.bootstrap().join(","))]);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--topic" => topic = value,
            "--bootstrap-server" | "--broker-list" => drop(settings.insert("bootstrap.servers".into(), value)),
            "--property" | "--reader-property" => reader.push(name_and_value(&value)?),
            "--command-property" | "--producer-property" => settings.extend([name_and_value(&value)?]),
            _ => return Err(format!("{option} is none of this program's options").into()),
        }
    }
    let reader = LineReader::new(reader)?;

    let producer = ProducerBuilder::from_properties(settings).build()?;
    let failed = Arc::new(AtomicU64::new(0));
    let (mut lines, mut fault) = (0, None);
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    while fault.is_none() && input.read_until(b'\n', &mut line)? > 0 {
        lines += 1;
        let without = line.strip_suffix(b"\n").unwrap_or(&line);
        match reader.record(&topic, without.strip_suffix(b"\r").unwrap_or(without)) {
            Ok(record) => {
                let failed = Arc::clone(&failed);
                producer.send_with(record, move |result| {
                    if let Err(error) = result {
                        eprintln!("line {lines}: {error}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            Err(what) => fault = Some(format!("{what} in line {lines}")),
        }
        line.clear();
    }
    producer.close()?;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    match failed.load(Ordering::Relaxed) {
        0 => Ok(format!("{lines} records sent to {topic}")),
        failed => Err(format!("{failed} of {lines} records were not delivered").into()),
    }
}

fn name_and_value(text: &str) -> Outcome<(String, String)> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} has no ="))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// How a line becomes a record.
struct LineReader {
    parse_key: bool,
    key_separator: Vec<u8>,
    parse_headers: bool,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    header_key_separator: Vec<u8>,
    null_marker: Option<Vec<u8>>,
    ignore_error: bool,
}

impl LineReader {
    fn new(properties: Vec<(String, String)>) -> Outcome<Self> {
        let mut reader = Self {
            parse_key: false,
            key_separator: b"\t".to_vec(),
            parse_headers: false,
            headers_delimiter: b"\t".to_vec(),
            headers_separator: b",".to_vec(),
            header_key_separator: b":".to_vec(),
            null_marker: None,
            ignore_error: false,
        };
        for (name, value) in properties {
            let truth = || match value.trim().to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("--property {name} is {value:?}, it must be true or false")),
            };
            let bytes = || Some(value.clone().into_bytes()).filter(|bytes| !bytes.is_empty());
            let sign = || bytes().ok_or_else(|| format!("--property {name} must not be empty"));
            match name.as_str() {
                "parse.key" => reader.parse_key = truth()?,
                "key.separator" => reader.key_separator = sign()?,
                "parse.headers" => reader.parse_headers = truth()?,
                "headers.delimiter" => reader.headers_delimiter = sign()?,
                "headers.separator" => reader.headers_separator = sign()?,
                "headers.key.separator" => reader.header_key_separator = sign()?,
                "null.marker" => reader.null_marker = Some(value.into_bytes()),
                "ignore.error" => reader.ignore_error = truth()?,
                _ => {
                    return Err(format!(
                        "--property {name} is unknown; there are parse.key, key.separator, parse.headers, \
                         headers.delimiter, headers.separator, headers.key.separator, null.marker and ignore.error"
                    )
                    .into());
                }
            }
        }
        // As Kafka's reader has it: with two that are the same, a line says less than it seems to.
        let signs = [
            ("headers.delimiter", &reader.headers_delimiter),
            ("headers.separator", &reader.headers_separator),
            ("headers.key.separator", &reader.header_key_separator),
        ];
        for (place, (name, sign)) in signs.iter().enumerate() {
            if let Some((other, _)) = signs.iter().take(place).find(|(_, other)| other == sign) {
                return Err(format!("{other} and {name} may not be equal").into());
            }
        }
        for (name, sign) in signs.iter().chain([&("key.separator", &reader.key_separator)]) {
            if reader.null_marker.as_ref() == Some(*sign) {
                return Err(format!("null.marker and {name} may not be equal").into());
            }
        }
        Ok(reader)
    }

    fn record<'l>(&self, topic: &'l str, line: &'l [u8]) -> Result<Record<'l>, String> {
        let (headers, rest) = self.part(self.parse_headers, line, &self.headers_delimiter, "headers delimiter")?;
        let (key, value) = self.part(self.parse_key, rest, &self.key_separator, "key separator")?;
        let mut record = Record::to(topic).key(key.and_then(|key| self.nullable(key))).value(self.nullable(value));
        let mut rest = headers.and_then(|headers| self.nullable(headers));
        while let Some(headers) = rest {
            let (header, more) = split_once(headers, &self.headers_separator).unwrap_or((headers, b""));
            rest = Some(more).filter(|more| !more.is_empty());
            let (name, value) = match split_once(header, &self.header_key_separator) {
                Some((name, value)) => (name, self.nullable(value)),
                None if self.ignore_error => (header, None),
                None => return Err("no header key separator".to_owned()),
            };
            if self.null_marker.as_deref() == Some(name) {
                return Err("a header's key that is the null marker".to_owned());
            }
            let name = std::str::from_utf8(name).map_err(|_| "a header's key that is not UTF-8")?;
            record = record.header(name, value);
        }
        Ok(record)
    }

    /// What is before the sign, where it is wanted, and what is behind it.
    fn part<'l>(
        &self,
        wanted: bool,
        line: &'l [u8],
        sign: &[u8],
        name: &str,
    ) -> Result<(Option<&'l [u8]>, &'l [u8]), String> {
        match split_once(line, sign) {
            _ if !wanted => Ok((None, line)),
            Some((part, rest)) => Ok((Some(part), rest)),
            None if self.ignore_error => Ok((None, line)),
            None => Err(format!("no {name}")),
        }
    }

    fn nullable<'l>(&self, part: &'l [u8]) -> Option<&'l [u8]> {
        Some(part).filter(|part| self.null_marker.as_deref() != Some(*part))
    }
}

fn split_once<'l>(line: &'l [u8], sign: &[u8]) -> Option<(&'l [u8], &'l [u8])> {
    let place = line.windows(sign.len()).position(|window| window == sign)?;
    let (before, rest) = line.split_at_checked(place)?;
    Some((before, rest.get(sign.len()..)?))
}

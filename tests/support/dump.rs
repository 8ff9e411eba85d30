//! What lies in the log, batch by batch, as `kafka-dump-log` tells it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use super::jars::Version;
use super::kafka::Cluster;
use super::tools;

/// A record batch in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub count: u32,
    /// -1 for a producer that is not idempotent, like the next three.
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Bytes, header included.
    pub size: usize,
    pub codec: String,
    pub log_append_time: bool,
    /// Whether the tool found the checksum right.
    pub valid: bool,
    /// The tool's lines for the records, which exist only if it could decompress them.
    pub records: Vec<String>,
}

/// The batches of one partition on the first broker.
pub fn batches(cluster: &Cluster, topic: &str, partition: usize) -> Vec<Batch> {
    all_batches(cluster, &[(topic, partition)]).remove(0)
}

/// The batches of several partitions on the first broker, in one run of the tool, which is a JVM.
pub fn all_batches(cluster: &Cluster, partitions: &[(&str, usize)]) -> Vec<Vec<Batch>> {
    let mut segments = Vec::new();
    for (topic, partition) in partitions {
        let directory = cluster.log_directory(0).join(format!("{topic}-{partition}"));
        let mut own: Vec<String> = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| path.to_str().unwrap().to_owned())
            .collect();
        own.sort();
        segments.push(own);
    }
    let main = match cluster.version() {
        Version::V0_11 => "kafka.tools.DumpLogSegments",
        _ => "org.apache.kafka.tools.DumpLogSegments",
    };
    let files = segments.concat().join(",");
    let arguments = ["--deep-iteration", "--print-data-log", "--files", &files];
    let output = tools::run(cluster, main, &arguments, Duration::from_secs(240));
    assert!(output.success, "dumping {files} failed: {}{}", output.stdout, output.stderr);
    let mut by_file: HashMap<&str, Vec<Batch>> = HashMap::new();
    let mut file = "";
    for line in output.stdout.lines() {
        if let Some(name) = line.strip_prefix("Dumping ") {
            file = name;
        } else if line.starts_with("baseOffset:") {
            by_file.entry(file).or_default().push(parse(line));
        } else if let Some(record) = line.strip_prefix("| ") {
            let batch = by_file.get_mut(file).and_then(|batches| batches.last_mut());
            batch.expect("a batch before its records").records.push(record.to_owned());
        }
    }
    let batches_of =
        |own: &Vec<String>| own.iter().filter_map(|file| by_file.get(file.as_str())).flatten().cloned().collect();
    segments.iter().map(batches_of).collect()
}

fn parse(line: &str) -> Batch {
    let words: Vec<&str> = line.split_whitespace().collect();
    let fields: HashMap<&str, &str> =
        words.windows(2).filter_map(|pair| Some((pair[0].strip_suffix(':')?, pair[1]))).collect();
    let field = |name: &str| *fields.get(name).unwrap_or_else(|| panic!("{name} is missing in {line:?}"));
    let number = |name: &str| field(name).parse::<i64>().unwrap_or_else(|error| panic!("{name} in {line:?}: {error}"));
    Batch {
        base_offset: number("baseOffset"),
        last_offset: number("lastOffset"),
        count: number("count") as u32,
        base_sequence: number("baseSequence") as i32,
        last_sequence: number("lastSequence") as i32,
        producer_id: number("producerId"),
        producer_epoch: number("producerEpoch") as i16,
        size: number("size") as usize,
        codec: field("compresscodec").to_ascii_lowercase(),
        log_append_time: fields.contains_key("LogAppendTime"),
        valid: field("isvalid") == "true",
        records: Vec::new(),
    }
}

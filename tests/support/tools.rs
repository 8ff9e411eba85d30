//! Kafka's own command line tools; each run is a JVM of its own and takes seconds.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::jars::{self, Version};
use super::kafka::{Cluster, logging};
use super::process::Watched;

/// What a tool printed, and whether it said that all went well.
#[derive(Clone, Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a main class of 4.3.1's jars (3.9.2's for brokers of 0.11) with `-XX:TieredStopAtLevel=1`; at most for `limit`.
pub fn run(cluster: &Cluster, main: &str, arguments: &[&str], limit: Duration) -> Output {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let version = if cluster.version() == Version::V0_11 { Version::V3_9 } else { Version::V4_3 };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let out = cluster.directory().join(format!("tool-{number}.out"));
    let err = cluster.directory().join(format!("tool-{number}.err"));
    let mut all: Vec<OsString> = vec!["-Xmx256m".into(), "-XX:TieredStopAtLevel=1".into(), "-XX:+UseSerialGC".into()];
    all.extend(["-XX:-UsePerfData".into(), "-cp".into(), jars::class_path(version).into()]);
    all.extend(logging(cluster.directory()));
    all.push(main.into());
    all.extend(arguments.iter().map(Into::into));
    let mut process = Watched::start("java", all, &out, &err);
    let status = process.wait(limit);
    drop(process);
    let stdout = fs::read(&out).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let stderr = fs::read_to_string(&err).unwrap_or_default();
    let status = status.unwrap_or_else(|| panic!("{main} {arguments:?} ran for more than {limit:?}: {stdout}{stderr}"));
    Output { success: status.success(), stdout, stderr }
}

/// Runs a tool that speaks to the cluster, with `--bootstrap-server` first; panics unless it succeeds.
pub fn succeed(cluster: &Cluster, main: &str, arguments: &[&str]) -> String {
    let bootstrap = cluster.internal_bootstrap();
    let arguments = [&["--bootstrap-server", &bootstrap], arguments].concat();
    let output = run(cluster, main, &arguments, Duration::from_secs(240));
    assert!(output.success, "{main} {arguments:?} failed: {}{}", output.stdout, output.stderr);
    output.stdout
}

/// `kafka-topics`: `--create --topic …`, `--delete`, `--alter --partitions …`, `--describe`.
pub fn topics(cluster: &Cluster, arguments: &[&str]) -> String {
    succeed(cluster, "org.apache.kafka.tools.TopicCommand", arguments)
}

/// `kafka-configs`: `--alter --entity-type topics --entity-name … --add-config …`.
pub fn configs(cluster: &Cluster, arguments: &[&str]) -> String {
    succeed(cluster, "kafka.admin.ConfigCommand", arguments)
}

/// `kafka-acls`: `--add --deny-principal User:ANONYMOUS --operation Write --topic …`.
pub fn acls(cluster: &Cluster, arguments: &[&str]) -> String {
    let main = if cluster.version() == Version::V0_11 {
        "kafka.admin.AclCommand"
    } else {
        "org.apache.kafka.tools.AclCommand"
    };
    succeed(cluster, main, arguments)
}

/// A record as `kafka-console-consumer` printed it; keys and values are read as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsoleRecord {
    /// `CreateTime:1700000000000`, `LogAppendTime:…` or `NO_TIMESTAMP`.
    pub timestamp: String,
    pub partition: i32,
    pub offset: i64,
    /// `name:value,…`, or `NO_HEADERS`.
    pub headers: String,
    /// `null` for none.
    pub key: String,
    /// `null` for none.
    pub value: String,
}

/// Reads `count` records of a topic from the beginning with `kafka-console-consumer`. Keys, values and headers must be
/// free of tabs and line breaks.
pub fn console_consumer(cluster: &Cluster, topic: &str, count: usize, arguments: &[&str]) -> Vec<ConsoleRecord> {
    let count = count.to_string();
    let fixed = ["--topic", topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "60000"];
    let mut all = fixed.to_vec();
    // 3.9 calls it --property; 4.3 warns about that name.
    let property = if cluster.version() == Version::V0_11 { "--property" } else { "--formatter-property" };
    for name in ["timestamp", "partition", "offset", "headers", "key"] {
        all.push(property);
        all.push(match name {
            "timestamp" => "print.timestamp=true",
            "partition" => "print.partition=true",
            "offset" => "print.offset=true",
            "headers" => "print.headers=true",
            _ => "print.key=true",
        });
    }
    all.extend(arguments);
    let text = succeed(cluster, "org.apache.kafka.tools.consumer.ConsoleConsumer", &all);
    text.lines().map(parse_console_line).collect()
}

fn parse_console_line(line: &str) -> ConsoleRecord {
    let mut fields = line.splitn(6, '\t');
    let mut next = || fields.next().unwrap_or_else(|| panic!("a field is missing in {line:?}"));
    let number = |field: &str, prefix: &str| -> i64 {
        field.strip_prefix(prefix).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
    };
    ConsoleRecord {
        timestamp: next().to_owned(),
        partition: i32::try_from(number(next(), "Partition:")).unwrap(),
        offset: number(next(), "Offset:"),
        headers: next().to_owned(),
        key: next().to_owned(),
        value: next().to_owned(),
    }
}

/// `kafka-dump-log --deep-iteration --print-data-log` over the segments of one partition on one broker, oldest first.
pub fn dump_log(cluster: &Cluster, node: usize, topic: &str, partition: usize) -> String {
    let directory = cluster.log_directory(node).join(format!("{topic}-{partition}"));
    dump_log_directory(cluster, &directory)
}

fn dump_log_directory(cluster: &Cluster, directory: &Path) -> String {
    let mut segments: Vec<String> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    segments.sort();
    let main = if cluster.version() == Version::V0_11 {
        "kafka.tools.DumpLogSegments"
    } else {
        "org.apache.kafka.tools.DumpLogSegments"
    };
    let files = segments.join(",");
    let output =
        run(cluster, main, &["--deep-iteration", "--print-data-log", "--files", &files], Duration::from_secs(240));
    assert!(output.success, "dumping {files} failed: {}{}", output.stdout, output.stderr);
    output.stdout
}

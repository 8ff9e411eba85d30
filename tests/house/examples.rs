//! The examples do what they say: each on the fake cluster as a newcomer starts it, and those that stand in for
//! Kafka's own tools against a real Kafka, beside those tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::process::Watched;
use crate::support::{kafka, tools};

const LIMIT: Duration = Duration::from_secs(180);

/// Each example, and a line that it prints when all is well; `*` stands for anything.
const EXAMPLES: &[(&str, &str)] = &[
    ("avro_customer", "13 bytes are Customer { id: 1, name: \"yifan\", email: None }"),
    ("consume_process_produce", "10 words counted, each once"),
    ("console_producer", "2 records sent to console"),
    ("counter_key", "example.topic-2@1"),
    ("custom_partitioner", "VeryCommonKey: partition 3"),
    ("custom_serializer", "not sent: the value could not be serialized (topic example.things): too long: 12"),
    ("direct_batches", "c.txt: lines-1@2003, 5 records"),
    ("fire_and_forget", "1000 delivered, 0 failed"),
    ("keyed", "modulo: 5 in partition 2"),
    ("metrics", "kafka_producer_records_acknowledged_total{client_id=\"page-views\"} 10000"),
    ("producer_perf", "200000 records sent, * records/sec (* MB/sec), * ms avg latency, * ms 50th, * ms 99.9th."),
    ("quickstart", "Ada: greetings-*@0"),
    ("random_colours", "95 colours in 1* batches, * bytes instead of *"),
    ("shared_producer", "sensor 7: 1000 records delivered"),
    ("string_serializers", "prices-0@1"),
    ("synchronous", "delivered: CustomerCountry-*@0"),
    ("topics", "example.topics has 6 partitions"),
    ("tail", "ticks-* at *: clock-0 = tick 9"),
    ("transactional_loop", "100 records committed"),
    ("typed_messages", "not sent: the key maker failed (topic logins): there is no user_id"),
    ("verifiable_producer", "*\"name\":\"tool_data\",\"sent\":10,\"acked\":10,*"),
];

#[test]
fn every_example_runs_without_arguments_and_shows_its_result() {
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let names = sources.filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned));
    assert_eq!(names.collect::<BTreeSet<_>>(), EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect());

    for (name, wanted) in EXAMPLES {
        if *name == "avro_customer" && !cfg!(feature = "avro") {
            println!("{name} is not built without the feature avro");
            continue;
        }
        let output = Run::start(name, &[], "a line\nanother\n").success();
        assert!(output.lines().any(|line| matches(line, wanted)), "{name} does not print {wanted:?}:\n{output}");
    }
}

#[test]
fn examples_take_the_address_of_a_cluster() {
    let cluster = kafka::shared_single();
    create("greetings", 3);
    let output = Run::start("quickstart", &[&cluster.bootstrap().join(",")], "").success();
    let values: BTreeSet<_> =
        cluster.admin().read("greetings").into_iter().filter_map(|record| text(record.value)).collect();
    assert_eq!(values, ["Hello, Ada!", "Hello, Edsger!", "Hello, Grace!"].map(str::to_owned).into());
    assert_eq!(output.lines().count(), 3);
}

#[test]
fn the_console_producer_sends_each_line_with_its_key() {
    let cluster = kafka::shared_single();
    create("console.producer", 1);
    let lines = "k1:one\nk2:two:three\n:empty key\nk3:\nNULL:NULL\nk4:last, without an end";
    let bootstrap = cluster.bootstrap().join(",");
    let options = ["--bootstrap-server", &bootstrap, "--topic", "console.producer", "--property", "parse.key=true"];
    let reader = ["--property", "key.separator=:", "--reader-property", "null.marker=NULL"];
    let settings = ["--command-property", "compression.type=gzip"];
    let output = Run::start("console_producer", &[&options[..], &reader, &settings].concat(), lines).success();
    assert_eq!(output.trim(), "6 records sent to console.producer");

    let records = cluster.admin().read("console.producer").into_iter();
    let read: Vec<_> = records.map(|record| (text(record.key), text(record.value))).collect();
    let some = |text: &str| Some(text.to_owned());
    let mut sent = vec![(some("k1"), some("one")), (some("k2"), some("two:three")), (some(""), some("empty key"))];
    sent.extend([(some("k3"), some("")), (None, None), (some("k4"), some("last, without an end"))]);
    assert_eq!(read, sent);
}

#[test]
fn the_console_producer_fails_on_a_line_without_a_separator_and_keeps_those_before() {
    let cluster = kafka::shared_single();
    create("console.producer.fault", 1);
    let bootstrap = cluster.bootstrap().join(",");
    let options = ["--bootstrap-server", &bootstrap, "--topic", "console.producer.fault"];
    let reader = ["--property", "parse.key=true", "--property", "key.separator=:"];
    let mut run = Run::start("console_producer", &[options, reader].concat(), "k:v\nnonsense\n");
    assert_eq!(run.process.wait(LIMIT).unwrap().code(), Some(1));
    assert_eq!(run.errors().trim(), "console_producer: no key separator in line 2");
    assert_eq!(cluster.admin().read("console.producer.fault").len(), 1);
}

#[test]
fn the_console_producer_reads_headers_and_bytes_and_goes_on_where_it_is_told_to() {
    let cluster = kafka::shared_single();
    create("console.producer.headers", 1);
    let bootstrap = cluster.bootstrap().join(",");
    let lines = "a:1,b:NULL|k1;one\nNULL|k2;two\nno headers\nc|NULL;NULL\n,x:|k3;th;ree|\n";
    let properties = [
        "parse.key=true",
        "key.separator=;",
        "parse.headers=TRUE",
        "headers.delimiter=|",
        "null.marker=NULL",
        "ignore.error=true",
    ];
    let mut options = vec!["--bootstrap-server", &bootstrap, "--topic", "console.producer.headers"];
    options.extend(properties.iter().flat_map(|property| ["--property", property]));
    let output = Run::start("console_producer", &options, lines).success();
    assert_eq!(output.trim(), "5 records sent to console.producer.headers");
    let read = cluster.admin().read("console.producer.headers").into_iter();
    let read: Vec<_> = read
        .map(|record| {
            let headers = record.headers.into_iter().map(|(name, value)| (name, text(value)));
            (headers.collect::<Vec<_>>(), text(record.key), text(record.value))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let sent = [
        (vec![header("a", Some("1")), header("b", None)], some("k1"), some("one")),
        (vec![], some("k2"), some("two")),
        (vec![], None, some("no headers")),
        (vec![header("c", None)], None, None),
        (vec![header("", None), header("x", Some(""))], some("k3"), some("th;ree|")),
    ];
    assert_eq!(read, sent);
}

#[test]
fn the_console_producer_sends_bytes_that_are_no_text_and_says_which_line_is_wrong() {
    let cluster = kafka::shared_single();
    create("console.producer.bytes", 1);
    let bootstrap = cluster.bootstrap().join(",");
    let options = ["--bootstrap-server", &bootstrap, "--topic", "console.producer.bytes"];
    let output = Run::with_bytes("console_producer", &options, b"\xff\xfe\r\n\r\nok\n").success();
    assert_eq!(output.trim(), "3 records sent to console.producer.bytes");
    let read: Vec<_> = cluster.admin().read("console.producer.bytes").into_iter().map(|record| record.value).collect();
    assert_eq!(read, [Some(b"\xff\xfe".to_vec()), Some(Vec::new()), Some(b"ok".to_vec())]);

    // What is wrong is said before anything is sent, or with the line.
    let headers = ["--property", "parse.headers=true"];
    for (property, input, wanted) in [
        ("parse.keys=true", &b"x\n"[..], "--property parse.keys is unknown; there are parse.key, "),
        ("parse.key=yes", b"x\n", "--property parse.key is \"yes\", it must be true or false"),
        ("key.separator=", b"x\n", "--property key.separator must not be empty"),
        ("headers.separator=:", b"x\n", "headers.separator and headers.key.separator may not be equal"),
        ("null.marker=,", b"x\n", "null.marker and headers.separator may not be equal"),
        ("null.marker=-", b"a:1\tok\nb\tx\n", "no header key separator in line 2"),
        ("null.marker=-", b"a:1\tok\n-:1\tx\n", "a header's key that is the null marker in line 2"),
        ("null.marker=-", b"a:1\tok\n\xff:1\tx\n", "a header's key that is not UTF-8 in line 2"),
        ("null.marker=-", b"a:1\tok\nx\n", "no headers delimiter in line 2"),
    ] {
        let options = [&options[..], &headers, &["--property", property]].concat();
        let mut run = Run::with_bytes("console_producer", &options, input);
        assert_eq!(run.process.wait(LIMIT).unwrap().code(), Some(1), "{property}");
        let errors = run.errors();
        assert!(errors.contains(wanted), "{property}: {wanted} is not in {errors}");
    }
    // What came before a wrong line is sent.
    assert_eq!(cluster.admin().read("console.producer.bytes").len(), 3 + 4);
}

#[test]
fn the_verifiable_producer_prints_what_kafkas_tool_prints() {
    let file = directory().join("command-config.properties");
    fs::write(&file, "# for both\nlinger.ms = 20\ncompression.type=lz4\n").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&str, &[&str]); 5] = [
        ("plain", &["--max-messages", "20"]),
        ("keys", &["--max-messages", "50", "--repeating-keys", "7", "--value-prefix", "3", "--throughput", "1000"]),
        ("acks0", &["--max-messages", "5", "--acks", "0", "--repeating-keys", "2"]),
        ("file", &["--max-messages", "20", "--acks", "1", "--command-config", file, "--repeating-keys", "5"]),
        ("none", &["--max-messages", "0"]),
    ];
    for (case, options) in cases {
        let [theirs, ours] = ["theirs", "ours"].map(|whose| {
            let topic = format!("verifiable.{case}.{whose}");
            create(&topic, 3);
            let options = [&["--topic", &topic], options].concat();
            let output = if whose == "ours" { ours(&options) } else { theirs(&options) };
            let lines = json_lines(&output);
            check_against_log(&topic, &lines, case == "acks0");
            lines
        });
        assert_eq!(shapes(&theirs), shapes(&ours), "{case}");
        assert_eq!(summary(&theirs), summary(&ours), "{case}");
        // Without keys each client takes the partition that it likes; what they agree on is the rest.
        let ignored: &[&str] = if case == "plain" { &["topic", "partition", "offset"] } else { &["topic"] };
        assert_eq!(successes(&theirs, ignored), successes(&ours, ignored), "{case}");
    }
}

#[test]
fn the_verifiable_producer_reports_failures_as_kafkas_tool_does() {
    let options = ["--topic", "no such topic", "--max-messages", "3", "--repeating-keys", "2"];
    let (theirs, ours) = (json_lines(&theirs(&options)), json_lines(&ours(&options)));
    assert_eq!(shapes(&theirs), shapes(&ours));
    assert_eq!(summary(&theirs), summary(&ours));
    let failures = |lines: &[Line]| -> Vec<(Value, Value)> {
        let failures = lines.iter().filter(|line| line.name() == "producer_send_error");
        failures.map(|line| (line.fields["key"].clone(), line.fields["value"].clone())).collect()
    };
    assert_eq!(failures(&theirs), failures(&ours));
    assert_eq!(failures(&ours).len(), 3);
}

#[test]
fn the_verifiable_producer_gives_records_the_time_it_is_told() {
    let cluster = kafka::shared_single();
    create("verifiable.time", 1);
    ours(&["--topic", "verifiable.time", "--max-messages", "3", "--message-create-time", "1700000000000"]);
    for record in cluster.admin().read("verifiable.time") {
        assert!((1_700_000_000_000..1_700_000_060_000).contains(&record.timestamp_ms), "{record:?}");
    }
}

#[test]
fn the_verifiable_producer_refuses_what_kafkas_tool_refuses() {
    let cases: [&[&str]; 5] = [
        &["--max-messages", "1"],
        &["--topic", "t", "--acks", "2"],
        &["--topic", "t", "--value-prefix", "x"],
        &["--topic", "t", "--command-config", "/nonexistent"],
        &["--topic", "t", "--surprise", "1"],
    ];
    for options in cases {
        let mut run = verifiable(options);
        assert_eq!(run.process.wait(LIMIT).unwrap().code(), Some(1), "{options:?}");
        assert!(run.errors().starts_with("verifiable_producer: error: "), "{options:?}: {}", run.errors());
        assert_eq!(run.output(), "", "{options:?}");
    }
}

#[test]
fn a_signal_ends_the_verifiable_producer_in_order() {
    for signal in ["TERM", "INT"] {
        let topic = format!("verifiable.{signal}");
        create(&topic, 3);
        let mut run = verifiable(&["--topic", &topic, "--throughput", "200"]);
        crate::support::wait_for("twenty records", LIMIT, || (run.output().lines().count() > 20).then_some(()));
        run.process.signal(signal);
        let lines = json_lines(&run.success());
        let names: Vec<&str> = lines.iter().rev().take(2).map(Line::name).collect();
        assert_eq!(names, ["tool_data", "shutdown_complete"]);
        check_against_log(&topic, &lines, false);
        let [sent, acked, _] = summary(&lines);
        assert_eq!(sent, acked);
    }
}

#[test]
fn a_signal_ends_the_verifiable_producer_while_it_waits_for_a_cluster() {
    // A port that is taken and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut run = Run::start("verifiable_producer", &["--bootstrap-server", &address, "--topic", "t"], "");
    crate::support::wait_for("the start", LIMIT, || run.output().contains("startup_complete").then_some(()));
    // It asks for metadata now.
    let _connection = silent.accept().unwrap();
    run.process.signal("TERM");
    let signalled = Instant::now();
    let lines = json_lines(&run.success());
    assert!(signalled.elapsed() < Duration::from_secs(30), "the wait for metadata must not go on to its end");
    assert_eq!(summary(&lines), [Value::from(1), Value::from(0), Value::from(-1)]);
    assert_eq!(lines.iter().filter(|line| line.name() == "producer_send_error").count(), 1);
}

#[test]
fn the_perf_producer_prints_what_kafkas_tool_prints() {
    let plain: &[&str] = &["--num-records", "1000", "--record-size", "50", "--throughput", "-1"];
    let paced =
        &["--num-records", "6000", "--record-size", "20", "--throughput", "1500", "--reporting-interval", "300"];
    let warm: &[&str] = &["--num-records", "3000", "--record-size=100", "--throughput=-1", "--warmup-records", "1000"];
    let settings: &[&str] = &["--command-property", "linger.ms=2", "compression.type=gzip"];
    for (case, options) in [("plain", plain), ("paced", paced), ("warm", &[warm, settings].concat())] {
        let [theirs, ours] = ["theirs", "ours"].map(|whose| {
            let topic = format!("perf.{case}.{whose}");
            create(&topic, 3);
            let options = [&["--topic", &topic], options].concat();
            let output = if whose == "ours" {
                perf(&options).success()
            } else {
                tools::succeed(kafka::shared_single(), "org.apache.kafka.tools.ProducerPerformance", &options)
            };
            let log = kafka::shared_single().admin().read(&topic);
            let lengths: Vec<usize> = log.iter().map(|record| record.value.as_ref().unwrap().len()).collect();
            let letters = |record: &Vec<u8>| record.iter().all(u8::is_ascii_uppercase);
            assert!(log.iter().all(|record| record.key.is_none() && record.value.as_ref().is_some_and(letters)));
            (output, lengths)
        });
        assert_eq!(theirs.1, ours.1, "{case}");
        // Progress has as many lines as the time that it took; Java's tool says the warm-up's share apart.
        let lines = |output: &str| -> Vec<String> {
            output.lines().filter(|line| line.contains("records/sec")).map(digits).collect()
        };
        let (theirs, ours) = (lines(&theirs.0), lines(&ours.0));
        assert_eq!(theirs.last(), ours.last(), "{case}");
        if case == "paced" {
            assert!(ours.len() > 2, "{ours:?}");
            assert_eq!(theirs.first(), ours.first());
        }
    }
}

#[test]
fn the_perf_producer_tells_every_figure_in_json() {
    let linger: &[&str] = &["--command-property", "linger.ms=20", "--command-property", "compression.type=lz4"];
    let sizes = &["--record-size", "200", "--key-size", "12", "--print-metrics"];
    let cases: [(&str, u64, &[&str]); 4] = [
        ("throughput", 1, &["--num-records", "30000", "--warmup-records", "10000"]),
        ("throughput", 3, &["--num-records", "20000", "--threads", "3", "--mode", "async"]),
        ("sync", 1, &["--num-records", "500", "--mode", "sync", "--warmup-records", "100"]),
        ("syncthreads", 4, &["--num-records", "1001", "--mode=sync", "--threads=4"]),
    ];
    for ((mode, threads, options), records) in cases.into_iter().zip([20_000, 20_000, 400, 1001]) {
        let options = [options, linger, sizes, &["--json"]].concat();
        let output = Run::start("producer_perf", &options, "").success();
        let line: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        let exact = serde_json::json!({
            "client": "kafka-blocking", "version": env!("CARGO_PKG_VERSION"), "mode": mode, "records": records,
            "size": 200, "keys": 1000, "threads": threads, "linger_ms": 20, "batch_size": 16384, "compression": "lz4",
        });
        for (name, value) in exact.as_object().unwrap() {
            assert_eq!(&line[name], value, "{name}: {line}");
        }
        assert!(line["note"].as_str().unwrap().contains("in this process"), "{line}");

        let figure = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} is no number: {line}"));
        let wall = figure("wall_s");
        assert!((figure("records_per_s") * wall / records as f64 - 1.0).abs() < 1e-6, "{line}");
        let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(figure);
        assert!(latencies[0] > 0.0 && latencies.is_sorted() && latencies[4] <= wall * 1e6, "{line}");
        assert!(figure("mean_us") > 0.0 && figure("mean_us") <= latencies[4], "{line}");
        // The histogram: rows of "1 to 2   count  ###".
        let rows = output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|words| words.get(1) == Some(&"to"));
        let counted: u64 = rows.map(|words| words[3].parse::<u64>().unwrap()).sum();
        if mode == "throughput" {
            assert!((records / 2..=records / 2 + threads).contains(&counted), "{output}");
        } else {
            // Who waits for one record at a time spends the time on that.
            assert_eq!(counted, records, "{output}");
            let waiting = figure("mean_us") * records as f64 / threads as f64 / 1e6;
            assert!(waiting / wall < 1.05, "{line}");
            // No round trip to a broker is shorter.
            assert!(figure("mean_us") > 5.0, "{line}");
        }
        if cfg!(target_os = "linux") {
            let cpu = figure("cpu_user_s") + figure("cpu_sys_s");
            assert!((figure("cpu_ns_per_record") * records as f64 / 1e9 - cpu).abs() < 1e-6, "{line}");
            assert!(figure("peak_rss_mb") > 1.0 && figure("nvcsw") > 0.0 && figure("nivcsw") >= 0.0, "{line}");
        }
    }
}

#[test]
fn the_perf_producer_gives_no_figures_where_records_fail() {
    create_with("perf.small", 1, &["max.message.bytes=150"]);
    for mode in ["sync", "async"] {
        let options = ["--topic", "perf.small", "--record-size", "1000", "--num-records", "5000", "--mode", mode];
        let mut run = perf(&[&options[..], &["--threads", "2", "--json"]].concat());
        assert_eq!(run.process.wait(LIMIT).unwrap().code(), Some(1), "{}", run.output());
        assert_eq!(run.output(), "");
        assert!(run.errors().contains("MESSAGE_TOO_LARGE"), "{}", run.errors());
    }
    let cases: [(&[&str], &str); 7] = [
        (&[], "--topic is required"),
        (&["--topic", "t", "--num-records", "0"], "--num-records must not be zero"),
        (&["--topic", "t", "--num-records", "10", "--warmup-records", "10"], "--warmup-records must be fewer"),
        (&["--topic", "t", "--mode", "fast"], "--mode cannot be fast"),
        (&["--topic", "t", "--record-size"], "--record-size needs a value"),
        (&["--topic", "t", "--surprise"], "--surprise is none"),
        (&["--topic", "t", "--command-property", "linger.ms=soon"], "linger.ms"),
    ];
    for (options, wanted) in cases {
        let mut run = perf(options);
        assert_eq!(run.process.wait(LIMIT).unwrap().code(), Some(1), "{options:?}");
        assert!(run.errors().starts_with("producer_perf: ") && run.errors().contains(wanted), "{}", run.errors());
    }
}

/// A running example, with its output in files. It ends with the test.
struct Run {
    process: Watched,
    out: PathBuf,
    err: PathBuf,
}

impl Run {
    fn start(example: &str, arguments: &[&str], input: &str) -> Self {
        Self::with_bytes(example, arguments, input.as_bytes())
    }

    fn with_bytes(example: &str, arguments: &[&str], input: &[u8]) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Cargo puts examples beside the directory of the tests.
        let tests = std::env::current_exe().unwrap();
        let program = tests.parent().and_then(Path::parent).unwrap().join("examples").join(example);
        assert!(program.is_file(), "{} is missing: cargo build --examples makes it", program.display());
        let file = |what| directory().join(format!("{example}-{number}.{what}"));
        let (out, err, stdin) = (file("out"), file("err"), file("in"));
        for (file, text) in [(&out, &b""[..]), (&err, b""), (&stdin, input)] {
            fs::write(file, text).unwrap();
        }
        let script = r#"exec <"$1"; rm "$1"; shift; exec "$@""#;
        let mut all = vec!["-c", script, "sh", stdin.to_str().unwrap(), program.to_str().unwrap()];
        all.extend(arguments);
        Self { process: Watched::start("sh", all, &out, &err), out, err }
    }

    /// What it printed, once it has ended with success.
    fn success(mut self) -> String {
        let status = self.process.wait(LIMIT);
        let text = || format!("{}{}", self.output(), self.errors());
        let status = status.unwrap_or_else(|| panic!("{} does not end: {}", self.out.display(), text()));
        assert!(status.success(), "{}: {status}: {}", self.out.display(), text());
        self.output()
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for file in [&self.out, &self.err] {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// A directory for this run's files.
fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("examples-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Creates a topic on the shared cluster. Its leaders serve when this returns: the verifiable producer does not retry.
fn create(topic: &str, partitions: usize) {
    create_with(topic, partitions, &[]);
}

fn create_with(topic: &str, partitions: usize, settings: &[&str]) {
    let admin = kafka::shared_single().admin();
    admin.create_topic(topic, partitions, 1, settings);
    assert_eq!(admin.end_offsets(topic), vec![0; partitions]);
}

fn verifiable(options: &[&str]) -> Run {
    on_kafka("verifiable_producer", options)
}

fn perf(options: &[&str]) -> Run {
    on_kafka("producer_perf", options)
}

fn on_kafka(example: &str, options: &[&str]) -> Run {
    let bootstrap = kafka::shared_single().bootstrap().join(",");
    Run::start(example, &[&["--bootstrap-server", &bootstrap], options].concat(), "")
}

/// The line with every number as 9, to as many places as it has behind the point.
fn digits(line: &str) -> String {
    let mut shape = String::new();
    let mut behind_point = false;
    for character in line.chars() {
        match character {
            '0'..='9' if behind_point || !shape.ends_with('9') => shape.push('9'),
            '0'..='9' => {}
            other => {
                behind_point = other == '.' && shape.ends_with('9');
                shape.push(other);
            }
        }
    }
    shape
}

fn ours(options: &[&str]) -> String {
    verifiable(options).success()
}

fn theirs(options: &[&str]) -> String {
    tools::succeed(kafka::shared_single(), "org.apache.kafka.tools.VerifiableProducer", options)
}

/// A line of a verifiable producer.
struct Line {
    /// The names of the fields as they are written, which the parsed object does not keep.
    order: Vec<String>,
    fields: serde_json::Map<String, Value>,
}

impl Line {
    fn name(&self) -> &str {
        self.fields["name"].as_str().unwrap()
    }
}

fn json_lines(text: &str) -> Vec<Line> {
    // Java's log lines may stand before and between.
    let objects = text.lines().filter_map(|line| line.find("{\"timestamp\"").map(|start| &line[start..]));
    let parsed = objects.map(|line| {
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else { panic!("no line of JSON: {line}") };
        let mut order: Vec<String> = fields.keys().cloned().collect();
        order.sort_by_key(|name| line.find(&format!("\"{name}\":")));
        Line { order, fields }
    });
    let lines: Vec<Line> = parsed.collect();
    assert_eq!(lines.first().map(Line::name), Some("startup_complete"), "{text}");
    lines
}

/// A line's name, and its fields in their order, each with its type.
type Shape = (String, Vec<(String, &'static str)>);

/// The shapes of lines that there are, and how many lines have each.
fn shapes(lines: &[Line]) -> BTreeMap<Shape, usize> {
    let mut shapes = BTreeMap::new();
    for line in lines {
        let fields = line.order.iter().map(|name| {
            let kind = match &line.fields[name] {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "fraction",
                Value::Number(_) => "whole number",
                Value::String(_) => "string",
                Value::Array(_) | Value::Object(_) => "compound",
            };
            (name.clone(), kind)
        });
        *shapes.entry((line.name().to_owned(), fields.collect())).or_default() += 1;
    }
    shapes
}

/// The figures of `tool_data`, which is the last line: sent, acked, and the throughput that was asked for.
fn summary(lines: &[Line]) -> [Value; 3] {
    let last = lines.last().unwrap();
    assert_eq!(last.name(), "tool_data");
    ["sent", "acked", "target_throughput"].map(|name| last.fields[name].clone())
}

/// What was said of each delivered record, apart from the time and the fields ignored, in any order.
fn successes(lines: &[Line], ignored: &[&str]) -> BTreeSet<Vec<(String, String)>> {
    let successes = lines.iter().filter(|line| line.name() == "producer_send_success");
    let kept = |name: &&String| *name != "timestamp" && !ignored.contains(&name.as_str());
    let fields = |line: &Line| {
        line.order.iter().filter(kept).map(|name| (name.clone(), line.fields[name].to_string())).collect()
    };
    successes.map(fields).collect()
}

/// The topic holds the records of the lines, each where its line says.
fn check_against_log(topic: &str, lines: &[Line], without_offsets: bool) {
    let read = || kafka::shared_single().admin().read(topic);
    let successes: Vec<&Line> = lines.iter().filter(|line| line.name() == "producer_send_success").collect();
    // What nobody acknowledges may arrive after its producer has ended.
    let arrived = || Some(read()).filter(|log| !without_offsets || log.len() >= successes.len());
    let log = crate::support::wait_for(&format!("the records of {topic}"), LIMIT, arrived);
    let json = |text: Option<String>| text.map_or(Value::Null, Value::from);
    let in_log = log.into_iter().map(|record| {
        let offset = if without_offsets { -1 } else { record.offset };
        let (key, value) = (json(text(record.key)), json(text(record.value)));
        format!("{}@{offset}: {key} {value}", record.partition)
    });
    let reported = successes.iter().map(|line| {
        assert_eq!(line.fields["topic"], topic);
        let field = |name| &line.fields[name];
        format!("{}@{}: {} {}", field("partition"), field("offset"), field("key"), field("value"))
    });
    let (mut in_log, mut reported): (Vec<_>, Vec<_>) = (in_log.collect(), reported.collect());
    in_log.sort();
    reported.sort();
    assert_eq!(in_log, reported, "{topic}");
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Whether the line is the pattern, in which `*` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => line == pattern,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices().map(|(index, _)| index).chain([line.len()]).any(|index| matches(&line[index..], rest))
        }),
    }
}

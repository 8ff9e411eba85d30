//! Kafka's own ProducerPerformance, told in the line of the other programs.
//!
//! Its CPU, switches and memory are those of the whole process: the start of the virtual machine and the warm-up are
//! in them, and the records of the warm-up are counted when the CPU is divided among records.

use std::process::{Command, Stdio};

use kafka_blocking_peers::{Args, Mode, Usage};
use serde_json::json;

const CLASS_PATH: &str = "--class-path";

fn main() {
    let args = Args::parse(&[CLASS_PATH]);
    assert_eq!(args.mode, Mode::Throughput);
    let total = args.records + args.warmup;
    let mut properties = vec![
        "acks=all".to_owned(),
        "enable.idempotence=true".to_owned(),
        format!("linger.ms={}", args.linger_ms),
        format!("compression.type={}", args.compression),
    ];
    properties.extend(args.batch_size.map(|bytes| format!("batch.size={bytes}")));
    let mut transactions = Vec::new();
    if let Some(ms) = args.transaction_ms {
        transactions = vec!["--transactional-id".to_owned(), args.transactional_id()];
        transactions.extend(["--transaction-duration-ms".to_owned(), ms.to_string()]);
    }
    let output = Command::new("java")
        .args(["-cp", args.extra(CLASS_PATH).expect("--class-path is missing")])
        .args(["org.apache.kafka.tools.ProducerPerformance", "--bootstrap-server", &args.bootstrap])
        .args(["--topic", &args.topic, "--throughput", "-1", "--record-size", &args.size.to_string()])
        .args(["--num-records", &total.to_string(), "--warmup-records", &args.warmup.to_string()])
        .args(transactions)
        .arg("--command-property")
        .args(&properties)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "ProducerPerformance failed");
    let usage = Usage::of_children();
    let text = String::from_utf8_lossy(&output.stdout);
    // "2000000 records sent, 983284.2 records/sec (93.77 MB/sec), 1.68 ms avg latency, ..."; the last such line is that
    // of the records behind the warm-up.
    let line = text.lines().rfind(|line| line.contains("records/sec")).expect("a line with its figures");
    let rate = line.split(" records/sec").next().and_then(|text| text.rsplit(' ').next());
    let rate: f64 = rate.and_then(|rate| rate.replace(',', ".").parse().ok()).expect(line);
    println!(
        "{}",
        json!({
            "client": "java ProducerPerformance",
            "version": "",
            "note": "idempotent; CPU of the whole process",
            "mode": "throughput",
            "records": args.records,
            "size": args.size,
            // It has no keys to give.
            "keys": 0,
            "threads": 1,
            "linger_ms": args.linger_ms,
            "batch_size": args.batch_size,
            "compression": args.compression,
            "transaction_ms": args.transaction_ms,
            "wall_s": args.records as f64 / rate,
            "cpu_user_s": usage.user.as_secs_f64(),
            "cpu_sys_s": usage.system.as_secs_f64(),
            "records_per_s": rate,
            "cpu_ns_per_record": (usage.user + usage.system).as_secs_f64() * 1e9 / total as f64,
            "peak_rss_mb": usage.peak_rss_kib as f64 / 1024.0,
            "nvcsw": usage.voluntary_switches,
            "nivcsw": usage.involuntary_switches,
        })
    );
}

//! The metrics in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{LatencyHistogram, ProducerMetrics};
use crate::error::{Error, Result};

/// The kind of a figure: it only grows, or it shows the present value.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A figure: its name without the prefix, its kind, what it is, and its value.
type Figure<N> = (&'static str, Kind, &'static str, fn(&ProducerMetrics) -> N);

const NUMBERS: &[Figure<u64>] = &[
    ("records_acknowledged_total", Kind::Counter, "Records that the cluster has acknowledged.", |m| {
        m.records_acknowledged
    }),
    ("records_failed_total", Kind::Counter, "Records that failed after send had accepted them.", |m| m.records_failed),
    ("acknowledged_bytes_total", Kind::Counter, "Bytes of the acknowledged batches, as sent.", |m| {
        m.bytes_acknowledged
    }),
    ("acknowledged_uncompressed_bytes_total", Kind::Counter, "Bytes of the same batches before compression.", |m| {
        m.uncompressed_bytes_acknowledged
    }),
    ("batches_sent_total", Kind::Counter, "Batches handed to a broker, each attempt counted.", |m| m.batches_sent),
    ("batches_retried_total", Kind::Counter, "Batches that were sent again.", |m| m.batches_retried),
    ("batches_split_total", Kind::Counter, "Batches that were split because they were too large.", |m| m.batches_split),
    ("batches_expired_total", Kind::Counter, "Batches whose delivery timeout passed.", |m| m.batches_expired),
    ("duplicates_recognised_total", Kind::Counter, "Batches that the broker recognised as written before.", |m| {
        m.duplicates_recognised
    }),
    ("epoch_bumps_total", Kind::Counter, "How often the producer went on under a new epoch.", |m| m.epoch_bumps),
    ("requests_sent_total", Kind::Counter, "Produce requests.", |m| m.requests_sent),
    ("request_bytes_total", Kind::Counter, "Bytes of the produce requests.", |m| m.request_bytes),
    ("error_answers_total", Kind::Counter, "Answers for a partition with an error code.", |m| m.error_answers),
    ("connections_made_total", Kind::Counter, "Connections made for producing.", |m| m.connections_made),
    ("connections_lost_total", Kind::Counter, "Connections that broke or were given up.", |m| m.connections_lost),
    ("transactions_begun_total", Kind::Counter, "Transactions begun.", |m| m.transactions.begun),
    ("transactions_committed_total", Kind::Counter, "Transactions committed.", |m| m.transactions.committed),
    ("transactions_aborted_total", Kind::Counter, "Transactions aborted.", |m| m.transactions.aborted),
    ("transactions_failed_total", Kind::Counter, "Transactions that could only be aborted.", |m| m.transactions.failed),
    ("requests_in_flight", Kind::Gauge, "Produce requests without an answer yet.", |m| m.requests_in_flight),
    ("batches_unfinished", Kind::Gauge, "Batches without a result yet, open ones included.", |m| m.batches_unfinished),
    ("buffer_used_bytes", Kind::Gauge, "Bytes of buffer_memory in use.", |m| m.buffer_bytes_used),
    ("buffer_limit_bytes", Kind::Gauge, "The setting buffer_memory.", |m| m.buffer_bytes_total),
    ("threads_waiting_for_memory", Kind::Gauge, "Threads that wait for buffer memory.", |m| {
        m.threads_waiting_for_memory
    }),
];

const SECONDS: &[Figure<f64>] = &[
    ("throttled_seconds_total", Kind::Counter, "Time for which brokers asked the producer to pause.", |m| {
        m.throttled.as_secs_f64()
    }),
    ("transaction_init_seconds_total", Kind::Counter, "Time in init_transactions.", |m| {
        m.transactions.init_time.as_secs_f64()
    }),
    ("transaction_begin_seconds_total", Kind::Counter, "Time in calls that begin a transaction.", |m| {
        m.transactions.begin_time.as_secs_f64()
    }),
    ("transaction_send_offsets_seconds_total", Kind::Counter, "Time in calls that send offsets.", |m| {
        m.transactions.send_offsets_time.as_secs_f64()
    }),
    ("transaction_commit_seconds_total", Kind::Counter, "Time in calls that commit.", |m| {
        m.transactions.commit_time.as_secs_f64()
    }),
    ("transaction_abort_seconds_total", Kind::Counter, "Time in calls that abort.", |m| {
        m.transactions.abort_time.as_secs_f64()
    }),
    ("transaction_last_commit_seconds", Kind::Gauge, "How long the last successful commit took.", |m| {
        m.transactions.last_commit_time.as_secs_f64()
    }),
];

impl ProducerMetrics {
    /// The figures in Prometheus' text format (version 0.0.4), each name beginning with `kafka_producer_`. Every sample
    /// has these labels, given as names and values.
    ///
    /// ```
    /// # use kafka_blocking::testing::FakeCluster;
    /// # use kafka_blocking::{Producer, Record};
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("bills", 1).start()?;
    /// # let producer = Producer::builder(cluster.bootstrap()).build()?;
    /// producer.send(Record::to("bills").value("12.50")).wait()?;
    /// let text = producer.metrics().to_prometheus(&[("client_id", "billing")])?;
    /// assert!(text.contains("\nkafka_producer_records_acknowledged_total{client_id=\"billing\"} 1\n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The format wants each name once in a page, so several producers are shown together, by
    /// [`all_to_prometheus`](Self::all_to_prometheus).
    ///
    /// *Errors*: `InvalidInput` for a label's name that the format does not allow, that is there twice, or is `le`.
    pub fn to_prometheus(&self, labels: &[(&str, &str)]) -> Result<String> {
        Self::all_to_prometheus(&[(labels, self)])
    }

    /// The figures of several producers in one text, each with its labels, by which they must differ.
    ///
    /// *Errors*: those of [`to_prometheus`](Self::to_prometheus), and `InvalidInput` for two producers with the same
    /// labels.
    pub fn all_to_prometheus(producers: &[(&[(&str, &str)], &Self)]) -> Result<String> {
        let mut all: Vec<(String, &Self)> = Vec::new();
        for (labels, metrics) in producers {
            let labels = written(labels)?;
            if all.iter().any(|(other, _)| *other == labels) {
                return Err(Error::invalid(format!("two producers have the same labels: {{{labels}}}")));
            }
            all.push((labels, metrics));
        }
        let mut text = String::new();
        for (name, kind, help, value) in NUMBERS {
            family(&mut text, name, kind.name(), help);
            for (labels, metrics) in &all {
                sample(&mut text, name, labels, value(metrics));
            }
        }
        for (name, kind, help, value) in SECONDS {
            family(&mut text, name, kind.name(), help);
            for (labels, metrics) in &all {
                sample(&mut text, name, labels, value(metrics));
            }
        }
        let name = "request_latency_seconds";
        family(&mut text, name, "histogram", "How long produce requests took, from the write to the answer.");
        for (labels, metrics) in &all {
            histogram(&mut text, name, labels, &metrics.request_latency);
        }
        Ok(text)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// The labels between their braces. *Errors*: a name that the format does not allow.
fn written(labels: &[(&str, &str)]) -> Result<String> {
    let mut text = String::new();
    for (place, (name, value)) in labels.iter().enumerate() {
        let mut bytes = name.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !begins || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Error::invalid(format!("{name:?} is no name of a label: those are [a-zA-Z_][a-zA-Z0-9_]*")));
        }
        if *name == "le" || name.starts_with("__") {
            return Err(Error::invalid(format!("the label {name:?} is the format's own")));
        }
        if labels.iter().take(place).any(|(other, _)| other == name) {
            return Err(Error::invalid(format!("the label {name:?} is there twice")));
        }
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let comma = if place == 0 { "" } else { "," };
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    Ok(text)
}

/// Writes the lines that come once before the samples of a name.
fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP kafka_producer_{name} {help}\n# TYPE kafka_producer_{name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(text, "kafka_producer_{name} {value}"),
        labels => writeln!(text, "kafka_producer_{name}{{{labels}}} {value}"),
    };
}

fn histogram(text: &mut String, name: &str, labels: &str, latency: &LatencyHistogram) {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut bucket = |upper: &str, count| {
        sample(text, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{upper}\""), count);
    };
    let mut below = 0;
    let mut buckets = latency.buckets().peekable();
    while let Some((upper, count)) = buckets.next() {
        below += count;
        // The last one has no upper bound.
        match buckets.peek() {
            Some(_) => bucket(&upper.as_secs_f64().to_string(), below),
            None => bucket("+Inf", below),
        }
    }
    sample(text, &format!("{name}_sum"), labels, latency.total.as_secs_f64());
    sample(text, &format!("{name}_count"), labels, below);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::{Counters, add};
    use super::*;

    fn metrics() -> ProducerMetrics {
        let counters = Counters::default();
        add(&counters.records_acknowledged, 5);
        add(&counters.transactions.committed, 3);
        add(&counters.transactions.commit_ns, 250_000_000);
        for latency in [Duration::from_micros(3), Duration::from_millis(2), Duration::from_secs(1_000)] {
            counters.record_latency(latency);
        }
        counters.snapshot()
    }

    /// Reads the text as the format is described: a family's HELP and TYPE come once, before its samples, and each name
    /// with labels is there once. The samples by name and labels.
    fn read(text: &str) -> BTreeMap<String, f64> {
        assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
        let (mut families, mut samples, mut current) = (BTreeMap::new(), BTreeMap::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(!words.trim().is_empty(), "{line}");
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
                // The conventions: a counter ends with _total, and nothing else does.
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                current = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let parts: &[&str] = if families[&current] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.iter().any(|part| *name == format!("{current}{part}")), "{line} is not of {current}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is there twice");
        }
        samples
    }

    #[test]
    fn the_prometheus_text_has_a_line_for_every_figure_and_is_what_the_format_wants() {
        let samples = read(&metrics().to_prometheus(&[]).unwrap());
        let value = |name: &str| samples[&format!("kafka_producer_{name}")];
        assert_eq!((value("records_acknowledged_total"), value("transactions_committed_total")), (5.0, 3.0));
        assert_eq!((value("transaction_commit_seconds_total"), value("buffer_limit_bytes")), (0.25, 0.0));
        let bucket = |upper: &str| value(&format!("request_latency_seconds_bucket{{le=\"{upper}\"}}"));
        assert_eq!((bucket("0.000002"), bucket("0.000004"), bucket("0.002048")), (0.0, 1.0, 2.0));
        // A latency above the last bound counts only in the bucket of infinity.
        assert_eq!((bucket("67.108864"), bucket("+Inf"), value("request_latency_seconds_count")), (2.0, 3.0, 3.0));
        assert!(!samples.keys().any(|name| name.contains("le=\"134")), "{samples:?}");
    }

    #[test]
    fn several_producers_are_told_apart_by_labels_in_one_text() {
        let metrics = metrics();
        let (one, other) = ([("client_id", "a"), ("dc", "x\\y")], [("client_id", "b\"\n"), ("dc", "")]);
        let samples = read(&ProducerMetrics::all_to_prometheus(&[(&one, &metrics), (&other, &metrics)]).unwrap());
        assert_eq!(samples[r#"kafka_producer_records_acknowledged_total{client_id="a",dc="x\\y"}"#], 5.0);
        assert_eq!(samples[r#"kafka_producer_records_acknowledged_total{client_id="b\"\n",dc=""}"#], 5.0);
        let bucket = r#"kafka_producer_request_latency_seconds_bucket{client_id="a",dc="x\\y",le="+Inf"}"#;
        assert_eq!(samples[bucket], 3.0);
        assert_eq!(samples.len(), 2 * read(&metrics.to_prometheus(&[]).unwrap()).len());
        let same = ProducerMetrics::all_to_prometheus(&[(&one, &metrics), (&one, &metrics)]).unwrap_err();
        assert!(same.to_string().contains("the same labels"), "{same}");
    }

    #[test]
    fn a_label_that_the_format_does_not_allow_is_refused_by_name() {
        for name in ["", "1st", "client-id", "ä", "a b", "le", "__name__"] {
            let error = metrics().to_prometheus(&[(name, "x")]).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
        let twice = metrics().to_prometheus(&[("a", "1"), ("a", "2")]).unwrap_err();
        assert!(twice.to_string().contains("twice"), "{twice}");
    }
}

//! Medians, ranges and ratios, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kafka_blocking_peers::Mode;
use serde_json::Value;

use crate::programs::{Load, Program};

pub(crate) const OURS: &str = "kafka-blocking";

/// A program's figures over all rounds.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) is_raw: bool,
    pub(crate) version: String,
    /// What the load is about: records/s, or the microseconds of the median latency.
    pub(crate) main: Spread,
    lines: Vec<Value>,
}

/// Median and range.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min: values[0], max: values[values.len() - 1] }
    }
}

impl Row {
    fn spread(&self, value: impl Fn(&Value) -> f64) -> Spread {
        Spread::of(self.lines.iter().map(value).collect())
    }

    fn number(&self, name: &str) -> Spread {
        self.spread(|line| line[name].as_f64().unwrap_or(f64::NAN))
    }

    fn switches_per_record(&self) -> f64 {
        self.spread(|line| {
            let switches = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
            (switches("nvcsw") + switches("nivcsw")) / line["records"].as_f64().unwrap_or(f64::NAN)
        })
        .median
    }
}

/// The figure by which programs are compared, and whether more is better.
pub(crate) fn main_figure(load: &Load) -> (&'static str, bool) {
    match load.mode {
        Mode::Sync | Mode::Transactions => ("p50_us", false),
        Mode::Throughput | Mode::SyncThreads => ("records_per_s", true),
    }
}

/// The rows of a load: the floors first, then the best.
pub(crate) fn rows(programs: &[&Program], load: &Load, of_programs: &BTreeMap<&'static str, Vec<Value>>) -> Vec<Row> {
    let (figure, more_is_better) = main_figure(load);
    let mut rows: Vec<Row> = programs
        .iter()
        .filter_map(|program| Some((program, of_programs.get(program.name)?)))
        .map(|(program, lines)| Row {
            name: program.name,
            is_raw: program.is_raw(),
            version: lines[0]["version"].as_str().unwrap_or_default().to_owned(),
            main: Spread::of(lines.iter().map(|line| line[figure].as_f64().unwrap_or(f64::NAN)).collect()),
            lines: lines.clone(),
        })
        .collect();
    rows.sort_by(|a, b| {
        let by_figure = a.main.median.total_cmp(&b.main.median);
        b.is_raw.cmp(&a.is_raw).then(if more_is_better { by_figure.reverse() } else { by_figure })
    });
    rows
}

pub(crate) fn markdown(target: &str, load: &Load, rows: &[Row]) -> String {
    let mut text = format!("\n## {target}, {}: {}\n\n", load.name, load.title);
    let (_, more_is_better) = main_figure(load);
    let columns = match load.mode {
        Mode::Throughput => "records/s | CPU ns per record | switches per 1000 | peak MB",
        Mode::Sync => "p50 us | p90 | p99 | p99.9 | CPU us per record | switches per record | peak MB",
        Mode::SyncThreads => {
            "records/s | CPU us per record | p50 us | p99 us | p99.9 us | switches per record | peak MB"
        }
        Mode::Transactions => {
            "p50 us | p90 | p99 | p99.9 | transactions/s | CPU us per transaction | switches per transaction | peak MB"
        }
    };
    let floor = rows.iter().filter(|row| row.is_raw).map(|row| row.main.median);
    let floor = floor.reduce(if more_is_better { f64::max } else { f64::min });
    let ours = rows.iter().find(|row| row.name == OURS).map(|row| row.main.median);
    let header = format!("| client | {columns} | of the best floor | kafka-blocking is better by |");
    let _ = writeln!(text, "{header}\n|{}", "---|".repeat(header.matches('|').count() - 1));
    for row in rows {
        let mark = if row.is_raw { "*" } else { "" };
        let micros = |name: &str| format!("{:.1}", row.number(name).median);
        let whole_micros = |name: &str| format!("{:.0}", row.number(name).median);
        let cpu = row.number("cpu_ns_per_record");
        let cpu_us = format!("{:.1} ({:.1}-{:.1})", cpu.median / 1e3, cpu.min / 1e3, cpu.max / 1e3);
        let figures = match load.mode {
            Mode::Throughput => vec![
                rate(row.main),
                format!("{:.0} ({:.0}-{:.0})", cpu.median, cpu.min, cpu.max),
                format!("{:.1}", row.switches_per_record() * 1e3),
            ],
            Mode::Sync => vec![
                format!("{:.1} ({:.1}-{:.1})", row.main.median, row.main.min, row.main.max),
                micros("p90_us"),
                micros("p99_us"),
                micros("p999_us"),
                cpu_us,
                format!("{:.1}", row.switches_per_record()),
            ],
            Mode::SyncThreads => vec![
                rate(row.main),
                cpu_us,
                micros("p50_us"),
                micros("p99_us"),
                micros("p999_us"),
                format!("{:.1}", row.switches_per_record()),
            ],
            Mode::Transactions => vec![
                format!("{:.0} ({:.0}-{:.0})", row.main.median, row.main.min, row.main.max),
                whole_micros("p90_us"),
                whole_micros("p99_us"),
                whole_micros("p999_us"),
                format!("{:.0}", row.number("records_per_s").median),
                cpu_us,
                format!("{:.1}", row.switches_per_record()),
            ],
        };
        let ratio = |of: Option<f64>, to: f64| of.map_or_else(String::new, |of| format!("{:.2}", to / of));
        let better = ours.filter(|_| row.name != OURS && !row.is_raw);
        let better = if more_is_better {
            ratio(Some(row.main.median).filter(|_| better.is_some()), better.unwrap_or_default())
        } else {
            ratio(better, row.main.median)
        };
        let _ = writeln!(
            text,
            "| {mark}{}{mark} | {} | {:.0} | {} | {better} |",
            if row.is_raw { row.name.to_owned() } else { format!("{} {}", row.name, row.version) },
            figures.join(" | "),
            row.number("peak_rss_mb").median,
            ratio(floor, row.main.median),
        );
    }
    text
}

fn rate(spread: Spread) -> String {
    if spread.median >= 1e6 {
        format!("{:.2} M ({:.2}-{:.2})", spread.median / 1e6, spread.min / 1e6, spread.max / 1e6)
    } else {
        format!("{:.0} k ({:.0}-{:.0})", spread.median / 1e3, spread.min / 1e3, spread.max / 1e3)
    }
}

/// A line of a program for people who watch.
pub(crate) fn brief(line: &Value) -> String {
    let number = |name: &str| line[name].as_f64();
    let mut text = format!(
        "{:.0} records/s, {:.0} ns CPU",
        number("records_per_s").unwrap_or(f64::NAN),
        number("cpu_ns_per_record").unwrap_or(f64::NAN)
    );
    if let (Some(p50), Some(p99)) = (number("p50_us"), number("p99_us")) {
        let _ = write!(text, ", p50 {p50:.1} us, p99 {p99:.1} us");
    }
    text
}

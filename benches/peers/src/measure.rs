//! Clock, CPU, context switches, memory, percentiles, and the line that tells them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::json;

use crate::args::{Args, Mode};

/// What the kernel counts for this process, all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    pub voluntary_switches: i64,
    pub involuntary_switches: i64,
    pub peak_rss_kib: i64,
}

impl Usage {
    pub fn now() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// Of the processes that this one has started and waited for.
    pub fn of_children() -> Self {
        Self::of(UsageWho::RUSAGE_CHILDREN)
    }

    fn of(who: UsageWho) -> Self {
        let usage = getrusage(who).unwrap();
        let duration = |value: nix::sys::time::TimeVal| Duration::from_micros(value.num_microseconds() as u64);
        Self {
            user: duration(usage.user_time()),
            system: duration(usage.system_time()),
            voluntary_switches: usage.voluntary_context_switches(),
            involuntary_switches: usage.involuntary_context_switches(),
            peak_rss_kib: usage.max_rss(),
        }
    }
}

/// What a program has measured, told as one JSON object.
pub struct Measured<'a> {
    args: &'a Args,
    client: String,
    version: String,
    note: String,
}

/// The time from the end of the warm-up to the last acknowledgement.
pub struct Window {
    began: Instant,
    usage: Usage,
}

impl Window {
    /// Begins now.
    pub fn open() -> Self {
        // The clock last: reading the counters is no part of the work.
        let usage = Usage::now();
        Self { began: Instant::now(), usage }
    }

    pub fn close(self) -> Closed {
        let wall = self.began.elapsed();
        Closed { wall, before: self.usage, after: Usage::now() }
    }
}

/// A window that has ended.
pub struct Closed {
    pub wall: Duration,
    pub before: Usage,
    pub after: Usage,
}

impl<'a> Measured<'a> {
    pub fn new(args: &'a Args, client: impl Into<String>, version: impl Into<String>, note: impl Into<String>) -> Self {
        Self { args, client: client.into(), version: version.into(), note: note.into() }
    }

    /// Prints the line. `acknowledged` is what the program counted in the window; `latencies`, in nanoseconds, are
    /// those of the synchronous modes, and of whole transactions.
    pub fn report(&self, window: &Closed, acknowledged: u64, latencies: Vec<u32>) {
        let args = self.args;
        assert_eq!(acknowledged, args.records, "not every record was acknowledged");
        let cpu = |pick: fn(&Usage) -> Duration| (pick(&window.after) - pick(&window.before)).as_secs_f64();
        let (user, system) = (cpu(|usage| usage.user), cpu(|usage| usage.system));
        let records = args.records as f64;
        let mut line = json!({
            "client": self.client,
            "version": self.version,
            "note": self.note,
            "mode": args.mode.to_string(),
            "records": args.records,
            "size": args.size,
            "keys": args.keys,
            "threads": args.threads,
            "linger_ms": args.linger_ms,
            "batch_size": args.batch_size,
            "compression": args.compression,
            "transaction": (args.mode == Mode::Transactions).then_some(args.transaction),
            "transaction_ms": args.transaction_ms,
            "wall_s": window.wall.as_secs_f64(),
            "cpu_user_s": user,
            "cpu_sys_s": system,
            "records_per_s": records / window.wall.as_secs_f64(),
            "cpu_ns_per_record": (user + system) * 1e9 / records,
            "peak_rss_mb": peak_rss_mb(),
            "nvcsw": window.after.voluntary_switches - window.before.voluntary_switches,
            "nivcsw": window.after.involuntary_switches - window.before.involuntary_switches,
        });
        if args.mode != Mode::Throughput {
            let latencies = Latencies::new(latencies);
            assert_eq!(latencies.sorted.len() as u64, args.records, "a latency is missing");
            line["mean_us"] = json!(latencies.mean());
            for (name, permille) in
                [("p50_us", 500), ("p90_us", 900), ("p99_us", 990), ("p999_us", 999), ("max_us", 1000)]
            {
                line[name] = json!(latencies.at(permille));
            }
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    }
}

struct Latencies {
    sorted: Vec<u32>,
}

impl Latencies {
    fn new(mut latencies: Vec<u32>) -> Self {
        latencies.sort_unstable();
        Self { sorted: latencies }
    }

    fn mean(&self) -> f64 {
        self.sorted.iter().map(|ns| f64::from(*ns)).sum::<f64>() / self.sorted.len() as f64 / 1e3
    }

    fn at(&self, permille: usize) -> f64 {
        f64::from(self.sorted[(self.sorted.len() - 1) * permille / 1000]) / 1e3
    }
}

/// The most memory that this process has had resident. (What `getrusage` tells survives an `exec`.)
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    kib / 1024.0
}

/// The version of a package in this package's lock file.
pub fn version_of(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let name = format!("name = \"{package}\"\nversion = \"");
    let begin = lock.find(&name).unwrap_or_else(|| panic!("no package {package}")) + name.len();
    lock[begin..].split('"').next().unwrap().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let latencies = Latencies::new((1..=1001).rev().map(|us| us * 1000).collect());
        assert_eq!([500, 990, 1000].map(|permille| latencies.at(permille)), [501.0, 991.0, 1001.0]);
        assert_eq!(latencies.mean(), 501.0);
    }
}

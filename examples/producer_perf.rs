//! Kafka's `kafka-producer-perf-test`: sends records as fast as it can, or at a given rate, and says how fast it went.
//!
//! Options (`--help` shows them) and summary are those of Kafka 4.3, with more percentiles, a histogram, and what the
//! load has cost in CPU and memory. Without a server it runs on a cluster in this process that keeps nothing, whose CPU
//! is then in the figures, too. Take a release build, and enough records for some seconds: the kernel tells CPU in
//! steps of 10 ms.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::iter;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Error, Producer, ProducerBuilder, Record, RecordMetadata};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
producer_perf [OPTIONS]
  --bootstrap-server HOST:PORT,...     default: a cluster in this process
  --topic TOPIC                        required with a server
  --num-records N                      with the warm-up; default 200000
  --warmup-records N                   the first N are acknowledged before the meter starts; default 0
  --record-size BYTES                  of the value; default 100
  --key-size BYTES                     up to 1000 different keys of this size; default 0: no keys
  --throughput N                       records per second at most; default -1: no limit
  --mode async|sync                    async (default): send, and look at results when they come;
                                       sync: wait for each record before the next
  --threads N                          that share one producer; default 1
  --command-property NAME=VALUE ...    a setting, by its name in Java
  --command-config FILE                settings from a file
  --reporting-interval MS              between lines of progress; default 5000, on a terminal only
  --print-metrics                      the producer's figures, in Prometheus' text format
  --json                               all figures as one object, in the last line";

fn main() -> ExitCode {
    env_logger::init();
    match Options::read(std::env::args().skip(1)).and_then(|options| options.map_or(Ok(()), |options| run(&options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("producer_perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let mut properties = options.properties.clone();
    let own = !properties.contains_key("bootstrap.servers");
    let fake = own.then(|| FakeCluster::builder().auto_create(6).sink().start()).transpose()?;
    if let Some(fake) = &fake {
        properties.insert("bootstrap.servers".to_owned(), fake.bootstrap().join(","));
    }
    let topic = match &options.topic {
        Some(topic) => topic.clone(),
        None if own => "perf".to_owned(),
        None => return Err("the option --topic is required".into()),
    };
    let producer = ProducerBuilder::from_properties(&properties).build()?;
    // Fails at once where there is no cluster, not once for each record.
    producer.partitions_for(&topic)?;

    let load = Load::new(options, producer, topic);
    let measured = load.run()?;
    measured.print(options);
    if options.print_metrics {
        print!("{}", load.producer.metrics().to_prometheus(&[])?);
    }
    load.producer.close()?;
    if options.json {
        println!("{}", measured.json(options, own));
    }
    Ok(())
}

/// What is sent, by whom and how.
struct Load<'a> {
    options: &'a Options,
    producer: Producer,
    topic: String,
    values: Vec<Vec<u8>>,
    keys: Vec<Option<String>>,
}

impl<'a> Load<'a> {
    /// Values of random letters, as Java's tool has them. They are made before, and repeat at a distance at which
    /// gzip, snappy and lz4 do not see it any more.
    fn new(options: &'a Options, producer: Producer, topic: String) -> Self {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut letter = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ".get(usize::try_from(random % 26).unwrap_or(0)).copied().unwrap_or(b'A')
        };
        let values = (256 * 1024 / options.record_size).clamp(16, 10_000);
        let values = (0..values).map(|_| iter::repeat_with(&mut letter).take(options.record_size).collect()).collect();
        let key = |key| Some(format!("{key:0width$}", width = options.key_size));
        let keys = if options.keys() == 0 { vec![None] } else { (0..options.keys()).map(key).collect() };
        Self { options, producer, topic, values, keys }
    }

    fn run(&self) -> Outcome<Measured> {
        let options = self.options;
        let measured_records = options.records - options.warmup;
        thread::scope(|scope| {
            // The threads outlast the load: the kernel forgets the context switches of those that have ended.
            let (done, results) = mpsc::channel();
            let workers: Vec<_> = (0..options.threads)
                .map(|number| {
                    let ((jobs, inbox), done) = (mpsc::channel::<(u64, Arc<Meter>)>(), done.clone());
                    scope.spawn(move || {
                        for (records, meter) in inbox {
                            let share = records / options.threads + u64::from(number < records % options.threads);
                            self.send(number, share, &meter);
                            let _ = done.send(());
                        }
                    });
                    jobs
                })
                .collect();
            let send_all = |records: u64, meter: &Arc<Meter>| -> Outcome<()> {
                let before = self.producer.metrics().records_acknowledged;
                for jobs in &workers {
                    jobs.send((records, Arc::clone(meter)))?;
                }
                results.iter().take(workers.len()).for_each(drop);
                self.producer.flush()?;
                let acknowledged = self.producer.metrics().records_acknowledged - before;
                match meter.failure.get() {
                    Some(error) => Err(error.clone().into()),
                    None if acknowledged != records => {
                        Err(format!("{} of {records} records were not delivered", records - acknowledged).into())
                    }
                    None => Ok(()),
                }
            };
            send_all(options.warmup, &Arc::new(Meter::new()))?;

            let meter = Arc::new(Meter::new());
            let (stop, stopped) = mpsc::channel();
            let interval = options.interval.or(std::io::stdout().is_terminal().then_some(Duration::from_secs(5)));
            if let Some(interval) = interval {
                let meter = Arc::clone(&meter);
                scope.spawn(move || self.report(interval, &meter, &stopped));
            }
            let (usage, begin) = (Usage::now(), Instant::now());
            let result = send_all(measured_records, &meter);
            let wall = begin.elapsed();
            let usage = usage.and_then(|before| Some(Usage::now()?.since(&before)));
            drop(stop);
            result?;
            let (mean_ms, max_ms) = meter.all.take();
            Ok(Measured { records: measured_records, wall, usage, peak_mb: peak_mb(), mean_ms, max_ms, meter })
        })
    }

    /// Sends a thread's share, until the meter has seen a failure.
    fn send(&self, worker: u64, records: u64, meter: &Arc<Meter>) {
        let options = self.options;
        // Not all threads send the same value at the same time.
        let first = usize::try_from(worker).unwrap_or(0) * self.values.len() / 3;
        let contents = self.keys.iter().cycle().zip(self.values.iter().cycle().skip(first % self.values.len()));
        let step = options.step();
        let begin = Instant::now();
        for (number, (key, value)) in (0..records).zip(contents) {
            if let Some(limit) = options.throughput {
                let due =
                    Duration::try_from_secs_f64((number * options.threads) as f64 / limit).unwrap_or(Duration::MAX);
                thread::sleep(due.saturating_sub(begin.elapsed()));
            }
            if meter.failure.get().is_some() {
                return;
            }
            let record = Record::to(&self.topic).key(key.as_deref()).value(value);
            if options.sync {
                let sent = Instant::now();
                meter.result(sent, self.producer.send(record).wait());
            } else if number % step == 0 {
                let (meter, sent) = (Arc::clone(meter), Instant::now());
                self.producer.send_with(record, move |result| meter.result(sent, result));
            } else {
                self.producer.send(record).detach();
            }
        }
    }

    /// Prints a line whenever the time has passed.
    fn report(&self, interval: Duration, meter: &Meter, stopped: &Receiver<()>) {
        let (mut begin, mut before) = (Instant::now(), self.producer.metrics().records_acknowledged);
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let (now, acknowledged) = (Instant::now(), self.producer.metrics().records_acknowledged);
            let (average, max) = meter.window.take();
            let records = acknowledged - before;
            let (per_second, megabytes) = self.options.rates(records, now - begin);
            print!("{records} records sent, {per_second:.1} records/sec ({megabytes:.2} MB/sec), ");
            println!("{average:.1} ms avg latency, {max:.1} ms max latency.");
            (begin, before) = (now, acknowledged);
        }
    }
}

/// Latencies, from before `send` to the result. To record one takes no lock and no memory.
struct Meter {
    /// Each power of two is divided into 128, so that a latency is off by less than 0.4 %.
    buckets: Vec<AtomicU64>,
    all: Sum,
    window: Sum,
    failure: OnceLock<Error>,
}

#[derive(Default)]
struct Sum {
    count: AtomicU64,
    nanos: AtomicU64,
    max: AtomicU64,
}

impl Sum {
    fn add(&self, nanos: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.max.fetch_max(nanos, Ordering::Relaxed);
    }

    /// Mean and largest, in milliseconds; and begins anew.
    fn take(&self) -> (f64, f64) {
        let [count, nanos, max] = [&self.count, &self.nanos, &self.max].map(|figure| figure.swap(0, Ordering::Relaxed));
        (nanos as f64 / 1e6 / count.max(1) as f64, max as f64 / 1e6)
    }
}

impl Meter {
    /// The smallest power of two whose values share buckets, as an exponent.
    const BITS: u32 = 7;

    fn new() -> Self {
        let buckets = iter::repeat_with(AtomicU64::default).take((64 - 6) << Self::BITS).collect();
        Self { buckets, all: Sum::default(), window: Sum::default(), failure: OnceLock::new() }
    }

    fn result(&self, sent: Instant, result: Result<RecordMetadata, Error>) {
        match result {
            Ok(_) => self.record(sent.elapsed()),
            Err(error) => drop(self.failure.set(error)),
        }
    }

    fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let shift = nanos.max(1).ilog2().saturating_sub(Self::BITS);
        let bucket = (u64::from(shift) << Self::BITS) + (nanos >> shift);
        if let Some(bucket) = usize::try_from(bucket).ok().and_then(|bucket| self.buckets.get(bucket)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.all.add(nanos);
        self.window.add(nanos);
    }

    /// The middle of each bucket that is not empty, in milliseconds, and how many latencies it has.
    fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        (0_u64..).zip(&self.buckets).filter_map(|(bucket, count)| {
            let shift = (bucket >> Self::BITS).saturating_sub(1);
            let begin = (bucket - (shift << Self::BITS)) << shift;
            let count = count.load(Ordering::Relaxed);
            (count > 0).then_some(((begin + (1_u64 << shift) / 2) as f64 / 1e6, count))
        })
    }

    /// The latency that this many of a thousand do not exceed, in milliseconds.
    fn quantile(&self, permille: u64) -> f64 {
        let count: u64 = self.buckets().map(|(_, count)| count).sum();
        let wanted = (count * permille).div_ceil(1000);
        let mut seen = 0;
        let reached = |(_, count): &(f64, u64)| {
            seen += count;
            seen >= wanted
        };
        self.buckets().find(reached).map_or(0.0, |(latency, _)| latency)
    }
}

/// What a load has cost.
struct Measured {
    records: u64,
    wall: Duration,
    /// `None` where there is no `/proc`, as with `peak_mb`.
    usage: Option<Usage>,
    peak_mb: Option<f64>,
    mean_ms: f64,
    max_ms: f64,
    meter: Arc<Meter>,
}

impl Measured {
    fn quantile(&self, permille: u64) -> f64 {
        self.meter.quantile(permille).min(self.max_ms)
    }

    fn print(&self, options: &Options) {
        let (per_second, megabytes) = options.rates(self.records, self.wall);
        let steady = if options.warmup > 0 { " steady state" } else { "" };
        print!("{}{steady} records sent, {per_second:.6} records/sec ({megabytes:.2} MB/sec), ", self.records);
        print!("{:.2} ms avg latency, {:.2} ms max latency, ", self.mean_ms, self.max_ms);
        let whole = [500, 950, 990, 999].map(|permille| self.quantile(permille).trunc());
        println!("{} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.", whole[0], whole[1], whole[2], whole[3]);

        let [p50, p90, p99, p999] = [500, 900, 990, 999].map(|permille| self.quantile(permille));
        print!("\nLatency in ms: p50 {p50:.3}, p90 {p90:.3}, p99 {p99:.3}, p99.9 {p999:.3}, max {:.3}", self.max_ms);
        println!(
            "{}",
            if options.step() > 1 { format!("; of one record in {}", options.step()) } else { String::new() }
        );
        self.draw();
        if let (Some(usage), Some(peak_mb)) = (&self.usage, self.peak_mb) {
            let nanos = |cpu: Duration| cpu.as_secs_f64() * 1e9 / self.records as f64;
            let (user, system) = (nanos(usage.cpu_user), nanos(usage.cpu_system));
            print!("\nCPU per record: {:.0} ns (user {user:.0}, system {system:.0}); ", user + system);
            print!("context switches: {} voluntary, {} not; ", usage.voluntary_switches, usage.involuntary_switches);
            println!("peak memory: {peak_mb:.1} MB");
        }
    }

    /// Draws how many latencies lie between 1, 2 and 5 times each power of ten.
    fn draw(&self) {
        let bounds = (-3..7).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let rows = bounds.scan(0.0, |bound, to| {
            let from = std::mem::replace(bound, to);
            let within = self.meter.buckets().filter(|(latency, _)| (from..to).contains(latency));
            Some((from, to, within.map(|(_, count)| count).sum()))
        });
        let rows: Vec<(f64, f64, u64)> = rows.collect();
        let largest = rows.iter().map(|(.., count)| *count).max().unwrap_or(0).max(1);
        // Without the empty rows at both ends.
        let full = |row: &(f64, f64, u64)| row.2 > 0;
        let (first, last) =
            (rows.iter().position(full).unwrap_or(0), rows.iter().rposition(full).map_or(0, |row| row + 1));
        for (from, to, count) in rows.iter().take(last).skip(first) {
            let bar = "#".repeat(usize::try_from((count * 50).div_ceil(largest)).unwrap_or(0));
            println!("{}", format!("{from:>10} to {to:<7} {count:>10} {bar}").trim_end());
        }
    }

    fn json(&self, options: &Options, own: bool) -> Value {
        let property =
            |name: &str, default: &str| options.properties.get(name).map_or(default, String::as_str).to_owned();
        let number = |name: &str, default: &str| serde_json::from_str::<Value>(&property(name, default)).ok();
        let usage = self.usage.as_ref();
        let cpu = |which: fn(&Usage) -> Duration| usage.map(|usage| which(usage).as_secs_f64());
        let mode = match (options.sync, options.threads) {
            (false, _) => "throughput",
            (true, 1) => "sync",
            (true, _) => "syncthreads",
        };
        let micros = |permille| self.quantile(permille) * 1e3;
        json!({
            "client": "kafka-blocking",
            "version": env!("CARGO_PKG_VERSION"),
            "note": if own { "CPU and memory include the cluster, which was in this process" } else { "" },
            "mode": mode,
            "records": self.records,
            "size": options.record_size,
            "keys": options.keys(),
            "threads": options.threads,
            "linger_ms": number("linger.ms", "5"),
            "batch_size": number("batch.size", "16384"),
            "compression": property("compression.type", "none"),
            "wall_s": self.wall.as_secs_f64(),
            "cpu_user_s": cpu(|usage| usage.cpu_user),
            "cpu_sys_s": cpu(|usage| usage.cpu_system),
            "records_per_s": options.rates(self.records, self.wall).0,
            "cpu_ns_per_record": cpu(|usage| usage.cpu_user + usage.cpu_system).map(|cpu| cpu * 1e9 / self.records as f64),
            "peak_rss_mb": self.peak_mb,
            "nvcsw": usage.map(|usage| usage.voluntary_switches),
            "nivcsw": usage.map(|usage| usage.involuntary_switches),
            "mean_us": self.mean_ms * 1e3,
            "p50_us": micros(500),
            "p90_us": micros(900),
            "p99_us": micros(990),
            "p999_us": micros(999),
            "max_us": self.max_ms * 1e3,
        })
    }
}

/// What the kernel counts for this process, all threads together.
struct Usage {
    cpu_user: Duration,
    cpu_system: Duration,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

impl Usage {
    fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may have spaces. Of what follows it, the fields 12 and 13 are ticks of 10 ms.
        let mut ticks = stat.rsplit(')').next()?.split_whitespace().skip(11).map(|ticks| ticks.parse::<u64>());
        let mut cpu = || Some(Duration::from_millis(ticks.next()?.ok()? * 10));
        let mut usage = Self { cpu_user: cpu()?, cpu_system: cpu()?, voluntary_switches: 0, involuntary_switches: 0 };
        for thread in std::fs::read_dir("/proc/self/task").ok()? {
            // A thread that ends at this moment has no status any more.
            let Ok(status) = std::fs::read_to_string(thread.ok()?.path().join("status")) else { continue };
            usage.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            usage.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(usage)
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            cpu_user: self.cpu_user.saturating_sub(before.cpu_user),
            cpu_system: self.cpu_system.saturating_sub(before.cpu_system),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
        }
    }
}

/// The most memory that this process has had resident.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(field(&status, "VmHWM:")? as f64 / 1024.0)
}

/// A number of a `/proc/.../status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

struct Options {
    topic: Option<String>,
    records: u64,
    warmup: u64,
    record_size: usize,
    key_size: usize,
    /// Records per second.
    throughput: Option<f64>,
    sync: bool,
    threads: u64,
    interval: Option<Duration>,
    print_metrics: bool,
    json: bool,
    /// Java's names and values.
    properties: BTreeMap<String, String>,
}

impl Options {
    /// `None`: the user has asked for help, and has it.
    fn read(arguments: impl Iterator<Item = String>) -> Outcome<Option<Self>> {
        let mut options = Self {
            topic: None,
            records: 200_000,
            warmup: 0,
            record_size: 100,
            key_size: 0,
            throughput: None,
            sync: false,
            threads: 1,
            interval: None,
            print_metrics: false,
            json: false,
            properties: BTreeMap::from([("client.id".to_owned(), "perf-producer-client".to_owned())]),
        };
        let (mut bootstrap, mut given) = (None, BTreeMap::new());
        // An option's value may stand behind a `=`.
        let arguments = arguments.flat_map(|argument| match argument.split_once('=') {
            Some((option, value)) if option.starts_with("--") => vec![option.to_owned(), value.to_owned()],
            _ => vec![argument],
        });
        let mut arguments = arguments.peekable();
        while let Some(option) = arguments.next() {
            let option = option.as_str();
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option {
                "--bootstrap-server" => bootstrap = Some(value()?),
                "--topic" => options.topic = Some(value()?),
                "--num-records" => options.records = number(option, &value()?)?,
                "--warmup-records" => options.warmup = number(option, &value()?)?,
                "--record-size" => options.record_size = number(option, &value()?)?,
                "--key-size" => options.key_size = number(option, &value()?)?,
                "--throughput" => options.throughput = Some(number(option, &value()?)?).filter(|limit| *limit >= 0.0),
                "--mode" => options.sync = number::<Mode>(option, &value()?)?.0,
                "--threads" => options.threads = number(option, &value()?)?,
                "--reporting-interval" => options.interval = Some(Duration::from_millis(number(option, &value()?)?)),
                "--print-metrics" => options.print_metrics = true,
                "--json" => options.json = true,
                "--command-config" | "--producer.config" => {
                    let file = value()?;
                    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
                    options.properties.extend(read_properties(&text));
                }
                "--command-property" | "--producer-props" => {
                    let mut properties = vec![value()?];
                    // Like Java's tool it takes several.
                    properties.extend(iter::from_fn(|| arguments.next_if(|argument| !argument.starts_with("--"))));
                    for property in properties {
                        let (name, value) = property.split_once('=').ok_or_else(|| format!("{property} has no ="))?;
                        given.insert(name.to_owned(), value.to_owned());
                    }
                }
                "--help" | "-h" => {
                    println!("{USAGE}");
                    return Ok(None);
                }
                _ => return Err(format!("{option} is none of this program's options; --help shows them").into()),
            }
        }
        // Wherever they stand: an option of its own comes before a property, and that before the file.
        options.properties.extend(given);
        options.properties.extend(bootstrap.map(|servers| ("bootstrap.servers".to_owned(), servers)));
        let positive = [
            ("--num-records", options.records > 0),
            ("--record-size", options.record_size > 0),
            ("--threads", options.threads > 0),
            ("--throughput", options.throughput != Some(0.0)),
            ("--reporting-interval", options.interval != Some(Duration::ZERO)),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, is_positive)| !is_positive) {
            return Err(format!("{name} must not be zero").into());
        }
        if options.warmup >= options.records {
            return Err("--warmup-records must be fewer than --num-records".into());
        }
        Ok(Some(options))
    }

    /// One record in so many has its latency measured. In the mode `async` that takes a callback and two looks at the
    /// clock, which cost as much as the record itself.
    fn step(&self) -> u64 {
        if self.sync { 1 } else { ((self.records - self.warmup) / 10_000).clamp(1, 16) }
    }

    /// How many different keys there are.
    fn keys(&self) -> u64 {
        match self.key_size {
            0 => 0,
            1 => 10,
            2 => 100,
            _ => 1000,
        }
    }

    /// Records and megabytes per second.
    fn rates(&self, records: u64, time: Duration) -> (f64, f64) {
        let per_second = records as f64 / time.as_secs_f64();
        (per_second, per_second * (self.record_size + self.key_size) as f64 / 1024.0 / 1024.0)
    }
}

/// Whether a thread waits for each record.
struct Mode(bool);

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "async" => Ok(Self(false)),
            "sync" => Ok(Self(true)),
            _ => Err(()),
        }
    }
}

fn number<N: FromStr>(option: &str, text: &str) -> Outcome<N> {
    text.parse().map_err(|_| format!("{option} cannot be {text}").into())
}

/// The names and values of a `.properties` file without escapes and continued lines.
fn read_properties(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

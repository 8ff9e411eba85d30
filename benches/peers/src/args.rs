//! The flags that all programs know.

use std::collections::BTreeMap;
use std::fmt;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// `--threads` senders send without waiting; the clock stops at the last acknowledgement.
    Throughput,
    /// One thread sends a record and waits for its acknowledgement, again and again.
    Sync,
    /// `--threads` threads do that with one shared producer.
    SyncThreads,
    /// One thread writes transactions of `--transaction` records, one after the other.
    Transactions,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Throughput, Self::Sync, Self::SyncThreads, Self::Transactions];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.to_string() == name)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Throughput => "throughput",
            Self::Sync => "sync",
            Self::SyncThreads => "syncthreads",
            Self::Transactions => "transactions",
        })
    }
}

/// The flags of a measuring program. Flags that only some programs know are in [`extra`](Self::extra).
#[derive(Clone, Debug)]
pub struct Args {
    pub bootstrap: String,
    pub topic: String,
    pub mode: Mode,
    /// Records to be measured, all threads together.
    pub records: u64,
    /// Records before that, all threads together.
    pub warmup: u64,
    /// Bytes of a value.
    pub size: usize,
    /// How many different keys of 16 bytes there are; 0: no keys.
    pub keys: usize,
    pub threads: usize,
    pub linger_ms: u64,
    /// `None`: the client's own default.
    pub batch_size: Option<usize>,
    /// `none`, `gzip`, `snappy` or `lz4`.
    pub compression: String,
    /// Records of a transaction, in the mode where whole transactions are counted as if they were records.
    pub transaction: u64,
    /// How long a transaction of the throughput mode is open; `None`: no transactions.
    pub transaction_ms: Option<u64>,
    extra: BTreeMap<String, String>,
}

impl Args {
    /// Reads the command line. `known` names the flags of this program alone; each takes a value.
    pub fn parse(known: &[&str]) -> Self {
        let mut args = Self {
            bootstrap: String::new(),
            topic: "peers".into(),
            mode: Mode::Throughput,
            records: 0,
            warmup: u64::MAX,
            size: 100,
            keys: 0,
            threads: 0,
            linger_ms: u64::MAX,
            batch_size: None,
            compression: "none".into(),
            transaction: 10,
            transaction_ms: None,
            extra: BTreeMap::new(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{flag} wants a value"));
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{flag} wants a number, not {value}"));
            match &*flag {
                "--bootstrap" => args.bootstrap = value,
                "--topic" => args.topic = value,
                "--mode" => args.mode = Mode::parse(&value).unwrap_or_else(|| panic!("no mode {value}")),
                "--records" => args.records = number(),
                "--warmup" => args.warmup = number(),
                "--size" => args.size = number() as usize,
                "--keys" => args.keys = number() as usize,
                "--threads" => args.threads = number() as usize,
                "--linger-ms" => args.linger_ms = number(),
                "--batch-size" => args.batch_size = Some(number() as usize).filter(|bytes| *bytes > 0),
                "--compression" => args.compression = value,
                "--transaction" => args.transaction = number().max(1),
                "--transaction-ms" => args.transaction_ms = Some(number()).filter(|ms| *ms > 0),
                "--acks" => assert_eq!(value, "all", "only acknowledgements from all replicas are compared"),
                _ if known.contains(&&*flag) => drop(args.extra.insert(flag, value)),
                _ => panic!("{flag} is not known"),
            }
        }
        assert!(!args.bootstrap.is_empty(), "--bootstrap HOST:PORT is missing");
        let (records, warmup, threads, linger) = match args.mode {
            Mode::Throughput => (2_000_000, 200_000, 1, 5),
            Mode::Sync => (20_000, 2_000, 1, 0),
            Mode::SyncThreads => (100_000, 10_000, 16, 0),
            Mode::Transactions => (1_000, 100, 1, 0),
        };
        let or = |value, missing, default| if value == missing { default } else { value };
        args.records = or(args.records, 0, records);
        args.warmup = or(args.warmup, u64::MAX, warmup);
        args.threads = if args.threads == 0 { threads } else { args.threads };
        args.linger_ms = or(args.linger_ms, u64::MAX, linger);
        let transactional = args.mode == Mode::Transactions || args.transaction_ms.is_some();
        assert!(args.threads == 1 || !transactional, "a producer has one transaction at a time");
        args
    }

    /// Of this process alone: another one that had it would be locked out.
    pub fn transactional_id(&self) -> String {
        format!("{}-{}", self.topic, std::process::id())
    }

    /// Whether records are sent in transactions.
    pub fn is_transactional(&self) -> bool {
        self.mode == Mode::Transactions || self.transaction_ms.is_some()
    }

    /// A flag of this program alone.
    pub fn extra(&self, flag: &str) -> Option<&str> {
        self.extra.get(flag).map(String::as_str)
    }

    /// How many of `total` the thread `index` does.
    pub fn share(&self, total: u64, index: usize) -> u64 {
        let (threads, index) = (self.threads as u64, index as u64);
        total / threads + u64::from(index < total % threads)
    }

    /// Records of a full batch where the caller builds the batches: as many as a client with `batch.size` puts in.
    pub fn records_per_batch(&self) -> usize {
        // A record of up to 127 bytes has seven bytes of its own, a longer one nine; a batch has 61.
        let record = self.size + if self.keys > 0 { 16 } else { 0 } + if self.size > 120 { 9 } else { 7 };
        ((self.batch_size.unwrap_or(16 << 10) - 61) / record).max(1)
    }
}

//! Which programs there are, and what they are given to do.

use kafka_blocking_peers::Mode;
use kafka_blocking_peers::Mode::{Sync, SyncThreads, Throughput, Transactions};

/// What all programs of a mode do alike.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) mode: Mode,
    pub(crate) flags: &'static [&'static str],
    /// Records, or transactions, of a program of speed 1.
    records: u64,
    /// Partitions of the topic on Kafka.
    pub(crate) partitions: usize,
    /// The commands, or the programs by their names, that can do it; none: all.
    commands: &'static [&'static str],
}

/// How many partitions the sink's topics have.
pub(crate) const PARTITIONS: usize = 6;

pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "throughput",
        title: "100-byte values, no keys, 6 partitions, linger 5 ms, default batch size",
        mode: Throughput,
        flags: &[],
        records: 1_000_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "large-batches",
        title: "100-byte values, no keys, 6 partitions, linger 5 ms, batches of 128 KiB",
        mode: Throughput,
        flags: &["--batch-size", "131072"],
        records: 1_000_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "1k",
        title: "1 KiB values, 16-byte keys, 6 partitions, linger 5 ms, default batch size",
        mode: Throughput,
        flags: &["--size", "1024", "--keys", "1000"],
        records: 250_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "lz4",
        title: "1 KiB values of log-like text, 16-byte keys, 6 partitions, linger 5 ms, lz4",
        mode: Throughput,
        flags: &["--size", "1024", "--keys", "1000", "--compression", "lz4"],
        records: 250_000,
        partitions: PARTITIONS,
        commands: &["kafka-blocking", "rdkafka", "java"],
    },
    Load {
        name: "zstd",
        title: "1 KiB values of log-like text, 16-byte keys, 6 partitions, linger 5 ms, zstd",
        mode: Throughput,
        flags: &["--size", "1024", "--keys", "1000", "--compression", "zstd"],
        records: 250_000,
        partitions: PARTITIONS,
        commands: &["kafka-blocking", "rdkafka", "java"],
    },
    Load {
        name: "one-partition",
        title: "100-byte values, no keys, 1 partition, linger 5 ms, default batch size",
        mode: Throughput,
        flags: &[],
        records: 1_000_000,
        partitions: 1,
        commands: &[],
    },
    Load {
        name: "one-partition-1k",
        title: "1 KiB values, 16-byte keys, 1 partition, linger 5 ms, default batch size",
        mode: Throughput,
        flags: &["--size", "1024", "--keys", "1000"],
        records: 250_000,
        partitions: 1,
        commands: &[],
    },
    Load {
        name: "sync",
        title: "one thread, one record outstanding, 100-byte values; linger 0, kafka-blocking at its default",
        mode: Sync,
        flags: &[],
        records: 20_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "callers",
        title: "16 callers with one record outstanding each, one shared producer, 100-byte values; linger 0, kafka-blocking at its default",
        mode: SyncThreads,
        flags: &["--threads", "16"],
        records: 100_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "transactions-1",
        title: "one thread, transactions of one record, 100-byte values; linger 0, kafka-blocking and Java at their defaults",
        mode: Transactions,
        flags: &["--transaction", "1"],
        records: 1_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "transactions-100",
        title: "one thread, transactions of 100 records, 100-byte values; linger 0, kafka-blocking and Java at their defaults",
        mode: Transactions,
        flags: &["--transaction", "100"],
        records: 1_000,
        partitions: PARTITIONS,
        commands: &[],
    },
    Load {
        name: "transactional-throughput",
        title: "100-byte values, no keys, 6 partitions, linger 5 ms, default batch size, transactions of 100 ms",
        mode: Throughput,
        flags: &["--transaction-ms", "100"],
        records: 1_000_000,
        partitions: PARTITIONS,
        commands: &["kafka-blocking", "rdkafka threaded", "rdkafka base", "java-perf"],
    },
];

impl Load {
    /// Whether the program can do it.
    pub(crate) fn suits(&self, program: &Program) -> bool {
        let named = |name| self.commands.contains(name);
        program.modes.contains(&self.mode)
            && (self.commands.is_empty() || named(&program.command) || named(&program.name))
    }

    /// A late answer says something about throughput alone, and the sink has neither transactions nor a choice of partitions.
    pub(crate) fn is_for(&self, target: &str) -> bool {
        match target {
            "kafka" => true,
            "sink-5ms" => self.name == "throughput",
            _ => !self.is_transactional() && self.partitions == PARTITIONS,
        }
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.flags.iter().any(|flag| flag.starts_with("--transaction"))
    }
}

/// A program with the flags that make it one of the compared.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) command: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) modes: &'static [Mode],
    /// How many times the records of a load it does when throughput is measured, so that all take about as long.
    speed: u64,
}

const ALL: &[Mode] = &Mode::ALL;
/// Of clients without transactions.
const PLAIN: &[Mode] = &[Throughput, Sync, SyncThreads];

pub(crate) const PROGRAMS: &[Program] = &[
    raw("raw pre-encoded", &["--floor", "pre-encoded"], &[Throughput], 16),
    raw("raw encode", &["--floor", "encode"], &[Throughput], 8),
    raw("raw ping-pong", &["--floor", "ping-pong"], &[Sync], 1),
    raw("raw idempotent ping-pong", &["--floor", "idempotent ping-pong"], &[Sync], 1),
    raw("raw leader", &["--floor", "leader"], &[Sync, SyncThreads], 1),
    raw("raw hand-off", &["--floor", "hand-off"], &[Sync, SyncThreads], 1),
    of("kafka-blocking", "kafka-blocking", &[], ALL, 4),
    of("rdkafka threaded", "rdkafka", &["--client", "threaded"], ALL, 1),
    of("rdkafka base", "rdkafka", &["--client", "base"], &[Throughput, Sync, Transactions], 1),
    of("rdkafka future", "rdkafka", &["--client", "future"], PLAIN, 1),
    of("rskafka batches", "rskafka", &["--client", "batches"], PLAIN, 2),
    of("rskafka batches ct", "rskafka", &["--client", "batches", "--workers", "0"], PLAIN, 2),
    of("rskafka producer", "rskafka", &["--client", "producer"], &[Throughput], 1),
    of("rustfs-kafka", "rustfs-kafka", &[], PLAIN, 2),
    of("krafka", "krafka", &[], PLAIN, 1),
    of("krafka ct", "krafka", &["--workers", "0"], PLAIN, 1),
    of("kacrab", "kacrab", &[], PLAIN, 1),
    of("kacrab ct", "kacrab", &["--workers", "0"], PLAIN, 1),
    of("java", "java", &[], ALL, 2),
    of("java ProducerPerformance", "java-perf", &[], &[Throughput], 2),
];

const fn raw(name: &'static str, flags: &'static [&'static str], modes: &'static [Mode], speed: u64) -> Program {
    of(name, "raw", flags, modes, speed)
}

const fn of(
    name: &'static str,
    command: &'static str,
    flags: &'static [&'static str],
    modes: &'static [Mode],
    speed: u64,
) -> Program {
    Program { name, command, flags, modes, speed }
}

impl Program {
    pub(crate) fn is_raw(&self) -> bool {
        self.command == "raw"
    }

    pub(crate) fn is_java(&self) -> bool {
        self.command.starts_with("java")
    }

    /// Records to be measured, and those of the warm-up.
    pub(crate) fn records(&self, load: &Load, target: &str, divide: u64) -> (u64, u64) {
        let speed = match (load.mode, target) {
            (Sync | SyncThreads | Transactions, _) => 1,
            // The broker is what limits the fast ones.
            (Throughput, "kafka") => self.speed.min(2),
            (Throughput, _) => self.speed,
        };
        let records = (load.records * speed / divide).max(1);
        // A virtual machine that compiles while it runs needs longer to be warm.
        let warmup = match (self.is_java(), load.mode) {
            (false, _) => records / 10,
            (true, Throughput) => load.records / divide,
            (true, Transactions) => records,
            (true, Sync | SyncThreads) => 50_000 / divide,
        };
        (records, warmup)
    }
}

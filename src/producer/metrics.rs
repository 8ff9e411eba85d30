//! A producer's metrics. They are counted for each batch and request, never for each record.

mod prometheus;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of a producer's senders. Their order is relaxed, because each is a sum that does not depend on others.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) records_acknowledged: AtomicU64,
    pub(crate) records_failed: AtomicU64,
    pub(crate) bytes_acknowledged: AtomicU64,
    pub(crate) uncompressed_bytes: AtomicU64,
    pub(crate) batches_sent: AtomicU64,
    pub(crate) batches_retried: AtomicU64,
    pub(crate) batches_split: AtomicU64,
    pub(crate) batches_expired: AtomicU64,
    pub(crate) duplicates_recognised: AtomicU64,
    pub(crate) requests_sent: AtomicU64,
    pub(crate) requests_in_flight: AtomicU64,
    pub(crate) request_bytes: AtomicU64,
    pub(crate) error_answers: AtomicU64,
    pub(crate) connections_made: AtomicU64,
    pub(crate) connections_lost: AtomicU64,
    pub(crate) throttled_ms: AtomicU64,
    pub(crate) transactions: TransactionCounters,
    latency: Histogram,
}

/// Counters of transactions.
#[derive(Default)]
pub(crate) struct TransactionCounters {
    pub(crate) begun: AtomicU64,
    pub(crate) committed: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) init_ns: AtomicU64,
    pub(crate) begin_ns: AtomicU64,
    pub(crate) send_offsets_ns: AtomicU64,
    pub(crate) commit_ns: AtomicU64,
    pub(crate) abort_ns: AtomicU64,
    pub(crate) last_commit_ns: AtomicU64,
}

/// Adds the time from its start to its drop to a counter of nanoseconds.
pub(crate) struct Stopwatch<'a> {
    since: Instant,
    counter: &'a AtomicU64,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn start(counter: &'a AtomicU64) -> Self {
        Self { since: Instant::now(), counter }
    }

    pub(crate) fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Drop for Stopwatch<'_> {
    fn drop(&mut self) {
        add(self.counter, self.elapsed_ns());
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// How many powers of two of microseconds the histogram has: the last one counts everything from 67 s on.
const BUCKETS: usize = 28;

#[derive(Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS],
    total_us: AtomicU64,
}

impl Histogram {
    fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(64 - us.leading_zeros()).unwrap_or(0).min(BUCKETS - 1);
        if let Some(count) = self.counts.get(bucket) {
            add(count, 1);
        }
        add(&self.total_us, us);
    }
}

impl Counters {
    pub(crate) fn record_latency(&self, latency: Duration) {
        self.latency.record(latency);
    }

    /// A snapshot. The caller fills in the figures that are not counted here.
    pub(crate) fn snapshot(&self) -> ProducerMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicU64| Duration::from_nanos(read(counter));
        let transactions = &self.transactions;
        ProducerMetrics {
            records_acknowledged: read(&self.records_acknowledged),
            records_failed: read(&self.records_failed),
            bytes_acknowledged: read(&self.bytes_acknowledged),
            uncompressed_bytes_acknowledged: read(&self.uncompressed_bytes),
            batches_sent: read(&self.batches_sent),
            batches_retried: read(&self.batches_retried),
            batches_split: read(&self.batches_split),
            batches_expired: read(&self.batches_expired),
            duplicates_recognised: read(&self.duplicates_recognised),
            epoch_bumps: 0,
            requests_sent: read(&self.requests_sent),
            requests_in_flight: read(&self.requests_in_flight),
            request_bytes: read(&self.request_bytes),
            error_answers: read(&self.error_answers),
            connections_made: read(&self.connections_made),
            connections_lost: read(&self.connections_lost),
            throttled: Duration::from_millis(read(&self.throttled_ms)),
            batches_unfinished: 0,
            buffer_bytes_used: 0,
            buffer_bytes_total: 0,
            threads_waiting_for_memory: 0,
            transactions: TransactionMetrics {
                begun: read(&transactions.begun),
                committed: read(&transactions.committed),
                aborted: read(&transactions.aborted),
                failed: read(&transactions.failed),
                init_time: time(&transactions.init_ns),
                begin_time: time(&transactions.begin_ns),
                send_offsets_time: time(&transactions.send_offsets_ns),
                commit_time: time(&transactions.commit_ns),
                abort_time: time(&transactions.abort_ns),
                last_commit_time: time(&transactions.last_commit_ns),
            },
            request_latency: LatencyHistogram {
                counts: self.latency.counts.iter().map(read).collect(),
                total: Duration::from_micros(read(&self.latency.total_us)),
            },
        }
    }
}

/// A producer's metrics at one moment. `requests_in_flight`, `batches_unfinished`, the bytes of the buffer and
/// `threads_waiting_for_memory` are of this moment, all others count from the producer's start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Records that the cluster has acknowledged (with `Acks::None`: that were written to the socket).
    pub records_acknowledged: u64,
    /// Records that failed after `send` had accepted them.
    pub records_failed: u64,
    /// Bytes of the acknowledged batches as they went over the wire.
    pub bytes_acknowledged: u64,
    /// Bytes of the same batches before compression.
    pub uncompressed_bytes_acknowledged: u64,
    /// Batches sent to a broker; each attempt counts.
    pub batches_sent: u64,
    /// Batches sent again, among these.
    pub batches_retried: u64,
    /// Batches that were split because the broker had refused them, or smaller ones of the same partition before, as
    /// too large.
    pub batches_split: u64,
    /// Batches whose delivery timeout passed.
    pub batches_expired: u64,
    /// Batches that the broker recognised as written before.
    pub duplicates_recognised: u64,
    /// How often the producer changed to a new epoch because a partition's sequence numbers were lost.
    pub epoch_bumps: u64,
    /// Produce requests.
    pub requests_sent: u64,
    /// Produce requests without an answer yet.
    pub requests_in_flight: u64,
    /// Bytes of the produce requests.
    pub request_bytes: u64,
    /// Partitions' answers with an error code.
    pub error_answers: u64,
    /// Connections made for producing.
    pub connections_made: u64,
    /// Those of them that broke, or were closed because an answer did not come.
    pub connections_lost: u64,
    /// For how long brokers asked the producer to pause (KIP-219).
    pub throttled: Duration,
    /// Batches that have no result yet, open ones included.
    pub batches_unfinished: u64,
    /// Bytes of `buffer_memory` in use.
    pub buffer_bytes_used: u64,
    /// `buffer_memory`.
    pub buffer_bytes_total: u64,
    /// Threads that wait for buffer memory.
    pub threads_waiting_for_memory: u64,
    /// The transactions of a transactional producer.
    pub transactions: TransactionMetrics,
    /// How long produce requests took, from the write to the answer.
    pub request_latency: LatencyHistogram,
}

/// How a producer's transactions ended, and for how long its calls have blocked. Failed calls count, too; in Java they
/// do not.
///
/// A transaction that is open or in doubt counts only as begun. A failed one also counts as aborted when it is aborted,
/// which it is unless the producer failed with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionMetrics {
    /// Transactions begun.
    pub begun: u64,
    /// Those of them that were committed, even if the call that committed them had timed out.
    pub committed: u64,
    /// Those of them that were aborted, for any reason.
    pub aborted: u64,
    /// Those of them that failed, so that they could only be aborted, or not even that.
    pub failed: u64,
    /// Time in `init_transactions`. Java's metric: `txn-init-time-ns-total`.
    pub init_time: Duration,
    /// Time in `begin_transaction` and `begin`. Java's metric: `txn-begin-time-ns-total`.
    pub begin_time: Duration,
    /// Time in `send_offsets` and `send_offsets_to_transaction`. Java's metric: `txn-send-offsets-time-ns-total`.
    pub send_offsets_time: Duration,
    /// Time in `commit` and `commit_transaction`. Java's metric: `txn-commit-time-ns-total`.
    pub commit_time: Duration,
    /// Time in `abort`, `abort_transaction`, and in dropping a transaction that is aborted by that. Java's metric:
    /// `txn-abort-time-ns-total`.
    pub abort_time: Duration,
    /// How long the last successful commit took: only the call that succeeded, if it took several.
    pub last_commit_time: Duration,
}

/// Latencies by powers of two of microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: Vec<u64>,
    total: Duration,
}

impl LatencyHistogram {
    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their mean; zero if there are none.
    pub fn mean(&self) -> Duration {
        u32::try_from(self.count()).ok().filter(|count| *count > 0).map_or(Duration::ZERO, |count| self.total / count)
    }

    /// The latency that the fraction `quantile` (0.0 to 1.0) of all stayed within, rounded up to a power of two of
    /// microseconds; zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let mut left = quantile.clamp(0.0, 1.0) * precise(self.count());
        for (upper, count) in self.buckets() {
            left -= precise(count);
            if left <= 0.0 && count > 0 {
                return upper;
            }
        }
        Duration::ZERO
    }

    /// The buckets: upper bound and how many latencies are in it (not below it).
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().zip(0u32..).map(|(count, power)| (Duration::from_micros(1 << power), *count))
    }
}

/// A count as a float: exact up to 2^32, and no count of requests comes near.
fn precise(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

impl ProducerMetrics {
    /// Records per batch acknowledged and failed, on average: how full batches are.
    pub fn records_per_batch(&self) -> f64 {
        let batches = self.batches_sent.saturating_sub(self.batches_retried);
        if batches == 0 { 0.0 } else { precise(self.records_acknowledged + self.records_failed) / precise(batches) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds() {
        let counters = Counters::default();
        for us in [0, 1, 3, 100, 100, 100, 100, 100, 100, 5000] {
            counters.record_latency(Duration::from_micros(us));
        }
        counters.record_latency(Duration::from_secs(1_000_000));
        let latency = counters.snapshot().request_latency;
        assert_eq!(latency.count(), 11);
        assert_eq!(latency.quantile(0.5), Duration::from_micros(128));
        assert_eq!(latency.quantile(0.9), Duration::from_micros(8192));
        assert!(latency.quantile(1.0) > Duration::from_secs(60));
    }
}

//! A load on a producer: several threads that send by a ledger, gates that hold them back so that a fault comes in
//! the middle, and the figures of what happened.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Error, Producer, ProducerBuilder, ProducerMetrics, Record, RecordMetadata, Written};

use crate::LIMIT;
use crate::support::admin::Isolation;
use crate::support::kafka::Cluster;
use crate::support::ledger::{Ledger, Report, Ticket};
use crate::support::wait_for;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    topic: String,
    partitions: i32,
    threads: u32,
    records: u64,
    per_second: Option<u64>,
    settle: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    pub(crate) metrics: ProducerMetrics,
    pub(crate) sending: Duration,
    pub(crate) longest_stall: Duration,
    pub(crate) longest_delivery: Duration,
    pub(crate) recoveries: Vec<Duration>,
    /// Acknowledged without an offset.
    pub(crate) without_offset: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// The load under way, as a fault's script sees it.
pub(crate) struct Flow {
    topic: String,
    ledger: Ledger,
    /// How many records may have been sent by now; the senders wait at the gate.
    gate: AtomicU64,
    opened: Condvar,
    gate_lock: Mutex<()>,
    sent: AtomicU64,
    progress: Mutex<Progress>,
}

struct Progress {
    acked: u64,
    resolved: u64,
    /// The last acknowledgement of each partition.
    last: Vec<Instant>,
    longest_stall: Duration,
    longest_delivery: Duration,
    without_offset: u64,
    mark: Option<(Instant, Vec<usize>)>,
    recoveries: Vec<Duration>,
    errors: BTreeMap<String, u64>,
}

impl Load {
    /// 1,000,000 records of 100 bytes from 4 threads to 12 partitions.
    pub(crate) fn new(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions: 12,
            threads: 4,
            records: 1_000_000,
            per_second: None,
            settle: Duration::from_secs(150),
        }
    }

    pub(crate) fn records(mut self, records: u64) -> Self {
        self.records = records;
        self
    }

    /// As many as there is time for, at this rate, until the script ends.
    pub(crate) fn until_the_end(mut self, per_second: u64) -> Self {
        (self.records, self.per_second) = (u64::MAX, Some(per_second));
        self
    }

    pub(crate) fn threads(mut self, threads: u32) -> Self {
        self.threads = threads;
        self
    }

    pub(crate) fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Creates the topic, one replica per broker.
    pub(crate) fn create(self, cluster: &Cluster) -> Self {
        cluster.admin().create_topic(&self.topic, self.partitions as usize, cluster.len(), &[]);
        self
    }

    /// Sends everything while `script` runs, waits for every result, reads the topic back, and deletes it.
    ///
    /// The script begins with the gate closed where it says; the gate opens for good when the script ends.
    pub(crate) fn run(
        &self,
        cluster: &Cluster,
        builder: ProducerBuilder,
        first_gate: u64,
        script: impl FnOnce(&Flow, &Producer),
    ) -> Outcome {
        let producer = builder.build().unwrap();
        let begin = Instant::now();
        let flow = Arc::new(Flow {
            topic: self.topic.clone(),
            ledger: Ledger::new(self.threads as usize),
            gate: AtomicU64::new(first_gate),
            opened: Condvar::new(),
            gate_lock: Mutex::new(()),
            sent: AtomicU64::new(0),
            progress: Mutex::new(Progress {
                acked: 0,
                resolved: 0,
                last: vec![begin; self.partitions as usize],
                longest_stall: Duration::ZERO,
                longest_delivery: Duration::ZERO,
                without_offset: 0,
                mark: None,
                recoveries: Vec::new(),
                errors: BTreeMap::new(),
            }),
        });
        let stop = Stop::default();
        thread::scope(|scope| {
            // Also when the script panics, or its senders would hold it up for ever.
            let end = End { flow: &flow, stop: &stop, forever: self.records == u64::MAX };
            for thread in 0..self.threads {
                let (flow, producer, stop) = (&flow, &producer, &stop);
                scope.spawn(move || self.send(thread, flow, producer, stop));
            }
            script(&flow, &producer);
            drop(end);
        });
        if let Err(error) = producer.flush_timeout(self.settle) {
            eprintln!("{}: {error}", self.topic);
        }
        let sending = begin.elapsed();
        let metrics = producer.metrics();
        let closed = producer.close_timeout(LIMIT);
        let report = self.judge(cluster, &flow.ledger);
        assert!(closed.is_ok(), "{closed:?}; {report}");
        let progress = flow.progress();
        Outcome {
            report,
            metrics,
            sending,
            longest_stall: progress.longest_stall,
            longest_delivery: progress.longest_delivery,
            recoveries: progress.recoveries.clone(),
            without_offset: progress.without_offset,
            errors: progress.errors.clone(),
        }
    }

    fn send(&self, thread: u32, flow: &Arc<Flow>, producer: &Producer, stop: &Stop) {
        let begin = Instant::now();
        let share = self.records / u64::from(self.threads);
        for index in 0..share {
            flow.pass(index * u64::from(self.threads));
            if let Some(rate) = self.per_second {
                let due = Duration::from_secs_f64(index as f64 * f64::from(self.threads) / rate as f64);
                let early = due.saturating_sub(begin.elapsed());
                if !early.is_zero() {
                    stop.sleep(early);
                }
            }
            if stop.is_set() {
                return;
            }
            // The last of several threads leaves the partition to the client.
            let chosen = self.threads == 1 || thread + 1 < self.threads;
            let partition = chosen.then(|| ((index + u64::from(thread)) % self.partitions as u64) as i32);
            let (ticket, value) = flow.ledger.accept(thread, &self.topic, partition, 100);
            let mut record = Record::to(self.topic.as_str()).value(value);
            if let Some(partition) = partition {
                record = record.partition(partition);
            }
            let (begin, flow_of_callback) = (Instant::now(), Arc::clone(flow));
            producer.send_with(record, move |result| flow_of_callback.resolve(ticket, begin, &result));
            flow.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn judge(&self, cluster: &Cluster, ledger: &Ledger) -> Report {
        let mut judge = ledger.judge();
        cluster.admin().read_with(&[&self.topic], Isolation::Uncommitted, LIMIT, |record| {
            judge.record(&record.topic, record.partition, record.offset, record.value.as_deref().unwrap_or_default());
        });
        cluster.admin().delete_topic(&self.topic);
        judge.finish()
    }
}

impl Flow {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, record: u64) {
        if record < self.gate.load(Ordering::Acquire) {
            return;
        }
        let guard = self.gate_lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(guard, |()| record >= self.gate.load(Ordering::Acquire)));
    }

    /// Lets the senders go on until so many records are sent.
    pub(crate) fn open(&self, gate: u64) {
        let guard = self.gate_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.fetch_max(gate, Ordering::Release);
        drop(guard);
        self.opened.notify_all();
    }

    fn resolve(&self, ticket: Ticket, begin: Instant, result: &Result<RecordMetadata, Error>) {
        let now = Instant::now();
        match result {
            Ok(metadata) => {
                assert_eq!(*metadata.topic(), *self.topic);
                let offset = (metadata.offset().unwrap() >= 0).then_some(metadata.offset().unwrap());
                self.ledger.acked(ticket, metadata.partition(), offset);
            }
            Err(error) if error.written() == Some(Written::No) => self.ledger.failed(ticket),
            Err(_) => self.ledger.unknown(ticket),
        }
        let mut progress = self.progress();
        progress.resolved += 1;
        progress.longest_delivery = progress.longest_delivery.max(now - begin);
        match result {
            Ok(metadata) => {
                let partition = metadata.partition() as usize;
                progress.acked += 1;
                progress.without_offset += u64::from(metadata.offset().unwrap() < 0);
                // A partition that nothing was sent to has not stalled.
                let since = progress.last[partition].max(begin);
                progress.longest_stall = progress.longest_stall.max(now - since);
                progress.last[partition] = now;
                if let Some((then, partitions)) = &mut progress.mark
                    // What was acknowledged by the time of the fault may be told a moment later.
                    && begin > *then
                {
                    let then = *then;
                    partitions.retain(|other| *other != partition);
                    if partitions.is_empty() {
                        progress.mark = None;
                        progress.recoveries.push(now - then);
                    }
                }
            }
            Err(error) => {
                let text = format!("{:?}, written {:?}", error.kind(), error.written());
                *progress.errors.entry(text).or_default() += 1;
            }
        }
    }

    /// A fault happens now to these partitions; the time until records that are sent from now on are acknowledged in
    /// each of them is the recovery.
    pub(crate) fn mark(&self, partitions: impl IntoIterator<Item = usize>) {
        let partitions: Vec<usize> = partitions.into_iter().collect();
        assert!(!partitions.is_empty());
        self.progress().mark = Some((Instant::now(), partitions));
    }

    pub(crate) fn acked(&self) -> u64 {
        self.progress().acked
    }

    pub(crate) fn resolved(&self) -> u64 {
        self.progress().resolved
    }

    /// Whether some record has failed with an error whose kind has this name.
    pub(crate) fn has_failed_with(&self, kind: &str) -> bool {
        self.progress().errors.keys().any(|error| error.contains(kind))
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many records are acknowledged.
    pub(crate) fn await_acked(&self, records: u64) {
        wait_for(&format!("{records} acknowledged records"), LIMIT, || (self.acked() >= records).then_some(()));
    }

    /// Waits until the partitions of the last mark have recovered.
    pub(crate) fn await_recovery(&self) {
        wait_for("all partitions to recover", LIMIT, || self.progress().mark.is_none().then_some(()));
    }
}

#[derive(Default)]
struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn sleep(&self, time: Duration) {
        let guard = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(guard, time, |set| !*set));
    }
}

/// Ends the sending when the script is over.
struct End<'a> {
    flow: &'a Flow,
    stop: &'a Stop,
    forever: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if self.forever || thread::panicking() {
            self.stop.set();
        }
        self.flow.open(u64::MAX);
    }
}

impl Outcome {
    /// Prints the figures; `faults` says what was done.
    pub(crate) fn print(&self, what: &str, faults: impl fmt::Display) {
        let (report, metrics) = (&self.report, &self.metrics);
        // The faults' places are told where they fail a test.
        eprintln!("{what}: {}", report.to_string().lines().next().unwrap());
        eprintln!(
            "  faults: {faults}; batches {}, retried {}, expired {}, error answers {}, connections made {} lost {}, \
             epoch bumps {}, recognised {}, acked without offset {}",
            metrics.batches_sent,
            metrics.batches_retried,
            metrics.batches_expired,
            metrics.error_answers,
            metrics.connections_made,
            metrics.connections_lost,
            metrics.epoch_bumps,
            metrics.duplicates_recognised,
            self.without_offset,
        );
        let rate = report.acked as f64 / self.sending.as_secs_f64();
        eprintln!(
            "  {:.1} s, {rate:.0} records/s; longest stall {:.2} s, longest delivery {:.2} s, recoveries {:.2?}",
            self.sending.as_secs_f64(),
            self.longest_stall.as_secs_f64(),
            self.longest_delivery.as_secs_f64(),
            self.recoveries,
        );
        for (error, count) in &self.errors {
            eprintln!("  {count} x {error}");
        }
    }

    /// No fault of the log, and nothing failed or unknown.
    pub(crate) fn assert_all_delivered(&self) {
        self.report.assert_safe();
        assert_eq!((self.report.failed, self.report.unknown), (0, 0), "{}", self.report);
        assert_eq!(self.report.acked, self.report.accepted);
    }
}

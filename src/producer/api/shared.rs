//! What the clones of a producer share, and the hops of a record on the calling thread.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::delivery::Delivery;
use super::not_sent::RecordNotSent;
use super::undelivered::Undelivered;
use crate::cluster::{ClusterClient, Subscription, TopicMetadata};
use crate::config::client::ClientConfig;
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging;
use crate::net::Hangup;
use crate::producer::buffer::accumulator::{Accumulator, NotAppended};
use crate::producer::buffer::callbacks::{Callbacks, Job};
use crate::producer::buffer::draft::RecordParts;
use crate::producer::buffer::flush::Flush;
use crate::producer::buffer::partition::closed;
use crate::producer::buffer::sticky::{Adaptive, FixedPartition, StickyShare};
use crate::producer::buffer::topic_table::{ADDED_LATELY, Memory, Recent, Topic, TopicTable, with_memory};
use crate::producer::buffer::wait_limit::WaitLimit;
use crate::producer::config::ProducerConfig;
use crate::producer::metrics::Counters;
use crate::producer::partitioner::{Choice, PartitionRequest, PartitionerError};
use crate::producer::record_metadata::Callback;
use crate::producer::send::identity::Identity;
use crate::producer::send::inbox::Losses;
use crate::producer::send::senders::Senders;
use crate::producer::transaction::transactions::Transactions;
use crate::record::batch::{parts_size, record_size_upper_bound};
use crate::record::{Record, Timestamp};
use crate::time::{self, wall_clock_ms};
use crate::topic::{TopicPartition, topic_name_fault};

/// How long the senders may take to fail the undelivered records and to report them. They do nothing else then, but the
/// machine or the program's logger may be slow, and a close that returned earlier would not know what was lost.
const FAIL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than the delivery time-out a flush may take. The last record before it expires at the end of the
/// delivery time-out, and its callback has to run, too.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long threads may take to end when all records have their results.
const JOIN_TIMEOUT: Duration = Duration::from_millis(800);

/// What the clones of a producer share.
pub(crate) struct Shared {
    /// The process that has the threads. A forked child process inherits the handles, but no threads.
    pub(crate) process: u32,
    pub(crate) client: ClientConfig,
    pub(crate) config: ProducerConfig,
    pub(crate) cluster: Arc<ClusterClient>,
    /// Brings the cluster's snapshots to the topic table and the senders.
    pub(crate) subscription: Subscription,
    pub(crate) senders: Arc<Senders>,
    pub(crate) topic_table: Arc<TopicTable>,
    pub(crate) accumulator: Accumulator,
    pub(crate) flush: Flush,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) callbacks: Callbacks,
    pub(crate) hangup: Arc<Hangup>,
    /// Whether the partitioner leaves all records without a key to the sticky partition.
    pub(crate) sticky_without_key: bool,
    pub(crate) sticky_share: usize,
    pub(crate) closed: AtomicBool,
    /// What the first close has returned.
    pub(crate) ended: OnceLock<Result<(), Undelivered>>,
    /// The calls of a transactional producer.
    pub(crate) transactions: Option<Arc<Transactions>>,
    /// The threads that `close` joins. The lock is held during `close`, so that a second `close` waits for the first.
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A partitioner that is used for one record.
pub(crate) type ChooseFor<'a> = &'a dyn Fn(&PartitionRequest<'_>) -> Result<Choice, PartitionerError>;

/// How a record is sent.
pub(crate) struct SendOptions<'a> {
    /// The call may wait, for `max_block`.
    pub(crate) may_block: bool,
    /// Chooses the partition of this record, instead of the producer's partitioner.
    pub(crate) partitioner: Option<ChooseFor<'a>>,
    /// The only transaction that it may be part of; 0: whichever is open, if the producer is transactional.
    pub(crate) transaction: u64,
}

impl SendOptions<'_> {
    pub(crate) const BLOCKING: Self = Self { may_block: true, partitioner: None, transaction: 0 };
}

impl Shared {
    /// Whether this process was forked off and has inherited the producer. The connections belong to the other process,
    /// and what its threads had locked at that moment stays locked. The check costs a system call.
    pub(crate) fn is_inherited(&self) -> bool {
        process::id() != self.process
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(closed()) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn send(
        &self,
        record: &mut Record<'_>,
        mut callback: Option<Callback>,
        options: &SendOptions<'_>,
    ) -> Delivery {
        let sent = self.dispatch(record, &mut callback, options);
        sent.unwrap_or_else(|error| self.reject(error, callback.take()))
    }

    /// Shows the record to the interceptors, and sends it. If it is refused, `callback` has not been called.
    #[inline]
    pub(crate) fn dispatch(
        &self,
        record: &mut Record<'_>,
        callback: &mut Option<Callback>,
        options: &SendOptions<'_>,
    ) -> Result<Delivery> {
        *callback = self.config.interceptors.on_send(record, callback.take());
        let record = &*record;
        with_memory(&record.topic, |memory| self.try_to_send(record, memory, callback, options))
    }

    /// [`send`](Self::send), but a record that is refused is returned to the caller. So it is no failure of the
    /// transaction, nor of the producer.
    pub(crate) fn try_send<'r>(
        &self,
        mut record: Record<'r>,
        options: &SendOptions<'_>,
    ) -> Result<Delivery, RecordNotSent<Record<'r>>> {
        // The record is returned without the interceptors' changes: they are made again when it is sent again.
        let given = (!self.config.interceptors.is_empty()).then(|| record.clone());
        let mut callback = None;
        self.dispatch(&mut record, &mut callback, options).map_err(|error| {
            self.give_back(&error, callback.take());
            RecordNotSent::new(error, given.unwrap_or(record))
        })
    }

    /// Tells the interceptors about a record that is returned to the caller.
    #[cold]
    pub(crate) fn give_back(&self, error: &Error, callback: Option<Callback>) {
        if let Some(callback) = callback {
            self.callbacks.post(vec![Job { callback, result: Err(error.clone().not_written_unless_said()) }]);
        }
    }

    /// Refuses a record. An open transaction fails with it.
    #[cold]
    pub(crate) fn reject(&self, error: Error, callback: Option<Callback>) -> Delivery {
        let error = match &self.transactions {
            Some(transactions) => transactions.fail(error),
            None => error,
        };
        self.refuse(error, callback)
    }

    pub(crate) fn refuse(&self, error: Error, callback: Option<Callback>) -> Delivery {
        let error = error.not_written_unless_said();
        let own = callback.map(|callback| Job { callback, result: Err(error.clone()) });
        self.callbacks.post(own.into_iter().chain(self.callbacks.failure(&error, &[], 1)).collect());
        Delivery::refused(error, self.callbacks.clone())
    }

    /// The hops of a record on the calling thread: checks, topic, partition, memory, open batch.
    fn try_to_send(
        &self,
        record: &Record<'_>,
        memory: &Memory,
        callback: &mut Option<Callback>,
        options: &SendOptions<'_>,
    ) -> Result<Delivery> {
        let may_block = options.may_block;
        // When the call began. It is set only if the call has to wait, so that most records need the clock only once,
        // for their timestamp.
        let mut started = None;
        let parts_size = self.check(record)?;
        let mut recent = self.recent(&record.topic, memory, &mut started, may_block)?;
        recent.topic.touch(&self.cluster);
        let choice = self
            .choose(record, &mut recent, memory, &mut started, options)
            .map_err(|error| error.at_topic(&record.topic))?;
        let timestamp = record.timestamp.map_or_else(wall_clock_ms, Timestamp::millis);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let transaction = options.transaction;
        let parts = RecordParts { timestamp, key, value, headers: &record.headers, parts_size, transaction };
        let delivery = self.append(&recent.topic, choice, &parts, callback, started, may_block)?;
        memory.set(Some(recent));
        Ok(delivery)
    }

    /// The last hop on the calling thread: into an open batch of the partition, or of the sticky partition.
    fn append(
        &self,
        topic: &Topic,
        choice: Choice,
        parts: &RecordParts<'_>,
        callback: &mut Option<Callback>,
        started: Option<Instant>,
        may_block: bool,
    ) -> Result<Delivery> {
        let mut wait_limit = WaitLimit { started, limit: may_block.then_some(self.config.max_block) };
        match choice {
            Choice::Partition(index) => {
                let partition = topic.partition(index).ok_or_else(|| no_such_partition(topic, index))?;
                match self.accumulator.append(
                    partition,
                    parts,
                    callback,
                    &mut wait_limit,
                    &*self.senders,
                    FixedPartition,
                ) {
                    Ok((completion, index)) => Ok(Delivery::accepted(completion, index, parts.timestamp)),
                    Err(NotAppended::Failed(error)) => Err(error.at_partition(partition.name())),
                    Err(NotAppended::Elsewhere) => Err(Error::bug("a chosen partition was given up")),
                }
            }
            Choice::Sticky => loop {
                let is_stalled =
                    |broker, now| self.senders.is_stalled(broker, now, self.config.partitioner_availability_timeout);
                let adaptive = self
                    .config
                    .partitioner_adaptive
                    .then_some(Adaptive { is_stalled: &is_stalled, share: self.sticky_share });
                let partition =
                    topic.sticky_partition(adaptive.as_ref()).ok_or_else(|| no_such_partition(topic, -1))?;
                let (sticky, index) = (&*topic.sticky, partition.name().index);
                let sticky = StickyShare { sticky, partition: index, share: self.sticky_share };
                match self.accumulator.append(partition, parts, callback, &mut wait_limit, &*self.senders, sticky) {
                    Ok((completion, index)) => return Ok(Delivery::accepted(completion, index, parts.timestamp)),
                    Err(NotAppended::Failed(error)) => return Err(error.at_partition(partition.name())),
                    Err(NotAppended::Elsewhere) => {}
                }
            },
        }
    }

    /// Checks what needs no knowledge of the topic. Returns the size of the record's parts.
    pub(crate) fn check(&self, record: &Record<'_>) -> Result<usize> {
        if self.topic_table.is_refusing() {
            self.check_open()?;
            self.transactions.as_ref().map_or(Ok(()), |transactions| transactions.check())?;
        }
        if let Some(partition) = record.partition.filter(|partition| *partition < 0) {
            return Err(Error::invalid(format!("the record's partition is {partition}; partitions count from 0"))
                .at_topic(&record.topic));
        }
        let parts_size = parts_size(record.key.as_deref(), record.value.as_deref(), &record.headers);
        self.check_size_and_time(record.timestamp.map(Timestamp::millis), parts_size)
            .map_err(|error| error.at_topic(&record.topic))?;
        Ok(parts_size)
    }

    /// Checks what needs no knowledge of the partition: timestamp and size.
    #[inline]
    pub(crate) fn check_size_and_time(&self, timestamp: Option<i64>, parts_size: usize) -> Result<()> {
        if let Some(timestamp) = timestamp.filter(|timestamp| *timestamp < 0) {
            return Err(Error::invalid(format!(
                "the record's timestamp is {timestamp} ms; it counts from 1970 and cannot be below 0"
            )));
        }
        let size = record_size_upper_bound(parts_size);
        for (limit, bytes) in
            [("max_request_size", self.config.max_request_size), ("buffer_memory", self.config.buffer_memory)]
        {
            if size > bytes {
                let text = format!("the record has up to {size} bytes");
                return Err(Error::new(ErrorKind::RecordTooLarge, Recovery::Fix, text).over_limit(limit, bytes as u64));
            }
        }
        Ok(())
    }

    /// [`topic`](Self::topic), from the thread's memory if it is there.
    pub(crate) fn recent(
        &self,
        name: &str,
        memory: &Memory,
        started: &mut Option<Instant>,
        may_block: bool,
    ) -> Result<Box<Recent>> {
        if let Some(recent) = self.topic_table.recent(name, memory) {
            return Ok(recent);
        }
        self.topic(name, started, may_block)?;
        self.topic_table.recent(name, memory).ok_or_else(|| Error::bug("a topic that came is not there").at_topic(name))
    }

    /// The topic, with its partitions. Where it is not known yet, `started` is when waiting for it began.
    pub(crate) fn topic(&self, name: &str, started: &mut Option<Instant>, may_block: bool) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topic_table.topic(name) {
            return Ok(topic);
        }
        self.check_open()?;
        if let Some(fault) = topic_name_fault(name) {
            return Err(Error::invalid(fault).at_topic(name));
        }
        if self.cluster.keep_known(name) {
            self.subscription.tell();
            if let Some(topic) = self.topic_table.topic(name) {
                return Ok(topic);
            }
        }
        if !may_block || logging::is_inside() {
            self.cluster.ask_for(name);
            let text = "the topic is not known yet; it has been asked for";
            return Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, text).at_topic(name));
        }
        let from = *started.get_or_insert_with(Instant::now);
        let deadline = time::deadline(from, self.config.max_block);
        self.cluster.await_topic(name, deadline, None, |topic| topic.is_known())?;
        if let Some(topic) = self.topic_table.topic(name) {
            return Ok(topic);
        }
        // The thread that got the answer has not updated the topic table yet, so this one does.
        self.subscription.tell();
        self.check_open()?;
        self.topic_table.topic(name).ok_or_else(|| Error::bug("a topic that came is not there").at_topic(name))
    }

    /// The record's partition: its own, or the partitioner's choice. `recent` may be newer afterwards.
    pub(crate) fn choose(
        &self,
        record: &Record<'_>,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        options: &SendOptions<'_>,
    ) -> Result<Choice> {
        let &SendOptions { may_block, partitioner, .. } = options;
        let topic = &recent.topic;
        if let Some(index) = record.partition {
            return self.named(index, recent, memory, started, may_block);
        }
        if record.key.is_none() && partitioner.is_none() && self.sticky_without_key {
            return Ok(Choice::Sticky);
        }
        let request = PartitionRequest::new(
            &record.topic,
            record.key.as_deref(),
            record.value.as_deref(),
            &topic.metadata.all,
            &topic.metadata.available,
        );
        let choose = || match partitioner {
            Some(partitioner) => partitioner(&request),
            None => (*self.config.partitioner).partition(&request),
        };
        let choice = match crate::thread::catch(choose) {
            Ok(Ok(choice)) => choice,
            Ok(Err(cause)) => {
                return Err(Error::invalid("the partitioner refused the record").with_cause(cause));
            }
            Err(panic) => {
                let text = format!("the partitioner panicked; the record was not sent: {panic}");
                return Err(Error::new(ErrorKind::Panicked, Recovery::Fix, text));
            }
        };
        match choice {
            Choice::Partition(index) => self.named(index, recent, memory, started, may_block),
            Choice::Sticky => Ok(Choice::Sticky),
        }
    }

    /// A partition that the record or the partitioner names. If the topic does not have it, new metadata is asked for:
    /// the partition may have been added just now.
    fn named(
        &self,
        index: i32,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        may_block: bool,
    ) -> Result<Choice> {
        if recent.topic.partition(index).is_some() {
            return Ok(Choice::Partition(index));
        }
        if index < 0 {
            return Err(no_such_partition(&recent.topic, index));
        }
        self.await_partition(index, recent, memory, started, may_block)
    }

    #[cold]
    fn await_partition(
        &self,
        index: i32,
        recent: &mut Box<Recent>,
        memory: &Memory,
        started: &mut Option<Instant>,
        may_block: bool,
    ) -> Result<Choice> {
        let name = Arc::clone(&recent.topic.metadata.name);
        let now = Instant::now();
        let since = recent.topic.unknown.since(index, now);
        let enough = since + ADDED_LATELY;
        let known_to_be_wrong = || enough <= now && self.cluster.has_answered_since(since);
        if !may_block || logging::is_inside() {
            self.cluster.ask_for(&name);
            if known_to_be_wrong() {
                return Err(no_such_partition(&recent.topic, index));
            }
            let text = format!("the topic has no partition {index} as far as is known yet; it has been asked for");
            return Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, text).at_topic(&name));
        }
        let from = *started.get_or_insert(now);
        let deadline = time::deadline(from, self.config.max_block);
        let has_partition = |fresh: &TopicMetadata| fresh.partition(index).is_some();
        match self.cluster.await_topic(&name, deadline, Some(enough.min(deadline)), has_partition) {
            // `max_block` was too short for a new answer, so the last answer counts.
            Err(error) if error.kind() == ErrorKind::Timeout(Timeout::Metadata) && known_to_be_wrong() => {
                return Err(no_such_partition(&recent.topic, index));
            }
            answer => drop(answer?),
        }
        if let Some(fresh) = self.topic_table.recent(&name, memory) {
            *recent = fresh;
        }
        if recent.topic.partition(index).is_none() {
            // The thread that got the answer may not have updated the topic table yet, so this one does.
            self.subscription.tell();
            if let Some(fresh) = self.topic_table.recent(&name, memory) {
                *recent = fresh;
            }
        }
        match recent.topic.partition(index) {
            Some(_) => Ok(Choice::Partition(index)),
            None => Err(no_such_partition(&recent.topic, index)),
        }
    }

    /// How long a call without a time limit waits until each record that was sent has its result.
    pub(crate) fn result_timeout(&self) -> Duration {
        self.config.delivery_timeout.saturating_add(TELL_TIMEOUT)
    }

    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Undelivered> {
        if self.is_inherited() {
            return Ok(());
        }
        let deadline = time::deadline(Instant::now(), timeout);
        let in_callback = self.callbacks.is_current_thread();
        let Some(mut threads) = (if in_callback { self.threads.try_lock() } else { Some(self.threads.lock()) }) else {
            // Another thread is closing the producer, and waits for this callback to return.
            return Ok(());
        };
        if self.closed.swap(true, Ordering::AcqRel) {
            return self.ended.get().cloned().unwrap_or(Ok(()));
        }
        let losses = Arc::new(Losses::default());
        self.flush.unfinished.watch_losses({
            let losses = Arc::clone(&losses);
            move |partition, records, error| losses.add(partition, records, Some(error.as_cause()))
        });
        self.topic_table.set_refusing(true);
        let commit_in_doubt = self.transactions.as_ref().is_some_and(|transactions| transactions.close(deadline));
        let partitions = self.topic_table.refuse(&closed());
        let delivered = self.flush.run(deadline, Timeout::Close);
        // From here on no record is accepted, and the rest fails.
        self.accumulator.budget.close();
        let error = match &delivered {
            Ok(()) => closed(),
            Err(error) => {
                let text =
                    format!("the producer was closed before the record was delivered, after waiting for {timeout:?}");
                Error::new(ErrorKind::Closed, Recovery::Fatal, text).with_source(error.clone())
            }
        };
        let wait_limit = if delivered.is_ok() { JOIN_TIMEOUT } else { FAIL_TIMEOUT };
        self.senders.close(&error, &losses, time::deadline(Instant::now(), wait_limit));
        for partition in partitions {
            losses.add(partition.name(), partition.abandon(&error), None);
        }
        self.identity.close();
        if let Some(transactions) = &self.transactions {
            transactions.hang_up();
        }
        self.hangup.hang_up();
        let join_by = time::deadline(Instant::now(), JOIN_TIMEOUT);
        self.cluster.leave();
        self.subscription.end();
        self.callbacks.stop();
        for thread in threads.drain(..) {
            // A callback cannot wait for its own thread, which ends after the callback has returned.
            if thread.thread().id() != thread::current().id() {
                crate::thread::join_until(thread, join_by.max(deadline));
            }
        }
        let undelivered = Undelivered::new(losses.take(), commit_in_doubt);
        let ended = if undelivered.records() == 0 && !commit_in_doubt { Ok(()) } else { Err(undelivered) };
        self.ended.get_or_init(|| ended).clone()
    }
}

pub(crate) fn no_such_partition(topic: &Topic, index: i32) -> Error {
    let count = topic.metadata.partitions.len();
    let text = format!("the topic has no partition {index}; it has {count}, from 0");
    Error::new(ErrorKind::NoSuchPartition, Recovery::Fix, text)
        .at_partition(&TopicPartition { topic: Arc::clone(&topic.metadata.name), index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::Producer;
    use crate::testing::FakeCluster;

    #[test]
    fn topics_that_only_other_clients_of_the_cluster_use_are_not_in_the_table() {
        let fake = FakeCluster::builder().topic("a", 1).topic("b", 1).topic("c", 1).start().unwrap();
        let cluster = crate::Cluster::builder(fake.bootstrap()).build().unwrap();
        let [one, other] = [0, 1].map(|_| Producer::on(&cluster).build().unwrap());
        let has = |producer: &Producer| ["a", "b", "c"].map(|topic| producer.0.0.topic_table.topic(topic).is_some());
        let send = |producer: &Producer, topic| producer.send(Record::to(topic).value("v")).wait().unwrap();
        send(&one, "a");
        send(&one, "b");
        send(&other, "b");
        send(&other, "c");
        // Each producer gets every snapshot, and has the topics that it has asked for.
        assert_eq!(has(&one), [true, true, false]);
        assert_eq!(has(&other), [false, true, true]);
        assert_eq!(other.0.0.topic_table.partitions().len(), 2);
        // When a producer ends, the topics that only it used are forgotten; others find them again.
        one.close_timeout(Duration::from_secs(60)).unwrap();
        send(&other, "a");
        assert_eq!(has(&other), [true, true, true]);
        other.close_timeout(Duration::from_secs(60)).unwrap();
    }
}

//! `Consumer`: how it starts, and what programs call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::ConsumerHandle;
use super::polled::Polled;
use crate::cluster::Cluster;
use crate::config::client::ClientConfig;
use crate::config::servers::IntoServers;
use crate::consumer::buffer::batch::{Batch, Walk};
use crate::consumer::buffer::ready::Next;
use crate::consumer::buffer::record::KeptRecord;
use crate::consumer::config::{ConsumerBuilder, ConsumerConfig};
use crate::consumer::fetch::engine::Engine;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::logging::{info, warn};
use crate::time;

/// How long `close` waits for the threads.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long dropping a consumer waits for them.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads records of partitions that the program chooses.
///
/// Threads of its own fetch ahead, one for each broker that leads some of the partitions, as far as `buffer_memory` allows.
/// The program reads on one thread, by [`batches`](Self::batches), [`records`](Self::records) or [`poll`](Self::poll), and may
/// hand the batches to any others: [`manual::consumer`](crate::manual::consumer) tells the whole way.
///
/// ```
/// # use kafka_blocking::testing::FakeCluster;
/// use kafka_blocking::{Consumer, Start};
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::builder().topic("greetings", 3).start()?;
/// # let producer = kafka_blocking::Producer::builder(cluster.bootstrap()).build()?;
/// # producer.send(kafka_blocking::Record::to("greetings").key("Ada").value("Hello!")).wait()?;
/// // For a real cluster: Consumer::builder(["kafka01:9092"]).
/// let mut consumer =
///     Consumer::builder(cluster.bootstrap()).assign_topic("greetings", Start::Beginning).build()?;
/// for record in consumer.records() {
///     let record = record?;
///     println!("{}-{} at {}: {:?}", record.topic(), record.partition(), record.offset(), record.value());
/// #   assert_eq!(record.value(), Some(&b"Hello!"[..]));
/// #   break;
/// }
/// consumer.close()?;
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    engine: Engine,
    /// The batch that [`records`](Self::records) was in when it ended.
    walk: Option<Walk>,
    /// Errors that came up behind batches that were returned first.
    errors: VecDeque<Error>,
}

impl ConsumerBuilder {
    /// Checks the settings, waits until the topics of the assigned partitions are known, and starts the consumer.
    ///
    /// *Blocks* for that, at most for `max_block`.
    ///
    /// *Errors*: `Config`, with every fault of the settings; `Timeout(Metadata)` with the reason, such as a topic that does not
    /// exist; `NoSuchPartition`; at once what the cluster says of a topic's name or of the right to see it; `Network` where the
    /// operating system starts no thread.
    pub fn build(self) -> Result<Consumer> {
        let shared = self.shared_cluster();
        let (client, config) = self.validate()?;
        let cluster = match shared {
            Some(cluster) => cluster,
            None => Cluster::start(client.clone())?,
        };
        Consumer::start(&cluster, client, config)
    }
}

impl Consumer {
    /// A consumer's settings, beginning with the bootstrap servers: `host`, `host:port` or `[IPv6]:port`. See
    /// [`ConsumerBuilder::new`].
    pub fn builder<Form>(bootstrap_servers: impl IntoServers<Form>) -> ConsumerBuilder {
        ConsumerBuilder::new(bootstrap_servers)
    }

    /// The settings of a consumer that uses a cluster which it shares with others, as
    /// [`Producer::on`](crate::Producer::on) does. Closing or dropping such a consumer leaves the others alone.
    ///
    /// ```
    /// use kafka_blocking::{Cluster, Consumer, Start};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let fake = FakeCluster::builder().topic("payments", 3).start()?;
    /// # let servers = fake.bootstrap();
    /// let cluster = Cluster::builder(servers).build()?;
    /// let consumer = Consumer::on(&cluster).client_id("audit").assign_topic("payments", Start::End).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on(cluster: &Cluster) -> ConsumerBuilder {
        ConsumerBuilder::on(cluster)
    }

    fn start(cluster: &Cluster, client: ClientConfig, config: ConsumerConfig) -> Result<Self> {
        let engine = Engine::start(cluster, client, config)?;
        let shared = &engine.shared;
        let partitions = shared.assignment().len();
        info!("consumer {} started, {partitions} partitions", shared.client.client_id);
        Ok(Self { engine, walk: None, errors: VecDeque::new() })
    }

    /// Waits for records: batches of about `max_poll_bytes` in all, at least one, of the partitions in turn. What
    /// [`records`](Self::records) has not returned of its last batch is left out.
    ///
    /// *Blocks* until there is a batch, at most for `timeout`; then the answer is empty.
    ///
    /// *Errors*: of one partition, which stands still until the program seeks or skips, while the others go on:
    /// `Broker(OFFSET_OUT_OF_RANGE)` unless [`out_of_range`](ConsumerBuilder::out_of_range) says otherwise,
    /// `Broker(TOPIC_AUTHORIZATION_FAILED)` and other refusals, `TopicRecreated`, `BrokerMisbehaved` for damaged data. Of the
    /// consumer: `BudgetHeld` at the end of the time if the program itself holds all the memory; what time cannot cure, once,
    /// and `Closed` after that.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        self.walk = None;
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let deadline = time::deadline(Instant::now(), timeout);
        let limit = self.engine.shared.config.max_poll_bytes;
        let mut polled = Polled::default();
        let mut bytes = 0;
        loop {
            // When there is something, no more is waited for.
            let until = if polled.is_empty() { deadline } else { Instant::now() };
            match self.next(until, limit.saturating_sub(bytes), false) {
                Step::Batch(batch) => {
                    bytes += batch.size_bytes();
                    polled.batches.push(batch);
                    if bytes >= limit {
                        return Ok(polled);
                    }
                }
                Step::Failed(error) if polled.is_empty() => return Err(error),
                Step::Failed(error) => {
                    self.errors.push_back(error);
                    return Ok(polled);
                }
                Step::Woken => {
                    polled.was_woken = true;
                    return Ok(polled);
                }
                Step::TimedOut if polled.is_empty() => match self.held() {
                    Some(error) => return Err(error),
                    None => return Ok(polled),
                },
                Step::Ended if polled.is_empty() => return Err(ended()),
                Step::TimedOut | Step::Ended => return Ok(polled),
            }
        }
    }

    /// The batches, one after the other, of the partitions in turn: an ordinary loop over them reads for ever.
    ///
    /// Its `next` *blocks* until there is a batch. It ends after [`ConsumerHandle::wake`], when the consumer was closed, after
    /// an error that time cannot cure, and when every partition stands still because of an error of its own. *Errors*: those of
    /// [`poll`](Self::poll), and `BudgetHeld` whenever it has waited in vain for `max_block`.
    pub fn batches(&mut self) -> Batches<'_> {
        Batches { consumer: self }
    }

    /// The records, one after the other: all that a simple program needs. Each is kept for itself, which costs an atomic
    /// operation and no copy, and holds its batch in memory. It goes on where an earlier call has ended.
    ///
    /// Blocks and ends as [`batches`](Self::batches) does, with the same errors.
    pub fn records(&mut self) -> KeptRecords<'_> {
        KeptRecords { consumer: self }
    }

    /// What other threads, and the inside of a loop over batches, can do with the consumer.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle(Arc::clone(&self.engine.shared))
    }

    /// [`close_timeout`](Self::close_timeout) of 30 seconds.
    pub fn close(&mut self) -> Result<()> {
        self.close_timeout(CLOSE_TIMEOUT)
    }

    /// Ends every thread and connection of the consumer. Batches that the program has stay as they are.
    ///
    /// *Blocks* until the threads have ended, at most for `timeout`; a name that is being resolved cannot be broken off.
    /// *Errors*: `Timeout(Close)`; the thread that is late ends by itself.
    pub fn close_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.walk = None;
        self.engine.close(time::deadline(Instant::now(), timeout))
    }

    /// The next batch, of about `limit` bytes. `is_loop`: the wait ends when nothing can come any more.
    fn next(&mut self, deadline: Instant, limit: usize, is_loop: bool) -> Step {
        let shared = &self.engine.shared;
        loop {
            // A stop that comes after this look ends the wait.
            if is_loop && shared.is_exhausted() {
                return Step::Ended;
            }
            let partition = match shared.ready.next(deadline) {
                Next::Partition(partition) => partition,
                Next::Changed => continue,
                Next::Woken => return Step::Woken,
                Next::Failed(error) => return Step::Failed(error),
                Next::Ended => return Step::Ended,
                Next::TimedOut => return Step::TimedOut,
            };
            if let Some(given) = partition.next(limit) {
                partition.give_back();
                return given.map_or_else(Step::Failed, Step::Batch);
            }
        }
    }

    /// The next batch for an iterator.
    fn next_batch(&mut self) -> Option<Result<Batch>> {
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        let (limit, patience) = (self.engine.shared.config.max_poll_bytes, self.engine.shared.config.max_block);
        loop {
            match self.next(time::deadline(Instant::now(), patience), limit, true) {
                Step::Batch(batch) => return Some(Ok(batch)),
                Step::Failed(error) => return Some(Err(error)),
                Step::Woken | Step::Ended => return None,
                Step::TimedOut => {
                    if let Some(error) = self.held() {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Why nothing comes, if that is because the program holds the memory.
    fn held(&self) -> Option<Error> {
        let budget = &self.engine.shared.budget;
        let (_, held) = budget.in_use();
        self.engine.shared.is_held().then(|| {
            let text = format!("nothing can be fetched: the program holds batches of {held} bytes");
            Error::new(ErrorKind::BudgetHeld, Recovery::Retry, text)
                .over_limit("buffer_memory", u64::try_from(budget.total()).unwrap_or(u64::MAX))
        })
    }
}

enum Step {
    Batch(Batch),
    Failed(Error),
    Woken,
    Ended,
    TimedOut,
}

fn ended() -> Error {
    Error::new(ErrorKind::Closed, Recovery::Fatal, "the consumer was closed, or has ended with the error that it told")
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Err(error) = self.close_timeout(DROP_TIMEOUT) {
            warn!("dropping a consumer: {error}");
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_id = &self.engine.shared.client.client_id;
        f.debug_struct("Consumer").field("client_id", client_id).finish_non_exhaustive()
    }
}

/// What [`Consumer::batches`] returns.
#[derive(Debug)]
pub struct Batches<'c> {
    consumer: &'c mut Consumer,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.consumer.walk = None;
        self.consumer.next_batch()
    }
}

/// What [`Consumer::records`] returns.
#[derive(Debug)]
pub struct KeptRecords<'c> {
    consumer: &'c mut Consumer,
}

impl Iterator for KeptRecords<'_> {
    type Item = Result<KeptRecord>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(walk) = &mut self.consumer.walk {
                if let Some(record) = walk.next() {
                    return Some(record);
                }
                self.consumer.walk = None;
            }
            match self.consumer.next_batch()? {
                Ok(batch) => self.consumer.walk = Some(Walk::new(batch)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

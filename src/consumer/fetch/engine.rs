//! What the threads of a consumer share, and how they begin and end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::router;
use crate::cluster::{Cluster, ClusterClient, Creation, Subscription, TopicMetadata};
use crate::config::client::ClientConfig;
use crate::consumer::buffer::batch::Limits;
use crate::consumer::buffer::budget::Budget;
use crate::consumer::buffer::gate::Marks;
use crate::consumer::buffer::partition::Partition;
use crate::consumer::buffer::ready::Ready;
use crate::consumer::config::ConsumerConfig;
use crate::consumer::start::Start;
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout};
use crate::logging::error;
use crate::thread;
use crate::time;
use crate::topic::TopicPartition;

/// How long it may take until a partition that was added lately is known.
const ADDED_LATELY: Duration = Duration::from_secs(2);

/// All partitions of a consumer, replaced as a whole.
pub(crate) type Assignment = Arc<BTreeMap<TopicPartition, Arc<Partition>>>;

/// What the threads of a consumer share.
pub(crate) struct Shared {
    pub(crate) cluster: Arc<ClusterClient>,
    pub(crate) client: ClientConfig,
    pub(crate) config: ConsumerConfig,
    pub(crate) budget: Arc<Budget>,
    pub(crate) ready: Arc<Ready>,
    assignment: RwLock<Assignment>,
    /// The topics of which every partition is read.
    pub(super) topics: Vec<Arc<str>>,
    /// Guards what the router is told. Held for moments.
    pub(super) route: Mutex<Route>,
    pub(super) rerouted: Condvar,
}

#[derive(Default)]
pub(super) struct Route {
    pub(super) is_rung: bool,
    /// By when the threads have to end.
    pub(super) close_by: Option<Instant>,
}

/// A consumer's threads.
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    subscription: Subscription,
    router: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Waits for the topics, assigns their partitions and starts the thread `kafka-consumer`.
    ///
    /// *Blocks* until the topics are known, at most for `max_block`. *Errors*: `Timeout(Metadata)`, `NoSuchPartition`, and
    /// what the cluster says of a topic.
    pub(crate) fn start(cluster: &Cluster, client: ClientConfig, config: ConsumerConfig) -> Result<Self> {
        let cluster = cluster.client(&client.client_id, Creation::Forbidden, Duration::ZERO);
        let places = find_topics(&cluster, &config)?;
        let budget = Budget::new(config.buffer_memory);
        let ready = Arc::new(Ready::default());
        let topics = config.topics.iter().map(|(topic, _)| Arc::from(topic.as_str())).collect();
        let shared = Arc::new(Shared {
            cluster: Arc::clone(&cluster),
            client,
            config,
            budget,
            ready,
            assignment: RwLock::default(),
            topics,
            route: Mutex::default(),
            rerouted: Condvar::new(),
        });
        shared.add(places);
        let run = Arc::clone(&shared);
        let router = thread::spawn("kafka-consumer", move || {
            let ready = Arc::clone(&run.ready);
            if let Err(panic) = thread::catch(|| router::run(run)) {
                error!("kafka-consumer panicked: {panic}");
                ready.fail(Error::bug(format!("the thread kafka-consumer panicked: {panic}")));
            }
        })?;
        let told = Arc::downgrade(&shared);
        let subscription = cluster.subscribe(move |_| {
            if let Some(shared) = told.upgrade() {
                shared.reroute();
            }
        });
        shared.reroute();
        Ok(Self { shared, subscription, router: Mutex::new(Some(router)) })
    }

    /// Ends every thread.
    ///
    /// *Blocks* until they have ended, at most until `deadline`. *Errors*: `Timeout(Close)`.
    pub(crate) fn close(&self, deadline: Instant) -> Result<()> {
        self.subscription.end();
        self.shared.ready.close();
        self.shared.route.lock().close_by = Some(deadline);
        self.shared.rerouted.notify_all();
        let router = self.router.lock().take();
        let is_ended = router.is_none_or(|router| thread::join_until(router, deadline));
        self.shared.cluster.leave();
        if is_ended {
            return Ok(());
        }
        Err(Error::timeout(Timeout::Close, "a thread of the consumer has not ended in time; it ends by itself"))
    }
}

/// The partitions that the settings name, once the cluster has told of their topics.
fn find_topics(cluster: &ClusterClient, config: &ConsumerConfig) -> Result<Vec<(TopicPartition, Start)>> {
    let deadline = time::deadline(Instant::now(), config.max_block);
    let await_topic = |topic: &str, enough: Option<Instant>, accept: &dyn Fn(&TopicMetadata) -> bool| {
        cluster.await_topic(topic, deadline, enough, accept)
    };
    let mut places = Vec::new();
    for (partition, start) in &config.partitions {
        let (topic, index) = (&partition.topic, partition.index);
        await_topic(topic, None, &|topic| topic.is_known())?;
        let enough = time::deadline(Instant::now(), ADDED_LATELY).min(deadline);
        let known = await_topic(topic, Some(enough), &|topic| topic.partition(index).is_some())?;
        if known.partition(index).is_none() {
            let text = format!("the topic has no partition {index}; it has {}, from 0", known.partitions.len());
            return Err(Error::new(ErrorKind::NoSuchPartition, Recovery::Fix, text).at_partition(partition));
        }
        places.push((TopicPartition { topic: Arc::clone(&known.name), index }, *start));
    }
    for (topic, start) in &config.topics {
        let known = await_topic(topic, None, &|topic| topic.is_known())?;
        let partition = |index: &i32| (TopicPartition { topic: Arc::clone(&known.name), index: *index }, *start);
        places.extend(known.all.iter().map(partition));
    }
    Ok(places)
}

impl Shared {
    pub(crate) fn assignment(&self) -> Assignment {
        Arc::clone(&self.assignment.read())
    }

    /// The partition of this name. *Errors*: `InvalidInput` if it is not assigned.
    pub(crate) fn partition(&self, name: &TopicPartition) -> Result<Arc<Partition>> {
        let found = self.assignment.read().get(name).cloned();
        found.ok_or_else(|| Error::invalid("the partition is not assigned to the consumer").at_partition(name))
    }

    /// Adds partitions, and divides the memory anew.
    pub(super) fn add(&self, places: Vec<(TopicPartition, Start)>) {
        let limits = Limits { max_decompressed: self.config.max_decompressed_bytes };
        let mut assignment = BTreeMap::clone(&self.assignment.read());
        let marks = self.marks(assignment.len() + places.len());
        for (name, start) in places {
            let partition = Partition::new(name.clone(), start, marks, &self.budget, &self.ready, limits);
            assignment.insert(name, partition);
        }
        for partition in assignment.values() {
            partition.set_marks(marks);
        }
        *self.assignment.write() = Arc::new(assignment);
    }

    /// How far one of so many partitions is read ahead: all of them together by half of the memory. The other half is for
    /// what is under way, and for what the program holds.
    fn marks(&self, partitions: usize) -> Marks {
        let least = self.config.max_partition_fetch_bytes;
        let share = |memory: usize| (memory / partitions.max(1)).max(least);
        Marks { unread: share(self.config.buffer_memory / 2), held: share(self.config.buffer_memory) }
    }

    /// Has the router look at the metadata.
    pub(crate) fn reroute(&self) {
        self.route.lock().is_rung = true;
        self.rerouted.notify_all();
    }

    /// Whether nothing comes any more unless the program changes something: every partition has stopped.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.assignment().values().all(|partition| partition.is_stopped())
    }

    /// Whether nothing is fetched because of what the program holds: the memory is used up, or every partition's part of it.
    pub(crate) fn is_held(&self) -> bool {
        let (_, held) = self.budget.in_use();
        held > 0 && (self.budget.is_short() || self.assignment().values().all(|partition| partition.is_held()))
    }

    /// Why no leader is known of a topic.
    pub(super) fn trouble_with(topic: Option<&Arc<TopicMetadata>>) -> ErrorCode {
        topic.map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error)
    }
}

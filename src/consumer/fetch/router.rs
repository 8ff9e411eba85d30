//! The thread `kafka-consumer`: knows who leads what, and starts a fetcher for each leader.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::Shared;
use super::fetcher::Fetcher;
use super::leader::Leader;
use crate::cluster::{Snapshot, Usage};
use crate::consumer::buffer::partition::{Home, Leadership};
use crate::consumer::start::Start;
use crate::error::{Error, Result};
use crate::logging::{debug, error, info, log, warn};
use crate::outage::Outage;
use crate::thread;
use crate::time;
use crate::topic::{BrokerId, TopicPartition};

/// *Thread*: kafka-consumer.
struct Router {
    shared: Arc<Shared>,
    leaders: HashMap<BrokerId, (Arc<Leader>, [JoinHandle<()>; 2])>,
    /// The marks that keep the topics up to date.
    usages: HashMap<Arc<str>, Arc<Usage>>,
    outage: Outage,
}

pub(super) fn run(shared: Arc<Shared>) {
    let mut router = Router { shared, leaders: HashMap::new(), usages: HashMap::new(), outage: Outage::default() };
    // Topics that nobody uses are forgotten after the whole of it.
    let pause = router.shared.client.metadata_max_idle / 3;
    let close_by = loop {
        if let Some(close_by) = router.wait(pause) {
            break close_by;
        }
        router.mark_topics();
        let snapshot = router.shared.cluster.snapshot();
        if let Err(error) = router.route(&snapshot) {
            error!("the consumer cannot go on: {error:#}");
            router.shared.ready.fail(error);
        }
    };
    router.end(close_by);
}

impl Router {
    /// Waits for news. Answers by when to end, if the consumer is closed.
    fn wait(&self, pause: Duration) -> Option<Instant> {
        let until = time::deadline(Instant::now(), pause);
        let mut route = self.shared.route.lock();
        while !route.is_rung && route.close_by.is_none() {
            if self.shared.rerouted.wait_until(&mut route, until).timed_out() {
                break;
            }
        }
        route.is_rung = false;
        route.close_by
    }

    fn mark_topics(&mut self) {
        let cluster = &self.shared.cluster;
        for partition in self.shared.assignment().keys() {
            let topic = &partition.topic;
            let known = self.usages.get(topic).cloned().or_else(|| cluster.usage(topic));
            let Some(usage) = known else {
                cluster.ask_for(topic);
                continue;
            };
            if usage.mark() {
                cluster.remember(topic, &usage);
            }
            self.usages.insert(Arc::clone(topic), usage);
        }
    }

    /// Gives each partition to its leader.
    fn route(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.follow(snapshot);
        let mut leaderless = None;
        for (name, partition) in self.shared.assignment().iter() {
            let topic = snapshot.topic(&name.topic);
            let known = topic.and_then(|topic| Some((topic, topic.partition(name.index)?)));
            let leader = known.and_then(|(topic, known)| Some((topic, known, known.leader?)));
            let leadership = match leader {
                Some((topic, known, leader)) => {
                    Some(Leadership { home: self.home(leader)?, leader_epoch: known.leader_epoch, topic_id: topic.id })
                }
                None => {
                    let code = known.map_or_else(|| Shared::trouble_with(topic), |(_, known)| known.error);
                    leaderless.get_or_insert((name.clone(), code));
                    None
                }
            };
            partition.lead(leadership);
        }
        let now = Instant::now();
        match leaderless {
            Some((name, code)) => {
                log!(self.outage.failed(now), "{name} has no leader: {code}");
                self.shared.cluster.request_refresh();
            }
            None => {
                if let Some(over) = self.outage.ended(now) {
                    warn!("every partition has a leader again, {over}");
                }
            }
        }
        Ok(())
    }

    /// Reads the partitions that were added to a topic, from their beginning: nobody has read them before.
    fn follow(&self, snapshot: &Snapshot) {
        let assignment = self.shared.assignment();
        let mut added = Vec::new();
        for topic in &self.shared.topics {
            let Some(known) = snapshot.topic(topic) else { continue };
            let names = known.all.iter().map(|index| TopicPartition { topic: Arc::clone(topic), index: *index });
            added.extend(names.filter(|name| !assignment.contains_key(name)).map(|name| (name, Start::Beginning)));
        }
        if !added.is_empty() {
            info!("{} partitions were added: {:?}", added.len(), added.first().map(|(name, _)| name));
            self.shared.add(added);
        }
    }

    fn home(&mut self, broker: BrokerId) -> Result<Arc<dyn Home>> {
        if let Some((leader, _)) = self.leaders.get(&broker) {
            return Ok(Arc::clone(leader) as Arc<dyn Home>);
        }
        let leader = Leader::new(broker);
        let fetcher = self.start(&leader, false)?;
        let express = self.start(&leader, true)?;
        self.leaders.insert(broker, (Arc::clone(&leader), [fetcher, express]));
        Ok(leader)
    }

    fn start(&self, leader: &Arc<Leader>, is_express: bool) -> Result<JoinHandle<()>> {
        let fetcher = Fetcher::new(Arc::clone(&self.shared), Arc::clone(leader), is_express);
        let ready = Arc::clone(&self.shared.ready);
        let name = format!("kafka-{}-{}", if is_express { "express" } else { "fetcher" }, leader.broker());
        debug!("{name} starts");
        thread::spawn(name.clone(), move || {
            let run = || if is_express { fetcher.run_express() } else { fetcher.run() };
            if let Err(panic) = thread::catch(run) {
                error!("{name} panicked: {panic}");
                ready.fail(Error::bug(format!("the thread {name} panicked: {panic}")));
            }
        })
    }

    /// Ends every fetcher.
    fn end(self, deadline: Instant) {
        for (leader, _) in self.leaders.values() {
            leader.close();
        }
        // Whoever still holds a batch holds its partition, and that nothing of the threads.
        for partition in self.shared.assignment().values() {
            partition.lead(None);
        }
        for thread in self.leaders.into_values().flat_map(|(_, threads)| threads) {
            thread::join_until(thread, deadline);
        }
    }
}

//! All senders of a producer: which sender serves which broker, and how a partition's queue moves from one to another.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::common::Common;
use super::inbox::{Inbox, InboxReceiver, Losses, SenderEvent};
use super::queue::PartitionQueue;
use super::sender::{self, OtherSenders, SenderExit};
use super::turn::{Rules, Turn};
use super::wiring::{BrokerLink, BrokerOwner};
use crate::cluster::{ClusterClient, Subscription};
use crate::error::{Error, Result};
use crate::net::Hangup;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::{Partition, Placed, Placement, QueueOwner, closed};
use crate::producer::buffer::topic_table::TopicTable;
use crate::thread;
use crate::topic::BrokerId;

/// The senders of a producer, each started when a partition first needs it.
pub(crate) struct Senders {
    this: Weak<Self>,
    cluster: Arc<ClusterClient>,
    rules: Rules,
    common: Common,
    topic_table: Arc<TopicTable>,
    /// Guards the list. Also held when a queue is given to a sender and when a sender ends, so that no queue is given
    /// to a sender that is ending. Held for moments. *Lock order*: after a partition's lock.
    state: Mutex<SenderList>,
}

#[derive(Default)]
struct SenderList {
    senders: HashMap<BrokerId, SenderThread>,
    closed: bool,
}

struct SenderThread {
    owner: Arc<BrokerOwner>,
    hangup: Arc<Hangup>,
    thread: JoinHandle<()>,
}

impl Senders {
    pub(crate) fn new(
        cluster: Arc<ClusterClient>,
        rules: Rules,
        common: Common,
        topic_table: Arc<TopicTable>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            cluster,
            rules,
            common,
            topic_table,
            state: Mutex::default(),
        })
    }

    /// Subscribes to the cluster's snapshots until the subscription is ended: the topic table takes each over, and
    /// every sender is told that there is a new one.
    pub(crate) fn subscribe(&self) -> Subscription {
        let this = Weak::clone(&self.this);
        self.cluster.subscribe(move |snapshot| {
            if let Some(senders) = this.upgrade() {
                senders.topic_table.on_metadata(snapshot, &senders.cluster);
                senders.inboxes().iter().for_each(|inbox| inbox.post_metadata());
            }
        })
    }

    /// Has every sender look at all its partitions.
    pub(crate) fn look_at_all(&self) {
        self.inboxes().iter().for_each(|inbox| inbox.ask_to_look());
    }

    /// Has every sender fail the purged batches.
    pub(crate) fn purge(&self, purge: u64, in_flight: bool) {
        for inbox in self.inboxes() {
            // If the sender has ended, another sender has its partitions.
            drop(inbox.post(SenderEvent::Purge { purge, in_flight }));
        }
    }

    fn inboxes(&self) -> Vec<Arc<Inbox>> {
        self.state.lock().senders.values().map(|sender| Arc::clone(&sender.owner.inbox)).collect()
    }

    /// Whether the broker has not taken its waiting batches for longer than `timeout` (KIP-794).
    pub(crate) fn is_stalled(&self, broker: BrokerId, now: Instant, timeout: std::time::Duration) -> bool {
        !timeout.is_zero()
            && self.state.lock().senders.get(&broker).is_some_and(|sender| sender.owner.inbox.is_stalled(now, timeout))
    }

    /// Gives a queue to the sender of `broker`, which is started if there is none. Under the list's lock a sender that
    /// is about to end either sees the queue, or is off the list before.
    fn adopt(
        &self,
        broker: BrokerId,
        queue: Box<PartitionQueue>,
    ) -> Result<Arc<dyn QueueOwner>, (Box<PartitionQueue>, Error)> {
        let mut state = self.state.lock();
        if state.closed {
            return Err((queue, closed()));
        }
        let owner = match state.senders.get(&broker) {
            Some(sender) => Arc::clone(&sender.owner),
            None => match self.start(broker) {
                Ok(sender) => {
                    let owner = Arc::clone(&sender.owner);
                    state.senders.insert(broker, sender);
                    owner
                }
                Err(error) => return Err((queue, error)),
            },
        };
        match owner.inbox.post(SenderEvent::Adopt(queue)) {
            Ok(()) => Ok(owner),
            Err(SenderEvent::Adopt(queue)) => {
                Err((queue, Error::bug(format!("the sender of broker {broker} has ended"))))
            }
            Err(_) => Ok(owner),
        }
    }

    fn start(&self, broker: BrokerId) -> Result<SenderThread> {
        let (inbox, inbox_receiver) = Inbox::new();
        let hangup = Arc::new(Hangup::default());
        let mut turn = Turn::new(broker, self.rules.clone(), self.common.clone());
        turn.on_metadata(&self.cluster.snapshot());
        let link = BrokerLink::new(turn, Arc::clone(&inbox), inbox_receiver.notices(), Arc::clone(&hangup));
        let owner = Arc::new(BrokerOwner { inbox, link: Arc::downgrade(&link) });
        let senders = self.this.upgrade().ok_or_else(closed)?;
        let thread = thread::spawn(format!("kafka-sender-{broker}"), move || {
            let panic = match thread::catch(|| sender::run(broker, &link, &inbox_receiver, &*senders)) {
                Ok(SenderExit::InOrder) => None,
                Ok(SenderExit::Panicked) => Some("on the thread that drove its link".to_owned()),
                Err(panic) => Some(panic),
            };
            if let Some(panic) = panic {
                let error = sender::report_panic(broker, &panic);
                link.abandon(|turn| turn.fail_all(&error, Instant::now(), &mut |_, _, _| ()));
                senders.common.identity.refuse(error.clone());
                // The partitions of that sender have no owner any more, so nothing may be accepted for them.
                senders.topic_table.fail(&error);
            }
        })?;
        Ok(SenderThread { owner, hangup, thread })
    }

    /// Fails all batches that the senders still have with `error`, counts their records into `losses`, and ends the
    /// senders.
    ///
    /// *Blocks* until they have ended, at most until `deadline`.
    pub(crate) fn close(&self, error: &Error, losses: &Arc<Losses>, deadline: Instant) {
        let senders: Vec<SenderThread> = {
            let mut state = self.state.lock();
            state.closed = true;
            state.senders.drain().map(|(_, sender)| sender).collect()
        };
        for sender in &senders {
            drop(sender.owner.inbox.post(SenderEvent::Close { error: error.clone(), losses: Arc::clone(losses) }));
            sender.hangup.hang_up();
        }
        for sender in senders {
            thread::join_until(sender.thread, deadline);
        }
    }
}

impl OtherSenders for Senders {
    fn cluster(&self) -> &ClusterClient {
        &self.cluster
    }

    fn hand_over(&self, queue: Box<PartitionQueue>, leader: BrokerId) -> Result<(), (Box<PartitionQueue>, Error)> {
        let partition = Arc::clone(queue.partition());
        partition.change_owner(|| self.adopt(leader, queue))
    }

    fn retire(&self, broker: BrokerId, inbox: &Arc<Inbox>, inbox_receiver: &InboxReceiver) -> bool {
        if self.cluster.snapshot().brokers.contains_key(&broker) {
            return false;
        }
        let mut state = self.state.lock();
        if !inbox_receiver.is_empty() || state.closed {
            return false;
        }
        if state.senders.get(&broker).is_some_and(|sender| Arc::ptr_eq(&sender.owner.inbox, inbox)) {
            state.senders.remove(&broker);
        }
        true
    }
}

impl Placement for Senders {
    fn place(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed {
        let snapshot = self.cluster.snapshot();
        let name = partition.name();
        let leader = snapshot.partition(&name.topic, name.index).and_then(|partition| partition.leader);
        // Without a leader any broker's sender gets the queue, and moves it when there is a leader.
        let Some(broker) = leader.or_else(|| snapshot.brokers.keys().next().copied()) else {
            return Err((sealed, Error::network("no broker is known")));
        };
        let mut queue = PartitionQueue::new(Arc::clone(partition), sealed);
        queue.on_metadata(&snapshot);
        self.adopt(broker, Box::new(queue)).map_err(|(queue, error)| (queue.into_sealed(), error))
    }

    fn hurry_all(&self) {
        self.look_at_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, Creation};
    use crate::config::client::ClientConfig;
    use crate::error::ErrorKind;
    use crate::net::HostPort;
    use crate::producer::buffer::budget::Budget;
    use crate::producer::buffer::partition::PartitionId;
    use crate::producer::send::identity::Identity;
    use crate::record::Compression;
    use crate::time::Backoff;
    use crate::topic::TopicPartition;
    use std::time::Duration;

    fn senders() -> Arc<Senders> {
        let second = Duration::from_secs(1);
        let backoff = Backoff { initial: second, max: second };
        let cluster = Cluster::start(ClientConfig {
            bootstrap_servers: vec![HostPort::new("127.0.0.1", 1)],
            ..ClientConfig::default()
        });
        let cluster = cluster.unwrap().client(&"test".into(), Creation::Allowed, second);
        let rules = Rules {
            acks: -1,
            idempotent: false,
            transactional_id: None,
            retries: 1,
            retry_backoff: backoff,
            reconnect_backoff: backoff,
            max_in_flight: 5,
            max_request_size: 1 << 20,
            request_timeout: second,
            connections_max_idle: second,
            quick: Duration::ZERO,
            compression: Compression::None,
            client_id: None,
        };
        let common = Common {
            identity: Arc::new(Identity::new(false)),
            budget: Budget::new(1000, 100),
            counters: Arc::default(),
            obstacles: Arc::default(),
        };
        Senders::new(cluster, rules, common, Arc::new(TopicTable::new()))
    }

    #[test]
    fn a_queue_that_moves_while_the_producer_closes_comes_back() {
        let senders = senders();
        let deadline = Instant::now() + Duration::from_secs(60);
        senders.close(&closed(), &Arc::default(), deadline);
        let (done, when_done) = crossbeam_channel::bounded(1);
        let mover = {
            let senders = Arc::clone(&senders);
            std::thread::spawn(move || {
                let partition = Partition::new(PartitionId(0), TopicPartition::new("t", 0));
                let (_sealed, queue) = crossbeam_channel::unbounded();
                let queue = Box::new(PartitionQueue::new(Arc::clone(&partition), queue));
                let (queue, error) = senders.hand_over(queue, BrokerId(1)).err().unwrap();
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(Arc::ptr_eq(queue.partition(), &partition));
                // The partition's lock is free again.
                partition.refuse(closed());
                done.send(()).unwrap();
            })
        };
        when_done.recv_deadline(deadline).unwrap();
        mover.join().unwrap();
        senders.cluster().leave();
    }
}

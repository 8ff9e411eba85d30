//! How a sender is told that there is work, and is woken only when it would sleep too long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::queue::PartitionQueue;
use super::wake_up::{RequestFlag, WakeOn, WakeUp};
use crate::error::Error;
use crate::producer::buffer::partition::Partition;
use crate::topic::TopicPartition;

/// What a sender is told.
pub(crate) enum SenderEvent {
    /// Wakes the sender, which then looks at its notices.
    Wake,
    /// The sender has this partition's queue from now on.
    Adopt(Box<PartitionQueue>),
    /// There is new metadata: the sender takes the newest snapshot.
    Metadata,
    /// Something that concerns every partition has changed.
    LookAtAll,
    /// Batches have been purged: those that wait, and with `in_flight` those in flight. `purge`: the number of the
    /// purge.
    Purge { purge: u64, in_flight: bool },
    /// A thread has panicked while it held the link's baton.
    Panicked,
    /// The sender fails all batches with this error, counts their records into `losses`, and ends.
    Close { error: Error, losses: Arc<Losses> },
}

/// What could not be delivered to one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss {
    pub(crate) records: u64,
    /// Why the last of them was not delivered, if it is known.
    pub(crate) cause: Option<Error>,
}

/// Records that could not be delivered, by partition.
#[derive(Default)]
pub(crate) struct Losses(Mutex<BTreeMap<TopicPartition, Loss>>);

impl Losses {
    pub(crate) fn add(&self, partition: &TopicPartition, records: u64, cause: Option<Error>) {
        if records > 0 {
            let mut losses = self.0.lock();
            let loss = losses.entry(partition.clone()).or_default();
            loss.records += records;
            // The first cause is kept: it comes from a batch that was sent, and says more than that of batches which
            // only waited.
            loss.cause = loss.cause.take().or(cause);
        }
    }

    pub(crate) fn take(&self) -> BTreeMap<TopicPartition, Loss> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A sender's inbox. Events wake the sender; notices ("this partition has an open or a full batch") are left without
/// waking it, unless it would sleep until after the batch is due. So a broker's sender is woken at most once in a
/// linger time, however many records come.
pub(crate) struct Inbox {
    events: Sender<SenderEvent>,
    wake_up: WakeUp<Arc<Partition>>,
    /// When the batch is due whose notice woke the sender last, in nanoseconds after `origin`.
    woken_for: AtomicU64,
    origin: Instant,
    /// Whether a [`SenderEvent::LookAtAll`] is in the inbox: many threads that wait for memory ask for it one after the
    /// other.
    look_asked: RequestFlag,
    /// Whether a [`SenderEvent::Metadata`] is in the inbox. A sender that handles it late sees only the newest
    /// snapshot, and older snapshots take no memory.
    metadata_asked: RequestFlag,
    /// Since when batches have been waiting that could not be sent to the broker, in nanoseconds after `origin`; 0:
    /// there are none.
    stalled_since: AtomicU64,
}

/// The sender's end of the inbox.
pub(crate) struct InboxReceiver {
    events: Receiver<SenderEvent>,
    notices: Receiver<Arc<Partition>>,
}

impl Inbox {
    pub(crate) fn new() -> (Arc<Self>, InboxReceiver) {
        let (events, events_out) = unbounded();
        let (notices, notices_out) = unbounded();
        let inbox = Self {
            events,
            wake_up: WakeUp::new(notices),
            woken_for: AtomicU64::new(0),
            origin: Instant::now(),
            look_asked: RequestFlag::new(),
            metadata_asked: RequestFlag::new(),
            stalled_since: AtomicU64::new(0),
        };
        (Arc::new(inbox), InboxReceiver { events: events_out, notices: notices_out })
    }

    /// Leaves an event and wakes the sender. The event is returned if the sender has ended.
    pub(crate) fn post(&self, event: SenderEvent) -> Result<(), SenderEvent> {
        self.events.send(event).map_err(crossbeam_channel::SendError::into_inner)
    }

    /// Has the sender look at all its partitions, unless such a request is waiting in the inbox.
    pub(crate) fn ask_to_look(&self) {
        if self.look_asked.ask() {
            // It does not matter if the sender has ended.
            drop(self.post(SenderEvent::LookAtAll));
        }
    }

    /// The sender is about to look at all its partitions. *Thread*: sender.
    pub(crate) fn looks(&self) {
        self.look_asked.begin();
    }

    /// Has the sender take the newest snapshot, unless such a request is waiting in the inbox. The cluster has the
    /// snapshot before this is called.
    pub(crate) fn post_metadata(&self) {
        if self.metadata_asked.ask() {
            // It does not matter if the sender has ended.
            drop(self.post(SenderEvent::Metadata));
        }
    }

    /// The sender is about to take the newest snapshot. *Thread*: sender.
    pub(crate) fn takes_metadata(&self) {
        self.metadata_asked.begin();
    }

    /// Leaves the notice that `partition` has a batch which is due at `due`, and whether it is full.
    pub(crate) fn notice(&self, partition: Arc<Partition>, due: Instant, full: bool) {
        let due = self.nanos(due);
        if self.wake_up.notice(partition, due, full) {
            self.woken_for.store(due, Ordering::Relaxed);
            drop(self.post(SenderEvent::Wake));
        }
    }

    /// Sets when a notice is to wake the sender, as [`WakeUp::arm`] does. *Thread*: the one that holds the baton.
    /// `held_until`: when the sender has to look at held batches; `None`: another thread does so.
    pub(crate) fn arm(
        &self,
        until: Option<Instant>,
        wake_on: WakeOn,
        held_until: Option<Instant>,
        notices: &Receiver<Arc<Partition>>,
    ) -> bool {
        let held_until = held_until.map_or(u64::MAX, |until| self.nanos(until));
        self.wake_up.arm(until.map(|until| self.nanos(until)), wake_on, held_until, notices)
    }

    /// The sender is awake, so no notice has to wake it.
    pub(crate) fn set_awake(&self) {
        self.wake_up.set_awake();
    }

    /// Wakes the sender.
    pub(crate) fn wake(&self) {
        // It does not matter if the sender has ended.
        self.wake_up.wake(|| drop(self.post(SenderEvent::Wake)));
    }

    /// When the batch is due for which the sender was last woken, if that is in the future. The sender wakes at that
    /// time even if a waiting thread has sent the batch itself; otherwise the very next batch would wake it again.
    pub(crate) fn woken_for(&self, now: Instant) -> Option<Instant> {
        let due = self.origin.checked_add(Duration::from_nanos(self.woken_for.load(Ordering::Relaxed)))?;
        Some(due).filter(|due| *due > now)
    }

    /// Whether the broker has not taken its waiting batches for longer than `timeout` (KIP-794). Never with a `timeout`
    /// of zero.
    pub(crate) fn is_stalled(&self, now: Instant, timeout: Duration) -> bool {
        let since = self.stalled_since.load(Ordering::Relaxed);
        !timeout.is_zero()
            && since != 0
            && crate::producer::partitioner::sticky::is_stalled(now, self.origin + Duration::from_nanos(since), timeout)
    }

    /// Notes whether batches wait that cannot be sent. *Thread*: the one that holds the baton.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        let since = self.stalled_since.load(Ordering::Relaxed);
        if stalled != (since != 0) {
            self.stalled_since.store(if stalled { self.nanos(Instant::now()) } else { 0 }, Ordering::Relaxed);
        }
    }

    /// Nanoseconds after the origin, at least 1.
    fn nanos(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

impl InboxReceiver {
    /// Blocks until an event comes, at most until `deadline` (for ever without one).
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<SenderEvent> {
        match deadline {
            Some(deadline) => self.events.recv_deadline(deadline).ok(),
            // The channel stays connected, because the sender itself has the inbox.
            None => self.events.recv().ok(),
        }
    }

    /// An event, if there is one.
    pub(crate) fn event(&self) -> Option<SenderEvent> {
        self.events.try_recv().ok()
    }

    /// Whether there is neither an event nor a notice.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.notices.is_empty()
    }

    /// The channel of notices, for the thread that drives the link.
    pub(crate) fn notices(&self) -> Receiver<Arc<Partition>> {
        self.notices.clone()
    }
}

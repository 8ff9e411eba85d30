//! What the threads of a broker are told, and how they are woken.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::consumer::buffer::budget::Bell;
use crate::consumer::buffer::partition::{Home, Partition};
use crate::net::Hangup;
use crate::topic::BrokerId;

/// A broker that leads partitions of the consumer.
pub(crate) struct Leader {
    broker: BrokerId,
    /// *Lock order*: after a partition's lock; no other is taken under it.
    inbox: Mutex<Inbox>,
    changed: Condvar,
    /// Break off what its threads block on.
    pub(crate) hangup: Hangup,
    pub(crate) express_hangup: Hangup,
}

#[derive(Default)]
struct Inbox {
    /// The partitions that its fetcher must look at again; its express does so, if the fetcher waits for an answer.
    partitions: Vec<Arc<Partition>>,
    /// Those that the fetcher must look at itself.
    kept: Vec<Arc<Partition>>,
    /// The fetcher waits for an answer that may be long in coming.
    is_polling: bool,
    /// There may be memory, or the broker another address.
    is_rung: bool,
    is_closed: bool,
}

/// What a look into the inbox has brought.
pub(crate) struct Mail {
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) is_closed: bool,
}

impl Leader {
    pub(crate) fn new(broker: BrokerId) -> Arc<Self> {
        Arc::new(Self {
            broker,
            inbox: Mutex::default(),
            changed: Condvar::new(),
            hangup: Hangup::default(),
            express_hangup: Hangup::default(),
        })
    }

    /// What has come. `wait`: until something does, at most until then.
    ///
    /// *Thread*: the broker's fetcher.
    pub(crate) fn take(&self, wait: Wait) -> Mail {
        let mut inbox = self.inbox.lock();
        loop {
            let is_rung = std::mem::take(&mut inbox.is_rung);
            let is_empty = inbox.partitions.is_empty() && inbox.kept.is_empty();
            if is_rung || inbox.is_closed || !is_empty || matches!(wait, Wait::No) {
                break;
            }
            match wait {
                Wait::Until(then) => {
                    if self.changed.wait_until(&mut inbox, then).timed_out() {
                        break;
                    }
                }
                Wait::Forever => self.changed.wait(&mut inbox),
                Wait::No => break,
            }
        }
        let mut partitions = std::mem::take(&mut inbox.partitions);
        partitions.append(&mut inbox.kept);
        Mail { partitions, is_closed: inbox.is_closed }
    }

    /// What has come while the fetcher waits for an answer. `None` at the end.
    ///
    /// *Blocks* until there is something. *Thread*: the broker's express.
    pub(crate) fn take_urgent(&self) -> Option<Vec<Arc<Partition>>> {
        let mut inbox = self.inbox.lock();
        while !inbox.is_closed && (!inbox.is_polling || inbox.partitions.is_empty()) {
            self.changed.wait(&mut inbox);
        }
        if inbox.is_closed {
            return None;
        }
        let partitions = std::mem::take(&mut inbox.partitions);
        // The fetcher lets go of them before it asks again.
        inbox.kept.extend(partitions.iter().cloned());
        Some(partitions)
    }

    /// Whether the fetcher waits for an answer that may be long in coming.
    pub(crate) fn set_polling(&self, is_polling: bool) {
        let mut inbox = self.inbox.lock();
        inbox.is_polling = is_polling;
        let is_urgent = is_polling && !inbox.partitions.is_empty();
        drop(inbox);
        if is_urgent {
            self.changed.notify_all();
        }
    }

    /// Ends its fetcher.
    pub(crate) fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.is_closed = true;
        let partitions = (std::mem::take(&mut inbox.partitions), std::mem::take(&mut inbox.kept));
        drop(inbox);
        drop(partitions);
        self.changed.notify_all();
        self.hangup.hang_up();
        self.express_hangup.hang_up();
    }
}

/// How long to wait for mail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    No,
    Until(Instant),
    Forever,
}

impl Bell for Leader {
    fn ring(&self) {
        self.inbox.lock().is_rung = true;
        self.changed.notify_all();
    }
}

impl Home for Leader {
    fn changed(&self, partition: Arc<Partition>) {
        let mut inbox = self.inbox.lock();
        if !inbox.is_closed {
            inbox.partitions.push(partition);
            drop(inbox);
            self.changed.notify_all();
        }
    }

    fn keep(&self, partition: Arc<Partition>) {
        let mut inbox = self.inbox.lock();
        if !inbox.is_closed {
            inbox.kept.push(partition);
            drop(inbox);
            self.changed.notify_all();
        }
    }

    fn broker(&self) -> BrokerId {
        self.broker
    }
}

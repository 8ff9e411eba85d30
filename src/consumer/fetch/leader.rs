//! What the fetcher of a broker is told, and how it is woken.

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
    /// Breaks off what the fetcher blocks on.
    pub(crate) hangup: Hangup,
}

#[derive(Default)]
struct Inbox {
    /// The partitions that its fetcher must look at again.
    partitions: Vec<Arc<Partition>>,
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
        Arc::new(Self { broker, inbox: Mutex::default(), changed: Condvar::new(), hangup: Hangup::default() })
    }

    /// What has come. `wait`: until something does, at most until then.
    ///
    /// *Thread*: the broker's fetcher.
    pub(crate) fn take(&self, wait: Wait) -> Mail {
        let mut inbox = self.inbox.lock();
        loop {
            let is_rung = std::mem::take(&mut inbox.is_rung);
            if is_rung || inbox.is_closed || !inbox.partitions.is_empty() || matches!(wait, Wait::No) {
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
        Mail { partitions: std::mem::take(&mut inbox.partitions), is_closed: inbox.is_closed }
    }

    /// Ends its fetcher.
    pub(crate) fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.is_closed = true;
        let partitions = std::mem::take(&mut inbox.partitions);
        drop(inbox);
        drop(partitions);
        self.changed.notify_all();
        self.hangup.hang_up();
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

    fn broker(&self) -> BrokerId {
        self.broker
    }
}

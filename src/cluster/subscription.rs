//! Those who are told of every new snapshot.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{ClusterClient, Shared, Snapshot};

type Listener = Box<dyn Fn(&Arc<Snapshot>) + Send>;

/// A cluster's subscribers. *Lock*: held for moments, and no other is taken meanwhile.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<Vec<Arc<Subscriber>>>);

/// `None`: the subscription has ended. *Lock order*: before all that the listener takes; two subscribers' locks are never
/// held at once.
struct Subscriber(Mutex<Option<Listener>>);

impl Subscriber {
    /// Tells of the newest snapshot. It is read under the lock: of two threads that have each made one, neither can tell the
    /// older after the newer.
    fn tell(&self, cluster: &Shared) {
        if let Some(listener) = &*self.0.lock() {
            listener(&cluster.snapshot());
        }
    }
}

/// Has its listener told of snapshots until it is dropped, or [ended](Self::end). What is dropped or ended while the
/// listener runs waits for it, so the listener must not do so.
pub(crate) struct Subscription {
    cluster: Arc<Shared>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Tells its listener alone of the newest snapshot, in case that whoever has made it has not come so far.
    pub(crate) fn tell(&self) {
        self.subscriber.tell(&self.cluster);
    }

    /// From here on the listener is not run any more. Other subscribers do not notice.
    pub(crate) fn end(&self) {
        self.cluster.subscribers.0.lock().retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        let ended = self.subscriber.0.lock().take();
        // Without the lock: what the listener owns may be told of snapshots, too.
        drop(ended);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end();
    }
}

impl ClusterClient {
    /// Has `listener` run with the newest snapshot now, if there is one, and with every one that comes. One that comes from
    /// `kafka-metadata` is told before anybody who waits for it goes on.
    ///
    /// *Thread* of the listener: this one, `kafka-metadata`, or any that brings a leader hint.
    pub(crate) fn subscribe(&self, listener: impl Fn(&Arc<Snapshot>) + Send + 'static) -> Subscription {
        let subscriber = Arc::new(Subscriber(Mutex::new(Some(Box::new(listener)))));
        self.shared.subscribers.0.lock().push(Arc::clone(&subscriber));
        let subscription = Subscription { cluster: Arc::clone(&self.shared), subscriber };
        // After it is in the list: what comes meanwhile is told twice rather than not at all.
        if self.snapshot().version > 0 {
            subscription.tell();
        }
        subscription
    }
}

impl Shared {
    /// Tells every subscriber of the newest snapshot.
    pub(super) fn tell(&self) {
        let subscribers = self.subscribers.0.lock().clone();
        for subscriber in subscribers {
            subscriber.tell(self);
        }
    }
}

#[cfg(test)]
mod tests;

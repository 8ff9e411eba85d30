//! The subscribers, which are told of every new snapshot.

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
    /// Tells the listener of the newest snapshot. The snapshot is read under the lock, so that of two threads that have
    /// each made one, neither can tell the older one after the newer one.
    fn tell(&self, cluster: &Shared) {
        if let Some(listener) = &*self.0.lock() {
            listener(&cluster.snapshot());
        }
    }
}

/// Has its listener told of snapshots until it is dropped, or [ended](Self::end). A drop or an end waits for the
/// listener if it is running, so the listener itself must do neither.
pub(crate) struct Subscription {
    cluster: Arc<Shared>,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Tells only its own listener of the newest snapshot, in case that the thread that made the snapshot has not done
    /// so yet.
    pub(crate) fn tell(&self) {
        self.subscriber.tell(&self.cluster);
    }

    /// After this call the listener does not run any more. Other subscribers do not notice.
    pub(crate) fn end(&self) {
        self.cluster.subscribers.0.lock().retain(|other| !Arc::ptr_eq(other, &self.subscriber));
        let ended = self.subscriber.0.lock().take();
        // Dropped without the lock: what the listener owns may have a subscription of its own.
        drop(ended);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end();
    }
}

impl ClusterClient {
    /// Runs `listener` with the newest snapshot now, if there is one, and with every later one. The listener hears a
    /// snapshot of `kafka-metadata` before any caller that waits for it goes on.
    ///
    /// *Thread* of the listener: the calling one, `kafka-metadata`, or any that brings a leader hint.
    pub(crate) fn subscribe(&self, listener: impl Fn(&Arc<Snapshot>) + Send + 'static) -> Subscription {
        let subscriber = Arc::new(Subscriber(Mutex::new(Some(Box::new(listener)))));
        self.shared.subscribers.0.lock().push(Arc::clone(&subscriber));
        let subscription = Subscription { cluster: Arc::clone(&self.shared), subscriber };
        // This comes after the push into the list: a snapshot that comes in between is told twice rather than not at
        // all.
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

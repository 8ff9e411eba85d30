//! One client of a cluster: its access to what all clients share, and what belongs to it alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::interest::{Interested, Usage};
use super::{Cluster, Creation, InVain, LeaderHints, Requests, Shared, Snapshot, TopicMetadata};
use crate::error::{Error, ErrorCode, ErrorKind, Result, Timeout};
use crate::logging::{Quiet, debug};
use crate::net::{Connection, Hangup, HostPort, NetConfig};
use crate::protocol::api::Request;

/// A client of a cluster, such as a producer. The topics that it is interested in are its own, and the interest ends
/// with it; what is known of the cluster is shared.
pub(crate) struct ClusterClient {
    pub(super) shared: Arc<Shared>,
    /// The settings of the connections that it makes itself: they carry its client id.
    pub(super) net: Arc<NetConfig>,
    interested: Arc<Interested>,
    /// Keeps the cluster alive until the client leaves it.
    cluster: Mutex<Option<Cluster>>,
}

impl ClusterClient {
    pub(super) fn new(
        cluster: Cluster,
        shared: Arc<Shared>,
        client_id: &Arc<str>,
        creation: Creation,
        in_use: Duration,
    ) -> Self {
        let net = if shared.net.client_id.as_ref() == Some(client_id) {
            Arc::clone(&shared.net)
        } else {
            Arc::new(NetConfig { client_id: Some(Arc::clone(client_id)), ..NetConfig::clone(&shared.net) })
        };
        let interested = Interested::new(creation, shared.config.metadata_max_idle.max(in_use));
        Self { shared, net, interested, cluster: Mutex::new(Some(cluster)) }
    }

    /// Ends the client's interests in topics, and its calls that wait: these and later calls fail with `Closed`. Other
    /// clients do not notice. The last client to leave ends the thread `kafka-metadata`, unless the program still has a
    /// [`Cluster`].
    ///
    /// *Blocks*, if it is the last one, until the thread has ended, for less than a second.
    pub(crate) fn leave(&self) {
        self.shared.requests.lock().interests.end(&self.interested);
        self.shared.answered.notify_all();
        let cluster = self.cluster.lock().take();
        // Dropped without the lock, because the drop may have to wait for the thread.
        drop(cluster);
    }

    /// The settings of its connections, and which addresses have answered or failed on the connections of all clients.
    pub(crate) fn net(&self) -> &Arc<NetConfig> {
        &self.net
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// Has the metadata requested again; after the back-off, if the last answers brought nothing new.
    pub(crate) fn request_refresh(&self) {
        let mut requests = self.shared.requests.lock();
        if !std::mem::replace(&mut requests.refresh, true) {
            self.shared.work.notify_all();
        }
    }

    /// The mark by which this client says that it uses the topic; as long as it is set now and then, the topic is kept
    /// up to date. `None` where this client has not asked for the topic: it may be known because other clients have.
    pub(crate) fn usage(&self, topic: &str) -> Option<Arc<Usage>> {
        self.shared.requests.lock().interests.usage(topic, &self.interested)
    }

    /// Keeps a topic up to date that was forgotten or never kept, and requests it now, because what is known of it is
    /// old.
    pub(crate) fn remember(&self, topic: &Arc<str>, usage: &Arc<Usage>) {
        let mut requests = self.shared.requests.lock();
        if self.interested.has_ended() {
            return;
        }
        requests.interests.remember(topic, usage, Instant::now());
        requests.refresh = true;
        self.shared.work.notify_all();
    }

    /// Keeps a topic up to date for this client if it is known already because another client has asked for it. True if
    /// it is known.
    pub(crate) fn keep_known(&self, topic: &str) -> bool {
        if !self.snapshot().topic(topic).is_some_and(|topic| topic.is_known()) {
            return false;
        }
        let mut requests = self.shared.requests.lock();
        if self.interested.has_ended() {
            return false;
        }
        if requests.interests.keep(topic, &self.interested, Instant::now()) {
            // The client that asked for it has ended: what is known of the topic is old, but good enough to begin with.
            requests.refresh = true;
            self.shared.work.notify_all();
        }
        true
    }

    /// Requests the topic's metadata without waiting for it: at once if no answer has named the topic yet, otherwise as
    /// [`request_refresh`](Self::request_refresh) does. Programs may call this in a loop.
    pub(crate) fn ask_for(&self, topic: &str) {
        let mut requests = self.shared.requests.lock();
        if self.interested.has_ended() {
            return;
        }
        let is_new = requests.interests.keep(topic, &self.interested, Instant::now());
        if !std::mem::replace(&mut requests.refresh, true) || is_new {
            self.shared.work.notify_all();
        }
    }

    /// Whether an answer to any metadata request has come since `then`.
    pub(crate) fn has_answered_since(&self, then: Instant) -> bool {
        self.shared.requests.lock().last_answer.is_some_and(|answer| answer >= then)
    }

    /// The topic's metadata as soon as `accept` takes it. It is requested again and again until then.
    ///
    /// *Blocks* until then, at most until `deadline`. From the time `enough` on, a fresh answer is the result even if
    /// `accept` does not take it.
    ///
    /// *Errors*: `Timeout(Metadata)` with the last cause; at once the cluster's own error where the topic's name is not
    /// valid or the client may not see the topic; `Closed`.
    pub(crate) fn await_topic(
        &self,
        topic: &str,
        deadline: Instant,
        enough: Option<Instant>,
        accept: impl Fn(&TopicMetadata) -> bool,
    ) -> Result<Arc<TopicMetadata>> {
        let started = Instant::now();
        let name: Arc<str> = topic.into();
        let creation = self.interested.creation;
        let mut requests = self.shared.requests.lock();
        if !self.interested.has_ended() {
            requests.interests.keep(topic, &self.interested, started);
        }
        requests.interests.begin_waiting(&name, creation);
        self.shared.work.notify_all();
        // The answer to an attempt that is under way may be older than this call.
        let stale = requests.attempts + u64::from(requests.attempting);
        let result = loop {
            if let Some(end) = self.end(&requests) {
                break Err(end);
            }
            let known = self.snapshot().topic(topic).cloned();
            if let Some(known) = known.as_ref().filter(|known| accept(known)) {
                break Ok(Arc::clone(known));
            }
            let fresh = requests.attempts > stale && requests.last_error.is_none();
            if fresh && let Some(known) = &known {
                if matches!(known.error, ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
                    break Err(Error::broker(known.error, None).at_topic(topic));
                }
                if enough.is_some_and(|then| then <= Instant::now()) {
                    break Ok(Arc::clone(known));
                }
            }
            if let Some(error) = requests.in_vain(stale) {
                break Err(error.at_topic(topic));
            }
            let now = Instant::now();
            let until = enough.filter(|then| *then > now).map_or(deadline, |then| then.min(deadline));
            if self.shared.answered.wait_until(&mut requests, until).timed_out() && until == deadline {
                let waited = started.elapsed();
                let text = format!("the topic's metadata did not come within {waited:.1?}");
                let error = Error::timeout(Timeout::Metadata, text).at_topic(topic);
                let told = known.map(|known| known.error).filter(|code| !code.is_none());
                let told = told.map(|code| Error::broker(code, None));
                break Err(error.because(requests.obstacle(started, Instant::now(), told)));
            }
        };
        requests.interests.end_waiting(&name, creation);
        result
    }

    /// Waits for an answer to a metadata request of any kind: the sign that the cluster can be reached.
    ///
    /// *Blocks* until then, at most until `deadline`.
    pub(crate) fn await_brokers(&self, deadline: Instant) -> Result<()> {
        let started = Instant::now();
        let mut requests = self.shared.requests.lock();
        let stale = requests.attempts + u64::from(requests.attempting);
        loop {
            if let Some(end) = self.end(&requests) {
                return Err(end);
            }
            if !self.snapshot().brokers.is_empty() {
                return Ok(());
            }
            if let Some(error) = requests.in_vain(stale) {
                return Err(error);
            }
            requests.refresh = true;
            requests.urgent = true;
            self.shared.work.notify_all();
            if self.shared.answered.wait_until(&mut requests, deadline).timed_out() {
                let error = Error::timeout(Timeout::Metadata, "no broker answered in time");
                return Err(error.because(requests.obstacle(started, Instant::now(), None)));
            }
        }
    }

    /// Takes over what produce answers say of partitions' leaders (KIP-951): however many partitions have moved, one
    /// new snapshot is made, and subscribers are told once.
    pub(crate) fn hint(&self, hints: &LeaderHints) {
        {
            let _quiet = Quiet::begin();
            let mut snapshot = self.shared.snapshot.write();
            let Some(next) = snapshot.hint(hints) else { return };
            *snapshot = Arc::new(next);
        }
        self.shared.tell();
    }

    /// Whom to ask, in order: those that answer first, those that have just failed last.
    pub(crate) fn addresses(&self) -> Vec<HostPort> {
        self.shared.addresses(false)
    }

    /// Sends one request to any broker, on a connection of its own.
    ///
    /// *Blocks* as [`with_any`](Self::with_any) does.
    pub(crate) fn call_any<R: Request>(&self, request: &R, hangup: &Hangup) -> Result<R::Response> {
        self.with_any(hangup, |connection| {
            let deadline = connection.default_deadline();
            connection.call(request, deadline)
        })
    }

    /// Runs `call` on a connection to one broker after the other, until one has answered. Brokers that answered lately
    /// are tried first, those that have just failed last.
    ///
    /// *Blocks* until one has answered or all have failed, each within its own time, so that a broker that hangs does
    /// not use up the time of the others. `hangup` ends the call.
    ///
    /// *Errors*: a [final](Error::is_final) one only where every broker has failed with a final error.
    pub(crate) fn with_any<T>(&self, hangup: &Hangup, mut call: impl FnMut(&mut Connection) -> Result<T>) -> Result<T> {
        let mut in_vain = InVain::default();
        for address in self.addresses() {
            let answer = Connection::open(&address, &self.net, hangup).and_then(|mut connection| call(&mut connection));
            match answer {
                Ok(response) => return Ok(response),
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => {
                    debug!("no answer from {address}: {error:#}");
                    in_vain.add(error);
                }
            }
        }
        Err(in_vain.error())
    }

    /// Why no call of this client is answered any more, if it has left or the thread has ended.
    fn end(&self, requests: &Requests) -> Option<Error> {
        (requests.closed || self.interested.has_ended()).then(|| requests.end())
    }
}

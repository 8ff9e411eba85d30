//! What the cluster looks like, kept up to date by one thread.

pub(crate) mod coordinator;
mod interest;
mod refresh;
mod snapshot;
mod subscription;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};

use self::coordinator::Coordinators;
use self::interest::Interests;
pub(crate) use self::interest::{Creation, Usage};
pub(crate) use self::snapshot::{LeaderHint, LeaderHints, Snapshot, TopicMetadata};
use self::subscription::Subscribers;
pub(crate) use self::subscription::Subscription;
use crate::config::client::{ClientConfig, MetadataRecovery};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout};
use crate::logging::{Quiet, debug, error};
use crate::net::{Connection, Hangup, HostPort, NetConfig, Standing};
use crate::protocol::api::Request;
use crate::thread;
use crate::time::Random;

/// A handle to a cluster: its metadata, and calls to any of its brokers. The thread `kafka-metadata` behind it asks
/// for metadata on demand and by age, on a connection of its own.
pub(crate) struct Cluster {
    config: ClientConfig,
    net: Arc<NetConfig>,
    coordinators: Coordinators,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Guards what the thread is asked for. Held for moments, never while anything is sent.
    requests: Mutex<Requests>,
    /// Told when the thread has something to do.
    work: Condvar,
    /// Told when an answer or a failure has come.
    answered: Condvar,
    subscribers: Subscribers,
    hangup: Hangup,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Guarded by the cluster's lock.
#[derive(Default)]
struct Requests {
    interests: Interests,
    /// Whether the cluster has been reached is asked for the first time, so that the next attempt need not wait for the
    /// back-off.
    urgent: bool,
    refresh: bool,
    /// Attempts so far, successful or not.
    attempts: u64,
    /// An attempt is under way, with what was asked for when it began.
    attempting: bool,
    /// Who is being asked, since when.
    asked: Option<(HostPort, Instant)>,
    /// Why the last one that was asked has not answered.
    last_error: Option<Error>,
    /// No attempt before this, unless the last one has succeeded.
    next_attempt: Option<Instant>,
    last_answer: Option<Instant>,
    closed: bool,
}

impl Cluster {
    /// Starts the thread `kafka-metadata`. Nothing is asked before somebody wants to know something.
    pub(crate) fn start(config: ClientConfig) -> Result<Arc<Self>> {
        let cluster = Arc::new(Self {
            net: Arc::new(NetConfig::new(&config)),
            config,
            coordinators: Coordinators::default(),
            snapshot: RwLock::default(),
            requests: Mutex::default(),
            work: Condvar::new(),
            answered: Condvar::new(),
            subscribers: Subscribers::default(),
            hangup: Hangup::default(),
            thread: Mutex::new(None),
        });
        let run = Arc::clone(&cluster);
        let thread = thread::spawn("kafka-metadata", move || {
            if let Err(panic) = thread::catch(|| refresh::run(&run)) {
                run.fail(&panic);
            }
        })?;
        *cluster.thread.lock() = Some(thread);
        Ok(cluster)
    }

    /// The settings of its connections, and what they have found out.
    pub(crate) fn net(&self) -> &Arc<NetConfig> {
        &self.net
    }

    /// Whether the bootstrap servers are asked again when no known broker answers (KIP-899).
    fn rebootstraps(&self) -> bool {
        self.config.metadata_recovery == MetadataRecovery::Rebootstrap
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// Has the metadata asked for anew, after the back-off where the last answers brought nothing new.
    pub(crate) fn request_refresh(&self) {
        let mut requests = self.requests.lock();
        if !std::mem::replace(&mut requests.refresh, true) {
            self.work.notify_all();
        }
    }

    /// The mark that keeps a topic up to date while it is set now and then. It asks for nothing by itself: a topic may be
    /// known because others want it.
    pub(crate) fn usage(&self, topic: &str, creation: Creation) -> Arc<Usage> {
        self.requests.lock().interests.usage(topic, creation)
    }

    /// Keeps a topic up to date that was forgotten or never kept, and asks for it now: what is known of it is old.
    pub(crate) fn remember(&self, topic: &Arc<str>, usage: &Arc<Usage>) {
        let mut requests = self.requests.lock();
        requests.interests.remember(topic, usage, Instant::now());
        requests.refresh = true;
        self.work.notify_all();
    }

    /// Asks for the topic's metadata without waiting for it: now if nothing was told of it yet, otherwise as
    /// [`request_refresh`](Self::request_refresh) does. Programs may call this in a loop.
    pub(crate) fn ask_for(&self, topic: &str, creation: Creation) {
        let mut requests = self.requests.lock();
        let is_new = requests.interests.keep(topic, creation, Instant::now());
        if !std::mem::replace(&mut requests.refresh, true) || is_new {
            self.work.notify_all();
        }
    }

    /// Whether an answer of any kind has come since then.
    pub(crate) fn has_answered_since(&self, then: Instant) -> bool {
        self.requests.lock().last_answer.is_some_and(|answer| answer >= then)
    }

    /// The topic's metadata once `accept` takes it: asked for, and again until it does.
    ///
    /// *Blocks* until then, at most until `deadline`. From `enough` on a fresh answer that `accept` does not take is the
    /// result, too.
    ///
    /// *Errors*: `Timeout(Metadata)` with the last cause; at once what the cluster says of the topic's name or of the
    /// right to see it; `Closed`.
    pub(crate) fn await_topic(
        &self,
        topic: &str,
        creation: Creation,
        deadline: Instant,
        enough: Option<Instant>,
        accept: impl Fn(&TopicMetadata) -> bool,
    ) -> Result<Arc<TopicMetadata>> {
        let started = Instant::now();
        let name: Arc<str> = topic.into();
        let mut requests = self.requests.lock();
        requests.interests.keep(topic, creation, started);
        requests.interests.begin_waiting(&name, creation);
        self.work.notify_all();
        // The answer to an attempt that is under way may be older than this call.
        let stale = requests.attempts + u64::from(requests.attempting);
        let result = loop {
            if requests.closed {
                break Err(requests.end());
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
            if self.answered.wait_until(&mut requests, until).timed_out() && until == deadline {
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
        let mut requests = self.requests.lock();
        let stale = requests.attempts + u64::from(requests.attempting);
        loop {
            if requests.closed {
                return Err(requests.end());
            }
            if !self.snapshot().brokers.is_empty() {
                return Ok(());
            }
            if let Some(error) = requests.in_vain(stale) {
                return Err(error);
            }
            requests.refresh = true;
            requests.urgent = true;
            self.work.notify_all();
            if self.answered.wait_until(&mut requests, deadline).timed_out() {
                let error = Error::timeout(Timeout::Metadata, "no broker answered in time");
                return Err(error.because(requests.obstacle(started, Instant::now(), None)));
            }
        }
    }

    /// Takes over what produce answers say of partitions' leaders (KIP-951): one snapshot, told once, however many
    /// partitions have moved.
    pub(crate) fn hint(&self, hints: &LeaderHints) {
        {
            let _quiet = Quiet::begin();
            let mut snapshot = self.snapshot.write();
            let Some(next) = snapshot.hint(hints) else { return };
            *snapshot = Arc::new(next);
        }
        self.tell();
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

    /// Runs `call` on a connection to any broker, until one has answered: those that answer first, those that have just
    /// failed last.
    ///
    /// *Blocks* until one has answered or all have failed, each within its own time: one that hangs does not use up the
    /// others'. `hangup` ends it.
    pub(crate) fn with_any<T>(&self, hangup: &Hangup, mut call: impl FnMut(&mut Connection) -> Result<T>) -> Result<T> {
        let mut last = None;
        for address in self.addresses(false) {
            let answer = Connection::open(&address, &self.net, hangup).and_then(|mut connection| call(&mut connection));
            match answer {
                Ok(response) => return Ok(response),
                Err(error) if error.kind() == ErrorKind::Closed || error.is_final() => return Err(error),
                Err(error) => {
                    debug!("no answer from {address}: {error:#}");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::network("no broker is known")))
    }

    /// Whom to ask, in order: the known brokers, those that answer before the others, and then the bootstrap servers in
    /// the order in which they were given; or first the bootstrap servers. Whoever has failed comes after those who have
    /// not, and whoever failed last at the end.
    fn addresses(&self, bootstrap_first: bool) -> Vec<HostPort> {
        let standing = |address: &HostPort| self.net.reachability.standing(address);
        let mut random = Random::from_entropy();
        let mut known: Vec<_> = self.snapshot().brokers.values().cloned().collect();
        for place in (1..known.len()).rev() {
            known.swap(place, random.below(place + 1));
        }
        known.sort_by_cached_key(|address| standing(address) != Standing::Answers);
        let servers: &[HostPort] =
            if known.is_empty() || self.rebootstraps() { &self.config.bootstrap_servers } else { &[] };
        let added = servers.iter().filter(|server| !known.contains(server)).cloned().collect::<Vec<_>>();
        let mut all = known;
        all.extend(added);
        all.sort_by_cached_key(|address| {
            let failed = match standing(address) {
                Standing::Failed(then) => Some(then),
                Standing::Answers | Standing::Untried => None,
            };
            let place = servers.iter().position(|server| server == address);
            if bootstrap_first { (place.is_none(), failed, place) } else { (false, failed, None) }
        });
        all
    }

    /// Notes whom the thread asks from now on.
    fn asks(&self, address: &HostPort) {
        self.requests.lock().asked = Some((address.clone(), Instant::now()));
    }

    /// Notes that whoever was asked has not answered.
    fn asked_in_vain(&self, error: &Error) {
        let mut requests = self.requests.lock();
        requests.asked = None;
        requests.last_error = Some(error.clone());
    }

    /// Stops the thread.
    ///
    /// *Blocks* until it has ended, at most until `deadline`: a name that is being resolved cannot be broken off,
    /// and then the thread ends by itself.
    pub(crate) fn close(&self, deadline: Instant) {
        self.requests.lock().closed = true;
        self.work.notify_all();
        self.answered.notify_all();
        self.hangup.hang_up();
        if let Some(thread) = self.thread.lock().take() {
            thread::join_until(thread, deadline);
        }
    }

    /// Ends all waiting for good: the thread has panicked.
    fn fail(&self, panic: &str) {
        error!("kafka-metadata panicked; nothing new can be learned of the cluster: {panic}");
        let mut requests = self.requests.lock();
        requests.closed = true;
        requests.last_error = Some(Error::bug(format!("the thread kafka-metadata panicked: {panic}")));
        drop(requests);
        self.answered.notify_all();
    }
}

impl Requests {
    /// Why a call that has waited since `started` has no result, as far as is known: the last failure since the last
    /// answer; or who is being asked and silent; or `told`, what the last answer says, unless the silence has lasted for
    /// the greater part of the wait.
    fn obstacle(&self, started: Instant, now: Instant, told: Option<Error>) -> Option<Error> {
        if let Some(error) = &self.last_error {
            return Some(error.clone());
        }
        let Some((address, since)) = &self.asked else { return told };
        let silence = now.saturating_duration_since(*since);
        if told.is_some() && silence < now.saturating_duration_since(started) / 2 {
            return told;
        }
        Some(Error::timeout(Timeout::Request, format!("no answer for {silence:.1?}")).at_address(&address.to_string()))
    }

    /// Why waiting is in vain, if an attempt has found that: one after the first `stale` ones, or the last one, as long as
    /// the next is not to be made yet.
    fn in_vain(&self, stale: u64) -> Option<Error> {
        let error = self.last_error.as_ref().filter(|error| error.is_final())?;
        let holds = self.attempts > stale || self.next_attempt.is_some_and(|then| Instant::now() < then);
        holds.then(|| error.clone())
    }

    /// Why nobody answers any more.
    fn end(&self) -> Error {
        let bug = self.last_error.clone().filter(|error| error.kind() == ErrorKind::Bug);
        bug.unwrap_or_else(|| Error::new(ErrorKind::Closed, Recovery::Fatal, "the client was closed"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::FakeCluster;
    use crate::time::Backoff;
    use crate::topic::BrokerId;

    pub(super) fn config_of(fake: &FakeCluster) -> ClientConfig {
        let ms = Duration::from_millis;
        ClientConfig {
            bootstrap_servers: fake.bootstrap().iter().map(|server| HostPort::parse(server).unwrap()).collect(),
            retry_backoff: Backoff { initial: ms(5), max: ms(20) },
            ..ClientConfig::default()
        }
    }

    pub(super) fn cluster_of(fake: &FakeCluster) -> Arc<Cluster> {
        Cluster::start(config_of(fake)).unwrap()
    }

    /// A cluster whose thread has ended.
    fn cluster(bootstrap_servers: &[&str], rebootstrap: bool) -> Arc<Cluster> {
        let cluster = Cluster::start(ClientConfig {
            bootstrap_servers: bootstrap_servers.iter().map(|server| HostPort::new(*server, 1)).collect(),
            metadata_recovery: if rebootstrap { MetadataRecovery::Rebootstrap } else { MetadataRecovery::None },
            ..ClientConfig::default()
        })
        .unwrap();
        cluster.close(Instant::now() + Duration::from_secs(60));
        cluster
    }

    #[test]
    fn a_question_that_was_just_asked_does_not_hide_the_last_answer() {
        let started = Instant::now();
        let at = |seconds| started + Duration::from_secs(seconds);
        let told = Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
        let mut requests = Requests::default();
        let obstacle = |requests: &Requests, told: Option<&Error>| requests.obstacle(started, at(10), told.cloned());
        assert!(obstacle(&requests, None).is_none());
        assert_eq!(obstacle(&requests, Some(&told)).unwrap().code(), told.code());
        requests.asked = Some((HostPort::new("a", 1), at(6)));
        assert_eq!(obstacle(&requests, Some(&told)).unwrap().code(), told.code());
        assert_eq!(obstacle(&requests, None).unwrap().kind(), ErrorKind::Timeout(Timeout::Request));
        // Who has been silent for most of the time is what stands in the way.
        requests.asked = Some((HostPort::new("a", 1), at(4)));
        assert_eq!(obstacle(&requests, Some(&told)).unwrap().kind(), ErrorKind::Timeout(Timeout::Request));
        requests.last_error = Some(Error::network("refused"));
        assert_eq!(obstacle(&requests, Some(&told)).unwrap().kind(), ErrorKind::Network);
    }

    #[test]
    fn who_answers_is_asked_first_and_who_failed_last_is_asked_last() {
        let place = |host: &str| HostPort::new(host, 1);
        let made = |rebootstrap| {
            let cluster = cluster(&["a", "b"], rebootstrap);
            let brokers = [(1, "c"), (2, "d")].map(|(id, host)| (BrokerId(id), place(host)));
            *cluster.snapshot.write() = Arc::new(Snapshot { brokers: brokers.into(), ..Snapshot::default() });
            cluster
        };
        let cluster = made(true);
        let reachability = &cluster.net.reachability;
        let order = |bootstrap_first| -> String {
            cluster.addresses(bootstrap_first).into_iter().map(|address| address.host).collect()
        };
        assert!(["cdab", "dcab"].contains(&&*order(false)), "{}", order(false));
        reachability.answered(&place("d"));
        reachability.answered(&place("b"));
        assert_eq!(order(false), "dcab", "the servers keep their order");
        assert_eq!(order(true), "abdc");
        reachability.failed(&place("d"));
        reachability.failed(&place("a"));
        assert_eq!(order(false), "cbda");
        assert_eq!(order(true), "bacd");
        // Without a rebootstrap only the known brokers are asked, for whatever purpose.
        let cluster = made(false);
        assert_eq!(cluster.addresses(false).len(), 2);
        assert_eq!(cluster.addresses(true).len(), 2);
    }
}

//! What the cluster looks like, kept up to date by one thread.

mod refresh;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

pub(crate) use self::snapshot::{LeaderHint, LeaderHints, Snapshot, TopicMetadata};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout};
use crate::logging::{Quiet, debug, error};
use crate::net::{Connection, Hangup, HostPort, NetConfig, Standing};
use crate::protocol::api::Request;
use crate::thread;
use crate::time::{self, Backoff, Random};

/// The settings of a cluster handle.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    pub(crate) bootstrap_servers: Vec<HostPort>,
    pub(crate) net: Arc<NetConfig>,
    /// Metadata is asked for anew when it is older.
    pub(crate) max_age: Duration,
    /// A topic that has not been used for so long is no longer asked about.
    pub(crate) max_idle: Duration,
    pub(crate) retry_backoff: Backoff,
    /// Whether the bootstrap servers are asked again when no known broker answers (KIP-899).
    pub(crate) rebootstrap: bool,
    /// When attempts have failed for so long, the bootstrap servers are asked before the known brokers (KIP-1102).
    pub(crate) rebootstrap_trigger: Duration,
    pub(crate) allow_auto_topic_creation: bool,
}

type Listener = Box<dyn Fn(&Arc<Snapshot>) + Send + Sync>;

/// A handle to a cluster: its metadata, and calls to any of its brokers. The thread `kafka-metadata` behind it asks
/// for metadata on demand and by age, on a connection of its own.
pub(crate) struct Cluster {
    config: ClusterConfig,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Guards what the thread is asked for. Held for moments, never while anything is sent.
    requests: Mutex<Requests>,
    /// Told when the thread has something to do.
    work: Condvar,
    /// Told when an answer or a failure has come.
    answered: Condvar,
    listener: Mutex<Option<Listener>>,
    hangup: Hangup,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Guarded by the cluster's lock.
struct Requests {
    /// Topics that are kept up to date.
    topics: HashMap<Arc<str>, Interest>,
    /// How many callers wait for each topic that is not known yet.
    awaited: HashMap<Arc<str>, usize>,
    /// Topics of which no answer has told yet. They are asked for at once; whoever asks for others waits for the
    /// back-off, for what they are told is young.
    new_topics: HashSet<Arc<str>>,
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

struct Interest {
    usage: Arc<Usage>,
    last_used: Instant,
}

/// Whether a topic was used lately. Set by whoever sends to it; taken back now and then by `kafka-metadata`, which
/// forgets a topic that is not used for long.
pub(crate) struct Usage(AtomicU8);

const UNUSED: u8 = 0;
const USED: u8 = 1;
const FORGOTTEN: u8 = 2;

impl Usage {
    /// Marks the topic as used. True if it has been forgotten: the cluster must be told to [remember](Cluster::remember)
    /// it. Reads before it writes, so that threads do not fight for the mark.
    pub(crate) fn mark(&self) -> bool {
        self.0.load(Ordering::Relaxed) != USED && self.0.swap(USED, Ordering::Relaxed) == FORGOTTEN
    }

    /// Whether it was used since this was last asked.
    fn take(&self) -> bool {
        self.turn(USED, UNUSED)
    }

    /// False if it has been used again.
    fn forget(&self) -> bool {
        self.turn(UNUSED, FORGOTTEN)
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Cluster {
    /// Starts the thread `kafka-metadata`. Nothing is asked before somebody wants to know something.
    pub(crate) fn start(config: ClusterConfig) -> Result<Arc<Self>> {
        let cluster = Arc::new(Self {
            config,
            snapshot: RwLock::default(),
            requests: Mutex::new(Requests {
                topics: HashMap::new(),
                awaited: HashMap::new(),
                new_topics: HashSet::new(),
                urgent: false,
                refresh: false,
                attempts: 0,
                attempting: false,
                asked: None,
                last_error: None,
                next_attempt: None,
                last_answer: None,
                closed: false,
            }),
            work: Condvar::new(),
            answered: Condvar::new(),
            listener: Mutex::new(None),
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

    /// Has `listener` run on `kafka-metadata` with every new snapshot, before anybody who waits for it goes on.
    pub(crate) fn listen(&self, listener: impl Fn(&Arc<Snapshot>) + Send + Sync + 'static) {
        *self.listener.lock() = Some(Box::new(listener));
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

    /// The mark that keeps a topic up to date while it is set now and then.
    pub(crate) fn interest(&self, topic: &Arc<str>) -> Arc<Usage> {
        let mut requests = self.requests.lock();
        let interest = requests.topics.entry(Arc::clone(topic)).or_insert_with(Interest::new);
        Arc::clone(&interest.usage)
    }

    /// Keeps a topic up to date again that was forgotten, and asks for it now: what is known of it is old.
    pub(crate) fn remember(&self, topic: &Arc<str>, usage: &Arc<Usage>) {
        let mut requests = self.requests.lock();
        let interest = Interest { usage: Arc::clone(usage), last_used: Instant::now() };
        requests.topics.insert(Arc::clone(topic), interest);
        requests.new_topics.insert(Arc::clone(topic));
        requests.refresh = true;
        self.work.notify_all();
    }

    /// Asks for the topic's metadata without waiting for it: now if nothing was told of it yet, otherwise as
    /// [`request_refresh`](Self::request_refresh) does. Programs may call this in a loop.
    pub(crate) fn ask_for(&self, topic: &str) {
        let mut requests = self.requests.lock();
        let is_new = requests.keep(topic);
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
        deadline: Instant,
        enough: Option<Instant>,
        accept: impl Fn(&TopicMetadata) -> bool,
    ) -> Result<Arc<TopicMetadata>> {
        let started = Instant::now();
        let name: Arc<str> = topic.into();
        let mut requests = self.requests.lock();
        requests.keep(topic);
        *requests.awaited.entry(Arc::clone(&name)).or_insert(0) += 1;
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
                break Err(match requests.obstacle().or(told) {
                    Some(cause) => error.with_source(cause),
                    None => error,
                });
            }
        };
        if let Some(count) = requests.awaited.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                requests.awaited.remove(&name);
            }
        }
        result
    }

    /// Waits for an answer to a metadata request of any kind: the sign that the cluster can be reached.
    ///
    /// *Blocks* until then, at most until `deadline`.
    pub(crate) fn await_brokers(&self, deadline: Instant) -> Result<()> {
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
                return Err(match requests.obstacle() {
                    Some(cause) => error.with_source(cause),
                    None => error,
                });
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
            let deadline = time::deadline(Instant::now(), self.config.net.request_timeout);
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
            let unbounded = time::deadline(Instant::now(), Duration::MAX);
            let answer = Connection::open(&address, &self.config.net, unbounded, hangup)
                .and_then(|mut connection| call(&mut connection));
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
        let standing = |address: &HostPort| self.config.net.reachability.standing(address);
        let mut random = Random::from_entropy();
        let mut known: Vec<_> = self.snapshot().brokers.values().cloned().collect();
        for place in (1..known.len()).rev() {
            known.swap(place, random.below(place + 1));
        }
        known.sort_by_cached_key(|address| standing(address) != Standing::Answers);
        let servers: &[HostPort] =
            if known.is_empty() || self.config.rebootstrap { &self.config.bootstrap_servers } else { &[] };
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
        *self.listener.lock() = None;
    }

    /// Tells the listener of the newest snapshot. It is read under the listener's lock: of two threads that have each
    /// made one, neither can tell the older after the newer.
    pub(crate) fn tell(&self) {
        if let Some(listener) = &*self.listener.lock() {
            listener(&self.snapshot());
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
    /// Forgets topics that have not been used for `max_idle`.
    fn forget_unused(&mut self, now: Instant, max_idle: Duration) {
        self.topics.retain(|_, interest| {
            if interest.usage.take() {
                interest.last_used = now;
            }
            interest.last_used + max_idle > now || !interest.usage.forget()
        });
        let topics = &self.topics;
        self.new_topics.retain(|topic| topics.contains_key(topic));
    }

    /// Keeps a topic up to date. True if nothing was asked for it before.
    fn keep(&mut self, topic: &str) -> bool {
        if self.topics.contains_key(topic) {
            return false;
        }
        let name: Arc<str> = topic.into();
        self.topics.insert(Arc::clone(&name), Interest::new());
        self.new_topics.insert(name)
    }

    /// Why there is no answer yet, as far as is known: the last failure since the last answer, or who is being asked.
    fn obstacle(&self) -> Option<Error> {
        self.last_error.clone().or_else(|| {
            let (address, since) = self.asked.as_ref()?;
            let text = format!("no answer for {:.1?}", since.elapsed());
            Some(Error::timeout(Timeout::Request, text).at_address(&address.to_string()))
        })
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

impl Interest {
    fn new() -> Self {
        Self { usage: Arc::new(Usage(AtomicU8::new(USED))), last_used: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::BrokerId;

    /// A cluster without its thread.
    fn cluster(bootstrap_servers: &[&str], rebootstrap: bool) -> Arc<Cluster> {
        let second = Duration::from_secs(1);
        let cluster = Cluster::start(ClusterConfig {
            bootstrap_servers: bootstrap_servers.iter().map(|server| HostPort::new(*server, 1)).collect(),
            net: Arc::new(NetConfig {
                client_id: None,
                request_timeout: second,
                connect_timeout: second,
                connect_timeout_max: second,
                send_buffer_bytes: None,
                receive_buffer_bytes: None,
                max_response_bytes: 1 << 20,
                reachability: Arc::default(),
            }),
            max_age: second,
            max_idle: second,
            retry_backoff: Backoff { initial: second, max: second },
            rebootstrap,
            rebootstrap_trigger: second,
            allow_auto_topic_creation: false,
        })
        .unwrap();
        cluster.close(Instant::now() + 60 * second);
        cluster
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
        let reachability = &cluster.config.net.reachability;
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

    #[test]
    fn a_forgotten_topic_is_asked_for_again_when_it_is_used() {
        let second = Duration::from_secs(1);
        // Its thread would take marks back too.
        let cluster = cluster(&[], true);
        let name: Arc<str> = "t".into();
        let usage = cluster.interest(&name);
        let used = cluster.requests.lock().topics[&name].last_used;
        let after = |seconds: u32| {
            let mut requests = cluster.requests.lock();
            requests.forget_unused(used + seconds * second, second);
            requests.topics.contains_key(&name)
        };
        assert!(after(0), "new");
        assert!(!usage.mark());
        assert!(after(60), "used meanwhile");
        assert!(!after(120), "not used for a minute");
        assert!(usage.mark(), "whoever sends to it now must tell");
        cluster.remember(&name, &usage);
        assert!(!usage.mark());
        assert!(after(180), "the mark is the one that the sender of records has");
    }
}

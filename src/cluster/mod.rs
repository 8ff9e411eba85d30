//! A cluster as its clients share it: what it looks like, kept up to date by one thread, and calls to its brokers.

mod builder;
mod client;
pub(crate) mod coordinator;
mod handle;
mod interest;
mod refresh;
mod snapshot;
mod subscription;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};

pub use self::builder::ClusterBuilder;
pub(crate) use self::client::ClusterClient;
use self::coordinator::CoordinatorCache;
pub use self::handle::Cluster;
use self::interest::Interests;
pub(crate) use self::interest::{Creation, Usage};
pub(crate) use self::snapshot::{LeaderHint, LeaderHints, Snapshot, TopicMetadata};
use self::subscription::Subscribers;
pub(crate) use self::subscription::Subscription;
use crate::config::client::{ClientConfig, MetadataRecovery};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging::error;
use crate::net::{AddressStatus, Hangup, HostPort, NetConfig};
use crate::thread;
use crate::time::RandomNumbers;

/// What the clients of a cluster share. The thread `kafka-metadata` asks for metadata on demand and by age, on a connection
/// of its own.
struct Shared {
    config: ClientConfig,
    /// The settings of connections, and which addresses have answered or failed.
    net: Arc<NetConfig>,
    coordinators: CoordinatorCache,
    snapshot: RwLock<Arc<Snapshot>>,
    /// What the thread is asked for. The lock is held for moments, never while anything is sent.
    requests: Mutex<Requests>,
    /// Notified when the thread has something to do.
    work: Condvar,
    /// Notified when an answer or a failure has come.
    answered: Condvar,
    subscribers: Subscribers,
    hangup: Hangup,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread `kafka-metadata` is asked for, and how its attempts went. Guarded by the lock in [`Shared`].
#[derive(Default)]
struct Requests {
    interests: Interests,
    /// A caller waits for the first answer of any broker, so the next attempt does not wait for the back-off.
    urgent: bool,
    refresh: bool,
    /// Attempts so far, successful or not.
    attempts: u64,
    /// An attempt is under way, with what was asked for when it began.
    attempting: bool,
    /// The address that is being asked, and since when.
    asked: Option<(HostPort, Instant)>,
    /// Why the address that was asked last has not answered.
    last_error: Option<Error>,
    /// No attempt before this, unless the last one has succeeded.
    next_attempt: Option<Instant>,
    last_answer: Option<Instant>,
    closed: bool,
}

impl Shared {
    /// Starts the thread `kafka-metadata`.
    fn start(config: ClientConfig) -> Result<Arc<Self>> {
        let cluster = Arc::new(Self {
            net: Arc::new(NetConfig::new(&config)),
            config,
            coordinators: CoordinatorCache::default(),
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

    /// Whether the bootstrap servers are asked again when no known broker answers (KIP-899).
    fn rebootstraps(&self) -> bool {
        self.config.metadata_recovery == MetadataRecovery::Rebootstrap
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }

    /// The addresses to ask, in order: the known brokers, those that answer before the others, and then the bootstrap
    /// servers in the order in which they were given; or the bootstrap servers first. Addresses that have failed come
    /// after those that have not, and the one that failed last comes last.
    fn addresses(&self, bootstrap_first: bool) -> Vec<HostPort> {
        let status = |address: &HostPort| self.net.reachability.status(address);
        let mut random = RandomNumbers::from_entropy();
        let mut known: Vec<_> = self.snapshot().brokers.values().cloned().collect();
        for place in (1..known.len()).rev() {
            known.swap(place, random.below(place + 1));
        }
        known.sort_by_cached_key(|address| status(address) != AddressStatus::Answers);
        let servers: &[HostPort] =
            if known.is_empty() || self.rebootstraps() { &self.config.bootstrap_servers } else { &[] };
        let added = servers.iter().filter(|server| !known.contains(server)).cloned().collect::<Vec<_>>();
        let mut all = known;
        all.extend(added);
        all.sort_by_cached_key(|address| {
            let failed = match status(address) {
                AddressStatus::Failed(then) => Some(then),
                AddressStatus::Answers | AddressStatus::Untried => None,
            };
            let place = servers.iter().position(|server| server == address);
            if bootstrap_first { (place.is_none(), failed, place) } else { (false, failed, None) }
        });
        all
    }

    /// Notes the address that the thread asks from now on.
    fn asks(&self, address: &HostPort) {
        self.requests.lock().asked = Some((address.clone(), Instant::now()));
    }

    /// Notes that the address that was asked has not answered. Another one may, so no waiting call gives up for that.
    fn asked_in_vain(&self, error: &Error) {
        let mut requests = self.requests.lock();
        requests.asked = None;
        requests.last_error = Some(curable(error.clone()));
    }

    /// Ends the thread.
    ///
    /// *Blocks* until it has ended, at most until `deadline`: a name that is being resolved cannot be broken off,
    /// and then the thread ends by itself.
    fn close(&self, deadline: Instant) {
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

/// The addresses that were asked one after the other, and have not answered.
#[derive(Default)]
struct InVain {
    /// The last error that is not final.
    last: Option<Error>,
    /// The last final error: waiting does not cure it.
    last_final: Option<Error>,
}

impl InVain {
    fn add(&mut self, error: Error) {
        let last = if error.is_final() { &mut self.last_final } else { &mut self.last };
        *last = Some(error);
    }

    /// The error of the whole round. It is final only where every address has failed with a final error. Otherwise
    /// another address may serve later: one broker of a cluster that is being upgraded, or an address at which another
    /// server runs by now, says nothing of the others.
    fn error(self) -> Error {
        match (self.last_final, self.last) {
            (Some(error), Some(_)) => curable(error),
            (Some(error), None) | (None, Some(error)) => error,
            (None, None) => Error::network("no broker is known"),
        }
    }
}

/// The error of one address as an error of the cluster, which has other addresses: it is what stands in the way now,
/// but it is not final.
fn curable(error: Error) -> Error {
    if error.is_final() { error.with_recovery(Recovery::Retry) } else { error }
}

impl Requests {
    /// Why a call that has waited since `started` has no result, as far as is known: the last failure since the last
    /// answer; or the address that is being asked and does not answer; or `told`, what the last answer says, unless
    /// that address has been silent for the greater part of the wait.
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

    /// The final error that makes waiting useless, if there is one. It counts if it comes from an attempt after the
    /// first `stale` ones, or from the last attempt while the next one is not due yet.
    fn in_vain(&self, stale: u64) -> Option<Error> {
        let error = self.last_error.as_ref().filter(|error| error.is_final())?;
        let holds = self.attempts > stale || self.next_attempt.is_some_and(|then| Instant::now() < then);
        holds.then(|| error.clone())
    }

    /// Why no call is answered any more.
    fn end(&self) -> Error {
        let bug = self.last_error.clone().filter(|error| error.kind() == ErrorKind::Bug);
        bug.unwrap_or_else(|| Error::new(ErrorKind::Closed, Recovery::Fatal, "the client was closed"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorCode;
    use crate::protocol::messages::InitProducerIdRequest;
    use crate::testing::{Api, FakeCluster};
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

    pub(super) fn cluster_of(fake: &FakeCluster) -> Cluster {
        Cluster::start(config_of(fake)).unwrap()
    }

    /// A client of the cluster, with the cluster's settings.
    pub(super) fn client(cluster: &Cluster, creation: Creation) -> Arc<ClusterClient> {
        cluster.client(&cluster.config().client_id, creation, Duration::ZERO)
    }

    /// A cluster's only client. The cluster ends with it.
    pub(super) fn only_client(fake: &FakeCluster) -> Arc<ClusterClient> {
        client(&cluster_of(fake), Creation::Forbidden)
    }

    /// A cluster whose thread has ended.
    fn cluster(bootstrap_servers: &[&str], rebootstrap: bool) -> Arc<Shared> {
        let cluster = Shared::start(ClientConfig {
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
        // A broker that has been silent for most of the time is what stands in the way.
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

    #[test]
    fn time_cannot_cure_what_all_addresses_say_so_and_no_less() {
        let old = || Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, "old");
        let refused = || Error::broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED, None);
        let away = || Error::network("away");
        let of = |errors: Vec<Error>| {
            let mut in_vain = InVain::default();
            errors.into_iter().for_each(|error| in_vain.add(error));
            let error = in_vain.error();
            (error.kind(), error.is_final())
        };
        let unsupported = ErrorKind::UnsupportedVersion;
        assert_eq!(of(vec![]), (ErrorKind::Network, false));
        assert_eq!(of(vec![away()]), (ErrorKind::Network, false));
        assert_eq!(of(vec![old()]), (unsupported, true));
        assert_eq!(of(vec![refused(), old()]), (unsupported, true));
        // The final error is told all the same, but as one that may pass.
        assert_eq!(of(vec![old(), away()]), (unsupported, false));
        assert_eq!(of(vec![away(), old()]), (unsupported, false));
    }

    /// A cluster that lacks a request, one that has it, and a port at which nothing listens.
    fn servers(withdrawn: Api) -> (FakeCluster, FakeCluster, HostPort) {
        let old = FakeCluster::builder().withdraw(withdrawn).start().unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        (old, FakeCluster::start(1).unwrap(), HostPort::parse(&nobody.to_string()).unwrap())
    }

    fn of_servers(servers: &[&HostPort]) -> Arc<ClusterClient> {
        let ms = Duration::from_millis;
        let config = ClientConfig {
            bootstrap_servers: servers.iter().copied().cloned().collect(),
            retry_backoff: Backoff { initial: ms(5), max: ms(20) },
            ..ClientConfig::default()
        };
        client(&Cluster::start(config).unwrap(), Creation::Forbidden)
    }

    #[test]
    fn a_broker_that_cannot_serve_keeps_no_call_from_one_that_can() {
        let (old, new, nobody) = servers(Api::InitProducerId);
        let (old, new) = (&config_of(&old).bootstrap_servers[0], &config_of(&new).bootstrap_servers[0]);
        let ask = |servers: &[&HostPort]| {
            let client = of_servers(servers);
            let request = InitProducerIdRequest { transaction_timeout_ms: 1, ..InitProducerIdRequest::default() };
            let answer = client.call_any(&request, &Hangup::default());
            client.leave();
            answer.map(|answer| answer.error_code).map_err(|error| (error.kind(), error.is_final()))
        };
        assert_eq!(ask(&[old, new]), Ok(0));
        // Where no server can, the error is final; where another one may when it is back, it is worth a retry.
        assert_eq!(ask(&[old]), Err((ErrorKind::UnsupportedVersion, true)));
        for servers in [[old, &nobody], [&nobody, old]] {
            assert_eq!(ask(&servers), Err((ErrorKind::UnsupportedVersion, false)));
        }
    }

    #[test]
    fn metadata_comes_from_whoever_can_give_it_and_nobody_gives_up_while_somebody_may() {
        let (old, new, nobody) = servers(Api::Metadata);
        let (old, address) = (&config_of(&old).bootstrap_servers[0], &config_of(&new).bootstrap_servers[0]);
        let soon = || Instant::now() + Duration::from_secs(60);
        let client = of_servers(&[old, address]);
        client.await_brokers(soon()).unwrap();
        client.leave();
        // No address is left that may serve.
        let client = of_servers(&[old]);
        let error = client.await_brokers(soon()).unwrap_err();
        assert_eq!((error.kind(), error.is_final()), (ErrorKind::UnsupportedVersion, true));
        client.leave();
        // One server is away, and may come back: a caller goes on waiting. When its time is over, it is told what
        // stands in the way.
        let client = of_servers(&[old, &nobody]);
        let waits = std::thread::spawn({
            let client = Arc::clone(&client);
            move || client.await_brokers(soon())
        });
        let deadline = soon();
        loop {
            let error = client.await_brokers(Instant::now() + Duration::from_millis(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata), "{error}");
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Error>());
            let is_told = cause.is_some_and(|cause| cause.kind() == ErrorKind::UnsupportedVersion);
            if is_told && client.shared.requests.lock().attempts >= 3 {
                break;
            }
            assert!(Instant::now() < deadline, "{error:?}");
        }
        assert!(!waits.is_finished());
        client.leave();
        assert_eq!(waits.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_broker_that_cannot_serve_is_no_reason_to_give_up_while_the_next_one_is_asked() {
        let (old, _new, _) = servers(Api::Metadata);
        // It takes connections and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hung = HostPort::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let time = Duration::from_millis(300);
        let config = ClientConfig {
            bootstrap_servers: vec![config_of(&old).bootstrap_servers[0].clone(), hung.clone()],
            connection_setup_timeout: Backoff { initial: time, max: time },
            ..config_of(&old)
        };
        let cluster = Cluster::start(config).unwrap();
        let soon = || Instant::now() + Duration::from_secs(60);
        let waits = client(&cluster, Creation::Forbidden);
        let waiting = std::thread::spawn({
            let waits = Arc::clone(&waits);
            move || waits.await_brokers(soon())
        });
        let attempts = || waits.shared.requests.lock().attempts;
        let (mut woken, deadline) = (0, soon());
        while woken < 3 {
            assert!(Instant::now() < deadline && !waiting.is_finished(), "woken {woken} times");
            let requests = waits.shared.requests.lock();
            let is_asked = requests.attempts > 0
                && requests.asked.as_ref().is_some_and(|(address, _)| *address == hung)
                && requests.last_error.is_some();
            drop(requests);
            if is_asked {
                // A client that leaves wakes all callers that wait.
                client(&cluster, Creation::Forbidden).leave();
                let before = attempts();
                while attempts() == before {
                    assert!(Instant::now() < deadline);
                    std::thread::yield_now();
                }
                woken += 1;
            }
            std::thread::yield_now();
        }
        assert!(!waiting.is_finished(), "{:?}", waiting.join());
        waits.leave();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
}

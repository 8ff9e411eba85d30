use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::cluster::tests::{client, config_of, only_client};
use crate::cluster::{Cluster, Creation};
use crate::config::client::ClientConfig;
use crate::error::Timeout;
use crate::protocol::messages::{InitProducerIdRequest, OffsetFetchRequest};
use crate::testing::{Api, FakeCluster, Fault, On};

const MINUTE: Duration = Duration::from_secs(60);

const KINDS: [KeyType; 2] = [KeyType::Group, KeyType::Transaction];

fn key(key_type: KeyType) -> CoordinatorKey {
    CoordinatorKey { key_type, name: "k".into() }
}

fn link(cluster: &Arc<ClusterClient>, key_type: KeyType) -> CoordinatorLink {
    CoordinatorLink::new(Arc::clone(cluster), key(key_type), Arc::default())
}

/// Sends the coordinator a request, and returns the code of its answer.
fn call(link: &mut CoordinatorLink, time: Duration) -> Result<ErrorCode, CallFailure> {
    let name = link.key().name.to_string();
    match link.key().key_type {
        KeyType::Group => {
            let request = OffsetFetchRequest { group_id: name, topics: Some(vec![]), ..Default::default() };
            let answer = link.call(time, |connection, until| {
                // The last version that names one group.
                let version = connection.versions().choose_at_most::<OffsetFetchRequest>(7)?;
                connection.call_at(&request, version, until)
            });
            answer.map(|answer| ErrorCode(answer.error_code))
        }
        KeyType::Transaction => {
            let request = InitProducerIdRequest {
                transactional_id: Some(name),
                transaction_timeout_ms: 60_000,
                producer_id: -1,
                producer_epoch: -1,
            };
            link.call(time, |connection, until| connection.call(&request, until))
                .map(|answer| ErrorCode(answer.error_code))
        }
    }
}

fn works(link: &mut CoordinatorLink) {
    assert_eq!(call(link, MINUTE).unwrap(), ErrorCode::NONE);
}

fn of(fake: &FakeCluster, key_type: KeyType) -> BrokerId {
    match key_type {
        KeyType::Group => fake.group_coordinator("k").unwrap(),
        KeyType::Transaction => fake.transaction_coordinator("k").unwrap(),
    }
}

/// Makes another broker the coordinator.
fn move_it(fake: &FakeCluster, key_type: KeyType) {
    let to = BrokerId(of(fake, key_type).0 % 3 + 1);
    match key_type {
        KeyType::Group => fake.move_group_coordinator("k", to).unwrap(),
        KeyType::Transaction => fake.move_transaction_coordinator("k", to).unwrap(),
    }
}

fn lookups(fake: &FakeCluster) -> u64 {
    fake.request_count(Api::FindCoordinator)
}

fn wait_for(what: &str, there: impl Fn() -> bool) {
    let deadline = Instant::now() + MINUTE;
    while !there() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_coordinator_that_moves_is_found_again() {
    for kind in KINDS {
        let fake = FakeCluster::start(3).unwrap();
        let cluster = only_client(&fake);
        let (mut one, mut other) = (link(&cluster, kind), link(&cluster, kind));
        for link in [&mut one, &mut other] {
            works(link);
            works(link);
        }
        assert_eq!(lookups(&fake), 1, "it is remembered for all who share the cluster");
        move_it(&fake, kind);
        for (place, link) in [&mut one, &mut other].into_iter().enumerate() {
            assert_eq!(call(link, MINUTE).unwrap(), ErrorCode::NOT_COORDINATOR);
            link.forget();
            works(link);
            // The second one forgets the former coordinator only, and finds what the first one has found.
            assert_eq!(lookups(&fake), 2, "link {place}");
        }
        cluster.leave();
    }
}

#[test]
fn a_coordinator_that_dies_is_found_again() {
    for kind in KINDS {
        let fake = FakeCluster::start(3).unwrap();
        let cluster = only_client(&fake);
        let mut connected = link(&cluster, kind);
        works(&mut connected);
        let dead = of(&fake, kind);
        fake.kill(dead);
        // Known, and not connected to: the connection is not made.
        let mut unconnected = link(&cluster, kind);
        match call(&mut unconnected, MINUTE) {
            Err(CallFailure::Connect(error)) => assert_eq!(error.context().broker, Some(dead)),
            other => panic!("{other:?}"),
        }
        works(&mut unconnected);
        // The end of its connection shows at the next use, or during it.
        if let Err(failed) = call(&mut connected, MINUTE) {
            assert!(matches!(failed, CallFailure::Call(_)), "{failed:?}");
            works(&mut connected);
        }
        assert_eq!(lookups(&fake), 2);
        cluster.leave();
    }
}

#[test]
fn a_coordinator_that_never_answers_is_given_up_when_the_callers_time_is_over() {
    for kind in KINDS {
        let fake = FakeCluster::start(3).unwrap();
        let cluster = only_client(&fake);
        let mut link = link(&cluster, kind);
        works(&mut link);
        let frozen = of(&fake, kind);
        fake.pause(frozen);
        match call(&mut link, Duration::from_millis(100)) {
            Err(CallFailure::Call(error)) => {
                assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Request));
                assert_eq!(error.context().broker, Some(frozen));
            }
            other => panic!("{other:?}"),
        }
        // The others have made another one the coordinator.
        move_it(&fake, kind);
        works(&mut link);
        assert_eq!(lookups(&fake), 2);
        fake.resume(frozen);
        cluster.leave();
    }
}

#[test]
fn the_callers_time_may_be_longer_than_the_request_timeout() {
    let fake = FakeCluster::start(3).unwrap();
    let timeout = Duration::from_millis(500);
    let cluster = Cluster::start(ClientConfig { request_timeout: timeout, ..config_of(&fake) }).unwrap();
    let cluster = client(&cluster, Creation::Forbidden);
    let mut link = link(&cluster, KeyType::Group);
    let slow = fake.inject(On::api(Api::OffsetFetch).always(), Fault::Delay(4 * timeout));
    let begun = Instant::now();
    let answer = loop {
        match call(&mut link, MINUTE) {
            // The lookup and the connection have the request timeout.
            Err(CallFailure::Find(_) | CallFailure::Connect(_)) if begun.elapsed() < MINUTE => {}
            answer => break answer,
        }
    };
    assert_eq!(answer.unwrap(), ErrorCode::NONE);
    assert_eq!(slow.fired(), 1);
    cluster.leave();
}

#[test]
fn a_refusal_is_told_at_once_and_not_remembered() {
    for kind in KINDS {
        let fake = FakeCluster::start(3).unwrap();
        let cluster = only_client(&fake);
        let mut link = link(&cluster, kind);
        let deny = || match kind {
            KeyType::Group => fake.deny_group("k"),
            KeyType::Transaction => fake.deny_transactional_id("k"),
        };
        let allow = || match kind {
            KeyType::Group => fake.allow_group("k"),
            KeyType::Transaction => fake.allow_transactional_id("k"),
        };
        let mut told = |wanted: ErrorCode, is_final: bool| match call(&mut link, MINUTE) {
            Err(CallFailure::Find(error)) => assert_eq!((error.code(), error.is_final()), (Some(wanted), is_final)),
            other => panic!("{other:?}"),
        };
        deny();
        told(
            match kind {
                KeyType::Group => ErrorCode::GROUP_AUTHORIZATION_FAILED,
                KeyType::Transaction => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            },
            true,
        );
        assert_eq!(lookups(&fake), 1, "no other broker is asked");
        allow();
        let away = fake.inject(On::api(Api::FindCoordinator), Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        told(ErrorCode::COORDINATOR_NOT_AVAILABLE, false);
        assert_eq!((lookups(&fake), away.fired()), (2, 1));
        works(&mut link);
        assert_eq!(lookups(&fake), 3);
        cluster.leave();
    }
}

#[test]
fn a_coordinator_is_found_at_every_version() {
    for version in FindCoordinatorRequest::VERSIONS {
        let fake = FakeCluster::builder().brokers(3).offer(Api::FindCoordinator, version..=version).start().unwrap();
        let cluster = only_client(&fake);
        works(&mut link(&cluster, KeyType::Group));
        let mut transactional = link(&cluster, KeyType::Transaction);
        if version < KNOWS_TRANSACTIONS {
            match call(&mut transactional, MINUTE) {
                Err(CallFailure::Find(error)) => assert_eq!(error.kind(), ErrorKind::UnsupportedVersion),
                other => panic!("{other:?}"),
            }
        } else {
            works(&mut transactional);
        }
        let asked: Vec<i16> =
            fake.requests().iter().filter(|seen| seen.api == Api::FindCoordinator).map(|seen| seen.version).collect();
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == version), "{version}: {asked:?}");
        cluster.leave();
    }
}

#[test]
fn forgetting_one_key_leaves_the_others() {
    let coordinators = CoordinatorCache::default();
    let at = |broker| Coordinator { broker: BrokerId(broker), address: HostPort::new("a", 1) };
    let find = |kind, found: Coordinator| {
        let asked = AtomicUsize::new(0);
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(found)
        };
        let found = coordinators.find(&key(kind), &Hangup::default(), ask).unwrap();
        (found.broker.0, asked.into_inner())
    };
    // A group and a transactional id of the same name are two keys.
    assert_eq!(find(KeyType::Group, at(1)), (1, 1));
    assert_eq!(find(KeyType::Transaction, at(2)), (2, 1));
    coordinators.forget(&key(KeyType::Group), &at(1));
    assert_eq!(find(KeyType::Transaction, at(9)), (2, 0));
    assert_eq!(find(KeyType::Group, at(3)), (3, 1));
    // A caller finds late that the former coordinator is gone.
    coordinators.forget(&key(KeyType::Group), &at(1));
    assert_eq!(find(KeyType::Group, at(9)), (3, 0));
}

/// One caller asks the brokers and others wait for it. Returns what each is told when the first one's lookup ends with
/// `end`.
fn shared(
    end: impl FnOnce() -> Result<Coordinator> + Send,
) -> (thread::Result<Result<Coordinator>>, Vec<Result<i32>>, usize) {
    let coordinators = &CoordinatorCache::default();
    let (lookups, (go, went)) = (&AtomicUsize::new(0), bounded::<()>(0));
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            coordinators.find(&key(KeyType::Group), &Hangup::default(), || {
                lookups.fetch_add(1, Ordering::Relaxed);
                went.recv().unwrap();
                end()
            })
        });
        wait_for("the first asks", || lookups.load(Ordering::Relaxed) == 1);
        let others = [0, 1].map(|_| {
            scope.spawn(|| {
                let found = coordinators.find(&key(KeyType::Group), &Hangup::default(), || {
                    lookups.fetch_add(1, Ordering::Relaxed);
                    Ok(Coordinator { broker: BrokerId(2), address: HostPort::new("b", 1) })
                });
                found.map(|found| found.broker.0)
            })
        });
        let waiting = || match coordinators.0.lock().get(&key(KeyType::Group)) {
            Some(CachedCoordinator::Asked(waiting)) => waiting.len(),
            _ => 0,
        };
        wait_for("the others wait", || waiting() == 2);
        // A caller that is hung up does not wait for the lookup's end.
        let hangup = Arc::new(Hangup::default());
        let leaves = scope.spawn({
            let hangup = Arc::clone(&hangup);
            move || coordinators.find(&key(KeyType::Group), &hangup, || panic!("the first one asks"))
        });
        wait_for("a third waits", || waiting() == 3);
        hangup.hang_up();
        assert_eq!(leaves.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        go.send(()).unwrap();
        let others = others.into_iter().map(|other| other.join().unwrap()).collect();
        (first.join(), others, lookups.load(Ordering::Relaxed))
    })
}

#[test]
fn callers_at_the_same_time_share_one_lookup_and_its_end() {
    let (first, others, lookups) = shared(|| Ok(Coordinator { broker: BrokerId(1), address: HostPort::new("a", 1) }));
    assert_eq!(first.unwrap().unwrap().broker, BrokerId(1));
    assert!(others.iter().all(|found| matches!(found, Ok(1))), "{others:?}");
    assert_eq!(lookups, 1);

    let (first, others, lookups) = shared(|| Err(Error::broker(ErrorCode::GROUP_AUTHORIZATION_FAILED, None)));
    let code = Some(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert_eq!(first.unwrap().unwrap_err().code(), code);
    assert!(others.iter().all(|found| found.as_ref().is_err_and(|error| error.code() == code)), "{others:?}");
    assert_eq!(lookups, 1);
}

#[test]
fn the_lookup_of_a_caller_that_gives_up_is_taken_over() {
    let hung_up = || Err(Error::new(ErrorKind::Closed, Recovery::Fatal, "hung up"));
    let (first, others, lookups) = shared(hung_up);
    assert_eq!(first.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(others.iter().all(|found| matches!(found, Ok(2))), "{others:?}");
    assert_eq!(lookups, 2);

    let (first, others, lookups) = shared(|| panic!("the test hears it"));
    assert!(first.is_err());
    assert!(others.iter().all(|found| matches!(found, Ok(2))), "{others:?}");
    assert_eq!(lookups, 2);
}

#[test]
fn the_memory_has_a_bound() {
    let coordinators = CoordinatorCache::default();
    for number in 0..=MOST {
        let key = CoordinatorKey { key_type: KeyType::Group, name: number.to_string().into() };
        let found = || Ok(Coordinator { broker: BrokerId(1), address: HostPort::new("a", 1) });
        coordinators.find(&key, &Hangup::default(), found).unwrap();
    }
    assert!(coordinators.0.lock().len() <= MOST);
}

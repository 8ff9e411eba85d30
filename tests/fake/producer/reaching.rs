//! Servers that take connections and never answer, servers that are gone, and brokers that are elsewhere.

use std::error::Error as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Error, ErrorKind, Producer, Timeout};
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// A server that takes connections and never answers.
struct Hung {
    listener: TcpListener,
    taken: Vec<TcpStream>,
}

impl Hung {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // The kernel completes connections; they wait here until they are counted.
        listener.set_nonblocking(true).unwrap();
        Self { listener, taken: Vec::new() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// How many connections there have been.
    fn visits(&mut self) -> usize {
        self.taken.extend(std::iter::from_fn(|| self.listener.accept().ok()).map(|(stream, _)| stream));
        self.taken.len()
    }
}

/// A port that nobody else gets, and where nobody listens.
fn dead() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap().to_string();
    (socket, address)
}

fn source(error: &Error) -> &Error {
    error.source().unwrap_or_else(|| panic!("no cause: {error:?}")).downcast_ref().unwrap()
}

#[test]
fn bootstrap_servers_that_hang_cost_their_set_up_time_once() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let (mut first, mut second, (_held, dead)) = (Hung::start(), Hung::start(), dead());
    let servers = [first.address(), dead, second.address(), cluster.bootstrap().remove(0)];
    let producer = Producer::builder(servers).connection_setup_timeout(ms(2500)).build().unwrap();
    let begin = Instant::now();
    succeed(&[send(&producer, "t", 0, 0)]);
    let taken = begin.elapsed();
    assert!((ms(5000)..AT_ONCE).contains(&taken), "{taken:?}; the request timeout is 30 s");
    assert_eq!((first.visits(), second.visits()), (1, 1));
    close(&producer);
}

#[test]
fn a_metadata_timeout_tells_who_has_not_answered() {
    watch_for_panics();
    let (_held, dead) = dead();
    let server = Hung::start();
    let hung = server.address();
    let (refused, not_made, not_answered) =
        (ErrorKind::Network, ErrorKind::Timeout(Timeout::Connect), ErrorKind::Timeout(Timeout::Request));
    // A first attempt that has failed, one that has come to no end, and one that has failed beside one that has not.
    let cases = [
        (vec![&*dead], 10_000, refused),
        (vec![&*hung], 100, not_made),
        (vec![&*hung], 10_000, not_answered),
        (vec![&*dead, &*hung], 10_000, refused),
    ];
    thread::scope(|scope| {
        for (servers, setup, kind) in cases {
            scope.spawn(move || {
                let limit = ms(4000);
                let producer = Producer::builder(servers.iter().copied())
                    .connection_setup_timeout(ms(setup))
                    .connection_setup_timeout_max(ms(setup))
                    .max_block(limit)
                    .build()
                    .unwrap();
                let by_connect = scope.spawn({
                    let producer = producer.clone();
                    move || producer.connect_timeout(limit).unwrap_err()
                });
                let by_send = failure(&send(&producer, "t", 0, 0));
                for error in [by_send, by_connect.join().unwrap()] {
                    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata), "{error}");
                    let cause = source(&error);
                    assert_eq!(cause.kind(), kind, "{servers:?}: {error:?}");
                    assert_eq!(cause.context().address.as_deref(), Some(servers[0]), "{error:?}");
                }
                close(&producer);
            });
        }
    });
}

#[test]
fn a_transactional_id_is_not_kept_from_its_coordinator_by_a_server_that_hangs() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let mut hung = Hung::start();
    let producer = Producer::builder([hung.address(), cluster.bootstrap().remove(0)])
        .transactional_id("id")
        .request_timeout(ms(3000))
        .connection_setup_timeout(ms(3000))
        .max_block(AT_ONCE)
        .build()
        .unwrap();
    producer.init_transactions().unwrap();
    let transaction = producer.transaction().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    transaction.commit().unwrap();
    assert_once_in_order(&cluster, "t", 0, 1);
    // The search for the coordinator and that for metadata begin at the same time.
    assert!((1..=2).contains(&hung.visits()), "{}", hung.visits());
    close(&producer);
}

#[test]
fn a_coordinator_that_freezes_is_not_asked_for_the_next_one() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    let producer = quick(&cluster).transactional_id("id").request_timeout(ms(3000)).max_block(BOUND).build().unwrap();
    producer.init_transactions().unwrap();
    for round in 0..3 {
        let frozen = cluster.transaction_coordinator("id").unwrap();
        let sound = BrokerId(3 - frozen.0);
        cluster.move_leader("t", 0, sound).unwrap();
        let transaction = producer.transaction().unwrap();
        succeed(&[send(&producer, "t", 0, round)]);
        let connections = cluster.connection_count(frozen);
        cluster.pause(frozen);
        cluster.move_transaction_coordinator("id", sound).unwrap();
        let begin = Instant::now();
        transaction.commit().unwrap();
        assert!(begin.elapsed() >= ms(2900), "the frozen one was to be asked, but {:?}", begin.elapsed());
        // There may be fewer: one that was left before ends meanwhile.
        let then = cluster.connection_count(frozen);
        assert!(then <= connections, "it was asked again after it had not answered: {connections}, then {then}");
        cluster.resume(frozen);
    }
    assert_eq!(numbers(&cluster, "t", 0), [0, 1, 2]);
    close(&producer);
}

#[test]
fn a_broker_that_is_silent_to_one_request_leaves_the_others_their_time() {
    watch_for_panics();
    at_once(0..2, |_| {
        let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
        cluster.move_leader("t", 0, BrokerId(1)).unwrap();
        let silent = cluster.inject(On::api(Api::InitProducerId).broker(BrokerId(1)).always(), Fault::Hang);
        // Metadata comes from broker 1, and nothing is known of the other one.
        let producer = quick(&cluster).request_timeout(ms(3000)).build().unwrap();
        succeed(&[send(&producer, "t", 0, 0)]);
        assert_eq!(silent.fired(), 1);
        assert_eq!(cluster.request_count(Api::InitProducerId), 2, "asked once, and then the other one");
        close(&producer);
    });
}

#[test]
fn known_brokers_are_asked_after_any_time_of_idleness() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(3).replication(1).topic("t", 3).start().unwrap();
    let trigger = ms(300);
    let producer = Producer::builder([cluster.address(BrokerId(1))])
        .rebootstrap_trigger(trigger)
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .max_block(AT_ONCE)
        .build()
        .unwrap();
    for partition in 0..3 {
        succeed(&[send(&producer, "t", partition, 0)]);
    }
    cluster.create_topic("u", 3).unwrap();
    let led = (0..3).find(|index| cluster.leader("u", *index).unwrap() == Some(BrokerId(3))).unwrap();
    // So long that nothing was asked for: that says nothing of the brokers.
    thread::sleep(3 * trigger);
    // The only bootstrap server, and another one.
    cluster.kill(BrokerId(1));
    cluster.kill(BrokerId(2));
    succeed(&[send(&producer, "u", led, 0)]);
    close(&producer);
}

#[test]
fn bootstrap_servers_are_asked_when_no_known_broker_answers() {
    watch_for_panics();
    let (old, new) = (one_topic("t", 1), one_topic("t", 1));
    // Only the old cluster's address is known at first: the second server is its broker, the first comes later.
    let (held, late) = dead();
    let producer = Producer::builder([late.clone(), old.address(BrokerId(1))])
        .rebootstrap_trigger(ms(200))
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .idempotence(false)
        .build()
        .unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    old.kill(BrokerId(1));
    let sent = send(&producer, "t", 0, 1);
    // A server at the first address that tells of the new cluster.
    let target: SocketAddr = new.address(BrokerId(1)).parse().unwrap();
    drop(held);
    let listener = TcpListener::bind(&*late).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, broker) = (client.unwrap(), TcpStream::connect(target).unwrap());
            let (mut to_client, mut from_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_broker, &mut to_client));
            thread::spawn(move || std::io::copy(&mut &client, &mut &broker));
        }
    });
    succeed(&[sent]);
    assert_eq!(numbers(&new, "t", 0), [1]);
    close(&producer);
}

#[test]
fn brokers_that_swap_their_addresses_are_followed() {
    watch_for_panics();
    for idempotent in [true, false] {
        let cluster = FakeCluster::builder().brokers(2).replication(1).topic("t", 2).start().unwrap();
        let producer = quick(&cluster).idempotence(idempotent).delivery_timeout(BOUND).build().unwrap();
        for partition in 0..2 {
            succeed(&[send(&producer, "t", partition, 0)]);
        }
        // The senders connect to where the brokers were before they hear where they are.
        let late = cluster.inject(On::api(Api::Metadata).always(), Fault::Delay(ms(3000)));
        cluster.swap_addresses(BrokerId(1), BrokerId(2)).unwrap();
        let sent: Vec<_> = (0..2).flat_map(|partition| send_all(&producer, "t", partition, 1, 20)).collect();
        let misled = || {
            cluster.requests().iter().filter(|request| request.api == Api::Produce).any(|request| {
                let led_here = |index: i32| cluster.leader("t", index).unwrap() == Some(request.broker);
                request.partitions.iter().any(|(_, index)| index.is_some_and(|index| !led_here(index)))
            })
        };
        until("a record goes to the wrong broker", misled);
        late.cancel();
        succeed(&sent);
        for partition in 0..2 {
            assert_once_in_order(&cluster, "t", partition, 20);
        }
        close(&producer);
    }
}

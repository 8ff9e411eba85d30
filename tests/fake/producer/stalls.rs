//! A broker that takes nothing for a while, and answers what it has taken.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, Producer, ProducerBuilder, Record};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

/// A producer that gives no request up.
fn patient_with_requests(cluster: &FakeCluster) -> ProducerBuilder {
    quick(cluster).send_buffer_bytes(32 * 1024).request_timeout(HOUR).delivery_timeout(2 * HOUR)
}

/// Sends a record of some hundred KiB, more than fits into the sockets between client and broker.
fn send_large(producer: &Producer, partition: i32) -> Delivery {
    producer.send(Record::to("t").partition(partition).value(vec![7; 900_000]))
}

/// Has broker 1 lead and know all partitions, so that more than one request may be in flight.
fn warm(cluster: &FakeCluster, producer: &Producer) {
    for partition in 0..3 {
        cluster.move_leader("t", partition, BROKER).unwrap();
        succeed(&[send(producer, "t", partition, 0)]);
    }
}

/// Has broker 1 answer a record of partition 0 a second after it came, and take nothing from then on, until the
/// connection is cut. Answers what was sent again before, and that record's handle.
fn stall(cluster: &FakeCluster, producer: &Producer) -> ((u64, u64), Delivery) {
    warm(cluster, producer);
    let fault = cluster.inject(On::produce().topic("t"), Fault::Stall { answer: ms(1000), pause: HOUR });
    let before = sent_again(producer);
    let delivery = send(producer, "t", 0, 1);
    assert!(fault.wait_fired(1, BOUND));
    (before, delivery)
}

/// How many batches were sent again, and how many connections have ended.
fn sent_again(producer: &Producer) -> (u64, u64) {
    let metrics = producer.metrics();
    (metrics.batches_retried, metrics.connections_lost)
}

#[test]
fn answers_are_taken_while_the_broker_takes_nothing() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).build().unwrap();
    let (before, answered) = stall(&cluster, &producer);
    let large: Vec<Delivery> = (0..3).map(|_| send_large(&producer, 1)).collect();
    succeed(&[answered]);
    // It was not sent again over another connection.
    assert_eq!(sent_again(&producer), before);
    assert!(large.iter().all(|delivery| !delivery.is_done()));
    cluster.cut_connections(BROKER);
    succeed(&large);
    assert_once_in_order(&cluster, "t", 0, 2);
    assert_eq!(cluster.records("t", 1).unwrap().len(), 4);
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn partitions_leave_a_broker_that_takes_nothing() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).metadata_max_age(ms(100)).build().unwrap();
    let (before, answered) = stall(&cluster, &producer);
    let large = send_large(&producer, 1);
    succeed(&[answered]);
    cluster.move_leader("t", 2, BrokerId(2)).unwrap();
    succeed(&[send(&producer, "t", 2, 1)]);
    assert_eq!(sent_again(&producer), before);
    assert!(!large.is_done());
    cluster.cut_connections(BROKER);
    succeed(&[large]);
    assert_once_in_order(&cluster, "t", 2, 2);
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn an_answer_is_taken_although_the_next_request_breaks_the_connection() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).build().unwrap();
    warm(&cluster, &producer);
    // The whole answer, and then the end of the connection, in the middle of the next request.
    let fault = cluster.inject(On::produce().topic("t"), Fault::Truncate(usize::MAX));
    cluster.pause(BROKER);
    let (before, requests) = (sent_again(&producer), producer.metrics().requests_sent);
    let answered = send(&producer, "t", 0, 1);
    until("the request is on its way", || producer.metrics().requests_sent == requests + 1);
    let large = send_large(&producer, 1);
    until("the next request is on its way", || producer.metrics().requests_in_flight == 2);
    cluster.resume(BROKER);
    succeed(&[answered, large]);
    assert_eq!(fault.fired(), 1);
    // That is the large one.
    assert_eq!(sent_again(&producer), (before.0 + 1, before.1 + 1));
    assert_once_in_order(&cluster, "t", 0, 2);
    close(&producer);
    assert_no_refusals(&cluster);
}

/// The next frame, with its length before it.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut frame = vec![0; 4 + u32::from_be_bytes(length) as usize];
    frame[..4].copy_from_slice(&length);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

/// Stands before a broker, and ends its side of the connection by which the first large request comes, of which it takes
/// nothing more: it neither reads it nor closes the socket, so that nothing tells the client which only writes. Answers its
/// address, and tells when it has done so.
fn relay(upstream: SocketAddr) -> (SocketAddr, Receiver<()>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(64).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let place = |address: SocketAddr| [b"127.0.0.1", &i32::from(address.port()).to_be_bytes()[..]].concat();
    let (there, here) = (place(upstream), place(address));
    let (tell, told) = channel();
    let has_ended_one = Arc::new(AtomicBool::new(false));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut broker) = (client.unwrap(), TcpStream::connect(upstream).unwrap());
            let (mut back, mut answers) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
            let (there, here) = (there.clone(), here.clone());
            thread::spawn(move || {
                while let Some(mut frame) = frame(&mut answers) {
                    // Whoever is told where the broker is comes here.
                    while let Some(at) = frame.windows(there.len()).position(|bytes| *bytes == *there) {
                        frame[at..at + here.len()].copy_from_slice(&here);
                    }
                    if back.write_all(&frame).is_err() {
                        break;
                    }
                }
                drop(back.shutdown(Shutdown::Both));
            });
            let (tell, has_ended_one) = (tell.clone(), Arc::clone(&has_ended_one));
            thread::spawn(move || {
                let mut length = [0; 4];
                loop {
                    match client.peek(&mut length) {
                        Ok(4) => {}
                        Ok(0) | Err(_) => break,
                        Ok(_) => continue,
                    }
                    if u32::from_be_bytes(length) > 100_000 && !has_ended_one.swap(true, Ordering::Relaxed) {
                        client.shutdown(Shutdown::Write).unwrap();
                        tell.send(()).unwrap();
                        // With the socket in its hand, to the end of the process.
                        thread::park_timeout(HOUR);
                    }
                    match frame(&mut client) {
                        Some(frame) if broker.write_all(&frame).is_ok() => {}
                        _ => break,
                    }
                }
                drop(broker.shutdown(Shutdown::Both));
            });
        }
    });
    (address, told)
}

#[test]
fn a_connection_that_ends_in_the_middle_of_a_request_is_noticed_although_its_socket_takes_nothing() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let (address, ended) = relay(cluster.bootstrap()[0].parse().unwrap());
    let producer = Producer::builder([address.to_string()])
        .linger(ms(0))
        .send_buffer_bytes(32 * 1024)
        .request_timeout(HOUR)
        .delivery_timeout(2 * HOUR)
        .build()
        .unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    let large = send_large(&producer, 0);
    ended.recv_timeout(BOUND).unwrap();
    // Not at the request time-out of an hour.
    succeed(&[large]);
    assert_eq!(producer.metrics().connections_lost, 1);
    assert_eq!(cluster.records("t", 0).unwrap().len(), 2);
    close(&producer);
    assert_no_refusals(&cluster);
}

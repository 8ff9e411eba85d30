//! Producers that share a cluster, while brokers die and connections break.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Producer, Record};

use super::load::{Flow, Load};
use crate::support::proxy::{Cut, Fault, PRODUCE};
use crate::support::wait_for;
use crate::{LIMIT, await_in_sync, sound_cluster, turn};

/// Records a second of each producer.
const RATE: u64 = 4_000;

#[test]
fn a_producer_that_is_closed_under_faults_disturbs_none_that_shares_its_cluster() {
    let _turn = turn();
    let kafka = sound_cluster();
    let load = |name: &str| Load::new(name).partitions(6).threads(2).until_the_end(RATE).create(kafka);
    let (of_ends, of_lives) = (load("faults.shared-ends"), load("faults.shared-lives"));
    let cluster = kafka_blocking::Cluster::builder(kafka.bootstrap())
        .retry_backoff(Duration::from_millis(20))
        .reconnect_backoff(Duration::from_millis(10))
        .build()
        .unwrap();
    let proxies = || (0..kafka.len()).map(|node| kafka.proxy(node));
    let counts = || {
        let counts = proxies().map(|proxy| proxy.counts());
        counts.fold((0, 0), |(cut, lost), counts| (cut + counts.connections_cut, lost + counts.answers_lost))
    };
    let before = counts();
    let (close, to_close) = channel::<()>();
    let (closed, when_closed) = channel();
    let (end, to_end) = channel::<()>();
    let (ends, lives) = thread::scope(|scope| {
        let of_ends = &of_ends;
        let ends = scope.spawn({
            let builder = Producer::on(&cluster).client_id("ends");
            move || {
                of_ends.run(kafka, builder, u64::MAX, |flow, producer| {
                    flow.await_acked(RATE);
                    to_close.recv().unwrap();
                    // Under load: its threads go on sending, and are refused.
                    let undelivered = producer.close_timeout(Duration::from_secs(20));
                    let refused = producer.send(Record::to(of_ends.topic()).value("late")).wait();
                    closed.send((undelivered.is_ok(), refused.is_err())).unwrap();
                    // It is judged when the cluster is sound again.
                    to_end.recv().unwrap();
                })
            }
        });
        let lives = of_lives.run(kafka, Producer::on(&cluster).client_id("lives"), u64::MAX, |flow, producer| {
            // Whatever happens here, the other one's script must not wait for ever.
            let (close, end) = (close, end);
            let goes_on = |flow: &Flow, what: &str| {
                // What is sent from now on is acknowledged in every partition.
                flow.mark(0..6);
                flow.await_recovery();
                assert_eq!(producer.partitions_for(of_lives.topic()).unwrap().len(), 6, "{what}");
            };
            flow.await_acked(RATE);
            for proxy in proxies() {
                proxy.cut_every(Some(Duration::from_millis(190)..Duration::from_millis(210)), Cut::Reset);
                proxy.inject(PRODUCE, 20, Fault::LoseAnswer(Cut::Fin));
            }
            wait_for("the faults", LIMIT, || {
                let (cut, lost) = counts();
                (cut >= before.0 + 30 && lost >= before.1 + 5).then_some(())
            });
            goes_on(flow, "while connections are cut");
            let leader = kafka.admin().leader(of_lives.topic(), 0);
            let node = kafka.node_of(leader);
            kafka.kill(node);
            close.send(()).unwrap();
            let (delivered, refused) = when_closed.recv_timeout(LIMIT).unwrap();
            assert!(delivered && refused, "{delivered} {refused}");
            goes_on(flow, "without the broker, after the other one's close");
            kafka.spawn(node);
            kafka.wait_ready(node);
            proxies().for_each(|proxy| proxy.pass());
            await_in_sync(kafka, of_lives.topic());
            goes_on(flow, "with the broker again");
            // A producer that comes now shares what is known, and goes again.
            let third = Producer::on(&cluster).build().unwrap();
            third.connect_timeout(LIMIT).unwrap();
            assert_eq!(third.partitions_for(of_ends.topic()).unwrap().len(), 6);
            drop(third);
            goes_on(flow, "after a third one's drop");
            end.send(()).unwrap();
        });
        (ends.join().unwrap(), lives)
    });
    let (cut, lost) = counts();
    let faults = format!("{} cuts, {} answers lost, one kill", cut - before.0, lost - before.1);
    ends.print("the producer that was closed", &faults);
    lives.print("the one that shared its cluster", &faults);
    // Nothing lost, nothing twice, nothing out of order, and no record failed.
    lives.assert_all_delivered();
    assert!(lives.errors.is_empty(), "{:?}", lives.errors);
    assert!(lives.metrics.connections_lost >= 3 && lives.metrics.batches_retried >= 5, "{:?}", lives.metrics);
    // Of the one that was closed: what it has acknowledged is there once, and what it has refused is not there.
    ends.report.assert_safe();
    assert!(ends.report.acked >= RATE && ends.report.failed > 0, "{}", ends.report);
    assert!(ends.errors.keys().all(|error| error.starts_with("Closed")), "{:?}", ends.errors);
    assert!(ends.metrics.connections_lost >= 3, "{:?}", ends.metrics);
    // The last handle ends the thread within its bound.
    let begun = Instant::now();
    drop(cluster);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

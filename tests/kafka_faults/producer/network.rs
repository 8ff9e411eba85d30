//! Connections break, stall and lie; the brokers are well.

use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Acks, Producer, ProducerBuilder};

use super::load::{Flow, Load, Outcome};
use crate::support::kafka::Cluster;
use crate::support::proxy::{Counts, Cut, Fault, PRODUCE};
use crate::support::wait_for;
use crate::{LIMIT, sound_cluster, turn};

const MILLION: u64 = 1_000_000;

fn proxies(cluster: &Cluster) -> impl Iterator<Item = &crate::support::proxy::Proxy> {
    (0..cluster.len()).map(|node| cluster.proxy(node))
}

/// The sum over all proxies of one figure.
fn count(cluster: &Cluster, figure: impl Fn(&Counts) -> u64) -> u64 {
    proxies(cluster).map(|proxy| figure(&proxy.counts())).sum()
}

/// Retries soon, so that the tests are short.
fn quick(cluster: &Cluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
        .retry_backoff(Duration::from_millis(20))
        .reconnect_backoff(Duration::from_millis(10))
}

/// Without idempotence, so that what is sent again is written again.
fn plain(cluster: &Cluster) -> ProducerBuilder {
    quick(cluster).idempotence(false).acks(Acks::Leader)
}

#[test]
fn a_million_records_while_connections_are_cut() {
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.cuts").create(cluster);
    let before = count(cluster, |counts| counts.connections_cut);
    let cut = |how| {
        for proxy in proxies(cluster) {
            proxy.cut_every(Some(Duration::from_millis(190)..Duration::from_millis(210)), how);
        }
    };
    cut(Cut::Reset);
    let mut resets = 0;
    let script = |flow: &Flow, _: &Producer| {
        flow.await_acked(MILLION / 2);
        resets = count(cluster, |counts| counts.connections_cut) - before;
        cut(Cut::Fin);
        flow.open(MILLION);
        flow.await_acked(MILLION);
    };
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), MILLION / 2, script);
    proxies(cluster).for_each(|proxy| proxy.pass());
    let fins = count(cluster, |counts| counts.connections_cut) - before - resets;
    outcome.print("connections cut every 200 ms", format_args!("{resets} resets, {fins} ends"));
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
    assert!(resets >= 10 && fins >= 10 && outcome.metrics.batches_retried >= 10);
}

#[test]
fn order_holds_without_idempotence_while_connections_are_cut() {
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.plain-cuts").records(300_000).create(cluster);
    let before = count(cluster, |counts| counts.connections_cut);
    for proxy in proxies(cluster) {
        proxy.cut_every(Some(Duration::from_millis(50)..Duration::from_millis(150)), Cut::Reset);
    }
    let outcome = load.run(cluster, plain(cluster).batch_records(200), u64::MAX, |_, _| {});
    proxies(cluster).for_each(|proxy| proxy.pass());
    let cuts = count(cluster, |counts| counts.connections_cut) - before;
    outcome.print("cuts, acks 1, not idempotent", format_args!("{cuts} cuts"));
    assert_eq!(outcome.report.faults_but_duplicates(), 0, "{}", outcome.report);
    assert_eq!(outcome.report.acked, outcome.report.accepted, "{}", outcome.report);
    assert!(cuts >= 10 && outcome.metrics.batches_retried >= 10);
}

/// One batch is refused for its size and goes on in parts, while the next, which is smaller, would be taken.
#[test]
fn order_holds_while_batches_are_split() {
    let _turn = turn();
    let cluster = sound_cluster();
    for (topic, builder) in [("faults.split", quick(cluster)), ("faults.plain-split", plain(cluster))] {
        let load = Load::new(topic).partitions(3).threads(3).records(30_000).create(cluster);
        cluster.admin().configure_topic(topic, &["max.message.bytes=4000"]);
        // Pauses, so that batches are of all sizes.
        let script = |flow: &Flow, _: &Producer| {
            for round in 1..=60 {
                // What a partition has learnt of its topic's limit is wrong again after that.
                if let Some(limit) =
                    [(20, 2000), (40, 1000)].iter().find(|(at, _)| *at == round).map(|(_, limit)| limit)
                {
                    cluster.admin().configure_topic(topic, &[&format!("max.message.bytes={limit}")]);
                }
                thread::sleep(Duration::from_millis(10));
                flow.open(round * 500 + 30 * (round % 7));
            }
        };
        let outcome = load.run(cluster, builder.linger(Duration::from_millis(1)), 500, script);
        outcome.print(topic, format_args!("{} batches split", outcome.metrics.batches_split));
        // Nothing was lost on the way, so nothing can have been written twice either.
        outcome.assert_all_delivered();
        // A partition that has learnt the limit splits no more: some for each of three partitions, three times.
        assert!(outcome.metrics.batches_split >= 9, "{} batches were split", outcome.metrics.batches_split);
    }
}

/// Sends while every `every`-th Produce or its answer has this fault, in turn on all brokers.
fn with_fault(topic: &str, records: u64, every: u64, fault: &Fault, builder: ProducerBuilder) -> (Outcome, Counts) {
    let cluster = sound_cluster();
    // A row of small batches, so that there are many requests.
    let load = Load::new(topic).records(records).create(cluster);
    let before: Vec<Counts> = proxies(cluster).map(|proxy| proxy.counts()).collect();
    proxies(cluster).for_each(|proxy| proxy.inject(PRODUCE, every, fault.clone()));
    let outcome = load.run(cluster, builder.batch_records(50), u64::MAX, |_, _| {});
    proxies(cluster).for_each(|proxy| proxy.pass());
    let sum = |figure: fn(&Counts) -> u64| count(cluster, figure) - before.iter().map(figure).sum::<u64>();
    let counts = Counts {
        requests_cut: sum(|counts| counts.requests_cut),
        responses_cut: sum(|counts| counts.responses_cut),
        answers_lost: sum(|counts| counts.answers_lost),
        hangs: sum(|counts| counts.hangs),
        answers_delayed: sum(|counts| counts.answers_delayed),
        answers_skipped: sum(|counts| counts.answers_skipped),
        answers_duplicated: sum(|counts| counts.answers_duplicated),
        answers_miscorrelated: sum(|counts| counts.answers_miscorrelated),
        ..Counts::default()
    };
    (outcome, counts)
}

#[test]
fn answers_lost_after_the_write_duplicate_nothing() {
    let _turn = turn();
    let builder = quick(sound_cluster());
    let fault = Fault::LoseAnswer(Cut::Reset);
    let (outcome, counts) = with_fault("faults.lost-answers", 100_000, 5, &fault, builder);
    outcome.print("answers lost", format_args!("{} answers", counts.answers_lost));
    outcome.assert_all_delivered();
    assert!(counts.answers_lost >= 50, "only {} answers were lost", counts.answers_lost);
    assert!(outcome.metrics.batches_retried >= counts.answers_lost);
}

#[test]
fn without_idempotence_lost_answers_duplicate_and_the_order_holds() {
    let _turn = turn();
    let builder = plain(sound_cluster());
    let fault = Fault::LoseAnswer(Cut::Fin);
    let (outcome, counts) = with_fault("faults.plain-lost-answers", 100_000, 5, &fault, builder);
    outcome.print("answers lost, acks 1, not idempotent", format_args!("{} answers", counts.answers_lost));
    assert!(outcome.report.duplicated > 0, "what was lost was not written, or the judge is blind: {}", outcome.report);
    assert_eq!(outcome.report.faults_but_duplicates(), 0, "{}", outcome.report);
    assert_eq!(outcome.report.acked, outcome.report.accepted, "{}", outcome.report);
}

#[test]
fn requests_cut_short_are_sent_again() {
    let _turn = turn();
    let builder = quick(sound_cluster());
    let fault = Fault::CutRequest(0..20_000, Cut::Reset);
    let (outcome, counts) = with_fault("faults.requests-cut", 50_000, 5, &fault, builder);
    outcome.print("requests cut", format_args!("{} requests", counts.requests_cut));
    outcome.assert_all_delivered();
    assert!(counts.requests_cut >= 20 && outcome.metrics.batches_retried >= 20);
}

#[test]
fn responses_cut_short_acknowledge_nothing_wrong() {
    let _turn = turn();
    let builder = quick(sound_cluster());
    let fault = Fault::CutResponse(0..200, Cut::Fin);
    let (outcome, counts) = with_fault("faults.responses-cut", 50_000, 5, &fault, builder);
    outcome.print("responses cut", format_args!("{} responses", counts.responses_cut));
    outcome.assert_all_delivered();
    assert!(counts.responses_cut >= 20 && outcome.metrics.batches_retried >= 20);
}

#[test]
fn answers_with_a_wrong_correlation_id_are_believed_by_nobody() {
    let _turn = turn();
    let builder = quick(sound_cluster());
    let (outcome, counts) = with_fault("faults.miscorrelated", 50_000, 5, &Fault::WrongCorrelation, builder);
    outcome.print("wrong correlation ids", format_args!("{} answers", counts.answers_miscorrelated));
    outcome.assert_all_delivered();
    assert!(counts.answers_miscorrelated >= 20);
    assert!(outcome.metrics.connections_lost >= counts.answers_miscorrelated / 2);
}

#[test]
fn answers_that_come_twice_are_not_taken_for_others() {
    let _turn = turn();
    let builder = quick(sound_cluster());
    let (outcome, counts) = with_fault("faults.answers-twice", 50_000, 5, &Fault::Duplicate, builder);
    outcome.print("answers twice", format_args!("{} answers", counts.answers_duplicated));
    outcome.assert_all_delivered();
    assert!(counts.answers_duplicated >= 20);
    assert!(outcome.metrics.connections_lost >= counts.answers_duplicated / 2);
}

#[test]
fn answers_that_are_left_out_shift_no_other() {
    let _turn = turn();
    let builder = quick(sound_cluster()).request_timeout(Duration::from_secs(1));
    let (outcome, counts) = with_fault("faults.answers-skipped", 50_000, 10, &Fault::Skip, builder);
    outcome.print("answers left out", format_args!("{} answers", counts.answers_skipped));
    outcome.assert_all_delivered();
    assert!(counts.answers_skipped >= 5 && outcome.metrics.connections_lost >= counts.answers_skipped / 2);
}

#[test]
fn answers_that_never_come_are_not_waited_for() {
    let _turn = turn();
    let builder = quick(sound_cluster()).request_timeout(Duration::from_millis(500));
    let (outcome, counts) = with_fault("faults.hangs", 20_000, 10, &Fault::Hang, builder);
    outcome.print("answers that never come", format_args!("{} connections", counts.hangs));
    outcome.assert_all_delivered();
    assert!(counts.hangs >= 5 && outcome.metrics.connections_lost >= counts.hangs / 2);
}

#[test]
fn answers_that_come_too_late_are_not_taken() {
    let _turn = turn();
    let builder = quick(sound_cluster()).request_timeout(Duration::from_millis(500));
    let late = Fault::Delay(Duration::from_secs(5));
    let (outcome, counts) = with_fault("faults.late-answers", 20_000, 10, &late, builder);
    outcome.print("answers that come too late", format_args!("{} answers", counts.answers_delayed));
    outcome.assert_all_delivered();
    assert!(counts.answers_delayed >= 5 && outcome.metrics.connections_lost >= counts.answers_delayed / 2);
}

#[test]
fn a_silent_connection_is_given_up_after_the_request_timeout() {
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.blackhole").until_the_end(2_000).create(cluster);
    let mut detected = Duration::MAX;
    let script = |flow: &Flow, producer: &Producer| {
        flow.await_acked(2_000);
        let lost = producer.metrics().connections_lost;
        let begin = Instant::now();
        proxies(cluster).for_each(|proxy| proxy.blackhole(true));
        // All three, since all have requests on their way.
        wait_for("the connections to be given up", LIMIT, || {
            (producer.metrics().connections_lost >= lost + 3).then_some(())
        });
        detected = begin.elapsed();
        flow.mark(0..12);
        // What was held back goes on to the brokers now, behind the back of the producer.
        proxies(cluster).for_each(|proxy| proxy.blackhole(false));
        flow.await_recovery();
        thread::sleep(Duration::from_secs(1));
    };
    let outcome = load.run(cluster, quick(cluster).request_timeout(REQUEST_TIMEOUT), u64::MAX, script);
    outcome.print("half-open connections", format_args!("silence, noticed after {detected:.2?}"));
    outcome.assert_all_delivered();
    // What was on its way had been for a while, and the default is 30 s.
    assert!(detected >= REQUEST_TIMEOUT / 2, "noticed after {detected:?}");
    assert!(detected <= Duration::from_secs(25), "noticed after {detected:?}");
}

#[test]
fn answers_are_taken_at_once_while_brokers_take_nothing() {
    const STALL: Duration = Duration::from_secs(8);
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.stall").until_the_end(40_000).create(cluster);
    proxies(cluster).for_each(|proxy| proxy.receive_buffer(16 * 1024));
    let given = || count(cluster, |counts| counts.responses.get(&PRODUCE).copied().unwrap_or(0));
    let taken = || count(cluster, |counts| counts.bytes_to_broker);
    let given_before = given();
    let mut answered = Duration::MAX;
    let script = |flow: &Flow, producer: &Producer| {
        flow.await_acked(40_000);
        // So that there are as many requests without an answer as there may be, and more to be sent than fits into the
        // sockets.
        proxies(cluster).for_each(|proxy| proxy.inject(PRODUCE, 1, Fault::Delay(Duration::from_secs(2))));
        wait_for("requests without an answer", LIMIT, || (producer.metrics().requests_in_flight >= 15).then_some(()));
        let answers = || given() - given_before;
        wait_for("their answers, on the way", LIMIT, || {
            let metrics = producer.metrics();
            (metrics.requests_in_flight >= 15 && answers() == metrics.requests_sent).then_some(())
        });
        proxies(cluster).for_each(|proxy| proxy.hold_requests(true));
        let (begin, given, taken_before) = (Instant::now(), answers(), taken());
        wait_for("the answers", LIMIT, || {
            let metrics = producer.metrics();
            (metrics.requests_sent - metrics.requests_in_flight >= given).then_some(())
        });
        answered = begin.elapsed();
        thread::sleep(STALL.saturating_sub(begin.elapsed()));
        let more = taken() - taken_before;
        assert!(more < 100_000, "the brokers took {more} bytes");
        proxies(cluster).for_each(|proxy| proxy.pass());
        let acked = producer.metrics().records_acknowledged;
        flow.await_acked(acked + 100_000);
    };
    let outcome = load.run(cluster, quick(cluster).send_buffer_bytes(32 * 1024), u64::MAX, script);
    proxies(cluster).for_each(|proxy| proxy.receive_buffer(0));
    outcome.print("brokers that take nothing for 8 s", format_args!("all answers taken after {answered:.2?}"));
    outcome.assert_all_delivered();
    assert!(answered < STALL, "the answers were taken after {answered:?}");
    let metrics = &outcome.metrics;
    assert_eq!(metrics.connections_lost, 0, "{metrics:?}");
    // Except what a broker refused because another leads.
    assert!(metrics.batches_retried <= metrics.error_answers, "{metrics:?}");
    assert!(outcome.longest_stall >= STALL - Duration::from_secs(3), "the stall was not felt");
}

#[test]
fn a_slow_link_is_no_broken_one() {
    let _turn = turn();
    let cluster = sound_cluster();
    let slow = |topic: &str, records: u64, how: &dyn Fn(&crate::support::proxy::Proxy)| {
        let load = Load::new(topic).records(records).create(cluster);
        proxies(cluster).for_each(how);
        let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), u64::MAX, |_, _| {});
        proxies(cluster).for_each(|proxy| proxy.pass());
        outcome.assert_all_delivered();
        let metrics = &outcome.metrics;
        assert_eq!(metrics.connections_lost, 0, "{metrics:?}");
        // Except what a broker refused because another leads.
        assert!(metrics.batches_retried == 0 || metrics.error_answers > 0, "{metrics:?}");
        outcome
    };
    let late = slow("faults.late", 20_000, &|proxy| proxy.delay(Duration::from_millis(50), Duration::from_millis(30)));
    late.print("slow link", "50 ms give or take 30 ms each way");
    assert!(late.longest_delivery >= Duration::from_millis(60));
    let narrow = slow("faults.narrow", 10_000, &|proxy| proxy.rate(Some(100_000)));
    narrow.print("slow link", "100 kB/s each way");
    assert!(narrow.sending >= Duration::from_secs(2));
    let chopped = slow("faults.chopped", 2_000, &|proxy| proxy.chunk(Some(1)));
    chopped.print("slow link", "single bytes");
}

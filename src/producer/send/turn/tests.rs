//! The promises of the turn, one by one, with a clock that is moved by hand and a broker that says what the test wants.

#![expect(unused_must_use, reason = "most of these tests look at the turn, and not at the handles")]

use super::rig::{Answer, FIRST, Rig, SentBatch, Setup, failure, frame, offset, response, snapshot};
use super::*;
use crate::error::{Timeout, Written};
use crate::net::HostPort;
use crate::producer::api::delivery::Delivery;
use crate::producer::send::bell::Wakeful;
use crate::protocol::messages::ProduceResponse;
use crate::topic::ProducerIdAndEpoch;

const SECOND: Duration = Duration::from_secs(1);

fn is_refresh(action: &Action) -> bool {
    matches!(action, Action::RefreshMetadata)
}

fn is_connect(action: &Action) -> bool {
    matches!(action, Action::Connect)
}

fn is_disconnect(action: &Action) -> bool {
    matches!(action, Action::Disconnect)
}

fn batches(rig: &Rig) -> impl Iterator<Item = &SentBatch> {
    rig.sent.iter().flat_map(|request| &request.batches)
}

fn values(rig: &Rig) -> Vec<String> {
    batches(rig).map(|batch| batch.values.join(",")).collect()
}

/// Partition, epoch and sequence of all that is in flight.
fn stamps(rig: &Rig) -> Vec<(i32, i16, i32)> {
    batches(rig).map(|batch| (batch.index, batch.identity.epoch, batch.sequence)).collect()
}

fn linger(linger: Duration) -> Setup {
    Setup { linger, batch_records: 100, ..Setup::new() }
}

fn short() -> Setup {
    Setup { delivery_timeout: 10 * SECOND, ..Setup::new() }
}

// ---- what goes into a request ----

#[test]
fn nothing_is_pipelined_before_the_first_acknowledgement_then_up_to_the_limit() {
    let mut rig = Rig::new(Setup::new());
    for n in 0..9 {
        rig.send(0, &n.to_string());
    }
    assert_eq!(values(&rig), ["0"]);
    rig.answer_ok();
    assert_eq!(stamps(&rig), [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5)]);
    assert_eq!(rig.turn.wakeful(rig.now), Wakeful::Never, "a batch that cannot be sent needs no wake-up");
    rig.answer_ok();
    assert_eq!(values(&rig), ["2", "3", "4", "5", "6"]);
}

#[test]
fn one_request_carries_one_batch_of_every_ready_partition() {
    let mut rig = Rig::new(Setup { topics: vec![("t", 2), ("u", 1)], ..Setup::new() });
    for (partition, value) in [(0, "a"), (2, "b"), (1, "c"), (0, "d")] {
        rig.put(partition, value);
    }
    rig.run();
    assert_eq!(rig.sent.len(), 1);
    let mut all: Vec<_> = batches(&rig).map(|batch| (&*batch.topic, batch.index, batch.values.join(","))).collect();
    all.sort();
    assert_eq!(all, [("t", 0, "a".into()), ("t", 1, "c".into()), ("u", 0, "b".into())]);
    rig.answer_ok();
    assert_eq!(values(&rig), ["d"]);
}

#[test]
fn a_request_stays_within_its_size_but_a_lone_larger_batch_goes() {
    for batch_records in [1, 100] {
        let mut setup = Setup { batch_records, topics: vec![("t", 6)], ..Setup::new() };
        setup.rules.max_request_size = 250;
        let mut rig = Rig::new(setup);
        for partition in 0..5 {
            rig.put(partition, &"x".repeat(40));
        }
        rig.put(5, &"y".repeat(1000));
        rig.run();
        for request in &rig.sent {
            let bytes: usize = request.batches.iter().map(|batch| batch.bytes.len()).sum();
            assert!(bytes <= 250 || request.batches.len() == 1, "{bytes} bytes");
        }
        assert_eq!(batches(&rig).count(), 6);
        assert!(rig.sent.len() < 6);
    }
}

#[test]
fn a_batch_lingers_and_is_sent_when_its_time_has_come() {
    let mut rig = Rig::new(linger(10 * SECOND));
    rig.send(0, "a");
    rig.send(0, "b");
    assert!(rig.sent.is_empty());
    let due = rig.turn.deadline(rig.now).unwrap();
    assert!(due > rig.now + 9 * SECOND && due < rig.now + 11 * SECOND);
    rig.now = due;
    rig.run();
    assert_eq!(values(&rig), ["a,b"]);
}

#[test]
fn a_full_batch_does_not_linger() {
    let mut rig = Rig::new(Setup { batch_records: 2, ..linger(10 * SECOND) });
    for value in ["a", "b", "c"] {
        rig.send(0, value);
    }
    assert_eq!(values(&rig), ["a,b"]);
}

#[test]
fn a_hurry_ends_the_linger() {
    let mut rig = Rig::new(linger(3600 * SECOND));
    rig.send(0, "a");
    assert!(rig.sent.is_empty());
    rig.partitions[0].hurry_open();
    // The hurry is of the real clock, which may be ahead.
    rig.after(60 * SECOND);
    assert_eq!(values(&rig), ["a"]);
}

#[test]
fn a_thread_that_waits_for_memory_ends_the_linger_of_all() {
    let mut rig = Rig::new(Setup { buffer_memory: 1 << 10, ..linger(3600 * SECOND) });
    rig.send(0, "a");
    assert!(rig.sent.is_empty());
    let budget = Arc::clone(&rig.bench.common.budget);
    let (queued, when_queued) = crossbeam_channel::bounded(1);
    let waiter = std::thread::spawn(move || {
        budget.reserve(1, Instant::now() + 60 * SECOND, || queued.send(()).unwrap()).is_ok()
    });
    when_queued.recv().unwrap();
    rig.turn.look_at_all();
    rig.run();
    assert_eq!(values(&rig), ["a"]);
    rig.answer_ok();
    assert!(waiter.join().unwrap());
}

#[test]
fn batches_sealed_before_the_open_one_go_first() {
    let mut rig = Rig::new(Setup { batch_records: 2, ..Setup::new() }).warmed();
    for n in 0..5 {
        rig.put(0, &n.to_string());
    }
    rig.run();
    assert_eq!(values(&rig), ["0,1", "2,3", "4"]);
}

#[test]
fn back_pressure_gathers_records() {
    let mut setup = Setup { batch_records: 100, ..Setup::new() };
    setup.rules.max_in_flight = 1;
    let mut rig = Rig::new(setup);
    for n in 0..10 {
        rig.send(0, &n.to_string());
    }
    rig.answer_ok();
    assert_eq!(values(&rig), ["1,2,3,4,5,6,7,8,9"]);
}

#[test]
fn topics_go_by_id_unless_one_is_unknown() {
    let mut rig = Rig::new(Setup { version: 13, topics: vec![("t", 1), ("u", 1)], ..Setup::new() });
    let delivery = rig.send(0, "a");
    assert_eq!((rig.sent[0].version, &*rig.sent[0].batches[0].topic), (13, ""));
    assert_eq!(rig.sent[0].batches[0].topic_id, Uuid([1; 16]));
    rig.answer_ok();
    assert_eq!(offset(&delivery), 0);
    rig.snapshot = snapshot(&[("t", 1, &[(0, 0)]), ("u", 0, &[(0, 0)])]);
    let delivery = rig.send(1, "b");
    assert_eq!((rig.sent[0].version, &*rig.sent[0].batches[0].topic), (12, "u"));
    rig.answer_ok();
    assert_eq!(offset(&delivery), 0);
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_fails_on_a_broker_that_does_not_know_it_and_so_do_later_records() {
    let mut setup = Setup { version: 6, ..Setup::new() };
    setup.rules.compression = Compression::from_id(4).unwrap();
    let mut rig = Rig::new(setup);
    for n in 0..3 {
        let error = failure(&rig.send(0, &n.to_string()));
        assert_eq!((error.kind(), error.written()), (ErrorKind::UnsupportedVersion, Some(Written::No)));
    }
    assert!(rig.sent.is_empty());
}

// ---- retries ----

#[test]
fn sequences_are_assigned_once_and_a_retried_batch_goes_alone_and_in_order() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let deliveries: Vec<_> = (0..4).map(|n| rig.send(0, &n.to_string())).collect();
    assert_eq!(stamps(&rig), [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4)]);
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    for _ in 0..3 {
        rig.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert!(rig.sent.is_empty(), "the back-off is not over");
    rig.after(SECOND);
    for n in 0..4 {
        assert_eq!(rig.on_the_wire(), [(0, 1 + n, n.to_string())], "a batch that was sent before goes alone");
        rig.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_retry_waits_for_its_back_off_unless_there_is_a_new_leader_epoch() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    rig.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(rig.take_actions(is_refresh), 1);
    rig.after(Duration::from_millis(79));
    assert!(rig.sent.is_empty());
    assert!(rig.turn.deadline(rig.now).unwrap() <= rig.now + Duration::from_millis(41));
    rig.lead(&[(0, 0), (0, 0), (0, 0)]);
    assert!(rig.sent.is_empty());
    rig.lead(&[(0, 1), (0, 0), (0, 0)]);
    assert_eq!(values(&rig), ["a"]);
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    rig.after(Duration::from_millis(159));
    assert!(rig.sent.is_empty(), "the second wait is longer");
    rig.after(Duration::from_millis(82));
    assert_eq!(values(&rig), ["a"]);
}

#[test]
fn retries_can_be_used_up() {
    let mut setup = Setup::new();
    setup.rules.retries = 1;
    let mut rig = Rig::new(setup).warmed();
    let delivery = rig.send(0, "a");
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    rig.after(SECOND);
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    let error = failure(&delivery);
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!((error.written(), error.context().attempts), (Some(Written::No), Some(2)));
    let delivery = rig.send(0, "b");
    assert_eq!(rig.on_the_wire(), [(0, 1, "b".into())], "the numbers of what was refused are used again");
    rig.lose();
    assert!(!delivery.is_done());
    rig.reconnect();
    rig.lose();
    let error = failure(&delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Network, Some(Written::Maybe)));
}

#[test]
fn a_batch_recognised_late_does_not_take_the_sequence_back() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let (a, b) = (rig.send(0, "a"), rig.send(0, "b"));
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    rig.answer(|_| Answer::ok(2));
    rig.after(SECOND);
    assert_eq!(rig.on_the_wire(), [(0, 1, "a".into())]);
    rig.answer(|_| Answer::ok(1));
    assert_eq!((offset(&a), offset(&b)), (1, 2));
    let refused = rig.send(0, "c");
    rig.answer_error(ErrorCode::INVALID_RECORD);
    assert_eq!(failure(&refused).written(), Some(Written::No));
    rig.send(0, "d");
    assert_eq!(rig.on_the_wire(), [(0, 3, "d".into())], "2 is in the log already");
}

#[test]
fn what_is_in_the_log_keeps_its_numbers_when_others_are_renumbered() {
    let mut rig = Rig::new(Setup::new()).warmed();
    for value in ["a", "b", "c"] {
        rig.send(0, value);
    }
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    rig.answer(|_| Answer::ok(2));
    rig.answer_error(ErrorCode::INVALID_RECORD);
    rig.after(SECOND);
    assert_eq!(rig.on_the_wire(), [(0, 1, "a".into())]);
}

#[test]
fn a_gap_before_a_batch_whose_request_may_be_alive_is_not_closed() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let (a, b) = (rig.send(0, "a"), rig.send(0, "b"));
    rig.answer_error(ErrorCode::INVALID_RECORD);
    assert_eq!(failure(&a).written(), Some(Written::No));
    rig.lose();
    rig.reconnect();
    // Under the old epoch `b` as 1 and, late, `b` as 2 would both be taken.
    assert_eq!(stamps(&rig), [(0, 1, 0)]);
    rig.answer_ok();
    assert!(b.try_wait().unwrap().is_ok());
}

// ---- deadlines ----

#[test]
fn a_queued_batch_expires_as_not_written_with_the_last_cause() {
    let mut rig = Rig::unconnected(Setup::new());
    let deliveries = [rig.send(0, "a"), rig.send(0, "b")];
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.after(119 * SECOND);
    assert!(!deliveries[0].is_done());
    rig.turn.lost(Error::network("refused"), rig.now);
    rig.after(2 * SECOND);
    for error in deliveries.iter().map(failure) {
        assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Delivery), Some(Written::No)));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("refused"));
    }
    assert_eq!(rig.bench.common.budget.used(), 0);
}

#[test]
fn a_lingering_batch_expires() {
    let mut rig = Rig::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let delivery = rig.send(0, "a");
    rig.after(9 * SECOND);
    assert!(!delivery.is_done());
    rig.after(2 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_sealed_batch_expires_while_a_connection_is_being_made() {
    let mut rig = Rig::unconnected(Setup { batch_records: 2, ..linger(3600 * SECOND) });
    rig.send(0, "a");
    let delivery = rig.send(0, "b");
    assert!(rig.turn.deadline(rig.now).is_some(), "nobody would wake for the sealed batch");
    rig.after(121 * SECOND);
    assert_eq!(failure(&delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
}

#[test]
fn a_batch_whose_thread_waited_expires_before_an_older_one() {
    let mut rig = Rig::unconnected(Setup::new());
    rig.lead(&[(-1, 0), (-1, 0), (-1, 0)]);
    rig.now += 100 * SECOND;
    let first = rig.put(0, "a");
    rig.bench.accumulator.batch_records = 2;
    let open = rig.bench.send(&rig.partitions[0], b"b", Some(rig.now - 50 * SECOND), None);
    rig.run();
    rig.after(71 * SECOND);
    assert!(open.is_done() && !first.is_done());
    rig.after(50 * SECOND);
    assert!(first.is_done());
}

#[test]
fn a_batch_of_a_throttled_broker_expires() {
    let mut rig = Rig::new(Setup { delivery_timeout: 40 * SECOND, ..Setup::new() });
    rig.send(0, "a");
    let request = rig.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(0)]) };
    rig.turn.answered(frame(&answer, request.version, request.correlation), rig.now).unwrap();
    let delivery = rig.send(1, "b");
    assert!(rig.turn.deadline(rig.now).unwrap() < rig.now + 50 * SECOND, "nobody would wake for the batch");
    rig.after(50 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_retried_batch_expires_with_its_last_cause_as_the_error() {
    for (code, written) in
        [(ErrorCode::NOT_ENOUGH_REPLICAS, Written::No), (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, Written::Maybe)]
    {
        let mut rig = Rig::new(short()).warmed();
        let delivery = rig.send(0, "a");
        for _ in 0..12 {
            if !rig.sent.is_empty() {
                rig.answer_error(code);
            }
            rig.after(SECOND);
        }
        let error = failure(&delivery);
        assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(code), Some(written)));
        assert!(error.context().attempts.unwrap() > 5);
        assert!(rig.sent.is_empty());
    }
}

#[test]
fn a_batch_that_was_never_sent_expires_with_what_it_waited_for_as_the_cause_alone() {
    let mut rig = Rig::new(short()).warmed();
    rig.lose();
    let never = rig.send(0, "a");
    rig.after(SECOND);
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.turn.lost(Error::network("refused").with_written(Written::Maybe), rig.now);
    rig.after(11 * SECOND);
    let error = failure(&never);
    assert_eq!(
        (error.kind(), error.written()),
        (ErrorKind::Timeout(Timeout::Delivery), Some(Written::No)),
        "{error:#}"
    );
    assert_eq!((error.context().attempts, error.context().partition), (Some(0), Some(0)));
    let text = format!("{error:#}");
    assert!(text.starts_with("not sent within the delivery timeout of 10s") && !text.contains("written"), "{text}");
    assert!(std::error::Error::source(&error).is_some(), "{text}");
}

#[test]
fn a_batch_behind_one_that_may_be_written_is_not_told_so() {
    let mut rig = Rig::new(short()).warmed();
    let head = rig.send(0, "a");
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    let behind = rig.send(0, "b");
    // The head is sent again, alone, and nobody answers.
    rig.after(9 * SECOND);
    rig.after(2 * SECOND);
    assert_eq!(failure(&head).written(), Some(Written::Maybe));
    let error = failure(&behind);
    assert_eq!(
        (error.kind(), error.written()),
        (ErrorKind::Timeout(Timeout::Delivery), Some(Written::No)),
        "{error:#}"
    );
    let text = format!("{error:#}");
    assert!(text.contains("NOT_ENOUGH_REPLICAS_AFTER_APPEND") && !text.contains("written: Maybe"), "{text}");
    assert_eq!(error.code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND));
    assert_eq!(error.context().broker, Some(BrokerId(0)));
}

#[test]
fn records_that_expire_with_the_first_of_their_batch_are_told_so() {
    let mut rig = Rig::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let first = rig.send(0, "a");
    rig.after(9 * SECOND);
    let young = rig.send(0, "b");
    rig.after(2 * SECOND);
    for delivery in [&first, &young] {
        let text = failure(delivery).to_string();
        assert!(text.contains("counts from the first of the 2 records of their batch"), "{text}");
    }
    let mut rig = Rig::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let alone = rig.send(0, "a");
    rig.after(11 * SECOND);
    let text = failure(&alone).to_string();
    assert!(text.starts_with("not sent within the delivery timeout of 10s (partition t-0"), "{text}");
}

#[test]
fn what_expires_names_what_stood_in_its_way() {
    // No answer at all.
    let mut rig = Rig::new(short()).warmed();
    let silent = rig.send(0, "a");
    rig.after(11 * SECOND);
    let text = format!("{:#}", failure(&silent));
    assert!(text.contains("the broker has not answered for 11.0s (broker 0 at b0:9092)"), "{text}");
    // A pause that the broker asked for.
    let mut rig = Rig::new(short()).warmed();
    rig.send(0, "a");
    let request = rig.sent.pop_front().unwrap();
    let mut muted = response(&request, &[Answer::ok(1)]);
    muted.throttle_time_ms = 60_000;
    rig.turn.answered(frame(&muted, request.version, request.correlation), rig.now).unwrap();
    let throttled = rig.send(0, "b");
    rig.after(11 * SECOND);
    let error = failure(&throttled);
    assert_eq!(error.code(), Some(ErrorCode::THROTTLING_QUOTA_EXCEEDED), "{error:#}");
    // A connection that is not made yet.
    let mut rig = Rig::unconnected(short());
    let waiting = rig.send(0, "a");
    rig.after(11 * SECOND);
    let text = format!("{:#}", failure(&waiting));
    assert!(text.contains("the connection is not made yet"), "{text}");
}

#[test]
fn what_is_not_delivered_when_the_producer_ends_carries_what_its_partition_met() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let refused = rig.send(0, "a");
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    let behind = rig.send(0, "b");
    let silent = rig.send(1, "c");
    rig.now += 3 * SECOND;
    let mut lost = Vec::new();
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    rig.turn.fail_all(&error, rig.now, &mut |partition, records, cause| {
        if records > 0 {
            lost.push((partition.index, records, cause.map(|cause| cause.to_string())));
        }
    });
    lost.sort();
    let causes: Vec<&str> = lost.iter().map(|(_, _, cause)| cause.as_deref().unwrap()).collect();
    assert!(causes[0].contains("NOT_ENOUGH_REPLICAS"), "{lost:?}");
    assert!(causes[1].contains("the broker has not answered for 3.0s"), "{lost:?}");
    assert_eq!((lost[0].1, lost[1].1), (2, 1));
    for delivery in [&refused, &behind] {
        let error = failure(delivery);
        assert_eq!(error.code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:#}");
    }
    assert_eq!(failure(&silent).written(), Some(Written::Maybe));
}

#[test]
fn what_cannot_be_cured_ends_the_waiting_for_a_connection_at_once_and_is_tried_again_later() {
    let mut rig = Rig::unconnected(Setup::new());
    let waiting = rig.send(0, "a");
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.turn.lost(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, "no common version"), rig.now);
    rig.run();
    let error = failure(&waiting);
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix));
    // Before the next attempt is due, and long after.
    let next = rig.send(1, "b");
    assert_eq!(failure(&next).kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(rig.take_actions(is_connect), 0);
    rig.after(2 * SECOND);
    let later = rig.send(1, "c");
    assert!(!later.is_done());
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.connect();
    rig.run();
    rig.answer_ok();
    assert_eq!(offset(&later), 0);
    assert_eq!(rig.bench.common.budget.used(), 0);
}

#[test]
fn a_panic_of_the_client_itself_is_waited_out() {
    let mut rig = Rig::unconnected(Setup::new());
    let waiting = rig.send(0, "a");
    rig.turn.lost(Error::bug("the reader panicked"), rig.now);
    rig.run();
    assert!(!waiting.is_done());
}

#[test]
fn a_batch_in_flight_expires_as_maybe_written_and_its_answer_still_counts() {
    let mut rig = Rig::new(short()).warmed();
    let delivery = rig.send(0, "a");
    rig.after(11 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::Maybe));
    assert!(rig.bench.common.budget.used() > 0, "the bytes live until the request ends");
    assert_eq!(rig.turn.parts().nth(1).unwrap(), rig.sent[0].batches[0].bytes);
    rig.answer_ok();
    assert_eq!(rig.bench.common.budget.used(), 0);
    let next = rig.send(0, "b");
    assert_eq!(stamps(&rig), [(0, 0, 2)], "the sequence goes on");
    rig.answer_ok();
    assert_eq!(offset(&next), 2);
}

#[test]
fn a_batch_expired_in_flight_and_then_refused_costs_an_epoch() {
    let mut rig = Rig::new(short()).warmed();
    let delivery = rig.send(0, "a");
    rig.after(11 * SECOND);
    assert!(delivery.is_done());
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(rig.bench.common.budget.used(), 0);
    let next = rig.send(0, "b");
    assert_eq!(stamps(&rig), [(0, 1, 0)]);
    rig.answer_ok();
    assert!(next.try_wait().unwrap().is_ok());
    rig.send(1, "c");
    assert_eq!(stamps(&rig), [(1, 1, 0)], "the other partitions follow as they come");
}

// ---- splits ----

#[test]
fn a_split_keeps_order_sequences_and_handles_also_when_split_again() {
    let mut rig = Rig::new(Setup { batch_records: 4, ..Setup::new() }).warmed();
    let deliveries: Vec<_> = (0..8).map(|n| rig.put(0, &n.to_string())).collect();
    rig.run();
    assert_eq!(rig.on_the_wire(), [(0, 1, "0,1,2,3".into()), (0, 5, "4,5,6,7".into())]);
    rig.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    rig.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(rig.on_the_wire(), [(0, 1, "0,1".into())]);
    rig.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    for (sequence, value) in [(1, "0"), (2, "1"), (3, "2,3"), (5, "4,5,6,7")] {
        assert_eq!(rig.on_the_wire(), [(0, sequence, value.into())]);
        rig.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((rig.bench.common.budget.used(), rig.bench.accumulator.pending.count()), (0, 0));
}

#[test]
fn a_split_teaches_the_partition_how_large_its_batches_may_be() {
    let size = |batch: &SentBatch| batch.bytes.len();
    let mut rig = Rig::new(Setup { batch_records: 1000, batch_size: 16_000, ..linger(3600 * SECOND) }).warmed_late();
    let limit = 3000;
    let value = "x".repeat(90);
    let (mut refused, mut taken, mut delivered) = (0, 0, Vec::new());
    for round in 0..10 {
        delivered.extend((0..300).map(|_| rig.put(0, &value)));
        rig.partitions[0].hurry_open();
        rig.after(60 * SECOND);
        while !rig.sent.is_empty() {
            rig.answer(|batch| {
                if size(batch) > limit {
                    refused += 1;
                    return Answer::error(ErrorCode::MESSAGE_TOO_LARGE);
                }
                assert!(round == 0 || size(batch) > limit / 4 || batch.values.len() < 10, "needlessly small");
                taken += 1;
                Answer::ok(0)
            });
            rig.after(SECOND);
        }
    }
    assert!(delivered.iter().all(|delivery| delivery.try_wait().is_some_and(|result| result.is_ok())));
    // Five of 16,000 bytes are in flight before the first answer; each part is refused at most until the limit is known.
    assert!((3..=20).contains(&refused), "{refused} refused, {taken} taken");
}

#[test]
fn a_single_record_that_is_too_large_fails_and_its_successor_takes_its_number() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let (large, next) = (rig.send(0, "large"), rig.send(0, "next"));
    rig.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    rig.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let error = failure(&large);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), Some(Written::No)));
    assert!(error.to_string().contains("max.message.bytes"));
    assert_eq!(rig.on_the_wire(), [(0, 1, "next".into())]);
    rig.answer_ok();
    assert_eq!(offset(&next), 1);
}

#[test]
fn parts_of_a_batch_that_may_be_written_are_not_written_again() {
    let mut rig = Rig::new(Setup { batch_records: 2, ..Setup::new() }).warmed();
    rig.put(0, "a");
    let delivery = rig.put(0, "b");
    rig.run();
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    rig.after(SECOND);
    rig.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(rig.on_the_wire(), [(0, 1, "a".into())]);
    // The first attempt had written the whole batch.
    rig.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    rig.after(SECOND);
    assert!(rig.sent.is_empty());
    let error = failure(&delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::OutOfSequence, Some(Written::Maybe)));
}

// ---- sequences and epochs ----

#[test]
fn a_broker_that_forgot_what_it_acknowledged_gets_a_new_epoch() {
    for code in
        [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH]
    {
        let mut rig = Rig::new(Setup::new()).warmed();
        let (a, b) = (rig.send(0, "a"), rig.send(0, "b"));
        rig.answer_error(code);
        rig.answer_error(code);
        assert!(rig.sent.is_empty(), "{code}: a broker that refuses every epoch is not asked in a circle");
        rig.after(SECOND);
        assert_eq!((stamps(&rig), values(&rig)), (vec![(0, 1, 0)], vec!["a".into()]), "{code}: and nothing beside it");
        rig.answer_ok();
        rig.after(SECOND);
        rig.answer_ok();
        assert_eq!((offset(&a), offset(&b)), (1, 2));
    }
}

#[test]
fn other_partitions_keep_the_old_epoch_until_nothing_is_in_flight() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    rig.send(1, "b");
    rig.answer_error(ErrorCode::UNKNOWN_PRODUCER_ID);
    rig.after(SECOND);
    rig.send(1, "c");
    assert_eq!(stamps(&rig), [(1, 0, 1), (0, 1, 0)], "`c` waits for the old epoch's end");
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    rig.after(SECOND);
    assert_eq!(stamps(&rig), [(0, 1, 0), (1, 0, 1)], "what has a number keeps it");
    rig.answer_ok();
    rig.answer_ok();
    assert_eq!(stamps(&rig), [(1, 1, 0)]);
}

#[test]
fn after_the_last_epoch_a_new_producer_id_is_awaited() {
    let last = ProducerIdAndEpoch { epoch: i16::MAX, ..FIRST };
    let mut rig = Rig::new(Setup { identity: Some(last), ..Setup::new() }).warmed();
    let delivery = rig.send(0, "a");
    rig.answer_error(ErrorCode::UNKNOWN_PRODUCER_ID);
    rig.after(SECOND);
    assert!(rig.sent.is_empty());
    let next = ProducerIdAndEpoch { producer_id: 8, epoch: 0 };
    rig.bench.common.identity.answered(Ok(next));
    rig.turn.look_at_all();
    rig.run();
    assert_eq!((rig.sent[0].batches[0].identity, rig.sent[0].batches[0].sequence), (next, 0));
    rig.answer_ok();
    assert!(delivery.try_wait().unwrap().is_ok());
}

#[test]
fn nothing_is_sent_without_an_identity_and_it_expires() {
    let mut rig = Rig::new(Setup { identity: None, ..Setup::new() });
    let delivery = rig.send(0, "a");
    assert!(rig.sent.is_empty());
    rig.after(121 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_fatal_answer_fails_everything_that_comes_later() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let first = rig.send(0, "a");
    rig.answer_error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!(failure(&first).code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    for n in 0..3 {
        let error = failure(&rig.send(1, &n.to_string()));
        assert_eq!((error.code(), error.written()), (Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), Some(Written::No)));
    }
}

// ---- connections ----

#[test]
fn a_lost_connection_says_maybe_only_of_what_was_wholly_written() {
    let mut setup = Setup::new();
    setup.rules.retries = 0;
    let mut rig = Rig::new(setup).warmed();
    let whole = rig.send(0, "a");
    let part = rig.put(1, "b");
    rig.notices();
    assert!(rig.turn.next_request(rig.now), "and it is never written");
    rig.lose();
    assert_eq!((failure(&whole).written(), failure(&part).written()), (Some(Written::Maybe), Some(Written::No)));
    assert_eq!(rig.take_actions(is_refresh), 1);
}

#[test]
fn what_was_in_flight_is_sent_again_with_its_numbers() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let deliveries: Vec<_> = (0..3).map(|n| rig.send(0, &n.to_string())).collect();
    rig.lose();
    assert_eq!(rig.take_actions(is_connect), 0, "the back-off is not over");
    rig.reconnect();
    for n in 0..3 {
        assert_eq!(rig.on_the_wire(), [(0, 1 + n, n.to_string())]);
        rig.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_lingering_batch_survives_a_lost_connection() {
    let mut rig = Rig::new(linger(SECOND));
    let delivery = rig.send(0, "a");
    rig.lose();
    rig.after(2 * SECOND);
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.connect();
    rig.run();
    rig.answer_ok();
    assert_eq!(offset(&delivery), 0);
}

#[test]
fn a_wrong_answer_ends_the_connection_and_loses_nothing() {
    type Spoil = fn(&mut ProduceResponse, &mut i32);
    let spoils: [(&str, Spoil); 4] = [
        ("correlation", |_, correlation| *correlation += 1),
        ("does not name", |response, _| drop(response.responses.pop())),
        ("does not name", |response, _| response.responses[0].partition_responses[0].index = 77),
        ("not asked", |response, _| {
            let again = response.responses[0].partition_responses[0].clone();
            response.responses[0].partition_responses.push(again);
        }),
    ];
    for (text, spoil) in spoils {
        let mut rig = Rig::new(Setup::new()).warmed();
        let deliveries = [rig.put(0, "a"), rig.put(1, "b")];
        rig.run();
        let request = rig.sent.pop_front().unwrap();
        let (mut answer, mut correlation) = (response(&request, &[Answer::ok(1), Answer::ok(1)]), request.correlation);
        spoil(&mut answer, &mut correlation);
        let error = rig.turn.answered(frame(&answer, request.version, correlation), rig.now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
        // Which of several faults is told does not matter.
        let is_told = error.to_string().contains(text) || error.to_string().contains("does not name");
        assert!(is_told, "{error}");
        rig.turn.lost(error, rig.now);
        rig.after(SECOND);
        rig.connect();
        rig.run();
        while !rig.sent.is_empty() {
            rig.answer(|_| Answer::ok(1));
        }
        assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 1], "{text}");
    }
}

#[test]
fn the_partitions_of_an_answer_come_in_any_order() {
    for version in [11, 13] {
        let topics = vec![("t", 40), ("u", 40)];
        let mut rig = Rig::new(Setup { version, topics, ..Setup::new() });
        let deliveries: Vec<_> = (0..80).map(|partition| rig.put(partition, "a")).collect();
        rig.run();
        let request = rig.sent.pop_front().unwrap();
        let offset_of = |batch: &SentBatch| {
            i64::from(batch.index) + if batch.topic_id.0[0] == 2 || batch.topic == "u" { 40 } else { 0 }
        };
        let answers: Vec<_> = request.batches.iter().map(|batch| Answer::ok(offset_of(batch))).collect();
        let mut answer = response(&request, &answers);
        let mut random = Random::seeded(5);
        for place in (1..answer.responses.len()).rev() {
            answer.responses.swap(place, random.below(place + 1));
        }
        rig.turn.answered(frame(&answer, request.version, request.correlation), rig.now).unwrap();
        assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), (0..80).collect::<Vec<i64>>(), "{version}");
    }
}

#[test]
fn an_answer_without_a_request_is_an_error() {
    let mut rig = Rig::new(Setup::new());
    let answer = frame(&ProduceResponse::default(), 11, 0);
    assert_eq!(rig.turn.answered(answer, rig.now).unwrap_err().kind(), ErrorKind::BrokerMisbehaved);
}

#[test]
fn a_throttled_broker_is_left_alone_for_so_long() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    let request = rig.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 5000, ..response(&request, &[Answer::ok(1)]) };
    rig.turn.answered(frame(&answer, request.version, request.correlation), rig.now).unwrap();
    rig.send(0, "b");
    rig.after(4 * SECOND);
    assert!(rig.sent.is_empty());
    assert_eq!(rig.turn.deadline(rig.now), Some(rig.now + SECOND));
    rig.after(SECOND);
    assert_eq!(values(&rig), ["b"]);
}

#[test]
fn an_idle_connection_is_given_up_and_made_again_when_needed() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.idle_until(rig.now + 539 * SECOND);
    assert_eq!(rig.take_actions(is_disconnect), 0);
    rig.after(2 * SECOND);
    assert_eq!(rig.take_actions(is_disconnect), 1);
    rig.turn.idled();
    let delivery = rig.send(0, "a");
    assert_eq!(rig.take_actions(is_connect), 1, "at once");
    rig.connect();
    rig.run();
    rig.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

#[test]
fn an_idle_connection_that_is_needed_again_is_kept() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.now += 541 * SECOND;
    let delivery = rig.send(0, "a");
    assert_eq!(rig.take_actions(is_disconnect), 0);
    rig.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

#[test]
fn a_connection_that_the_broker_closed_while_it_was_idle_is_made_again_at_once() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.now += 600 * SECOND;
    rig.turn.closed_while_idle(rig.now);
    let delivery = rig.send(0, "a");
    assert_eq!(rig.take_actions(is_connect), 1, "without the back-off of failures");
    // A connection that cannot be made is a failure.
    rig.lose();
    assert_eq!(rig.take_actions(is_connect), 0);
    rig.reconnect();
    rig.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

// ---- without idempotence ----

#[test]
fn acks_0_ends_with_the_write() {
    let mut rig = Rig::new(Setup::plain(0));
    let deliveries: Vec<_> = (0..20).map(|n| rig.send(0, &n.to_string())).collect();
    assert!(rig.sent.is_empty() && deliveries.iter().all(Delivery::is_done));
    let done = deliveries[0].try_wait().unwrap().unwrap();
    assert_eq!((done.offset(), done.timestamp()), (None, Some(crate::record::Timestamp::from_millis(1000))));
    assert_eq!((rig.turn.in_flight(), rig.bench.common.budget.used()), (0, 0));
}

#[test]
fn without_idempotence_a_partition_has_one_batch_in_flight() {
    let mut rig = Rig::new(Setup::plain(1));
    for value in ["a", "b", "c"] {
        rig.send(0, value);
    }
    assert_eq!((rig.on_the_wire(), rig.sent[0].acks), (vec![(0, -1, "a".into())], 1));
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert!(rig.sent.is_empty(), "the partition is muted while a batch of it is retried");
    rig.after(SECOND);
    for value in ["a", "b", "c"] {
        assert_eq!(values(&rig), [value]);
        rig.answer_ok();
    }
}

#[test]
fn without_idempotence_or_retries_a_partition_still_has_one_batch_in_flight() {
    // The first might have to be split, and its parts would come after the second.
    let mut setup = Setup::plain(1);
    setup.rules.retries = 0;
    let mut rig = Rig::new(setup);
    let first = rig.send(0, "a");
    rig.send(0, "b");
    assert_eq!(values(&rig), ["a"]);
    rig.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(failure(&first).written(), Some(Written::Maybe));
}

#[test]
fn nothing_follows_a_batch_that_is_sent_again_before_its_answer() {
    // Or, after five successors, the broker would have forgotten it when it is sent for the third time.
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    rig.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    rig.send(0, "b");
    rig.after(SECOND);
    assert_eq!(values(&rig), ["a"]);
    rig.answer_ok();
    assert_eq!(values(&rig), ["b"]);
    rig.send(0, "c");
    assert_eq!(values(&rig), ["b", "c"]);
}

// ---- leaders ----

/// Each partition's batch expires at a time of its own. A look at all that is in flight for each would take as many looks as
/// there are pairs of them.
#[test]
fn what_expires_in_flight_is_found_without_a_look_at_the_rest() {
    const PARTITIONS: usize = 300;
    let mut setup = Setup::new();
    setup.topics = vec![("t", PARTITIONS)];
    let mut rig = Rig::new(setup);
    let deliveries: Vec<Delivery> = (0..PARTITIONS)
        .map(|partition| {
            rig.now += Duration::from_millis(1);
            rig.put(partition, "a")
        })
        .collect();
    rig.run();
    assert_eq!(rig.sent.len(), 1);
    let first = rig.now + Duration::from_secs(120) - Duration::from_millis(PARTITIONS as u64 - 1);
    let mut sorted = None;
    for (place, delivery) in deliveries.iter().enumerate() {
        let due = first + Duration::from_millis(place as u64);
        assert_eq!(rig.turn.deadline(rig.now), Some(due), "the sender wakes for the next one");
        assert!(!delivery.is_done());
        rig.now = due;
        rig.run();
        assert_eq!(failure(delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
        assert_eq!(failure(delivery).written(), Some(Written::Maybe));
        // They have been sorted once, and what is left has not been looked at.
        let expiring = &rig.turn.up().unwrap().in_flight[0].expiring;
        assert_eq!(expiring.len(), PARTITIONS - 1 - place);
        assert_eq!(*sorted.get_or_insert(expiring.as_ptr()), expiring.as_ptr());
    }
    assert_eq!(rig.turn.up().unwrap().expires, None);
    rig.answer_ok();
}

#[test]
fn a_queue_moves_to_the_new_leader_only_when_nothing_of_it_is_in_flight() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    rig.lead(&[(1, 1), (0, 0), (0, 0)]);
    rig.send(0, "b");
    assert_eq!(rig.take_actions(|action| matches!(action, Action::Move(..))), 0);
    assert_eq!(values(&rig), ["a"]);
    rig.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let Some(Action::Move(queue, leader)) = rig.actions.pop() else { panic!("the queue did not move") };
    assert_eq!((leader, queue.moves_from(BrokerId(0))), (BrokerId(1), Some(BrokerId(1))));
    assert!(rig.turn.queues.len() == 2 && rig.turn.timers.is_empty());
    // The other broker's turn goes on with the same numbers, without waiting for the back-off.
    let rules = rig.turn.rules.clone();
    rig.turn = Turn::new(BrokerId(1), rules, rig.bench.common.clone());
    rig.turn.adopt(*queue);
    rig.connect();
    rig.run();
    assert_eq!(rig.on_the_wire(), [(0, 1, "a".into())]);
    rig.answer_ok();
    assert_eq!(rig.on_the_wire(), [(0, 2, "b".into())]);
}

#[test]
fn what_moves_from_a_throttled_broker_does_not_wait_for_the_throttle() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let moves = |rig: &mut Rig| {
        let mut moved = Vec::new();
        rig.actions.retain(|action| match action {
            Action::Move(queue, leader) => {
                moved.push((queue.name().index, leader.0));
                false
            }
            _ => true,
        });
        moved.sort_unstable();
        moved
    };
    rig.send(0, "a");
    rig.send(1, "b");
    let request = rig.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(1)]) };
    rig.turn.answered(frame(&answer, request.version, request.correlation), rig.now).unwrap();
    rig.send(0, "c");
    assert_eq!(values(&rig), ["b"]);
    // One with a record that waits goes at once, one that is in flight with its answer, one without records too.
    rig.lead(&[(1, 1), (1, 1), (1, 1)]);
    assert_eq!(moves(&mut rig), [(0, 1), (2, 1)]);
    rig.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(moves(&mut rig), [(1, 1)]);
    assert!(!rig.turn.is_stalled(), "nothing waits for this broker any more");
}

#[test]
fn a_queue_that_a_throttled_broker_could_not_hand_over_is_tried_again_after_a_pause() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    let request = rig.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(1)]) };
    rig.turn.answered(frame(&answer, request.version, request.correlation), rig.now).unwrap();
    rig.send(0, "b");
    rig.lead(&[(1, 1), (0, 0), (0, 0)]);
    for _ in 0..3 {
        let Some(Action::Move(queue, BrokerId(1))) = rig.actions.pop() else { panic!("the queue did not move") };
        rig.turn.keep(*queue, rig.now);
        rig.run();
        assert_eq!(rig.take_actions(|action| matches!(action, Action::Move(..))), 0, "not without a pause");
        rig.after(SECOND);
    }
}

#[test]
fn an_answer_that_names_the_new_leader_is_passed_on() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.send(0, "a");
    rig.answer(|_| Answer { leader: Some((1, 9)), ..Answer::error(ErrorCode::NOT_LEADER_OR_FOLLOWER) });
    let is_hint = |action: &Action| match action {
        Action::Hint(hints) => {
            let told: Vec<_> = hints.leaders.iter().map(|hint| (&*hint.topic, hint.partition, hint.leader)).collect();
            told == [("t", 0, BrokerId(1))]
                && hints.leaders.iter().all(|hint| (hint.epoch, hint.topic_id) == (9, Uuid([1; 16])))
                && hints.addresses.get(&BrokerId(1)) == Some(&HostPort::new("elsewhere", 9092))
        }
        _ => false,
    };
    assert_eq!(rig.take_actions(is_hint), 1);
}

#[test]
fn a_partition_without_a_leader_waits_quietly_and_asks_once_for_each_snapshot() {
    for connected in [true, false] {
        let mut rig = Rig::unconnected(Setup::new());
        rig.lead(&[(-1, 1), (-1, 1), (-1, 1)]);
        if connected {
            rig.connect();
        } else {
            rig.turn.lost(Error::network("refused"), rig.now);
            rig.after(2 * SECOND);
        }
        rig.actions.clear();
        let delivery = rig.send(0, "a");
        let turns = rig.idle_until(rig.now + 100 * SECOND);
        assert!(turns < 5, "{turns}");
        assert_eq!((rig.take_actions(is_refresh), rig.take_actions(is_connect)), (1, 0));
        rig.lead(&[(-1, 1), (-1, 1), (-1, 1)]);
        assert_eq!(rig.take_actions(is_refresh), 1);
        rig.after(30 * SECOND);
        assert_eq!(failure(&delivery).code(), Some(ErrorCode::LEADER_NOT_AVAILABLE));
    }
}

// ---- the end ----

#[test]
fn closing_fails_all_and_says_what_may_be_written() {
    let mut rig = Rig::new(Setup { batch_records: 2, ..linger(3600 * SECOND) });
    rig.send(0, "a");
    let in_flight = rig.send(0, "b");
    rig.send(0, "c");
    let sealed = rig.send(0, "d");
    let open = rig.send(1, "e");
    let mut lost = 0;
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    rig.turn.fail_all(&error, rig.now, &mut |_, records, _| lost += records);
    for (delivery, written) in [(in_flight, Written::Maybe), (sealed, Written::No), (open, Written::No)] {
        let error = failure(&delivery);
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(written)));
    }
    assert_eq!((lost, rig.bench.common.budget.used(), rig.bench.accumulator.pending.count()), (5, 0, 0));
}

#[test]
fn closing_fails_and_counts_a_queue_that_is_about_to_move() {
    let mut rig = Rig::unconnected(Setup::new());
    let delivery = rig.send(0, "a");
    rig.turn.see(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    let mut lost = 0;
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    rig.turn.fail_all(&error, rig.now, &mut |_, records, _| lost += records);
    assert_eq!((failure(&delivery).kind(), lost), (ErrorKind::Closed, 1));
}

#[test]
fn a_queue_that_cannot_be_moved_is_kept_and_moved_later() {
    let mut rig = Rig::new(Setup { identity: None, ..short() });
    let delivery = rig.send(0, "a");
    rig.turn.see(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    assert!(!rig.turn.next_request(rig.now));
    let refuse = |rig: &mut Rig| {
        let mut refused = 0;
        for action in rig.turn.take_actions() {
            if let Action::Move(queue, _) = action {
                rig.turn.keep(*queue, rig.now);
                refused += 1;
            }
        }
        refused
    };
    assert_eq!(refuse(&mut rig), 1);
    assert!(!rig.turn.next_request(rig.now));
    assert_eq!(refuse(&mut rig), 0, "not without a pause");
    rig.now = rig.turn.deadline(rig.now).unwrap();
    rig.turn.tick(rig.now);
    assert!(!rig.turn.next_request(rig.now));
    assert_eq!(refuse(&mut rig), 1);
    rig.now += 3600 * SECOND;
    rig.turn.tick(rig.now);
    assert_eq!(failure(&delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
}

#[test]
fn records_named_by_the_broker_have_their_own_errors() {
    let mut rig = Rig::new(Setup { batch_records: 3, ..Setup::new() });
    let deliveries: Vec<_> = (0..3).map(|n| rig.put(0, &n.to_string())).collect();
    rig.run();
    rig.answer(|_| Answer {
        record_errors: vec![(1, "no key"), (-5, "nonsense"), (99, "nonsense")],
        ..Answer::error(ErrorCode::INVALID_RECORD)
    });
    let errors: Vec<_> = deliveries.iter().map(failure).collect();
    assert!(errors[1].to_string().contains("no key") && errors[1].recovery() == Recovery::Fix);
    for error in [&errors[0], &errors[2]] {
        assert_eq!((error.recovery(), error.written()), (Recovery::Retry, Some(Written::No)));
        assert!(!error.to_string().contains("no key"));
    }
}

#[test]
fn the_sender_never_turns_in_circles() {
    let mut random = Random::seeded(3);
    let mut rig = Rig::new(Setup { batch_records: 3, ..linger(Duration::from_millis(5)) }).warmed();
    let mut turns = 0;
    for n in 0..1000 {
        rig.put(random.below(3), &n.to_string());
        rig.run();
        match random.below(12) {
            0 => rig.lose(),
            1 if !rig.sent.is_empty() => rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS),
            2 => rig.lead(&[(-1, 1), (0, 1), (0, 1)]),
            3..6 => rig.lead(&[(0, 1), (0, 1), (0, 1)]),
            _ if !rig.sent.is_empty() => rig.answer_ok(),
            _ => {}
        }
        if rig.take_actions(is_connect) > 0 {
            if random.below(2) == 0 { rig.connect() } else { rig.lose() }
        }
        rig.actions.clear();
        turns += rig.idle_until(rig.now + Duration::from_millis(20));
    }
    assert!(turns < 5000, "{turns}");
}

#[test]
fn nothing_is_pipelined_before_the_first_acknowledgement_of_a_topic_that_was_made_anew() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.snapshot = snapshot(&[("t", 2, &[(0, 0), (0, 0), (0, 0)])]);
    rig.turn.see(&rig.snapshot);
    for value in ["a", "b", "c"] {
        rig.send(0, value);
    }
    assert_eq!(stamps(&rig), [(0, 0, 1)], "the numbers go on, and the new log takes any first one");
    // Otherwise the new log would take the second batch first.
    rig.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    rig.after(SECOND);
    assert_eq!(stamps(&rig), [(0, 0, 1)]);
    rig.answer_ok();
    assert_eq!(stamps(&rig), [(0, 0, 2), (0, 0, 3)]);
}

#[test]
fn a_connection_to_an_old_address_is_left_when_what_is_in_flight_is_answered() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let first = rig.send(0, "a");
    rig.turn.leave_connection();
    rig.send(0, "b");
    assert_eq!(values(&rig), ["a"]);
    assert!(!rig.turn.is_ready_for_one() && !rig.turn.needs_its_sender(rig.now));
    assert_eq!(rig.take_actions(is_disconnect), 0);
    rig.answer_ok();
    assert_eq!(offset(&first), 1);
    assert!(rig.turn.is_left() && rig.take_actions(is_disconnect) > 0);
    rig.turn.idled();
    rig.run();
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.connect();
    rig.run();
    assert_eq!(values(&rig), ["b"]);
}

#[test]
fn a_connection_to_an_old_address_that_is_still_being_made_is_left_too() {
    let mut rig = Rig::unconnected(Setup::new());
    rig.send(0, "a");
    assert_eq!(rig.take_actions(is_connect), 1);
    rig.turn.leave_connection();
    rig.connect();
    rig.run();
    assert!(rig.sent.is_empty() && rig.take_actions(is_disconnect) > 0);
    rig.turn.idled();
    rig.run();
    assert_eq!(rig.take_actions(is_connect), 1);
    // It may as well fail.
    rig.turn.leave_connection();
    rig.lose();
    rig.reconnect();
    assert_eq!(values(&rig), ["a"]);
}

#[test]
fn a_partition_that_comes_back_before_it_was_looked_at_gives_one_batch_to_a_request() {
    let mut rig = Rig::new(Setup::new()).warmed();
    rig.lose();
    let deliveries = [rig.put(0, "a"), rig.put(0, "b")];
    rig.notices();
    let here = rig.snapshot.clone();
    // It leaves while it stands in the list of those to look at, and comes back.
    rig.turn.see(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    let moved = rig.turn.take_actions().into_iter().find_map(|action| match action {
        Action::Move(queue, _) => Some(queue),
        _ => None,
    });
    let mut queue = moved.expect("the partition stays with a broker that does not lead it");
    queue.see(&here);
    rig.turn.adopt(*queue);
    rig.turn.see(&here);
    rig.reconnect();
    let partitions: Vec<Vec<i32>> =
        rig.sent.iter().map(|request| request.batches.iter().map(|batch| batch.index).collect()).collect();
    assert_eq!(partitions, [[0], [0]]);
    rig.answer_ok();
    rig.answer_ok();
    assert_eq!(deliveries.each_ref().map(offset), [1, 2]);
}

/// The sender comes to the first one when the second has marked its batches, too.
#[test]
fn of_two_purges_each_is_for_what_was_there_when_it_began() {
    let mut rig = Rig::new(Setup::new()).warmed();
    // First what waits, and then everything.
    let a = rig.send(0, "a");
    let queued = rig.bench.accumulator.pending.purge();
    let all = rig.bench.accumulator.pending.purge();
    rig.turn.purge(queued, false);
    assert!(!a.is_done());
    rig.turn.purge(all, true);
    assert_eq!(failure(&a).kind(), ErrorKind::Purged);
    rig.answer_ok();
    // First everything, then what waits: the record between them is in flight when both are told.
    let all = rig.bench.accumulator.pending.purge();
    let b = rig.send(0, "b");
    assert_eq!(values(&rig), ["b"]);
    let queued = rig.bench.accumulator.pending.purge();
    rig.turn.purge(all, true);
    rig.turn.purge(queued, false);
    rig.answer_ok();
    assert_eq!(offset(&b), 2);
}

/// A purge seals the open batch after its queue was found ready.
#[test]
fn what_is_purged_between_two_looks_is_not_sent() {
    let mut rig = Rig::new(Setup::new());
    let delivery = rig.put(0, "a");
    rig.bench.accumulator.pending.purge();
    assert!(rig.turn.take(PartitionId(0), 11).is_none());
    assert_eq!((failure(&delivery).kind(), failure(&delivery).written()), (ErrorKind::Purged, Some(Written::No)));
}

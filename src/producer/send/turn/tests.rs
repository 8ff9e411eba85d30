//! The promises of the turn, one by one, with a clock that the test moves and a broker that answers as the test wants.

#![expect(unused_must_use, reason = "most of these tests look at the turn, and not at the handles")]

use super::fixture::{Answer, FIRST, SentBatch, Setup, TurnFixture, failure, frame, offset, response, snapshot};
use super::*;
use crate::error::{Timeout, Written};
use crate::net::HostPort;
use crate::producer::api::delivery::Delivery;
use crate::producer::send::wake_up::WakeOn;
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

fn batches(fixture: &TurnFixture) -> impl Iterator<Item = &SentBatch> {
    fixture.sent.iter().flat_map(|request| &request.batches)
}

fn values(fixture: &TurnFixture) -> Vec<String> {
    batches(fixture).map(|batch| batch.values.join(",")).collect()
}

/// Partition, epoch and sequence of all batches in flight.
fn stamps(fixture: &TurnFixture) -> Vec<(i32, i16, i32)> {
    batches(fixture).map(|batch| (batch.index, batch.identity.epoch, batch.sequence)).collect()
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
    let mut fixture = TurnFixture::new(Setup::new());
    for n in 0..9 {
        fixture.send(0, &n.to_string());
    }
    assert_eq!(values(&fixture), ["0"]);
    fixture.answer_ok();
    assert_eq!(stamps(&fixture), [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5)]);
    assert_eq!(fixture.turn.wake_on(fixture.now), WakeOn::Never, "a batch that cannot be sent needs no wake-up");
    fixture.answer_ok();
    assert_eq!(values(&fixture), ["2", "3", "4", "5", "6"]);
}

#[test]
fn one_request_carries_one_batch_of_every_ready_partition() {
    let mut fixture = TurnFixture::new(Setup { topics: vec![("t", 2), ("u", 1)], ..Setup::new() });
    for (partition, value) in [(0, "a"), (2, "b"), (1, "c"), (0, "d")] {
        fixture.put(partition, value);
    }
    fixture.run();
    assert_eq!(fixture.sent.len(), 1);
    let mut all: Vec<_> = batches(&fixture).map(|batch| (&*batch.topic, batch.index, batch.values.join(","))).collect();
    all.sort();
    assert_eq!(all, [("t", 0, "a".into()), ("t", 1, "c".into()), ("u", 0, "b".into())]);
    fixture.answer_ok();
    assert_eq!(values(&fixture), ["d"]);
}

#[test]
fn a_request_stays_within_its_size_but_a_lone_larger_batch_goes() {
    for batch_records in [1, 100] {
        let mut setup = Setup { batch_records, topics: vec![("t", 6)], ..Setup::new() };
        setup.rules.max_request_size = 250;
        let mut fixture = TurnFixture::new(setup);
        for partition in 0..5 {
            fixture.put(partition, &"x".repeat(40));
        }
        fixture.put(5, &"y".repeat(1000));
        fixture.run();
        for request in &fixture.sent {
            let bytes: usize = request.batches.iter().map(|batch| batch.bytes.len()).sum();
            assert!(bytes <= 250 || request.batches.len() == 1, "{bytes} bytes");
        }
        assert_eq!(batches(&fixture).count(), 6);
        assert!(fixture.sent.len() < 6);
    }
}

#[test]
fn a_batch_lingers_and_is_sent_when_its_time_has_come() {
    let mut fixture = TurnFixture::new(linger(10 * SECOND));
    fixture.send(0, "a");
    fixture.send(0, "b");
    assert!(fixture.sent.is_empty());
    let due = fixture.turn.deadline(fixture.now).unwrap();
    assert!(due > fixture.now + 9 * SECOND && due < fixture.now + 11 * SECOND);
    fixture.now = due;
    fixture.run();
    assert_eq!(values(&fixture), ["a,b"]);
}

#[test]
fn a_full_batch_does_not_linger() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 2, ..linger(10 * SECOND) });
    for value in ["a", "b", "c"] {
        fixture.send(0, value);
    }
    assert_eq!(values(&fixture), ["a,b"]);
}

#[test]
fn a_hurry_ends_the_linger() {
    let mut fixture = TurnFixture::new(linger(3600 * SECOND));
    fixture.send(0, "a");
    assert!(fixture.sent.is_empty());
    fixture.partitions[0].hurry_open();
    // `hurry` uses the real clock, which may be ahead of the test's.
    fixture.after(60 * SECOND);
    assert_eq!(values(&fixture), ["a"]);
}

#[test]
fn a_thread_that_waits_for_memory_ends_the_linger_of_all() {
    let mut fixture = TurnFixture::new(Setup { buffer_memory: 1 << 10, ..linger(3600 * SECOND) });
    fixture.send(0, "a");
    assert!(fixture.sent.is_empty());
    let budget = Arc::clone(&fixture.bench.common.budget);
    let (queued, when_queued) = crossbeam_channel::bounded(1);
    let waiter = std::thread::spawn(move || {
        budget.reserve(1, Instant::now() + 60 * SECOND, || queued.send(()).unwrap()).is_ok()
    });
    when_queued.recv().unwrap();
    fixture.turn.look_at_all();
    fixture.run();
    assert_eq!(values(&fixture), ["a"]);
    fixture.answer_ok();
    assert!(waiter.join().unwrap());
}

#[test]
fn batches_sealed_before_the_open_one_go_first() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 2, ..Setup::new() }).warmed();
    for n in 0..5 {
        fixture.put(0, &n.to_string());
    }
    fixture.run();
    assert_eq!(values(&fixture), ["0,1", "2,3", "4"]);
}

#[test]
fn back_pressure_gathers_records() {
    let mut setup = Setup { batch_records: 100, ..Setup::new() };
    setup.rules.max_in_flight = 1;
    let mut fixture = TurnFixture::new(setup);
    for n in 0..10 {
        fixture.send(0, &n.to_string());
    }
    fixture.answer_ok();
    assert_eq!(values(&fixture), ["1,2,3,4,5,6,7,8,9"]);
}

#[test]
fn topics_go_by_id_unless_one_is_unknown() {
    let mut fixture = TurnFixture::new(Setup { version: 13, topics: vec![("t", 1), ("u", 1)], ..Setup::new() });
    let delivery = fixture.send(0, "a");
    assert_eq!((fixture.sent[0].version, &*fixture.sent[0].batches[0].topic), (13, ""));
    assert_eq!(fixture.sent[0].batches[0].topic_id, Uuid([1; 16]));
    fixture.answer_ok();
    assert_eq!(offset(&delivery), 0);
    fixture.snapshot = snapshot(&[("t", 1, &[(0, 0)]), ("u", 0, &[(0, 0)])]);
    let delivery = fixture.send(1, "b");
    assert_eq!((fixture.sent[0].version, &*fixture.sent[0].batches[0].topic), (12, "u"));
    fixture.answer_ok();
    assert_eq!(offset(&delivery), 0);
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_fails_on_a_broker_that_does_not_know_it_and_so_do_later_records() {
    let mut setup = Setup { version: 6, ..Setup::new() };
    setup.rules.compression = Compression::from_id(4).unwrap();
    let mut fixture = TurnFixture::new(setup);
    for n in 0..3 {
        let error = failure(&fixture.send(0, &n.to_string()));
        assert_eq!((error.kind(), error.written()), (ErrorKind::UnsupportedVersion, Some(Written::No)));
    }
    assert!(fixture.sent.is_empty());
}

// ---- retries ----

#[test]
fn sequences_are_assigned_once_and_a_retried_batch_goes_alone_and_in_order() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let deliveries: Vec<_> = (0..4).map(|n| fixture.send(0, &n.to_string())).collect();
    assert_eq!(stamps(&fixture), [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4)]);
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    for _ in 0..3 {
        fixture.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert!(fixture.sent.is_empty(), "the back-off is not over");
    fixture.after(SECOND);
    for n in 0..4 {
        assert_eq!(fixture.on_the_wire(), [(0, 1 + n, n.to_string())], "a batch that was sent before goes alone");
        fixture.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn a_retry_waits_for_its_back_off_unless_there_is_a_new_leader_epoch() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    fixture.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(fixture.take_actions(is_refresh), 1);
    fixture.after(Duration::from_millis(79));
    assert!(fixture.sent.is_empty());
    assert!(fixture.turn.deadline(fixture.now).unwrap() <= fixture.now + Duration::from_millis(41));
    fixture.lead(&[(0, 0), (0, 0), (0, 0)]);
    assert!(fixture.sent.is_empty());
    fixture.lead(&[(0, 1), (0, 0), (0, 0)]);
    assert_eq!(values(&fixture), ["a"]);
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    fixture.after(Duration::from_millis(159));
    assert!(fixture.sent.is_empty(), "the second wait is longer");
    fixture.after(Duration::from_millis(82));
    assert_eq!(values(&fixture), ["a"]);
}

#[test]
fn retries_can_be_used_up() {
    let mut setup = Setup::new();
    setup.rules.retries = 1;
    let mut fixture = TurnFixture::new(setup).warmed();
    let delivery = fixture.send(0, "a");
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    fixture.after(SECOND);
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    let error = failure(&delivery);
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!((error.written(), error.context().attempts), (Some(Written::No), Some(2)));
    let delivery = fixture.send(0, "b");
    assert_eq!(fixture.on_the_wire(), [(0, 1, "b".into())], "the numbers of what was refused are used again");
    fixture.lose();
    assert!(!delivery.is_done());
    fixture.reconnect();
    fixture.lose();
    let error = failure(&delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Network, Some(Written::Maybe)));
}

#[test]
fn a_batch_recognised_late_does_not_take_the_sequence_back() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let (a, b) = (fixture.send(0, "a"), fixture.send(0, "b"));
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    fixture.answer(|_| Answer::ok(2));
    fixture.after(SECOND);
    assert_eq!(fixture.on_the_wire(), [(0, 1, "a".into())]);
    fixture.answer(|_| Answer::ok(1));
    assert_eq!((offset(&a), offset(&b)), (1, 2));
    let refused = fixture.send(0, "c");
    fixture.answer_error(ErrorCode::INVALID_RECORD);
    assert_eq!(failure(&refused).written(), Some(Written::No));
    fixture.send(0, "d");
    assert_eq!(fixture.on_the_wire(), [(0, 3, "d".into())], "2 is in the log already");
}

#[test]
fn what_is_in_the_log_keeps_its_numbers_when_others_are_renumbered() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    for value in ["a", "b", "c"] {
        fixture.send(0, value);
    }
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    fixture.answer(|_| Answer::ok(2));
    fixture.answer_error(ErrorCode::INVALID_RECORD);
    fixture.after(SECOND);
    assert_eq!(fixture.on_the_wire(), [(0, 1, "a".into())]);
}

#[test]
fn a_gap_before_a_batch_whose_request_may_be_alive_is_not_closed() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let (a, b) = (fixture.send(0, "a"), fixture.send(0, "b"));
    fixture.answer_error(ErrorCode::INVALID_RECORD);
    assert_eq!(failure(&a).written(), Some(Written::No));
    fixture.lose();
    fixture.reconnect();
    // Under the old epoch `b` as 1 and, late, `b` as 2 would both be taken.
    assert_eq!(stamps(&fixture), [(0, 1, 0)]);
    fixture.answer_ok();
    assert!(b.try_wait().unwrap().is_ok());
}

// ---- deadlines ----

#[test]
fn a_queued_batch_expires_as_not_written_with_the_last_cause() {
    let mut fixture = TurnFixture::unconnected(Setup::new());
    let deliveries = [fixture.send(0, "a"), fixture.send(0, "b")];
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.after(119 * SECOND);
    assert!(!deliveries[0].is_done());
    fixture.turn.lost(Error::network("refused"), fixture.now);
    fixture.after(2 * SECOND);
    for error in deliveries.iter().map(failure) {
        assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Delivery), Some(Written::No)));
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("refused"));
    }
    assert_eq!(fixture.bench.common.budget.used(), 0);
}

#[test]
fn a_lingering_batch_expires() {
    let mut fixture = TurnFixture::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let delivery = fixture.send(0, "a");
    fixture.after(9 * SECOND);
    assert!(!delivery.is_done());
    fixture.after(2 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_sealed_batch_expires_while_a_connection_is_being_made() {
    let mut fixture = TurnFixture::unconnected(Setup { batch_records: 2, ..linger(3600 * SECOND) });
    fixture.send(0, "a");
    let delivery = fixture.send(0, "b");
    assert!(fixture.turn.deadline(fixture.now).is_some(), "nobody would wake for the sealed batch");
    fixture.after(121 * SECOND);
    assert_eq!(failure(&delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
}

#[test]
fn a_batch_whose_thread_waited_expires_before_an_older_one() {
    let mut fixture = TurnFixture::unconnected(Setup::new());
    fixture.lead(&[(-1, 0), (-1, 0), (-1, 0)]);
    fixture.now += 100 * SECOND;
    let first = fixture.put(0, "a");
    fixture.bench.accumulator.batch_records = 2;
    let open = fixture.bench.send(&fixture.partitions[0], b"b", Some(fixture.now - 50 * SECOND), None);
    fixture.run();
    fixture.after(71 * SECOND);
    assert!(open.is_done() && !first.is_done());
    fixture.after(50 * SECOND);
    assert!(first.is_done());
}

#[test]
fn a_batch_of_a_throttled_broker_expires() {
    let mut fixture = TurnFixture::new(Setup { delivery_timeout: 40 * SECOND, ..Setup::new() });
    fixture.send(0, "a");
    let request = fixture.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(0)]) };
    fixture.turn.answered(frame(&answer, request.version, request.correlation), fixture.now).unwrap();
    let delivery = fixture.send(1, "b");
    assert!(fixture.turn.deadline(fixture.now).unwrap() < fixture.now + 50 * SECOND, "nobody would wake for the batch");
    fixture.after(50 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_retried_batch_expires_with_its_last_cause_as_the_error() {
    for (code, written) in
        [(ErrorCode::NOT_ENOUGH_REPLICAS, Written::No), (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, Written::Maybe)]
    {
        let mut fixture = TurnFixture::new(short()).warmed();
        let delivery = fixture.send(0, "a");
        for _ in 0..12 {
            if !fixture.sent.is_empty() {
                fixture.answer_error(code);
            }
            fixture.after(SECOND);
        }
        let error = failure(&delivery);
        assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(code), Some(written)));
        assert!(error.context().attempts.unwrap() > 5);
        assert!(fixture.sent.is_empty());
    }
}

#[test]
fn a_batch_that_was_never_sent_expires_with_what_it_waited_for_as_the_cause_alone() {
    let mut fixture = TurnFixture::new(short()).warmed();
    fixture.lose();
    let never = fixture.send(0, "a");
    fixture.after(SECOND);
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.turn.lost(Error::network("refused").with_written(Written::Maybe), fixture.now);
    fixture.after(11 * SECOND);
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
    let mut fixture = TurnFixture::new(short()).warmed();
    let head = fixture.send(0, "a");
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    let behind = fixture.send(0, "b");
    // The first batch is sent again, alone, and gets no answer.
    fixture.after(9 * SECOND);
    fixture.after(2 * SECOND);
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
    let mut fixture = TurnFixture::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let first = fixture.send(0, "a");
    fixture.after(9 * SECOND);
    let young = fixture.send(0, "b");
    fixture.after(2 * SECOND);
    for delivery in [&first, &young] {
        let text = failure(delivery).to_string();
        assert!(text.contains("counts from the first of the 2 records of their batch"), "{text}");
    }
    let mut fixture = TurnFixture::new(Setup { delivery_timeout: 10 * SECOND, ..linger(3600 * SECOND) });
    let alone = fixture.send(0, "a");
    fixture.after(11 * SECOND);
    let text = failure(&alone).to_string();
    assert!(text.starts_with("not sent within the delivery timeout of 10s (partition t-0"), "{text}");
}

#[test]
fn what_expires_names_what_stood_in_its_way() {
    // No answer at all.
    let mut fixture = TurnFixture::new(short()).warmed();
    let silent = fixture.send(0, "a");
    fixture.after(11 * SECOND);
    let text = format!("{:#}", failure(&silent));
    assert!(text.contains("the broker has not answered for 11.0s (broker 0 at b0:9092)"), "{text}");
    // A pause that the broker asked for.
    let mut fixture = TurnFixture::new(short()).warmed();
    fixture.send(0, "a");
    let request = fixture.sent.pop_front().unwrap();
    let mut muted = response(&request, &[Answer::ok(1)]);
    muted.throttle_time_ms = 60_000;
    fixture.turn.answered(frame(&muted, request.version, request.correlation), fixture.now).unwrap();
    let throttled = fixture.send(0, "b");
    fixture.after(11 * SECOND);
    let error = failure(&throttled);
    assert_eq!(error.code(), Some(ErrorCode::THROTTLING_QUOTA_EXCEEDED), "{error:#}");
    // A connection that is not made yet.
    let mut fixture = TurnFixture::unconnected(short());
    let waiting = fixture.send(0, "a");
    fixture.after(11 * SECOND);
    let text = format!("{:#}", failure(&waiting));
    assert!(text.contains("the connection is not made yet"), "{text}");
}

#[test]
fn what_is_not_delivered_when_the_producer_ends_carries_what_its_partition_met() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let refused = fixture.send(0, "a");
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    let behind = fixture.send(0, "b");
    let silent = fixture.send(1, "c");
    fixture.now += 3 * SECOND;
    let mut lost = Vec::new();
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    fixture.turn.fail_all(&error, fixture.now, &mut |partition, records, cause| {
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
    let mut fixture = TurnFixture::unconnected(Setup::new());
    let waiting = fixture.send(0, "a");
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.turn.lost(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, "no common version"), fixture.now);
    fixture.run();
    let error = failure(&waiting);
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix));
    // Before the next attempt is due, and long after.
    let next = fixture.send(1, "b");
    assert_eq!(failure(&next).kind(), ErrorKind::UnsupportedVersion);
    assert_eq!(fixture.take_actions(is_connect), 0);
    fixture.after(2 * SECOND);
    let later = fixture.send(1, "c");
    assert!(!later.is_done());
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.connect();
    fixture.run();
    fixture.answer_ok();
    assert_eq!(offset(&later), 0);
    assert_eq!(fixture.bench.common.budget.used(), 0);
}

#[test]
fn a_panic_of_the_client_itself_is_waited_out() {
    let mut fixture = TurnFixture::unconnected(Setup::new());
    let waiting = fixture.send(0, "a");
    fixture.turn.lost(Error::bug("the reader panicked"), fixture.now);
    fixture.run();
    assert!(!waiting.is_done());
}

#[test]
fn a_batch_in_flight_expires_as_maybe_written_and_its_answer_still_counts() {
    let mut fixture = TurnFixture::new(short()).warmed();
    let delivery = fixture.send(0, "a");
    fixture.after(11 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::Maybe));
    assert!(fixture.bench.common.budget.used() > 0, "the bytes live until the request ends");
    assert_eq!(fixture.turn.parts().nth(1).unwrap(), fixture.sent[0].batches[0].bytes);
    fixture.answer_ok();
    assert_eq!(fixture.bench.common.budget.used(), 0);
    let next = fixture.send(0, "b");
    assert_eq!(stamps(&fixture), [(0, 0, 2)], "the sequence goes on");
    fixture.answer_ok();
    assert_eq!(offset(&next), 2);
}

#[test]
fn a_batch_expired_in_flight_and_then_refused_costs_an_epoch() {
    let mut fixture = TurnFixture::new(short()).warmed();
    let delivery = fixture.send(0, "a");
    fixture.after(11 * SECOND);
    assert!(delivery.is_done());
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(fixture.bench.common.budget.used(), 0);
    let next = fixture.send(0, "b");
    assert_eq!(stamps(&fixture), [(0, 1, 0)]);
    fixture.answer_ok();
    assert!(next.try_wait().unwrap().is_ok());
    fixture.send(1, "c");
    assert_eq!(stamps(&fixture), [(1, 1, 0)], "the other partitions follow as they come");
}

// ---- splits ----

#[test]
fn a_split_keeps_order_sequences_and_handles_also_when_split_again() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 4, ..Setup::new() }).warmed();
    let deliveries: Vec<_> = (0..8).map(|n| fixture.put(0, &n.to_string())).collect();
    fixture.run();
    assert_eq!(fixture.on_the_wire(), [(0, 1, "0,1,2,3".into()), (0, 5, "4,5,6,7".into())]);
    fixture.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    fixture.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(fixture.on_the_wire(), [(0, 1, "0,1".into())]);
    fixture.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    for (sequence, value) in [(1, "0"), (2, "1"), (3, "2,3"), (5, "4,5,6,7")] {
        assert_eq!(fixture.on_the_wire(), [(0, sequence, value.into())]);
        fixture.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((fixture.bench.common.budget.used(), fixture.bench.accumulator.unfinished.count()), (0, 0));
}

#[test]
fn a_split_teaches_the_partition_how_large_its_batches_may_be() {
    let size = |batch: &SentBatch| batch.bytes.len();
    let mut fixture =
        TurnFixture::new(Setup { batch_records: 1000, batch_size: 16_000, ..linger(3600 * SECOND) }).warmed_late();
    let limit = 3000;
    let value = "x".repeat(90);
    let (mut refused, mut taken, mut delivered) = (0, 0, Vec::new());
    for round in 0..10 {
        delivered.extend((0..300).map(|_| fixture.put(0, &value)));
        fixture.partitions[0].hurry_open();
        fixture.after(60 * SECOND);
        while !fixture.sent.is_empty() {
            fixture.answer(|batch| {
                if size(batch) > limit {
                    refused += 1;
                    return Answer::error(ErrorCode::MESSAGE_TOO_LARGE);
                }
                assert!(round == 0 || size(batch) > limit / 4 || batch.values.len() < 10, "needlessly small");
                taken += 1;
                Answer::ok(0)
            });
            fixture.after(SECOND);
        }
    }
    assert!(delivered.iter().all(|delivery| delivery.try_wait().is_some_and(|result| result.is_ok())));
    // Five batches of 16,000 bytes are in flight before the first answer. Parts are refused only until the limit is
    // known.
    assert!((3..=20).contains(&refused), "{refused} refused, {taken} taken");
}

#[test]
fn a_single_record_that_is_too_large_fails_and_its_successor_takes_its_number() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let (large, next) = (fixture.send(0, "large"), fixture.send(0, "next"));
    fixture.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    fixture.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let error = failure(&large);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), Some(Written::No)));
    assert!(error.to_string().contains("max.message.bytes"));
    assert_eq!(fixture.on_the_wire(), [(0, 1, "next".into())]);
    fixture.answer_ok();
    assert_eq!(offset(&next), 1);
}

#[test]
fn parts_of_a_batch_that_may_be_written_are_not_written_again() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 2, ..Setup::new() }).warmed();
    fixture.put(0, "a");
    let delivery = fixture.put(0, "b");
    fixture.run();
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    fixture.after(SECOND);
    fixture.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(fixture.on_the_wire(), [(0, 1, "a".into())]);
    // The first attempt had written the whole batch.
    fixture.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    fixture.after(SECOND);
    assert!(fixture.sent.is_empty());
    let error = failure(&delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::OutOfSequence, Some(Written::Maybe)));
}

// ---- sequences and epochs ----

#[test]
fn a_broker_that_forgot_what_it_acknowledged_gets_a_new_epoch() {
    for code in
        [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH]
    {
        let mut fixture = TurnFixture::new(Setup::new()).warmed();
        let (a, b) = (fixture.send(0, "a"), fixture.send(0, "b"));
        fixture.answer_error(code);
        fixture.answer_error(code);
        assert!(fixture.sent.is_empty(), "{code}: a broker that refuses every epoch is not asked in a circle");
        fixture.after(SECOND);
        assert_eq!(
            (stamps(&fixture), values(&fixture)),
            (vec![(0, 1, 0)], vec!["a".into()]),
            "{code}: and nothing beside it"
        );
        fixture.answer_ok();
        fixture.after(SECOND);
        fixture.answer_ok();
        assert_eq!((offset(&a), offset(&b)), (1, 2));
    }
}

#[test]
fn other_partitions_keep_the_old_epoch_until_nothing_is_in_flight() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    fixture.send(1, "b");
    fixture.answer_error(ErrorCode::UNKNOWN_PRODUCER_ID);
    fixture.after(SECOND);
    fixture.send(1, "c");
    assert_eq!(stamps(&fixture), [(1, 0, 1), (0, 1, 0)], "`c` waits for the old epoch's end");
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    fixture.after(SECOND);
    assert_eq!(stamps(&fixture), [(0, 1, 0), (1, 0, 1)], "what has a number keeps it");
    fixture.answer_ok();
    fixture.answer_ok();
    assert_eq!(stamps(&fixture), [(1, 1, 0)]);
}

#[test]
fn after_the_last_epoch_a_new_producer_id_is_awaited() {
    let last = ProducerIdAndEpoch { epoch: i16::MAX, ..FIRST };
    let mut fixture = TurnFixture::new(Setup { identity: Some(last), ..Setup::new() }).warmed();
    let delivery = fixture.send(0, "a");
    fixture.answer_error(ErrorCode::UNKNOWN_PRODUCER_ID);
    fixture.after(SECOND);
    assert!(fixture.sent.is_empty());
    let next = ProducerIdAndEpoch { producer_id: 8, epoch: 0 };
    fixture.bench.common.identity.answered(Ok(next));
    fixture.turn.look_at_all();
    fixture.run();
    assert_eq!((fixture.sent[0].batches[0].identity, fixture.sent[0].batches[0].sequence), (next, 0));
    fixture.answer_ok();
    assert!(delivery.try_wait().unwrap().is_ok());
}

#[test]
fn nothing_is_sent_without_an_identity_and_it_expires() {
    let mut fixture = TurnFixture::new(Setup { identity: None, ..Setup::new() });
    let delivery = fixture.send(0, "a");
    assert!(fixture.sent.is_empty());
    fixture.after(121 * SECOND);
    assert_eq!(failure(&delivery).written(), Some(Written::No));
}

#[test]
fn a_fatal_answer_fails_everything_that_comes_later() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let first = fixture.send(0, "a");
    fixture.answer_error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!(failure(&first).code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    for n in 0..3 {
        let error = failure(&fixture.send(1, &n.to_string()));
        assert_eq!((error.code(), error.written()), (Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), Some(Written::No)));
    }
}

// ---- connections ----

#[test]
fn a_lost_connection_says_maybe_only_of_what_was_wholly_written() {
    let mut setup = Setup::new();
    setup.rules.retries = 0;
    let mut fixture = TurnFixture::new(setup).warmed();
    let whole = fixture.send(0, "a");
    let part = fixture.put(1, "b");
    fixture.notices();
    assert!(fixture.turn.next_request(fixture.now), "and it is never written");
    fixture.lose();
    assert_eq!((failure(&whole).written(), failure(&part).written()), (Some(Written::Maybe), Some(Written::No)));
    assert_eq!(fixture.take_actions(is_refresh), 1);
}

#[test]
fn what_was_in_flight_is_sent_again_with_its_numbers() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let deliveries: Vec<_> = (0..3).map(|n| fixture.send(0, &n.to_string())).collect();
    fixture.lose();
    assert_eq!(fixture.take_actions(is_connect), 0, "the back-off is not over");
    fixture.reconnect();
    for n in 0..3 {
        assert_eq!(fixture.on_the_wire(), [(0, 1 + n, n.to_string())]);
        fixture.answer_ok();
    }
    assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_lingering_batch_survives_a_lost_connection() {
    let mut fixture = TurnFixture::new(linger(SECOND));
    let delivery = fixture.send(0, "a");
    fixture.lose();
    fixture.after(2 * SECOND);
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.connect();
    fixture.run();
    fixture.answer_ok();
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
        let mut fixture = TurnFixture::new(Setup::new()).warmed();
        let deliveries = [fixture.put(0, "a"), fixture.put(1, "b")];
        fixture.run();
        let request = fixture.sent.pop_front().unwrap();
        let (mut answer, mut correlation) = (response(&request, &[Answer::ok(1), Answer::ok(1)]), request.correlation);
        spoil(&mut answer, &mut correlation);
        let error = fixture.turn.answered(frame(&answer, request.version, correlation), fixture.now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
        // It does not matter which of several faults is reported.
        let is_told = error.to_string().contains(text) || error.to_string().contains("does not name");
        assert!(is_told, "{error}");
        fixture.turn.lost(error, fixture.now);
        fixture.after(SECOND);
        fixture.connect();
        fixture.run();
        while !fixture.sent.is_empty() {
            fixture.answer(|_| Answer::ok(1));
        }
        assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), [1, 1], "{text}");
    }
}

#[test]
fn the_partitions_of_an_answer_come_in_any_order() {
    for version in [11, 13] {
        let topics = vec![("t", 40), ("u", 40)];
        let mut fixture = TurnFixture::new(Setup { version, topics, ..Setup::new() });
        let deliveries: Vec<_> = (0..80).map(|partition| fixture.put(partition, "a")).collect();
        fixture.run();
        let request = fixture.sent.pop_front().unwrap();
        let offset_of = |batch: &SentBatch| {
            i64::from(batch.index) + if batch.topic_id.0[0] == 2 || batch.topic == "u" { 40 } else { 0 }
        };
        let answers: Vec<_> = request.batches.iter().map(|batch| Answer::ok(offset_of(batch))).collect();
        let mut answer = response(&request, &answers);
        let mut random = RandomNumbers::seeded(5);
        for place in (1..answer.responses.len()).rev() {
            answer.responses.swap(place, random.below(place + 1));
        }
        fixture.turn.answered(frame(&answer, request.version, request.correlation), fixture.now).unwrap();
        assert_eq!(deliveries.iter().map(offset).collect::<Vec<_>>(), (0..80).collect::<Vec<i64>>(), "{version}");
    }
}

#[test]
fn an_answer_without_a_request_is_an_error() {
    let mut fixture = TurnFixture::new(Setup::new());
    let answer = frame(&ProduceResponse::default(), 11, 0);
    assert_eq!(fixture.turn.answered(answer, fixture.now).unwrap_err().kind(), ErrorKind::BrokerMisbehaved);
}

#[test]
fn a_throttled_broker_is_left_alone_for_so_long() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    let request = fixture.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 5000, ..response(&request, &[Answer::ok(1)]) };
    fixture.turn.answered(frame(&answer, request.version, request.correlation), fixture.now).unwrap();
    fixture.send(0, "b");
    fixture.after(4 * SECOND);
    assert!(fixture.sent.is_empty());
    assert_eq!(fixture.turn.deadline(fixture.now), Some(fixture.now + SECOND));
    fixture.after(SECOND);
    assert_eq!(values(&fixture), ["b"]);
}

#[test]
fn an_idle_connection_is_given_up_and_made_again_when_needed() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.idle_until(fixture.now + 539 * SECOND);
    assert_eq!(fixture.take_actions(is_disconnect), 0);
    fixture.after(2 * SECOND);
    assert_eq!(fixture.take_actions(is_disconnect), 1);
    fixture.turn.idled();
    let delivery = fixture.send(0, "a");
    assert_eq!(fixture.take_actions(is_connect), 1, "at once");
    fixture.connect();
    fixture.run();
    fixture.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

#[test]
fn an_idle_connection_that_is_needed_again_is_kept() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.now += 541 * SECOND;
    let delivery = fixture.send(0, "a");
    assert_eq!(fixture.take_actions(is_disconnect), 0);
    fixture.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

#[test]
fn a_connection_that_the_broker_closed_while_it_was_idle_is_made_again_at_once() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.now += 600 * SECOND;
    fixture.turn.closed_while_idle(fixture.now);
    let delivery = fixture.send(0, "a");
    assert_eq!(fixture.take_actions(is_connect), 1, "without the back-off of failures");
    // A connection that cannot be made is a failure.
    fixture.lose();
    assert_eq!(fixture.take_actions(is_connect), 0);
    fixture.reconnect();
    fixture.answer_ok();
    assert_eq!(offset(&delivery), 1);
}

// ---- without idempotence ----

#[test]
fn acks_0_ends_with_the_write() {
    let mut fixture = TurnFixture::new(Setup::plain(0));
    let deliveries: Vec<_> = (0..20).map(|n| fixture.send(0, &n.to_string())).collect();
    assert!(fixture.sent.is_empty() && deliveries.iter().all(Delivery::is_done));
    let done = deliveries[0].try_wait().unwrap().unwrap();
    assert_eq!((done.offset(), done.timestamp()), (None, Some(crate::record::Timestamp::from_millis(1000))));
    assert_eq!((fixture.turn.in_flight(), fixture.bench.common.budget.used()), (0, 0));
}

#[test]
fn without_idempotence_a_partition_has_one_batch_in_flight() {
    let mut fixture = TurnFixture::new(Setup::plain(1));
    for value in ["a", "b", "c"] {
        fixture.send(0, value);
    }
    assert_eq!((fixture.on_the_wire(), fixture.sent[0].acks), (vec![(0, -1, "a".into())], 1));
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    assert!(fixture.sent.is_empty(), "the partition is muted while a batch of it is retried");
    fixture.after(SECOND);
    for value in ["a", "b", "c"] {
        assert_eq!(values(&fixture), [value]);
        fixture.answer_ok();
    }
}

#[test]
fn without_idempotence_or_retries_a_partition_still_has_one_batch_in_flight() {
    // The first might have to be split, and its parts would come after the second.
    let mut setup = Setup::plain(1);
    setup.rules.retries = 0;
    let mut fixture = TurnFixture::new(setup);
    let first = fixture.send(0, "a");
    fixture.send(0, "b");
    assert_eq!(values(&fixture), ["a"]);
    fixture.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(failure(&first).written(), Some(Written::Maybe));
}

#[test]
fn nothing_follows_a_batch_that_is_sent_again_before_its_answer() {
    // Otherwise the broker would have forgotten the batch after five later ones, when it is sent for the third time.
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    fixture.answer_error(ErrorCode::REQUEST_TIMED_OUT);
    fixture.send(0, "b");
    fixture.after(SECOND);
    assert_eq!(values(&fixture), ["a"]);
    fixture.answer_ok();
    assert_eq!(values(&fixture), ["b"]);
    fixture.send(0, "c");
    assert_eq!(values(&fixture), ["b", "c"]);
}

// ---- leaders ----

/// Each partition's batch expires at a different time. If each expiry looked at all batches in flight, the number of
/// looks would grow with the square of the number of batches.
#[test]
fn what_expires_in_flight_is_found_without_a_look_at_the_rest() {
    const PARTITIONS: usize = 300;
    let mut setup = Setup::new();
    setup.topics = vec![("t", PARTITIONS)];
    let mut fixture = TurnFixture::new(setup);
    let deliveries: Vec<Delivery> = (0..PARTITIONS)
        .map(|partition| {
            fixture.now += Duration::from_millis(1);
            fixture.put(partition, "a")
        })
        .collect();
    fixture.run();
    assert_eq!(fixture.sent.len(), 1);
    let first = fixture.now + Duration::from_secs(120) - Duration::from_millis(PARTITIONS as u64 - 1);
    let mut sorted = None;
    for (place, delivery) in deliveries.iter().enumerate() {
        let due = first + Duration::from_millis(place as u64);
        assert_eq!(fixture.turn.deadline(fixture.now), Some(due), "the sender wakes for the next one");
        assert!(!delivery.is_done());
        fixture.now = due;
        fixture.run();
        assert_eq!(failure(delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
        assert_eq!(failure(delivery).written(), Some(Written::Maybe));
        // The batches were sorted once, and those that remain were not looked at.
        let expiring = &fixture.turn.up().unwrap().in_flight[0].expiring;
        assert_eq!(expiring.len(), PARTITIONS - 1 - place);
        assert_eq!(*sorted.get_or_insert(expiring.as_ptr()), expiring.as_ptr());
    }
    assert_eq!(fixture.turn.up().unwrap().expires, None);
    fixture.answer_ok();
}

#[test]
fn a_queue_moves_to_the_new_leader_only_when_nothing_of_it_is_in_flight() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    fixture.lead(&[(1, 1), (0, 0), (0, 0)]);
    fixture.send(0, "b");
    assert_eq!(fixture.take_actions(|action| matches!(action, Action::Move(..))), 0);
    assert_eq!(values(&fixture), ["a"]);
    fixture.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let Some(Action::Move(queue, leader)) = fixture.actions.pop() else { panic!("the queue did not move") };
    assert_eq!((leader, queue.moves_from(BrokerId(0))), (BrokerId(1), Some(BrokerId(1))));
    assert!(fixture.turn.queues.len() == 2 && fixture.turn.timers.is_empty());
    // The other broker's turn goes on with the same numbers, without waiting for the back-off.
    let rules = fixture.turn.rules.clone();
    fixture.turn = Turn::new(BrokerId(1), rules, fixture.bench.common.clone());
    fixture.turn.adopt(*queue);
    fixture.connect();
    fixture.run();
    assert_eq!(fixture.on_the_wire(), [(0, 1, "a".into())]);
    fixture.answer_ok();
    assert_eq!(fixture.on_the_wire(), [(0, 2, "b".into())]);
}

#[test]
fn what_moves_from_a_throttled_broker_does_not_wait_for_the_throttle() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let moves = |fixture: &mut TurnFixture| {
        let mut moved = Vec::new();
        fixture.actions.retain(|action| match action {
            Action::Move(queue, leader) => {
                moved.push((queue.name().index, leader.0));
                false
            }
            _ => true,
        });
        moved.sort_unstable();
        moved
    };
    fixture.send(0, "a");
    fixture.send(1, "b");
    let request = fixture.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(1)]) };
    fixture.turn.answered(frame(&answer, request.version, request.correlation), fixture.now).unwrap();
    fixture.send(0, "c");
    assert_eq!(values(&fixture), ["b"]);
    // A partition with a waiting record moves at once, one with a batch in flight moves with the answer, and one
    // without records moves too.
    fixture.lead(&[(1, 1), (1, 1), (1, 1)]);
    assert_eq!(moves(&mut fixture), [(0, 1), (2, 1)]);
    fixture.answer_error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(moves(&mut fixture), [(1, 1)]);
    assert!(!fixture.turn.is_stalled(), "nothing waits for this broker any more");
}

#[test]
fn a_queue_that_a_throttled_broker_could_not_hand_over_is_tried_again_after_a_pause() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    let request = fixture.sent.pop_front().unwrap();
    let answer = ProduceResponse { throttle_time_ms: 3_600_000, ..response(&request, &[Answer::ok(1)]) };
    fixture.turn.answered(frame(&answer, request.version, request.correlation), fixture.now).unwrap();
    fixture.send(0, "b");
    fixture.lead(&[(1, 1), (0, 0), (0, 0)]);
    for _ in 0..3 {
        let Some(Action::Move(queue, BrokerId(1))) = fixture.actions.pop() else { panic!("the queue did not move") };
        fixture.turn.take_back(*queue, fixture.now);
        fixture.run();
        assert_eq!(fixture.take_actions(|action| matches!(action, Action::Move(..))), 0, "not without a pause");
        fixture.after(SECOND);
    }
}

#[test]
fn an_answer_that_names_the_new_leader_is_passed_on() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.send(0, "a");
    fixture.answer(|_| Answer { leader: Some((1, 9)), ..Answer::error(ErrorCode::NOT_LEADER_OR_FOLLOWER) });
    let is_hint = |action: &Action| match action {
        Action::Hint(hints) => {
            let told: Vec<_> = hints.leaders.iter().map(|hint| (&*hint.topic, hint.partition, hint.leader)).collect();
            told == [("t", 0, BrokerId(1))]
                && hints.leaders.iter().all(|hint| (hint.epoch, hint.topic_id) == (9, Uuid([1; 16])))
                && hints.addresses.get(&BrokerId(1)) == Some(&HostPort::new("elsewhere", 9092))
        }
        _ => false,
    };
    assert_eq!(fixture.take_actions(is_hint), 1);
}

#[test]
fn a_partition_without_a_leader_waits_quietly_and_asks_once_for_each_snapshot() {
    for connected in [true, false] {
        let mut fixture = TurnFixture::unconnected(Setup::new());
        fixture.lead(&[(-1, 1), (-1, 1), (-1, 1)]);
        if connected {
            fixture.connect();
        } else {
            fixture.turn.lost(Error::network("refused"), fixture.now);
            fixture.after(2 * SECOND);
        }
        fixture.actions.clear();
        let delivery = fixture.send(0, "a");
        let turns = fixture.idle_until(fixture.now + 100 * SECOND);
        assert!(turns < 5, "{turns}");
        assert_eq!((fixture.take_actions(is_refresh), fixture.take_actions(is_connect)), (1, 0));
        fixture.lead(&[(-1, 1), (-1, 1), (-1, 1)]);
        assert_eq!(fixture.take_actions(is_refresh), 1);
        fixture.after(30 * SECOND);
        assert_eq!(failure(&delivery).code(), Some(ErrorCode::LEADER_NOT_AVAILABLE));
    }
}

// ---- the end ----

#[test]
fn closing_fails_all_and_says_what_may_be_written() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 2, ..linger(3600 * SECOND) });
    fixture.send(0, "a");
    let in_flight = fixture.send(0, "b");
    fixture.send(0, "c");
    let sealed = fixture.send(0, "d");
    let open = fixture.send(1, "e");
    let mut lost = 0;
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    fixture.turn.fail_all(&error, fixture.now, &mut |_, records, _| lost += records);
    for (delivery, written) in [(in_flight, Written::Maybe), (sealed, Written::No), (open, Written::No)] {
        let error = failure(&delivery);
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(written)));
    }
    assert_eq!((lost, fixture.bench.common.budget.used(), fixture.bench.accumulator.unfinished.count()), (5, 0, 0));
}

#[test]
fn closing_fails_and_counts_a_queue_that_is_about_to_move() {
    let mut fixture = TurnFixture::unconnected(Setup::new());
    let delivery = fixture.send(0, "a");
    fixture.turn.on_metadata(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    let mut lost = 0;
    let error = Error::new(ErrorKind::Closed, Recovery::Fatal, "closed");
    fixture.turn.fail_all(&error, fixture.now, &mut |_, records, _| lost += records);
    assert_eq!((failure(&delivery).kind(), lost), (ErrorKind::Closed, 1));
}

#[test]
fn a_queue_that_cannot_be_moved_is_kept_and_moved_later() {
    let mut fixture = TurnFixture::new(Setup { identity: None, ..short() });
    let delivery = fixture.send(0, "a");
    fixture.turn.on_metadata(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    assert!(!fixture.turn.next_request(fixture.now));
    let refuse = |fixture: &mut TurnFixture| {
        let mut refused = 0;
        for action in fixture.turn.take_actions() {
            if let Action::Move(queue, _) = action {
                fixture.turn.take_back(*queue, fixture.now);
                refused += 1;
            }
        }
        refused
    };
    assert_eq!(refuse(&mut fixture), 1);
    assert!(!fixture.turn.next_request(fixture.now));
    assert_eq!(refuse(&mut fixture), 0, "not without a pause");
    fixture.now = fixture.turn.deadline(fixture.now).unwrap();
    fixture.turn.tick(fixture.now);
    assert!(!fixture.turn.next_request(fixture.now));
    assert_eq!(refuse(&mut fixture), 1);
    fixture.now += 3600 * SECOND;
    fixture.turn.tick(fixture.now);
    assert_eq!(failure(&delivery).kind(), ErrorKind::Timeout(Timeout::Delivery));
}

#[test]
fn records_named_by_the_broker_have_their_own_errors() {
    let mut fixture = TurnFixture::new(Setup { batch_records: 3, ..Setup::new() });
    let deliveries: Vec<_> = (0..3).map(|n| fixture.put(0, &n.to_string())).collect();
    fixture.run();
    fixture.answer(|_| Answer {
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
    let mut random = RandomNumbers::seeded(3);
    let mut fixture = TurnFixture::new(Setup { batch_records: 3, ..linger(Duration::from_millis(5)) }).warmed();
    let mut turns = 0;
    for n in 0..1000 {
        fixture.put(random.below(3), &n.to_string());
        fixture.run();
        match random.below(12) {
            0 => fixture.lose(),
            1 if !fixture.sent.is_empty() => fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS),
            2 => fixture.lead(&[(-1, 1), (0, 1), (0, 1)]),
            3..6 => fixture.lead(&[(0, 1), (0, 1), (0, 1)]),
            _ if !fixture.sent.is_empty() => fixture.answer_ok(),
            _ => {}
        }
        if fixture.take_actions(is_connect) > 0 {
            if random.below(2) == 0 { fixture.connect() } else { fixture.lose() }
        }
        fixture.actions.clear();
        turns += fixture.idle_until(fixture.now + Duration::from_millis(20));
    }
    assert!(turns < 5000, "{turns}");
}

#[test]
fn nothing_is_pipelined_before_the_first_acknowledgement_of_a_topic_that_was_made_anew() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.snapshot = snapshot(&[("t", 2, &[(0, 0), (0, 0), (0, 0)])]);
    fixture.turn.on_metadata(&fixture.snapshot);
    for value in ["a", "b", "c"] {
        fixture.send(0, value);
    }
    assert_eq!(stamps(&fixture), [(0, 0, 1)], "the numbers go on, and the new log takes any first one");
    // Otherwise the new log would accept the second batch as the first.
    fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
    fixture.after(SECOND);
    assert_eq!(stamps(&fixture), [(0, 0, 1)]);
    fixture.answer_ok();
    assert_eq!(stamps(&fixture), [(0, 0, 2), (0, 0, 3)]);
}

#[test]
fn a_connection_to_an_old_address_is_left_when_what_is_in_flight_is_answered() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    let first = fixture.send(0, "a");
    fixture.turn.leave_connection();
    fixture.send(0, "b");
    assert_eq!(values(&fixture), ["a"]);
    assert!(!fixture.turn.is_ready_for_one() && !fixture.turn.needs_its_sender(fixture.now));
    assert_eq!(fixture.take_actions(is_disconnect), 0);
    fixture.answer_ok();
    assert_eq!(offset(&first), 1);
    assert!(fixture.turn.is_left() && fixture.take_actions(is_disconnect) > 0);
    fixture.turn.idled();
    fixture.run();
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.connect();
    fixture.run();
    assert_eq!(values(&fixture), ["b"]);
}

#[test]
fn a_connection_to_an_old_address_that_is_still_being_made_is_left_too() {
    let mut fixture = TurnFixture::unconnected(Setup::new());
    fixture.send(0, "a");
    assert_eq!(fixture.take_actions(is_connect), 1);
    fixture.turn.leave_connection();
    fixture.connect();
    fixture.run();
    assert!(fixture.sent.is_empty() && fixture.take_actions(is_disconnect) > 0);
    fixture.turn.idled();
    fixture.run();
    assert_eq!(fixture.take_actions(is_connect), 1);
    // The records may also fail.
    fixture.turn.leave_connection();
    fixture.lose();
    fixture.reconnect();
    assert_eq!(values(&fixture), ["a"]);
}

#[test]
fn a_partition_that_comes_back_before_it_was_looked_at_gives_one_batch_to_a_request() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    fixture.lose();
    let deliveries = [fixture.put(0, "a"), fixture.put(0, "b")];
    fixture.notices();
    let here = fixture.snapshot.clone();
    // It moves away while it is in the list of ready partitions, and comes back.
    fixture.turn.on_metadata(&snapshot(&[("t", 1, &[(1, 1), (0, 0), (0, 0)])]));
    let moved = fixture.turn.take_actions().into_iter().find_map(|action| match action {
        Action::Move(queue, _) => Some(queue),
        _ => None,
    });
    let mut queue = moved.expect("the partition stays with a broker that does not lead it");
    queue.on_metadata(&here);
    fixture.turn.adopt(*queue);
    fixture.turn.on_metadata(&here);
    fixture.reconnect();
    let partitions: Vec<Vec<i32>> =
        fixture.sent.iter().map(|request| request.batches.iter().map(|batch| batch.index).collect()).collect();
    assert_eq!(partitions, [[0], [0]]);
    fixture.answer_ok();
    fixture.answer_ok();
    assert_eq!(deliveries.each_ref().map(offset), [1, 2]);
}

/// The sender handles the first purge when the second one has marked its batches, too.
#[test]
fn of_two_purges_each_is_for_what_was_there_when_it_began() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    // The first purge is of waiting batches, the second of all.
    let a = fixture.send(0, "a");
    let queued = fixture.bench.accumulator.unfinished.purge();
    let all = fixture.bench.accumulator.unfinished.purge();
    fixture.turn.purge(queued, false);
    assert!(!a.is_done());
    fixture.turn.purge(all, true);
    assert_eq!(failure(&a).kind(), ErrorKind::Purged);
    fixture.answer_ok();
    // The first purge is of all batches, the second of waiting ones. The record between them is in flight when the
    // sender is told of both.
    let all = fixture.bench.accumulator.unfinished.purge();
    let b = fixture.send(0, "b");
    assert_eq!(values(&fixture), ["b"]);
    let queued = fixture.bench.accumulator.unfinished.purge();
    fixture.turn.purge(all, true);
    fixture.turn.purge(queued, false);
    fixture.answer_ok();
    assert_eq!(offset(&b), 2);
}

/// Threads that purge at the same time may tell the sender in another order than they began in.
#[test]
fn a_purge_of_everything_gives_up_what_was_in_flight_although_a_later_one_was_told_before() {
    let mut fixture = TurnFixture::new(Setup::new()).warmed();
    for comes_back_between in [false, true] {
        let a = fixture.send(0, "a");
        let all = fixture.bench.accumulator.unfinished.purge();
        let queued = fixture.bench.accumulator.unfinished.purge();
        fixture.turn.purge(queued, false);
        if comes_back_between {
            fixture.answer_error(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        assert!(!a.is_done());
        fixture.turn.purge(all, true);
        assert_eq!(failure(&a).kind(), ErrorKind::Purged, "back between the two: {comes_back_between}");
        if !comes_back_between {
            fixture.answer_ok();
        }
    }
}

/// A purge seals the open batch after its queue was found ready.
#[test]
fn what_is_purged_between_two_looks_is_not_sent() {
    let mut fixture = TurnFixture::new(Setup::new());
    let delivery = fixture.put(0, "a");
    fixture.bench.accumulator.unfinished.purge();
    assert!(fixture.turn.take(PartitionId(0), 11).is_none());
    assert_eq!((failure(&delivery).kind(), failure(&delivery).written()), (ErrorKind::Purged, Some(Written::No)));
}

/// Whoever drove the link has panicked, and its batches go with it.
#[test]
fn what_is_dropped_while_the_producer_closes_is_counted() {
    let mut fixture = TurnFixture::new(Setup::new());
    let (count, lost) = std::sync::mpsc::channel();
    let count = parking_lot::Mutex::new(count);
    fixture.bench.accumulator.unfinished.watch_losses(move |partition, records, error| {
        count.lock().send((partition.clone(), records, error.kind())).unwrap();
    });
    let deliveries = [fixture.put(0, "a"), fixture.put(0, "b")];
    drop(fixture.turn.queue_mut(PartitionId(0)).unwrap().take_all());
    assert!(deliveries.iter().all(|delivery| failure(delivery).kind() == ErrorKind::Closed));
    let each = (TopicPartition::new("t", 0), 1, ErrorKind::Closed);
    assert_eq!(lost.try_iter().collect::<Vec<_>>(), [each.clone(), each]);
    // What a close gives up it counts by itself.
    fixture.put(1, "c");
    let closed = Error::new(ErrorKind::Closed, Recovery::Fatal, "for the test");
    fixture.turn.fail_all(&closed, fixture.now, &mut |_, _, _| ());
    assert_eq!(lost.try_iter().count(), 0);
}

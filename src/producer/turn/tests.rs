//! The promises of the turn, one by one, with a clock that is moved by hand and a broker that says what the test wants.

use super::rig::{Answer, FIRST, Rig, SentBatch, Setup, failure, frame, offset, response, snapshot};
use super::*;
use crate::error::{Timeout, Written};
use crate::producer::delivery::Delivery;
use crate::topic::ProducerIdAndEpoch;

const SECOND: Duration = Duration::from_secs(1);

fn is_refresh(action: &Action) -> bool {
    matches!(action, Action::RefreshMetadata)
}

fn is_connect(action: &Action) -> bool {
    matches!(action, Action::Connect { .. })
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
        assert_eq!((error.kind(), error.written()), (ErrorKind::UnsupportedVersion, Written::No));
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
    assert_eq!((error.written(), error.context().attempts), (Written::No, Some(2)));
    let delivery = rig.send(0, "b");
    assert_eq!(rig.on_the_wire(), [(0, 1, "b".into())], "the numbers of what was refused are used again");
    rig.lose();
    assert!(!delivery.is_done());
    rig.reconnect();
    rig.lose();
    let error = failure(&delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Network, Written::Maybe));
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
    assert_eq!(failure(&refused).written(), Written::No);
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
    assert_eq!(failure(&a).written(), Written::No);
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
        assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Delivery), Written::No));
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
    assert_eq!(failure(&delivery).written(), Written::No);
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
    assert_eq!(failure(&delivery).written(), Written::No);
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
        assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(code), written));
        assert!(error.context().attempts.unwrap() > 5);
        assert!(rig.sent.is_empty());
    }
}

#[test]
fn a_batch_in_flight_expires_as_maybe_written_and_its_answer_still_counts() {
    let mut rig = Rig::new(short()).warmed();
    let delivery = rig.send(0, "a");
    rig.after(11 * SECOND);
    assert_eq!(failure(&delivery).written(), Written::Maybe);
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
fn a_single_record_that_is_too_large_fails_and_its_successor_takes_its_number() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let (large, next) = (rig.send(0, "large"), rig.send(0, "next"));
    rig.answer_error(ErrorCode::MESSAGE_TOO_LARGE);
    rig.answer_error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let error = failure(&large);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), Written::No));
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
    assert_eq!((error.kind(), error.written()), (ErrorKind::OutOfSequence, Written::Maybe));
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
    assert_eq!(failure(&delivery).written(), Written::No);
}

#[test]
fn a_fatal_answer_fails_everything_that_comes_later() {
    let mut rig = Rig::new(Setup::new()).warmed();
    let first = rig.send(0, "a");
    rig.answer_error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!(failure(&first).code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    for n in 0..3 {
        let error = failure(&rig.send(1, &n.to_string()));
        assert_eq!((error.code(), error.written()), (Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), Written::No));
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
    assert_eq!((failure(&whole).written(), failure(&part).written()), (Written::Maybe, Written::No));
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
    assert_eq!((done.offset, done.timestamp), (-1, 1000));
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
    assert_eq!(failure(&first).written(), Written::Maybe);
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
    assert_eq!((leader, queue.in_flight), (BrokerId(1), 0));
    assert!(rig.turn.queues.len() == 2 && rig.turn.timers.is_empty());
    // The other broker's turn goes on with the same numbers, without waiting for the back-off.
    let rules = rig.turn.rules.clone();
    rig.turn = Turn::new(BrokerId(1), rules, rig.bench.common.clone(), rig.now);
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
                moved.push((queue.partition.name().partition, leader.0));
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
                && hints.leaders.iter().all(|hint| hint.epoch == 9)
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
    rig.turn.fail_all(&error, &mut |_, records| lost += records);
    for (delivery, written) in [(in_flight, Written::Maybe), (sealed, Written::No), (open, Written::No)] {
        let error = failure(&delivery);
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, written));
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
    rig.turn.fail_all(&error, &mut |_, records| lost += records);
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
        assert_eq!((error.recovery(), error.written()), (Recovery::Retry, Written::No));
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

//! What the calls of a transaction say when an outcome comes late, is lost, or is decided by others: on a fake cluster.

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::internal_unstable::RawProducer;
use kafka_blocking::testing::{Api, FakeCluster, Fault, FaultHandle, On, TransactionVersion};
use kafka_blocking::{
    BrokerId, Error, ErrorCode, ErrorKind, GroupMetadata, InterceptorError, Producer, ProducerBuilder,
    ProducerInterceptor, Record, Recovery, Result, Timeout, Transaction, Written,
};

use super::{BOTH, MINUTE, PATIENCE, both_at_once, committed, offsets, ready, record, start};
use crate::common::{at_once, until, watch_for_panics};

fn builder(cluster: &FakeCluster) -> ProducerBuilder {
    super::builder(cluster).max_block(PATIENCE)
}

fn pay(transaction: &Transaction) -> Result<()> {
    transaction.send(record(0, "payment-1")).wait().map(drop)
}

/// Has the answer to EndTxn come after `max_block`, when it is cancelled, so that the call that waits gives up.
fn late_end(cluster: &FakeCluster) -> FaultHandle {
    cluster.inject(On::api(Api::EndTxn), Fault::Hold)
}

fn facts(error: &Error) -> (ErrorKind, Recovery, Option<Written>) {
    (error.kind(), error.recovery(), error.written())
}

const TIMED_OUT: ErrorKind = ErrorKind::Timeout(Timeout::Transaction);

#[test]
fn a_commit_whose_answer_came_after_the_call_is_told_by_the_same_call() {
    watch_for_panics();
    both_at_once(|version| at_once([late_for_javas_calls, late_for_the_guard], |test| test(version)));
}

fn late_for_javas_calls(version: TransactionVersion) {
    let cluster = start(version);
    let producer = ready(builder(&cluster));
    let end = late_end(&cluster);
    producer.begin_transaction().unwrap();
    producer.send(record(0, "a")).detach();
    let late = producer.commit_transaction().unwrap_err();
    assert_eq!(facts(&late), (TIMED_OUT, Recovery::Retry, Some(Written::Maybe)), "{late:?}");
    assert_eq!(end.fired(), 1);
    end.cancel();
    until("it is ended", || producer.metrics().transactions.committed == 1);
    producer.commit_transaction().unwrap();
    // It has been told, so that there is nothing more to commit.
    assert_eq!(producer.commit_transaction().unwrap_err().kind(), ErrorKind::Misuse);
    producer.in_transaction(|next| next.send(record(0, "b")).wait()).unwrap();
    assert_eq!(committed(&cluster), ["a", "b"]);
}

/// Also after another transaction.
fn late_for_the_guard(version: TransactionVersion) {
    let cluster = start(version);
    let producer = ready(builder(&cluster));
    let end = late_end(&cluster);
    let transaction = producer.transaction().unwrap();
    transaction.send(record(0, "b"));
    let late = transaction.commit().unwrap_err();
    assert_eq!(facts(late.error()), (TIMED_OUT, Recovery::Retry, Some(Written::Maybe)), "{late:?}");
    assert_eq!(end.fired(), 1);
    end.cancel();
    until("it is ended", || producer.metrics().transactions.committed == 1);
    producer.in_transaction(|next| next.send(record(0, "c")).wait()).unwrap();
    late.into_transaction().commit().unwrap();
    assert_eq!(committed(&cluster), ["b", "c"]);
}

#[test]
fn work_that_could_not_begin_behind_a_commit_without_an_outcome_is_not_written() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let end = late_end(&cluster);
        let first = producer.in_transaction(|transaction| transaction.send(record(0, "a")).wait()).unwrap_err();
        assert_eq!(facts(&first), (TIMED_OUT, Recovery::Fix, Some(Written::Maybe)), "{first:?}");
        let second = producer.in_transaction(|transaction| transaction.send(record(0, "b")).wait()).unwrap_err();
        assert_eq!(facts(&second), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{second:?}");
        assert_eq!(end.fired(), 1);
        end.cancel();
        until("it is ended", || producer.metrics().transactions.committed == 1);
        producer.in_transaction(|transaction| transaction.send(record(0, "b")).wait()).unwrap();
        assert_eq!(committed(&cluster), ["a", "b"]);
    });
}

#[test]
fn an_abort_whose_answer_came_after_the_call_is_told_by_the_same_call() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let end = late_end(&cluster);
        producer.begin_transaction().unwrap();
        producer.send(record(0, "a")).wait().unwrap();
        let late = producer.abort_transaction().unwrap_err();
        assert_eq!(facts(&late), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{late:?}");
        assert_eq!(end.fired(), 1);
        end.cancel();
        until("it is ended", || producer.metrics().transactions.aborted == 1);
        producer.abort_transaction().unwrap();
        assert_eq!(producer.abort_transaction().unwrap_err().kind(), ErrorKind::Misuse);
    });
}

#[test]
fn an_initialisation_whose_answer_came_after_the_call_is_told_by_the_same_call() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let held = cluster.inject(On::api(Api::InitProducerId), Fault::Hold);
    let producer = builder(&cluster).build().unwrap();
    let late = producer.init_transactions().unwrap_err();
    assert_eq!(late.kind(), TIMED_OUT, "{late:?}");
    assert_eq!(held.fired(), 1);
    held.cancel();
    until("the answer came", || {
        let refused = producer.send(record(0, "too early")).wait().unwrap_err();
        refused.to_string().contains("no transaction is open")
    });
    producer.init_transactions().unwrap();
    assert_eq!(producer.init_transactions().unwrap_err().kind(), ErrorKind::Misuse);
    producer.in_transaction(pay).unwrap();
}

#[test]
fn a_commit_without_an_outcome_never_says_that_the_work_can_be_done_again() {
    watch_for_panics();
    type Way = fn(&Producer) -> Result<()>;
    fn closure(producer: &Producer) -> Result<()> {
        producer.in_transaction(pay)
    }
    fn guard(producer: &Producer) -> Result<()> {
        let transaction = producer.transaction()?;
        pay(&transaction)?;
        transaction.commit()?;
        Ok(())
    }
    let ways: [(&str, Way); 2] = [("in_transaction", closure), ("?", guard)];
    both_at_once(|version| {
        thread::scope(|scope| {
            for (name, way) in ways {
                scope.spawn(move || {
                    let cluster = start(version);
                    let producer = ready(builder(&cluster));
                    let end = late_end(&cluster);
                    let error = way(&producer).unwrap_err();
                    assert_eq!(facts(&error), (TIMED_OUT, Recovery::Fix, Some(Written::Maybe)), "{name}: {error:?}");
                    assert_eq!(end.fired(), 1);
                    end.cancel();
                    // What it says instead.
                    let deadline = Instant::now() + MINUTE;
                    while let Err(error) = producer.commit_transaction() {
                        assert_eq!(
                            facts(&error),
                            (TIMED_OUT, Recovery::Retry, Some(Written::Maybe)),
                            "{name}: {error:?}"
                        );
                        assert!(Instant::now() < deadline);
                    }
                    assert_eq!(committed(&cluster), ["payment-1"], "{name}");
                });
            }
        });
    });
}

#[test]
fn what_is_not_committed_can_be_done_again() {
    watch_for_panics();
    // Nothing has been asked of the coordinator when the time is over, so that the transaction is aborted.
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster));
    let stuck = cluster.inject(On::produce().always(), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let error = producer.in_transaction(|transaction| {
        drop(transaction.send(record(0, "payment-1")));
        Ok(())
    });
    let error = error.unwrap_err();
    assert_eq!(facts(&error), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{error:?}");
    stuck.cancel();
    producer.in_transaction(pay).unwrap();
    assert_eq!(committed(&cluster), ["payment-1"]);
}

#[test]
fn an_error_that_ends_the_producer_does_not_deny_a_commit_whose_answer_was_lost() {
    watch_for_panics();
    let fatal = [ErrorCode::PRODUCER_FENCED, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ErrorCode(999)];
    for version in BOTH {
        for code in fatal {
            for lost in [true, false] {
                let cluster = start(version);
                let producer = ready(builder(&cluster));
                let answer = cluster.inject(On::api(Api::EndTxn).times(usize::from(lost)), Fault::DropAnswer);
                cluster.inject(On::api(Api::EndTxn), Fault::Error(code));
                let error = producer.in_transaction(pay).unwrap_err();
                let text = format!("{code}, {version:?}, lost: {lost}: {error:?}");
                assert_eq!(answer.fired(), usize::from(lost));
                // Nobody knows what a code means that is not in the table.
                let maybe = lost || code == ErrorCode(999);
                let written = Some(if maybe { Written::Maybe } else { Written::No });
                assert_eq!((error.recovery(), error.written()), (Recovery::Fatal, written), "{text}");
                assert_eq!(committed(&cluster).is_empty(), !lost, "{text}");
                // The same call again says the same; a call about something else says nothing of that commit.
                assert_eq!(producer.commit_transaction().unwrap_err().written(), written, "{text}");
                let next = producer.transaction().unwrap_err();
                assert_eq!((next.recovery(), next.written()), (Recovery::Fatal, None), "{text}");
                assert_eq!(
                    producer.send(record(0, "later")).wait().unwrap_err().written(),
                    Some(Written::No),
                    "{text}"
                );
                let closed = producer.close_timeout(MINUTE);
                assert_eq!(closed.is_err_and(|undelivered| undelivered.commit_in_doubt()), maybe, "{text}");
            }
        }
    }
}

#[test]
fn another_instance_does_not_deny_a_commit_whose_answer_was_lost() {
    watch_for_panics();
    for version in BOTH {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let lost = cluster.inject(On::api(Api::EndTxn), Fault::DropAnswer);
        let away = cluster.inject(On::api(Api::EndTxn).always(), Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let error = thread::scope(|scope| {
            let commit = scope.spawn(|| producer.in_transaction(pay).unwrap_err());
            assert!(away.wait_fired(1, MINUTE));
            RawProducer::connect(cluster.bootstrap(), "shop").unwrap().init(MINUTE).unwrap();
            away.cancel();
            commit.join().unwrap()
        });
        assert_eq!(lost.fired(), 1);
        assert_eq!(facts(&error), (ErrorKind::Fenced, Recovery::Fatal, Some(Written::Maybe)), "{version:?}: {error:?}");
        assert_eq!(committed(&cluster), ["payment-1"]);
    }
}

#[test]
fn close_says_that_a_commit_has_no_outcome() {
    watch_for_panics();
    for version in BOTH {
        let cluster = start(version);
        let producer = ready(builder(&cluster).max_block(MINUTE));
        let hung = cluster.inject(On::api(Api::EndTxn), Fault::Hang);
        thread::scope(|scope| {
            let commit = scope.spawn(|| producer.in_transaction(pay).unwrap_err());
            assert!(hung.wait_fired(1, MINUTE));
            let undelivered = producer.close_timeout(Duration::from_millis(10)).unwrap_err();
            assert!(undelivered.commit_in_doubt(), "{undelivered:?}");
            assert_eq!(undelivered.records(), 0);
            let text = undelivered.to_string();
            assert!(text.contains("commit") && !text.contains("0 records"), "{text}");
            let error = Error::from(undelivered);
            assert_eq!(
                facts(&error),
                (ErrorKind::Timeout(Timeout::Close), Recovery::Fatal, Some(Written::Maybe)),
                "{error:?}"
            );
            let error = commit.join().unwrap();
            assert_eq!(facts(&error), (ErrorKind::Closed, Recovery::Fatal, Some(Written::Maybe)), "{error:?}");
        });
    }
}

/// Harmless failures come first: what was not sent is given up. Then the one that was in flight is lost.
#[test]
fn in_v1_the_epoch_is_bumped_after_a_lost_batch_whatever_fails_before_it() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V1);
    let producer = builder(&cluster)
        .max_block(MINUTE)
        .request_timeout(PATIENCE)
        .delivery_timeout(MINUTE)
        .max_in_flight(1)
        .batch_records(1)
        .build()
        .unwrap();
    producer.init_transactions().unwrap();
    producer.in_transaction(|all| (0..2).try_for_each(|i| all.send(record(i, "x")).wait().map(drop))).unwrap();
    let hung = cluster.inject(On::produce(), Fault::Hang);
    let transaction = producer.transaction().unwrap();
    let lost = transaction.send(record(0, "lost"));
    assert!(hung.wait_fired(1, MINUTE));
    // So many that some are given up while the abort waits for the other one.
    let waiting: Vec<_> = (0..3000).map(|_| transaction.send(record(1, "waiting"))).collect();
    transaction.abort().unwrap();
    for waiting in waiting {
        assert_eq!(facts(&waiting.wait().unwrap_err()), (ErrorKind::Aborted, Recovery::Retry, Some(Written::No)));
    }
    assert_eq!(lost.wait().unwrap_err().written(), Some(Written::Maybe));
    producer.in_transaction(|next| next.send(record(0, "y")).wait()).unwrap();
    assert_eq!(cluster.request_count(Api::InitProducerId), 2, "the second one bumps the epoch");
    assert_eq!(committed(&cluster), ["x", "y"]);
}

#[test]
fn a_transaction_whose_offsets_are_never_taken_can_be_aborted() {
    watch_for_panics();
    let check = |version, by_drop| {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let gone = cluster.inject(On::api(Api::TxnOffsetCommit).always(), Fault::Error(code));
        {
            let transaction = producer.transaction().unwrap();
            transaction.send(record(0, "a")).wait().unwrap();
            let error = transaction.send_offsets(offsets(1), &GroupMetadata::new("group")).unwrap_err();
            assert_eq!(error.kind(), TIMED_OUT);
            let ends = cluster.request_count(Api::EndTxn);
            let late = transaction.commit().unwrap_err();
            assert_eq!(facts(late.error()), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{late:?}");
            // The coordinator has not been asked to commit.
            assert_eq!(cluster.request_count(Api::EndTxn), ends);
            if by_drop {
                let error = Error::from(late);
                assert_eq!(facts(&error), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{error:?}");
            } else {
                late.into_transaction().abort().unwrap();
            }
        }
        assert!(gone.fired() > 0);
        gone.cancel();
        producer
            .in_transaction(|transaction| {
                transaction.send(record(0, "b"));
                transaction.send_offsets(offsets(2), &GroupMetadata::new("group"))
            })
            .unwrap();
        assert_eq!(committed(&cluster), ["b"]);
        assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 2);
    };
    at_once([false, true], |by_drop| both_at_once(|version| check(version, by_drop)));
}

#[test]
fn a_commit_that_never_reached_the_coordinator_can_be_aborted() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let transaction = producer.transaction().unwrap();
        pay(&transaction).unwrap();
        // The connection is gone, and the coordinator is not found.
        let broker = cluster.transaction_coordinator("shop").unwrap();
        let away =
            cluster.inject(On::api(Api::FindCoordinator).always(), Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        cluster.cut_connections(broker);
        let late = transaction.commit().unwrap_err();
        assert_eq!(facts(late.error()), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{late:?}");
        assert_eq!(late.error().code(), Some(ErrorCode::COORDINATOR_NOT_AVAILABLE), "{late:?}");
        assert!(away.fired() > 0);
        away.cancel();
        late.into_transaction().abort().unwrap();
        producer.in_transaction(pay).unwrap();
        assert_eq!(committed(&cluster), ["payment-1"]);
    });
}

/// Whoever is asked where the coordinator is says nothing, so that the commit's time ends in the middle of that.
#[test]
fn a_commit_that_waits_for_its_coordinator_to_be_found_is_not_in_doubt() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        // Longer than the commit has, and shorter than the commit and the abort have.
        let producer = ready(builder(&cluster).request_timeout(PATIENCE + PATIENCE / 6));
        let transaction = producer.transaction().unwrap();
        pay(&transaction).unwrap();
        producer.flush_timeout(MINUTE).unwrap();
        let silent = cluster.inject(On::api(Api::FindCoordinator), Fault::Hang);
        cluster.cut_connections(cluster.transaction_coordinator("shop").unwrap());
        let late = transaction.commit().unwrap_err();
        assert_eq!(facts(late.error()), (TIMED_OUT, Recovery::Retry, Some(Written::No)), "{late:?}");
        assert_eq!(silent.fired(), 1);
        // It is not asked for any more although it is found now.
        late.into_transaction().abort().unwrap();
        producer.in_transaction(pay).unwrap();
        assert_eq!(committed(&cluster), ["payment-1"]);
    });
}

#[test]
fn a_coordinator_that_is_not_available_is_looked_for_after_the_back_off_and_told_as_the_cause() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let pause = Duration::from_millis(100);
    let builder = |max_block| {
        Producer::builder(cluster.bootstrap())
            .transactional_id("shop")
            .max_block(max_block)
            .retry_backoff(pause)
            .retry_backoff_max(pause)
    };
    let unavailable = Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let away = cluster.inject(On::api(Api::FindCoordinator).times(3), unavailable.clone());
    let producer = builder(MINUTE).build().unwrap();
    producer.init_transactions().unwrap();
    assert_eq!(away.fired(), 3);
    let requests = cluster.requests();
    let at: Vec<Instant> =
        requests.iter().filter(|seen| seen.api == Api::FindCoordinator).map(|seen| seen.at).collect();
    assert_eq!(at.len(), 4);
    // The back-off varies by a fifth.
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= pause * 3 / 4), "{at:?}");

    let away = cluster.inject(On::api(Api::FindCoordinator).always(), unavailable);
    let error = builder(PATIENCE).build().unwrap().init_transactions().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (TIMED_OUT, Recovery::Retry), "{error:?}");
    assert_eq!(error.code(), Some(ErrorCode::COORDINATOR_NOT_AVAILABLE), "{error:?}");
    assert!(away.fired() > 1);
}

#[test]
fn a_coordinator_that_is_refused_is_told_at_once() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    cluster.deny_transactional_id("shop");
    let producer = builder(&cluster).max_block(2 * MINUTE).build().unwrap();
    let begun = Instant::now();
    let error = producer.init_transactions().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), "{error:?}");
    assert!(begun.elapsed() < MINUTE);
    assert_eq!(cluster.request_count(Api::FindCoordinator), 1, "it is not asked for again");
}

#[test]
fn offsets_after_the_broker_has_timed_the_transaction_out() {
    watch_for_panics();
    for version in BOTH {
        for has_group in [false, true] {
            let cluster = start(version);
            let producer = ready(builder(&cluster));
            let group = GroupMetadata::new("group");
            let transaction = producer.transaction().unwrap();
            transaction.send(record(0, "a")).wait().unwrap();
            if has_group {
                transaction.send_offsets(offsets(1), &group).unwrap();
            }
            assert!(cluster.time_out_transaction("shop"));
            let error = transaction.send_offsets(offsets(2), &group).unwrap_err();
            let text = format!("{version:?} {has_group}: {error:?}");
            if version == TransactionVersion::V1 {
                // It looks the same as another instance, which the older protocol cannot tell.
                assert_eq!((error.kind(), error.recovery()), (ErrorKind::Fenced, Recovery::Fatal), "{text}");
                continue;
            }
            assert_eq!(error.recovery(), Recovery::AbortTransaction, "{text}");
            assert_eq!(error.code(), Some(ErrorCode::INVALID_PRODUCER_EPOCH), "{text}");
            transaction.abort().unwrap_or_else(|error| panic!("{text}: {error:?}"));
            producer
                .in_transaction(|transaction| {
                    transaction.send(record(0, "b"));
                    transaction.send_offsets(offsets(3), &group)
                })
                .unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(committed(&cluster), ["b"]);
            assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 3);
        }
    }
}

/// Ends the transaction, and begins the next one, while a record of it is on its way between the check and its batch.
#[derive(Clone, Default)]
struct Intruder {
    producer: Arc<OnceLock<Producer>>,
    armed: Arc<Mutex<bool>>,
}

impl ProducerInterceptor<Record<'_>> for Intruder {
    fn on_send(&self, _: &mut Record<'_>) -> Result<(), InterceptorError> {
        if std::mem::take(&mut *self.armed.lock().unwrap()) {
            let producer = self.producer.get().unwrap();
            producer.abort_transaction()?;
            producer.begin_transaction()?;
        }
        Ok(())
    }
}

#[test]
fn a_record_does_not_enter_the_transaction_after_its_own() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let intruder = Intruder::default();
    let producer = ready(builder(&cluster).interceptor(intruder.clone()));
    intruder.producer.set(producer.clone()).ok().unwrap();
    type Send = fn(&Transaction) -> Error;
    let sends: [(&str, Send); 3] = [
        ("send", |transaction| transaction.send(record(0, "stray")).wait().unwrap_err()),
        ("try_send", |transaction| transaction.try_send(record(0, "stray")).unwrap_err().into()),
        ("send_with", |transaction| {
            let (tell, told) = mpsc::channel();
            transaction.send_with(record(0, "stray"), move |result| tell.send(result).unwrap());
            told.recv_timeout(MINUTE).unwrap().unwrap_err()
        }),
    ];
    for (name, send) in sends {
        let transaction = producer.transaction().unwrap();
        pay(&transaction).unwrap();
        *intruder.armed.lock().unwrap() = true;
        let error = send(&transaction);
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Misuse, Recovery::Fix), "{name}: {error:?}");
        // The next one is not harmed.
        producer.send(record(0, name)).detach();
        producer.commit_transaction().unwrap();
    }
    assert_eq!(committed(&cluster), ["send", "try_send", "send_with"]);
    // The producer is one of its own handles here.
    producer.close_timeout(MINUTE).unwrap();
}

#[test]
fn a_timeout_says_what_stood_in_the_way() {
    watch_for_panics();
    thread::scope(|scope| {
        for code in [ErrorCode::CONCURRENT_TRANSACTIONS, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
            let cause = move |error: &Error| {
                assert_eq!(error.kind(), TIMED_OUT, "{error:?}");
                assert_eq!(error.code(), Some(code), "{error:?}");
            };
            scope.spawn(move || {
                let cluster = start(TransactionVersion::V2);
                let away = cluster.inject(On::api(Api::InitProducerId).always(), Fault::Error(code));
                let producer = builder(&cluster).build().unwrap();
                cause(&producer.init_transactions().unwrap_err());
                away.cancel();
                producer.init_transactions().unwrap();
                let transaction = producer.transaction().unwrap();
                pay(&transaction).unwrap();
                let away = cluster.inject(On::api(Api::EndTxn).always(), Fault::Error(code));
                cause(&transaction.abort().unwrap_err());
                away.cancel();
            });
            scope.spawn(move || {
                let cluster = start(TransactionVersion::V2);
                let producer = ready(builder(&cluster));
                let away = cluster.inject(On::api(Api::TxnOffsetCommit).always(), Fault::Error(code));
                let transaction = producer.transaction().unwrap();
                cause(&transaction.send_offsets(offsets(1), &GroupMetadata::new("group")).unwrap_err());
                away.cancel();
                transaction.commit().unwrap();
            });
            scope.spawn(move || {
                let cluster = start(TransactionVersion::V2);
                let producer = ready(builder(&cluster));
                let transaction = producer.transaction().unwrap();
                pay(&transaction).unwrap();
                let away = cluster.inject(On::api(Api::EndTxn).always(), Fault::Error(code));
                let late = transaction.commit().unwrap_err();
                cause(late.error());
                cause(&producer.transaction().unwrap_err());
                away.cancel();
                until("it is committed", || producer.metrics().transactions.committed == 1);
                let transaction = producer.transaction().unwrap();
                pay(&transaction).unwrap();
                transaction.commit().unwrap();
            });
        }
        // A connection that breaks each time.
        scope.spawn(|| {
            let cluster = start(TransactionVersion::V2);
            cluster.inject(On::api(Api::InitProducerId).always(), Fault::CutBefore);
            let error = builder(&cluster).build().unwrap().init_transactions().unwrap_err();
            assert_eq!(error.kind(), TIMED_OUT);
            let cause = std::error::Error::source(&error).expect("the cause").to_string();
            assert!(cause.contains(&cluster.address(BrokerId(1))), "{cause}");
        });
    });
}

#[test]
fn a_record_that_was_never_sent_says_why_its_producer_had_no_identity() {
    watch_for_panics();
    let code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    let check = |error: Error| {
        assert_eq!(error.context().attempts, Some(0), "{error:?}");
        assert_eq!((error.code(), error.written()), (Some(code), Some(Written::No)), "{error:?}");
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let cluster = start(TransactionVersion::V2);
            let away = cluster.inject(On::api(Api::InitProducerId).always(), Fault::Error(code));
            let producer = Producer::builder(cluster.bootstrap())
                .request_timeout(PATIENCE)
                .delivery_timeout(PATIENCE)
                .linger(Duration::ZERO)
                .build()
                .unwrap();
            check(producer.send(record(0, "a")).wait().unwrap_err());
            assert!(away.fired() > 0);
        });
        scope.spawn(|| {
            let cluster = start(TransactionVersion::V1);
            let away = cluster.inject(On::api(Api::AddPartitionsToTxn).always(), Fault::Error(code));
            let producer = builder(&cluster)
                .request_timeout(PATIENCE)
                .delivery_timeout(PATIENCE)
                .linger(Duration::ZERO)
                .build()
                .unwrap();
            producer.init_transactions().unwrap();
            let transaction = producer.transaction().unwrap();
            check(transaction.send(record(0, "a")).wait().unwrap_err());
            assert!(away.fired() > 0);
            transaction.abort().unwrap();
        });
    });
}

#[test]
fn in_a_transaction_a_failed_record_says_that_only_an_abort_helps() {
    watch_for_panics();
    both_at_once(|version| {
        // The code that the broker answers with, and what can be done once the transaction is aborted.
        for (code, after) in [
            (ErrorCode::INVALID_RECORD, Recovery::Fix),
            (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, Recovery::Retry),
            (ErrorCode::INVALID_PRODUCER_EPOCH, Recovery::Retry),
        ] {
            let cluster = start(version);
            let producer = ready(builder(&cluster));
            producer.in_transaction(|first| first.send(record(0, "first")).wait()).unwrap();
            cluster.inject(On::produce(), Fault::Error(code));
            let transaction = producer.transaction().unwrap();
            let error = transaction.send(record(0, "a")).wait().unwrap_err();
            assert_eq!((error.code(), error.recovery()), (Some(code), Recovery::AbortTransaction), "{error:?}");
            transaction.abort().unwrap();

            // Where the abort is done already, the error says what comes after it.
            let failed = cluster.inject(On::produce().times(2), Fault::Error(code));
            let by_work = producer.in_transaction(|transaction| transaction.send(record(0, "b")).wait()).unwrap_err();
            let by_commit = producer.in_transaction(|transaction| {
                drop(transaction.send(record(0, "c")));
                Ok(())
            });
            for error in [by_work, by_commit.unwrap_err()] {
                assert_eq!(error.code(), Some(code), "{error:?}");
                assert_eq!((error.recovery(), error.written()), (after, Some(Written::No)), "{error:?}");
            }
            assert_eq!(failed.fired(), 2);
            producer.in_transaction(|last| last.send(record(0, "last")).wait()).unwrap();
            assert_eq!(committed(&cluster), ["first", "last"], "{code} {version:?}");
        }
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let transaction = producer.transaction().unwrap();
        let error = transaction.send(record(99, "a")).wait().unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::AbortTransaction));
        transaction.abort().unwrap();
        // Outside of a transaction, and in one that is refused for its own sake, nothing is to be aborted.
        let error = producer.in_transaction(|transaction| transaction.send(record(99, "a")).wait()).unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::Fix), "{error:?}");
    });
}

#[test]
fn an_expired_producer_id_says_what_has_happened_and_what_to_do() {
    watch_for_panics();
    for version in BOTH {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        producer.in_transaction(pay).unwrap();
        assert!(cluster.forget_transactional_id("shop"));
        let error = producer.in_transaction(|transaction| -> Result<()> {
            transaction.send(record(0, "late"));
            Ok(())
        });
        let error = error.unwrap_err();
        assert_eq!((error.code(), error.recovery()), (Some(ErrorCode::INVALID_PRODUCER_ID_MAPPING), Recovery::Fatal));
        let text = error.to_string();
        for part in ["\"shop\"", "transactional.id.expiration.ms", "build a new one"] {
            assert!(text.contains(part), "{version:?}: {text}");
        }
    }
}

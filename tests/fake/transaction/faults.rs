//! Transactions on a fake cluster that answers with every error of the protocol, loses answers, and moves coordinators.

use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::internal_unstable::RawProducer;
use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On, SeenRequest, TransactionVersion};
use kafka_blocking::{
    BrokerId, Error, ErrorCode, ErrorKind, GroupMetadata, Producer, Recovery, Result, Timeout, Transaction,
};

use super::{BOTH, MINUTE, PATIENCE, both_at_once, builder, committed, offsets, ready, record, start};
use crate::common::{until, watch_for_panics};

/// A transaction with a record and an offset.
fn fill(transaction: &Transaction, value: &str, offset: i64) -> Result<()> {
    transaction.send(record(0, value));
    transaction.send_offsets(offsets(offset), &GroupMetadata::new("group"))
}

fn whole(producer: &Producer, value: &str, offset: i64) -> Result<()> {
    producer.in_transaction(|transaction| fill(transaction, value, offset))
}

fn is_clean(cluster: &FakeCluster) {
    assert_eq!(cluster.refusals(), Vec::<String>::new());
}

/// The requests of a transaction with a record and an offset.
fn requests(version: TransactionVersion) -> Vec<Api> {
    let mut apis = vec![Api::FindCoordinator, Api::InitProducerId, Api::Produce, Api::TxnOffsetCommit, Api::EndTxn];
    if version == TransactionVersion::V1 {
        apis.extend([Api::AddPartitionsToTxn, Api::AddOffsetsToTxn]);
    }
    apis
}

#[test]
fn what_can_be_asked_again_is() {
    watch_for_panics();
    let codes = [
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NOT_ENOUGH_REPLICAS,
    ];
    for version in BOTH {
        for api in requests(version) {
            for code in codes {
                let cluster = start(version);
                let fault = cluster.inject(On::api(api).times(2), Fault::Error(code));
                let producer = ready(builder(&cluster));
                whole(&producer, "a", 1).unwrap_or_else(|error| panic!("{code} to {api:?}: {error:?}"));
                whole(&producer, "b", 2).unwrap();
                assert_eq!(fault.fired(), 2, "{code} to {api:?}");
                assert_eq!(committed(&cluster), ["a", "b"], "{code} to {api:?}");
                assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 2);
                is_clean(&cluster);
            }
        }
    }
}

#[test]
fn a_lost_request_or_answer_changes_nothing() {
    watch_for_panics();
    for version in BOTH {
        for api in requests(version) {
            for fault in [Fault::DropAnswer, Fault::CutBefore, Fault::Garbage(vec![7; 20]), Fault::WrongCorrelation] {
                let cluster = start(version);
                let text = format!("{fault:?} to {api:?}, {version:?}");
                let fired = cluster.inject(On::api(api).times(2), fault);
                let producer = ready(builder(&cluster));
                whole(&producer, "a", 1).unwrap_or_else(|error| panic!("{text}: {error:?}"));
                whole(&producer, "b", 2).unwrap_or_else(|error| panic!("{text}: {error:?}"));
                assert_eq!(fired.fired(), 2, "{text}");
                assert_eq!(committed(&cluster), ["a", "b"], "{text}");
                assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 2);
                is_clean(&cluster);
            }
        }
    }
}

/// Has `code` answer a request of a transaction, and answers with what the calls say.
fn hit(cluster: &FakeCluster, producer: &Producer, api: Api, code: ErrorCode) -> (Error, Transaction) {
    let fault = cluster.inject(On::api(api), Fault::Error(code));
    let transaction = producer.transaction().unwrap();
    let offsets = fill(&transaction, "a", 1);
    let commit = transaction.commit().unwrap_err();
    assert_eq!(fault.fired(), 1, "{code} to {api:?}");
    assert_eq!(commit.error().code(), Some(code), "{api:?}: {commit:?}");
    if let Err(error) = offsets {
        assert_eq!(error.code(), Some(code), "{api:?}");
    }
    (commit.error().clone(), commit.into_transaction())
}

#[test]
fn what_only_an_abort_helps_against_is_aborted_and_the_next_one_works() {
    watch_for_panics();
    let of_batches = [
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::INVALID_TXN_STATE,
        ErrorCode::TRANSACTION_ABORTABLE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode(999),
    ];
    let of_offsets = [
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::TRANSACTION_ABORTABLE,
    ];
    for version in BOTH {
        let mut cases: Vec<(Api, ErrorCode)> = of_batches.map(|code| (Api::Produce, code)).into();
        cases.extend(of_offsets.map(|code| (Api::TxnOffsetCommit, code)));
        cases.push((Api::EndTxn, ErrorCode::TRANSACTION_ABORTABLE));
        if version == TransactionVersion::V1 {
            cases.extend(
                [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::TRANSACTION_ABORTABLE, ErrorCode(999)]
                    .map(|code| (Api::AddPartitionsToTxn, code)),
            );
            cases.extend(
                [
                    ErrorCode::GROUP_AUTHORIZATION_FAILED,
                    ErrorCode::TRANSACTION_ABORTABLE,
                    ErrorCode::UNKNOWN_PRODUCER_ID,
                ]
                .map(|code| (Api::AddOffsetsToTxn, code)),
            );
        } else {
            cases.push((Api::EndTxn, ErrorCode::INVALID_TXN_STATE));
            cases.push((Api::TxnOffsetCommit, ErrorCode::INVALID_PRODUCER_EPOCH));
        }
        for (api, code) in cases {
            let cluster = start(version);
            let producer = ready(builder(&cluster));
            whole(&producer, "first", 1).unwrap();
            let (error, transaction) = hit(&cluster, &producer, api, code);
            assert_eq!(error.recovery(), Recovery::AbortTransaction, "{code} to {api:?}: {error:?}");
            let late = transaction.send(record(1, "late")).wait().unwrap_err();
            assert_eq!(late.recovery(), Recovery::AbortTransaction);
            transaction.abort().unwrap_or_else(|error| panic!("{code} to {api:?}: {error:?}"));
            for (value, offset) in [("b", 2), ("c", 3)] {
                whole(&producer, value, offset).unwrap_or_else(|error| panic!("{code} to {api:?}: {error:?}"));
            }
            assert_eq!(committed(&cluster), ["first", "b", "c"], "{code} to {api:?}");
            assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 3);
            is_clean(&cluster);
        }
    }
}

#[test]
fn what_nothing_helps_against_is_the_answer_to_every_call() {
    watch_for_panics();
    let all = [
        ErrorCode::PRODUCER_FENCED,
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode::INVALID_PRODUCER_ID_MAPPING,
    ];
    for version in BOTH {
        let mut cases = Vec::new();
        for api in requests(version) {
            if api != Api::FindCoordinator && api != Api::InitProducerId {
                cases.extend(all.map(|code| (api, code)));
            }
            // In V2 the group's coordinator says so also of a transaction whose time was over.
            let of_time = version == TransactionVersion::V2 && api == Api::TxnOffsetCommit;
            if !of_time && !matches!(api, Api::Produce | Api::FindCoordinator | Api::InitProducerId) {
                cases.push((api, ErrorCode::INVALID_PRODUCER_EPOCH));
            }
        }
        cases.push((Api::Produce, ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        cases.push((Api::TxnOffsetCommit, ErrorCode::INVALID_TXN_STATE));
        cases.push((Api::TxnOffsetCommit, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT));
        for (api, code) in cases {
            let cluster = start(version);
            let producer = ready(builder(&cluster));
            let (error, transaction) = hit(&cluster, &producer, api, code);
            let fenced = matches!(code, ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH);
            let kind = if fenced { ErrorKind::Fenced } else { ErrorKind::Broker(code) };
            assert_eq!((error.kind(), error.recovery()), (kind, Recovery::Fatal), "{code} to {api:?}: {error:?}");
            // What was about to be sent for the first record and its offset, by other threads, may still be.
            let asked = || {
                let is_new = |request: &&SeenRequest| {
                    matches!(request.api, Api::EndTxn | Api::InitProducerId)
                        || request.partitions.iter().any(|(_, partition)| *partition == Some(1))
                        || request.batches.iter().any(|batch| batch.partition == 1)
                        || request.transaction.as_ref().is_some_and(|of| of.group.as_deref() == Some("late"))
                };
                cluster.requests().iter().filter(is_new).count()
            };
            let before = asked();
            let errors = [
                transaction.send(record(1, "late")).wait().unwrap_err(),
                transaction.send_offsets(offsets(9), &GroupMetadata::new("late")).unwrap_err(),
                transaction.abort().unwrap_err(),
                producer.transaction().unwrap_err(),
                producer.commit_transaction().unwrap_err(),
                producer.init_transactions().unwrap_err(),
            ];
            for error in errors {
                assert_eq!((error.kind(), error.recovery()), (kind, Recovery::Fatal), "{code} to {api:?}: {error:?}");
            }
            assert_eq!(asked(), before, "nobody was asked");
            producer.close_timeout(MINUTE).unwrap();
            assert_eq!(committed(&cluster), Vec::<String>::new());
        }
    }
}

#[test]
fn init_that_is_refused_for_now_can_be_called_again() {
    watch_for_panics();
    for (api, code) in [
        (Api::InitProducerId, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Api::FindCoordinator, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Api::InitProducerId, ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
    ] {
        let cluster = start(TransactionVersion::V2);
        cluster.inject(On::api(api), Fault::Error(code));
        let producer = builder(&cluster).build().unwrap();
        let error = producer.init_transactions().unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Broker(code), Recovery::Fix), "{api:?}");
        assert_eq!(producer.transaction().unwrap_err().code(), Some(code));
        producer.init_transactions().unwrap();
        whole(&producer, "a", 1).unwrap();
    }
    let cluster = start(TransactionVersion::V2);
    let producer = builder(&cluster).transaction_timeout(Duration::from_secs(16 * 60)).build().unwrap();
    let error = producer.init_transactions().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_TRANSACTION_TIMEOUT));
    assert_eq!(error.recovery(), Recovery::Fix);
}

#[test]
fn a_commit_that_timed_out_is_repeated_to_its_true_outcome() {
    watch_for_panics();
    thread::scope(|scope| {
        for version in BOTH {
            // The commit is done and the answer late; or the request is lost; or the coordinator is away for long.
            for fault in [Fault::Hold, Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE)] {
                scope.spawn(move || a_commit_that_timed_out_is_repeated(version, &fault));
            }
        }
    });
}

fn a_commit_that_timed_out_is_repeated(version: TransactionVersion, fault: &Fault) {
    let cluster = start(version);
    let on = On::api(Api::EndTxn);
    let fired = match fault {
        Fault::Error(_) => cluster.inject(on.always(), fault.clone()),
        _ => cluster.inject(on, fault.clone()),
    };
    let producer = ready(builder(&cluster).max_block(PATIENCE));
    let transaction = producer.transaction().unwrap();
    transaction.send(record(0, "a"));
    let late = transaction.commit().unwrap_err();
    assert_eq!(late.error().kind(), ErrorKind::Timeout(Timeout::Transaction), "{late:?}");
    assert_eq!(late.error().recovery(), Recovery::Retry);
    let transaction = late.into_transaction();
    let refused = transaction.send(record(0, "b")).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misuse);
    // It may be asked for again before there is an outcome.
    let late = transaction.commit().unwrap_err();
    assert_eq!(late.error().kind(), ErrorKind::Timeout(Timeout::Transaction), "{late:?}");
    let transaction = late.into_transaction();
    assert!(fired.fired() > 0);
    fired.cancel();
    let mut pending = Some(transaction);
    let deadline = Instant::now() + MINUTE;
    while let Some(transaction) = pending.take() {
        assert!(Instant::now() < deadline);
        pending = transaction.commit().err().map(|late| {
            assert_eq!(late.error().kind(), ErrorKind::Timeout(Timeout::Transaction), "{late:?}");
            late.into_transaction()
        });
    }
    assert_eq!(committed(&cluster), ["a"]);
    producer.in_transaction(|transaction| transaction.send(record(0, "c")).wait()).unwrap();
    assert_eq!(committed(&cluster), ["a", "c"]);
    is_clean(&cluster);
}

#[test]
fn a_pending_commit_can_be_left_to_itself_and_cannot_be_aborted() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        // So answers also a coordinator that has written the decision, and then lost its place.
        let away = cluster.inject(On::api(Api::EndTxn).always(), Fault::Error(ErrorCode::NOT_COORDINATOR));
        let producer = ready(builder(&cluster).max_block(PATIENCE));
        let transaction = producer.transaction().unwrap();
        transaction.send(record(0, "a"));
        let pending = transaction.commit().unwrap_err().into_transaction();
        assert_eq!(producer.abort_transaction().unwrap_err().kind(), ErrorKind::Misuse);
        drop(pending);
        let waits = producer.transaction().unwrap_err();
        assert_eq!(waits.kind(), ErrorKind::Timeout(Timeout::Transaction));
        away.cancel();
        let deadline = Instant::now() + MINUTE;
        let transaction = loop {
            match producer.transaction() {
                Ok(transaction) => break transaction,
                // The back-off may be longer than max_block.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Transaction), "{error}"),
            }
            assert!(Instant::now() < deadline);
        };
        assert_eq!(committed(&cluster), ["a"]);
        transaction.abort().unwrap();
    });
}

#[test]
fn a_commit_waits_for_its_records_and_can_be_aborted_until_then() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster).max_block(PATIENCE));
    whole(&producer, "a", 1).unwrap();
    let stuck = cluster.inject(On::produce().always(), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let transaction = producer.transaction().unwrap();
    let record = transaction.send(record(0, "b"));
    let late = transaction.commit().unwrap_err();
    assert_eq!(late.error().kind(), ErrorKind::Timeout(Timeout::Transaction));
    assert!(!record.is_done());
    let ends = || cluster.request_count(Api::EndTxn);
    assert_eq!(ends(), 1, "the former one's");
    late.into_transaction().abort().unwrap();
    assert_eq!(ends(), 2);
    let error = record.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Aborted);
    stuck.cancel();
    whole(&producer, "c", 2).unwrap();
    assert_eq!(committed(&cluster), ["a", "c"]);
    is_clean(&cluster);
}

#[test]
fn nothing_is_sent_once_the_abort_has_begun() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster).batch_records(1).max_in_flight(1));
        whole(&producer, "first", 1).unwrap();
        // Nothing else may be sent before the abort begins.
        let held = cluster.inject(On::produce(), Fault::Hold);
        let transaction = producer.transaction().unwrap();
        let sent: Vec<_> = (0..20).map(|i| transaction.send(record(i % 3, "x"))).collect();
        assert!(held.wait_fired(1, MINUTE));
        let produced = cluster.request_count(Api::Produce);
        thread::scope(|scope| {
            let abort = scope.spawn(|| transaction.abort().unwrap());
            // What is not on its way is given up at once.
            until("the abort has begun", || sent.last().is_some_and(|delivery| delivery.is_done()));
            held.cancel();
            abort.join().unwrap();
        });
        assert_eq!(cluster.request_count(Api::Produce), produced);
        let requests = cluster.requests();
        assert_eq!(requests.last().unwrap().api, Api::EndTxn);
        let (mut written, mut aborted) = (0, 0);
        for delivery in sent {
            match delivery.try_wait().expect("everything has its result when the abort returns") {
                Ok(_) => written += 1,
                Err(error) => {
                    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Aborted, Recovery::Retry), "{error:?}");
                    aborted += 1;
                }
            }
        }
        assert!((1..=3).contains(&written) && aborted == 20 - written, "{written} {aborted}");
        whole(&producer, "last", 2).unwrap();
        assert_eq!(committed(&cluster), ["first", "last"]);
        is_clean(&cluster);
    });
}

#[test]
fn an_abort_does_not_wait_for_a_broker_that_is_gone() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    cluster.move_leader("t", 0, BrokerId(1)).unwrap();
    cluster.move_leader("t", 1, BrokerId(2)).unwrap();
    cluster.move_transaction_coordinator("shop", BrokerId(1)).unwrap();
    let producer = ready(builder(&cluster));
    let transaction = producer.transaction().unwrap();
    transaction.send(record(0, "a")).wait().unwrap();
    transaction.send(record(1, "b")).wait().unwrap();
    cluster.kill(BrokerId(2));
    cluster.leaderless("t", 1).unwrap();
    let lost = transaction.send(record(1, "c"));
    assert!(lost.wait_timeout(Duration::from_millis(500)).is_none());
    let begin = Instant::now();
    transaction.abort().unwrap();
    // Not max_block, nor the delivery timeout.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(lost.wait().unwrap_err().kind(), ErrorKind::Aborted);
    producer.in_transaction(|transaction| transaction.send(record(0, "d")).wait()).unwrap();
    assert_eq!(committed(&cluster), ["d"]);
}

#[test]
fn coordinators_move_at_any_time() {
    watch_for_panics();
    for version in BOTH {
        let cluster = FakeCluster::builder().brokers(3).transactions(version).topic("t", 3).start().unwrap();
        let producer = ready(builder(&cluster));
        let broker = |i: i64| BrokerId(i32::try_from(i % 3).unwrap() + 1);
        let mut wanted = Vec::new();
        for i in 0..12 {
            cluster.move_transaction_coordinator("shop", broker(i)).unwrap();
            let transaction = producer.transaction().unwrap();
            let value = i.to_string();
            transaction.send(record(0, &value));
            cluster.move_transaction_coordinator("shop", broker(i + 1)).unwrap();
            cluster.move_group_coordinator("group", broker(i)).unwrap();
            fill(&transaction, &value, i).unwrap();
            cluster.move_transaction_coordinator("shop", broker(i + 2)).unwrap();
            transaction.commit().unwrap();
            wanted.extend([value.clone(), value]);
        }
        assert_eq!(committed(&cluster), wanted);
        assert_eq!(cluster.committed_offset("group", "t", 0).unwrap().offset, 11);
        is_clean(&cluster);
    }
}

#[test]
fn the_end_of_the_previous_transaction_is_waited_for() {
    watch_for_panics();
    for version in BOTH {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        cluster.hold_markers();
        let transaction = producer.transaction().unwrap();
        transaction.send(record(0, "a"));
        transaction.commit().unwrap();
        assert_eq!(committed(&cluster), Vec::<String>::new());
        let transaction = producer.transaction().unwrap();
        let next = transaction.send(record(0, "b"));
        assert!(next.wait_timeout(Duration::from_millis(100)).is_none());
        cluster.release_markers();
        next.wait().unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed(&cluster), ["a", "b"]);
        is_clean(&cluster);
    }
}

#[test]
fn a_transaction_that_was_timed_out_is_aborted_and_the_next_one_works() {
    watch_for_panics();
    // Long enough for the transactions that are to end well.
    const TIMEOUT: Duration = PATIENCE;
    let timed_out = |version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster).transaction_timeout(TIMEOUT));
        let transaction = producer.transaction().unwrap();
        let begin = Instant::now();
        transaction.send(record(0, "a")).wait().unwrap();
        cluster.time_out_transaction("shop");
        thread::sleep(TIMEOUT.saturating_sub(begin.elapsed()));
        (cluster, producer, transaction)
    };
    thread::scope(|scope| {
        // It is found out by the next record, or only by the commit.
        for sends_again in [false, true] {
            scope.spawn(move || {
                let (cluster, producer, transaction) = timed_out(TransactionVersion::V2);
                if sends_again {
                    let error = transaction.send(record(0, "b")).wait().unwrap_err();
                    assert_eq!(error.code(), Some(ErrorCode::INVALID_PRODUCER_EPOCH));
                    assert_eq!(error.recovery(), Recovery::AbortTransaction);
                }
                let error = transaction.commit().unwrap_err();
                assert_eq!(error.error().recovery(), Recovery::AbortTransaction);
                assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");
                error.into_transaction().abort().unwrap();
                producer.in_transaction(|transaction| transaction.send(record(0, "c")).wait()).unwrap();
                assert_eq!(committed(&cluster), ["c"]);
            });
        }
        // The older protocol cannot tell it from another producer, and says so.
        scope.spawn(move || {
            let (_cluster, _producer, transaction) = timed_out(TransactionVersion::V1);
            let error = transaction.commit().unwrap_err();
            assert_eq!((error.error().kind(), error.error().recovery()), (ErrorKind::Fenced, Recovery::Fatal));
            assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");
        });
    });
}

#[test]
fn the_last_epoch_is_followed_by_another_producer_id() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    drop(ready(builder(&cluster)));
    assert!(cluster.set_producer_epoch("shop", i16::MAX - 4));
    let producer = ready(builder(&cluster));
    let first = cluster.transaction("shop").unwrap().producer;
    for i in 0..6 {
        whole(&producer, &i.to_string(), i).unwrap();
    }
    let last = cluster.transaction("shop").unwrap().producer;
    assert_ne!(first.producer_id, last.producer_id);
    assert_eq!(committed(&cluster), ["0", "1", "2", "3", "4", "5"]);
    is_clean(&cluster);
}

#[test]
fn every_transaction_of_v2_has_an_epoch_and_sequences_of_its_own() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster));
    for value in ["a", "b", "c"] {
        producer
            .in_transaction(|transaction| {
                transaction.send(record(0, value)).wait()?;
                transaction.send(record(0, value)).wait()
            })
            .unwrap();
    }
    let batches: Vec<_> = cluster.requests().into_iter().flat_map(|request| request.batches).collect();
    let found: Vec<(i16, i32)> =
        batches.iter().map(|batch| (batch.producer.unwrap().epoch, batch.base_sequence.unwrap())).collect();
    let first = found[0].0;
    let wanted: Vec<(i16, i32)> = (0..3).flat_map(|i| [(first + i, 0), (first + i, 1)]).collect();
    assert_eq!(found, wanted);
    assert!(batches.iter().all(|batch| batch.is_transactional));
    assert_eq!(cluster.request_count(Api::AddPartitionsToTxn), 0);
}

#[test]
fn in_v1_partitions_are_added_together_before_their_first_batch() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V1);
    let producer = ready(builder(&cluster).linger(MINUTE));
    for round in 1..=2 {
        // The commit has the batches sent, or a sender that is late for the last one; the coordinator refuses until it is
        // asked for all of them at once.
        let on = On::api(Api::AddPartitionsToTxn).always();
        let away = cluster.inject(on, Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let added = || {
            let requests = cluster.requests().into_iter().filter(|request| request.api == Api::AddPartitionsToTxn);
            requests.map(|request| request.partitions.len()).collect::<Vec<_>>()
        };
        let (before, produced) = (added().len(), cluster.request_count(Api::Produce));
        let transaction = producer.transaction().unwrap();
        for partition in [0, 1, 2, 0, 1, 2] {
            transaction.send(record(partition, "x"));
        }
        thread::scope(|scope| {
            let commit = scope.spawn(|| transaction.commit().unwrap());
            let deadline = Instant::now() + MINUTE;
            while added()[before..].iter().all(|partitions| *partitions < 3) {
                assert!(Instant::now() < deadline, "the coordinator was never asked for all at once");
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(cluster.request_count(Api::Produce), produced, "not before they are added");
            away.cancel();
            commit.join().unwrap();
        });
        let added = added().split_off(before);
        assert_eq!((added.len() - away.fired(), added.last()), (1, Some(&3)), "each once, in round {round}: {added:?}");
    }
    let requests = cluster.requests();
    assert!(requests.iter().all(|r| r.api != Api::Produce || r.version <= 11));
    assert!(requests.iter().all(|r| r.api != Api::EndTxn || r.version <= 4));
    let epochs: Vec<i16> =
        requests.iter().flat_map(|r| &r.batches).map(|batch| batch.producer.unwrap().epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]));
    let last = requests.iter().flat_map(|r| &r.batches).map(|batch| batch.base_sequence.unwrap()).max();
    assert_eq!(last, Some(2), "sequences go on");
    is_clean(&cluster);
}

#[test]
fn old_clusters_have_transactions_too() {
    watch_for_panics();
    for version in [KafkaVersion::V0_11, KafkaVersion::V2_8, KafkaVersion::V3_9] {
        let cluster = FakeCluster::builder().version(version).topic("t", 3).start().unwrap();
        let producer = ready(builder(&cluster));
        whole(&producer, "a", 1).unwrap();
        let transaction = producer.transaction().unwrap();
        transaction.send(record(0, "b")).wait().unwrap();
        transaction.abort().unwrap();
        // A batch that is refused for good has used no sequence number.
        cluster.fail_produce("t", ErrorCode::INVALID_RECORD, 1);
        let transaction = producer.transaction().unwrap();
        transaction.send(record(0, "c")).wait().unwrap_err();
        transaction.abort().unwrap();
        whole(&producer, "d", 2).unwrap();
        assert_eq!(committed(&cluster), ["a", "d"], "{version:?}");
        is_clean(&cluster);

        let member = GroupMetadata::new("group").member(1, "m");
        cluster.set_group_members("group", 1, ["m"]);
        let named = producer.in_transaction(|transaction| transaction.send_offsets(offsets(3), &member));
        match version {
            KafkaVersion::V0_11 => {
                let error = named.unwrap_err();
                assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix));
                let anybody = GroupMetadata::new("other");
                producer.in_transaction(|transaction| transaction.send_offsets(offsets(3), &anybody)).unwrap();
            }
            _ => named.unwrap(),
        }
        // One whose fate is unknown may have used some, and only a newer coordinator gives the next epoch.
        cluster.fail_produce("t", ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, 1);
        let transaction = producer.transaction().unwrap();
        transaction.send(record(0, "e")).wait().unwrap_err();
        transaction.abort().unwrap_or_else(|error| assert_eq!(error.recovery(), Recovery::Fatal));
        let next = producer.in_transaction(|transaction| transaction.send(record(0, "f")).wait());
        match version {
            KafkaVersion::V0_11 => assert_eq!(next.unwrap_err().kind(), ErrorKind::OutOfSequence),
            _ => drop(next.unwrap()),
        }
    }
}

#[test]
fn the_other_instance_is_seen_whatever_is_done_next() {
    watch_for_panics();
    for version in BOTH {
        for sends in [false, true] {
            let cluster = start(version);
            let producer = ready(builder(&cluster));
            let transaction = producer.transaction().unwrap();
            transaction.send(record(0, "a")).wait().unwrap();
            RawProducer::connect(cluster.bootstrap(), "shop").unwrap().init(MINUTE).unwrap();
            if sends {
                let error = transaction.send(record(0, "b")).wait().unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::INVALID_PRODUCER_EPOCH));
            }
            let error = transaction.abort().unwrap_err();
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::Fenced, Recovery::Fatal), "{version:?} {sends}");
            assert_eq!(producer.transaction().unwrap_err().kind(), ErrorKind::Fenced);
        }
    }
}

#[test]
fn a_closed_producer_leaves_its_transaction_aborted_even_in_trouble() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster));
    let transaction = producer.transaction().unwrap();
    transaction.send(record(0, "a")).wait().unwrap();
    cluster.inject(On::api(Api::EndTxn).always(), Fault::Hang);
    let begin = Instant::now();
    producer.close_timeout(Duration::from_millis(300)).unwrap();
    // Not the request timeout.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(transaction.abort().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(producer.init_transactions().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn an_abort_takes_nothing_of_the_next_transaction_with_it() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("t", 20).start().unwrap();
    let producer = ready(builder(&cluster));
    producer.in_transaction(|all| (0..20).try_for_each(|i| all.send(record(i, "x")).wait().map(drop))).unwrap();
    // The abort is over with its last batch, while the sender goes on through the other partitions.
    for round in 0..300 {
        let transaction = producer.transaction().unwrap();
        transaction.send(record(round % 20, "x"));
        transaction.abort().unwrap();
        let transaction = producer.transaction().unwrap();
        (0..20).for_each(|partition| drop(transaction.send(record(partition, "y"))));
        transaction.commit().unwrap_or_else(|error| panic!("round {round}: {error:?}"));
    }
    let found: usize = (0..20).map(|partition| cluster.committed_records("t", partition).unwrap().len()).sum();
    assert_eq!(found, 20 + 300 * 20);
    is_clean(&cluster);
}

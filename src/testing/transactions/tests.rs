use std::time::{Duration, Instant};

use super::*;
use crate::error::{Error, Result};
use crate::testing::internal_unstable::{Client, RawProducer};
use crate::testing::{Api, FakeCluster, Fault, KafkaVersion, LoggedRecord, Marker, On};

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(60);
const V1: TransactionVersion = TransactionVersion::V1;

fn cluster() -> FakeCluster {
    FakeCluster::builder().topic("t", 2).start().unwrap()
}

/// An initialized producer that returns every error without a retry.
fn producer(cluster: &FakeCluster, id: &str) -> RawProducer {
    let mut producer = RawProducer::connect(cluster.bootstrap(), id).unwrap();
    producer.init(MINUTE).unwrap();
    producer.retries(false)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> ErrorCode {
    result.unwrap_err().code().unwrap()
}

fn values(records: &[LoggedRecord]) -> Vec<String> {
    records.iter().map(LoggedRecord::value_text).collect()
}

fn committed(cluster: &FakeCluster) -> Vec<String> {
    values(&cluster.committed_records("t", 0).unwrap())
}

#[test]
fn while_markers_are_held_back_nothing_can_begin() {
    let cluster = cluster();
    for version in [V1, TransactionVersion::V2] {
        let mut producer = producer(&cluster, "x").version(version);
        let before = producer.producer;
        producer.add_partitions("t", &[0]).unwrap();
        let offset = producer.send("t", 0, &["a"]).unwrap();
        cluster.hold_markers();
        producer.end(Marker::Commit).unwrap();
        let seen = cluster.transaction("x").unwrap();
        assert_eq!(seen.state, TransactionState::PrepareCommit);
        assert_eq!(seen.partitions, [(Arc::from("t"), 0)]);
        assert_eq!(cluster.stable_offset("t", 0).unwrap(), offset);

        let concurrent = ErrorCode::CONCURRENT_TRANSACTIONS;
        assert_eq!(code(producer.add_partitions("t", &[0])), concurrent);
        assert_eq!(code(producer.add_offsets("g")), concurrent);
        assert_eq!(code(producer.init(MINUTE)), concurrent);
        assert_eq!(code(producer.init_with(MINUTE, producer.producer)), concurrent);
        // Another partition, because this one has the transaction open.
        let sent = producer.send("t", 1, &["b"]);
        assert_eq!(code(sent), if version == V1 { ErrorCode::NOT_ENOUGH_REPLICAS } else { concurrent });
        let after = std::mem::replace(&mut producer.producer, before);
        assert_eq!(code(producer.end(Marker::Commit)), concurrent);
        assert_eq!(code(producer.end(Marker::Abort)), concurrent);
        producer.producer = after;

        cluster.release_markers();
        assert_eq!(cluster.transaction("x").unwrap().state, TransactionState::CompleteCommit);
        assert_eq!(cluster.stable_offset("t", 0).unwrap(), offset + 2);
    }
    assert_eq!(committed(&cluster), ["a", "a"]);
    assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
}

#[test]
fn every_request_of_a_transaction_can_be_failed() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x").version(V1);
    let fail = |api, code| {
        cluster.inject(On::api(api).transactional_id("y"), Fault::Error(ErrorCode::UNKNOWN_SERVER_ERROR));
        cluster.inject(On::api(api).transactional_id("x"), Fault::Error(code))
    };
    let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let faults = [
        fail(Api::FindCoordinator, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        fail(Api::InitProducerId, loading),
        fail(Api::AddPartitionsToTxn, ErrorCode::CONCURRENT_TRANSACTIONS),
        fail(Api::AddOffsetsToTxn, ErrorCode::NOT_COORDINATOR),
        fail(Api::TxnOffsetCommit, loading),
        fail(Api::EndTxn, ErrorCode::CONCURRENT_TRANSACTIONS),
        cluster.inject(On::api(Api::OffsetFetch).group("g"), Fault::Error(loading)),
        cluster.inject(On::api(Api::FindCoordinator).group("g").skip(2), Fault::Error(loading)),
    ];
    assert_eq!(code(producer.init(MINUTE)), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(code(producer.init(MINUTE)), loading);
    producer.init(MINUTE).unwrap();
    assert_eq!(producer.producer.epoch, 1, "what was failed had no effect");
    assert_eq!(code(producer.add_partitions("t", &[0])), ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(code(producer.add_offsets("g")), ErrorCode::NOT_COORDINATOR);
    producer.add_offsets("g").unwrap();
    assert_eq!(code(producer.commit_offset("g", "t", 0, 3)), loading);
    producer.commit_offset("g", "t", 0, 3).unwrap();
    assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::CONCURRENT_TRANSACTIONS);
    producer.end(Marker::Commit).unwrap();
    assert_eq!(code(producer.committed_offset("g", "t", 0)), loading);
    assert_eq!(code(producer.committed_offset("g", "t", 0)), loading);
    assert_eq!(producer.committed_offset("g", "t", 0).unwrap().unwrap().offset, 3);
    assert_eq!(faults.map(|fault| fault.fired()), [1; 8]);
}

#[test]
fn an_end_whose_answer_is_lost_has_happened_once() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    producer.send("t", 0, &["a"]).unwrap();
    let lost = cluster.inject(On::api(Api::EndTxn), Fault::DropAnswer);
    assert!(producer.end(Marker::Commit).unwrap_err().code().is_none());
    assert_eq!(lost.fired(), 1);
    assert_eq!((committed(&cluster), producer.producer.epoch), (vec!["a".to_owned()], 0));
    producer.end(Marker::Commit).unwrap();
    assert_eq!((cluster.log_len("t", 0).unwrap(), producer.producer.epoch), (2, 1));

    cluster.inject(On::api(Api::EndTxn), Fault::ErrorAfterApply(ErrorCode::NOT_COORDINATOR));
    let delay = cluster.inject(On::api(Api::EndTxn), Fault::Delay(Duration::from_millis(30)));
    producer.send("t", 0, &["b"]).unwrap();
    assert_eq!(code(producer.end(Marker::Abort)), ErrorCode::NOT_COORDINATOR);
    let before = Instant::now();
    producer.end(Marker::Abort).unwrap();
    assert!(before.elapsed() >= Duration::from_millis(30));
    assert_eq!((delay.fired(), cluster.log_len("t", 0).unwrap(), producer.producer.epoch), (1, 4, 2));
}

#[test]
fn coordinators_move_and_know_what_the_former_one_knew() {
    let cluster = FakeCluster::builder().brokers(3).topic("t", 1).start().unwrap();
    let mut producer = producer(&cluster, "x");
    producer.send("t", 0, &["a"]).unwrap();
    producer.commit_offset("g", "t", 0, 1).unwrap();
    let former = cluster.transaction_coordinator("x").unwrap();
    let latter = cluster.brokers().into_iter().find(|broker| *broker != former).unwrap();
    cluster.move_transaction_coordinator("x", latter).unwrap();
    cluster.move_group_coordinator("g", latter).unwrap();
    assert_eq!(cluster.transaction_coordinator("x"), Some(latter));
    assert_eq!(cluster.group_coordinator("g"), Some(latter));
    producer.end(Marker::Commit).unwrap();
    assert_eq!(cluster.committed_offset("g", "t", 0).unwrap().offset, 1);
    let ends = cluster.requests().into_iter().filter(|seen| seen.api == Api::EndTxn);
    assert_eq!(ends.map(|seen| seen.broker).collect::<Vec<_>>(), [latter]);
    // A dead one is replaced.
    cluster.kill(latter);
    let third = cluster.transaction_coordinator("x").unwrap();
    assert_ne!(third, latter);
    assert!(cluster.move_transaction_coordinator("x", latter).is_err());
    assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
}

#[test]
fn an_empty_transactional_id_is_refused() {
    let mut transactions = FakeTransactions::new(TransactionVersion::V2);
    assert_eq!(transactions.init("", 1000, None), Err(ErrorCode::INVALID_REQUEST));
    let refused = transactions.end("", ProducerIdAndEpoch::NONE, true, TransactionVersion::V2);
    assert_eq!(refused.unwrap_err(), ErrorCode::INVALID_REQUEST);
}

#[test]
fn the_last_epoch_is_followed_by_another_producer_id() {
    for version in [V1, TransactionVersion::V2] {
        let cluster = FakeCluster::builder().topic("t", 1).transactions(version).start().unwrap();
        let mut former = producer(&cluster, "x");
        let id = former.producer.producer_id;
        assert!(cluster.set_producer_epoch("x", i16::MAX - 2));
        // The last epoch, with a transaction that another instance aborts.
        former.init(MINUTE).unwrap();
        assert_eq!((former.producer.producer_id, former.producer.epoch), (id, i16::MAX - 1));
        if version == V1 {
            former.add_partitions("t", &[0]).unwrap();
        }
        former.send("t", 0, &["a"]).unwrap();
        assert!(!cluster.set_producer_epoch("x", 3), "the transaction is open");
        let latter = producer(&cluster, "x");
        assert_ne!(latter.producer.producer_id, id);
        let marker = cluster.batches("t", 0).unwrap()[1].clone();
        assert_eq!(marker.producer, Some(ProducerIdAndEpoch { producer_id: id, epoch: i16::MAX }));
        assert_eq!(marker.marker, Some(Marker::Abort));
        let refused = if version == V1 { former.end(Marker::Commit) } else { former.send("t", 0, &["b"]).map(drop) };
        assert!(refused.is_err());
    }
    // By its own bump.
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    cluster.set_producer_epoch("x", i16::MAX - 1);
    let old = ProducerIdAndEpoch { epoch: i16::MAX - 1, ..producer.producer };
    let new = producer.init_with(MINUTE, old).unwrap();
    assert_ne!(new.producer_id, old.producer_id);
    assert_eq!(producer.init_with(MINUTE, old).unwrap(), new);
    assert_eq!(producer.init_with(MINUTE, new).unwrap().epoch, 1);
}

#[test]
fn every_release_has_transactions() {
    for release in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().version(release).topic("t", 2).start().unwrap();
        let mut producer = producer(&cluster, "x");
        let is_v1 = release < KafkaVersion::V4_3;
        for is_commit in [true, false] {
            if is_v1 {
                let refused = code(producer.send("t", 0, &["too early"]));
                let is_new = release >= KafkaVersion::V3_9;
                let expected = if is_new { ErrorCode::TRANSACTION_ABORTABLE } else { ErrorCode::INVALID_TXN_STATE };
                assert_eq!(refused, expected, "{release:?}");
                producer.add_partitions("t", &[0, 1]).unwrap();
                producer.add_offsets("g").unwrap();
            }
            producer.send("t", 0, &["a"]).unwrap();
            producer.commit_offset("g", "t", 0, 5 + i64::from(is_commit)).unwrap();
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
        }
        assert_eq!(producer.producer.epoch, if is_v1 { 0 } else { 2 });
        assert_eq!(committed(&cluster), ["a"]);
        assert_eq!(producer.committed_offset("g", "t", 0).unwrap().unwrap().offset, 6);
        let mut client = Client::connect(cluster.bootstrap()).unwrap();
        assert_eq!(values(&client.read_committed("t", 0, 0..4).unwrap()), ["a"]);
        // Before KIP-588 and KIP-360 there was one code for it.
        let mut former = producer;
        let latter = self::producer(&cluster, "x");
        let fenced = code(former.end(Marker::Commit));
        let is_old = release == KafkaVersion::V0_11;
        assert_eq!(fenced, if is_old { ErrorCode::INVALID_PRODUCER_EPOCH } else { ErrorCode::PRODUCER_FENCED });
        assert!(latter.producer.epoch > former.producer.epoch);
        // One refusal for each batch that was sent too early.
        assert_eq!(cluster.refusals().len(), if is_v1 { 2 } else { 0 }, "{:?}", cluster.refusals());
    }
}

#[test]
fn requests_of_v2_are_noted_where_v2_is_not_in_force() {
    let cluster = FakeCluster::builder().topic("t", 1).transactions(V1).start().unwrap();
    // By default the producer follows the protocol that the cluster says.
    let mut told = producer(&cluster, "x");
    assert_eq!(code(told.send("t", 0, &["a"])), ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(cluster.refusals().len(), 1);
    let mut rash = told.version(TransactionVersion::V2);
    rash.send("t", 0, &["a"]).unwrap();
    rash.commit_offset("g", "t", 0, 1).unwrap();
    rash.end(Marker::Commit).unwrap();
    let refusals = cluster.refusals();
    for (seen, expected) in refusals[1..].iter().zip(["Produce 12", "TxnOffsetCommit 5", "EndTxn 5"]) {
        assert!(seen.starts_with(expected), "{seen}");
    }
    assert_eq!(refusals.len(), 4);
}

#[test]
fn denied_ids_and_groups_are_refused() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    cluster.deny_group("g");
    assert_eq!(code(producer.commit_offset("g", "t", 0, 1)), ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert_eq!(code(producer.add_offsets("g")), ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert_eq!(code(producer.committed_offset("g", "t", 0)), ErrorCode::GROUP_AUTHORIZATION_FAILED);
    cluster.allow_group("g");
    producer.commit_offset("g", "t", 0, 1).unwrap();
    cluster.deny_topic("t");
    assert_eq!(code(producer.commit_offset("g", "t", 0, 2)), ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(code(producer.add_partitions("t", &[0])), ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    cluster.allow_topic("t");

    let denied = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let find = cluster.inject(On::api(Api::FindCoordinator).always(), Fault::Delay(Duration::ZERO));
    cluster.deny_transactional_id("x");
    assert_eq!(code(producer.init(MINUTE)), denied);
    assert_eq!(code(producer.send("t", 0, &["a"])), denied);
    assert!(find.fired() > 0);
    cluster.allow_transactional_id("x");
    producer.send("t", 0, &["a"]).unwrap();
    producer.end(Marker::Commit).unwrap();
    assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
}

#[test]
fn offsets_are_those_of_a_member_of_the_generation() {
    let cluster = cluster();
    cluster.set_group_members("g", 4, ["a", "b"]);
    let commit = |generation, member: &str| {
        let mut producer = producer(&cluster, "x").member(generation, member);
        producer.commit_offset("g", "t", 0, 1)
    };
    commit(4, "a").unwrap();
    commit(-1, "").unwrap();
    assert_eq!(code(commit(3, "a")), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code(commit(4, "c")), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_transaction_whose_time_is_over_is_aborted_without_waiting() {
    for version in [V1, TransactionVersion::V2] {
        let cluster = FakeCluster::builder().topic("t", 1).transactions(version).start().unwrap();
        let mut producer = producer(&cluster, "x");
        assert!(!cluster.time_out_transaction("x"));
        if version == V1 {
            producer.add_partitions("t", &[0]).unwrap();
        }
        producer.send("t", 0, &["a"]).unwrap();
        assert!(cluster.time_out_transaction("x"));
        let seen = cluster.transaction("x").unwrap();
        assert_eq!((seen.state, seen.producer.epoch), (TransactionState::CompleteAbort, 1));
        assert_eq!(code(producer.send("t", 0, &["b"])), ErrorCode::INVALID_PRODUCER_EPOCH);
        let fenced = code(producer.end(Marker::Commit));
        let expected = if version == V1 { ErrorCode::PRODUCER_FENCED } else { ErrorCode::INVALID_TXN_STATE };
        assert_eq!(fenced, expected);
        assert!(committed(&cluster).is_empty());
    }
}

#[test]
fn the_transaction_with_the_nearest_deadline_is_aborted_first() {
    let cluster = cluster();
    let mut slow = producer(&cluster, "slow");
    slow.send("t", 0, &["a"]).unwrap();
    let mut quick = RawProducer::connect(cluster.bootstrap(), "quick").unwrap();
    quick.init(Duration::from_millis(30)).unwrap();
    quick.send("t", 1, &["b"]).unwrap();
    let mut client = Client::connect(cluster.bootstrap()).unwrap().timeout(LONG);
    // A reader that waits is woken by the abort.
    assert!(client.read_committed("t", 1, 0..2).unwrap().is_empty());
    assert_eq!(cluster.transaction("quick").unwrap().state, TransactionState::CompleteAbort);
    assert_eq!(cluster.transaction("slow").unwrap().state, TransactionState::Ongoing);
    slow.end(Marker::Commit).unwrap();
}

#[test]
fn a_forgotten_id_has_no_producer() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    producer.send("t", 0, &["a"]).unwrap();
    assert!(!cluster.forget_transactional_id("x"));
    producer.end(Marker::Commit).unwrap();
    assert!(cluster.forget_transactional_id("x"));
    assert!(cluster.transaction("x").is_none());
    assert_eq!(code(producer.send("t", 0, &["b"])), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    // A new id, whatever the producer says that it had.
    let old = producer.producer;
    assert_ne!(producer.init_with(MINUTE, old).unwrap().producer_id, old.producer_id);
}

#[test]
fn a_reader_of_committed_records_waits_for_the_marker() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    producer.send("t", 0, &["a"]).unwrap();
    std::thread::scope(|scope| {
        let read = scope.spawn(|| {
            let mut client = Client::connect(cluster.bootstrap()).unwrap().timeout(LONG);
            client
                .read_committed("t", 0, 0..1)
                .map(|records| values(&records))
                .map_err(|error: Error| error.to_string())
        });
        assert!(cluster.wait_for_requests(Api::Fetch, 1, LONG));
        producer.end(Marker::Commit).unwrap();
        assert_eq!(read.join().unwrap().unwrap(), ["a"]);
    });
    assert_eq!(cluster.record_count("t"), 1, "a marker is no record");
    let batches = cluster.batches("t", 0).unwrap();
    assert!(batches[0].is_transactional && batches[0].marker.is_none());
    assert!(batches[1].is_control && batches[1].marker == Some(Marker::Commit));
}

#[test]
fn a_batch_after_one_that_failed_does_not_begin_the_transaction() {
    let cluster = FakeCluster::builder().topic("t", 1).transactions(V1).start().unwrap();
    let mut producer = producer(&cluster, "x");
    producer.add_partitions("t", &[0]).unwrap();
    cluster.inject(On::produce(), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    assert_eq!(code(producer.send_at("t", 0, 0, &["a"])), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(code(producer.send_at("t", 0, 1, &["b"])), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    producer.send_at("t", 0, 0, &["a"]).unwrap();
    producer.send_at("t", 0, 1, &["b"]).unwrap();
    producer.end(Marker::Commit).unwrap();
    assert_eq!(committed(&cluster), ["a", "b"]);
}

#[test]
fn a_transaction_whose_marker_is_cut_off_is_open_again() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    for is_commit in [false, true] {
        producer.send("t", 0, &["a"]).unwrap();
        producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
    }
    assert_eq!((committed(&cluster).len(), cluster.record_count("t")), (1, 2));
    cluster.truncate_log("t", 0, 3).unwrap();
    assert_eq!((cluster.stable_offset("t", 0).unwrap(), committed(&cluster).len()), (2, 0));
    cluster.truncate_log("t", 0, 1).unwrap();
    assert_eq!((cluster.stable_offset("t", 0).unwrap(), cluster.record_count("t")), (0, 1));
    cluster.truncate_log("t", 0, 0).unwrap();
    assert_eq!((cluster.stable_offset("t", 0).unwrap(), cluster.record_count("t")), (0, 0));
}

#[test]
fn retention_forgets_the_transactions_before_it() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    for (value, is_commit) in [("a", false), ("b", true), ("c", false)] {
        producer.send("t", 0, &[value]).unwrap();
        producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
    }
    cluster.delete_records("t", 0, 2).unwrap();
    assert_eq!(committed(&cluster), ["b"]);
    let mut client = Client::connect(cluster.bootstrap()).unwrap();
    assert_eq!(values(&client.read_committed("t", 0, 2..6).unwrap()), ["b"]);
}

#[test]
fn a_sink_takes_transactions() {
    let cluster = FakeCluster::builder().topic("t", 1).sink().start().unwrap();
    let mut producer = producer(&cluster, "x");
    for is_commit in [true, false, true] {
        producer.send("t", 0, &["a", "b"]).unwrap();
        producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
    }
    assert_eq!((cluster.log_len("t", 0).unwrap(), cluster.record_count("t")), (9, 6));
    assert!(cluster.records("t", 0).unwrap().is_empty());
}

#[test]
fn what_requests_say_of_transactions_is_seen() {
    let cluster = cluster();
    let mut producer = producer(&cluster, "x");
    producer.send("t", 0, &["a"]).unwrap();
    producer.commit_offset("g", "t", 1, 4).unwrap();
    let before = producer.producer;
    producer.end(Marker::Commit).unwrap();
    let of = |api| cluster.requests().into_iter().rfind(|seen| seen.api == api).unwrap();
    let end = of(Api::EndTxn).transaction.unwrap();
    assert_eq!((end.transactional_id.as_deref(), end.producer, end.is_commit), (Some("x"), Some(before), Some(true)));
    let commit = of(Api::TxnOffsetCommit);
    assert_eq!(commit.partitions, [(Arc::from("t"), Some(1))]);
    assert_eq!(commit.transaction.unwrap().group.as_deref(), Some("g"));
    let produce = of(Api::Produce);
    assert!(produce.batches[0].is_transactional);
    assert_eq!(produce.transaction.unwrap().transactional_id.as_deref(), Some("x"));
}

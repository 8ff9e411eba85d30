//! The brokers' error codes, one by one.

use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On};
use kafka_blocking::{Acks, BrokerId, ErrorCode, ErrorKind, Producer, Record, RecordMetadata, Recovery, Written};

use crate::common::*;

fn known_codes() -> impl Iterator<Item = ErrorCode> {
    (-1..=133).map(ErrorCode).filter(|code| !code.is_none())
}

fn retriable_codes() -> Vec<ErrorCode> {
    let codes: Vec<_> = known_codes().filter(|code| code.is_retriable()).collect();
    assert!(codes.len() > 20);
    codes
}

/// The broker no longer knows the batch's place in the sequence, or its epoch.
const AGAINST_THE_SEQUENCE: [ErrorCode; 3] =
    [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH];

/// These end more than a batch.
const AGAINST_THE_PRODUCER: [ErrorCode; 4] = [
    ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode::UNSUPPORTED_VERSION,
    ErrorCode::INVALID_PRODUCER_ID_MAPPING,
    ErrorCode::PRODUCER_FENCED,
];

/// What a code means for a producer, where that is more than it means in itself.
fn recovery(code: ErrorCode) -> Recovery {
    match code {
        ErrorCode::INVALID_TXN_STATE => Recovery::AbortTransaction,
        ErrorCode::TRANSACTION_COORDINATOR_FENCED | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Recovery::Fatal,
        code if AGAINST_THE_PRODUCER.contains(&code) => Recovery::Fatal,
        code => code.recovery(),
    }
}

fn fatal_codes() -> Vec<ErrorCode> {
    let is_special = |code: &ErrorCode| {
        *code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER
            || AGAINST_THE_SEQUENCE.contains(code)
            || AGAINST_THE_PRODUCER.contains(code)
    };
    let codes = known_codes().chain([ErrorCode(999)]);
    codes.filter(|code| !code.is_retriable() && !is_special(code)).collect()
}

/// Does `fault` to the batch behind the first `skip` ones, once with every code that is retried. All records are
/// acknowledged, once and in order. Answers how many codes there are.
#[track_caller]
fn each_retriable_code(
    cluster: &FakeCluster,
    producer: &Producer,
    skip: usize,
    fault: impl Fn(ErrorCode) -> Fault,
    check: impl Fn(ErrorCode, u64, &[RecordMetadata]),
) -> usize {
    let (codes, records) = (retriable_codes(), 3 * skip as u64 + 1);
    let mut number = 0;
    for code in &codes {
        let fault = cluster.inject(On::produce().topic("t").skip(skip), fault(*code));
        let sent = succeed(&send_all(producer, "t", 0, number, number + records));
        check(*code, number, &sent);
        number += records;
        assert_eq!(fault.fired(), 1, "{code}");
    }
    assert_once_in_order(cluster, "t", 0, number);
    assert_eq!(producer.metrics().records_failed, 0);
    codes.len()
}

#[test]
fn every_retriable_code_in_mid_stream_costs_no_record_and_no_order() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    let codes = each_retriable_code(&cluster, &producer, 3, Fault::Error, |_, _, _| ());
    assert_refused_behind(&cluster, codes);
    close(&producer);
}

#[test]
fn every_retriable_code_is_retried_without_a_refusal_when_one_request_is_in_flight() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).max_in_flight(1).build().unwrap();
    each_retriable_code(&cluster, &producer, 2, Fault::Error, |_, _, _| ());
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn every_retriable_code_for_a_batch_that_was_written_writes_it_once() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    each_retriable_code(&cluster, &producer, 3, Fault::ErrorAfterApply, |code, first, sent| {
        for (metadata, wanted) in sent.iter().zip(first..) {
            assert!(
                metadata.offset().is_none_or(|offset| offset == wanted as i64),
                "{code}: {metadata:?} for {wanted}"
            );
        }
    });
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn every_fatal_code_fails_its_batch_alone_and_names_the_place() {
    watch_for_panics();
    let codes = fatal_codes();
    assert!(codes.len() > 60);
    let cluster = FakeCluster::builder().brokers(2).replication(1).topic("t", 2).start().unwrap();
    let leader = cluster.leader("t", 1).unwrap();
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    let (mut number, mut wanted) = (0, Vec::new());
    for code in &codes {
        let fault = cluster.inject(On::produce().topic("t").partition(1).skip(2), Fault::Error(*code));
        let sent = send_all(&producer, "t", 1, number, number + 6);
        for (delivery, at) in sent.iter().zip(0..) {
            if at == 2 {
                let error = failure(delivery);
                assert_eq!(error.kind(), ErrorKind::Broker(*code), "{error}");
                assert_eq!(error.written(), Some(code.written()), "{code}");
                assert_eq!(error.recovery(), recovery(*code), "{code}");
                let context = error.context();
                assert_eq!(context.topic.as_deref(), Some("t"), "{code}");
                assert_eq!(context.partition, Some(1), "{code}");
                assert_eq!(context.broker, leader, "{code}");
                assert!(error.to_string().contains(code.name()), "{error}");
            } else {
                result(delivery).unwrap_or_else(|error| panic!("{code}, record {at}: {error}"));
                wanted.push(number + at);
            }
        }
        number += 6;
        assert_eq!(fault.fired(), 1, "{code}");
    }
    assert_eq!(numbers(&cluster, "t", 1), wanted);
    assert_eq!(producer.metrics().records_failed, codes.len() as u64);
    assert_refused_behind(&cluster, codes.len());
    close(&producer);
}

#[test]
fn every_code_is_borne_without_idempotence_too() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).idempotence(false).acks(Acks::Leader).build().unwrap();
    let (mut number, mut wanted) = (0, Vec::new());
    for code in known_codes() {
        let fault = cluster.inject(On::produce().topic("t").skip(1), Fault::Error(code));
        let sent = send_all(&producer, "t", 0, number, number + 3);
        let acknowledged = code.is_retriable() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER;
        for (delivery, at) in sent.iter().zip(0..) {
            match result(delivery) {
                Ok(_) => assert!(at != 1 || acknowledged, "{code}"),
                Err(error) => {
                    assert_eq!((at, error.kind()), (1, ErrorKind::Broker(code)));
                    assert!(!acknowledged, "{code}");
                }
            }
            if at != 1 || code.is_retriable() {
                wanted.push(number + at);
            }
        }
        number += 3;
        assert_eq!(fault.fired(), 1, "{code}");
    }
    assert_eq!(numbers(&cluster, "t", 0), wanted);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn lost_sequences_go_on_under_a_new_epoch() {
    watch_for_panics();
    for code in AGAINST_THE_SEQUENCE {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).batch_records(2).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 10));
        let fault = cluster.inject(On::produce().topic("t").skip(1), Fault::Error(code));
        succeed(&send_all(&producer, "t", 0, 10, 50));
        assert_eq!(fault.fired(), 1, "{code}");
        assert_once_in_order(&cluster, "t", 0, 50);
        let epochs: Vec<i16> =
            cluster.batches("t", 0).unwrap().iter().map(|batch| batch.producer.unwrap().epoch).collect();
        assert!(epochs.is_sorted(), "{code}: {epochs:?}");
        assert_eq!(epochs.last(), Some(&1), "{code}: {epochs:?}");
        assert_eq!(producer.metrics().epoch_bumps, 1, "{code}");
        assert_refused_behind(&cluster, 1);
        close(&producer);
    }
}

#[test]
fn a_duplicate_without_an_offset_is_a_success_without_one() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    let fault =
        cluster.inject(On::produce().topic("t").skip(1), Fault::ErrorAfterApply(ErrorCode::DUPLICATE_SEQUENCE_NUMBER));
    let sent = succeed(&send_all(&producer, "t", 0, 0, 4));
    assert_eq!(
        sent.iter().map(kafka_blocking::RecordMetadata::offset).collect::<Vec<_>>(),
        [Some(0), None, Some(2), Some(3)]
    );
    assert_eq!(fault.fired(), 1);
    assert_eq!(producer.metrics().duplicates_recognised, 1);
    assert_once_in_order(&cluster, "t", 0, 4);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_code_against_the_producer_fails_everything_with_that_very_error() {
    watch_for_panics();
    for code in AGAINST_THE_PRODUCER {
        let cluster = one_topic("t", 2);
        let producer = quick(&cluster).batch_records(1).max_in_flight(1).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 3));
        let fault = cluster.inject(On::produce().topic("t"), Fault::Error(code));
        let sent = send_all(&producer, "t", 0, 3, 9);
        for delivery in &sent {
            let error = failure(delivery);
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::Broker(code), Recovery::Fatal), "{error}");
        }
        let error = failure(&send(&producer, "t", 1, 0));
        assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(code), Some(Written::No)), "{error}");
        assert_eq!(error.recovery(), Recovery::Fatal, "{error}");
        assert_eq!(fault.fired(), 1, "{code}");
        assert_once_in_order(&cluster, "t", 0, 3);
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn a_batch_that_is_found_too_large_is_split_and_keeps_its_order() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    // One batch, which is sent when all its records are in it: one of a single record cannot be split.
    let producer = patient(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let fault = cluster.inject(On::produce().topic("t").times(5), Fault::Error(ErrorCode::MESSAGE_TOO_LARGE));
    succeed(&send_all(&producer, "t", 0, 1, 400));
    assert!(fault.fired() >= 2);
    assert!(producer.metrics().batches_split >= 2);
    assert_once_in_order(&cluster, "t", 0, 400);
    assert_refused_behind(&cluster, fault.fired());
    close(&producer);
}

#[test]
fn a_record_over_the_topics_limit_fails_alone_with_its_size() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic_with("t", 1, [("max.message.bytes", "2000")]).start().unwrap();
    let producer = patient(&cluster).build().unwrap();
    let mut sent = send_all(&producer, "t", 0, 0, 50);
    let large = producer.send(Record::to("t").partition(0).value(vec![b'x'; 5000]));
    sent.extend(send_all(&producer, "t", 0, 50, 100));
    let error = failure(&large);
    assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE), "{error}");
    assert_eq!((error.written(), error.recovery()), (Some(Written::No), Recovery::Fix));
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 100);
    assert_refused_behind(&cluster, 20);
    close(&producer);
}

#[test]
fn a_denied_topic_fails_with_its_code_and_leaves_others_alone() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("mine", 1).topic("theirs", 1).start().unwrap();
    let producer = quick(&cluster).build().unwrap();
    // Denied from the start: told at once, not after max_block.
    cluster.deny_topic("theirs");
    let error = failure(&send(&producer, "theirs", 0, 0));
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{error}");
    assert_eq!(error.context().topic.as_deref(), Some("theirs"));
    assert_eq!(error.written(), Some(Written::No));
    cluster.allow_topic("theirs");
    succeed(&send_all(&producer, "theirs", 0, 0, 5));
    // Denied under way.
    cluster.deny_topic("theirs");
    let error = failure(&send(&producer, "theirs", 0, 5));
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{error}");
    assert_eq!((error.context().partition, error.context().broker), (Some(0), Some(BrokerId(1))));
    assert_eq!(error.written(), Some(Written::No));
    succeed(&send_all(&producer, "mine", 0, 0, 5));
    cluster.allow_topic("theirs");
    succeed(&send_all(&producer, "theirs", 0, 5, 10));
    assert_once_in_order(&cluster, "theirs", 0, 10);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_cluster_that_denies_idempotence_fails_the_producer_with_that_very_error() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().version(version).topic("t", 2).start().unwrap();
        cluster.deny_cluster();
        let producer = quick(&cluster).build().unwrap();
        for partition in [0, 1, 0] {
            let error = failure(&send(&producer, "t", partition, 0));
            assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), "{error}");
            assert_eq!((error.written(), error.recovery()), (Some(Written::No), Recovery::Fatal));
            let text = error.to_string();
            for part in ["IdempotentWrite", "idempotence(false)", "CLUSTER_AUTHORIZATION_FAILED"] {
                assert!(text.contains(part), "{text}");
            }
        }
        close(&producer);
        let plain = quick(&cluster).idempotence(false).build().unwrap();
        succeed(&send_all(&plain, "t", 0, 0, 5));
        assert_once_in_order(&cluster, "t", 0, 5);
        assert_no_refusals(&cluster);
        close(&plain);
    }
}

#[test]
fn a_broker_without_producer_ids_is_told_as_that() {
    watch_for_panics();
    for withdrawn in [true, false] {
        let builder = FakeCluster::builder().topic("t", 1);
        let cluster = if withdrawn { builder.withdraw(Api::InitProducerId) } else { builder }.start().unwrap();
        let fault = (!withdrawn).then(|| {
            let on = On::api(Api::InitProducerId).always();
            cluster.inject(on, Fault::Error(ErrorCode::UNSUPPORTED_VERSION))
        });
        let producer = quick(&cluster).build().unwrap();
        for number in 0..3 {
            let error = failure(&send(&producer, "t", 0, number));
            if withdrawn {
                assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{error}");
            } else {
                assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNSUPPORTED_VERSION), "{error}");
            }
            assert_eq!(error.written(), Some(Written::No));
        }
        assert_eq!(fault.as_ref().map_or(1, kafka_blocking::testing::FaultHandle::fired), 1);
        close(&producer);
        let plain = quick(&cluster).idempotence(false).build().unwrap();
        succeed(&send_all(&plain, "t", 0, 0, 5));
        assert_once_in_order(&cluster, "t", 0, 5);
        assert_no_refusals(&cluster);
        close(&plain);
    }
}

#[test]
fn a_producer_id_that_comes_late_delays_records_and_loses_none() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let on = On::api(Api::InitProducerId).times(4);
    let fault = cluster.inject(on, Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 20));
    assert_eq!(fault.fired(), 4);
    assert_once_in_order(&cluster, "t", 0, 20);
    assert_no_refusals(&cluster);
    close(&producer);
}

/// A minute and more that nothing waits for: what is final is told long before.
const FINAL: std::time::Duration = ms(1000);

#[test]
fn no_common_version_is_told_at_once_by_whoever_meets_it() {
    watch_for_panics();
    let apis = [Api::Produce, Api::Metadata, Api::InitProducerId];
    for (api, brokers) in apis.into_iter().flat_map(|api| [(api, 1), (api, 3)]) {
        let cluster = FakeCluster::builder().brokers(brokers).topic("t", 2).withdraw(api).start().unwrap();
        let producer = quick(&cluster).build().unwrap();
        // Best of three: the machine may stand still.
        let mut quickest = std::time::Duration::MAX;
        for number in 0..3 {
            let started = std::time::Instant::now();
            let sent = send_all(&producer, "t", 0, number, number + 5);
            for delivery in sent.iter().chain([&send(&producer, "t", 1, number)]) {
                let error = failure(delivery);
                assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{api:?}: {error}");
                assert_eq!((error.recovery(), error.written()), (Recovery::Fix, Some(Written::No)), "{api:?}: {error}");
                assert!(error.to_string().contains(&format!("{api:?}")), "{error}");
                assert_eq!(error.context().topic.as_deref(), Some("t"), "{error}");
                if api == Api::Produce {
                    let address = error.context().address.as_deref();
                    let leader = cluster.leader("t", error.context().partition.unwrap()).unwrap().unwrap();
                    assert_eq!((error.context().broker, address), (Some(leader), Some(&*cluster.address(leader))));
                }
            }
            quickest = quickest.min(started.elapsed());
        }
        assert!(quickest < FINAL, "{api:?} of {brokers}: {quickest:?}");
        if api == Api::Metadata {
            let error = producer.connect_timeout(BOUND).unwrap_err();
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix), "{error}");
        }
        close(&producer);
    }
}

#[test]
fn a_partition_learns_how_large_its_batches_may_be() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic_with("t", 2, [("max.message.bytes", "5000")]).start().unwrap();
    let producer = patient(&cluster).batch_size(100_000).build().unwrap();
    let value = |number: u64| format!("{number:<400}");
    let mut rounds = Vec::new();
    for round in 0..6 {
        let before = (producer.metrics().batches_sent, producer.metrics().batches_split);
        let sent: Vec<_> = (0..200)
            .map(|number| producer.send(Record::to("t").partition(0).value(value(200 * round + number))))
            .collect();
        producer.flush_timeout(BOUND).unwrap();
        succeed(&sent);
        rounds.push((producer.metrics().batches_sent - before.0, producer.metrics().batches_split - before.1));
    }
    // 11 records of 400 bytes are a batch that is taken, and 5 are half of that.
    assert!(rounds[0].0 < 80 && rounds[0].1 > 0, "{rounds:?}");
    for (sent, split) in &rounds[1..] {
        assert_eq!(*split, 0, "what was learnt is not learnt again: {rounds:?}");
        assert!((200 / 12..=200 / 5).contains(sent), "{rounds:?}");
    }
    let found: Vec<u64> =
        cluster.records("t", 0).unwrap().iter().map(|record| record.value_text().trim().parse().unwrap()).collect();
    assert!(found.iter().copied().eq(0..1200), "once, and in order");
    // Another partition has its own limit to learn.
    let small: Vec<_> = (0..8).map(|number| producer.send(Record::to("t").partition(1).value(value(number)))).collect();
    producer.flush_timeout(BOUND).unwrap();
    succeed(&small);
    assert_eq!(cluster.batches("t", 1).unwrap().len(), 1);
    assert_refused_behind(&cluster, 20);
    close(&producer);
}

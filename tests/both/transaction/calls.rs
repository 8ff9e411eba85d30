//! Transactions of the producer, on real Kafka and on the fake cluster.

use std::borrow::Cow;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use kafka_blocking::serialization::{Context, SerializationError, Serializer, java};
use kafka_blocking::testing::internal_unstable::{Client, RawProducer};
use kafka_blocking::testing::{FakeCluster, Marker};
use kafka_blocking::{
    ErrorCode, ErrorKind, GroupMetadata, OffsetAndMetadata, Producer, ProducerBuilder, Record, Recovery, Result,
    TopicPartition, Transaction, TransactionMetrics, TypedProducer, TypedRecord,
};

use crate::support::kafka;
use crate::support::target::{Target, on_each, settled, values};

const MINUTE: Duration = Duration::from_secs(60);

on_each!(
    [
        on_the_fake_cluster,
        on_the_fake_cluster_without_transactions_v2,
        on_real_kafka,
        on_real_kafka_without_transactions_v2
    ]
    what_is_committed_becomes_visible_as_a_whole,
    what_is_aborted_is_never_visible,
    a_hundred_sends_are_one_transaction,
    transactions_follow_each_other,
    a_dropped_transaction_is_aborted,
    a_closure_is_committed_or_aborted,
    the_calls_of_java_do_the_same,
    nothing_is_sent_outside_of_a_transaction,
    an_empty_transaction_can_be_ended_either_way,
    a_second_instance_locks_the_first_one_out,
    an_older_instance_is_fenced_by_whatever_it_does_next_and_nothing_of_it_is_visible,
    a_new_instance_finishes_what_the_former_one_left,
    a_failed_record_makes_the_transaction_abortable,
    a_refused_record_makes_the_transaction_abortable,
    offsets_are_committed_with_the_transaction,
    offsets_of_an_aborted_transaction_do_not_count,
    offsets_of_a_member_that_is_gone_are_refused,
    closing_aborts_what_is_open,
    many_threads_send_in_one_transaction,
    typed_messages_are_part_of_the_transaction,
    the_metrics_tell_of_transactions,
);

/// What these tests have of a cluster besides.
trait Prepare {
    fn builder(&self) -> ProducerBuilder;
    fn ready(&self) -> Producer;
    fn record<'a>(&self, partition: i32, value: &'a str) -> Record<'a>;
    fn partition(&self, partition: i32) -> TopicPartition;
    fn group_offset(&self) -> Option<i64>;
}

impl Prepare for Target {
    fn builder(&self) -> ProducerBuilder {
        Producer::builder(&self.bootstrap).transactional_id(self.name)
    }

    fn ready(&self) -> Producer {
        let producer = self.builder().build().unwrap();
        producer.init_transactions().unwrap();
        producer
    }

    fn record<'a>(&self, partition: i32, value: &'a str) -> Record<'a> {
        Record::to(self.name).partition(partition).value(value)
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.name, partition)
    }

    fn group_offset(&self) -> Option<i64> {
        let mut reader = RawProducer::connect(&self.bootstrap, "nobody").unwrap();
        reader.committed_offset(self.name, self.name, 0).unwrap().map(|offset| offset.offset)
    }
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_the_next_one_works_on_the_fake_cluster() {
    let cluster = FakeCluster::start(1).unwrap();
    too_long(&Target { bootstrap: cluster.bootstrap(), name: "too_long" });
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_the_next_one_works_on_real_kafka() {
    too_long(&Target { bootstrap: kafka::shared_single().bootstrap(), name: "too_long" });
}

/// In V1 such a producer is locked out, and cannot tell that from another instance; see the tests of faults.
fn too_long(target: &Target) {
    let mut client = target.client(1);
    // The last transaction has to be over in this time, also on a machine that stands still for some seconds.
    let producer = target.builder().transaction_timeout(Duration::from_secs(8)).build().unwrap();
    producer.init_transactions().unwrap();
    for (value, sends_again) in [("a", true), ("b", false)] {
        let transaction = producer.transaction().unwrap();
        let before = client.end_offset(target.name, 0).unwrap();
        transaction.send(target.record(0, value)).wait().unwrap();
        let deadline = Instant::now() + MINUTE;
        // The record, and the marker that the coordinator has written.
        while client.stable_offset(target.name, 0).unwrap() < before + 2 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(50));
        }
        if sends_again {
            let error = transaction.send(target.record(0, "late")).wait().unwrap_err();
            assert_eq!(error.recovery(), Recovery::AbortTransaction, "{error:?}");
        }
        let error = transaction.commit().unwrap_err();
        assert_eq!(error.error().recovery(), Recovery::AbortTransaction, "{error:?}");
        assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");
        error.into_transaction().abort().unwrap();
    }
    producer.in_transaction(|transaction| transaction.send(target.record(0, "c")).wait()).unwrap();
    assert_eq!(committed(&mut client, target.name, 0), ["c"]);
}

/// What readers of committed records see, once no transaction is open.
fn committed(client: &mut Client, topic: &str, partition: i32) -> Vec<String> {
    let end = settled(client, topic, partition);
    values(&client.read_committed(topic, partition, 0..end).unwrap())
}

/// What readers of committed records see now.
fn visible(client: &mut Client, topic: &str, partition: i32) -> Vec<String> {
    let stable = client.stable_offset(topic, partition).unwrap();
    values(&client.read_committed(topic, partition, 0..stable).unwrap())
}

fn refused<T: Debug>(result: Result<T>) -> (ErrorKind, Recovery) {
    let error = result.unwrap_err();
    (error.kind(), error.recovery())
}

/// Writes numbers, and fails on everything else.
struct Number;

impl Serializer<str> for Number {
    fn serialize<'v>(
        &self,
        value: &'v str,
        _: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        let number: u32 = value.parse()?;
        Ok(Some(format!("n={number}").into_bytes().into()))
    }
}

mod promises {
    use super::*;

    pub(super) fn what_is_committed_becomes_visible_as_a_whole(target: &Target) {
        let mut client = target.client(2);
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        let first = transaction.send(target.record(0, "a")).wait().unwrap();
        assert_eq!(first.offset().unwrap(), 0);
        transaction.send(target.record(1, "b")).wait().unwrap();
        for partition in [0, 1] {
            assert_eq!(client.end_offset(target.name, partition).unwrap(), 1);
            assert_eq!(visible(&mut client, target.name, partition), Vec::<String>::new());
        }
        transaction.send(target.record(1, "c"));
        transaction.commit().unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["a"]);
        assert_eq!(committed(&mut client, target.name, 1), ["b", "c"]);
        producer.close_timeout(MINUTE).unwrap();
    }

    pub(super) fn what_is_aborted_is_never_visible(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "a")).wait().unwrap();
        transaction.abort().unwrap();
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "b")).wait().unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["b"]);
    }

    pub(super) fn a_hundred_sends_are_one_transaction(target: &Target) {
        let mut client = target.client(3);
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        for i in 0..100 {
            drop(transaction.send(target.record(i % 3, &i.to_string())));
        }
        transaction.commit().unwrap();
        let found: Vec<usize> = (0..3).map(|partition| committed(&mut client, target.name, partition).len()).collect();
        assert_eq!(found, [34, 33, 33]);
    }

    pub(super) fn transactions_follow_each_other(target: &Target) {
        let mut client = target.client(2);
        let producer = target.ready();
        let mut wanted = [Vec::new(), Vec::new()];
        for i in 0..20_i32 {
            let transaction = producer.transaction().unwrap();
            let value = i.to_string();
            // Sequences go on where a partition is left out, and begin anew where the epoch does.
            let partition = i % 3 / 2;
            for _ in 0..3 {
                transaction.send(target.record(partition, &value));
            }
            if i % 4 == 3 {
                transaction.abort().unwrap();
            } else {
                transaction.commit().unwrap();
                wanted[usize::try_from(partition).unwrap()].extend(std::iter::repeat_n(value, 3));
            }
        }
        for (partition, wanted) in [0, 1].into_iter().zip(wanted) {
            assert_eq!(committed(&mut client, target.name, partition), wanted);
        }
    }

    pub(super) fn a_dropped_transaction_is_aborted(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        fn fail(producer: &Producer, target: &Target) -> Result<()> {
            let transaction = producer.transaction()?;
            transaction.send(target.record(0, "a")).wait()?;
            // A partition that is not there.
            transaction.send(target.record(7, "a")).wait()?;
            transaction.commit()?;
            Ok(())
        }
        fail(&producer, target).unwrap_err();
        producer.in_transaction(|transaction| transaction.send(target.record(0, "b")).wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["b"]);
    }

    pub(super) fn a_closure_is_committed_or_aborted(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        let sent = producer.in_transaction(|transaction| transaction.send(target.record(0, "a")).wait()).unwrap();
        assert_eq!(sent.partition(), 0);
        let error = producer.in_transaction(|transaction| {
            transaction.send(target.record(0, "b")).wait()?;
            // A partition that is not there.
            transaction.send(target.record(7, "c")).wait()
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::NoSuchPartition);
        assert_eq!(committed(&mut client, target.name, 0), ["a"]);
    }

    pub(super) fn the_calls_of_java_do_the_same(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        producer.begin_transaction().unwrap();
        producer.send(target.record(0, "a")).detach();
        producer.commit_transaction().unwrap();
        producer.begin_transaction().unwrap();
        producer.send(target.record(0, "b")).wait().unwrap();
        producer.abort_transaction().unwrap();
        producer.begin_transaction().unwrap();
        producer.send(target.record(0, "c")).detach();
        let offset = OffsetAndMetadata::new(7).metadata("here").leader_epoch(0);
        let group = GroupMetadata::new(target.name);
        producer.send_offsets_to_transaction([(target.partition(0), offset)], &group).unwrap();
        producer.commit_transaction().unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["a", "c"]);
        assert_eq!(target.group_offset(), Some(7));
        // Twice is once too often, and says so.
        let misuse = (ErrorKind::Misuse, Recovery::Fix);
        assert_eq!(refused(producer.commit_transaction()), misuse);
        assert_eq!(refused(producer.abort_transaction()), misuse);
        assert_eq!(refused(producer.init_transactions()), misuse);
    }

    pub(super) fn nothing_is_sent_outside_of_a_transaction(target: &Target) {
        let mut client = target.client(1);
        let producer = target.builder().build().unwrap();
        let misuse = (ErrorKind::Misuse, Recovery::Fix);
        assert_eq!(refused(producer.transaction()), misuse);
        assert_eq!(refused(producer.send(target.record(0, "a")).wait()), misuse);
        producer.init_transactions().unwrap();
        assert_eq!(refused(producer.send(target.record(0, "b")).wait()), misuse);
        let transaction = producer.transaction().unwrap();
        assert_eq!(refused(producer.transaction()), misuse);
        producer.send(target.record(0, "c")).wait().unwrap();
        transaction.commit().unwrap();
        let late = producer.send(target.record(0, "d"));
        assert!(late.is_done());
        assert_eq!(refused(late.wait()), misuse);
        let offsets = producer.send_offsets_to_transaction([(target.partition(0), 1)], &GroupMetadata::new("group"));
        assert_eq!(refused(offsets), misuse);
        assert_eq!(committed(&mut client, target.name, 0), ["c"]);

        let plain = Producer::builder(&target.bootstrap).build().unwrap();
        assert_eq!(refused(plain.init_transactions()), misuse);
        assert_eq!(refused(plain.transaction()), misuse);
    }

    pub(super) fn an_empty_transaction_can_be_ended_either_way(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        for _ in 0..3 {
            producer.transaction().unwrap().commit().unwrap();
            producer.transaction().unwrap().abort().unwrap();
        }
        producer.in_transaction(|transaction| transaction.send(target.record(0, "a")).wait()).unwrap();
        producer.transaction().unwrap().commit().unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["a"]);
    }

    pub(super) fn a_second_instance_locks_the_first_one_out(target: &Target) {
        let mut client = target.client(1);
        let first = target.ready();
        let transaction = first.transaction().unwrap();
        transaction.send(target.record(0, "a")).wait().unwrap();

        let second = target.ready();
        let error = transaction.commit().unwrap_err();
        assert_eq!((error.error().kind(), error.error().recovery()), (ErrorKind::Fenced, Recovery::Fatal));
        let transaction = error.into_transaction();
        // From here on every call fails at once, without asking anybody.
        let fenced = (ErrorKind::Fenced, Recovery::Fatal);
        assert_eq!(refused(transaction.send(target.record(0, "b")).wait()), fenced);
        assert_eq!(refused(transaction.abort()), fenced);
        assert_eq!(refused(first.transaction()), fenced);
        assert_eq!(refused(first.send(target.record(0, "b")).wait()), fenced);
        assert_eq!(refused(first.init_transactions()), fenced);
        first.close_timeout(MINUTE).unwrap();

        second.in_transaction(|transaction| transaction.send(target.record(0, "c")).wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["c"]);
    }

    pub(super) fn an_older_instance_is_fenced_by_whatever_it_does_next_and_nothing_of_it_is_visible(target: &Target) {
        type Next = fn(Transaction, &Target) -> kafka_blocking::Error;
        // Each is the first call after the other instance came.
        let nexts: [(&str, Next); 5] = [
            ("send", |transaction, target| {
                let error = transaction.send(target.record(0, "late")).wait().unwrap_err();
                // The partition's leader says only that the epoch is too old, which may be another one's fault; the
                // coordinator knows.
                assert_eq!(error.code(), Some(ErrorCode::INVALID_PRODUCER_EPOCH));
                transaction.abort().unwrap_err()
            }),
            ("send and commit", |transaction, target| {
                drop(transaction.send(target.record(0, "late")));
                let error = transaction.commit().unwrap_err();
                match error.error().recovery() {
                    Recovery::AbortTransaction => error.into_transaction().abort().unwrap_err(),
                    _ => error.error().clone(),
                }
            }),
            ("commit", |transaction, _| transaction.commit().unwrap_err().error().clone()),
            ("abort", |transaction, _| transaction.abort().unwrap_err()),
            ("send_offsets", |transaction, target| {
                let group = GroupMetadata::new(target.name);
                let error = transaction.send_offsets([(target.partition(0), 7)], &group).unwrap_err();
                // Transactions V2: the group's coordinator says only that the epoch is too old.
                match error.recovery() {
                    Recovery::AbortTransaction => transaction.abort().unwrap_err(),
                    _ => error,
                }
            }),
        ];
        let mut client = target.client(1);
        for (next, call) in nexts {
            let id = format!("{}-{next}", target.name);
            let build = || {
                let producer = Producer::builder(&target.bootstrap).transactional_id(&id).build().unwrap();
                producer.init_transactions().unwrap();
                producer
            };
            let older = build();
            let transaction = older.transaction().unwrap();
            transaction.send(target.record(0, "early")).wait().unwrap();
            let newer = build();

            let begin = Instant::now();
            let error = call(transaction, target);
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::Fenced, Recovery::Fatal), "{next}: {error:?}");
            // At once is: without waiting for a timeout.
            assert!(begin.elapsed() < MINUTE / 2, "{next}: {:?}", begin.elapsed());
            let fenced = (ErrorKind::Fenced, Recovery::Fatal);
            assert_eq!(refused(older.transaction()), fenced, "{next}");
            assert_eq!(refused(older.send(target.record(0, "later")).wait()), fenced, "{next}");

            newer.in_transaction(|transaction| transaction.send(target.record(0, next)).wait()).unwrap();
            older.close_timeout(MINUTE).unwrap();
        }
        let calls = nexts.map(|(next, _)| next);
        assert_eq!(committed(&mut client, target.name, 0), calls);
        assert_eq!(target.group_offset(), None);
    }

    pub(super) fn a_new_instance_finishes_what_the_former_one_left(target: &Target) {
        let mut client = target.client(1);
        let mut former = RawProducer::connect(&target.bootstrap, target.name).unwrap();
        former.init(MINUTE).unwrap();
        former.add_partitions(target.name, &[0]).unwrap();
        former.send(target.name, 0, &["left"]).unwrap();
        assert_eq!(visible(&mut client, target.name, 0), Vec::<String>::new());
        let producer = target.ready();
        assert_eq!(committed(&mut client, target.name, 0), Vec::<String>::new());
        producer.in_transaction(|transaction| transaction.send(target.record(0, "a")).wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["a"]);
        assert!(former.end(Marker::Commit).is_err());
    }

    pub(super) fn a_failed_record_makes_the_transaction_abortable(target: &Target) {
        let mut client = Client::connect(&target.bootstrap).unwrap();
        client.create_topic(target.name, 1, 1, [("max.message.bytes", "2000")]).unwrap();
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "a")).wait().unwrap();
        let large = "x".repeat(5000);
        let failed = transaction.send(target.record(0, &large)).wait().unwrap_err();
        assert_eq!(failed.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        // At once, and with the cause.
        let late = transaction.send(target.record(0, "b")).wait().unwrap_err();
        assert_eq!(late.recovery(), Recovery::AbortTransaction);
        assert_eq!(late.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        let error = transaction.commit().unwrap_err();
        assert_eq!(error.error().recovery(), Recovery::AbortTransaction);
        assert_eq!(error.error().code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        error.into_transaction().abort().unwrap();
        producer.in_transaction(|transaction| transaction.send(target.record(0, "c")).wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["c"]);
    }

    pub(super) fn a_refused_record_makes_the_transaction_abortable(target: &Target) {
        let mut client = target.client(1);
        let producer = target.builder().max_request_size(2000).build().unwrap();
        producer.init_transactions().unwrap();
        let large = "x".repeat(5000);
        for (partition, value, kind) in [(7, "x", ErrorKind::NoSuchPartition), (0, &large, ErrorKind::RecordTooLarge)] {
            let transaction = producer.transaction().unwrap();
            transaction.send(target.record(0, "a"));
            // Nobody looks at the handle.
            drop(transaction.send(target.record(partition, value)));
            let late = transaction.send(target.record(0, "b")).wait().unwrap_err();
            assert_eq!((late.kind(), late.recovery()), (kind, Recovery::AbortTransaction), "{late:?}");
            let error = transaction.commit().unwrap_err();
            assert_eq!((error.error().kind(), error.error().recovery()), (kind, Recovery::AbortTransaction));
            error.into_transaction().abort().unwrap();
            // Outside of a transaction it does not concern the next one.
            drop(producer.send(target.record(partition, value)));
        }
        producer.in_transaction(|transaction| transaction.send(target.record(0, "c")).wait()).unwrap();

        // A record that would have to wait was not taken, which is for the caller to see.
        let transaction = producer.transaction().unwrap();
        let unknown = Record::to(format!("{}-unknown", target.name)).value("x");
        assert_eq!(transaction.try_send(unknown).unwrap_err().error().kind(), ErrorKind::WouldBlock);
        transaction.send(target.record(0, "d"));
        transaction.commit().unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["c", "d"]);
    }

    pub(super) fn offsets_are_committed_with_the_transaction(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        let group = GroupMetadata::new(target.name);
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "a"));
        transaction.send_offsets([(target.partition(0), 41)], &group).unwrap();
        transaction.send_offsets([(target.partition(0), 42)], &group).unwrap();
        transaction.commit().unwrap();
        assert_eq!(target.group_offset(), Some(42));
        assert_eq!(committed(&mut client, target.name, 0), ["a"]);
        // Offsets alone.
        producer.in_transaction(|transaction| transaction.send_offsets([(target.partition(0), 43)], &group)).unwrap();
        assert_eq!(target.group_offset(), Some(43));
        let below =
            producer.in_transaction(|transaction| transaction.send_offsets([(target.partition(0), -1)], &group));
        assert_eq!(refused(below), (ErrorKind::InvalidInput, Recovery::Fix));
    }

    pub(super) fn offsets_of_an_aborted_transaction_do_not_count(target: &Target) {
        target.client(1);
        let producer = target.ready();
        let group = GroupMetadata::new(target.name);
        producer.in_transaction(|transaction| transaction.send_offsets([(target.partition(0), 1)], &group)).unwrap();
        let transaction = producer.transaction().unwrap();
        transaction.send_offsets([(target.partition(0), 2)], &group).unwrap();
        transaction.abort().unwrap();
        assert_eq!(target.group_offset(), Some(1));
    }

    pub(super) fn offsets_of_a_member_that_is_gone_are_refused(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "a"));
        let gone = GroupMetadata::new(target.name).member(5, "gone");
        let error = transaction.send_offsets([(target.partition(0), 1)], &gone).unwrap_err();
        assert_eq!(error.recovery(), Recovery::AbortTransaction, "{error:?}");
        assert!(
            matches!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION)),
            "{error:?}"
        );
        let error = transaction.commit().unwrap_err();
        assert_eq!(error.error().recovery(), Recovery::AbortTransaction);
        error.into_transaction().abort().unwrap();
        producer.in_transaction(|transaction| transaction.send(target.record(0, "b")).wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["b"]);
        assert_eq!(target.group_offset(), None);
    }

    pub(super) fn closing_aborts_what_is_open(target: &Target) {
        let mut client = target.client(1);
        let producer = target.ready();
        let transaction = producer.transaction().unwrap();
        transaction.send(target.record(0, "a")).wait().unwrap();
        producer.close_timeout(MINUTE).unwrap();
        // Not after a timeout, but now.
        assert_eq!(committed(&mut client, target.name, 0), Vec::<String>::new());
        let error = transaction.commit().unwrap_err();
        assert_eq!(error.error().kind(), ErrorKind::Closed);
    }

    pub(super) fn many_threads_send_in_one_transaction(target: &Target) {
        let mut client = target.client(4);
        let producer = target.ready();
        for round in 0..3 {
            let transaction = producer.transaction().unwrap();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let transaction = &transaction;
                    scope.spawn(move || {
                        for i in 0..50 {
                            drop(transaction.send(target.record((thread + i) % 4, "x")));
                        }
                    });
                }
            });
            if round == 1 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
        }
        let found: usize = (0..4).map(|partition| committed(&mut client, target.name, partition).len()).sum();
        assert_eq!(found, 400);
    }

    pub(super) fn typed_messages_are_part_of_the_transaction(target: &Target) {
        let mut client = target.client(1);
        let producer = TypedProducer::<str, str>::new(target.ready(), java(), Number);
        let misuse = (ErrorKind::Misuse, Recovery::Fix);
        let produce = |message: &str| producer.send(TypedRecord::to(target.name).partition(0).value(message));
        assert_eq!(refused(produce("0").wait()), misuse);

        let transaction = producer.producer().transaction().unwrap();
        produce("1").wait().unwrap();
        drop(produce("2"));
        transaction.send(target.record(0, "bytes"));
        assert_eq!(visible(&mut client, target.name, 0), Vec::<String>::new());
        transaction.commit().unwrap();
        assert_eq!(refused(produce("3").wait()), misuse);

        // The guard aborts what is in it when it is left.
        let transaction = producer.producer().transaction().unwrap();
        produce("4").wait().unwrap();
        drop(transaction);

        // What cannot be serialized was not sent, so the rest of it must not be committed.
        let transaction = producer.producer().transaction().unwrap();
        produce("5").wait().unwrap();
        drop(produce("not a number"));
        let error = transaction.commit().unwrap_err();
        let told = (error.error().kind(), error.error().recovery());
        assert_eq!(told, (ErrorKind::Serialization, Recovery::AbortTransaction));
        error.into_transaction().abort().unwrap();

        producer.producer().in_transaction(|_| produce("6").wait()).unwrap();
        assert_eq!(committed(&mut client, target.name, 0), ["n=1", "n=2", "bytes", "n=6"]);
        producer.close_timeout(MINUTE).unwrap();
    }

    pub(super) fn the_metrics_tell_of_transactions(target: &Target) {
        target.client(1);
        let producer = target.builder().build().unwrap();
        assert_eq!(producer.metrics().transactions, TransactionMetrics::default());
        let begin = Instant::now();
        producer.init_transactions().unwrap();
        let group = GroupMetadata::new(target.name);
        for _ in 0..2 {
            let transaction = producer.transaction().unwrap();
            transaction.send(target.record(0, "a"));
            transaction.send_offsets([(target.partition(0), 1)], &group).unwrap();
            transaction.commit().unwrap();
        }
        let after_two = producer.metrics().transactions;
        // On purpose, by being dropped, and because a record has failed.
        producer.transaction().unwrap().abort().unwrap();
        drop(producer.transaction().unwrap());
        let transaction = producer.transaction().unwrap();
        drop(transaction.send(target.record(7, "a")));
        let failed = transaction.commit().unwrap_err();
        let after_failure = producer.metrics().transactions;
        failed.into_transaction().abort().unwrap();
        let open = producer.transaction().unwrap();
        let found = producer.metrics().transactions;
        let waited = begin.elapsed();

        let counts = |found: &TransactionMetrics| [found.begun, found.committed, found.aborted, found.failed];
        assert_eq!(counts(&after_two), [2, 2, 0, 0]);
        assert_eq!(counts(&after_failure), [5, 2, 2, 1]);
        assert_eq!(counts(&found), [6, 2, 3, 1]);
        let times = [found.init_time, found.begin_time, found.send_offsets_time, found.commit_time, found.abort_time];
        assert!(times.iter().all(|time| *time > Duration::ZERO), "{found:?}");
        assert!(times.iter().sum::<Duration>() <= waited, "{found:?} in {waited:?}");
        assert!(after_two.last_commit_time > Duration::ZERO && after_two.last_commit_time < after_two.commit_time);
        // A commit that fails takes time, too, and is not the last that succeeded.
        assert_eq!(found.last_commit_time, after_two.last_commit_time);
        assert!(found.commit_time > after_two.commit_time);
        let text = producer.metrics().to_prometheus(&[]).unwrap();
        assert!(text.contains("\nkafka_producer_transactions_aborted_total 3\n"), "{text}");
        open.abort().unwrap();
    }
}

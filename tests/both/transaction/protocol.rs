//! The rules of transactions, request by request, on real Kafka and on the fake cluster alike: the fake cannot drift
//! from what it stands for.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use kafka_blocking::testing::internal_unstable::{Client, RawProducer};
use kafka_blocking::testing::{FakeCluster, KafkaVersion, Marker, TransactionVersion};
use kafka_blocking::{ErrorCode, Result};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::target::{Target, on_each, settled, values};

const MINUTE: Duration = Duration::from_secs(60);

on_each!(
    [on_the_refusing_fake_cluster, on_real_kafka]
    a_commit_shows_its_records_at_once,
    an_abort_hides_its_records,
    the_first_open_transaction_stops_readers,
    every_end_gives_the_next_epoch_and_sequences_begin_anew,
    a_first_sequence_other_than_0_is_refused,
    a_repeated_end_is_recognised,
    what_has_not_begun_can_be_aborted_and_not_committed,
    a_new_instance_fences_the_former_one,
    a_producer_can_bump_its_own_epoch,
    a_producer_can_bump_its_epoch_with_a_transaction_open,
    a_producer_can_bump_its_epoch_after_an_end,
    a_transaction_that_takes_too_long_is_aborted,
    a_timeout_beyond_the_limit_is_refused,
    the_last_epoch_is_followed_by_another_producer_id,
    another_producers_id_is_refused,
    offsets_count_when_the_transaction_is_committed,
    offsets_of_an_aborted_transaction_are_dropped,
    offsets_of_a_generation_that_is_not_there_are_refused,
    offsets_of_a_fenced_producer_are_refused,
    in_v1_partitions_are_added_first,
    in_v1_the_epoch_stays_and_sequences_go_on,
    in_v1_a_new_instance_fences_the_former_one,
    in_v1_nothing_can_be_ended_that_has_not_begun,
    in_v1_offsets_are_added_first,
    partitions_are_added_all_or_none,
);

/// What these tests have of a cluster besides.
trait Prepare {
    fn producer(&self) -> RawProducer;
    fn ready(&self) -> RawProducer;
    fn ready_v1(&self) -> RawProducer;
}

impl Prepare for Target {
    fn producer(&self) -> RawProducer {
        RawProducer::connect(&self.bootstrap, self.name).unwrap()
    }

    fn ready(&self) -> RawProducer {
        let mut producer = self.producer();
        producer.init(MINUTE).unwrap();
        producer
    }

    fn ready_v1(&self) -> RawProducer {
        let mut producer = self.producer().version(TransactionVersion::V1);
        producer.init(MINUTE).unwrap();
        producer
    }
}

fn code<T: Debug>(result: Result<T>) -> ErrorCode {
    let error = result.unwrap_err();
    error.code().unwrap_or_else(|| panic!("no code: {error}"))
}

/// Waits until a partition ends at `offset`, and no transaction is open before it.
fn settled_at(client: &mut Client, topic: &str, offset: i64) {
    let deadline = Instant::now() + MINUTE;
    while client.end_offset(topic, 0).unwrap() < offset {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(settled(client, topic, 0), offset);
}

macro_rules! older_releases {
    ($($name:ident: $fake:ident, $real:ident;)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn on_the_fake_cluster() {
                let cluster = FakeCluster::builder().version(KafkaVersion::$fake).start().unwrap();
                let target = Target { bootstrap: cluster.bootstrap(), name: stringify!($name) };
                super::on_an_older_release(&target, KafkaVersion::$fake);
            }

            #[test]
            fn on_real_kafka() {
                let cluster = Cluster::start(Options::single(Version::$real));
                let target = Target { bootstrap: cluster.bootstrap(), name: stringify!($name) };
                super::on_an_older_release(&target, KafkaVersion::$fake);
            }
        })*
    };
}

older_releases! {
    release_0_11: V0_11, V0_11;
    release_2_8: V2_8, V2_8;
    release_3_9: V3_9, V3_9;
}

/// What a producer of V1 meets there.
fn on_an_older_release(target: &Target, release: KafkaVersion) {
    let mut client = target.client(1);
    let mut former = target.ready();
    let identity = former.producer;
    for (value, is_commit) in [("a", true), ("b", false), ("c", true)] {
        former.add_partitions(target.name, &[0]).unwrap();
        former.send(target.name, 0, &[value]).unwrap();
        former.add_offsets(target.name).unwrap();
        former.commit_offset(target.name, target.name, 0, i64::from(value.as_bytes()[0])).unwrap();
        former.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
        assert_eq!(former.producer, identity);
    }
    settled_at(&mut client, target.name, 6);
    assert_eq!(values(&client.read_committed(target.name, 0, 0..6).unwrap()), ["a", "c"]);
    let committed = former.committed_offset(target.name, target.name, 0).unwrap().unwrap();
    assert_eq!(committed.offset, i64::from(b'c'));
    assert_eq!(code(former.end(Marker::Abort)), ErrorCode::INVALID_TXN_STATE);

    former.add_partitions(target.name, &[0]).unwrap();
    former.send(target.name, 0, &["d"]).unwrap();
    let mut latter = target.ready();
    assert_eq!((latter.producer.producer_id, latter.producer.epoch), (identity.producer_id, 2));
    // PRODUCER_FENCED is of KIP-588.
    let is_old = release == KafkaVersion::V0_11;
    let fenced = if is_old { ErrorCode::INVALID_PRODUCER_EPOCH } else { ErrorCode::PRODUCER_FENCED };
    assert_eq!(code(former.end(Marker::Commit)), fenced);
    assert_eq!(code(former.add_partitions(target.name, &[0])), fenced);
    assert_eq!(code(former.add_offsets(target.name)), fenced);
    assert_eq!(code(former.send(target.name, 0, &["e"])), ErrorCode::INVALID_PRODUCER_EPOCH);
    if release >= KafkaVersion::V3_9 {
        // The others would write it into a transaction that nobody ends.
        assert_eq!(code(latter.send(target.name, 0, &["f"])), ErrorCode::TRANSACTION_ABORTABLE);
    }
    settled_at(&mut client, target.name, 8);
    latter.add_partitions(target.name, &[0]).unwrap();
    latter.send(target.name, 0, &["g"]).unwrap();
    latter.end(Marker::Commit).unwrap();
    settled_at(&mut client, target.name, 10);
    assert_eq!(values(&client.read_committed(target.name, 0, 0..10).unwrap()), ["a", "c", "g"]);
}

mod promises {
    use super::*;

    pub(super) fn a_commit_shows_its_records_at_once(target: &Target) {
        let mut client = target.client(2);
        let mut producer = target.ready();
        assert_eq!(producer.producer.epoch, 0);
        assert_eq!(producer.send(target.name, 0, &["a", "b"]).unwrap(), 0);
        assert_eq!(producer.send(target.name, 0, &["c"]).unwrap(), 2);
        assert_eq!(producer.send(target.name, 1, &["d"]).unwrap(), 0);
        assert_eq!(client.stable_offset(target.name, 0).unwrap(), 0);
        assert_eq!(client.end_offset(target.name, 0).unwrap(), 3);
        assert_eq!(values(&client.read(target.name, 0, 0..3).unwrap()), ["a", "b", "c"]);

        producer.end(Marker::Commit).unwrap();
        // The marker has an offset.
        settled_at(&mut client, target.name, 4);
        assert_eq!(settled(&mut client, target.name, 1), 2);
        let read = client.read_committed(target.name, 0, 0..4).unwrap();
        assert_eq!(values(&read), ["a", "b", "c"]);
        assert_eq!(read.iter().map(|record| record.offset()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(values(&client.read_committed(target.name, 1, 0..2).unwrap()), ["d"]);
    }

    pub(super) fn an_abort_hides_its_records(target: &Target) {
        let mut client = target.client(1);
        let mut producer = target.ready();
        producer.send(target.name, 0, &["a"]).unwrap();
        producer.end(Marker::Abort).unwrap();
        producer.send(target.name, 0, &["b"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        producer.send(target.name, 0, &["c"]).unwrap();
        producer.end(Marker::Abort).unwrap();
        settled_at(&mut client, target.name, 6);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..6).unwrap()), ["b"]);
        assert_eq!(values(&client.read_committed(target.name, 0, 2..6).unwrap()), ["b"]);
        assert_eq!(values(&client.read(target.name, 0, 0..6).unwrap()), ["a", "b", "c"]);
    }

    pub(super) fn the_first_open_transaction_stops_readers(target: &Target) {
        let mut client = target.client(1);
        let mut first = target.ready();
        let mut second = RawProducer::connect(&target.bootstrap, format!("{}.2", target.name)).unwrap();
        second.init(MINUTE).unwrap();
        assert_ne!(first.producer.producer_id, second.producer.producer_id);
        first.send(target.name, 0, &["a"]).unwrap();
        second.send(target.name, 0, &["b"]).unwrap();
        first.send(target.name, 0, &["c"]).unwrap();
        second.end(Marker::Commit).unwrap();
        let deadline = Instant::now() + MINUTE;
        while client.end_offset(target.name, 0).unwrap() < 4 {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(client.stable_offset(target.name, 0).unwrap(), 0);
        first.end(Marker::Abort).unwrap();
        settled_at(&mut client, target.name, 5);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..5).unwrap()), ["b"]);
    }

    pub(super) fn every_end_gives_the_next_epoch_and_sequences_begin_anew(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        let id = producer.producer.producer_id;
        for epoch in 0..4 {
            assert_eq!((producer.producer.producer_id, producer.producer.epoch), (id, epoch));
            producer.send_at(target.name, 0, 0, &["a", "b"]).unwrap();
            assert_eq!(code(producer.send_at(target.name, 0, 3, &["gap"])), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            producer.send_at(target.name, 0, 2, &["c"]).unwrap();
            // A repeated batch is known, and not written again.
            let again = producer.send_at(target.name, 0, 2, &["c"]).unwrap();
            assert_eq!(again, i64::from(epoch) * 4 + 2);
            producer.end(if epoch % 2 == 0 { Marker::Commit } else { Marker::Abort }).unwrap();
        }
    }

    pub(super) fn a_first_sequence_other_than_0_is_refused(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        assert_eq!(code(producer.send_at(target.name, 0, 5, &["a"])), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        producer.send_at(target.name, 0, 0, &["a"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        assert_eq!(code(producer.send_at(target.name, 0, 1, &["a"])), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }

    pub(super) fn a_repeated_end_is_recognised(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        for is_commit in [true, false] {
            producer.send(target.name, 0, &["a"]).unwrap();
            let before = producer.producer;
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
            let after = producer.producer;
            assert_eq!(after.epoch, before.epoch + 1);
            producer.producer = before;
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
            assert_eq!(producer.producer, after, "the answer is the same");
            producer.producer = before;
            assert_eq!(
                code(producer.end(if !is_commit { Marker::Commit } else { Marker::Abort })),
                ErrorCode::INVALID_TXN_STATE
            );
            producer.producer = after;
        }
    }

    pub(super) fn what_has_not_begun_can_be_aborted_and_not_committed(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_TXN_STATE);
        producer.end(Marker::Abort).unwrap();
        assert_eq!(producer.producer.epoch, 1);
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_TXN_STATE);
        producer.end(Marker::Abort).unwrap();
        assert_eq!(producer.producer.epoch, 2);
        producer.send(target.name, 0, &["a"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_TXN_STATE);
        producer.end(Marker::Abort).unwrap();
        assert_eq!(producer.producer.epoch, 4);
    }

    pub(super) fn a_new_instance_fences_the_former_one(target: &Target) {
        let mut client = target.client(1);
        let mut former = target.ready();
        former.send(target.name, 0, &["a"]).unwrap();
        let mut latter = target.producer().retries(false);
        // The open transaction is aborted first.
        assert_eq!(code(latter.init(MINUTE)), ErrorCode::CONCURRENT_TRANSACTIONS);
        let mut latter = latter.retries(true);
        let given = latter.init(MINUTE).unwrap();
        assert_eq!((given.producer_id, given.epoch), (former.producer.producer_id, 2));
        settled_at(&mut client, target.name, 2);

        assert_eq!(code(former.send(target.name, 0, &["b"])), ErrorCode::INVALID_PRODUCER_EPOCH);
        assert_eq!(code(former.end(Marker::Commit)), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.end(Marker::Abort)), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.init_with(MINUTE, former.producer)), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.add_partitions(target.name, &[0])), ErrorCode::PRODUCER_FENCED);

        latter.send(target.name, 0, &["c"]).unwrap();
        latter.end(Marker::Commit).unwrap();
        settled_at(&mut client, target.name, 4);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..4).unwrap()), ["c"]);
    }

    pub(super) fn a_producer_can_bump_its_own_epoch(target: &Target) {
        let mut producer = target.ready();
        let first = producer.producer;
        let second = producer.init_with(MINUTE, first).unwrap();
        assert_eq!((second.producer_id, second.epoch), (first.producer_id, 1));
        // The answer was lost, and the request comes again.
        assert_eq!(producer.init_with(MINUTE, first).unwrap(), second);
        let third = producer.init_with(MINUTE, second).unwrap();
        assert_eq!(third.epoch, 2);
        assert_eq!(code(producer.init_with(MINUTE, first)), ErrorCode::PRODUCER_FENCED);
        // A new instance makes even a repeated request stale.
        assert_eq!(target.ready().producer.epoch, 3);
        assert_eq!(code(producer.init_with(MINUTE, second)), ErrorCode::PRODUCER_FENCED);
    }

    pub(super) fn a_producer_can_bump_its_epoch_with_a_transaction_open(target: &Target) {
        let mut client = target.client(1);
        let mut producer = target.ready();
        producer.send(target.name, 0, &["a"]).unwrap();
        // The transaction is aborted with the next epoch, and that is the answer.
        assert_eq!(producer.init_with(MINUTE, producer.producer).unwrap().epoch, 1);
        settled_at(&mut client, target.name, 2);
        producer.send(target.name, 0, &["b"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        settled_at(&mut client, target.name, 4);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..4).unwrap()), ["b"]);
    }

    pub(super) fn a_producer_can_bump_its_epoch_after_an_end(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        let first = producer.producer;
        producer.send(target.name, 0, &["a"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        let second = producer.producer;
        // For the coordinator this is a repeated request, like that of a producer that has not heard of the end.
        assert_eq!(producer.init_with(MINUTE, first).unwrap(), second);
        assert_eq!(producer.init_with(MINUTE, second).unwrap().epoch, 2);
    }

    pub(super) fn a_transaction_that_takes_too_long_is_aborted(target: &Target) {
        let mut client = target.client(1);
        let mut producer = target.producer();
        // The last transaction has to be over in this time, also on a machine that stands still for some seconds.
        producer.init(Duration::from_secs(8)).unwrap();
        producer.send(target.name, 0, &["a"]).unwrap();
        settled_at(&mut client, target.name, 2);
        assert!(client.read_committed(target.name, 0, 0..2).unwrap().is_empty());
        assert_eq!(code(producer.send(target.name, 0, &["b"])), ErrorCode::INVALID_PRODUCER_EPOCH);
        // To the coordinator a late end is a repeated one.
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_TXN_STATE);
        producer.end(Marker::Abort).unwrap();
        assert_eq!(producer.producer.epoch, 1);
        producer.send(target.name, 0, &["c"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        settled_at(&mut client, target.name, 4);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..4).unwrap()), ["c"]);
    }

    pub(super) fn the_last_epoch_is_followed_by_another_producer_id(target: &Target) {
        let mut client = target.client(1);
        let mut producer = target.ready();
        while producer.producer.epoch < i16::MAX - 1 {
            producer.init_with(MINUTE, producer.producer).unwrap();
        }
        let last = producer.producer;
        producer.send(target.name, 0, &["a"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        let next = producer.producer;
        assert_ne!(next.producer_id, last.producer_id);
        assert_eq!(next.epoch, 0);
        // The answer was lost.
        producer.producer = last;
        producer.end(Marker::Commit).unwrap();
        assert_eq!(producer.producer, next);
        producer.send(target.name, 0, &["b"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        assert_eq!((producer.producer.producer_id, producer.producer.epoch), (next.producer_id, 1));
        settled_at(&mut client, target.name, 4);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..4).unwrap()), ["a", "b"]);
    }

    pub(super) fn a_timeout_beyond_the_limit_is_refused(target: &Target) {
        let mut producer = target.producer();
        assert_eq!(code(producer.init(15 * MINUTE + Duration::from_millis(1))), ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        assert_eq!(code(producer.init(Duration::ZERO)), ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        producer.init(15 * MINUTE).unwrap();
    }

    pub(super) fn another_producers_id_is_refused(target: &Target) {
        target.client(1);
        let mut stranger = RawProducer::connect(&target.bootstrap, format!("{}.unknown", target.name)).unwrap();
        let mut producer = target.ready();
        stranger.producer = producer.producer;
        assert_eq!(code(stranger.end(Marker::Commit)), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        assert_eq!(code(stranger.send(target.name, 0, &["a"])), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        assert_eq!(code(stranger.add_partitions(target.name, &[0])), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        producer.producer.producer_id += 1_000_000;
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        assert_eq!(code(producer.init_with(MINUTE, producer.producer)), ErrorCode::PRODUCER_FENCED);
    }

    pub(super) fn offsets_count_when_the_transaction_is_committed(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        assert_eq!(producer.committed_offset(target.name, target.name, 0).unwrap(), None);
        producer.commit_offset(target.name, target.name, 0, 7).unwrap();
        assert_eq!(producer.unstable_offset(target.name, target.name, 0).unwrap(), None);
        let mut reader = target.producer().retries(false);
        let stable = reader.committed_offset(target.name, target.name, 0);
        assert_eq!(code(stable), ErrorCode::UNSTABLE_OFFSET_COMMIT);
        producer.end(Marker::Commit).unwrap();
        let committed = producer.committed_offset(target.name, target.name, 0).unwrap().unwrap();
        assert_eq!((committed.offset, committed.leader_epoch, committed.metadata.as_deref()), (7, None, Some("")));
    }

    pub(super) fn offsets_of_an_aborted_transaction_are_dropped(target: &Target) {
        target.client(1);
        let mut producer = target.ready();
        for (offset, is_commit) in [(3, true), (4, false)] {
            producer.commit_offset(target.name, target.name, 0, offset).unwrap();
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
        }
        let committed = producer.committed_offset(target.name, target.name, 0).unwrap().unwrap();
        assert_eq!(committed.offset, 3);
    }

    pub(super) fn offsets_of_a_generation_that_is_not_there_are_refused(target: &Target) {
        target.client(1);
        let mut producer = target.producer().member(3, "member");
        producer.init(MINUTE).unwrap();
        let refused = producer.commit_offset(target.name, target.name, 0, 7);
        assert_eq!(code(refused), ErrorCode::ILLEGAL_GENERATION);
        producer.end(Marker::Abort).unwrap();
    }

    pub(super) fn offsets_of_a_fenced_producer_are_refused(target: &Target) {
        target.client(1);
        let mut former = target.ready();
        let _latter = target.ready();
        let refused = former.commit_offset(target.name, target.name, 0, 7);
        assert_eq!(code(refused), ErrorCode::INVALID_PRODUCER_EPOCH);
        former.producer.producer_id += 1_000_000;
        let refused = former.commit_offset(target.name, target.name, 0, 7);
        assert_eq!(code(refused), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }

    pub(super) fn in_v1_partitions_are_added_first(target: &Target) {
        let mut client = target.client(2);
        let mut producer = target.ready_v1();
        producer.add_partitions(target.name, &[1]).unwrap();
        assert_eq!(code(producer.send(target.name, 0, &["a"])), ErrorCode::TRANSACTION_ABORTABLE);
        producer.add_partitions(target.name, &[0]).unwrap();
        producer.add_partitions(target.name, &[0]).unwrap();
        producer.send(target.name, 0, &["a"]).unwrap();
        producer.end(Marker::Commit).unwrap();
        settled_at(&mut client, target.name, 2);
        assert_eq!(values(&client.read_committed(target.name, 0, 0..2).unwrap()), ["a"]);
        // A partition that was only added gets a marker too.
        let deadline = Instant::now() + MINUTE;
        while client.end_offset(target.name, 1).unwrap() < 1 {
            assert!(Instant::now() < deadline);
        }
        // The end took the partitions out again.
        assert_eq!(code(producer.send(target.name, 0, &["b"])), ErrorCode::TRANSACTION_ABORTABLE);
    }

    pub(super) fn in_v1_the_epoch_stays_and_sequences_go_on(target: &Target) {
        let mut client = target.client(1);
        let mut producer = target.ready_v1();
        let identity = producer.producer;
        for (sequence, is_commit) in [(0, true), (1, false), (2, true)] {
            producer.add_partitions(target.name, &[0]).unwrap();
            producer.send_at(target.name, 0, sequence, &["a"]).unwrap();
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
            assert_eq!(producer.producer, identity);
            // A repeated end is recognised by the state alone.
            producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
            assert_eq!(
                code(producer.end(if !is_commit { Marker::Commit } else { Marker::Abort })),
                ErrorCode::INVALID_TXN_STATE
            );
        }
        producer.add_partitions(target.name, &[0]).unwrap();
        assert_eq!(code(producer.send_at(target.name, 0, 0, &["b", "b"])), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        producer.end(Marker::Abort).unwrap();
        settled_at(&mut client, target.name, 7);
        assert_eq!(client.read_committed(target.name, 0, 0..7).unwrap().len(), 2);
    }

    pub(super) fn in_v1_a_new_instance_fences_the_former_one(target: &Target) {
        target.client(1);
        let mut former = target.ready_v1();
        former.add_partitions(target.name, &[0]).unwrap();
        former.send(target.name, 0, &["a"]).unwrap();
        let latter = target.ready_v1();
        assert_eq!((latter.producer.producer_id, latter.producer.epoch), (former.producer.producer_id, 2));
        assert_eq!(code(former.end(Marker::Commit)), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.add_partitions(target.name, &[0])), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.add_offsets(target.name)), ErrorCode::PRODUCER_FENCED);
        assert_eq!(code(former.send(target.name, 0, &["b"])), ErrorCode::INVALID_PRODUCER_EPOCH);
    }

    pub(super) fn in_v1_nothing_can_be_ended_that_has_not_begun(target: &Target) {
        let mut producer = target.ready_v1();
        assert_eq!(code(producer.end(Marker::Commit)), ErrorCode::INVALID_TXN_STATE);
        assert_eq!(code(producer.end(Marker::Abort)), ErrorCode::INVALID_TXN_STATE);
    }

    pub(super) fn in_v1_offsets_are_added_first(target: &Target) {
        target.client(1);
        let mut producer = target.ready_v1();
        let refused = producer.commit_offset(target.name, target.name, 0, 7);
        assert_eq!(code(refused), ErrorCode::TRANSACTION_ABORTABLE);
        producer.add_offsets(target.name).unwrap();
        producer.commit_offset(target.name, target.name, 0, 7).unwrap();
        producer.end(Marker::Commit).unwrap();
        let committed = producer.committed_offset(target.name, target.name, 0).unwrap().unwrap();
        assert_eq!(committed.offset, 7);
    }

    pub(super) fn partitions_are_added_all_or_none(target: &Target) {
        target.client(1);
        let mut producer = target.ready_v1().retries(false);
        assert_eq!(code(producer.add_partitions(target.name, &[0, 99])), ErrorCode::OPERATION_NOT_ATTEMPTED);
        assert_eq!(code(producer.add_partitions(target.name, &[99])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let mut producer = producer.retries(true);
        assert_eq!(code(producer.send(target.name, 0, &["a"])), ErrorCode::TRANSACTION_ABORTABLE);
    }
}

use super::*;
use crate::support::target::on_each;

on_each!(
    [on_the_fake_cluster, on_real_kafka]
    offsets_are_found_by_every_spec,
    a_bad_partition_among_good_ones_fails_alone,
    an_open_transaction_hides_what_follows,
    records_before_an_offset_are_deleted,
    a_deletion_that_cannot_be_fails_alone,
);

mod promises {
    use std::time::UNIX_EPOCH;

    use kafka_blocking::admin::{DeleteRecords, FoundOffset, NewTopic, OffsetSpec};
    use kafka_blocking::{IsolationLevel, Producer, Record, TopicPartition};

    use super::*;

    fn created(target: &Target, admin: &Admin, suffix: &str, configs: &[(&str, &str)]) -> String {
        let topic = target.topic(suffix);
        let new = NewTopic::new(&*topic).partitions(2).replication(1);
        let new = configs.iter().fold(new, |new, (name, value)| new.config(*name, *value));
        admin.create_topics([new]).all().unwrap();
        topic
    }

    /// Five records in partition 0, in batches of their own, the youngest one in the middle.
    fn fill(target: &Target, topic: &str) {
        let producer = Producer::builder(&target.bootstrap).build().unwrap();
        for timestamp in [1000, 2000, 9000, 3000, 4000] {
            let record = Record::to(topic)
                .partition(0)
                .value("v")
                .timestamp(UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + timestamp));
            producer.send(record).wait().unwrap();
        }
        producer.close().unwrap();
    }

    fn found(admin: &Admin, partition: &TopicPartition, spec: OffsetSpec) -> FoundOffset {
        let results = admin.list_offsets([(partition.clone(), spec)], IsolationLevel::Uncommitted);
        results.all().unwrap().remove(partition).unwrap()
    }

    pub(super) fn offsets_are_found_by_every_spec(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a", &[]);
        let (full, empty) = (TopicPartition::new(&*topic, 0), TopicPartition::new(&*topic, 1));
        fill(target, &topic);
        let time = |ms: u64| UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + ms);
        let at = |ms: u64| OffsetSpec::Time(time(ms));
        for (spec, offset, timestamp) in [
            (OffsetSpec::Earliest, Some(0), None),
            (OffsetSpec::Latest, Some(5), None),
            (OffsetSpec::EarliestLocal, Some(0), None),
            (OffsetSpec::LatestTiered, None, None),
            (OffsetSpec::MaxTimestamp, Some(2), Some(9000)),
            (at(0), Some(0), Some(1000)),
            (at(2000), Some(1), Some(2000)),
            (at(2001), Some(2), Some(9000)),
            (at(9001), None, None),
        ] {
            let found = found(&admin, &full, spec);
            assert_eq!((found.offset, found.timestamp), (offset, timestamp.map(time)), "{spec:?}");
            assert!(offset.is_none() || found.leader_epoch.is_some(), "{spec:?}: {found:?}");
        }
        for (spec, offset) in
            [(OffsetSpec::Earliest, Some(0)), (OffsetSpec::Latest, Some(0)), (OffsetSpec::MaxTimestamp, None)]
        {
            assert_eq!(found(&admin, &empty, spec).offset, offset, "{spec:?}");
        }
        // Each partition as it is asked for, in one call.
        let both = [(full.clone(), OffsetSpec::Latest), (empty.clone(), OffsetSpec::Earliest)];
        let both = admin.list_offsets(both, IsolationLevel::Uncommitted).all().unwrap();
        assert_eq!((both[&full].offset, both[&empty].offset), (Some(5), Some(0)));
    }

    pub(super) fn a_bad_partition_among_good_ones_fails_alone(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a", &[]);
        let missing = target.topic("missing");
        let good = TopicPartition::new(&*topic, 0);
        let bad = [
            TopicPartition::new(&*topic, 2),
            TopicPartition::new(&*missing, 0),
            TopicPartition::new("no such name", 0),
            TopicPartition::new(&*topic, -1),
        ];
        let wanted = bad.iter().chain([&good]).map(|partition| (partition.clone(), OffsetSpec::Latest));
        let results = admin.list_offsets(wanted, IsolationLevel::Uncommitted);
        assert_eq!(results.get(&good).unwrap().as_ref().unwrap().offset, Some(0));
        for (partition, topic) in bad.iter().zip([&topic, &missing]) {
            let error = results.get(partition).unwrap().as_ref().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
            let context = error.context();
            assert_eq!((context.topic.as_deref(), context.partition), (Some(&**topic), Some(partition.index)));
        }
        invalid(results.get(&bad[2]), "' '");
        invalid(results.get(&bad[3]), "negative");
        let twice = [(good.clone(), OffsetSpec::Latest), (good.clone(), OffsetSpec::Earliest)];
        invalid(admin.list_offsets(twice, IsolationLevel::Uncommitted).get(&good), "twice");
    }

    pub(super) fn an_open_transaction_hides_what_follows(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a", &[]);
        fill(target, &topic);
        let partition = TopicPartition::new(&*topic, 0);
        let latest = |isolation| {
            let wanted = [(partition.clone(), OffsetSpec::Latest)];
            admin.list_offsets(wanted, isolation).all().unwrap()[&partition].offset
        };
        assert_eq!(latest(IsolationLevel::Committed), Some(5));
        let producer = Producer::builder(&target.bootstrap).transactional_id(target.name).build().unwrap();
        producer.init_transactions().unwrap();
        let transaction = producer.transaction().unwrap();
        transaction.send(Record::to(&*topic).partition(0).value("v")).wait().unwrap();
        assert_eq!((latest(IsolationLevel::Uncommitted), latest(IsolationLevel::Committed)), (Some(6), Some(5)));
        transaction.commit().unwrap();
        // With the transaction's marker.
        wait_for("the marker", MINUTE, || (latest(IsolationLevel::Committed) == Some(7)).then_some(()));
        producer.close().unwrap();
    }

    pub(super) fn records_before_an_offset_are_deleted(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a", &[]);
        let (full, empty) = (TopicPartition::new(&*topic, 0), TopicPartition::new(&*topic, 1));
        fill(target, &topic);
        let delete = |what| {
            let deleted = admin.delete_records([(full.clone(), what), (empty.clone(), DeleteRecords::All)]).all();
            let deleted = deleted.unwrap();
            assert_eq!(deleted[&empty], 0);
            assert_eq!(found(&admin, &full, OffsetSpec::Earliest).offset, Some(deleted[&full]));
            deleted[&full]
        };
        assert_eq!(delete(DeleteRecords::Before(2)), 2);
        // They are gone already.
        assert_eq!(delete(DeleteRecords::Before(1)), 2);
        assert_eq!(delete(DeleteRecords::All), 5);
        assert_eq!(found(&admin, &full, OffsetSpec::Latest).offset, Some(5));
    }

    pub(super) fn a_deletion_that_cannot_be_fails_alone(target: &Target) {
        let admin = target.admin();
        let topic = created(target, &admin, "a", &[]);
        let compacted = created(target, &admin, "compacted", &[("cleanup.policy", "compact")]);
        fill(target, &topic);
        let good = TopicPartition::new(&*topic, 0);
        let beyond = TopicPartition::new(&*topic, 1);
        let kept = TopicPartition::new(&*compacted, 0);
        let missing = TopicPartition::new(target.topic("missing"), 0);
        let results = admin.delete_records([
            (good.clone(), DeleteRecords::Before(1)),
            (beyond.clone(), DeleteRecords::Before(9)),
            (kept.clone(), DeleteRecords::All),
            (missing.clone(), DeleteRecords::All),
            (TopicPartition::new(&*topic, 7), DeleteRecords::Before(-1)),
        ]);
        assert_eq!(*results.get(&good).unwrap().as_ref().unwrap(), 1);
        refused(results.get(&beyond), ErrorCode::OFFSET_OUT_OF_RANGE, &topic);
        refused(results.get(&kept), ErrorCode::POLICY_VIOLATION, &compacted);
        let error = results.get(&missing).unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
        invalid(results.get(&TopicPartition::new(&*topic, 7)), "negative");
    }
}

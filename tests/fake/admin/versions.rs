//! Brokers of older releases, as the fake cluster stands for them.

use kafka_blocking::admin::{AlterConfig, ConfigResource, DeleteRecords, NewPartitions, NewTopic, OffsetSpec, TopicId};
use kafka_blocking::testing::{FakeCluster, KafkaVersion};
use kafka_blocking::{BrokerId, Error, ErrorKind, IsolationLevel, Recovery, TopicPartition};

use super::quick;
use crate::common::*;

#[track_caller]
fn too_old<T: std::fmt::Debug>(result: Result<T, Error>, part: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn what_a_broker_is_too_old_for_is_said_at_once_and_of_that_item_alone() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().version(version).start().unwrap();
        let admin = quick(&cluster).api_timeout(HOUR).build().unwrap();
        let mut results =
            admin.create_topics([NewTopic::new("a").partitions(2).replication(1), NewTopic::new("default")]);
        let created = results.remove("a").unwrap().unwrap();
        let is_old = version == KafkaVersion::V0_11;
        assert_eq!((created.id.is_none(), created.partitions.is_none()), (is_old, is_old), "{version:?}");
        let default = results.remove("default").unwrap();
        match is_old {
            true => too_old(default, "Kafka 2.4"),
            false => assert_eq!(default.unwrap().partitions, Some(1)),
        }
        let description = admin.describe_topics(["a"]).all().unwrap().remove("a").unwrap();
        assert_eq!((description.partitions.len(), description.id.is_none()), (2, is_old));
        let found = admin.describe_cluster().unwrap();
        assert_eq!((found.controller, found.brokers.len()), (Some(BrokerId(1)), 1));
        assert!(found.cluster_id.is_some());

        let partition = |index| TopicPartition::new("a", index);
        let mut since = vec![
            (OffsetSpec::MaxTimestamp, KafkaVersion::V3_9, "Kafka 3.0"),
            (OffsetSpec::EarliestLocal, KafkaVersion::V3_9, "Kafka 3.4"),
            (OffsetSpec::LatestTiered, KafkaVersion::V3_9, "Kafka 3.9"),
            (OffsetSpec::EarliestPendingUpload, KafkaVersion::V4_3, "Kafka 4.2"),
        ];
        for (spec, first, text) in since.drain(..) {
            let wanted = [(partition(0), spec), (partition(1), OffsetSpec::Latest)];
            let mut results = admin.list_offsets(wanted, IsolationLevel::Committed);
            assert_eq!(results.remove(&partition(1)).unwrap().unwrap().offset, Some(0));
            let found = results.remove(&partition(0)).unwrap();
            match version < first {
                true => too_old(found, text),
                false => drop(found.unwrap()),
            }
        }
        assert_eq!(admin.delete_records([(partition(0), DeleteRecords::All)]).all().unwrap()[&partition(0)], 0);

        let topic = ConfigResource::topic("a");
        let described = admin.describe_configs([topic.clone()]).all();
        let altered = admin.alter_configs([(topic, [AlterConfig::set("retention.ms", "1")])]).all();
        let added = admin.create_partitions([("a", NewPartitions::up_to(3))]).all();
        let by_id = admin.delete_topics_by_id([created.id.unwrap_or(TopicId([7; 16]))]).all();
        if is_old {
            too_old(described, "no common version of DescribeConfigs");
            too_old(altered, "no common version of IncrementalAlterConfigs");
            too_old(added, "no common version of CreatePartitions");
            too_old(by_id, "Kafka 2.8");
            admin.delete_topics(["a"]).all().unwrap();
        } else {
            described.unwrap();
            altered.unwrap();
            added.unwrap();
            by_id.unwrap();
        }
        assert_eq!(admin.list_topics().unwrap().len(), usize::from(!is_old));
        assert_eq!(cluster.refusals(), Vec::<String>::new(), "{version:?}");
    }
}

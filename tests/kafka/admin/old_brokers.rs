//! Brokers of older versions, each with what it can.

use std::time::{Duration, UNIX_EPOCH};

use kafka_blocking::admin::{
    Admin, AlterConfig, ConfigResource, DeleteRecords, NewPartitions, NewTopic, OffsetSpec, TopicDescription, TopicId,
};
use kafka_blocking::{
    BrokerId, Error, ErrorCode, ErrorKind, IsolationLevel, Producer, Record, Recovery, TopicPartition,
};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_broker_of_0_11() {
    everything_that_it_knows(Version::V0_11);
}

#[test]
fn a_broker_of_2_8() {
    everything_that_it_knows(Version::V2_8);
}

#[test]
fn a_broker_of_3_9() {
    everything_that_it_knows(Version::V3_9);
}

#[track_caller]
fn too_old<T: std::fmt::Debug>(result: Result<T, Error>, part: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::UnsupportedVersion, Recovery::Fix), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

fn described(admin: &Admin, topic: &str, partitions: usize) -> TopicDescription {
    wait_for("the topic", SOON, || {
        let found = admin.describe_topics([topic]).all().ok()?.remove(topic)?;
        let has_leaders = found.partitions.iter().all(|partition| partition.leader.is_some());
        (found.partitions.len() == partitions && has_leaders).then_some(found)
    })
}

fn everything_that_it_knows(version: Version) {
    // Before 1.0 brokers delete nothing unless they are told to.
    let cluster = Cluster::start(Options::single(version).property("delete.topic.enable", "true"));
    let admin = Admin::builder(cluster.bootstrap()).build().unwrap();
    let is_old = version == Version::V0_11;
    let broker = BrokerId(cluster.broker_id(0));

    let found = admin.describe_cluster().unwrap();
    assert_eq!((found.controller, found.brokers.len()), (Some(broker), 1));
    assert!(found.cluster_id.is_some());
    let mut results = admin.create_topics([
        NewTopic::new("a").partitions(2).replication(1).config("max.message.bytes", "2000"),
        NewTopic::new("placed").assign(0, [broker]),
        NewTopic::new("default"),
        NewTopic::new("many").partitions(1).replication(5),
    ]);
    let created = results.remove("a").unwrap().unwrap();
    assert!(results.remove("placed").unwrap().is_ok());
    let default = results.remove("default").unwrap();
    match is_old {
        true => too_old(default, "Kafka 2.4"),
        false => assert_eq!(default.unwrap().partitions, Some(1)),
    }
    let error = results.remove("many").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::INVALID_REPLICATION_FACTOR), "{error:?}");
    let found = described(&admin, "a", 2);
    assert_eq!(found.id, created.id);
    assert_eq!(found.id.is_none(), is_old);
    assert_eq!(found.partitions[0].replicas, [broker]);
    let again = admin.create_topics([NewTopic::new("a").partitions(2).replication(1)]).all().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Broker(ErrorCode::TOPIC_ALREADY_EXISTS), "{again:?}");

    let partition = |index| TopicPartition::new("a", index);
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    for number in 0..5 {
        let record = Record::to("a")
            .partition(0)
            .value("v")
            .timestamp(UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + 1000 * number));
        producer.send(record).wait().unwrap();
    }
    producer.close().unwrap();
    let too_early: &[(OffsetSpec, &str)] = match version {
        Version::V0_11 | Version::V2_8 => &[
            (OffsetSpec::MaxTimestamp, "Kafka 3.0"),
            (OffsetSpec::EarliestLocal, "Kafka 3.4"),
            (OffsetSpec::LatestTiered, "Kafka 3.9"),
            (OffsetSpec::EarliestPendingUpload, "Kafka 4.2"),
        ],
        _ => &[(OffsetSpec::EarliestPendingUpload, "Kafka 4.2")],
    };
    for (spec, text) in too_early {
        let wanted = [(partition(0), *spec), (partition(1), OffsetSpec::Latest)];
        let mut results = admin.list_offsets(wanted, IsolationLevel::Committed);
        assert_eq!(results.remove(&partition(1)).unwrap().unwrap().offset, Some(0));
        too_old(results.remove(&partition(0)).unwrap(), text);
    }
    let mut known = vec![
        (OffsetSpec::Earliest, Some(0)),
        (OffsetSpec::Latest, Some(5)),
        (OffsetSpec::Time(UNIX_EPOCH + Duration::from_millis(1_700_000_002_500)), Some(3)),
    ];
    if version == Version::V3_9 {
        known.push((OffsetSpec::MaxTimestamp, Some(4)));
        known.push((OffsetSpec::EarliestLocal, Some(0)));
        known.push((OffsetSpec::LatestTiered, None));
    }
    for (spec, offset) in known {
        let found = admin.list_offsets([(partition(0), spec)], IsolationLevel::Uncommitted).all().unwrap();
        assert_eq!(found[&partition(0)].offset, offset, "{spec:?}");
    }
    let deleted = admin.delete_records([(partition(0), DeleteRecords::Before(3))]).all().unwrap();
    assert_eq!(deleted[&partition(0)], 3);

    let topic = ConfigResource::topic("a");
    let change = || admin.alter_configs([(topic.clone(), [AlterConfig::set("max.message.bytes", "3000")])]).all();
    let add = || admin.create_partitions([("a", NewPartitions::up_to(3))]).all();
    if is_old {
        too_old(admin.describe_configs([topic.clone()]).all(), "no common version of DescribeConfigs");
        too_old(change(), "no common version of IncrementalAlterConfigs");
        too_old(add(), "no common version of CreatePartitions");
        too_old(admin.delete_topics_by_id([TopicId([7; 16])]).all(), "Kafka 2.8");
    } else {
        change().unwrap();
        wait_for("the change", SOON, || {
            let configs = admin.describe_configs([topic.clone()]).all().unwrap().remove(&topic)?;
            (configs["max.message.bytes"].value.as_deref() == Some("3000")).then_some(())
        });
        add().unwrap();
        described(&admin, "a", 3);
        let id = described(&admin, "placed", 1).id.unwrap();
        admin.delete_topics_by_id([id]).all().unwrap();
        wait_for("the deletion", SOON, || {
            let topics = admin.list_topics().unwrap();
            topics.iter().all(|topic| topic.name != "placed").then_some(())
        });
    }
    let results = admin.delete_topics(["a", "missing"]);
    assert!(results.get("a").unwrap().is_ok(), "{results:?}");
    let error = results.get("missing").unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
    wait_for("the deletion", SOON, || {
        let error = admin.describe_topics(["a"]).all().err()?;
        (error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)).then_some(())
    });
}

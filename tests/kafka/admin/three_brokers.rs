//! Three brokers: what this client makes is what Java's sees, and the other way round.

use std::time::Duration;

use kafka_blocking::admin::{Admin, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic, OffsetSpec};
use kafka_blocking::{BrokerId, IsolationLevel, Producer, Record, TopicPartition};

use crate::support::kafka::shared_three;
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn javas_client_sees_what_this_one_makes_and_this_one_what_javas_makes() {
    let cluster = shared_three();
    let (admin, java) = (Admin::builder(cluster.bootstrap()).build().unwrap(), cluster.admin());
    let ids: Vec<BrokerId> = admin.describe_cluster().unwrap().brokers.iter().map(|broker| broker.id).collect();
    assert_eq!(ids.len(), 3);
    let placed = NewTopic::new("admin.placed").assign(0, [ids[2], ids[0]]).assign(1, [ids[1], ids[2]]);
    let spread = NewTopic::new("admin.spread").partitions(6).replication(3).config("retention.ms", "5000");
    admin.create_topics([placed, spread]).all().unwrap();
    for topic in ["admin.placed", "admin.spread"] {
        wait_for("both see the same", SOON, || {
            let ours = admin.describe_topics([topic]).all().unwrap().remove(topic)?;
            let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect::<Vec<_>>();
            let theirs = java.try_describe(topic).ok()?;
            let same = ours.partitions.iter().zip(&theirs).all(|(ours, theirs)| {
                let ours = (ours.leader.map(|id| id.0), ids(&ours.replicas), ids(&ours.in_sync_replicas));
                ours == (theirs.leader, theirs.replicas.clone(), theirs.in_sync.clone())
            });
            (same && ours.partitions.len() == theirs.len()).then_some(())
        });
    }
    assert_eq!(java.describe("admin.placed")[0].replicas, [ids[2].0, ids[0].0]);

    admin.create_partitions([("admin.placed", NewPartitions::up_to(3).assign([[ids[0], ids[1]]]))]).all().unwrap();
    wait_for("the partition", SOON, || {
        let added = java.describe("admin.placed").get(2).map(|partition| partition.replicas.clone());
        (added == Some(vec![ids[0].0, ids[1].0])).then_some(())
    });
    java.configure_topic("admin.spread", &["max.message.bytes=3000"]);
    let topic = ConfigResource::topic("admin.spread");
    admin.alter_configs([(topic.clone(), [AlterConfig::set("min.insync.replicas", "2")])]).all().unwrap();
    wait_for("the settings", SOON, || {
        let configs = admin.describe_configs([topic.clone()]).all().unwrap().remove(&topic)?;
        let own = |name: &str| (configs[name].value.clone().unwrap_or_default(), configs[name].source);
        let wanted = [("max.message.bytes", "3000"), ("min.insync.replicas", "2"), ("retention.ms", "5000")];
        wanted.iter().all(|(name, value)| own(name) == ((*value).into(), ConfigSource::Topic)).then_some(())
    });
    // Each broker answers for itself.
    let resources = ids.iter().map(|id| ConfigResource::Broker(*id));
    for (resource, configs) in admin.describe_configs(resources).all().unwrap() {
        let id = configs["node.id"].value.clone().unwrap();
        assert_eq!(resource, ConfigResource::Broker(BrokerId(id.parse().unwrap())));
        assert!(configs["node.id"].is_read_only);
    }

    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    for number in 0..12 {
        producer.send(Record::to("admin.spread").partition(number % 6).value("v")).wait().unwrap();
    }
    producer.close().unwrap();
    let ends = (0..6).map(|index| (TopicPartition::new("admin.spread", index), OffsetSpec::Latest));
    let found = admin.list_offsets(ends, IsolationLevel::Uncommitted).all().unwrap();
    let found: Vec<i64> = found.values().map(|found| found.offset.unwrap()).collect();
    assert_eq!((&found[..], java.end_offsets("admin.spread")), (&[2; 6][..], vec![2; 6]));

    admin.delete_topics(["admin.placed", "admin.spread"]).all().unwrap();
    wait_for("the deletion", SOON, || java.topics().iter().all(|name| !name.starts_with("admin.")).then_some(()));
}

use super::*;
use crate::support::target::on_each;

on_each!(
    [on_the_fake_cluster, on_real_kafka]
    topics_are_created_described_listed_and_deleted,
    a_topic_that_says_nothing_gets_the_brokers_defaults,
    a_bad_topic_among_good_ones_fails_alone,
    a_topic_is_deleted_by_its_id_and_not_its_successor,
    replicas_lie_where_they_are_put,
    partitions_are_added,
    what_is_only_checked_changes_nothing,
    the_cluster_says_what_it_is,
    a_call_about_nothing_asks_nobody,
    threads_share_a_client,
);

mod promises {
    use std::collections::BTreeSet;

    use kafka_blocking::admin::{NewPartitions, NewTopic};
    use kafka_blocking::{BrokerId, Cluster, Producer, Record, TopicPartition};

    use super::*;

    pub(super) fn topics_are_created_described_listed_and_deleted(target: &Target) {
        let admin = target.admin();
        let (one, other) = (target.topic("one"), target.topic("other"));
        let new = |name: &str, partitions| NewTopic::new(name).partitions(partitions).replication(1);
        let created = admin.create_topics([new(&one, 3).config("retention.ms", "1000"), new(&other, 1)]).all().unwrap();
        assert_eq!(created.keys().collect::<Vec<_>>(), [&one, &other]);
        assert_eq!((created[&one].partitions, created[&one].replication), (Some(3), Some(1)));

        let found = described(&admin, &one);
        assert_eq!((&*found.name, found.id, found.is_internal), (&*one, created[&one].id, false));
        assert!(found.id.is_some() && created[&other].id != found.id);
        assert_eq!(
            found.partitions.iter().map(|found| found.partition.clone()).collect::<Vec<_>>(),
            (0..3).map(|index| TopicPartition::new(&*one, index)).collect::<Vec<_>>()
        );
        let broker = admin.describe_cluster().unwrap().brokers[0].id;
        for partition in &found.partitions {
            assert_eq!(partition.leader, Some(broker));
            assert_eq!((&partition.replicas[..], &partition.in_sync_replicas[..]), (&[broker][..], &[broker][..]));
            assert!(partition.offline_replicas.is_empty() && partition.leader_epoch.is_some(), "{partition:?}");
        }
        let listed = admin.list_topics().unwrap();
        assert!(listed.is_sorted_by(|one, other| one.name < other.name));
        let listed = listed.into_iter().find(|listed| listed.name == one).unwrap();
        assert_eq!((listed.id, listed.is_internal), (found.id, false));

        admin.delete_topics([&*one, &*other]).all().unwrap();
        gone(&admin, &one);
        let results = admin.describe_topics([&*one]);
        refused(results.get(&one), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &one);
        let all: BTreeSet<String> = admin.list_topics().unwrap().into_iter().map(|topic| topic.name).collect();
        assert!(!all.contains(&one));
    }

    pub(super) fn a_topic_that_says_nothing_gets_the_brokers_defaults(target: &Target) {
        let admin = target.admin();
        let topic = target.topic("plain");
        let created = admin.create_topics([NewTopic::new(&*topic)]).all().unwrap();
        assert_eq!((created[&topic].partitions, created[&topic].replication), (Some(1), Some(1)));
        assert_eq!(described(&admin, &topic).partitions.len(), 1);
    }

    pub(super) fn a_bad_topic_among_good_ones_fails_alone(target: &Target) {
        let admin = target.admin();
        let name = |suffix: &str| target.topic(suffix);
        let there = name("there");
        admin.create_topics([NewTopic::new(&*there)]).all().unwrap();
        described(&admin, &there);
        let topics = [
            NewTopic::new(name("good")),
            NewTopic::new(&*there),
            NewTopic::new("no such name"),
            NewTopic::new(name("replicas")).partitions(1).replication(9),
            NewTopic::new(name("setting")).config("no.such.setting", "1"),
            NewTopic::new(name("value")).config("retention.ms", "soon"),
            NewTopic::new(name("long")).config("retention.ms", "1".repeat(40_000)),
            NewTopic::new(name("none")).partitions(0).replication(1),
            NewTopic::new(name("both")).partitions(1).assign(0, [BrokerId(1)]),
            NewTopic::new(name("twice")).partitions(1),
            NewTopic::new(name("twice")).partitions(2),
            NewTopic::new(name("nowhere")).assign(0, [BrokerId(77)]),
            NewTopic::new(name("fine")).partitions(2).replication(1),
        ];
        let results = admin.create_topics(topics);
        assert_eq!(results.len(), 12);
        assert!(results.get(&name("good")).unwrap().is_ok() && results.get(&name("fine")).unwrap().is_ok());
        assert_eq!(results.errors().count(), 10);
        refused(results.get(&there), ErrorCode::TOPIC_ALREADY_EXISTS, &there);
        refused(results.get(&name("replicas")), ErrorCode::INVALID_REPLICATION_FACTOR, &name("replicas"));
        refused(results.get(&name("setting")), ErrorCode::INVALID_CONFIG, &name("setting"));
        let text = results.get(&name("setting")).unwrap().as_ref().unwrap_err().to_string();
        assert!(text.contains("no.such.setting"), "{text}");
        refused(results.get(&name("value")), ErrorCode::INVALID_CONFIG, &name("value"));
        refused(results.get(&name("nowhere")), ErrorCode::INVALID_REPLICA_ASSIGNMENT, &name("nowhere"));
        invalid(results.get("no such name"), "' '");
        invalid(results.get(&name("long")), "the value of retention.ms has 40000 bytes");
        invalid(results.get(&name("none")), "0 partitions");
        invalid(results.get(&name("both")), "assignments");
        invalid(results.get(&name("twice")), "twice");

        described(&admin, &name("fine"));
        let results = admin.describe_topics([&*name("good"), &*name("twice"), "no such name"]);
        assert!(results.get(&name("good")).unwrap().is_ok());
        refused(results.get(&name("twice")), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &name("twice"));
        invalid(results.get("no such name"), "' '");

        let results = admin.delete_topics([name("good"), name("missing"), "no such name".into(), name("fine")]);
        assert!(results.get(&name("good")).unwrap().is_ok() && results.get(&name("fine")).unwrap().is_ok());
        refused(results.get(&name("missing")), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &name("missing"));
        invalid(results.get("no such name"), "' '");
        gone(&admin, &name("good"));
        assert_eq!(described(&admin, &there).partitions.len(), 1);
    }

    pub(super) fn a_topic_is_deleted_by_its_id_and_not_its_successor(target: &Target) {
        let admin = target.admin();
        let topic = target.topic("reborn");
        let create = || admin.create_topics([NewTopic::new(&*topic)]).all().unwrap()[&topic].id.unwrap();
        let old = create();
        admin.delete_topics_by_id([old]).all().unwrap();
        gone(&admin, &topic);
        let new = create();
        let results = admin.delete_topics_by_id([old]);
        refused(results.get(&old), ErrorCode::UNKNOWN_TOPIC_ID, &old.to_string());
        assert_eq!(described(&admin, &topic).id, Some(new));
    }

    pub(super) fn replicas_lie_where_they_are_put(target: &Target) {
        let admin = target.admin();
        let topic = target.topic("placed");
        let broker = admin.describe_cluster().unwrap().brokers[0].id;
        let results = admin.create_topics([
            NewTopic::new(&*topic).assign(0, [broker]).assign(1, [broker]),
            NewTopic::new(target.topic("gap")).assign(1, [broker]),
        ]);
        assert!(results.get(&topic).unwrap().is_ok(), "{results:?}");
        refused(results.get(&target.topic("gap")), ErrorCode::INVALID_REPLICA_ASSIGNMENT, &target.topic("gap"));
        assert_eq!(described(&admin, &topic).partitions.len(), 2);
        let add = |assigned: [BrokerId; 1]| [(&*topic, NewPartitions::up_to(3).assign([assigned]))];
        refused(
            admin.create_partitions(add([BrokerId(77)])).get(&topic),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            &topic,
        );
        admin.create_partitions(add([broker])).all().unwrap();
        wait_for("the partition", MINUTE, || (described(&admin, &topic).partitions.len() == 3).then_some(()));
    }

    pub(super) fn partitions_are_added(target: &Target) {
        let admin = target.admin();
        let (topic, missing) = (target.topic("growing"), target.topic("missing"));
        admin.create_topics([NewTopic::new(&*topic).partitions(2).replication(1)]).all().unwrap();
        described(&admin, &topic);
        let to = NewPartitions::up_to;
        let results = admin.create_partitions([(&*topic, to(5)), (&*missing, to(2)), ("no such name", to(2))]);
        assert!(results.get(&topic).unwrap().is_ok(), "{results:?}");
        refused(results.get(&missing), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &missing);
        invalid(results.get("no such name"), "' '");
        wait_for("the partitions", MINUTE, || (described(&admin, &topic).partitions.len() == 5).then_some(()));
        for total in [5, 4, 0] {
            refused(admin.create_partitions([(&*topic, to(total))]).get(&topic), ErrorCode::INVALID_PARTITIONS, &topic);
        }
        let results = admin.create_partitions([(&*topic, to(6)), (&*topic, to(7))]);
        invalid(results.get(&topic), "twice");
        assert_eq!(described(&admin, &topic).partitions.len(), 5);
    }

    pub(super) fn what_is_only_checked_changes_nothing(target: &Target) {
        let admin = target.admin();
        let check = admin.validate_only();
        let topic = target.topic("checked");
        let results =
            check.create_topics([NewTopic::new(&*topic), NewTopic::new(target.topic("bad")).config("no.such", "1")]);
        assert_eq!(results.get(&topic).unwrap().as_ref().unwrap().id, None);
        refused(results.get(&target.topic("bad")), ErrorCode::INVALID_CONFIG, &target.topic("bad"));
        refused(admin.describe_topics([&*topic]).get(&topic), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &topic);
        admin.create_topics([NewTopic::new(&*topic)]).all().unwrap();
        described(&admin, &topic);
        check.create_partitions([(&*topic, NewPartitions::up_to(2))]).all().unwrap();
        let results = check.create_partitions([(&*topic, NewPartitions::up_to(1))]);
        refused(results.get(&topic), ErrorCode::INVALID_PARTITIONS, &topic);
        assert_eq!(described(&admin, &topic).partitions.len(), 1);
    }

    pub(super) fn the_cluster_says_what_it_is(target: &Target) {
        let cluster = Cluster::builder(&target.bootstrap).build().unwrap();
        let admin = Admin::on(&cluster).client_id("observer").build().unwrap();
        let found = admin.describe_cluster().unwrap();
        assert!(found.cluster_id.is_some_and(|id| !id.is_empty()));
        assert_eq!(found.brokers.len(), 1);
        assert_eq!(found.controller, Some(found.brokers[0].id));
        let address = format!("{}:{}", found.brokers[0].host, found.brokers[0].port);
        assert_eq!(vec![address], target.bootstrap);
        // Beside a producer on the same cluster.
        let topic = target.topic("shared");
        admin.create_topics([NewTopic::new(&*topic)]).all().unwrap();
        let producer = Producer::on(&cluster).build().unwrap();
        producer.send(Record::to(&*topic).value("v")).wait().unwrap();
        producer.close().unwrap();
        assert_eq!(admin.describe_cluster().unwrap().brokers.len(), 1);
    }

    pub(super) fn a_call_about_nothing_asks_nobody(target: &Target) {
        let nobody = Admin::builder(["127.0.0.1:1"]).build().unwrap();
        assert!(nobody.create_topics([]).is_empty());
        assert!(nobody.delete_topics::<String>([]).is_empty());
        invalid(nobody.describe_topics([" "]).get(" "), "' '");
        assert!(target.admin().describe_topics::<String>([]).is_empty());
    }

    pub(super) fn threads_share_a_client(target: &Target) {
        let admin = target.admin();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (admin, topic) = (&admin, target.topic(&number.to_string()));
                scope.spawn(move || {
                    admin.create_topics([NewTopic::new(&*topic)]).all().unwrap();
                    described(admin, &topic);
                    admin.delete_topics([&*topic]).all().unwrap();
                    gone(admin, &topic);
                });
            }
        });
    }
}

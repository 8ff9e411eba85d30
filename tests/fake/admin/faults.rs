use std::time::{Duration, Instant};

use kafka_blocking::admin::{Admin, AlterConfig, ConfigResource, DeleteRecords, NewPartitions, NewTopic, OffsetSpec};
use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On};
use kafka_blocking::{
    BrokerId, ErrorCode, ErrorKind, IsolationLevel, Producer, Record, Recovery, Timeout, TopicPartition, Written,
};

use super::quick;
use crate::common::*;

/// Two brokers of a release that has the controller alone make topics; the controller is broker 1.
fn zookeeper_mode() -> FakeCluster {
    FakeCluster::builder().brokers(2).version(KafkaVersion::V2_8).start().unwrap()
}

fn latest(topic: &str, partitions: i32) -> Vec<(TopicPartition, OffsetSpec)> {
    (0..partitions).map(|partition| (TopicPartition::new(topic, partition), OffsetSpec::Latest)).collect()
}

#[test]
fn what_only_the_controller_can_do_goes_to_the_new_one_when_it_moves() {
    watch_for_panics();
    let cluster = zookeeper_mode();
    let admin = quick(&cluster).build().unwrap();
    admin.create_topics([NewTopic::new("a").partitions(1).replication(1)]).all().unwrap();
    let made = || cluster.requests().iter().filter(|seen| seen.api == Api::CreateTopics).count();
    assert_eq!(made(), 1, "the controller is asked at once");
    cluster.kill(BrokerId(1));
    admin.create_topics([NewTopic::new("b").partitions(1).replication(1)]).all().unwrap();
    // Now broker 2 is taken for the controller, and is none any more.
    cluster.restart(BrokerId(1)).unwrap();
    admin.create_topics([NewTopic::new("c").partitions(1).replication(1)]).all().unwrap();
    admin.create_partitions([("c", NewPartitions::up_to(2))]).all().unwrap();
    admin.delete_topics(["a", "b"]).all().unwrap();
    let brokers: Vec<i32> = cluster
        .requests()
        .iter()
        .filter(|seen| matches!(seen.api, Api::CreateTopics | Api::CreatePartitions | Api::DeleteTopics))
        .map(|seen| seen.broker.0)
        .collect();
    assert_eq!(brokers, [1, 2, 2, 1, 1, 1], "one is refused by broker 2, and nothing else");
    assert_eq!((cluster.partition_count("c").unwrap(), cluster.partition_count("b").is_err()), (2, true));
}

#[test]
fn a_controller_that_is_none_is_looked_for_again_until_there_is_one() {
    watch_for_panics();
    let cluster = FakeCluster::start(1).unwrap();
    let fault = cluster.inject(On::api(Api::CreateTopics).times(3), Fault::Error(ErrorCode::NOT_CONTROLLER));
    quick(&cluster).build().unwrap().create_topics([NewTopic::new("a")]).all().unwrap();
    assert_eq!(fault.fired(), 3);
}

#[test]
fn a_topic_whose_answer_was_lost_was_created_if_it_is_there_as_it_was_wanted() {
    watch_for_panics();
    for lost in [Fault::DropAnswer, Fault::ErrorAfterApply(ErrorCode::REQUEST_TIMED_OUT), Fault::Truncate(6)] {
        let cluster = FakeCluster::builder().brokers(3).start().unwrap();
        let admin = quick(&cluster).build().unwrap();
        cluster.create_topic("there", 2).unwrap();
        let fault = cluster.inject(On::api(Api::CreateTopics), lost.clone());
        let new = |name: &str| NewTopic::new(name).partitions(2).replication(2);
        let results = admin.create_topics([
            new("a"),
            NewTopic::new("b"),
            NewTopic::new("placed").assign(0, [BrokerId(3), BrokerId(1)]),
            NewTopic::new("there").partitions(5).replication(2),
            new("no such name"),
        ]);
        assert_eq!((fault.fired(), cluster.request_count(Api::CreateTopics)), (1, 2), "{lost:?}");
        let described = admin.describe_topics(["a", "b", "placed"]).all().unwrap();
        for name in ["a", "b", "placed"] {
            let created = results.get(name).unwrap().as_ref().unwrap();
            assert!(created.id.is_some() && created.id == described[name].id, "{lost:?}: {created:?}");
            assert_eq!(created.partitions, i32::try_from(described[name].partitions.len()).ok());
        }
        // That one was there before, or is somebody else's.
        let error = results.get("there").unwrap().as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::TOPIC_ALREADY_EXISTS), "{error:?}");
        assert!(error.to_string().contains("an earlier attempt had no answer"), "{error}");
        assert_eq!(error.written(), Some(Written::Maybe));
        assert_eq!(results.errors().count(), 2);
    }
}

#[test]
fn what_was_certainly_not_done_is_no_doubt() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("there", 1).start().unwrap();
    let admin = quick(&cluster).build().unwrap();
    // The topic is there as it is wanted, but the client has not made it: no attempt was in doubt.
    let results = admin.create_topics([NewTopic::new("there").partitions(1).replication(1)]);
    let error = results.get("there").unwrap().as_ref().unwrap_err();
    assert_eq!((error.code(), error.written()), (Some(ErrorCode::TOPIC_ALREADY_EXISTS), Some(Written::No)));
    // Nor does a check make one.
    let fault = cluster.inject(On::api(Api::CreateTopics), Fault::DropAnswer);
    let results = admin.validate_only().create_topics([NewTopic::new("there").partitions(1).replication(1)]);
    let error = results.get("there").unwrap().as_ref().unwrap_err();
    assert_eq!((error.code(), error.written()), (Some(ErrorCode::TOPIC_ALREADY_EXISTS), None));
    assert_eq!(fault.fired(), 1);
}

#[test]
fn a_deletion_whose_answer_was_lost_has_deleted_what_is_gone() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).topic("b", 1).start().unwrap();
    let admin = quick(&cluster).build().unwrap();
    let fault = cluster.inject(On::api(Api::DeleteTopics), Fault::DropAnswer);
    admin.delete_topics(["a"]).all().unwrap();
    assert_eq!(fault.fired(), 1);
    let id = admin.describe_topics(["b"]).all().unwrap()["b"].id.unwrap();
    let fault = cluster.inject(On::api(Api::DeleteTopics), Fault::DropAnswer);
    admin.delete_topics_by_id([id]).all().unwrap();
    assert_eq!(fault.fired(), 1);
    // Without a lost answer it is an error.
    let results = admin.delete_topics_by_id([id]);
    assert_eq!(results.get(&id).unwrap().as_ref().unwrap_err().code(), Some(ErrorCode::UNKNOWN_TOPIC_ID));
}

#[test]
fn partitions_whose_answer_was_lost_were_added_if_there_are_as_many_as_were_wanted() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).topic("b", 5).start().unwrap();
    let admin = quick(&cluster).build().unwrap();
    let fault = cluster.inject(On::api(Api::CreatePartitions), Fault::DropAnswer);
    let results = admin.create_partitions([("a", NewPartitions::up_to(3)), ("b", NewPartitions::up_to(4))]);
    assert_eq!(fault.fired(), 1);
    assert!(results.get("a").unwrap().is_ok());
    let error = results.get("b").unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::INVALID_PARTITIONS));
    assert_eq!(cluster.partition_count("a").unwrap(), 3);
}

#[test]
fn a_throttled_call_waits_as_long_as_the_controller_says_and_goes_on() {
    watch_for_panics();
    let cluster = FakeCluster::start(1).unwrap();
    let admin = quick(&cluster).build().unwrap();
    let code = ErrorCode::THROTTLING_QUOTA_EXCEEDED;
    let fault = cluster.inject(On::api(Api::CreateTopics).times(2), Fault::Error(code));
    admin.create_topics([NewTopic::new("a")]).all().unwrap();
    assert_eq!(fault.fired(), 2);
    let error = {
        let hasty = quick(&cluster).api_timeout(ms(300)).build().unwrap();
        let fault = cluster.inject(On::api(Api::CreateTopics).always(), Fault::Error(code));
        let error = hasty.create_topics([NewTopic::new("b")]).all().unwrap_err();
        fault.cancel();
        assert!(fault.fired() > 1);
        error
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::Api), Some(code)), "{error:?}");
}

#[test]
fn what_time_does_not_cure_ends_a_call_at_once() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).start().unwrap();
    let admin = quick(&cluster).api_timeout(HOUR).build().unwrap();
    let begin = Instant::now();
    let code = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    for api in [Api::CreateTopics, Api::DeleteTopics, Api::CreatePartitions, Api::DescribeConfigs, Api::ListOffsets] {
        let fault = cluster.inject(On::api(api), Fault::Error(code));
        let error = match api {
            Api::CreateTopics => admin.create_topics([NewTopic::new("b")]).all().unwrap_err(),
            Api::DeleteTopics => admin.delete_topics(["a"]).all().unwrap_err(),
            Api::CreatePartitions => admin.create_partitions([("a", NewPartitions::up_to(2))]).all().unwrap_err(),
            Api::DescribeConfigs => admin.describe_configs([ConfigResource::topic("a")]).all().unwrap_err(),
            _ => admin.list_offsets(latest("a", 1), IsolationLevel::Uncommitted).all().unwrap_err(),
        };
        assert_eq!(fault.fired(), 1);
        // Another call may be allowed: this client need not be given up.
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Broker(code), Recovery::Fix), "{error:?}");
        assert!(error.context().topic.is_some() && error.context().address.is_some(), "{error}");
    }
    assert!(begin.elapsed() < AT_ONCE);
}

#[test]
fn a_topic_that_the_client_may_not_see_fails_alone() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).topic("secret", 1).start().unwrap();
    cluster.deny_topic("secret");
    let admin = quick(&cluster).build().unwrap();
    let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    let results = admin.describe_topics(["a", "secret"]);
    assert!(results.get("a").unwrap().is_ok());
    assert_eq!(results.get("secret").unwrap().as_ref().unwrap_err().code(), Some(denied));
    let (open, secret) = (TopicPartition::new("a", 0), TopicPartition::new("secret", 0));
    let wanted = [(open.clone(), OffsetSpec::Latest), (secret.clone(), OffsetSpec::Latest)];
    let results = admin.list_offsets(wanted, IsolationLevel::Uncommitted);
    assert!(results.get(&open).unwrap().is_ok());
    let error = results.get(&secret).unwrap().as_ref().unwrap_err();
    assert_eq!((error.code(), error.context().partition), (Some(denied), Some(0)));
    let [open, secret] = ["a", "secret"].map(ConfigResource::topic);
    let results = admin.alter_configs([(open.clone(), [set("1")]), (secret.clone(), [set("1")])]);
    assert!(results.get(&open).unwrap().is_ok());
    assert_eq!(results.get(&secret).unwrap().as_ref().unwrap_err().code(), Some(denied));
    let results = admin.delete_topics(["a", "secret"]);
    assert!(results.get("a").unwrap().is_ok());
    assert_eq!(results.get("secret").unwrap().as_ref().unwrap_err().code(), Some(denied));
    assert!(admin.list_topics().unwrap().is_empty());
}

fn set(value: &str) -> AlterConfig {
    AlterConfig::set("retention.ms", value)
}

#[test]
fn partitions_are_asked_for_together_and_again_where_a_leader_has_moved() {
    watch_for_panics();
    let cluster = three_brokers("a", 9);
    let admin = quick(&cluster).build().unwrap();
    let offsets = || {
        let found = admin.list_offsets(latest("a", 9), IsolationLevel::Uncommitted).all().unwrap();
        found.values().filter_map(|found| found.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(), [0; 9]);
    assert_eq!(cluster.request_count(Api::ListOffsets), 3, "one request for each leader");
    // The metadata is right, and the leaders move before they are asked.
    let fault = cluster.inject(
        On::api(Api::ListOffsets).broker(BrokerId(2)).times(2),
        Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    );
    assert_eq!(offsets(), [0; 9]);
    assert_eq!(
        (fault.fired(), cluster.request_count(Api::ListOffsets)),
        (2, 8),
        "those of broker 2 alone are asked again"
    );
    // A leader that is gone.
    let fault = cluster.inject(On::api(Api::ListOffsets).broker(BrokerId(3)), Fault::CutBefore);
    cluster.kill(BrokerId(1));
    assert_eq!(offsets(), [0; 9]);
    assert_eq!(fault.fired(), 1);
}

#[test]
fn a_partition_without_a_leader_and_a_broker_that_hangs_delay_nobody_else() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(3).replication(1).topic("a", 3).start().unwrap();
    for index in 0..3 {
        cluster.move_leader("a", index, BrokerId(index + 1)).unwrap();
    }
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    producer.send(Record::to("a").partition(0).value("v")).wait().unwrap();
    producer.close().unwrap();
    cluster.leaderless("a", 2).unwrap();
    let hang = cluster.inject(On::api(Api::DeleteRecords).broker(BrokerId(2)).always(), Fault::Hang);
    let limit = Duration::from_secs(3);
    let admin = quick(&cluster).api_timeout(limit).build().unwrap();
    let begin = Instant::now();
    let all = (0..3).map(|partition| (TopicPartition::new("a", partition), DeleteRecords::All));
    let results = admin.delete_records(all);
    let took = begin.elapsed();
    assert!((limit..limit + Duration::from_secs(20)).contains(&took), "{took:?}");
    assert!(hang.fired() >= 1);
    assert_eq!(*results.get(&TopicPartition::new("a", 0)).unwrap().as_ref().unwrap(), 1);
    let error = results.get(&TopicPartition::new("a", 1)).unwrap().as_ref().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Api), Some(Written::Maybe)), "{error:?}");
    assert_eq!((error.context().partition, error.context().broker), (Some(1), Some(BrokerId(2))));
    let error = results.get(&TopicPartition::new("a", 2)).unwrap().as_ref().unwrap_err();
    let no_leader = Some(ErrorCode::LEADER_NOT_AVAILABLE);
    assert_eq!((error.kind(), error.code()), (ErrorKind::Timeout(Timeout::Api), no_leader), "{error:?}");
    assert_eq!((error.written(), error.context().partition), (Some(Written::No), Some(2)));
    assert!(error.to_string().contains("api_timeout of 3s"), "{error}");
}

#[test]
fn a_topic_that_brokers_do_not_know_yet_is_waited_for() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).start().unwrap();
    let admin = quick(&cluster).build().unwrap();
    let unknown = Fault::Error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let of_metadata = cluster.inject(On::api(Api::Metadata).topic("a").times(2), unknown.clone());
    let of_leader = cluster.inject(On::api(Api::ListOffsets).times(2), unknown);
    admin.list_offsets(latest("a", 1), IsolationLevel::Uncommitted).all().unwrap();
    assert_eq!((of_metadata.fired(), of_leader.fired()), (2, 2));
    // But not for ever.
    let admin = quick(&cluster).api_timeout(HOUR).build().unwrap();
    let error = admin.list_offsets(latest("missing", 1), IsolationLevel::Uncommitted).all().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
}

#[test]
fn a_topic_that_the_client_has_just_made_is_asked_for_again() {
    watch_for_panics();
    let cluster = FakeCluster::start(1).unwrap();
    let admin = quick(&cluster).build().unwrap();
    let unknown = || Fault::Error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let told_at_once = |admin: &Admin, times| {
        let fault = cluster.inject(On::api(Api::Metadata).topic("a").always(), unknown());
        let error = admin.describe_topics(["a"]).all().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
        assert_eq!(fault.fired(), times);
        fault.cancel();
    };
    admin.create_topics([NewTopic::new("a")]).all().unwrap();
    let topic = ConfigResource::topic("a");
    for api in [Api::Metadata, Api::DescribeConfigs, Api::IncrementalAlterConfigs] {
        let fault = cluster.inject(On::api(api).topic("a").times(2), unknown());
        match api {
            Api::Metadata => drop(admin.describe_topics(["a"]).all().unwrap()),
            Api::DescribeConfigs => drop(admin.describe_configs([topic.clone()]).all().unwrap()),
            _ => drop(admin.alter_configs([(topic.clone(), [set("7")])]).all().unwrap()),
        }
        assert_eq!(fault.fired(), 2, "{api}");
    }
    // Others have not made it, and it is not new any more once it was deleted.
    told_at_once(&quick(&cluster).build().unwrap(), 1);
    admin.delete_topics(["a"]).all().unwrap();
    told_at_once(&admin, 1);
    cluster.create_topic("a", 1).unwrap();
    admin.validate_only().create_topics([NewTopic::new("b")]).all().unwrap();
    told_at_once(&admin, 1);
}

#[test]
fn a_cluster_that_nobody_can_reach_ends_every_call_in_time() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).start().unwrap();
    let limit = Duration::from_secs(2);
    let admin = quick(&cluster).api_timeout(limit).build().unwrap();
    admin.describe_cluster().unwrap();
    cluster.kill(BrokerId(1));
    let errors = [
        timed(limit, || admin.create_topics([NewTopic::new("b")]).all().unwrap_err()),
        timed(limit, || admin.describe_topics(["a"]).all().unwrap_err()),
        timed(limit, || admin.list_topics().unwrap_err()),
        timed(limit, || admin.describe_cluster().unwrap_err()),
        timed(limit, || admin.list_offsets(latest("a", 1), IsolationLevel::Committed).all().unwrap_err()),
        timed(limit, || admin.describe_configs([ConfigResource::topic("a")]).all().unwrap_err()),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Timeout(Timeout::Api), Recovery::Retry), "{error:?}");
        assert_ne!(error.written(), Some(Written::Maybe), "{error:?}");
        // Most often the connection that was not made; at the very end also one that was just being tried, or that broke.
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<kafka_blocking::Error>());
        let is_network =
            |cause: &kafka_blocking::Error| matches!(cause.kind(), ErrorKind::Network | ErrorKind::Timeout(_));
        assert!(cause.is_some_and(is_network), "{error:#}");
    }
    // And a client that has never reached it.
    let admin = Admin::builder(["127.0.0.1:1"]).api_timeout(limit).build().unwrap();
    let error = timed(limit, || admin.create_topics([NewTopic::new("b")]).all().unwrap_err());
    assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Api), Some(Written::No)), "{error:?}");
    assert_eq!(error.context().topic.as_deref(), Some("b"));
    // It goes on as soon as there is somebody.
    cluster.restart(BrokerId(1)).unwrap();
    let admin = quick(&cluster).build().unwrap();
    assert_eq!(admin.list_topics().unwrap().len(), 1);
}

#[track_caller]
fn timed<T>(limit: Duration, call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    let took = begin.elapsed();
    // The machine may stand still for a while.
    assert!((limit..limit + AT_ONCE).contains(&took), "{took:?}");
    result
}

#[test]
fn calls_use_the_same_connections_and_an_idle_one_that_was_closed_is_no_failure() {
    watch_for_panics();
    let cluster = three_brokers("a", 9);
    let admin = quick(&cluster).build().unwrap();
    for _ in 0..5 {
        admin.list_offsets(latest("a", 9), IsolationLevel::Uncommitted).all().unwrap();
        admin.describe_topics(["a"]).all().unwrap();
    }
    let made = cluster.connections_made();
    // One for each broker, and that of the thread kafka-metadata.
    assert_eq!(made, 4);
    for broker in cluster.brokers() {
        cluster.cut_connections(broker);
    }
    until("the connections are closed", || cluster.brokers().iter().all(|id| cluster.connection_count(*id) == 0));
    let before = cluster.request_count(Api::ListOffsets);
    admin.list_offsets(latest("a", 9), IsolationLevel::Uncommitted).all().unwrap();
    assert_eq!(cluster.request_count(Api::ListOffsets), before + 3);

    let admin = quick(&cluster).connections_max_idle(ms(1)).build().unwrap();
    admin.describe_topics(["a"]).all().unwrap();
    let then = Instant::now();
    until("the connection is idle for long", || then.elapsed() > ms(1));
    let made = cluster.connections_made();
    admin.describe_topics(["a"]).all().unwrap();
    assert_eq!(cluster.connections_made(), made + 1);
}

#[test]
fn a_broken_answer_is_asked_for_again() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("a", 1).start().unwrap();
    let admin = quick(&cluster).build().unwrap();
    for fault in [Fault::Garbage(vec![0, 0, 0, 3, 1, 2, 3]), Fault::WrongCorrelation, Fault::Truncate(9)] {
        let fault = cluster.inject(On::api(Api::Metadata).topic("a"), fault);
        assert_eq!(admin.describe_topics(["a"]).all().unwrap()["a"].partitions.len(), 1);
        assert_eq!(fault.fired(), 1);
    }
    let fault = cluster.inject(On::api(Api::IncrementalAlterConfigs), Fault::DropAnswer);
    admin.alter_configs([(ConfigResource::topic("a"), [set("7")])]).all().unwrap();
    assert_eq!(fault.fired(), 1);
}

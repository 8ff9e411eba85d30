use super::*;
use crate::config::address::HostPort;
use crate::config::client;
use crate::error::ErrorKind;

fn builder() -> ProducerBuilder {
    ProducerBuilder::new(["kafka01"])
}

fn fault(builder: ProducerBuilder) -> String {
    let error = builder.validate().expect_err("faulty");
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_defaults_need_only_a_server_and_are_javas() {
    let (client, config) = builder().validate().unwrap();
    assert_eq!(client.bootstrap_servers, [HostPort { host: "kafka01".into(), port: 9092 }]);
    assert_eq!((config.acks, config.idempotence, config.max_in_flight), (Acks::All, true, 5));
    assert_eq!((config.batch_size(), config.batch_records, config.linger), (262_144, None, Duration::from_millis(5)));
    assert_eq!((config.delivery_timeout, client.request_timeout, config.max_block), (secs(120), secs(30), secs(60)));
    assert_eq!(config.compression, Compression::None);
    let request = partitioner::PartitionRequest::new("t", None, None, &[0], &[0]);
    assert_eq!(config.partitioner.partition(&request).unwrap(), partitioner::Choice::Sticky);
}

#[test]
fn servers_come_one_by_one_or_in_one_text_and_keep_their_order() {
    let servers = |builder: ProducerBuilder| -> Vec<String> {
        builder.validate().unwrap().0.bootstrap_servers.iter().map(HostPort::to_string).collect()
    };
    let expected = ["b:9092", "a:1", "[::1]:2"];
    assert_eq!(servers(ProducerBuilder::new(["b", "a:1", "[::1]:2"])), expected);
    assert_eq!(servers(ProducerBuilder::new(["b, a:1,[::1]:2"])), expected);
    assert_eq!(servers(ProducerBuilder::new([String::from("b,a:1"), "[::1]:2".into()])), expected);
    assert_eq!(servers(ProducerBuilder::new(["other"]).bootstrap_servers(expected)), expected);
}

#[test]
fn servers_that_cannot_be_right_are_refused() {
    for (servers, part) in [
        (&[][..], "none is given"),
        (&[""], "none is given"),
        (&[" ", ""], "none is given"),
        (&["a,"], "no host"),
        (&["a:0"], "1 to 65535"),
        (&["a:65536"], "1 to 65535"),
        (&["a:x"], "not a number"),
        (&[":1"], "no host"),
        (&["[::1"], "not closed"),
        (&["a", "b", "A:9092"], "A:9092 is given twice"),
    ] {
        let text = fault(ProducerBuilder::new(servers.iter().copied()));
        assert!(text.contains(part) && text.contains("bootstrap_servers (bootstrap.servers)"), "{servers:?}: {text}");
    }
}

#[test]
fn every_fault_is_reported_at_once_with_both_names() {
    let text = fault(
        ProducerBuilder::new(["a:0", "b:y"])
            .acks(Acks::Leader)
            .retries(0)
            .max_in_flight(6)
            .linger(secs(100))
            .retry_backoff(secs(2))
            .metadata_max_idle(secs(4))
            .batch_records(0)
            .max_response_bytes(10),
    );
    for part in [
        "10 wrong settings",
        "\"a:0\"",
        "\"b:y\"",
        "acks (acks) is Leader",
        "retries (retries) is 0",
        "max_in_flight (max.in.flight.requests.per.connection) is 6",
        "delivery_timeout (delivery.timeout.ms) is 120s",
        "retry_backoff (retry.backoff.ms) is 2s",
        "metadata_max_idle (metadata.max.idle.ms) is 4s",
        "batch_records (batch.num.messages) is 0",
        "max_response_bytes (receive.message.max.bytes) is 10",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("set idempotence(false)").count(), 3, "{text}");
}

#[test]
fn what_idempotence_forbids_is_allowed_without_it() {
    for acks in [Acks::Leader, Acks::None] {
        assert!(fault(builder().acks(acks)).contains("set idempotence(false)"));
        let config = builder().acks(acks).idempotence(false).retries(0).max_in_flight(100).validate().unwrap().1;
        assert_eq!((config.acks, config.retries, config.max_in_flight), (acks, 0, 100));
    }
    assert!(builder().max_in_flight(1).validate().is_ok());
}

#[test]
fn the_delivery_timeout_covers_the_linger_and_a_request() {
    let with = |delivery| builder().linger(secs(10)).request_timeout(secs(20)).delivery_timeout(secs(delivery));
    assert!(with(30).validate().is_ok());
    let text = fault(with(29));
    assert!(
        text.contains("linger (linger.ms) (10s)") && text.contains("request_timeout (request.timeout.ms) (20s)"),
        "{text}"
    );
}

#[test]
fn pairs_that_contradict_each_other_are_refused() {
    let (long, short) = (secs(3), secs(2));
    for (builder, part) in [
        (builder().retry_backoff(long).retry_backoff_max(short), "retry_backoff_max (retry.backoff.max.ms), 2s"),
        (builder().reconnect_backoff(long).reconnect_backoff_max(short), "more than reconnect_backoff_max"),
        (
            builder().connection_setup_timeout(long).connection_setup_timeout_max(short),
            "more than connection_setup_timeout_max",
        ),
        (builder().batch_size(16_384).buffer_memory(16_383), "more than buffer_memory (buffer.memory), 16383"),
        (builder().batch_size(16_384).max_request_size(16_383), "more than max_request_size (max.request.size), 16383"),
        (
            builder().partitioner_adaptive(false).partitioner_availability_timeout(short),
            "partitioner_adaptive (partitioner.adaptive.partitioning.enable) is off",
        ),
    ] {
        let text = fault(builder);
        assert!(text.starts_with("wrong setting: ") && text.contains(part), "{text}");
    }
}

#[test]
fn durations_have_bounds_and_the_bounds_themselves_are_allowed() {
    type Setter = fn(ProducerBuilder, Duration) -> ProducerBuilder;
    let most = Duration::from_millis(i32::MAX as u64);
    const MS: Duration = Duration::from_millis(1);
    // The setter, with the other settings that must be raised so that the longest time contradicts none of them; the
    // least value.
    let setters: [(Setter, Duration); 15] = [
        (|b, d| b.linger(d).delivery_timeout(d.saturating_add(secs(30))), Duration::ZERO),
        (|b, d| b.max_block(d), Duration::ZERO),
        (|b, d| b.delivery_timeout(d).linger(Duration::ZERO).request_timeout(d.min(secs(1))), MS),
        (|b, d| b.request_timeout(d).linger(Duration::ZERO).delivery_timeout(d.max(MS)), MS),
        (|b, d| b.retry_backoff(d).retry_backoff_max(d.max(MS)), MS),
        (|b, d| b.retry_backoff_max(d).retry_backoff(MS), MS),
        (|b, d| b.partitioner_availability_timeout(d), Duration::ZERO),
        (|b, d| b.metadata_max_age(d), MS),
        (|b, d| b.metadata_max_idle(d), secs(5)),
        (|b, d| b.rebootstrap_trigger(d), Duration::ZERO),
        (|b, d| b.reconnect_backoff(d).reconnect_backoff_max(d.max(MS)), MS),
        (|b, d| b.reconnect_backoff_max(d).reconnect_backoff(MS), MS),
        (|b, d| b.connection_setup_timeout(d).connection_setup_timeout_max(d.max(MS)), MS),
        (|b, d| b.connection_setup_timeout_max(d).connection_setup_timeout(MS), MS),
        (|b, d| b.connections_max_idle(d), MS),
    ];
    for (index, (set, least)) in setters.into_iter().enumerate() {
        assert!(set(builder(), least).validate().is_ok(), "{index}");
        if index != 0 {
            assert!(set(builder(), most).validate().is_ok(), "{index}");
        }
        assert!(fault(set(builder(), most + MS)).contains("at most 2147483647 ms"), "{index}");
        if !least.is_zero() {
            let text = fault(set(builder(), least - Duration::from_micros(1)));
            assert!(text.contains("at least"), "{index}: {text}");
        }
    }
    assert!(builder().connections_max_idle(None).validate().is_ok());
}

#[test]
fn sizes_have_bounds() {
    let most = i32::MAX as usize;
    assert!(builder().batch_size(0).validate().is_ok(), "as in Java: every record is a batch of its own");
    let large = builder().batch_size(most).max_request_size(most).buffer_memory(most);
    assert!(large.clone().validate().is_ok());
    for (builder, part) in [
        (large.batch_size(most + 1), "batch_size (batch.size) is 2147483648"),
        (builder().client_id("x".repeat(32_768)), "client_id (client.id) is 32768 bytes long"),
        (builder().batch_size(0).buffer_memory(0), "buffer_memory (buffer.memory) is 0"),
        (builder().batch_size(0).max_request_size(0), "max_request_size (max.request.size) is 0"),
        (builder().max_in_flight(0), "max_in_flight (max.in.flight.requests.per.connection) is 0"),
        (builder().send_buffer_bytes(0), "send_buffer_bytes (send.buffer.bytes) is 0"),
        (builder().receive_buffer_bytes(most + 1), "receive_buffer_bytes (receive.buffer.bytes) is 2147483648"),
        (builder().max_response_bytes(999), "max_response_bytes (receive.message.max.bytes) is 999"),
    ] {
        let text = fault(builder);
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(builder().send_buffer_bytes(None).receive_buffer_bytes(None).batch_records(1).validate().is_ok());
}

#[test]
fn zstd_needs_its_feature() {
    let result = builder().compression(Compression::zstd()).validate();
    assert_eq!(result.is_ok(), cfg!(feature = "zstd"));
}

#[test]
fn a_closure_can_be_the_partitioner_and_a_named_one_too() {
    let closure = builder().partitioner(partitioner::partitioner_fn(|_, partitions| partitions[0]));
    let named = builder().partitioner(partitioner::by_name("explicit").unwrap_or(Box::new(partitioner::explicit(4))));
    for (builder, partition) in [(closure, 3), (named, 4)] {
        let config = builder.validate().unwrap().1;
        let request = partitioner::PartitionRequest::new("t", None, None, &[3, 4], &[3, 4]);
        assert_eq!(config.partitioner.partition(&request).unwrap(), partitioner::Choice::Partition(partition));
    }
}

#[test]
fn transactions_need_an_id_and_idempotence() {
    let config = builder().transactional_id("shop-1").transaction_timeout(secs(9)).validate().unwrap().1;
    assert_eq!((config.transactional_id.as_deref(), config.transaction_timeout), (Some("shop-1"), secs(9)));
    assert!(config.idempotence && config.acks == Acks::All);
    for (builder, part) in [
        (builder().transactional_id("shop-1").idempotence(false), "idempotence (enable.idempotence) is off"),
        (builder().transactional_id("shop-1").acks(Acks::Leader), "needs acks from all in-sync replicas"),
        (builder().transactional_id("shop-1").max_in_flight(6), "among the last 5 only"),
        (builder().transactional_id("shop-1").retries(0), "needs retries"),
        (builder().transactional_id(""), "transactional_id (transactional.id) is 0 bytes long"),
        (builder().transactional_id("x".repeat(40_000)), "is 40000 bytes long"),
        (builder().transaction_timeout(secs(9)), "transactional_id (transactional.id) is not set"),
        (builder().transactional_id("shop-1").transaction_timeout(secs(0)), "aborted before it begins"),
    ] {
        let text = fault(builder);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn idempotence_is_called_the_default_only_where_nobody_asked_for_it() {
    let text = fault(builder().retries(0));
    assert!(text.contains("idempotence (enable.idempotence) is on, as it is by default, and needs retries"), "{text}");
    let from_properties = ProducerBuilder::from_properties([
        ("bootstrap.servers", "kafka01"),
        ("enable.idempotence", "true"),
        ("retries", "0"),
    ]);
    for asked in [builder().idempotence(true).retries(0), from_properties] {
        let text = fault(asked);
        assert!(text.contains("idempotence (enable.idempotence) is on, and needs retries"), "{text}");
    }
}

#[test]
fn what_is_advised_with_a_transactional_id_is_no_fault_itself() {
    let wrong = [
        builder().acks(Acks::Leader),
        builder().retries(0),
        builder().max_in_flight(6),
        builder().acks(Acks::None).retries(0).max_in_flight(100),
    ];
    for wrong in wrong {
        let text = fault(wrong.clone().transactional_id("shop-1"));
        assert!(text.contains("transactions cannot do without it"), "{text}");
        assert!(!text.contains("set idempotence(false) to do without it"), "{text}");
        assert!(text.contains("leave out transactional_id (transactional.id) and set idempotence(false)"), "{text}");
        // Both pieces of advice help.
        wrong.idempotence(false).validate().unwrap();
        builder().transactional_id("shop-1").validate().unwrap();
    }
}

/// A cluster none of whose settings has its default.
fn shared() -> Cluster {
    let ms = Duration::from_millis;
    let builder = Cluster::builder(["kafka01", "kafka02"]).client_id("shared").request_timeout(ms(9000));
    let builder =
        builder.retry_backoff(ms(7)).retry_backoff_max(ms(70)).metadata_max_age(ms(7)).metadata_max_idle(secs(7));
    let builder = builder.metadata_recovery(MetadataRecovery::None).rebootstrap_trigger(ms(7));
    let builder = builder.reconnect_backoff(ms(7)).reconnect_backoff_max(ms(70));
    let builder = builder.connection_setup_timeout(ms(7)).connection_setup_timeout_max(ms(70));
    let builder = builder.connections_max_idle(ms(7)).send_buffer_bytes(7).receive_buffer_bytes(7);
    builder.max_response_bytes(7000).build().unwrap()
}

/// Each setting of a cluster, set on a producer to its default, and to what [`shared`] has.
fn each_setting_of_a_cluster(on: impl Fn() -> ProducerBuilder) -> Vec<(&'static str, [ProducerBuilder; 2])> {
    let ms = Duration::from_millis;
    vec![
        ("bootstrap_servers", [on().bootstrap_servers(["kafka01"]), on().bootstrap_servers(["kafka01:9092,kafka02"])]),
        ("request_timeout", [on().request_timeout(ms(30_000)), on().request_timeout(ms(9000))]),
        ("retry_backoff", [on().retry_backoff(ms(100)), on().retry_backoff(ms(7))]),
        ("retry_backoff_max", [on().retry_backoff_max(ms(1000)), on().retry_backoff_max(ms(70))]),
        ("metadata_max_age", [on().metadata_max_age(ms(300_000)), on().metadata_max_age(ms(7))]),
        ("metadata_max_idle", [on().metadata_max_idle(ms(300_000)), on().metadata_max_idle(secs(7))]),
        (
            "metadata_recovery",
            [MetadataRecovery::Rebootstrap, MetadataRecovery::None].map(|recovery| on().metadata_recovery(recovery)),
        ),
        ("rebootstrap_trigger", [on().rebootstrap_trigger(ms(300_000)), on().rebootstrap_trigger(ms(7))]),
        ("reconnect_backoff", [on().reconnect_backoff(ms(50)), on().reconnect_backoff(ms(7))]),
        ("reconnect_backoff_max", [on().reconnect_backoff_max(ms(1000)), on().reconnect_backoff_max(ms(70))]),
        ("connection_setup_timeout", [10_000, 7].map(|time| on().connection_setup_timeout(ms(time)))),
        ("connection_setup_timeout_max", [30_000, 70].map(|time| on().connection_setup_timeout_max(ms(time)))),
        ("connections_max_idle", [540_000, 7].map(|time| on().connections_max_idle(ms(time)))),
        ("send_buffer_bytes", [on().send_buffer_bytes(131_072), on().send_buffer_bytes(7)]),
        ("receive_buffer_bytes", [on().receive_buffer_bytes(32_768), on().receive_buffer_bytes(7)]),
        ("max_response_bytes", [on().max_response_bytes(100_000_000), on().max_response_bytes(7000)]),
    ]
}

#[test]
fn what_belongs_to_a_cluster_is_refused_on_a_producer_that_uses_one_unless_it_is_the_same() {
    let cluster = shared();
    let by_setters = each_setting_of_a_cluster(|| ProducerBuilder::on(&cluster));
    for setting in client::SETTINGS.iter().map(|setting| &setting.names).filter(|names| names.name != "client_id") {
        let (_, [different, same]) = by_setters.iter().find(|(name, _)| *name == setting.name).unwrap();
        let property = setting.properties().next().unwrap();
        let default = if setting.name == "bootstrap_servers" { "kafka01" } else { setting.default };
        // A fault that is found twice is reported once.
        let by_property = ProducerBuilder::on(&cluster).properties([(property, default), (property, default)]);
        for builder in [different.clone(), by_property] {
            let text = fault(builder);
            let wanted = format!("wrong setting: {} ({property}) is ", setting.name);
            let found =
                text.contains(&wanted) && text.contains(", but the setting belongs to the cluster that clients share");
            assert!(found && text.ends_with("set it with Cluster::builder"), "{text}");
        }
        let (client, _) = same.clone().validate().unwrap_or_else(|error| panic!("{}: {error}", setting.name));
        assert_eq!(format!("{client:?}"), format!("{:?}", cluster.config()));
    }
    let text = fault(ProducerBuilder::on(&cluster).client_id("x".repeat(32_768)));
    assert!(text.contains("client_id (client.id) is 32768 bytes"), "{text}");
    let text = fault(ProducerBuilder::on(&cluster).bootstrap_servers(["a:0"]));
    assert!(text.contains("a:0"), "{text}");
}

#[test]
fn one_file_serves_a_cluster_and_the_producers_on_it() {
    let text = "bootstrap.servers=a,b\nclient.id=shop\nlinger.ms=7\nrequest.timeout.ms=9000\ngroup.id=g\n";
    let cluster = Cluster::builder([""; 0]).properties_text(text).build().unwrap();
    let (client, config) = ProducerBuilder::on(&cluster).properties_text(text).validate().unwrap();
    assert_eq!(format!("{client:?}"), format!("{:?}", cluster.config()));
    assert_eq!((config.linger, client.request_timeout), (Duration::from_millis(7), secs(9)));
    let (client, _) = ProducerBuilder::on(&cluster).properties_text(text).client_id("own").validate().unwrap();
    assert_eq!((&*client.client_id, &*cluster.config().client_id), ("own", "shop"));
}

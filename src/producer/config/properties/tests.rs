use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::ProducerConfig;
use super::*;
use crate::config::client::ClientConfig;
use crate::config::properties::{SettingNames, other, setting};

fn both(properties: &[(&str, &str)]) -> (ClientConfig, ProducerConfig) {
    let properties = [&[("bootstrap.servers", "kafka01")], properties].concat();
    ProducerBuilder::from_properties(properties).validate().unwrap()
}

fn config(properties: &[(&str, &str)]) -> ProducerConfig {
    both(properties).1
}

fn fault(properties: &[(&str, &str)]) -> String {
    let properties = [&[("bootstrap.servers", "kafka01")], properties].concat();
    ProducerBuilder::from_properties(properties).validate().unwrap_err().to_string()
}

/// The settings of a producer: those that every client has, then its own, as the manual lists them.
fn all() -> impl Iterator<Item = &'static SettingNames> {
    client::SETTINGS.iter().map(|setting| &setting.names).chain(SETTINGS.iter().map(|setting| &setting.names))
}

#[test]
fn every_default_in_the_table_is_the_builders() {
    let default = format!("{:?}", both(&[]));
    for setting in all().filter(|setting| setting.name != "bootstrap_servers") {
        let name = setting.properties().next().unwrap();
        // A property with the default value counts as set all the same.
        let set = format!("{:?}", both(&[(name, setting.default)]));
        let set = set.replace("idempotence_was_set: true", "idempotence_was_set: false");
        assert_eq!(set, default, "{name}={}", setting.default);
    }
}

/// Each name with a value that is not the default, what else it needs, and what the configuration then says.
#[test]
fn every_property_sets_its_setting_in_its_unit() {
    let off = ("enable.idempotence", "false");
    let none = ("retries", "7");
    let cases: &[(&str, &str, (&str, &str), &str)] = &[
        ("bootstrap.servers", "kafka01", none, "[HostPort { host: \"kafka01\", port: 9092 }]"),
        ("metadata.broker.list", "kafka01", none, "[HostPort { host: \"kafka01\", port: 9092 }]"),
        ("client.id", "me", none, "client_id: \"me\""),
        ("acks", "1", off, "acks: Leader"),
        ("request.required.acks", "0", off, "acks: None"),
        ("enable.idempotence", "FALSE", none, "idempotence: false"),
        ("transactional.id", "shop-1", none, "transactional_id: Some(\"shop-1\")"),
        ("transaction.timeout.ms", "9000", ("transactional.id", "shop-1"), "transaction_timeout: 9s"),
        ("transaction.max.block.ms", "9000", ("transactional.id", "shop-1"), "transaction_max_block: Some(9s)"),
        ("batch.size", "1000", none, "batch_size: 1000,"),
        ("batch.num.messages", "10000", none, "batch_records: Some(10000)"),
        ("linger.ms", "20", none, "linger: 20ms"),
        ("queue.buffering.max.ms", "0.5", none, "linger: 500µs"),
        ("buffer.memory", "1048576", none, "buffer_memory: 1048576,"),
        ("queue.buffering.max.kbytes", "1024", none, "buffer_memory: 1048576,"),
        ("max.request.size", "2000000", none, "max_request_size: 2000000,"),
        ("message.max.bytes", "1000000", none, "max_request_size: 1000000,"),
        ("max.block.ms", "0", none, "max_block: 0ns"),
        ("delivery.timeout.ms", "300000", none, "delivery_timeout: 300s"),
        ("message.timeout.ms", "300000", none, "delivery_timeout: 300s"),
        ("request.timeout.ms", "1500", none, "request_timeout: 1.5s"),
        ("socket.timeout.ms", "60000", none, "request_timeout: 60s"),
        ("retries", "3", ("acks", "all"), "retries: 3,"),
        ("message.send.max.retries", "3", ("acks", "-1"), "retries: 3,"),
        ("retry.backoff.ms", "200", none, "retry_backoff: Backoff { initial: 200ms, max: 1s }"),
        ("retry.backoff.max.ms", "2000", none, "retry_backoff: Backoff { initial: 100ms, max: 2s }"),
        ("max.in.flight.requests.per.connection", "1", none, "max_in_flight: 1,"),
        ("max.in.flight", "1000000", off, "max_in_flight: 1000000,"),
        ("compression.type", "snappy", none, "compression: Snappy"),
        ("compression.codec", "lz4", none, "compression: Lz4"),
        ("compression.gzip.level", "9", ("compression.type", "gzip"), "compression: Gzip(GzipLevel(9))"),
        ("compression.zstd.level", "-5", ("compression.type", "zstd"), "compression: Zstd(ZstdLevel(-5))"),
        ("compression.level", "7", ("compression.codec", "zstd"), "compression: Zstd(ZstdLevel(7))"),
        ("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner", none, "partitioner: "),
        ("partitioner", "consistent_random", none, "partitioner: "),
        ("partitioner.ignore.keys", "true", none, "partitioner: "),
        ("partitioner.adaptive.partitioning.enable", "false", none, "partitioner_adaptive: false"),
        ("partitioner.availability.timeout.ms", "9", none, "partitioner_availability_timeout: 9ms"),
        ("metadata.max.age.ms", "9", none, "metadata_max_age: 9ms"),
        ("topic.metadata.refresh.interval.ms", "9", none, "metadata_max_age: 9ms"),
        ("metadata.max.idle.ms", "6000", none, "metadata_max_idle: 6s"),
        ("metadata.recovery.strategy", "NONE", none, "metadata_recovery: None"),
        ("metadata.recovery.rebootstrap.trigger.ms", "9", none, "rebootstrap_trigger: 9ms"),
        ("reconnect.backoff.ms", "9", none, "reconnect_backoff: Backoff { initial: 9ms, max: 1s }"),
        ("reconnect.backoff.max.ms", "10000", none, "reconnect_backoff: Backoff { initial: 50ms, max: 10s }"),
        (
            "socket.connection.setup.timeout.ms",
            "9",
            none,
            "connection_setup_timeout: Backoff { initial: 9ms, max: 30s }",
        ),
        (
            "socket.connection.setup.timeout.max.ms",
            "11000",
            none,
            "connection_setup_timeout: Backoff { initial: 10s, max: 11s }",
        ),
        ("connections.max.idle.ms", "-1", none, "connections_max_idle: None"),
        ("send.buffer.bytes", "-1", none, "send_buffer_bytes: None"),
        ("socket.send.buffer.bytes", "0", none, "send_buffer_bytes: None"),
        ("receive.buffer.bytes", "9", none, "receive_buffer_bytes: Some(9)"),
        ("socket.receive.buffer.bytes", "0", none, "receive_buffer_bytes: None"),
        ("allow.auto.create.topics", "false", none, "allow_auto_topic_creation: false"),
        ("receive.message.max.bytes", "2000", none, "max_response_bytes: 2000"),
    ];
    for (name, value, also, expected) in cases {
        if also.1 == "zstd" && cfg!(not(feature = "zstd")) {
            continue;
        }
        let mut properties = HashMap::from([("bootstrap.servers", "kafka01"), *also]);
        if *name == "metadata.broker.list" {
            properties.remove("bootstrap.servers");
        }
        properties.insert(*name, *value);
        let config = ProducerBuilder::from_properties(properties).validate();
        let text = format!("{:?}", config.unwrap_or_else(|error| panic!("{name}: {error}")));
        assert!(text.contains(expected), "{name}={value}: {text}");
        let default = format!("{:?}", (ClientConfig::default(), ProducerConfig::default()));
        assert!(!default.contains(expected) || *expected == "partitioner: ", "{expected} is the default");
    }
    for name in all().flat_map(SettingNames::properties) {
        assert!(cases.iter().any(|(tested, ..)| *tested == name), "{name} is not tested");
    }
}

#[test]
fn a_partitioner_by_name_is_the_one_of_that_name() {
    let choices = |properties: &[(&str, &str)]| {
        let config = config(properties);
        [None, Some(&b"hejsan"[..])].map(|key| {
            let request = partitioner::PartitionRequest::new("t", key, None, &[0, 1, 2, 3, 4, 5, 6], &[6]);
            config.partitioner.partition(&request).unwrap()
        })
    };
    use partitioner::Choice::{Partition, Sticky};
    let crc = Partition((0xd077_037e_u32 % 7).cast_signed());
    let murmur = Partition((0x5ec1_9395_u32 % 7).cast_signed());
    assert_eq!(choices(&[]), [Sticky, murmur]);
    assert_eq!(choices(&[("partitioner", "consistent")]), [Partition(0), crc]);
    assert_eq!(choices(&[("partitioner", "consistent_random")]), [Sticky, crc]);
    assert_eq!(choices(&[("partitioner.class", "RoundRobinPartitioner")]), [Partition(6), Partition(6)]);
    assert_eq!(choices(&[("partitioner.ignore.keys", "true")]), [Sticky, Sticky]);
    let text = fault(&[("partitioner.ignore.keys", "true"), ("partitioner", "random")]);
    assert!(text.contains("partitioner.ignore.keys is true"), "{text}");
    let text = fault(&[("partitioner.class", "com.example.Mine")]);
    assert!(text.contains("com.example.Mine") && text.contains("ProducerBuilder::partitioner"), "{text}");
}

#[test]
fn values_that_cannot_be_read_are_refused_with_the_propertys_name() {
    for (name, value, part) in [
        ("linger.ms", "5ms", "it must be a number of milliseconds, not negative and without a unit, such as 5 or 0.5"),
        (
            "max.block.ms",
            "5ms",
            "it must be a whole number of milliseconds, not negative and without a unit, such as 5",
        ),
        ("linger.ms", "NaN", "a number of milliseconds"),
        ("linger.ms", "-1", "not negative"),
        ("linger.ms", "inf", "a number"),
        ("linger.ms", "1e400", "a number"),
        ("max.block.ms", "0.5", "whole number"),
        ("max.block.ms", "", "whole number"),
        ("delivery.timeout.ms", "99999999999999999999", "whole number"),
        ("request.timeout.ms", "3000000000", "at most 2147483647 ms"),
        ("acks", "2", "it must be all (or -1), 1 or 0"),
        ("acks", "-2", "it must be all (or -1), 1 or 0"),
        ("request.required.acks", "2", "it must be all (or -1), 1 or 0"),
        ("enable.idempotence", "yes", "it must be true or false"),
        ("retries", "2147483648", "from 0 to 2147483647"),
        ("batch.size", "-1", "not negative"),
        ("queue.buffering.max.kbytes", "18446744073709551615", "whole number"),
        ("compression.type", "brotli", "none, gzip, snappy, lz4 or zstd"),
        ("compression.gzip.level", "10", "is gzip at level 10, it must be -1 or 1 to 9"),
        ("compression.zstd.level", "23", "is zstd at level 23, it must be -131072 to 22"),
        ("compression.zstd.level", "high", "not a whole number"),
        ("compression.level", "5", "none has no levels here"),
        ("metadata.recovery.strategy", "hope", "rebootstrap or none"),
        ("connections.max.idle.ms", "0", "write -1 for never"),
        ("send.buffer.bytes", "0", "send_buffer_bytes (send.buffer.bytes) is 0"),
        ("security.protocol", "SASL_SSL", "only PLAINTEXT is possible"),
        ("client.dns.lookup", "resolve_canonical_bootstrap_servers_only", "all addresses of a name are tried"),
        ("key.serializer", "io.confluent.kafka.serializers.KafkaAvroSerializer", "strings and bytes"),
        ("compression.lz4.level", "12", "only 9 is possible"),
        ("socket.nagle.disable", "false", "only true is possible"),
        ("metric.reporters", "com.example.Reporter", "only an empty value is possible: it names classes of the JVM"),
    ] {
        let text = fault(&[(name, value)]);
        assert!(text.contains(name) && text.contains(part), "{name}={value}: {text}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    for (name, nearest) in [
        ("linger.m", Some("linger.ms")),
        ("linger_ms", Some("linger.ms")),
        ("Bootstrap.Server", Some("bootstrap.servers")),
        ("compresion.type", Some("compression.type")),
        ("max.in.flight.request.per.connection", Some("max.in.flight.requests.per.connection")),
        ("enable.idempotent", Some("enable.idempotence")),
        ("something.else.entirely", None),
        ("", None),
    ] {
        let text = fault(&[(name, "x")]);
        let expected = match nearest {
            Some(nearest) => format!("{name:?} is unknown; is it {nearest}?"),
            None => format!("{name:?} is unknown"),
        };
        assert!(text.ends_with(&expected), "{text}");
    }
    assert!(fault(&[(&"x".repeat(100_000), "x")]).len() < 200);
}

#[test]
fn what_is_known_but_not_supported_says_what_takes_its_place() {
    for (name, part) in [
        ("timeout.ms", "replaced by request.timeout.ms"),
        ("metadata.fetch.timeout.ms", "replaced by max.block.ms"),
        ("block.on.buffer.full", "try_send never blocks"),
        ("ssl.truststore.location", "TLS is not offered"),
        ("sasl.mechanism", "SASL is not offered"),
        ("metrics.num.samples", "Java's metrics"),
        ("queue.buffering.max.messages", "buffer.memory"),
        ("sticky.partitioning.linger.ms", "KIP-794"),
    ] {
        let text = fault(&[(name, "7")]);
        assert!(text.contains(&format!("{name} is not supported: ")) && text.contains(part), "{text}");
    }
}

#[test]
fn what_java_files_often_hold_loads() {
    let config = config(&[
        ("key.serializer", "org.apache.kafka.common.serialization.StringSerializer"),
        ("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer"),
        ("acks", "all"),
        ("security.protocol", "plaintext"),
        ("client.dns.lookup", "use_all_dns_ips"),
        ("interceptor.classes", ""),
        ("compression.gzip.level", "9"),
        ("compression.lz4.level", "9"),
        ("compression.type", "none"),
        ("broker.address.ttl", "5000"),
        ("message.copy.max.bytes", "1"),
    ]);
    assert_eq!(config.compression, Compression::None, "a level for another codec has no effect");
}

#[test]
fn one_file_serves_all_clients_of_a_program() {
    let properties = [
        ("linger.ms", "7"),
        ("group.id", "shop"),
        ("enable.auto.commit", "false"),
        ("fetch.min.bytes", "1024"),
        ("client.rack", "a"),
        ("schema.registry.url", "http://registry01:8081"),
        ("basic.auth.credentials.source", "USER_INFO"),
        ("basic.auth.user.info", "alice:sesame"),
        ("value.subject.name.strategy", "RecordNameStrategy"),
        ("specific.avro.reader", "true"),
    ];
    assert_eq!(config(&properties).linger, Duration::from_millis(7));
    // A name that none of the clients has is a fault, even if it is similar to one of theirs.
    for (name, nearest) in [("group.di", "group.id"), ("schema.registry.ur", "schema.registry.url")] {
        let text = fault(&[(name, "x")]);
        assert!(text.ends_with(&format!("{name:?} is unknown; is it {nearest}?")), "{text}");
    }
}

#[test]
fn a_file_without_retries_must_say_that_it_gives_up_idempotence() {
    let text = fault(&[("acks", "all"), ("retries", "0")]);
    assert!(text.contains("retries (retries) is 0") && text.contains("set idempotence(false)"), "{text}");
    assert_eq!(config(&[("acks", "all"), ("retries", "0"), ("enable.idempotence", "false")]).retries, 0);
}

#[test]
fn two_names_of_one_setting_must_agree() {
    assert_eq!(config(&[("acks", "all"), ("request.required.acks", "all")]).acks, Acks::All);
    let text = fault(&[("linger.ms", "5"), ("queue.buffering.max.ms", "6")]);
    assert!(text.contains("linger.ms and queue.buffering.max.ms are one setting, linger, "), "{text}");
    let text = fault(&[("linger.ms", "5"), ("linger.ms", "6")]);
    assert!(text.contains("linger.ms is given twice with different values: \"5\" and \"6\""), "{text}");
    let text = fault(&[("compression.type", "gzip"), ("compression.level", "1"), ("compression.gzip.level", "2")]);
    assert!(text.contains("compression.level and compression.gzip.level have different values"), "{text}");
}

#[test]
fn every_fault_of_the_properties_is_reported_with_those_of_the_settings() {
    let properties = [("bootstrap.servers", "a:0"), ("acks", "7"), ("lingerms", "1"), ("batch.size", "99999999")];
    let text = ProducerBuilder::from_properties(properties).validate().unwrap_err().to_string();
    for part in
        ["5 wrong settings", "a:0", "acks is \"7\"", "\"lingerms\" is unknown", "buffer_memory", "max_request_size"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn setters_override_properties() {
    let builder = ProducerBuilder::from_properties([("bootstrap.servers", "a"), ("linger.ms", "7")]);
    let (client, config) = builder.linger(Duration::ZERO).bootstrap_servers(["b"]).validate().unwrap();
    assert_eq!((config.linger, client.bootstrap_servers[0].to_string()), (Duration::ZERO, "b:9092".into()));
}

#[test]
fn whatever_comes_later_overrides() {
    let builder = || ProducerBuilder::new(["a"]).linger(Duration::from_millis(1)).compression(Compression::gzip());
    let later = builder().properties([("linger.ms", "7")]).properties_text("compression.gzip.level=9\nretries=3");
    let config = later.retries(4).validate().unwrap().1;
    assert_eq!((config.linger, config.retries), (Duration::from_millis(7), 4));
    assert_eq!(config.compression, Compression::gzip_level(9));
    let text = builder().properties_text("retries=\\u00").properties([("acks", "7")]).linger(Duration::ZERO);
    let text = text.compression(Compression::gzip_level(10)).validate().unwrap_err().to_string();
    for part in ["line 1", "acks is \"7\"", "compression (compression.type) is gzip at level 10"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_sibling_knows_every_setting_of_a_producer() {
    let own = SETTINGS.iter().flat_map(|setting| setting.names.properties());
    for name in own.chain(OTHERS.iter().map(|(name, _)| *name)) {
        assert!(siblings::PRODUCERS.knows(name), "{name}");
    }
}

#[test]
fn values_that_may_be_secret_are_not_repeated() {
    for name in [
        "sasl.jaas.config",
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.key",
        "sasl.pasword",
        "pasword",
        "group.di",
    ] {
        let text = fault(&[(name, "hunter2")]);
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
    let text = ProducerBuilder::from_properties_text("sasl.password=hunter2\\u00").validate().unwrap_err().to_string();
    assert!(text.contains("line 1") && !text.contains("hunter2"), "{text}");
}

/// The names that `ProducerConfig.configNames()` of Kafka 4.3 gives, without `ssl.` and `sasl.`, and librdkafka 2.15's
/// for producers that are not callbacks.
#[test]
fn every_property_of_java_and_librdkafka_has_an_answer() {
    let java = "acks batch.size bootstrap.servers buffer.memory client.dns.lookup client.id compression.gzip.level \
        compression.lz4.level compression.type compression.zstd.level config.providers connections.max.idle.ms \
        delivery.timeout.ms enable.idempotence enable.metrics.push interceptor.classes key.serializer linger.ms \
        max.block.ms max.in.flight.requests.per.connection max.request.size metadata.max.age.ms metadata.max.idle.ms \
        metadata.recovery.rebootstrap.trigger.ms metadata.recovery.strategy metric.reporters metrics.num.samples \
        metrics.recording.level metrics.sample.window.ms partitioner.adaptive.partitioning.enable \
        partitioner.availability.timeout.ms partitioner.class partitioner.ignore.keys receive.buffer.bytes \
        reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms \
        security.protocol security.providers send.buffer.bytes socket.connection.setup.timeout.max.ms \
        socket.connection.setup.timeout.ms transaction.timeout.ms transaction.two.phase.commit.enable transactional.id \
        value.serializer ssl.protocol sasl.mechanism";
    let librdkafka = "builtin.features client.id metadata.broker.list bootstrap.servers message.max.bytes \
        message.copy.max.bytes receive.message.max.bytes max.in.flight.requests.per.connection max.in.flight \
        metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms topic.metadata.refresh.interval.ms \
        metadata.max.age.ms topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.fast.cnt \
        topic.metadata.refresh.sparse topic.metadata.propagation.max.ms topic.blacklist debug socket.timeout.ms \
        socket.blocking.max.ms socket.send.buffer.bytes socket.receive.buffer.bytes socket.keepalive.enable \
        socket.nagle.disable socket.max.fails broker.address.ttl broker.address.family \
        socket.connection.setup.timeout.ms connections.max.idle.ms reconnect.backoff.jitter.ms reconnect.backoff.ms \
        reconnect.backoff.max.ms statistics.interval.ms enabled_events log_level log.queue log.thread.name \
        enable.random.seed log.connection.close internal.termination.signal api.version.request \
        api.version.request.timeout.ms api.version.fallback.ms broker.version.fallback allow.auto.create.topics \
        security.protocol ssl.ca.location https.ca.location enable.ssl.certificate.verification sasl.mechanisms \
        enable.sasl.oauthbearer.unsecure.jwt plugin.library.paths client.rack transactional.id transaction.timeout.ms \
        enable.idempotence enable.gapless.guarantee queue.buffering.max.messages queue.buffering.max.kbytes \
        queue.buffering.max.ms linger.ms message.send.max.retries retries retry.backoff.ms retry.backoff.max.ms \
        queue.buffering.backpressure.threshold compression.codec compression.type batch.num.messages batch.size \
        delivery.report.only.error sticky.partitioning.linger.ms client.dns.lookup enable.metrics.push \
        request.required.acks acks request.timeout.ms message.timeout.ms delivery.timeout.ms queuing.strategy \
        produce.offset.report partitioner compression.level";
    for name in java.split_whitespace().chain(librdkafka.split_whitespace()) {
        if setting(SETTINGS, name).is_none() && setting(client::SETTINGS, name).is_none() {
            let unknown = other::<Loading>(name, "\u{1}").is_some_and(|fault| fault.contains("is unknown"));
            assert!(!unknown, "{name}");
        }
    }
}

#[test]
fn no_name_is_in_the_tables_twice() {
    let mut seen = HashMap::new();
    for setting in all() {
        for name in setting.properties() {
            let earlier = seen.insert(name, setting.name);
            assert!(earlier.is_none() || earlier == Some(setting.name), "{name}");
        }
    }
    for (name, _) in OTHERS.iter().chain(client::OTHERS) {
        assert_eq!(seen.insert(name, ""), None, "{name}");
    }
}

#[test]
fn a_property_file_builds_a_configuration() {
    let text =
        "# Producer\nbootstrap.servers = kafka01:9092,\\\n    kafka02:9093\nlinger.ms: 20\ncompression.type gzip\n";
    let (client, config) = ProducerBuilder::from_properties_text(text).validate().unwrap();
    let servers: Vec<String> = client.bootstrap_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["kafka01:9092", "kafka02:9093"]);
    assert_eq!((config.linger, config.compression), (Duration::from_millis(20), Compression::gzip()));
}

#[test]
fn every_setters_documentation_names_its_properties_and_default() {
    let source = concat!(include_str!("../../config.rs"), include_str!("../../../config/client.rs"));
    for setting in all().filter(|setting| setting.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
        let position = ["(", "<"].iter().find_map(|end| source.find(&format!(" pub fn {}{end}", setting.name)));
        let before = &source[..position.unwrap_or_else(|| panic!("no setter {}", setting.name))];
        // The line of the setter itself has only its indentation before this.
        let before = before.trim_end_matches(' ');
        let docs: Vec<&str> = before.lines().rev().take_while(|line| line.trim_start().starts_with("///")).collect();
        let docs = docs.join("\n");
        for name in setting.properties() {
            assert!(docs.contains(&format!("`{name}`")), "{}: {name}", setting.name);
        }
        assert!(docs.contains("Default: ") && docs.contains("Property: "), "{}", setting.name);
        // Milliseconds are written as seconds where they are whole ones.
        let seconds = setting.default.strip_suffix("000").filter(|_| setting.unit == "ms");
        let default = seconds.map_or(setting.default.to_owned(), |seconds| format!("{seconds} s"));
        let zero = setting.default == "0" && docs.contains("zero");
        let named = docs.to_ascii_lowercase().contains(&default) || setting.name == "bootstrap_servers";
        assert!(named || zero, "{}: {default}", setting.name);
    }
}

/// The tables of the manual's page, as they follow from the tables here.
fn tables() -> String {
    let code = |names: &mut dyn Iterator<Item = &'static str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<String>>().join(", ")
    };
    let mut out =
        String::from("| setting | Java | librdkafka | kiel | aiokafka | default |\n|---|---|---|---|---|---|\n");
    for setting in all() {
        let default = match (setting.default, setting.unit) {
            ("", "") => "none".to_owned(),
            ("", unit) => format!("required ({unit})"),
            ("none", _) => "none".to_owned(),
            (default, "") => format!("`{default}`"),
            (default, unit) => format!("{default} {unit}"),
        };
        let cells = [
            code(&mut [setting.name].into_iter()),
            code(&mut setting.java.into_iter()),
            code(&mut setting.librdkafka.iter().copied()),
            code(&mut setting.kiel.into_iter()),
            code(&mut setting.aiokafka.into_iter()),
            default,
        ];
        let _ = writeln!(
            out,
            "|{}|",
            cells.map(|cell| if cell.is_empty() { " ".into() } else { format!(" {cell} ") }).join("|")
        );
    }
    out.push_str("\n## Other properties\n\n| property | what becomes of it |\n|---|---|\n");
    for (name, treatment) in OTHERS.iter().chain(client::OTHERS) {
        let _ = match treatment {
            Treatment::Only(values, reason) => {
                let values: Vec<String> = values
                    .iter()
                    .map(|value| if value.is_empty() { "an empty value".to_owned() } else { format!("`{value}`") })
                    .collect();
                writeln!(out, "| `{name}` | accepted with {} only: {reason} |", values.join(", "))
            }
            Treatment::Ignored(reason) => writeln!(out, "| `{name}` | accepted, makes no difference: {reason} |"),
            Treatment::Refused(reason) => writeln!(out, "| `{name}` | refused: {reason} |"),
        };
    }
    for sibling in Loading::SIBLINGS {
        let names: Vec<String> = sibling.properties.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "| {} | left to {} |", names.join(", "), sibling.owner);
    }
    out
}

/// With KAFKA_BLOCKING_WRITE_MANUAL in the environment it writes the tables instead.
#[test]
fn the_manuals_page_has_every_setting() {
    const BEGIN: &str = "<!-- The tables are checked against the code. -->\n";
    const END: &str = "<!-- End of the tables. -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manual/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let expected = format!("\n{}\n", tables());
    if std::env::var_os("KAFKA_BLOCKING_WRITE_MANUAL").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert!(written == expected, "{path} should have:\n{expected}");
    }
}

//! The settings by their names in Java and librdkafka: one table, from which properties are read and against
//! which the manual's page on configuration is checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Acks, MetadataRecovery, ProducerBuilder};
use super::partitioner::{self, Partitioner};
use crate::record::Compression;

/// A setting of the builder and what others call it.
#[cfg_attr(not(test), expect(dead_code, reason = "some names are for the manual alone, which a test checks"))]
pub(super) struct Setting {
    /// The builder's method, or the call that gives its argument.
    pub(super) name: &'static str,
    pub(super) java: Option<&'static str>,
    /// librdkafka's names, the usual one first. Where the last is Java's too, its meaning here is Java's.
    pub(super) librdkafka: &'static [&'static str],
    pub(super) kiel: Option<&'static str>,
    pub(super) aiokafka: Option<&'static str>,
    /// As a property's value.
    pub(super) default: &'static str,
    pub(super) unit: &'static str,
    /// Sets it from the property of the name and value given. The error is the rest of a sentence that begins with
    /// the property's name.
    apply: fn(&mut Loading<'_>, &str, &str) -> Result<(), String>,
}

/// What becomes of a property that is no setting here.
pub(super) enum Treatment {
    /// These values say what the client does anyway; any other is refused. Why.
    Only(&'static [&'static str], &'static str),
    /// Whatever it says makes no difference. Why.
    Ignored(&'static str),
    /// What takes its place, or why nothing does.
    Refused(&'static str),
}

/// Properties being read. What depends on several of them is settled at the end.
struct Loading<'a> {
    builder: &'a mut ProducerBuilder,
    gzip_level: Option<i32>,
    zstd_level: Option<i32>,
    any_level: Option<i32>,
    partitioner: Option<Arc<dyn Partitioner>>,
    ignore_keys: bool,
}

macro_rules! settings {
    ($($name:literal, $java:expr, [$($librdkafka:literal),*], $kiel:expr, $aiokafka:expr, $default:literal, $unit:literal,
       |$loading:ident, $property:pat_param, $value:ident| $apply:expr;)*) => {
        &[$(Setting {
            name: $name, java: $java, librdkafka: &[$($librdkafka),*], kiel: $kiel, aiokafka: $aiokafka,
            default: $default, unit: $unit,
            apply: |$loading, $property, $value| { $apply; Ok(()) },
        }),*]
    };
}

/// Every setting, in the order of the manual: name, Java's, librdkafka's, kiel's, aiokafka's, default, unit, reader.
#[rustfmt::skip]
pub(super) static SETTINGS: &[Setting] = settings![
    "bootstrap_servers", Some("bootstrap.servers"), ["metadata.broker.list", "bootstrap.servers"],
        Some("brokers"), Some("bootstrap_servers"), "", "host:port list",
        |to, _, value| to.builder.bootstrap = vec![value.to_owned()];
    "client_id", Some("client.id"), ["client.id"], None, Some("client_id"), "kafka-blocking", "",
        |to, _, value| to.builder.config.client_id = value.into();
    "acks", Some("acks"), ["request.required.acks", "acks"], Some("required_acks"), Some("acks"), "all", "",
        |to, _, value| to.builder.config.acks = acks(value)?;
    "idempotence", Some("enable.idempotence"), ["enable.idempotence"], None, Some("enable_idempotence"), "true", "",
        |to, _, value| to.builder.config.idempotence = boolean(value)?;
    "transactional_id", Some("transactional.id"), ["transactional.id"], None, Some("transactional_id"), "", "",
        |to, _, value| to.builder.config.transactional_id = if value.is_empty() { None } else { Some(value.into()) };
    "transaction_timeout", Some("transaction.timeout.ms"), ["transaction.timeout.ms"], None, Some("transaction_timeout_ms"), "60000", "ms",
        |to, _, value| to.builder.config.transaction_timeout = ms(value)?;
    "batch_size", Some("batch.size"), ["batch.size"], None, Some("max_batch_size"), "262144", "bytes",
        |to, name, value| to.builder.config.batch_size = size(name, value)?;
    "batch_records", None, ["batch.num.messages"], Some("batch_size"), None, "none", "records",
        |to, _, value| to.builder.config.batch_records = if value == "none" { None } else { Some(number(value)?) };
    "linger", Some("linger.ms"), ["queue.buffering.max.ms", "linger.ms"], None, Some("linger_ms"), "5", "ms",
        |to, _, value| to.builder.config.linger = fractional_ms(value)?;
    "buffer_memory", Some("buffer.memory"), ["queue.buffering.max.kbytes"], None, None, "33554432", "bytes",
        |to, name, value| to.builder.config.buffer_memory = size(name, value)?;
    "max_request_size", Some("max.request.size"), ["message.max.bytes"], None, Some("max_request_size"), "1048576", "bytes",
        |to, name, value| to.builder.config.max_request_size = size(name, value)?;
    "max_block", Some("max.block.ms"), [], None, None, "60000", "ms",
        |to, _, value| to.builder.config.max_block = ms(value)?;
    "delivery_timeout", Some("delivery.timeout.ms"), ["message.timeout.ms", "delivery.timeout.ms"], None, None, "120000", "ms",
        |to, _, value| to.builder.config.delivery_timeout = ms(value)?;
    "request_timeout", Some("request.timeout.ms"), ["socket.timeout.ms", "request.timeout.ms"],
        Some("ack_timeout"), Some("request_timeout_ms"), "30000", "ms",
        |to, _, value| to.builder.config.request_timeout = ms(value)?;
    "retries", Some("retries"), ["message.send.max.retries", "retries"], None, None, "2147483647", "",
        |to, _, value| to.builder.config.retries = number(value)?;
    "retry_backoff", Some("retry.backoff.ms"), ["retry.backoff.ms"], None, Some("retry_backoff_ms"), "100", "ms",
        |to, _, value| to.builder.config.retry_backoff.initial = ms(value)?;
    "retry_backoff_max", Some("retry.backoff.max.ms"), ["retry.backoff.max.ms"], None, None, "1000", "ms",
        |to, _, value| to.builder.config.retry_backoff.max = ms(value)?;
    "max_in_flight", Some("max.in.flight.requests.per.connection"), ["max.in.flight", "max.in.flight.requests.per.connection"],
        None, None, "5", "requests",
        |to, name, value| to.builder.config.max_in_flight = size(name, value)?;
    "compression", Some("compression.type"), ["compression.codec", "compression.type"],
        Some("compression"), Some("compression_type"), "none", "",
        |to, _, value| to.builder.config.compression = codec(value)?;
    "Compression::gzip_level", Some("compression.gzip.level"), [], None, None, "-1", "",
        |to, name, value| to.level(name, value)?;
    "Compression::zstd_level", Some("compression.zstd.level"), [], None, None, "3", "",
        |to, name, value| to.level(name, value)?;
    "Compression::gzip_level, zstd_level", None, ["compression.level"], None, None, "-1", "",
        |to, name, value| to.level(name, value)?;
    "partitioner", Some("partitioner.class"), ["partitioner"], Some("partitioner"), Some("partitioner"), "java", "",
        |to, _, value| to.partitioner = Some(named_partitioner(value)?);
    "partitioner(java_ignoring_keys())", Some("partitioner.ignore.keys"), [], None, None, "false", "",
        |to, _, value| to.ignore_keys = boolean(value)?;
    "partitioner_adaptive", Some("partitioner.adaptive.partitioning.enable"), [], None, None, "true", "",
        |to, _, value| to.builder.config.partitioner_adaptive = boolean(value)?;
    "partitioner_availability_timeout", Some("partitioner.availability.timeout.ms"), [], None, None, "0", "ms",
        |to, _, value| to.builder.config.partitioner_availability_timeout = ms(value)?;
    "metadata_max_age", Some("metadata.max.age.ms"), ["topic.metadata.refresh.interval.ms"],
        None, Some("metadata_max_age_ms"), "300000", "ms",
        |to, _, value| to.builder.config.metadata_max_age = ms(value)?;
    "metadata_max_idle", Some("metadata.max.idle.ms"), [], None, None, "300000", "ms",
        |to, _, value| to.builder.config.metadata_max_idle = ms(value)?;
    "metadata_recovery", Some("metadata.recovery.strategy"), ["metadata.recovery.strategy"], None, None, "rebootstrap", "",
        |to, _, value| to.builder.config.metadata_recovery = recovery(value)?;
    "rebootstrap_trigger", Some("metadata.recovery.rebootstrap.trigger.ms"), ["metadata.recovery.rebootstrap.trigger.ms"],
        None, None, "300000", "ms",
        |to, _, value| to.builder.config.rebootstrap_trigger = ms(value)?;
    "reconnect_backoff", Some("reconnect.backoff.ms"), ["reconnect.backoff.ms"], None, None, "50", "ms",
        |to, _, value| to.builder.config.reconnect_backoff.initial = ms(value)?;
    "reconnect_backoff_max", Some("reconnect.backoff.max.ms"), ["reconnect.backoff.max.ms"], None, None, "1000", "ms",
        |to, _, value| to.builder.config.reconnect_backoff.max = ms(value)?;
    "connection_setup_timeout", Some("socket.connection.setup.timeout.ms"), ["socket.connection.setup.timeout.ms"],
        None, None, "10000", "ms",
        |to, _, value| to.builder.config.connection_setup_timeout.initial = ms(value)?;
    "connection_setup_timeout_max", Some("socket.connection.setup.timeout.max.ms"), [], None, None, "30000", "ms",
        |to, _, value| to.builder.config.connection_setup_timeout.max = ms(value)?;
    "connections_max_idle", Some("connections.max.idle.ms"), ["connections.max.idle.ms"],
        None, Some("connections_max_idle_ms"), "540000", "ms",
        |to, _, value| to.builder.config.connections_max_idle = idle(value)?;
    "send_buffer_bytes", Some("send.buffer.bytes"), ["socket.send.buffer.bytes"], None, None, "131072", "bytes",
        |to, name, value| to.builder.config.send_buffer_bytes = socket_buffer(name, value)?;
    "receive_buffer_bytes", Some("receive.buffer.bytes"), ["socket.receive.buffer.bytes"], None, None, "32768", "bytes",
        |to, name, value| to.builder.config.receive_buffer_bytes = socket_buffer(name, value)?;
    "allow_auto_topic_creation", None, ["allow.auto.create.topics"], None, None, "true", "",
        |to, _, value| to.builder.config.allow_auto_topic_creation = boolean(value)?;
    "max_response_bytes", None, ["receive.message.max.bytes"], None, None, "100000000", "bytes",
        |to, name, value| to.builder.config.max_response_bytes = size(name, value)?;
];

const SERIALIZERS: &[&str] = &[
    "org.apache.kafka.common.serialization.StringSerializer",
    "org.apache.kafka.common.serialization.ByteArraySerializer",
    "org.apache.kafka.common.serialization.ByteBufferSerializer",
    "org.apache.kafka.common.serialization.BytesSerializer",
];
const SERIALIZER: &str =
    "a record takes strings and bytes as they are; any other type is for a serializer in the program";
const NO_METRICS_PUSH: &str = "this client does not push its metrics to the cluster";
const JVM: &str = "it names classes of the JVM";
const METRICS: &str = "it is about Java's metrics";
const LOGGING: &str = "log messages go to the log crate, where the program chooses what is shown";
const API_VERSIONS: &str = "versions are always negotiated; brokers from 0.11 on can";
const OBSOLETE: &str = "librdkafka itself no longer uses it";
const CONSUMER: &str = "it is for consumers";
const CALLBACK: &str = "deliveries are reported by the handle that send returns";
const REFRESH: &str = "metadata is asked for at once when it is missing or stale, and again after retry.backoff.ms";

/// Properties that are no settings here. A name that ends in `*` stands for all that begin so.
#[rustfmt::skip]
pub(super) static OTHERS: &[(&str, Treatment)] = &[
    // What older versions called settings that there still are.
    ("timeout.ms", Treatment::Refused("replaced by request.timeout.ms, which is also the broker's time for acks")),
    ("metadata.fetch.timeout.ms", Treatment::Refused("replaced by max.block.ms")),
    ("block.on.buffer.full", Treatment::Refused("send blocks for at most max.block.ms; try_send never blocks")),
    ("queue.enqueue.timeout.ms", Treatment::Refused("replaced by max.block.ms")),
    ("producer.type", Treatment::Refused("send never waits for the broker, and wait() on what it returns does")),
    // Java.
    ("key.serializer", Treatment::Only(SERIALIZERS, SERIALIZER)),
    ("value.serializer", Treatment::Only(SERIALIZERS, SERIALIZER)),
    ("security.protocol", Treatment::Only(&["PLAINTEXT"], "this version speaks plain TCP only, neither TLS nor SASL")),
    ("client.dns.lookup", Treatment::Only(&["use_all_dns_ips"], "all addresses of a name are tried")),
    ("compression.lz4.level", Treatment::Only(&["9"], "lz4 has one mode here, the fast one, which 9 means in Java")),
    ("enable.metrics.push", Treatment::Only(&["false"], NO_METRICS_PUSH)),
    ("transaction.two.phase.commit.enable", Treatment::Only(&["false"], "two-phase commits are not offered (KIP-939)")),
    ("interceptor.classes", Treatment::Only(&[""], JVM)),
    ("metric.reporters", Treatment::Only(&[""], JVM)),
    ("security.providers", Treatment::Only(&[""], JVM)),
    ("config.providers", Treatment::Only(&[""], "values are taken as they are; fetch secrets in the program")),
    ("auto.include.jmx.reporter", Treatment::Refused(METRICS)),
    ("metrics.num.samples", Treatment::Refused(METRICS)),
    ("metrics.recording.level", Treatment::Refused(METRICS)),
    ("metrics.sample.window.ms", Treatment::Refused(METRICS)),
    ("schema.registry.url", Treatment::Refused("it is for serializers of Avro: see SchemaRegistryBuilder::from_properties, in the feature schema-registry")),
    ("ssl.*", Treatment::Refused("TLS is not offered by this version")),
    ("sasl.*", Treatment::Refused("SASL is not offered by this version")),
    // librdkafka.
    ("https.*", Treatment::Refused("TLS is not offered by this version")),
    ("enable.ssl.certificate.verification", Treatment::Refused("TLS is not offered by this version")),
    ("enable.sasl.oauthbearer.unsecure.jwt", Treatment::Refused("SASL is not offered by this version")),
    ("queue.buffering.max.messages", Treatment::Refused("buffered records are bounded in bytes, by buffer.memory")),
    ("queue.buffering.backpressure.threshold", Treatment::Refused("batches grow while max.in.flight.requests.per.connection is reached")),
    ("sticky.partitioning.linger.ms", Treatment::Refused("the sticky partition changes with batch.size, not with time (KIP-794)")),
    ("enable.gapless.guarantee", Treatment::Only(&["false"], "a batch that fails does not stop the producer")),
    ("queuing.strategy", Treatment::Only(&["fifo"], "records are sent in the order in which they came")),
    ("delivery.report.only.error", Treatment::Refused(CALLBACK)),
    ("produce.offset.report", Treatment::Ignored(OBSOLETE)),
    ("statistics.interval.ms", Treatment::Only(&["0"], "statistics are asked for by the program, not emitted")),
    ("enabled_events", Treatment::Refused("there are no events to poll for")),
    ("debug", Treatment::Refused(LOGGING)),
    ("log_level", Treatment::Refused(LOGGING)),
    ("log.*", Treatment::Refused(LOGGING)),
    ("topic.metadata.refresh.fast.interval.ms", Treatment::Refused(REFRESH)),
    ("topic.metadata.refresh.fast.cnt", Treatment::Ignored(OBSOLETE)),
    ("topic.metadata.refresh.sparse", Treatment::Only(&["true"], "only topics in use are asked for")),
    ("topic.metadata.propagation.max.ms", Treatment::Refused("an unknown topic is waited for as long as max.block.ms")),
    ("topic.blacklist", Treatment::Refused("only topics in use are asked for")),
    ("message.copy.max.bytes", Treatment::Ignored("a record is copied once, into its batch")),
    ("socket.keepalive.enable", Treatment::Only(&["true"], "keep-alive is always on")),
    ("socket.nagle.disable", Treatment::Only(&["true"], "requests are never held back")),
    ("socket.max.fails", Treatment::Only(&["1"], "a connection is closed after a request that was not answered in time")),
    ("socket.blocking.max.ms", Treatment::Ignored(OBSOLETE)),
    ("reconnect.backoff.jitter.ms", Treatment::Ignored(OBSOLETE)),
    ("broker.address.ttl", Treatment::Ignored("names are resolved each time a connection is made")),
    ("broker.address.family", Treatment::Only(&["any"], "all addresses of a name are tried")),
    ("api.version.request", Treatment::Only(&["true"], API_VERSIONS)),
    ("api.version.request.timeout.ms", Treatment::Refused("negotiation is part of socket.connection.setup.timeout.ms")),
    ("api.version.fallback.ms", Treatment::Only(&["0"], API_VERSIONS)),
    ("broker.version.fallback", Treatment::Refused(API_VERSIONS)),
    ("enable.random.seed", Treatment::Ignored("the generator is always seeded at random")),
    ("internal.termination.signal", Treatment::Ignored("close ends every thread without a signal")),
    ("builtin.features", Treatment::Refused("there is nothing to ask for")),
    ("plugin.library.paths", Treatment::Refused("no libraries are loaded at run time")),
    ("client.rack", Treatment::Refused("a producer has no use for its rack")),
    // Consumers.
    ("group.*", Treatment::Refused(CONSUMER)),
    ("auto.offset.reset", Treatment::Refused(CONSUMER)),
    ("auto.commit.*", Treatment::Refused(CONSUMER)),
    ("enable.auto.commit", Treatment::Refused(CONSUMER)),
    ("enable.auto.offset.store", Treatment::Refused(CONSUMER)),
    ("enable.partition.eof", Treatment::Refused(CONSUMER)),
    ("key.deserializer", Treatment::Refused(CONSUMER)),
    ("value.deserializer", Treatment::Refused(CONSUMER)),
    ("fetch.*", Treatment::Refused(CONSUMER)),
    ("max.poll.*", Treatment::Refused(CONSUMER)),
    ("max.partition.fetch.bytes", Treatment::Refused(CONSUMER)),
    ("queued.*", Treatment::Refused(CONSUMER)),
    ("session.timeout.ms", Treatment::Refused(CONSUMER)),
    ("heartbeat.interval.ms", Treatment::Refused(CONSUMER)),
    ("coordinator.query.interval.ms", Treatment::Refused(CONSUMER)),
    ("partition.assignment.strategy", Treatment::Refused(CONSUMER)),
    ("isolation.level", Treatment::Refused(CONSUMER)),
    ("check.crcs", Treatment::Refused(CONSUMER)),
    ("offset.store.*", Treatment::Refused(CONSUMER)),
    ("consume.callback.max.messages", Treatment::Refused(CONSUMER)),
];

/// A setting's name with Java's beside it (or librdkafka's, where only that exists), for the text of a fault.
pub(super) fn label(name: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    match setting.and_then(|setting| setting.java.or(setting.librdkafka.first().copied())) {
        Some(property) => format!("{name} ({property})"),
        None => name.to_owned(),
    }
}

/// Sets what the properties say, and keeps what is wrong with them as faults.
pub(super) fn load<N: AsRef<str>, V: AsRef<str>>(
    builder: &mut ProducerBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) {
    let mut faults = Vec::new();
    // Which property said what of each setting, to notice two that contradict each other.
    let mut said: BTreeMap<&'static str, (String, String)> = BTreeMap::new();
    let mut to =
        Loading { builder, gzip_level: None, zstd_level: None, any_level: None, partitioner: None, ignore_keys: false };
    for (name, value) in properties {
        let (name, value) = (name.as_ref().trim(), value.as_ref().trim());
        let Some(setting) = setting(name) else {
            faults.extend(other(name, value));
            continue;
        };
        if let Err(fault) = (setting.apply)(&mut to, name, value) {
            faults.push(format!("{name} {fault}"));
        }
        match said.get(setting.name) {
            Some((earlier, different)) if different != value => {
                let both = match earlier == name {
                    true => format!("{name} is there twice"),
                    false => format!("{earlier} and {name} are one setting, {}, and are there", setting.name),
                };
                faults.push(format!("{both} with different values: {} and {}", shown(different), shown(value)));
            }
            Some(_) => {}
            None => {
                said.insert(setting.name, (name.to_owned(), value.to_owned()));
            }
        }
    }
    to.settle(&mut faults);
    builder.faults.append(&mut faults);
}

fn setting(property: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.java == Some(property) || setting.librdkafka.contains(&property))
}

/// The fault of a property that is no setting, if it is one. The value of an unknown or refused property is not
/// repeated: it may be a password.
fn other(name: &str, value: &str) -> Option<String> {
    let known = OTHERS.iter().find(|(known, _)| match known.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *known,
    });
    match known {
        Some((_, Treatment::Only(values, _))) if values.iter().any(|only| only.eq_ignore_ascii_case(value)) => None,
        Some((_, Treatment::Only(values, reason))) => {
            let values: Vec<&str> =
                values.iter().map(|value| if value.is_empty() { "an empty value" } else { value }).collect();
            Some(format!("{name} is {}, only {} is possible: {reason}", shown(value), values.join(", ")))
        }
        Some((_, Treatment::Ignored(reason))) => {
            log::debug!("property {name} makes no difference: {reason}");
            None
        }
        Some((_, Treatment::Refused(reason))) => Some(format!("{name} is not supported: {reason}")),
        None => Some(match nearest(name) {
            Some(nearest) => format!("{} is unknown; is it {nearest}?", shown(name)),
            None => format!("{} is unknown", shown(name)),
        }),
    }
}

/// A name or value for the text of a fault: quoted, and not longer than a line.
fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The known name that a mistyped one is nearest to, if it is near.
fn nearest(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 80;
    if name.len() > LONGEST {
        return None;
    }
    let java_spelling = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let settings = SETTINGS.iter().flat_map(|setting| setting.java.iter().chain(setting.librdkafka));
    let others = OTHERS.iter().map(|(name, _)| name).filter(|name| !name.ends_with('*'));
    let near = settings.chain(others).map(|known| (distance(&java_spelling, known), *known)).min();
    near.filter(|(distance, known)| *distance <= 1 + known.len() / 6).map(|(_, known)| known)
}

/// How many letters must be added, removed or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(from != to)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

impl Loading<'_> {
    fn level(&mut self, name: &str, value: &str) -> Result<(), String> {
        let level = value.parse().map_err(|_| format!("is {}, which is not a whole number", shown(value)))?;
        let checked = match name {
            "compression.gzip.level" => {
                self.gzip_level = Some(level);
                Compression::gzip_level(level)
            }
            "compression.zstd.level" => {
                self.zstd_level = Some(level);
                Compression::zstd_level(level)
            }
            _ => {
                self.any_level = Some(level);
                return Ok(());
            }
        };
        checked.map(|_| ()).map_err(|error| format!("is wrong: {error}"))
    }

    /// Joins a codec with its level, and a partitioner with whether it is to ignore keys. A level for another codec
    /// than the chosen one has no effect, as in Java: files often hold one for each.
    fn settle(self, faults: &mut Vec<String>) {
        let config = &mut self.builder.config;
        let codec = config.compression;
        let level = match codec {
            Compression::Gzip(_) => self.gzip_level,
            Compression::Zstd(_) => self.zstd_level,
            _ => None,
        };
        // librdkafka's -1 is each codec's own default.
        let any_level = self.any_level.filter(|level| *level != -1);
        if level.is_some() && any_level.is_some() && level != any_level {
            faults.push(format!("compression.level and compression.{codec}.level have different values"));
        }
        if let Some(level) = level.or(any_level) {
            let chosen = match codec {
                Compression::Gzip(_) => Compression::gzip_level(level),
                Compression::Zstd(_) => Compression::zstd_level(level),
                other => {
                    if level != 0 {
                        faults.push(format!("compression.level is {level}, but {other} has no levels here"));
                    }
                    Ok(other)
                }
            };
            match chosen {
                Ok(chosen) => config.compression = chosen,
                // The codec's own property has reported it.
                Err(_) if any_level.is_none() => {}
                Err(error) => faults.push(format!("compression.level is wrong: {error}")),
            }
        }
        match (self.partitioner, self.ignore_keys) {
            (Some(_), true) => faults.push(
                "partitioner.ignore.keys is true, but it is for the default partitioner, and another is chosen"
                    .to_owned(),
            ),
            (Some(partitioner), false) => config.partitioner = partitioner,
            (None, true) => config.partitioner = Arc::new(partitioner::java_ignoring_keys()),
            (None, false) => {}
        }
    }
}

fn acks(value: &str) -> Result<Acks, String> {
    match value {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        _ => Err(format!("is {}, it must be all (or -1), 1 or 0", shown(value))),
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match () {
        () if value.eq_ignore_ascii_case("true") => Ok(true),
        () if value.eq_ignore_ascii_case("false") => Ok(false),
        () => Err(format!("is {}, it must be true or false", shown(value))),
    }
}

fn number(value: &str) -> Result<u32, String> {
    match value.parse::<u32>() {
        Ok(number) if number <= i32::MAX.cast_unsigned() => Ok(number),
        _ => Err(format!("is {}, it must be a whole number from 0 to {}", shown(value), i32::MAX)),
    }
}

fn size(name: &str, value: &str) -> Result<usize, String> {
    let factor = if name.ends_with(".kbytes") { 1024 } else { 1 };
    let size = value.parse::<usize>().ok().and_then(|size| size.checked_mul(factor));
    size.ok_or_else(|| format!("is {}, it must be a whole number, not negative", shown(value)))
}

fn ms(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(_) => Err(format!("is {}, it must be a whole number of milliseconds, not negative", shown(value))),
    }
}

/// librdkafka takes `linger.ms=0.5`.
fn fractional_ms(value: &str) -> Result<Duration, String> {
    let exact = ms(value);
    let digits_and_point = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    exact.or_else(|fault| match value.parse::<f64>() {
        Ok(ms) if digits_and_point => Duration::try_from_secs_f64(ms / 1000.0).map_err(|_| fault),
        _ => Err(fault),
    })
}

fn idle(value: &str) -> Result<Option<Duration>, String> {
    match value {
        "-1" => Ok(None),
        "0" => Err("is 0, which is never in librdkafka and at once in Java: write -1 for never".to_owned()),
        _ => ms(value).map(Some),
    }
}

fn socket_buffer(name: &str, value: &str) -> Result<Option<usize>, String> {
    match value {
        "-1" => Ok(None),
        "0" if name.starts_with("socket.") => Ok(None),
        _ => size(name, value).map(Some),
    }
}

fn codec(value: &str) -> Result<Compression, String> {
    let codec = value.parse::<Compression>();
    codec.map_err(|_| format!("is {}, it must be none, gzip, snappy, lz4 or zstd", shown(value)))
}

fn recovery(value: &str) -> Result<MetadataRecovery, String> {
    match () {
        () if value.eq_ignore_ascii_case("rebootstrap") => Ok(MetadataRecovery::Rebootstrap),
        () if value.eq_ignore_ascii_case("none") => Ok(MetadataRecovery::None),
        () => Err(format!("is {}, it must be rebootstrap or none", shown(value))),
    }
}

fn named_partitioner(value: &str) -> Result<Arc<dyn Partitioner>, String> {
    match partitioner::by_name(value) {
        Some(partitioner) => Ok(Arc::from(partitioner)),
        None => Err(format!(
            "is {}, which is none of the partitioners here; one of your own is set with ProducerBuilder::partitioner",
            shown(value)
        )),
    }
}

/// The names and values in the text of a Java `.properties` file, in order. The faults name lines, not what they
/// hold, which may be a password.
pub(super) fn parse_text(text: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let mut properties = Vec::new();
    let mut faults = Vec::new();
    for (number, line) in logical_lines(text) {
        let (name, value) = split_line(&line);
        match (unescape(name), unescape(value)) {
            (Some(name), Some(value)) => properties.push((name, value)),
            _ => faults.push(format!(
                "properties, line {number}: an escape \\u is not followed by the four digits of a character"
            )),
        }
    }
    if faults.is_empty() { Ok(properties) } else { Err(faults) }
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];

/// The lines that hold a property, continuations joined, with the number of the first line of each. `\r`, `\n` and
/// `\r\n` end a line; a backslash before the end continues it unless it is itself escaped.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        let line = line.trim_start_matches(BLANK);
        if open.is_none() && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
        match line.strip_suffix('\\') {
            Some(continued) if backslashes % 2 == 1 => {
                joined.push_str(continued);
                // A line that is only continued does not begin a property yet; the next may be a comment.
                open = (!joined.is_empty()).then_some((number, joined));
            }
            _ => {
                joined.push_str(line);
                lines.push((number, joined));
            }
        }
    }
    // The last line may end with a backslash.
    lines.extend(open);
    lines
}

/// A name ends at the first `=`, `:` or blank that no backslash escapes; blanks around one `=` or `:` belong to
/// neither side.
fn split_line(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (BLANK.contains(c) || matches!(c, '=' | ':'));
        escaped = !escaped && *c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.map_or(line.len(), |(index, _)| index));
    let rest = rest.trim_start_matches(BLANK);
    (name, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANK))
}

/// Without the escapes: `\t`, `\n`, `\r`, `\f`, `\uXXXX` in UTF-16, and any other character for itself. `None` where
/// a `\u` is malformed or is half of a character.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => {
                let first = utf16_unit(&mut chars)?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) {
                    if (chars.next()?, chars.next()?) != ('\\', 'u') {
                        return None;
                    }
                    units.push(utf16_unit(&mut chars)?);
                }
                plain.push_str(&String::from_utf16(&units).ok()?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Some(plain)
}

fn utf16_unit(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit * 16 + chars.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

#[cfg(test)]
mod tests;

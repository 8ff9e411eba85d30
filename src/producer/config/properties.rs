//! The producer's own settings by their names in Java and librdkafka: a table from which properties are read and
//! against which the manual's page on configuration is checked.

use std::sync::Arc;
use std::time::Duration;

use super::{Acks, ProducerBuilder};
use crate::config::client::{self, ClientBuilder};
use crate::config::properties::{
    self, Others, PropertyTarget, Setting, Treatment, boolean, ms, number, settings, shown, size,
};
use crate::config::siblings::{self, Sibling};
use crate::producer::partitioner::{self, Partitioner};
use crate::record::Compression;

/// Properties while they are read. A setting that depends on several properties is set at the end.
struct Loading {
    builder: ProducerBuilder,
    gzip_level: Option<i32>,
    zstd_level: Option<i32>,
    any_level: Option<i32>,
    partitioner: Option<Arc<dyn Partitioner>>,
    ignore_keys: bool,
}

impl PropertyTarget for Loading {
    const SETTINGS: &'static [Setting<Self>] = SETTINGS;
    const OTHERS: &'static Others = OTHERS;
    const SIBLINGS: &'static [&'static Sibling] =
        &[&siblings::CONSUMERS, &siblings::ADMINS, &siblings::SCHEMA_REGISTRY];

    fn client(&mut self) -> &mut ClientBuilder {
        &mut self.builder.client
    }
}

/// The settings that a producer has besides those of every client, in the order of the manual.
#[rustfmt::skip]
static SETTINGS: &[Setting<Loading>] = settings![
    "acks", Some("acks"), ["request.required.acks", "acks"], Some("required_acks"), Some("acks"), "all", "",
        |to, _, value| to.builder.config.acks = acks(value)?;
    "idempotence", Some("enable.idempotence"), ["enable.idempotence"], None, Some("enable_idempotence"), "true", "",
        |to, _, value| to.builder.config.set_idempotence(boolean(value)?);
    "transactional_id", Some("transactional.id"), ["transactional.id"], None, Some("transactional_id"), "", "",
        |to, _, value| to.builder.config.transactional_id = if value.is_empty() { None } else { Some(value.into()) };
    "transaction_timeout", Some("transaction.timeout.ms"), ["transaction.timeout.ms"], None, Some("transaction_timeout_ms"), "60000", "ms",
        |to, _, value| to.builder.config.transaction_timeout = ms(value)?;
    "transaction_max_block", Some("transaction.max.block.ms"), [], None, None, "max_block", "",
        |to, _, value| to.builder.config.transaction_max_block = if value == "max_block" { None } else { Some(ms(value)?) };
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
    "retries", Some("retries"), ["message.send.max.retries", "retries"], None, None, "2147483647", "",
        |to, _, value| to.builder.config.retries = number(value)?;
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
    "allow_auto_topic_creation", None, ["allow.auto.create.topics"], None, None, "true", "",
        |to, _, value| to.builder.config.allow_auto_topic_creation = boolean(value)?;
];

const SERIALIZERS: &[&str] = &[
    "org.apache.kafka.common.serialization.StringSerializer",
    "org.apache.kafka.common.serialization.ByteArraySerializer",
    "org.apache.kafka.common.serialization.ByteBufferSerializer",
    "org.apache.kafka.common.serialization.BytesSerializer",
];
const SERIALIZER: &str =
    "a record takes strings and bytes as they are; any other type is for a serializer in the program";
const CALLBACK: &str =
    "deliveries are reported by the handle that send returns, failures alone by ProducerBuilder::on_failure";

/// Known properties that are not settings of this producer.
#[rustfmt::skip]
static OTHERS: &Others = &[
    // Older names of present settings.
    ("timeout.ms", Treatment::Refused("replaced by request.timeout.ms, which is also the broker's time for acks")),
    ("metadata.fetch.timeout.ms", Treatment::Refused("replaced by max.block.ms")),
    ("block.on.buffer.full", Treatment::Refused("send blocks for at most max.block.ms; try_send never blocks")),
    ("queue.enqueue.timeout.ms", Treatment::Refused("replaced by max.block.ms")),
    ("producer.type", Treatment::Refused("send never waits for the broker, and wait() on what it returns does")),
    // Java.
    ("key.serializer", Treatment::Only(SERIALIZERS, SERIALIZER)),
    ("value.serializer", Treatment::Only(SERIALIZERS, SERIALIZER)),
    ("compression.lz4.level", Treatment::Only(&["9"], "lz4 has one mode here, the fast one, which 9 means in Java")),
    ("transaction.two.phase.commit.enable", Treatment::Only(&["false"], "two-phase commits are not offered (KIP-939)")),
    // librdkafka.
    ("queue.buffering.max.messages", Treatment::Refused("buffered records are bounded in bytes, by buffer.memory")),
    ("queue.buffering.backpressure.threshold", Treatment::Refused("batches grow while max.in.flight.requests.per.connection is reached")),
    ("sticky.partitioning.linger.ms", Treatment::Refused("the sticky partition changes with batch.size, not with time (KIP-794)")),
    ("enable.gapless.guarantee", Treatment::Only(&["false"], "a batch that fails does not stop the producer")),
    ("queuing.strategy", Treatment::Only(&["fifo"], "records are sent in the order in which they came")),
    ("delivery.report.only.error", Treatment::Refused(CALLBACK)),
    ("produce.offset.report", Treatment::Ignored("librdkafka itself no longer uses it")),
    ("topic.metadata.propagation.max.ms", Treatment::Refused("an unknown topic is waited for as long as max.block.ms")),
    ("message.copy.max.bytes", Treatment::Ignored("a record is copied once, into its batch")),
];

/// A setting's name with its property beside it, for the text of a fault.
pub(super) fn label(name: &str) -> String {
    let label = properties::label(SETTINGS, name).or_else(|| properties::label(client::SETTINGS, name));
    label.unwrap_or_else(|| name.to_owned())
}

/// Sets the properties in the builder, over earlier values, and keeps their faults.
pub(super) fn load<N: AsRef<str>, V: AsRef<str>>(
    builder: ProducerBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) -> ProducerBuilder {
    let mut to =
        Loading { builder, gzip_level: None, zstd_level: None, any_level: None, partitioner: None, ignore_keys: false };
    let mut faults = properties::load(&mut to, properties);
    let mut builder = to.finish(&mut faults);
    builder.faults.append(&mut faults);
    builder
}

impl Loading {
    fn level(&mut self, name: &str, value: &str) -> Result<(), String> {
        let level = value.parse().map_err(|_| format!("is {}, which is not a whole number", shown(value)))?;
        let chosen = match name {
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
        chosen.fault().map_or(Ok(()), Err)
    }

    /// Combines a codec with its level, and a partitioner with whether it ignores keys. A level for a codec that is not
    /// chosen has no effect, as in Java: files often have one for each codec.
    fn finish(mut self, faults: &mut Vec<String>) -> ProducerBuilder {
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
            match codec {
                Compression::Gzip(_) => config.compression = Compression::gzip_level(level),
                Compression::Zstd(_) => config.compression = Compression::zstd_level(level),
                other if level != 0 => {
                    faults.push(format!("compression.level is {level}, but {other} has no levels here"));
                }
                _ => {}
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
        self.builder
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

/// librdkafka takes `linger.ms=0.5`.
fn fractional_ms(value: &str) -> Result<Duration, String> {
    let exact = value.parse().map(Duration::from_millis).ok();
    let digits_and_point = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fraction = || value.parse::<f64>().ok().and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    exact.or_else(|| digits_and_point.then(fraction).flatten()).ok_or_else(|| {
        let shown = shown(value);
        format!("is {shown}, it must be a number of milliseconds, not negative and without a unit, such as 5 or 0.5")
    })
}

fn codec(value: &str) -> Result<Compression, String> {
    let codec = value.parse::<Compression>();
    codec.map_err(|_| format!("is {}, it must be none, gzip, snappy, lz4 or zstd", shown(value)))
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

#[cfg(test)]
mod tests;

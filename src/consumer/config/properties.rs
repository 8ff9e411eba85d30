//! The consumer's own settings by their names in Java and librdkafka: a table from which properties are read and against
//! which the manual's page is checked.

use super::ConsumerBuilder;
use crate::config::client::ClientBuilder;
use crate::config::properties::{self, Others, PropertyTarget, Setting, Treatment, ms, settings, shown, size};
use crate::config::siblings::{self, Sibling};
use crate::consumer::start::OutOfRange;
use crate::topic::IsolationLevel;

impl PropertyTarget for ConsumerBuilder {
    const SETTINGS: &'static [Setting<Self>] = SETTINGS;
    const OTHERS: &'static Others = OTHERS;
    const SIBLINGS: &'static [&'static Sibling] = &[&siblings::PRODUCERS, &siblings::SCHEMA_REGISTRY];

    fn client(&mut self) -> &mut ClientBuilder {
        &mut self.client
    }
}

/// The settings that a consumer has besides those of every client, in the order of the manual.
#[rustfmt::skip]
static SETTINGS: &[Setting<ConsumerBuilder>] = settings![
    "isolation_level", Some("isolation.level"), ["isolation.level"], None, Some("isolation_level"), "read_uncommitted", "",
        |to, _, value| to.config.isolation_level = isolation(value)?;
    "out_of_range", Some("auto.offset.reset"), ["auto.offset.reset"], None, Some("auto_offset_reset"), "none", "",
        |to, _, value| to.config.out_of_range = reset(value)?;
    "buffer_memory", None, ["queued.max.messages.kbytes"], None, None, "67108864", "bytes",
        |to, name, value| to.config.buffer_memory = size(name, value)?;
    "fetch_min_bytes", Some("fetch.min.bytes"), ["fetch.min.bytes"], Some("min_bytes"), Some("fetch_min_bytes"), "1", "bytes",
        |to, name, value| to.config.fetch_min_bytes = size(name, value)?;
    "fetch_max_bytes", Some("fetch.max.bytes"), ["fetch.max.bytes"], Some("max_bytes"), Some("fetch_max_bytes"), "52428800", "bytes",
        |to, name, value| to.config.fetch_max_bytes = size(name, value)?;
    "fetch_max_wait", Some("fetch.max.wait.ms"), ["fetch.wait.max.ms"], Some("max_wait_time"), Some("fetch_max_wait_ms"), "500", "ms",
        |to, _, value| to.config.fetch_max_wait = ms(value)?;
    "max_partition_fetch_bytes", Some("max.partition.fetch.bytes"), ["fetch.message.max.bytes", "max.partition.fetch.bytes"],
        None, Some("max_partition_fetch_bytes"), "1048576", "bytes",
        |to, name, value| to.config.max_partition_fetch_bytes = size(name, value)?;
    "max_block", Some("default.api.timeout.ms"), [], None, None, "60000", "ms",
        |to, _, value| to.config.max_block = ms(value)?;
];

const DESERIALIZERS: &[&str] = &[
    "org.apache.kafka.common.serialization.StringDeserializer",
    "org.apache.kafka.common.serialization.ByteArrayDeserializer",
    "org.apache.kafka.common.serialization.ByteBufferDeserializer",
    "org.apache.kafka.common.serialization.BytesDeserializer",
];
const DESERIALIZER: &str = "a record gives its bytes as they are; what they mean is for the program";
const NO_GROUP: &str = "this consumer has no group: the program assigns its partitions";
const NO_COMMITS: &str = "no offsets are committed";

/// Properties that are no settings of a consumer.
#[rustfmt::skip]
static OTHERS: &Others = &[
    // Java.
    ("key.deserializer", Treatment::Only(DESERIALIZERS, DESERIALIZER)),
    ("value.deserializer", Treatment::Only(DESERIALIZERS, DESERIALIZER)),
    ("group.id", Treatment::Refused(NO_GROUP)),
    ("group.instance.id", Treatment::Refused(NO_GROUP)),
    ("group.protocol", Treatment::Refused(NO_GROUP)),
    ("group.remote.assignor", Treatment::Refused(NO_GROUP)),
    ("partition.assignment.strategy", Treatment::Refused(NO_GROUP)),
    ("session.timeout.ms", Treatment::Refused(NO_GROUP)),
    ("heartbeat.interval.ms", Treatment::Refused(NO_GROUP)),
    ("max.poll.interval.ms", Treatment::Refused(NO_GROUP)),
    ("max.poll.records", Treatment::Refused("a poll is bounded in bytes, by max_poll_bytes, and copies no record")),
    ("enable.auto.commit", Treatment::Only(&["false"], NO_COMMITS)),
    ("auto.commit.interval.ms", Treatment::Ignored(NO_COMMITS)),
    ("check.crcs", Treatment::Only(&["true"], "every batch's CRC is checked")),
    ("client.rack", Treatment::Only(&[""], "records are read from the partitions' leaders")),
    ("exclude.internal.topics", Treatment::Ignored("topics are named, and not found by a pattern")),
    ("allow.auto.create.topics", Treatment::Only(&["false"], "a consumer creates no topics")),
    ("share.acknowledgement.mode", Treatment::Refused("share groups are not offered")),
    // librdkafka.
    ("group.protocol.type", Treatment::Refused(NO_GROUP)),
    ("coordinator.query.interval.ms", Treatment::Refused(NO_GROUP)),
    ("auto.commit.enable", Treatment::Only(&["false"], NO_COMMITS)),
    ("enable.auto.offset.store", Treatment::Only(&["false"], NO_COMMITS)),
    ("offset.store.method", Treatment::Refused(NO_COMMITS)),
    ("offset.store.path", Treatment::Refused(NO_COMMITS)),
    ("offset.store.sync.interval.ms", Treatment::Refused(NO_COMMITS)),
    ("enable.partition.eof", Treatment::Only(&["false"], "the end of a partition is no event; ConsumerHandle::lag tells it")),
    ("fetch.error.backoff.ms", Treatment::Refused("replaced by retry.backoff.ms")),
    ("fetch.queue.backoff.ms", Treatment::Ignored("fetching goes on as soon as there is room")),
    ("queued.min.messages", Treatment::Refused("what is read ahead is bounded in bytes, by buffer_memory")),
    ("consume.callback.max.messages", Treatment::Refused("there are no callbacks")),
];

/// Sets what the properties say over what the builder has, and keeps what is wrong with them as faults.
pub(super) fn load<N: AsRef<str>, V: AsRef<str>>(
    mut builder: ConsumerBuilder,
    properties: impl IntoIterator<Item = (N, V)>,
) -> ConsumerBuilder {
    let mut faults = properties::load(&mut builder, properties);
    builder.faults.append(&mut faults);
    builder
}

/// A setting's name with its property beside it, for the text of a fault.
pub(super) fn label(name: &str) -> String {
    properties::label(SETTINGS, name).unwrap_or_else(|| name.to_owned())
}

fn isolation(value: &str) -> Result<IsolationLevel, String> {
    match &*value.to_ascii_lowercase() {
        "read_uncommitted" => Ok(IsolationLevel::Uncommitted),
        "read_committed" => Ok(IsolationLevel::Committed),
        _ => Err(format!("is {}, it must be read_uncommitted or read_committed", shown(value))),
    }
}

/// Java's words, and librdkafka's.
fn reset(value: &str) -> Result<OutOfRange, String> {
    match &*value.to_ascii_lowercase() {
        "none" | "error" => Ok(OutOfRange::Error),
        "earliest" | "smallest" | "beginning" => Ok(OutOfRange::Beginning),
        "latest" | "largest" | "end" => Ok(OutOfRange::End),
        _ => Err(format!("is {}, it must be none, earliest or latest", shown(value))),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use super::*;
    use crate::consumer::config::ConsumerConfig;

    fn config(properties: &[(&str, &str)]) -> ConsumerConfig {
        let server = [("bootstrap.servers", "kafka01")];
        let builder = ConsumerBuilder::from_properties(server.iter().chain(properties).copied());
        builder.validate().unwrap_or_else(|error| panic!("{properties:?}: {error}")).1
    }

    fn fault(name: &str, value: &str) -> String {
        let builder = ConsumerBuilder::from_properties([("bootstrap.servers", "kafka01"), (name, value)]);
        builder.validate().unwrap_err().to_string()
    }

    #[test]
    fn every_property_sets_its_setting() {
        let mut seen = 0;
        for (name, value, is_set) in [
            (
                "isolation.level",
                "READ_COMMITTED",
                (|c| c.isolation_level == IsolationLevel::Committed) as fn(&ConsumerConfig) -> bool,
            ),
            ("auto.offset.reset", "latest", |c| c.out_of_range == OutOfRange::End),
            ("auto.offset.reset", "smallest", |c| c.out_of_range == OutOfRange::Beginning),
            ("queued.max.messages.kbytes", "1024", |c| c.buffer_memory == 1 << 20),
            ("fetch.min.bytes", "7", |c| c.fetch_min_bytes == 7),
            ("fetch.max.bytes", "70000", |c| c.fetch_max_bytes == 70_000),
            ("fetch.max.wait.ms", "7", |c| c.fetch_max_wait == Duration::from_millis(7)),
            ("fetch.wait.max.ms", "7", |c| c.fetch_max_wait == Duration::from_millis(7)),
            ("max.partition.fetch.bytes", "7000", |c| c.max_partition_fetch_bytes == 7000),
            ("fetch.message.max.bytes", "7000", |c| c.max_partition_fetch_bytes == 7000),
            ("default.api.timeout.ms", "7", |c| c.max_block == Duration::from_millis(7)),
        ] {
            assert!(is_set(&config(&[(name, value)])), "{name}");
            seen += 1;
        }
        let named: usize = SETTINGS.iter().map(|setting| setting.names.properties().count()).sum();
        assert!(seen > named / 2, "{seen} of {named}");
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        for setting in SETTINGS {
            let Some(property) = setting.names.properties().next() else { continue };
            let kilo = if property.ends_with(".kbytes") { 1024 } else { 1 };
            let default = match setting.names.default.parse::<usize>() {
                Ok(number) => (number / kilo).to_string(),
                Err(_) => setting.names.default.to_owned(),
            };
            let (set, unset) = (config(&[(property, &default)]), ConsumerConfig::default());
            assert_eq!(format!("{set:?}"), format!("{unset:?}"), "{property}={default}");
        }
    }

    #[test]
    fn what_is_no_setting_is_told_why() {
        assert!(fault("group.id", "mine").contains("has no group"), "{}", fault("group.id", "mine"));
        assert!(fault("enable.auto.commit", "true").contains("no offsets are committed"));
        assert!(fault("auto.offset.reset", "by_duration:PT1H").contains("none, earliest or latest"));
        assert!(fault("fetch.min.byte", "1").contains("is it fetch.min.bytes"));
        // What says what is the case anyway, and what is a sibling's, is no fault.
        config(&[("enable.auto.commit", "false"), ("check.crcs", "true"), ("linger.ms", "5"), ("acks", "all")]);
        let text = ConsumerBuilder::from_properties_text("bootstrap.servers = kafka01\nfetch.min.bytes: 3\n");
        assert_eq!(text.validate().unwrap().1.fetch_min_bytes, 3);
    }

    /// Every property that is left to consumers by the others is known here.
    #[test]
    fn nothing_that_is_left_to_consumers_is_unknown_to_them() {
        let known: Vec<&str> = SETTINGS.iter().flat_map(|setting| setting.names.properties()).collect();
        for property in siblings::CONSUMERS.properties {
            let is_known = known.contains(property) || OTHERS.iter().any(|(name, _)| name == property);
            assert!(is_known, "{property}");
        }
    }

    #[test]
    fn the_manuals_page_has_every_setting() {
        let page = include_str!("../../manual/consumer.md");
        for setting in SETTINGS {
            let names = &setting.names;
            let mut row = format!("| `{}` | ", names.name);
            let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let default = if names.unit.is_empty() {
                format!("`{}`", names.default)
            } else {
                format!("{} {}", names.default, names.unit)
            };
            let java: Vec<&str> = names.java.into_iter().collect();
            let _ = write!(row, "{} | {} | {default} |", code(&java), code(names.librdkafka));
            assert!(page.contains(&row), "the page should have: {row}");
        }
    }
}

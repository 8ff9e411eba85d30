//! The settings that every client has: where the cluster is, how it is connected to, how its metadata is kept.
//!
//! A new one is a field of [`ClientConfig`] with its default, a setter in `client_setters`, a row of [`SETTINGS`], and an entry
//! in `values`; where it has bounds, also a row of `check_durations` or `check_sizes`, which no test asks for. What else it needs,
//! tests ask for: cases in `producer/config/tests.rs` and `producer/config/properties/tests.rs`, and its line in the manual's
//! table, which the test of that page writes (`the_manuals_page_has_every_setting`). A setting of producers alone is the same
//! in `producer/config.rs`, with its row in `producer/config/properties.rs`.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::address::HostPort;
use super::properties::{self, Others, Setting, Treatment, ms, settings, shown, size};
use super::{MAX_WIRE_BYTES, check_duration, check_size};
use crate::time::Backoff;

/// What to do when no known broker can be reached (KIP-899).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetadataRecovery {
    /// Begin again with the bootstrap servers, whose names may resolve to other addresses by now.
    #[default]
    Rebootstrap,
    /// Go on trying the brokers that were known last.
    None,
}

/// The settings as a builder has them, before they are checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientBuilder {
    /// The bootstrap servers as they were given.
    pub(crate) bootstrap: Vec<String>,
    /// `bootstrap_servers` is empty until [`check`](Self::check) has read `bootstrap`.
    pub(crate) config: ClientConfig,
    /// The names of the settings that were set, also those that were set to their defaults; without
    /// `bootstrap_servers`.
    set: Vec<&'static str>,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub(crate) bootstrap_servers: Vec<HostPort>,
    pub(crate) client_id: Arc<str>,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Backoff,
    pub(crate) metadata_max_age: Duration,
    pub(crate) metadata_max_idle: Duration,
    pub(crate) metadata_recovery: MetadataRecovery,
    pub(crate) rebootstrap_trigger: Duration,
    pub(crate) reconnect_backoff: Backoff,
    /// The time for one attempt to connect. It grows like a back-off while attempts fail.
    pub(crate) connection_setup_timeout: Backoff,
    /// `None`: never.
    pub(crate) connections_max_idle: Option<Duration>,
    /// `None`: as the operating system decides.
    pub(crate) send_buffer_bytes: Option<usize>,
    /// `None`: as the operating system decides.
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) max_response_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            bootstrap_servers: Vec::new(),
            client_id: "kafka-blocking".into(),
            request_timeout: ms(30_000),
            retry_backoff: Backoff { initial: ms(100), max: ms(1000) },
            metadata_max_age: ms(300_000),
            metadata_max_idle: ms(300_000),
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: ms(300_000),
            reconnect_backoff: Backoff { initial: ms(50), max: ms(1000) },
            connection_setup_timeout: Backoff { initial: ms(10_000), max: ms(30_000) },
            connections_max_idle: Some(ms(540_000)),
            send_buffer_bytes: Some(128 * 1024),
            receive_buffer_bytes: Some(32 * 1024),
            max_response_bytes: 100_000_000,
        }
    }
}

/// The setters of the settings that every client has, in the `impl` block of a builder with a `client: ClientBuilder`.
macro_rules! client_setters {
    () => {
        /// Replaces the servers given to [`new`](Self::new). Default: none, at least one is required.
        /// Property: `bootstrap.servers` (librdkafka: also `metadata.broker.list`).
        pub fn bootstrap_servers<Form>(mut self, servers: impl $crate::config::servers::IntoServers<Form>) -> Self {
            self.client.bootstrap = servers.into_servers();
            self
        }

        /// The name of this client in the brokers' logs, metrics and quotas. Default: `kafka-blocking`.
        /// Property: `client.id`.
        pub fn client_id(mut self, id: impl Into<String>) -> Self {
            self.client.set("client_id").client_id = id.into().into();
            self
        }

        /// How long to wait for the answer to a request. A producer also sends this time to the broker, less a tenth
        /// and at most half a second less, as the time for which the broker may wait for the other replicas. Kiel's
        /// `ack_timeout` and Java's former `timeout.ms` were only that. Default: 30 s. Property: `request.timeout.ms`
        /// (librdkafka: also `socket.timeout.ms`).
        pub fn request_timeout(mut self, time: Duration) -> Self {
            self.client.set("request_timeout").request_timeout = time;
            self
        }

        /// The wait before the first retry; it doubles with each further one, varied by a fifth (KIP-580).
        /// Default: 100 ms. Property: `retry.backoff.ms`.
        pub fn retry_backoff(mut self, wait: Duration) -> Self {
            self.client.set("retry_backoff").retry_backoff.initial = wait;
            self
        }

        /// The longest wait between retries. Default: 1 s. Property: `retry.backoff.max.ms`.
        pub fn retry_backoff_max(mut self, wait: Duration) -> Self {
            self.client.set("retry_backoff_max").retry_backoff.max = wait;
            self
        }

        /// After how long metadata is fetched again although nothing requested it. Default: 300 s.
        /// Property: `metadata.max.age.ms` (librdkafka: `topic.metadata.refresh.interval.ms`).
        pub fn metadata_max_age(mut self, age: Duration) -> Self {
            self.client.set("metadata_max_age").metadata_max_age = age;
            self
        }

        /// After how long without use a topic's metadata is forgotten. Default: 300 s, at least 5 s.
        /// Property: `metadata.max.idle.ms`.
        pub fn metadata_max_idle(mut self, time: Duration) -> Self {
            self.client.set("metadata_max_idle").metadata_max_idle = time;
            self
        }

        /// What to do when no known broker can be reached. Default: [`MetadataRecovery::Rebootstrap`].
        /// Property: `metadata.recovery.strategy`.
        pub fn metadata_recovery(mut self, recovery: MetadataRecovery) -> Self {
            self.client.set("metadata_recovery").metadata_recovery = recovery;
            self
        }

        /// How long requests for metadata may fail before the bootstrap servers are asked first, and the known brokers
        /// after them (KIP-1102). Until then the known brokers come first. The time counts from the first attempt that
        /// fails, so a time in which the client needs no metadata does not count. Default: 300 s.
        /// Property: `metadata.recovery.rebootstrap.trigger.ms`.
        pub fn rebootstrap_trigger(mut self, time: Duration) -> Self {
            self.client.set("rebootstrap_trigger").rebootstrap_trigger = time;
            self
        }

        /// The wait before the next attempt to connect to a broker; it doubles with each failure, varied by a fifth.
        /// Default: 50 ms. Property: `reconnect.backoff.ms`.
        pub fn reconnect_backoff(mut self, wait: Duration) -> Self {
            self.client.set("reconnect_backoff").reconnect_backoff.initial = wait;
            self
        }

        /// The longest wait before the next attempt to connect to a broker. Default: 1 s.
        /// Property: `reconnect.backoff.max.ms`.
        pub fn reconnect_backoff_max(mut self, wait: Duration) -> Self {
            self.client.set("reconnect_backoff_max").reconnect_backoff.max = wait;
            self
        }

        /// How long one attempt to connect may take, including the answer to the first request, which asks for the
        /// broker's versions; it doubles with each failure. Each address of a name with several addresses has this
        /// time. Default: 10 s. Property: `socket.connection.setup.timeout.ms`.
        pub fn connection_setup_timeout(mut self, time: Duration) -> Self {
            self.client.set("connection_setup_timeout").connection_setup_timeout.initial = time;
            self
        }

        /// The longest that one attempt to connect may take. Default: 30 s.
        /// Property: `socket.connection.setup.timeout.max.ms`.
        pub fn connection_setup_timeout_max(mut self, time: Duration) -> Self {
            self.client.set("connection_setup_timeout_max").connection_setup_timeout.max = time;
            self
        }

        /// After how long without use a connection is closed; `None` for never. Brokers close theirs after 10 minutes.
        /// Default: 540 s. Property: `connections.max.idle.ms`, where -1 is never.
        pub fn connections_max_idle(mut self, time: impl Into<Option<Duration>>) -> Self {
            self.client.set("connections_max_idle").connections_max_idle = time.into();
            self
        }

        /// The socket's send buffer; `None` leaves it to the operating system. Default: 131072 (128 KiB).
        /// Property: `send.buffer.bytes`, where -1 is `None` (librdkafka: `socket.send.buffer.bytes`, where 0 is).
        pub fn send_buffer_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
            self.client.set("send_buffer_bytes").send_buffer_bytes = bytes.into();
            self
        }

        /// The socket's receive buffer; `None` leaves it to the operating system. Default: 32768 (32 KiB).
        /// Property: `receive.buffer.bytes`, where -1 is `None` (librdkafka: `socket.receive.buffer.bytes`, where 0 is).
        pub fn receive_buffer_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
            self.client.set("receive_buffer_bytes").receive_buffer_bytes = bytes.into();
            self
        }

        /// The largest answer that is read, in bytes. A longer one is taken as a sign of a broken or hostile peer, and
        /// the connection is closed. Default: 100000000. Property: librdkafka's `receive.message.max.bytes`.
        pub fn max_response_bytes(mut self, bytes: usize) -> Self {
            self.client.set("max_response_bytes").max_response_bytes = bytes;
            self
        }
    };
}
pub(crate) use client_setters;

/// The settings by their names elsewhere, in the order of the manual.
#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting<ClientBuilder>] = settings![
    "bootstrap_servers", Some("bootstrap.servers"), ["metadata.broker.list", "bootstrap.servers"],
        Some("brokers"), Some("bootstrap_servers"), "", "host:port list",
        |to, _, value| to.bootstrap = vec![value.to_owned()];
    "client_id", Some("client.id"), ["client.id"], None, Some("client_id"), "kafka-blocking", "",
        |to, _, value| to.config.client_id = value.into();
    "request_timeout", Some("request.timeout.ms"), ["socket.timeout.ms", "request.timeout.ms"],
        Some("ack_timeout"), Some("request_timeout_ms"), "30000", "ms",
        |to, _, value| to.config.request_timeout = ms(value)?;
    "retry_backoff", Some("retry.backoff.ms"), ["retry.backoff.ms"], None, Some("retry_backoff_ms"), "100", "ms",
        |to, _, value| to.config.retry_backoff.initial = ms(value)?;
    "retry_backoff_max", Some("retry.backoff.max.ms"), ["retry.backoff.max.ms"], None, None, "1000", "ms",
        |to, _, value| to.config.retry_backoff.max = ms(value)?;
    "metadata_max_age", Some("metadata.max.age.ms"), ["topic.metadata.refresh.interval.ms"],
        None, Some("metadata_max_age_ms"), "300000", "ms",
        |to, _, value| to.config.metadata_max_age = ms(value)?;
    "metadata_max_idle", Some("metadata.max.idle.ms"), [], None, None, "300000", "ms",
        |to, _, value| to.config.metadata_max_idle = ms(value)?;
    "metadata_recovery", Some("metadata.recovery.strategy"), ["metadata.recovery.strategy"], None, None, "rebootstrap", "",
        |to, _, value| to.config.metadata_recovery = recovery(value)?;
    "rebootstrap_trigger", Some("metadata.recovery.rebootstrap.trigger.ms"), ["metadata.recovery.rebootstrap.trigger.ms"],
        None, None, "300000", "ms",
        |to, _, value| to.config.rebootstrap_trigger = ms(value)?;
    "reconnect_backoff", Some("reconnect.backoff.ms"), ["reconnect.backoff.ms"], None, None, "50", "ms",
        |to, _, value| to.config.reconnect_backoff.initial = ms(value)?;
    "reconnect_backoff_max", Some("reconnect.backoff.max.ms"), ["reconnect.backoff.max.ms"], None, None, "1000", "ms",
        |to, _, value| to.config.reconnect_backoff.max = ms(value)?;
    "connection_setup_timeout", Some("socket.connection.setup.timeout.ms"), ["socket.connection.setup.timeout.ms"],
        None, None, "10000", "ms",
        |to, _, value| to.config.connection_setup_timeout.initial = ms(value)?;
    "connection_setup_timeout_max", Some("socket.connection.setup.timeout.max.ms"), [], None, None, "30000", "ms",
        |to, _, value| to.config.connection_setup_timeout.max = ms(value)?;
    "connections_max_idle", Some("connections.max.idle.ms"), ["connections.max.idle.ms"],
        None, Some("connections_max_idle_ms"), "540000", "ms",
        |to, _, value| to.config.connections_max_idle = idle(value)?;
    "send_buffer_bytes", Some("send.buffer.bytes"), ["socket.send.buffer.bytes"], None, None, "131072", "bytes",
        |to, name, value| to.config.send_buffer_bytes = socket_buffer(name, value)?;
    "receive_buffer_bytes", Some("receive.buffer.bytes"), ["socket.receive.buffer.bytes"], None, None, "32768", "bytes",
        |to, name, value| to.config.receive_buffer_bytes = socket_buffer(name, value)?;
    "max_response_bytes", None, ["receive.message.max.bytes"], None, None, "100000000", "bytes",
        |to, name, value| to.config.max_response_bytes = size(name, value)?;
];

/// The one setting that each client has for itself, also where clients share a cluster: brokers log, count and limit
/// requests by it.
const OWN: &str = "client_id";

const NO_METRICS_PUSH: &str = "this client does not push its metrics to the cluster";
const JVM: &str = "it names classes of the JVM";
const METRICS: &str = "it is about Java's metrics";
const LOGGING: &str = "log messages go to the log crate, where the program chooses what is shown";
const API_VERSIONS: &str = "versions are always negotiated; brokers from 0.11 on can";
const OBSOLETE: &str = "librdkafka itself no longer uses it";
const REFRESH: &str = "metadata is asked for at once when it is missing or stale, and again after retry.backoff.ms";

/// Properties that are no settings of any client.
#[rustfmt::skip]
pub(crate) static OTHERS: &Others = &[
    // Java.
    ("security.protocol", Treatment::Only(&["PLAINTEXT"], "this version speaks plain TCP only, neither TLS nor SASL")),
    ("client.dns.lookup", Treatment::Only(&["use_all_dns_ips"], "all addresses of a name are tried")),
    ("enable.metrics.push", Treatment::Only(&["false"], NO_METRICS_PUSH)),
    ("interceptor.classes", Treatment::Only(&[""], JVM)),
    ("metric.reporters", Treatment::Only(&[""], JVM)),
    ("security.providers", Treatment::Only(&[""], JVM)),
    ("config.providers", Treatment::Only(&[""], "values are taken as they are; fetch secrets in the program")),
    ("auto.include.jmx.reporter", Treatment::Refused(METRICS)),
    ("metrics.num.samples", Treatment::Refused(METRICS)),
    ("metrics.recording.level", Treatment::Refused(METRICS)),
    ("metrics.sample.window.ms", Treatment::Refused(METRICS)),
    ("ssl.*", Treatment::Refused("TLS is not offered by this version")),
    ("sasl.*", Treatment::Refused("SASL is not offered by this version")),
    // librdkafka.
    ("https.*", Treatment::Refused("TLS is not offered by this version")),
    ("enable.ssl.certificate.verification", Treatment::Refused("TLS is not offered by this version")),
    ("enable.sasl.oauthbearer.unsecure.jwt", Treatment::Refused("SASL is not offered by this version")),
    ("statistics.interval.ms", Treatment::Only(&["0"], "statistics are asked for by the program, not emitted")),
    ("enabled_events", Treatment::Refused("there are no events to poll for")),
    ("debug", Treatment::Refused(LOGGING)),
    ("log_level", Treatment::Refused(LOGGING)),
    ("log.*", Treatment::Refused(LOGGING)),
    ("topic.metadata.refresh.fast.interval.ms", Treatment::Refused(REFRESH)),
    ("topic.metadata.refresh.fast.cnt", Treatment::Ignored(OBSOLETE)),
    ("topic.metadata.refresh.sparse", Treatment::Only(&["true"], "only topics in use are asked for")),
    ("topic.blacklist", Treatment::Refused("only topics in use are asked for")),
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
];

fn idle(value: &str) -> Result<Option<Duration>, String> {
    match value {
        "-1" => Ok(None),
        "0" => Err("is 0, which means \"never\" in librdkafka and \"at once\" in Java: write -1 for never".to_owned()),
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

fn recovery(value: &str) -> Result<MetadataRecovery, String> {
    match () {
        () if value.eq_ignore_ascii_case("rebootstrap") => Ok(MetadataRecovery::Rebootstrap),
        () if value.eq_ignore_ascii_case("none") => Ok(MetadataRecovery::None),
        () => Err(format!("is {}, it must be rebootstrap or none", shown(value))),
    }
}

/// A setting's name for the text of a fault.
fn label(name: &str) -> String {
    properties::label(SETTINGS, name).unwrap_or_else(|| name.to_owned())
}

impl ClientBuilder {
    /// Notes that the setting of this name is set, and returns the settings to change it in.
    pub(crate) fn set(&mut self, name: &'static str) -> &mut ClientConfig {
        self.set.push(name);
        &mut self.config
    }

    /// The settings of a client that uses a cluster with the settings `shared`: only its id is its own. Any other
    /// setting that was set is a fault, unless its value is that of the cluster.
    pub(crate) fn on(mut self, shared: &ClientConfig, faults: &mut Vec<String>) -> ClientConfig {
        if !self.bootstrap.is_empty() {
            self.config.bootstrap_servers = read_bootstrap(&self.bootstrap, faults);
            self.set.push("bootstrap_servers");
        }
        let mut config = shared.clone();
        if self.set.contains(&OWN) {
            config.client_id = Arc::clone(&self.config.client_id);
            config.check_client_id(faults);
        }
        for ((name, own), (_, of_cluster)) in self.config.values().into_iter().zip(shared.values()) {
            if self.set.contains(&name) && own != of_cluster {
                faults.push(format!(
                    "{} is {own}, but the setting belongs to the cluster that clients share, where it is {of_cluster}: set it \
                     with Cluster::builder",
                    label(name)
                ));
            }
        }
        config
    }

    /// Reads and checks the settings. What is wrong is added to `faults`.
    pub(crate) fn check(self, faults: &mut Vec<String>) -> ClientConfig {
        let Self { bootstrap, mut config, .. } = self;
        config.bootstrap_servers = read_bootstrap(&bootstrap, faults);
        config.check_durations(faults);
        config.check_sizes(faults);
        for (name, name_of_max, backoff) in [
            ("retry_backoff", "retry_backoff_max", config.retry_backoff),
            ("reconnect_backoff", "reconnect_backoff_max", config.reconnect_backoff),
            ("connection_setup_timeout", "connection_setup_timeout_max", config.connection_setup_timeout),
        ] {
            if backoff.initial > backoff.max {
                let (name, name_of_max) = (label(name), label(name_of_max));
                faults.push(format!("{name} is {:?}, more than {name_of_max}, {:?}", backoff.initial, backoff.max));
            }
        }
        config
    }
}

impl ClientConfig {
    /// The settings that clients of a cluster share, each with its value as text.
    fn values(&self) -> [(&'static str, String); 16] {
        let shown = |value: &dyn Debug| format!("{value:?}");
        let servers: Vec<String> = self.bootstrap_servers.iter().map(HostPort::to_string).collect();
        [
            ("bootstrap_servers", servers.join(",")),
            ("request_timeout", shown(&self.request_timeout)),
            ("retry_backoff", shown(&self.retry_backoff.initial)),
            ("retry_backoff_max", shown(&self.retry_backoff.max)),
            ("metadata_max_age", shown(&self.metadata_max_age)),
            ("metadata_max_idle", shown(&self.metadata_max_idle)),
            ("metadata_recovery", shown(&self.metadata_recovery)),
            ("rebootstrap_trigger", shown(&self.rebootstrap_trigger)),
            ("reconnect_backoff", shown(&self.reconnect_backoff.initial)),
            ("reconnect_backoff_max", shown(&self.reconnect_backoff.max)),
            ("connection_setup_timeout", shown(&self.connection_setup_timeout.initial)),
            ("connection_setup_timeout_max", shown(&self.connection_setup_timeout.max)),
            ("connections_max_idle", shown(&self.connections_max_idle)),
            ("send_buffer_bytes", shown(&self.send_buffer_bytes)),
            ("receive_buffer_bytes", shown(&self.receive_buffer_bytes)),
            ("max_response_bytes", shown(&self.max_response_bytes)),
        ]
    }

    fn check_durations(&self, faults: &mut Vec<String>) {
        let (zero, one) = (Duration::ZERO, Duration::from_millis(1));
        let busy = "with a shorter wait the client would repeat requests without pause";
        let useless = "no request could succeed in a shorter time";
        let idle = self.connections_max_idle.unwrap_or(one);
        // (setting, value, the least, why not less).
        for (name, value, least, reason) in [
            ("request_timeout", self.request_timeout, one, useless),
            ("retry_backoff", self.retry_backoff.initial, one, busy),
            ("retry_backoff_max", self.retry_backoff.max, one, busy),
            ("metadata_max_age", self.metadata_max_age, one, busy),
            ("metadata_max_idle", self.metadata_max_idle, Duration::from_secs(5), "topics in use would be forgotten"),
            ("rebootstrap_trigger", self.rebootstrap_trigger, zero, ""),
            ("reconnect_backoff", self.reconnect_backoff.initial, one, busy),
            ("reconnect_backoff_max", self.reconnect_backoff.max, one, busy),
            ("connection_setup_timeout", self.connection_setup_timeout.initial, one, useless),
            ("connection_setup_timeout_max", self.connection_setup_timeout.max, one, useless),
            ("connections_max_idle", idle, one, "a connection could not be used; None, or -1 as a property, is never"),
        ] {
            check_duration(&label(name), value, least, reason, faults);
        }
    }

    fn check_client_id(&self, faults: &mut Vec<String>) {
        let reason = "its length on the wire is a signed 16-bit number";
        check_size(&label(OWN), self.client_id.len(), " bytes long", 0..=32_767, reason, faults);
    }

    fn check_sizes(&self, faults: &mut Vec<String>) {
        self.check_client_id(faults);
        let buffer = "the operating system accepts no other; with None, or -1 as a property, it chooses the size";
        // (setting, value, the least, the most, why).
        for (name, value, least, most, reason) in [
            ("send_buffer_bytes", self.send_buffer_bytes.unwrap_or(1), 1, MAX_WIRE_BYTES, buffer),
            ("receive_buffer_bytes", self.receive_buffer_bytes.unwrap_or(1), 1, MAX_WIRE_BYTES, buffer),
            (
                "max_response_bytes",
                self.max_response_bytes,
                1000,
                MAX_WIRE_BYTES,
                "the shortest useful answer is longer",
            ),
        ] {
            check_size(&label(name), value, "", least..=most, reason, faults);
        }
    }
}

fn read_bootstrap(entries: &[String], faults: &mut Vec<String>) -> Vec<HostPort> {
    let name = label("bootstrap_servers");
    let mut servers: Vec<HostPort> = Vec::new();
    if entries.iter().all(|entry| entry.trim().is_empty()) {
        faults.push(format!("{name}: none is given, but the client needs at least one to find its cluster"));
        return servers;
    }
    for entry in entries.iter().flat_map(|entry| entry.split(',')) {
        match HostPort::parse(entry) {
            Ok(server) if servers.iter().any(|other| other.same_place(&server)) => {
                faults.push(format!("{name}: {server} is given twice"));
            }
            Ok(server) => servers.push(server),
            Err(fault) => faults.push(format!("{name}: {fault}")),
        }
    }
    servers
}

//! The properties of a program's other clients. One file may serve all of them, so a builder leaves the properties of a
//! sibling alone.

/// A kind of client that the same properties may also be meant for.
pub(crate) struct Sibling {
    /// Its name, for the manual and the log.
    pub(crate) owner: &'static str,
    /// Its properties that no other client has. A name that ends in `*` stands for all names that begin so.
    pub(crate) properties: &'static [&'static str],
}

impl Sibling {
    pub(crate) fn knows(&self, property: &str) -> bool {
        self.properties.iter().any(|known| matches(known, property))
    }
}

/// Whether a known name stands for the property: it is the same, or ends in `*` and the property begins with the rest.
pub(crate) fn matches(known: &str, property: &str) -> bool {
    match known.strip_suffix('*') {
        Some(prefix) => property.starts_with(prefix),
        None => property == known,
    }
}

pub(crate) static PRODUCERS: Sibling = Sibling {
    owner: "producers",
    properties: &[
        "acks",
        "allow.auto.create.topics",
        "batch.num.messages",
        "batch.size",
        "block.on.buffer.full",
        "buffer.memory",
        "compression.codec",
        "compression.gzip.level",
        "compression.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "key.serializer",
        "linger.ms",
        "max.block.ms",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "max.request.size",
        "message.copy.max.bytes",
        "message.max.bytes",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.fetch.timeout.ms",
        "partitioner",
        "partitioner.adaptive.partitioning.enable",
        "partitioner.availability.timeout.ms",
        "partitioner.class",
        "partitioner.ignore.keys",
        "produce.offset.report",
        "producer.type",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queue.enqueue.timeout.ms",
        "queuing.strategy",
        "request.required.acks",
        "retries",
        "sticky.partitioning.linger.ms",
        "timeout.ms",
        "topic.metadata.propagation.max.ms",
        "transaction.max.block.ms",
        "transaction.timeout.ms",
        "transaction.two.phase.commit.enable",
        "transactional.id",
        "value.serializer",
    ],
};

pub(crate) static CONSUMERS: Sibling = Sibling {
    owner: "consumers",
    properties: &[
        "auto.commit.enable",
        "auto.commit.interval.ms",
        "auto.offset.reset",
        "check.crcs",
        "client.rack",
        "consume.callback.max.messages",
        "coordinator.query.interval.ms",
        "default.api.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "exclude.internal.topics",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.max.wait.ms",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.protocol.type",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "isolation.level",
        "key.deserializer",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "max.poll.records",
        "offset.store.method",
        "offset.store.path",
        "offset.store.sync.interval.ms",
        "partition.assignment.strategy",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "session.timeout.ms",
        "share.acknowledgement.mode",
        "value.deserializer",
    ],
};

/// Admin clients. What they have in common with others is there, too.
pub(crate) static ADMINS: Sibling =
    Sibling { owner: "admin clients", properties: &["bootstrap.controllers", "default.api.timeout.ms"] };

/// The client of a schema registry, and the serializers that use it: Confluent's names.
pub(crate) static SCHEMA_REGISTRY: Sibling = Sibling {
    owner: "the client of the schema registry and its serializers",
    properties: &[
        "auto.register.schemas",
        "avro.reflection.allow.null",
        "avro.remove.java.properties",
        "avro.use.logical.type.converters",
        "basic.auth.credentials.source",
        "basic.auth.user.info",
        "bearer.auth.*",
        "context.name.strategy",
        "http.connect.timeout.ms",
        "http.read.timeout.ms",
        "key.subject.name.strategy",
        "latest.cache.size",
        "latest.cache.ttl.sec",
        "latest.compatibility.strict",
        "max.retries",
        "max.schemas.per.subject",
        "missing.cache.size",
        "missing.id.cache.ttl.sec",
        "missing.schema.cache.ttl.sec",
        "missing.version.cache.ttl.sec",
        "normalize.schemas",
        "propagate.schema.tags",
        "proxy.host",
        "proxy.port",
        "retries.max.wait.ms",
        "retries.wait.ms",
        "rule.actions",
        "rule.executors",
        "rule.service.loader.enable",
        "schema.format",
        "schema.id.compatibility.strict",
        "schema.reflection",
        "schema.registry.basic.auth.credentials.source",
        "schema.registry.basic.auth.user.info",
        "schema.registry.bearer.auth.*",
        "schema.registry.ssl.*",
        "schema.registry.url",
        "specific.avro.key.type",
        "specific.avro.reader",
        "specific.avro.value.type",
        "use.latest.version",
        "use.latest.with.metadata",
        "use.schema.id",
        "value.subject.name.strategy",
    ],
};

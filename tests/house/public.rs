//! The public types: each may cross threads and be shared by them, and none is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kafka_blocking::partitioner::*;
use kafka_blocking::serialization::*;
use kafka_blocking::testing::internal_unstable::*;
use kafka_blocking::testing::*;
use kafka_blocking::*;

fn goes_anywhere<T: Send + Sync + Unpin>() {}

/// Checks each type, and gives their names, without parameters.
macro_rules! all_of {
    ($($checked:ty),* $(,)?) => {{
        $(goes_anywhere::<$checked>();)*
        [$(stringify!($checked)),*].map(|name| name.split('<').next().unwrap().trim())
    }};
}

fn types() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    names.extend(all_of![
        Acks, Appended, AppendedRecord, BatchDelivery, BatchMetadata, BatchNotSent, BrokerId, Cluster, ClusterBuilder, Compression, Delivery,
        DirectBatch, Error, ErrorCode, ErrorContext, ErrorKind, GroupMetadata, GzipLevel, Header<'static>,
        Headers<'static>, Held<'static, str>, InTransaction<Delivery>, IsolationLevel, LatencyHistogram, MetadataRecovery, NotCommitted,
        OffsetAndMetadata, PartitionInfo, Producer, ProducerBuilder, ProducerIdAndEpoch, ProducerMetrics, Purge, Record<'static>,
        RecordMetadata, RecordNotSent<Record<'static>>, Recovery, Timeout, Timestamp, TimestampType, TopicPartition, Transaction, TransactionMetrics,
        TypedProducer<str, str>, TypedRecord<'static, str, str>, TypedTransaction<'static, str, str>, Undelivered, Written, ZstdLevel,
    ]);
    names.extend(all_of![
        Batch,
        Batches<'static>,
        Consumer,
        ConsumerBuilder,
        ConsumerHandle,
        HeadersView<'static>,
        KeptRecord,
        KeptRecords<'static>,
        OutOfRange,
        OwnedRecord,
        Polled,
        RecordView<'static>,
        Records<'static>,
        Start,
    ]);
    names.extend(all_of![
        Choice,
        Consistent,
        ConsistentRandom,
        Explicit,
        Fnv1a,
        Fnv1aRandom,
        HashRing,
        JavaIgnoringKeys,
        Modulo,
        Murmur2,
        PartitionRequest<'static>,
        PartitionerFn<()>,
        Random,
        RoundRobin,
    ]);
    names.extend(all_of![
        Context<'static, 'static>,
        DeserializerFn<()>,
        FromFn<()>,
        Java,
        Json,
        Malformed,
        Nullable<()>,
        Origin<'static>,
        Part,
        Text,
        TryFromFn<()>,
        UuidText,
    ]);
    names.extend(all_of![
        Api,
        Client,
        CommittedOffset,
        FakeCluster,
        FakeClusterBuilder,
        Fault,
        FaultHandle,
        KafkaVersion,
        LoggedBatch,
        LoggedRecord,
        Marker,
        On,
        RawProducer,
        SeenBatch,
        SeenRequest,
        SeenTransaction,
        SeenTransactionalId,
        TransactionState,
        TransactionVersion,
    ]);
    {
        use kafka_blocking::admin::*;
        names.extend(all_of![
            Admin,
            AdminBuilder,
            AlterConfig,
            BrokerDescription,
            ClusterDescription,
            ConfigEntry,
            ConfigResource,
            ConfigSource,
            CreatedTopic,
            DeleteRecords,
            FoundOffset,
            NewPartitions,
            NewTopic,
            OffsetSpec,
            PartitionDescription,
            Results<(), ()>,
            TopicDescription,
            TopicId,
            TopicListing,
            ValidateOnly<'static>,
        ]);
    }
    #[cfg(feature = "avro")]
    {
        use kafka_blocking::schema_registry::*;
        names.extend(all_of![
            AvroDeserializer,
            AvroDeserializerBuilder,
            AvroSchema,
            AvroSerializer,
            AvroSerializerBuilder,
            Compatibility,
            CompatibilityLevel,
            Deletion,
            Framed<'static>,
            SchemaReference,
            SchemaRegistry,
            SchemaRegistryBuilder,
            SchemaText,
            SchemaType,
            SubjectStrategy,
            SubjectVersion,
        ]);
    }
    names
}

/// The names that the roots of the public modules hand out, and begin with a capital letter.
fn handed_out() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![
        "lib.rs",
        "admin/mod.rs",
        "serialization/mod.rs",
        "testing/mod.rs",
        "producer/partitioner/mod.rs",
        "error/mod.rs",
    ];
    if cfg!(feature = "avro") {
        files.push("schema_registry/mod.rs");
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for (at, line) in code.iter().enumerate() {
            let item = ["pub struct ", "pub enum "].iter().find_map(|word| line.strip_prefix(word));
            if let Some(item) = item {
                names.insert(item.chars().take_while(|c| c.is_alphanumeric()).collect());
            } else if line.trim_start().starts_with("pub use ") {
                let end = code[at..].iter().position(|line| line.ends_with(';')).unwrap();
                let list = code[at..=at + end].join(" ");
                names.extend(list.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
            }
        }
    }
    // Constants are all capitals.
    names.retain(|name| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase));
    names
}

/// Traits and names for other types: nothing that could be a value of its own.
const NO_TYPES: &[&str] = &[
    "DeserializationError",
    "Deserializer",
    "InterceptorError",
    "IntoBytes",
    "IntoChoice",
    "IntoServers",
    "Partitioner",
    "PartitionerError",
    "ProducerInterceptor",
    "Result",
    "SerializationError",
    "Serializer",
];

#[test]
fn every_public_type_is_send_sync_and_unpin() {
    let types: BTreeSet<String> = types().into_iter().map(str::to_owned).collect();
    let wanted: BTreeSet<String> = handed_out().into_iter().filter(|name| !NO_TYPES.contains(&&**name)).collect();
    assert!(wanted.len() > 60, "the test has looked at next to nothing: {wanted:?}");
    let missing: Vec<_> = wanted.difference(&types).collect();
    assert!(missing.is_empty(), "not checked: {missing:?}");
    let gone: Vec<_> = types.difference(&wanted).collect();
    assert!(gone.is_empty(), "checked, and not handed out by any module: {gone:?}");
}

//! The schema registry's client and Avro: against a real registry, with Java's Avro as the judge, and against a server
//! that does what no registry should.

use std::error::Error as _;
use std::sync::{Barrier, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::schema_registry::apache_avro::types::Value;
use kafka_blocking::schema_registry::{
    AvroDeserializer, AvroSchema, AvroSerializer, CompatibilityLevel, Deletion, Framed, SchemaReference,
    SchemaRegistry, SchemaRegistryBuilder, SchemaText, SubjectStrategy,
};
use kafka_blocking::serialization::java;
use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Error, ErrorKind, Producer, Recovery, Timeout, TypedProducer, TypedRecord};
use serde::{Deserialize, Serialize};

use super::{hex, unhex};
use crate::support::script::{Reply, Script};
use crate::support::{kafka, registry};

const CUSTOMER: &str = r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [{"name": "id", "type": "int"}, {"name": "name", "type": "string"}, {"name": "email", "type": ["null", "string"], "default": null}]}"#;
/// With a string where null belongs, as it is found in the wild.
const BAD_DEFAULT: &str = r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [{"name": "id", "type": "int"}, {"name": "name", "type": "string"}, {"name": "email", "type": ["null", "string"], "default": "null"}]}"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: i32,
    name: String,
    email: Option<String>,
}

fn customer(id: i32, name: &str, email: Option<&str>) -> Customer {
    Customer { id, name: name.to_owned(), email: email.map(str::to_owned) }
}

fn client() -> SchemaRegistry {
    SchemaRegistry::builder([registry::shared().url()]).build().unwrap()
}

fn refused(error: &Error, status: u16, error_code: i32) {
    assert_eq!(error.kind(), ErrorKind::SchemaRegistry { status, error_code }, "{error}");
    assert_eq!(error.recovery(), Recovery::Fix, "{error}");
}

// ---- against a real registry ----

#[test]
fn what_is_sent_is_what_java_reads_and_the_other_way_round() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("customerContacts", 1, 1, &[]);
    let registry = client();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let deserializer = AvroDeserializer::builder(&registry).reader_schema(&schema).build().unwrap();

    let yifan = customer(1, "yifan", None);
    let bytes = serializer.serialize("customerContacts", &yifan).unwrap();
    let id = registry.latest("customerContacts-value").unwrap().id;
    // The magic byte, the id, int 1, a string of five bytes, the first branch.
    let mut expected = vec![0];
    expected.extend(id.to_be_bytes());
    expected.extend(b"\x02\x0ayifan\x00");
    assert_eq!(bytes, expected);

    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    let customers: TypedProducer<str, Customer> = TypedProducer::new(producer, java(), serializer.clone());
    let grace = customer(-70_000, "Grace Ω", Some("grace@example.org"));
    for (key, customer) in [("1", &yifan), ("2", &grace)] {
        customers.send(TypedRecord::to("customerContacts").key(key).value(customer)).wait().unwrap();
    }
    customers.close_timeout(Duration::from_secs(60)).unwrap();

    let read: Vec<Vec<u8>> =
        cluster.admin().read("customerContacts").into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(read[0], bytes);
    let newer = r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [{"name": "id", "type": "long"}, {"name": "city", "type": "string", "default": "Paris"}]}"#;
    let judged = registry::shared().judge(&[
        format!("read\t{}", hex(&read[0])),
        format!("read\t{}", hex(&read[1])),
        format!("read-as\t{}\t{newer}", hex(&read[1])),
        format!("write\t{id}\t{}", r#"{"id": 7, "name": "Ada", "email": {"string": "ada@example.org"}}"#),
        format!("write\t{id}\t{}", r#"{"id": -1, "name": "", "email": null}"#),
    ]);
    assert_eq!(judged[0], r#"{"id": 1, "name": "yifan", "email": null}"#);
    assert_eq!(judged[1], r#"{"id": -70000, "name": "Grace Ω", "email": "grace@example.org"}"#);
    assert_eq!(judged[2], r#"{"id": -70000, "city": "Paris"}"#);
    let back = |hex: &str| deserializer.deserialize::<Customer>("customerContacts", &unhex(hex)).unwrap();
    assert_eq!(back(&judged[3]), customer(7, "Ada", Some("ada@example.org")));
    assert_eq!(back(&judged[4]), customer(-1, "", None));
    assert_eq!(deserializer.deserialize::<Customer>("customerContacts", &read[1]).unwrap(), grace);
    // What Java wrote is to the byte what this crate writes.
    assert_eq!(unhex(&judged[4]), serializer.serialize("customerContacts", &customer(-1, "", None)).unwrap());
}

/// Every kind of type, nested.
const EVERYTHING: &str = r#"{"type": "record", "name": "t.Everything", "fields": [
    {"name": "flag", "type": "boolean"}, {"name": "long", "type": "long"}, {"name": "float", "type": "float"},
    {"name": "double", "type": "double"}, {"name": "bytes", "type": "bytes"},
    {"name": "suit", "type": {"type": "enum", "name": "Suit", "symbols": ["CLUBS", "HEARTS"]}},
    {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
    {"name": "list", "type": {"type": "array", "items": ["null", "Suit", "long"]}},
    {"name": "map", "type": {"type": "map", "values": {"type": "array", "items": "string"}}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "next", "type": ["null", "Everything"], "default": null}]}"#;

fn everything(next: Option<Value>) -> Value {
    let next = next.map_or(Value::Union(0, Value::Null.into()), |next| Value::Union(1, next.into()));
    let strings = Value::Array(vec![Value::String("a".into()), Value::String("ä".into())]);
    let list = vec![
        Value::Union(0, Value::Null.into()),
        Value::Union(1, Value::Enum(1, "HEARTS".into()).into()),
        Value::Union(2, Value::Long(i64::MIN).into()),
    ];
    let fields = [
        ("flag", Value::Boolean(true)),
        ("long", Value::Long(i64::MAX)),
        ("float", Value::Float(1.5)),
        ("double", Value::Double(-2.25)),
        ("bytes", Value::Bytes(vec![0, 255])),
        ("suit", Value::Enum(0, "CLUBS".into())),
        ("hash", Value::Fixed(4, vec![1, 2, 3, 4])),
        ("list", Value::Array(list)),
        ("map", Value::Map([("k".to_owned(), strings)].into())),
        ("at", Value::TimestampMillis(1_700_000_000_123)),
        ("next", next),
    ];
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[test]
fn every_type_of_avro_goes_to_java_and_comes_back() {
    let registry = client();
    let schema = AvroSchema::parse(EVERYTHING).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let value = everything(Some(everything(None)));
    let bytes = serializer.serialize_value("everything", &value).unwrap();
    assert_eq!(deserializer.deserialize_value("everything", &bytes).unwrap(), value);
    let judged = registry::shared().judge(&[format!("read\t{}", hex(&bytes))]);
    for part in
        ["\"list\": [null, \"HEARTS\", -9223372036854775808]", "\"map\": {\"k\": [\"a\", \"ä\"]}", "\"next\": {"]
    {
        assert!(judged[0].contains(part), "{part} is not in {}", judged[0]);
    }
    // Through a reader's schema as well, which resolves.
    let reader =
        AvroSchema::parse(&EVERYTHING.replace("\"long\", \"type\": \"long\"", "\"long\", \"type\": \"double\""))
            .unwrap();
    let deserializer = AvroDeserializer::builder(&registry).reader_schema(&reader).build().unwrap();
    let Value::Record(fields) = deserializer.deserialize_value("everything", &bytes).unwrap() else {
        panic!("no record")
    };
    assert_eq!(fields[1], ("long".to_owned(), Value::Double(9_223_372_036_854_775_807.0)));
}

#[test]
fn the_registrys_operations_do_what_they_say() {
    let registry = client();
    let subject = "operations/with a slash-value";
    let first = SchemaText::avro(CUSTOMER);
    let second = SchemaText::avro(
        CUSTOMER.replace(r#""fields": ["#, r#""fields": [{"name": "age", "type": "int", "default": 0}, "#),
    );
    let third =
        SchemaText::avro(CUSTOMER.replace(r#""fields": ["#, r#""fields": [{"name": "height", "type": "int"}, "#));

    refused(&registry.latest(subject).unwrap_err(), 404, 40401);
    refused(&registry.versions(subject).unwrap_err(), 404, 40401);
    let id = registry.register(subject, &first).unwrap();
    assert_eq!(client().register(subject, &first).unwrap(), id);
    assert_eq!(client().register("operations-other", &first).unwrap(), id);
    assert_eq!(registry.registered_id(subject, &first).unwrap(), id);
    let found = registry.look_up(subject, &first).unwrap();
    assert_eq!((&*found.subject, found.version, found.id), (subject, 1, id));
    refused(&registry.registered_id(subject, &second).unwrap_err(), 404, 40403);

    let id2 = registry.register(subject, &second).unwrap();
    assert_ne!(id2, id);
    assert_eq!(registry.versions(subject).unwrap(), [1, 2]);
    assert_eq!(registry.version(subject, 1).unwrap().id, id);
    assert_eq!(registry.latest(subject).unwrap().id, id2);
    refused(&registry.version(subject, 99).unwrap_err(), 404, 40402);
    assert!(registry.subjects().unwrap().contains(&subject.to_owned()));
    // Registries may write it down in their own way.
    let meaning = |schema: &SchemaText| AvroSchema::parse(&schema.text).unwrap().schema().clone();
    assert_eq!(meaning(&registry.schema(id2).unwrap()), meaning(&second));
    refused(&registry.schema(999_999).unwrap_err(), 404, 40403);

    let own_level = || registry.subject_compatibility(subject).unwrap();
    registry.set_subject_compatibility(subject, Some(CompatibilityLevel::Backward)).unwrap();
    assert_eq!(own_level(), Some(CompatibilityLevel::Backward));
    assert!(registry.compatibility(subject, &first).unwrap().is_compatible);
    assert!(!registry.compatibility(subject, &third).unwrap().is_compatible);
    refused(&registry.register(subject, &third).unwrap_err(), 409, 409);
    refused(&registry.register(subject, &SchemaText::avro("{\"type\": \"nonsense\"}")).unwrap_err(), 422, 42201);
    registry.set_subject_compatibility(subject, Some(CompatibilityLevel::None)).unwrap();
    registry.register(subject, &third).unwrap();
    registry.set_subject_compatibility(subject, Some(CompatibilityLevel::Full)).unwrap();
    registry.set_subject_compatibility(subject, None).unwrap();
    // Of a subject without a level of its own this registry says NONE, where Confluent's answers 404.
    assert_eq!(own_level(), Some(CompatibilityLevel::None));
    // What Confluent's registry has from the start; no other test is in its way.
    registry.set_global_compatibility(CompatibilityLevel::Backward).unwrap();
    assert_eq!(registry.global_compatibility().unwrap(), CompatibilityLevel::Backward);

    registry.delete_version(subject, 3, Deletion::Soft).unwrap();
    assert_eq!(registry.versions(subject).unwrap(), [1, 2]);
    registry.delete_version(subject, 3, Deletion::Permanent).unwrap();
    assert_eq!(registry.delete_subject(subject, Deletion::Soft).unwrap(), [1, 2]);
    // What was known of the subject is forgotten.
    assert!(registry.registered_id(subject, &first).is_err());
    registry.delete_subject(subject, Deletion::Permanent).unwrap();
    assert!(!registry.subjects().unwrap().contains(&subject.to_owned()));
    // Records of another subject with the same schema stay readable.
    assert_eq!(meaning(&client().schema(id).unwrap()), meaning(&first));
}

#[test]
fn records_are_read_with_a_newer_and_an_older_schema() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Newer {
        id: i64,
        name: String,
        city: String,
    }
    let registry = client();
    let newer = AvroSchema::parse(
        r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [{"name": "city", "type": "string", "default": "Paris"}, {"name": "name", "type": "string"}, {"name": "id", "type": "long"}]}"#,
    )
    .unwrap();
    let older = AvroSchema::parse(CUSTOMER).unwrap();
    let write = AvroSerializer::builder(&registry).schema(&older).build().unwrap();
    let bytes = write.serialize("evolving", &customer(5, "Ada", Some("ada@example.org"))).unwrap();
    let read = AvroDeserializer::builder(&registry).reader_schema(&newer).build().unwrap();
    let ada = Newer { id: 5, name: "Ada".to_owned(), city: "Paris".to_owned() };
    assert_eq!(read.deserialize::<Newer>("evolving", &bytes).unwrap(), ada);

    // A field that was renamed, in a record that was.
    let renamed = CUSTOMER.replace(r#""name": "Customer""#, r#""name": "Client", "aliases": ["Customer"]"#);
    let renamed = renamed.replace(r#"{"name": "name","#, r#"{"name": "called", "aliases": ["name"],"#);
    let renamed = AvroSchema::parse(&renamed).unwrap();
    let read_renamed = AvroDeserializer::builder(&registry).reader_schema(&renamed).build().unwrap();
    let Value::Record(fields) = read_renamed.deserialize_value("evolving", &bytes).unwrap() else {
        panic!("no record")
    };
    assert_eq!(fields[1], ("called".to_owned(), Value::String("Ada".to_owned())));

    // The other way round a long would have to become an int, which Avro's rules do not have.
    let bytes = AvroSerializer::builder(&registry).schema(&newer).build().unwrap().serialize("evolving", &ada).unwrap();
    assert_eq!(read.deserialize::<Newer>("evolving", &bytes).unwrap(), ada);
    let read =
        AvroDeserializer::builder(&registry).reader_schema(&AvroSchema::parse("\"int\"").unwrap()).build().unwrap();
    let error = read.deserialize::<i32>("evolving", &bytes).unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Fix));
    assert_eq!(error.context().topic.as_deref(), Some("evolving"));
}

#[test]
fn an_invalid_default_is_refused_and_what_others_wrote_with_it_is_read() {
    let error = AvroSchema::parse(BAD_DEFAULT).unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::InvalidInput, Recovery::Fix));
    assert_eq!(
        error.to_string(),
        "no valid Avro schema: the default of the field \"email\" of customerManagement.avro.Customer is the string \
         \"null\", but the default of a union must be one of its first branch, which is null: write null without quotes"
    );
    // Somebody else registers it all the same, and Java writes with it.
    let registry = client();
    let id = registry.register("bad-default", &SchemaText::avro(BAD_DEFAULT)).unwrap();
    let written =
        registry::shared().judge(&[format!("write\t{id}\t{}", r#"{"id": 1, "name": "yifan", "email": null}"#)]);
    let good = AvroSchema::parse(CUSTOMER).unwrap();
    for read in [AvroDeserializer::builder(&registry), AvroDeserializer::builder(&registry).reader_schema(&good)] {
        let read = read.build().unwrap().deserialize::<Customer>("bad", &unhex(&written[0])).unwrap();
        assert_eq!(read, customer(1, "yifan", None));
    }
    // But nobody writes with it here.
    let explicit = SubjectStrategy::explicit("bad-default");
    let serializer = AvroSerializer::builder(&registry).subject(explicit).use_latest_version(true).build().unwrap();
    let error = serializer.serialize("bad", &customer(1, "yifan", None)).unwrap_err();
    assert!(error.to_string().contains("write null without quotes"), "{error}");
}

#[test]
fn each_subject_strategy_registers_under_its_subject() {
    let registry = client();
    let schema = AvroSchema::parse(&CUSTOMER.replace("customerManagement", "strategies")).unwrap();
    let write = |strategy: SubjectStrategy, keys: bool| {
        let builder = AvroSerializer::builder(&registry).schema(&schema).subject(strategy);
        let builder = if keys { builder.for_keys() } else { builder };
        builder.build().unwrap().serialize("strategy", &customer(1, "yifan", None)).unwrap();
    };
    write(SubjectStrategy::TopicName, false);
    write(SubjectStrategy::TopicName, true);
    write(SubjectStrategy::RecordName, false);
    write(SubjectStrategy::TopicRecordName, false);
    write(SubjectStrategy::explicit("strategy.explicit"), false);
    let subjects = registry.subjects().unwrap();
    for subject in [
        "strategy-value",
        "strategy-key",
        "strategies.avro.Customer",
        "strategy-strategies.avro.Customer",
        "strategy.explicit",
    ] {
        assert!(subjects.iter().any(|found| found == subject), "{subject} is not among {subjects:?}");
    }
}

#[test]
fn without_auto_registration_a_schema_must_be_there() {
    let registry = client();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let build = || AvroSerializer::builder(&registry).schema(&schema).auto_register(false).build().unwrap();
    let error = build().serialize("manual", &customer(1, "yifan", None)).unwrap_err();
    refused(&error, 404, 40401);
    let id = registry.register("manual-value", schema.text()).unwrap();
    let bytes = build().serialize("manual", &customer(1, "yifan", None)).unwrap();
    assert_eq!(Framed::parse(&bytes).unwrap().schema_id, id);
}

#[test]
fn the_latest_version_is_written_with_where_that_is_wanted() {
    let registry = client();
    registry.register("latest-value", &SchemaText::avro(CUSTOMER)).unwrap();
    let build = |ttl| AvroSerializer::builder(&registry).use_latest_version(true).latest_ttl(ttl).build().unwrap();
    let (for_ever, for_a_moment) = (build(None), build(Some(Duration::from_millis(50))));
    let id_of = |serializer: &AvroSerializer| {
        Framed::parse(&serializer.serialize("latest", &customer(1, "yifan", None)).unwrap()).unwrap().schema_id
    };
    let first = id_of(&for_ever);
    assert_eq!(id_of(&for_a_moment), first);
    let newer = CUSTOMER.replace("]}", r#", {"name": "city", "type": "string", "default": "Paris"}]}"#);
    let second = registry.register("latest-value", &SchemaText::avro(newer)).unwrap();
    assert_eq!(id_of(&for_ever), first);
    thread::sleep(Duration::from_millis(60));
    assert_eq!(id_of(&for_a_moment), second);
}

#[test]
fn a_schema_may_name_types_of_others() {
    let registry = client();
    let address = AvroSchema::parse(
        r#"{"type": "record", "name": "refs.Address", "fields": [{"name": "city", "type": "string"}]}"#,
    )
    .unwrap();
    registry.register("refs.Address", address.text()).unwrap();
    let reference = SchemaReference { name: "refs.Address".to_owned(), subject: "refs.Address".to_owned(), version: 1 };
    let text = r#"{"type": "record", "name": "refs.Person", "fields": [{"name": "home", "type": "refs.Address"}, {"name": "work", "type": ["null", "refs.Address"], "default": null}]}"#;
    assert!(AvroSchema::parse(text).is_err());
    let person = AvroSchema::parse_with_references(text, &[(reference, &address)]).unwrap();

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Address {
        city: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Person {
        home: Address,
        work: Option<Address>,
    }
    let ada = Person { home: Address { city: "London".to_owned() }, work: Some(Address { city: "Paris".to_owned() }) };
    let serializer = AvroSerializer::builder(&registry).schema(&person).build().unwrap();
    let bytes = serializer.serialize("refs", &ada).unwrap();
    assert_eq!(bytes[5..], *b"\x0cLondon\x02\x0aParis");
    for read in [AvroDeserializer::builder(&client()), AvroDeserializer::builder(&client()).reader_schema(&person)] {
        assert_eq!(read.build().unwrap().deserialize::<Person>("refs", &bytes).unwrap(), ada);
    }
}

#[test]
fn a_password_is_sent_and_a_wrong_one_is_told() {
    let server = registry::shared_with_password();
    let subjects = |builder: SchemaRegistryBuilder| builder.build().unwrap().subjects();
    subjects(SchemaRegistry::builder([server.url()]).basic_auth("alice", "ses@me")).unwrap();
    subjects(SchemaRegistry::builder([server.url().replace("http://", "http://alice:ses%40me@")])).unwrap();
    let java = [
        ("schema.registry.url", server.url()),
        ("basic.auth.credentials.source", "USER_INFO"),
        ("basic.auth.user.info", "alice:ses@me"),
    ];
    subjects(SchemaRegistryBuilder::from_properties(java)).unwrap();
    for builder in
        [SchemaRegistry::builder([server.url()]), SchemaRegistry::builder([server.url()]).basic_auth("alice", "guess")]
    {
        let error = subjects(builder).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::SchemaRegistry { status: 401, .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("guess"));
    }
}

#[cfg(feature = "schema-registry-tls")]
#[test]
fn an_encrypted_registry_is_spoken_to_if_its_certificate_is_trusted() {
    let server = registry::shared();
    let builder = SchemaRegistry::builder([server.https_url()]).retries(0);
    let trusting = builder.clone().certificate_authority_pem(server.certificate()).build().unwrap();
    let id = trusting.register("encrypted", &SchemaText::avro(CUSTOMER)).unwrap();
    assert_eq!(client().registered_id("encrypted", &SchemaText::avro(CUSTOMER)).unwrap(), id);
    let error = builder.build().unwrap().subjects().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    assert!(format!("{error:?}").contains("UnknownIssuer") || format!("{error:?}").contains("CaUsed"), "{error:?}");
    // The certificate is for loopback alone, by name and by address.
    let named = server.https_url().replace("127.0.0.1", "localhost");
    let named = SchemaRegistry::builder([named]).certificate_authority_pem(server.certificate()).build().unwrap();
    named.subjects().unwrap();
}

// ---- against a server that does what no registry should ----

/// Quick to try again, so that tests are quick. No request takes too long only because the machine is busy.
fn hasty(urls: &[&str]) -> SchemaRegistryBuilder {
    SchemaRegistry::builder(urls.iter().copied())
        .request_timeout(Duration::from_secs(60))
        .call_timeout(Duration::from_secs(120))
        .retry_backoff(Duration::from_millis(20))
        .retry_backoff_max(Duration::from_millis(50))
}

/// Nobody listens there, as long as the port is kept.
fn dead_port() -> (kafka::Port, String) {
    let port = kafka::Port::reserve();
    let url = format!("http://{}", port.address);
    (port, url)
}

/// Far longer than a machine stands still, and far shorter than [`hasty`] waits for an answer.
const AT_ONCE: Duration = Duration::from_secs(25);

/// Serializes a value with this registry, which must fail in time: then there are no bytes to send.
fn serializing_fails(registry: &SchemaRegistry) -> Error {
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(registry).schema(&schema).build().unwrap();
    let begin = Instant::now();
    let error = serializer.serialize("contacts", &customer(1, "yifan", None)).unwrap_err();
    assert!(begin.elapsed() < AT_ONCE, "it took {:?}: {error}", begin.elapsed());
    assert_eq!(error.context().topic.as_deref(), Some("contacts"), "{error}");
    error
}

#[test]
fn a_registry_that_is_down_is_an_error_within_bounds() {
    let (_port, url) = dead_port();
    let error = serializing_fails(&hasty(&[&url]).build().unwrap());
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Network, Recovery::Retry));
    assert_eq!(error.context().attempts, Some(4));
    let script = Script::start(|_, _| Reply::HangUp);
    let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
    assert_eq!((error.kind(), script.count()), (ErrorKind::Network, 4));
}

#[test]
fn a_typed_producer_sends_nothing_while_the_registry_is_down() {
    let script = Script::start(|number, _| if number < 2 { Reply::HangUp } else { Reply::json(r#"{"id": 7}"#) });
    let registry = hasty(&[&script.url()]).retries(1).build().unwrap();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let cluster = FakeCluster::builder().topic("contacts", 1).start().unwrap();
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    let customers: TypedProducer<(), Customer> = TypedProducer::new(producer, java(), serializer);
    let yifan = customer(1, "yifan", None);
    let error = customers.produce("contacts", &yifan).wait().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Retry));
    assert_eq!(error.source().unwrap().downcast_ref::<Error>().unwrap().kind(), ErrorKind::Network);
    // The same call again, as the recovery has it.
    assert_eq!(customers.produce("contacts", &yifan).wait().unwrap().offset().unwrap(), 0);
    customers.close_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(cluster.records("contacts", 0).unwrap().len(), 1);
}

#[test]
fn a_registry_that_is_slow_is_an_error_within_bounds() {
    for reply in [Reply::Silence, Reply::Drip] {
        let script = Script::start(move |_, _| reply.clone());
        let hasty = hasty(&[&script.url()]).request_timeout(Duration::from_millis(500));
        let error = serializing_fails(&hasty.clone().retries(1).build().unwrap());
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Timeout(Timeout::Request), Recovery::Retry));
        assert_eq!(error.context().attempts, Some(2));
        // However often it may be tried, the whole has an end.
        let registry = hasty.retries(1000).call_timeout(Duration::from_secs(1)).build().unwrap();
        let error = serializing_fails(&registry);
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Request));
        // And the server was asked.
        crate::support::wait_for("a request", AT_ONCE, || (script.count() > 0).then_some(()));
    }
}

#[test]
fn errors_of_the_server_are_retried_and_those_of_the_client_are_not() {
    let script = Script::start(|number, _| if number < 3 { Reply::status(503) } else { Reply::json(r#"{"id": 7}"#) });
    assert_eq!(hasty(&[&script.url()]).build().unwrap().register("s", &SchemaText::avro(CUSTOMER)).unwrap(), 7);
    assert_eq!(script.count(), 4);

    let script = Script::start(|_, _| Reply::status(500));
    let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
    assert_eq!(error.kind(), ErrorKind::SchemaRegistry { status: 500, error_code: 500 });
    assert_eq!((error.recovery(), script.count()), (Recovery::Retry, 4));

    for status in [400, 401, 403, 404, 409, 422] {
        let script = Script::start(move |_, _| Reply::status(status));
        let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
        refused(&error, status, i32::from(status));
        assert_eq!(script.count(), 1);
    }
}

#[test]
fn the_wait_that_a_registry_asks_for_is_kept_if_there_is_time() {
    let busy = |seconds: u32| {
        let header = format!("Retry-After: {seconds}\r\n");
        Reply::Answer(429, header, "application/json", "{}".to_owned())
    };
    let script = Script::start(move |number, _| if number == 0 { busy(1) } else { Reply::json(r#"{"id": 7}"#) });
    let begin = Instant::now();
    assert_eq!(hasty(&[&script.url()]).build().unwrap().register("s", &SchemaText::avro(CUSTOMER)).unwrap(), 7);
    assert!(begin.elapsed() >= Duration::from_secs(1), "it took {:?}", begin.elapsed());

    let script = Script::start(move |_, _| busy(3600));
    let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
    assert_eq!(error.kind(), ErrorKind::SchemaRegistry { status: 429, error_code: 0 });
    assert!(error.to_string().contains("to wait for 3600s"), "{error}");
    assert_eq!(script.count(), 1);
}

#[test]
fn an_answer_that_makes_no_sense_is_refused_and_nothing_is_sent() {
    let html = || "<html>Welcome</html>".to_owned();
    let huge = format!(r#"{{"id": 7, "more": "{}"}}"#, "x".repeat(5 << 20));
    let replies = [
        (Reply::Answer(200, String::new(), "text/html", html()), "an answer of type \"text/html\""),
        (Reply::Answer(200, String::new(), "application/json", html()), "no JSON"),
        (Reply::Answer(200, String::new(), "", r#"{"id": 7}"#.to_owned()), "an answer of type \"\""),
        (Reply::json(&huge), "more than 4194304 bytes"),
        (Reply::json(&"[".repeat(100_000)), "no JSON"),
        (Reply::json("{}"), "a schema's id"),
        (Reply::json("7"), "a schema's id"),
        (Reply::json(r#"{"id": "7"}"#), "a schema's id"),
        (Reply::json(r#"{"id": -7}"#), "a schema's id"),
        (Reply::json(r#"{"id": 4294967303}"#), "a schema's id"),
        (Reply::json(r#"{"id": 7.5}"#), "a schema's id"),
        (Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "not HTTP"),
        (Reply::Raw(vec![0; 100]), "not HTTP"),
    ];
    for (reply, wanted) in replies {
        let script = Script::start(move |_, _| reply.clone());
        let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::SchemaRegistryMisbehaved, Recovery::Fix), "{error:?}");
        assert!(error.to_string().contains(wanted), "{wanted} is not in: {error}");
        assert_eq!(script.count(), 1, "{wanted}");
    }
}

#[test]
fn half_an_answer_is_an_error() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\": 7}".to_vec();
    let script = Script::start(move |_, _| Reply::Raw(half.clone()));
    let error = serializing_fails(&hasty(&[&script.url()]).build().unwrap());
    assert!(matches!(error.kind(), ErrorKind::Network | ErrorKind::SchemaRegistryMisbehaved), "{error:?}");
}

#[test]
fn of_two_addresses_the_one_that_works_is_used_and_remembered() {
    let good = Script::start(|_, request| {
        assert!(request.line.starts_with("GET /schemas/ids/"));
        Reply::json(r#"{"schema": "\"int\""}"#)
    });
    let refusing = Script::start(|_, _| Reply::status(404));
    for reply in [Reply::Silence, Reply::HangUp, Reply::json("nonsense"), Reply::status(500)] {
        // Silence alone takes its time, in which the good address has to answer.
        let limit = Duration::from_secs(if matches!(reply, Reply::Silence) { 8 } else { 60 });
        let bad = Script::start(move |_, _| reply.clone());
        let of = |urls: [&Script; 2]| {
            let [first, second] = urls.map(Script::url);
            hasty(&[&first, &second]).request_timeout(limit).build().unwrap()
        };
        let registry = of([&bad, &good]);
        assert_eq!(registry.schema(1).unwrap().text, "\"int\"");
        assert_eq!(bad.count(), 1);
        // The second call does not go to the first address again.
        registry.schema(2).unwrap();
        assert_eq!(bad.count(), 1);
        // An error of the caller's is an answer, too.
        let registry = of([&bad, &refusing]);
        for id in [1, 2] {
            refused(&registry.schema(id).unwrap_err(), 404, 404);
            assert_eq!(bad.count(), 2);
        }
    }
    assert_eq!((good.count(), refusing.count()), (8, 8));
    // Nobody listens at the first, and it does not matter which is first.
    let (_port, dead) = dead_port();
    for urls in [[dead.clone(), good.url()], [good.url(), dead]] {
        let registry = hasty(&[&urls[0], &urls[1]]).retries(0).build().unwrap();
        assert_eq!(registry.schema(1).unwrap().text, "\"int\"");
    }
}

#[test]
fn a_subject_without_a_level_of_its_own_has_none() {
    let body =
        r#"{"error_code": 40408, "message": "Subject 's' does not have subject-level compatibility configured"}"#;
    let script = Script::start(move |_, request| {
        assert_eq!(request.line, "GET /config/s");
        Reply::Answer(404, String::new(), "application/vnd.schemaregistry.v1+json", body.to_owned())
    });
    assert_eq!(hasty(&[&script.url()]).build().unwrap().subject_compatibility("s").unwrap(), None);
}

#[test]
fn schemas_are_normalized_where_that_is_wanted() {
    let script = Script::start(|_, _| Reply::json(r#"{"subject": "s", "version": 1, "id": 7, "schema": "\"int\""}"#));
    for (normalize, wanted) in [
        (true, ["POST /subjects/s/versions?normalize=true", "POST /subjects/s?normalize=true"]),
        (false, ["POST /subjects/s/versions", "POST /subjects/s"]),
    ] {
        let registry = hasty(&[&script.url()]).normalize(normalize).build().unwrap();
        let before = script.count();
        registry.register("s", &SchemaText::avro("\"int\"")).unwrap();
        registry.look_up("s", &SchemaText::avro("\"int\"")).unwrap();
        let lines: Vec<String> = script.requests().into_iter().skip(before).map(|request| request.line).collect();
        assert_eq!(lines, wanted);
    }
}

#[test]
fn a_redirect_is_not_followed_and_no_secret_is_shown() {
    capture();
    let elsewhere = Script::start(|_, _| Reply::json(r#"{"id": 7}"#));
    let to = format!("Location: {}/\r\n", elsewhere.url());
    let script = Script::start(move |_, _| Reply::Answer(302, to.clone(), "text/html", String::new()));
    let url = script.url().replace("http://", "http://alice:ses%40me@");
    let registry = hasty(&[&url]).build().unwrap();
    let error = serializing_fails(&registry);
    refused(&error, 302, 0);
    assert_eq!(elsewhere.count(), 0);
    // alice:ses@me
    let basic = "YWxpY2U6c2VzQG1l";
    assert!(
        script.requests()[0]
            .headers
            .iter()
            .any(|header| header.eq_ignore_ascii_case(&format!("authorization: basic {basic}")))
    );
    let (_port, dead) = dead_port();
    let _ = serializing_fails(&hasty(&[&dead.replace("http://", "http://alice:ses%40me@")]).build().unwrap());
    let logged = LOGGED.lock().unwrap().join("\n");
    assert!(logged.contains("schema registry: "), "{logged}");
    let shown = format!("{error} {error:?} {registry:?} {logged}");
    for secret in ["ses%40me", "ses@me", basic] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }

    let script = Script::start(|_, _| Reply::json("[]"));
    SchemaRegistry::builder([script.url()]).bearer_token("t0ken").build().unwrap().subjects().unwrap();
    assert!(
        script.requests()[0].headers.iter().any(|header| header.eq_ignore_ascii_case("authorization: bearer t0ken"))
    );
}

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what the crate logs.
fn capture() {
    struct Capture;
    impl log::Log for Capture {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.target().starts_with("kafka_blocking")
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                LOGGED.lock().unwrap().push(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

#[test]
fn threads_that_want_the_same_schema_send_one_request() {
    let script = Script::start(|_, request| {
        thread::sleep(Duration::from_millis(100));
        if request.line.starts_with("POST") {
            Reply::json(r#"{"id": 7}"#)
        } else {
            Reply::json(r#"{"schema": "\"int\""}"#)
        }
    });
    let registry = SchemaRegistry::builder([script.url()]).build().unwrap();
    let schema = AvroSchema::parse("\"int\"").unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let barrier = Barrier::new(16);
    thread::scope(|scope| {
        for number in 0..16 {
            let (serializer, deserializer, barrier) = (&serializer, &deserializer, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let bytes = serializer.serialize("numbers", &number).unwrap();
                assert_eq!(deserializer.deserialize::<i32>("numbers", &bytes).unwrap(), number);
            });
        }
    });
    assert_eq!(script.count(), 2);
}

#[test]
fn a_million_records_cost_two_requests() {
    let script = Script::start(|_, request| match &*request.line {
        "POST /subjects/million-value/versions" => Reply::json(r#"{"id": 258}"#),
        "POST /subjects/million-key/versions" => Reply::json(r#"{"id": 259}"#),
        other => panic!("{other}"),
    });
    let registry = SchemaRegistry::builder([script.url()]).build().unwrap();
    let key_schema = AvroSchema::parse("\"long\"").unwrap();
    let keys = AvroSerializer::builder(&registry).schema(&key_schema).for_keys().build().unwrap();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let values = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let yifan = customer(1, "yifan", None);
    for number in 0_u32..1_000_000 {
        let key = keys.serialize("million", &i64::from(number)).unwrap();
        let value = values.serialize("million", &yifan).unwrap();
        assert_eq!(key[..5], [0, 0, 0, 1, 3]);
        assert_eq!(value, b"\0\0\0\x01\x02\x02\x0ayifan\0");
    }
    let lines: Vec<String> = script.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["POST /subjects/million-key/versions", "POST /subjects/million-value/versions"]);
    let body: serde_json::Value = serde_json::from_str(&script.requests()[1].body).unwrap();
    assert_eq!(body, serde_json::json!({ "schema": CUSTOMER }));
}

#[test]
fn a_failure_is_not_remembered() {
    let script = Script::start(|number, _| if number == 0 { Reply::status(422) } else { Reply::json(r#"{"id": 7}"#) });
    let registry = hasty(&[&script.url()]).build().unwrap();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    refused(&serializer.serialize("contacts", &customer(1, "yifan", None)).unwrap_err(), 422, 422);
    let bytes = serializer.serialize("contacts", &customer(1, "yifan", None)).unwrap();
    assert_eq!(Framed::parse(&bytes).unwrap().schema_id, 7);
}

// ---- values and bytes ----

/// A registry that gives id 7 to every schema and this schema to every id.
fn one_schema(schema: &str) -> (Script, SchemaRegistry) {
    let body = serde_json::json!({ "schema": schema, "id": 7 }).to_string();
    let script = Script::start(move |_, _| Reply::json(&body));
    let registry = SchemaRegistry::builder([script.url()]).build().unwrap();
    (script, registry)
}

#[test]
fn a_value_that_does_not_fit_is_an_error() {
    let (_script, registry) = one_schema(CUSTOMER);
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    #[derive(Serialize)]
    struct Wrong {
        id: String,
        name: String,
    }
    let wrong = Wrong { id: "one".to_owned(), name: "yifan".to_owned() };
    for error in [
        serializer.serialize("contacts", &wrong).unwrap_err(),
        serializer.serialize("contacts", "yifan").unwrap_err(),
        serializer.serialize_value("contacts", &Value::Int(1)).unwrap_err(),
        serializer.serialize_value("contacts", &Value::Record(vec![("id".to_owned(), Value::Int(1))])).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Fix), "{error}");
        assert!(
            error.to_string().starts_with("a value does not fit the schema customerManagement.avro.Customer"),
            "{error}"
        );
        // Neither the schema, in the notation of Rust, nor the value is shown.
        let text = format!("{error:#} {error:?}");
        assert!(!text.contains("Schema") && !text.contains("yifan") && error.to_string().len() < 400, "{text}");
    }
    let text = serializer.serialize("contacts", &wrong).unwrap_err().to_string();
    assert!(text.contains("Customer: id: ") && text.contains("`str`"), "{text}");
}

#[test]
fn bytes_that_are_no_value_are_an_error_and_never_a_value_with_holes() {
    let (_script, registry) = one_schema(EVERYTHING);
    let schema = AvroSchema::parse(EVERYTHING).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let plain = AvroDeserializer::builder(&registry).build().unwrap();
    let reader = AvroSchema::parse(&EVERYTHING.replace("\"float\"}", "\"double\"}")).unwrap();
    let resolving = AvroDeserializer::builder(&registry).reader_schema(&reader).build().unwrap();
    let good = serializer.serialize_value("t", &everything(Some(everything(None)))).unwrap();
    plain.deserialize_value("t", &good).unwrap();
    resolving.deserialize_value("t", &good).unwrap();
    for length in 0..good.len() {
        for deserializer in [&plain, &resolving] {
            let error = deserializer.deserialize_value("t", &good[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Serialization, "{length}: {error}");
        }
    }
    let error = plain.deserialize_value("t", &[&good[..], b"more"].concat()).unwrap_err();
    assert!(error.to_string().contains("followed by 4 bytes"), "{error}");

    // Any change gives a value or an error, and each is quick.
    let mut random = 7_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=next() % 3 {
            let at = 5 + next() % (bytes.len() - 5);
            bytes[at] = u8::try_from(next() % 256).unwrap();
        }
        let _ = plain.deserialize_value("t", &bytes);
        let _ = resolving.deserialize_value("t", &bytes);
    }
}

#[test]
fn a_value_as_deep_as_allowed_fits_on_a_threads_stack() {
    #[derive(Debug, Serialize, Deserialize)]
    struct List {
        next: Option<Box<Self>>,
    }
    let text = r#"{"type": "record", "name": "n.List", "fields": [{"name": "next", "type": ["null", "List"], "default": null}]}"#;
    let (_script, registry) = one_schema(text);
    let newer = AvroSchema::parse(&text.replace("]}", r#", {"name": "n", "type": "int", "default": 0}]}"#)).unwrap();
    let plain = AvroDeserializer::builder(&registry).build().unwrap();
    let resolving = AvroDeserializer::builder(&registry).reader_schema(&newer).build().unwrap();
    let depth = |deserializer: &AvroDeserializer, levels: usize| {
        let bytes = [&[0, 0, 0, 0, 7], &*vec![2; levels], &[0]].concat();
        deserializer.deserialize::<List>("t", &bytes).map(|list| {
            let mut depth = 0;
            let mut at = &list.next;
            while let Some(list) = at {
                depth += 1;
                at = &list.next;
            }
            depth
        })
    };
    let run = move || {
        for deserializer in [&plain, &resolving] {
            assert_eq!(depth(deserializer, 31).unwrap(), 31);
            let error = depth(deserializer, 100_000).unwrap_err();
            assert!(error.to_string().contains("levels deep"), "{error}");
        }
    };
    thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn what_no_serializer_of_a_registry_wrote_is_told_apart() {
    let (script, registry) = one_schema(CUSTOMER);
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let error = deserializer.deserialize::<Customer>("contacts", br#"{"id": 1}"#).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization);
    assert!(error.to_string().contains("a serializer of a schema registry did not write this"), "{error}");
    assert_eq!(script.count(), 0);
    // A schema that is not one of Avro.
    let script = Script::start(|_, _| Reply::json(r#"{"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}"#));
    let registry = SchemaRegistry::builder([script.url()]).build().unwrap();
    let error = AvroDeserializer::builder(&registry)
        .build()
        .unwrap()
        .deserialize::<Customer>("c", &[0, 0, 0, 0, 1])
        .unwrap_err();
    assert!(error.to_string().contains("type PROTOBUF"), "{error}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let registry = SchemaRegistry::builder(["http://127.0.0.1:1"]).build().unwrap();
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let error = AvroSerializer::builder(&registry).build().unwrap_err();
    assert!(error.to_string().contains("schema: is missing"), "{error}");
    let builder = AvroSerializer::builder(&registry).schema(&schema);
    let error = builder.clone().auto_register(true).use_latest_version(true).build().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fix));
    let error =
        builder.properties([("value.subject.name.strategy", "com.example.Mine"), ("use.latest.version", "maybe")]);
    let error = error.build().unwrap_err().to_string();
    assert!(error.contains("value.subject.name.strategy") && error.contains("use.latest.version"), "{error}");
}

#[test]
fn avros_serializers_are_those_of_typed_producers() {
    use kafka_blocking::Headers;
    use kafka_blocking::serialization::{
        Context, DeserializationError, Deserializer, Origin, Part, Serializer, nullable,
    };

    let (_script, registry) = one_schema(CUSTOMER);
    let schema = AvroSchema::parse(CUSTOMER).unwrap();
    let serializer = AvroSerializer::builder(&registry).schema(&schema).build().unwrap();
    let deserializer = AvroDeserializer::builder(&registry).build().unwrap();
    let yifan = customer(1, "yifan", None);
    let mut headers = Headers::new();
    let mut context = Context::new("contacts", Part::Value, &mut headers);
    let bytes = Serializer::serialize(&serializer, &yifan, &mut context).unwrap().unwrap().into_owned();
    assert_eq!(bytes, b"\0\0\0\0\x07\x02\x0ayifan\0");
    // A tombstone has no schema.
    let none = Serializer::<Option<Customer>>::serialize(&nullable(serializer.clone()), &None, &mut context).unwrap();
    assert_eq!(none, None);

    let origin_headers = Headers::new();
    let origin = Origin::new("contacts", Part::Value, &origin_headers);
    let read: Result<Customer, DeserializationError> = Deserializer::deserialize(&deserializer, Some(&bytes), &origin);
    assert_eq!(read.unwrap(), yifan);
    let read: Result<Customer, DeserializationError> = Deserializer::deserialize(&deserializer, None, &origin);
    assert!(read.unwrap_err().to_string().starts_with("null is no value of a schema"));

    let mut context = Context::new("contacts", Part::Key, &mut headers);
    let error = Serializer::serialize(&serializer, &yifan, &mut context).unwrap_err();
    assert_eq!(error.to_string(), "a serializer of values is used for a key; see for_keys");
}

//! What Java's deserializers read of the typed layer.

use std::time::Duration;

use kafka_blocking::serialization::{Part, java, json, uuid};
use kafka_blocking::{Producer, TypedProducer, TypedRecord};
use serde_json::{Value, json as value};

use crate::support::{kafka, tools};

const SOON: Duration = Duration::from_secs(60);

/// Sends one record of these types to a topic of a real cluster, and reads it with Java's deserializers.
fn read_by_java<K: ?Sized + 'static, V: ?Sized + 'static>(
    topic: &str,
    send: impl FnOnce(Producer) -> TypedProducer<K, V>,
    records: &[(Option<&K>, Option<&V>)],
    deserializers: (&str, &str),
) -> Vec<(String, String)> {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic(topic, 1, 1, &[]);
    let typed = send(Producer::builder(cluster.bootstrap()).build().unwrap());
    for (key, value) in records {
        let mut record: TypedRecord<'_, K, V> = TypedRecord::to(topic);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.value(value);
        }
        typed.send(record).detach();
    }
    typed.close_timeout(SOON).unwrap();
    let class = |name: &str| format!("org.apache.kafka.common.serialization.{name}Deserializer");
    let (key, value) = (class(deserializers.0), class(deserializers.1));
    let arguments = ["--key-deserializer", &key, "--value-deserializer", &value];
    let read = tools::console_consumer(cluster, topic, records.len(), &arguments);
    read.into_iter().map(|record| (record.key, record.value)).collect()
}

#[test]
fn javas_consumer_reads_strings() {
    let records = [(Some("Precision Products"), Some("France")), (None, Some("Zürich € 😀")), (Some("k"), None)];
    let read = read_by_java("typed.strings", |p| TypedProducer::new(p, java(), java()), &records, ("String", "String"));
    let wanted = [("Precision Products", "France"), ("null", "Zürich € 😀"), ("k", "null")];
    assert_eq!(read, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn javas_consumer_reads_integers_and_longs() {
    let records = [
        (Some(&7), Some(&i64::MIN)),
        (Some(&i32::MIN), Some(&i64::MAX)),
        (Some(&-1), Some(&-2)),
        (Some(&16_909_060), Some(&0)),
    ];
    let read = read_by_java("typed.numbers", |p| TypedProducer::new(p, java(), java()), &records, ("Integer", "Long"));
    let wanted = records.map(|(key, value)| (key.unwrap().to_string(), value.unwrap().to_string()));
    assert_eq!(read, wanted);
}

#[test]
fn javas_consumer_reads_uuids_and_doubles() {
    let id = 0x123e_4567_e89b_12d3_a456_4266_1417_4000_u128;
    let records = [(Some(&id), Some(&1.5)), (Some(&id), Some(&-0.1))];
    let read = read_by_java("typed.uuids", |p| TypedProducer::new(p, uuid(), java()), &records, ("UUID", "Double"));
    let wanted = ["1.5", "-0.1"].map(|value| ("123e4567-e89b-12d3-a456-426614174000".to_owned(), value.to_owned()));
    assert_eq!(read, wanted);
}

#[test]
fn javas_consumer_reads_json_with_its_key() {
    let messages = [value!({ "user_id": 7, "name": "Ada" }), value!({ "user_id": 8, "tags": ["ü", null] })];
    let records = [(None, Some(&messages[0])), (None, Some(&messages[1]))];
    let typed =
        |p| TypedProducer::new(p, java(), json()).key_maker(|message: &Value| message["user_id"].as_i64().unwrap());
    let read = read_by_java("typed.json", typed, &records, ("Long", "String"));
    let wanted = [("7", "{\"name\":\"Ada\",\"user_id\":7}"), ("8", "{\"tags\":[\"ü\",null],\"user_id\":8}")];
    assert_eq!(read, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!(Part::Key.to_string(), "key");
}

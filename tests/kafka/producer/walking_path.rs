//! The path that everything else rests on: a record goes to a real Kafka, is acknowledged, and is read back by Kafka's
//! own console consumer.

use std::time::Duration;

use kafka_blocking::{Producer, Record, Timestamp, TimestampType};

use crate::support::{kafka, tools};

#[test]
fn a_record_is_acknowledged_and_read_back_by_kafkas_own_consumer() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("walking.path", 1, 1, &[]);
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    let record = Record::to("walking.path")
        .key("user-7")
        .value("hello")
        .header("unit", "mm")
        .timestamp(Timestamp::from_millis(1_700_000_000_123));
    let sent = producer.send(record).wait().unwrap();
    assert_eq!((sent.topic(), sent.partition(), sent.offset().unwrap()), ("walking.path", 0, 0));
    assert_eq!(
        (sent.timestamp().unwrap().millis(), sent.timestamp().unwrap().timestamp_type()),
        (1_700_000_000_123, TimestampType::CreateTime)
    );
    producer.close_timeout(Duration::from_secs(60)).unwrap();

    let read = tools::console_consumer(cluster, "walking.path", 1, &[]);
    assert_eq!(read.len(), 1);
    let record = &read[0];
    assert_eq!((record.partition, record.offset, &*record.timestamp), (0, 0, "CreateTime:1700000000123"));
    assert_eq!((&*record.key, &*record.value), ("user-7", "hello"));
    assert_eq!(record.headers, "unit:mm");
}

//! Acknowledgements and the producer's identity, as they lie in the log of a real Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_blocking::{
    Acks, Compression, ErrorKind, Producer, ProducerBuilder, Record, Recovery, Timestamp, TimestampType,
};

use crate::support::{dump, kafka, wait_for};

const SOON: Duration = Duration::from_secs(60);

fn builder() -> ProducerBuilder {
    Producer::builder(kafka::shared_single().bootstrap())
}

#[test]
fn each_kind_of_acknowledgement_and_none_at_all() {
    let cluster = kafka::shared_single();
    for (acks, topic) in [(Acks::All, "acks-all"), (Acks::Leader, "acks-1"), (Acks::None, "acks-0")] {
        cluster.admin().create_topic(topic, 1, 1, &[]);
        let producer = builder().idempotence(false).acks(acks).build().unwrap();
        for number in 0..20_i64 {
            let record = Record::to(topic)
                .value(number.to_string())
                .timestamp(Timestamp::from_millis(1_700_000_000_000 + number));
            let sent = producer.send(record).wait().unwrap();
            let offset = (acks != Acks::None).then_some(number);
            assert_eq!((sent.topic(), sent.partition(), sent.offset()), (topic, 0, offset));
            // Nobody has said anything else, so a record without an acknowledgement has its own time.
            let time = (1_700_000_000_000 + number, TimestampType::CreateTime);
            assert_eq!((sent.timestamp().unwrap().millis(), sent.timestamp().unwrap().timestamp_type()), time);
        }
        producer.close_timeout(SOON).unwrap();
        wait_for("the records", SOON, || (cluster.admin().end_offsets(topic) == [20]).then_some(()));
        let values: Vec<Vec<u8>> =
            cluster.admin().read(topic).into_iter().map(|record| record.value.unwrap()).collect();
        assert_eq!(values, (0..20).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
    }
    for batches in dump::all_batches(cluster, &[("acks-all", 0), ("acks-1", 0), ("acks-0", 0)]) {
        for batch in batches {
            assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (-1, -1, -1));
        }
    }
}

/// The broker can only close the connection where no answer is wanted, and it does so. The producer goes on.
#[test]
fn without_acks_a_refused_record_is_lost_in_silence_and_later_ones_arrive() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("acks-0-refused", 1, 1, &["max.message.bytes=1000"]);
    let producer = builder().idempotence(false).acks(Acks::None).build().unwrap();
    let too_large = producer.send(Record::to("acks-0-refused").value([b'x'; 5000])).wait().unwrap();
    assert_eq!(too_large.offset(), None);
    // A record written before the end of the connection is seen is lost, too; nobody asked to be told.
    wait_for("the end of the connection to be seen", SOON, || {
        producer.send(Record::to("acks-0-refused").value("while it ends")).wait().unwrap();
        (producer.metrics().connections_lost > 0).then_some(())
    });
    producer.send(Record::to("acks-0-refused").value("last")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    wait_for("the last one", SOON, || {
        let records = cluster.admin().read("acks-0-refused");
        assert!(records.iter().all(|record| record.value.as_ref().unwrap().len() < 5000));
        (records.last()?.value.as_deref()? == b"last").then_some(())
    });
}

#[test]
fn batches_carry_the_producers_id_and_gapless_sequences_for_each_partition() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("idempotent", 2, 1, &[]);
    let mut identities = BTreeSet::new();
    for compression in [Compression::None, Compression::Lz4] {
        let producer = builder().batch_records(7).compression(compression).build().unwrap();
        for number in 0..200 {
            drop(producer.send(Record::to("idempotent").partition(number % 2).value(number.to_string())));
        }
        producer.close_timeout(SOON).unwrap();
    }
    for log in dump::all_batches(cluster, &[("idempotent", 0), ("idempotent", 1)]) {
        assert_eq!(log.iter().map(|batch| batch.count).sum::<u32>(), 200);
        let ids: BTreeSet<i64> = log.iter().map(|batch| batch.producer_id).collect();
        assert_eq!(ids.len(), 2, "two producers have two ids");
        for id in ids {
            assert!(id >= 0);
            let mut next = 0;
            for batch in log.iter().filter(|batch| batch.producer_id == id) {
                assert!(batch.valid);
                assert_eq!((batch.producer_epoch, batch.base_sequence), (0, next));
                next += batch.count as i32;
                assert_eq!(batch.last_sequence, next - 1);
            }
            assert_eq!(next, 100);
            identities.insert(id);
        }
    }
    assert_eq!(identities.len(), 2, "a producer has one id for all partitions");
}

#[test]
fn build_refuses_contradictions_and_tells_every_one() {
    let nowhere = || Producer::builder(["localhost:1"]);
    for (builder, expected) in [
        (nowhere().acks(Acks::Leader), "acks"),
        (nowhere().acks(Acks::None), "acks"),
        (nowhere().retries(0), "retries"),
        (nowhere().max_in_flight(6), "max.in.flight.requests.per.connection"),
        (nowhere().delivery_timeout(Duration::from_secs(1)), "delivery.timeout.ms"),
        (nowhere().linger(Duration::from_secs(100)), "linger.ms"),
        (nowhere().batch_size(2_000_000), "max.request.size"),
        (nowhere().max_in_flight(0), "max.in.flight.requests.per.connection"),
        (nowhere().batch_records(0), "batch.num.messages"),
        (nowhere().batch_size(16_384).buffer_memory(1000), "buffer.memory"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fix));
        assert!(error.to_string().contains(expected), "{error}");
    }
    let all = nowhere()
        .acks(Acks::Leader)
        .retries(0)
        .max_in_flight(100)
        .buffer_memory(0)
        .delivery_timeout(Duration::from_millis(5))
        .bootstrap_servers(["a:1", "b:0"])
        .build()
        .unwrap_err()
        .to_string();
    for part in ["acks", "retries", "max.in.flight", "buffer.memory", "delivery.timeout.ms", "b:0"] {
        assert!(all.contains(part), "{part} is missing in {all}");
    }
    // What is a contradiction with idempotence is none without.
    nowhere().idempotence(false).acks(Acks::None).retries(0).max_in_flight(100).build().unwrap();
    // Kafka knows no other acks; the number comes from files of properties.
    for acks in ["2", "-2", "some"] {
        let properties = [("bootstrap.servers", "localhost:1"), ("acks", acks), ("enable.idempotence", "false")];
        let error = ProducerBuilder::from_properties(properties).build().unwrap_err();
        assert!(error.to_string().contains("acks"), "{error}");
    }
}

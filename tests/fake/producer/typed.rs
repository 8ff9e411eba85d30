//! The typed layer: key makers, serializers, partitioners of typed keys and interceptors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use kafka_blocking::partitioner::Choice;
use kafka_blocking::serialization::{
    Context, SerializationError, Serializer, from_fn, java, json, nullable, text, try_from_fn,
};
use kafka_blocking::testing::{FakeCluster, LoggedRecord};
use kafka_blocking::{
    Delivery, Error, ErrorKind, InterceptorError, Producer, ProducerInterceptor, Record, RecordMetadata, Recovery,
    Timestamp, TypedProducer, TypedRecord, Written, partitioner,
};
use serde_json::{Value, json as value};

use crate::common::watch_for_panics;
use crate::support::logger;

const SOON: Duration = Duration::from_secs(60);

struct Login {
    user: String,
    number: u64,
}

fn login(user: &str, number: u64) -> Login {
    Login { user: user.into(), number }
}

fn write_login(login: &Login) -> String {
    format!("{} {}", login.user, login.number)
}

fn fake(topic: &str, partitions: usize) -> (FakeCluster, Producer) {
    let cluster = FakeCluster::builder().topic(topic, partitions).start().unwrap();
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    (cluster, producer)
}

fn keys_and_values(records: &[LoggedRecord]) -> Vec<(Option<String>, Option<String>)> {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
    records.iter().map(|record| (text(record.key()), text(record.value()))).collect()
}

/// The error of a record that was refused, which is known at once.
fn refused(delivery: Delivery) -> Error {
    let error = delivery.try_wait().expect("the error is known at once").unwrap_err();
    assert_eq!(error.written(), Some(Written::No));
    assert_eq!(delivery.wait().unwrap_err().kind(), error.kind());
    error
}

#[test]
fn the_key_maker_makes_the_key_that_is_stored_and_partitioned_by() {
    watch_for_panics();
    let (cluster, producer) = fake("logins", 3);
    let typed =
        TypedProducer::new(producer.clone(), java(), from_fn(write_login)).key_maker(|login| login.user.clone());
    for user in ["ada", "grace", "edsger"] {
        let sent = typed.produce("logins", &login(user, 7)).wait().unwrap();
        let plain = producer.send(Record::to("logins").key(user).value("plain")).wait().unwrap();
        assert_eq!(sent.partition(), plain.partition(), "the bytes of the key choose, as without a typed layer");
        let records = cluster.records("logins", sent.partition()).unwrap();
        let typed = &records[usize::try_from(sent.offset().unwrap()).unwrap()];
        assert_eq!((typed.key_text(), typed.value_text()), (user.to_owned(), format!("{user} 7")));
    }
    typed.close_timeout(SOON).unwrap();
}

#[test]
fn without_a_key_maker_the_key_is_null() {
    watch_for_panics();
    let (cluster, producer) = fake("colours", 1);
    let typed = TypedProducer::json(producer);
    typed.produce("colours", &value!({ "colour": "blue" })).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    let records = cluster.records("colours", 0).unwrap();
    assert_eq!(keys_and_values(&records), [(None, Some("{\"colour\":\"blue\"}".into()))]);
}

#[derive(Debug, PartialEq)]
struct NoSuchField(&'static str);

impl fmt::Display for NoSuchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has no field {}", self.0)
    }
}

impl std::error::Error for NoSuchField {}

#[test]
fn an_error_of_the_key_maker_fails_that_produce_and_nothing_is_sent() {
    watch_for_panics();
    let (cluster, producer) = fake("logins", 1);
    let user = |message: &Value| message["user"].as_u64().ok_or(NoSuchField("user"));
    let typed = TypedProducer::new(producer, text(), json()).try_key_maker(user);
    let error = refused(typed.produce("logins", &value!({ "name": "ada" })));
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::KeyMaker, Recovery::Fix));
    assert_eq!(error.context().topic.as_deref(), Some("logins"));
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&NoSuchField("user")), "the user's own error");
    assert_eq!(error.to_string(), "the key maker failed (topic logins)");

    typed.produce("logins", &value!({ "user": 7 })).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    let records = cluster.records("logins", 0).unwrap();
    assert_eq!(keys_and_values(&records), [(Some("7".into()), Some("{\"user\":7}".into()))]);
}

#[test]
fn an_error_of_a_serializer_fails_that_send_and_nothing_is_sent() {
    watch_for_panics();
    let (cluster, producer) = fake("numbers", 1);
    let even = |number: &u64| {
        if number.is_multiple_of(2) { Ok(number.to_string()) } else { Err(NoSuchField("half")) }
    };
    let typed: TypedProducer<u64, u64> = TypedProducer::new(producer, try_from_fn(even), try_from_fn(even));
    for (key, value, part) in [(1, 2, "the key could not"), (2, 1, "the value could not")] {
        let error = refused(typed.send(TypedRecord::to("numbers").key(&key).value(&value)));
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Fix));
        assert_eq!(error.context().topic.as_deref(), Some("numbers"));
        assert_eq!(error.source().unwrap().downcast_ref(), Some(&NoSuchField("half")));
        assert!(error.to_string().starts_with(part), "{error}");
    }
    // A callback is told, too, on its thread.
    let (tell, told) = mpsc::channel();
    typed.send_with(TypedRecord::to("numbers").value(&1), move |result| {
        let thread = std::thread::current().name().map(str::to_owned);
        tell.send((result.unwrap_err().kind(), thread)).unwrap();
    });
    assert_eq!(told.recv_timeout(SOON).unwrap(), (ErrorKind::Serialization, Some("kafka-callbacks".into())));
    typed.send(TypedRecord::to("numbers").key(&2).value(&4)).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    assert_eq!(keys_and_values(&cluster.records("numbers", 0).unwrap()), [(Some("2".into()), Some("4".into()))]);
}

#[test]
fn an_error_of_this_crate_inside_a_serializer_keeps_what_helps() {
    watch_for_panics();
    let (_cluster, producer) = fake("t", 1);
    let other = producer.clone();
    let ask = move |_: &str| match other.try_send(Record::to("unknown")) {
        Ok(_) => Ok(String::new()),
        Err(refused) => Err(Error::from(refused)),
    };
    let typed: TypedProducer<(), str> = TypedProducer::new(producer, java(), try_from_fn(ask));
    let error = refused(typed.produce("t", "m"));
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Serialization, Recovery::Retry));
    let cause = error.source().unwrap().downcast_ref::<Error>().map(Error::kind);
    assert_eq!(cause, Some(ErrorKind::WouldBlock));
}

/// Panics where it is told to.
struct Brittle(&'static str);

impl<T: fmt::Display + ?Sized> Serializer<T> for Brittle {
    fn serialize<'v>(
        &self,
        value: &'v T,
        context: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        let value = value.to_string();
        assert_ne!(value, format!("{} {}", self.0, context.part), "a panic that is part of the test");
        Ok(Some(Cow::Owned(value.into_bytes())))
    }
}

#[test]
fn a_panic_of_the_users_code_fails_that_call_alone() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 1);
    let typed: TypedProducer<String, str> = TypedProducer::new(producer, Brittle("panic"), Brittle("panic"))
        .key_maker(|message| match message {
            "key maker" => panic!("a panic that is part of the test"),
            _ => "key".into(),
        })
        .partitioner_by_key(|key, _| match key.map(String::as_str) {
            Some("partitioner") => panic!("a panic that is part of the test"),
            _ => 0,
        });
    let keyed = |key: &String, message: &str| typed.send(TypedRecord::to("t").key(key).value(message));
    for _ in 0..3 {
        for (delivery, who) in [
            (typed.produce("t", "key maker"), "the key maker panicked"),
            (keyed(&"panic key".into(), "m"), "the serializer of keys panicked"),
            (keyed(&"k".into(), "panic value"), "the serializer of values panicked"),
            (keyed(&"partitioner".into(), "m"), "the partitioner panicked"),
        ] {
            let error = refused(delivery);
            assert_eq!((error.kind(), error.recovery()), (ErrorKind::Panicked, Recovery::Fix), "{who}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("{who}; the record was not sent: ")), "{text}");
            assert!(text.contains("a panic that is part of the test") && text.ends_with(" (topic t)"), "{text}");
        }
        typed.produce("t", "good").wait().unwrap();
    }
    typed.close_timeout(SOON).unwrap();
    assert_eq!(cluster.record_count("t"), 3);
}

#[test]
fn a_counter_as_key_maker_spreads_evenly_also_from_many_threads() {
    watch_for_panics();
    let (cluster, producer) = fake("example.topic", 4);
    let counter = AtomicU64::new(0);
    let typed = TypedProducer::new(producer, text(), json())
        .key_maker(move |_: &Value| counter.fetch_add(1, Ordering::Relaxed))
        .partitioner_by_key(|key, partitions| {
            let count = u64::try_from(partitions.len())?;
            let place = usize::try_from(key.ok_or("no key")? % count)?;
            Ok::<_, SerializationError>(partitions[place])
        });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    typed.produce("example.topic", &value!({ "how": "now", "brown": "cow" })).detach();
                }
            });
        }
    });
    typed.close_timeout(SOON).unwrap();
    let mut keys = Vec::new();
    for partition in 0..4 {
        let records = cluster.records("example.topic", partition).unwrap();
        assert_eq!(records.len(), 100);
        for record in records {
            let key: u64 = record.key_text().parse().unwrap();
            assert_eq!(i32::try_from(key % 4).unwrap(), partition, "the key that chose is the key that is stored");
            assert_eq!(record.value_text(), "{\"brown\":\"cow\",\"how\":\"now\"}");
            keys.push(key);
        }
    }
    keys.sort_unstable();
    assert_eq!(keys, (0..400).collect::<Vec<_>>());
}

#[test]
fn the_typed_partitioner_sees_the_key_before_it_is_serialized() {
    watch_for_panics();
    let (cluster, producer) = fake("orders", 4);
    // Java's SkewPartitioner: one very common key has a partition for itself, and every record must have a key.
    let skew = |key: Option<&String>, partitions: &[i32]| {
        let key = key.ok_or(NoSuchField("key"))?;
        let (last, rest) = partitions.split_last().unwrap();
        if key == "VeryCommonKey" {
            return Ok(*last);
        }
        let hash = partitioner::hash::murmur2(key.as_bytes()).cast_signed().unsigned_abs();
        Ok::<_, NoSuchField>(rest[usize::try_from(hash).unwrap() % rest.len()])
    };
    // The key that is stored is another: its length.
    let typed: TypedProducer<String, str> =
        TypedProducer::new(producer, from_fn(|key: &String| key.len().to_string()), java()).partitioner_by_key(skew);
    let send = |key: &str| typed.send(TypedRecord::to("orders").key(&key.to_owned()).value("1 apple")).wait();
    assert_eq!(send("VeryCommonKey").unwrap().partition(), 3);
    for number in 0..20 {
        assert!((0..3).contains(&send(&format!("key-{number}")).unwrap().partition()));
    }
    assert_eq!(cluster.records("orders", 3).unwrap()[0].key_text(), "13");
    let error = refused(typed.produce("orders", "1 pear"));
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::InvalidInput, Recovery::Fix));
    assert_eq!(error.source().unwrap().to_string(), "the message has no field key");
    // A record that names its partition is not shown to it.
    assert_eq!(typed.send(TypedRecord::to("orders").value("1 pear").partition(1)).wait().unwrap().partition(), 1);
    typed.close_timeout(SOON).unwrap();
}

#[test]
fn a_typed_partitioner_may_answer_sticky_and_a_missing_partition_is_refused() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 2);
    let sticky: TypedProducer<(), str> =
        TypedProducer::new(producer.clone(), java(), java()).partitioner_by_key(|_, _| Choice::Sticky);
    sticky.produce("t", "m").wait().unwrap();
    let over: TypedProducer<(), str> = TypedProducer::new(producer, java(), java()).partitioner_by_key(|_, _| 2);
    assert_eq!(refused(over.produce("t", "m")).kind(), ErrorKind::NoSuchPartition);
    over.close_timeout(SOON).unwrap();
    assert_eq!(cluster.record_count("t"), 1);
}

#[test]
fn every_part_of_a_typed_record_arrives_and_none_is_null() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 2);
    let typed: TypedProducer<str, str> = TypedProducer::new(producer, java(), java());
    let full =
        TypedRecord::to("t").key("k").value("v").partition(1).timestamp(Timestamp::from_millis(1_700_000_000_000));
    typed.send(full.header("a", "1").header("a", None::<&str>)).wait().unwrap();
    typed.send(TypedRecord::to("t").key("k").partition(1)).wait().unwrap();
    typed.send(TypedRecord::to("t").value("").partition(1)).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    let records = cluster.records("t", 1).unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(keys_and_values(&records), [(some("k"), some("v")), (some("k"), None), (None, some(""))]);
    assert_eq!(records[0].timestamp().unwrap().millis(), 1_700_000_000_000);
    assert_eq!(
        records[0].headers(),
        &[("a", Some("1")), ("a", None)].into_iter().collect::<kafka_blocking::Headers<'_>>()
    );
}

#[test]
fn none_is_a_tombstone_where_the_serializer_says_so() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 1);
    let typed: TypedProducer<i32, Option<Value>> = TypedProducer::new(producer, java(), nullable(json()));
    typed.send(TypedRecord::to("t").key(&1).value(&Some(value!([])))).wait().unwrap();
    typed.send(TypedRecord::to("t").key(&1).value(&None)).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    let records = cluster.records("t", 0).unwrap();
    let values: Vec<_> = records.iter().map(LoggedRecord::value).collect();
    assert_eq!(values, [Some(&b"[]"[..]), None]);
}

/// Says in headers what it was told.
struct Telling;

impl Serializer<str> for Telling {
    fn serialize<'v>(
        &self,
        value: &'v str,
        context: &mut Context<'_, '_>,
    ) -> Result<Option<Cow<'v, [u8]>>, SerializationError> {
        let before = context.headers.len();
        context.headers.push(format!("{}-{}", context.topic, context.part), before.to_string());
        Ok(Some(Cow::Borrowed(value.as_bytes())))
    }
}

#[test]
fn a_serializer_knows_topic_and_part_and_may_add_headers() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 1);
    let typed: TypedProducer<str, str> = TypedProducer::new(producer, Telling, Telling);
    typed.send(TypedRecord::to("t").key("k").value("v").header("own", "x")).wait().unwrap();
    typed.close_timeout(SOON).unwrap();
    let headers: Vec<_> = cluster.records("t", 0).unwrap()[0]
        .headers()
        .iter()
        .map(|header| format!("{}={}", header.name(), String::from_utf8_lossy(header.value().unwrap())))
        .collect();
    assert_eq!(headers, ["own=x", "t-key=1", "t-value=2"], "the key is first");
}

#[test]
fn no_code_of_the_user_runs_on_a_thread_that_sends() {
    watch_for_panics();
    let (_cluster, producer) = fake("t", 1);
    let seen: Arc<Mutex<BTreeMap<&str, String>>> = Arc::default();
    let note = {
        let seen = Arc::clone(&seen);
        move |who| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            seen.lock().unwrap().insert(who, thread);
        }
    };
    struct Noting<F>(F);
    impl<R, F: Fn(&'static str) + Send + Sync> ProducerInterceptor<R> for Noting<F> {
        fn on_send(&self, _: &mut R) -> Result<(), InterceptorError> {
            (self.0)("on_send");
            Ok(())
        }
        fn on_acknowledgement(&self, _: &kafka_blocking::Result<RecordMetadata>) {
            (self.0)("on_acknowledgement");
        }
    }
    let (in_maker, in_serializer, in_partitioner) = (note.clone(), note.clone(), note.clone());
    let serialize = move |message: &String| {
        in_serializer("serializer");
        message.clone()
    };
    let typed = TypedProducer::new(producer, java(), from_fn(serialize))
        .key_maker(move |message: &String| {
            in_maker("key maker");
            message.clone()
        })
        .partitioner_by_key(move |_, _| {
            in_partitioner("partitioner");
            0
        })
        .interceptor(Noting(note));
    let caller = std::thread::Builder::new().name("the caller".into());
    let sent = caller.spawn(move || {
        typed.produce("t", &"m".into()).detach();
        typed.close_timeout(SOON).unwrap();
    });
    sent.unwrap().join().unwrap();
    let mut wanted: BTreeMap<_, _> =
        ["key maker", "serializer", "partitioner", "on_send"].map(|who| (who, "the caller".to_owned())).into();
    wanted.insert("on_acknowledgement", "kafka-callbacks".into());
    assert_eq!(*seen.lock().unwrap(), wanted);
}

/// Adds its name to a header, and its name and the offset or error to a list of results.
#[derive(Clone)]
struct Signing {
    name: &'static str,
    results: Arc<Mutex<Vec<String>>>,
}

impl Signing {
    fn sign(&self, headers: &mut kafka_blocking::Headers<'_>) {
        headers.push("signed", self.name);
    }

    fn note(&self, result: &kafka_blocking::Result<RecordMetadata>) {
        let result = match result {
            Ok(sent) => sent.offset().unwrap().to_string(),
            Err(error) => format!("{:?}", error.kind()),
        };
        self.results.lock().unwrap().push(format!("{} {result}", self.name));
    }
}

impl ProducerInterceptor<Record<'_>> for Signing {
    fn on_send(&self, record: &mut Record<'_>) -> Result<(), InterceptorError> {
        self.sign(&mut record.headers);
        Ok(())
    }

    fn on_acknowledgement(&self, result: &kafka_blocking::Result<RecordMetadata>) {
        self.note(result);
    }
}

impl<K: ?Sized, V: ?Sized> ProducerInterceptor<TypedRecord<'_, K, V>> for Signing {
    fn on_send(&self, record: &mut TypedRecord<'_, K, V>) -> Result<(), InterceptorError> {
        self.sign(&mut record.headers);
        Ok(())
    }

    fn on_acknowledgement(&self, result: &kafka_blocking::Result<RecordMetadata>) {
        self.note(result);
    }
}

fn signatures(record: &LoggedRecord) -> Vec<String> {
    record.headers().iter().map(|header| String::from_utf8(header.value().unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn interceptors_see_each_record_in_their_order_and_each_result_before_its_callback() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let results: Arc<Mutex<Vec<String>>> = Arc::default();
    let signing = |name| Signing { name, results: Arc::clone(&results) };
    let producer =
        Producer::builder(cluster.bootstrap()).interceptor(signing("p1")).interceptor(signing("p2")).build().unwrap();
    let typed: TypedProducer<(), str> =
        TypedProducer::new(producer, java(), java()).interceptor(signing("t1")).interceptor(signing("t2"));
    let back = Arc::clone(&results);
    typed.send_with(TypedRecord::to("t").value("one"), move |result| {
        back.lock().unwrap().push(format!("callback {}", result.unwrap().offset().unwrap()));
    });
    typed.produce("t", "two").detach();
    typed.flush_timeout(SOON).unwrap();
    for record in cluster.records("t", 0).unwrap() {
        assert_eq!(signatures(&record), ["t1", "t2", "p1", "p2"]);
    }
    let seen = std::mem::take(&mut *results.lock().unwrap());
    assert_eq!(seen, ["p1 0", "p2 0", "t1 0", "t2 0", "callback 0", "p1 1", "p2 1", "t1 1", "t2 1"]);
    // What is refused is told as well.
    refused(typed.send(TypedRecord::to("t").value("m").partition(-1)));
    typed.flush_timeout(SOON).unwrap();
    let seen = std::mem::take(&mut *results.lock().unwrap());
    assert_eq!(seen, ["p1", "p2", "t1", "t2"].map(|name| format!("{name} InvalidInput")));
    typed.close_timeout(SOON).unwrap();
    assert_eq!(refused(typed.produce("t", "m")).kind(), ErrorKind::Closed);
    assert_eq!(*results.lock().unwrap(), ["t1 Closed", "t2 Closed"], "what was refused before it was bytes");
}

#[test]
fn the_producers_own_interceptors_may_change_every_part_of_a_record() {
    watch_for_panics();
    struct Change;
    impl<'a> ProducerInterceptor<Record<'a>> for Change {
        fn on_send(&self, record: &mut Record<'a>) -> Result<(), InterceptorError> {
            let value = record.value.as_deref().ok_or("no value")?.to_ascii_uppercase();
            record.value = Some(value.into());
            record.key = Some(b"a key".into());
            record.topic = "b".into();
            record.partition = Some(1);
            record.timestamp = Some(Timestamp::from_millis(5));
            Ok(())
        }
    }
    let cluster = FakeCluster::builder().topic("a", 1).topic("b", 2).start().unwrap();
    let producer = Producer::builder(cluster.bootstrap()).interceptor(Change).build().unwrap();
    let sent = producer.send(Record::to("a").value("text")).wait().unwrap();
    assert_eq!((sent.topic(), sent.partition(), sent.timestamp().unwrap().millis()), ("b", 1, 5));
    // Its failure stops nothing.
    producer.send(Record::to("a").key("k")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    let records = cluster.records("b", 1).unwrap();
    assert_eq!(keys_and_values(&records), [(Some("a key".into()), Some("TEXT".into()))]);
    assert_eq!(cluster.record_count("a"), 1);
}

#[test]
fn a_typed_interceptor_changes_the_record_before_its_key_is_made_and_it_is_serialized() {
    watch_for_panics();
    struct Change;
    impl<'a> ProducerInterceptor<TypedRecord<'a, String, Login>> for Change {
        fn on_send(&self, record: &mut TypedRecord<'a, String, Login>) -> Result<(), InterceptorError> {
            assert_eq!((record.key.as_deref(), &*record.topic), (None, "a"));
            let number = record.value.as_deref().ok_or("no value")?.number;
            record.value = Some(Box::new(login("anonymous", number + 1)).into());
            record.topic = "b".into();
            if number == 2 {
                record.key = Some(Box::new(String::from("own")).into());
            }
            Ok(())
        }
    }
    let cluster = FakeCluster::builder().topic("a", 1).topic("b", 1).start().unwrap();
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    let typed = TypedProducer::new(producer, java(), from_fn(write_login))
        .key_maker(|login| login.user.clone())
        .interceptor(Change);
    typed.produce("a", &login("ada", 1)).detach();
    typed.produce("a", &login("ada", 2)).detach();
    typed.close_timeout(SOON).unwrap();
    let some = |text: &str| Some(text.to_owned());
    let wanted = [(some("anonymous"), some("anonymous 2")), (some("own"), some("anonymous 3"))];
    assert_eq!(keys_and_values(&cluster.records("b", 0).unwrap()), wanted);
}

/// An error whose text panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a panic that is part of the test");
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn an_interceptor_that_fails_or_panics_stops_neither_the_record_nor_the_chain() {
    watch_for_panics();
    struct Failing(AtomicU64);
    impl<R> ProducerInterceptor<R> for Failing {
        fn on_send(&self, _: &mut R) -> Result<(), InterceptorError> {
            match self.0.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => panic!("a panic that is part of the test"),
                1 => Err("it is part of the test".into()),
                _ => Err(Box::new(Unspeakable)),
            }
        }

        fn on_acknowledgement(&self, _: &kafka_blocking::Result<RecordMetadata>) {
            panic!("a panic that is part of the test");
        }
    }
    const TOPIC: &str = "failing.interceptors";
    logger::collect(log::LevelFilter::Warn);
    let cluster = FakeCluster::builder().topic(TOPIC, 1).start().unwrap();
    let results: Arc<Mutex<Vec<String>>> = Arc::default();
    let signing = |name| Signing { name, results: Arc::clone(&results) };
    let failing = || Failing(AtomicU64::new(0));
    let producer =
        Producer::builder(cluster.bootstrap()).interceptor(failing()).interceptor(signing("p")).build().unwrap();
    let typed: TypedProducer<(), str> =
        TypedProducer::new(producer, java(), java()).interceptor(failing()).interceptor(signing("t"));
    let (tell, told) = mpsc::channel();
    for n in 0..6 {
        let tell = tell.clone();
        typed.send_with(TypedRecord::to(TOPIC).value("m"), move |result| tell.send(result).unwrap());
        assert_eq!(told.recv_timeout(SOON).unwrap().unwrap().offset().unwrap(), n);
    }
    typed.close_timeout(SOON).unwrap();
    for record in cluster.records(TOPIC, 0).unwrap() {
        assert_eq!(signatures(&record), ["t", "p"]);
    }
    let wanted: Vec<_> = (0..6).flat_map(|n| [format!("p {n}"), format!("t {n}")]).collect();
    assert_eq!(*results.lock().unwrap(), wanted);
    let logged = logger::lines(TOPIC);
    logger::silence();
    let on_record = |level, what| format!("{level} an interceptor {what} on a record for {TOPIC}, which goes on");
    let (failed, panicked) = (on_record("WARN", "failed"), on_record("ERROR", "panicked"));
    let failed = format!("{failed}: it is part of the test");
    let panicked = format!("{panicked}: a panic that is part of the test");
    // Each record is seen by two that fail, at the same count.
    let round = [&panicked, &panicked, &failed, &failed, &panicked, &panicked];
    assert_eq!(logged, round.repeat(2).into_iter().cloned().collect::<Vec<_>>());
}

#[test]
fn a_closed_producer_runs_neither_key_maker_nor_serializer() {
    watch_for_panics();
    let (_cluster, producer) = fake("t", 1);
    let typed =
        TypedProducer::new(producer, java(), from_fn(|_: &String| -> String { panic!("nothing is to be serialized") }))
            .key_maker(|_| -> String { panic!("no key is to be made") });
    typed.close_timeout(SOON).unwrap();
    let error = refused(typed.produce("t", &"m".into()));
    assert_eq!((error.kind(), error.context().topic.as_deref()), (ErrorKind::Closed, Some("t")));
}

#[test]
fn try_send_of_a_typed_record_never_waits() {
    watch_for_panics();
    let (_cluster, producer) = fake("t", 1);
    let typed: TypedProducer<(), str> = TypedProducer::new(producer, java(), java());
    let record = || TypedRecord::to("unknown").value("m");
    let refused = typed.try_send(record()).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().written()), (ErrorKind::WouldBlock, Some(Written::No)));
    assert_eq!(refused.into_record().value.as_deref(), Some("m"));
    typed.close_timeout(SOON).unwrap();
}

#[test]
fn several_typed_producers_share_one_producer() {
    watch_for_panics();
    let (cluster, producer) = fake("t", 1);
    let numbers: TypedProducer<(), i32> = TypedProducer::new(producer.clone(), java(), text());
    let texts: TypedProducer<(), str> = TypedProducer::new(producer, java(), java());
    let again = numbers.clone();
    numbers.produce("t", &1).detach();
    texts.produce("t", "two").detach();
    again.produce("t", &3).detach();
    texts.close_timeout(SOON).unwrap();
    let values: Vec<_> = cluster.records("t", 0).unwrap().iter().map(LoggedRecord::value_text).collect();
    assert_eq!(values, ["1", "two", "3"]);
    assert_eq!(numbers.produce("t", &4).wait().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn payloads_are_not_in_debug_texts() {
    watch_for_panics();
    let record: TypedRecord<'_, str, str> = TypedRecord::to("t").key("secret").value("secret").header("h", "secret");
    assert!(!format!("{record:?}").contains("secret"));
}

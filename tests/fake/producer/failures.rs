//! Nothing is lost in silence: who is told of a record that fails, and what comes back to its owner.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kafka_blocking::serialization::java;
use kafka_blocking::testing::{Fault, On};
use kafka_blocking::{
    BrokerId, Delivery, Error, ErrorCode, ErrorKind, InterceptorError, ProducerBuilder, ProducerInterceptor, Purge,
    Record, Recovery, Timeout, TopicPartition, TypedProducer, TypedRecord, Written,
};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

/// What `on_failure` is told, and the thread's name.
fn watched(builder: ProducerBuilder) -> (ProducerBuilder, Receiver<(Error, String)>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let builder = builder.on_failure(move |error| {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tell.lock().unwrap().send((error.clone(), thread)).unwrap();
    });
    (builder, told)
}

#[test]
fn every_record_that_fails_is_told_of_once_and_no_other() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    let (builder, told) = watched(patient(&cluster));
    let producer = builder.max_request_size(100_000).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    // A batch that is refused, of which nobody looks at a handle, or has a callback.
    let fault = cluster.inject(On::produce().topic("t"), Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    for number in 0..10 {
        send(&producer, "t", 0, number).detach();
    }
    let (tell, called) = channel();
    producer.send_with(Record::to("t").partition(0).value("10"), move |result| tell.send(result).unwrap());
    producer.flush().unwrap();
    assert_eq!(fault.fired(), 1);
    assert!(called.try_recv().unwrap().is_err(), "flush waits for callbacks");
    let failed: Vec<_> = told.try_iter().collect();
    assert_eq!(failed.len(), 11, "flush waits for what is told");
    for (error, thread) in failed {
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        assert_eq!((error.written(), error.context().partition), (Some(Written::No), Some(0)));
        assert_eq!(thread, "kafka-callbacks");
    }
    // One that is refused at once; not one that comes back to its owner.
    let too_large = || Record::to("t").partition(0).value(vec![b'x'; 200_000]);
    producer.send(too_large()).detach();
    assert_eq!(producer.try_send(too_large()).unwrap_err().error().kind(), ErrorKind::RecordTooLarge);
    let batch = producer.create_batch();
    assert_eq!(producer.send_batch(batch, "t", 0).unwrap_err().error().kind(), ErrorKind::InvalidInput);
    producer.flush().unwrap();
    let kinds = || told.try_iter().map(|(error, _)| error.kind()).collect::<Vec<_>>();
    assert_eq!(kinds(), [ErrorKind::RecordTooLarge]);
    // What is purged, and what a close gives up.
    cluster.pause(BROKER);
    drop(send_all(&producer, "t", 1, 0, 3));
    producer.purge(Purge::All);
    producer.flush().unwrap();
    assert_eq!(kinds(), [ErrorKind::Purged; 3]);
    drop(send_all(&producer, "t", 1, 0, 2));
    assert_eq!(producer.close_timeout(ms(10)).unwrap_err().records(), 2);
    assert_eq!(kinds(), [ErrorKind::Closed; 2]);
    // After that there is no thread for it.
    send(&producer, "t", 0, 0).detach();
    let (error, thread) = told.try_recv().unwrap();
    assert_eq!((error.kind(), Some(&*thread)), (ErrorKind::Closed, std::thread::current().name()));
}

#[test]
fn a_panic_of_on_failure_keeps_no_record_back() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let producer = patient(&cluster)
        .on_failure(move |error| {
            tell.lock().unwrap().send(error.recovery()).unwrap();
            panic!("a panic that is part of the test");
        })
        .build()
        .unwrap();
    let fault = cluster.inject(On::produce().topic("t"), Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let sent = send_all(&producer, "t", 0, 0, 5);
    producer.flush().unwrap();
    assert_eq!(fault.fired(), 1);
    assert!(sent.iter().all(Delivery::is_done));
    assert_eq!(told.try_iter().count(), 5);
    succeed(&send_all(&producer, "t", 0, 0, 5));
    producer.close().unwrap();
    assert_eq!(told.try_iter().count(), 0);
    assert_no_panics();
}

/// Adds a header to each record, and remembers what it is told.
#[derive(Clone, Default)]
struct Signing(Arc<Mutex<Vec<bool>>>);

impl ProducerInterceptor<Record<'_>> for Signing {
    fn on_send(&self, record: &mut Record<'_>) -> Result<(), InterceptorError> {
        record.headers.push("signed", "p");
        Ok(())
    }

    fn on_acknowledgement(&self, result: &kafka_blocking::Result<kafka_blocking::RecordMetadata>) {
        self.0.lock().unwrap().push(result.is_ok());
    }
}

impl<K: ?Sized, V: ?Sized> ProducerInterceptor<TypedRecord<'_, K, V>> for Signing {
    fn on_send(&self, record: &mut TypedRecord<'_, K, V>) -> Result<(), InterceptorError> {
        record.headers.push("signed", "t");
        Ok(())
    }
}

#[test]
fn a_record_that_cannot_be_sent_at_once_comes_back_as_it_was_given() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let signing = Signing::default();
    let producer = quick(&cluster).interceptor(signing.clone()).build().unwrap();
    let given = Record::to("t").key("k").value("v").header("h", "1");
    let refused = producer.try_send(given.clone()).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().recovery()), (ErrorKind::WouldBlock, Recovery::Retry));
    assert_eq!(refused.error().written(), Some(Written::No));
    assert_eq!(refused.to_string(), refused.error().to_string());
    let mut record = refused.into_record();
    assert_eq!(record, given);
    // Sent again until it can be, it is signed once.
    let deadline = Instant::now() + BOUND;
    let delivery = loop {
        match producer.try_send(record) {
            Ok(delivery) => break delivery,
            Err(refused) => {
                assert!(Instant::now() < deadline);
                record = refused.into_record();
            }
        }
    };
    succeed(&[delivery]);
    let stored = cluster.records("t", 0).unwrap();
    let names: Vec<&str> = stored[0].headers().iter().map(|header| header.name()).collect();
    assert_eq!(names, ["h", "signed"]);
    producer.flush().unwrap();
    let told = signing.0.lock().unwrap().clone();
    assert!(told.len() >= 2 && told.iter().filter(|ok| **ok).count() == 1, "{told:?}");
    close(&producer);
}

#[test]
fn a_typed_record_comes_back_without_what_was_made_of_it() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let typed: TypedProducer<String, str> = TypedProducer::new(producer, java(), java())
        .key_maker(|value: &str| value.to_owned())
        .interceptor(Signing::default());
    let refused = typed.try_send(TypedRecord::to("unknown").value("v").header("h", "1")).unwrap_err();
    assert_eq!(refused.error().kind(), ErrorKind::WouldBlock);
    let record = refused.into_record();
    assert_eq!((record.key.as_deref(), record.value.as_deref(), record.headers.len()), (None, Some("v"), 1));
    typed.close().unwrap();
}

#[test]
fn close_tells_what_failed_while_it_waited_and_says_it_again() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    let producer = patient(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let fault =
        cluster.inject(On::produce().topic("t").partition(0), Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    for number in 0..5 {
        send(&producer, "t", 0, number).detach();
        send(&producer, "t", 1, number).detach();
    }
    let undelivered = producer.close().unwrap_err();
    assert_eq!(fault.fired(), 1);
    let place = TopicPartition::new("t", 0);
    assert_eq!((undelivered.records(), undelivered.partitions().get(&place)), (5, Some(&5)), "{undelivered}");
    let cause = undelivered.causes()[&place].code();
    assert_eq!(cause, Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    // Whoever closes again is told the same, and that closing again is no use.
    assert_eq!(producer.clone().close_timeout(ms(0)).unwrap_err(), undelivered);
    let error = Error::from(producer.close().unwrap_err());
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Timeout(Timeout::Close), Recovery::Fatal));
    assert_eq!(error.written(), Some(Written::Maybe));
}

#[test]
fn flush_and_close_without_a_limit_end_with_the_delivery_timeout() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).request_timeout(ms(500)).delivery_timeout(ms(2000)).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    cluster.pause(BROKER);
    let started = Instant::now();
    let sent = send_all(&producer, "t", 0, 1, 6);
    // Each record has its result then, and tells it: that is no error of the flush.
    producer.flush().unwrap();
    assert!((ms(1900)..ms(2000) + AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    for delivery in &sent {
        let error = delivery.try_wait().expect("flushed").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error}");
    }
    // A close tells them by partition.
    let started = Instant::now();
    drop(send_all(&producer, "t", 0, 6, 9));
    let undelivered = producer.close().unwrap_err();
    assert!((ms(1900)..ms(2000) + AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!(undelivered.records(), 3);
    let cause = &undelivered.causes()[&TopicPartition::new("t", 0)];
    assert_eq!(cause.kind(), ErrorKind::Timeout(Timeout::Delivery), "{cause:#}");
}

#[test]
fn a_callback_that_is_stuck_holds_a_flush_back_a_few_seconds_longer_at_most() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).request_timeout(ms(500)).delivery_timeout(ms(1000)).build().unwrap();
    let (release, released) = channel::<()>();
    producer.send_with(Record::to("t").value("v"), move |_| assert!(released.recv().is_err()));
    let started = Instant::now();
    let error = producer.flush().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Flush), "{error}");
    assert!((ms(1000)..ms(6000) + AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    drop(release);
    producer.flush().unwrap();
    close(&producer);
}

#[test]
fn connect_without_a_limit_ends_with_max_block() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).max_block(ms(300)).build().unwrap();
    cluster.pause(BROKER);
    let started = Instant::now();
    let error = producer.connect().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Metadata), None), "{error}");
    assert!((ms(290)..AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    cluster.resume(BROKER);
    producer.connect_timeout(BOUND).unwrap();
    close(&producer);
}

#[test]
fn a_batch_is_let_go_of_as_a_record_is() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    let mut batch = producer.create_batch();
    assert!(!batch.append("k", "v").unwrap().is_full());
    producer.send_batch(batch, "t", 0).unwrap().detach();
    producer.flush().unwrap();
    assert_eq!(cluster.log_len("t", 0).unwrap(), 1);
    close(&producer);
}

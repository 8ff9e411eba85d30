//! What the guard of a transaction takes, and how long its calls may take.

use std::time::{Duration, Instant};

use kafka_blocking::serialization::{from_fn, java};
use kafka_blocking::testing::{Api, Fault, On, TransactionVersion};
use kafka_blocking::{Error, ErrorCode, ErrorKind, Record, Recovery, Timeout, TypedProducer, TypedRecord, Written};

use super::{both_at_once, builder, committed, ready, record, start};
use crate::common::{AT_ONCE, HOUR, ms, watch_for_panics};

/// A program's own error.
#[derive(Debug)]
enum OrderError {
    SoldOut(u32),
    Kafka(Error),
}

impl From<Error> for OrderError {
    fn from(error: Error) -> Self {
        Self::Kafka(error)
    }
}

#[test]
fn a_programs_own_error_aborts_and_comes_back_as_it_is() {
    watch_for_panics();
    both_at_once(|version| {
        let cluster = start(version);
        let producer = ready(builder(&cluster));
        let order = |left: u32| {
            producer.in_transaction(|transaction| {
                transaction.send(record(0, "order"));
                if left == 0 { Err(OrderError::SoldOut(7)) } else { Ok(left - 1) }
            })
        };
        assert!(matches!(order(0), Err(OrderError::SoldOut(7))));
        assert!(committed(&cluster).is_empty(), "{version:?}");
        assert!(matches!(order(2), Ok(1)));
        assert_eq!(committed(&cluster), ["order"]);
        // An error of this crate comes in the program's, also that of the commit.
        let failed = producer.in_transaction(|transaction| -> Result<(), OrderError> {
            transaction.send(record(9, "nowhere"));
            Ok(())
        });
        let Err(OrderError::Kafka(error)) = failed else { panic!("{failed:?}") };
        assert_eq!((error.kind(), error.written()), (ErrorKind::NoSuchPartition, Some(Written::No)), "{error}");
        assert_eq!(error.recovery(), Recovery::Fix, "it is aborted already");
        // One that the closure has met says what comes after the abort.
        for (code, after) in
            [(ErrorCode::INVALID_RECORD, Recovery::Fix), (ErrorCode::UNKNOWN_SERVER_ERROR, Recovery::Retry)]
        {
            let refused = cluster.inject(On::produce(), Fault::Error(code));
            let failed = producer.in_transaction(|transaction| -> Result<(), OrderError> {
                transaction.send(record(0, "refused")).wait()?;
                Ok(())
            });
            let Err(OrderError::Kafka(error)) = failed else { panic!("{failed:?}") };
            assert_eq!(refused.fired(), 1);
            assert_eq!(error.recovery(), Recovery::AbortTransaction, "{error}");
            let error = error.once_aborted();
            assert_eq!((error.recovery(), error.written()), (after, Some(Written::No)), "{error}");
        }
        let boxed = producer.in_transaction(|transaction| -> Result<(), Box<dyn std::error::Error>> {
            transaction.send(record(0, "stray"));
            Err("no".into())
        });
        assert_eq!(boxed.unwrap_err().to_string(), "no");
        assert_eq!(committed(&cluster), ["order"]);
        producer.close().unwrap();
    });
}

#[test]
fn typed_messages_go_by_the_guard_and_one_that_fails_fails_the_transaction() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster));
    let other = builder(&cluster).transactional_id("another").build().unwrap();
    let serializer = || from_fn(|number: &u32| format!("number {number}"));
    let numbers: TypedProducer<(), u32> = TypedProducer::new(producer.clone(), java(), serializer());
    let foreign: TypedProducer<(), u32> = TypedProducer::new(other.clone(), java(), serializer());
    let at = |number| TypedRecord::to("t").partition(0).value(number);

    let transaction = producer.transaction().unwrap();
    let typed = transaction.typed(&numbers);
    typed.send(at(&1));
    let (tell, told) = std::sync::mpsc::channel();
    typed.send_with(at(&2), move |result| tell.send(result.is_ok()).unwrap());
    typed.try_send(at(&3)).unwrap();
    let strange = transaction.typed(&foreign).send(at(&4)).wait().unwrap_err();
    assert_eq!((strange.kind(), strange.written()), (ErrorKind::Misuse, Some(Written::No)), "{strange}");
    let strange = transaction.typed(&foreign).try_send(at(&4)).unwrap_err();
    assert_eq!((strange.error().kind(), strange.into_record().value.as_deref()), (ErrorKind::Misuse, Some(&4)));
    transaction.commit().unwrap();
    assert_eq!(committed(&cluster), ["number 1", "number 2", "number 3"]);
    assert!(told.try_recv().unwrap());

    // A guard whose transaction is over sends nothing to the next one.
    let stale = producer.transaction().unwrap();
    producer.abort_transaction().unwrap();
    producer.begin_transaction().unwrap();
    let error = stale.typed(&numbers).produce("t", &5).wait().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Misuse, Some(Written::No)), "{error}");
    drop(stale);
    producer.commit_transaction().unwrap();

    // What cannot be sent fails the transaction, unless it came back to its owner.
    let transaction = producer.transaction().unwrap();
    assert_eq!(
        transaction.typed(&numbers).try_send(at(&6).partition(-1)).unwrap_err().error().kind(),
        ErrorKind::InvalidInput
    );
    transaction.commit().unwrap();
    let transaction = producer.transaction().unwrap();
    transaction.typed(&numbers).send(at(&6).partition(-1));
    let failed = transaction.commit().unwrap_err();
    assert_eq!(failed.error().recovery(), Recovery::AbortTransaction, "{failed}");
    failed.into_transaction().abort().unwrap();
    assert_eq!(committed(&cluster).len(), 3);
    other.close().unwrap();
    producer.close().unwrap();
}

#[test]
fn a_record_or_a_batch_that_comes_back_is_not_part_of_the_transaction() {
    watch_for_panics();
    let cluster = start(TransactionVersion::V2);
    let producer = ready(builder(&cluster));
    let batch_of = |value: &str| {
        let mut batch = producer.create_batch();
        assert!(!batch.append("k", value).unwrap().is_full());
        batch
    };
    let transaction = producer.transaction().unwrap();
    let refused = transaction.try_send_batch(batch_of("a batch"), "unknown", 0).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().recovery()), (ErrorKind::WouldBlock, Recovery::Retry));
    transaction.send(record(0, "first")).wait().unwrap();
    transaction.try_send_batch(refused.into_batch(), "t", 0).unwrap();
    // Too large for any limit: it is its owner's again, and that is all.
    let refused = transaction.try_send(Record::to("t").partition(0).value(vec![b'x'; 2_000_000])).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().recovery()), (ErrorKind::RecordTooLarge, Recovery::Fix));
    transaction.commit().unwrap();
    assert_eq!(committed(&cluster), ["first", "a batch"]);

    // Of the next transaction nothing goes by a guard of the last one.
    let stale = producer.transaction().unwrap();
    producer.commit_transaction().unwrap();
    producer.begin_transaction().unwrap();
    let refused = stale.try_send(record(0, "stray")).unwrap_err();
    assert_eq!((refused.error().kind(), refused.into_record()), (ErrorKind::Misuse, record(0, "stray")));
    let refused = stale.try_send_batch(batch_of("stray"), "t", 0).unwrap_err();
    assert_eq!((refused.error().kind(), refused.into_batch().record_count()), (ErrorKind::Misuse, 1));
    drop(stale);
    producer.commit_transaction().unwrap();
    assert_eq!(committed(&cluster).len(), 2);
    producer.close().unwrap();
}

#[test]
fn calls_of_transactions_have_a_time_limit_of_their_own() {
    watch_for_panics();
    const LIMIT: Duration = Duration::from_millis(700);
    let cluster = start(TransactionVersion::V2);
    let producer = builder(&cluster).max_block(HOUR).transaction_max_block(LIMIT).build().unwrap();
    let in_time = |what: &str, call: &mut dyn FnMut() -> Error| {
        let started = Instant::now();
        let error = call();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Transaction), "{what}: {error:#}");
        assert!(error.to_string().contains("transaction_max_block"), "{what}: {error}");
        assert!((LIMIT - ms(10)..AT_ONCE).contains(&started.elapsed()), "{what}: {:?}", started.elapsed());
    };
    let initialised = cluster.inject(On::api(Api::InitProducerId), Fault::Delay(2 * LIMIT));
    in_time("init_transactions", &mut || producer.init_transactions().unwrap_err());
    assert_eq!(initialised.fired(), 1);
    while let Err(error) = producer.init_transactions() {
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    }
    for commit in [true, false] {
        producer.begin_transaction().unwrap();
        producer.send(record(0, "v")).wait().unwrap();
        let ended = cluster.inject(On::api(Api::EndTxn), Fault::Delay(3 * LIMIT));
        let end = || if commit { producer.commit_transaction() } else { producer.abort_transaction() };
        in_time("the end", &mut || end().unwrap_err());
        in_time("the next one", &mut || producer.begin_transaction().unwrap_err());
        assert_eq!(ended.fired(), 1);
        while let Err(error) = end() {
            assert_eq!(error.recovery(), Recovery::Retry, "{error}");
        }
    }
    producer.close().unwrap();
}

//! The producer of typed messages, which uses a producer of bytes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::not_sent::RecordNotSent;
use super::producer::Producer;
use super::shared::SendOptions;
use super::undelivered::Undelivered;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::producer::interceptor::{Addressed, Chain, ProducerInterceptor};
use crate::producer::partitioner::{Choice, IntoChoice, PartitionRequest, PartitionerError};
use crate::producer::record_metadata::{Callback, RecordMetadata};
use crate::record::{Headers, IntoBytes, Record, Timestamp};
use crate::serialization::{Context, Part, Serializer};

/// Sends messages of a program's own types: `V` is the message, `K` its key.
///
/// It is a [`Producer`] with a serializer for each, and as cheap to clone. A key maker makes the key of a message, or a
/// [`TypedRecord`] gives it; without either it is null.
///
/// ```
/// use kafka_blocking::serialization::{from_fn, java};
/// use kafka_blocking::{Producer, TypedProducer};
/// # use kafka_blocking::testing::FakeCluster;
///
/// struct Login {
///     user: String,
///     at: u64,
/// }
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::builder().topic("logins", 3).start()?;
/// # let servers = cluster.bootstrap();
/// let producer = Producer::builder(servers).build()?;
/// let producer = TypedProducer::new(producer, java(), from_fn(|login: &Login| format!("{} {}", login.user, login.at)))
///     .key_maker(|login| login.user.clone());
///
/// let sent = producer.produce("logins", &Login { user: "ada".into(), at: 1_843 }).wait()?;
/// # assert_eq!(cluster.records("logins", sent.partition())?[0].value_text(), "ada 1843");
/// producer.close()?;
/// # Ok(())
/// # }
/// ```
///
/// # What happens in a send
///
/// On the calling thread, and in this order: the interceptors see the record; the key maker makes the key, where the
/// record has a value and no key; the key is serialized, then the value; the producer's own interceptors see the bytes;
/// the partition is chosen. Each of these may fail or panic without harm: the record is not sent, its handle has the
/// error at once, of the kind `KeyMaker`, `Serialization`, `InvalidInput` (the partitioner) or `Panicked`, with the
/// topic and with your own error as its [`source`](std::error::Error::source). (Interceptors fail no record.) No code
/// of yours runs on a thread that sends.
///
/// Functions are `Fn`, not `FnMut`, because any number of threads may send at once. A function with a state keeps it in
/// an atomic or behind a lock of its own.
pub struct TypedProducer<K: ?Sized, V: ?Sized> {
    producer: Producer,
    key_serializer: Arc<dyn Serializer<K>>,
    value_serializer: Arc<dyn Serializer<V>>,
    key_maker: Option<Arc<KeyMaker<K, V>>>,
    partitioner: Option<Arc<KeyPartitioner<K>>>,
    interceptors: Chain<dyn for<'a> ProducerInterceptor<TypedRecord<'a, K, V>>>,
}

/// An error of the program's own code.
type UserError = Box<dyn std::error::Error + Send + Sync>;
type KeyMaker<K, V> = dyn Fn(&V) -> Result<Box<K>, UserError> + Send + Sync;
type KeyPartitioner<K> = dyn Fn(Option<&K>, &PartitionRequest<'_>) -> Result<Choice, PartitionerError> + Send + Sync;

#[cfg(feature = "json")]
impl<V: serde_core::Serialize + ?Sized + 'static> TypedProducer<(), V> {
    /// A producer of messages in JSON without a key, as kiel's is by default: see
    /// [`json()`](crate::serialization::json). With another key it is `TypedProducer::new(producer, .., json())`.
    pub fn json(producer: Producer) -> Self {
        Self::new(producer, crate::serialization::java(), crate::serialization::json())
    }
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> TypedProducer<K, V> {
    /// A producer that writes keys and values with these serializers, through `producer`. Nothing is checked or sent.
    ///
    /// Several typed producers may share one producer, each with its own type of messages.
    pub fn new(
        producer: Producer,
        key_serializer: impl Serializer<K> + 'static,
        value_serializer: impl Serializer<V> + 'static,
    ) -> Self {
        Self {
            producer,
            key_serializer: Arc::new(key_serializer),
            value_serializer: Arc::new(value_serializer),
            key_maker: None,
            partitioner: None,
            interceptors: Chain::default(),
        }
    }

    /// Makes the key of each message that is sent without one. The key is stored with the record, and the partition is
    /// chosen by it. The key may be an `Option`: `None` is null. Default: the key is null.
    ///
    /// *Thread*: the one that sends, so several at once. A panic fails that one record, with `Panicked`.
    #[must_use = "it changes the producer that it returns"]
    pub fn key_maker(self, key_maker: impl Fn(&V) -> K + Send + Sync + 'static) -> Self
    where
        K: Sized,
    {
        self.try_key_maker(move |message| Ok::<_, UserError>(key_maker(message)))
    }

    /// [`key_maker`](Self::key_maker), of a function that may fail. Its error fails the record, with
    /// [`ErrorKind::KeyMaker`], and is the source of that error.
    #[must_use = "it changes the producer that it returns"]
    pub fn try_key_maker<E: Into<UserError>>(
        mut self,
        key_maker: impl Fn(&V) -> Result<K, E> + Send + Sync + 'static,
    ) -> Self
    where
        K: Sized,
    {
        self.key_maker = Some(Arc::new(move |message| key_maker(message).map(Box::new).map_err(Into::into)));
        self
    }

    /// Chooses the partition by the key as it was before it was serialized, instead of the producer's
    /// [partitioner](crate::partitioner), for each record that does not name one. The function gets the key, `None` for
    /// none, and the ids of the topic's partitions, ascending; it returns one of them, a [`Choice`], or a `Result` with
    /// one of both ([`IntoChoice`]).
    ///
    /// *Thread* and *errors*: as for any [`Partitioner`](crate::partitioner::Partitioner).
    #[must_use = "it changes the producer that it returns"]
    pub fn partitioner_by_key<R: IntoChoice>(
        mut self,
        partitioner: impl Fn(Option<&K>, &[i32]) -> R + Send + Sync + 'static,
    ) -> Self {
        self.partitioner = Some(Arc::new(move |key, request| partitioner(key, request.partitions).into_choice()));
        self
    }

    /// Adds an interceptor of typed records after those already there. Default: none.
    #[must_use = "it changes the producer that it returns"]
    pub fn interceptor(
        mut self,
        interceptor: impl for<'a> ProducerInterceptor<TypedRecord<'a, K, V>> + 'static,
    ) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Sends a message, with the key that the key maker makes of it.
    ///
    /// *Blocks* as [`Producer::send`] does. *Errors*, from the handle: `KeyMaker`, `Serialization`, `Panicked`, which
    /// are there at once, and those of `Producer::send`.
    pub fn produce(&self, topic: &str, message: &V) -> Delivery {
        self.send(TypedRecord::to(topic).value(message))
    }

    /// Sends a record that may name its key, its partition, its time and headers.
    ///
    /// *Blocks* and *errors*: as [`produce`](Self::produce).
    pub fn send(&self, record: TypedRecord<'_, K, V>) -> Delivery {
        self.put(record, None, &SendOptions::BLOCKING)
    }

    /// [`send`](Self::send), and have `callback` run with the result, as [`Producer::send_with`] does.
    pub fn send_with(
        &self,
        record: TypedRecord<'_, K, V>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) {
        self.put(record, Some(Box::new(callback)), &SendOptions::BLOCKING).detach();
    }

    /// [`send`](Self::send) without waiting for anything, as [`Producer::try_send`]: if that would have to wait, or the
    /// record cannot be sent, it is returned as it was given, without the key that was made for it.
    ///
    /// *Blocks* never. *Errors*: [`RecordNotSent`], with `WouldBlock` or one of the errors of `send` that are known at
    /// once.
    pub fn try_send<'r>(
        &self,
        record: TypedRecord<'r, K, V>,
    ) -> Result<Delivery, RecordNotSent<TypedRecord<'r, K, V>>> {
        self.try_put(record, &SendOptions { may_block: false, ..SendOptions::BLOCKING })
    }

    /// The producer of bytes.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// [`Producer::flush`].
    pub fn flush(&self) -> Result<()> {
        self.producer.flush()
    }

    /// [`Producer::flush_timeout`].
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        self.producer.flush_timeout(timeout)
    }

    /// [`Producer::close`]: it closes the producer of bytes, and so every producer that shares it.
    pub fn close(&self) -> Result<(), Undelivered> {
        self.producer.close()
    }

    /// [`Producer::close_timeout`], of the producer of bytes likewise.
    pub fn close_timeout(&self, timeout: Duration) -> Result<(), Undelivered> {
        self.producer.close_timeout(timeout)
    }

    pub(super) fn put(
        &self,
        record: TypedRecord<'_, K, V>,
        mut callback: Option<Callback>,
        options: &SendOptions<'_>,
    ) -> Delivery {
        let sent = self.dispatch(record, &mut callback, options);
        sent.unwrap_or_else(|error| self.producer.0.0.reject(error, callback.take()))
    }

    pub(super) fn try_put<'r>(
        &self,
        record: TypedRecord<'r, K, V>,
        options: &SendOptions<'_>,
    ) -> Result<Delivery, RecordNotSent<TypedRecord<'r, K, V>>> {
        // The record is returned without the changes of interceptors and key maker, which are made again when it is
        // sent again.
        let (given, mut callback) = (record.clone(), None);
        self.dispatch(record, &mut callback, options).map_err(|error| {
            self.producer.0.0.give_back(&error, callback.take());
            RecordNotSent::new(error, given)
        })
    }

    /// Serializes a record, and sends it. If it is refused, `callback` has not been called.
    fn dispatch(
        &self,
        mut record: TypedRecord<'_, K, V>,
        callback: &mut Option<Callback>,
        options: &SendOptions<'_>,
    ) -> Result<Delivery> {
        *callback = self.interceptors.on_send(&mut record, callback.take());
        let shared = &self.producer.0.0;
        shared.check_open().and_then(|()| self.make_key(&mut record)).map_err(|error| error.at_topic(&record.topic))?;
        let TypedRecord { topic, partition, key, value, mut headers, timestamp } = record;
        let (key, value) = (key.as_deref(), value.as_deref());
        let bytes = serialize(&*self.key_serializer, key, Part::Key, &topic, &mut headers)
            .and_then(|key| Ok((key, serialize(&*self.value_serializer, value, Part::Value, &topic, &mut headers)?)));
        let (key_bytes, value) = bytes.map_err(|error| error.at_topic(&topic))?;
        let mut record = Record { topic: Cow::Borrowed(&*topic), partition, key: key_bytes, value, headers, timestamp };
        match &self.partitioner {
            None => shared.dispatch(&mut record, callback, options),
            Some(partitioner) => {
                let partitioner = &|request: &PartitionRequest<'_>| partitioner(key, request);
                let options = SendOptions { partitioner: Some(partitioner), ..*options };
                shared.dispatch(&mut record, callback, &options)
            }
        }
    }

    fn make_key(&self, record: &mut TypedRecord<'_, K, V>) -> Result<()> {
        if record.key.is_some() {
            return Ok(());
        }
        let (Some(key_maker), Some(message)) = (&self.key_maker, record.value.as_deref()) else { return Ok(()) };
        let key = guarded("the key maker", || key_maker(message))?;
        let key = key.map_err(|cause| by_user(ErrorKind::KeyMaker, "the key maker failed".into(), cause))?;
        record.key = Some(Held::Owned(key.into()));
        Ok(())
    }
}

/// The bytes of one part of a record. A missing part is null, and its serializer is not called.
fn serialize<'v, T: ?Sized>(
    serializer: &dyn Serializer<T>,
    value: Option<&'v T>,
    part: Part,
    topic: &str,
    headers: &mut Headers<'_>,
) -> Result<Option<Cow<'v, [u8]>>> {
    let Some(value) = value else { return Ok(None) };
    let who = match part {
        Part::Key => "the serializer of keys",
        Part::Value => "the serializer of values",
    };
    let bytes = guarded(who, || serializer.serialize(value, &mut Context::new(topic, part, headers)))?;
    bytes.map_err(|cause| by_user(ErrorKind::Serialization, format!("the {part} could not be serialized"), cause))
}

/// Runs the program's code. The producer holds no lock and is in a consistent state meanwhile.
fn guarded<R>(who: &str, code: impl FnOnce() -> R) -> Result<R> {
    crate::thread::catch(code).map_err(|panic| {
        Error::new(ErrorKind::Panicked, Recovery::Fix, format!("{who} panicked; the record was not sent: {panic}"))
    })
}

/// An error of the program's own code. If it is an [`Error`] of this crate, for example of a client that the code uses,
/// its recovery is kept.
fn by_user(kind: ErrorKind, text: String, cause: UserError) -> Error {
    let recovery = cause.downcast_ref::<Error>().map_or(Recovery::Fix, Error::recovery);
    Error::new(kind, recovery, text).with_cause(cause)
}

impl<K: ?Sized, V: ?Sized> Clone for TypedProducer<K, V> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer.clone(),
            key_serializer: Arc::clone(&self.key_serializer),
            value_serializer: Arc::clone(&self.value_serializer),
            key_maker: self.key_maker.clone(),
            partitioner: self.partitioner.clone(),
            interceptors: self.interceptors.clone(),
        }
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedProducer<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedProducer").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// A record with a key and a value of a program's own types, before they are serialized.
///
/// A part that is not set is null, and no serializer is called for it; a record without a value is a tombstone in a
/// compacted topic. If there is a value and no key, the producer's key maker makes one. Its parts are called as those
/// of a [`Record`](Record#what-the-parts-are-called).
///
/// ```
/// use kafka_blocking::TypedRecord;
///
/// let record: TypedRecord<'_, str, str> = TypedRecord::to("CustomerCountry").key("Precision Products").value("France");
/// assert_eq!(record.key.as_deref(), Some("Precision Products"));
/// ```
#[non_exhaustive]
pub struct TypedRecord<'a, K: ?Sized, V: ?Sized> {
    /// The topic's name.
    pub topic: Cow<'a, str>,
    /// The partition, an index from 0; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// The key; `None` leaves it to the key maker.
    pub key: Option<Held<'a, K>>,
    /// The value; `None` is null.
    pub value: Option<Held<'a, V>>,
    /// The headers, in order.
    pub headers: Headers<'a>,
    /// The time that the record carries; `None` is the time at which it is sent.
    pub timestamp: Option<Timestamp>,
}

/// A key or a value in a [`TypedRecord`]: the caller's, or one that a key maker or an interceptor has made. It derefs
/// to the value, and `into()` makes one of a reference or a `Box`.
pub enum Held<'a, T: ?Sized> {
    /// The caller's.
    Borrowed(&'a T),
    /// The record's own.
    Owned(Arc<T>),
}

impl<T: ?Sized> Clone for Held<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(value) => Self::Borrowed(value),
            Self::Owned(value) => Self::Owned(Arc::clone(value)),
        }
    }
}

impl<T: ?Sized> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(value) => value,
            Self::Owned(value) => value,
        }
    }
}

impl<'a, T: ?Sized> From<&'a T> for Held<'a, T> {
    fn from(value: &'a T) -> Self {
        Self::Borrowed(value)
    }
}

impl<T: ?Sized> From<Box<T>> for Held<'_, T> {
    fn from(value: Box<T>) -> Self {
        Self::Owned(value.into())
    }
}

/// Does not show the value, which may be secret.
impl<T: ?Sized> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Borrowed(_) => "Borrowed",
            Self::Owned(_) => "Owned",
        })
    }
}

impl<'a, K: ?Sized, V: ?Sized> TypedRecord<'a, K, V> {
    /// A record for `topic` with neither key nor value.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self { topic: topic.into(), partition: None, key: None, value: None, headers: Headers::new(), timestamp: None }
    }

    /// Sets the key, so that the key maker is not called.
    #[must_use = "it changes the record that it returns"]
    pub fn key(mut self, key: &'a K) -> Self {
        self.key = Some(Held::Borrowed(key));
        self
    }

    /// Sets the value.
    #[must_use = "it changes the record that it returns"]
    pub fn value(mut self, value: &'a V) -> Self {
        self.value = Some(Held::Borrowed(value));
        self
    }

    /// Sets the partition, which is otherwise chosen by the key.
    #[must_use = "it changes the record that it returns"]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time that the record carries, as [`Record::timestamp`] does. Default: the time at which it is sent.
    #[must_use = "it changes the record that it returns"]
    pub fn timestamp(mut self, time: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(time.into());
        self
    }

    /// Adds a header after those already there.
    #[must_use = "it changes the record that it returns"]
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        self.headers.push(name, value);
        self
    }
}

impl<K: ?Sized, V: ?Sized> Clone for TypedRecord<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            partition: self.partition,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp: self.timestamp,
        }
    }
}

impl<K: ?Sized, V: ?Sized> Addressed for TypedRecord<'_, K, V> {
    fn topic(&self) -> &str {
        &self.topic
    }
}

/// Shows neither key nor value, which may be secret.
impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedRecord<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key", &self.key.is_some())
            .field("value", &self.value.is_some())
            .field("headers", &self.headers)
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

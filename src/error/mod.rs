//! What can go wrong, as one type that is cheap to clone and answers the questions that a caller has.

pub(crate) mod code;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use self::code::ErrorCode;
use crate::topic::{BrokerId, TopicPartition};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this client. One pointer wide and cheap to clone, because the failure of one batch is handed to
/// every record in it.
///
/// It answers without string matching: [`kind`](Self::kind) says what happened, [`recovery`](Self::recovery) what to do
/// about it, [`context`](Self::context) where, and [`written`](Self::written), for a record or a commit, whether it may
/// be in the log all the same. The cause, where there is one, is the [`source`](std::error::Error::source). `{error}`
/// shows the error alone, and `{error:#}` the error and after it all its causes. So does `{error:?}`, which is what
/// `main` prints when it returns an error. `{error:#?}` shows the structure.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    recovery: Recovery,
    /// For an error whose recovery is an abort: what helps after the abort.
    once_aborted: Option<Recovery>,
    /// Only for the error of a record or a commit.
    written: Option<Written>,
    context: ErrorContext,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Settings are missing, out of range or contradict each other. The text lists every fault.
    Config,
    /// The caller passed something that cannot be sent: a bad topic name, a negative partition or timestamp.
    InvalidInput,
    /// The record names a partition that the topic does not have, or a partitioner chose one.
    NoSuchPartition,
    /// The key maker of a [`TypedProducer`](crate::TypedProducer) failed; the source is its own error.
    KeyMaker,
    /// A key or a value could not be serialized, or its bytes could not be deserialized; the source, if there is one,
    /// is the serializer's own error.
    Serialization,
    /// A record over a limit; the context names the limit, the text the record's size.
    RecordTooLarge,
    /// [`Producer::try_send`](crate::Producer::try_send) or a similar call would have had to wait.
    WouldBlock,
    /// A deadline passed; the payload says which.
    Timeout(Timeout),
    /// A connection could not be made, or broke; or the operating system started no thread.
    Network,
    /// A broker answered with an error code.
    Broker(ErrorCode),
    /// A broker sent bytes that the protocol does not allow.
    BrokerMisbehaved,
    /// No version of a request is known to both sides, or a feature needs a newer broker.
    UnsupportedVersion,
    /// A batch could not be compressed, or its codec is not built in.
    Compression,
    /// A schema registry answered with an error. The fields are the HTTP status, and the registry's own code, or 0
    /// where it gave none.
    SchemaRegistry {
        /// Such as 404.
        status: u16,
        /// Such as 40403, an unknown schema id.
        error_code: i32,
    },
    /// A schema registry sent an answer that cannot be used: no JSON, another content type, too large, or without what
    /// was asked for.
    SchemaRegistryMisbehaved,
    /// The record's place in the partition's sequence was lost, so sending it again could write it twice.
    OutOfSequence,
    /// The record's transaction was aborted before the record was acknowledged, or has failed.
    Aborted,
    /// [`Producer::purge`](crate::Producer::purge) gave the record up.
    Purged,
    /// Another producer has taken the transactional id.
    Fenced,
    /// The call does not fit what the producer is doing: a record outside of a transaction, a commit without one.
    Misuse,
    /// The producer or cluster was closed.
    Closed,
    /// User code (a partitioner, a key maker, a serializer) panicked. The client itself goes on.
    Panicked,
    /// A fault of this crate. Please report it.
    Bug,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// `max_block`: waiting for a topic's metadata.
    Metadata,
    /// `max_block`: waiting for buffer memory.
    BufferMemory,
    /// `delivery_timeout`: the record was not acknowledged in time.
    Delivery,
    /// `request_timeout`: a broker did not answer.
    Request,
    /// `connection_setup_timeout`: a connection was not made in time, or the broker did not answer on it.
    Connect,
    /// `transaction_max_block`: a call of a transaction had no outcome in time. The same call again goes on with it.
    Transaction,
    /// `api_timeout`: a call of an admin client had no result in time.
    Api,
    /// `delivery_timeout`, or the time limit given to `flush_timeout`.
    Flush,
    /// `delivery_timeout`, or the time limit given to `close_timeout`.
    Close,
    /// The time limit given to a call that waits.
    Wait,
}

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recovery {
    /// The same call may succeed later.
    Retry,
    /// Abort the transaction; the producer stays usable.
    AbortTransaction,
    /// Close this client and build a new one.
    Fatal,
    /// Change the call, the configuration or the cluster; repeating it as it is cannot help.
    Fix,
}

/// Whether a failed record may be in the log; for a failed commit, whether the transaction may be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// Certainly not: the record never reached a broker, or was refused. For a commit: nothing of the transaction is
    /// visible.
    No,
    /// Unknown: it was sent, and no answer said what became of it. Sending it again may write it twice.
    Maybe,
    /// Certainly, although the answer was an error.
    Yes,
}

/// Where an error happened. Parts that do not apply are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorContext {
    /// The topic.
    pub topic: Option<Arc<str>>,
    /// The partition's index.
    pub partition: Option<i32>,
    /// The broker's id.
    pub broker: Option<BrokerId>,
    /// The address of the broker or server.
    pub address: Option<Arc<str>>,
    /// The request's name and version.
    pub api: Option<(&'static str, i16)>,
    /// The name of the setting or limit that was exceeded, and its value.
    pub limit: Option<(&'static str, u64)>,
    /// How often the record's batch was sent.
    pub attempts: Option<u32>,
    /// The first sequence number of the record's batch.
    pub sequence: Option<i32>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, recovery: Recovery, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            recovery,
            once_aborted: None,
            written: None,
            context: ErrorContext::default(),
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, Recovery::Fix, message)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, Recovery::Fix, message)
    }

    pub(crate) fn timeout(which: Timeout, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Timeout(which), Recovery::Retry, message)
    }

    pub(crate) fn network(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Network, Recovery::Retry, message)
    }

    pub(crate) fn misbehaved(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BrokerMisbehaved, Recovery::Retry, message)
    }

    pub(crate) fn bug(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Bug, Recovery::Fatal, message)
    }

    /// The error that a broker's code stands for; `detail` is the broker's own text, where it sent one.
    pub(crate) fn broker(code: ErrorCode, detail: Option<&str>) -> Self {
        let message = match detail {
            Some(detail) if !detail.is_empty() => format!("{code}: {}", printable(detail)),
            _ => format!("{code}: {}", code.meaning()),
        };
        Self::new(ErrorKind::Broker(code), code.recovery(), message)
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, in words, without the context and the cause.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What the caller can do.
    pub fn recovery(&self) -> Recovery {
        self.0.recovery
    }

    /// Whether the record that this error is about may be in the log, the transaction may be committed, or the change
    /// that a call of an admin client asked for may be made. `None` for an error that is about none of these, such as
    /// one of `flush`, of settings or of metadata.
    pub fn written(&self) -> Option<Written> {
        self.0.written
    }

    /// Whether the record or transaction is written, or may be.
    pub(crate) fn may_be_written(&self) -> bool {
        matches!(self.0.written, Some(Written::Maybe | Written::Yes))
    }

    /// Where it happened.
    pub fn context(&self) -> &ErrorContext {
        &self.0.context
    }

    /// Whether waiting cannot cure the error, so that a caller that waits for a connection is told of it at once. The
    /// errors with which the client itself ends do not count: they say nothing of a broker.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.recovery(), Recovery::Fix | Recovery::Fatal)
            && !matches!(self.kind(), ErrorKind::Closed | ErrorKind::Bug)
    }

    /// The error as the cause of another one. That may be about other records, or about none, so what this error says
    /// of `written` is left out.
    pub(crate) fn as_cause(&self) -> Self {
        if self.written().is_none() { self.clone() } else { self.clone().change(|inner| inner.written = None) }
    }

    /// The broker's error code, of this error or of the first cause that has one.
    pub fn code(&self) -> Option<ErrorCode> {
        if let ErrorKind::Broker(code) = self.0.kind {
            return Some(code);
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(Self(inner)) = error.downcast_ref::<Self>()
                && let ErrorKind::Broker(code) = inner.kind
            {
                return Some(code);
            }
            cause = error.source();
        }
        None
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn with_source(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.source = Some(Arc::new(source)))
    }

    /// With the cause, if one is known.
    pub(crate) fn because(self, cause: Option<Self>) -> Self {
        match cause {
            Some(cause) => self.with_source(cause),
            None => self,
        }
    }

    /// With an error of the user's code as the source, which keeps its own type.
    pub(crate) fn with_cause(self, cause: Box<dyn std::error::Error + Send + Sync>) -> Self {
        self.change(|inner| inner.source = Some(cause.into()))
    }

    pub(crate) fn with_written(self, written: Written) -> Self {
        self.change(|inner| inner.written = Some(written))
    }

    /// The error of a record or a commit that is certainly not written, unless the error already says something else.
    pub(crate) fn not_written_unless_said(self) -> Self {
        if self.written().is_some() { self } else { self.with_written(Written::No) }
    }

    pub(crate) fn with_recovery(self, recovery: Recovery) -> Self {
        self.change(|inner| inner.recovery = recovery)
    }

    /// With `hint` after the text: what the error may mean.
    pub(crate) fn with_hint(self, hint: &str) -> Self {
        self.change(|inner| inner.message = format!("{}; {hint}", inner.message).into())
    }

    /// The error of something in a transaction that can only be aborted now.
    pub(crate) fn until_aborted(self) -> Self {
        self.change(|inner| {
            if inner.recovery != Recovery::AbortTransaction {
                inner.once_aborted = Some(inner.recovery);
                inner.recovery = Recovery::AbortTransaction;
            }
        })
    }

    /// An error that asks for an abort, as it is once the transaction is aborted: nothing of that becomes visible, so
    /// [`written`](Self::written) is `No`, and in the place of `AbortTransaction` [`recovery`](Self::recovery) says whether to
    /// do the work again (`Retry`), or not as it is (`Fix`), because a record was refused for its own sake. An error that asks
    /// for no abort stays as it is.
    ///
    /// [`in_transaction`](crate::Producer::in_transaction) has done this to an `Error` that it returns as such. It is for errors
    /// of a transaction that the program has aborted by itself, and for those that `in_transaction` has returned inside an error
    /// of the program's own, where their recovery is `AbortTransaction`.
    ///
    /// ```
    /// use kafka_blocking::{Producer, Record, Recovery};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("orders", 1).start()?;
    /// # let producer = Producer::builder(cluster.bootstrap()).transactional_id("shop-1").build()?;
    /// # producer.init_transactions()?;
    /// let transaction = producer.transaction()?;
    /// let error = transaction.send(Record::to("orders").partition(100).value("one coffee")).wait().unwrap_err();
    /// assert_eq!(error.recovery(), Recovery::AbortTransaction);
    /// transaction.abort()?;
    /// assert_eq!(error.once_aborted().recovery(), Recovery::Fix); // the topic has no such partition
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn once_aborted(self) -> Self {
        if self.recovery() == Recovery::AbortTransaction { self.after_abort() } else { self }
    }

    /// The error after an abort, be it one that it asked for or not: nothing of the transaction becomes visible.
    pub(crate) fn after_abort(self) -> Self {
        self.change(|inner| {
            if inner.recovery == Recovery::AbortTransaction {
                inner.recovery = inner.once_aborted.take().unwrap_or(Recovery::Retry);
            }
            inner.written = Some(Written::No);
        })
    }

    pub(crate) fn in_context(self, change: impl FnOnce(&mut ErrorContext)) -> Self {
        self.change(|inner| change(&mut inner.context))
    }

    pub(crate) fn at_partition(self, partition: &TopicPartition) -> Self {
        self.in_context(|context| {
            context.topic = Some(Arc::clone(&partition.topic));
            context.partition = Some(partition.index);
        })
    }

    pub(crate) fn at_topic(self, topic: &str) -> Self {
        self.in_context(|context| context.topic = Some(topic.into()))
    }

    pub(crate) fn at_broker(self, broker: BrokerId) -> Self {
        self.in_context(|context| context.broker = Some(broker))
    }

    pub(crate) fn at_address(self, address: &str) -> Self {
        self.in_context(|context| context.address = Some(address.into()))
    }

    /// With the broker that `other` names.
    pub(crate) fn at_broker_of(self, other: &Self) -> Self {
        let (broker, address) = (other.0.context.broker, other.0.context.address.clone());
        self.in_context(|context| (context.broker, context.address) = (broker, address))
    }

    pub(crate) fn over_limit(self, name: &'static str, value: u64) -> Self {
        self.in_context(|context| context.limit = Some((name, value)))
    }
}

/// A broker's text as it can stand in a log line: control characters are replaced, and it has at most 1000 characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `{:#}` shows the causes as well.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f)?;
        if f.alternate() {
            let mut shown = self.0.message.clone().into_owned();
            let mut cause = std::error::Error::source(self);
            while let Some(error) = cause {
                let text = error.to_string();
                if text != shown {
                    write!(f, ": {text}")?;
                    shown = text;
                }
                cause = error.source();
            }
        }
        Ok(())
    }
}

impl Error {
    /// Shows the error without its causes.
    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let context = &self.0.context;
        let mut parts = Vec::new();
        match (&context.topic, context.partition) {
            (Some(topic), Some(partition)) => parts.push(format!("partition {topic}-{partition}")),
            (Some(topic), None) => parts.push(format!("topic {topic}")),
            (None, Some(partition)) => parts.push(format!("partition {partition}")),
            (None, None) => {}
        }
        match (context.broker, &context.address) {
            (Some(broker), Some(address)) => parts.push(format!("broker {broker} at {address}")),
            (Some(broker), None) => parts.push(format!("broker {broker}")),
            (None, Some(address)) => parts.push(format!("at {address}")),
            (None, None) => {}
        }
        if let Some((name, version)) = context.api {
            parts.push(format!("{name} v{version}"));
        }
        if let Some((name, value)) = context.limit {
            parts.push(format!("limit {name} = {value}"));
        }
        if let Some(attempts) = context.attempts {
            parts.push(format!("attempts {attempts}"));
        }
        if let Some(sequence) = context.sequence {
            parts.push(format!("sequence {sequence}"));
        }
        if let Some(written @ (Written::Maybe | Written::Yes)) = self.0.written {
            parts.push(format!("written: {written:?}"));
        }
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

/// The same text as `{:#}`, so that what `unwrap` prints, or a `main` that returns the error, can be read. `{:#?}`
/// shows the structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{self:#}");
        }
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("recovery", &self.0.recovery)
            .field("written", &self.0.written)
            .field("context", &self.0.context);
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(std::mem::size_of::<Error>(), std::mem::size_of::<usize>());
    }

    #[test]
    fn the_code_is_found_through_the_causes() {
        let refused = Error::broker(ErrorCode::NOT_ENOUGH_REPLICAS, None);
        let expired = Error::timeout(Timeout::Delivery, "not delivered in time").with_source(refused);
        assert_eq!(expired.code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS));
    }

    #[test]
    fn display_names_the_place_and_not_the_cause() {
        let cause = Error::network("connection reset");
        let error = Error::timeout(Timeout::Delivery, "not acknowledged within 2s")
            .at_partition(&TopicPartition::new("t", 3))
            .at_broker(BrokerId(1))
            .with_written(Written::Maybe)
            .with_source(cause);
        assert_eq!(error.to_string(), "not acknowledged within 2s (partition t-3, broker 1, written: Maybe)");
    }

    #[test]
    fn the_alternate_form_shows_every_cause_once() {
        let cause = Error::network("the connection broke").with_source(std::io::Error::other("reset"));
        let error = Error::timeout(Timeout::Delivery, "not acknowledged").at_broker(BrokerId(1)).with_source(cause);
        assert_eq!(format!("{error:#}"), "not acknowledged (broker 1): the connection broke: reset");
        let twice = Error::network("cut").with_source(std::io::Error::other("cut"));
        assert_eq!(format!("{twice:#}"), "cut");
    }

    #[test]
    fn what_main_prints_is_the_chain_and_the_alternate_form_the_structure() {
        let cause = Error::network("the connection broke").with_source(std::io::Error::other("reset"));
        let error = Error::timeout(Timeout::Delivery, "not acknowledged").at_broker(BrokerId(1)).with_source(cause);
        assert_eq!(format!("{error:?}"), "not acknowledged (broker 1): the connection broke: reset");
        let structure = format!("{error:#?}");
        assert!(structure.contains("kind: Timeout(") && structure.contains("recovery: Retry"), "{structure}");
        assert!(structure.contains("broker: Some("), "{structure}");
    }

    #[test]
    fn only_the_error_of_a_record_or_a_commit_says_whether_that_is_written() {
        // The code says what it means for a record. An error that is about no record says nothing of it.
        let other = Error::broker(ErrorCode(999), None);
        assert_eq!((other.written(), Error::config("bad").written()), (None, None));
        assert!(!other.to_string().contains("written"), "{other}");
        let of_a_record = other.clone().with_written(Written::Maybe);
        assert_eq!(of_a_record.as_cause().written(), None);
        assert_eq!(of_a_record.not_written_unless_said().written(), Some(Written::Maybe));
        assert_eq!(other.not_written_unless_said().written(), Some(Written::No));
    }

    #[test]
    fn what_time_cannot_cure_is_final_unless_the_client_ends_by_itself() {
        let of = |kind, recovery| Error::new(kind, recovery, "").is_final();
        assert!(of(ErrorKind::UnsupportedVersion, Recovery::Fix));
        assert!(of(ErrorKind::Broker(ErrorCode::SASL_AUTHENTICATION_FAILED), Recovery::Fix));
        assert!(!of(ErrorKind::Network, Recovery::Retry));
        assert!(!of(ErrorKind::Closed, Recovery::Fatal));
        assert!(!of(ErrorKind::Bug, Recovery::Fatal));
    }

    #[test]
    fn a_brokers_text_cannot_forge_log_lines() {
        let error = Error::broker(ErrorCode::INVALID_RECORD, Some("bad\nrecord\x1b[31m"));
        assert!(!error.to_string().contains('\n') && !error.to_string().contains('\x1b'));
    }
}

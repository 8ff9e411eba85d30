//! Interceptors: code that sees each record before it is sent, and each result.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::logging::{error, warn};
use crate::producer::record_metadata::{Callback, RecordMetadata};
use crate::record::Record;

/// The error of an interceptor, of any type. It is logged, and the record is sent all the same.
pub type InterceptorError = Box<dyn std::error::Error + Send + Sync>;

/// Gets each record before it is sent, and may change it; gets each result, too (Java: `ProducerInterceptor`).
///
/// `R` is the kind of record: [`Record`], of bytes, for
/// [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor); [`TypedRecord`](crate::TypedRecord), before
/// its key is made and anything is serialized, for [`TypedProducer::interceptor`](crate::TypedProducer::interceptor).
/// Several interceptors form a chain: each gets the record as the ones before it have changed it.
///
/// An error or a panic of an interceptor is logged and stops neither the record nor the rest of the chain. What it had
/// changed until then stays changed; Java goes on with the record as it was before.
///
/// ```
/// use kafka_blocking::{ProducerInterceptor, InterceptorError, Producer, Record};
/// # use kafka_blocking::testing::FakeCluster;
///
/// /// Says in a header who has sent the record.
/// struct Signed;
///
/// impl ProducerInterceptor<Record<'_>> for Signed {
///     fn on_send(&self, record: &mut Record<'_>) -> Result<(), InterceptorError> {
///         record.headers.push("sent-by", "billing");
///         Ok(())
///     }
/// }
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::builder().topic("bills", 1).start()?;
/// # let servers = cluster.bootstrap();
/// let producer = Producer::builder(servers).interceptor(Signed).build()?;
/// producer.send(Record::to("bills").value("12.50")).wait()?;
/// # assert!(cluster.records("bills", 0)?[0].headers().first("sent-by").is_some());
/// # Ok(())
/// # }
/// ```
pub trait ProducerInterceptor<R>: Send + Sync {
    /// Gets each record once, before it is sent, and may change every part of it. Nothing has been checked yet: the
    /// record may still be refused.
    ///
    /// *Thread*: the one that sends, so several at once. *Errors*: any; it is logged with level `warn`.
    fn on_send(&self, record: &mut R) -> Result<(), InterceptorError> {
        let _ = record;
        Ok(())
    }

    /// Gets the result of a record that it has got in `on_send`, also if the record was refused at once. It is called
    /// before the record's own callback.
    ///
    /// *Thread*: `kafka-callbacks`, in the order of the partition's records, as callbacks run; after
    /// [`Producer::close`](crate::Producer::close) the one that sends.
    fn on_acknowledgement(&self, result: &Result<RecordMetadata>) {
        let _ = result;
    }
}

/// How a record is named in the log.
pub(crate) trait Addressed {
    fn topic(&self) -> &str;
}

impl Addressed for Record<'_> {
    fn topic(&self) -> &str {
        &self.topic
    }
}

/// Interceptors in their order. Cheap to clone.
pub(crate) struct Chain<I: ?Sized>(Arc<Vec<Arc<I>>>);

impl<I: ?Sized> Chain<I> {
    pub(crate) fn push(&mut self, interceptor: Arc<I>) {
        Arc::make_mut(&mut self.0).push(interceptor);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Passes the record to the chain. The returned callback passes the result to the chain, and then calls `callback`.
    /// An empty chain costs nothing.
    #[inline]
    pub(crate) fn on_send<R: Addressed>(&self, record: &mut R, callback: Option<Callback>) -> Option<Callback>
    where
        I: ProducerInterceptor<R> + 'static,
    {
        if self.0.is_empty() { callback } else { self.show(record, callback) }
    }

    fn show<R: Addressed>(&self, record: &mut R, callback: Option<Callback>) -> Option<Callback>
    where
        I: ProducerInterceptor<R> + 'static,
    {
        for interceptor in &*self.0 {
            // The error is formatted in here, because that is the program's code, too, and may panic.
            let see = || interceptor.on_send(record).map_err(|cause| cause.to_string());
            match crate::thread::catch(see) {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => {
                    warn!("an interceptor failed on a record for {}, which goes on: {cause}", record.topic());
                }
                Err(panic) => {
                    error!("an interceptor panicked on a record for {}, which goes on: {panic}", record.topic());
                }
            }
        }
        let chain = Arc::clone(&self.0);
        Some(Box::new(move |result| {
            for interceptor in &*chain {
                let tell = || <I as ProducerInterceptor<R>>::on_acknowledgement(interceptor, &result);
                if let Err(panic) = crate::thread::catch(tell) {
                    error!("an interceptor panicked on an acknowledgement; the producer goes on: {panic}");
                }
            }
            if let Some(callback) = callback {
                callback(result);
            }
        }))
    }
}

impl<I: ?Sized> Default for Chain<I> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<I: ?Sized> Clone for Chain<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: ?Sized> fmt::Debug for Chain<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} interceptors", self.0.len())
    }
}

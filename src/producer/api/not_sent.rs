//! A record that was not sent, and is returned to the caller.

use std::fmt;

use crate::error::Error;

/// A record that was not sent, with the reason. [`Producer::try_send`](crate::Producer::try_send) and similar calls
/// return it. `R` is [`Record`](crate::Record) or [`TypedRecord`](crate::TypedRecord). The record is as it was given,
/// without the changes of interceptors and serializers; it is in no log, and in no transaction.
///
/// `?` turns it into its [`Error`], and drops the record.
pub struct RecordNotSent<R> {
    // One pointer, so that the result of a record that is sent stays small.
    inner: Box<(Error, R)>,
}

impl<R> RecordNotSent<R> {
    pub(crate) fn new(error: Error, record: R) -> Self {
        Self { inner: Box::new((error.not_written_unless_said(), record)) }
    }

    /// Why.
    pub fn error(&self) -> &Error {
        &self.inner.0
    }

    /// Returns the record, so that it can be sent again, or elsewhere.
    pub fn into_record(self) -> R {
        self.inner.1
    }
}

/// Shows only the reason: the record may be secret.
impl<R> fmt::Debug for RecordNotSent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordNotSent").field("error", self.error()).finish_non_exhaustive()
    }
}

impl<R> fmt::Display for RecordNotSent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl<R> std::error::Error for RecordNotSent<R> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error().source()
    }
}

impl<R> From<RecordNotSent<R>> for Error {
    fn from(not_sent: RecordNotSent<R>) -> Self {
        not_sent.inner.0
    }
}

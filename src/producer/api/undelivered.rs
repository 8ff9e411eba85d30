//! What a close could not deliver.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, ErrorKind, Recovery, Timeout, Written};
use crate::producer::send::inbox::Loss;
use crate::topic::TopicPartition;

/// The records that were on their way when [`Producer::close`](crate::Producer::close) was called, and were not
/// delivered: those that failed meanwhile, and those that had no result in time.
///
/// With `?` it becomes an [`Error`] of the kind `Timeout(Close)`. Its recovery is `Fatal`: another close returns the
/// same, and only a new producer can send the records again. Some of them may be written, so [`Error::written`] is
/// `Maybe`; each record's handle has its own error. The source of this error is the cause for the first partition with
/// a known cause.
#[derive(Clone, Debug)]
pub struct Undelivered {
    partitions: BTreeMap<TopicPartition, u64>,
    causes: BTreeMap<TopicPartition, Error>,
    commit_in_doubt: bool,
}

impl Undelivered {
    /// How many records were not delivered.
    pub fn records(&self) -> u64 {
        self.partitions.values().sum()
    }

    /// How many of them each partition has.
    pub fn partitions(&self) -> &BTreeMap<TopicPartition, u64> {
        &self.partitions
    }

    /// Whether the coordinator was asked to commit a transaction, and has not answered. A new producer of the same
    /// transactional id finishes the transaction in
    /// [`Producer::init_transactions`](crate::Producer::init_transactions); only the records in the topics show whether
    /// it was committed.
    pub fn commit_in_doubt(&self) -> bool {
        self.commit_in_doubt
    }

    /// Why they were not delivered, by partition: the last error of each partition, such as the answer after which its
    /// batch was to be sent again, a connection that could not be made, or for how long the broker has not answered.
    /// Partitions without an error, for which there was only too little time, are absent.
    pub fn causes(&self) -> &BTreeMap<TopicPartition, Error> {
        &self.causes
    }

    pub(crate) fn new(losses: BTreeMap<TopicPartition, Loss>, commit_in_doubt: bool) -> Self {
        let mut undelivered = Self { partitions: BTreeMap::new(), causes: BTreeMap::new(), commit_in_doubt };
        for (partition, loss) in losses {
            if let Some(cause) = loss.cause {
                undelivered.causes.insert(partition.clone(), cause);
            }
            undelivered.partitions.insert(partition, loss.records);
        }
        undelivered
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.commit_in_doubt {
            f.write_str("the producer was closed before the commit of its transaction had an outcome")?;
            if self.partitions.is_empty() {
                return Ok(());
            }
            f.write_str("; ")?;
        }
        write!(f, "the producer was closed before {} records were delivered:", self.records())?;
        for (partition, records) in self.partitions.iter().take(20) {
            write!(f, " {partition} ({records})")?;
        }
        if self.partitions.len() > 20 {
            write!(f, " and {} partitions more", self.partitions.len() - 20)
        } else {
            Ok(())
        }
    }
}

/// Equal if the same partitions have the same numbers of records; causes are not compared.
impl PartialEq for Undelivered {
    fn eq(&self, other: &Self) -> bool {
        (&self.partitions, self.commit_in_doubt) == (&other.partitions, other.commit_in_doubt)
    }
}

impl Eq for Undelivered {}

impl std::error::Error for Undelivered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.causes.values().next().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<Undelivered> for Error {
    fn from(undelivered: Undelivered) -> Self {
        let error = Self::new(ErrorKind::Timeout(Timeout::Close), Recovery::Fatal, undelivered.to_string());
        error.with_written(Written::Maybe).with_source(undelivered)
    }
}

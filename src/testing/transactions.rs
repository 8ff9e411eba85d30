//! The transaction coordinator: what it knows of each transactional id, and Kafka 4.3's rules for it
//! (`TransactionCoordinator`, `TransactionMetadata`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::ErrorCode;
use crate::time;
use crate::topic::ProducerIdAndEpoch;

/// The longest transaction that brokers allow: `transaction.max.timeout.ms`.
const MAX_TIMEOUT_MS: i32 = 900_000;
/// No producer has a higher epoch: the one above is kept for fencing (`TransactionMetadata.isEpochExhausted`).
const LAST_EPOCH: i16 = i16::MAX - 1;

/// The state of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransactionState {
    /// There was no transaction since the producer was initialized.
    Empty,
    /// A transaction has begun, and has partitions or offsets.
    Ongoing,
    /// The transaction is being committed, but its markers are not written yet.
    PrepareCommit,
    /// The transaction is being aborted, but its markers are not written yet.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
}

/// Which protocol a transaction follows. Property of clusters: the feature `transaction.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransactionVersion {
    /// The protocol of KIP-98: partitions and offsets are added by separate requests, and the epoch stays the same.
    V1,
    /// The protocol of KIP-890: writing adds them implicitly, and the end of each transaction gives the next epoch.
    V2,
}

/// What the coordinator knows of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenTransactionalId {
    /// The producer that may use it now.
    pub producer: ProducerIdAndEpoch,
    /// Its state.
    pub state: TransactionState,
    /// The topics and partitions of the open transaction.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// The groups whose offsets are part of the open transaction.
    pub groups: Vec<String>,
    /// How long a transaction may take.
    pub timeout: Duration,
}

/// All transactional ids.
#[derive(Debug)]
pub(crate) struct FakeTransactions {
    by_id: BTreeMap<String, FakeTransaction>,
    /// The protocol with which the brokers themselves abort.
    pub(super) version: TransactionVersion,
    next_producer_id: i64,
}

#[derive(Debug)]
struct FakeTransaction {
    producer: ProducerIdAndEpoch,
    /// The producer id before the last change of state.
    previous_id: i64,
    /// The producer id from the next completion on, or -1.
    next_id: i64,
    /// The epoch before the last bump that its own producer asked for, or -1. With it a repeated request is recognised.
    last_epoch: i16,
    timeout: Duration,
    state: TransactionState,
    /// The protocol of the end that is under way.
    version: TransactionVersion,
    partitions: BTreeSet<(Arc<str>, i32)>,
    groups: BTreeSet<String>,
    /// When the open transaction began.
    began: Option<Instant>,
}

/// The markers that end a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Markers {
    pub(super) producer: ProducerIdAndEpoch,
    pub(super) is_commit: bool,
    pub(super) partitions: BTreeSet<(Arc<str>, i32)>,
    pub(super) groups: BTreeSet<String>,
}

/// The result of a valid request to end a transaction.
#[derive(Debug)]
pub(crate) enum EndAnswer {
    /// The same request has ended it before.
    Already(ProducerIdAndEpoch),
    /// It ends now, and [`FakeTransactions::complete`] must be called. With the identity of the next transaction.
    Now(ProducerIdAndEpoch),
}

/// What a request wants to add to a transaction.
#[derive(Debug)]
pub(crate) enum Addition<'a> {
    Partitions(BTreeSet<(Arc<str>, i32)>),
    Group(&'a str),
}

impl FakeTransactions {
    pub(crate) fn new(version: TransactionVersion) -> Self {
        Self { by_id: BTreeMap::new(), version, next_producer_id: 1000 }
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// `handleInitProducerId`. `known` is the identity that the producer sends.
    ///
    /// An open transaction is aborted, and the answer is CONCURRENT_TRANSACTIONS: the client asks again, and gets an
    /// epoch that no producer has had.
    pub(crate) fn init(
        &mut self,
        id: &str,
        timeout_ms: i32,
        known: Option<ProducerIdAndEpoch>,
    ) -> Result<ProducerIdAndEpoch, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let timeout = u64::try_from(timeout_ms).ok().filter(|ms| (1..=MAX_TIMEOUT_MS).contains(&timeout_ms) && *ms > 0);
        let timeout = Duration::from_millis(timeout.ok_or(ErrorCode::INVALID_TRANSACTION_TIMEOUT)?);
        if !self.by_id.contains_key(id) {
            let producer = ProducerIdAndEpoch { producer_id: self.new_producer_id(), epoch: -1 };
            self.by_id.insert(id.to_owned(), FakeTransaction::new(producer, timeout));
        }
        let entry = self.known(id)?;
        if entry.is_ending() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let is_valid = |known: ProducerIdAndEpoch| {
            entry.producer.epoch == -1
                || known.producer_id == entry.producer.producer_id
                || (known.producer_id == entry.previous_id && known.epoch >= LAST_EPOCH)
        };
        if !known.is_none_or(is_valid) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if entry.state == TransactionState::Ongoing {
            self.fence(id)?;
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let (current, last_epoch) = (entry.producer, entry.last_epoch);
        let exhausted = current.epoch >= LAST_EPOCH && known.is_none_or(|known| known.epoch == current.epoch);
        let bumped = ProducerIdAndEpoch { epoch: current.epoch.saturating_add(1), ..current };
        let (producer, last_epoch) = match known {
            _ if exhausted => {
                let fresh = ProducerIdAndEpoch { producer_id: self.new_producer_id(), epoch: 0 };
                (fresh, if known.is_some() { current.epoch } else { -1 })
            }
            // As in Kafka, where the coordinator fails because of the epoch before it looks at the request.
            _ if current.epoch >= LAST_EPOCH => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            None => (bumped, -1),
            Some(known) if current.epoch == -1 || known.epoch == current.epoch => (bumped, current.epoch),
            // The same request again, because its answer was lost.
            Some(known) if known.epoch == last_epoch => (current, last_epoch),
            Some(_) => return Err(ErrorCode::PRODUCER_FENCED),
        };
        let entry = self.known(id)?;
        entry.previous_id = entry.producer.producer_id;
        (entry.producer, entry.last_epoch, entry.timeout) = (producer, last_epoch, timeout);
        entry.state = TransactionState::Empty;
        Ok(producer)
    }

    /// `handleAddPartitionsToTransaction`.
    pub(crate) fn add(
        &mut self,
        id: &str,
        producer: ProducerIdAndEpoch,
        addition: Addition<'_>,
    ) -> Result<(), ErrorCode> {
        let entry = self.known(id)?;
        // This is checked first: the producer may have its next identity already, when the coordinator does not have it
        // yet.
        if entry.is_ending() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        entry.check(producer)?;
        if entry.state != TransactionState::Ongoing {
            entry.state = TransactionState::Ongoing;
            entry.began = Some(Instant::now());
        }
        match addition {
            Addition::Partitions(partitions) => entry.partitions.extend(partitions),
            Addition::Group(group) => {
                entry.groups.insert(group.to_owned());
            }
        }
        Ok(())
    }

    /// `handleVerifyPartitionsInTransaction`: whether a partition or a group is part of the transaction.
    pub(crate) fn verify(
        &mut self,
        id: &str,
        producer: ProducerIdAndEpoch,
        addition: &Addition<'_>,
    ) -> Result<(), ErrorCode> {
        let entry = self.known(id)?;
        entry.check(producer)?;
        if entry.is_ending() {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let has = match addition {
            Addition::Partitions(partitions) => partitions.is_subset(&entry.partitions),
            Addition::Group(group) => entry.groups.contains(*group),
        };
        if has { Ok(()) } else { Err(ErrorCode::TRANSACTION_ABORTABLE) }
    }

    fn known(&mut self, id: &str) -> Result<&mut FakeTransaction, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.by_id.get_mut(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    /// `endTransaction`, for a client.
    pub(crate) fn end(
        &mut self,
        id: &str,
        producer: ProducerIdAndEpoch,
        is_commit: bool,
        version: TransactionVersion,
    ) -> Result<EndAnswer, ErrorCode> {
        match version {
            TransactionVersion::V1 => self.end_v1(id, producer, is_commit),
            TransactionVersion::V2 => self.end_v2(id, producer, is_commit),
        }
    }

    fn end_v1(&mut self, id: &str, producer: ProducerIdAndEpoch, is_commit: bool) -> Result<EndAnswer, ErrorCode> {
        let entry = self.known(id)?;
        entry.check(producer)?;
        match (entry.state, is_commit) {
            (TransactionState::PrepareCommit | TransactionState::PrepareAbort, _) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            (TransactionState::Ongoing, _) => Ok(EndAnswer::Now(entry.prepare_v1(is_commit))),
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) => {
                Ok(EndAnswer::Already(ProducerIdAndEpoch::NONE))
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    fn end_v2(&mut self, id: &str, producer: ProducerIdAndEpoch, is_commit: bool) -> Result<EndAnswer, ErrorCode> {
        let entry = self.known(id)?;
        let current = entry.producer;
        let after_overflow =
            entry.previous_id == producer.producer_id && producer.epoch == LAST_EPOCH && current.epoch == 0;
        let after_bump = producer.epoch.checked_add(1) == Some(current.epoch);
        let is_repeated = after_overflow || after_bump;
        if current.producer_id != producer.producer_id && !after_overflow {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let is_current = producer.epoch == current.epoch;
        let (is_valid, ended) = match entry.state {
            TransactionState::Ongoing | TransactionState::Empty => (is_current, None),
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => (after_bump, None),
            TransactionState::CompleteCommit => (is_repeated || is_current, Some(true)),
            TransactionState::CompleteAbort => (is_repeated || is_current, Some(false)),
        };
        if !is_valid {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match (entry.state, is_commit) {
            (TransactionState::Ongoing, _) | (TransactionState::Empty, false) => {}
            (TransactionState::PrepareCommit | TransactionState::PrepareAbort, _) => {
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            // The answer was lost.
            _ if is_repeated && ended == Some(is_commit) => return Ok(EndAnswer::Already(current)),
            // An abort of nothing, by a producer that does not know whether it has written: it gets the next epoch.
            _ if !is_repeated && ended.is_some() && !is_commit => {}
            _ => return Err(ErrorCode::INVALID_TXN_STATE),
        }
        self.prepare_v2(id, is_commit).map(EndAnswer::Now)
    }

    fn prepare_v2(&mut self, id: &str, is_commit: bool) -> Result<ProducerIdAndEpoch, ErrorCode> {
        let exhausted = self.known(id)?.producer.epoch >= LAST_EPOCH;
        let next_id = if exhausted { self.new_producer_id() } else { -1 };
        let entry = self.known(id)?;
        entry.last_epoch = entry.producer.epoch;
        entry.producer.epoch = entry.producer.epoch.saturating_add(1);
        entry.next_id = next_id;
        entry.prepare(is_commit, TransactionVersion::V2);
        Ok(entry.next_producer())
    }

    /// Aborts an open transaction that its producer has not ended. The next epoch fences that producer.
    fn fence(&mut self, id: &str) -> Result<(), ErrorCode> {
        match self.version {
            // One bump, not two (KAFKA-19367).
            TransactionVersion::V2 => drop(self.prepare_v2(id, false)?),
            TransactionVersion::V1 => {
                let entry = self.known(id)?;
                entry.producer.epoch = entry.producer.epoch.saturating_add(1);
                entry.last_epoch = -1;
                entry.prepare_v1(false);
            }
        }
        Ok(())
    }

    /// Aborts the open transaction of an id as if its time were over, and returns whether there was one.
    pub(crate) fn time_out(&mut self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|entry| entry.state == TransactionState::Ongoing) && self.fence(id).is_ok()
    }

    /// Aborts the transactions that have taken longer than their timeout.
    pub(super) fn time_out_until(&mut self, now: Instant) {
        let is_due = |entry: &FakeTransaction| entry.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<String> = self.by_id.iter().filter(|(_, e)| is_due(e)).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.time_out(&id);
        }
    }

    /// When the first of the open transactions has to be aborted.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().filter_map(FakeTransaction::deadline).min()
    }

    /// Completes the transactions that are ending, and returns the markers that must be written.
    pub(crate) fn complete(&mut self) -> Vec<Markers> {
        self.by_id.values_mut().filter_map(FakeTransaction::complete).collect()
    }

    pub(super) fn seen(&self, id: &str) -> Option<SeenTransactionalId> {
        self.by_id.get(id).map(|entry| SeenTransactionalId {
            producer: entry.producer,
            state: entry.state,
            partitions: entry.partitions.iter().cloned().collect(),
            groups: entry.groups.iter().cloned().collect(),
            timeout: entry.timeout,
        })
    }

    /// Gives an id another epoch, as if it had been used often. Returns whether there is such an id without an open
    /// transaction.
    pub(super) fn set_epoch(&mut self, id: &str, epoch: i16) -> bool {
        let idle = self.by_id.get_mut(id).filter(|entry| !entry.is_open());
        idle.map(|entry| entry.producer.epoch = epoch).is_some()
    }

    /// Forgets an id, as brokers do after a week (`transactional.id.expiration.ms`).
    pub(super) fn forget(&mut self, id: &str) -> bool {
        let idle = self.by_id.get(id).is_some_and(|entry| !entry.is_open());
        idle && self.by_id.remove(id).is_some()
    }
}

impl FakeTransaction {
    fn new(producer: ProducerIdAndEpoch, timeout: Duration) -> Self {
        Self {
            producer,
            previous_id: -1,
            next_id: -1,
            last_epoch: -1,
            timeout,
            state: TransactionState::Empty,
            version: TransactionVersion::V1,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            began: None,
        }
    }

    fn is_open(&self) -> bool {
        self.state == TransactionState::Ongoing || self.is_ending()
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }

    /// Whether requests of `producer` are those of the id's owner.
    fn check(&self, producer: ProducerIdAndEpoch) -> Result<(), ErrorCode> {
        if self.producer.producer_id != producer.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.producer.epoch != producer.epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let began = self.began.filter(|_| self.state == TransactionState::Ongoing)?;
        Some(time::deadline(began, self.timeout))
    }

    fn prepare_v1(&mut self, is_commit: bool) -> ProducerIdAndEpoch {
        self.prepare(is_commit, TransactionVersion::V1);
        ProducerIdAndEpoch::NONE
    }

    fn prepare(&mut self, is_commit: bool, version: TransactionVersion) {
        self.state = if is_commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        self.version = version;
    }

    /// The identity that the producer has once the end is complete.
    fn next_producer(&self) -> ProducerIdAndEpoch {
        match self.next_id {
            0.. => ProducerIdAndEpoch { producer_id: self.next_id, epoch: 0 },
            _ => self.producer,
        }
    }

    fn complete(&mut self) -> Option<Markers> {
        let is_commit = match self.state {
            TransactionState::PrepareCommit => true,
            TransactionState::PrepareAbort => false,
            _ => return None,
        };
        let markers = Markers {
            producer: self.producer,
            is_commit,
            partitions: std::mem::take(&mut self.partitions),
            groups: std::mem::take(&mut self.groups),
        };
        self.state = if is_commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
        self.began = None;
        if self.version == TransactionVersion::V2 {
            self.previous_id = self.producer.producer_id;
            self.producer = self.next_producer();
        }
        self.next_id = -1;
        Some(markers)
    }
}

#[cfg(test)]
mod tests;

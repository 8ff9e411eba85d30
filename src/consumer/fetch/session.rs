//! What is asked of a broker, fetch after fetch. Pure.
//!
//! In a session (KIP-227) the broker remembers what it was asked for, and a request names what has changed. What it sends is
//! acknowledged by the next position of the partition alone, so a partition that must not send more is taken out of the
//! session, or it would come again. Where there is no session, every request names all, each time beginning with
//! another partition: brokers fill their answers in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::consumer::buffer::reading::Stamp;
use crate::error::ErrorCode;
use crate::protocol::wire::Uuid;
use crate::topic::TopicPartition;

/// The first Fetch version with sessions.
pub(crate) const SESSIONS: i16 = 7;
/// The epoch of a request that asks for a new session.
const NEW: i32 = 0;
/// The epoch of a request that asks for none.
const NONE: i32 = -1;

/// What a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) stamp: Stamp,
    pub(crate) leader_epoch: i32,
    /// The epoch of the leader that wrote what lies before, or -1.
    pub(crate) last_epoch: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) max_bytes: usize,
}

impl Spec {
    /// Whether the broker has to be told that it has become this one.
    fn differs(&self, other: &Self) -> bool {
        let told = |spec: &Self| (spec.stamp.offset, spec.leader_epoch, spec.last_epoch, spec.topic_id, spec.max_bytes);
        told(self) != told(other)
    }
}

/// The fetches of one connection.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// 0: none yet.
    id: i32,
    /// That of the next request.
    epoch: i32,
    /// All that is to be fetched.
    wanted: BTreeMap<TopicPartition, Spec>,
    /// What the broker knows of it.
    told: BTreeMap<TopicPartition, Spec>,
    /// Where the two may differ.
    changed: BTreeSet<TopicPartition>,
    /// The names of the topics with an id that were ever wanted.
    names: BTreeMap<Uuid, Arc<str>>,
    /// How many bytes all that is wanted may send together, and how much of it has no topic id.
    max_bytes: usize,
    without_id: usize,
    /// Whether topics were named by id.
    by_id: bool,
    /// Where the next request without a session begins.
    turn: usize,
}

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    pub(crate) fetch: Vec<(TopicPartition, Spec)>,
    pub(crate) forget: Vec<(TopicPartition, Uuid)>,
}

/// What became of a session's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// The session is gone; the next request asks for a new one.
    Renewed,
    /// The answer does not fit, or has an error that is not the session's.
    Refused,
}

impl Session {
    /// Fetches a partition so from now on.
    pub(crate) fn set(&mut self, partition: &TopicPartition, spec: Spec) {
        let old = self.wanted.insert(partition.clone(), spec);
        if let Some(old) = &old {
            self.uncount(old);
        }
        self.max_bytes = self.max_bytes.saturating_add(spec.max_bytes);
        if spec.topic_id.is_zero() {
            self.without_id += 1;
        } else if old.is_none_or(|old| old.topic_id != spec.topic_id) {
            self.names.insert(spec.topic_id, Arc::clone(&partition.topic));
        }
        if old.is_none_or(|old| old.differs(&spec)) {
            self.changed.insert(partition.clone());
        }
    }

    /// Does not fetch a partition any more.
    pub(crate) fn remove(&mut self, partition: &TopicPartition) {
        if let Some(old) = self.wanted.remove(partition) {
            self.uncount(&old);
            self.changed.insert(partition.clone());
        }
    }

    fn uncount(&mut self, old: &Spec) {
        self.max_bytes = self.max_bytes.saturating_sub(old.max_bytes);
        self.without_id = self.without_id.saturating_sub(usize::from(old.topic_id.is_zero()));
    }

    /// What a partition is asked for.
    pub(crate) fn spec(&self, partition: &TopicPartition) -> Option<&Spec> {
        self.wanted.get(partition)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// How many bytes of records all partitions together may send.
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether every topic has an id, without which they cannot be named so.
    pub(crate) fn has_ids(&self) -> bool {
        self.without_id == 0
    }

    /// The topic of an id.
    pub(crate) fn name_of(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// The next request, at a version with sessions or without.
    pub(crate) fn plan(&mut self, has_sessions: bool, by_id: bool) -> Plan {
        if self.by_id != by_id {
            // A session has names or ids, not both.
            self.reset();
            self.by_id = by_id;
        }
        if self.id == 0 || !has_sessions {
            self.changed.clear();
            self.told = self.wanted.clone();
            let all = self.wanted.iter().map(|(partition, spec)| (partition.clone(), *spec));
            let mut all: Vec<_> = all.collect();
            let turn = if all.is_empty() { 0 } else { self.turn % all.len() };
            self.turn = turn.wrapping_add(1);
            all.rotate_left(turn);
            let session_epoch = if has_sessions { self.epoch } else { NONE };
            return Plan { session_id: 0, session_epoch, fetch: all, forget: Vec::new() };
        }
        let (mut fetch, mut forget) = (Vec::new(), Vec::new());
        for partition in std::mem::take(&mut self.changed) {
            match (self.wanted.get(&partition), self.told.get(&partition)) {
                (Some(spec), Some(told)) if spec.topic_id != told.topic_id => {
                    forget.push((partition.clone(), told.topic_id));
                    fetch.push((partition, *spec));
                }
                (Some(spec), told) if told.is_none_or(|told| told.differs(spec)) => fetch.push((partition, *spec)),
                (Some(_), _) | (None, None) => {}
                (None, Some(told)) => forget.push((partition, told.topic_id)),
            }
        }
        for (partition, _) in &forget {
            self.told.remove(partition);
        }
        self.told.extend(fetch.iter().cloned());
        Plan { session_id: self.id, session_epoch: self.epoch, fetch, forget }
    }

    /// Takes over what the answer to the last plan says of the session.
    pub(crate) fn answered(&mut self, code: ErrorCode, session_id: i32) -> Verdict {
        match code {
            ErrorCode::NONE if self.id == 0 => {
                // A broker that has no room for a session answers with the id 0.
                self.id = session_id.max(0);
                self.epoch = if self.id == 0 { NEW } else { 1 };
                Verdict::Accepted
            }
            ErrorCode::NONE if session_id == self.id => {
                self.epoch = self.epoch.checked_add(1).unwrap_or(1);
                Verdict::Accepted
            }
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => {
                self.reset();
                Verdict::Renewed
            }
            _ => {
                self.reset();
                Verdict::Refused
            }
        }
    }

    /// The broker may not remember anything: the connection is another one.
    pub(crate) fn reset(&mut self) {
        self.id = 0;
        self.epoch = NEW;
    }
}

#[cfg(test)]
mod tests;

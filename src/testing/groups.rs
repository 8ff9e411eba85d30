//! The group coordinator's offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::ErrorCode;

type GroupOffsets = BTreeMap<(Arc<str>, i32), CommittedOffset>;

/// An offset that a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset of the next record to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, if the consumer has sent it.
    pub leader_epoch: Option<i32>,
    /// The text that the consumer added.
    pub metadata: Option<String>,
}

/// A leader epoch from the protocol, where -1 means none.
pub(super) fn known_epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Of the classic protocol; -1 for a group without members.
    generation: i32,
    members: BTreeSet<String>,
    committed: GroupOffsets,
    /// The offsets that open transactions will commit, by producer id.
    pending: BTreeMap<i64, GroupOffsets>,
}

/// The member of the group that commits, as the request names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committer<'a> {
    pub(super) generation: i32,
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
}

impl Groups {
    fn group(&mut self, id: &str) -> &mut Group {
        self.by_id.entry(id.to_owned()).or_insert_with(|| Group { generation: -1, ..Group::default() })
    }

    /// Gives a group members, in a generation of the classic protocol.
    pub(super) fn set_members(&mut self, id: &str, generation: i32, members: BTreeSet<String>) {
        let group = self.group(id);
        (group.generation, group.members) = (generation, members);
    }

    /// Whether a transaction may commit a group's offsets (`ClassicGroup.validateOffsetCommit`, transactional).
    pub(super) fn check(&self, id: &str, committer: Committer<'_>) -> Result<(), ErrorCode> {
        let members = self.by_id.get(id).filter(|group| group.generation >= 0);
        let Some(group) = members else {
            // The group has no members, so no request can be from one.
            return if committer.generation < 0 { Ok(()) } else { Err(ErrorCode::ILLEGAL_GENERATION) };
        };
        let names_itself = committer.generation >= 0 || !committer.member.is_empty() || committer.instance.is_some();
        if !names_itself {
            return Ok(());
        }
        if !group.members.contains(committer.member) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if committer.generation != group.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    /// Notes an offset that a transaction will commit.
    pub(super) fn prepare(&mut self, id: &str, producer_id: i64, partition: (Arc<str>, i32), offset: CommittedOffset) {
        self.group(id).pending.entry(producer_id).or_default().insert(partition, offset);
    }

    /// Ends a transaction: its offsets are committed, or dropped.
    pub(super) fn end(&mut self, id: &str, producer_id: i64, is_commit: bool) {
        if let Some(group) = self.by_id.get_mut(id)
            && let Some(mut offsets) = group.pending.remove(&producer_id)
            && is_commit
        {
            group.committed.append(&mut offsets);
        }
    }

    /// The committed offset of a partition, and whether an open transaction may replace it.
    pub(super) fn offset(&self, id: &str, topic: &str, partition: i32) -> (Option<CommittedOffset>, bool) {
        let Some(group) = self.by_id.get(id) else {
            return (None, false);
        };
        let key = (Arc::from(topic), partition);
        let is_pending = group.pending.values().any(|offsets| offsets.contains_key(&key));
        (group.committed.get(&key).cloned(), is_pending)
    }

    /// The partitions for which a group has offsets, also those of open transactions.
    pub(super) fn partitions(&self, id: &str) -> BTreeSet<(Arc<str>, i32)> {
        let group = self.by_id.get(id);
        let all = group.into_iter().flat_map(|group| group.pending.values().chain([&group.committed]));
        all.flat_map(|offsets| offsets.keys().cloned()).collect()
    }
}

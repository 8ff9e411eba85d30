//! Fetch sessions (KIP-227): what a broker remembers of what its clients fetch.

use std::collections::BTreeMap;

use crate::error::ErrorCode;
use crate::protocol::messages::FetchRequest;
use crate::protocol::messages::fetch::{FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData};
use crate::protocol::wire::{Records, Uuid};
use crate::topic::BrokerId;

/// The epoch of a request that asks for no session, and of one that asks for a new one.
const NONE: i32 = -1;
const NEW: i32 = 0;
/// How many sessions a broker keeps (`max.incremental.fetch.session.cache.slots`).
pub(super) const SLOTS: usize = 1000;

/// The sessions of all brokers.
///
/// Thread: any, under the cluster's lock.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: usize,
    last_id: i32,
    sessions: BTreeMap<(BrokerId, i32), Session>,
}

#[derive(Debug, Default)]
struct Session {
    /// That of the next request.
    epoch: i32,
    /// What is fetched, in the order in which an answer is filled.
    partitions: Vec<Fetched>,
}

#[derive(Clone, Debug)]
struct Fetched {
    topic: String,
    id: Uuid,
    partition: FetchPartition,
    /// What the client was told of the log's ends.
    told: Option<(i64, i64, i64)>,
}

/// What a request means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// All of these, in an answer that names this session, and each of them.
    Full(Vec<FetchTopic>, i32),
    /// All of these, in an answer that names what is new.
    Incremental(Vec<FetchTopic>, i32),
    Refused(ErrorCode),
}

impl Sessions {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, last_id: 0, sessions: BTreeMap::new() }
    }

    /// What a request to a broker means, at a version with sessions.
    pub(super) fn begin(&mut self, broker: BrokerId, request: &FetchRequest) -> Meaning {
        let key = (broker, request.session_id);
        match request.session_epoch {
            NONE => {
                self.sessions.remove(&key);
                Meaning::Full(request.topics.clone(), 0)
            }
            NEW => {
                self.sessions.remove(&key);
                let used = self.sessions.keys().filter(|(of, _)| *of == broker).count();
                if used >= self.slots || request.topics.is_empty() {
                    return Meaning::Full(request.topics.clone(), 0);
                }
                self.last_id = self.last_id.checked_add(1).unwrap_or(1);
                let mut session = Session { epoch: 1, partitions: Vec::new() };
                session.update(request);
                self.sessions.insert((broker, self.last_id), session);
                Meaning::Full(request.topics.clone(), self.last_id)
            }
            epoch => match self.sessions.get_mut(&key) {
                None => Meaning::Refused(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
                Some(session) if session.epoch != epoch => Meaning::Refused(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
                Some(session) => {
                    session.epoch = epoch.checked_add(1).unwrap_or(1);
                    session.update(request);
                    Meaning::Incremental(session.topics(), request.session_id)
                }
            },
        }
    }

    /// Leaves out of an answer what is not new to the session, and lets those wait that have got something.
    pub(super) fn end(
        &mut self,
        broker: BrokerId,
        id: i32,
        is_incremental: bool,
        mut topics: Vec<FetchableTopicResponse>,
    ) -> Vec<FetchableTopicResponse> {
        let Some(session) = self.sessions.get_mut(&(broker, id)) else { return topics };
        for topic in &mut topics {
            let (name, id) = (topic.topic.clone(), topic.topic_id);
            topic.partitions.retain(|data| session.is_new(&name, id, data) || !is_incremental);
        }
        topics.retain(|topic| !topic.partitions.is_empty());
        topics
    }

    /// Forgets all sessions, of one broker or of every one.
    pub(super) fn forget(&mut self, broker: Option<BrokerId>) {
        self.sessions.retain(|(of, _), _| broker.is_some_and(|broker| broker != *of));
    }

    /// How many sessions there are.
    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }
}

impl Session {
    fn update(&mut self, request: &FetchRequest) {
        for forgotten in &request.forgotten_topics_data {
            self.partitions.retain(|known| {
                let same = known.topic == forgotten.topic && known.id == forgotten.topic_id;
                !(same && forgotten.partitions.contains(&known.partition.partition))
            });
        }
        for topic in &request.topics {
            for partition in &topic.partitions {
                match self.find(&topic.topic, topic.topic_id, partition.partition) {
                    Some(known) => known.partition = partition.clone(),
                    None => self.partitions.push(Fetched {
                        topic: topic.topic.clone(),
                        id: topic.topic_id,
                        partition: partition.clone(),
                        told: None,
                    }),
                }
            }
        }
    }

    fn find(&mut self, topic: &str, id: Uuid, index: i32) -> Option<&mut Fetched> {
        let same = |known: &&mut Fetched| known.topic == topic && known.id == id && known.partition.partition == index;
        self.partitions.iter_mut().find(same)
    }

    fn topics(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for known in &self.partitions {
            let same = |topic: &&mut FetchTopic| topic.topic == known.topic && topic.topic_id == known.id;
            match topics.last_mut().filter(same) {
                Some(topic) => topic.partitions.push(known.partition.clone()),
                None => topics.push(FetchTopic {
                    topic: known.topic.clone(),
                    topic_id: known.id,
                    partitions: vec![known.partition.clone()],
                }),
            }
        }
        topics
    }

    /// Whether what was found of a partition is news to the client.
    fn is_new(&mut self, topic: &str, id: Uuid, data: &PartitionData) -> bool {
        let has_records = matches!(&data.records, Records::Inline(bytes) if !bytes.is_empty());
        let ends = (data.high_watermark, data.last_stable_offset, data.log_start_offset);
        let Some(known) = self.find(topic, id, data.partition_index) else { return true };
        let has_diverged = data.diverging_epoch.epoch >= 0;
        let is_new = has_records || has_diverged || data.error_code != 0 || known.told != Some(ends);
        known.told = (data.error_code == 0).then_some(ends);
        if has_records {
            // Others come before it in the next answer.
            let index = data.partition_index;
            let same = |known: &Fetched| known.topic == topic && known.id == id && known.partition.partition == index;
            let (later, mut order): (Vec<_>, Vec<_>) = std::mem::take(&mut self.partitions).into_iter().partition(same);
            order.extend(later);
            self.partitions = order;
        }
        is_new
    }
}

//! Which topics are kept up to date, and for whom. Pure: it reads no clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::messages::MetadataRequest;

/// Whether a topic that is missing may be created because it is asked for, if the brokers' own settings allow it
/// (KIP-361). A request says so of all its topics, so those of either kind are asked for in a request of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Allowed,
    Forbidden,
}

/// Whether a topic was used lately. Set by whoever sends to it; taken back now and then by `kafka-metadata`, which
/// forgets a topic that is not used for long.
#[derive(Debug)]
pub(crate) struct Usage {
    state: AtomicU8,
    /// What its users want of the topic.
    pub(super) creation: Creation,
}

const UNUSED: u8 = 0;
const USED: u8 = 1;
const FORGOTTEN: u8 = 2;

impl Usage {
    fn new(state: u8, creation: Creation) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(state), creation })
    }

    /// Marks the topic as used. True if it has been forgotten, or was never kept: the cluster must be told to
    /// [remember](super::Cluster::remember) it. Reads before it writes, so that threads do not fight for the mark.
    pub(crate) fn mark(&self) -> bool {
        self.state.load(Ordering::Relaxed) != USED && self.state.swap(USED, Ordering::Relaxed) == FORGOTTEN
    }

    /// Whether it was used since this was last asked.
    fn take(&self) -> bool {
        self.turn(USED, UNUSED)
    }

    /// False if it has been used again.
    fn forget(&self) -> bool {
        self.turn(UNUSED, FORGOTTEN) || self.state.load(Ordering::Relaxed) == FORGOTTEN
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// All topics that somebody wants to know of.
#[derive(Default)]
pub(super) struct Interests {
    creating: Topics,
    others: Topics,
}

/// The topics that are wanted with the same [`Creation`].
#[derive(Default)]
struct Topics {
    /// Those that are kept up to date.
    kept: HashMap<Arc<str>, Interest>,
    /// How many callers wait for each topic that is not known yet.
    awaited: HashMap<Arc<str>, usize>,
    /// Topics of which no answer has told yet. They are asked for at once; whoever asks for others waits for the
    /// back-off, for what they are told is young.
    new: HashSet<Arc<str>>,
}

struct Interest {
    /// The marks of its users: of clients that share the cluster, each may have its own.
    usages: Vec<Arc<Usage>>,
    last_used: Instant,
}

/// What a round asks for, without doublets.
#[derive(Debug, Default)]
pub(super) struct Asked {
    creating: Vec<Arc<str>>,
    others: Vec<Arc<str>>,
}

impl Asked {
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.creating.iter().chain(&self.others)
    }

    /// A request for each kind of topic that is asked for; one that creates nothing where it is only the brokers that are
    /// asked for.
    pub(super) fn requests(&self) -> Vec<MetadataRequest> {
        let mut requests = Vec::with_capacity(2);
        for (topics, create) in [(&self.creating, true), (&self.others, false)] {
            if !topics.is_empty() || (!create && requests.is_empty()) {
                requests.push(MetadataRequest::named(topics.iter().map(AsRef::as_ref), create));
            }
        }
        requests
    }
}

impl Interests {
    fn topics(&mut self, creation: Creation) -> &mut Topics {
        match creation {
            Creation::Allowed => &mut self.creating,
            Creation::Forbidden => &mut self.others,
        }
    }

    /// Keeps a topic up to date. True if nothing was asked for it before.
    pub(super) fn keep(&mut self, topic: &str, creation: Creation, now: Instant) -> bool {
        let topics = self.topics(creation);
        if topics.kept.contains_key(topic) {
            return false;
        }
        let name: Arc<str> = topic.into();
        let interest = Interest { usages: vec![Usage::new(USED, creation)], last_used: now };
        topics.kept.insert(Arc::clone(&name), interest);
        topics.new.insert(name)
    }

    /// The mark of a topic that is kept; for one that is not, a mark that says so when it is set.
    pub(super) fn usage(&mut self, topic: &str, creation: Creation) -> Arc<Usage> {
        let kept = self.topics(creation).kept.get(topic).and_then(|interest| interest.usages.first());
        kept.map_or_else(|| Usage::new(FORGOTTEN, creation), Arc::clone)
    }

    /// Keeps a topic up to date again, and takes it for one of which nothing was told: what is known of it is old.
    pub(super) fn remember(&mut self, topic: &Arc<str>, usage: &Arc<Usage>, now: Instant) {
        let topics = self.topics(usage.creation);
        let interest =
            topics.kept.entry(Arc::clone(topic)).or_insert_with(|| Interest { usages: vec![], last_used: now });
        interest.last_used = now;
        // Not those of clients that have ended.
        interest.usages.retain(|other| Arc::strong_count(other) > 1 && !Arc::ptr_eq(other, usage));
        interest.usages.push(Arc::clone(usage));
        topics.new.insert(Arc::clone(topic));
    }

    /// A caller waits for the topic from here on.
    pub(super) fn begin_waiting(&mut self, topic: &Arc<str>, creation: Creation) {
        *self.topics(creation).awaited.entry(Arc::clone(topic)).or_insert(0) += 1;
    }

    pub(super) fn end_waiting(&mut self, topic: &Arc<str>, creation: Creation) {
        let awaited = &mut self.topics(creation).awaited;
        if let Some(count) = awaited.get_mut(topic) {
            *count -= 1;
            if *count == 0 {
                awaited.remove(topic);
            }
        }
    }

    pub(super) fn are_awaited(&self) -> bool {
        !self.creating.awaited.is_empty() || !self.others.awaited.is_empty()
    }

    pub(super) fn have_new(&self) -> bool {
        !self.creating.new.is_empty() || !self.others.new.is_empty()
    }

    /// What is to be asked for: all topics, or those that are waited for.
    pub(super) fn to_ask(&self, all: bool) -> Asked {
        let names = |topics: &Topics| {
            let kept = all.then_some(&topics.kept).into_iter().flat_map(HashMap::keys);
            let mut names: Vec<_> = kept.chain(topics.awaited.keys()).cloned().collect();
            names.sort();
            names.dedup();
            names
        };
        let (creating, mut others) = (names(&self.creating), names(&self.others));
        others.retain(|name| creating.binary_search(name).is_err());
        Asked { creating, others }
    }

    /// An answer has told of these. One that may create says as much as one that may not.
    pub(super) fn answered(&mut self, asked: &Asked) {
        for topic in &asked.creating {
            self.creating.new.remove(topic);
        }
        for topic in asked.topics() {
            self.others.new.remove(topic);
        }
    }

    /// Forgets topics that have not been used for `max_idle`.
    pub(super) fn forget_unused(&mut self, now: Instant, max_idle: Duration) {
        for topics in [&mut self.creating, &mut self.others] {
            topics.kept.retain(|_, interest| {
                // Every mark is taken back.
                if interest.usages.iter().filter(|usage| usage.take()).count() > 0 {
                    interest.last_used = now;
                }
                if interest.last_used + max_idle > now {
                    return true;
                }
                // Who has marked it meanwhile keeps it; the others' marks say, when they are set, that they must be told of.
                let used = interest.usages.iter().filter(|usage| !usage.forget()).count();
                used > 0
            });
            let kept = &topics.kept;
            topics.new.retain(|topic| kept.contains_key(topic));
        }
    }
}

#[cfg(test)]
mod tests;

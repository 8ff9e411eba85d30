//! Which topics are kept up to date, and for whom. Pure: it reads no clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::messages::MetadataRequest;

/// Whether a topic that is missing may be created because it is asked for, if the brokers' own settings allow it
/// (KIP-361). A request says so of all its topics, so those of either kind are asked for in a request of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Allowed,
    Forbidden,
}

/// Who is interested in topics: one client of the cluster.
#[derive(Debug)]
pub(super) struct Interested {
    pub(super) creation: Creation,
    /// After how long without use a topic is of no interest any more.
    max_idle: Duration,
    /// Written under the lock that guards [`Interests`].
    ended: AtomicBool,
}

impl Interested {
    pub(super) fn new(creation: Creation, max_idle: Duration) -> Arc<Self> {
        Arc::new(Self { creation, max_idle, ended: AtomicBool::new(false) })
    }

    /// Whether it has left: it must not become interested in anything again.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Whether a client used a topic lately. Set by whoever sends to it; taken back now and then by `kafka-metadata`, which
/// forgets a topic that nobody uses for long.
#[derive(Debug)]
pub(crate) struct Usage {
    state: AtomicU8,
    by: Arc<Interested>,
}

const UNUSED: u8 = 0;
const USED: u8 = 1;
const FORGOTTEN: u8 = 2;

impl Usage {
    fn new(by: &Arc<Interested>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(USED), by: Arc::clone(by) })
    }

    fn is_by(&self, interested: &Arc<Interested>) -> bool {
        Arc::ptr_eq(&self.by, interested)
    }

    /// Marks the topic as used. True if it has been forgotten: the cluster must be told to
    /// [remember](super::ClusterClient::remember) it. Reads before it writes, so that threads do not fight for the mark.
    pub(crate) fn mark(&self) -> bool {
        self.state.load(Ordering::Relaxed) != USED && self.state.swap(USED, Ordering::Relaxed) == FORGOTTEN
    }

    /// Whether it was used since this was last asked.
    fn take(&self) -> bool {
        self.change(USED, UNUSED)
    }

    /// False if it has been used again.
    fn forget(&self) -> bool {
        self.change(UNUSED, FORGOTTEN) || self.state.load(Ordering::Relaxed) == FORGOTTEN
    }

    fn change(&self, from: u8, to: u8) -> bool {
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
    /// Those that are kept up to date, each with the interests in it: one of each client at most.
    kept: HashMap<Arc<str>, Vec<Interest>>,
    /// How many callers wait for each topic that is not known yet.
    awaited: HashMap<Arc<str>, usize>,
    /// Topics of which no answer has told yet. They are asked for at once; whoever asks for others waits for the
    /// back-off, for what they are told is young.
    new: HashSet<Arc<str>>,
}

/// One client's interest in a topic.
struct Interest {
    usage: Arc<Usage>,
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

    /// Keeps a topic up to date for a client. True if nothing was asked for it before.
    pub(super) fn keep(&mut self, topic: &str, interested: &Arc<Interested>, now: Instant) -> bool {
        let topics = self.topics(interested.creation);
        let interest = || Interest { usage: Usage::new(interested), last_used: now };
        if let Some(interests) = topics.kept.get_mut(topic) {
            if !interests.iter().any(|interest| interest.usage.is_by(interested)) {
                interests.push(interest());
            }
            return false;
        }
        let name: Arc<str> = topic.into();
        topics.kept.insert(Arc::clone(&name), vec![interest()]);
        topics.new.insert(name)
    }

    /// The client's mark of a topic that is kept for it.
    pub(super) fn usage(&mut self, topic: &str, interested: &Arc<Interested>) -> Option<Arc<Usage>> {
        let interests = self.topics(interested.creation).kept.get(topic)?;
        let interest = interests.iter().find(|interest| interest.usage.is_by(interested))?;
        Some(Arc::clone(&interest.usage))
    }

    /// Keeps a topic up to date again, and takes it for one of which nothing was told: what is known of it is old.
    pub(super) fn remember(&mut self, topic: &Arc<str>, usage: &Arc<Usage>, now: Instant) {
        let topics = self.topics(usage.by.creation);
        let interests = topics.kept.entry(Arc::clone(topic)).or_default();
        interests.retain(|other| !other.usage.is_by(&usage.by));
        interests.push(Interest { usage: Arc::clone(usage), last_used: now });
        topics.new.insert(Arc::clone(topic));
    }

    /// Ends all interests of a client, for good. What nobody else is interested in is forgotten.
    pub(super) fn end(&mut self, interested: &Arc<Interested>) {
        interested.ended.store(true, Ordering::Relaxed);
        let topics = self.topics(interested.creation);
        topics.kept.retain(|_, interests| {
            interests.retain(|interest| !interest.usage.is_by(interested));
            !interests.is_empty()
        });
        topics.forget_new();
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

    /// Forgets topics that nobody has used for as long as he wants to know of them.
    pub(super) fn forget_unused(&mut self, now: Instant) {
        for topics in [&mut self.creating, &mut self.others] {
            topics.kept.retain(|_, interests| {
                // Every mark is taken back.
                for interest in interests.iter_mut().filter(|interest| interest.usage.take()) {
                    interest.last_used = now;
                }
                if interests.iter().any(|interest| interest.last_used + interest.usage.by.max_idle > now) {
                    return true;
                }
                // Who has marked it meanwhile keeps it; the others' marks say, when they are set, that they must be told of.
                let used = interests.iter().filter(|interest| !interest.usage.forget()).count();
                used > 0
            });
            topics.forget_new();
        }
    }
}

impl Topics {
    /// What is not kept any more is not new, either.
    fn forget_new(&mut self) {
        let kept = &self.kept;
        self.new.retain(|topic| kept.contains_key(topic));
    }
}

#[cfg(test)]
mod tests;

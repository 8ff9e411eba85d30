//! Which topics are kept up to date, and for whom. Pure: it reads no clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::messages::MetadataRequest;

/// Whether a topic that is missing may be created because it is asked for, if the brokers' own settings allow it
/// (KIP-361). A request says it for all of its topics, so topics that may be created and topics that may not are asked
/// for in separate requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    Allowed,
    Forbidden,
}

/// One client of the cluster, as far as its interest in topics goes.
#[derive(Debug)]
pub(super) struct Interested {
    pub(super) creation: Creation,
    /// A topic that was not used for this long is not kept up to date any more.
    max_idle: Duration,
    /// Written under the lock that guards [`Interests`].
    ended: AtomicBool,
}

impl Interested {
    pub(super) fn new(creation: Creation, max_idle: Duration) -> Arc<Self> {
        Arc::new(Self { creation, max_idle, ended: AtomicBool::new(false) })
    }

    /// Whether the client has left the cluster. It must not become interested in any topic again.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Whether a client used a topic lately. A thread that sends to the topic sets it. `kafka-metadata` takes it back now
/// and then, and forgets a topic that has not been used for long.
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

    /// Marks the topic as used. True if the topic was forgotten meanwhile: then the caller must have the cluster
    /// [remember](super::ClusterClient::remember) it. It reads before it writes, so that threads do not contend for the
    /// mark's cache line.
    pub(crate) fn mark(&self) -> bool {
        self.state.load(Ordering::Relaxed) != USED && self.state.swap(USED, Ordering::Relaxed) == FORGOTTEN
    }

    /// Whether the topic was used since the last call. Takes the mark back.
    fn take(&self) -> bool {
        self.change(USED, UNUSED)
    }

    /// Marks the topic as forgotten. False if it was used again meanwhile.
    fn forget(&self) -> bool {
        self.change(UNUSED, FORGOTTEN) || self.state.load(Ordering::Relaxed) == FORGOTTEN
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// All topics that clients are interested in.
#[derive(Default)]
pub(super) struct Interests {
    creating: Topics,
    others: Topics,
}

/// The topics that are wanted with the same [`Creation`].
#[derive(Default)]
struct Topics {
    /// The topics that are kept up to date, each with the interests in it, at most one per client.
    kept: HashMap<Arc<str>, Vec<Interest>>,
    /// How many callers wait for each topic that is not known yet.
    awaited: HashMap<Arc<str>, usize>,
    /// Topics that no answer has named yet. They are asked for at once. For the others a request waits for the
    /// back-off, because what is known of them is recent.
    new: HashSet<Arc<str>>,
}

/// One client's interest in a topic.
struct Interest {
    usage: Arc<Usage>,
    last_used: Instant,
}

/// The topics that one round of requests asks for, each once.
#[derive(Debug, Default)]
pub(super) struct Asked {
    creating: Vec<Arc<str>>,
    others: Vec<Arc<str>>,
}

impl Asked {
    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.creating.iter().chain(&self.others)
    }

    /// A request for the topics that may be created, and one for the others. Where no topic is asked for, but only the
    /// brokers, one request that creates nothing.
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

    /// Keeps a topic up to date for a client. True if the topic was not asked for before.
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

    /// The client's mark of a topic that is kept up to date for it.
    pub(super) fn usage(&mut self, topic: &str, interested: &Arc<Interested>) -> Option<Arc<Usage>> {
        let interests = self.topics(interested.creation).kept.get(topic)?;
        let interest = interests.iter().find(|interest| interest.usage.is_by(interested))?;
        Some(Arc::clone(&interest.usage))
    }

    /// Keeps a topic up to date again, and treats it as new, because what is known of it is old.
    pub(super) fn remember(&mut self, topic: &Arc<str>, usage: &Arc<Usage>, now: Instant) {
        let topics = self.topics(usage.by.creation);
        let interests = topics.kept.entry(Arc::clone(topic)).or_default();
        interests.retain(|other| !other.usage.is_by(&usage.by));
        interests.push(Interest { usage: Arc::clone(usage), last_used: now });
        topics.new.insert(Arc::clone(topic));
    }

    /// Ends all interests of a client, for good. Topics in which no other client is interested are forgotten.
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

    /// What the next round asks for: all topics, or those that callers wait for.
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

    /// Notes that an answer has named these topics. A topic that was asked for with permission to create it is not new
    /// for those who do not create, either.
    pub(super) fn answered(&mut self, asked: &Asked) {
        for topic in &asked.creating {
            self.creating.new.remove(topic);
        }
        for topic in asked.topics() {
            self.others.new.remove(topic);
        }
    }

    /// Forgets topics that no client has used for that client's `max_idle`.
    pub(super) fn forget_unused(&mut self, now: Instant) {
        for topics in [&mut self.creating, &mut self.others] {
            topics.kept.retain(|_, interests| {
                // Each mark is looked at, not only those up to the first that is set: all have to be taken back.
                for interest in interests.iter_mut().filter(|interest| interest.usage.take()) {
                    interest.last_used = now;
                }
                if interests.iter().any(|interest| interest.last_used + interest.usage.by.max_idle > now) {
                    return true;
                }
                // A client that has marked the topic meanwhile keeps it. The marks of the others say, when they are set
                // next, that the cluster must be told.
                let used = interests.iter().filter(|interest| !interest.usage.forget()).count();
                used > 0
            });
            topics.forget_new();
        }
    }
}

impl Topics {
    /// Drops topics from `new` that are not kept any more.
    fn forget_new(&mut self) {
        let kept = &self.kept;
        self.new.retain(|topic| kept.contains_key(topic));
    }
}

#[cfg(test)]
mod tests;

//! Faults that a test sets: which requests they hit, and what happens to those.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::seen::SeenTransaction;
use super::server::ServerShared;
use super::versions::Api;
use crate::error::ErrorCode;
use crate::time::{self, RandomNumbers};
use crate::topic::BrokerId;

/// Which requests a [`Fault`] hits. Without a condition: the next one, of any kind, to any broker.
///
/// ```
/// use kafka_blocking::testing::{Api, On};
///
/// // The third and fourth Produce request that has records for partition 1 of "orders".
/// let on = On::api(Api::Produce).topic("orders").partition(1).skip(2).times(2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct On {
    api: Option<Api>,
    broker: Option<BrokerId>,
    topic: Option<String>,
    partition: Option<i32>,
    client_id: Option<String>,
    transactional_id: Option<String>,
    group: Option<String>,
    skip: usize,
    /// `None`: forever.
    times: Option<usize>,
    chance: f64,
}

impl On {
    /// Requests of any kind, except for ApiVersions, with which every connection begins.
    pub fn any() -> Self {
        Self {
            api: None,
            broker: None,
            topic: None,
            partition: None,
            client_id: None,
            transactional_id: None,
            group: None,
            skip: 0,
            times: Some(1),
            chance: 1.0,
        }
    }

    /// Requests of one kind.
    pub fn api(api: Api) -> Self {
        Self { api: Some(api), ..Self::any() }
    }

    /// Produce requests.
    pub fn produce() -> Self {
        Self::api(Api::Produce)
    }

    /// Only those that reach this broker.
    pub fn broker(mut self, broker: BrokerId) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Only those that name this topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Only those that name this partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Only those of a client with this id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only those of a transactional id, FindCoordinator included.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.transactional_id = Some(id.into());
        self
    }

    /// Only those about a group's offsets, FindCoordinator included.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// How many matching requests pass before the first is hit. Requests that a fault set earlier hits are not counted.
    /// Default: 0.
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// How many requests are hit. Default: 1.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    /// Hits all matching requests, until [`FaultHandle::cancel`].
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Hits each matching request with this probability, 0 to 1; the random numbers come from the cluster's seed.
    /// Default: 1.
    pub fn chance(mut self, probability: f64) -> Self {
        self.chance = probability;
        self
    }

    /// Whether the condition on topic and partition holds for this one.
    pub(super) fn names(&self, topic: &str, partition: Option<i32>) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && self.partition.is_none_or(|wanted| Some(wanted) == partition)
    }

    fn matches(&self, arrival: &Arrival<'_>) -> bool {
        self.api.map_or(arrival.api != Api::ApiVersions, |api| api == arrival.api)
            && self.broker.is_none_or(|broker| broker == arrival.broker)
            && self.client_id.as_deref().is_none_or(|id| Some(id) == arrival.client_id)
            && self.transactional_id.as_deref().is_none_or(|id| arrival.of(|seen| &seen.transactional_id) == Some(id))
            && self.group.as_deref().is_none_or(|group| arrival.of(|seen| &seen.group) == Some(group))
            && ((self.topic.is_none() && self.partition.is_none())
                || arrival.named.iter().any(|(topic, partition)| self.names(topic, *partition)))
    }
}

/// What happens to a request that was chosen by [`On`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is answered with this error and has no effect. In a Produce request this holds for the partitions that the
    /// condition names; the others are written.
    Error(ErrorCode),
    /// It has its effect, and is answered with this error all the same.
    ErrorAfterApply(ErrorCode),
    /// It has its effect, and the connection is closed instead of an answer.
    DropAnswer,
    /// The connection is closed, and the request has no effect.
    CutBefore,
    /// It has its effect, and is answered after this time. Later requests of the connection wait, as with Kafka.
    Delay(Duration),
    /// It has its effect, and is answered when [`FaultHandle::cancel`] is called. Later requests of the connection
    /// wait. [`FakeCluster::clear_faults`](super::FakeCluster::clear_faults) releases it as well.
    Hold,
    /// It has its effect, and is answered after `answer`. What comes after it on the connection is not read until then,
    /// nor for `pause` after that, so that the client's writes block.
    Stall {
        /// After which time the answer comes.
        answer: Duration,
        /// For how long nothing is read after the answer. It ends when the connection ends.
        pause: Duration,
    },
    /// It has its effect, and neither it nor any later request of the connection is answered. The connection stays
    /// open, and later requests have no effect.
    Hang,
    /// It has no effect, and these bytes are sent instead of an answer.
    Garbage(Vec<u8>),
    /// It has its effect, and the answer has a correlation id that no request had.
    WrongCorrelation,
    /// It has its effect; this many bytes of the answer are sent, including its length, and the connection is closed.
    Truncate(usize),
    /// It has its effect, and its answer is held back until the answer to the connection's next request has been sent.
    SwapAnswers,
    /// It has its effect, and the answer is sent twice.
    RepeatAnswer,
    /// It has its effect, and the answer says that the client is throttled for this many milliseconds (KIP-219).
    Throttle(i32),
}

/// A fault that is in force. It counts how many requests it has hit.
#[derive(Clone)]
pub struct FaultHandle {
    shared: Arc<ServerShared>,
    id: u64,
    fired: Arc<AtomicUsize>,
}

impl FaultHandle {
    /// How many requests it has hit. Each is counted before it has its effect. A test that relies on a fault should
    /// check that the fault happened.
    pub fn fired(&self) -> usize {
        self.fired.load(Ordering::Acquire)
    }

    /// Waits until it has hit `times` requests, and returns whether it has.
    ///
    /// *Blocks* at most `timeout`.
    pub fn wait_fired(&self, times: usize, timeout: Duration) -> bool {
        let deadline = time::deadline(Instant::now(), timeout);
        self.shared.wait_until(deadline, |_| self.fired() >= times)
    }

    /// Ends the fault. Answers that a [`Fault::Hold`] holds back are sent.
    pub fn cancel(&self) {
        self.shared.change(|state| state.rules.remove(self.id));
    }
}

impl std::fmt::Debug for FaultHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultHandle").field("fired", &self.fired()).finish_non_exhaustive()
    }
}

/// A request, as far as the rules depend on it.
pub(super) struct Arrival<'r> {
    pub(super) api: Api,
    pub(super) broker: BrokerId,
    pub(super) client_id: Option<&'r str>,
    pub(super) named: &'r [(Arc<str>, Option<i32>)],
    pub(super) transaction: Option<&'r SeenTransaction>,
}

impl<'r> Arrival<'r> {
    fn of(&self, field: impl Fn(&'r SeenTransaction) -> &'r Option<String>) -> Option<&'r str> {
        field(self.transaction?).as_deref()
    }
}

/// What happens to a request.
pub(super) struct Hit {
    /// The rule that was hit.
    pub(super) rule: u64,
    pub(super) on: On,
    pub(super) fault: Fault,
}

/// The faults in force, in the order in which they were set.
#[derive(Debug)]
pub(super) struct FaultRules {
    rules: Vec<Rule>,
    next_id: u64,
    random: RandomNumbers,
}

#[derive(Debug)]
struct Rule {
    id: u64,
    on: On,
    fault: Fault,
    fired: Arc<AtomicUsize>,
}

impl FaultRules {
    pub(super) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), next_id: 0, random: RandomNumbers::seeded(seed) }
    }

    pub(super) fn add(&mut self, shared: &Arc<ServerShared>, on: On, fault: Fault) -> FaultHandle {
        let id = self.next_id;
        self.next_id += 1;
        let fired = Arc::new(AtomicUsize::new(0));
        if on.times != Some(0) {
            self.rules.push(Rule { id, on, fault, fired: Arc::clone(&fired) });
        }
        FaultHandle { shared: Arc::clone(shared), id, fired }
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn remove(&mut self, id: u64) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// Whether a rule is in force. A rule that holds answers back stays until it is removed.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.rules.iter().any(|rule| rule.id == id)
    }

    /// The fault that hits a request: that of the first rule that matches.
    pub(super) fn hit(&mut self, arrival: &Arrival<'_>) -> Option<Hit> {
        for (at, rule) in self.rules.iter_mut().enumerate() {
            if rule.on.times == Some(0) || !rule.on.matches(arrival) {
                continue;
            }
            if rule.on.skip > 0 {
                rule.on.skip -= 1;
                continue;
            }
            if rule.on.chance < 1.0 && self.random.unit() >= rule.on.chance {
                continue;
            }
            rule.fired.fetch_add(1, Ordering::AcqRel);
            let hit = Hit { rule: rule.id, on: rule.on.clone(), fault: rule.fault.clone() };
            if let Some(times) = &mut rule.on.times {
                *times -= 1;
                if *times == 0 && rule.fault != Fault::Hold {
                    self.rules.remove(at);
                }
            }
            return Some(hit);
        }
        None
    }
}

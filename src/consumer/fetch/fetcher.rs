//! The thread `kafka-fetcher-{broker}`: asks one broker for records of the partitions that it leads. And `kafka-express-{broker}`:
//! asks for those that began to want something while the fetcher waits for an answer, over a connection of its own and
//! without a session. It opens that when it first has something to do.
//!
//! It frames and routes: nothing of a batch but its header is looked at here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::engine::Shared;
use super::exchange::{self, Came, TOPIC_IDS, Terms};
use super::leader::{Leader, Wait};
use super::lookup::{self, Found, Sought};
use super::session::{SESSIONS, Session, Spec, Verdict};
use crate::bytes::SharedBytes;
use crate::consumer::buffer::budget::{Bell, Lease};
use crate::consumer::buffer::partition::{Ends, Home, Partition};
use crate::consumer::buffer::reading::{Place, Stamp, Want};
use crate::consumer::buffer::share::{Damage, Share, measure};
use crate::consumer::start::Start;
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Written};
use crate::logging::{debug, info, log, warn};
use crate::net::Connection;
use crate::outage::Outage;
use crate::protocol::api::Request;
use crate::protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest};
use crate::protocol::wire::Records;
use crate::record::aborted::AbortedTransactions;
use crate::time::{self, RandomNumbers, wire_ms};
use crate::topic::{BrokerId, IsolationLevel, TopicPartition};

/// The least that is asked for: a batch of this size is seen everywhere.
const SMALL_BATCH: usize = 16 * 1024;
/// How much memory an idle long poll holds at most, unless batches are larger.
const IDLE_SHARE: usize = 256 * 1024;
/// A fetch asks for this part of the memory at least: many small ones would cost more than to wait for a larger one.
const LEAST_PART: usize = 16;
/// After so many answers in a row that came early and brought nothing, the next fetch waits.
const PATIENCE: u32 = 3;

/// *Thread*: kafka-fetcher-{broker}, or kafka-express-{broker}.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    is_express: bool,
    broker: BrokerId,
    leader: Arc<Leader>,
    home: Arc<dyn Home>,
    bell: Arc<dyn Bell>,
    link: Option<Connection>,
    session: Session,
    /// The partitions in the session, with the size of the largest batch that was seen of each.
    tracked: HashMap<TopicPartition, (Arc<Partition>, usize)>,
    lookups: BTreeMap<TopicPartition, (Arc<Partition>, u64, Sought)>,
    troubles: HashMap<TopicPartition, Trouble>,
    /// No request before this.
    not_before: Option<Instant>,
    /// Failures of the connection in a row.
    failures: u32,
    outage: Outage,
    /// Whether the last answer brought nothing.
    is_idle: bool,
    /// Answers in a row that came early and brought nothing.
    fruitless: u32,
    /// The size of the largest batch that was seen.
    largest: usize,
    random: RandomNumbers,
}

/// A partition that is not asked for, for a while.
struct Trouble {
    partition: Arc<Partition>,
    failures: u32,
    /// `None`: it is asked for again, and has not succeeded yet.
    until: Option<Instant>,
    /// What it was asked for; what is asked for otherwise need not wait.
    asked: (u64, i32),
}

impl Fetcher {
    pub(super) fn new(shared: Arc<Shared>, leader: Arc<Leader>, is_express: bool) -> Self {
        Self {
            shared,
            is_express,
            broker: leader.broker(),
            home: Arc::clone(&leader) as Arc<dyn Home>,
            bell: Arc::clone(&leader) as Arc<dyn Bell>,
            leader,
            link: None,
            session: Session::default(),
            tracked: HashMap::new(),
            lookups: BTreeMap::new(),
            troubles: HashMap::new(),
            not_before: None,
            failures: 0,
            outage: Outage::default(),
            is_idle: false,
            fruitless: 0,
            largest: SMALL_BATCH,
            random: RandomNumbers::from_entropy(),
        }
    }

    /// Runs until its leader is closed.
    pub(super) fn run(mut self) {
        let mut wait = Wait::No;
        loop {
            let mail = self.leader.take(wait);
            if mail.is_closed {
                return;
            }
            for partition in &mail.partitions {
                self.look(partition);
            }
            self.retry(Instant::now());
            wait = match self.step() {
                Ok(wait) => wait,
                Err(error) => self.give_up_link(error),
            };
        }
    }

    /// Runs until its leader is closed.
    pub(super) fn run_express(mut self) {
        while let Some(partitions) = self.leader.take_urgent() {
            for partition in &partitions {
                self.look(partition);
            }
            if let Err(error) = self.hurry() {
                self.give_up_link(error);
            }
            self.hand_over(partitions);
        }
    }

    /// Asks once for what there is, without waiting for more.
    fn hurry(&mut self) -> Result<()> {
        let is_early = self.not_before.is_some_and(|then| then > Instant::now());
        if is_early || (self.session.is_empty() && self.lookups.is_empty()) {
            return Ok(());
        }
        self.not_before = None;
        self.connect()?;
        if !self.lookups.is_empty() {
            self.find()?;
        }
        if !self.session.is_empty()
            && let Some(lease) = self.reserve()
        {
            self.session.reset();
            self.fetch(lease)?;
        }
        Ok(())
    }

    /// Leaves everything to the fetcher. What has got records is urgent again by that.
    fn hand_over(&mut self, partitions: Vec<Arc<Partition>>) {
        self.tracked.clear();
        self.lookups.clear();
        self.troubles.clear();
        for partition in partitions {
            self.session.remove(&partition.name);
            partition.end_express();
        }
    }

    /// Asks for what a partition wants now.
    fn look(&mut self, partition: &Arc<Partition>) {
        let name = &partition.name;
        let ask = if self.is_express { partition.ask_express(&self.home) } else { partition.ask(&self.home) };
        let Some(ask) = ask else {
            self.session.remove(name);
            self.tracked.remove(name);
            self.lookups.remove(name);
            self.troubles.remove(name);
            return;
        };
        let asked = (ask.epoch, ask.leader_epoch);
        if let Some(trouble) = self.troubles.get_mut(name)
            && trouble.until.is_some()
        {
            if trouble.asked == asked {
                self.session.remove(name);
                self.lookups.remove(name);
                return;
            }
            trouble.until = None;
        }
        match ask.want {
            Want::Nothing => {
                self.session.remove(name);
                self.lookups.remove(name);
            }
            Want::Lookup(start) => {
                self.session.remove(name);
                let sought = Sought { partition: name.clone(), start, leader_epoch: ask.leader_epoch };
                self.lookups.insert(name.clone(), (Arc::clone(partition), ask.epoch, sought));
            }
            Want::Fetch(place) => {
                self.lookups.remove(name);
                let limit = self.shared.config.max_partition_fetch_bytes;
                let tracked = self.tracked.entry(name.clone()).or_insert_with(|| (Arc::clone(partition), 0));
                let spec = Spec {
                    stamp: Stamp { epoch: ask.epoch, offset: place.offset },
                    leader_epoch: ask.leader_epoch,
                    last_epoch: place.last_epoch,
                    topic_id: ask.topic_id,
                    max_bytes: limit.max(tracked.1),
                };
                self.session.set(name, spec);
            }
        }
    }

    /// Asks again for what has waited long enough.
    fn retry(&mut self, now: Instant) {
        let due = self.troubles.values_mut().filter(|trouble| trouble.until.is_some_and(|until| until <= now));
        let due: Vec<_> = due
            .map(|trouble| {
                trouble.until = None;
                Arc::clone(&trouble.partition)
            })
            .collect();
        for partition in due {
            self.look(&partition);
        }
    }

    /// Makes one request, if there is one to make now. Answers how long there is nothing to do unless something comes.
    fn step(&mut self) -> Result<Wait> {
        let again = self.troubles.values().filter_map(|trouble| trouble.until).min();
        if self.session.is_empty() && self.lookups.is_empty() {
            return Ok(again.map_or(Wait::Forever, Wait::Until));
        }
        if let Some(then) = self.not_before.filter(|then| *then > Instant::now()) {
            return Ok(Wait::Until(again.map_or(then, |again| again.min(then))));
        }
        self.not_before = None;
        self.connect()?;
        if !self.lookups.is_empty() {
            self.find()?;
            return Ok(Wait::No);
        }
        match self.reserve() {
            Some(lease) => {
                self.fetch(lease)?;
                Ok(Wait::No)
            }
            None => Ok(again.map_or(Wait::Forever, Wait::Until)),
        }
    }

    fn connect(&mut self) -> Result<()> {
        if self.link.as_ref().is_some_and(Connection::is_stale) {
            debug!("broker {}: the idle connection was closed", self.broker);
            self.link = None;
        }
        if self.link.is_some() {
            return Ok(());
        }
        self.session.reset();
        let snapshot = self.shared.cluster.snapshot();
        let address = snapshot.brokers.get(&self.broker);
        let address = address.ok_or_else(|| Error::network("the broker is not part of the cluster at the moment"))?;
        let hangup = if self.is_express { &self.leader.express_hangup } else { &self.leader.hangup };
        self.link = Some(Connection::open(address, self.shared.cluster.net(), hangup)?);
        Ok(())
    }

    /// The connection is of no use any more.
    fn give_up_link(&mut self, error: Error) -> Wait {
        self.link = None;
        self.session.reset();
        if error.kind() == ErrorKind::Closed {
            // The next look into the inbox ends the thread.
            return Wait::No;
        }
        let error = error.at_broker(self.broker);
        let now = Instant::now();
        if error.is_final() {
            warn!("no record can be had from broker {}: {error:#}", self.broker);
            self.shared.ready.fail(error);
            return Wait::Forever;
        }
        log!(self.outage.failed(now), "no records from broker {}: {error:#}", self.broker);
        self.failures = self.failures.saturating_add(1);
        let backoff = self.shared.client.reconnect_backoff.after(self.failures, &mut self.random);
        self.not_before = Some(time::deadline(now, backoff));
        self.shared.cluster.request_refresh();
        Wait::No
    }

    fn link(&mut self) -> Result<&mut Connection> {
        self.link.as_mut().ok_or_else(|| Error::bug("a request without a connection"))
    }

    /// The broker has answered.
    fn succeeded(&mut self) {
        self.failures = 0;
        if let Some(over) = self.outage.ended(Instant::now()) {
            warn!("records come from broker {} again, {over}", self.broker);
        }
    }

    /// Asks where the places are that are looked for.
    fn find(&mut self) -> Result<()> {
        let lookups: Vec<_> = std::mem::take(&mut self.lookups).into_values().collect();
        let sought: Vec<Sought> = lookups.iter().map(|(_, _, sought)| sought.clone()).collect();
        let timeout = wire_ms(self.shared.client.request_timeout);
        let isolation = self.shared.config.isolation_level;
        let request = lookup::request(&sought, isolation, SystemTime::now(), timeout);
        let link = self.link()?;
        let deadline = link.default_deadline();
        let answer = link.call(&request, deadline);
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                for (partition, _, _) in &lookups {
                    self.look(partition);
                }
                return Err(error);
            }
        };
        self.succeeded();
        self.throttle(response.throttle_time_ms);
        for ((partition, epoch, sought), found) in lookups.into_iter().zip(lookup::read(&sought, &response)) {
            match (found, sought.start) {
                (Found::At(offset), _) => {
                    self.troubles.remove(&partition.name);
                    partition.found(epoch, offset);
                }
                (Found::Nowhere, Start::Time(_) | Start::Ago(_)) => partition.look_elsewhere(epoch, Start::End),
                (Found::Nowhere | Found::Missing, _) => {
                    let error = Error::misbehaved("the leader does not say where the partition begins and ends");
                    self.trouble(&partition, epoch, sought.leader_epoch, &error, false);
                }
                (Found::Failed(code), _) => {
                    self.refused(&partition, epoch, sought.leader_epoch, code, ListOffsetsRequest::NAME);
                }
            }
        }
        Ok(())
    }

    /// The leader refuses a partition: for a while, or for good.
    fn refused(&mut self, partition: &Arc<Partition>, epoch: u64, leader_epoch: i32, code: ErrorCode, api: &str) {
        let error = Error::broker(code, None).with_written(Written::No).at_broker(self.broker);
        if code.is_retriable() || code.recovery() == Recovery::Retry {
            self.trouble(partition, epoch, leader_epoch, &error, code.refreshes_metadata());
        } else {
            warn!("{api} of {} is refused: {error:#}", partition.name);
            partition.fail(epoch, error);
        }
    }

    /// A partition is not asked for, for a while.
    fn trouble(&mut self, partition: &Arc<Partition>, epoch: u64, leader_epoch: i32, error: &Error, refresh: bool) {
        let failures = self.troubles.get(&partition.name).map_or(0, |trouble| trouble.failures).saturating_add(1);
        debug!("{}, attempt {failures}: {error:#}", partition.name);
        let backoff = self.shared.client.retry_backoff.after(failures, &mut self.random);
        let until = Some(time::deadline(Instant::now(), backoff));
        let trouble = Trouble { partition: Arc::clone(partition), failures, until, asked: (epoch, leader_epoch) };
        self.troubles.insert(partition.name.clone(), trouble);
        self.look(partition);
        if refresh {
            self.shared.cluster.request_refresh();
        }
    }

    /// Waits as long as the broker wants (KIP-219).
    fn throttle(&mut self, ms: i32) {
        if let Ok(ms) = u64::try_from(ms)
            && ms > 0
        {
            debug!("broker {} wants a pause of {ms} ms", self.broker);
            let then = time::deadline(Instant::now(), Duration::from_millis(ms));
            self.not_before = self.not_before.max(Some(then));
        }
    }

    /// Memory for the next answer. `None`: the bell rings when there is some.
    fn reserve(&self) -> Option<Lease> {
        let budget = &self.shared.budget;
        let all = self.session.max_bytes().min(self.shared.config.fetch_max_bytes).max(self.largest);
        // One broker does not take what the others need.
        let want = all.min((budget.total() / 2).max(self.largest));
        let want = if self.is_idle { want.min(self.largest.max(IDLE_SHARE)) } else { want };
        let least = self.largest.max(want.min(budget.total() / LEAST_PART));
        budget.reserve(want, least, &self.bell)
    }

    fn fetch(&mut self, mut lease: Lease) -> Result<()> {
        let by_name = if self.session.has_ids() { i16::MAX } else { TOPIC_IDS - 1 };
        let version = self.link()?.versions().choose_at_most::<FetchRequest>(by_name)?;
        let config = &self.shared.config;
        let max_wait = if self.is_express { Duration::ZERO } else { config.fetch_max_wait };
        let terms = Terms {
            max_wait_ms: wire_ms(max_wait),
            min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(lease.bytes()).unwrap_or(i32::MAX),
            isolation_level: config.isolation_level,
        };
        let plan = self.session.plan(version >= SESSIONS && !self.is_express, version >= TOPIC_IDS);
        let request = exchange::request(&plan, terms, version);
        let begun = Instant::now();
        let deadline = time::deadline(begun, max_wait.saturating_add(self.shared.client.request_timeout));
        let response = self.poll(&request, version, deadline)?;
        self.succeeded();
        let answer = exchange::take_apart(response, version, &self.session);
        self.throttle(answer.throttle_ms);
        if answer.strangers > 0 {
            debug!("broker {} sends {} partitions that were not asked for", self.broker, answer.strangers);
        }
        match self.session.answered(answer.code, answer.session_id) {
            Verdict::Accepted => {}
            Verdict::Renewed => {
                debug!("broker {}: a new fetch session is needed: {}", self.broker, answer.code);
                self.fruitless(begun, max_wait);
                return Ok(());
            }
            Verdict::Refused if answer.code.is_none() => {
                let text = format!("the answer is of the fetch session {}, not of this one", answer.session_id);
                return Err(Error::misbehaved(text));
            }
            Verdict::Refused => return Err(Error::broker(answer.code, None).with_written(Written::No)),
        }
        if !answer.hints.leaders.is_empty() {
            self.shared.cluster.hint(&answer.hints);
        }
        let bytes = answer.partitions.iter().map(|came| records(came).len()).sum();
        lease.resize(bytes);
        self.is_idle = bytes == 0;
        let frame = Arc::new(lease);
        let mut is_fruitful = false;
        for came in answer.partitions {
            is_fruitful |= self.route(came, &frame);
        }
        if is_fruitful {
            self.fruitless = 0;
        } else {
            self.fruitless(begun, max_wait);
        }
        Ok(())
    }

    /// Sends a fetch and waits for its answer. What becomes urgent meanwhile is for the express.
    fn poll(&mut self, request: &FetchRequest, version: i16, deadline: Instant) -> Result<FetchResponse> {
        if self.is_express {
            return self.link()?.call_at(request, version, deadline);
        }
        self.leader.set_polling(true);
        let response = self.link().and_then(|link| link.call_at(request, version, deadline));
        self.leader.set_polling(false);
        response
    }

    /// An answer brought nothing. One that came early, again and again, is a broker that does not wait: it is not asked
    /// without a pause.
    fn fruitless(&mut self, begun: Instant, max_wait: Duration) {
        let now = Instant::now();
        if now.saturating_duration_since(begun) >= max_wait / 2 {
            self.fruitless = 0;
            return;
        }
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless > PATIENCE {
            let backoff = self.shared.client.retry_backoff.after(self.fruitless - PATIENCE, &mut self.random);
            self.not_before = self.not_before.max(Some(time::deadline(now, backoff)));
        }
    }

    /// Passes on what came for a partition. True if it was something.
    fn route(&mut self, came: Came, frame: &Arc<Lease>) -> bool {
        let bytes = records(&came);
        let Came { partition: name, spec, data } = came;
        let Some((partition, _)) = self.tracked.get(&name) else { return false };
        let partition = Arc::clone(partition);
        let Spec { stamp, leader_epoch, .. } = spec;
        match ErrorCode(data.error_code) {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                self.out_of_range(&partition, stamp, data.log_start_offset);
                return true;
            }
            code => {
                self.refused(&partition, stamp.epoch, leader_epoch, code, FetchRequest::NAME);
                return true;
            }
        }
        self.troubles.remove(&name);
        let known = |offset: i64| (offset >= 0).then_some(offset);
        partition
            .set_ends(Ends { last_stable: known(data.last_stable_offset), high_watermark: known(data.high_watermark) });
        let diverging = &data.diverging_epoch;
        if diverging.epoch >= 0 && diverging.end_offset >= 0 {
            let (offset, end) = (stamp.offset, diverging.end_offset.min(stamp.offset));
            warn!(
                "{name}: the log was cut; it is another one from offset {end} on, and was to be read from {offset} on"
            );
            partition.truncated(stamp, end, self.shared.config.out_of_range.start().is_some());
            return true;
        }
        if bytes.is_empty() {
            return false;
        }
        let measure = measure(&bytes, stamp.offset);
        self.largest = self.largest.max(measure.largest.min(self.shared.config.buffer_memory));
        if let Some(tracked) = self.tracked.get_mut(&name)
            && measure.largest > tracked.1
        {
            tracked.1 = measure.largest;
            // A batch that did not come whole needs more room the next time.
            self.look(&partition);
        }
        let is_something = measure.complete > 0 || measure.damage.is_some();
        if measure.complete > 0 {
            let aborted = match self.shared.config.isolation_level {
                IsolationLevel::Uncommitted => None,
                IsolationLevel::Committed => {
                    let listed = data.aborted_transactions.unwrap_or_default();
                    let listed = listed.iter().map(|aborted| (aborted.first_offset, aborted.producer_id));
                    Some(AbortedTransactions::new(listed))
                }
            };
            let complete = bytes.slice(0..measure.complete).unwrap_or_default();
            let share = Share::new(stamp.epoch, complete, stamp.offset, aborted, Arc::clone(frame));
            partition.receive(stamp, share, Place { offset: measure.next, last_epoch: measure.last_epoch });
        }
        if let Some(damage) = measure.damage {
            let stamp = Stamp { epoch: stamp.epoch, offset: measure.next };
            partition.damaged(stamp, Damage { error: damage.error.at_broker(self.broker), ..damage });
        }
        is_something
    }

    fn out_of_range(&mut self, partition: &Arc<Partition>, stamp: Stamp, log_start: i64) {
        let start = self.shared.config.out_of_range.start();
        let offset = stamp.offset;
        info!("{} has no offset {offset}; its log begins with {log_start}", partition.name);
        let text = format!("the position {offset} is outside of the partition's log");
        let code = ErrorCode::OFFSET_OUT_OF_RANGE;
        let error = Error::new(ErrorKind::Broker(code), code.recovery(), text).at_broker(self.broker);
        let error = error.at_partition(&partition.name).in_context(|context| context.offset = Some(offset));
        partition.out_of_range(stamp, start, error);
    }
}

fn records(came: &Came) -> SharedBytes {
    match &came.data.records {
        Records::Inline(bytes) => bytes.clone(),
        Records::Null | Records::Spliced(_) => SharedBytes::default(),
    }
}

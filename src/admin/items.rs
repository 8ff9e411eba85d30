//! Calls about many items, each with a result of its own: who is asked, what is asked again, and until when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::brokers::{Brokers, Place, UNKNOWN_FOR};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
use crate::logging::debug;
use crate::protocol::api::Request;
use crate::time::{self, Backoff, RandomNumbers};

/// At how many brokers a call is at the same time. The others' turn comes when one of them has answered.
const AT_ONCE: usize = 16;

/// The items of a request.
pub(super) type Items<'i, K, W> = BTreeMap<&'i K, &'i W>;

/// Whom to ask about each item; an error where that cannot be said (yet).
pub(super) type Routes<K> = BTreeMap<K, Result<Place>>;

/// A request about items that are answered one by one.
pub(super) trait ItemCall: Sync {
    type Key: Ord + Clone + Send + Sync;
    /// What is wanted of an item.
    type Wanted: Sync;
    type Answer: Send;
    type Request: Request;

    /// Whether it changes something, so that an answer that is lost leaves a doubt.
    fn changes(&self) -> bool {
        false
    }

    /// Whether a broker that does not know an item may learn of it soon.
    fn awaits_unknown(&self, _: &Brokers, _: &Self::Key) -> bool {
        false
    }

    /// Whom to ask: the controller about everything, unless the call says otherwise. An item that has no place in the answer
    /// is asked for again.
    ///
    /// *Blocks* at most until `deadline`.
    fn route(&self, brokers: &Brokers, items: &[&Self::Key], deadline: Instant) -> Result<Routes<Self::Key>> {
        to_one(&brokers.controller(deadline)?, items)
    }

    /// A place has not served the request.
    fn misrouted(&self, brokers: &Brokers, place: &Place) {
        brokers.forget_controller(place);
    }

    /// Why a request of this version cannot ask for an item, if so.
    fn fault(&self, _: &Self::Key, _: &Self::Wanted, _version: i16) -> Option<Error> {
        None
    }

    /// The request. `time` is what the broker may take.
    fn request(&self, items: &Items<'_, Self::Key, Self::Wanted>, version: i16, time: Duration) -> Self::Request;

    fn answers(&self, response: <Self::Request as Request>::Response) -> Answers<Self::Key, Self::Answer>;

    /// An error with the item that it is about.
    fn at(error: Error, item: &Self::Key) -> Error;
}

/// All items at one place.
pub(super) fn to_one<K: Ord + Clone>(place: &Place, items: &[&K]) -> Result<Routes<K>> {
    Ok(items.iter().map(|item| ((*item).clone(), Ok(place.clone()))).collect())
}

/// What an answer says.
pub(super) struct Answers<K, T> {
    /// For how long nothing is to be asked again.
    pub(super) throttle_ms: i32,
    pub(super) items: Vec<Said<K, T>>,
}

/// What an answer says of an item.
pub(super) struct Said<K, T> {
    pub(super) item: K,
    pub(super) code: i16,
    pub(super) message: Option<String>,
    /// Where there is no error.
    pub(super) answer: T,
}

/// What came of an item.
pub(super) struct Outcome<T> {
    pub(super) result: Result<T>,
    /// Whether an earlier attempt, of which no answer came, may have done what was wanted.
    pub(super) in_doubt: bool,
}

/// An item that has no result yet.
struct Pending<W> {
    wanted: W,
    place: Option<Place>,
    in_doubt: bool,
    /// Why it has none.
    last: Option<Error>,
    unknown_since: Option<Instant>,
}

/// What came of a request to one broker.
struct Asked<C: ItemCall> {
    place: Place,
    /// Those that the broker is too old for.
    faults: Vec<(C::Key, Error)>,
    asked: Vec<C::Key>,
    /// The version in which the request was sent, perhaps in part.
    sent: Option<i16>,
    answers: Result<Answers<C::Key, C::Answer>>,
}

/// The time that a call has, and the pauses between its attempts.
pub(super) struct Attempts {
    pub(super) deadline: Instant,
    api_timeout: Duration,
    backoff: Backoff,
    failures: u32,
    random: RandomNumbers,
}

impl Attempts {
    pub(super) fn new(api_timeout: Duration, backoff: Backoff) -> Self {
        let deadline = time::deadline(Instant::now(), api_timeout);
        Self { deadline, api_timeout, backoff, failures: 0, random: RandomNumbers::from_entropy() }
    }

    /// Waits for the next attempt, at least for `least`. False if there is no time for one.
    ///
    /// *Blocks* until then, at most until the deadline.
    fn pause(&mut self, least: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        let wait = self.backoff.after(self.failures, &mut self.random).max(least);
        let left = self.deadline.saturating_duration_since(Instant::now());
        std::thread::sleep(wait.min(left));
        wait < left
    }

    /// The error of a call that had no time left.
    fn over(&self, last: Option<Error>) -> Error {
        let text = format!("the call had no result within its api_timeout of {:?}", self.api_timeout);
        let error = Error::timeout(Timeout::Api, text);
        match last {
            Some(last) => error.at_broker_of(&last).with_source(last),
            None => error,
        }
    }

    /// Repeats a call until it works, or fails in a way that time does not cure, or the time is over.
    pub(super) fn until_it_works<T>(mut self, mut call: impl FnMut(Instant) -> Result<T>) -> Result<T> {
        loop {
            let error = match call(self.deadline) {
                Ok(answer) => return Ok(answer),
                Err(error) if is_over(&error) => return Err(error),
                Err(error) => error,
            };
            debug!("once more after: {error:#}");
            if !self.pause(Duration::ZERO) {
                return Err(self.over(Some(error)));
            }
        }
    }

    /// Asks for the items until each has a result.
    ///
    /// *Blocks* until then, at most until the deadline. Brokers are asked side by side, so that one that hangs delays its own
    /// items alone.
    pub(super) fn run<C: ItemCall>(
        &mut self,
        brokers: &Brokers,
        call: &C,
        items: BTreeMap<C::Key, C::Wanted>,
    ) -> BTreeMap<C::Key, Outcome<C::Answer>> {
        let begin = |wanted| Pending { wanted, place: None, in_doubt: false, last: None, unknown_since: None };
        let pending = items.into_iter().map(|(item, wanted)| (item, begin(wanted))).collect();
        let mut run = Run { brokers, call, deadline: self.deadline, pending, outcomes: BTreeMap::new() };
        while !run.pending.is_empty() {
            let mut throttle = Duration::ZERO;
            run.find_places();
            for asked in run.ask() {
                throttle = throttle.max(run.take(asked));
            }
            if !run.pending.is_empty() && !self.pause(throttle) {
                run.end(|last| self.over(last));
            }
        }
        run.outcomes
    }
}

/// Whether time does not cure an error of a whole request.
fn is_over(error: &Error) -> bool {
    error.is_final() || error.kind() == ErrorKind::Closed || error.kind() == ErrorKind::Bug
}

/// A call under way.
struct Run<'r, C: ItemCall> {
    brokers: &'r Brokers,
    call: &'r C,
    deadline: Instant,
    pending: BTreeMap<C::Key, Pending<C::Wanted>>,
    outcomes: BTreeMap<C::Key, Outcome<C::Answer>>,
}

impl<C: ItemCall> Run<'_, C> {
    fn find_places(&mut self) {
        let lost = self.pending.iter().filter(|(_, pending)| pending.place.is_none());
        let lost: Vec<C::Key> = lost.map(|(item, _)| item.clone()).collect();
        if lost.is_empty() {
            return;
        }
        let mut routes = self.call.route(self.brokers, &lost.iter().collect::<Vec<_>>(), self.deadline);
        for item in lost {
            let place = match &mut routes {
                Ok(routes) => routes.remove(&item).unwrap_or_else(|| Err(Error::network("nobody is known to ask"))),
                Err(error) => Err(error.clone()),
            };
            match place {
                Ok(place) => {
                    if let Some(pending) = self.pending.get_mut(&item) {
                        pending.place = Some(place);
                    }
                }
                Err(error) => self.failed(&item, error, false),
            }
        }
    }

    /// Asks each broker for the items that have their place there.
    fn ask(&self) -> Vec<Asked<C>> {
        let mut groups: BTreeMap<&Place, Items<'_, C::Key, C::Wanted>> = BTreeMap::new();
        for (item, pending) in &self.pending {
            if let Some(place) = &pending.place {
                groups.entry(place).or_default().insert(item, &pending.wanted);
            }
        }
        let groups: Vec<_> = groups.into_iter().collect();
        let (brokers, call, deadline) = (self.brokers, self.call, self.deadline);
        side_by_side(groups, |(place, items)| ask_one(brokers, call, place, &items, deadline))
    }

    /// Takes over what came of a request, and answers for how long nothing is to be asked again.
    fn take(&mut self, asked: Asked<C>) -> Duration {
        let Asked { place, faults, asked, sent, answers } = asked;
        let named = |error: Error| {
            let api = sent.map(|version| (C::Request::NAME, version));
            place_at(error, &place).in_context(|context| context.api = api)
        };
        for (item, fault) in faults {
            self.done(&item, Err(place_at(fault, &place)));
        }
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                debug!("no answer: {error:#}");
                self.call.misrouted(self.brokers, &place);
                for item in &asked {
                    self.failed(item, error.clone(), sent.is_some());
                }
                return Duration::ZERO;
            }
        };
        for Said { item, code, message, answer } in answers.items {
            match ErrorCode(code) {
                ErrorCode::NONE => self.done(&item, Ok(answer)),
                code => {
                    debug!("{}: {code}", C::Request::NAME);
                    if code == ErrorCode::NOT_CONTROLLER {
                        self.call.misrouted(self.brokers, &place);
                    }
                    let error = named(broker_error(code, message.as_deref()));
                    self.failed(&item, error, code.written() == Written::Maybe);
                }
            }
        }
        // Those that have neither a result nor an error: the answer says nothing of them.
        for item in &asked {
            let is_silent = |pending: &Pending<C::Wanted>| pending.place.as_ref() == Some(&place);
            if self.pending.get(item).is_some_and(is_silent) {
                let text = format!("the answer to {} says nothing of an item", C::Request::NAME);
                self.failed(item, named(Error::misbehaved(text)), true);
            }
        }
        Duration::from_millis(u64::try_from(answers.throttle_ms).unwrap_or(0))
    }

    /// An attempt has failed for an item: it is asked for again, unless that cannot help.
    fn failed(&mut self, item: &C::Key, error: Error, in_doubt: bool) {
        let Some(pending) = self.pending.get_mut(item) else { return };
        let is_unknown = matches!(
            error.kind(),
            ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
        );
        let is_over = match error.kind() {
            _ if is_unknown => {
                let since = pending.unknown_since.get_or_insert_with(Instant::now);
                !self.call.awaits_unknown(self.brokers, item) || since.elapsed() >= UNKNOWN_FOR
            }
            ErrorKind::Broker(code) => !passes(code),
            _ => is_over(&error),
        };
        if !is_unknown {
            pending.unknown_since = None;
        }
        if is_over {
            return self.done(item, Err(error));
        }
        pending.in_doubt |= in_doubt && self.call.changes();
        pending.place = None;
        // An attempt that has no time left says nothing of what stands in the way.
        if pending.last.is_none() || Instant::now() < self.deadline {
            pending.last = Some(error);
        }
    }

    fn done(&mut self, item: &C::Key, result: Result<C::Answer>) {
        let Some(Pending { in_doubt, .. }) = self.pending.remove(item) else { return };
        let changes = self.call.changes();
        let result = result.map_err(|error| {
            let error = C::at(error, item);
            if !changes {
                return error;
            }
            let maybe = matches!(error.kind(), ErrorKind::Broker(code) if code.written() == Written::Maybe);
            error.with_written(if in_doubt || maybe { Written::Maybe } else { Written::No })
        });
        self.outcomes.insert(item.clone(), Outcome { result, in_doubt });
    }

    /// Gives up what has no result.
    fn end(&mut self, over: impl Fn(Option<Error>) -> Error) {
        let items: Vec<C::Key> = self.pending.keys().cloned().collect();
        for item in items {
            let last = self.pending.get_mut(&item).and_then(|pending| pending.last.take());
            self.done(&item, Err(over(last)));
        }
    }
}

/// Asks one broker.
fn ask_one<C: ItemCall>(
    brokers: &Brokers,
    call: &C,
    place: &Place,
    items: &Items<'_, C::Key, C::Wanted>,
    deadline: Instant,
) -> Asked<C> {
    let (mut faults, mut sent) = (Vec::new(), None);
    let mut asked: Vec<C::Key> = items.keys().map(|item| (*item).clone()).collect();
    let answers = brokers.exchange(place, deadline, |connection, until| {
        let version = connection.versions().choose::<C::Request>()?;
        let mut possible = Items::new();
        for (&item, &wanted) in items {
            match call.fault(item, wanted, version) {
                Some(fault) => faults.push((item.clone(), fault)),
                None => drop(possible.insert(item, wanted)),
            }
        }
        asked = possible.keys().map(|item| (*item).clone()).collect();
        if possible.is_empty() {
            return Ok(Answers { throttle_ms: 0, items: Vec::new() });
        }
        let request = call.request(&possible, version, time_for_broker(until));
        sent = Some(version);
        Ok(call.answers(connection.call_at(&request, version, until)?))
    });
    Asked { place: place.clone(), faults, asked, sent, answers }
}

/// Whether the cluster may answer otherwise soon.
fn passes(code: ErrorCode) -> bool {
    code.is_retriable() || matches!(code, ErrorCode::STALE_CONTROLLER_EPOCH | ErrorCode::BROKER_NOT_AVAILABLE)
}

/// The error that a code stands for where no client has to end because of it.
pub(super) fn broker_error(code: ErrorCode, message: Option<&str>) -> Error {
    let error = Error::broker(code, message);
    match error.recovery() {
        Recovery::Fatal | Recovery::AbortTransaction => error.with_recovery(Recovery::Fix),
        Recovery::Retry | Recovery::Fix => error,
    }
}

fn place_at(error: Error, place: &Place) -> Error {
    let error = error.at_address(&place.address.to_string());
    match place.broker {
        Some(broker) => error.at_broker(broker),
        None => error,
    }
}

/// What a broker may take of the time until then, so that its answer comes in time.
fn time_for_broker(until: Instant) -> Duration {
    let left = until.saturating_duration_since(Instant::now());
    left - (left / 10).min(Duration::from_millis(500))
}

/// Does the work for each of these, for up to [`AT_ONCE`] at the same time, and answers when all are done.
fn side_by_side<T: Send, R: Send>(all: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let helpers = all.len().min(AT_ONCE).saturating_sub(1);
    let (left, done) = (Mutex::new(all), Mutex::new(Vec::new()));
    let take_part = || {
        loop {
            let next = left.lock().pop();
            let Some(next) = next else { return };
            let result = work(next);
            done.lock().push(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            let started = std::thread::Builder::new().name("kafka-admin".into()).spawn_scoped(scope, take_part);
            // The others do its work.
            if let Err(error) = started {
                debug!("cannot start a thread kafka-admin: {error}");
            }
        }
        take_part();
    });
    done.into_inner()
}

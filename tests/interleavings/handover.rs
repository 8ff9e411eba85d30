//! A broker's link is driven by one thread after the other: the sender, the reader, and threads that wait for their
//! records. Here loom tries the interleavings of the link, the wake-up and the shared reading half. These are the
//! library's own files, compiled a second time with loom's primitives in `sync`. The link drives a turn that only
//! counts, over a connection that takes no bytes, breaks or answers with an error when the test says so.
//!
//! No timer ever fires here. So a batch that would be sent only because of a timer makes its test hang, which loom
//! reports as a deadlock. An answer that no thread reads, or a thread that never ends, does the same.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, dead_code, reason = "the library's files as they are")]

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use loom::thread;

use self::link::Link;
use self::parts::{Dial, LinkFailure, LinkParts, Machine, Shell, WakeSender};
use self::sync::{Condvar, Mutex, Receiver, channel};
use self::wake_up::{RequestFlag, WakeOn, WakeUp};

#[path = "../../src/producer/send/link.rs"]
mod link;
#[path = "../../src/producer/send/parts.rs"]
mod parts;
#[path = "../../src/net/reading.rs"]
mod reading;
#[path = "../../src/producer/send/wake_up.rs"]
mod wake_up;

/// Loom's primitives with the interfaces of those that the library uses.
mod sync {
    use std::collections::VecDeque;
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::Instant;

    use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    pub(crate) use loom::thread::yield_now as spin;

    pub(crate) use super::reading::Half;

    /// How often a waiting thread tries to get the baton.
    pub(crate) const SPINS: u32 = 1;

    /// Nothing is logged here.
    pub(crate) struct Quiet;

    impl Quiet {
        pub(crate) fn begin() -> Self {
            Self
        }
    }

    /// The time stands still.
    pub(crate) fn now() -> Instant {
        super::begin()
    }

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);
    /// Holds a guard except while its thread waits.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap()))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        /// In loom a `try_lock` seldom fails, because unlocking is no step of its own. So this one always fails for a
        /// thread whose time ends while it waits for the baton, and always succeeds for the others.
        pub(crate) fn try_lock_until(&self, until: Instant) -> Option<MutexGuard<'_, T>> {
            (until != super::at(super::NO_BATON)).then(|| self.lock())
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|inner| self.0.wait(inner).unwrap());
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A channel in which `is_empty` may see old values as long as the memory model allows: only fences make it exact.
    /// The queue itself is not a step of loom.
    struct Channel<T> {
        len: AtomicUsize,
        queue: std::sync::Mutex<VecDeque<T>>,
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Channel { len: AtomicUsize::new(0), queue: std::sync::Mutex::new(VecDeque::new()) });
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), T> {
            self.0.len.fetch_add(1, Ordering::Relaxed);
            self.0.queue.lock().unwrap().push_back(value);
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.len.load(Ordering::Relaxed) == 0
        }

        pub(crate) fn try_recv(&self) -> Result<T, ()> {
            if self.is_empty() {
                return Err(());
            }
            self.0.len.fetch_sub(1, Ordering::Relaxed);
            self.0.queue.lock().unwrap().pop_front().ok_or(())
        }
    }
}

// ---- times ------------------------------------------------------------------------------------------------------

/// A thread that waits until this time gives up before the answer comes.
const NO_ANSWER: u64 = 10;
/// A thread that waits until this time reads the answer, and then gives up because another thread has the baton.
const NO_BATON: u64 = 11;
/// When a hold ends: before any batch is due by itself.
const HOLD_END: u64 = 50_000_000;
/// When every batch is due.
const DUE: u64 = 100_000_000;
/// By when every answer is due.
const ANSWER_DUE: u64 = 1_000_000_000;

/// The beginning of the test, which is also what the clock always shows.
fn begin() -> Instant {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    *BEGIN.get_or_init(Instant::now)
}

fn at(nanos: u64) -> Instant {
    begin() + Duration::from_nanos(nanos)
}

fn nanos(instant: Instant) -> u64 {
    u64::try_from((instant - begin()).as_nanos()).unwrap()
}

// ---- the turn that only counts ----------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    Partial,
    All,
}

#[derive(Clone, Copy)]
struct Batch {
    id: usize,
    full: bool,
}

const fn partial(id: usize) -> Batch {
    Batch { id, full: false }
}

const fn full(id: usize) -> Batch {
    Batch { id, full: true }
}

/// A request without an answer.
struct Request {
    number: u32,
    batches: Vec<Batch>,
    written: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    Up,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Actions {
    connect: bool,
    /// Stands for an action that only the sender carries out. It changes nothing here.
    refresh: bool,
}

struct Turn {
    max_in_flight: usize,
    /// Which batches wait for an answer that is due.
    rule: Hold,
    state: State,
    waiting: Vec<Batch>,
    in_flight: VecDeque<Request>,
    requests: u32,
    sent_is_done: bool,
    actions: Actions,
    done: Arc<Done>,
    /// The connection at the beginning of the test.
    wire: Arc<Wire>,
}

/// Which batches have their result.
struct Done {
    ids: Mutex<Vec<usize>>,
    expected: usize,
    all: Condvar,
    /// How often each batch was sent. Not a step of loom.
    sent: std::sync::Mutex<Vec<usize>>,
}

impl Done {
    fn new(expected: usize) -> Arc<Self> {
        let (ids, sent) = (Mutex::new(Vec::new()), std::sync::Mutex::new(vec![0; expected]));
        Arc::new(Self { ids, expected, all: Condvar::new(), sent })
    }

    fn add(&self, batches: &[Batch]) {
        let mut ids = self.ids.lock();
        for batch in batches {
            assert!(!ids.contains(&batch.id), "batch {} has two results", batch.id);
            ids.push(batch.id);
        }
        if ids.len() == self.expected {
            self.all.notify_all();
        }
    }

    fn wait_for_all(&self) {
        let mut ids = self.ids.lock();
        while ids.len() < self.expected {
            self.all.wait(&mut ids);
        }
    }

    fn sent(&self) -> Vec<usize> {
        self.sent.lock().unwrap().clone()
    }
}

impl Turn {
    fn hold(&self) -> Hold {
        if self.in_flight.is_empty() { Hold::Nothing } else { self.rule }
    }

    fn is_sendable(&self, batch: &Batch) -> bool {
        match self.hold() {
            Hold::Nothing => true,
            Hold::Partial => batch.full,
            Hold::All => false,
        }
    }

    /// Puts the batches in flight back, so that they are sent again.
    fn put_back(&mut self) {
        let requests = std::mem::take(&mut self.in_flight);
        self.waiting.splice(..0, requests.into_iter().flat_map(|request| request.batches));
    }

    fn fail_all(&mut self) {
        self.put_back();
        let batches = std::mem::take(&mut self.waiting);
        if !self.sent_is_done {
            self.done.add(&batches);
        }
    }
}

impl Machine for Turn {
    type Notice = Batch;
    type Answer = Answer;
    type Error = Broken;
    type Actions = Actions;

    fn connected(&mut self, _version: i16, _now: Instant) {
        assert!(self.state != State::Up && self.in_flight.is_empty());
        self.state = State::Up;
    }

    fn lost(&mut self, _error: Broken, _now: Instant) {
        self.state = State::Down;
        self.actions.refresh = true;
        self.put_back();
    }

    fn answered(&mut self, answer: Answer, _now: Instant) -> Result<(), Broken> {
        let request = self.in_flight.pop_front().unwrap();
        assert!(request.written);
        assert_eq!(answer.number, request.number, "an answer was lost or read twice");
        if answer.is_error {
            self.waiting.splice(..0, request.batches);
        } else {
            self.done.add(&request.batches);
        }
        let trouble = *self.wire.broker.trouble.lock().unwrap();
        if let Trouble::StallUntilAnswer(_) = trouble {
            self.wire.take();
        }
        Ok(())
    }

    fn notice(&mut self, batch: &Batch) {
        self.waiting.push(*batch);
    }

    fn tick(&mut self, _now: Instant) {}

    fn idled(&mut self) {}

    fn closed_while_idle(&mut self, _now: Instant) {
        panic!("no connection is closed while it is idle")
    }

    fn next_request(&mut self, _now: Instant) -> bool {
        if self.state == State::Down && !self.waiting.is_empty() {
            self.state = State::Connecting;
            self.actions.connect = true;
        }
        if self.state != State::Up || self.in_flight.len() >= self.max_in_flight {
            return false;
        }
        let (batches, waiting): (Vec<Batch>, _) = self.waiting.iter().partition(|batch| self.is_sendable(batch));
        self.waiting = waiting;
        if batches.is_empty() {
            return false;
        }
        self.requests += 1;
        batches.iter().for_each(|batch| self.done.sent.lock().unwrap()[batch.id] += 1);
        if self.sent_is_done {
            self.done.add(&batches);
        }
        self.in_flight.push_back(Request { number: self.requests, batches, written: false });
        true
    }

    fn request(&self) -> Option<(usize, Instant)> {
        self.in_flight.back().map(|_| (1, at(ANSWER_DUE)))
    }

    fn stalled(&mut self) {}

    fn written(&mut self, _now: Instant) -> bool {
        self.in_flight.back_mut().unwrap().written = true;
        true
    }

    fn take_actions(&mut self) -> Option<Actions> {
        Some(std::mem::take(&mut self.actions)).filter(|actions| *actions != Actions::default())
    }

    fn answer_due(&self) -> Option<Instant> {
        self.in_flight.front().filter(|request| request.written).map(|_| at(ANSWER_DUE))
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    fn is_answered(&self) -> bool {
        true
    }

    fn is_ready_for_one(&self) -> bool {
        self.state == State::Up && self.in_flight.is_empty() && self.actions == Actions::default()
    }

    fn is_stalled(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn is_unused(&self) -> bool {
        false
    }

    fn is_deserted(&self) -> bool {
        false
    }

    fn needs_its_sender(&self, _now: Instant) -> bool {
        let sendable = !self.waiting.is_empty()
            && self.state == State::Up
            && self.in_flight.len() < self.max_in_flight
            && self.hold() == Hold::Nothing;
        sendable || self.actions != Actions::default()
    }

    fn last_used(&self) -> Option<Instant> {
        Some(begin())
    }

    fn hold_end(&self) -> Option<Instant> {
        (self.hold() != Hold::Nothing).then(|| at(HOLD_END))
    }

    fn deadline(&self, _now: Instant) -> Option<Instant> {
        self.hold_end().filter(|_| !self.waiting.is_empty())
    }

    fn deadline_of_answered(&self) -> Option<Instant> {
        None
    }

    fn wake_on(&self, _now: Instant) -> WakeOn {
        match self.hold() {
            _ if self.state != State::Up => WakeOn::Due,
            _ if self.in_flight.len() >= self.max_in_flight => WakeOn::Never,
            Hold::All => WakeOn::Held,
            Hold::Partial => WakeOn::Full,
            Hold::Nothing => WakeOn::Due,
        }
    }

    fn failure(&self, failure: LinkFailure) -> Broken {
        panic!("{failure:?}")
    }
}

// ---- the broker -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Answer {
    number: u32,
    is_error: bool,
}

/// The error of a connection that cannot be used any more.
#[derive(Debug)]
struct Broken;

/// What goes wrong with the request of this number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Nothing,
    /// No byte of it is taken until the test calls [`Wire::take`].
    Stall(u32),
    /// All bytes are taken at once, but the stream is flushed only by a second `push`.
    Unflushed(u32),
    /// It is not taken until an earlier answer has been read and handled.
    StallUntilAnswer(u32),
    /// The connection breaks while it is written.
    CutBefore(u32),
    /// It is written, and then the connection breaks.
    CutAfter(u32),
    /// It is answered with an error, after which it is sent again.
    Error(u32),
}

/// What all connections of a run share. Not a step of loom.
struct Broker {
    is_silent: bool,
    trouble: std::sync::Mutex<Trouble>,
    /// Whether the next connection cannot be made.
    refuses: std::sync::atomic::AtomicBool,
}

/// A connection. Answers each request at once, or none.
struct Wire {
    broker: Arc<Broker>,
    /// Not a step of loom: the thread that may read finds the answer.
    answers: std::sync::Mutex<VecDeque<Answer>>,
    state: Mutex<WireState>,
    changed: Condvar,
    /// Nothing can be written any more. Not a step of loom.
    is_cut: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct WireState {
    ended: bool,
    takes: bool,
}

impl Wire {
    fn new(broker: &Arc<Broker>) -> Arc<Self> {
        let (answers, state) = (std::sync::Mutex::default(), Mutex::new(WireState::default()));
        Arc::new(Self { broker: Arc::clone(broker), answers, state, changed: Condvar::new(), is_cut: false.into() })
    }

    /// The trouble of this request, if it has one. A stall stays; any other trouble happens once.
    fn trouble(&self, number: u32) -> Trouble {
        let mut trouble = self.broker.trouble.lock().unwrap();
        match *trouble {
            Trouble::CutBefore(of) | Trouble::CutAfter(of) | Trouble::Error(of) if of == number => {
                std::mem::replace(&mut *trouble, Trouble::Nothing)
            }
            Trouble::Stall(of) | Trouble::Unflushed(of) | Trouble::StallUntilAnswer(of) if of == number => *trouble,
            _ => Trouble::Nothing,
        }
    }

    fn answer(&self, number: u32, is_error: bool) {
        if !self.broker.is_silent {
            self.answers.lock().unwrap().push_back(Answer { number, is_error });
        }
    }

    fn end(&self) {
        self.is_cut.store(true, std::sync::atomic::Ordering::Relaxed);
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// A request that stalls is taken from now on.
    fn take(&self) {
        self.state.lock().takes = true;
        self.changed.notify_all();
    }
}

struct Output(Arc<Wire>);

impl parts::Output<Turn> for Output {
    fn write(&self, turn: &Turn, done: &mut usize) -> Result<bool, Broken> {
        if self.0.is_cut.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Broken);
        }
        let number = turn.in_flight.back().unwrap().number;
        match self.0.trouble(number) {
            Trouble::Nothing => self.0.answer(number, false),
            Trouble::Error(_) => self.0.answer(number, true),
            Trouble::Stall(_) | Trouble::StallUntilAnswer(_) => return Ok(false),
            Trouble::Unflushed(_) => {
                *done = 1;
                return Ok(false);
            }
            Trouble::CutBefore(_) => {
                self.0.end();
                return Err(Broken);
            }
            Trouble::CutAfter(_) => self.0.end(),
        }
        *done = 1;
        Ok(true)
    }

    fn copy(&self, turn: &Turn, done: usize, piece: &mut Vec<u8>) {
        piece.clear();
        // A request has one byte, and it may be taken already.
        if done == 0 {
            piece.push(u8::try_from(turn.in_flight.back().unwrap().number).unwrap());
        }
    }

    fn push(&self, piece: &[u8], total: usize, done: &mut usize) -> Result<bool, Broken> {
        let mut state = self.0.state.lock();
        let trouble = *self.0.broker.trouble.lock().unwrap();
        if let Trouble::Unflushed(number) = trouble {
            assert!(piece.is_empty() && *done == total, "what is taken is not given again");
            // The stream is flushed by the second try.
            let leaves = std::mem::replace(&mut state.takes, true);
            drop(state);
            if leaves {
                *self.0.broker.trouble.lock().unwrap() = Trouble::Nothing;
                self.0.answer(number, false);
            }
            return Ok(leaves);
        }
        if matches!(trouble, Trouble::Stall(_)) && !state.takes && !state.ended {
            drop(state);
            // As if the socket had taken no bytes for a while.
            thread::yield_now();
            return Ok(false);
        }
        while !state.takes && !state.ended {
            self.0.changed.wait(&mut state);
        }
        if state.ended {
            return Err(Broken);
        }
        self.0.answer(piece[0].into(), false);
        *done = total;
        Ok(true)
    }

    fn is_stale(&self) -> bool {
        false
    }

    fn break_off(&self) {
        self.0.end();
    }
}

/// The reading half. There is only one, so that only one thread reads.
struct Input {
    wire: Arc<Wire>,
    put_back: Option<Answer>,
}

impl parts::Input<Turn> for Input {
    fn next(&mut self, _deadline: Instant) -> Result<Answer, Broken> {
        let answer = self.put_back.take().or_else(|| self.wire.answers.lock().unwrap().pop_front());
        if let Some(answer) = answer {
            return Ok(answer);
        }
        let mut state = self.wire.state.lock();
        while !state.ended {
            self.wire.changed.wait(&mut state);
        }
        Err(Broken)
    }

    fn next_before(&mut self, until: Instant, _slack: Duration) -> Result<Option<Answer>, Broken> {
        if until == at(NO_ANSWER) { Ok(None) } else { self.next(until).map(Some) }
    }

    fn put_back(&mut self, answer: Answer) {
        self.put_back = Some(answer);
    }
}

// ---- what the sender has besides --------------------------------------------------------------------------------

enum Event {
    Wake,
    /// Has the connection take the request that stalls.
    Take(Arc<Wire>),
    Close,
}

struct Inbox {
    events: Mutex<VecDeque<Event>>,
    filled: Condvar,
    wake_up: WakeUp<Batch>,
}

impl Inbox {
    fn post(&self, event: Event) {
        self.events.lock().push_back(event);
        self.filled.notify_one();
    }

    /// Leaves the notice of a batch.
    fn notice(&self, batch: Batch) {
        if self.wake_up.notice(batch, DUE, batch.full) {
            self.post(Event::Wake);
        }
    }
}

impl WakeSender<Batch> for Inbox {
    fn arm(
        &self,
        until: Option<Instant>,
        wake_on: WakeOn,
        held_until: Option<Instant>,
        notices: &Receiver<Batch>,
    ) -> bool {
        self.wake_up.arm(until.map(nanos), wake_on, held_until.map_or(u64::MAX, nanos), notices)
    }

    fn set_awake(&self) {
        self.wake_up.set_awake();
    }

    fn wake(&self) {
        self.wake_up.wake(|| self.post(Event::Wake));
    }

    fn woken_for(&self, _now: Instant) -> Option<Instant> {
        None
    }

    fn set_stalled(&self, _stalled: bool) {}

    fn panicked(&self) {}
}

/// Makes connections, each of them a [`Wire`].
struct Exchange;

impl Dial for Exchange {
    fn drop_call(&self) {}
}

struct Real;

impl LinkParts for Real {
    type Turn = Turn;
    type Output = Output;
    type Input = Input;
    type Inbox = Inbox;
    type Hangup = Exchange;
}

struct Own {
    link: Arc<Link<Real>>,
    broker: Arc<Broker>,
    woken_by: Option<Event>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Shell<Turn> for Own {
    type Event = Event;
    type Exit = ();

    fn event(&mut self) -> Option<Event> {
        self.woken_by.take().or_else(|| self.link.inbox.events.lock().pop_front())
    }

    fn wait(&mut self, _until: Option<Instant>) -> Option<Event> {
        let inbox = &self.link.inbox;
        let mut events = inbox.events.lock();
        loop {
            if let Some(event) = events.pop_front() {
                return Some(event);
            }
            inbox.filled.wait(&mut events);
        }
    }

    fn tell(&mut self, turn: &mut Turn, event: Event) -> Option<()> {
        match event {
            Event::Wake => None,
            Event::Take(wire) => {
                wire.take();
                None
            }
            Event::Close => {
                turn.fail_all();
                Some(())
            }
        }
    }

    fn act(&mut self, actions: Actions) {
        if actions.connect {
            let (generation, wire) = (self.link.begin(), Wire::new(&self.broker));
            let link = Arc::clone(&self.link);
            let refused = self.broker.refuses.swap(false, std::sync::atomic::Ordering::Relaxed);
            self.readers.push(thread::spawn(move || {
                let input = Input { wire: Arc::clone(&wire), put_back: None };
                link.run_reader(generation, || if refused { Err(Broken) } else { Ok((Output(wire), input, 0)) }, || ());
            }));
        }
    }

    fn retire(&mut self) -> Option<()> {
        None
    }
}

/// When the time of a thread that drives the link ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeLimit {
    None,
    /// Before the answer comes.
    ForNoAnswer,
    /// After it has read the answer, while another thread has the baton.
    ForNoBaton,
}

/// What `QueueOwner::drive_or_notice` does. Returns whether the thread has driven the link.
fn drive_or_notice(link: &Link<Real>, batch: Batch, time_limit: TimeLimit) -> bool {
    let until = match time_limit {
        TimeLimit::None => None,
        TimeLimit::ForNoAnswer => Some(at(NO_ANSWER)),
        TimeLimit::ForNoBaton => Some(at(NO_BATON)),
    };
    let has_driven = link.drive_until_answered(&batch, begin(), until);
    if !has_driven {
        link.inbox.notice(batch);
    }
    has_driven
}

// ---- what is tried ----------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Setup {
    max_in_flight: usize,
    rule: Hold,
    is_silent: bool,
    /// Whether the sender sleeps at the beginning.
    sender_sleeps: bool,
    batches: usize,
    /// A request that is sent is done: no answer comes, as with `acks=0`.
    sent_is_done: bool,
    trouble: Trouble,
    /// Whether the second connection cannot be made at the first attempt.
    refuses: bool,
}

const FREE: Setup = Setup {
    max_in_flight: 2,
    rule: Hold::Nothing,
    is_silent: false,
    sender_sleeps: true,
    batches: 2,
    sent_is_done: false,
    trouble: Trouble::Nothing,
    refuses: false,
};
/// One request in flight: the next one waits for its answer.
const SINGLE: Setup = Setup { max_in_flight: 1, ..FREE };
const HOLDS_PARTIAL: Setup = Setup { rule: Hold::Partial, ..FREE };
const HOLDS_ALL: Setup = Setup { rule: Hold::All, ..FREE };

/// What a test works with.
struct Run {
    link: Arc<Link<Real>>,
    done: Arc<Done>,
    /// The connection at the beginning of the test.
    wire: Arc<Wire>,
    broker: Arc<Broker>,
    /// How often a reader has reported a connection that gives no answer. Not a step of loom.
    broken: Arc<AtomicUsize>,
}

impl Run {
    fn notice(&self, batch: Batch) {
        self.link.inbox.notice(batch);
    }

    fn drive_until_answered(&self, batch: Batch, time_limit: TimeLimit) -> thread::JoinHandle<()> {
        let link = Arc::clone(&self.link);
        thread::spawn(move || {
            drive_or_notice(&link, batch, time_limit);
        })
    }

    /// Whether the trouble has happened. A stall stays.
    fn has_had_trouble(&self) -> bool {
        *self.broker.trouble.lock().unwrap() == Trouble::Nothing
    }
}

/// Runs `main` beside a sender and a reader in every interleaving, and then closes the sender. `main` must join the
/// threads that it starts.
fn explore(setup: Setup, main: impl Fn(&Run) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    let then = Instant::now();
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let done = Done::new(setup.batches);
        let (trouble, refuses) = (std::sync::Mutex::new(setup.trouble), setup.refuses.into());
        let broker = Arc::new(Broker { is_silent: setup.is_silent, trouble, refuses });
        let wire = Wire::new(&broker);
        let turn = Turn {
            max_in_flight: setup.max_in_flight,
            rule: setup.rule,
            state: State::Connecting,
            waiting: Vec::new(),
            in_flight: VecDeque::new(),
            requests: 0,
            sent_is_done: setup.sent_is_done,
            actions: Actions::default(),
            done: Arc::clone(&done),
            wire: Arc::clone(&wire),
        };
        let (notices, notices_out) = channel();
        let (events, filled) = (Mutex::new(VecDeque::new()), Condvar::new());
        let inbox = Arc::new(Inbox { events, filled, wake_up: WakeUp::new(notices) });
        let link = Link::<Real>::new(turn, inbox, notices_out, Arc::new(Exchange));
        let input = Input { wire: Arc::clone(&wire), put_back: None };
        let read = link.connected(0, Output(Arc::clone(&wire)), input, 0).unwrap();
        if setup.sender_sleeps {
            assert!(link.rest(link.lock()).is_some());
        }
        let broken = Arc::new(AtomicUsize::new(0));
        let run = Run { link: Arc::clone(&link), done, wire, broker: Arc::clone(&broker), broken: Arc::clone(&broken) };
        let sender = {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                let mut own = Own { link: Arc::clone(&link), broker, woken_by: None, readers: Vec::new() };
                if setup.sender_sleeps {
                    own.woken_by = own.wait(None);
                }
                link.run_sender(&mut own);
                own.readers.into_iter().for_each(|reader| reader.join().unwrap());
            })
        };
        let reader = {
            let link = Arc::clone(&link);
            let told = move || {
                broken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            thread::spawn(move || link.read_answers(0, &read, told))
        };
        main(&run);
        link.inbox.post(Event::Close);
        sender.join().unwrap();
        reader.join().unwrap();
    });
    println!("{} runs in {:?}", runs.load(std::sync::atomic::Ordering::Relaxed), then.elapsed());
}

/// How often loom interrupts a thread that could go on.
const PREEMPTIONS: usize = 2;

#[test]
fn a_noticed_batch_is_sent_without_a_timer() {
    for setup in [FREE, SINGLE, HOLDS_ALL, HOLDS_PARTIAL] {
        for (second, sender_sleeps) in [(partial(1), false), (full(1), true)] {
            explore(Setup { sender_sleeps, ..setup }, move |run| {
                run.notice(partial(0));
                run.notice(second);
                run.done.wait_for_all();
            });
        }
    }
}

#[test]
fn a_batch_that_comes_while_a_thread_drives_is_sent() {
    for setup in [SINGLE, HOLDS_PARTIAL] {
        explore(setup, |run| {
            let driver = run.drive_until_answered(partial(0), TimeLimit::None);
            run.notice(full(1));
            run.done.wait_for_all();
            driver.join().unwrap();
        });
    }
}

#[test]
fn a_batch_that_need_not_wait_for_an_answer_does_not() {
    for (setup, batch) in [(FREE, partial(0)), (HOLDS_PARTIAL, full(0))] {
        let setup = Setup { is_silent: true, sent_is_done: true, ..setup };
        explore(setup, move |run| {
            let driver = run.drive_until_answered(batch, TimeLimit::None);
            run.notice(Batch { id: 1, ..batch });
            run.done.wait_for_all();
            run.link.inbox.post(Event::Close);
            driver.join().unwrap();
        });
    }
}

#[test]
fn an_answer_that_a_thread_has_no_time_for_is_read_once() {
    for setup in [Setup { batches: 1, ..FREE }, HOLDS_PARTIAL] {
        explore(setup, move |run| {
            let driver = run.drive_until_answered(partial(0), TimeLimit::ForNoAnswer);
            (1..setup.batches).for_each(|id| run.notice(partial(id)));
            driver.join().unwrap();
            run.done.wait_for_all();
        });
    }
}

#[test]
fn an_answer_that_a_thread_cannot_deliver_in_time_is_put_back() {
    for setup in [SINGLE, HOLDS_PARTIAL] {
        explore(setup, |run| {
            let driver = run.drive_until_answered(partial(0), TimeLimit::ForNoBaton);
            run.notice(partial(1));
            driver.join().unwrap();
            run.done.wait_for_all();
        });
    }
}

#[test]
fn a_close_ends_a_threads_driving() {
    for is_silent in [false, true] {
        let setup = Setup { is_silent, batches: 1, ..FREE };
        for time_limit in [TimeLimit::None, TimeLimit::ForNoAnswer, TimeLimit::ForNoBaton] {
            explore(setup, move |run| {
                let (link, done) = (Arc::clone(&run.link), Arc::clone(&run.done));
                let driver = thread::spawn(move || {
                    if drive_or_notice(&link, partial(0), time_limit) {
                        done.wait_for_all();
                    }
                });
                run.link.inbox.post(Event::Close);
                driver.join().unwrap();
            });
        }
    }
}

#[test]
fn two_threads_drive_one_after_the_other() {
    for setup in [FREE, SINGLE, HOLDS_PARTIAL] {
        explore(setup, |run| {
            let driver = run.drive_until_answered(partial(0), TimeLimit::None);
            drive_or_notice(&run.link, partial(1), TimeLimit::None);
            run.done.wait_for_all();
            driver.join().unwrap();
        });
    }
}

#[test]
fn an_answer_is_taken_while_the_next_request_is_not() {
    let setup = Setup { trouble: Trouble::StallUntilAnswer(2), ..FREE };
    explore(setup, |run| {
        run.notice(partial(0));
        run.notice(full(1));
        run.done.wait_for_all();
        assert_eq!(run.done.sent(), [1, 1]);
    });
    // A waiting thread writes the first batch, and perhaps the second, and reads the answer.
    explore(setup, |run| {
        let driver = run.drive_until_answered(partial(0), TimeLimit::None);
        run.notice(full(1));
        run.done.wait_for_all();
        assert_eq!(run.done.sent(), [1, 1]);
        driver.join().unwrap();
    });
}

#[test]
fn a_request_that_is_taken_and_not_flushed_is_written_on_by_the_sender() {
    let setup = Setup { trouble: Trouble::Unflushed(1), ..FREE };
    explore(setup, |run| {
        run.notice(partial(0));
        run.notice(full(1));
        run.done.wait_for_all();
        assert!(run.has_had_trouble());
        assert_eq!(run.done.sent(), [1, 1]);
    });
    explore(setup, |run| {
        let driver = run.drive_until_answered(partial(0), TimeLimit::None);
        run.notice(full(1));
        run.done.wait_for_all();
        assert!(run.has_had_trouble());
        assert_eq!(run.done.sent(), [1, 1]);
        driver.join().unwrap();
    });
}

#[test]
fn an_event_for_the_sender_does_not_wait_for_a_request_that_is_not_taken() {
    explore(Setup { trouble: Trouble::Stall(1), batches: 1, ..FREE }, |run| {
        run.notice(partial(0));
        run.link.inbox.post(Event::Take(Arc::clone(&run.wire)));
        run.done.wait_for_all();
        assert_eq!(run.done.sent(), [1]);
    });
}

#[test]
fn a_request_that_is_not_taken_ends_with_its_connection() {
    let setup = Setup { trouble: Trouble::Stall(1), batches: 1, ..FREE };
    // It ends with the close, whether the sender or a waiting thread has begun to write it.
    explore(setup, |run| run.notice(partial(0)));
    explore(setup, |run| run.drive_until_answered(partial(0), TimeLimit::None).join().unwrap());
    // It ends when the connection breaks.
    explore(setup, |run| {
        run.notice(partial(0));
        run.wire.end();
        run.done.wait_for_all();
        assert_eq!(run.done.sent(), [2]);
    });
}

#[test]
fn answers_that_have_come_are_read_although_a_write_fails() {
    explore(Setup { trouble: Trouble::CutBefore(2), ..FREE }, |run| {
        run.notice(partial(0));
        run.notice(full(1));
        run.done.wait_for_all();
        // Both may have gone in one request, which was written.
        assert_eq!(run.done.sent(), if run.has_had_trouble() { [1, 2] } else { [1, 1] });
    });
}

#[test]
fn a_batch_in_flight_on_a_connection_that_breaks_is_sent_again() {
    for trouble in [Trouble::CutBefore(1), Trouble::CutAfter(1)] {
        for setup in [FREE, SINGLE, HOLDS_PARTIAL] {
            explore(Setup { trouble, ..setup }, |run| {
                run.notice(partial(0));
                run.notice(full(1));
                run.done.wait_for_all();
                assert!(run.has_had_trouble());
                assert_eq!(run.done.sent()[0], 2);
            });
        }
        explore(Setup { trouble, batches: 1, ..FREE }, move |run| {
            let driver = run.drive_until_answered(partial(0), TimeLimit::None);
            run.done.wait_for_all();
            assert!(run.has_had_trouble());
            assert_eq!(run.done.sent(), [2]);
            // Whichever thread has read: the broken connection is reported once, if it gave no answer.
            let broken = run.broken.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(broken, usize::from(trouble == Trouble::CutAfter(1)));
            driver.join().unwrap();
        });
    }
}

#[test]
fn a_reader_whose_connection_cannot_be_made_ends() {
    explore(Setup { trouble: Trouble::CutAfter(1), refuses: true, batches: 1, ..FREE }, |run| {
        run.notice(partial(0));
        run.done.wait_for_all();
        assert!(run.has_had_trouble() && !run.broker.refuses.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(run.done.sent(), [2]);
    });
}

#[test]
fn a_refused_batch_is_sent_again_by_the_thread_that_reads_the_answer() {
    for setup in [FREE, SINGLE, HOLDS_PARTIAL] {
        explore(Setup { trouble: Trouble::Error(1), ..setup }, |run| {
            run.notice(partial(0));
            run.notice(partial(1));
            run.done.wait_for_all();
            assert!(run.has_had_trouble());
        });
    }
    for time_limit in [TimeLimit::None, TimeLimit::ForNoAnswer, TimeLimit::ForNoBaton] {
        explore(Setup { trouble: Trouble::Error(1), batches: 1, ..FREE }, move |run| {
            let driver = run.drive_until_answered(partial(0), time_limit);
            run.done.wait_for_all();
            assert!(run.has_had_trouble());
            assert_eq!(run.done.sent(), [2]);
            driver.join().unwrap();
        });
    }
}

#[test]
fn a_held_batch_wakes_the_sender_at_the_end_of_the_hold() {
    loom::model(|| {
        let (notices, notices_out) = channel();
        let wake_up = WakeUp::new(notices);
        let left = |due, full| {
            let wakes = wake_up.notice((), due, full);
            assert!(notices_out.try_recv().is_ok());
            wakes
        };
        // The sender would sleep past the end of the hold: it is woken for a held batch, which is due when the hold
        // ends.
        for until in [None, Some(HOLD_END + 1)] {
            assert!(wake_up.arm(until, WakeOn::Full, HOLD_END, &notices_out));
            assert!(left(1, false));
            assert!(wake_up.arm(until, WakeOn::Held, HOLD_END, &notices_out));
            assert!(left(1, true));
        }
        // It wakes by itself when the hold ends.
        assert!(wake_up.arm(Some(HOLD_END), WakeOn::Full, HOLD_END, &notices_out));
        assert!(!left(1, false));
        assert!(left(1, true));
        assert!(wake_up.arm(Some(HOLD_END), WakeOn::Held, HOLD_END, &notices_out));
        assert!(!left(1, true));
        // Another thread looks at held batches.
        assert!(wake_up.arm(None, WakeOn::Full, u64::MAX, &notices_out));
        assert!(!left(1, false));
        // No batch is held any more.
        assert!(wake_up.arm(Some(HOLD_END), WakeOn::Due, u64::MAX, &notices_out));
        assert!(left(1, false));
    });
}

#[test]
fn a_change_before_the_sender_was_asked_again_is_looked_at() {
    loom::model(|| {
        let asked = Arc::new(RequestFlag::new());
        let change = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        assert!(asked.ask());
        let asker = {
            let (asked, change) = (Arc::clone(&asked), Arc::clone(&change));
            thread::spawn(move || {
                change.store(1, sync::Ordering::Relaxed);
                asked.ask()
            })
        };
        asked.begin();
        let seen = change.load(sync::Ordering::Relaxed) == 1;
        assert!(asker.join().unwrap() || seen, "no thread looks at the change");
    });
}

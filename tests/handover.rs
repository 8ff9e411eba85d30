//! A broker's link goes from thread to thread: sender, reader, threads that wait for their records. Here loom tries the
//! interleavings of the two parts on which that rests, the bell and the shared reading half. They are the library's
//! own files, compiled a second time with loom's primitives in `sync`; around them a link whose steps are those of
//! `producer::link`, with a turn that only counts.
//!
//! No timer ever fires here. So a batch that is sent only because some time has come makes its test hang, which loom
//! reports as a deadlock; and so does an answer that nobody reads, or a thread that is never told to end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, dead_code, reason = "the library's files as they are")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use loom::thread;

use self::bell::{Bell, Wakeful};
use self::reading::Half;
use self::sync::{AtomicBool, Condvar, Mutex, MutexGuard, Ordering, Receiver, channel};

#[path = "../src/producer/bell.rs"]
mod bell;
#[path = "../src/net/reading.rs"]
mod reading;

/// Loom's primitives with the interfaces of those that the library uses.
mod sync {
    use std::collections::VecDeque;
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;

    use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

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

    /// A channel whose emptiness is seen as late as the memory model allows: only fences make it certain. The queue
    /// itself is no step of its own.
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

        pub(crate) fn try_recv(&self) -> Option<T> {
            if self.is_empty() {
                return None;
            }
            self.0.len.fetch_sub(1, Ordering::Relaxed);
            self.0.queue.lock().unwrap().pop_front()
        }
    }
}

// ---- the turn that only counts ----------------------------------------------------------------------------------

/// When every batch is due.
const DUE: u64 = 100;
/// When an answer is overdue for those that wait for it: before any batch is due by itself.
const HOLD_END: u64 = 50;
/// Somebody who is awake looks at what is held.
const FOR_EVER: u64 = u64::MAX;

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
}

struct Turn {
    max_in_flight: usize,
    /// What waits for an answer that is due.
    rule: Hold,
    waiting: Vec<Batch>,
    in_flight: VecDeque<Request>,
    requests: u32,
    sent_is_done: bool,
    done: Arc<Done>,
}

/// Which batches have got their result.
struct Done {
    ids: Mutex<Vec<usize>>,
    expected: usize,
    all: Condvar,
}

impl Done {
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

    fn next_request(&mut self) -> bool {
        if self.in_flight.len() >= self.max_in_flight {
            return false;
        }
        let (batches, waiting): (Vec<Batch>, _) = self.waiting.iter().partition(|batch| self.is_sendable(batch));
        self.waiting = waiting;
        if batches.is_empty() {
            return false;
        }
        self.requests += 1;
        if self.sent_is_done {
            self.done.add(&batches);
        }
        self.in_flight.push_back(Request { number: self.requests, batches });
        true
    }

    fn answered(&mut self, number: u32) {
        let request = self.in_flight.pop_front().unwrap();
        assert_eq!(number, request.number, "an answer was lost or read twice");
        self.done.add(&request.batches);
    }

    fn fail_all(&mut self) {
        let requests = std::mem::take(&mut self.in_flight);
        if !self.sent_is_done {
            requests.iter().for_each(|request| self.done.add(&request.batches));
        }
        self.done.add(&std::mem::take(&mut self.waiting));
    }

    fn deadline(&self) -> Option<u64> {
        let waits = !self.waiting.is_empty() && !self.in_flight.is_empty() && self.rule != Hold::Nothing;
        waits.then_some(HOLD_END)
    }

    fn wakeful(&self) -> Wakeful {
        match self.hold() {
            _ if self.in_flight.len() >= self.max_in_flight => Wakeful::Never,
            Hold::All => Wakeful::Held,
            Hold::Partial => Wakeful::Full,
            Hold::Nothing => Wakeful::Due,
        }
    }

    fn needs_its_sender(&self) -> bool {
        !self.waiting.is_empty() && self.in_flight.len() < self.max_in_flight && self.hold() == Hold::Nothing
    }
}

// ---- the broker -------------------------------------------------------------------------------------------------

/// Answers each request at once, or none.
struct Wire {
    is_silent: bool,
    /// No step of its own: who may read finds the answer.
    answers: std::sync::Mutex<VecDeque<u32>>,
    has_ended: Mutex<bool>,
    ends: Condvar,
}

impl Wire {
    fn write(&self, request: u32) {
        if !self.is_silent {
            self.answers.lock().unwrap().push_back(request);
        }
    }

    fn break_off(&self) {
        *self.has_ended.lock() = true;
        self.ends.notify_all();
    }
}

/// The way of the answers in. There is one, so that only one thread reads.
struct Input {
    wire: Arc<Wire>,
    put_back: Option<u32>,
}

impl Input {
    /// `None`: the connection has ended.
    fn next(&mut self) -> Option<u32> {
        let answer = self.put_back.take().or_else(|| self.wire.answers.lock().unwrap().pop_front());
        if answer.is_none() {
            let mut has_ended = self.wire.has_ended.lock();
            while !*has_ended {
                self.wire.ends.wait(&mut has_ended);
            }
        }
        answer
    }
}

// ---- the link, step by step like the real one -------------------------------------------------------------------

enum Event {
    Wake,
    Close,
}

struct Events {
    queue: Mutex<VecDeque<Event>>,
    filled: Condvar,
}

impl Events {
    fn post(&self, event: Event) {
        self.queue.lock().push_back(event);
        self.filled.notify_one();
    }

    fn try_recv(&self) -> Option<Event> {
        self.queue.lock().pop_front()
    }

    fn recv(&self) -> Event {
        let mut queue = self.queue.lock();
        loop {
            if let Some(event) = queue.pop_front() {
                return event;
            }
            self.filled.wait(&mut queue);
        }
    }
}

struct Link {
    events: Events,
    bell: Bell<Batch>,
    baton: Mutex<Baton>,
    led: AtomicBool,
    /// For the deadlines, which nobody looks at.
    then: Instant,
}

struct Baton {
    turn: Turn,
    notices: Receiver<Batch>,
    connection: Option<Connection>,
    generation: u64,
    sender: Sender,
}

#[derive(Clone, Copy)]
enum Sender {
    Awake,
    Asleep(Option<u64>),
}

struct Connection {
    wire: Arc<Wire>,
    read: Arc<Half<Input>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.read.close();
        self.wire.break_off();
    }
}

/// When a thread that leads runs out of time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Enough,
    /// Before the answer comes.
    ForNoAnswer,
    /// When it has read the answer, because somebody else has the baton.
    ForNoBaton,
}

impl Link {
    /// Leaves a batch for the sender.
    fn notice(&self, batch: Batch) {
        if self.bell.notice(batch, DUE, batch.full) {
            self.events.post(Event::Wake);
        }
    }

    fn ring(&self) {
        self.bell.ring(|| self.events.post(Event::Wake));
    }

    /// `Mailbox::lead_or_notice`. Whether the thread has led.
    fn lead_or_notice(&self, batch: Batch, patience: Patience) -> bool {
        let led = self.lead(batch, patience);
        if !led {
            self.notice(batch);
        }
        led
    }

    fn lead(&self, batch: Batch, patience: Patience) -> bool {
        let Some(mut baton) = self.baton.try_lock() else { return false };
        if !baton.turn.in_flight.is_empty() {
            return false;
        }
        let Some(read) = baton.connection.as_ref().map(|connection| Arc::clone(&connection.read)) else { return false };
        let Some(input) = read.take() else { return false };
        let generation = baton.generation;
        baton.turn.waiting.push(batch);
        while self.step(&mut baton) {
            if baton.turn.rule != Hold::Nothing {
                break;
            }
        }
        if !baton.answer_due(generation) {
            read.give(input, None);
            self.settle(&mut baton);
            return true;
        }
        self.led.store(true, Ordering::SeqCst);
        self.settle_leading(&mut baton);
        drop(baton);
        Lead { link: self, generation, read, input: Some(input) }.finish(patience);
        true
    }

    fn step(&self, baton: &mut Baton) -> bool {
        while let Some(batch) = baton.notices.try_recv() {
            baton.turn.waiting.push(batch);
        }
        if baton.connection.is_none() || !baton.turn.next_request() {
            return false;
        }
        let connection = baton.connection.as_ref().unwrap();
        connection.wire.write(baton.turn.requests);
        connection.read.owe(self.then);
        true
    }

    fn go_on(&self, baton: &mut Baton) {
        for _ in 0..baton.turn.max_in_flight {
            if !self.step(baton) {
                break;
            }
        }
    }

    fn take_answer(&self, baton: &mut Baton, generation: u64, answer: Option<u32>) {
        if generation != baton.generation {
            return;
        }
        // Connections end only when they are given up here, which begins a new generation.
        baton.turn.answered(answer.unwrap());
        self.go_on(baton);
    }

    /// *Thread*: reader.
    fn answered(&self, generation: u64, input: Input, answer: Option<u32>) -> Option<Input> {
        let mut baton = self.baton.lock();
        self.take_answer(&mut baton, generation, answer);
        let next = match &baton.connection {
            _ if baton.answer_due(generation) => Some(input),
            Some(connection) if generation == baton.generation => {
                connection.read.give(input, None);
                None
            }
            _ => None,
        };
        self.settle(&mut baton);
        next
    }

    fn settle(&self, baton: &mut Baton) {
        for _ in 0..3 {
            let Sender::Asleep(until) = baton.sender else { return };
            let earlier = match (baton.turn.deadline(), until) {
                (Some(deadline), Some(until)) => deadline < until,
                (deadline, None) => deadline.is_some(),
                (None, Some(_)) => false,
            };
            if earlier || baton.turn.needs_its_sender() {
                break;
            }
            if self.bell.settle(until, baton.turn.wakeful(), HOLD_END, &baton.notices) {
                return;
            }
            self.go_on(baton);
        }
        baton.sender = Sender::Awake;
        self.ring();
    }

    fn settle_leading(&self, baton: &mut Baton) {
        let Sender::Asleep(until) = baton.sender else { return };
        if baton.turn.needs_its_sender() || !self.bell.settle(until, baton.turn.wakeful(), FOR_EVER, &baton.notices) {
            baton.sender = Sender::Awake;
            self.ring();
        }
    }

    /// *Thread*: sender.
    fn rest(&self, mut baton: MutexGuard<'_, Baton>) -> bool {
        let (until, held_until) =
            if self.led.load(Ordering::SeqCst) { (None, FOR_EVER) } else { (baton.turn.deadline(), HOLD_END) };
        let rests = self.bell.settle(until, baton.turn.wakeful(), held_until, &baton.notices);
        if rests {
            baton.sender = Sender::Asleep(until);
        }
        rests
    }

    fn run_sender(&self) {
        let sleeps = matches!(self.baton.lock().sender, Sender::Asleep(_));
        let mut woken_by = sleeps.then(|| self.events.recv());
        loop {
            let mut baton = self.baton.lock();
            baton.sender = Sender::Awake;
            self.bell.wakes();
            while let Some(event) = woken_by.take().or_else(|| self.events.try_recv()) {
                match event {
                    Event::Wake => {}
                    Event::Close => {
                        baton.turn.fail_all();
                        baton.generation += 1;
                        baton.connection = None;
                        return;
                    }
                }
            }
            if !self.step(&mut baton) && self.rest(baton) {
                woken_by = Some(self.events.recv());
            }
        }
    }

    fn run_reader(&self, read: &Half<Input>) {
        while let Some((mut input, _)) = read.await_owed() {
            loop {
                let answer = input.next();
                match self.answered(0, input, answer) {
                    Some(next) => input = next,
                    None => break,
                }
            }
        }
    }
}

impl Baton {
    fn answer_due(&self, generation: u64) -> bool {
        generation == self.generation && !self.turn.in_flight.is_empty()
    }
}

struct Lead<'a> {
    link: &'a Link,
    generation: u64,
    read: Arc<Half<Input>>,
    input: Option<Input>,
}

impl Lead<'_> {
    fn finish(mut self, patience: Patience) {
        let link = self.link;
        let input = self.input.as_mut().unwrap();
        if patience == Patience::ForNoAnswer {
            return;
        }
        let answer = input.next();
        // Loom seldom has a try fail, because it takes no step for an unlocking.
        let baton = (patience == Patience::Enough).then(|| link.baton.lock());
        let Some(mut baton) = baton else {
            input.put_back = answer;
            return;
        };
        link.led.store(false, Ordering::SeqCst);
        link.take_answer(&mut baton, self.generation, answer);
        if let Some(input) = self.input.take() {
            let due = baton.answer_due(self.generation).then_some(link.then);
            self.read.give(input, due);
        }
        link.settle(&mut baton);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.read.give(input, Some(self.link.then));
            self.link.led.store(false, Ordering::SeqCst);
            self.link.ring();
        }
    }
}

// ---- what is tried ----------------------------------------------------------------------------------------------

#[derive(Clone, Copy)]
struct Setup {
    max_in_flight: usize,
    rule: Hold,
    is_silent: bool,
    /// Whether the sender sleeps when all begins.
    sender: Sender,
    batches: usize,
    /// Nobody waits for answers.
    sent_is_done: bool,
}

const ASLEEP: Sender = Sender::Asleep(None);
const FREE: Setup =
    Setup { max_in_flight: 2, rule: Hold::Nothing, is_silent: false, sender: ASLEEP, batches: 2, sent_is_done: false };
/// A request waits for the answer to the one before.
const SINGLE: Setup = Setup { max_in_flight: 1, ..FREE };
const HOLDS_PARTIAL: Setup = Setup { rule: Hold::Partial, ..FREE };
const HOLDS_ALL: Setup = Setup { rule: Hold::All, ..FREE };

/// Runs `main` beside a sender and a reader in every interleaving, and then closes. A thread that `main` starts is for
/// `main` to join.
fn explore(setup: Setup, main: impl Fn(&Arc<Link>, &Arc<Done>) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    let then = Instant::now();
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let done = Arc::new(Done { ids: Mutex::new(Vec::new()), expected: setup.batches, all: Condvar::new() });
        let turn = Turn {
            max_in_flight: setup.max_in_flight,
            rule: setup.rule,
            waiting: Vec::new(),
            in_flight: VecDeque::new(),
            requests: 0,
            sent_is_done: setup.sent_is_done,
            done: Arc::clone(&done),
        };
        let wire = Arc::new(Wire {
            is_silent: setup.is_silent,
            answers: std::sync::Mutex::new(VecDeque::new()),
            has_ended: Mutex::new(false),
            ends: Condvar::new(),
        });
        let read = Arc::new(Half::new(Input { wire: Arc::clone(&wire), put_back: None }));
        let (notices, notices_out) = channel();
        let connection = Some(Connection { wire, read: Arc::clone(&read) });
        let bell = Bell::new(notices);
        let sender = setup.sender;
        if let Sender::Asleep(until) = sender {
            assert!(bell.settle(until, Wakeful::Due, 0, &notices_out));
        }
        let baton = Baton { turn, notices: notices_out, connection, generation: 0, sender };
        let events = Events { queue: Mutex::new(VecDeque::new()), filled: Condvar::new() };
        let link = Arc::new(Link { events, bell, baton: Mutex::new(baton), led: AtomicBool::new(false), then });
        let sender = spawn(&link, Link::run_sender);
        let reader = spawn(&link, move |link| link.run_reader(&read));
        main(&link, &done);
        link.events.post(Event::Close);
        sender.join().unwrap();
        reader.join().unwrap();
    });
    println!("{} runs in {:?}", runs.load(std::sync::atomic::Ordering::Relaxed), then.elapsed());
}

/// How often a thread is interrupted where it could go on.
const PREEMPTIONS: usize = 2;

fn spawn<T: 'static>(link: &Arc<Link>, run: impl FnOnce(&Link) -> T + 'static) -> thread::JoinHandle<T> {
    let link = Arc::clone(link);
    thread::spawn(move || run(&link))
}

#[test]
fn a_notice_is_sent_without_anybodys_timer() {
    for setup in [FREE, SINGLE, HOLDS_ALL, HOLDS_PARTIAL] {
        for (second, sender) in [(partial(1), Sender::Awake), (full(1), ASLEEP)] {
            explore(Setup { sender, ..setup }, move |link, done| {
                link.notice(partial(0));
                link.notice(second);
                done.wait_for_all();
            });
        }
    }
}

#[test]
fn a_batch_that_comes_while_a_thread_leads_is_sent() {
    for setup in [SINGLE, HOLDS_PARTIAL] {
        explore(setup, |link, done| {
            let leader = spawn(link, |link| link.lead_or_notice(partial(0), Patience::Enough));
            link.notice(full(1));
            done.wait_for_all();
            leader.join().unwrap();
        });
    }
}

#[test]
fn a_batch_that_need_not_wait_for_an_answer_does_not() {
    for (setup, batch) in [(FREE, Batch { id: 0, full: false }), (HOLDS_PARTIAL, Batch { id: 0, full: true })] {
        let setup = Setup { is_silent: true, sent_is_done: true, ..setup };
        explore(setup, move |link, done| {
            let leader = spawn(link, move |link| link.lead_or_notice(batch, Patience::Enough));
            link.notice(Batch { id: 1, ..batch });
            done.wait_for_all();
            link.events.post(Event::Close);
            leader.join().unwrap();
        });
    }
}

#[test]
fn an_answer_that_a_thread_has_no_time_for_is_read_once() {
    for setup in [Setup { batches: 1, ..FREE }, HOLDS_PARTIAL] {
        explore(setup, move |link, done| {
            let leader = spawn(link, |link| link.lead_or_notice(partial(0), Patience::ForNoAnswer));
            (1..setup.batches).for_each(|id| link.notice(partial(id)));
            leader.join().unwrap();
            done.wait_for_all();
        });
    }
}

#[test]
fn an_answer_that_a_thread_cannot_deliver_in_time_is_put_back() {
    for setup in [SINGLE, HOLDS_PARTIAL] {
        explore(setup, |link, done| {
            let leader = spawn(link, |link| link.lead_or_notice(partial(0), Patience::ForNoBaton));
            link.notice(partial(1));
            leader.join().unwrap();
            done.wait_for_all();
        });
    }
}

#[test]
fn a_close_ends_a_threads_turn() {
    for is_silent in [false, true] {
        let setup = Setup { is_silent, batches: 1, ..FREE };
        for patience in [Patience::Enough, Patience::ForNoAnswer, Patience::ForNoBaton] {
            explore(setup, move |link, done| {
                let of_leader = Arc::clone(done);
                let leader = spawn(link, move |link| {
                    if link.lead_or_notice(partial(0), patience) {
                        of_leader.wait_for_all();
                    }
                });
                link.events.post(Event::Close);
                leader.join().unwrap();
            });
        }
    }
}

#[test]
fn two_threads_lead_one_after_the_other() {
    for setup in [FREE, SINGLE, HOLDS_PARTIAL] {
        explore(setup, |link, done| {
            let leader = spawn(link, |link| link.lead_or_notice(partial(0), Patience::Enough));
            link.lead_or_notice(partial(1), Patience::Enough);
            done.wait_for_all();
            leader.join().unwrap();
        });
    }
}

#[test]
fn what_is_held_rings_for_the_end_of_the_hold_and_no_later() {
    loom::model(|| {
        let (notices, notices_out) = channel();
        let bell = Bell::new(notices);
        let left = |due, full| {
            let rings = bell.notice((), due, full);
            assert!(notices_out.try_recv().is_some());
            rings
        };
        // The sender would sleep past the end of the hold: it is rung for what is held, which is due then.
        for until in [None, Some(HOLD_END + 1)] {
            assert!(bell.settle(until, Wakeful::Full, HOLD_END, &notices_out));
            assert!(left(1, false));
            assert!(bell.settle(until, Wakeful::Held, HOLD_END, &notices_out));
            assert!(left(1, true));
        }
        // It wakes then by itself.
        assert!(bell.settle(Some(HOLD_END), Wakeful::Full, HOLD_END, &notices_out));
        assert!(!left(1, false));
        assert!(left(1, true));
        assert!(bell.settle(Some(HOLD_END), Wakeful::Held, HOLD_END, &notices_out));
        assert!(!left(1, true));
        // Another one who is awake looks at what is held.
        assert!(bell.settle(None, Wakeful::Full, FOR_EVER, &notices_out));
        assert!(!left(1, false));
        // Nothing is held any more.
        assert!(bell.settle(Some(HOLD_END), Wakeful::Due, FOR_EVER, &notices_out));
        assert!(left(1, false));
    });
}

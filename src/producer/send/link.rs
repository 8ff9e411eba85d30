//! A broker's link: the turn and the connection, with one driver at a time.
//!
//! The thread that holds the baton drives the link: the sender when a batch or a timer is due, the reader when an
//! answer has come, and a thread that waits for its record when no other thread needs the link. Each does the same: it
//! tells the turn what has happened, writes what the turn then has to send, and wakes the thread that is to go on. A
//! thread that holds the baton holds no other lock, except for moments a partition's or the budget's, which come after
//! it. Only the sender waits for a socket that takes no bytes, and it releases the baton before.
//!
//! `tests/interleavings/handover.rs` tries the interleavings of this file. So its locks and atomics come from
//! `super::sync`, and its parts are behind the traits of [`parts`](super::parts).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::parts::{Dial, Input, LinkFailure, LinkParts, Machine, Output, Shell, WakeSender};
use super::sync::{AtomicBool, Half, Mutex, MutexGuard, Ordering, Quiet, Receiver, SPINS, now, spin};

/// After nothing was sent for so long, the connection is checked before it is used again: the broker may have closed
/// it, and the request would be lost.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// By how much a thread that reads its answer may be late for the end of a hold. So the socket's read time-out need not
/// be changed for every answer.
const HOLD_SLACK: Duration = Duration::from_millis(4);

type Notice<P> = <<P as LinkParts>::Turn as Machine>::Notice;
type Answer<P> = <<P as LinkParts>::Turn as Machine>::Answer;
type LinkError<P> = <<P as LinkParts>::Turn as Machine>::Error;

/// A broker's link, shared by the threads that may drive it.
pub(crate) struct Link<P: LinkParts> {
    pub(crate) inbox: Arc<P::Inbox>,
    pub(crate) hangup: Arc<P::Hangup>,
    baton: Mutex<Baton<P>>,
    /// Whether a request is in flight. A hint, so that a thread that waits for its record need not try to get the
    /// baton.
    engaged: AtomicBool,
    /// Whether a thread that waits for its record reads the answers, and does what is due when the hold ends. Written
    /// by the thread that holds the baton.
    waiter_drives: AtomicBool,
}

/// What belongs to the thread that holds the baton.
pub(crate) struct Baton<P: LinkParts> {
    pub(crate) turn: P::Turn,
    notices: Receiver<Notice<P>>,
    connection: Option<LinkConnection<P>>,
    /// Counts connections, so that what the reader of an old connection says is not mistaken for the new one's.
    generation: u64,
    /// How many bytes of the last request the stream has taken, if it has not taken all, or is not flushed. The sender
    /// writes the rest.
    unwritten: Option<usize>,
    sender: SenderState,
}

struct LinkConnection<P: LinkParts> {
    /// Shared with the sender while it writes without the baton.
    write: Arc<P::Output>,
    read: Arc<Half<P::Input>>,
    /// Why nothing more is written, if so. The connection ends when the answers that are due have been read.
    broken: Option<LinkError<P>>,
}

/// Whether the broker's sender sleeps.
#[derive(Clone, Copy)]
enum SenderState {
    /// It is awake, and will take the baton before it sleeps.
    Awake,
    /// It sleeps, at the latest until this time.
    Asleep(Option<Instant>),
}

impl<P: LinkParts> Link<P> {
    pub(crate) fn new(
        turn: P::Turn,
        inbox: Arc<P::Inbox>,
        notices: Receiver<Notice<P>>,
        hangup: Arc<P::Hangup>,
    ) -> Arc<Self> {
        let baton =
            Baton { turn, notices, connection: None, generation: 0, unwritten: None, sender: SenderState::Awake };
        Arc::new(Self {
            inbox,
            hangup,
            baton: Mutex::new(baton),
            engaged: AtomicBool::new(false),
            waiter_drives: AtomicBool::new(false),
        })
    }

    /// Waits for the baton, and marks the sender as awake. *Thread*: sender.
    pub(crate) fn lock(&self) -> Driver<'_, P> {
        let mut driver = self.drive();
        driver.sender = SenderState::Awake;
        driver
    }

    fn drive(&self) -> Driver<'_, P> {
        self.driver(self.baton.lock())
    }

    fn driver<'a>(&'a self, baton: MutexGuard<'a, Baton<P>>) -> Driver<'a, P> {
        let quiet = Quiet::begin();
        Driver { inbox: &self.inbox, baton, unwinding: thread::panicking(), _quiet: quiet }
    }

    /// Ends the connection and calls `fail` to fail all batches: a driver has panicked, and may have left the turn in
    /// any state.
    pub(crate) fn abandon(&self, fail: impl FnOnce(&mut P::Turn)) {
        let mut baton = self.drive();
        self.disconnect(&mut baton);
        fail(&mut baton.turn);
    }

    // ---- the sender -------------------------------------------------------------------------------------------

    /// Drives the link until `shell` ends it. *Thread*: sender.
    pub(crate) fn run_sender<S: Shell<P::Turn>>(&self, shell: &mut S) -> S::Exit {
        let (mut woken_by, mut piece) = (None, Vec::new());
        loop {
            let mut baton = self.lock();
            self.inbox.set_awake();
            while let Some(event) = woken_by.take().or_else(|| shell.event()) {
                if let Some(ended) = shell.tell(&mut baton.turn, event) {
                    self.disconnect(&mut baton);
                    return ended;
                }
            }
            // There may be more to send. But a write takes time, and with `acks=0` requests may follow each other
            // without end under load. So after each request other threads get the baton, and events and timers are
            // handled first.
            let sent = self.step(&mut baton, now()).is_some();
            if baton.unwritten.is_some() {
                baton.turn.stalled();
            }
            let actions = baton.turn.take_actions();
            if sent || actions.is_some() {
                drop(baton);
                if let Some(actions) = actions {
                    shell.act(actions);
                }
                continue;
            }
            if baton.unwritten.is_some() {
                self.push(baton, &mut piece);
                continue;
            }
            if baton.turn.is_deserted()
                && let Some(ended) = shell.retire()
            {
                self.disconnect(&mut baton);
                return ended;
            }
            if let Some(until) = self.rest(baton) {
                woken_by = shell.wait(until);
            }
        }
    }

    /// Writes the rest of a request that the socket did not take at once. It does so without the baton, so that other
    /// threads handle answers meanwhile, and the sender's own events wait only for a moment. *Thread*: sender.
    fn push(&self, mut baton: Driver<'_, P>, piece: &mut Vec<u8>) {
        let (Some(mut done), Some((total, deadline)), Some(connection)) =
            (baton.unwritten, baton.turn.request(), &baton.connection)
        else {
            return self.fail_writing(&mut baton, LinkFailure::Missing);
        };
        if now() >= deadline {
            return self.fail_writing(&mut baton, LinkFailure::NotTaken);
        }
        let (generation, write, before) = (baton.generation, Arc::clone(&connection.write), done);
        write.copy(&baton.turn, done, piece);
        self.update_hints(&baton);
        drop(baton);
        let pushed = write.push(piece, total, &mut done);
        let mut baton = self.lock();
        // As long as this is the same connection, no other thread has written on this request.
        if generation != baton.generation {
            return;
        }
        match pushed {
            Ok(true) => self.wrote(&mut baton, deadline, now()),
            Ok(false) => {
                baton.unwritten = Some(done);
                // While no answer is due nobody reads, and nobody else sees that the connection has ended.
                if done == before && baton.turn.answer_due().is_none() && write.is_stale() {
                    self.fail_writing(&mut baton, LinkFailure::ClosedByTheBroker);
                }
            }
            Err(error) => self.cannot_write(&mut baton, error, now()),
        }
    }

    fn fail_writing(&self, baton: &mut Baton<P>, failure: LinkFailure) {
        let error = baton.turn.failure(failure);
        self.cannot_write(baton, error, now());
    }

    /// Releases the baton because there is nothing to do. Returns the time at which the sender is to wake by itself.
    /// `None`: there is a notice after all, so the sender does not sleep. *Thread*: sender.
    pub(crate) fn rest(&self, mut baton: Driver<'_, P>) -> Option<Option<Instant>> {
        let now = now();
        let (until, held_until) = if self.waiter_drives.load(Ordering::SeqCst) {
            (baton.turn.deadline_of_answered(), None)
        } else {
            (baton.turn.deadline(now), baton.turn.hold_end())
        };
        let until = [until, self.inbox.woken_for(now)].into_iter().flatten().min();
        self.update_hints(&baton);
        self.inbox.arm(until, baton.turn.wake_on(now), held_until, &baton.notices).then(|| {
            baton.sender = SenderState::Asleep(until);
            until
        })
    }

    // ---- connections, and their readers -----------------------------------------------------------------------

    /// Begins a connection. Returns its generation, with which its reader calls this link. *Thread*: sender.
    pub(crate) fn begin(&self) -> u64 {
        self.disconnect(&mut self.lock())
    }

    /// Ends the idle connection, unless it was used meanwhile. *Thread*: sender.
    pub(crate) fn idle(&self) {
        let mut baton = self.lock();
        if baton.turn.is_unused() {
            self.disconnect(&mut baton);
            baton.turn.idled();
        }
    }

    /// Makes the connection of this generation with `open`, and reads the answers that no other thread reads, until it
    /// ends. `broken` is called if reading fails. *Thread*: its reader.
    pub(crate) fn run_reader(
        &self,
        generation: u64,
        open: impl FnOnce() -> Result<(P::Output, P::Input, i16), LinkError<P>>,
        broken: impl Fn(),
    ) {
        match open() {
            Ok((write, input, version)) => {
                if let Some(half) = self.connected(generation, write, input, version) {
                    self.read_answers(generation, &half, broken);
                }
            }
            Err(error) => self.failed(generation, error),
        }
    }

    /// Reads the answers that no other thread reads, until the connection ends. *Thread*: its reader.
    pub(crate) fn read_answers(&self, generation: u64, half: &Half<P::Input>, broken: impl Fn()) {
        while let Some((mut input, mut deadline)) = half.await_owed() {
            loop {
                let answer = input.next(deadline);
                if answer.is_err() {
                    broken();
                }
                match self.answered(generation, input, answer) {
                    Some(next) => (input, deadline) = next,
                    None => break,
                }
            }
        }
    }

    /// The reader of this generation has made its connection. `None` if the connection is no longer wanted.
    pub(crate) fn connected(
        &self,
        generation: u64,
        write: P::Output,
        input: P::Input,
        version: i16,
    ) -> Option<Arc<Half<P::Input>>> {
        let mut baton = self.drive();
        if generation != baton.generation {
            return None;
        }
        let now = now();
        let read = Arc::new(Half::new(input));
        baton.connection = Some(LinkConnection { write: Arc::new(write), read: Arc::clone(&read), broken: None });
        baton.turn.connected(version, now);
        self.go_on(&mut baton, now);
        self.inform_sender(&mut baton, now);
        Some(read)
    }

    /// The reader of this generation could not make its connection.
    pub(crate) fn failed(&self, generation: u64, error: LinkError<P>) {
        let mut baton = self.drive();
        if generation == baton.generation {
            let now = now();
            self.lost(&mut baton, error, now);
            self.inform_sender(&mut baton, now);
        }
    }

    /// The reader of this generation has an answer, or an error. Returns the reading half with the time by which the
    /// next answer is due; `None` if none is due, and the half is back with the connection.
    fn answered(
        &self,
        generation: u64,
        input: P::Input,
        answer: Result<Answer<P>, LinkError<P>>,
    ) -> Option<(P::Input, Instant)> {
        let mut baton = self.drive();
        let now = self.take_answer(&mut baton, generation, answer);
        let next = match (baton.answer_due(generation), &baton.connection) {
            (Some(due), _) => Some((input, due)),
            (None, Some(connection)) if generation == baton.generation => {
                connection.read.give(input, None);
                None
            }
            (None, _) => None,
        };
        self.inform_sender(&mut baton, now);
        next
    }

    /// Passes the answer to the turn, and sends what the turn then has to send. Returns the time afterwards.
    fn take_answer(&self, baton: &mut Baton<P>, generation: u64, answer: Result<Answer<P>, LinkError<P>>) -> Instant {
        let now = now();
        if generation != baton.generation {
            // The answer is of an old connection.
            return now;
        }
        // Set before the turn wakes threads with the answer, so that they can drive the link if it is free.
        self.engaged.store(baton.turn.in_flight() > 1, Ordering::Relaxed);
        let error = match answer.and_then(|answer| baton.turn.answered(answer, now)) {
            Ok(()) => baton.breach(),
            Err(error) => Some(error),
        };
        match error {
            None => self.go_on(baton, now),
            Some(error) => {
                self.lost(baton, error, now);
                now
            }
        }
    }

    // ---- a thread that waits for its record -------------------------------------------------------------------

    /// Drives the link for a thread that waits for its record, unless other threads need the link: writes the batch and
    /// reads the answer. `notice` is that of the record's partition, whose batch is due `now`. False if the caller is
    /// to leave the notice with the sender instead.
    ///
    /// *Blocks* until the answer has come, at most until `until`. The caller then looks whether its record has a
    /// result; if it has none, the sender and the reader go on. *Thread*: application.
    pub(crate) fn drive_until_answered(&self, notice: &Notice<P>, now: Instant, until: Option<Instant>) -> bool {
        let Some(mut baton) = self.seize() else { return false };
        if !baton.turn.is_ready_for_one() {
            return false;
        }
        let Some(read) = baton.connection.as_ref().map(|connection| Arc::clone(&connection.read)) else { return false };
        let Some(input) = read.take() else { return false };
        let generation = baton.generation;
        baton.turn.notice(notice);
        let mut now = now;
        // On a quick link one request is enough: the next one would wait for its answer.
        while let Some(later) = self.step(&mut baton, now) {
            now = later;
            if baton.turn.hold_end().is_some() || !baton.turn.is_answered() {
                break;
            }
        }
        let Some(due) = baton.answer_due(generation) else {
            read.give(input, None);
            self.inform_sender(&mut baton, now);
            return true;
        };
        let (until, slack) = read_limit(&baton.turn, due, until);
        self.waiter_drives.store(true, Ordering::SeqCst);
        self.inform_sender_while_waiting(&mut baton, now);
        let waiting = WaitingDriver { link: self, generation, read, input: Some(input), due, until, slack };
        // Log lines that were held back are written now, and the program's logger may panic; `waiting` then gives the
        // half back.
        drop(baton);
        waiting.finish();
        true
    }

    /// The baton, if no other thread holds it for longer than a moment. It is tried several times, because the thread
    /// that has just woken this one may still hold it.
    fn seize(&self) -> Option<Driver<'_, P>> {
        for _ in 0..SPINS {
            if self.engaged.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(baton) = self.baton.try_lock() {
                return Some(self.driver(baton));
            }
            spin();
        }
        None
    }

    // ---- every driver -----------------------------------------------------------------------------------------

    /// Writes all that the turn has to send now. *Thread*: a reader, or one that waits for its record; if the socket
    /// takes no bytes, the sender goes on.
    fn go_on(&self, baton: &mut Baton<P>, now: Instant) -> Instant {
        let mut now = now;
        // Bounded, because with `acks=0` requests may follow each other without end. The sender sends the rest.
        for _ in 0..baton.turn.max_in_flight() {
            match self.step(baton, now) {
                Some(later) => now = later,
                None => break,
            }
        }
        now
    }

    /// Sends one request, if there is one. Returns the time afterwards; `None`: nothing was sent.
    fn step(&self, baton: &mut Baton<P>, now: Instant) -> Option<Instant> {
        while let Ok(notice) = baton.notices.try_recv() {
            baton.turn.notice(&notice);
        }
        baton.turn.tick(now);
        if baton.is_blocked() {
            return None;
        }
        // The connection is checked before the request is built. A batch that was not sent must not count as an attempt
        // with a back-off, which may last longer than the next connection.
        if baton.is_closed_by_the_broker(now) {
            if baton.is_idle(now) {
                self.disconnect(baton);
                baton.turn.closed_while_idle(now);
            } else {
                let error = baton.turn.failure(LinkFailure::ClosedByTheBroker);
                self.lost(baton, error, now);
            }
        }
        if !baton.turn.next_request(now) {
            return None;
        }
        self.engaged.store(true, Ordering::Relaxed);
        self.write(baton)
    }

    /// Writes the request that was built last.
    fn write(&self, baton: &mut Baton<P>) -> Option<Instant> {
        let mut done = 0;
        let (Some((_, deadline)), Some(connection)) = (baton.turn.request(), &baton.connection) else {
            self.fail_writing(baton, LinkFailure::Missing);
            return None;
        };
        let written = connection.write.write(&baton.turn, &mut done);
        let now = now();
        match written {
            Ok(true) => {
                self.wrote(baton, deadline, now);
                return Some(now);
            }
            Ok(false) => baton.unwritten = Some(done),
            Err(error) => self.cannot_write(baton, error, now),
        }
        None
    }

    /// The request that was built last is written.
    fn wrote(&self, baton: &mut Baton<P>, deadline: Instant, now: Instant) {
        baton.unwritten = None;
        if baton.turn.written(now)
            && let Some(connection) = &baton.connection
        {
            connection.read.owe(deadline);
        }
    }

    /// Nothing can be written on the connection any more. Answers that are due are read before it ends: they
    /// acknowledge records that would be sent again otherwise.
    fn cannot_write(&self, baton: &mut Baton<P>, error: LinkError<P>, now: Instant) {
        baton.unwritten = None;
        match &mut baton.connection {
            Some(connection) if baton.turn.answer_due().is_some() => connection.broken = Some(error),
            _ => self.lost(baton, error, now),
        }
    }

    fn lost(&self, baton: &mut Baton<P>, error: LinkError<P>, now: Instant) {
        // The first error is the cause.
        let broken = baton.connection.as_mut().and_then(|connection| connection.broken.take());
        self.disconnect(baton);
        baton.turn.lost(broken.unwrap_or(error), now);
    }

    /// Ends the connection, and so its reader. Returns the generation of the next connection.
    fn disconnect(&self, baton: &mut Baton<P>) -> u64 {
        baton.generation += 1;
        baton.unwritten = None;
        baton.connection = None;
        self.hangup.drop_call();
        baton.generation
    }

    /// Called before the baton is released: wakes the sender if it would sleep too long.
    fn inform_sender(&self, baton: &mut Baton<P>, now: Instant) {
        let mut now = now;
        for _ in 0..3 {
            let SenderState::Asleep(until) = self.update_hints(baton) else { return };
            let earlier = match (baton.turn.deadline(now), until) {
                (Some(deadline), Some(until)) => deadline < until,
                (deadline, None) => deadline.is_some(),
                (None, Some(_)) => false,
            };
            if earlier || baton.unwritten.is_some() || baton.turn.needs_its_sender(now) {
                break;
            }
            if self.inbox.arm(until, baton.turn.wake_on(now), baton.turn.hold_end(), &baton.notices) {
                return;
            }
            // A notice has come meanwhile.
            now = self.go_on(baton, now);
        }
        baton.sender = SenderState::Awake;
        self.inbox.wake();
    }

    /// [`inform_sender`](Self::inform_sender) for a thread that reads the answer itself, and meanwhile does what is due
    /// when the hold ends.
    fn inform_sender_while_waiting(&self, baton: &mut Baton<P>, now: Instant) {
        let SenderState::Asleep(until) = self.update_hints(baton) else { return };
        if baton.unwritten.is_some()
            || baton.turn.needs_its_sender(now)
            || !self.inbox.arm(until, baton.turn.wake_on(now), None, &baton.notices)
        {
            baton.sender = SenderState::Awake;
            self.inbox.wake();
        }
    }

    /// Updates the hints for threads without the baton.
    fn update_hints(&self, baton: &Baton<P>) -> SenderState {
        self.engaged.store(baton.turn.in_flight() > 0, Ordering::Relaxed);
        self.inbox.set_stalled(baton.turn.is_stalled());
        baton.sender
    }
}

/// The thread that holds the baton. If it panics meanwhile, the turn may be in any state, and the sender is told.
pub(crate) struct Driver<'a, P: LinkParts> {
    inbox: &'a P::Inbox,
    baton: MutexGuard<'a, Baton<P>>,
    /// Whether the thread was unwinding from another panic before it got the baton.
    unwinding: bool,
    /// The last field, so that log lines which were held back are written after the baton is released.
    _quiet: Quiet,
}

impl<P: LinkParts> Drop for Driver<'_, P> {
    fn drop(&mut self) {
        if !self.unwinding && thread::panicking() {
            self.inbox.panicked();
        }
    }
}

impl<P: LinkParts> Deref for Driver<'_, P> {
    type Target = Baton<P>;

    fn deref(&self) -> &Baton<P> {
        &self.baton
    }
}

impl<P: LinkParts> DerefMut for Driver<'_, P> {
    fn deref_mut(&mut self) -> &mut Baton<P> {
        &mut self.baton
    }
}

impl<P: LinkParts> Baton<P> {
    /// By when the next answer on the connection of this generation is due, if one is.
    fn answer_due(&self, generation: u64) -> Option<Instant> {
        if generation == self.generation { self.turn.answer_due() } else { None }
    }

    /// Whether nothing can be sent: a request is not completely written, or the connection is about to end.
    fn is_blocked(&self) -> bool {
        self.unwritten.is_some() || self.connection.as_ref().is_some_and(|connection| connection.broken.is_some())
    }

    /// Why the connection ends, if nothing can be written on it and no answer is due any more.
    fn breach(&mut self) -> Option<LinkError<P>> {
        let connection = self.connection.as_mut().filter(|connection| connection.broken.is_some())?;
        if self.turn.answer_due().is_some() { None } else { connection.broken.take() }
    }

    /// Whether nothing was sent or answered for a while.
    fn is_idle(&self, now: Instant) -> bool {
        self.turn.last_used().is_none_or(|then| now.saturating_duration_since(then) > LOOK_AFTER)
    }

    /// Whether there is something to send and the broker has closed the connection. While no answer is due no thread
    /// reads, so this check is the only way to notice.
    fn is_closed_by_the_broker(&self, now: Instant) -> bool {
        let Some(connection) = &self.connection else { return false };
        let alone = self.turn.in_flight() == 0 && self.turn.is_stalled();
        // With acks=0 a broker can refuse a batch only by closing the connection, and what is written after that is
        // lost. So the connection is checked before every request.
        alone && (self.is_idle(now) || !self.turn.is_answered()) && connection.write.is_stale()
    }
}

impl<P: LinkParts> Drop for LinkConnection<P> {
    fn drop(&mut self) {
        self.read.close();
        // The sender may be blocked on the writing half, and a reader on the reading half.
        self.write.break_off();
    }
}

/// A thread that waits for its record, while it reads the answer. However that ends, the reading half is given back,
/// with the time by which an answer is due.
struct WaitingDriver<'a, P: LinkParts> {
    link: &'a Link<P>,
    generation: u64,
    read: Arc<Half<P::Input>>,
    input: Option<P::Input>,
    due: Instant,
    until: Instant,
    /// By how much `until` may be passed.
    slack: Duration,
}

/// Until when a thread may wait for an answer that is due by `due`, and by how much it may be late. It must stop when
/// the turn has something to do, and when its own time, `until`, is over.
fn read_limit(turn: &impl Machine, due: Instant, until: Option<Instant>) -> (Instant, Duration) {
    let strict = [until, turn.deadline_of_answered()].into_iter().flatten().fold(due, Instant::min);
    match turn.hold_end() {
        Some(end) if end + HOLD_SLACK < strict => (end, HOLD_SLACK),
        Some(end) => (strict.min(end), Duration::ZERO),
        None => (strict, Duration::ZERO),
    }
}

impl<P: LinkParts> WaitingDriver<'_, P> {
    /// Reads the answer, unless the thread's time is over before.
    fn finish(mut self) {
        let link = self.link;
        let Some(input) = &mut self.input else { return };
        let answer = if self.until < self.due {
            input.next_before(self.until, self.slack)
        } else {
            input.next(self.due).map(Some)
        };
        // Without an answer the reader goes on reading, and the sender does what is due. After an error the reader gets
        // the same error, and handles it.
        let Ok(Some(answer)) = answer else { return };
        // Another driver may be writing. If it takes too long, the answer is left to the reader.
        let Some(baton) = link.baton.try_lock_until(self.until) else {
            input.put_back(answer);
            return;
        };
        let mut baton = link.driver(baton);
        link.waiter_drives.store(false, Ordering::SeqCst);
        let now = link.take_answer(&mut baton, self.generation, Ok(answer));
        if let Some(input) = self.input.take() {
            self.read.give(input, baton.answer_due(self.generation));
        }
        link.inform_sender(&mut baton, now);
    }
}

impl<P: LinkParts> Drop for WaitingDriver<'_, P> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.read.give(input, Some(self.due));
            // From now on the sender itself does what is due when the hold ends.
            self.link.waiter_drives.store(false, Ordering::SeqCst);
            self.link.inbox.wake();
        }
    }
}

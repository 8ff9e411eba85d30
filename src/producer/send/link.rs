//! A broker's link: the turn and the connection, with one driver at a time.
//!
//! Whoever holds the baton drives: the sender when a batch is due or a time has come, the reader when an answer has
//! come, and a thread that waits for its record when nobody else needs the link. Each does the same: it tells the
//! turn what has happened, writes what the turn then has to send, and says who is to go on. Who holds the baton holds
//! no other lock, except for moments a partition's or the budget's below it. Only the sender waits for a socket that
//! takes nothing, and it lays the baton down before.
//!
//! `tests/interleavings/handover.rs` tries the interleavings of this file. Hence what it is built on comes from `super::sync`, and
//! what it drives stands behind the traits of [`parts`](super::parts).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::parts::{Dial, Input, LinkFailure, LinkParts, Machine, Output, Shell, WakeSender};
use super::sync::{AtomicBool, Half, Mutex, MutexGuard, Ordering, Quiet, Receiver, SPINS, now, spin};

/// A connection on which nothing was sent for so long is looked at before it is used again: the broker may have
/// closed it, and a request would be lost with it.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// By how much a waiting thread may be late for what others wait for: so the socket's time limit need not be set anew
/// for every answer.
const HOLD_SLACK: Duration = Duration::from_millis(4);

type Notice<P> = <<P as LinkParts>::Turn as Machine>::Notice;
type Answer<P> = <<P as LinkParts>::Turn as Machine>::Answer;
type LinkError<P> = <<P as LinkParts>::Turn as Machine>::Error;

/// A broker's link, shared by the threads that may drive it.
pub(crate) struct Link<P: LinkParts> {
    pub(crate) inbox: Arc<P::Inbox>,
    pub(crate) hangup: Arc<P::Hangup>,
    baton: Mutex<Baton<P>>,
    /// A request is in flight. A hint: it spares those who wait a look.
    engaged: AtomicBool,
    /// A waiting thread reads, and looks at the clock for what waits for its answer. Set by whoever has the baton.
    waiter_drives: AtomicBool,
}

/// What the driver has.
pub(crate) struct Baton<P: LinkParts> {
    pub(crate) turn: P::Turn,
    notices: Receiver<Notice<P>>,
    connection: Option<LinkConnection<P>>,
    /// Counts connections, so that the last words of an old reader are not taken for a new one's.
    generation: u64,
    /// How much is taken of a request that is not written at once; all of it, where the stream is not flushed. The rest is
    /// the sender's.
    unwritten: Option<usize>,
    sender: SenderState,
}

struct LinkConnection<P: LinkParts> {
    /// Shared with the sender while that writes without the baton.
    write: Arc<P::Output>,
    read: Arc<Half<P::Input>>,
    /// Why nothing more is written: the connection ends when those answers are read that are due.
    broken: Option<LinkError<P>>,
}

/// What the broker's sender does, as far as the driver must know.
#[derive(Clone, Copy)]
enum SenderState {
    /// It will take the baton before it sleeps.
    Awake,
    /// It sleeps, until then at the latest.
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

    /// Waits for the baton. *Thread*: the sender, which tells the others what they need to know before it sleeps.
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

    /// Gives the connection up and has `fail` fail everything: a driver has panicked, and nobody knows what it left
    /// behind.
    pub(crate) fn abandon(&self, fail: impl FnOnce(&mut P::Turn)) {
        let mut baton = self.drive();
        self.disconnect(&mut baton);
        fail(&mut baton.turn);
    }

    // ---- the sender -------------------------------------------------------------------------------------------

    /// Drives the link until `shell` says that it is over. *Thread*: sender.
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
            // There may be more to send. But a write takes time, and where nobody waits for answers there is no end of
            // requests under load: first a look at what has come, for others and at the clock.
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

    /// Writes on at a request that the socket does not take at once. Meanwhile others have the baton: answers are
    /// taken, and what was told to the sender has to wait for a moment only. *Thread*: sender.
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
        self.tell_others(&baton);
        drop(baton);
        let pushed = write.push(piece, total, &mut done);
        let mut baton = self.lock();
        // The request belongs to the sender as long as the connection lasts.
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

    /// Lays the baton down for as long as there is nothing to do: the time at which the sender is to wake by itself.
    /// `None` if there is something after all. *Thread*: sender.
    pub(crate) fn rest(&self, mut baton: Driver<'_, P>) -> Option<Option<Instant>> {
        let now = now();
        let (until, held_until) = if self.waiter_drives.load(Ordering::SeqCst) {
            (baton.turn.deadline_of_answered(), None)
        } else {
            (baton.turn.deadline(now), baton.turn.hold_end())
        };
        let until = [until, self.inbox.woken_for(now)].into_iter().flatten().min();
        self.tell_others(&baton);
        self.inbox.arm(until, baton.turn.wake_on(now), held_until, &baton.notices).then(|| {
            baton.sender = SenderState::Asleep(until);
            until
        })
    }

    // ---- connections, and their readers -----------------------------------------------------------------------

    /// Begins a connection: its generation, with which its reader says what becomes of it. *Thread*: sender.
    pub(crate) fn begin(&self) -> u64 {
        self.disconnect(&mut self.lock())
    }

    /// Gives the connection up if nothing has used it meanwhile. *Thread*: sender.
    pub(crate) fn idle(&self) {
        let mut baton = self.lock();
        if baton.turn.is_unused() {
            self.disconnect(&mut baton);
            baton.turn.idled();
        }
    }

    /// Makes the connection of this generation with `open`, and reads the answers that nobody else reads, until it
    /// ends. `broken` hears of a connection that gives no answer. *Thread*: its reader.
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

    /// Reads the answers that nobody else reads, until the connection ends. *Thread*: its reader.
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

    /// The reader of this generation has a connection. `None` if nobody wants it any more.
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

    /// The reader of this generation found out that there is no connection.
    pub(crate) fn failed(&self, generation: u64, error: LinkError<P>) {
        let mut baton = self.drive();
        if generation == baton.generation {
            let now = now();
            self.lost(&mut baton, error, now);
            self.inform_sender(&mut baton, now);
        }
    }

    /// The reader of this generation has an answer, or an error. Gives the reading half back with the time by which
    /// the next answer is due; `None` when none is due, and the half is in its place.
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

    /// Tells the turn, and sends what it then has to send. Answers the time afterwards.
    fn take_answer(&self, baton: &mut Baton<P>, generation: u64, answer: Result<Answer<P>, LinkError<P>>) -> Instant {
        let now = now();
        if generation != baton.generation {
            // An old connection's.
            return now;
        }
        // Those whom the answer wakes may find the link free.
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

    /// Drives the link for a thread that waits for a record of which `notice` tells, whose batch is due `now`, unless
    /// others need the link: writes the batch and reads the answer. False if the batch is to be told to the sender as
    /// usual.
    ///
    /// *Blocks* until the answer has come, at most until `until`. The caller then looks whether its record is done; if
    /// it is not, the sender and the reader go on with it. *Thread*: application.
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
        // One request is enough while the next one would wait for its answer.
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
        // What was held back is logged now, and the program's logger may panic.
        drop(baton);
        waiting.finish();
        true
    }

    /// The baton, if nobody has it for longer than a moment: whoever has just woken this thread may still hold it.
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

    /// Writes all that the turn has to send now, as the reader and a waiting thread do it: they leave a socket that
    /// takes nothing to the sender.
    fn go_on(&self, baton: &mut Baton<P>, now: Instant) -> Instant {
        let mut now = now;
        // An endless flow without answers is the sender's business, too.
        for _ in 0..baton.turn.max_in_flight() {
            match self.step(baton, now) {
                Some(later) => now = later,
                None => break,
            }
        }
        now
    }

    /// Sends one request if there is one to be sent: the time afterwards if there was.
    fn step(&self, baton: &mut Baton<P>, now: Instant) -> Option<Instant> {
        while let Ok(notice) = baton.notices.try_recv() {
            baton.turn.notice(&notice);
        }
        baton.turn.tick(now);
        if baton.is_blocked() {
            return None;
        }
        // The look comes first: a batch that never left has not been attempted, and must not wait for its back-off
        // again, which may be longer than the next connection lives.
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

    /// The connection takes nothing any more. Answers that have come are read before it is given up: they say that
    /// records are written which would be sent again otherwise.
    fn cannot_write(&self, baton: &mut Baton<P>, error: LinkError<P>, now: Instant) {
        baton.unwritten = None;
        match &mut baton.connection {
            Some(connection) if baton.turn.answer_due().is_some() => connection.broken = Some(error),
            _ => self.lost(baton, error, now),
        }
    }

    fn lost(&self, baton: &mut Baton<P>, error: LinkError<P>, now: Instant) {
        // What was found first is the cause.
        let broken = baton.connection.as_mut().and_then(|connection| connection.broken.take());
        self.disconnect(baton);
        baton.turn.lost(broken.unwrap_or(error), now);
    }

    /// Gives the connection up; its reader ends. Answers the generation of the next one.
    fn disconnect(&self, baton: &mut Baton<P>) -> u64 {
        baton.generation += 1;
        baton.unwritten = None;
        baton.connection = None;
        self.hangup.drop_call();
        baton.generation
    }

    /// Before the baton is laid down: whoever sleeps is told what he would miss.
    fn inform_sender(&self, baton: &mut Baton<P>, now: Instant) {
        let mut now = now;
        for _ in 0..3 {
            let SenderState::Asleep(until) = self.tell_others(baton) else { return };
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
            // Somebody has left word meanwhile.
            now = self.go_on(baton, now);
        }
        baton.sender = SenderState::Awake;
        self.inbox.wake();
    }

    /// [`inform_sender`](Self::inform_sender) for a thread that reads the answer itself, and looks at the clock for the sender.
    fn inform_sender_while_waiting(&self, baton: &mut Baton<P>, now: Instant) {
        let SenderState::Asleep(until) = self.tell_others(baton) else { return };
        if baton.unwritten.is_some()
            || baton.turn.needs_its_sender(now)
            || !self.inbox.arm(until, baton.turn.wake_on(now), None, &baton.notices)
        {
            baton.sender = SenderState::Awake;
            self.inbox.wake();
        }
    }

    /// Hints for threads without the baton.
    fn tell_others(&self, baton: &Baton<P>) -> SenderState {
        self.engaged.store(baton.turn.in_flight() > 0, Ordering::Relaxed);
        self.inbox.set_stalled(baton.turn.is_stalled());
        baton.sender
    }
}

/// Who holds the baton. If he panics with it in his hand, nobody knows what the turn's state is worth, and the sender
/// is told.
pub(crate) struct Driver<'a, P: LinkParts> {
    inbox: &'a P::Inbox,
    baton: MutexGuard<'a, Baton<P>>,
    /// A caller may be unwinding already, for a reason of its own.
    unwinding: bool,
    /// The last field: what was held back is logged when the baton is laid down.
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

    /// Whether nothing can be sent: a request is not written to its end, or the connection is about to end.
    fn is_blocked(&self) -> bool {
        self.unwritten.is_some() || self.connection.as_ref().is_some_and(|connection| connection.broken.is_some())
    }

    /// Why the connection takes nothing any more, once the last answer is read that was due.
    fn breach(&mut self) -> Option<LinkError<P>> {
        let connection = self.connection.as_mut().filter(|connection| connection.broken.is_some())?;
        if self.turn.answer_due().is_some() { None } else { connection.broken.take() }
    }

    /// Whether nothing was sent or answered for a while.
    fn is_idle(&self, now: Instant) -> bool {
        self.turn.last_used().is_none_or(|then| now.saturating_duration_since(then) > LOOK_AFTER)
    }

    /// Whether there is something to send and a look shows that the connection is closed; nobody reads it while no
    /// answer is due.
    fn is_closed_by_the_broker(&self, now: Instant) -> bool {
        let Some(connection) = &self.connection else { return false };
        let alone = self.turn.in_flight() == 0 && self.turn.is_stalled();
        // With acks=0 a broker can refuse only by closing the connection: a look is the one way to see it, and what is
        // written afterwards is lost.
        alone && (self.is_idle(now) || !self.turn.is_answered()) && connection.write.is_stale()
    }
}

impl<P: LinkParts> Drop for LinkConnection<P> {
    fn drop(&mut self) {
        self.read.close();
        // The sender may be blocked on the writing half, and a reader on the other.
        self.write.break_off();
    }
}

/// A waiting thread's turn at reading. However it ends, the reading half goes back with what is due.
struct WaitingDriver<'a, P: LinkParts> {
    link: &'a Link<P>,
    generation: u64,
    read: Arc<Half<P::Input>>,
    input: Option<P::Input>,
    due: Instant,
    until: Instant,
    /// By how much that may be passed.
    slack: Duration,
}

/// Until when a thread may read for an answer that is due by `due`, and by how much it may be late: it does what the
/// turn has to do at a certain time, and must not outstay its own time.
fn read_limit(turn: &impl Machine, due: Instant, until: Option<Instant>) -> (Instant, Duration) {
    let strict = [until, turn.deadline_of_answered()].into_iter().flatten().fold(due, Instant::min);
    match turn.hold_end() {
        Some(end) if end + HOLD_SLACK < strict => (end, HOLD_SLACK),
        Some(end) => (strict.min(end), Duration::ZERO),
        None => (strict, Duration::ZERO),
    }
}

impl<P: LinkParts> WaitingDriver<'_, P> {
    /// Reads the answer, unless the thread's time runs out before.
    fn finish(mut self) {
        let link = self.link;
        let Some(input) = &mut self.input else { return };
        let answer = if self.until < self.due {
            input.next_before(self.until, self.slack)
        } else {
            input.next(self.due).map(Some)
        };
        // Without an answer the reader reads on, and the sender looks at the clock. After an error the reader finds the
        // same, and tells who else is to know.
        let Ok(Some(answer)) = answer else { return };
        // Another driver may be writing; a thread that cannot wait for it leaves the answer to the reader.
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
            // The sender looks at the clock again.
            self.link.waiter_drives.store(false, Ordering::SeqCst);
            self.link.inbox.wake();
        }
    }
}

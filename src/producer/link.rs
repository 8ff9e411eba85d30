//! A broker's link: the turn and the connection, with one driver at a time.
//!
//! Whoever holds the baton drives: the sender when a batch is due or a time has come, the reader when an answer has
//! come, and a thread that waits for its record when nobody else needs the link. Each does the same: it tells the
//! turn what has happened, writes what the turn then has to send, and says who is to go on. Who holds the baton holds
//! no other lock, except for moments a partition's or the budget's below it. Only the sender waits for a socket that
//! takes nothing.

use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Mutex, MutexGuard};

use super::accumulator::{Partition, closed};
use super::mailbox::Mailbox;
use super::sender::Event;
use super::turn::Turn;
use crate::bytes::SharedBytes;
use crate::error::{Error, Result, Timeout};
use crate::logging::Quiet;
use crate::net::Hangup;
use crate::net::connection::is_stale;
use crate::net::frames::FrameInput;
use crate::net::pipeline::{ReadHalf, WriteHalf, Written};
use crate::topic::BrokerId;

/// A connection on which nothing was sent for so long is looked at before it is used again: the broker may have
/// closed it, and a request would be lost with it.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// By how much a waiting thread may be late for what others wait for: so the socket's time limit need not be set anew
/// for every answer.
const HOLD_SLACK: Duration = Duration::from_millis(4);
/// How often a waiting thread looks whether it can have the baton: some microseconds in all.
const SPINS: u32 = 200;

/// A broker's link, shared by the threads that may drive it.
pub(crate) struct Link {
    pub(crate) broker: BrokerId,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) hangup: Arc<Hangup>,
    baton: Mutex<Baton>,
    /// A request is in flight. A hint: it spares those who wait a look.
    engaged: AtomicBool,
    /// A waiting thread reads, and looks at the clock for what waits for its answer. Set by whoever has the baton.
    led: AtomicBool,
}

/// What the driver has.
pub(crate) struct Baton {
    pub(crate) turn: Turn,
    notices: Receiver<Arc<Partition>>,
    connection: Option<Connection>,
    /// Counts connections, so that the last words of an old reader are not taken for a new one's.
    generation: u64,
    /// How much is written of the request that was built last, if it is not written yet.
    unwritten: Option<usize>,
    sender: Sender,
}

struct Connection {
    write: WriteHalf,
    read: Arc<ReadHalf>,
}

/// What the broker's sender does, as far as the driver must know.
#[derive(Clone, Copy)]
enum Sender {
    /// It will take the baton before it sleeps.
    Awake,
    /// It sleeps, until then at the latest.
    Asleep(Option<Instant>),
}

impl Link {
    pub(crate) fn new(
        broker: BrokerId,
        turn: Turn,
        mailbox: Arc<Mailbox>,
        notices: Receiver<Arc<Partition>>,
        hangup: Arc<Hangup>,
    ) -> Arc<Self> {
        let baton = Baton { turn, notices, connection: None, generation: 0, unwritten: None, sender: Sender::Awake };
        Arc::new(Self {
            broker,
            mailbox,
            hangup,
            baton: Mutex::new(baton),
            engaged: AtomicBool::new(false),
            led: AtomicBool::new(false),
        })
    }

    /// Waits for the baton. *Thread*: the sender, which settles what the others are to know before it sleeps.
    pub(crate) fn lock(&self) -> Driver<'_> {
        let mut driver = self.drive();
        driver.sender = Sender::Awake;
        driver
    }

    fn drive(&self) -> Driver<'_> {
        self.driver(self.baton.lock())
    }

    fn driver<'a>(&'a self, baton: MutexGuard<'a, Baton>) -> Driver<'a> {
        let quiet = Quiet::begin();
        Driver { mailbox: &self.mailbox, baton, unwinding: thread::panicking(), _quiet: quiet }
    }

    /// Fails everything: a driver has panicked, and nobody knows what it left behind.
    pub(crate) fn abandon(&self, error: &Error) {
        let mut baton = self.drive();
        self.disconnect(&mut baton);
        baton.turn.fail_all(error, &mut |_, _| ());
    }

    /// The reader of this generation has a connection. `None` if nobody wants it any more.
    pub(crate) fn connected(
        &self,
        generation: u64,
        stream: Arc<TcpStream>,
        input: FrameInput,
        version: i16,
    ) -> Option<Arc<ReadHalf>> {
        let mut baton = self.drive();
        if generation != baton.generation {
            return None;
        }
        let now = Instant::now();
        let read = Arc::new(ReadHalf::new(input));
        match WriteHalf::new(stream) {
            Ok(write) => {
                baton.connection = Some(Connection { write, read: Arc::clone(&read) });
                baton.turn.connected(version, now);
                self.go_on(&mut baton, now);
            }
            Err(error) => self.lost(&mut baton, error, now),
        }
        self.settle(&mut baton, now);
        Some(read)
    }

    /// The reader of this generation found out that there is no connection.
    pub(crate) fn failed(&self, generation: u64, error: Error) {
        let mut baton = self.drive();
        if generation == baton.generation {
            let now = Instant::now();
            self.lost(&mut baton, error.at_broker(self.broker), now);
            self.settle(&mut baton, now);
        }
    }

    /// The reader of this generation has an answer, or an error. Gives the reading half back with the time by which
    /// the next answer is due; `None` when none is due, and the half is in its place.
    pub(crate) fn answered(
        &self,
        generation: u64,
        input: FrameInput,
        answer: Result<SharedBytes>,
    ) -> Option<(FrameInput, Instant)> {
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
        self.settle(&mut baton, now);
        next
    }

    /// Tells the turn, and sends what it then has to send. Answers the time afterwards.
    fn take_answer(&self, baton: &mut Baton, generation: u64, answer: Result<SharedBytes>) -> Instant {
        let now = Instant::now();
        if generation != baton.generation {
            // An old connection's.
            return now;
        }
        // Those whom the answer wakes may find the link free.
        self.engaged.store(baton.turn.in_flight() > 1, Ordering::Relaxed);
        let taken =
            answer.map_err(|error| error.at_broker(self.broker)).and_then(|frame| baton.turn.answered(frame, now));
        match taken {
            Ok(()) => self.go_on(baton, now),
            Err(error) => {
                self.lost(baton, error, now);
                now
            }
        }
    }

    /// Drives the link for a thread that waits for a record of `partition`, whose open batch is due `now`, unless others
    /// need the link: writes the batch and reads the answer. False if the batch is to be told to the sender as usual.
    ///
    /// *Blocks* until the answer has come, at most until `until`. The caller then looks whether its record is done; if
    /// it is not, the sender and the reader go on with it. *Thread*: application.
    pub(crate) fn lead(&self, partition: &Partition, now: Instant, until: Option<Instant>) -> bool {
        let Some(mut baton) = self.seize() else { return false };
        if !baton.turn.is_ready_for_one() {
            return false;
        }
        let Some(read) = baton.connection.as_ref().map(|connection| Arc::clone(&connection.read)) else { return false };
        let Some(input) = read.take() else { return false };
        let generation = baton.generation;
        baton.turn.notice(partition);
        let mut now = now;
        // One request is enough while the next one would wait for its answer.
        while let Some(later) = self.step(&mut baton, now, &mut || false) {
            now = later;
            if baton.turn.hold_end().is_some() || !baton.turn.is_answered() {
                break;
            }
        }
        let Some(due) = baton.answer_due(generation) else {
            read.give(input, None);
            self.settle(&mut baton, now);
            return true;
        };
        let (until, slack) = patience(&baton.turn, due, until);
        self.led.store(true, Ordering::SeqCst);
        self.settle_leading(&mut baton, now);
        drop(baton);
        Lead { link: self, generation, read, input: Some(input), due, until, slack }.finish();
        true
    }

    /// The baton, if nobody has it for longer than a moment: whoever has just woken this thread may still hold it.
    fn seize(&self) -> Option<Driver<'_>> {
        for _ in 0..SPINS {
            if self.engaged.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(baton) = self.baton.try_lock() {
                return Some(self.driver(baton));
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Writes all that the turn has to send now, as the reader and a waiting thread do it: they leave a socket that
    /// takes nothing to the sender.
    fn go_on(&self, baton: &mut Baton, now: Instant) -> Instant {
        let mut now = now;
        // An endless flow without answers is the sender's business, too.
        for _ in 0..baton.turn.max_in_flight() {
            match self.step(baton, now, &mut || false) {
                Some(later) => now = later,
                None => break,
            }
        }
        now
    }

    /// Sends one request if there is one to be sent: the time afterwards if there was. `on_stall` says whether to go
    /// on when the socket takes nothing for a while.
    pub(crate) fn step(&self, baton: &mut Baton, now: Instant, on_stall: &mut dyn FnMut() -> bool) -> Option<Instant> {
        while let Ok(partition) = baton.notices.try_recv() {
            baton.turn.notice(&partition);
        }
        baton.turn.tick(now);
        if baton.unwritten.is_none() {
            // The look comes first: a batch that never left has not been attempted, and must not wait for its back-off
            // again, which may be longer than the next connection lives.
            if baton.is_closed_by_the_broker(now) {
                if baton.is_idle(now) {
                    self.disconnect(baton);
                    baton.turn.closed_while_idle(now);
                } else {
                    self.lost(baton, Error::network("the broker had closed the connection"), now);
                }
            }
            if !baton.turn.next_request(now) {
                return None;
            }
            baton.unwritten = Some(0);
            self.engaged.store(true, Ordering::Relaxed);
        }
        self.write(baton, on_stall)
    }

    /// Writes on at the request that was built last.
    fn write(&self, baton: &mut Baton, on_stall: &mut dyn FnMut() -> bool) -> Option<Instant> {
        let (correlation, deadline) = baton.turn.ticket()?;
        let error = loop {
            let (Some(done), Some(connection)) = (&mut baton.unwritten, &baton.connection) else {
                break Error::bug("a request was built without a connection");
            };
            let written = connection.write.write(baton.turn.parts(), baton.turn.request_len(), done);
            let now = Instant::now();
            match written {
                Ok(Written::All) => {
                    baton.unwritten = None;
                    if baton.turn.written(now) {
                        connection.read.owe(deadline);
                    }
                    return Some(now);
                }
                // The other side takes nothing. Batches expire meanwhile, and the request's time counts.
                Ok(Written::Stalled) if self.hangup.is_closed() => break closed(),
                Ok(Written::Stalled) if now >= deadline => {
                    let text = format!("the broker did not take request {correlation} in time");
                    break Error::timeout(Timeout::Request, text).at_broker(self.broker);
                }
                Ok(Written::Stalled) => {
                    baton.turn.tick(now);
                    if !on_stall() {
                        return None;
                    }
                }
                Err(error) => break error.at_broker(self.broker),
            }
        };
        self.lost(baton, error, Instant::now());
        None
    }

    fn lost(&self, baton: &mut Baton, error: Error, now: Instant) {
        self.disconnect(baton);
        baton.turn.lost(error, now);
    }

    /// Gives the connection up; its reader ends. Answers the generation of the next one.
    pub(crate) fn disconnect(&self, baton: &mut Baton) -> u64 {
        baton.generation += 1;
        baton.unwritten = None;
        baton.connection = None;
        self.hangup.drop_call();
        baton.generation
    }

    /// Before the baton is laid down: whoever sleeps is told what he would miss.
    fn settle(&self, baton: &mut Baton, now: Instant) {
        let mut now = now;
        for _ in 0..3 {
            let Sender::Asleep(until) = self.tell_others(baton) else { return };
            let earlier = match (baton.turn.deadline(now), until) {
                (Some(deadline), Some(until)) => deadline < until,
                (deadline, None) => deadline.is_some(),
                (None, Some(_)) => false,
            };
            if earlier || baton.unwritten.is_some() || baton.turn.needs_its_sender(now) {
                break;
            }
            if self.mailbox.settle(until, baton.turn.wakeful(now), baton.turn.hold_end(), &baton.notices) {
                return;
            }
            // Somebody has left word meanwhile.
            now = self.go_on(baton, now);
        }
        baton.sender = Sender::Awake;
        self.mailbox.ring();
    }

    /// [`settle`](Self::settle) for a thread that reads the answer itself, and looks at the clock for the sender.
    fn settle_leading(&self, baton: &mut Baton, now: Instant) {
        let Sender::Asleep(until) = self.tell_others(baton) else { return };
        if baton.unwritten.is_some()
            || baton.turn.needs_its_sender(now)
            || !self.mailbox.settle(until, baton.turn.wakeful(now), None, &baton.notices)
        {
            baton.sender = Sender::Awake;
            self.mailbox.ring();
        }
    }

    /// Hints for threads without the baton.
    fn tell_others(&self, baton: &Baton) -> Sender {
        self.engaged.store(baton.turn.in_flight() > 0, Ordering::Relaxed);
        self.mailbox.set_stalled(baton.turn.is_stalled());
        baton.sender
    }

    /// Lays the baton down for as long as there is nothing to do: the time at which the sender is to wake by itself.
    /// False if there is something after all. *Thread*: sender.
    pub(crate) fn rest(&self, mut baton: Driver<'_>) -> Option<Option<Instant>> {
        let now = Instant::now();
        let (until, held_until) = if self.led.load(Ordering::SeqCst) {
            (baton.turn.deadline_of_answered(), None)
        } else {
            (baton.turn.deadline(now), baton.turn.hold_end())
        };
        let until = [until, self.mailbox.rung_for(now)].into_iter().flatten().min();
        self.tell_others(&baton);
        self.mailbox.settle(until, baton.turn.wakeful(now), held_until, &baton.notices).then(|| {
            baton.sender = Sender::Asleep(until);
            until
        })
    }
}

/// Who holds the baton. If he panics with it in his hand, nobody knows what the turn's state is worth, and the sender
/// is told.
pub(crate) struct Driver<'a> {
    mailbox: &'a Mailbox,
    baton: MutexGuard<'a, Baton>,
    /// A caller may be unwinding already, for a reason of its own.
    unwinding: bool,
    /// The last field: what was held back is logged when the baton is laid down.
    _quiet: Quiet,
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        if !self.unwinding && thread::panicking() {
            drop(self.mailbox.post(Event::Panicked));
        }
    }
}

impl Deref for Driver<'_> {
    type Target = Baton;

    fn deref(&self) -> &Baton {
        &self.baton
    }
}

impl DerefMut for Driver<'_> {
    fn deref_mut(&mut self) -> &mut Baton {
        &mut self.baton
    }
}

impl Baton {
    /// By when the next answer on the connection of this generation is due, if one is.
    fn answer_due(&self, generation: u64) -> Option<Instant> {
        if generation == self.generation { self.turn.answer_due() } else { None }
    }

    /// Whether nothing was sent or answered for a while.
    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.turn.last_used()) > LOOK_AFTER
    }

    /// Whether there is something to send and a look shows that the connection is closed; nobody reads it while no
    /// answer is due.
    fn is_closed_by_the_broker(&self, now: Instant) -> bool {
        let Some(connection) = &self.connection else { return false };
        let alone = self.turn.in_flight() == 0 && self.turn.is_stalled();
        // With acks=0 a broker can refuse only by closing the connection: a look is the one way to see it, and what is
        // written afterwards is lost.
        alone && (self.is_idle(now) || !self.turn.is_answered()) && is_stale(connection.write.stream())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.read.close();
    }
}

/// A waiting thread's turn at reading. However it ends, the reading half goes back with what is due.
struct Lead<'a> {
    link: &'a Link,
    generation: u64,
    read: Arc<ReadHalf>,
    input: Option<FrameInput>,
    due: Instant,
    until: Instant,
    /// By how much that may be passed.
    slack: Duration,
}

/// Until when a thread may read for an answer that is due by `due`, and by how much it may be late: it does what the
/// turn has to do at a certain time, and must not outstay its own time.
fn patience(turn: &Turn, due: Instant, until: Option<Instant>) -> (Instant, Duration) {
    let strict = [until, turn.deadline_of_answered()].into_iter().flatten().fold(due, Instant::min);
    match turn.hold_end() {
        Some(end) if end + HOLD_SLACK < strict => (end, HOLD_SLACK),
        Some(end) => (strict.min(end), Duration::ZERO),
        None => (strict, Duration::ZERO),
    }
}

impl Lead<'_> {
    /// Reads the answer, unless the thread's time runs out before.
    fn finish(mut self) {
        let link = self.link;
        let Some(input) = &mut self.input else { return };
        let answer = if self.until < self.due {
            match input.next_before(self.until, self.slack) {
                Ok(Some(frame)) => Ok(frame),
                // The reader reads on, and the sender looks at the clock.
                Ok(None) => return,
                Err(error) => Err(error),
            }
        } else {
            input.next(self.due)
        };
        // Another driver may write for long; a thread that cannot wait for it leaves the answer to the reader.
        let Some(baton) = link.baton.try_lock_until(self.until) else {
            // After an error the reader finds the same.
            if let Ok(frame) = answer {
                input.put_back(frame);
            }
            return;
        };
        let mut baton = link.driver(baton);
        link.led.store(false, Ordering::SeqCst);
        let now = link.take_answer(&mut baton, self.generation, answer);
        if let Some(input) = self.input.take() {
            self.read.give(input, baton.answer_due(self.generation));
        }
        link.settle(&mut baton, now);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.read.give(input, Some(self.due));
            // The sender looks at the clock again.
            self.link.led.store(false, Ordering::SeqCst);
            self.link.mailbox.ring();
        }
    }
}

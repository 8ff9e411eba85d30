//! The traits of the parts of a link. [`wiring`](super::wiring) implements them for the real parts,
//! `tests/interleavings/handover.rs` for others.

use std::time::{Duration, Instant};

use super::sync::Receiver;
use super::wake_up::WakeOn;

/// The types of a link's parts.
pub(crate) trait LinkParts {
    type Turn: Machine;
    type Output: Output<Self::Turn>;
    type Input: Input<Self::Turn>;
    type Inbox: WakeSender<<Self::Turn as Machine>::Notice>;
    type Hangup: Dial;
}

/// Decides what is sent and what an answer means: the broker's [`Turn`](super::turn::Turn), where the methods of the
/// same names are explained.
pub(crate) trait Machine {
    type Notice;
    type Answer;
    type Error;
    type Actions;

    fn connected(&mut self, version: i16, now: Instant);
    fn lost(&mut self, error: Self::Error, now: Instant);
    fn answered(&mut self, answer: Self::Answer, now: Instant) -> Result<(), Self::Error>;
    fn notice(&mut self, notice: &Self::Notice);
    fn tick(&mut self, now: Instant);
    fn idled(&mut self);
    /// The broker has closed the connection while nothing was sent on it.
    fn closed_while_idle(&mut self, now: Instant);
    fn next_request(&mut self, now: Instant) -> bool;
    /// The size of the request that was built last, and by when it is to be answered.
    fn request(&self) -> Option<(usize, Instant)>;
    /// Nothing can be sent, because the socket takes nothing.
    fn stalled(&mut self);
    fn written(&mut self, now: Instant) -> bool;
    /// `None`: nothing is to be done.
    fn take_actions(&mut self) -> Option<Self::Actions>;
    fn answer_due(&self) -> Option<Instant>;
    fn in_flight(&self) -> usize;
    fn max_in_flight(&self) -> usize;
    fn is_answered(&self) -> bool;
    fn is_ready_for_one(&self) -> bool;
    fn is_stalled(&self) -> bool;
    fn is_unused(&self) -> bool;
    fn is_deserted(&self) -> bool;
    fn needs_its_sender(&self, now: Instant) -> bool;
    /// `None`: there is no connection.
    fn last_used(&self) -> Option<Instant>;
    fn hold_end(&self) -> Option<Instant>;
    fn deadline(&self, now: Instant) -> Option<Instant>;
    fn deadline_of_answered(&self) -> Option<Instant>;
    fn wake_on(&self, now: Instant) -> WakeOn;
    /// The error for a failure that the link itself detects.
    fn failure(&self, failure: LinkFailure) -> Self::Error;
}

/// A failure of a connection that the link itself detects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkFailure {
    /// The broker closed it while no answer was due.
    ClosedByTheBroker,
    /// The broker did not take the last request in time.
    NotTaken,
    /// There is no connection, although a request was built for it: a fault of this crate.
    Missing,
}

/// The writing half of a connection.
pub(crate) trait Output<M: Machine> {
    /// Writes the request that was built last, and adds to `done` the bytes that the stream takes. True when all is
    /// written and the stream is flushed.
    ///
    /// *Blocks* for a moment.
    fn write(&self, turn: &M, done: &mut usize) -> Result<bool, M::Error>;
    /// Copies a piece of that request into `piece`, from byte `done` on.
    fn copy(&self, turn: &M, done: usize, piece: &mut Vec<u8>);
    /// Writes what it can of a piece, which begins at byte `done` of `total`, and adds to `done` the bytes that the
    /// stream takes. True when all is written and the stream is flushed. The piece may be empty while the stream is
    /// still to be flushed.
    ///
    /// *Blocks* until all is written, or for a while where the other side takes nothing.
    fn push(&self, piece: &[u8], total: usize, done: &mut usize) -> Result<bool, M::Error>;
    /// Whether the other side has closed the connection, from which no thread reads now.
    fn is_stale(&self) -> bool;
    /// Ends the connection, as dropping it does. A thread that blocks on it returns.
    fn break_off(&self);
}

/// The reading half of a connection.
pub(crate) trait Input<M: Machine> {
    /// The next answer. *Blocks* until `deadline`.
    fn next(&mut self, deadline: Instant) -> Result<M::Answer, M::Error>;
    /// The next answer, if it comes before `until`, or up to `slack` later.
    fn next_before(&mut self, until: Instant, slack: Duration) -> Result<Option<M::Answer>, M::Error>;
    /// Keeps this answer for the next call.
    fn put_back(&mut self, answer: M::Answer);
}

/// How the sender is told and woken: its [`Inbox`](super::inbox::Inbox).
pub(crate) trait WakeSender<N> {
    fn arm(&self, until: Option<Instant>, wake_on: WakeOn, held_until: Option<Instant>, notices: &Receiver<N>) -> bool;
    fn set_awake(&self);
    fn wake(&self);
    fn woken_for(&self, now: Instant) -> Option<Instant>;
    fn set_stalled(&self, stalled: bool);
    /// A driver has panicked.
    fn panicked(&self);
}

/// Breaks off connecting.
pub(crate) trait Dial {
    /// Ends the connection, or the attempt to make one.
    fn drop_call(&self);
}

/// What the sender does besides driving the link.
pub(crate) trait Shell<M: Machine> {
    type Event;
    type Exit;

    /// An event, if there is one.
    fn event(&mut self) -> Option<Self::Event>;
    /// *Blocks* until an event comes, at most until `until` (for ever without one).
    fn wait(&mut self, until: Option<Instant>) -> Option<Self::Event>;
    /// Passes the event to the turn. `Some` ends the sender.
    fn tell(&mut self, turn: &mut M, event: Self::Event) -> Option<Self::Exit>;
    /// Carries out the turn's actions, without the baton.
    fn act(&mut self, actions: M::Actions);
    /// Ends the sender, which has no partition any more, unless it is still needed. `Some`: it ends.
    fn retire(&mut self) -> Option<Self::Exit>;
}

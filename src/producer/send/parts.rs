//! What a link needs of what it is made of. [`wiring`](super::wiring) has the real parts, `tests/interleavings/handover.rs` others.

use std::time::{Duration, Instant};

use super::sync::Receiver;
use super::wake_up::WakeOn;

/// What a link is made of.
pub(crate) trait LinkParts {
    type Turn: Machine;
    type Output: Output<Self::Turn>;
    type Input: Input<Self::Turn>;
    type Inbox: WakeSender<<Self::Turn as Machine>::Notice>;
    type Hangup: Dial;
}

/// What decides what is sent and what an answer means: the broker's [`Turn`](super::turn::Turn), whose methods of the
/// same names say more.
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
    /// A look shows that the broker has closed the connection while nothing was sent on it.
    fn closed_while_idle(&mut self, now: Instant);
    fn next_request(&mut self, now: Instant) -> bool;
    /// How long the request is that was built last, and by when it is to be answered.
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
    /// The error for what the link itself finds out.
    fn failure(&self, failure: LinkFailure) -> Self::Error;
}

/// What the link itself finds out about a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkFailure {
    /// The broker closed it while no answer was due.
    ClosedByTheBroker,
    /// The broker did not take the last request in time.
    NotTaken,
    /// There is none, though a request was built for it: a fault of this crate.
    Missing,
}

/// The writing half of a connection.
pub(crate) trait Output<M: Machine> {
    /// Writes the request that was built last, and counts in `done` what the stream takes of it. True when that is all of it
    /// and the stream is flushed.
    ///
    /// *Blocks* for a moment.
    fn write(&self, turn: &M, done: &mut usize) -> Result<bool, M::Error>;
    /// Copies a piece of that request, from `done` on.
    fn copy(&self, turn: &M, done: usize, piece: &mut Vec<u8>);
    /// Writes what it can of a piece, which comes behind the first `done` of `total` bytes, and counts there what the stream
    /// takes. True when that is all of it and the stream is flushed; before, the piece may be empty.
    ///
    /// *Blocks* until all is written, or for a while where the other side takes nothing.
    fn push(&self, piece: &[u8], total: usize, done: &mut usize) -> Result<bool, M::Error>;
    /// Whether the other side has closed the connection, of which nobody reads.
    fn is_stale(&self) -> bool;
    /// Ends the connection, as dropping it does; who blocks on it returns.
    fn break_off(&self);
}

/// The reading half of a connection.
pub(crate) trait Input<M: Machine> {
    /// The next answer. *Blocks* until `deadline`.
    fn next(&mut self, deadline: Instant) -> Result<M::Answer, M::Error>;
    /// The next answer, if it comes before `until`, or so much later.
    fn next_before(&mut self, until: Instant, slack: Duration) -> Result<Option<M::Answer>, M::Error>;
    /// Has the next call give this answer.
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

/// What makes connections.
pub(crate) trait Dial {
    /// Breaks off the one that there is, or that is being made.
    fn drop_call(&self);
}

/// What the sender does besides driving.
pub(crate) trait Shell<M: Machine> {
    type Event;
    type Exit;

    /// An event, if there is one.
    fn event(&mut self) -> Option<Self::Event>;
    /// *Blocks* until an event comes, at most until `until` (for ever without one).
    fn wait(&mut self, until: Option<Instant>) -> Option<Self::Event>;
    /// Tells the turn. An answer ends the sender.
    fn tell(&mut self, turn: &mut M, event: Self::Event) -> Option<Self::Exit>;
    /// Does what the turn asks for, without the baton.
    fn act(&mut self, actions: M::Actions);
    /// Ends the sender, which has no partition any more, unless it is still wanted.
    fn retire(&mut self) -> Option<Self::Exit>;
}

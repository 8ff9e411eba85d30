//! The real parts of a broker's link: the turn, the halves of the connection, the inbox.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::inbox::{Inbox, SenderEvent};
use super::link::Link;
use super::parts::{Dial, Input, LinkFailure, LinkParts, Machine, Output, WakeSender};
use super::turn::{Action, Turn};
use super::wake_up::WakeOn;
use crate::bytes::SharedBytes;
use crate::error::{Error, Result, Timeout};
use crate::net::Hangup;
use crate::net::frames::FrameInput;
use crate::net::pipeline::{WriteHalf, WriteProgress};
use crate::producer::buffer::partition::{Due, Partition, QueueOwner};

/// A broker's link.
pub(crate) type BrokerLink = Link<Wiring>;

/// The real types of a link's parts.
pub(crate) struct Wiring;

impl LinkParts for Wiring {
    type Turn = Turn;
    type Output = WriteHalf;
    type Input = FrameInput;
    type Inbox = Inbox;
    type Hangup = Hangup;
}

impl Machine for Turn {
    type Notice = Arc<Partition>;
    type Answer = SharedBytes;
    type Error = Error;
    type Actions = VecDeque<Action>;

    fn connected(&mut self, version: i16, now: Instant) {
        self.connected(version, now);
    }

    fn lost(&mut self, error: Error, now: Instant) {
        self.lost(error, now);
    }

    fn answered(&mut self, answer: SharedBytes, now: Instant) -> Result<()> {
        self.answered(answer, now)
    }

    fn notice(&mut self, notice: &Arc<Partition>) {
        self.notice(notice);
    }

    fn tick(&mut self, now: Instant) {
        self.tick(now);
    }

    fn idled(&mut self) {
        self.idled();
    }

    fn closed_while_idle(&mut self, now: Instant) {
        self.closed_while_idle(now);
    }

    fn next_request(&mut self, now: Instant) -> bool {
        self.next_request(now)
    }

    fn request(&self) -> Option<(usize, Instant)> {
        self.built_request().map(|(_, deadline)| (self.request_len(), deadline))
    }

    fn stalled(&mut self) {
        self.stalled();
    }

    fn written(&mut self, now: Instant) -> bool {
        self.written(now)
    }

    fn take_actions(&mut self) -> Option<VecDeque<Action>> {
        Some(self.take_actions()).filter(|actions| !actions.is_empty())
    }

    fn answer_due(&self) -> Option<Instant> {
        self.answer_due()
    }

    fn in_flight(&self) -> usize {
        self.in_flight()
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight()
    }

    fn is_answered(&self) -> bool {
        self.is_answered()
    }

    fn is_ready_for_one(&self) -> bool {
        self.is_ready_for_one()
    }

    fn is_stalled(&self) -> bool {
        self.is_stalled()
    }

    fn is_unused(&self) -> bool {
        self.is_unused() || self.is_left()
    }

    fn is_deserted(&self) -> bool {
        self.is_deserted()
    }

    fn needs_its_sender(&self, now: Instant) -> bool {
        self.needs_its_sender(now)
    }

    fn last_used(&self) -> Option<Instant> {
        self.last_used()
    }

    fn hold_end(&self) -> Option<Instant> {
        self.hold_end()
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        self.deadline(now)
    }

    fn deadline_of_answered(&self) -> Option<Instant> {
        self.deadline_of_answered()
    }

    fn wake_on(&self, now: Instant) -> WakeOn {
        self.wake_on(now)
    }

    fn failure(&self, failure: LinkFailure) -> Error {
        match failure {
            LinkFailure::ClosedByTheBroker => Error::network("the broker had closed the connection"),
            LinkFailure::NotTaken => {
                let correlation = self.built_request().map_or(-1, |(correlation, _)| correlation);
                let text = format!("the broker did not take request {correlation} in time");
                Error::timeout(Timeout::Request, text)
            }
            LinkFailure::Missing => Error::bug("a request was built without a connection"),
        }
    }
}

impl Output<Turn> for WriteHalf {
    fn write(&self, turn: &Turn, done: &mut usize) -> Result<bool> {
        Ok(self.write(turn.parts(), turn.request_len(), done)? == WriteProgress::All)
    }

    fn copy(&self, turn: &Turn, done: usize, piece: &mut Vec<u8>) {
        Self::copy(turn.parts(), done, piece);
    }

    fn push(&self, piece: &[u8], total: usize, done: &mut usize) -> Result<bool> {
        Ok(self.push(piece, total, done)? == WriteProgress::All)
    }

    fn is_stale(&self) -> bool {
        self.is_stale()
    }

    fn break_off(&self) {
        self.break_off();
    }
}

impl Input<Turn> for FrameInput {
    fn next(&mut self, deadline: Instant) -> Result<SharedBytes> {
        self.next(deadline)
    }

    fn next_before(&mut self, until: Instant, slack: Duration) -> Result<Option<SharedBytes>> {
        self.next_before(until, slack)
    }

    fn put_back(&mut self, answer: SharedBytes) {
        self.put_back(answer);
    }
}

impl WakeSender<Arc<Partition>> for Inbox {
    fn arm(
        &self,
        until: Option<Instant>,
        wake_on: WakeOn,
        held_until: Option<Instant>,
        notices: &Receiver<Arc<Partition>>,
    ) -> bool {
        self.arm(until, wake_on, held_until, notices)
    }

    fn set_awake(&self) {
        self.set_awake();
    }

    fn wake(&self) {
        self.wake();
    }

    fn woken_for(&self, now: Instant) -> Option<Instant> {
        self.woken_for(now)
    }

    fn set_stalled(&self, stalled: bool) {
        self.set_stalled(stalled);
    }

    fn panicked(&self) {
        // A sender that has ended needs no telling.
        drop(self.post(SenderEvent::Panicked));
    }
}

impl Dial for Hangup {
    fn drop_call(&self) {
        self.drop_call();
    }
}

/// The link as the owner of queues. It has a weak pointer, because partitions have their owner, and the link has queues
/// with their partitions: a strong one would be a cycle.
pub(crate) struct BrokerOwner {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) link: Weak<BrokerLink>,
}

impl QueueOwner for BrokerOwner {
    fn notice(&self, partition: Arc<Partition>, due: Instant, full: bool) {
        self.inbox.notice(partition, due, full);
    }

    fn drive_or_notice(&self, partition: &Arc<Partition>, due: Due, until: Option<Instant>) {
        let link = self.link.upgrade();
        if !link.is_some_and(|link| link.drive_until_answered(partition, due.at, until)) && !due.known {
            self.inbox.notice(Arc::clone(partition), due.at, false);
        }
    }
}

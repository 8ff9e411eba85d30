//! When a partition is looked at again: the list of partitions that are ready, and the timers.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Action, BatchInRequest, ConnectionState, Scheduled, Turn, unanswered_for};
use crate::logging::debug;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::PartitionId;
use crate::topic::BrokerId;

impl Turn {
    /// Does what is due by `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(&(then, id)) = self.timers.first() {
            if then > now {
                break;
            }
            self.timers.pop_first();
            if let Some(scheduled) = self.queues.get_mut(&id) {
                scheduled.timer = None;
                let expired = scheduled.queue.take_expired(now);
                if !expired.is_empty() {
                    self.fail_expired(id, expired, now);
                }
            }
            self.attend_to(id);
        }
        self.expire_in_flight(now);
        if let Some(up) = self.up_mut().filter(|up| up.muted_until.is_some_and(|until| until <= now)) {
            up.muted_until = None;
        }
        if self.idle_deadline().is_some_and(|then| then <= now) {
            self.actions.push_back(Action::Disconnect);
        }
    }

    fn fail_expired(&mut self, id: PartitionId, expired: VecDeque<Box<Batch>>, now: Instant) {
        let why = self.obstacle(now).or_else(|| self.common.identity.obstacle());
        if let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) {
            queue.fail_expired(expired, why.as_ref(), &self.common);
        }
    }

    /// Fails the records of batches in flight whose delivery deadline has passed. Only expired batches are looked at: a
    /// request's batches are sorted by deadline once, when the first of them expires.
    fn expire_in_flight(&mut self, now: Instant) {
        let ConnectionState::Up(up) = &mut self.connection else { return };
        if up.expires.is_none_or(|then| then > now) {
            return;
        }
        for request in up.in_flight.iter_mut().filter(|request| request.expires.is_some_and(|then| then <= now)) {
            let silence = unanswered_for(request, now).at_broker(self.broker);
            let silence = silence.in_context(|context| context.address.clone_from(&self.address));
            if request.expiring.is_empty() {
                request.expiring = by_deadline(&request.batches);
            }
            while let Some((_, position)) = request.expiring.pop_if(|(then, _)| *then <= now) {
                let Some(in_request) = request.batches.get_mut(position) else { continue };
                let batch = in_request.batch.as_mut().filter(|batch| !batch.is_finished());
                if let (Some(batch), Some(scheduled)) = (batch, self.queues.get_mut(&in_request.id)) {
                    scheduled.queue.expire_in_flight(batch, &silence, &self.common.counters);
                }
            }
            request.expires = request.expiring.last().map(|(then, _)| *then);
        }
        up.expires = up.in_flight.iter().filter_map(|request| request.expires).min();
    }

    /// Has the partition looked at when the next request is built. False if it was listed before, or this turn does not
    /// have it.
    pub(super) fn list(&mut self, id: PartitionId) -> bool {
        let newly = self.queues.get_mut(&id).is_some_and(|scheduled| !std::mem::replace(&mut scheduled.listed, true));
        if newly {
            self.ready.push_back(id);
            self.fresh.push(id);
        }
        newly
    }

    /// Has the partition looked at when its earliest batch expires.
    pub(super) fn watch(&mut self, id: PartitionId) {
        self.watch_until(id, None);
    }

    /// Has the partition looked at at the time `then`, or when its earliest batch expires.
    pub(super) fn watch_until(&mut self, id: PartitionId, then: Option<Instant>) {
        let Some(scheduled) = self.queues.get_mut(&id) else { return };
        let wanted = [then, scheduled.queue.earliest_deadline()].into_iter().flatten().min();
        if scheduled.timer != wanted {
            if let Some(old) = scheduled.timer.take() {
                self.timers.remove(&(old, id));
            }
            if let Some(wanted) = wanted {
                self.timers.insert((wanted, id));
            }
            scheduled.timer = wanted;
        }
    }

    /// Has the partition looked at when the next request is built, and when its earliest batch expires; or moves it to
    /// the broker that leads it.
    pub(super) fn attend_to(&mut self, id: PartitionId) {
        if !self.move_if_led_elsewhere(id) {
            self.list(id);
            self.watch(id);
        }
    }

    /// Hands the queue over if another broker leads the partition and none of its batches is in flight. That must not
    /// wait until this link can send again: a throttle may last an hour, and it does not concern the new leader. True
    /// if the queue was handed over.
    pub(super) fn move_if_led_elsewhere(&mut self, id: PartitionId) -> bool {
        let leader = self.queues.get(&id).and_then(|scheduled| scheduled.queue.moves_from(self.broker));
        let Some(leader) = leader else { return false };
        self.hand_over(id, leader);
        true
    }

    pub(super) fn hand_over(&mut self, id: PartitionId, leader: BrokerId) {
        if let Some(Scheduled { queue, timer, listed }) = self.queues.remove(&id) {
            if listed {
                // A partition in `ready` means that this broker does not take its batches. Moreover, if the queue came
                // back, it would be listed twice, and two of its batches would get into one request.
                self.ready.retain(|listed| *listed != id);
            }
            if let Some(timer) = timer {
                self.timers.remove(&(timer, id));
            }
            debug!("{}: moves from broker {} to broker {leader}", queue.name(), self.broker);
            self.actions.push_back(Action::Move(Box::new(queue), leader));
        }
    }

    /// Nothing can be sent for a while, because the socket takes no bytes: partitions that another broker leads are
    /// moved to it.
    pub(crate) fn stalled(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(scheduled) = self.queues.get_mut(&id) else { continue };
            match scheduled.queue.moves_from(self.broker) {
                Some(leader) => {
                    scheduled.listed = false;
                    self.hand_over(id, leader);
                }
                None => self.ready.push_back(id),
            }
        }
    }

    /// When to call [`tick`](Self::tick) although nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // When the hold is over, only an answer can change anything.
        let hold = self.hold_end().filter(|end| !self.ready.is_empty() && *end > now);
        [self.deadline_of_answered(), hold].into_iter().flatten().min()
    }

    /// [`deadline`](Self::deadline) without the end of a hold.
    pub(crate) fn deadline_of_answered(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(then, _)| *then);
        let is_listed = !self.ready.is_empty();
        let (expires, other) = match &self.connection {
            ConnectionState::Down { not_before, .. } => (None, not_before.filter(|_| is_listed)),
            ConnectionState::Connecting { .. } => (None, None),
            ConnectionState::Up(up) if is_listed => (up.expires, up.muted_until),
            ConnectionState::Up(up) => (up.expires, self.idle_deadline()),
        };
        [timer, expires, other].into_iter().flatten().min()
    }

    /// Whether there is a connection with nothing in flight and nothing to send.
    pub(crate) fn is_unused(&self) -> bool {
        self.up().is_some_and(|up| up.in_flight.is_empty()) && self.ready.is_empty()
    }

    /// When the unused connection is to be closed.
    fn idle_deadline(&self) -> Option<Instant> {
        let up = self.up().filter(|_| self.is_unused())?;
        Some(crate::time::deadline(up.last_used, self.rules.connections_max_idle))
    }
}

/// The positions of the batches, sorted by delivery deadline, the earliest last.
fn by_deadline(batches: &[BatchInRequest]) -> Vec<(Instant, usize)> {
    let batches = batches.iter().enumerate();
    let mut positions: Vec<_> =
        batches.filter_map(|(position, in_request)| Some((in_request.batch.as_ref()?.deadline(), position))).collect();
    positions.sort_unstable_by(|one, other| other.cmp(one));
    positions
}

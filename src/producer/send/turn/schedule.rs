//! When a partition is looked at again: the list of those that are ready, and the timers.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Action, Entry, InFlight, Link, Turn, unanswered_for};
use crate::logging::debug;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::PartitionId;
use crate::producer::metrics::add;
use crate::topic::BrokerId;

impl Turn {
    /// Times that have come.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(&(then, id)) = self.timers.first() {
            if then > now {
                break;
            }
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.timer = None;
                let expired = queue.take_expired(now);
                if !expired.is_empty() {
                    self.fail_expired(id, expired, now);
                }
            }
            self.expire_in_flight(id, now);
            self.attend_to(id);
        }
        if self.muted_until.is_some_and(|until| until <= now) {
            self.muted_until = None;
        }
        if self.is_unused() && self.idle_deadline() <= now {
            self.actions.push_back(Action::Disconnect);
        }
    }

    pub(super) fn fail_expired(&mut self, id: PartitionId, expired: VecDeque<Box<Batch>>, now: Instant) {
        let why = self.obstacle(now).or_else(|| self.common.identity.obstacle());
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.fail_expired(expired, why.as_ref());
            self.common.counters.count(&mut queue.failed);
            queue.may_forget(&self.common.obstacles);
        }
    }

    pub(super) fn expire_in_flight(&mut self, id: PartitionId, now: Instant) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.in_flight_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for request in &mut self.in_flight {
            let silence = |request: &InFlight| {
                let error = unanswered_for(request, now).at_broker(self.broker);
                error.in_context(|context| context.address.clone_from(&self.address))
            };
            let due = |batch: &Batch| !batch.is_finished() && batch.deadline() <= now;
            let is_due = |entry: &Entry| entry.id == id && entry.batch.as_deref().is_some_and(due);
            let silence = request.entries.iter().any(is_due).then(|| silence(request));
            for entry in request.entries.iter_mut().filter(|entry| entry.id == id) {
                let Some(batch) = entry.batch.as_mut().filter(|batch| !batch.is_finished()) else { continue };
                if batch.deadline() <= now {
                    add(&self.common.counters.records_failed, u64::from(batch.count()));
                    add(&self.common.counters.batches_expired, 1);
                    batch.maybe_written = true;
                    batch.expire(queue.partition.name(), true, silence.as_ref());
                } else {
                    next = Some(next.map_or(batch.deadline(), |other| other.min(batch.deadline())));
                }
            }
        }
        queue.in_flight_deadline = next;
    }

    /// Has the partition looked at when the next request is built. False if that was so before, or it is not here.
    pub(super) fn list(&mut self, id: PartitionId) -> bool {
        let newly = self.queues.get_mut(&id).is_some_and(|queue| !std::mem::replace(&mut queue.listed, true));
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

    /// Has the partition looked at then, or when its earliest batch expires.
    pub(super) fn watch_until(&mut self, id: PartitionId, then: Option<Instant>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let wanted = [then, queue.earliest_deadline()].into_iter().flatten().min();
        if queue.timer != wanted {
            if let Some(old) = queue.timer.take() {
                self.timers.remove(&(old, id));
            }
            if let Some(wanted) = wanted {
                self.timers.insert((wanted, id));
            }
            queue.timer = wanted;
        }
    }

    /// Has the partition looked at when the next request is built, and when its earliest batch expires; one that
    /// another broker leads goes there.
    pub(super) fn attend_to(&mut self, id: PartitionId) {
        if !self.move_if_led_elsewhere(id) {
            self.list(id);
            self.watch(id);
        }
    }

    /// Hands the queue over if another broker leads the partition and nothing of it is in flight. It does not wait until
    /// this link can send again: a throttle may last an hour, and the new leader does not ask for it. True if it goes.
    pub(super) fn move_if_led_elsewhere(&mut self, id: PartitionId) -> bool {
        let idle = self.queues.get(&id).filter(|queue| queue.in_flight == 0);
        let Some(leader) = idle.and_then(|queue| queue.leader).filter(|leader| *leader != self.broker) else {
            return false;
        };
        self.hand_over(id, leader);
        true
    }

    pub(super) fn hand_over(&mut self, id: PartitionId, leader: BrokerId) {
        if let Some(queue) = self.queues.remove(&id) {
            if queue.listed {
                // What stands there says that this broker does not take what there is for it. And should it come back, it
                // would be listed twice, and give two batches to one request.
                self.ready.retain(|listed| *listed != id);
            }
            if let Some(timer) = queue.timer {
                self.timers.remove(&(timer, id));
            }
            debug!("{}: moves from broker {} to broker {leader}", queue.partition.name(), self.broker);
            self.actions.push_back(Action::Move(Box::new(queue), leader));
        }
    }

    /// Nothing can be sent for a while, because the socket takes nothing: partitions that another broker leads go there.
    pub(crate) fn stalled(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            match queue.leader {
                Some(leader) if leader != self.broker && queue.in_flight == 0 => {
                    queue.listed = false;
                    self.hand_over(id, leader);
                }
                _ => self.ready.push_back(id),
            }
        }
    }

    /// When to call [`tick`](Self::tick) although nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        // When it is over, only an answer can change anything.
        let hold = self.hold_end().filter(|end| !self.ready.is_empty() && *end > now);
        [self.deadline_of_answered(), hold].into_iter().flatten().min()
    }

    /// [`deadline`](Self::deadline) without what only waits for an answer.
    pub(crate) fn deadline_of_answered(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(then, _)| *then);
        let link = match self.link {
            Link::Down { not_before, .. } if !self.ready.is_empty() => not_before,
            Link::Up { .. } if self.is_unused() => Some(self.idle_deadline()),
            _ => None,
        };
        let mute = if self.ready.is_empty() { None } else { self.muted_until };
        [timer, link, mute].into_iter().flatten().min()
    }

    /// Whether there is a connection, and nothing to be done on it.
    pub(crate) fn is_unused(&self) -> bool {
        matches!(self.link, Link::Up { .. }) && self.in_flight.is_empty() && self.ready.is_empty()
    }

    pub(super) fn idle_deadline(&self) -> Instant {
        crate::time::deadline(self.last_used, self.rules.connections_max_idle)
    }
}

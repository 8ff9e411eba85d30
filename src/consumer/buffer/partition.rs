//! One partition of a consumer: where it is read, and what of it waits to be read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::batch::{Batch, Limits, with_decompressor};
use super::budget::{Bell, Budget};
use super::gate::Marks;
use super::reading::{Place, Reading, Stamp, Want};
use super::ready::Ready;
use super::share::{Damage, Share};
use crate::consumer::start::Start;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::logging::Quiet;
use crate::protocol::wire::Uuid;
use crate::topic::{BrokerId, IsolationLevel, TopicPartition};

/// Who fetches a partition. *Lock order*: what it locks comes after the partition's lock.
pub(crate) trait Home: Bell {
    /// Something about the partition has changed that its fetches depend on.
    fn changed(&self, partition: Arc<Partition>);
    /// [`changed`](Self::changed), and it is not urgent.
    fn keep(&self, partition: Arc<Partition>);
    fn broker(&self) -> BrokerId;
}

/// What the metadata says of a partition.
#[derive(Clone)]
pub(crate) struct Leadership {
    pub(crate) home: Arc<dyn Home>,
    pub(crate) leader_epoch: i32,
    /// Zero where topics have none.
    pub(crate) topic_id: Uuid,
}

/// How far a partition's log reaches, as its leader said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) last_stable: Option<i64>,
    pub(crate) high_watermark: Option<i64>,
}

/// A partition that a consumer reads.
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) budget: Arc<Budget>,
    limits: Limits,
    ready: Arc<Ready>,
    /// The reading epoch, for a look without the lock.
    epoch: AtomicU64,
    state: Mutex<State>,
}

/// *Lock*: held for moments, never while anything is read, decoded or sent.
struct State {
    reading: Reading,
    queue: VecDeque<Item>,
    /// Whether it is in the ready list, or in the hands of who polls.
    is_ready: bool,
    leadership: Option<Leadership>,
    /// An express asks for it, so its fetcher does not.
    is_express: bool,
    /// The id of the topic that is read, once it is known: another one is another topic.
    topic_id: Uuid,
    ends: Ends,
}

enum Item {
    Share(Share),
    /// A reset: the reading goes on here.
    Jump {
        epoch: u64,
        to: i64,
    },
    Failure {
        epoch: u64,
        error: Error,
        place: Option<(i64, Option<i64>)>,
    },
}

/// What its leader is to be asked for.
pub(crate) struct Ask {
    pub(crate) want: Want,
    pub(crate) epoch: u64,
    pub(crate) leader_epoch: i32,
    pub(crate) topic_id: Uuid,
}

impl Partition {
    pub(crate) fn new(
        name: TopicPartition,
        start: Start,
        marks: Marks,
        budget: &Arc<Budget>,
        ready: &Arc<Ready>,
        limits: Limits,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            budget: Arc::clone(budget),
            limits,
            ready: Arc::clone(ready),
            epoch: AtomicU64::new(0),
            state: Mutex::new(State {
                reading: Reading::new(start, marks),
                queue: VecDeque::new(),
                is_ready: false,
                leadership: None,
                is_express: false,
                topic_id: Uuid::default(),
                ends: Ends::default(),
            }),
        })
    }

    /// Changes its state, and has its fetcher look at it again. What `change` answers is dropped without the lock.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let answer = change(&mut state);
        self.tell_home(state);
        answer
    }

    fn tell_home(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        let home = state.leadership.as_ref().map(|leadership| Arc::clone(&leadership.home));
        drop(state);
        if let Some(home) = home {
            home.changed(Arc::clone(self));
        }
    }

    /// Puts it into the ready list, if it has something for the program.
    fn make_ready(self: &Arc<Self>, state: &mut State) {
        if !state.is_ready && !state.queue.is_empty() && !state.reading.is_paused() {
            state.is_ready = true;
            self.ready.push(Arc::clone(self));
        }
    }
}

/// For whoever polls.
impl Partition {
    /// The next batch to hand out, of about `limit` bytes.
    ///
    /// *Thread*: one at a time, who has taken it from the ready list.
    pub(crate) fn next(self: &Arc<Self>, limit: usize) -> Option<Result<Batch>> {
        loop {
            let mut state = self.state.lock();
            if state.reading.is_paused() {
                state.is_ready = false;
                return None;
            }
            match state.queue.pop_front() {
                None => {
                    state.is_ready = false;
                    return None;
                }
                Some(Item::Failure { epoch, error, place }) => {
                    state.reading.stop(epoch, place);
                    return Some(Err(error));
                }
                Some(Item::Jump { epoch, to }) => state.reading.handed_out(epoch, to),
                Some(Item::Share(share)) => {
                    drop(state);
                    if let Some(given) = self.hand_out(share, limit) {
                        return Some(given);
                    }
                }
            }
        }
    }

    /// Hands a part of a share out, and puts the rest back. `None`: nothing of it is for the program.
    fn hand_out(self: &Arc<Self>, mut share: Share, limit: usize) -> Option<Result<Batch>> {
        let (epoch, before) = (share.epoch, share.len());
        let next = with_decompressor(self.limits.max_decompressed, |decompressor| share.next(limit, decompressor));
        let mut state = self.state.lock();
        if state.reading.epoch() != epoch {
            return None;
        }
        let passed = before - share.len();
        match next {
            Some(Ok(run)) => {
                let gate = &mut state.reading.gate;
                let opened = gate.pass(passed.saturating_sub(run.bytes.len())) | gate.hand_out(run.bytes.len());
                state.reading.handed_out(epoch, run.next);
                state.queue.push_front(Item::Share(share));
                if opened {
                    self.tell_home(state)
                } else {
                    drop(state)
                }
                Some(Ok(Batch::new(Arc::clone(self), epoch, run, self.limits)))
            }
            Some(Err(damage)) => {
                drop(state);
                Some(Err(self.stop_at(epoch, damage)))
            }
            None => {
                state.reading.handed_out(epoch, share.position());
                if state.reading.gate.pass(before) {
                    self.tell_home(state)
                } else {
                    drop(state)
                }
                None
            }
        }
    }

    /// Back into the ready list, if it has more.
    pub(crate) fn give_back(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.is_ready = false;
        self.make_ready(&mut state);
    }

    /// No further batch of this epoch is handed out. Answers the error with its place.
    pub(crate) fn stop_at(self: &Arc<Self>, epoch: u64, damage: Damage) -> Error {
        let Damage { error, offset, next } = damage;
        let error = self.locate(error, offset, next);
        let dropped = self.change(|state| {
            if !state.reading.stop(epoch, Some((offset, next))) {
                return VecDeque::new();
            }
            state.clear()
        });
        drop(dropped);
        // Who waits may wait in vain now.
        self.ready.look();
        error
    }

    fn locate(&self, error: Error, offset: i64, next: Option<i64>) -> Error {
        error.at_partition(&self.name).in_context(|context| {
            (context.offset, context.next_offset) = (Some(offset), next);
        })
    }

    /// A batch was dropped that had so many bytes.
    pub(crate) fn release(self: &Arc<Self>, bytes: usize) {
        let mut state = self.state.lock();
        if state.reading.gate.take_back(bytes) {
            self.tell_home(state);
        }
    }

    /// Whether what was handed out in this reading epoch goes on.
    #[inline]
    pub(crate) fn is_read_in(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch
    }

    pub(crate) fn seek(self: &Arc<Self>, start: Start) {
        let dropped = self.change(|state| {
            state.reading.seek(start);
            self.epoch.store(state.reading.epoch(), Ordering::Release);
            state.clear()
        });
        drop(dropped);
    }

    /// Goes on behind the batch that could not be read. False if it has not stopped at one.
    pub(crate) fn skip(self: &Arc<Self>) -> bool {
        self.change(|state| {
            let Some((offset, next)) = state.reading.stopped_at() else { return false };
            state.reading.seek(Start::Offset(next.unwrap_or_else(|| offset.saturating_add(1))));
            self.epoch.store(state.reading.epoch(), Ordering::Release);
            true
        })
    }

    pub(crate) fn pause(self: &Arc<Self>, is_paused: bool) {
        self.change(|state| {
            state.reading.pause(is_paused);
            self.make_ready(state);
        });
    }

    pub(crate) fn position(&self) -> Option<i64> {
        self.state.lock().reading.position()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        let state = self.state.lock();
        state.reading.is_stopped() && state.queue.is_empty()
    }

    /// Whether nothing more of it is fetched because of what the program holds.
    pub(crate) fn is_held(&self) -> bool {
        let state = self.state.lock();
        state.queue.is_empty() && state.reading.gate.is_closed_by_program()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state.lock().reading.is_paused()
    }

    /// The offset behind the last record that the consumer may see, as its leader said last.
    pub(crate) fn end(&self, isolation: IsolationLevel) -> Option<i64> {
        let ends = self.state.lock().ends;
        match isolation {
            IsolationLevel::Uncommitted => ends.high_watermark,
            IsolationLevel::Committed => ends.last_stable,
        }
    }
}

impl State {
    /// Takes out what is queued, which is no longer held.
    fn clear(&mut self) -> VecDeque<Item> {
        self.reading.gate.clear();
        std::mem::take(&mut self.queue)
    }

    /// Stops behind what is queued. The position stays where the program is.
    fn fail(&mut self, epoch: u64, error: Error, place: Option<(i64, Option<i64>)>) {
        self.reading.stop(epoch, None);
        self.queue.push_back(Item::Failure { epoch, error, place });
    }

    fn ask(&self, home: &Arc<dyn Home>) -> Option<Ask> {
        let leadership = self.leadership.as_ref().filter(|leadership| Arc::ptr_eq(&leadership.home, home))?;
        Some(Ask {
            want: self.reading.wants(),
            epoch: self.reading.epoch(),
            leader_epoch: leadership.leader_epoch,
            topic_id: leadership.topic_id,
        })
    }
}

/// For whoever assigns it to its leader.
impl Partition {
    /// It is led by this broker from now on, or by none.
    ///
    /// *Errors*: where the topic is another one of the same name.
    pub(crate) fn lead(self: &Arc<Self>, leadership: Option<Leadership>) {
        let _quiet = Quiet::begin();
        let mut state = self.state.lock();
        if let Some(new) = &leadership
            && !new.topic_id.is_zero()
        {
            if !state.topic_id.is_zero() && state.topic_id != new.topic_id {
                let text = "the topic was deleted and created anew; its records are others than those that were read \
                            before. Seek to go on with the new topic";
                let error = Error::new(ErrorKind::TopicRecreated, Recovery::Fix, text).at_partition(&self.name);
                let epoch = state.reading.epoch();
                if !state.reading.is_stopped() {
                    state.fail(epoch, error, None);
                    self.make_ready(&mut state);
                }
            }
            state.topic_id = new.topic_id;
        }
        let same = |old: &Leadership, new: &Leadership| {
            Arc::ptr_eq(&old.home, &new.home) && old.leader_epoch == new.leader_epoch && old.topic_id == new.topic_id
        };
        let is_same = match (&state.leadership, &leadership) {
            (Some(old), Some(new)) => same(old, new),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        let old = std::mem::replace(&mut state.leadership, leadership);
        let new = state.leadership.as_ref().map(|leadership| Arc::clone(&leadership.home));
        drop(state);
        for home in old.map(|old| old.home).into_iter().chain(new) {
            home.changed(Arc::clone(self));
        }
    }

    /// Has another share of the memory.
    pub(crate) fn set_marks(self: &Arc<Self>, marks: Marks) {
        let mut state = self.state.lock();
        if state.reading.gate.set_marks(marks) {
            self.tell_home(state);
        }
    }
}

/// For its fetcher.
impl Partition {
    /// What to ask for, by the fetcher of this home; `None` if another one is to ask.
    pub(crate) fn ask(&self, home: &Arc<dyn Home>) -> Option<Ask> {
        let state = self.state.lock();
        let mut ask = state.ask(home)?;
        if state.is_express {
            ask.want = Want::Nothing;
        }
        Some(ask)
    }

    /// What to ask for, by the express of this home. Until [`end_express`](Self::end_express) nobody else asks.
    pub(crate) fn ask_express(&self, home: &Arc<dyn Home>) -> Option<Ask> {
        let mut state = self.state.lock();
        let ask = state.ask(home)?;
        state.is_express |= ask.want != Want::Nothing;
        Some(ask)
    }

    /// The express does not ask for it any more.
    pub(crate) fn end_express(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.is_express = false;
        let home = state.leadership.as_ref().map(|leadership| Arc::clone(&leadership.home));
        drop(state);
        if let Some(home) = home {
            home.keep(Arc::clone(self));
        }
    }

    /// The leader has answered where a place is.
    pub(crate) fn found(self: &Arc<Self>, epoch: u64, offset: i64) {
        self.change(|state| {
            if state.reading.found(epoch, offset) && state.reading.position() != Some(offset) {
                state.queue.push_back(Item::Jump { epoch, to: offset });
                self.make_ready(state);
            }
        });
    }

    /// There is no such place.
    pub(crate) fn look_elsewhere(self: &Arc<Self>, epoch: u64, start: Start) {
        self.change(|state| state.reading.look_elsewhere(epoch, start));
    }

    /// The leader has told how far the log reaches.
    pub(crate) fn set_ends(&self, ends: Ends) {
        self.state.lock().ends = ends;
    }

    /// A share has come, if it still counts.
    pub(crate) fn receive(self: &Arc<Self>, stamp: Stamp, share: Share, next: Place) {
        let bytes = share.len();
        let late = self.change(|state| {
            if !state.reading.received(stamp, next, bytes) {
                return Some(share);
            }
            state.queue.push_back(Item::Share(share));
            self.make_ready(state);
            None
        });
        drop(late);
    }

    /// The leader does not have the offset. `start`: where to go on.
    pub(crate) fn out_of_range(self: &Arc<Self>, stamp: Stamp, start: Option<Start>, error: Error) {
        self.change(|state| {
            if state.reading.out_of_range(stamp, start) && start.is_none() {
                state.queue.push_back(Item::Failure { epoch: stamp.epoch, error, place: None });
                self.make_ready(state);
            }
        });
    }

    /// The leader's log is another one from this offset on: an unclean election has cut it. `goes_on`: there, if the program
    /// has got records that are lost; else that is an error.
    pub(crate) fn truncated(self: &Arc<Self>, stamp: Stamp, diverging: i64, goes_on: bool) {
        let dropped = self.change(|state| {
            if state.reading.truncated(stamp, diverging) {
                self.epoch.store(state.reading.epoch(), Ordering::Release);
                return state.clear();
            }
            if !state.reading.is_current(stamp) {
                return VecDeque::new();
            }
            let position = state.reading.position().unwrap_or(stamp.offset);
            let dropped = state.clear();
            if goes_on {
                state.reading.seek(Start::Offset(diverging));
                self.epoch.store(state.reading.epoch(), Ordering::Release);
            } else {
                let text = format!(
                    "the log was cut at offset {diverging}, and the position is {position}: records that were read are \
                     lost. Seek to go on"
                );
                let error = Error::new(ErrorKind::LogTruncated, Recovery::Fix, text);
                let error = self.locate(error, position, Some(diverging));
                state.fail(stamp.epoch, error, None);
                self.make_ready(state);
            }
            dropped
        });
        drop(dropped);
    }

    /// Nothing more comes of this epoch, behind what has come before.
    pub(crate) fn fail(self: &Arc<Self>, epoch: u64, error: Error) {
        let error = error.at_partition(&self.name);
        self.change(|state| {
            if epoch == state.reading.epoch() && !state.reading.is_stopped() {
                state.fail(epoch, error, None);
                self.make_ready(state);
            }
        });
    }

    /// What came behind the stamp's offset is no batch, if it still counts.
    pub(crate) fn damaged(self: &Arc<Self>, stamp: Stamp, damage: Damage) {
        let Damage { error, offset, next } = damage;
        let error = self.locate(error, offset, next);
        self.change(|state| {
            if state.reading.is_current(stamp) {
                state.fail(stamp.epoch, error, Some((offset, next)));
                self.make_ready(state);
            }
        });
    }
}

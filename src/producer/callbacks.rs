//! The thread that runs the users' callbacks.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::error;
use parking_lot::{Condvar, Mutex};

use super::delivery::RecordMetadata;
use crate::error::{Error, Result};

/// What a caller wants to be told when its record is done.
pub(crate) type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

/// A callback with what it is to be given.
pub(crate) struct Job {
    pub(crate) callback: Callback,
    pub(crate) result: Result<RecordMetadata>,
}

/// A batch's place in the order of its partition's callbacks: its number, and where its first record stood in the batch
/// that was given the number, which may have been split.
pub(crate) type Place = (u64, u32);

/// Keeps the callbacks of one partition in the order of their records, although a batch may have its result before an
/// earlier one that is sent again. Batches without callbacks are not in it and cost nothing.
#[derive(Default)]
pub(crate) struct InOrder(Mutex<Order>);

#[derive(Default)]
struct Order {
    next: u64,
    unfinished: BTreeSet<Place>,
    /// What waits for an earlier batch.
    held: BTreeMap<Place, Vec<Job>>,
}

impl InOrder {
    /// Gives a place to a batch that is open, under its partition's lock.
    pub(crate) fn enter(&self) -> u64 {
        let mut order = self.0.lock();
        let number = order.next;
        order.next += 1;
        order.unfinished.insert((number, 0));
        number
    }

    /// A batch goes on in parts, which take its place.
    pub(crate) fn divide(&self, place: Place, firsts: impl Iterator<Item = u32>) {
        let mut order = self.0.lock();
        order.unfinished.remove(&place);
        order.unfinished.extend(firsts.map(|first| (place.0, first)));
    }

    /// A batch has its result: its callbacks are queued once those of every earlier batch are.
    pub(crate) fn leave(&self, place: Place, jobs: Vec<Job>, callbacks: &Callbacks) {
        let mut order = self.0.lock();
        order.unfinished.remove(&place);
        order.held.insert(place, jobs);
        let Order { unfinished, held, .. } = &mut *order;
        while let Some(first) = held.first_entry() {
            if unfinished.first().is_some_and(|earlier| earlier < first.key()) {
                break;
            }
            // Queued under the lock, or another thread's could come between.
            callbacks.post(first.remove());
        }
    }
}

enum Work {
    Run(Vec<Job>),
    /// Marks a place in the queue: the flag is set when everything before it has run.
    Mark(Arc<Mark>),
}

#[derive(Default)]
struct Mark {
    reached: Mutex<bool>,
    changed: Condvar,
}

impl Mark {
    fn reach(&self) {
        *self.reached.lock() = true;
        self.changed.notify_all();
    }
}

/// The way to the callback thread. User code runs there and nowhere else, so that a slow callback delays other
/// callbacks and never a sender.
#[derive(Clone)]
pub(crate) struct Callbacks {
    /// `None` once the thread has been told to end. Behind a lock, so that nothing is sent to a thread that is ending.
    work: Arc<Mutex<Option<Sender<Work>>>>,
    thread: ThreadId,
}

impl Callbacks {
    /// Starts `kafka-callbacks`. It ends when it is told to, or when the last [`Callbacks`] is gone.
    pub(crate) fn start() -> Result<(Self, JoinHandle<()>)> {
        let (work, inbox) = unbounded();
        let handle = thread::Builder::new()
            .name("kafka-callbacks".into())
            .spawn(move || run(&inbox))
            .map_err(|error| Error::network("cannot start the thread kafka-callbacks").with_source(error))?;
        Ok((Self { work: Arc::new(Mutex::new(Some(work))), thread: handle.thread().id() }, handle))
    }

    /// Whether the caller is itself a callback.
    pub(crate) fn is_current_thread(&self) -> bool {
        thread::current().id() == self.thread
    }

    /// Queues callbacks, which run in this order.
    pub(crate) fn post(&self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let refused = self.send(Work::Run(jobs));
        if let Some(Work::Run(jobs)) = refused {
            jobs.into_iter().for_each(call);
        }
    }

    /// The work comes back if the thread has been told to end.
    fn send(&self, work: Work) -> Option<Work> {
        match &*self.work.lock() {
            Some(sender) => sender.send(work).err().map(crossbeam_channel::SendError::into_inner),
            None => Some(work),
        }
    }

    /// Ends the thread once everything that is queued has run. Callbacks that are posted later run where they are
    /// posted.
    pub(crate) fn stop(&self) {
        *self.work.lock() = None;
    }

    /// Blocks until every callback queued so far has run, at most until `deadline`. A callback that calls this
    /// does not wait for itself.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        if self.is_current_thread() {
            return true;
        }
        let mark = Arc::new(Mark::default());
        if self.send(Work::Mark(Arc::clone(&mark))).is_some() {
            return true;
        }
        let mut reached = mark.reached.lock();
        while !*reached {
            if mark.changed.wait_until(&mut reached, deadline).timed_out() {
                return *reached;
            }
        }
        true
    }
}

fn run(inbox: &Receiver<Work>) {
    for work in inbox {
        match work {
            Work::Run(jobs) => jobs.into_iter().for_each(call),
            Work::Mark(mark) => mark.reach(),
        }
    }
}

fn call(job: Job) {
    if catch_unwind(AssertUnwindSafe(|| (job.callback)(job.result))).is_err() {
        error!("a delivery callback panicked; the producer goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn job(log: &Arc<Mutex<Vec<u32>>>, number: u32) -> Job {
        let log = Arc::clone(log);
        Job {
            callback: Box::new(move |_| {
                assert!(number != 13, "a callback that panics");
                log.lock().push(number);
            }),
            result: Err(Error::network("for the test")),
        }
    }

    #[test]
    fn callbacks_run_in_order_and_a_panic_ends_none_of_the_others() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        let log = Arc::default();
        callbacks.post(vec![job(&log, 1), job(&log, 13), job(&log, 2)]);
        callbacks.post(vec![job(&log, 3)]);
        assert!(callbacks.wait(Instant::now() + Duration::from_secs(20)));
        assert_eq!(*log.lock(), [1, 2, 3]);
        drop(callbacks);
        thread.join().unwrap();
    }

    #[test]
    fn a_batchs_callbacks_wait_for_those_of_earlier_batches_and_parts() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        let (log, order) = (Arc::default(), InOrder::default());
        let ran = |log: &Arc<Mutex<Vec<u32>>>| {
            assert!(callbacks.wait(Instant::now() + Duration::from_secs(20)));
            log.lock().clone()
        };
        let numbers: Vec<u64> = (0..3).map(|_| order.enter()).collect();
        order.leave((numbers[2], 0), vec![job(&log, 5)], &callbacks);
        order.divide((numbers[0], 0), [0, 10].into_iter());
        order.leave((numbers[0], 10), vec![job(&log, 2)], &callbacks);
        assert!(ran(&log).is_empty());
        order.leave((numbers[0], 0), vec![job(&log, 1)], &callbacks);
        assert_eq!(ran(&log), [1, 2]);
        order.leave((numbers[1], 0), vec![job(&log, 3), job(&log, 4)], &callbacks);
        assert_eq!(ran(&log), [1, 2, 3, 4, 5]);
        callbacks.stop();
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_for_a_stuck_callback_ends_at_its_deadline() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        let (release, released) = crossbeam_channel::bounded::<()>(0);
        let callback: Callback = Box::new(move |_| assert!(released.recv().is_err()));
        callbacks.post(vec![Job { callback, result: Err(Error::network("for the test")) }]);
        assert!(!callbacks.wait(Instant::now() + Duration::from_millis(20)));
        drop(release);
        drop(callbacks);
        thread.join().unwrap();
    }
}

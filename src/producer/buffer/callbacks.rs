//! The thread that runs the users' callbacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::logging::error;
use crate::producer::record_metadata::{Callback, OnFailure, RecordMetadata};
use crate::thread::catch;

/// A callback, and the result that it is called with.
pub(crate) struct Job {
    pub(crate) callback: Callback,
    pub(crate) result: Result<RecordMetadata>,
}

/// A batch's position in the order of its partition's callbacks: its number, and the index of its first record in the
/// batch that was given the number. The index is above 0 in a part of a batch that was split.
pub(crate) type CallbackPosition = (u64, u32);

/// Keeps the callbacks of one partition in the order of their records, although a batch may have its result before an
/// earlier batch that has to be sent again. Batches without callbacks are not counted, and cost nothing.
#[derive(Default)]
pub(crate) struct InOrder(Mutex<Order>);

#[derive(Default)]
struct Order {
    next: u64,
    unfinished: BTreeSet<CallbackPosition>,
    /// Callbacks that wait for those of an earlier batch.
    held: BTreeMap<CallbackPosition, Vec<Job>>,
}

impl InOrder {
    /// Gives a number to an open batch. The caller holds the partition's lock.
    pub(crate) fn enter(&self) -> u64 {
        let mut order = self.0.lock();
        let number = order.next;
        order.next += 1;
        order.unfinished.insert((number, 0));
        number
    }

    /// A batch was split: its parts take its position.
    pub(crate) fn divide(&self, position: CallbackPosition, firsts: impl Iterator<Item = u32>) {
        let mut order = self.0.lock();
        order.unfinished.remove(&position);
        order.unfinished.extend(firsts.map(|first| (position.0, first)));
    }

    /// A batch has its result: its callbacks are queued once those of every earlier batch are.
    pub(crate) fn leave(&self, position: CallbackPosition, jobs: Vec<Job>, callbacks: &Callbacks) {
        let mut refused = Vec::new();
        {
            let mut order = self.0.lock();
            order.unfinished.remove(&position);
            order.held.insert(position, jobs);
            let Order { unfinished, held, .. } = &mut *order;
            while let Some(first) = held.first_entry() {
                if unfinished.first().is_some_and(|earlier| earlier < first.key()) {
                    break;
                }
                // Queued under the lock, so that no other thread's callbacks get between them.
                refused.extend(callbacks.queue(first.remove()));
            }
        }
        // This runs the program's code, which may call this function again, so the lock is released before.
        refused.into_iter().flatten().for_each(call);
    }
}

/// Queues jobs for the callback thread. The program's callbacks run there and nowhere else, so that a slow callback
/// delays other callbacks and never a sender.
#[derive(Clone)]
pub(crate) struct Callbacks {
    queue: Arc<Queue>,
    thread: ThreadId,
}

/// What the callback thread shares with the threads that post jobs.
#[derive(Default)]
struct Queue {
    posts: Mutex<Posts>,
    /// How many posts have run.
    ran: Mutex<u64>,
    has_run: Condvar,
    /// Called for every record that fails.
    on_failure: OnceLock<OnFailure>,
}

#[derive(Default)]
struct Posts {
    /// `None` once the thread has been told to end.
    jobs: Option<Sender<Vec<Job>>>,
    /// How many posts there have been.
    posted: u64,
}

impl Callbacks {
    /// Starts `kafka-callbacks`. It ends when it is told to, or when the last [`Callbacks`] is gone.
    pub(crate) fn start() -> Result<(Self, JoinHandle<()>)> {
        let (jobs, posts) = unbounded();
        let queue = Arc::new(Queue::default());
        queue.posts.lock().jobs = Some(jobs);
        let served = Arc::downgrade(&queue);
        let handle = crate::thread::spawn("kafka-callbacks", move || run(&posts, &served))?;
        Ok((Self { queue, thread: handle.thread().id() }, handle))
    }

    /// Has `on_failure` called for every record that fails. To be called once, before there are records.
    pub(crate) fn tell_failures(&self, on_failure: OnFailure) {
        drop(self.queue.on_failure.set(on_failure));
    }

    /// The job that calls `on_failure` for `count` failed records: with the error of the record in `records`, or else
    /// with `error`. `None` if there is no `on_failure`.
    pub(crate) fn failure(&self, error: &Error, records: &[(u32, Error)], count: u32) -> Option<Job> {
        let OnFailure(tell) = self.queue.on_failure.get()?;
        let tell = Arc::clone(tell);
        // Of two errors for one record the first counts, as for its handle.
        let own: BTreeMap<u32, Error> = records.iter().rev().cloned().collect();
        let callback: Callback = Box::new(move |result| {
            let Err(error) = result else { return };
            for index in 0..count {
                // After a panic the next record is reported all the same.
                if let Err(panic) = catch(|| tell(own.get(&index).unwrap_or(&error))) {
                    error!("on_failure panicked; the producer goes on: {panic}");
                }
            }
        });
        Some(Job { callback, result: Err(error.clone()) })
    }

    /// Whether the caller is itself a callback.
    pub(crate) fn is_current_thread(&self) -> bool {
        thread::current().id() == self.thread
    }

    /// Queues callbacks, which run in this order.
    pub(crate) fn post(&self, jobs: Vec<Job>) {
        self.queue(jobs).into_iter().flatten().for_each(call);
    }

    /// Queues callbacks. They are returned if their thread has been told to end.
    fn queue(&self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        if jobs.is_empty() { None } else { self.queue.posts.lock().put(jobs) }
    }

    /// Ends the thread once everything that is queued has run. Callbacks that are posted later run where they are
    /// posted.
    pub(crate) fn stop(&self) {
        self.queue.posts.lock().jobs = None;
    }

    /// Blocks until every callback queued so far has run, at most until `deadline`. A callback that calls this
    /// does not wait for itself.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        if self.is_current_thread() {
            return true;
        }
        let posted = self.queue.posts.lock().posted;
        let mut ran = self.queue.ran.lock();
        while *ran < posted {
            if self.queue.has_run.wait_until(&mut ran, deadline).timed_out() {
                break;
            }
        }
        *ran >= posted
    }
}

impl Posts {
    /// Queues the jobs. They are returned if the thread has been told to end.
    fn put(&mut self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        let Some(sender) = &self.jobs else { return Some(jobs) };
        let refused = sender.send(jobs).err().map(crossbeam_channel::SendError::into_inner);
        self.posted += u64::from(refused.is_none());
        refused
    }
}

fn run(posts: &Receiver<Vec<Job>>, queue: &Weak<Queue>) {
    for jobs in posts {
        jobs.into_iter().for_each(call);
        // If the queue is gone, no thread can wait for it.
        if let Some(queue) = queue.upgrade() {
            *queue.ran.lock() += 1;
            queue.has_run.notify_all();
        }
    }
}

fn call(job: Job) {
    if let Err(panic) = catch(|| (job.callback)(job.result)) {
        error!("a delivery callback panicked; the producer goes on: {panic}");
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
        assert!(callbacks.wait(Instant::now() + Duration::from_secs(60)));
        assert_eq!(*log.lock(), [1, 2, 3]);
        drop(callbacks);
        thread.join().unwrap();
    }

    #[test]
    fn a_panic_whose_payload_panics_when_it_is_dropped_ends_none_of_the_others() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a payload that panics when it is dropped");
            }
        }
        let (callbacks, thread) = Callbacks::start().unwrap();
        let log = Arc::default();
        let bomb: Callback = Box::new(|_| std::panic::panic_any(Bomb));
        callbacks.post(vec![Job { callback: bomb, result: Err(Error::network("for the test")) }, job(&log, 1)]);
        callbacks.post(vec![job(&log, 2)]);
        assert!(callbacks.wait(Instant::now() + Duration::from_secs(60)));
        assert_eq!(*log.lock(), [1, 2]);
        drop(callbacks);
        thread.join().unwrap();
    }

    #[test]
    fn a_batchs_callbacks_wait_for_those_of_earlier_batches_and_parts() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        let (log, order) = (Arc::default(), InOrder::default());
        let ran = |log: &Arc<Mutex<Vec<u32>>>| {
            assert!(callbacks.wait(Instant::now() + Duration::from_secs(60)));
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
    fn callbacks_without_their_thread_run_under_no_lock() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        callbacks.stop();
        thread.join().unwrap();
        let (order, log) = (Arc::new(InOrder::default()), Arc::default());
        let number = order.enter();
        let (again, inner, second) = (Arc::clone(&order), callbacks.clone(), job(&log, 2));
        let first: Callback = Box::new(move |_| again.leave((again.enter(), 0), vec![second], &inner));
        let (done, when_done) = crossbeam_channel::bounded(1);
        let jobs = vec![Job { callback: first, result: Err(Error::network("for the test")) }, job(&log, 3)];
        thread::spawn(move || {
            order.leave((number, 0), jobs, &callbacks);
            done.send(()).unwrap();
        });
        when_done.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(*log.lock(), [2, 3]);
    }

    #[test]
    fn a_failed_batch_is_told_of_record_by_record_each_with_its_own_error() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        let beside = Error::network("beside");
        assert!(callbacks.failure(&beside, &[], 3).is_none(), "nobody is to be told");
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        callbacks.tell_failures(OnFailure({
            let told = Arc::clone(&told);
            Arc::new(move |error| {
                told.lock().push(error.to_string());
                panic!("a panic that is part of the test");
            })
        }));
        let named = [(1, Error::network("at fault")), (1, Error::network("named twice"))];
        callbacks.post(callbacks.failure(&beside, &named, 3).into_iter().collect());
        assert!(callbacks.wait(Instant::now() + Duration::from_secs(60)));
        assert_eq!(*told.lock(), ["beside", "at fault", "beside"]);
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

    #[test]
    fn what_is_posted_after_the_end_runs_where_it_is_posted_also_from_a_callback() {
        let (callbacks, thread) = Callbacks::start().unwrap();
        callbacks.stop();
        thread.join().unwrap();
        let log = Arc::default();
        let (inner, second) = (callbacks.clone(), job(&log, 2));
        let first: Callback = Box::new(move |_| inner.post(vec![second]));
        callbacks.post(vec![job(&log, 1), Job { callback: first, result: Err(Error::network("for the test")) }]);
        assert_eq!(*log.lock(), [1, 2]);
        assert!(callbacks.wait(Instant::now()));
    }
}

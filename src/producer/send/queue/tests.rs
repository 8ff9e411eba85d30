//! Tests of a partition's queue.

use super::*;
use crate::producer::buffer::accumulator::Accumulator;
use crate::producer::buffer::budget::Budget;
use crate::producer::buffer::callbacks::Callbacks;
use crate::producer::buffer::draft::RecordParts;
use crate::producer::buffer::partition::{Due, Placed, Placement, QueueOwner};
use crate::producer::buffer::sticky::FixedPartition;
use crate::producer::buffer::wait_limit::WaitLimit;
use crate::record::Headers;
use crate::topic::TopicPartition;
use crossbeam_channel::{Sender, unbounded};
use std::time::Duration;

impl PartitionQueue {
    /// Asserts the invariants that [`PartitionQueue`] lists. `in_flight`: how many of its batches are in flight.
    pub(crate) fn assert_invariants(&mut self, in_flight: usize, obstacles: &Obstacles) {
        self.drain_sealed();
        let (before, new): (Vec<_>, Vec<_>) = self.waiting.iter().partition(|batch| batch.serial > 0);
        assert!(before.is_sorted_by_key(|batch| batch.queue_order()), "what was taken before is out of order");
        let in_order = before.into_iter().chain(new).map(|batch| std::ptr::from_ref(&**batch));
        assert!(in_order.eq(self.waiting.iter().map(|batch| std::ptr::from_ref(&**batch))), "new batches come first");
        let numbered = self.waiting.iter().map(|batch| batch.stamp.is_none());
        assert!(numbered.is_sorted(), "a batch without sequence numbers comes before one that has some");
        let earliest = self.waiting.iter().map(|batch| batch.deadline()).min();
        assert!(earliest.is_none_or(|earliest| self.waiting_deadline.is_some_and(|noted| noted <= earliest)));
        let bytes = self.waiting.iter().map(|batch| batch.len()).sum::<usize>() + self.partition.open_len();
        let batches = self.waiting.len() + usize::from(self.partition.peek() != OpenState::Empty);
        assert_eq!(self.partition.queued(1), bytes.max(batches), "what the partition knows of what waits");
        assert_eq!(self.in_flight, in_flight, "batches in flight");
        assert!(!self.alone || in_flight > 0, "nothing is in flight that must be alone");
        assert_eq!(self.is_hindered, obstacles.names(self.name()), "the producer's obstacles");
    }
}

/// Sends the queue to the test while the partition's lock is held, and keeps the lock for a while.
struct Slow(Sender<PartitionQueue>);

/// Ignores every notice.
struct Nobody;

impl QueueOwner for Nobody {
    fn notice(&self, _: Arc<Partition>, _: Instant, _: bool) {}
    fn drive_or_notice(&self, _: &Arc<Partition>, _: Due, _: Option<Instant>) {}
}

impl Placement for Slow {
    fn place(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed {
        self.0.send(PartitionQueue::new(Arc::clone(partition), sealed)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        Ok(Arc::new(Nobody))
    }

    fn hurry_all(&self) {}
}

#[test]
fn a_batch_that_is_sealed_between_the_two_looks_keeps_its_queue_from_resting() {
    let (callbacks, _) = Callbacks::start().unwrap();
    let (give, given) = unbounded();
    let partition = Partition::new(PartitionId(0), TopicPartition::new("t", 0));
    let application = std::thread::spawn(move || {
        let accumulator = Accumulator {
            batch_size: 100,
            batch_records: 1,
            linger: Duration::ZERO,
            delivery_timeout: Duration::from_secs(100),
            budget: Budget::new(1000, 100),
            unfinished: Arc::default(),
            callbacks,
            obstacles: Arc::default(),
        };
        let headers = Headers::new();
        let record =
            RecordParts { timestamp: 0, key: None, value: None, headers: &headers, parts_size: 3, transaction: 0 };
        let mut wait_limit = WaitLimit { started: None, limit: None };
        let append = accumulator.append(&partition, &record, &mut None, &mut wait_limit, &Slow(give), FixedPartition);
        assert!(append.is_ok());
    });
    let mut queue = given.recv().unwrap();
    // The first look finds nothing; the second waits for the lock, under which the batch is opened and sealed.
    assert!(!queue.is_idle());
    application.join().unwrap();
}

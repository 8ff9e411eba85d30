//! The application's side with real threads: many threads send, and partitions move to and fro between two senders. The
//! senders' own deadlines are far off, so that a lost wake-up shows as a record without a result.

use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::fixture::{Answer, Bench, Setup, frame, owner, read_request, response, snapshot};
use super::*;
use crate::producer::api::delivery::Delivery;
use crate::producer::buffer::accumulator::{Accumulator, NotAppended};
use crate::producer::buffer::callbacks::Callbacks;
use crate::producer::buffer::draft::RecordParts;
use crate::producer::buffer::partition::{Placed, Placement};
use crate::producer::buffer::sticky::FixedPartition;
use crate::producer::buffer::wait_limit::WaitLimit;
use crate::producer::send::inbox::{Inbox, InboxReceiver, SenderEvent};
use crate::record::Headers;
use crate::record::batch::parts_size;
use std::sync::atomic::Ordering;

const THREADS: u32 = 6;
const PARTITIONS: usize = 4;
/// Much longer than anything takes, and much shorter than the linger and the delivery timeout.
const TIME_LIMIT: Duration = Duration::from_secs(60);

struct World {
    inboxes: [Arc<Inbox>; 2],
    snapshot: Mutex<Arc<Snapshot>>,
    logs: Vec<Mutex<Vec<String>>>,
    moves: AtomicU64,
    sleeps: AtomicU64,
    acknowledged: AtomicU64,
}

impl Placement for World {
    fn place(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed {
        let mut queue = PartitionQueue::new(Arc::clone(partition), sealed);
        queue.on_metadata(&self.snapshot.lock());
        let inbox = &self.inboxes[usize::try_from(queue.leader().unwrap().0).unwrap()];
        assert!(inbox.post(SenderEvent::Adopt(Box::new(queue))).is_ok());
        Ok(owner(inbox))
    }

    fn hurry_all(&self) {
        for inbox in &self.inboxes {
            assert!(inbox.post(SenderEvent::LookAtAll).is_ok());
        }
    }
}

impl World {
    /// Whether senders have slept, and partitions have moved, if they are to.
    fn has_shown(&self, moving: bool) -> bool {
        let often = |count: &AtomicU64| count.load(Ordering::Relaxed) > 10;
        often(&self.sleeps) && often(&self.moves) == moving
    }

    /// A sender like the real one, whose broker takes everything at once.
    fn run_sender(&self, mut turn: Turn, inbox: &Inbox, inbox_receiver: &InboxReceiver) {
        let handle = |turn: &mut Turn, event: SenderEvent| {
            match event {
                SenderEvent::Adopt(mut queue) => {
                    queue.on_metadata(&self.snapshot.lock());
                    turn.adopt(*queue);
                }
                SenderEvent::Metadata => {
                    inbox.takes_metadata();
                    turn.on_metadata(&self.snapshot.lock());
                }
                SenderEvent::LookAtAll => turn.look_at_all(),
                SenderEvent::Close { .. } => return false,
                _ => {}
            }
            true
        };
        let notices = inbox_receiver.notices();
        loop {
            let now = Instant::now();
            inbox.set_awake();
            while let Ok(partition) = notices.try_recv() {
                turn.notice(&partition);
            }
            while let Some(event) = inbox_receiver.event() {
                if !handle(&mut turn, event) {
                    return;
                }
            }
            turn.tick(now);
            let mut wire = Vec::new();
            while turn.next_request(now) {
                wire.push(read_request(&turn));
                assert!(turn.written(now));
            }
            let mut awake = !wire.is_empty();
            for request in wire {
                let mut partitions: Vec<i32> = request.batches.iter().map(|batch| batch.index).collect();
                partitions.sort_unstable();
                assert!(partitions.is_sorted_by(|a, b| a < b), "a request with two batches of one partition");
                let take = |batch: &super::fixture::SentBatch| {
                    let mut log = self.logs[usize::try_from(batch.index).unwrap()].lock();
                    log.extend(batch.values.iter().cloned());
                    Answer::ok(i64::try_from(log.len() - batch.values.len()).unwrap())
                };
                let answers: Vec<Answer> = request.batches.iter().map(take).collect();
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                turn.answered(frame(&response(&request, &answers), request.version, request.correlation), now).unwrap();
            }
            for action in turn.take_actions() {
                awake = true;
                match action {
                    Action::Connect => turn.connected(11, now),
                    Action::Move(queue, leader) => {
                        self.moves.fetch_add(1, Ordering::Relaxed);
                        let other = &self.inboxes[usize::try_from(leader.0).unwrap()];
                        let partition = Arc::clone(queue.partition());
                        let adopt = || {
                            assert!(other.post(SenderEvent::Adopt(queue)).is_ok());
                            Ok::<_, Error>(owner(other))
                        };
                        partition.change_owner(adopt).unwrap();
                    }
                    _ => {}
                }
            }
            if !awake {
                self.sleeps.fetch_add(1, Ordering::Relaxed);
                let until = turn.deadline(now);
                if inbox.arm(until, turn.wake_on(now), turn.hold_end(), &notices)
                    && let Some(event) = inbox_receiver.wait(until)
                    && !handle(&mut turn, event)
                {
                    return;
                }
            }
        }
    }
}

/// Sends `count` records, and more until everything that the test needs has happened. Returns how many were sent, and
/// how many of them got no result or a wrong one.
fn send(
    world: &World,
    bench: &Accumulator,
    partitions: &[Arc<Partition>],
    thread: u32,
    count: u32,
    moving: bool,
) -> (u32, u32) {
    let mut random = RandomNumbers::seeded(u64::from(thread));
    let mut deliveries: Vec<Delivery> = Vec::new();
    let mut stuck = 0;
    let headers = Headers::new();
    let begun = Instant::now();
    let mut sent = 0;
    while sent < count || (!world.has_shown(moving) && begun.elapsed() < TIME_LIMIT) {
        let value = format!("{thread}.{sent}");
        let record = RecordParts {
            timestamp: 1,
            key: None,
            value: Some(value.as_bytes()),
            headers: &headers,
            parts_size: parts_size(None, Some(value.as_bytes()), &headers),
            transaction: 0,
        };
        let mut wait_limit = WaitLimit { started: None, limit: Some(TIME_LIMIT) };
        let partition = &partitions[random.below(partitions.len())];
        match bench.append(partition, &record, &mut None, &mut wait_limit, world, FixedPartition) {
            Ok((completion, index)) => deliveries.push(Delivery::accepted(completion, index, record.timestamp)),
            Err(NotAppended::Elsewhere) => panic!("the record was sent elsewhere"),
            Err(NotAppended::Failed(_)) => return (sent, stuck + 1),
        }
        sent += 1;
        if random.below(6) == 0 {
            let waited = deliveries[deliveries.len() - 1].wait_timeout(TIME_LIMIT);
            stuck += u32::from(!matches!(waited, Some(Ok(_))));
        }
        if stuck > 0 {
            return (sent, stuck);
        }
    }
    for delivery in deliveries {
        if !matches!(delivery.wait_timeout(TIME_LIMIT), Some(Ok(_))) {
            return (sent, stuck + 1);
        }
    }
    (sent, stuck)
}

fn stress(linger: Duration, batch_records: u32, buffer_memory: usize, moving: bool, count: u32) {
    let (callbacks, _) = Callbacks::start().unwrap();
    let setup = Setup { linger, batch_records, batch_size: 1024, buffer_memory, ..Setup::new() };
    let bench = Bench::new(&setup, &callbacks);
    let ((first, first_letters), (second, second_letters)) = (Inbox::new(), Inbox::new());
    let mut leaders = [(0, 0), (1, 0), (0, 0), (1, 0)];
    let world = World {
        inboxes: [first, second],
        snapshot: Mutex::new(Arc::new(snapshot(&[("t", 1, &leaders)]))),
        logs: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
        moves: AtomicU64::new(0),
        sleeps: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
    };
    let partition = |id: u32| Partition::new(PartitionId(id), TopicPartition::new("t", i32::try_from(id).unwrap()));
    let partitions: Vec<_> = (0..4).map(partition).collect();
    let sending = AtomicBool::new(true);
    let (sent, stuck) = std::thread::scope(|scope| {
        for (broker, inbox_receiver) in [(0, &first_letters), (1, &second_letters)] {
            let turn = Turn::new(BrokerId(broker), setup.rules.clone(), bench.common.clone());
            let inbox = &world.inboxes[usize::try_from(broker).unwrap()];
            let world = &world;
            scope.spawn(move || world.run_sender(turn, inbox, inbox_receiver));
        }
        if moving {
            scope.spawn(|| {
                let mut random = RandomNumbers::seeded(99);
                let mut seen = 0;
                while sending.load(Ordering::Relaxed) {
                    // A new snapshot wakes all senders, so there is none until the effects of the last one are over.
                    let acknowledged = world.acknowledged.load(Ordering::Relaxed);
                    if acknowledged < seen + 20 {
                        std::thread::sleep(Duration::from_micros(200));
                        continue;
                    }
                    seen = acknowledged;
                    let leader = &mut leaders[random.below(PARTITIONS)];
                    *leader = (1 - leader.0, leader.1 + 1);
                    let next = Arc::new(snapshot(&[("t", 1, &leaders)]));
                    *world.snapshot.lock() = next;
                    world.inboxes.iter().for_each(|inbox| inbox.post_metadata());
                }
            });
        }
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (world, accumulator, partitions) = (&world, &bench.accumulator, &partitions);
                scope.spawn(move || send(world, accumulator, partitions, thread, count, moving))
            })
            .collect();
        let ends = threads.into_iter().map(|thread| thread.join().unwrap_or((0, 1)));
        let total = ends.fold((0, 0), |total, (sent, stuck)| (total.0 + sent, total.1 + stuck));
        sending.store(false, Ordering::Relaxed);
        for inbox in &world.inboxes {
            let close = SenderEvent::Close { error: Error::network("the end"), losses: Arc::default() };
            assert!(inbox.post(close).is_ok());
        }
        total
    });
    assert_eq!(stuck, 0, "records without a result, although their senders had nothing else to do");
    let mut records = 0;
    for log in &world.logs {
        let log = log.lock();
        records += log.len();
        for thread in 0..THREADS {
            let of_thread = log.iter().filter_map(|value| value.strip_prefix(&format!("{thread}.")));
            let numbers: Vec<u32> = of_thread.map(|number| number.parse().unwrap()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "a thread's records keep their order");
        }
    }
    assert_eq!(records, usize::try_from(sent).unwrap());
    assert_eq!((bench.common.budget.used(), bench.accumulator.unfinished.count()), (0, 0));
    assert!(world.has_shown(moving));
}

const HOUR: Duration = Duration::from_secs(3600);
const PLENTY: usize = 1 << 25;

#[test]
fn no_record_is_forgotten_by_a_sender_that_sleeps() {
    stress(Duration::ZERO, 1000, PLENTY, false, 3000);
}

#[test]
fn a_wait_wakes_a_sender_that_would_sleep_past_it() {
    stress(HOUR, 1000, PLENTY, false, 2000);
}

#[test]
fn a_full_batch_wakes_a_sender_that_would_sleep_past_it() {
    stress(HOUR, 2, PLENTY, false, 2000);
}

#[test]
fn a_thread_without_memory_wakes_senders_that_would_sleep_past_it() {
    stress(HOUR, 1000, 8 * 1024, false, 2000);
}

#[test]
fn a_partition_that_moves_is_not_forgotten() {
    stress(Duration::ZERO, 1000, PLENTY, true, 2000);
    stress(HOUR, 3, PLENTY, true, 2000);
}

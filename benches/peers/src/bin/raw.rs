//! The floors: what the sockets cost without a client. `--floor` says which:
//!
//! | floor | mode | what it does |
//! |---|---|---|
//! | `ping-pong` | sync | writes a request that was encoded before, reads the answer |
//! | `idempotent ping-pong` | sync | the same, with a sequence number in each request |
//! | `pre-encoded` | throughput | writes a request of full batches that was encoded before, five deep |
//! | `encode` | throughput | one thread encodes, sums and writes requests of full batches, five deep |
//! | `hand-off` | sync, syncthreads | callers queue; one I/O thread sends all that is queued as one request, reads, wakes |
//! | `leader` | sync, syncthreads | callers queue; one of them does what the I/O thread would |

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, Thread};

use kafka_blocking_peers::wire::{Connection, ProduceRequest, partitions, producer_id};
use kafka_blocking_peers::{Args, Measured, Mode, Records, Window, sync, sync_threads};

const FLOOR: &str = "--floor";
/// How many requests are unanswered at most, as with `max.in.flight.requests.per.connection`.
const DEPTH: u64 = 5;

fn main() {
    let mut args = Args::parse(&[FLOOR]);
    let floor = args.extra(FLOOR).expect("--floor NAME is missing").to_owned();
    match &*floor {
        "pre-encoded" | "encode" => throughput(&mut args, &floor),
        "ping-pong" => ping_pong(&args),
        "idempotent ping-pong" => idempotent_ping_pong(&args),
        "hand-off" => hand_off(&args),
        "leader" => leader(&args),
        _ => panic!("no floor {floor}"),
    }
}

fn measured<'a>(args: &'a Args, floor: &str) -> Measured<'a> {
    Measured::new(args, format!("raw {floor}"), env!("CARGO_PKG_VERSION"), "no client")
}

fn throughput(args: &mut Args, floor: &str) {
    let partitions = partitions(&args.bootstrap, &args.topic);
    let batch = args.records_per_batch() as u64;
    // Whole requests: the floor is not about the last one.
    let per_request = batch * partitions as u64;
    args.records = args.records.next_multiple_of(per_request);
    let (args, records) = (&*args, Records::new(args.size, args.keys));
    let mut connection = Connection::open(&args.bootstrap);
    let mut request = ProduceRequest::default();
    let encode = |request: &mut ProduceRequest, first: u64| {
        request.begin(&args.topic, partitions);
        for partition in 0..partitions {
            let first = first + partition as u64 * batch;
            let batch = (0..batch as usize).map(|number| {
                let number = first + number as u64;
                (records.key(number), records.value(number))
            });
            request.batch(partition, batch);
        }
    };
    encode(&mut request, 0);
    let encoded = request.end().to_vec();
    let mut run = |count: u64| {
        let (requests, mut unanswered) = (count.div_ceil(per_request), 0);
        for number in 0..requests {
            if floor == "encode" {
                encode(&mut request, number * per_request);
                connection.send(request.end());
            } else {
                connection.send(&encoded);
            }
            unanswered += 1;
            if unanswered == DEPTH {
                connection.acknowledgement();
                unanswered -= 1;
            }
        }
        (0..unanswered).for_each(|_| connection.acknowledgement());
        requests * per_request
    };
    run(args.warmup);
    let window = Window::open();
    let acknowledged = run(args.records);
    measured(args, floor).report(&window.close(), acknowledged, Vec::new());
}

fn ping_pong(args: &Args) {
    assert_eq!(args.mode, Mode::Sync);
    let records = Records::new(args.size, args.keys);
    let mut connection = Connection::open(&args.bootstrap);
    partitions(&args.bootstrap, &args.topic);
    let mut request = ProduceRequest::default();
    request.begin(&args.topic, 1);
    request.batch(0, std::iter::once((records.key(0), records.value(0))));
    let frame = request.end();
    sync(args, &measured(args, "ping-pong"), |_| {
        connection.send(frame);
        connection.acknowledgement();
    });
}

fn idempotent_ping_pong(args: &Args) {
    assert_eq!(args.mode, Mode::Sync);
    let records = Records::new(args.size, args.keys);
    let mut connection = Connection::open(&args.bootstrap);
    partitions(&args.bootstrap, &args.topic);
    let mut request = ProduceRequest::idempotent(producer_id(&args.bootstrap));
    sync(args, &measured(args, "idempotent ping-pong"), |number| {
        request.begin(&args.topic, 1);
        request.batch(0, std::iter::once((records.key(number), records.value(number))));
        connection.send(request.end());
        connection.acknowledgement();
    });
}

/// A connection, and everything to send what is queued as one request.
struct Wire<'a> {
    connection: Connection,
    request: ProduceRequest,
    records: &'a Records,
    topic: &'a str,
}

impl<'a> Wire<'a> {
    fn new(args: &'a Args, records: &'a Records) -> Self {
        partitions(&args.bootstrap, &args.topic);
        let connection = Connection::open(&args.bootstrap);
        Self { connection, request: ProduceRequest::default(), records, topic: &args.topic }
    }

    fn deliver<S>(&mut self, queued: &[(u64, S)]) {
        self.request.begin(self.topic, 1);
        self.request
            .batch(0, queued.iter().map(|(number, _)| (self.records.key(*number), self.records.value(*number))));
        self.connection.send(self.request.end());
        self.connection.acknowledgement();
    }
}

/// Where a caller waits.
struct Slot {
    thread: Thread,
    state: AtomicU8,
}

const WAITING: u8 = 0;
const DONE: u8 = 1;
const LEAD: u8 = 2;

impl Slot {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), state: AtomicU8::new(WAITING) })
    }

    fn wake(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.thread.unpark();
    }

    fn wait(&self) -> u8 {
        loop {
            match self.state.swap(WAITING, Ordering::Acquire) {
                WAITING => thread::park(),
                state => return state,
            }
        }
    }
}

type Queue = Vec<(u64, Arc<Slot>)>;

fn hand_off(args: &Args) {
    let records = Records::new(args.size, args.keys);
    let (queue, work, ended) = (Mutex::new(Queue::new()), Condvar::new(), AtomicBool::new(false));
    let mut wire = Wire::new(args, &records);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut taken = Queue::new();
            loop {
                let mut waiting = queue.lock().unwrap();
                while waiting.is_empty() {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting = work.wait(waiting).unwrap();
                }
                std::mem::swap(&mut *waiting, &mut taken);
                drop(waiting);
                wire.deliver(&taken);
                taken.drain(..).for_each(|(_, slot)| slot.wake(DONE));
            }
        });
        let caller = |_| {
            // Made by the first call, which is on the caller's own thread.
            let mut slot = None;
            let (queue, work) = (&queue, &work);
            move |number| {
                let slot = slot.get_or_insert_with(Slot::new);
                let mut waiting = queue.lock().unwrap();
                waiting.push((number, Arc::clone(slot)));
                let is_first = waiting.len() == 1;
                drop(waiting);
                if is_first {
                    work.notify_one();
                }
                slot.wait();
            }
        };
        drive(args, "hand-off", caller);
        let waiting = queue.lock().unwrap();
        ended.store(true, Ordering::Relaxed);
        work.notify_one();
        drop(waiting);
    });
}

fn leader(args: &Args) {
    let records = Records::new(args.size, args.keys);
    let wire = Mutex::new((Wire::new(args, &records), Queue::new()));
    // What is queued, and whether a caller leads.
    let state = Mutex::new((Queue::new(), false));
    let caller = |_| {
        let mut slot = None;
        let (wire, state) = (&wire, &state);
        move |number| {
            let slot = slot.get_or_insert_with(Slot::new);
            let mut queue = state.lock().unwrap();
            queue.0.push((number, Arc::clone(slot)));
            let somebody_leads = std::mem::replace(&mut queue.1, true);
            drop(queue);
            if somebody_leads && slot.wait() == DONE {
                return;
            }
            let mut wire = wire.lock().unwrap();
            let (wire, taken) = &mut *wire;
            std::mem::swap(&mut state.lock().unwrap().0, taken);
            wire.deliver(taken);
            for (_, other) in taken.drain(..) {
                if !Arc::ptr_eq(&other, slot) {
                    other.wake(DONE);
                }
            }
            let mut queue = state.lock().unwrap();
            match queue.0.first() {
                Some((_, next)) => next.wake(LEAD),
                None => queue.1 = false,
            }
        }
    };
    drive(args, "leader", caller);
}

fn drive<F: FnMut(u64)>(args: &Args, floor: &str, caller: impl Fn(usize) -> F + Sync) {
    let measured = measured(args, floor);
    match args.mode {
        Mode::Sync => sync(args, &measured, caller(0)),
        Mode::SyncThreads => sync_threads(args, &measured, caller),
        Mode::Transactions => panic!("transactions are not measured"),
        Mode::Throughput => panic!("{floor} is a floor of the synchronous modes"),
    }
}

//! rdkafka. `--client` says which of its producers:
//!
//! | client | throughput | sync, syncthreads | transactions |
//! |---|---|---|---|
//! | `threaded` | its thread polls; a callback counts | the callback unparks the caller | the last callback unparks the caller, who commits |
//! | `base` | the sending thread polls | the caller spins on `poll(0)`; one caller only | the same, then the commit |
//! | `future` | the futures are kept and awaited | each future is awaited by its thread | |
//!
//! Transactions are committed when every record has been delivered: `commit_transaction` flushes first, and a flush of
//! records that are on their way polls for 100 ms.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use kafka_blocking_peers::{
    Args, Measured, Mode, Records, Window, sync, sync_threads, tasks, transactions_of, version_of,
};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryFuture, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext,
    ThreadedProducer,
};
use rdkafka::util::{DefaultRuntime, IntoOpaque, Timeout};

const CLIENT: &str = "--client";
/// How long a sender leaves a full queue alone, and looks again for what is to be delivered.
const PAUSE: Duration = Duration::from_micros(100);

fn main() {
    let args = Args::parse(&[CLIENT, tasks::WORKERS]);
    let client = args.extra(CLIENT).unwrap_or("threaded");
    let version = format!("{} (librdkafka {})", version_of("rdkafka"), rdkafka::util::get_rdkafka_version().1);
    let measured = Measured::new(&args, format!("rdkafka {client}"), version, "idempotent");
    let records = Records::new(args.size, args.keys);
    match client {
        "threaded" => threaded(&args, &measured, &records),
        "base" => base(&args, &measured, &records),
        "future" => future(&args, &measured, &records),
        _ => panic!("no client {client}"),
    }
}

fn config(args: &Args) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", args.linger_ms.to_string())
        .set("compression.type", &args.compression);
    if let Some(bytes) = args.batch_size {
        config.set("batch.size", bytes.to_string());
    }
    if args.is_transactional() {
        config.set("transactional.id", args.transactional_id());
    }
    config
}

/// Counts deliveries.
#[derive(Default)]
struct Counting {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl Counting {
    fn delivered(&self) -> u64 {
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "records failed");
        self.delivered.load(Ordering::Acquire)
    }
}

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.delivered } else { &self.failed };
        counter.fetch_add(1, Ordering::AcqRel);
    }
}

/// Wakes the caller that waits for its records.
struct Waking;

struct Waiter {
    thread: Thread,
    outstanding: AtomicU64,
}

impl Waiter {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), outstanding: AtomicU64::new(0) })
    }

    /// Waits, on its own thread, until nothing is outstanding.
    fn wait(&self) {
        while self.outstanding.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    }
}

impl ClientContext for Waking {}

impl ProducerContext for Waking {
    type DeliveryOpaque = Arc<Waiter>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Arc<Waiter>) {
        assert!(result.is_ok(), "a record failed");
        if waiter.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            waiter.thread.unpark();
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

fn record<'r>(args: &'r Args, records: &'r Records, number: u64) -> BaseRecord<'r, [u8], [u8]> {
    with_opaque(args, records, number, ())
}

fn with_opaque<'r, O: IntoOpaque>(
    args: &'r Args,
    records: &'r Records,
    number: u64,
    opaque: O,
) -> BaseRecord<'r, [u8], [u8], O> {
    let record = BaseRecord::with_opaque_to(&args.topic, opaque).payload(records.value(number));
    match records.key(number) {
        Some(key) => record.key(key),
        None => record,
    }
}

/// Commits once the queue counts nothing any more, which is a moment after the last callback: before that the flush in
/// `commit_transaction` would poll for 100 ms.
fn commit_delivered<C: ProducerContext>(producer: &impl Producer<C>) {
    while producer.in_flight_count() > 0 {
        thread::yield_now();
    }
    producer.commit_transaction(Timeout::Never).unwrap();
}

fn threaded(args: &Args, measured: &Measured<'_>, records: &Records) {
    if args.mode == Mode::Throughput {
        let producer = ThreadedProducer::from_config_and_context(&config(args), Counting::default()).unwrap();
        if args.is_transactional() {
            producer.init_transactions(Timeout::Never).unwrap();
        }
        let send_one = |number| {
            let mut record = record(args, records, number);
            while let Err((error, refused)) = producer.send(record) {
                assert!(is_full(&error), "{error}");
                thread::sleep(PAUSE);
                record = refused;
            }
        };
        let send = |count| (0..count).for_each(send_one);
        let run = |total| {
            let before = producer.context().delivered();
            let delivered = || producer.context().delivered() - before;
            if args.transaction_ms.is_some() {
                let sent = Cell::new(0);
                let send = |number| {
                    send_one(number);
                    sent.set(number + 1);
                };
                let commit = || {
                    while delivered() < sent.get() {
                        thread::sleep(PAUSE);
                    }
                    commit_delivered(&producer);
                };
                transactions_of(args, total, || producer.begin_transaction().unwrap(), send, commit);
            } else if args.threads == 1 {
                send(total);
            } else {
                thread::scope(|scope| {
                    for index in 0..args.threads {
                        scope.spawn(move || send(args.share(total, index)));
                    }
                });
            }
            // Not by `flush`, which looks every 100 ms.
            while delivered() < total {
                thread::sleep(PAUSE);
            }
            delivered()
        };
        run(args.warmup);
        let window = Window::open();
        let acknowledged = run(args.records);
        measured.report(&window.close(), acknowledged, Vec::new());
        return;
    }
    let producer = ThreadedProducer::from_config_and_context(&config(args), Waking).unwrap();
    let caller = |_| {
        // Made by the first call, which is on the caller's own thread.
        let mut waiter = None;
        let producer = &producer;
        move |number| {
            let waiter = waiter.get_or_insert_with(Waiter::new);
            waiter.outstanding.store(1, Ordering::Release);
            producer.send(with_opaque(args, records, number, Arc::clone(waiter))).map_err(|(error, _)| error).unwrap();
            waiter.wait();
        }
    };
    match args.mode {
        Mode::Transactions => {
            producer.init_transactions(Timeout::Never).unwrap();
            let waiter = Waiter::new();
            sync(args, measured, |transaction| {
                producer.begin_transaction().unwrap();
                waiter.outstanding.store(args.transaction, Ordering::Release);
                for number in (transaction * args.transaction..).take(args.transaction as usize) {
                    let record = with_opaque(args, records, number, Arc::clone(&waiter));
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
                waiter.wait();
                commit_delivered(&producer);
            });
        }
        Mode::Sync => sync(args, measured, caller(0)),
        _ => sync_threads(args, measured, caller),
    }
}

fn base(args: &Args, measured: &Measured<'_>, records: &Records) {
    assert_eq!(args.threads, 1, "the one thread that polls is the one that sends");
    let producer = BaseProducer::from_config_and_context(&config(args), Counting::default()).unwrap();
    if args.is_transactional() {
        producer.init_transactions(Timeout::Never).unwrap();
    }
    match args.mode {
        Mode::Throughput => {
            let run = |count| {
                let before = producer.context().delivered();
                let delivered = || producer.context().delivered() - before;
                let sent = Cell::new(0);
                let send = |number| {
                    let mut record = record(args, records, number);
                    while let Err((error, refused)) = producer.send(record) {
                        assert!(is_full(&error), "{error}");
                        producer.poll(PAUSE);
                        record = refused;
                    }
                    // Each poll serves whatever there is.
                    if number % 1024 == 0 {
                        producer.poll(Duration::ZERO);
                    }
                    sent.set(number + 1);
                };
                // Not by `flush`, which polls for 100 ms.
                let wait = || {
                    while delivered() < sent.get() {
                        producer.poll(PAUSE);
                    }
                };
                if args.transaction_ms.is_some() {
                    let commit = || {
                        wait();
                        commit_delivered(&producer);
                    };
                    transactions_of(args, count, || producer.begin_transaction().unwrap(), send, commit);
                } else {
                    (0..count).for_each(send);
                    wait();
                }
                delivered()
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Transactions => sync(args, measured, |transaction| {
            producer.begin_transaction().unwrap();
            let before = producer.context().delivered();
            for number in (transaction * args.transaction..).take(args.transaction as usize) {
                producer.send(record(args, records, number)).map_err(|(error, _)| error).unwrap();
            }
            while producer.context().delivered() - before < args.transaction {
                producer.poll(Duration::ZERO);
            }
            commit_delivered(&producer);
        }),
        _ => sync(args, measured, |number| {
            let before = producer.context().delivered();
            producer.send(record(args, records, number)).map_err(|(error, _)| error).unwrap();
            while producer.context().delivered() == before {
                producer.poll(Duration::ZERO);
            }
        }),
    }
}

fn future(args: &Args, measured: &Measured<'_>, records: &Records) {
    let runtime = tasks::runtime(args);
    // The producer takes the runtime for its timers.
    let _entered = runtime.enter();
    let producer: FutureProducer<_, DefaultRuntime> =
        FutureProducer::from_config_and_context(&config(args), DefaultClientContext).unwrap();
    let record = |number| {
        let record = FutureRecord::<[u8], [u8]>::to(&args.topic).payload(records.value(number));
        match records.key(number) {
            Some(key) => record.key(key),
            None => record,
        }
    };
    let wait = |future: DeliveryFuture| drop(runtime.block_on(future).unwrap().map_err(|(error, _)| error).unwrap());
    let call = |number| wait(producer.send_result(record(number)).map_err(|(error, _)| error).unwrap());
    match args.mode {
        Mode::Throughput => {
            assert_eq!(args.threads, 1);
            let run = |count| {
                let (mut sent, mut acknowledged) = (VecDeque::<DeliveryFuture>::new(), 0);
                for number in 0..count {
                    let mut record = record(number);
                    loop {
                        match producer.send_result(record) {
                            Ok(future) => break sent.push_back(future),
                            Err((error, refused)) => {
                                assert!(is_full(&error), "{error}");
                                // As many as the queue holds; the oldest half makes room.
                                let half = sent.len() / 2;
                                runtime.block_on(async {
                                    for future in sent.drain(..half.max(1)) {
                                        future.await.unwrap().map_err(|(error, _)| error).unwrap();
                                        acknowledged += 1;
                                    }
                                });
                                record = refused;
                            }
                        }
                    }
                }
                runtime.block_on(async {
                    for future in sent {
                        future.await.unwrap().map_err(|(error, _)| error).unwrap();
                        acknowledged += 1;
                    }
                });
                acknowledged
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Sync => sync(args, measured, call),
        Mode::SyncThreads => sync_threads(args, measured, |_| call),
        Mode::Transactions => panic!("its threaded producer is the one for transactions"),
    }
}

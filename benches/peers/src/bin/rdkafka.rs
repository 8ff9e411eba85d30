//! rdkafka. `--client` says which of its producers:
//!
//! | client | throughput | sync, syncthreads |
//! |---|---|---|
//! | `threaded` | its thread polls; a callback counts | the callback unparks the caller |
//! | `base` | the sending thread polls | the caller spins on `poll(0)`; one caller only |
//! | `future` | the futures are kept and awaited | each future is awaited by its thread |

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use kafka_blocking_peers::{Args, Measured, Mode, Records, Window, sync, sync_threads, tasks, version_of};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryFuture, DeliveryResult, FutureProducer, FutureRecord, Producer as _,
    ProducerContext, ThreadedProducer,
};
use rdkafka::util::{DefaultRuntime, IntoOpaque};

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

/// Wakes the caller that waits for the record.
struct Waking;

struct Waiter {
    thread: Thread,
    done: AtomicBool,
}

impl ClientContext for Waking {}

impl ProducerContext for Waking {
    type DeliveryOpaque = Arc<Waiter>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiter: Arc<Waiter>) {
        assert!(result.is_ok(), "a record failed");
        waiter.done.store(true, Ordering::Release);
        waiter.thread.unpark();
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

fn threaded(args: &Args, measured: &Measured<'_>, records: &Records) {
    if args.mode == Mode::Throughput {
        let producer = ThreadedProducer::from_config_and_context(&config(args), Counting::default()).unwrap();
        let send = |count| {
            for number in 0..count {
                let mut record = record(args, records, number);
                while let Err((error, refused)) = producer.send(record) {
                    assert!(is_full(&error), "{error}");
                    thread::sleep(PAUSE);
                    record = refused;
                }
            }
        };
        let run = |total| {
            let before = producer.context().delivered();
            let delivered = || producer.context().delivered() - before;
            if args.threads == 1 {
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
            let waiter = waiter
                .get_or_insert_with(|| Arc::new(Waiter { thread: thread::current(), done: AtomicBool::new(false) }));
            producer.send(with_opaque(args, records, number, Arc::clone(waiter))).map_err(|(error, _)| error).unwrap();
            while !waiter.done.swap(false, Ordering::Acquire) {
                thread::park();
            }
        }
    };
    match args.mode {
        Mode::Sync => sync(args, measured, caller(0)),
        _ => sync_threads(args, measured, caller),
    }
}

fn base(args: &Args, measured: &Measured<'_>, records: &Records) {
    assert_eq!(args.threads, 1, "the one thread that polls is the one that sends");
    let producer = BaseProducer::from_config_and_context(&config(args), Counting::default()).unwrap();
    match args.mode {
        Mode::Throughput => {
            let run = |count| {
                let before = producer.context().delivered();
                let delivered = || producer.context().delivered() - before;
                for number in 0..count {
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
                }
                // Not by `flush`, which polls for 100 ms.
                while delivered() < count {
                    producer.poll(PAUSE);
                }
                delivered()
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
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
    }
}

//! kafka-blocking, as its users use it: `send` for throughput, `send().wait()` where the answer is needed, and in
//! transactions no look at the handles: `commit` fails if a record has failed.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use kafka_blocking::{Compression, Delivery, Producer, Record};
use kafka_blocking_peers::{
    Args, Measured, Mode, OUTSTANDING, Records, Window, sync, sync_threads, transactions_of, version_of,
};

const BOUND: Duration = Duration::from_secs(60);

fn main() {
    let args = Args::parse(&[]);
    let measured = Measured::new(&args, "kafka-blocking", version_of("kafka-blocking"), "idempotent");
    let mut builder = Producer::builder([&*args.bootstrap]).compression(match &*args.compression {
        "none" => Compression::None,
        "gzip" => Compression::gzip(),
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::zstd(),
        name => panic!("no codec {name}"),
    });
    if args.mode == Mode::Throughput {
        builder = builder.linger(Duration::from_millis(args.linger_ms));
    }
    // A thread that waits cuts the linger, and so does a commit: its default is as good as none.
    if let Some(bytes) = args.batch_size {
        builder = builder.batch_size(bytes);
    }
    if args.is_transactional() {
        builder = builder.transactional_id(args.transactional_id());
    }
    let producer = builder.build().unwrap();
    if args.is_transactional() {
        producer.init_transactions().unwrap();
    }
    let (args, producer, records) = (&args, &producer, &Records::new(args.size, args.keys));
    let record = move |number| Record::to(&args.topic).key(records.key(number)).value(records.value(number));
    let wait = move |number| drop(producer.send(record(number)).wait().unwrap());
    match args.mode {
        Mode::Throughput if args.transaction_ms.is_some() => {
            let run = |count| {
                let send = |number| drop(producer.send(record(number)));
                transactions_of(
                    args,
                    count,
                    || producer.begin_transaction().unwrap(),
                    send,
                    || producer.commit_transaction().unwrap(),
                );
                count
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Throughput => {
            // Keeps every handle and looks at each.
            let send = move |count| {
                let mut sent = VecDeque::<Delivery>::with_capacity(OUTSTANDING.min(count as usize));
                let mut acknowledged = 0;
                for number in 0..count {
                    if sent.len() == OUTSTANDING {
                        for delivery in sent.drain(..OUTSTANDING / 2) {
                            delivery.try_wait().unwrap_or_else(|| delivery.wait()).unwrap();
                            acknowledged += 1;
                        }
                    }
                    sent.push_back(producer.send(record(number)));
                }
                (sent, acknowledged)
            };
            let run = |total| {
                let mut acknowledged = 0;
                let sent = if args.threads == 1 {
                    vec![send(total)]
                } else {
                    thread::scope(|scope| {
                        let threads: Vec<_> = (0..args.threads)
                            .map(|index| scope.spawn(move || send(args.share(total, index))))
                            .collect();
                        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                    })
                };
                producer.flush_timeout(BOUND).unwrap();
                for (sent, counted) in sent {
                    acknowledged += counted;
                    for delivery in sent {
                        delivery.try_wait().expect("flushed").unwrap();
                        acknowledged += 1;
                    }
                }
                acknowledged
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Sync => sync(args, &measured, wait),
        Mode::SyncThreads => sync_threads(args, &measured, |_| wait),
        Mode::Transactions => sync(args, &measured, |number| {
            let transaction = producer.transaction().unwrap();
            for record in (number * args.transaction..).take(args.transaction as usize).map(record) {
                transaction.send(record);
            }
            transaction.commit().unwrap();
        }),
    }
    producer.close_timeout(BOUND).unwrap();
}

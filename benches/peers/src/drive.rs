//! The synchronous modes, for clients whose call blocks until the record is acknowledged, or the transaction committed;
//! and transactions that end by the clock.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::measure::{Measured, Window};

/// One caller with one record outstanding, or one transaction.
pub fn sync(args: &Args, measured: &Measured<'_>, mut call: impl FnMut(u64)) {
    (0..args.warmup).for_each(&mut call);
    let mut latencies = Vec::with_capacity(args.records as usize);
    let window = Window::open();
    timed(0..args.records, &mut latencies, &mut call);
    measured.report(&window.close(), latencies.len() as u64, latencies);
}

/// Sends `count` records in transactions that are committed once they have been open for `--transaction-ms`.
///
/// Clients look at the clock with every record that they send; these transactions with every 64th.
pub fn transactions_of(args: &Args, count: u64, begin: impl Fn(), mut send: impl FnMut(u64), commit: impl Fn()) {
    let open = Duration::from_millis(args.transaction_ms.unwrap());
    let mut number = 0;
    while number < count {
        begin();
        let began = Instant::now();
        while number < count {
            send(number);
            number += 1;
            if number.is_multiple_of(64) && began.elapsed() >= open {
                break;
            }
        }
        commit();
    }
}

/// `--threads` callers, each with one record outstanding. `caller` makes what a thread calls.
pub fn sync_threads<F: FnMut(u64)>(args: &Args, measured: &Measured<'_>, caller: impl Fn(usize) -> F + Sync) {
    let (ready, start) = (Barrier::new(args.threads + 1), Barrier::new(args.threads + 1));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|index| {
                let (ready, start, caller) = (&ready, &start, &caller);
                scope.spawn(move || {
                    let mut call = caller(index);
                    (0..args.share(args.warmup, index)).for_each(&mut call);
                    let records = args.share(args.records, index);
                    let mut latencies = Vec::with_capacity(records as usize);
                    ready.wait();
                    start.wait();
                    timed(0..records, &mut latencies, &mut call);
                    latencies
                })
            })
            .collect();
        ready.wait();
        let window = Window::open();
        start.wait();
        let latencies: Vec<Vec<u32>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let window = window.close();
        let latencies = latencies.concat();
        measured.report(&window, latencies.len() as u64, latencies);
    });
}

fn timed(records: impl Iterator<Item = u64>, latencies: &mut Vec<u32>, call: &mut impl FnMut(u64)) {
    for number in records {
        let began = Instant::now();
        call(number);
        latencies.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}

//! The synchronous modes for asynchronous clients: tasks in place of threads.

use std::future::Future;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use crate::args::Args;
use crate::measure::{Measured, Window};

/// The flag of the asynchronous clients.
pub const WORKERS: &str = "--workers";

/// A runtime with `--workers` threads (2); 0 is a runtime on the calling thread alone.
pub fn runtime(args: &Args) -> Runtime {
    match workers(args) {
        0 => Builder::new_current_thread().enable_all().build(),
        workers => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    }
    .unwrap()
}

/// The client's name with what distinguishes the runtime.
pub fn name(args: &Args, client: &str) -> String {
    if workers(args) == 0 { format!("{client}-ct") } else { client.to_owned() }
}

fn workers(args: &Args) -> usize {
    args.extra(WORKERS).map_or(2, |workers| workers.parse().unwrap())
}

/// Runs `body` as a task of the runtime: what `block_on` runs itself is no task of a worker, and slower.
pub fn run<F: Future<Output = ()> + Send + 'static>(runtime: &Runtime, body: F) {
    runtime.block_on(async { tokio::spawn(body).await.unwrap() });
}

/// One caller with one record outstanding.
pub async fn sync<F: Future<Output = ()>>(args: &Args, measured: &Measured<'_>, call: impl Fn(u64) -> F) {
    for number in 0..args.warmup {
        call(number).await;
    }
    let mut latencies = Vec::with_capacity(args.records as usize);
    let window = Window::open();
    timed(args.records, &mut latencies, &call).await;
    measured.report(&window.close(), latencies.len() as u64, latencies);
}

/// `--threads` tasks, each with one record outstanding. `caller` makes what a task calls.
pub async fn sync_tasks<C, F>(args: &Args, measured: &Measured<'_>, caller: impl Fn(usize) -> C)
where
    C: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(args.threads + 1));
    let tasks: Vec<_> = (0..args.threads)
        .map(|index| {
            let (call, barrier) = (caller(index), barrier.clone());
            let (warmup, records) = (args.share(args.warmup, index), args.share(args.records, index));
            tokio::spawn(async move {
                for number in 0..warmup {
                    call(number).await;
                }
                let mut latencies = Vec::with_capacity(records as usize);
                barrier.wait().await;
                barrier.wait().await;
                timed(records, &mut latencies, &call).await;
                latencies
            })
        })
        .collect();
    barrier.wait().await;
    let window = Window::open();
    barrier.wait().await;
    let mut latencies = Vec::with_capacity(args.records as usize);
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    measured.report(&window.close(), latencies.len() as u64, latencies);
}

async fn timed<F: Future<Output = ()>>(records: u64, latencies: &mut Vec<u32>, call: &impl Fn(u64) -> F) {
    for number in 0..records {
        let began = Instant::now();
        call(number).await;
        latencies.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}

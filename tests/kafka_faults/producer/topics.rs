//! Topics that are deleted and made anew under load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Delivery, Producer, Record};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::wait_for;
use crate::{LIMIT, await_in_sync, sound_cluster, turn};

/// How often each topic is made anew.
const ROUNDS: usize = 20;

/// One producer and its topic of one partition.
struct Flow {
    topic: &'static str,
    producer: Producer,
    /// In the order in which they were sent.
    results: Mutex<Results>,
}

#[derive(Default)]
struct Results {
    /// The numbers and offsets of the records that the present topic has acknowledged.
    acknowledged: Vec<(u64, i64)>,
    /// How often the offsets have begun again.
    restarts: usize,
    errors: Vec<String>,
}

impl Flow {
    fn new(cluster: &Cluster, topic: &'static str, idempotent: bool) -> Self {
        let producer = Producer::builder(cluster.bootstrap())
            .idempotence(idempotent)
            .delivery_timeout(LIMIT)
            .request_timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self { topic, producer, results: Mutex::default() }
    }

    /// Sends numbers until it is stopped, and takes the results in.
    fn run(&self, stop: &AtomicBool) {
        let (tell, told) = channel::<(u64, Delivery)>();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let record = Record::to(self.topic).partition(0).value(number.to_string());
                    tell.send((number, self.producer.send(record))).unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            for (number, delivery) in told {
                let result = delivery.wait();
                let mut results = self.results.lock().unwrap();
                match result {
                    Ok(metadata) => {
                        let last = results.acknowledged.last().map_or(-1, |(_, offset)| *offset);
                        if metadata.offset().unwrap() <= last {
                            results.restarts += 1;
                            results.acknowledged.clear();
                        }
                        results.acknowledged.push((number, metadata.offset().unwrap()));
                    }
                    Err(error) => results.errors.push(format!("{number}: {error:?}")),
                }
            }
        });
    }

    fn restarts(&self) -> usize {
        self.results.lock().unwrap().restarts
    }

    /// Waits until records are acknowledged that were sent after this call.
    fn await_progress(&self) {
        let count = || self.results.lock().unwrap().acknowledged.len();
        let before = count();
        wait_for("acknowledgements", LIMIT, || (count() > before + 20).then_some(()));
    }

    /// Whether the producer knows that there is no such topic.
    fn has_heard(&self) -> bool {
        self.producer.partitions_for(self.topic).unwrap().iter().all(|partition| partition.leader.is_none())
    }
}

fn create(cluster: &Cluster, topic: &str) {
    // A deletion takes a while, and until then the name is in use.
    let fields = ["create", topic, "1", "3"];
    wait_for("the deletion", LIMIT, || cluster.admin().try_run(&fields).ok().map(drop));
}

/// Makes another replica the leader, in a new epoch.
fn move_leader(cluster: &Cluster, topic: &str) {
    let mut replicas = cluster.admin().describe(topic).remove(0).replicas;
    replicas.rotate_left(1);
    cluster.admin().reassign(topic, 0, &replicas);
    cluster.admin().elect_preferred_leaders(topic);
    wait_for("the election", LIMIT, || (cluster.admin().leader(topic, 0) == replicas[0]).then_some(()));
}

/// Deletes two topics and makes them anew again and again, one for an idempotent producer and one for another, after
/// their leaders have moved. Every other time the producers hear that there is no such topic.
fn make_anew_under_load(cluster: &Cluster) {
    let flows = [("anew.idempotent", true), ("anew.plain", false)].map(|(topic, idempotent)| {
        create(cluster, topic);
        await_in_sync(cluster, topic);
        Flow::new(cluster, topic, idempotent)
    });
    let stop = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    thread::scope(|scope| {
        for flow in &flows {
            scope.spawn(|| flow.run(&stop));
        }
        // However the script ends, so does the load.
        let _stopping = Stopping(&stop);
        for round in 0..ROUNDS {
            for flow in &flows {
                flow.await_progress();
                move_leader(cluster, flow.topic);
                flow.await_progress();
                cluster.admin().delete_topic(flow.topic);
            }
            if round % 2 == 0 {
                wait_for("the producers to hear of it", LIMIT, || flows.iter().all(Flow::has_heard).then_some(()));
            }
            for flow in &flows {
                create(cluster, flow.topic);
            }
            let begin = Instant::now();
            for flow in &flows {
                wait_for("an acknowledgement of the new topic", LIMIT, || (flow.restarts() > round).then_some(()));
            }
            slowest = slowest.max(begin.elapsed());
        }
        for flow in &flows {
            flow.await_progress();
        }
    });
    eprintln!(
        "{}: topics made anew {ROUNDS} times, the slowest went on after {slowest:.1?}",
        cluster.version().number()
    );
    for (flow, idempotent) in flows.iter().zip([true, false]) {
        flow.producer.close_timeout(LIMIT).unwrap();
        let results = flow.results.lock().unwrap();
        assert_eq!(results.errors, [""; 0], "{}", flow.topic);
        assert_eq!(results.restarts, ROUNDS, "{}", flow.topic);
        let log: Vec<(u64, i64)> = cluster
            .admin()
            .read(flow.topic)
            .iter()
            .map(|record| (String::from_utf8_lossy(record.value.as_deref().unwrap()).parse().unwrap(), record.offset))
            .collect();
        if idempotent {
            assert_eq!(log, results.acknowledged, "{}: each once, in order", flow.topic);
        } else {
            assert!(results.acknowledged.iter().all(|record| log.contains(record)), "{}", flow.topic);
        }
        cluster.admin().delete_topic(flow.topic);
    }
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn topics_are_made_anew_under_load_on_4_3() {
    let _turn = turn();
    make_anew_under_load(sound_cluster());
}

#[test]
fn topics_are_made_anew_under_load_on_3_9() {
    let _turn = turn();
    make_anew_under_load(&Cluster::start(Options::three(Version::V3_9)));
}

#[test]
fn topics_are_made_anew_under_load_on_2_8() {
    let _turn = turn();
    make_anew_under_load(&Cluster::start(Options::three(Version::V2_8)));
}

//! Brokers die, stop, and hand partitions over.

use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::{Producer, Record};

use super::load::{Flow, Load};
use crate::support::kafka::{Cluster, shared_single};
use crate::support::proxy::METADATA;
use crate::support::wait_for;
use crate::{LIMIT, await_in_sync, sound_cluster, turn};

const MILLION: u64 = 1_000_000;

#[test]
fn a_million_records_on_one_node() {
    let _turn = turn();
    let cluster = shared_single();
    let load = Load::new("faults.one-node").create(cluster);
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), u64::MAX, |_, _| {});
    outcome.print("one node, no fault", "none");
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
}

#[test]
fn a_million_records_on_three_nodes() {
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.three-nodes").create(cluster);
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), u64::MAX, |_, _| {});
    outcome.print("three nodes, no fault", "none");
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
}

/// The partitions that a broker leads.
fn led_by(cluster: &Cluster, topic: &str, broker: i32) -> Vec<usize> {
    let partitions = cluster.admin().describe(topic);
    (0..partitions.len()).filter(|index| partitions[*index].leader == Some(broker)).collect()
}

#[test]
fn a_million_records_while_the_leader_is_killed_five_times() {
    const KILLS: u64 = 5;
    // Records between one kill and the next; half of them are sent while the broker is dead, half while it comes back.
    const STEP: u64 = MILLION / KILLS;
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.kills").create(cluster);
    let mut kills = 0;
    let script = |flow: &Flow, _: &Producer| {
        for round in 0..KILLS {
            let leader = cluster.admin().leader(load.topic(), round as usize);
            let (node, partitions) = (cluster.node_of(leader), led_by(cluster, load.topic(), leader));
            // So many that the kill falls among them.
            flow.open(round * STEP + STEP / 2);
            flow.await_acked(round * STEP + STEP / 8);
            flow.mark(partitions);
            cluster.kill(node);
            kills += 1;
            flow.open(round * STEP + STEP * 3 / 4);
            flow.await_recovery();
            cluster.spawn(node);
            flow.open((round + 1) * STEP);
            cluster.wait_ready(node);
            await_in_sync(cluster, load.topic());
            cluster.admin().elect_preferred_leaders(load.topic());
        }
    };
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), 0, script);
    outcome.print("leader killed", format_args!("{kills} kills"));
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
    assert_eq!(outcome.recoveries.len() as u64, KILLS);
    assert!(outcome.metrics.connections_lost >= KILLS && outcome.metrics.batches_retried > 0);
}

#[test]
fn a_million_records_while_a_broker_is_stopped() {
    const STOPPED: Duration = Duration::from_secs(10);
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.stopped").create(cluster);
    let script = |flow: &Flow, _: &Producer| {
        flow.await_acked(MILLION / 8);
        let leader = cluster.admin().leader(load.topic(), 0);
        let node = cluster.node_of(leader);
        flow.mark(led_by(cluster, load.topic(), leader));
        cluster.stop(node);
        let begin = Instant::now();
        flow.open(MILLION / 2);
        thread::sleep(STOPPED);
        assert!(flow.resolved() < flow.sent(), "nothing was held up");
        cluster.cont(node);
        eprintln!("stopped for {:?}", begin.elapsed());
        flow.await_recovery();
    };
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), MILLION / 4, script);
    outcome.print("broker stopped and continued", format_args!("{STOPPED:?} of SIGSTOP"));
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
    assert!(outcome.longest_stall >= Duration::from_secs(2), "the stop was not felt");
}

#[test]
fn a_million_records_while_partitions_move() {
    const ROUNDS: u64 = 3;
    const PARTITIONS: usize = 12;
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.moves");
    let ids: Vec<i32> = (0..3).map(|node| cluster.broker_id(node)).collect();
    // Two replicas on three brokers, so that a move has data to copy.
    let place = |partition: usize, round: u64| {
        let first = (partition + round as usize) % 3;
        [ids[first], ids[(first + 1) % 3]]
    };
    let places: Vec<[i32; 2]> = (0..PARTITIONS).map(|partition| place(partition, 0)).collect();
    let places: Vec<&[i32]> = places.iter().map(|replicas| &replicas[..]).collect();
    cluster.admin().create_topic_on(load.topic(), &places);
    let mut moves = 0;
    let script = |flow: &Flow, _: &Producer| {
        for round in 1..=ROUNDS {
            for partition in 0..PARTITIONS {
                cluster.admin().reassign(load.topic(), partition, &place(partition, round));
                moves += 1;
                // Some are left for the last move.
                flow.open(MILLION * moves / (ROUNDS * PARTITIONS as u64 + 4) + MILLION / 20);
            }
            cluster.admin().elect_preferred_leaders(load.topic());
        }
    };
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), MILLION / 20, script);
    outcome.print("partitions move", format_args!("{moves} moves"));
    outcome.assert_all_delivered();
    assert_eq!(outcome.report.acked, MILLION);
    assert!(outcome.metrics.error_answers > 0, "no leader had moved under a batch");
}

#[test]
fn a_leader_that_moves_costs_about_one_metadata_request() {
    const MOVES: u64 = 30;
    let _turn = turn();
    let cluster = sound_cluster();
    let load = Load::new("faults.elections").partitions(1).threads(2).until_the_end(2_000).create(cluster);
    let metadata_requests = || -> u64 {
        (0..3).map(|node| cluster.proxy(node).counts().requests.get(&METADATA).copied().unwrap_or(0)).sum()
    };
    let (mut before, mut after, mut moved) = (0, 0, 0);
    let script = |flow: &Flow, _: &Producer| {
        flow.await_acked(100);
        before = metadata_requests();
        for _ in 0..MOVES {
            let partition = cluster.admin().describe(load.topic()).remove(0);
            let mut replicas = partition.replicas;
            replicas.rotate_left(1);
            cluster.admin().reassign(load.topic(), 0, &replicas);
            flow.mark([0]);
            cluster.admin().elect_preferred_leaders(load.topic());
            wait_for("the election", LIMIT, || (cluster.admin().leader(load.topic(), 0) == replicas[0]).then_some(()));
            moved += 1;
            flow.await_recovery();
        }
        after = metadata_requests();
    };
    let outcome = load.run(cluster, Producer::builder(cluster.bootstrap()), u64::MAX, script);
    let requests = after - before;
    outcome.print("leader moves", format_args!("{moved} moves, {requests} metadata requests"));
    outcome.assert_all_delivered();
    assert!(outcome.metrics.error_answers >= MOVES / 2, "the producer hardly noticed");
    // A broker may be late to hear of an election, and is asked again then. Without a pause it would be thousands.
    assert!(requests <= 5 * MOVES, "{requests} metadata requests for {MOVES} moves");
}

/// What the process has in memory, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A record for each of many partitions, acknowledged; answers how long that took.
fn round_of_all(producer: &Producer, topic: &str, partitions: usize) -> Duration {
    let started = Instant::now();
    let record = |partition| producer.send(Record::to(topic).partition(partition).value("moved"));
    let sent: Vec<_> = (0..partitions as i32).map(record).collect();
    for delivery in sent {
        delivery.wait_timeout(LIMIT).expect("a result within the limit").unwrap();
    }
    started.elapsed()
}

#[test]
fn thousands_of_leaders_that_move_at_once_cost_no_record_and_little_memory() {
    // As many as a machine of two cores makes in a bearable time; the fake cluster moves more.
    const PARTITIONS: usize = 1000;
    const TOPIC: &str = "faults.many-leaders";
    let _turn = turn();
    let cluster = sound_cluster();
    let [first, second, third] = [0, 1, 2].map(|node| cluster.broker_id(node));
    cluster.admin().create_topic_on(TOPIC, &vec![&[first, second, third][..]; PARTITIONS]);
    // A batch of each partition fits into one request, so that one answer tells of all.
    let producer = Producer::builder(cluster.bootstrap()).linger(Duration::from_millis(500)).build().unwrap();
    let mut rounds = 0;
    let mut round = || {
        rounds += 1;
        round_of_all(&producer, TOPIC, PARTITIONS)
    };
    round();
    let usual = round();
    let (mut times, before) = (Vec::new(), resident_kib());
    let mut peak = before;
    // Away from the first broker, which ends, and back, while the second one tells of it.
    cluster.terminate(0);
    times.push(round());
    peak = peak.max(resident_kib());
    assert_eq!(led_by(cluster, TOPIC, first).len(), 0);
    cluster.restart(0);
    await_in_sync(cluster, TOPIC);
    let errors = producer.metrics().error_answers;
    cluster.admin().elect_preferred_leaders(TOPIC);
    times.push(round());
    peak = peak.max(resident_kib());
    let met = producer.metrics().error_answers - errors;
    assert!(met > 0, "no batch met an old leader");
    assert_eq!(led_by(cluster, TOPIC, first).len(), PARTITIONS);
    let grown = peak.saturating_sub(before);
    println!("{PARTITIONS} leaders moved twice: a round of all took {times:?} (usually {usual:?}), {grown} KiB more");
    assert!(grown < 64 << 10, "{grown} KiB");
    assert!(times.iter().all(|time| *time < Duration::from_secs(60)), "{times:?}");
    assert!(cluster.admin().end_offsets(TOPIC).iter().all(|end| *end == rounds));
    producer.close_timeout(LIMIT).unwrap();
    cluster.admin().delete_topic(TOPIC);
}

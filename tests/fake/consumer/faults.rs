//! What faults of brokers and connections do to what is read.

use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{ErrorCode, ErrorKind, OutOfRange, Start};

use super::*;

#[test]
fn every_record_comes_once_while_leaders_move_and_connections_break() {
    watch_for_panics();
    let cluster = three_brokers("t", 6);
    for partition in 0..6 {
        write(&cluster, partition, 0, 3000);
    }
    let builder = consumer(&cluster).max_partition_fetch_bytes(2000).max_poll_bytes(5000).buffer_memory(64 * 1024);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let brokers = cluster.brokers();
    let (mut next, mut read, mut moves) = ([0; 6], 0, 0);
    while next != [3000; 6] {
        for record in consumer.poll(BOUND).unwrap().records() {
            let record = record.unwrap();
            let place = record.partition() as usize;
            assert_eq!((record.offset(), number(record.value())), (next[place], next[place] as u64));
            next[place] += 1;
            read += 1;
        }
        if read / 200 > moves {
            moves = read / 200;
            let broker = brokers[moves % 3];
            cluster.move_leader("t", (moves % 6) as i32, broker).unwrap();
            if moves % 5 == 0 {
                cluster.cut_connections(broker);
            }
        }
    }
    assert!(moves > 50);
    assert_no_refusals(&cluster);
    assert_no_panics();
}

#[test]
fn a_killed_leader_costs_no_record() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(3).replication(3).topic("t", 3).start().unwrap();
    for partition in 0..3 {
        write(&cluster, partition, 0, 500);
    }
    let mut consumer =
        consumer(&cluster).max_partition_fetch_bytes(1024).assign_topic("t", Start::Beginning).build().unwrap();
    let mut next = [0; 3];
    let take = |consumer: &mut Consumer, count: usize, next: &mut [i64; 3]| {
        for record in super::take(consumer, count) {
            let place = record.partition() as usize;
            assert_eq!(record.offset(), next[place]);
            next[place] += 1;
        }
    };
    take(&mut consumer, 100, &mut next);
    let victim = cluster.leader("t", 0).unwrap().unwrap();
    cluster.kill(victim);
    take(&mut consumer, 700, &mut next);
    cluster.restart(victim).unwrap();
    take(&mut consumer, 700, &mut next);
    assert_eq!(next, [500; 3]);
    assert_no_panics();
}

/// Each answer that is an error for a while, for a fetch and for the question where a partition begins.
#[test]
fn an_error_that_passes_moves_no_position() {
    watch_for_panics();
    let codes = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode(4711),
    ];
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 100);
    for code in codes {
        for api in [Api::Fetch, Api::ListOffsets] {
            let fault = cluster.inject(On::api(api).topic("t").times(3), Fault::Error(code));
            let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
            assert_eq!(offsets(&take(&mut consumer, 100)), (0..100).collect::<Vec<_>>(), "{code} {api:?}");
            assert_eq!(fault.fired(), 3, "{code} {api:?}");
        }
    }
    assert_no_panics();
}

#[test]
fn connections_that_break_in_any_way_cost_no_record() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 1000);
    for fault in [
        Fault::DropAnswer,
        Fault::CutBefore,
        Fault::Garbage(vec![0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        Fault::Garbage(vec![0x7f, 0xff, 0xff, 0xff, 0]),
        Fault::WrongCorrelation,
        Fault::Truncate(100),
        Fault::RepeatAnswer,
    ] {
        for api in [Api::Fetch, Api::ListOffsets] {
            let fired = cluster.inject(On::api(api).topic("t").times(2), fault.clone());
            let builder = consumer(&cluster).max_partition_fetch_bytes(3000);
            let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
            assert_eq!(offsets(&take(&mut consumer, 1000)), (0..1000).collect::<Vec<_>>(), "{fault:?} {api:?}");
            assert!(fired.fired() > 0, "{fault:?} {api:?}");
            fired.cancel();
        }
    }
    assert_no_panics();
}

#[test]
fn a_broker_that_stands_still_is_asked_again_after_the_request_timeout() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 10);
    let hung = cluster.inject(On::api(Api::Fetch), Fault::Hang);
    let builder = consumer(&cluster).request_timeout(ms(300)).fetch_max_wait(ms(100));
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    assert_eq!(take(&mut consumer, 10).len(), 10);
    assert_eq!(hung.fired(), 1);
    assert_no_panics();
}

#[test]
fn a_broker_that_wants_a_pause_gets_it() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    for n in 0..10 {
        write(&cluster, 0, 100 * n, 100 * (n + 1));
    }
    let throttled = cluster.inject(On::api(Api::Fetch).times(2), Fault::Throttle(700));
    let builder = consumer(&cluster).max_partition_fetch_bytes(1024);
    let begun = std::time::Instant::now();
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 1000);
    assert_eq!(throttled.fired(), 2);
    assert!(begun.elapsed() >= ms(1400), "{:?}", begun.elapsed());
    assert_no_panics();
}

#[test]
fn a_topic_made_anew_is_told_and_not_continued() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 10);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 5);
    cluster.recreate_topic("t").unwrap();
    write(&cluster, 0, 100, 120);
    let mut read = 5;
    let error = consumer.records().find_map(|record| match record {
        Ok(record) => {
            assert!(number(record.value()) < 100, "a record of another topic");
            read += 1;
            None
        }
        Err(error) => Some(error),
    });
    let error = error.unwrap();
    assert_eq!((read, error.kind(), error.context().partition), (10, ErrorKind::TopicRecreated, Some(0)), "{error}");
    assert!(consumer.records().next().is_none(), "nothing can come any more");
    consumer.handle().seek(&partition(0), Start::Beginning).unwrap();
    let first = take(&mut consumer, 20);
    assert_eq!((number(first[0].value()), first[0].offset()), (100, 0));
    assert_no_panics();
}

#[test]
fn a_partition_without_a_leader_is_read_when_it_has_one() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    write(&cluster, 0, 0, 10);
    cluster.leaderless("t", 0).unwrap();
    let mut consumer = consumer(&cluster).assign(partition(0), Start::Beginning).build().unwrap();
    assert!(consumer.poll(ms(200)).unwrap().is_empty());
    cluster.move_leader("t", 0, cluster.brokers()[1]).unwrap();
    assert_eq!(take(&mut consumer, 10).len(), 10);
    assert_no_panics();
}

#[test]
fn records_deleted_below_the_position_are_told() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 100);
    let builder = consumer(&cluster).max_partition_fetch_bytes(1024).buffer_memory(64 * 1024);
    let mut consumer = builder.assign(partition(0), Start::Beginning).build().unwrap();
    take(&mut consumer, 1);
    cluster.delete_records("t", 0, 100).unwrap();
    consumer.handle().seek(&partition(0), Start::Offset(50)).unwrap();
    let error = consumer.records().next().unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(error.context().offset, Some(50));
    assert_no_panics();
}

/// An unclean election: the log loses its end, and another leader writes other records there.
fn cut(cluster: &FakeCluster, at: i64, to: u64) {
    cluster.truncate_log("t", 0, at).unwrap();
    let other = cluster.brokers().into_iter().find(|broker| Some(*broker) != cluster.leader("t", 0).unwrap()).unwrap();
    cluster.move_leader("t", 0, other).unwrap();
    write(cluster, 0, 1000, to);
}

#[test]
fn a_log_that_was_cut_below_the_position_is_told() {
    watch_for_panics();
    for goes_on in [false, true] {
        let cluster = three_brokers("t", 1);
        for n in 0..10 {
            write(&cluster, 0, 10 * n, 10 * (n + 1));
        }
        let then = if goes_on { OutOfRange::Beginning } else { OutOfRange::Error };
        let mut consumer =
            consumer(&cluster).out_of_range(then).assign(partition(0), Start::Beginning).build().unwrap();
        assert_eq!(take(&mut consumer, 100).len(), 100);
        cut(&cluster, 50, 1100);
        if goes_on {
            let records = take(&mut consumer, 100);
            assert_eq!(offsets(&records), (50..150).collect::<Vec<_>>());
            assert!(records.iter().all(|record| number(record.value()) >= 1000));
            continue;
        }
        let error = consumer.records().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LogTruncated, "{error}");
        assert_eq!((error.context().offset, error.context().next_offset), (Some(100), Some(50)));
        assert!(consumer.records().next().is_none(), "nothing can come any more");
        consumer.handle().seek(&partition(0), Start::Offset(error.context().next_offset.unwrap())).unwrap();
        assert_eq!(number(take(&mut consumer, 1)[0].value()), 1000);
    }
    assert_no_panics();
}

#[test]
fn a_log_that_was_cut_behind_what_the_program_has_got_is_read_again() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    for n in 0..10 {
        write(&cluster, 0, 10 * n, 10 * (n + 1));
    }
    let builder = consumer(&cluster).max_poll_bytes(1);
    let mut consumer = builder.assign(partition(0), Start::Beginning).build().unwrap();
    assert_eq!(take(&mut consumer, 10).len(), 10);
    let handle = consumer.handle();
    until("all is read ahead", || handle.lag(&partition(0)).unwrap() == Some(90));
    cut(&cluster, 50, 1010);
    until("what was read ahead is thrown away", || handle.lag(&partition(0)).unwrap().is_some_and(|lag| lag < 60));
    let records = take(&mut consumer, 50);
    assert_eq!(offsets(&records), (10..60).collect::<Vec<_>>());
    assert_eq!(number(records[40].value()), 1000, "the new records at the old offsets");
    assert_no_panics();
}

//! The judge finds each kind of fault, and none where there is none.

use crate::support::ledger::{Ledger, MIN_VALUE, Report, Ticket};

type Log = Vec<(&'static str, i32, i64, Vec<u8>)>;

/// Two producers send ten records each to `t`-0, acknowledged at the offsets where the log has them.
fn sound() -> (Ledger, Log) {
    let ledger = Ledger::new(2);
    let mut log = Log::new();
    for offset in 0..20 {
        let (ticket, value) = ledger.accept(offset as u32 % 2, "t", Some(0), 100);
        assert_eq!(value.len(), 100);
        ledger.acked(ticket, 0, Some(offset));
        log.push(("t", 0, offset, value));
    }
    (ledger, log)
}

fn number(log: &mut Log) {
    log.iter_mut().enumerate().for_each(|(index, record)| record.2 = index as i64);
}

#[track_caller]
fn finds(report: &Report, faults: u64) {
    assert_eq!(report.faults(), faults, "{report}");
    assert!(report.details.len() as u64 >= faults.min(20), "{report}");
}

#[test]
fn a_sound_log_is_found_sound() {
    let (ledger, log) = sound();
    let report = ledger.judge_all(log.clone());
    report.assert_safe();
    assert_eq!((report.accepted, report.acked, report.read), (20, 20, 20));
    assert_eq!(report.details, Vec::<String>::new());
    assert_eq!(report.digests, ledger.judge_all(log).digests);
    assert_eq!(ledger.pending(), 0);
}

#[test]
fn a_lost_record_is_found() {
    let (ledger, mut log) = sound();
    log.remove(7);
    let report = ledger.judge_all(log);
    finds(&report, 1);
    assert_eq!((report.lost, report.details[0].as_str()), (1, "t-0@7: producer 1 record 3 is lost"));
    assert_eq!(ledger.judge().finish().lost, 20);
}

#[test]
fn a_record_at_another_offset_than_acknowledged_is_found() {
    let (ledger, mut log) = sound();
    log[19].2 = 25;
    let report = ledger.judge_all(log);
    finds(&report, 1);
    assert_eq!(report.wrong_offset, 1);
}

#[test]
fn an_acknowledgement_without_an_offset_asks_only_for_presence() {
    let ledger = Ledger::new(1);
    let (ticket, value) = ledger.accept(0, "t", None, 0);
    assert_eq!(value.len(), MIN_VALUE);
    ledger.acked(ticket, 3, None);
    ledger.judge_all([("t", 3, 17, &value)]).assert_safe();
    let report = ledger.judge_all([("t", 2, 17, &value)]);
    assert_eq!((report.misrouted, report.lost), (1, 1));
    assert_eq!(ledger.judge_all::<&str, &[u8]>([]).lost, 1);
}

#[test]
fn a_duplicate_is_found_and_is_no_change_of_order() {
    let (ledger, mut log) = sound();
    let again = log[3].3.clone();
    log.push(("t", 0, 20, again));
    let report = ledger.judge_all(log);
    finds(&report, 1);
    assert_eq!((report.duplicated, report.faults_but_duplicates()), (1, 0));
}

#[test]
fn a_duplicate_before_the_acknowledged_copy_leaves_that_in_its_place() {
    let ledger = Ledger::new(1);
    let (ticket, value) = ledger.accept(0, "t", Some(0), 50);
    ledger.acked(ticket, 0, Some(1));
    let report = ledger.judge_all([("t", 0, 0, &value), ("t", 0, 1, &value)]);
    assert_eq!((report.duplicated, report.wrong_offset, report.faults()), (1, 0, 1));
}

#[test]
fn a_change_of_order_is_found_within_a_producer_and_not_between_two() {
    let ledger = Ledger::new(2);
    let mut log: Log = Vec::new();
    let mut tickets: Vec<(Ticket, usize)> = Vec::new();
    for (producer, place) in [(0, 0), (0, 3), (0, 2), (1, 1)] {
        let (ticket, value) = ledger.accept(producer, "t", Some(0), 50);
        tickets.push((ticket, place));
        log.push(("t", 0, place as i64, value));
    }
    log.sort_by_key(|record| record.2);
    for (ticket, place) in tickets {
        ledger.acked(ticket, 0, Some(place as i64));
    }
    let report = ledger.judge_all(log);
    finds(&report, 1);
    assert_eq!(report.reordered, 1);
}

#[test]
fn a_record_in_another_partition_or_topic_is_found() {
    let (ledger, mut log) = sound();
    let (ticket, value) = ledger.accept(0, "u", Some(5), 100);
    ledger.acked(ticket, 5, Some(0));
    let stray = log[4].3.clone();
    log.push(("u", 5, 0, value));
    for place in [("t", 1), ("u", 5), ("v", 0)] {
        let mut log = log.clone();
        log.push((place.0, place.1, 9, stray.clone()));
        let report = ledger.judge_all(log);
        finds(&report, 1);
        assert_eq!(report.misrouted, 1);
    }
    // One record's bytes in place of another's: the one is astray and the other is lost.
    log[20].3 = stray;
    let report = ledger.judge_all(log);
    assert_eq!((report.misrouted, report.lost, report.faults()), (1, 1, 2));
}

#[test]
fn damage_is_found_in_every_byte() {
    let (ledger, log) = sound();
    for byte in 0..100 {
        let mut log = log.clone();
        log[5].3[byte] ^= 1;
        let report = ledger.judge_all(log);
        assert_eq!((report.corrupt, report.lost, report.faults()), (1, 1, 2));
    }
    for length in 0..100 {
        let mut log = log.clone();
        log[5].3.truncate(length);
        assert_eq!(ledger.judge_all(log).corrupt, 1);
    }
}

#[test]
fn a_record_of_another_run_or_never_sent_is_found() {
    let (ledger, mut log) = sound();
    let stranger = Ledger::new(3);
    let (_, value) = stranger.accept(2, "t", Some(0), 100);
    log.push(("t", 0, 20, value));
    let report = ledger.judge_all(log);
    finds(&report, 1);
    assert_eq!(report.invented, 1);
}

#[test]
fn failed_unknown_and_pending_are_told_apart() {
    let ledger = Ledger::new(1);
    let mut values = Vec::new();
    let mut tickets = Vec::new();
    for _ in 0..5 {
        let (ticket, value) = ledger.accept(0, "t", Some(0), 60);
        tickets.push(ticket);
        values.push(value);
    }
    ledger.failed(tickets[0]);
    ledger.failed(tickets[1]);
    ledger.unknown(tickets[2]);
    ledger.unknown(tickets[3]);
    assert_eq!((ledger.pending(), ledger.accepted()), (1, 5));
    let mut log: Log = vec![("t", 0, 0, values[2].clone())];
    let report = ledger.judge_all(log.clone());
    assert_eq!((report.failed, report.unknown, report.unknown_and_present, report.pending), (2, 2, 1, 1));
    assert_eq!(report.faults(), 1, "only the pending one");
    ledger.unknown(tickets[4]);
    ledger.judge_all(log.clone()).assert_safe();
    log.insert(0, ("t", 0, 0, values[1].clone()));
    number(&mut log);
    let report = ledger.judge_all(log);
    assert_eq!((report.failed_but_present, report.faults()), (1, 1));
}

#[test]
fn a_second_completion_is_found_and_changes_nothing() {
    let (ledger, log) = sound();
    ledger.failed(Ticket { producer: 0, sequence: 0 });
    let report = ledger.judge_all(log);
    assert_eq!((report.completed_again, report.faults(), report.failed), (1, 1, 0));
}

#[test]
fn an_offset_read_twice_is_found_and_another_value_changes_the_digest() {
    let (ledger, log) = sound();
    let digests = ledger.judge_all(log.clone()).digests;
    let mut twice = log.clone();
    twice[1].2 = 0;
    assert_eq!(ledger.judge_all(twice).inconsistent, 1);
    let mut other = log;
    other.swap(2, 3);
    number(&mut other);
    assert_ne!(ledger.judge_all(other).digests, digests);
}

#[test]
fn a_million_records_are_judged_in_little_memory_and_time() {
    let ledger = Ledger::new(1);
    let mut judge_input = Vec::with_capacity(1_000_000);
    for offset in 0..1_000_000 {
        let (ticket, value) = ledger.accept(0, "t", Some(0), MIN_VALUE);
        ledger.acked(ticket, 0, Some(offset));
        judge_input.push(value);
    }
    let mut judge = ledger.judge();
    for (offset, value) in judge_input.iter().enumerate() {
        judge.record("t", 0, offset as i64, value);
    }
    judge.finish().assert_safe();
}

//! Exactly once although answers to EndTxn are lost, or come after the call has given up: a program that does what
//! `recovery()` and `written()` say, against real Kafka behind a proxy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_blocking::{Error, Producer, Record, Recovery, Result, Written};

use crate::support::admin::Isolation;
use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::proxy::{Cut, END_TXN, Fault};

/// Sets how many transactions there are.
const TRANSACTIONS: &str = "KAFKA_BLOCKING_LOSS_TRANSACTIONS";

/// `max_block`, which a delayed answer takes longer than.
const PATIENCE: Duration = Duration::from_millis(300);

const MINUTE: Duration = Duration::from_secs(60);

const TOPIC: &str = "payments";

#[test]
fn every_unit_of_work_is_committed_once_on_4_3() {
    run(Version::V4_3);
}

#[test]
fn every_unit_of_work_is_committed_once_on_3_9() {
    run(Version::V3_9);
}

/// What the program was told, so that the test can tell that it was told everything.
#[derive(Debug, Default)]
struct Told {
    repeated: u64,
    corrected: u64,
    in_doubt: u64,
    asked_again: u64,
    committed_late: u64,
}

struct Program {
    producer: Producer,
    told: Told,
}

impl Program {
    /// Does a unit of work: a record to each of two partitions, or neither.
    fn pay(&mut self, number: u64) {
        let value = format!("payment-{number}");
        let mut is_wrong = number.is_multiple_of(29);
        let deadline = Instant::now() + 2 * MINUTE;
        loop {
            assert!(Instant::now() < deadline, "{value} takes too long");
            let done = self.producer.in_transaction(|transaction| -> Result<()> {
                for partition in [0, 1] {
                    transaction.send(Record::to(TOPIC).partition(partition).value(&*value));
                }
                if is_wrong {
                    transaction.send(Record::to(TOPIC).partition(7).value(&*value)).wait()?;
                }
                Ok(())
            });
            let Err(error) = done else { return };
            match (error.written(), error.recovery()) {
                (Some(Written::No), Recovery::Retry) => self.told.repeated += 1,
                (Some(Written::No), Recovery::Fix) => {
                    assert!(std::mem::take(&mut is_wrong), "{error:?}");
                    self.told.corrected += 1;
                }
                (Some(Written::Maybe), Recovery::Fix) => {
                    self.told.in_doubt += 1;
                    if self.is_committed(deadline) {
                        return;
                    }
                }
                _ => panic!("nothing ends this producer, and nothing is left to be aborted: {error:?}"),
            }
        }
    }

    /// Learns what has come of a commit.
    fn is_committed(&mut self, deadline: Instant) -> bool {
        let mut aborts = false;
        loop {
            assert!(Instant::now() < deadline, "no outcome came");
            let result = if aborts { self.producer.abort_transaction() } else { self.producer.commit_transaction() };
            match result.as_ref().map_err(Error::recovery) {
                Ok(()) => {
                    self.told.committed_late += u64::from(!aborts);
                    return !aborts;
                }
                Err(Recovery::Retry) => self.told.asked_again += 1,
                Err(Recovery::AbortTransaction) => aborts = true,
                Err(_) => panic!("{result:?}"),
            }
        }
    }
}

fn run(version: Version) {
    let transactions = std::env::var(TRANSACTIONS).map_or(300, |text| text.parse().unwrap());
    let _turn = crate::turn();
    let cluster = Cluster::start(Options::single(version).proxied());
    cluster.admin().create_topic(TOPIC, 2, 1, &[]);
    let producer = Producer::builder(cluster.bootstrap()).transactional_id("shop").max_block(PATIENCE).build().unwrap();
    // The coordinator's own topic comes into being now, which takes longer than this producer waits.
    crate::support::wait_for("the coordinator", 2 * MINUTE, || producer.init_transactions().ok());
    crate::support::wait_for("the topic", 2 * MINUTE, || producer.partitions_for(TOPIC).ok());
    let mut program = Program { producer, told: Told::default() };
    let proxy = cluster.proxy(0);
    proxy.inject(END_TXN, 7, Fault::LoseAnswer(Cut::Reset));
    proxy.inject(END_TXN, 11, Fault::LoseAnswer(Cut::Fin));
    proxy.inject(END_TXN, 17, Fault::Delay(2 * PATIENCE));
    let begin = Instant::now();
    for number in 0..transactions {
        program.pay(number);
    }
    let took = begin.elapsed();
    let counts = proxy.counts();
    proxy.pass();
    program.producer.close_timeout(MINUTE).unwrap();

    let mut found = [BTreeMap::<String, u64>::new(), BTreeMap::new()];
    cluster.admin().read_with(&[TOPIC], Isolation::Committed, 2 * MINUTE, |record| {
        let value = String::from_utf8(record.value.unwrap()).unwrap();
        *found[usize::try_from(record.partition).unwrap()].entry(value).or_default() += 1;
    });
    let wanted: BTreeMap<String, u64> = (0..transactions).map(|number| (format!("payment-{number}"), 1)).collect();
    for (partition, found) in found.iter().enumerate() {
        let wrong: Vec<_> = found.iter().filter(|(value, count)| wanted.get(*value) != Some(*count)).take(10).collect();
        let missing: Vec<_> = wanted.keys().filter(|value| !found.contains_key(*value)).take(10).collect();
        assert!(wrong.is_empty() && missing.is_empty(), "partition {partition}: {wrong:?}, missing {missing:?}");
    }
    let Program { told, .. } = program;
    println!("{transactions} transactions in {took:.1?}: {told:?}, {counts:?}");
    assert!(counts.answers_lost >= transactions / 10 && counts.answers_delayed >= transactions / 20, "{counts:?}");
    assert!(told.corrected >= transactions / 29 && told.in_doubt > 0, "{told:?}");
    assert!(told.committed_late > 0 && told.committed_late <= told.in_doubt, "{told:?}");
}

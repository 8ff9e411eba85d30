//! Transactional producers that share a cluster.

use std::thread;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{BrokerId, Cluster, ErrorKind, GroupMetadata, Producer};

use super::{MINUTE, both_at_once, committed, offsets, record};
use crate::common::watch_for_panics;

fn ready(cluster: &Cluster, id: &str) -> Producer {
    let producer = Producer::on(cluster).transactional_id(id).build().unwrap();
    producer.init_transactions().unwrap();
    producer
}

#[test]
fn transactional_producers_on_one_cluster_each_work_and_one_that_is_fenced_disturbs_no_other() {
    watch_for_panics();
    both_at_once(|version| {
        let fake = FakeCluster::builder().brokers(3).transactions(version).topic("t", 3).start().unwrap();
        fake.move_transaction_coordinator("shop", BrokerId(1)).unwrap();
        fake.move_transaction_coordinator("bank", BrokerId(2)).unwrap();
        let cluster = Cluster::builder(fake.bootstrap()).build().unwrap();
        let [shop, bank] = ["shop", "bank"].map(|id| ready(&cluster, id));
        thread::scope(|scope| {
            for (producer, name) in [(&shop, "s"), (&bank, "b")] {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let transaction = producer.transaction().unwrap();
                        transaction.send(record(0, name)).wait().unwrap();
                        transaction.send_offsets(offsets(7), &GroupMetadata::new(name)).unwrap();
                        transaction.commit().unwrap();
                    }
                });
            }
        });
        assert_eq!(committed(&fake).len(), 20);
        // Both have a transaction open when another instance of the first one comes, on the same cluster.
        let (of_shop, of_bank) = (shop.transaction().unwrap(), bank.transaction().unwrap());
        of_shop.send(record(0, "fenced")).wait().unwrap();
        of_bank.send(record(0, "kept")).wait().unwrap();
        let successor = ready(&cluster, "shop");
        let error = of_shop.commit().unwrap_err();
        assert_eq!(error.error().kind(), ErrorKind::Fenced, "{error}");
        shop.close_timeout(MINUTE).unwrap();
        // Neither the other id nor the successor with the very same coordinator notices, and what must be asked of the
        // cluster is answered.
        fake.move_transaction_coordinator("bank", BrokerId(3)).unwrap();
        fake.move_transaction_coordinator("shop", BrokerId(2)).unwrap();
        of_bank.commit().unwrap();
        for (producer, name) in [(&successor, "after"), (&bank, "after")] {
            let transaction = producer.transaction().unwrap();
            transaction.send(record(0, name)).wait().unwrap();
            transaction.commit().unwrap();
        }
        let values = committed(&fake);
        assert_eq!(values.len(), 23, "{values:?}");
        assert_eq!(values[20..], ["kept", "after", "after"]);
        assert_eq!(bank.metrics().connections_lost, 0);
        // A new producer needs metadata, which the fenced one's end has not ended.
        let late = ready(&cluster, "late");
        late.partitions_for("t").unwrap();
        late.close_timeout(MINUTE).unwrap();
        for producer in [successor, bank] {
            producer.close_timeout(MINUTE).unwrap();
        }
    });
}

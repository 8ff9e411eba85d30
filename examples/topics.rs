//! Creates a topic, looks at it, changes it, asks for its offsets, and deletes it.
//!
//! `cargo run --example topics [BOOTSTRAP_SERVERS]`

mod support;

use kafka_blocking::admin::{Admin, AlterConfig, ConfigResource, NewPartitions, NewTopic, OffsetSpec};
use kafka_blocking::{ErrorCode, IsolationLevel};

const TOPIC: &str = "example.topics";

fn main() -> kafka_blocking::Result<()> {
    let servers = support::servers(&[])?;

    let admin = Admin::builder(servers).build()?;
    let cluster = admin.describe_cluster()?;
    println!("{} brokers, the controller is {:?}", cluster.brokers.len(), cluster.controller);

    // Each topic has a result of its own: one that is there already leaves the others alone.
    let topics = [NewTopic::new(TOPIC).partitions(3).config("retention.ms", "86400000"), NewTopic::new("not a name")];
    for (topic, result) in admin.create_topics(topics) {
        match result {
            Ok(_) => println!("{topic} is created"),
            Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => println!("{topic} is there"),
            Err(error) => println!("{topic} is not created: {error}"),
        }
    }

    // Several partitions more, and larger records.
    admin.create_partitions([(TOPIC, NewPartitions::up_to(6))]).all()?;
    let topic = ConfigResource::topic(TOPIC);
    admin.alter_configs([(topic.clone(), [AlterConfig::set("max.message.bytes", "2000000")])]).all()?;
    let configs = admin.describe_configs([topic.clone()]).all()?;
    for name in ["max.message.bytes", "retention.ms", "cleanup.policy"] {
        if let Some(entry) = configs.get(&topic).and_then(|configs| configs.get(name)) {
            println!("{name} = {} ({:?})", entry.value.as_deref().unwrap_or_default(), entry.source);
        }
    }

    for description in admin.describe_topics([TOPIC]).all()?.values() {
        println!("{} has {} partitions", description.name, description.partitions.len());
        for partition in &description.partitions {
            println!("  {}: leader {:?}, replicas {:?}", partition.partition, partition.leader, partition.replicas);
        }
        let partitions = description.partitions.iter();
        let ends = partitions.map(|found| (found.partition.clone(), OffsetSpec::Latest));
        for (partition, end) in admin.list_offsets(ends, IsolationLevel::Uncommitted).all()? {
            println!("  {partition} ends at {:?}", end.offset);
        }
    }

    admin.delete_topics([TOPIC]).all()?;
    println!("{TOPIC} is deleted");
    Ok(())
}

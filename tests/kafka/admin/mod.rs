//! The admin client, as only a real Kafka can judge it.

mod old_brokers;
mod three_brokers;

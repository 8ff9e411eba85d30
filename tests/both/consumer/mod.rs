//! Records that are read: the same on the fake cluster and on real Kafka.

mod reading;

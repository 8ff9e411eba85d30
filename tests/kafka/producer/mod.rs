//! Records, their way to the broker, and what is found in its log.

mod acks_and_idempotence;
mod bootstrap;
mod codecs;
mod errors;
mod old_brokers;
mod records;
mod typed;
mod walking_path;

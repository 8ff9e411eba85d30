//! The schema registry and Avro, with a real registry and Java's Avro beside them.

mod avro;
mod schema_registry;

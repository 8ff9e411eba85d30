//! The client of a schema registry (the REST interface of the Confluent Schema Registry), and Avro.
//!
//! [`SchemaRegistry`] is the client: it registers schemas, looks them up, and keeps answers that cannot change.
//! [`Framed`] is the frame around a value: a zero, the schema's id in four bytes, and the value's bytes. A program
//! needs it only for formats of its own.
//!
//! With the feature `avro`, `AvroSerializer` makes a record's bytes from a value, and `AvroDeserializer` makes the
//! value from the bytes, in the format of Java's `KafkaAvroSerializer`. Both implement the traits of
//! [`serialization`](crate::serialization), so typed producers accept them.
//!
#![cfg_attr(feature = "avro", doc = "```no_run")]
#![cfg_attr(not(feature = "avro"), doc = "```ignore")]
//! use kafka_blocking::schema_registry::{AvroDeserializer, AvroSchema, AvroSerializer, SchemaRegistry};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Customer {
//!     id: i32,
//!     name: String,
//!     email: Option<String>,
//! }
//!
//! # fn main() -> kafka_blocking::Result<()> {
//! let registry = SchemaRegistry::builder(["http://registry01:8081", "http://registry02:8081"]).build()?;
//! // The default of a union is a value of its first branch: here null, without quotes.
//! let schema = AvroSchema::parse(
//!     r#"{"namespace": "customerManagement.avro", "type": "record", "name": "Customer", "fields": [
//!         {"name": "id", "type": "int"},
//!         {"name": "name", "type": "string"},
//!         {"name": "email", "type": ["null", "string"], "default": null}]}"#,
//! )?;
//!
//! let serializer = AvroSerializer::builder(&registry).schema(&schema).build()?;
//! let customer = Customer { id: 1, name: "yifan".to_owned(), email: None };
//! // The schema is registered under the subject customerContacts-value, unless it is there already.
//! let bytes = serializer.serialize("customerContacts", &customer)?;
//!
//! let deserializer = AvroDeserializer::builder(&registry).reader_schema(&schema).build()?;
//! let back: Customer = deserializer.deserialize("customerContacts", &bytes)?;
//! # assert_eq!(back.name, "yifan");
//! # Ok(())
//! # }
//! ```
//!
//! The page [`manual::schema_registry`](crate::manual::schema_registry) has more: settings and their names in Java,
//! subjects, evolution, and what happens when the registry does not answer.

#[cfg(feature = "avro")]
mod avro;
mod builder;
mod cache;
mod client;
mod framing;
mod http;
mod properties;
mod schema;
mod subject;

#[cfg(feature = "avro")]
pub use apache_avro;

#[cfg(feature = "avro")]
pub use avro::{AvroDeserializer, AvroDeserializerBuilder, AvroSchema, AvroSerializer, AvroSerializerBuilder};
pub use builder::SchemaRegistryBuilder;
pub use client::SchemaRegistry;
pub use framing::Framed;
pub use schema::{
    Compatibility, CompatibilityLevel, Deletion, SchemaReference, SchemaText, SchemaType, SubjectVersion,
};
pub use subject::SubjectStrategy;

//! The manual: what is not about one item alone.
//!
//! * [`threads`]: which threads there are, what each owns, how long each call waits, and how everything ends.
//! * [`delivery_guarantees`]: what a producer promises about loss, duplicates and order, and what it cannot.
//! * [`transactions`]: several partitions and a group's offsets, as a whole or not at all.
//! * [`direct_batches`]: batches that a program fills by itself.
//! * [`errors`]: how to read an error, and what to do.
//! * [`admin`]: topics, settings and offsets by an admin client.
//! * [`typed`]: messages of a program's own types: key makers, serializers, interceptors.
//! * [`schema_registry`]: schemas kept in a registry, and Avro.
//! * [`configuration`]: every setting, beside its names in Java, librdkafka, kiel and aiokafka.
//! * [`compatibility`]: brokers, protocol versions, codecs, formats.
//! * [`performance`]: figures, and the commands that give them.
//! * [`testing_your_program`]: a cluster in the test's process, with faults by script.
//! * [`coming_from_java`], [`coming_from_rdkafka`], [`coming_from_aiokafka`], [`coming_from_kiel`]: what each promise or call of
//!   those clients is here.
//!
//! For those who read or change the code:
//!
//! * [`architecture`]: the layers, one record's way, the order of locks, and where what is.
//! * [`glossary`]: our words, beside Java's, librdkafka's and franz-go's.
//! * [`non_obvious`]: rules that are easy to break.
//!
//! The tests that hold what these pages promise are listed in the repository, in `tests/promises.md`.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("threads.md")]
pub mod threads {}

#[doc = include_str!("delivery_guarantees.md")]
pub mod delivery_guarantees {}

#[doc = include_str!("transactions.md")]
pub mod transactions {}

#[doc = include_str!("direct_batches.md")]
pub mod direct_batches {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("admin.md")]
pub mod admin {}

#[doc = include_str!("typed.md")]
pub mod typed {}

#[doc = include_str!("schema_registry.md")]
pub mod schema_registry {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("compatibility.md")]
pub mod compatibility {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("non_obvious.md")]
pub mod non_obvious {}

#[doc = include_str!("testing_your_program.md")]
pub mod testing_your_program {}

#[doc = include_str!("coming_from_java.md")]
pub mod coming_from_java {}

#[doc = include_str!("coming_from_rdkafka.md")]
pub mod coming_from_rdkafka {}

#[doc = include_str!("coming_from_aiokafka.md")]
pub mod coming_from_aiokafka {}

#[doc = include_str!("coming_from_kiel.md")]
pub mod coming_from_kiel {}

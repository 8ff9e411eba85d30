//! Records on the application's side: where they go, the memory that they take, open batches, and their results.

pub(crate) mod accumulator;
pub(crate) mod batch;
pub(crate) mod budget;
pub(crate) mod callbacks;
pub(crate) mod delivery;
pub(crate) mod pending;
pub(crate) mod routes;

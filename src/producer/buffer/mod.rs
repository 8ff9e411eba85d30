//! Records on the application's side: where they go, the memory that they take, open batches, and their results.

pub(crate) mod accumulator;
pub(crate) mod batch;
pub(crate) mod budget;
pub(crate) mod callbacks;
pub(crate) mod completion;
pub(crate) mod draft;
pub(crate) mod flush;
pub(crate) mod partition;
pub(crate) mod stamp;
pub(crate) mod sticky;
pub(crate) mod topic_table;
pub(crate) mod unfinished;
pub(crate) mod wait_limit;

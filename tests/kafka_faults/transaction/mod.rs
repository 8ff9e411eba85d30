//! Programs that send transactions through faults, and what is committed in the end.

mod exactly_once;
mod loss;

//! Records without transactions: what is promised of them, and what faults do to them.

mod acceptance;
mod answers;
mod callbacks;
mod codes;
mod deadlines;
mod ending;
mod failures;
mod leaders;
mod purge;
mod reaching;
mod sequences;
mod sharing;
mod slow;
mod stalls;
mod typed;
mod waiting;

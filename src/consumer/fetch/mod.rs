//! How records come: a thread for each leader that asks for them, and one that knows who leads what.

pub(crate) mod engine;
mod exchange;
mod fetcher;
mod leader;
mod lookup;
mod router;
mod session;

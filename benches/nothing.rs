//! Nothing: the benches are the targets beside it.

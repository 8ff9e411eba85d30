//! The brokers' error codes, as one table.

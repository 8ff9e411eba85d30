//! Sockets and what travels over them.

pub(crate) mod address;

//! Sockets and what travels over them: frames, correlation ids, versions. Nothing here knows topics or batches.

pub(crate) mod connection;
pub(crate) mod frames;
pub(crate) mod pipeline;
pub(crate) mod reachability;
pub(crate) mod reading;
mod stream;
pub(crate) mod transport;

/// The primitives that the shared reading half is built on. The interleaving tests replace them by loom's.
mod sync {
    pub(super) use parking_lot::{Condvar, Mutex};
}

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::connection::Connection;
pub(crate) use self::reachability::{AddressStatus, Reachability};
#[cfg(feature = "bench-internals")]
pub(crate) use self::stream::SENDS;
pub(crate) use self::transport::Hangup;
pub(crate) use crate::config::address::HostPort;
use crate::config::client::ClientConfig;

/// The settings of every connection of a client.
#[derive(Clone, Debug)]
pub(crate) struct NetConfig {
    pub(crate) client_id: Option<Arc<str>>,
    pub(crate) request_timeout: Duration,
    /// How long one address may take to accept a connection and to tell its versions.
    pub(crate) connect_timeout: Duration,
    /// The longest that this grows to while attempts at the address fail.
    pub(crate) connect_timeout_max: Duration,
    /// `None`: the operating system's choice.
    pub(crate) send_buffer_bytes: Option<usize>,
    /// `None`: the operating system's choice.
    pub(crate) receive_buffer_bytes: Option<usize>,
    /// The longest answer that is read; a longer one is refused before any memory is taken.
    pub(crate) max_response_bytes: usize,
    /// Which addresses have answered or failed.
    pub(crate) reachability: Arc<Reachability>,
}

impl NetConfig {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self {
            client_id: Some(Arc::clone(&config.client_id)),
            request_timeout: config.request_timeout,
            connect_timeout: config.connection_setup_timeout.initial,
            connect_timeout_max: config.connection_setup_timeout.max,
            send_buffer_bytes: config.send_buffer_bytes,
            receive_buffer_bytes: config.receive_buffer_bytes,
            max_response_bytes: config.max_response_bytes,
            reachability: Arc::default(),
        }
    }

    /// How long one address may take after this many failed attempts: the time doubles with each, for an address that
    /// is slow to accept (KIP-601).
    fn connect_timeout_after(&self, failures: u32) -> Duration {
        if failures == 0 || self.connect_timeout >= self.connect_timeout_max {
            return self.connect_timeout;
        }
        self.connect_timeout.saturating_mul(1 << failures.min(16)).min(self.connect_timeout_max)
    }
}

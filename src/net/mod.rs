//! Sockets and what travels over them: frames, correlation ids, versions. Nothing here knows topics or batches.

pub(crate) mod address;
pub(crate) mod connection;
pub(crate) mod frames;
pub(crate) mod pipeline;
pub(crate) mod transport;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::address::HostPort;
pub(crate) use self::connection::Connection;
pub(crate) use self::transport::Hangup;

/// The settings of every connection of a client.
#[derive(Clone, Debug)]
pub(crate) struct NetConfig {
    pub(crate) client_id: Option<Arc<str>>,
    pub(crate) request_timeout: Duration,
    /// How long one address may take to accept a connection.
    pub(crate) connect_timeout: Duration,
    /// `None`: the operating system's choice.
    pub(crate) send_buffer_bytes: Option<usize>,
    /// `None`: the operating system's choice.
    pub(crate) receive_buffer_bytes: Option<usize>,
    /// The longest answer that is read; a longer one is refused before any memory is taken.
    pub(crate) max_response_bytes: usize,
}

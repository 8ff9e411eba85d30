//! A connection that carries one request at a time: everything except produce.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, trace};

use super::frames::{FrameInput, lost};
use super::transport::{Hangup, dial, is_time_out};
use super::{HostPort, NetConfig};
use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorCode, ErrorKind, Result, Timeout};
use crate::protocol::api::{Request, VersionTable};
use crate::protocol::frame::FrameWriter;
use crate::protocol::header::{decode_api_versions, decode_response, encode_request};
use crate::protocol::messages::ApiVersionsRequest;
use crate::time;

/// How the client introduces itself (KIP-511).
/// What a peer may be that ends the connection instead of answering the first request.
const UNANSWERED: &str = "a listener that wants TLS does so, and so does what is no Kafka broker: this client speaks \
    PLAINTEXT (security.protocol)";
/// What a broker may want that says which requests it knows, and ends the connection at the first other one.
const UNWELCOME: &str = "a listener that wants SASL does so: this client offers no credentials";

const SOFTWARE_NAME: &str = "kafka-blocking";
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A connection to a broker whose versions are known. After an error it is of no use any more: an answer that comes
/// late would be taken for the next request's.
pub(crate) struct Connection {
    stream: Arc<TcpStream>,
    input: FrameInput,
    frame: FrameWriter,
    versions: VersionTable,
    config: Arc<NetConfig>,
    address: String,
    /// A request other than ApiVersions was made.
    is_served: bool,
    next_correlation: i32,
}

impl Connection {
    /// Connects, and asks for the broker's versions.
    ///
    /// *Blocks* for at most the connection setup timeout for each address and the request timeout, at most until
    /// `deadline`. *Errors*: `Network`, `Timeout(Connect)`, `Timeout(Request)`, `BrokerMisbehaved`,
    /// `UnsupportedVersion`.
    pub(crate) fn open(
        address: &HostPort,
        config: &Arc<NetConfig>,
        deadline: Instant,
        hangup: &Hangup,
    ) -> Result<Self> {
        let stream = dial(address, config, deadline, hangup)?;
        let mut connection = Self {
            input: FrameInput::new(Arc::clone(&stream), config.max_response_bytes),
            stream,
            frame: FrameWriter::new(),
            versions: VersionTable::default(),
            config: Arc::clone(config),
            address: address.to_string(),
            is_served: false,
            next_correlation: 0,
        };
        connection.negotiate(deadline).map_err(|error| error.at_address(&connection.address))?;
        Ok(connection)
    }

    /// What the broker offers.
    pub(crate) fn versions(&self) -> &VersionTable {
        &self.versions
    }

    /// Sends a request at the highest version that both sides speak, and waits for its answer.
    ///
    /// *Blocks* for at most the request timeout, at most until `deadline`.
    pub(crate) fn call<R: Request>(&mut self, request: &R, deadline: Instant) -> Result<R::Response> {
        let version = self.versions.choose::<R>()?;
        self.call_at(request, version, deadline)
    }

    /// [`call`](Self::call) at a given version, which the broker must offer.
    pub(crate) fn call_at<R: Request>(&mut self, request: &R, version: i16, deadline: Instant) -> Result<R::Response> {
        let named = |error: Error, address: &str| {
            error.at_address(address).in_context(|context| context.api = Some((R::NAME, version)))
        };
        let answer = self.exchange(request, version, deadline).and_then(|(correlation, frame)| {
            let (answered, response) = decode_response::<R>(frame, version)?;
            self.check(correlation, answered)?;
            Ok(response)
        });
        let is_first = !std::mem::replace(&mut self.is_served, true);
        answer
            .map_err(|error| if is_first { may_mean(error, UNWELCOME) } else { error })
            .map_err(|error| named(error, &self.address))
    }

    /// The stream and its reading half, to carry several requests at a time from now on.
    pub(crate) fn into_halves(self) -> (Arc<TcpStream>, FrameInput) {
        (self.stream, self.input)
    }

    /// Whether the other side has closed it while it was idle.
    pub(crate) fn is_stale(&self) -> bool {
        is_stale(&self.stream)
    }

    fn negotiate(&mut self, deadline: Instant) -> Result<()> {
        // The newest version first. A broker that does not know it answers at version 0 with those that it knows.
        let mut version = *ApiVersionsRequest::VERSIONS.end();
        loop {
            let request = ApiVersionsRequest {
                client_software_name: SOFTWARE_NAME.into(),
                client_software_version: SOFTWARE_VERSION.into(),
            };
            let (correlation, frame) =
                self.exchange(&request, version, deadline).map_err(|error| may_mean(error, UNANSWERED))?;
            let (answered, response) = decode_api_versions(frame, version)?;
            self.check(correlation, answered)?;
            match ErrorCode(response.error_code) {
                ErrorCode::NONE => {
                    self.versions = VersionTable::new(&response);
                    debug!("{}: connected, ApiVersions {version}", self.address);
                    return Ok(());
                }
                ErrorCode::UNSUPPORTED_VERSION if version > 0 => {
                    let offered = VersionTable::new(&response).choose::<ApiVersionsRequest>().unwrap_or(0);
                    version = offered.min(version - 1);
                }
                code => {
                    let api = Some((ApiVersionsRequest::NAME, version));
                    return Err(Error::broker(code, None).in_context(|context| context.api = api));
                }
            }
        }
    }

    /// Writes a request and reads the next frame.
    fn exchange<R: Request>(&mut self, request: &R, version: i16, deadline: Instant) -> Result<(i32, SharedBytes)> {
        let now = Instant::now();
        let deadline = deadline.min(time::deadline(now, self.config.request_timeout));
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.checked_add(1).unwrap_or(0);
        encode_request(&mut self.frame, request, version, correlation, self.config.client_id.as_deref())?;
        trace!("{}: {} v{version}, {} bytes", self.address, R::NAME, self.frame.total_len());
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(Error::timeout(Timeout::Request, format!("no time was left for {}", R::NAME)));
        }
        self.stream.set_write_timeout(Some(left)).map_err(lost)?;
        (&*self.stream).write_all(self.frame.bytes()).map_err(|error| {
            if is_time_out(&error) {
                Error::timeout(Timeout::Request, format!("the broker did not take {} within {left:.1?}", R::NAME))
            } else {
                lost(error)
            }
        })?;
        let answer = self.input.next(deadline).map_err(|error| match error.kind() {
            ErrorKind::Timeout(_) => {
                Error::timeout(Timeout::Request, format!("the broker did not answer {} within {left:.1?}", R::NAME))
            }
            _ => error,
        })?;
        Ok((correlation, answer))
    }

    fn check(&self, sent: i32, answered: i32) -> Result<()> {
        if sent == answered {
            return Ok(());
        }
        Err(Error::misbehaved(format!("correlation id {answered} came where {sent} was due")))
    }
}

/// An error of a connection that ended; `hint` says why it may have.
fn may_mean(error: Error, hint: &str) -> Error {
    if error.kind() == ErrorKind::Network { error.with_hint(hint) } else { error }
}

/// Whether an idle connection has been closed by the other side, or has bytes that nobody asked for.
pub(crate) fn is_stale(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let peeked = stream.peek(&mut [0; 1]);
    let restored = stream.set_nonblocking(false);
    restored.is_err() || !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

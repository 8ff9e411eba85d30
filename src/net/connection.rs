//! A connection that carries one request at a time: everything except produce.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frames::{FrameInput, lost};
use super::pipeline::WriteHalf;
use super::stream::{Stream, is_time_out};
use super::transport::{Hangup, connect, resolve};
use super::{HostPort, NetConfig};
use crate::bytes::SharedBytes;
use crate::error::{Error, ErrorCode, ErrorKind, Result, Timeout};
use crate::logging::{debug, trace};
use crate::protocol::api::{Request, VersionTable};
use crate::protocol::frame::FrameWriter;
use crate::protocol::header::{decode_api_versions, decode_response, encode_request};
use crate::protocol::messages::ApiVersionsRequest;
use crate::time;

/// The hint for a connection that ends before the answer to ApiVersions.
const NO_VERSIONS_HINT: &str = "a listener that expects TLS does this, and so does a server that is no Kafka broker; this client speaks \
    PLAINTEXT (security.protocol)";
/// The hint for a connection that ends at the first request after ApiVersions.
const FIRST_REQUEST_HINT: &str = "a listener that expects SASL does this; this client offers no credentials";

/// How the client introduces itself (KIP-511).
const SOFTWARE_NAME: &str = "kafka-blocking";
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A connection to a broker whose versions are known. After an error it is of no use any more: an answer that comes
/// late would be taken for the next request's.
pub(crate) struct Connection {
    stream: Arc<Stream>,
    input: FrameInput,
    frame: FrameWriter,
    versions: VersionTable,
    config: Arc<NetConfig>,
    place: HostPort,
    address: String,
    /// Whether a request other than ApiVersions was made.
    is_served: bool,
    next_correlation: i32,
}

impl Connection {
    /// [`open_until`](Self::open_until) without a deadline of the caller.
    pub(crate) fn open(address: &HostPort, config: &Arc<NetConfig>, hangup: &Hangup) -> Result<Self> {
        Self::open_until(address, config, time::deadline(Instant::now(), Duration::MAX), hangup)
    }

    /// Connects, and asks for the broker's versions. Resolves the name now, and tries every address that it has, the one
    /// that failed last after the others.
    ///
    /// *Blocks* for at most the connection setup timeout for each address, at most until `deadline`; and for as long as
    /// the system takes to resolve the name. *Errors*: `Network`, `Timeout(Connect)`, `BrokerMisbehaved`,
    /// `UnsupportedVersion`.
    pub(crate) fn open_until(
        address: &HostPort,
        config: &Arc<NetConfig>,
        deadline: Instant,
        hangup: &Hangup,
    ) -> Result<Self> {
        let opened = Self::open_any(address, config, deadline, hangup);
        match &opened {
            Ok(_) => config.reachability.connected(address),
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(_) => config.reachability.failed(address),
        }
        opened.map_err(|error| error.at_address(&address.to_string()))
    }

    fn open_any(address: &HostPort, config: &Arc<NetConfig>, deadline: Instant, hangup: &Hangup) -> Result<Self> {
        let mut last = None;
        for socket in resolve(address, config)? {
            let began = Instant::now();
            if last.is_some() && began >= deadline {
                break;
            }
            // Each address has its own time limit, so that one that hangs does not use up the time of the next.
            let time = config.connect_timeout_after(config.reachability.failures(&socket));
            match Self::open_one(&socket, address, config, deadline.min(time::deadline(began, time)), hangup) {
                Ok(connection) => {
                    config.reachability.socket_connected(&socket);
                    return Ok(connection);
                }
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => {
                    debug!("{address} at {socket}: {error}");
                    config.reachability.socket_failed(&socket, began);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::network("the host's name has no address")))
    }

    fn open_one(
        socket: &SocketAddr,
        address: &HostPort,
        config: &Arc<NetConfig>,
        deadline: Instant,
        hangup: &Hangup,
    ) -> Result<Self> {
        let stream = connect(socket, config, deadline, hangup)?;
        let mut connection = Self {
            input: FrameInput::new(Arc::clone(&stream), config.max_response_bytes),
            stream,
            frame: FrameWriter::new(),
            versions: VersionTable::default(),
            config: Arc::clone(config),
            place: address.clone(),
            address: address.to_string(),
            is_served: false,
            next_correlation: 0,
        };
        match connection.negotiate(deadline) {
            Ok(()) => Ok(connection),
            Err(error) if error.kind() == ErrorKind::Timeout(Timeout::Request) => {
                let text = "the connection was accepted, but the broker did not answer on it within the connection setup timeout";
                Err(Error::timeout(Timeout::Connect, text).with_source(error))
            }
            Err(error) => Err(error),
        }
    }

    /// The address that it was opened to.
    pub(crate) fn address(&self) -> &HostPort {
        &self.place
    }

    /// The requests and versions that the broker offers.
    pub(crate) fn versions(&self) -> &VersionTable {
        &self.versions
    }

    /// The default deadline for the answer to a request that is sent now: the request timeout from now on.
    pub(crate) fn default_deadline(&self) -> Instant {
        time::deadline(Instant::now(), self.config.request_timeout)
    }

    /// Sends a request at the highest version that both sides speak, and waits for its answer.
    ///
    /// *Blocks* at most until `deadline`, which the caller sets: some requests a broker may answer later than the
    /// request timeout. The others take the [default](Self::default_deadline).
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
        match &answer {
            Ok(_) => self.config.reachability.answered(&self.place),
            Err(error) => match error.kind() {
                ErrorKind::Network | ErrorKind::Timeout(_) | ErrorKind::BrokerMisbehaved => {
                    self.config.reachability.failed(&self.place);
                }
                _ => {}
            },
        }
        let is_first = !std::mem::replace(&mut self.is_served, true);
        answer
            .map_err(|error| if is_first { with_hint(error, FIRST_REQUEST_HINT) } else { error })
            .map_err(|error| named(error, &self.address))
    }

    /// Splits it into its halves, to carry several requests at a time from now on.
    pub(crate) fn into_halves(self) -> Result<(WriteHalf, FrameInput)> {
        Ok((WriteHalf::new(self.stream)?, self.input))
    }

    /// Whether the other side has closed it while it was idle.
    pub(crate) fn is_stale(&self) -> bool {
        self.stream.is_stale()
    }

    fn negotiate(&mut self, deadline: Instant) -> Result<()> {
        let deadline = deadline.min(self.default_deadline());
        // The newest version is tried first. A broker that does not know it answers at version 0 with the versions that
        // it knows.
        let mut version = *ApiVersionsRequest::VERSIONS.end();
        loop {
            let request = ApiVersionsRequest {
                client_software_name: SOFTWARE_NAME.into(),
                client_software_version: SOFTWARE_VERSION.into(),
            };
            let (correlation, frame) =
                self.exchange(&request, version, deadline).map_err(|error| with_hint(error, NO_VERSIONS_HINT))?;
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
        let correlation = self.next_correlation;
        self.next_correlation = self.next_correlation.checked_add(1).unwrap_or(0);
        encode_request(&mut self.frame, request, version, correlation, self.config.client_id.as_deref())?;
        trace!("{}: {} v{version}, {} bytes", self.address, R::NAME, self.frame.total_len());
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(Error::timeout(Timeout::Request, format!("no time was left for {}", R::NAME)));
        }
        self.stream.write_all(self.frame.bytes(), deadline).map_err(|error| {
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

/// Adds `hint`, why the connection may have ended, if the error says that it did.
fn with_hint(error: Error, hint: &str) -> Error {
    if error.kind() == ErrorKind::Network { error.with_hint(hint) } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::header::{decode_request, decode_request_header, encode_response};
    use crate::protocol::messages::ApiVersionsResponse;
    use std::io::Read;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    fn config(connect_timeout: Duration) -> Arc<NetConfig> {
        Arc::new(NetConfig {
            client_id: None,
            request_timeout: Duration::from_secs(60),
            connect_timeout,
            connect_timeout_max: 2 * connect_timeout,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            max_response_bytes: 1 << 20,
            reachability: Arc::default(),
        })
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    /// Answers ApiVersions on each connection.
    fn serve(listener: &TcpListener) {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut length = [0; 4];
            let Ok(()) = stream.read_exact(&mut length) else { return };
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame).unwrap();
            let frame = SharedBytes::from(frame);
            let (header, reader) = decode_request_header(&frame).unwrap();
            let _: ApiVersionsRequest = decode_request(reader, header.version).unwrap();
            let mut writer = FrameWriter::new();
            let answer = ApiVersionsResponse::default();
            encode_response::<ApiVersionsRequest>(&mut writer, &answer, header.version, header.correlation_id).unwrap();
            stream.write_all(writer.bytes()).unwrap();
        }
    }

    #[test]
    fn every_address_of_a_name_gets_its_own_time_and_the_one_that_failed_last_comes_last() {
        let Ok(silent) = TcpListener::bind("[::1]:0") else { return };
        let port = silent.local_addr().unwrap().port();
        let Ok(good) = TcpListener::bind(("127.0.0.1", port)) else { return };
        let address = HostPort::new("localhost", port);
        let time = Duration::from_millis(300);
        let config = config(time);
        let first = resolve(&address, &config).unwrap()[0];
        // Where localhost does not resolve to ::1 first, the order cannot be seen.
        let hangs_first = first == silent.local_addr().unwrap();
        thread::spawn(move || serve(&good));
        let begin = Instant::now();
        Connection::open_until(&address, &config, late(), &Hangup::default()).unwrap();
        assert!(!hangs_first || begin.elapsed() >= time, "{:?}", begin.elapsed());
        let accepted = |listener: &TcpListener| {
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok()).count()
        };
        assert_eq!(accepted(&silent), usize::from(hangs_first));
        for _ in 0..3 {
            Connection::open_until(&address, &config, late(), &Hangup::default()).unwrap();
        }
        assert_eq!(accepted(&silent), 0, "what has just failed is not tried before what answers");
    }

    #[test]
    fn a_server_that_says_nothing_costs_the_connection_setup_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = HostPort::new("127.0.0.1", silent.local_addr().unwrap().port());
        let time = Duration::from_millis(200);
        let config = config(time);
        for expected in [time, 2 * time, 2 * time] {
            let begin = Instant::now();
            let error = Connection::open_until(&address, &config, late(), &Hangup::default()).err().unwrap();
            // Not the request timeout of a minute.
            assert!((expected..Duration::from_secs(30)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Connect), "{error}");
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        }
    }

    #[test]
    fn a_refused_connection_names_the_address() {
        // Bound, so that no other process gets the port, and never listened on.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let address = HostPort::new("127.0.0.1", port);
        let error = Connection::open_until(&address, &config(Duration::from_secs(60)), late(), &Hangup::default())
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }
}

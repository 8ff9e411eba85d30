//! Making connections, and breaking them off from another thread.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::{HostPort, NetConfig};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};

/// Lets one thread end what another is doing on a socket: a blocked read or write returns at once.
#[derive(Default)]
pub(crate) struct Hangup(Mutex<State>);

#[derive(Default)]
struct State {
    closed: bool,
    /// Weak: the stream closes when its owner lets go of it.
    stream: Weak<TcpStream>,
}

impl Hangup {
    /// Makes `stream` the one that [`hang_up`](Self::hang_up) breaks off. An error if that has happened before.
    pub(crate) fn attach(&self, stream: &Arc<TcpStream>) -> Result<()> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(hung_up());
        }
        state.stream = Arc::downgrade(stream);
        Ok(())
    }

    /// Breaks off the attached stream, and every one that is attached later.
    pub(crate) fn hang_up(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        if let Some(stream) = state.stream.upgrade() {
            break_off(&stream);
        }
    }

    /// Breaks off the attached stream; later ones are welcome.
    pub(crate) fn drop_call(&self) {
        if let Some(stream) = self.0.lock().stream.upgrade() {
            break_off(&stream);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

/// Ends a stream in both directions; who blocks on it returns. It may have ended before.
pub(crate) fn break_off(stream: &TcpStream) {
    drop(stream.shutdown(Shutdown::Both));
}

fn hung_up() -> Error {
    Error::new(ErrorKind::Closed, Recovery::Fatal, "the client is being closed")
}

/// Connects to `address`: resolves its name now, and tries every address that it has, each for at most
/// `connect_timeout`, all for at most until `deadline`.
///
/// *Blocks*; resolving a name may take as long as the system's resolver does, and cannot be broken off.
/// *Thread*: one that owes nobody a deadline.
pub(crate) fn dial(
    address: &HostPort,
    config: &NetConfig,
    deadline: Instant,
    hangup: &Hangup,
) -> Result<Arc<TcpStream>> {
    let resolved = (address.host.as_str(), address.port).to_socket_addrs();
    let candidates: Vec<SocketAddr> = resolved
        .map_err(|error| Error::network("the host's name was not resolved").with_source(error))
        .map_err(|error| error.at_address(&address.to_string()))?
        .collect();
    let mut last = None;
    for candidate in &candidates {
        if hangup.is_closed() {
            return Err(hung_up());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match connect(candidate, config, left.min(config.connect_timeout)) {
            Ok(stream) => {
                let stream = Arc::new(stream);
                hangup.attach(&stream)?;
                return Ok(stream);
            }
            Err(error) => {
                debug!("{address} at {candidate}: {error}");
                last = Some(error);
            }
        }
    }
    let error = match last {
        Some(error) if is_time_out(&error) => {
            let text = format!("no connection within the connection_setup_timeout of {:.1?}", config.connect_timeout);
            Error::timeout(Timeout::Connect, text).with_source(error)
        }
        Some(error) => Error::network("the connection was not made").with_source(error),
        None if candidates.is_empty() => Error::network("the host's name has no address"),
        None => Error::timeout(Timeout::Connect, "no time was left to connect"),
    };
    Err(error.at_address(&address.to_string()))
}

fn connect(address: &SocketAddr, config: &NetConfig, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    // Buffer sizes must be known before the connection, for the window scale is agreed on with it.
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new())?;
    socket.connect_timeout(&SockAddr::from(*address), timeout)?;
    Ok(socket.into())
}

/// Whether an I/O error says that a time limit passed: sockets say `WouldBlock` for it, too.
pub(crate) fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    pub(crate) fn config() -> NetConfig {
        NetConfig {
            client_id: None,
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(60),
            connect_timeout_max: Duration::from_secs(360),
            send_buffer_bytes: Some(128 * 1024),
            receive_buffer_bytes: None,
            max_response_bytes: 1 << 20,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        // Where localhost is ::1 first, the listener on 127.0.0.1 is found all the same.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = HostPort::new("localhost", listener.local_addr().unwrap().port());
        assert!(dial(&address, &config(), soon(), &Hangup::default()).is_ok());
    }

    #[test]
    fn the_sockets_buffers_are_as_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let sizes = |bytes: usize| {
            let config =
                NetConfig { send_buffer_bytes: Some(bytes), receive_buffer_bytes: Some(bytes / 2), ..config() };
            let stream = dial(&address, &config, soon(), &Hangup::default()).unwrap();
            let socket = socket2::SockRef::from(&*stream);
            (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap())
        };
        // Linux doubles what it is asked for, and says so.
        let (small, large) = (sizes(16 * 1024), sizes(64 * 1024));
        assert!(small.0 >= 16 * 1024 && small.1 >= 8 * 1024, "{small:?}");
        assert_eq!((large.0, large.1), (4 * small.0, 4 * small.1));
    }

    #[test]
    fn the_time_to_connect_grows_while_attempts_fail() {
        let config = Arc::new(config());
        let grown: Vec<_> = [0, 1, 2, 3, 60].map(|failures| config.patient(failures).connect_timeout.as_secs()).into();
        assert_eq!(grown, [60, 120, 240, 360, 360]);
    }

    #[test]
    fn ipv6_is_spoken() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let address = HostPort::new("::1", listener.local_addr().unwrap().port());
        assert!(dial(&address, &config(), soon(), &Hangup::default()).is_ok());
    }

    #[test]
    fn a_refused_connection_names_the_address() {
        // Bound, so that nobody else gets the port, and never listened on.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        let error = dial(&HostPort::new("127.0.0.1", port), &config(), soon(), &Hangup::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
    }

    #[test]
    fn hanging_up_ends_a_blocked_read_and_refuses_later_streams() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let hangup = Arc::new(Hangup::default());
        let stream = dial(&address, &config(), soon(), &hangup).unwrap();
        let reader = std::thread::spawn(move || (&*stream).read(&mut [0; 1]).unwrap());
        hangup.hang_up();
        assert_eq!(reader.join().unwrap(), 0);
        let error = dial(&address, &config(), soon(), &hangup).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

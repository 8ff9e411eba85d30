//! Making connections, and breaking them off from another thread.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::stream::{Stream, is_time_out};
use super::{HostPort, NetConfig};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};

/// Lets one thread end what another thread blocks on: a read or write of a socket, or a wait for a third thread,
/// returns at once.
#[derive(Default)]
pub(crate) struct Hangup(Mutex<HangupState>);

#[derive(Default)]
struct HangupState {
    closed: bool,
    attached: Attached,
}

#[derive(Default)]
enum Attached {
    #[default]
    Nothing,
    /// Weak, so that the stream closes when its owner drops it.
    Stream(Weak<Stream>),
    /// A function that ends a wait. It does not block.
    Wait(Box<dyn Fn() + Send>),
}

impl Attached {
    fn break_off(&self) {
        match self {
            Self::Nothing => {}
            Self::Stream(stream) => {
                if let Some(stream) = stream.upgrade() {
                    stream.break_off();
                }
            }
            Self::Wait(end) => end(),
        }
    }
}

impl Hangup {
    /// Makes `stream` what [`hang_up`](Self::hang_up) breaks off. An error if `hang_up` was called before.
    fn attach(&self, stream: &Arc<Stream>) -> Result<()> {
        self.put(Attached::Stream(Arc::downgrade(stream)))
    }

    /// Makes a wait, which `end` ends, what [`hang_up`](Self::hang_up) breaks off. An error if `hang_up` was called
    /// before. `end` must not block.
    pub(crate) fn attach_wait(&self, end: impl Fn() + Send + 'static) -> Result<()> {
        self.put(Attached::Wait(Box::new(end)))
    }

    fn put(&self, attached: Attached) -> Result<()> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(hung_up());
        }
        state.attached = attached;
        Ok(())
    }

    /// Breaks off what is attached now. Whatever is attached later is refused.
    pub(crate) fn hang_up(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.attached.break_off();
    }

    /// Breaks off what is attached now. Others can be attached later.
    pub(crate) fn drop_call(&self) {
        self.0.lock().attached.break_off();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

fn hung_up() -> Error {
    Error::new(ErrorKind::Closed, Recovery::Fatal, "the client is being closed")
}

/// The network addresses that a name has now, in the order in which to try them.
///
/// *Blocks* for as long as the system's resolver does, and cannot be broken off. *Thread*: one that has no deadlines to
/// keep.
pub(crate) fn resolve(address: &HostPort, config: &NetConfig) -> Result<Vec<SocketAddr>> {
    let resolved = (address.host.as_str(), address.port).to_socket_addrs();
    let mut sockets: Vec<SocketAddr> =
        resolved.map_err(|error| Error::network("the host's name was not resolved").with_source(error))?.collect();
    if sockets.is_empty() {
        return Err(Error::network("the host's name has no address"));
    }
    config.reachability.order(&mut sockets);
    Ok(sockets)
}

/// Connects to one network address.
///
/// *Blocks* at most until `deadline`. *Thread*: one that has no deadlines to keep.
pub(super) fn connect(
    socket: &SocketAddr,
    config: &NetConfig,
    deadline: Instant,
    hangup: &Hangup,
) -> Result<Arc<Stream>> {
    if hangup.is_closed() {
        return Err(hung_up());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::timeout(Timeout::Connect, "no time was left to connect"));
    }
    let stream = Arc::new(dial(socket, config, left).map_err(|error| {
        if is_time_out(&error) {
            Error::timeout(Timeout::Connect, format!("no connection within the connection_setup_timeout of {left:.1?}"))
                .with_source(error)
        } else {
            Error::network("the connection was not made").with_source(error)
        }
    })?);
    hangup.attach(&stream)?;
    Ok(stream)
}

fn dial(address: &SocketAddr, config: &NetConfig, timeout: Duration) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    // Buffer sizes must be set before the connection is made, because the window scale is agreed on at its beginning.
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new())?;
    socket.connect_timeout(&SockAddr::from(*address), timeout)?;
    Ok(Stream::Plain(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
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
            reachability: Arc::default(),
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn connected(socket: SocketAddr, config: &NetConfig) -> Arc<Stream> {
        connect(&socket, config, soon(), &Hangup::default()).unwrap()
    }

    #[test]
    fn the_sockets_buffers_are_as_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sizes = |bytes: usize| {
            let config =
                NetConfig { send_buffer_bytes: Some(bytes), receive_buffer_bytes: Some(bytes / 2), ..config() };
            let stream = connected(address, &config);
            let Stream::Plain(socket) = &*stream;
            let socket = SockRef::from(socket);
            (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap())
        };
        // Linux doubles what it is asked for, and says so.
        let (small, large) = (sizes(16 * 1024), sizes(64 * 1024));
        assert!(small.0 >= 16 * 1024 && small.1 >= 8 * 1024, "{small:?}");
        assert_eq!((large.0, large.1), (4 * small.0, 4 * small.1));
    }

    #[test]
    fn the_time_to_connect_grows_while_attempts_fail() {
        let config = config();
        let grown = [0, 1, 2, 3, 60].map(|failures| config.connect_timeout_after(failures).as_secs());
        assert_eq!(grown, [60, 120, 240, 360, 360]);
    }

    #[test]
    fn ipv6_is_spoken() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let address = HostPort::new("::1", listener.local_addr().unwrap().port());
        let sockets = resolve(&address, &config()).unwrap();
        assert_eq!(sockets, [listener.local_addr().unwrap()]);
        connected(sockets[0], &config());
    }

    #[test]
    fn hanging_up_ends_a_blocked_read_and_refuses_later_streams() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hangup = Arc::new(Hangup::default());
        let stream = connect(&address, &config(), soon(), &hangup).unwrap();
        let reader = std::thread::spawn(move || stream.read(&mut [0; 1]).unwrap());
        hangup.hang_up();
        assert_eq!(reader.join().unwrap(), 0);
        let error = connect(&address, &config(), soon(), &hangup).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
}

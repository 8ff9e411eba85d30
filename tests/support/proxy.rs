//! A TCP proxy between the client under test and one broker. It knows where Kafka's frames begin, so that a fault can
//! hit "every third Produce", and it counts the faults that it has done, so that a test can tell that they happened.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::kafka::Port;

/// The API key of Produce.
pub const PRODUCE: i16 = 0;
/// The API key of Metadata.
pub const METADATA: i16 = 3;
/// The API key of EndTxn.
pub const END_TXN: i16 = 26;

const PIECE: usize = 16 * 1024;

/// How long a thread stays in one write before it looks whether its connection has been cut.
const WRITE_SLICE: Duration = Duration::from_millis(20);

/// How a connection to the client is ended; the broker always sees an ordinary end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// RST: the client's next read says "connection reset".
    Reset,
    /// FIN: the client reads end of file.
    Fin,
}

/// A fault that hits a request or its answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The broker gets only this many bytes of the request (one number out of the range), then the connection is cut.
    CutRequest(Range<usize>, Cut),
    /// The client gets only this many bytes of the answer (one number out of the range), then the connection is cut.
    CutResponse(Range<usize>, Cut),
    /// The broker has applied the request; the connection is cut instead of the answer.
    LoseAnswer(Cut),
    /// The broker has applied the request; the connection stays open and no answer comes any more.
    Hang,
    /// The answer comes later, and so do the answers after it.
    Delay(Duration),
    /// This answer is left out; the answers after it come.
    Skip,
    /// The answer comes twice.
    Duplicate,
    /// The answer carries another correlation id.
    WrongCorrelation,
}

/// Counts of the frames that went through and of each fault.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    pub connections: u64,
    /// Connections ended by [`Proxy::cut_all`] and [`Proxy::cut_every`].
    pub connections_cut: u64,
    pub unanswered: u64,
    /// Connections that ended at once because the broker was not there.
    pub brokerless: u64,
    pub requests_cut: u64,
    pub responses_cut: u64,
    pub answers_lost: u64,
    pub hangs: u64,
    pub answers_delayed: u64,
    pub answers_skipped: u64,
    pub answers_duplicated: u64,
    pub answers_miscorrelated: u64,
    /// Requests by API key.
    pub requests: BTreeMap<i16, u64>,
    /// Answers by API key that the broker gave, whatever became of them.
    pub responses: BTreeMap<i16, u64>,
    pub bytes_to_broker: u64,
    pub bytes_to_client: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Accept {
    #[default]
    Forward,
    NeverAnswer,
    Refuse,
}

#[derive(Clone, Debug)]
struct Rule {
    api: i16,
    every: u64,
    times: u64,
    seen: u64,
    fault: Fault,
}

#[derive(Clone, Default, Debug)]
struct Plan {
    accept: Accept,
    blackhole: bool,
    holds_requests: bool,
    delay: Duration,
    jitter: Duration,
    bytes_per_second: Option<u64>,
    chunk: Option<usize>,
    lives: Option<(Range<Duration>, Cut, Instant)>,
    rules: Vec<Rule>,
}

/// A proxy on a port of its own; dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    port: Port,
    upstream: SocketAddr,
    state: Mutex<State>,
    /// Any change of `state`, and the end of any connection.
    changed: Condvar,
    next: AtomicU64,
    /// Bytes; 0 leaves it to the kernel.
    receive_buffer: AtomicUsize,
}

#[derive(Default, Debug)]
struct State {
    plan: Plan,
    counts: Counts,
    links: HashMap<u64, Arc<Link>>,
    listening: bool,
    closed: bool,
}

#[derive(Debug)]
struct Link {
    id: u64,
    born: Instant,
    client: TcpStream,
    broker: Option<TcpStream>,
    closed: AtomicBool,
    /// The client waits in vain for the broker, which may end the connection without the client being told.
    hung: AtomicBool,
    /// API keys of the requests on their way, by correlation id.
    pending: Mutex<HashMap<i32, i16>>,
}

enum Piece {
    Bytes(Instant, Vec<u8>),
    Cut(Cut),
    End,
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            port: Port::reserve(),
            upstream,
            state: Mutex::default(),
            changed: Condvar::new(),
            next: AtomicU64::new(0),
            receive_buffer: AtomicUsize::new(0),
        });
        let threads = vec![
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || accept_loop(&shared)
            }),
            thread::spawn({
                let shared = Arc::clone(&shared);
                move || shared.end_old_connections()
            }),
        ];
        let proxy = Self { shared, threads };
        proxy.wait_until(|state| state.listening);
        proxy
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.shared.port.address
    }

    /// Ends all faults; open connections stay.
    pub fn pass(&self) {
        self.set(|plan| *plan = Plan::default());
    }

    /// Each piece of data is late by `delay`, give or take up to `jitter`, on both ways; the order stays.
    pub fn delay(&self, delay: Duration, jitter: Duration) {
        self.set(|plan| (plan.delay, plan.jitter) = (delay, jitter));
    }

    /// Limits each direction of each connection to this many bytes per second.
    pub fn rate(&self, bytes_per_second: Option<u64>) {
        self.set(|plan| plan.bytes_per_second = bytes_per_second);
    }

    /// Passes data on in writes of at most this many bytes.
    pub fn chunk(&self, bytes: Option<usize>) {
        self.set(|plan| plan.chunk = bytes);
    }

    /// While on, connections stay open and no bytes pass. Turning it off lets the held bytes pass.
    pub fn blackhole(&self, on: bool) {
        self.set(|plan| plan.blackhole = on);
    }

    /// While on, takes no more bytes from clients; answers still pass. Turning it off lets the held bytes pass.
    pub fn hold_requests(&self, on: bool) {
        self.set(|plan| plan.holds_requests = on);
    }

    /// New connections are accepted, but never read from or answered.
    pub fn never_answer(&self, on: bool) {
        self.set(|plan| plan.accept = if on { Accept::NeverAnswer } else { Accept::Forward });
    }

    /// New connections are refused by the kernel; open ones stay.
    pub fn refuse(&self, on: bool) {
        self.set(|plan| plan.accept = if on { Accept::Refuse } else { Accept::Forward });
    }

    /// Limits the receive buffer of new connections, so that a client's write blocks soon while nothing moves.
    pub fn receive_buffer(&self, bytes: usize) {
        // Accepted sockets inherit it from the listener.
        self.shared.receive_buffer.store(bytes, Ordering::Relaxed);
        self.refuse(true);
        self.refuse(false);
    }

    /// Cuts all connections now, and returns their number once they are gone.
    pub fn cut_all(&self, how: Cut) -> usize {
        let links: Vec<_> = self.lock().links.values().cloned().collect();
        let cut: Vec<u64> = links.iter().filter(|link| self.shared.cut(link, how)).map(|link| link.id).collect();
        drop(links);
        self.wait_until(|state| cut.iter().all(|id| !state.links.contains_key(id)));
        cut.len()
    }

    /// Cuts each connection after a time out of this range.
    pub fn cut_every(&self, lives: Option<Range<Duration>>, how: Cut) {
        self.set(|plan| plan.lives = lives.map(|lives| (lives, how, Instant::now())));
    }

    /// Applies `fault` to every `every`-th request of this API, or to its answer, counted over all connections.
    pub fn inject(&self, api: i16, every: u64, fault: Fault) {
        self.inject_times(api, every, u64::MAX, fault);
    }

    /// Like [`Self::inject`], at most so many times.
    pub fn inject_times(&self, api: i16, every: u64, times: u64, fault: Fault) {
        assert!(every > 0);
        self.set(|plan| plan.rules.push(Rule { api, every, times, seen: 0, fault }));
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    /// The number of connections that are open.
    pub fn open_connections(&self) -> usize {
        self.lock().links.len()
    }

    fn set(&self, change: impl FnOnce(&mut Plan)) {
        let refuses = {
            let mut state = self.lock();
            change(&mut state.plan);
            state.plan.accept == Accept::Refuse
        };
        self.shared.changed.notify_all();
        if refuses {
            self.wake_acceptor();
        }
        self.wait_until(|state| state.listening != refuses);
    }

    /// The acceptor sits in accept(); a connection is what ends that, and it forwards none if it shall stop or refuse.
    fn wake_acceptor(&self) {
        let _ = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1));
    }

    fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        let guard = self.lock();
        let limit = Duration::from_secs(60);
        let (_guard, result) = self.shared.changed.wait_timeout_while(guard, limit, |state| !condition(state)).unwrap();
        assert!(!result.timed_out(), "the proxy does not follow");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let links: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.links.values().cloned().collect()
        };
        for link in links {
            self.shared.close(&link, Cut::Reset);
        }
        self.shared.changed.notify_all();
        self.wake_acceptor();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddr, receive_buffer: usize) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if receive_buffer > 0 {
        socket.set_recv_buffer_size(receive_buffer)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

fn accept_loop(shared: &Arc<Shared>) {
    let mut listener = None;
    loop {
        let (closed, mode) = {
            let state = shared.lock();
            (state.closed, state.plan.accept)
        };
        if closed {
            return;
        }
        if mode == Accept::Refuse {
            listener = None;
            let mut state = shared.lock();
            state.listening = false;
            shared.changed.notify_all();
            let refusing = |state: &mut State| !state.closed && state.plan.accept == Accept::Refuse;
            drop(shared.changed.wait_while(state, refusing));
            continue;
        }
        let current = listener.get_or_insert_with(|| {
            let receive_buffer = shared.receive_buffer.load(Ordering::Relaxed);
            listen(shared.port.address, receive_buffer).expect("the port is reserved")
        });
        shared.lock().listening = true;
        shared.changed.notify_all();
        let Ok((client, _)) = current.accept() else { continue };
        let state = shared.lock();
        if state.closed || state.plan.accept == Accept::Refuse {
            continue;
        }
        // A copy: a change of the settings applies to later connections only.
        let mode = state.plan.accept;
        drop(state);
        let shared = Arc::clone(shared);
        thread::spawn(move || shared.serve(client, mode));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends connections whose time is over.
    fn end_old_connections(&self) {
        let mut state = self.lock();
        while !state.closed {
            let Some((lives, how, since)) = state.plan.lives.clone() else {
                state = self.changed.wait(state).unwrap();
                continue;
            };
            let now = Instant::now();
            let old = |link: &&Arc<Link>| now.saturating_duration_since(link.born.max(since)) >= pick(&lives, link.id);
            let links: Vec<_> = state.links.values().filter(old).cloned().collect();
            drop(state);
            for link in &links {
                self.cut(link, how);
            }
            drop(links);
            state = self.lock();
            state = self.changed.wait_timeout(state, Duration::from_millis(5)).unwrap().0;
        }
    }

    /// Serves one connection until it ends.
    fn serve(self: &Arc<Self>, client: TcpStream, mode: Accept) {
        let broker = match mode {
            Accept::Forward => match TcpStream::connect_timeout(&self.upstream, Duration::from_secs(30)) {
                Ok(broker) => Some(broker),
                // After the accept, a reset is the nearest thing to a refusal.
                Err(_) => {
                    self.lock().counts.brokerless += 1;
                    return drop(SockRef::from(&client).set_linger(Some(Duration::ZERO)));
                }
            },
            Accept::NeverAnswer | Accept::Refuse => None,
        };
        for stream in [Some(&client), broker.as_ref()].into_iter().flatten() {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_write_timeout(Some(WRITE_SLICE));
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (closed, hung, pending) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        let link = Arc::new(Link { id, born: Instant::now(), client, broker, closed, hung, pending });
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.counts.connections += 1;
            state.counts.unanswered += u64::from(link.broker.is_none());
            state.links.insert(id, Arc::clone(&link));
            self.changed.notify_all();
        }
        if let Some(broker) = &link.broker {
            thread::scope(|scope| {
                let (to_broker, from_client) = sync_channel(64);
                let (to_client, from_broker) = sync_channel(64);
                scope.spawn(|| self.write(&link, broker, from_client, true));
                scope.spawn(|| self.write(&link, &link.client, from_broker, false));
                scope.spawn(|| {
                    let _ = self.read_responses(&link, broker, &to_client);
                    let _ = to_client.send(Piece::End);
                    drop(to_client);
                });
                let _ = self.read_requests(&link, &to_broker);
                if link.hung.load(Ordering::Acquire) {
                    self.close(&link, Cut::Fin);
                }
                let _ = to_broker.send(Piece::End);
                drop(to_broker);
            });
        } else {
            let state = self.lock();
            drop(self.changed.wait_while(state, |_| !link.closed.load(Ordering::Acquire)));
        }
        let mut state = self.lock();
        state.links.remove(&id);
        // Whoever waits for the end of the connection should find the socket closed.
        drop(link);
        self.changed.notify_all();
    }

    /// Ends a connection as the test asked; false if it had been ended before.
    fn cut(&self, link: &Link, how: Cut) -> bool {
        self.end(link, how, |counts| counts.connections_cut += 1)
    }

    /// Ends a connection; false if it had been ended before.
    fn close(&self, link: &Link, how: Cut) -> bool {
        self.end(link, how, |_| {})
    }

    fn end(&self, link: &Link, how: Cut, count: impl FnOnce(&mut Counts)) -> bool {
        if link.closed.swap(true, Ordering::AcqRel) {
            return false;
        }
        // Counted before either peer can see the end, because a test that sees it may read the counts at once.
        count(&mut self.lock().counts);
        if how == Cut::Reset {
            // The reset goes out when the socket is closed, which its threads do when they see the end. A shutdown for
            // writing would send FIN before it; one for reading says nothing to the peer and frees the reader.
            let _ = SockRef::from(&link.client).set_linger(Some(Duration::ZERO));
            let _ = link.client.shutdown(Shutdown::Read);
        } else {
            let _ = link.client.shutdown(Shutdown::Both);
        }
        if let Some(broker) = &link.broker {
            let _ = broker.shutdown(Shutdown::Both);
        }
        // With the lock, so that no thread is between its look at `closed` and its wait.
        let _state = self.lock();
        self.changed.notify_all();
        true
    }

    fn read_requests(&self, link: &Link, out: &SyncSender<Piece>) -> std::io::Result<()> {
        let mut way = Way::new(self, link, &link.client, out);
        loop {
            let mut header = [0; 12];
            way.read_exact(&mut header)?;
            let length = usize::try_from(i32::from_be_bytes(header[0..4].try_into().unwrap())).unwrap_or(0);
            if !(8..=1 << 30).contains(&length) {
                // Not Kafka's frames: TLS, or a test of its own kind.
                way.send(header.to_vec(), Duration::ZERO)?;
                return way.copy(u64::MAX);
            }
            let api = i16::from_be_bytes(header[4..6].try_into().unwrap());
            let correlation = i32::from_be_bytes(header[8..12].try_into().unwrap());
            link.pending.lock().unwrap().insert(correlation, api);
            let fault = {
                let mut state = self.lock();
                *state.counts.requests.entry(api).or_default() += 1;
                state.fault(api, |fault| matches!(fault, Fault::CutRequest(..)))
            };
            if let Some(Fault::CutRequest(range, how)) = fault {
                let limit = pick_usize(&range).min(length + 3);
                self.lock().counts.requests_cut += 1;
                return way.part(&header, limit, how);
            }
            way.send(header.to_vec(), Duration::ZERO)?;
            way.copy((length - 8) as u64)?;
        }
    }

    fn read_responses(&self, link: &Link, broker: &TcpStream, out: &SyncSender<Piece>) -> std::io::Result<()> {
        let mut way = Way::new(self, link, broker, out);
        loop {
            let mut header = [0; 8];
            way.read_exact(&mut header)?;
            let length = usize::try_from(i32::from_be_bytes(header[0..4].try_into().unwrap())).unwrap_or(0);
            let correlation = i32::from_be_bytes(header[4..8].try_into().unwrap());
            let api = link.pending.lock().unwrap().remove(&correlation);
            let (4..=0x4000_0000, Some(api)) = (length, api) else {
                way.send(header.to_vec(), Duration::ZERO)?;
                return way.copy(u64::MAX);
            };
            let rest = (length - 4) as u64;
            let fault = {
                let mut state = self.lock();
                *state.counts.responses.entry(api).or_default() += 1;
                let fault = state.fault(api, |fault| !matches!(fault, Fault::CutRequest(..)));
                let counts = &mut state.counts;
                match &fault {
                    Some(Fault::CutResponse(..)) => counts.responses_cut += 1,
                    Some(Fault::LoseAnswer(_)) => counts.answers_lost += 1,
                    Some(Fault::Hang) => counts.hangs += 1,
                    Some(Fault::Delay(_)) => counts.answers_delayed += 1,
                    Some(Fault::Skip) => counts.answers_skipped += 1,
                    Some(Fault::Duplicate) => counts.answers_duplicated += 1,
                    Some(Fault::WrongCorrelation) => counts.answers_miscorrelated += 1,
                    Some(Fault::CutRequest(..)) | None => {}
                }
                fault
            };
            match fault {
                None | Some(Fault::CutRequest(..)) => {
                    way.send(header.to_vec(), Duration::ZERO)?;
                    way.copy(rest)?;
                }
                Some(Fault::CutResponse(range, how)) => {
                    return way.part(&header, pick_usize(&range).min(length + 3), how);
                }
                Some(Fault::LoseAnswer(how)) => {
                    self.close(link, how);
                    return Ok(());
                }
                Some(Fault::Hang) => {
                    link.hung.store(true, Ordering::Release);
                    return way.swallow(u64::MAX);
                }
                Some(Fault::Delay(delay)) => {
                    way.send(header.to_vec(), delay)?;
                    way.copy(rest)?;
                }
                Some(Fault::Skip) => way.swallow(rest)?,
                Some(Fault::Duplicate) => {
                    let mut frame = header.to_vec();
                    frame.resize(length + 4, 0);
                    way.read_exact(&mut frame[8..])?;
                    way.send(frame.clone(), Duration::ZERO)?;
                    way.send(frame, Duration::ZERO)?;
                }
                Some(Fault::WrongCorrelation) => {
                    header[4..8].copy_from_slice(&(correlation ^ 0x5555_5555).to_be_bytes());
                    way.send(header.to_vec(), Duration::ZERO)?;
                    way.copy(rest)?;
                }
            }
        }
    }

    fn write(&self, link: &Link, stream: &TcpStream, pieces: Receiver<Piece>, to_broker: bool) {
        for piece in pieces {
            match piece {
                Piece::Bytes(due, bytes) => {
                    if self.write_bytes(link, stream, due, &bytes, to_broker).is_err() {
                        self.close(link, Cut::Reset);
                        return;
                    }
                }
                Piece::Cut(how) => {
                    self.close(link, how);
                    return;
                }
                // After a cut this would send FIN before the reset.
                Piece::End if link.closed.load(Ordering::Acquire) => return,
                Piece::End => {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
        }
    }

    fn write_bytes(
        &self,
        link: &Link,
        mut stream: &TcpStream,
        due: Instant,
        bytes: &[u8],
        to_broker: bool,
    ) -> std::io::Result<()> {
        self.pause_until(link, due)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let chunk = self.gate(link)?.plan.chunk.unwrap_or(usize::MAX).max(1);
            match stream.write(&rest[..rest.len().min(chunk)]) {
                Ok(written) => {
                    rest = &rest[written..];
                    let mut state = self.lock();
                    let counts = &mut state.counts;
                    let total = if to_broker { &mut counts.bytes_to_broker } else { &mut counts.bytes_to_client };
                    *total += written as u64;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits while no bytes may pass.
    fn gate(&self, link: &Link) -> std::io::Result<MutexGuard<'_, State>> {
        self.gate_unless(link, |plan| plan.blackhole)
    }

    /// Waits while `holds` says so.
    fn gate_unless(&self, link: &Link, holds: impl Fn(&Plan) -> bool) -> std::io::Result<MutexGuard<'_, State>> {
        let held = |state: &mut State| holds(&state.plan) && !link.closed.load(Ordering::Acquire);
        let state = self.changed.wait_while(self.lock(), held).unwrap();
        if link.closed.load(Ordering::Acquire) { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(state) }
    }

    fn pause_until(&self, link: &Link, due: Instant) -> std::io::Result<()> {
        let mut state = self.lock();
        loop {
            if link.closed.load(Ordering::Acquire) {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl State {
    /// The fault for this request or answer, if it is some rule's turn.
    fn fault(&mut self, api: i16, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut chosen = None;
        for rule in self.plan.rules.iter_mut().filter(|rule| rule.api == api && fits(&rule.fault)) {
            rule.seen += 1;
            if rule.seen.is_multiple_of(rule.every) && rule.times > 0 && chosen.is_none() {
                rule.times -= 1;
                chosen = Some(rule.fault.clone());
            }
        }
        chosen
    }
}

/// The reading half of one way through a connection.
struct Way<'a> {
    shared: &'a Shared,
    link: &'a Link,
    from: &'a TcpStream,
    out: &'a SyncSender<Piece>,
    /// Whether it is the way of the requests.
    is_clients: bool,
    /// No piece is due before the one in front of it.
    last_due: Instant,
}

impl<'a> Way<'a> {
    fn new(shared: &'a Shared, link: &'a Link, from: &'a TcpStream, out: &'a SyncSender<Piece>) -> Self {
        let is_clients = std::ptr::eq(from, &link.client);
        Self { shared, link, from, out, is_clients, last_due: Instant::now() }
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.from.read(&mut bytes[filled..]) {
                Ok(0) => {
                    // The sender never finished this frame; the part that came is passed on as it is.
                    let _ = self.send(bytes[..filled].to_vec(), Duration::ZERO);
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(count) => filled += count,
                Err(error) => return self.failed(error),
            }
        }
        Ok(())
    }

    /// Passes a reset of one side on to the other side.
    fn failed<T>(&self, error: std::io::Error) -> std::io::Result<T> {
        self.shared.close(self.link, Cut::Reset);
        Err(error)
    }

    /// Passes `count` bytes on as they come.
    fn copy(&mut self, mut count: u64) -> std::io::Result<()> {
        let mut buffer = [0; PIECE];
        while count > 0 {
            let holds = |plan: &Plan| plan.blackhole || (self.is_clients && plan.holds_requests);
            let rate = self.shared.gate_unless(self.link, holds)?.plan.bytes_per_second;
            let piece = rate.map_or(PIECE, |rate| usize::try_from(rate / 50).unwrap().clamp(1, PIECE));
            let limit = piece.min(usize::try_from(count).unwrap_or(usize::MAX));
            match self.from.read(&mut buffer[..limit]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.send(buffer[..read].to_vec(), Duration::ZERO)?;
                    count -= read as u64;
                }
                Err(error) => return self.failed(error),
            }
        }
        Ok(())
    }

    /// Reads `count` bytes and forgets them.
    fn swallow(&mut self, mut count: u64) -> std::io::Result<()> {
        let mut buffer = [0; PIECE];
        while count > 0 {
            let limit = PIECE.min(usize::try_from(count).unwrap_or(usize::MAX));
            match self.from.read(&mut buffer[..limit]) {
                Ok(0) if self.link.hung.load(Ordering::Acquire) => {
                    let state = self.shared.lock();
                    let open = |_: &mut State| !self.link.closed.load(Ordering::Acquire);
                    drop(self.shared.changed.wait_while(state, open));
                    return Ok(());
                }
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => count -= read as u64,
                Err(error) => return self.failed(error),
            }
        }
        Ok(())
    }

    /// Passes the first `limit` bytes of a frame on, and cuts the connection once they are written.
    fn part(&mut self, header: &[u8], limit: usize, how: Cut) -> std::io::Result<()> {
        self.send(header[..limit.min(header.len())].to_vec(), Duration::ZERO)?;
        self.copy(limit.saturating_sub(header.len()) as u64)?;
        self.out.send(Piece::Cut(how)).map_err(|_| ErrorKind::BrokenPipe)?;
        Ok(())
    }

    fn send(&mut self, bytes: Vec<u8>, extra: Duration) -> std::io::Result<()> {
        let (delay, jitter, rate) = {
            let state = self.shared.gate(self.link)?;
            (state.plan.delay, state.plan.jitter, state.plan.bytes_per_second)
        };
        let now = Instant::now();
        if let Some(rate) = rate {
            // Here and not at the writer, so that the limit slows the sender down.
            let pace = Duration::from_secs_f64(bytes.len() as f64 / rate as f64);
            self.shared.pause_until(self.link, now + pace)?;
        }
        let low = delay.saturating_sub(jitter);
        let due = Instant::now() + extra + pick(&(low..delay + jitter), random());
        self.last_due = self.last_due.max(due);
        self.out.send(Piece::Bytes(self.last_due, bytes)).map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// A duration out of a range, the same for the same seed.
fn pick(range: &Range<Duration>, seed: u64) -> Duration {
    let width = range.end.saturating_sub(range.start);
    let mixed = (seed.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    range.start + width.mul_f64(mixed as f64 / (1_u64 << 24) as f64)
}

fn pick_usize(range: &Range<usize>) -> usize {
    let width = range.len().max(1);
    range.start + usize::try_from(random() % width as u64).unwrap()
}

//! The brokers' sockets and threads.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::{Condvar, Mutex};

use super::builder::Settings;
use super::fault::{Arrival, Fault, Hit};
use super::handlers::{Call, Injected, Reply, Serve, unsupported_api_versions};
use super::seen::SeenRequest;
use super::state::FakeState;
use super::versions::Api;
use crate::bytes::SharedBytes;
use crate::error::{Error, Result};
use crate::protocol::api::Request;
use crate::protocol::frame::{FrameReader, FrameWriter};
use crate::protocol::header::{RequestHeader, decode_request, decode_request_header, encode_response};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    EndTxnRequest, FetchRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, OffsetFetchRequest, ProduceRequest, TxnOffsetCommitRequest,
};
use crate::record::compression::{DEFAULT_MAX_DECOMPRESSED_BYTES, Decompressor};
use crate::time;
use crate::topic::BrokerId;

/// The longest request that is read, as Kafka's `socket.request.max.bytes`.
const MAX_REQUEST_BYTES: usize = 104_857_600;
/// How many bytes are reserved for a request before its bytes have come.
const RESERVED_BYTES: usize = 1 << 20;
/// How long the connection that wakes a broker's own listener may take; on loopback it is made at once or not at all.
const WAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before the next accept, when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What the cluster's threads and its owner share.
pub(super) struct ServerShared {
    pub(super) settings: Settings,
    /// The one lock of the cluster. No thread blocks while it holds the lock, except by waiting on `changed`.
    pub(super) state: Mutex<FakeState>,
    /// Notified whenever the state has changed in a way that a thread may wait for.
    pub(super) changed: Condvar,
    /// Notified when an open transaction may have to be aborted earlier than `timer_sleeps_until`, and at the end.
    due: Condvar,
    /// The accepting thread of each broker that listens. Locked before `state`, if both are.
    acceptors: Mutex<BTreeMap<BrokerId, JoinHandle<()>>>,
    /// The threads of connections. Those that have ended are joined when others start.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ServerShared {
    pub(super) fn new(settings: Settings) -> Self {
        let state = FakeState::new(&settings);
        Self {
            settings,
            state: Mutex::new(state),
            changed: Condvar::new(),
            due: Condvar::new(),
            acceptors: Mutex::default(),
            threads: Mutex::default(),
        }
    }

    /// Waits until `condition` holds, and returns whether it does.
    pub(super) fn wait_until(&self, deadline: Instant, mut condition: impl FnMut(&FakeState) -> bool) -> bool {
        let mut state = self.state.lock();
        loop {
            if condition(&state) {
                return true;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return condition(&state);
            }
        }
    }

    /// Changes the state and wakes all threads that wait for changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut FakeState) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// Makes a broker listen, on the port that it had if that is free.
    pub(super) fn open(self: &Arc<Self>, broker: BrokerId) -> Result<()> {
        let mut acceptors = self.acceptors.lock();
        if acceptors.contains_key(&broker) {
            return Ok(());
        }
        let failed = |error: io::Error| Error::network("a fake broker cannot listen").with_source(error);
        let port = self.state.lock().brokers.get(&broker).map_or(0, |broker| broker.port);
        let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = bind(port).or_else(|error| if port == 0 { Err(error) } else { bind(0) }).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        // It is alive before it accepts; otherwise a client could ask a broker that does not know itself yet.
        let number = self.change(|state| {
            let broker = state.brokers.entry(broker).or_default();
            (broker.port, broker.alive, broker.paused) = (port, true, false);
            let number = broker.listener;
            state.elect();
            number
        });
        let shared = Arc::clone(self);
        let acceptor = spawn(broker, move || shared.accept(broker, number, &listener)).map_err(|error| {
            self.change(|state| {
                state.brokers.entry(broker).or_default().alive = false;
                state.elect();
            });
            failed(error)
        })?;
        acceptors.insert(broker, acceptor);
        Ok(())
    }

    /// Closes a broker's listener and connections. When this returns, no client can connect to it.
    pub(super) fn close(&self, broker: BrokerId) {
        let mut acceptors = self.acceptors.lock();
        // All of this is one change; otherwise a request that waits could be answered by a broker that has lost its
        // partitions.
        let (port, connections) = self.change(|state| {
            let closed = state.brokers.get_mut(&broker).map(|broker| {
                broker.alive = false;
                broker.listener += 1;
                (broker.port, std::mem::take(&mut broker.connections))
            });
            state.elect();
            // A broker that starts again knows none of them.
            state.sessions.forget(Some(broker));
            closed.unzip()
        });
        shut_down(connections.unwrap_or_default());
        let (Some(acceptor), Some(port)) = (acceptors.remove(&broker), port) else {
            return;
        };
        // The accepting thread checks after each connection whether the broker is alive. This connection makes it
        // check.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match TcpStream::connect_timeout(&address, WAKE_TIMEOUT) {
            Ok(_) => drop(acceptor.join()),
            Err(error) => warn!("fake broker {broker}: its listener cannot be woken and stays open: {error}"),
        }
        // Connections that were accepted meanwhile.
        self.cut(broker);
    }

    /// Closes a broker's connections.
    pub(super) fn cut(&self, broker: BrokerId) {
        let connections = self.change(|state| {
            state.brokers.get_mut(&broker).map(|broker| std::mem::take(&mut broker.connections)).unwrap_or_default()
        });
        shut_down(connections);
    }

    /// Makes the thread `fake-transactions` abort open transactions when their time is over. The first transaction
    /// starts this thread.
    pub(super) fn watch_transactions(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let Some(deadline) = state.transactions.next_deadline() else {
            return;
        };
        if state.is_stopped || state.timer_sleeps_until.is_some_and(|until| until <= deadline) {
            return;
        }
        let is_timed = std::mem::replace(&mut state.is_timed, true);
        drop(state);
        if is_timed {
            self.due.notify_all();
            return;
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("fake-transactions".into()).spawn(move || shared.time_out());
        match thread {
            Ok(thread) => self.threads.lock().push(thread),
            Err(error) => warn!("fake cluster: no thread to abort transactions: {error}"),
        }
    }

    fn time_out(&self) {
        let mut state = self.state.lock();
        while !state.is_stopped {
            let now = Instant::now();
            match state.transactions.next_deadline() {
                Some(due) if due <= now => {
                    state.transactions.time_out_until(now);
                    state.write_markers();
                    self.changed.notify_all();
                }
                Some(due) => {
                    state.timer_sleeps_until = Some(due);
                    self.due.wait_until(&mut state, due);
                }
                None => {
                    state.timer_sleeps_until = None;
                    self.due.wait(&mut state);
                }
            }
        }
    }

    /// Closes everything, and waits for every thread.
    pub(super) fn stop(&self) {
        self.change(|state| state.is_stopped = true);
        self.due.notify_all();
        let brokers: Vec<BrokerId> = self.state.lock().brokers.keys().copied().collect();
        for broker in brokers {
            self.close(broker);
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            drop(thread.join());
        }
    }

    fn accept(self: &Arc<Self>, broker: BrokerId, number: u64, listener: &TcpListener) {
        loop {
            let accepted = listener.accept().and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Arc::new(stream))
            });
            let mut state = self.state.lock();
            let connection = state.next_connection;
            state.next_connection += 1;
            let Some(state_of_broker) = state.brokers.get_mut(&broker).filter(|broker| broker.listener == number)
            else {
                return;
            };
            match accepted {
                Ok(stream) => {
                    state_of_broker.connections.insert(connection, Arc::clone(&stream));
                    drop(state);
                    self.serve(broker, connection, stream);
                }
                Err(_) => drop(self.changed.wait_for(&mut state, ACCEPT_PAUSE)),
            }
        }
    }

    /// Serves a connection on a thread of its own.
    fn serve(self: &Arc<Self>, broker: BrokerId, id: u64, stream: Arc<TcpStream>) {
        let shared = Arc::clone(self);
        let thread = spawn(broker, move || {
            let mut connection = ServerConnection {
                shared: Arc::clone(&shared),
                broker,
                id,
                writer: FrameWriter::new(),
                decompressor: Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES),
                held: Vec::new(),
                is_silent: false,
                stream: Arc::clone(&stream),
            };
            connection.run();
            // Removed before the client can see the end; otherwise the client's next connection could be counted
            // together with this one.
            shared.change(|state| state.brokers.get_mut(&broker).and_then(|broker| broker.connections.remove(&id)));
            drop(stream.shutdown(Shutdown::Both));
        });
        match thread {
            Ok(thread) => {
                let mut threads = self.threads.lock();
                let (ended, running) = std::mem::take(&mut *threads).into_iter().partition(JoinHandle::is_finished);
                *threads = running;
                threads.push(thread);
                drop(threads);
                let ended: Vec<JoinHandle<()>> = ended;
                for thread in ended {
                    drop(thread.join());
                }
            }
            Err(error) => {
                warn!("fake broker {broker}: no thread for a connection: {error}");
                self.change(|state| state.brokers.get_mut(&broker).and_then(|broker| broker.connections.remove(&id)));
            }
        }
    }
}

fn shut_down(connections: BTreeMap<u64, Arc<TcpStream>>) {
    for stream in connections.into_values() {
        // It fails only if the client has closed the connection first.
        drop(stream.shutdown(Shutdown::Both));
    }
}

fn spawn(broker: BrokerId, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("fake-broker-{broker}")).spawn(body)
}

/// A client's connection to a broker.
///
/// *Thread*: its own.
struct ServerConnection {
    shared: Arc<ServerShared>,
    broker: BrokerId,
    id: u64,
    stream: Arc<TcpStream>,
    writer: FrameWriter,
    decompressor: Decompressor,
    /// Answers to be sent after the next one.
    held: Vec<u8>,
    /// Whether nothing is answered any more.
    is_silent: bool,
}

impl ServerConnection {
    fn run(&mut self) {
        let stream = Arc::clone(&self.stream);
        let mut input = BufReader::with_capacity(64 << 10, &*stream);
        let mut buffer = Vec::new();
        loop {
            if self.is_silent {
                drop(io::copy(&mut input, &mut io::sink()));
                return;
            }
            let Some(frame) = self.read_frame(&mut input, buffer) else {
                return;
            };
            if self.answer(&frame).is_break() {
                return;
            }
            buffer = frame.into_buffer().unwrap_or_default();
        }
    }

    fn read_frame(&self, input: &mut impl Read, mut buffer: Vec<u8>) -> Option<SharedBytes> {
        let mut length = [0; 4];
        input.read_exact(&mut length).ok()?;
        let length = i32::from_be_bytes(length);
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= MAX_REQUEST_BYTES) else {
            self.refuse(&format!("a request of {length} bytes"));
            return None;
        };
        buffer.clear();
        buffer.reserve(length.min(RESERVED_BYTES));
        let read = input.take(u64::try_from(length).ok()?).read_to_end(&mut buffer).ok()?;
        (read == length).then(|| buffer.into())
    }

    /// Notes a request that no correct client sends.
    fn refuse(&self, what: &str) {
        let text = format!("broker {}, connection {}: {what}", self.broker, self.id);
        self.shared.change(|state| state.refuse(text));
    }

    fn answer(&mut self, frame: &SharedBytes) -> ControlFlow<()> {
        let (header, reader) = match decode_request_header(frame) {
            Ok(header) => header,
            Err(error) => {
                self.refuse(&format!("a request without a header: {error}"));
                return ControlFlow::Break(());
            }
        };
        let key = header.api_key;
        let offered = Api::of(key).and_then(|api| Some((api, self.shared.settings.offered.get(&api)?)));
        let Some((api, range)) = offered else {
            self.refuse(&format!("a request of the unknown kind {key}"));
            return ControlFlow::Break(());
        };
        if !range.contains(&header.version) {
            if api == Api::ApiVersions && header.version > 0 {
                let answer = unsupported_api_versions(&self.shared.settings);
                return self.send::<ApiVersionsRequest>(&answer, 0, header.correlation_id, None);
            }
            self.refuse(&format!("{api} in version {}", header.version));
            return ControlFlow::Break(());
        }
        match api {
            Api::Produce => self.take::<ProduceRequest>(api, &header, reader),
            Api::Fetch => self.take::<FetchRequest>(api, &header, reader),
            Api::ListOffsets => self.take::<ListOffsetsRequest>(api, &header, reader),
            Api::Metadata => self.take::<MetadataRequest>(api, &header, reader),
            Api::OffsetFetch => self.take::<OffsetFetchRequest>(api, &header, reader),
            Api::AddPartitionsToTxn => self.take::<AddPartitionsToTxnRequest>(api, &header, reader),
            Api::AddOffsetsToTxn => self.take::<AddOffsetsToTxnRequest>(api, &header, reader),
            Api::EndTxn => self.take::<EndTxnRequest>(api, &header, reader),
            Api::TxnOffsetCommit => self.take::<TxnOffsetCommitRequest>(api, &header, reader),
            Api::FindCoordinator => self.take::<FindCoordinatorRequest>(api, &header, reader),
            Api::ApiVersions => self.take::<ApiVersionsRequest>(api, &header, reader),
            Api::CreateTopics => self.take::<CreateTopicsRequest>(api, &header, reader),
            Api::DeleteTopics => self.take::<DeleteTopicsRequest>(api, &header, reader),
            Api::DeleteRecords => self.take::<DeleteRecordsRequest>(api, &header, reader),
            Api::InitProducerId => self.take::<InitProducerIdRequest>(api, &header, reader),
            Api::DescribeConfigs => self.take::<DescribeConfigsRequest>(api, &header, reader),
            Api::CreatePartitions => self.take::<CreatePartitionsRequest>(api, &header, reader),
            Api::IncrementalAlterConfigs => self.take::<IncrementalAlterConfigsRequest>(api, &header, reader),
            Api::DescribeCluster => self.take::<DescribeClusterRequest>(api, &header, reader),
        }
    }

    /// Reads a request, applies the fault that hits it, if one does, and answers.
    fn take<R: Serve>(&mut self, api: Api, header: &RequestHeader, reader: FrameReader<'_>) -> ControlFlow<()> {
        let version = header.version;
        let request = if R::VERSIONS.contains(&version) {
            decode_request::<R>(reader, version)
        } else {
            // The release offers this version, but this crate does not speak it.
            Err(Error::misbehaved("no version that this crate knows"))
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                self.refuse(&format!("{api} in version {version}: {error}"));
                return ControlFlow::Break(());
            }
        };
        let Some(hit) = self.arrive(api, header, &request) else {
            return ControlFlow::Break(());
        };
        let (rule, on, fault) = hit.map_or((0, None, None), |hit| (hit.rule, Some(hit.on), Some(hit.fault)));
        match &fault {
            Some(Fault::CutBefore) => return ControlFlow::Break(()),
            Some(Fault::Garbage(bytes)) => return self.write(bytes),
            _ => {}
        }
        let (code, applied) = match &fault {
            Some(Fault::Error(code)) => (Some(*code), false),
            Some(Fault::ErrorAfterApply(code)) => (Some(*code), true),
            _ => (None, true),
        };
        let shared = Arc::clone(&self.shared);
        let mut call = Call {
            shared: &shared,
            broker: self.broker,
            connection: self.id,
            version,
            decompressor: &mut self.decompressor,
            injected: on.zip(code).map(|(on, code)| Injected { on, code, applied }),
        };
        let outcome = match code {
            Some(code) if !R::ANSWERS_BY_PARTITION => {
                if applied {
                    drop(request.serve(&mut call));
                }
                Reply::Answer(request.refuse(&mut call, code))
            }
            _ => request.serve(&mut call),
        };
        match outcome {
            Reply::Answer(mut response) => {
                if let Some(Fault::Throttle(ms)) = &fault {
                    R::throttle(&mut response, *ms);
                }
                if fault == Some(Fault::Hold) {
                    self.hold(rule)?;
                }
                self.send::<R>(&response, version, header.correlation_id, fault)
            }
            Reply::Silence => match fault {
                Some(Fault::DropAnswer | Fault::Truncate(_)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            },
            Reply::Close => ControlFlow::Break(()),
        }
    }

    /// Waits while the broker is paused, notes the request, and finds the fault that hits it. `None`: the connection
    /// is to be closed.
    #[expect(clippy::option_option, reason = "the outer one ends the connection, the inner one is no fault")]
    fn arrive<R: Serve>(&self, api: Api, header: &RequestHeader, request: &R) -> Option<Option<Hit>> {
        let at = Instant::now();
        let mut state = self.shared.state.lock();
        while state.brokers.get(&self.broker).is_some_and(|broker| broker.paused) && state.is_open(self.broker, self.id)
        {
            self.shared.changed.wait(&mut state);
        }
        if !state.is_open(self.broker, self.id) {
            return None;
        }
        if self.shared.settings.sink {
            *state.counts.entry(api).or_default() += 1;
            if state.rules.is_empty() {
                return Some(None);
            }
        }
        let named = request.named(&state);
        let client_id = header.client_id.as_deref();
        let transaction = request.transaction();
        let hit = state.rules.hit(&Arrival {
            api,
            broker: self.broker,
            client_id,
            named: &named,
            transaction: transaction.as_ref(),
        });
        if !self.shared.settings.sink {
            let batches = request.batches(&state);
            state.note(SeenRequest {
                broker: self.broker,
                connection: self.id,
                at,
                api,
                version: header.version,
                correlation_id: header.correlation_id,
                client_id: header.client_id.clone(),
                partitions: named,
                batches,
                transaction,
            });
        }
        drop(state);
        self.shared.changed.notify_all();
        Some(hit)
    }

    /// Sends an answer in the way that the fault says.
    fn send<R: Request>(
        &mut self,
        response: &R::Response,
        version: i16,
        correlation_id: i32,
        fault: Option<Fault>,
    ) -> ControlFlow<()> {
        let correlation_id = match fault {
            Some(Fault::WrongCorrelation) => correlation_id.wrapping_add(1_000_000),
            _ => correlation_id,
        };
        if let Err(error) = encode_response::<R>(&mut self.writer, response, version, correlation_id) {
            warn!("fake broker {}: {} {version} cannot be answered: {error}", self.broker, R::NAME);
            return ControlFlow::Break(());
        }
        match fault {
            Some(Fault::DropAnswer) => return ControlFlow::Break(()),
            Some(Fault::Delay(delay)) => self.pause(delay)?,
            Some(Fault::Stall { answer, pause }) => {
                self.pause(answer)?;
                self.write(self.writer.bytes())?;
                return self.pause(pause);
            }
            Some(Fault::Hang) => {
                self.is_silent = true;
                return ControlFlow::Continue(());
            }
            Some(Fault::Truncate(length)) => {
                let frame = self.writer.bytes();
                let frame = frame.get(..length).unwrap_or(frame);
                drop((&*self.stream).write_all(frame));
                return ControlFlow::Break(());
            }
            Some(Fault::SwapAnswers) => {
                self.held.extend_from_slice(self.writer.bytes());
                return ControlFlow::Continue(());
            }
            Some(Fault::RepeatAnswer) => self.write(self.writer.bytes())?,
            _ => {}
        }
        self.write(self.writer.bytes())?;
        if self.held.is_empty() {
            return ControlFlow::Continue(());
        }
        let held = std::mem::take(&mut self.held);
        self.write(&held)
    }

    /// Waits for this time, or until the connection has ended.
    fn pause(&self, time: Duration) -> ControlFlow<()> {
        let deadline = time::deadline(Instant::now(), time);
        match self.shared.wait_until(deadline, |state| !state.is_open(self.broker, self.id)) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Waits until the rule is removed, or the connection has ended.
    fn hold(&self, rule: u64) -> ControlFlow<()> {
        let mut state = self.shared.state.lock();
        while state.rules.contains(rule) {
            if !state.is_open(self.broker, self.id) {
                return ControlFlow::Break(());
            }
            self.shared.changed.wait(&mut state);
        }
        ControlFlow::Continue(())
    }

    fn write(&self, bytes: &[u8]) -> ControlFlow<()> {
        match (&*self.stream).write_all(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

//! The proxy's verbs, against a server that answers each Kafka-shaped request with its body.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::kafka::Port;
use crate::support::proxy::{Cut, Fault, METADATA, PRODUCE, Proxy};
use crate::support::wait_for;

const MS: Duration = Duration::from_millis(1);

/// How long anything that is waited for may take.
const LIMIT: Duration = Duration::from_secs(60);

struct Echo {
    proxy: Proxy,
    /// Whole requests that the server got.
    applied: Arc<AtomicU64>,
    /// Bytes that the server got.
    bytes: Arc<AtomicU64>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap());
        let (applied, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (Arc::clone(&applied), Arc::clone(&bytes));
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (applied, bytes) = counters.clone();
                thread::spawn(move || serve(&stream.unwrap(), &applied, &bytes));
            }
        });
        Self { proxy, applied, bytes }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.proxy.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation: 0 }
    }

    fn applied(&self) -> u64 {
        self.applied.load(Ordering::SeqCst)
    }

    fn wait_applied(&self, count: u64) {
        wait_for("the server", LIMIT, || (self.applied() == count).then_some(()));
    }
}

fn serve(mut stream: &TcpStream, applied: &AtomicU64, bytes: &AtomicU64) -> Option<()> {
    loop {
        let mut frame = vec![0; 4];
        read_counted(stream, &mut frame, bytes)?;
        let mut rest = vec![0; u32::from_be_bytes(frame.try_into().unwrap()) as usize];
        read_counted(stream, &mut rest, bytes)?;
        applied.fetch_add(1, Ordering::SeqCst);
        let answer = [&(rest.len() as u32 - 4).to_be_bytes(), &rest[4..]].concat();
        stream.write_all(&answer).ok()?;
    }
}

fn read_counted(mut stream: &TcpStream, buffer: &mut [u8], bytes: &AtomicU64) -> Option<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let count = stream.read(&mut buffer[filled..]).ok().filter(|count| *count > 0)?;
        bytes.fetch_add(count as u64, Ordering::SeqCst);
        filled += count;
    }
    Some(())
}

struct Client {
    stream: TcpStream,
    correlation: i32,
}

impl Client {
    fn send(&mut self, api: i16, body: &[u8]) -> i32 {
        self.correlation += 1;
        let length = u32::try_from(body.len() + 8).unwrap();
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend(api.to_be_bytes());
        frame.extend(9_i16.to_be_bytes());
        frame.extend(self.correlation.to_be_bytes());
        frame.extend(body);
        self.stream.write_all(&frame).unwrap();
        self.correlation
    }

    fn receive(&mut self) -> std::io::Result<(i32, Vec<u8>)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let body = frame.split_off(4);
        Ok((i32::from_be_bytes(frame.try_into().unwrap()), body))
    }

    fn round_trip(&mut self, api: i16) -> std::io::Result<Duration> {
        let begin = Instant::now();
        let sent = self.send(api, b"body");
        let (correlation, body) = self.receive()?;
        assert_eq!((correlation, &*body), (sent, &b"body"[..]));
        Ok(begin.elapsed())
    }

    fn fails(&mut self) -> ErrorKind {
        self.receive().expect_err("nothing should come").kind()
    }

    fn receives_nothing_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
        assert_eq!(self.fails(), ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
}

#[test]
fn frames_large_and_small_pass_and_are_counted() {
    let echo = Echo::start();
    let mut client = echo.connect();
    let body: Vec<u8> = (0..3_000_000_u32).map(|index| index as u8).collect();
    let sent = client.send(PRODUCE, &body);
    assert_eq!(client.receive().unwrap(), (sent, body));
    for _ in 0..10 {
        client.round_trip(METADATA).unwrap();
    }
    let counts = echo.proxy.counts();
    assert_eq!((counts.connections, counts.requests[&PRODUCE], counts.requests[&METADATA]), (1, 1, 10));
    assert_eq!(counts.responses, counts.requests);
    // The bytes are counted when they are written, so the client may be here first.
    wait_for("the last count", LIMIT, || {
        let counts = echo.proxy.counts();
        let bytes = (counts.bytes_to_broker, counts.bytes_to_client);
        (bytes == (3_000_012 + 160, 3_000_008 + 120)).then_some(())
    });
    drop(client);
    wait_for("the end", LIMIT, || (echo.proxy.open_connections() == 0).then_some(()));
}

#[test]
fn bytes_that_are_not_frames_pass_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap());
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let hello = b"\xff\xff\xff\xff not Kafka at all";
    client.write_all(hello).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut server = listener.accept().unwrap().0;
    let mut got = Vec::new();
    server.read_to_end(&mut got).unwrap();
    assert_eq!(got, hello);
    server.write_all(b"\xff\xff\xff\xffback").unwrap();
    drop(server);
    got.clear();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"\xff\xff\xff\xffback");
}

#[test]
fn cut_all_resets_or_ends_every_connection_at_once() {
    let echo = Echo::start();
    for (how, expected) in [(Cut::Reset, ErrorKind::ConnectionReset), (Cut::Fin, ErrorKind::UnexpectedEof)] {
        let mut clients = [echo.connect(), echo.connect()];
        for client in &mut clients {
            client.round_trip(PRODUCE).unwrap();
        }
        assert_eq!(echo.proxy.cut_all(how), 2);
        clients.iter_mut().for_each(|client| assert_eq!(client.fails(), expected));
    }
    assert_eq!(echo.proxy.counts().connections_cut, 4);
}

#[test]
fn connections_live_no_longer_than_told() {
    let echo = Echo::start();
    echo.proxy.cut_every(Some(50 * MS..150 * MS), Cut::Reset);
    for _ in 0..3 {
        let begin = Instant::now();
        let mut client = echo.connect();
        assert_eq!(client.fails(), ErrorKind::ConnectionReset);
        assert!(begin.elapsed() >= 50 * MS, "{:?}", begin.elapsed());
    }
    assert_eq!(echo.proxy.counts().connections_cut, 3);
    echo.proxy.cut_every(None, Cut::Reset);
    let mut client = echo.connect();
    client.receives_nothing_for(300 * MS);
}

#[test]
fn a_delay_is_latency_and_not_a_limit_of_the_rate() {
    let echo = Echo::start();
    echo.proxy.delay(500 * MS, 100 * MS);
    let mut client = echo.connect();
    let begin = Instant::now();
    let sent: Vec<i32> = (0..60).map(|_| client.send(PRODUCE, b"x")).collect();
    let came: Vec<i32> = (0..60).map(|_| client.receive().unwrap().0).collect();
    assert_eq!(came, sent);
    let took = begin.elapsed();
    // One after the other they would take half a minute, on each way.
    assert!(took >= 800 * MS && took < 20_000 * MS, "{took:?}");
    echo.proxy.pass();
    wait_for("a round trip without delay", LIMIT, || (client.round_trip(PRODUCE).unwrap() < 800 * MS).then_some(()));
}

#[test]
fn a_rate_is_felt_and_chunks_arrive_whole() {
    let echo = Echo::start();
    echo.proxy.rate(Some(100_000));
    let mut client = echo.connect();
    let begin = Instant::now();
    client.send(PRODUCE, &[7; 30_000]);
    echo.wait_applied(1);
    let took = begin.elapsed();
    assert!(took >= 280 * MS, "{took:?}");
    client.receive().unwrap();
    echo.proxy.rate(None);
    echo.proxy.chunk(Some(1));
    client.send(PRODUCE, &[8; 2000]);
    assert_eq!(client.receive().unwrap().1, [8; 2000]);
}

#[test]
fn a_black_hole_holds_everything_back_until_it_ends() {
    let echo = Echo::start();
    let mut client = echo.connect();
    client.round_trip(PRODUCE).unwrap();
    echo.proxy.blackhole(true);
    let sent = client.send(PRODUCE, b"held");
    client.receives_nothing_for(200 * MS);
    assert_eq!(echo.applied(), 1);
    echo.proxy.blackhole(false);
    assert_eq!(client.receive().unwrap(), (sent, b"held".to_vec()));
}

#[test]
fn a_small_receive_buffer_makes_a_writer_wait() {
    let echo = Echo::start();
    echo.proxy.receive_buffer(4096);
    echo.proxy.blackhole(true);
    let mut client = echo.connect();
    socket2::SockRef::from(&client.stream).set_send_buffer_size(4096).unwrap();
    client.stream.set_write_timeout(Some(200 * MS)).unwrap();
    let mut accepted = 0;
    let blocked = loop {
        match client.stream.write(&[0; 1000]) {
            Ok(count) => accepted += count,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(blocked, ErrorKind::WouldBlock);
    assert!(accepted < 100_000, "{accepted} bytes were taken");
}

#[test]
fn connections_are_refused_or_never_answered() {
    let echo = Echo::start();
    let mut open = echo.connect();
    open.round_trip(PRODUCE).unwrap();
    for _ in 0..3 {
        echo.proxy.refuse(true);
        let error = TcpStream::connect(echo.proxy.address()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        echo.proxy.refuse(false);
        echo.connect().round_trip(PRODUCE).unwrap();
    }
    open.round_trip(PRODUCE).unwrap();

    echo.proxy.never_answer(true);
    let mut client = echo.connect();
    client.send(PRODUCE, b"x");
    client.receives_nothing_for(200 * MS);
    wait_for("the proxy", LIMIT, || (echo.proxy.counts().unanswered == 1).then_some(()));
    echo.proxy.pass();
    client.receives_nothing_for(200 * MS);
    assert_eq!(echo.applied(), 5);
    echo.connect().round_trip(PRODUCE).unwrap();
    assert!(echo.proxy.cut_all(Cut::Reset) >= 2);
    assert_eq!(client.fails(), ErrorKind::ConnectionReset);
}

#[test]
fn the_nth_answer_of_one_api_is_lost_after_the_request_was_applied() {
    let echo = Echo::start();
    echo.proxy.inject_times(PRODUCE, 3, 2, Fault::LoseAnswer(Cut::Reset));
    for _ in 0..2 {
        let mut client = echo.connect();
        for _ in 0..2 {
            client.round_trip(PRODUCE).unwrap();
            client.round_trip(METADATA).unwrap();
        }
        assert_eq!(client.round_trip(PRODUCE).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut client = echo.connect();
    for _ in 0..5 {
        client.round_trip(PRODUCE).unwrap();
    }
    assert_eq!((echo.applied(), echo.proxy.counts().answers_lost), (15, 2));
}

#[test]
fn answers_hang_come_late_are_skipped_doubled_or_renamed() {
    let echo = Echo::start();
    let one = |fault| echo.proxy.inject_times(PRODUCE, 1, 1, fault);
    let mut client = echo.connect();

    one(Fault::Delay(200 * MS));
    assert!(client.round_trip(PRODUCE).unwrap() >= 200 * MS);
    client.round_trip(PRODUCE).unwrap();

    one(Fault::Skip);
    client.send(PRODUCE, b"1");
    let second = client.send(PRODUCE, b"2");
    assert_eq!(client.receive().unwrap().0, second);

    one(Fault::Duplicate);
    let sent = client.send(PRODUCE, b"3");
    assert_eq!(client.receive().unwrap(), (sent, b"3".to_vec()));
    assert_eq!(client.receive().unwrap(), (sent, b"3".to_vec()));

    one(Fault::WrongCorrelation);
    let sent = client.send(PRODUCE, b"4");
    let (correlation, body) = client.receive().unwrap();
    assert_eq!(body, b"4");
    assert_ne!(correlation, sent);

    one(Fault::Hang);
    let applied = echo.applied();
    client.send(PRODUCE, b"5");
    client.send(PRODUCE, b"6");
    client.receives_nothing_for(200 * MS);
    echo.wait_applied(applied + 2);

    let counts = echo.proxy.counts();
    assert_eq!((counts.answers_delayed, counts.answers_skipped, counts.answers_duplicated), (1, 1, 1));
    assert_eq!((counts.answers_miscorrelated, counts.hangs), (1, 1));
    drop(client);
    wait_for("the end", LIMIT, || (echo.proxy.open_connections() == 0).then_some(()));
}

#[test]
fn a_request_is_cut_before_the_broker_has_it_whole() {
    let echo = Echo::start();
    for (number, at) in [1, 11, 12, 13, 500].into_iter().enumerate() {
        echo.proxy.inject_times(PRODUCE, 1, 1, Fault::CutRequest(at..at, Cut::Reset));
        let mut client = echo.connect();
        let before = echo.bytes.load(Ordering::SeqCst);
        client.send(PRODUCE, &[0; 1000]);
        assert_eq!(client.fails(), ErrorKind::ConnectionReset);
        assert_eq!(echo.proxy.counts().requests_cut, number as u64 + 1);
        wait_for("the part", LIMIT, || (echo.bytes.load(Ordering::SeqCst) - before == at as u64).then_some(()));
    }
    assert_eq!(echo.applied(), 0);
}

#[test]
fn an_answer_is_cut_before_the_client_has_it_whole() {
    let echo = Echo::start();
    for (how, expected) in [(Cut::Reset, ErrorKind::ConnectionReset), (Cut::Fin, ErrorKind::UnexpectedEof)] {
        for at in [1, 8, 9, 500] {
            echo.proxy.inject_times(PRODUCE, 1, 1, Fault::CutResponse(at..at + 1, how));
            let mut client = echo.connect();
            client.send(PRODUCE, &[0; 1000]);
            let mut part = vec![0; at];
            client.stream.read_exact(&mut part).unwrap();
            let end = client.stream.read_exact(&mut [0]).expect_err("no more than the part");
            assert_eq!(end.kind(), expected);
        }
    }
    assert_eq!((echo.applied(), echo.proxy.counts().responses_cut), (8, 8));
}

#[test]
fn a_dead_server_behind_the_proxy_is_a_reset_connection() {
    // Nobody listens there, and nobody else gets the port.
    let port = Port::reserve();
    let proxy = Proxy::start(port.address);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

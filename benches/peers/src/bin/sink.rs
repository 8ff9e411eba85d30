//! A broker that acknowledges and keeps nothing, so that a client's own cost stands alone.
//!
//! It answers ApiVersions, Metadata, FindCoordinator, InitProducerId and Produce in every version up to Kafka 4.3's.
//! Any topic exists, with `--partitions` (6) partitions; who asks for all topics hears of `peers` alone. The kernel drops the batches (`MSG_TRUNC`): they are never
//! copied to this process. With `--delay-ms N` each Produce request is answered N ms after it has been read, and the
//! next ones are read meanwhile. Prints its address, and ends with its standard input.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

#[derive(Clone, Copy)]
struct Settings {
    partitions: i32,
    delay: Duration,
    port: u16,
}

fn main() {
    let (mut partitions, mut delay) = (6, 0);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().and_then(|value| value.parse().ok());
        let value: u64 = value.unwrap_or_else(|| panic!("{flag} wants a number"));
        match &*flag {
            "--partitions" => partitions = value as i32,
            "--delay-ms" => delay = value,
            _ => panic!("{flag} is not known"),
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings { partitions, delay: Duration::from_millis(delay), port: address.port() };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let peer = stream.peer_addr();
                match serve(&stream, settings) {
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => eprintln!("sink: {peer:?}: {error}"),
                    // The client has gone.
                    _ => {}
                }
            });
        }
    });
    println!("{address}");
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

fn serve(stream: &TcpStream, settings: Settings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if settings.delay.is_zero() {
        return answer_all(stream, settings, |frame, _| (&*stream).write_all(frame));
    }
    let (sender, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, frame) in due {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if (&*stream).write_all(&frame).is_err() {
                    return;
                }
            }
        });
        answer_all(stream, settings, move |frame, is_produce| {
            let delay = if is_produce { settings.delay } else { Duration::ZERO };
            sender.send((Instant::now() + delay, frame.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe.into())
        })
    })
}

/// The APIs that are offered, with the first and last version. Fetch and ListOffsets are not served: librdkafka looks
/// for Fetch to learn whether brokers know record batches.
const OFFERED: [(i16, i16, i16); 7] = [
    (PRODUCE, 0, 13),
    (1, 4, 17),
    (2, 1, 10),
    (METADATA, 0, 13),
    (FIND_COORDINATOR, 0, 6),
    (API_VERSIONS, 0, 4),
    (INIT_PRODUCER_ID, 0, 5),
];

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

fn answer_all(
    stream: &TcpStream,
    settings: Settings,
    mut send: impl FnMut(&[u8], bool) -> io::Result<()>,
) -> io::Result<()> {
    let mut input = Input::new(stream);
    let mut out = Writer::default();
    let mut offset = 0;
    loop {
        let size = input.i32()?;
        let size = usize::try_from(size).map_err(|_| invalid(format!("a request of {size} bytes")))?;
        input.left = size;
        let (api, version, correlation) = (input.i16()?, input.i16()?, input.i32()?);
        input.legacy_string()?;
        let flexible_from = match api {
            PRODUCE | METADATA => 9,
            FIND_COORDINATOR | API_VERSIONS => 3,
            INIT_PRODUCER_ID => 2,
            _ => return Err(invalid(format!("API {api} in version {version} is not served"))),
        };
        let is_known = OFFERED.iter().any(|row| row.0 == api && (row.1..=row.2).contains(&version));
        if !is_known && api != API_VERSIONS {
            return Err(invalid(format!("API {api} in version {version}")));
        }
        let flexible = is_known && version >= flexible_from;
        input.flexible = flexible;
        input.tags()?;
        out.begin(correlation, flexible);
        if api == API_VERSIONS {
            // The header of its answer is never flexible (KIP-511).
            out.begin(correlation, false);
            out.flexible = flexible;
        }
        let mut is_answered = true;
        match api {
            PRODUCE => is_answered = produce(&mut input, &mut out, version, &mut offset)?,
            METADATA => metadata(&mut input, &mut out, version, settings)?,
            FIND_COORDINATOR => find_coordinator(&mut input, &mut out, version, settings)?,
            API_VERSIONS => api_versions(&mut out, version, is_known),
            _ => init_producer_id(&mut out),
        }
        input.skip(input.left)?;
        if is_answered {
            send(out.end(), api == PRODUCE)?;
        }
    }
}

/// Answers whether there is an answer: with acks 0 there is none.
fn produce(input: &mut Input<'_>, out: &mut Writer, version: i16, offset: &mut i64) -> io::Result<bool> {
    if version >= 3 {
        // Transactional id.
        input.string()?;
    }
    let acks = input.i16()?;
    input.i32()?;
    let topics = input.count()?;
    out.count(topics);
    for _ in 0..topics {
        if version >= 13 {
            let id = input.take(16)?.to_vec();
            out.bytes.extend(id);
        } else {
            let name = input.string()?;
            out.string(Some(&name));
        }
        let partitions = input.count()?;
        out.count(partitions);
        for _ in 0..partitions {
            let index = input.i32()?;
            // The batches' size is written like a count.
            let size = input.count()?;
            input.skip(size)?;
            input.tags()?;
            out.i32(index);
            out.i16(0);
            out.i64(*offset);
            // Any increasing number: how many records there were stays unread.
            *offset += 1 << 20;
            if version >= 2 {
                out.i64(-1);
            }
            if version >= 5 {
                out.i64(0);
            }
            if version >= 8 {
                out.count(0);
                out.string(None);
            }
            out.tags();
        }
        input.tags()?;
        out.tags();
    }
    if version >= 1 {
        out.i32(0);
    }
    out.tags();
    Ok(acks != 0)
}

fn metadata(input: &mut Input<'_>, out: &mut Writer, version: i16, settings: Settings) -> io::Result<()> {
    let mut topics = Vec::new();
    match input.nullable_count()? {
        // All topics.
        None => topics.push(TOPIC.to_vec()),
        Some(0) if version == 0 => topics.push(TOPIC.to_vec()),
        Some(count) => {
            for _ in 0..count {
                if version >= 10 {
                    input.take(16)?;
                }
                topics.push(input.string()?);
                input.tags()?;
            }
        }
    }
    if version >= 3 {
        out.i32(0);
    }
    out.count(1);
    out.i32(BROKER);
    out.string(Some(HOST));
    out.i32(settings.port.into());
    if version >= 1 {
        out.string(None);
    }
    out.tags();
    if version >= 2 {
        out.string(Some(b"sink"));
    }
    if version >= 1 {
        out.i32(BROKER);
    }
    out.count(topics.len());
    for topic in topics {
        out.i16(0);
        out.string(Some(&topic));
        if version >= 10 {
            out.bytes.extend(topic_id(&topic));
        }
        if version >= 1 {
            out.bytes.push(0);
        }
        out.count(settings.partitions as usize);
        for index in 0..settings.partitions {
            out.i16(0);
            out.i32(index);
            out.i32(BROKER);
            if version >= 7 {
                out.i32(0);
            }
            for _ in 0..2 {
                out.count(1);
                out.i32(BROKER);
            }
            if version >= 5 {
                out.count(0);
            }
            out.tags();
        }
        if version >= 8 {
            out.i32(i32::MIN);
        }
        out.tags();
    }
    if (8..=10).contains(&version) {
        out.i32(i32::MIN);
    }
    if version >= 13 {
        out.i16(0);
    }
    out.tags();
    Ok(())
}

const BROKER: i32 = 1;
const TOPIC: &[u8] = b"peers";
const HOST: &[u8] = b"127.0.0.1";

/// An id that depends on the name alone: FNV-1a, twice.
fn topic_id(name: &[u8]) -> [u8; 16] {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&hash.to_be_bytes());
    id[8..].copy_from_slice(&(!hash).to_be_bytes());
    id
}

fn find_coordinator(input: &mut Input<'_>, out: &mut Writer, version: i16, settings: Settings) -> io::Result<()> {
    let broker = |out: &mut Writer| {
        out.i32(BROKER);
        out.string(Some(HOST));
        out.i32(settings.port.into());
    };
    if version >= 1 {
        out.i32(0);
    }
    if version < 4 {
        out.i16(0);
        if version >= 1 {
            out.string(None);
        }
        broker(out);
    } else {
        // Its type; then the keys.
        input.take(1)?;
        let keys = input.count()?;
        out.count(keys);
        for _ in 0..keys {
            let key = input.string()?;
            out.string(Some(&key));
            broker(out);
            out.i16(0);
            out.string(None);
            out.tags();
        }
    }
    out.tags();
    Ok(())
}

fn api_versions(out: &mut Writer, version: i16, is_known: bool) {
    const UNSUPPORTED_VERSION: i16 = 35;
    out.i16(if is_known { 0 } else { UNSUPPORTED_VERSION });
    out.count(OFFERED.len());
    for (api, first, last) in OFFERED {
        out.i16(api);
        out.i16(first);
        out.i16(last);
        out.tags();
    }
    // A version that is not known is answered as version 0.
    if is_known && version >= 1 {
        out.i32(0);
    }
    out.tags();
}

fn init_producer_id(out: &mut Writer) {
    out.i32(0);
    out.i16(0);
    // A producer id and an epoch; nobody checks them.
    out.i64(1000);
    out.i16(0);
    out.tags();
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Reads a little ahead: enough for a request without its batches.
const AHEAD: usize = 1024;
/// How much the kernel may drop at once. The buffer is never written.
const DROPPED: usize = 256 << 10;

struct Input<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    nowhere: Vec<u8>,
    /// Bytes of the request that have not been read yet.
    left: usize,
    flexible: bool,
}

impl<'a> Input<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self { stream, buffer: vec![0; AHEAD], begin: 0, end: 0, nowhere: vec![0; DROPPED], left: 0, flexible: false }
    }

    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        if count > AHEAD {
            return Err(invalid(format!("a field of {count} bytes")));
        }
        if self.end - self.begin < count {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            while self.end < count {
                match (&*self.stream).read(&mut self.buffer[self.end..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => self.end += read,
                }
            }
        }
        self.begin += count;
        self.left = self.left.saturating_sub(count);
        Ok(&self.buffer[self.begin - count..self.begin])
    }

    fn skip(&mut self, count: usize) -> io::Result<()> {
        self.left = self.left.saturating_sub(count);
        let buffered = count.min(self.end - self.begin);
        self.begin += buffered;
        let mut rest = count - buffered;
        while rest > 0 {
            let part = rest.min(DROPPED);
            let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_WAITALL;
            match recv(self.stream.as_raw_fd(), &mut self.nowhere[..part], flags) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(dropped) => rest -= dropped,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    fn uvarint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn count(&mut self) -> io::Result<usize> {
        Ok(self.nullable_count()?.unwrap_or(0))
    }

    fn nullable_count(&mut self) -> io::Result<Option<usize>> {
        if self.flexible { Ok(self.uvarint()?.checked_sub(1)) } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    fn string(&mut self) -> io::Result<Vec<u8>> {
        if !self.flexible {
            return self.legacy_string();
        }
        let size = self.uvarint()?.saturating_sub(1);
        Ok(self.take(size)?.to_vec())
    }

    fn legacy_string(&mut self) -> io::Result<Vec<u8>> {
        let size = self.i16()?.max(0) as usize;
        Ok(self.take(size)?.to_vec())
    }

    fn tags(&mut self) -> io::Result<()> {
        if self.flexible {
            for _ in 0..self.uvarint()? {
                self.uvarint()?;
                let size = self.uvarint()?;
                self.skip(size)?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    fn begin(&mut self, correlation: i32, flexible: bool) {
        self.flexible = flexible;
        self.bytes.clear();
        self.i32(0);
        self.i32(correlation);
        self.tags();
    }

    fn end(&mut self) -> &[u8] {
        let size = self.bytes.len() as i32 - 4;
        self.bytes[..4].copy_from_slice(&size.to_be_bytes());
        &self.bytes
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn uvarint(&mut self, mut value: usize) {
        while value > 0x7f {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn count(&mut self, count: usize) {
        if self.flexible { self.uvarint(count + 1) } else { self.i32(count as i32) }
    }

    fn string(&mut self, text: Option<&[u8]>) {
        match text {
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
            Some(text) => {
                if self.flexible {
                    self.uvarint(text.len() + 1)
                } else {
                    self.i16(text.len() as i16)
                }
                self.bytes.extend(text);
            }
        }
    }

    fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }
}

//! Just enough of Kafka's protocol to measure sockets without a client, and to make and remove topics.
//!
//! Record batches are those of every Kafka from 0.11 on, without compression. Without a producer id one may be sent
//! again as it is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CLIENT_ID: &[u8] = b"raw";
const PRODUCE: (i16, i16) = (0, 7);
const METADATA: (i16, i16) = (3, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_TOPICS: (i16, i16) = (20, 1);
const INIT_PRODUCER_ID: (i16, i16) = (22, 0);
const TIMEOUT_MS: i32 = 30_000;
/// How often to look whether a new topic is ready, and what is between.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, blocking, without Nagle's delay.
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// What of `input` holds bytes that have not been taken.
    filled: std::ops::Range<usize>,
}

impl Connection {
    /// Connects to the first of `bootstrap`.
    pub fn open(bootstrap: &str) -> Self {
        let address = bootstrap.split(',').next().unwrap();
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        stream.set_nodelay(true).unwrap();
        Self { stream, input: vec![0; 64 << 10], filled: 0..0 }
    }

    pub fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).unwrap();
    }

    /// The next answer, from behind its correlation id. One `read` where the answer comes in one piece.
    pub fn answer(&mut self) -> &[u8] {
        self.fill(4).unwrap();
        let size = i32::from_be_bytes(self.input[self.filled.start..][..4].try_into().unwrap()) as usize;
        self.fill(4 + size).unwrap();
        let frame = self.filled.start..self.filled.start + 4 + size;
        self.filled.start = frame.end;
        &self.input[frame][8..]
    }

    /// The answer to a Produce request. Panics if a partition has refused.
    pub fn acknowledgement(&mut self) {
        if let Some((partition, error)) = self.refusal() {
            panic!("partition {partition} refused the batch: error {error}");
        }
    }

    /// The partition that has refused a Produce request, if one has, and its error.
    fn refusal(&mut self) -> Option<(i32, i16)> {
        let mut answer = Reader(self.answer());
        for _ in 0..answer.i32() {
            answer.string();
            for _ in 0..answer.i32() {
                let partition = answer.i32();
                let error = answer.i16();
                if error != 0 {
                    return Some((partition, error));
                }
                // Base offset, time of append, start of the log.
                answer.take(24);
            }
        }
        None
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.filled.start + wanted > self.input.len() {
            self.input.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            let len = self.input.len().max(wanted);
            self.input.resize(len, 0);
        }
        while self.filled.len() < wanted {
            match self.stream.read(&mut self.input[self.filled.end..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.filled.end += read,
            }
        }
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        Ok(())
    }

    fn call(&mut self, api: (i16, i16), body: impl FnOnce(&mut Vec<u8>)) -> Reader<'_> {
        let mut frame = Vec::new();
        begin(&mut frame, api);
        body(&mut frame);
        end(&mut frame);
        self.send(&frame);
        Reader(self.answer())
    }
}

/// How many partitions the topic has. Waits a while for a leader of each.
pub fn partitions(bootstrap: &str, topic: &str) -> usize {
    let mut connection = Connection::open(bootstrap);
    for _ in 0..ATTEMPTS {
        let mut answer = connection.call(METADATA, |frame| {
            frame.extend(1i32.to_be_bytes());
            put_string(frame, topic.as_bytes());
            // Whether the broker may create it.
            frame.push(1);
        });
        answer.i32();
        for _ in 0..answer.i32() {
            answer.i32();
            answer.string();
            answer.i32();
            answer.string();
        }
        answer.string();
        answer.i32();
        assert_eq!(answer.i32(), 1, "one topic was asked for");
        let error = answer.i16();
        answer.string();
        answer.take(1);
        let partitions = answer.i32();
        let mut led = 0;
        for _ in 0..partitions {
            answer.i16();
            answer.i32();
            led += i32::from(answer.i32() >= 0);
            for _ in 0..2 {
                let brokers = answer.i32();
                answer.take(4 * brokers as usize);
            }
        }
        if error == 0 && partitions > 0 && led == partitions {
            return partitions as usize;
        }
        thread::sleep(PAUSE);
    }
    panic!("the topic {topic} has no leaders");
}

/// Creates a topic, and waits until it can be written to.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: usize) {
    let mut connection = Connection::open(bootstrap);
    let mut answer = connection.call(CREATE_TOPICS, |frame| {
        frame.extend(1i32.to_be_bytes());
        put_string(frame, topic.as_bytes());
        frame.extend((partitions as i32).to_be_bytes());
        // One replica; no assignments, no settings.
        frame.extend(1i16.to_be_bytes());
        frame.extend([0; 8]);
        frame.extend(TIMEOUT_MS.to_be_bytes());
        frame.push(0);
    });
    answer.i32();
    answer.i32();
    answer.string();
    let error = answer.i16();
    const TOPIC_ALREADY_EXISTS: i16 = 36;
    assert!([0, TOPIC_ALREADY_EXISTS].contains(&error), "the topic {topic} cannot be created: error {error}");
    assert_eq!(self::partitions(bootstrap, topic), partitions);
    // A broker takes records a while after the metadata says that it leads.
    let mut request = ProduceRequest::default();
    request.begin(topic, partitions);
    (0..partitions).for_each(|partition| request.batch(partition, std::iter::once((None, &b"first"[..]))));
    request.end();
    for _ in 0..ATTEMPTS {
        connection.send(&request.frame);
        if connection.refusal().is_none() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("the topic {topic} takes no records");
}

/// A new producer id and its epoch.
pub fn producer_id(bootstrap: &str) -> (i64, i16) {
    let mut connection = Connection::open(bootstrap);
    for _ in 0..ATTEMPTS {
        let mut answer = connection.call(INIT_PRODUCER_ID, |frame| {
            // No transactional id, and no time limit of transactions.
            frame.extend((-1i16).to_be_bytes());
            frame.extend(i32::MAX.to_be_bytes());
        });
        answer.i32();
        if answer.i16() == 0 {
            let id = i64::from_be_bytes(answer.take(8).try_into().unwrap());
            return (id, answer.i16());
        }
        thread::sleep(PAUSE);
    }
    panic!("there is no producer id");
}

/// Removes a topic; one that is not there is no fault.
pub fn delete_topic(bootstrap: &str, topic: &str) {
    Connection::open(bootstrap).call(DELETE_TOPICS, |frame| {
        frame.extend(1i32.to_be_bytes());
        put_string(frame, topic.as_bytes());
        frame.extend(TIMEOUT_MS.to_be_bytes());
    });
}

/// A Produce request with acknowledgements from all replicas, encoded into a buffer that is used again.
pub struct ProduceRequest {
    frame: Vec<u8>,
    /// Producer id, epoch and the next sequence number; -1: none.
    producer: (i64, i16, i32),
}

impl Default for ProduceRequest {
    fn default() -> Self {
        Self { frame: Vec::new(), producer: (-1, -1, -1) }
    }
}

impl ProduceRequest {
    /// A request of an idempotent producer, which is to write to one partition only.
    pub fn idempotent((id, epoch): (i64, i16)) -> Self {
        Self { frame: Vec::new(), producer: (id, epoch, 0) }
    }

    /// Begins a request with a batch for each of `batches` partitions of `topic`.
    pub fn begin(&mut self, topic: &str, batches: usize) {
        let frame = &mut self.frame;
        frame.clear();
        begin(frame, PRODUCE);
        // No transactional id, acks all.
        frame.extend((-1i16).to_be_bytes());
        frame.extend((-1i16).to_be_bytes());
        frame.extend(TIMEOUT_MS.to_be_bytes());
        frame.extend(1i32.to_be_bytes());
        put_string(frame, topic.as_bytes());
        frame.extend((batches as i32).to_be_bytes());
    }

    /// Adds a batch.
    pub fn batch<'r>(
        &mut self,
        partition: usize,
        records: impl ExactSizeIterator<Item = (Option<&'r [u8]>, &'r [u8])>,
    ) {
        let frame = &mut self.frame;
        let count = records.len() as i32;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        frame.extend((partition as i32).to_be_bytes());
        let start = frame.len();
        // The sizes of the batch, its base offset, again its size, leader epoch, magic, checksum.
        frame.extend([0; 4 + 8 + 4]);
        frame.extend((-1i32).to_be_bytes());
        frame.push(2);
        frame.extend([0; 4]);
        let summed = frame.len();
        frame.extend(0i16.to_be_bytes());
        frame.extend((count - 1).to_be_bytes());
        frame.extend(now.to_be_bytes());
        frame.extend(now.to_be_bytes());
        let (id, epoch, sequence) = &mut self.producer;
        frame.extend(id.to_be_bytes());
        frame.extend(epoch.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        if *id >= 0 {
            *sequence += count;
        }
        frame.extend(count.to_be_bytes());
        for (offset, (key, value)) in records.enumerate() {
            put_record(frame, offset, key, value);
        }
        let sum = crc32c::crc32c(&frame[summed..]);
        let size = frame.len() - start - 4;
        frame[start..start + 4].copy_from_slice(&(size as i32).to_be_bytes());
        frame[start + 12..start + 16].copy_from_slice(&(size as i32 - 12).to_be_bytes());
        frame[summed - 4..summed].copy_from_slice(&sum.to_be_bytes());
    }

    /// Ends the request; these are its bytes.
    pub fn end(&mut self) -> &[u8] {
        end(&mut self.frame);
        &self.frame
    }
}

fn put_record(frame: &mut Vec<u8>, offset: usize, key: Option<&[u8]>, value: &[u8]) {
    let key_size = key.map_or(1, |key| varint_size(key.len()) + key.len());
    let size = 3 + varint_size(offset) - 1 + key_size + varint_size(value.len()) + value.len() + 1;
    put_varint(frame, size);
    // Attributes, and the difference of the timestamp to the batch's.
    frame.extend([0; 2]);
    put_varint(frame, offset);
    match key {
        // -1.
        None => frame.push(1),
        Some(key) => {
            put_varint(frame, key.len());
            frame.extend(key);
        }
    }
    put_varint(frame, value.len());
    frame.extend(value);
    // No headers.
    frame.push(0);
}

/// The zigzag of a number that is not negative is twice the number.
fn put_varint(frame: &mut Vec<u8>, value: usize) {
    let mut left = value << 1;
    while left > 0x7f {
        frame.push(left as u8 | 0x80);
        left >>= 7;
    }
    frame.push(left as u8);
}

fn varint_size(value: usize) -> usize {
    match value << 1 {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

fn begin(frame: &mut Vec<u8>, (key, version): (i16, i16)) {
    frame.extend([0; 4]);
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(0i32.to_be_bytes());
    put_string(frame, CLIENT_ID);
}

fn end(frame: &mut [u8]) {
    let size = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&size.to_be_bytes());
}

fn put_string(frame: &mut Vec<u8>, text: &[u8]) {
    frame.extend((text.len() as i16).to_be_bytes());
    frame.extend(text);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn string(&mut self) -> &'a [u8] {
        let size = self.i16();
        self.take(usize::try_from(size).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_a_request_are_those_of_what_follows() {
        let values = [vec![b'x'; 100], vec![b'y'; 20_000]];
        let mut request = ProduceRequest::default();
        request.begin("topic", 1);
        request.batch(3, values.iter().map(|value| (Some(&b"key"[..]), &value[..])));
        let mut frame = Reader(request.end());
        assert_eq!(frame.i32() as usize, frame.0.len());
        frame.take(8);
        frame.string();
        frame.take(2 + 2 + 4 + 4);
        assert_eq!(frame.string(), b"topic");
        assert_eq!((frame.i32(), frame.i32()), (1, 3));
        assert_eq!(frame.i32() as usize, frame.0.len());
        frame.take(8);
        assert_eq!(frame.i32() as usize, frame.0.len());
        frame.take(5);
        assert_eq!(frame.i32() as u32, crc32c::crc32c(frame.0));
        frame.take(40);
        for (offset, value) in values.iter().enumerate() {
            let size = varint(&mut frame);
            let left = frame.0.len();
            frame.take(2);
            assert_eq!((varint(&mut frame), varint(&mut frame)), (offset, 3));
            frame.take(3);
            let value_size = varint(&mut frame);
            assert_eq!(frame.take(value_size), value);
            frame.take(1);
            assert_eq!(left - frame.0.len(), size);
        }
        assert!(frame.0.is_empty());
    }

    fn varint(frame: &mut Reader<'_>) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = frame.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value >> 1;
            }
        }
    }
}

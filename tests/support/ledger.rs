//! Which records were sent, how each ended, and the judgement on the records in the log.
//!
//! Every value names its sender, its partition and its number among that sender's records there, and carries a
//! checksum. The judge finds: acknowledged records that are missing or elsewhere, duplicates, changes of order, records
//! in a topic or partition that they were not sent to, damage, and records that were reported as failed but are in the
//! log.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

const MAGIC: [u8; 4] = *b"LDGR";
const FIXED: usize = 32;

/// The smallest value that [`Ledger::accept`] makes.
pub const MIN_VALUE: usize = FIXED + 4;

const ANY_PARTITION: u32 = u32::MAX;

/// The record of all sends of one test.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    producers: Vec<Mutex<Vec<Entry>>>,
    topics: Mutex<Vec<String>>,
}

/// Names one accepted record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    pub producer: u32,
    pub sequence: u64,
}

/// 16 bytes for each record, because a test may send a million.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The offset, or one of the marks below.
    outcome: i64,
    /// The partition of the acknowledgement, or else the one that was asked for, or -1.
    partition: i32,
    topic: u16,
    completions: u16,
}

const PENDING: i64 = -1;
const FAILED: i64 = -2;
const UNKNOWN: i64 = -3;
const ACKED_WITHOUT_OFFSET: i64 = -4;

impl Ledger {
    /// A ledger for `producers` sequences; each belongs to one sending thread, because order is judged within each
    /// sequence.
    pub fn new(producers: usize) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let run = RandomState::new().hash_one(std::process::id()) as u32;
        Self { run, producers: (0..producers).map(|_| Mutex::default()).collect(), topics: Mutex::default() }
    }

    /// Notes a record that is about to be sent and returns its value, `size` bytes or [`MIN_VALUE`] if that is more.
    /// `partition` is `None` if the client under test chooses it.
    pub fn accept(&self, producer: u32, topic: &str, partition: Option<i32>, size: usize) -> (Ticket, Vec<u8>) {
        let index = self.topic_index(topic);
        let mut entries = lock(&self.producers[producer as usize]);
        let sequence = entries.len() as u64;
        entries.push(Entry { outcome: PENDING, partition: partition.unwrap_or(-1), topic: index, completions: 0 });
        drop(entries);
        let mut value = Vec::with_capacity(size.max(MIN_VALUE));
        value.extend(MAGIC);
        value.extend(self.run.to_be_bytes());
        value.extend(producer.to_be_bytes());
        value.extend(hash(topic).to_be_bytes());
        value.extend(partition.map_or(ANY_PARTITION, |partition| partition as u32).to_be_bytes());
        value.extend(sequence.to_be_bytes());
        // Padding that differs from record to record, so that one record's bytes in another's place are noticed, and
        // that compresses about as well as text.
        let mut noise = sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        while value.len() + 4 < size {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            value.push(b'a' + (noise % 16) as u8);
        }
        value.extend(crc32c::crc32c(&value).to_be_bytes());
        (Ticket { producer, sequence }, value)
    }

    /// The record was acknowledged; the offset is `None` if the broker did not give it.
    pub fn acked(&self, ticket: Ticket, partition: i32, offset: Option<i64>) {
        self.complete(ticket, |entry| {
            entry.partition = partition;
            entry.outcome = offset.filter(|offset| *offset >= 0).unwrap_or(ACKED_WITHOUT_OFFSET);
        });
    }

    /// The record was refused or failed, and was reported as certainly not written.
    pub fn failed(&self, ticket: Ticket) {
        self.complete(ticket, |entry| entry.outcome = FAILED);
    }

    /// The record failed, and was reported as possibly written.
    pub fn unknown(&self, ticket: Ticket) {
        self.complete(ticket, |entry| entry.outcome = UNKNOWN);
    }

    fn complete(&self, ticket: Ticket, change: impl FnOnce(&mut Entry)) {
        let mut entries = lock(&self.producers[ticket.producer as usize]);
        let entry = &mut entries[ticket.sequence as usize];
        entry.completions = entry.completions.saturating_add(1);
        // The first completion counts; a second one is a fault of its own.
        if entry.completions == 1 {
            change(entry);
        }
    }

    /// The number of accepted records.
    pub fn accepted(&self) -> u64 {
        self.producers.iter().map(|entries| lock(entries).len() as u64).sum()
    }

    /// The number of accepted records without a completion so far.
    pub fn pending(&self) -> u64 {
        let pending = |entries: &Mutex<Vec<Entry>>| lock(entries).iter().filter(|entry| entry.completions == 0).count();
        self.producers.iter().map(|entries| pending(entries) as u64).sum()
    }

    /// The topics that records were sent to.
    pub fn topics(&self) -> Vec<String> {
        lock(&self.topics).clone()
    }

    /// Starts a judgement; the whole of each topic is to be given to [`Judge::record`], each partition in its order.
    pub fn judge(&self) -> Judge {
        let entries: Vec<Vec<Entry>> = self.producers.iter().map(|entries| lock(entries).clone()).collect();
        let seen = entries.iter().map(|entries| vec![0; entries.len()]).collect();
        Judge {
            run: self.run,
            topics: self.topics(),
            entries,
            seen,
            partitions: HashMap::new(),
            report: Report::default(),
        }
    }

    /// Judges records given as (topic, partition, offset, value).
    pub fn judge_all<T: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = (T, i32, i64, V)>,
    ) -> Report {
        let mut judge = self.judge();
        for (topic, partition, offset, value) in records {
            judge.record(topic.as_ref(), partition, offset, value.as_ref());
        }
        judge.finish()
    }

    fn topic_index(&self, topic: &str) -> u16 {
        let mut topics = lock(&self.topics);
        let index = topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            topics.push(topic.to_owned());
            topics.len() - 1
        });
        u16::try_from(index).unwrap()
    }
}

/// A judgement under way.
#[derive(Debug)]
pub struct Judge {
    run: u32,
    topics: Vec<String>,
    entries: Vec<Vec<Entry>>,
    /// [`SEEN`] and [`IN_PLACE`] for each record.
    seen: Vec<Vec<u8>>,
    partitions: HashMap<(usize, i32), PartitionState>,
    report: Report,
}

const SEEN: u8 = 1;
const IN_PLACE: u8 = 2;

#[derive(Default, Debug)]
struct PartitionState {
    next_offset: i64,
    /// The highest sequence by producer.
    highest: HashMap<u32, u64>,
    digest: u32,
}

/// What the judge found. [`Report::faults`] decides which of it is a fault.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    pub accepted: u64,
    pub acked: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Accepted, and never completed.
    pub pending: u64,
    /// Completed more than once.
    pub completed_again: u64,
    /// Records found in the log, duplicates included.
    pub read: u64,
    /// Acknowledged and not in the log.
    pub lost: u64,
    /// In the log, though not at the acknowledged offset.
    pub wrong_offset: u64,
    /// Copies in the log beyond the first.
    pub duplicated: u64,
    /// Found behind a later record of the same producer and partition.
    pub reordered: u64,
    /// Found in a topic or partition that it was not sent to, or not acknowledged in.
    pub misrouted: u64,
    /// Not a value of this ledger's kind, or with a wrong checksum.
    pub corrupt: u64,
    /// A sound value that no producer sent in this run.
    pub invented: u64,
    /// Offsets that did not grow within a partition.
    pub inconsistent: u64,
    /// Reported as certainly not written, and in the log.
    pub failed_but_present: u64,
    /// Reported as possibly written, and in the log; this is no fault.
    pub unknown_and_present: u64,
    /// The same for two readings of the same log (by topic and partition): one offset has one value forever.
    pub digests: Vec<(String, i32, u32)>,
    /// The first faults in words.
    pub details: Vec<String>,
}

impl Judge {
    /// Takes the next record of a partition.
    pub fn record(&mut self, topic: &str, partition: i32, offset: i64, value: &[u8]) {
        self.report.read += 1;
        let place = self.topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            self.topics.push(topic.to_owned());
            self.topics.len() - 1
        });
        let state = self.partitions.entry((place, partition)).or_default();
        state.digest = crc32c::crc32c_append(crc32c::crc32c_append(state.digest, &offset.to_be_bytes()), value);
        let expected = std::mem::replace(&mut state.next_offset, offset + 1);
        let at = |what: &str| format!("{topic}-{partition}@{offset}: {what}");
        if offset < expected {
            self.report.inconsistent += 1;
            self.report.detail(|| at("the offset does not grow"));
        }
        let Some(found) = Header::read(value) else {
            self.report.corrupt += 1;
            self.report.detail(|| at("damaged"));
            return;
        };
        let entry = self.entries.get(found.producer as usize).and_then(|entries| entries.get(found.sequence as usize));
        let Some(entry) = entry.filter(|_| found.run == self.run) else {
            self.report.invented += 1;
            self.report.detail(|| at("not sent in this run"));
            return;
        };
        let name = format_args!("producer {} record {}", found.producer, found.sequence);
        let asked_for = found.partition == ANY_PARTITION || found.partition == partition as u32;
        let acked_here = entry.partition < 0 || entry.partition == partition;
        if found.topic != hash(topic) || entry.topic as usize != place || !asked_for || !acked_here {
            self.report.misrouted += 1;
            self.report.detail(|| at(&format!("{name} does not belong here")));
            // A stray copy is neither the acknowledged record nor a step in this partition's order.
            return;
        }
        let seen = &mut self.seen[found.producer as usize][found.sequence as usize];
        if entry.outcome == offset {
            *seen |= IN_PLACE;
        }
        if *seen & SEEN != 0 {
            self.report.duplicated += 1;
            self.report.detail(|| at(&format!("{name} again")));
            return;
        }
        *seen |= SEEN;
        match entry.outcome {
            FAILED => {
                self.report.failed_but_present += 1;
                self.report.detail(|| at(&format!("{name} was reported as not written")));
            }
            UNKNOWN => self.report.unknown_and_present += 1,
            _ => {}
        }
        let highest = state.highest.entry(found.producer).or_insert(found.sequence);
        if found.sequence < *highest {
            self.report.reordered += 1;
            let highest = *highest;
            self.report.detail(|| at(&format!("{name} behind record {highest}")));
        } else {
            *highest = found.sequence;
        }
    }

    /// Ends the judgement: acknowledged records that were not found count as lost.
    pub fn finish(mut self) -> Report {
        for (producer, (entries, seen)) in self.entries.iter().zip(&self.seen).enumerate() {
            for (sequence, (entry, seen)) in entries.iter().zip(seen).enumerate() {
                let report = &mut self.report;
                report.accepted += 1;
                report.completed_again += u64::from(entry.completions > 1);
                match entry.outcome {
                    PENDING => report.pending += 1,
                    FAILED => report.failed += 1,
                    UNKNOWN => report.unknown += 1,
                    offset => {
                        report.acked += 1;
                        let topic = &self.topics[usize::from(entry.topic)];
                        let what = if seen & SEEN == 0 {
                            report.lost += 1;
                            "lost"
                        } else if offset != ACKED_WITHOUT_OFFSET && seen & IN_PLACE == 0 {
                            report.wrong_offset += 1;
                            "elsewhere"
                        } else {
                            continue;
                        };
                        let partition = entry.partition;
                        report.detail(|| {
                            format!("{topic}-{partition}@{offset}: producer {producer} record {sequence} is {what}")
                        });
                    }
                }
            }
        }
        let digests = self
            .partitions
            .iter()
            .map(|((topic, partition), state)| (self.topics[*topic].clone(), *partition, state.digest));
        self.report.digests = digests.collect();
        self.report.digests.sort();
        self.report
    }
}

impl Report {
    /// The sum of everything that must never happen with an idempotent producer.
    pub fn faults(&self) -> u64 {
        self.faults_but_duplicates() + self.duplicated
    }

    /// The same for a producer that is not idempotent, which may write twice.
    pub fn faults_but_duplicates(&self) -> u64 {
        let wrong_log = self.lost + self.wrong_offset + self.reordered + self.misrouted + self.corrupt;
        wrong_log + self.invented + self.inconsistent + self.failed_but_present + self.completed_again + self.pending
    }

    /// Panics with the report unless there is no fault.
    pub fn assert_safe(&self) {
        assert_eq!(self.faults(), 0, "{self}");
    }

    fn detail(&mut self, text: impl FnOnce() -> String) {
        if self.details.len() < 20 {
            self.details.push(text());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted: {} acked, ", self.accepted, self.acked)?;
        write!(f, "{} failed, {} unknown ({} in the log), ", self.failed, self.unknown, self.unknown_and_present)?;
        write!(f, "{} pending, {} completed again; {} read: ", self.pending, self.completed_again, self.read)?;
        write!(f, "lost {}, wrong offset {}, duplicated {}, ", self.lost, self.wrong_offset, self.duplicated)?;
        write!(f, "reordered {}, misrouted {}, corrupt {}, ", self.reordered, self.misrouted, self.corrupt)?;
        write!(f, "invented {}, inconsistent {}, ", self.invented, self.inconsistent)?;
        write!(f, "failed but present {}", self.failed_but_present)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n  {detail}"))
    }
}

struct Header {
    run: u32,
    producer: u32,
    topic: u64,
    partition: u32,
    sequence: u64,
}

impl Header {
    fn read(value: &[u8]) -> Option<Self> {
        let (content, checksum) = value.split_last_chunk::<4>()?;
        let sound = content.len() >= FIXED
            && content.starts_with(&MAGIC)
            && crc32c::crc32c(content) == u32::from_be_bytes(*checksum);
        let word = |at: usize| u32::from_be_bytes(content[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_be_bytes(content[at..at + 8].try_into().unwrap());
        sound.then(|| Self {
            run: word(4),
            producer: word(8),
            topic: long(12),
            partition: word(20),
            sequence: long(24),
        })
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The thread `kafka-sender-{broker}`: a thin shell that fetches events for the broker's turn and carries its
//! actions out.

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{debug, error, warn};

use super::mailbox::{Letters, Mailbox};
use super::queue::PartitionQueue;
use super::senders::{Losses, Senders};
use super::turn::{Action, Turn};
use crate::cluster::Snapshot;
use crate::error::{Error, Result, Timeout};
use crate::net::connection::is_stale;
use crate::net::frames::FrameInput;
use crate::net::pipeline::{WriteHalf, Written, read_answers};
use crate::net::{Connection, Hangup, HostPort};
use crate::protocol::frame::SharedBytes;
use crate::protocol::messages::ProduceRequest;
use crate::time;
use crate::topic::BrokerId;

/// A connection on which nothing was sent for so long is looked at before it is used again: the broker may have
/// closed it, and a request would be lost with it.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// What a sender is told.
pub(crate) enum Event {
    /// There is a notice.
    Wake,
    /// A partition's queue is this sender's from now on.
    Adopt(Box<PartitionQueue>),
    /// The cluster has changed.
    Metadata(Arc<Snapshot>),
    /// Something that concerns every partition has changed.
    LookAtAll,
    /// The reader of this generation has a connection; the broker speaks this version of Produce.
    Connected { generation: u64, stream: Arc<TcpStream>, version: i16 },
    /// The reader of this generation has an answer, or an error, its last word.
    Answer { generation: u64, answer: Result<SharedBytes> },
    /// Fail everything with this error, count it, and end.
    Close { error: Error, losses: Arc<Losses> },
}

/// A broker's link as its sender owns it: the turn, the writing half of the connection, and the way to its reader.
/// One driver at a time: whoever has this value may write.
struct Link {
    broker: BrokerId,
    turn: Turn,
    connection: Option<Writer>,
    /// Counts connections, so that the last words of an old reader are not taken for a new one's.
    generation: u64,
    hangup: Arc<Hangup>,
    /// Readers that have not been seen to end.
    readers: Vec<JoinHandle<()>>,
}

/// The writing half of a connection, and the way to tell its reader when an answer is due.
struct Writer {
    half: WriteHalf,
    expect: Sender<Instant>,
}

/// Runs a sender until it is told to close, or its broker is gone and its partitions have moved.
///
/// *Thread*: `kafka-sender-{broker}`.
pub(crate) fn run(
    broker: BrokerId,
    turn: Turn,
    hangup: Arc<Hangup>,
    mailbox: &Arc<Mailbox>,
    letters: &Letters,
    senders: &Senders,
) {
    let mut link = Link { broker, turn, connection: None, generation: 0, hangup, readers: Vec::new() };
    let mut expect_of_reader = None;
    debug!("broker {broker}: the sender starts");
    loop {
        let now = Instant::now();
        while let Some(partition) = letters.notice() {
            link.turn.notice(&partition);
        }
        while let Some(event) = letters.event() {
            if link.handle(event, now, mailbox, &mut expect_of_reader).is_break() {
                return;
            }
        }
        link.turn.tick(now);
        let sent = link.next_request(now);
        if sent {
            link.send(senders);
        }
        link.act(mailbox, senders, &mut expect_of_reader);
        if sent {
            // There may be more. But a write takes time, and where nobody waits for answers there is no end of requests
            // under load: first a look at what has come, for others and at the clock.
            continue;
        }
        mailbox.set_stalled(now, link.turn.is_stalled());
        if link.turn.is_deserted() && senders.retire(broker, mailbox, letters) {
            debug!("broker {broker}: the sender ends, its broker is gone");
            link.disconnect();
            return;
        }
        let event = letters.sleep(mailbox, link.turn.deadline(), link.turn.is_wakeful());
        if let Some(event) = event
            && link.handle(event, Instant::now(), mailbox, &mut expect_of_reader).is_break()
        {
            return;
        }
    }
}

impl Link {
    fn handle(
        &mut self,
        event: Event,
        now: Instant,
        mailbox: &Mailbox,
        expect: &mut Option<Sender<Instant>>,
    ) -> std::ops::ControlFlow<()> {
        match event {
            Event::Wake => {}
            Event::Adopt(queue) => self.turn.adopt(*queue),
            Event::Metadata(snapshot) => self.turn.see(&snapshot),
            Event::LookAtAll => {
                mailbox.looks();
                self.turn.look_at_all();
            }
            Event::Connected { generation, stream, version } if generation == self.generation => {
                match (WriteHalf::new(stream), expect.take()) {
                    (Ok(half), Some(expect)) => {
                        self.connection = Some(Writer { half, expect });
                        self.turn.connected(version, now);
                    }
                    (Err(error), _) => self.lost(error, now),
                    (Ok(_), None) => self.lost(Error::bug("a connection came that nobody made"), now),
                }
            }
            Event::Answer { generation, answer } if generation == self.generation => {
                let result = answer.and_then(|frame| self.turn.answered(frame, now));
                if let Err(error) = result {
                    self.lost(error, now);
                }
            }
            // An old connection's.
            Event::Connected { .. } | Event::Answer { .. } => {}
            Event::Close { error, losses } => {
                self.turn.fail_all(&error, &mut |partition, records| losses.add(partition, records));
                self.disconnect();
                self.join_readers();
                return std::ops::ControlFlow::Break(());
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Builds the next request, if one can be sent now.
    fn next_request(&mut self, now: Instant) -> bool {
        // The look comes first: a batch that never left has not been attempted, and must not wait for its back-off
        // again, which may be longer than the next connection lives.
        if self.is_closed_by_the_broker(now) {
            self.lost(Error::network("the broker had closed the connection"), now);
        }
        self.turn.next_request(now)
    }

    /// Whether there is something to send and a look shows that the connection is closed; nobody reads it while no
    /// answer is due.
    fn is_closed_by_the_broker(&self, now: Instant) -> bool {
        let Some(writer) = &self.connection else { return false };
        let alone = self.turn.in_flight() == 0 && self.turn.is_stalled();
        let idle = now.saturating_duration_since(self.turn.last_used()) > LOOK_AFTER;
        // With acks=0 a broker can refuse only by closing the connection: a look is the one way to see it, and what is
        // written afterwards is lost.
        alone && (idle || !self.turn.is_answered()) && is_stale(writer.half.stream())
    }

    /// Writes the request that was built last.
    fn send(&mut self, senders: &Senders) {
        let Some((correlation, deadline)) = self.turn.ticket() else { return };
        let Some(writer) = &self.connection else {
            self.lost(Error::bug("a request was built without a connection"), Instant::now());
            return;
        };
        let mut done = 0;
        let error = loop {
            let written = writer.half.write(&self.turn.parts(), &mut done);
            let now = Instant::now();
            match written {
                Ok(Written::All) => {
                    if self.turn.written(now) && writer.expect.send(deadline).is_err() {
                        break Error::network("the connection ended");
                    }
                    return;
                }
                // The other side takes nothing. Batches expire meanwhile, and the request's time counts.
                Ok(Written::Stalled) if self.hangup.is_closed() => break senders.closing(),
                Ok(Written::Stalled) if now >= deadline => {
                    let text = format!("the broker did not take request {correlation} in time");
                    break Error::timeout(Timeout::Request, text).at_broker(self.broker);
                }
                Ok(Written::Stalled) => self.turn.tick(now),
                Err(error) => break error.at_broker(self.broker),
            }
        };
        self.lost(error, Instant::now());
    }

    /// Carries out what the turn asks for.
    fn act(&mut self, mailbox: &Arc<Mailbox>, senders: &Senders, expect: &mut Option<Sender<Instant>>) {
        let mut refresh = false;
        // What is carried out may ask for more.
        while let Some(action) = self.turn.action() {
            match action {
                Action::RefreshMetadata => refresh = true,
                Action::Hint { partition, leader, epoch, address } => {
                    let name = partition.name();
                    senders.cluster().hint(&name.topic, name.partition, leader, epoch, address);
                }
                Action::Connect { failures } => *expect = self.connect(failures, mailbox, senders),
                Action::Disconnect => {
                    self.disconnect();
                    self.turn.idled();
                }
                Action::Move(queue, leader) => {
                    if let Err((queue, error)) = senders.hand_over(queue, leader) {
                        warn!("{}: no sender for broker {leader}: {error}", queue.partition.name());
                        self.turn.keep(*queue, Instant::now());
                    }
                }
            }
        }
        if refresh {
            senders.cluster().request_refresh();
        }
    }

    /// Starts a reader, which makes the connection. The answer is where it is to be told of expected answers.
    fn connect(&mut self, failures: u32, mailbox: &Arc<Mailbox>, senders: &Senders) -> Option<Sender<Instant>> {
        self.generation += 1;
        self.readers.retain(|reader| !reader.is_finished());
        let Some(address) = senders.cluster().snapshot().brokers.get(&self.broker).cloned() else {
            let error = Error::network("the cluster does not list the broker").at_broker(self.broker);
            self.turn.lost(error, Instant::now());
            return None;
        };
        let (expect, expected) = crossbeam_channel::unbounded();
        let (broker, generation) = (self.broker, self.generation);
        let (mailbox, net, hangup) = (Arc::clone(mailbox), senders.net().patient(failures), Arc::clone(&self.hangup));
        let reader = thread::Builder::new().name(format!("kafka-reader-{broker}")).spawn(move || {
            let answer = |answer: Result<SharedBytes>| {
                let answer = answer.map_err(|error| error.at_broker(broker));
                mailbox.post(Event::Answer { generation, answer }).is_ok()
            };
            let read = AssertUnwindSafe(|| match open(&address, &net, &hangup) {
                Ok((stream, input, version)) => {
                    if mailbox.post(Event::Connected { generation, stream, version }).is_ok() {
                        read_answers(input, &expected, answer);
                    }
                }
                Err(error) => drop(answer(Err(error))),
            });
            // Whatever happens here, the sender must not wait for answers that nobody reads.
            if catch_unwind(read).is_err() {
                answer(Err(Error::bug("the reader panicked")));
            }
        });
        match reader {
            Ok(reader) => {
                self.readers.push(reader);
                Some(expect)
            }
            Err(error) => {
                let error = Error::network("cannot start the reader's thread").with_source(error);
                self.turn.lost(error.at_broker(broker), Instant::now());
                None
            }
        }
    }

    fn lost(&mut self, error: Error, now: Instant) {
        self.disconnect();
        self.turn.lost(error, now);
    }

    /// Gives the connection up; its reader ends.
    fn disconnect(&mut self) {
        self.generation += 1;
        self.connection = None;
        self.hangup.drop_call();
    }

    /// Waits for readers that are about to end. One that still resolves a name or waits for a connection cannot be
    /// broken off; it ends by itself.
    fn join_readers(&mut self) {
        let deadline = time::deadline(Instant::now(), Duration::from_millis(500));
        for reader in self.readers.drain(..) {
            crate::cluster::join_until(reader, deadline);
        }
    }
}

/// Makes a connection for producing. *Thread*: `kafka-reader-{broker}`.
fn open(
    address: &HostPort,
    net: &Arc<crate::net::NetConfig>,
    hangup: &Hangup,
) -> Result<(Arc<TcpStream>, FrameInput, i16)> {
    let deadline = time::deadline(Instant::now(), net.connect_timeout + net.request_timeout);
    let connection = Connection::open(address, net, deadline, hangup)?;
    let version =
        connection.versions().choose::<ProduceRequest>().map_err(|error| error.at_address(&address.to_string()))?;
    let (stream, input) = connection.into_halves();
    Ok((stream, input, version))
}

/// The last words of a sender that panicked: its batches have failed by being dropped.
pub(crate) fn report_panic(broker: BrokerId) -> Error {
    error!("broker {broker}: the sender panicked; the producer cannot go on");
    Error::bug(format!("the sender of broker {broker} panicked"))
}

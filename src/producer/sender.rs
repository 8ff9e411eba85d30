//! The thread `kafka-sender-{broker}`: a thin shell that fetches events for the broker's turn and carries its
//! actions out.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::link::Link;
use super::mailbox::Letters;
use super::queue::PartitionQueue;
use super::senders::{Losses, Senders};
use super::turn::Action;
use crate::error::{Error, Result};
use crate::logging::{debug, error, warn};
use crate::net::frames::FrameInput;
use crate::net::{Connection, Hangup, HostPort, NetConfig};
use crate::protocol::messages::ProduceRequest;
use crate::thread;
use crate::time;
use crate::topic::BrokerId;

/// What a sender is told.
pub(crate) enum Event {
    /// There is a notice.
    Wake,
    /// A partition's queue is this sender's from now on.
    Adopt(Box<PartitionQueue>),
    /// The cluster has changed: its newest snapshot is to be seen.
    Metadata,
    /// Something that concerns every partition has changed.
    LookAtAll,
    /// Batches have been purged: those that wait, and perhaps those in flight.
    Purge { in_flight: bool },
    /// A thread that had the link's baton has panicked.
    Panicked,
    /// Fail everything with this error, count it, and end.
    Close { error: Error, losses: Arc<Losses> },
}

/// How a sender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was closed, or its broker is gone and its partitions have moved.
    InOrder,
    /// Another thread panicked with the baton in its hand.
    Panicked,
}

/// What only the sender itself needs.
struct Own<'a> {
    link: &'a Arc<Link>,
    senders: &'a Senders,
    /// Readers that have not been seen to end.
    readers: Vec<JoinHandle<()>>,
}

/// Runs a sender until it is told to close, or its broker is gone and its partitions have moved.
///
/// *Thread*: `kafka-sender-{broker}`.
pub(crate) fn run(link: &Arc<Link>, letters: &Letters, senders: &Senders) -> Ended {
    let broker = link.broker;
    let mut own = Own { link, senders, readers: Vec::new() };
    let mut woken_by = None;
    debug!("broker {broker}: the sender starts");
    loop {
        let mut baton = link.lock();
        link.mailbox.wakes();
        while let Some(event) = woken_by.take().or_else(|| letters.event()) {
            match event {
                Event::Wake => {}
                Event::Adopt(mut queue) => {
                    // Who has sent it here may know less than has been told meanwhile.
                    queue.see(&senders.cluster().snapshot());
                    baton.turn.adopt(*queue);
                }
                Event::Metadata => {
                    link.mailbox.sees();
                    baton.turn.see(&senders.cluster().snapshot());
                }
                Event::LookAtAll => {
                    link.mailbox.looks();
                    baton.turn.look_at_all();
                }
                Event::Purge { in_flight } => baton.turn.purge(in_flight),
                Event::Panicked => return Ended::Panicked,
                Event::Close { error, losses } => {
                    baton.turn.fail_all(&error, &mut |partition, records| losses.add(partition, records));
                    link.disconnect(&mut baton);
                    drop(baton);
                    own.join_readers();
                    return Ended::InOrder;
                }
            }
        }
        // There may be more to send. But a write takes time, and where nobody waits for answers there is no end of
        // requests under load: first a look at what has come, for others and at the clock.
        let sent = link.step(&mut baton, Instant::now(), &mut || true).is_some();
        let actions = baton.turn.take_actions();
        if sent || !actions.is_empty() {
            drop(baton);
            own.act(actions);
            continue;
        }
        if baton.turn.is_deserted() && senders.retire(broker, &link.mailbox, letters) {
            debug!("broker {broker}: the sender ends, its broker is gone");
            link.disconnect(&mut baton);
            return Ended::InOrder;
        }
        if let Some(until) = link.rest(baton) {
            woken_by = letters.wait(until);
        }
    }
}

impl Own<'_> {
    /// Carries out what the turn asks for. What is carried out may ask for more.
    fn act(&mut self, actions: VecDeque<Action>) {
        let (link, senders) = (self.link, self.senders);
        let mut refresh = false;
        for action in actions {
            match action {
                Action::RefreshMetadata => refresh = true,
                Action::Hint(hints) => senders.cluster().hint(&hints),
                Action::Connect { failures } => self.connect(failures),
                Action::Disconnect => {
                    let mut baton = link.lock();
                    // Somebody may have used it meanwhile.
                    if baton.turn.is_unused() {
                        link.disconnect(&mut baton);
                        baton.turn.idled();
                    }
                }
                Action::Move(queue, leader) => {
                    if let Err((queue, error)) = senders.hand_over(queue, leader) {
                        warn!("{}: no sender for broker {leader}: {error}", queue.partition.name());
                        link.lock().turn.keep(*queue, Instant::now());
                    }
                }
            }
        }
        if refresh {
            senders.cluster().request_refresh();
        }
    }

    /// Starts a reader, which makes the connection.
    fn connect(&mut self, failures: u32) {
        let (link, broker) = (self.link, self.link.broker);
        let generation = link.disconnect(&mut link.lock());
        self.readers.retain(|reader| !reader.is_finished());
        let Some(address) = self.senders.cluster().snapshot().brokers.get(&broker).cloned() else {
            link.failed(generation, Error::network("the cluster does not list the broker"));
            return;
        };
        let net = self.senders.net().patient(failures);
        let of_reader = Arc::clone(link);
        let reader = thread::spawn(format!("kafka-reader-{broker}"), move || {
            let link = of_reader;
            // Whatever happens here, the sender must not wait for answers that nobody reads.
            if thread::catch(|| read(&link, generation, &address, &net)).is_none() {
                link.failed(generation, Error::bug("the reader panicked"));
            }
        });
        match reader {
            Ok(reader) => self.readers.push(reader),
            Err(error) => link.failed(generation, error),
        }
    }

    /// Waits for readers that are about to end. One that still resolves a name or waits for a connection cannot be
    /// broken off; it ends by itself.
    fn join_readers(&mut self) {
        let deadline = time::deadline(Instant::now(), Duration::from_millis(500));
        for reader in self.readers.drain(..) {
            thread::join_until(reader, deadline);
        }
    }
}

/// Makes the link's connection, and reads the answers that nobody else reads.
///
/// *Thread*: `kafka-reader-{broker}`.
fn read(link: &Link, generation: u64, address: &HostPort, net: &Arc<NetConfig>) {
    let half = match open(address, net, &link.hangup) {
        Ok((stream, input, version)) => link.connected(generation, stream, input, version),
        Err(error) => return link.failed(generation, error),
    };
    let Some(half) = half else { return };
    while let Some((mut input, mut deadline)) = half.await_owed() {
        loop {
            let answer = input.next(deadline);
            match link.answered(generation, input, answer) {
                Some(next) => (input, deadline) = next,
                None => break,
            }
        }
    }
}

/// Makes a connection for producing. *Thread*: `kafka-reader-{broker}`.
fn open(address: &HostPort, net: &Arc<NetConfig>, hangup: &Hangup) -> Result<(Arc<TcpStream>, FrameInput, i16)> {
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

//! The thread `kafka-sender-{broker}`: it gets events for the broker's turn, and carries out the turn's actions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::inbox::{Inbox, InboxReceiver, SenderEvent};
use super::parts::Shell;
use super::queue::PartitionQueue;
use super::turn::{Action, Turn};
use super::wiring::BrokerLink;
use crate::cluster::{ClusterClient, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::logging::{Level, debug, error, log, warn};
use crate::net::frames::FrameInput;
use crate::net::pipeline::WriteHalf;
use crate::net::{Connection, Hangup, HostPort, NetConfig};
use crate::outage::Outage;
use crate::protocol::messages::ProduceRequest;
use crate::thread;
use crate::time;
use crate::topic::BrokerId;

/// How a sender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SenderExit {
    /// It was closed, or its broker is gone and its partitions have moved.
    InOrder,
    /// Another thread panicked while it held the baton.
    Panicked,
}

/// What a sender needs of the other senders: the [list](super::senders) that has started it.
pub(crate) trait OtherSenders {
    fn cluster(&self) -> &ClusterClient;
    /// Hands a queue to the sender of its leader. If that is not possible, the queue is returned unchanged.
    fn hand_over(&self, queue: Box<PartitionQueue>, leader: BrokerId) -> Result<(), (Box<PartitionQueue>, Error)>;
    /// Whether this sender, which has no partition, is to end: its broker is gone, and nothing has been posted to it
    /// meanwhile. It is then off the list.
    fn retire(&self, broker: BrokerId, inbox: &Arc<Inbox>, inbox_receiver: &InboxReceiver) -> bool;
}

/// What only the sender's thread uses.
struct SenderShell<'a> {
    broker: BrokerId,
    link: &'a Arc<BrokerLink>,
    inbox_receiver: &'a InboxReceiver,
    others: &'a dyn OtherSenders,
    /// The broker's address when its last connection was begun.
    dialled: Option<HostPort>,
    /// Readers that may still run.
    readers: Vec<JoinHandle<()>>,
    /// Which failures to hand a queue to its leader's sender are worth a warning.
    stranded: Outage,
    closed: bool,
}

/// Runs a sender until it is told to close, or its broker is gone and its partitions have moved.
///
/// *Thread*: `kafka-sender-{broker}`.
pub(crate) fn run(
    broker: BrokerId,
    link: &Arc<BrokerLink>,
    inbox_receiver: &InboxReceiver,
    others: &dyn OtherSenders,
) -> SenderExit {
    let stranded = Outage::default();
    let mut shell = SenderShell {
        broker,
        link,
        inbox_receiver,
        others,
        dialled: None,
        readers: Vec::new(),
        stranded,
        closed: false,
    };
    debug!("broker {broker}: the sender starts");
    let ended = link.run_sender(&mut shell);
    if shell.closed {
        shell.join_readers();
    }
    ended
}

impl Shell<Turn> for SenderShell<'_> {
    type Event = SenderEvent;
    type Exit = SenderExit;

    fn event(&mut self) -> Option<SenderEvent> {
        self.inbox_receiver.event()
    }

    fn wait(&mut self, until: Option<Instant>) -> Option<SenderEvent> {
        self.inbox_receiver.wait(until)
    }

    fn tell(&mut self, turn: &mut Turn, event: SenderEvent) -> Option<SenderExit> {
        match event {
            SenderEvent::Wake => {}
            SenderEvent::Adopt(mut queue) => {
                // The sender that posted the queue may have had older metadata than this one.
                queue.on_metadata(&self.others.cluster().snapshot());
                turn.adopt(*queue);
            }
            SenderEvent::Metadata => {
                self.link.inbox.takes_metadata();
                let snapshot = self.others.cluster().snapshot();
                turn.on_metadata(&snapshot);
                self.check_address(turn, &snapshot);
            }
            SenderEvent::LookAtAll => {
                self.link.inbox.looks();
                turn.look_at_all();
            }
            SenderEvent::Purge { purge, in_flight } => turn.purge(purge, in_flight),
            SenderEvent::Panicked => return Some(SenderExit::Panicked),
            SenderEvent::Close { error, losses } => {
                let mut count = |partition: &_, records, cause| losses.add(partition, records, cause);
                turn.fail_all(&error, Instant::now(), &mut count);
                self.closed = true;
                return Some(SenderExit::InOrder);
            }
        }
        None
    }

    fn act(&mut self, actions: VecDeque<Action>) {
        self.carry_out(actions);
    }

    fn retire(&mut self) -> Option<SenderExit> {
        let retires = self.others.retire(self.broker, &self.link.inbox, self.inbox_receiver);
        if retires {
            debug!("broker {}: the sender ends, its broker is gone", self.broker);
        }
        retires.then_some(SenderExit::InOrder)
    }
}

impl SenderShell<'_> {
    /// Carries out the turn's actions, which may cause further ones.
    fn carry_out(&mut self, actions: VecDeque<Action>) {
        let (link, others) = (self.link, self.others);
        let mut refresh = false;
        for action in actions {
            match action {
                Action::RefreshMetadata => refresh = true,
                Action::Hint(hints) => others.cluster().hint(&hints),
                Action::Connect => self.connect(),
                Action::Disconnect => link.idle(),
                Action::Move(queue, leader) => match others.hand_over(queue, leader) {
                    Ok(()) => {
                        if let Some(over) = self.stranded.ended(Instant::now()) {
                            warn!("there is a sender for broker {leader} again, {over}");
                        }
                    }
                    Err((queue, error)) => {
                        let closed = error.kind() == ErrorKind::Closed;
                        let level = if closed { Level::Debug } else { self.stranded.failed(Instant::now()) };
                        log!(level, "{}: no sender for broker {leader}: {error:#}", queue.name());
                        link.lock().turn.take_back(*queue, Instant::now());
                    }
                },
            }
        }
        if refresh {
            others.cluster().request_refresh();
        }
    }

    /// Ends a connection to an address that the broker no longer has: another broker may be there now.
    fn check_address(&mut self, turn: &mut Turn, snapshot: &Snapshot) {
        if let (Some(there), Some(now)) = (&self.dialled, snapshot.brokers.get(&self.broker))
            && !there.same_place(now)
        {
            debug!("broker {}: its address is no longer {there}, but {now}", self.broker);
            turn.leave_connection();
            self.dialled = None;
        }
    }

    /// Starts a reader, which makes the connection.
    fn connect(&mut self) {
        let (link, broker) = (self.link, self.broker);
        let generation = link.begin();
        self.readers.retain(|reader| !reader.is_finished());
        let Some(address) = self.others.cluster().snapshot().brokers.get(&broker).cloned() else {
            link.failed(generation, Error::network("the cluster does not list the broker"));
            return;
        };
        self.dialled = Some(address.clone());
        let net = Arc::clone(self.others.cluster().net());
        let for_reader = Arc::clone(link);
        let reader = thread::spawn(format!("kafka-reader-{broker}"), move || {
            let link = for_reader;
            // After a panic, too, the sender must not wait for answers that nobody reads.
            let open = || open(&address, &net, &link.hangup);
            let broken = || net.reachability.failed(&address);
            if let Err(panic) = thread::catch(|| link.run_reader(generation, open, broken)) {
                link.failed(generation, Error::bug(format!("the reader panicked: {panic}")));
            }
        });
        match reader {
            Ok(reader) => self.readers.push(reader),
            Err(error) => link.failed(generation, error),
        }
    }

    /// Waits for a moment for the readers to end. A reader that is resolving a name or connecting cannot be
    /// interrupted; it ends by itself.
    fn join_readers(&mut self) {
        let deadline = time::deadline(Instant::now(), Duration::from_millis(500));
        for reader in self.readers.drain(..) {
            thread::join_until(reader, deadline);
        }
    }
}

/// Makes a connection for producing. *Thread*: `kafka-reader-{broker}`.
fn open(address: &HostPort, net: &Arc<NetConfig>, hangup: &Hangup) -> Result<(WriteHalf, FrameInput, i16)> {
    let connection = Connection::open(address, net, hangup)?;
    let version =
        connection.versions().choose::<ProduceRequest>().map_err(|error| error.at_address(&address.to_string()))?;
    let (write, input) = connection.into_halves()?;
    Ok((write, input, version))
}

/// Logs the panic of a sender, and returns the error with which its batches fail.
pub(crate) fn report_panic(broker: BrokerId, panic: &str) -> Error {
    error!("broker {broker}: the sender panicked; the producer cannot go on: {panic}");
    Error::bug(format!("the sender of broker {broker} panicked: {panic}"))
}

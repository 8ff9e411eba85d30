//! The way to each broker: connections that are used again, and who the controller is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::cluster::ClusterClient;
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result};
use crate::logging::debug;
use crate::net::{Connection, Hangup, HostPort};
use crate::protocol::messages::{MetadataRequest, MetadataResponse};
use crate::topic::BrokerId;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// `None`: whoever is there. Only its address was known.
    pub(super) broker: Option<BrokerId>,
    pub(super) address: HostPort,
}

/// The brokers, as the calls of an admin client reach them. *Thread*: any; none waits for another's request.
pub(super) struct Brokers {
    cluster: Arc<ClusterClient>,
    /// After how long without use a connection is closed.
    max_idle: Option<Duration>,
    /// Connections that no call uses. Held for moments.
    idle: Mutex<Vec<Idle>>,
    controller: Mutex<Controller>,
    /// The topics that this client has made, and when: brokers learn of them one after the other. Held for moments.
    made: Mutex<HashMap<String, Instant>>,
}

/// How long a topic or partition that the cluster says not to know is asked for again, if it may be new.
pub(super) const UNKNOWN_FOR: Duration = Duration::from_secs(5);

struct Idle {
    connection: Connection,
    since: Instant,
}

#[derive(Default)]
struct Controller {
    /// What an answer to this client has said, which is younger than the cluster's own metadata.
    known: Option<Place>,
    /// Whether the one that was known has turned out not to be it.
    is_lost: bool,
}

impl Brokers {
    pub(super) fn new(cluster: Arc<ClusterClient>, max_idle: Option<Duration>) -> Self {
        Self { cluster, max_idle, idle: Mutex::default(), controller: Mutex::default(), made: Mutex::default() }
    }

    /// Notes that this client has made a topic.
    pub(super) fn has_made(&self, topic: &str) {
        let mut made = self.made.lock();
        made.retain(|_, then| then.elapsed() < UNKNOWN_FOR);
        made.insert(topic.to_owned(), Instant::now());
    }

    /// Notes that this client has deleted a topic, or one whose name it does not know.
    pub(super) fn has_deleted(&self, topic: Option<&str>) {
        let mut made = self.made.lock();
        match topic {
            Some(topic) => drop(made.remove(topic)),
            None => made.clear(),
        }
    }

    /// Whether this client has just made a topic, so that a broker may not know it yet.
    pub(super) fn has_just_made(&self, topic: &str) -> bool {
        self.made.lock().get(topic).is_some_and(|then| then.elapsed() < UNKNOWN_FOR)
    }

    /// The controller, as far as is known; a cluster that tells none has any broker do its work.
    ///
    /// *Blocks* until a broker has answered, at most until `deadline`.
    pub(super) fn controller(&self, deadline: Instant) -> Result<Place> {
        self.cluster.await_brokers(deadline)?;
        let is_lost = {
            let controller = self.controller.lock();
            if let Some(known) = &controller.known {
                return Ok(known.clone());
            }
            controller.is_lost
        };
        if !is_lost {
            let snapshot = self.cluster.snapshot();
            let known = snapshot.controller.and_then(|id| Some((id, snapshot.brokers.get(&id)?.clone())));
            if let Some((broker, address)) = known {
                return Ok(Place { broker: Some(broker), address });
            }
        }
        let nothing = MetadataRequest::named([], false);
        let response = self.metadata(&nothing, deadline)?;
        place_of(&response, response.controller_id).or_else(|_| self.first())
    }

    /// Notes that a place has not served a request that belongs to the controller.
    pub(super) fn forget_controller(&self, place: &Place) {
        let mut controller = self.controller.lock();
        if controller.known.as_ref().is_none_or(|known| known == place) {
            *controller = Controller { known: None, is_lost: true };
        }
    }

    /// The broker to ask first for what any of them knows.
    ///
    /// *Blocks* until the cluster has been reached, at most until `deadline`.
    pub(super) fn any(&self, deadline: Instant) -> Result<Place> {
        self.cluster.await_brokers(deadline)?;
        self.first()
    }

    fn first(&self) -> Result<Place> {
        let first = self.cluster.addresses().into_iter().next();
        let address = first.ok_or_else(|| Error::network("no broker is known"))?;
        Ok(Place { broker: None, address })
    }

    /// Where a broker is. One that is not known is asked for.
    ///
    /// *Blocks* until a broker has answered, at most until `deadline`.
    pub(super) fn broker(&self, id: BrokerId, deadline: Instant) -> Result<Place> {
        self.cluster.await_brokers(deadline)?;
        if let Some(address) = self.cluster.snapshot().brokers.get(&id) {
            return Ok(Place { broker: Some(id), address: address.clone() });
        }
        let nothing = MetadataRequest::named([], false);
        place_of(&self.metadata(&nothing, deadline)?, id.0)
    }

    /// The answer of any broker to a Metadata request. What it says of the controller is kept.
    ///
    /// *Blocks* as [`with_any`](Self::with_any) does.
    pub(super) fn metadata(&self, request: &MetadataRequest, deadline: Instant) -> Result<MetadataResponse> {
        let response = self.with_any(deadline, |connection, until| {
            let response = connection.call(request, until)?;
            match ErrorCode(response.error_code) {
                ErrorCode::NONE if response.brokers.is_empty() => {
                    Err(Error::misbehaved("a metadata answer names no broker"))
                }
                ErrorCode::NONE => Ok(response),
                code => Err(Error::broker(code, None)),
            }
        })?;
        let known = place_of(&response, response.controller_id).ok();
        *self.controller.lock() = Controller { is_lost: known.is_none(), known };
        Ok(response)
    }

    /// Runs `call` on a connection to any broker, until one has answered: those that answer first, those that have just
    /// failed last.
    ///
    /// *Blocks* until one has answered or all have failed, each within its own time, at most until `deadline`.
    ///
    /// *Errors*: one that time cannot cure only where each of them has failed with such a one.
    pub(super) fn with_any<T>(
        &self,
        deadline: Instant,
        mut call: impl FnMut(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T> {
        self.cluster.await_brokers(deadline)?;
        let mut failed: Option<Error> = None;
        for address in self.cluster.addresses() {
            match self.exchange(&Place { broker: None, address }, deadline, &mut call) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => {
                    debug!("no answer: {error:#}");
                    failed = Some(match failed {
                        Some(known) if error.is_final() && !known.is_final() => known,
                        Some(known) if known.is_final() && !error.is_final() => error,
                        _ => error,
                    });
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        // Nobody answers: the cluster looks for others.
        self.cluster.request_refresh();
        Err(failed.unwrap_or_else(|| Error::network("no broker is known")))
    }

    /// Runs `call` on a connection to a place, with the time by which the answer must be there.
    ///
    /// *Blocks* until then, at most until `deadline`: for the connection setup timeout of each address, and the request
    /// timeout.
    pub(super) fn exchange<T>(
        &self,
        place: &Place,
        deadline: Instant,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T> {
        let named = |error: Error| match place.broker {
            Some(broker) => error.at_broker(broker),
            None => error,
        };
        let mut connection = match self.take(&place.address) {
            Some(connection) => connection,
            None => Connection::open_until(&place.address, self.cluster.net(), deadline, &Hangup::default())
                .map_err(named)?,
        };
        let until = deadline.min(connection.default_deadline());
        let answer = call(&mut connection, until);
        let is_usable = match &answer {
            Ok(_) => true,
            // Nothing was sent, or the whole answer was read.
            Err(error) => {
                matches!(error.kind(), ErrorKind::UnsupportedVersion | ErrorKind::InvalidInput | ErrorKind::Broker(_))
            }
        };
        if is_usable {
            self.idle.lock().push(Idle { connection, since: Instant::now() });
        }
        answer.map_err(named)
    }

    /// A connection that nobody uses, the one used last. Those that nobody has used for long are closed.
    fn take(&self, address: &HostPort) -> Option<Connection> {
        let mut idle = self.idle.lock();
        if let Some(max_idle) = self.max_idle {
            idle.retain(|idle| idle.since.elapsed() < max_idle);
        }
        while let Some(at) = idle.iter().rposition(|idle| idle.connection.address() == address) {
            let Idle { connection, .. } = idle.remove(at);
            if !connection.is_stale() {
                return Some(connection);
            }
        }
        None
    }
}

/// Where a broker is, as an answer says.
pub(super) fn place_of(response: &MetadataResponse, id: i32) -> Result<Place> {
    let found = response.brokers.iter().find(|broker| broker.node_id == id && id >= 0);
    let missing = || {
        let error = Error::new(ErrorKind::Network, Recovery::Retry, "the cluster lists no such broker");
        if id >= 0 { error.at_broker(BrokerId(id)) } else { error }
    };
    let found = found.ok_or_else(missing)?;
    let port = u16::try_from(found.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Error::misbehaved(format!("the port of broker {id} is {}", found.port)))?;
    Ok(Place { broker: Some(BrokerId(id)), address: HostPort::new(found.host.as_str(), port) })
}

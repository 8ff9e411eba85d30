//! Coordinators: the brokers that look after a group or a transactional id. They are found by FindCoordinator,
//! remembered for all who share the cluster, and forgotten as soon as a caller finds that one is not there any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;

use super::ClusterClient;
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result};
use crate::logging::debug;
use crate::net::{Connection, Hangup, HostPort};
use crate::protocol::api::Request;
use crate::protocol::messages::FindCoordinatorRequest;
use crate::protocol::messages::find_coordinator::{self, KeyType};
use crate::time;
use crate::topic::BrokerId;

/// The most coordinators that are remembered. When there are more, all are forgotten, which costs one lookup for each
/// that is in use.
const MOST: usize = 10_000;
/// The first FindCoordinator that knows transactional ids.
const KNOWS_TRANSACTIONS: i16 = 1;

/// The group or transactional id that has a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CoordinatorKey {
    pub(crate) key_type: KeyType,
    /// The group's id, or the transactional id.
    pub(crate) name: Arc<str>,
}

/// A coordinator and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coordinator {
    pub(crate) broker: BrokerId,
    pub(crate) address: HostPort,
}

/// The coordinators that the clients of a cluster have found.
///
/// *Thread*: any. The lock is held for moments, and no other is taken meanwhile.
#[derive(Default)]
pub(super) struct CoordinatorCache(Mutex<HashMap<CoordinatorKey, CachedCoordinator>>);

enum CachedCoordinator {
    Known(Coordinator),
    /// One caller asks the brokers. These other callers wait for the answer that it gets; `None` if it has given up.
    Asked(Vec<Sender<Option<Result<Coordinator>>>>),
}

/// The lookup of one caller, for which others may wait. When it is dropped, they are told how it ended.
struct Lookup<'a> {
    coordinators: &'a CoordinatorCache,
    key: &'a CoordinatorKey,
    /// `None`: the caller has given up, or panicked.
    result: Option<Result<Coordinator>>,
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut known = self.coordinators.0.lock();
        let entry = match &self.result {
            Some(Ok(coordinator)) => known.insert(self.key.clone(), CachedCoordinator::Known(coordinator.clone())),
            Some(Err(_)) | None => known.remove(self.key),
        };
        drop(known);
        if let Some(CachedCoordinator::Asked(waiting)) = entry {
            for caller in waiting {
                // A caller that was hung up has been told already, so its channel is full.
                drop(caller.try_send(self.result.clone()));
            }
        }
    }
}

impl CoordinatorCache {
    /// Forgets a coordinator, unless another one was found meanwhile.
    fn forget(&self, key: &CoordinatorKey, coordinator: &Coordinator) {
        let mut known = self.0.lock();
        if matches!(known.get(key), Some(CachedCoordinator::Known(other)) if other == coordinator) {
            known.remove(key);
        }
    }

    /// The coordinator that is remembered. If there is none, one of the callers runs `ask`, and all callers get its
    /// answer.
    ///
    /// *Blocks* as long as `ask` does. `hangup` ends the wait.
    fn find(
        &self,
        key: &CoordinatorKey,
        hangup: &Hangup,
        ask: impl FnOnce() -> Result<Coordinator>,
    ) -> Result<Coordinator> {
        loop {
            let mut known = self.0.lock();
            match known.get_mut(key) {
                Some(CachedCoordinator::Known(coordinator)) => return Ok(coordinator.clone()),
                Some(CachedCoordinator::Asked(waiting)) => {
                    let (tell, told) = bounded(1);
                    waiting.push(tell.clone());
                    drop(known);
                    hangup.attach_wait(move || drop(tell.try_send(None)))?;
                    // `None`: the other caller has given up, so another one has to ask; or this caller was hung up,
                    // which the next round of the loop finds.
                    if let Ok(Some(result)) = told.recv() {
                        return result;
                    }
                }
                None => {
                    if known.len() >= MOST {
                        known.retain(|_, entry| matches!(entry, CachedCoordinator::Asked(_)));
                    }
                    known.insert(key.clone(), CachedCoordinator::Asked(Vec::new()));
                    drop(known);
                    let mut lookup = Lookup { coordinators: self, key, result: None };
                    let result = ask();
                    // A caller that was hung up has learned nothing of the coordinator.
                    let is_closed = matches!(&result, Err(error) if error.kind() == ErrorKind::Closed);
                    lookup.result = (!is_closed).then(|| result.clone());
                    return result;
                }
            }
        }
    }
}

impl ClusterClient {
    /// The coordinator that is remembered; or else what a broker answers, which is asked once for all callers that look
    /// for it at the same time.
    ///
    /// *Blocks* as [`with_any`](Self::with_any) does. *Errors*: those of `with_any`, and the code that the broker
    /// answered. Nothing is retried here: a caller that repeats the call waits for the back-off itself.
    fn find_coordinator(&self, key: &CoordinatorKey, hangup: &Hangup) -> Result<Coordinator> {
        self.shared.coordinators.find(key, hangup, || {
            let answer = self.with_any(hangup, |connection| {
                let until = connection.default_deadline();
                ask(connection, key, until)
            });
            let coordinator = read(answer?)?;
            debug!("{:?}: the coordinator is broker {} at {}", key.name, coordinator.broker, coordinator.address);
            Ok(coordinator)
        })
    }
}

/// Asks one broker for a coordinator. [`read`] says what the answer means.
///
/// *Blocks* until it has answered, at most until `deadline`.
pub(crate) fn ask(
    connection: &mut Connection,
    key: &CoordinatorKey,
    deadline: Instant,
) -> Result<find_coordinator::Coordinator> {
    let version = connection.versions().choose::<FindCoordinatorRequest>()?;
    if version < KNOWS_TRANSACTIONS && key.key_type == KeyType::Transaction {
        let text = "the broker is too old for transactions (KIP-98, Kafka 0.11)";
        return Err(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text));
    }
    let request = FindCoordinatorRequest::of(key.key_type, &key.name, version);
    let response = connection.call_at(&request, version, deadline)?;
    response.into_coordinator(&key.name, version).ok_or_else(|| {
        Error::misbehaved(format!("{} was not answered for its key", <FindCoordinatorRequest as Request>::NAME))
    })
}

/// What a broker's answer says of the coordinator.
pub(crate) fn read(answer: find_coordinator::Coordinator) -> Result<Coordinator> {
    let code = ErrorCode(answer.error_code);
    if !code.is_none() {
        return Err(Error::broker(code, answer.error_message.as_deref()));
    }
    let Some(port) = u16::try_from(answer.port).ok().filter(|port| *port != 0) else {
        return Err(Error::misbehaved(format!("the coordinator's port is {}", answer.port)));
    };
    Ok(Coordinator { broker: BrokerId(answer.node_id), address: HostPort::new(answer.host, port) })
}

/// How far a call to a coordinator came before it failed.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// The coordinator was not found, so nothing was sent to it.
    Find(Error),
    /// The coordinator was found, but the connection was not made, so nothing was sent.
    Connect(Error),
    /// The call itself failed.
    Call(Error),
}

/// One caller's way to a coordinator. The connection is the caller's own: a request that the coordinator does not
/// answer for long, as it may with JoinGroup, delays no other caller.
pub(crate) struct CoordinatorLink {
    cluster: Arc<ClusterClient>,
    key: CoordinatorKey,
    hangup: Arc<Hangup>,
    connection: Option<(Coordinator, Connection)>,
}

impl CoordinatorLink {
    /// `hangup` breaks off the call of the link that is under way, and all later ones.
    pub(crate) fn new(cluster: Arc<ClusterClient>, key: CoordinatorKey, hangup: Arc<Hangup>) -> Self {
        Self { cluster, key, hangup, connection: None }
    }

    /// The group or transactional id whose coordinator it leads to.
    pub(crate) fn key(&self) -> &CoordinatorKey {
        &self.key
    }

    /// Gives the connection up. The next caller that needs the coordinator looks it up again.
    pub(crate) fn forget(&mut self) {
        if let Some((coordinator, _)) = self.connection.take() {
            self.cluster.shared.coordinators.forget(&self.key, &coordinator);
        }
    }

    /// Runs `call` on the coordinator's connection, with the deadline until which it may wait. The coordinator is found
    /// and the connection made if need be. After an error that is not the broker's answer, or when no connection was
    /// made, the coordinator is forgotten: it may be another broker by now.
    ///
    /// *Blocks*: the call itself at most for `time`; before it, until the coordinator is found, and for the connection
    /// setup timeout of each of its addresses. The link's hangup ends it.
    pub(crate) fn call<T>(
        &mut self,
        time: Duration,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T, CallFailure> {
        // If the connection was closed while it was idle, the broker may have ended.
        if self.connection.as_ref().is_some_and(|(_, connection)| connection.is_stale()) {
            self.forget();
        }
        let (coordinator, mut connection) = match self.connection.take() {
            Some(known) => known,
            None => self.connect()?,
        };
        let answer = call(&mut connection, time::deadline(Instant::now(), time));
        let broker = coordinator.broker;
        self.connection = Some((coordinator, connection));
        answer.map_err(|error| {
            self.forget();
            CallFailure::Call(error.at_broker(broker))
        })
    }

    /// Adds the coordinator's broker and address to the error of an answer, as long as the link has its connection.
    pub(crate) fn at_coordinator(&self, error: Error) -> Error {
        match &self.connection {
            Some((coordinator, connection)) => {
                error.at_broker(coordinator.broker).at_address(&connection.address().to_string())
            }
            None => error,
        }
    }

    fn connect(&self) -> Result<(Coordinator, Connection), CallFailure> {
        let coordinator = self.cluster.find_coordinator(&self.key, &self.hangup).map_err(CallFailure::Find)?;
        match Connection::open(&coordinator.address, &self.cluster.net, &self.hangup) {
            Ok(connection) => Ok((coordinator, connection)),
            Err(error) => {
                self.cluster.shared.coordinators.forget(&self.key, &coordinator);
                Err(CallFailure::Connect(error.at_broker(coordinator.broker)))
            }
        }
    }
}

#[cfg(test)]
mod tests;

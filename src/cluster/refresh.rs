//! The thread `kafka-metadata`.

use std::sync::Arc;
use std::time::Instant;

use super::interest::Asked;
use super::{InVain, Shared, Snapshot};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::logging::{Quiet, debug, info, log, warn};
use crate::net::Connection;
use crate::outage::Outage;
use crate::protocol::messages::{MetadataRequest, MetadataResponse};
use crate::time::{self, RandomNumbers};

/// What the thread keeps between its rounds. *Thread*: kafka-metadata.
struct RefreshState {
    connection: Option<Connection>,
    /// Attempts in a row that failed.
    failures: u32,
    /// Which of them are worth a warning.
    outage: Outage,
    /// Requested answers in a row that brought nothing new.
    fruitless: u32,
    /// No attempt before this, unless it is urgent.
    not_before: Option<Instant>,
    last_success: Instant,
    /// When the first attempt began that failed after the last success.
    failing_since: Option<Instant>,
    random: RandomNumbers,
}

/// What a round asks for.
struct Round {
    topics: Asked,
    requested: bool,
}

pub(super) fn run(cluster: &Shared) {
    let mut state = RefreshState {
        connection: None,
        failures: 0,
        outage: Outage::default(),
        fruitless: 0,
        not_before: None,
        last_success: Instant::now(),
        failing_since: None,
        random: RandomNumbers::from_entropy(),
    };
    while let Some(round) = await_round(cluster, &state) {
        let before = cluster.snapshot();
        let result = fetch(cluster, &mut state, &round.topics);
        let now = Instant::now();
        let error = match result {
            Ok(answers) => {
                let next = {
                    // A leader hint may have changed the snapshot meanwhile, so the answers are merged into the present
                    // one.
                    let _quiet = Quiet::begin();
                    let mut snapshot = cluster.snapshot.write();
                    for (response, version) in answers {
                        *snapshot = Arc::new(snapshot.merge(response, version));
                    }
                    Arc::clone(&snapshot)
                };
                state.last_success = now;
                state.failures = 0;
                state.failing_since = None;
                if let Some(over) = state.outage.ended(now) {
                    warn!("metadata comes again, {over}");
                }
                let fruitless = round.requested && same_leaders(&before, &next, &round.topics);
                state.fruitless = if fruitless { state.fruitless.saturating_add(1) } else { 0 };
                let wait = cluster.config.retry_backoff.after(state.fruitless, &mut state.random);
                state.not_before = Some(now + wait);
                cluster.tell();
                None
            }
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                let wait = cluster.config.retry_backoff.after(state.failures, &mut state.random);
                state.not_before = Some(now + wait);
                debug!("no metadata, attempt {}: {error:#}", state.failures);
                Some(error)
            }
        };
        let mut requests = cluster.requests.lock();
        requests.attempts += 1;
        requests.attempting = false;
        requests.asked = None;
        if error.is_none() {
            requests.last_answer = Some(now);
            requests.interests.answered(&round.topics);
        }
        if error.is_some() && round.requested {
            requests.refresh = true;
        }
        requests.last_error = error;
        requests.next_attempt = state.not_before;
        drop(requests);
        cluster.answered.notify_all();
    }
}

/// Waits until there is a reason for a round; `None` when the cluster is closed.
fn await_round(cluster: &Shared, state: &RefreshState) -> Option<Round> {
    let mut requests = cluster.requests.lock();
    loop {
        if requests.closed {
            return None;
        }
        let now = Instant::now();
        // Metadata has no age before the first answer.
        let known = !cluster.snapshot.read().brokers.is_empty();
        let aged = known && state.last_success + cluster.config.metadata_max_age <= now;
        if aged || requests.interests.are_awaited() || requests.refresh {
            // A caller that asks for something new does not wait for the back-off of earlier requests, unless no broker
            // answers at all.
            let hurry = (requests.urgent || requests.interests.have_new()) && state.failures == 0;
            match state.not_before.filter(|then| *then > now && !hurry) {
                None => {
                    requests.urgent = false;
                    requests.attempting = true;
                    let requested = std::mem::take(&mut requests.refresh);
                    requests.interests.forget_unused(now);
                    let topics = requests.interests.to_ask(requested || aged);
                    return Some(Round { topics, requested: requested || aged });
                }
                Some(then) => {
                    cluster.work.wait_until(&mut requests, then);
                }
            }
        } else if known {
            let then = time::deadline(state.last_success, cluster.config.metadata_max_age);
            cluster.work.wait_until(&mut requests, then);
        } else {
            cluster.work.wait(&mut requests);
        }
    }
}

/// Asks on the present connection, then every known broker, then the bootstrap servers in their order. One that does
/// not answer, or whose answer names no broker, is passed over.
///
/// After attempts have failed for the time that triggers a rebootstrap, the bootstrap servers come before the known
/// brokers. The time counts from the first attempt that failed: while no client needs anything nothing is asked, and
/// that time says nothing of the brokers.
fn fetch(cluster: &Shared, state: &mut RefreshState, topics: &Asked) -> Result<Vec<(MetadataResponse, i16)>> {
    let requests = topics.requests();
    let config = &cluster.config;
    let began = Instant::now();
    let mut sent_away = false;
    // A connection that was closed while it was idle is no failure.
    if let Some(mut connection) = state.connection.take().filter(|connection| !connection.is_stale()) {
        cluster.asks(connection.address());
        match ask_all(&mut connection, &requests) {
            Ok(answer) => {
                state.connection = Some(connection);
                return Ok(answer);
            }
            Err(error) => {
                debug!("the metadata connection ended: {error:#}");
                cluster.asked_in_vain(&error);
                sent_away = error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED);
            }
        }
    }
    let addresses = if sent_away && cluster.rebootstraps() {
        // The brokers themselves say that the client must begin again at the bootstrap servers (KIP-1102).
        config.bootstrap_servers.clone()
    } else {
        let failing_for = state.failing_since.map(|since| began.saturating_duration_since(since));
        cluster.addresses(failing_for.is_some_and(|time| time > config.rebootstrap_trigger))
    };
    let mut in_vain = InVain::default();
    for address in addresses {
        cluster.asks(&address);
        let answer = Connection::open(&address, &cluster.net, &cluster.hangup).and_then(|mut connection| {
            let answer = ask_all(&mut connection, &requests)?;
            Ok((connection, answer))
        });
        match answer {
            Ok((connection, answer)) => {
                info!("metadata comes from {address}");
                state.connection = Some(connection);
                return Ok(answer);
            }
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => {
                // Each failure is logged by itself, because all addresses together may take long.
                state.failing_since.get_or_insert(began);
                log!(state.outage.failed(Instant::now()), "no metadata from {address}: {error:#}");
                cluster.asked_in_vain(&error);
                in_vain.add(error);
            }
        }
    }
    Err(in_vain.error())
}

/// Sends one broker all requests. An error of one of them is the result of all.
fn ask_all(connection: &mut Connection, requests: &[MetadataRequest]) -> Result<Vec<(MetadataResponse, i16)>> {
    requests.iter().map(|request| ask(connection, request)).collect()
}

fn ask(connection: &mut Connection, request: &MetadataRequest) -> Result<(MetadataResponse, i16)> {
    let version = connection.versions().choose::<MetadataRequest>()?;
    let response = connection.call_at(request, version, connection.default_deadline())?;
    let code = ErrorCode(response.error_code);
    if !code.is_none() {
        return Err(Error::broker(code, None));
    }
    if response.brokers.is_empty() {
        return Err(Error::misbehaved("a metadata answer names no broker"));
    }
    Ok((response, version))
}

/// Whether the leaders of `topics` are the same in both.
fn same_leaders(before: &Snapshot, after: &Snapshot, topics: &Asked) -> bool {
    topics.topics().all(|topic| match (before.topic(topic), after.topic(topic)) {
        (Some(before), Some(after)) => before.partitions == after.partitions && before.id == after.id,
        (None, None) => true,
        _ => false,
    })
}

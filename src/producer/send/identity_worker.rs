//! The thread `kafka-identity`: it asks for producer ids.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use super::identity::Identity;
use super::senders::Senders;
use super::verdict::advice;
use crate::cluster::ClusterClient;
use crate::error::{Error, ErrorCode, Recovery, Result};
use crate::logging::{error, info, log, warn};
use crate::net::Hangup;
use crate::outage::Outage;
use crate::protocol::messages::InitProducerIdRequest;
use crate::thread;
use crate::time::{self, Backoff, RandomNumbers};
use crate::topic::ProducerIdAndEpoch;

/// Starts the thread. It asks for a producer id when a sender needs one, wakes the senders with the answer, and ends
/// when `identity` is closed.
pub(crate) fn start(
    identity: Arc<Identity>,
    cluster: Arc<ClusterClient>,
    senders: Weak<Senders>,
    hangup: Arc<Hangup>,
    retry_backoff: Backoff,
) -> Result<JoinHandle<()>> {
    let (work, to_wake) = (Arc::clone(&identity), Weak::clone(&senders));
    let ask = move || {
        let identity = work;
        let mut random = RandomNumbers::from_entropy();
        let mut failures = 0;
        let mut outage = Outage::default();
        while identity.await_need() {
            match ask_for_identity(&cluster, &hangup) {
                Err(error) if error.recovery() == Recovery::Retry => {
                    failures += 1;
                    log!(outage.failed(Instant::now()), "no producer id, attempt {failures}: {error:#}");
                    identity.meet(&error);
                    let wait = retry_backoff.after(failures, &mut random);
                    if !identity.pause(time::deadline(Instant::now(), wait)) {
                        return;
                    }
                }
                answer => {
                    failures = 0;
                    match (&answer, outage.ended(Instant::now())) {
                        (Ok(known), None) => info!("{known}"),
                        (Ok(known), Some(over)) => warn!("{known}, {over}"),
                        (Err(error), _) => warn!("the cluster gives no producer id: {error:#}"),
                    }
                    identity.answered(answer);
                    if let Some(senders) = senders.upgrade() {
                        senders.look_at_all();
                    }
                }
            }
        }
    };
    thread::spawn("kafka-identity", move || {
        if let Err(panic) = thread::catch(ask) {
            error!("kafka-identity panicked; the producer cannot go on: {panic}");
            identity.refuse(Error::bug(format!("the thread kafka-identity panicked: {panic}")));
            if let Some(senders) = to_wake.upgrade() {
                senders.look_at_all();
            }
        }
    })
}

/// Asks any broker for a producer id (KIP-98).
fn ask_for_identity(cluster: &ClusterClient, hangup: &Hangup) -> Result<ProducerIdAndEpoch> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        // Only transactions time out, and this producer has none.
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    };
    let response = cluster.call_any(&request, hangup)?;
    match ErrorCode(response.error_code) {
        ErrorCode::NONE if response.producer_id >= 0 && response.producer_epoch >= 0 => {
            Ok(ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch })
        }
        ErrorCode::NONE => Err(Error::misbehaved("a broker answered with a producer id below 0")),
        code => {
            let mut text = format!("{}, when a producer id was asked for", code.meaning());
            if let Some(advice) = advice(code, true) {
                text = format!("{text}; {advice}");
            }
            let recovery = if code.is_retriable() { Recovery::Retry } else { Recovery::Fatal };
            Err(Error::broker(code, Some(&text)).with_recovery(recovery))
        }
    }
}

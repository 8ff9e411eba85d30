//! What an answer means for each batch of its request, and what follows when there is none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Action, BatchInRequest, ConnectionState, InFlight, PRODUCE_BY_TOPIC_ID, Scheduled, Turn};
use crate::bytes::SharedBytes;
use crate::cluster::{LeaderHint, LeaderHints};
use crate::error::{Error, ErrorCode, Recovery, Result, Written};
use crate::logging::{debug, info};
use crate::net::HostPort;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::completion::Outcome;
use crate::producer::buffer::partition::PartitionId;
use crate::producer::metrics::add;
use crate::producer::send::verdict::{BatchFacts, BatchVerdict, advice, batch_verdict, refusal};
use crate::protocol::header::decode_response;
use crate::protocol::messages::produce::PartitionProduceResponse;
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::protocol::wire::Uuid;
use crate::topic::BrokerId;

/// The longest throttle time that is obeyed. A broker could ask for 24 days.
const MAX_THROTTLE: Duration = Duration::from_secs(3600);

impl Turn {
    /// The request that [`next_request`](Self::next_request) built last is written. True if it gets an answer.
    pub(crate) fn written(&mut self, now: Instant) -> bool {
        let is_answered = self.is_answered();
        let Some(up) = self.up_mut() else { return false };
        up.last_used = now;
        let Some(request) = up.in_flight.back_mut() else { return false };
        request.written = true;
        if is_answered {
            return true;
        }
        // With `acks=0` no answer comes: the records count as done when the socket has them.
        if let Some(request) = up.take_last() {
            self.left(1);
            for in_request in request.batches {
                if let Some(batch) = in_request.batch {
                    if let Some(queue) = self.queue_mut(in_request.id) {
                        queue.came_back();
                    }
                    self.acknowledged(batch, -1, -1, false);
                    self.list(in_request.id);
                    self.watch(in_request.id);
                }
            }
        }
        false
    }

    /// Handles an answer. An error means that the connection cannot be used any more.
    pub(crate) fn answered(&mut self, frame: SharedBytes, now: Instant) -> Result<()> {
        let Some((due, version)) = self.first_in_flight() else {
            return Err(self.at_this_broker(Error::misbehaved("an answer came without a request")));
        };
        let (correlation, response) =
            decode_response::<ProduceRequest>(frame, version).map_err(|error| error.at_broker(self.broker))?;
        if correlation != due {
            let text = format!("correlation id {correlation} came where {due} was due");
            return Err(Error::misbehaved(text).at_broker(self.broker));
        }
        let Some(up) = self.up_mut() else { return Ok(()) };
        let Some(mut request) = up.take_first() else { return Ok(()) };
        let round_trip = now.saturating_duration_since(request.sent);
        up.last_used = now;
        up.round_trip = Some(round_trip);
        self.left(1);
        self.common.counters.record_latency(round_trip);
        self.throttle(&response, now);
        let mut hints = LeaderHints::default();
        let result = self.distribute(&mut request, response, &mut hints, now);
        if !hints.leaders.is_empty() {
            self.actions.push_back(Action::Hint(hints));
        }
        // Batches that the answer does not name have no answer: they are sent again, and the connection is closed.
        let mut unnamed = None;
        for in_request in request.batches.drain(..) {
            if let Some(batch) = in_request.batch {
                let text = format!("the answer does not name partition {}-{}", in_request.topic, in_request.index);
                let error = self.at_this_broker(Error::misbehaved(text));
                self.unanswered(in_request.id, batch, &error, Written::Maybe, now);
                unnamed = Some(error);
            }
        }
        self.spare_batches = request.batches;
        self.log_summary.log();
        match unnamed {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// The correlation id and the version of the oldest request.
    fn first_in_flight(&self) -> Option<(i32, i16)> {
        self.up()?.in_flight.front().map(|request| (request.correlation, request.version))
    }

    fn throttle(&mut self, response: &ProduceResponse, now: Instant) {
        let Ok(ms) = u64::try_from(response.throttle_time_ms) else { return };
        if ms > 0 {
            let pause = Duration::from_millis(ms).min(MAX_THROTTLE);
            debug!("broker {}: throttled for {pause:?}", self.broker);
            add(&self.common.counters.throttled_ms, ms);
            if let Some(up) = self.up_mut() {
                up.muted_until = Some(now + pause);
            }
        }
    }

    pub(super) fn distribute(
        &mut self,
        request: &mut InFlight,
        response: ProduceResponse,
        hints: &mut LeaderHints,
        now: Instant,
    ) -> Result<()> {
        let by_id = request.version >= PRODUCE_BY_TOPIC_ID;
        hints.addresses.extend(response.node_endpoints.into_iter().filter_map(|endpoint| {
            let port = u16::try_from(endpoint.port).ok().filter(|port| *port != 0)?;
            Some((BrokerId(endpoint.node_id), HostPort::new(endpoint.host, port)))
        }));
        // The next position is tried first. But brokers collect the partitions of an answer in hash maps, so their
        // order can be any, and with thousands of partitions a linear search for each would take long.
        let mut position = 0_usize;
        let mut sorted: Option<Vec<usize>> = None;
        for topic in response.responses {
            for answer in topic.partition_responses {
                let is_it = |in_request: &BatchInRequest| {
                    let same =
                        if by_id { in_request.topic_id == topic.topic_id } else { *in_request.topic == *topic.name };
                    same && in_request.index == answer.index && in_request.batch.is_some()
                };
                if !request.batches.get(position).is_some_and(is_it) {
                    let sorted = sorted.get_or_insert_with(|| sorted_positions(&request.batches, by_id));
                    let wanted = if by_id {
                        (topic.topic_id, "", answer.index)
                    } else {
                        (Uuid::default(), &*topic.name, answer.index)
                    };
                    let found = sorted
                        .binary_search_by(|position| {
                            request.batches.get(*position).map(|in_request| in_request.key(by_id)).cmp(&Some(wanted))
                        })
                        .ok()
                        .and_then(|at| sorted.get(at).copied())
                        .filter(|found| request.batches.get(*found).is_some_and(is_it));
                    let Some(found) = found else {
                        let text =
                            format!("the answer names partition {}-{}, which was not asked", topic.name, answer.index);
                        return Err(self.at_this_broker(Error::misbehaved(text)));
                    };
                    position = found;
                }
                let Some(in_request) = request.batches.get_mut(position) else { continue };
                position += 1;
                let Some(batch) = in_request.batch.take() else { continue };
                let leader = &answer.current_leader;
                if leader.leader_id >= 0 && leader.leader_epoch >= 0 {
                    hints.leaders.push(LeaderHint {
                        topic: Arc::clone(&in_request.topic),
                        topic_id: in_request.topic_id,
                        partition: in_request.index,
                        leader: BrokerId(leader.leader_id),
                        epoch: leader.leader_epoch,
                    });
                }
                self.conclude(in_request.id, batch, &answer, now);
            }
        }
        Ok(())
    }

    /// Does what the answer requires for a batch.
    pub(super) fn conclude(
        &mut self,
        id: PartitionId,
        mut batch: Box<Batch>,
        answer: &PartitionProduceResponse,
        now: Instant,
    ) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        queue.came_back();
        let code = ErrorCode(answer.error_code);
        let facts = BatchFacts {
            code,
            idempotent: self.rules.idempotent,
            transactional: self.rules.transactional_id.is_some(),
            count: batch.count(),
            is_due: queue.is_due(&batch),
            attempts: batch.attempts,
            retries: self.rules.retries,
        };
        let verdict = batch_verdict(facts);
        if verdict == BatchVerdict::Acknowledge {
            if let Some(over) = queue.acknowledged(&batch, &self.common.obstacles, now) {
                self.log_summary.recovered(queue.name(), over);
            }
            let base_offset = if code.is_none() { answer.base_offset } else { -1 };
            if !code.is_none() || base_offset < 0 {
                add(&self.common.counters.duplicates_recognised, 1);
            }
            // A broker that recognises a batch answers with the batch's own timestamp as the append time, whatever the
            // topic's timestamp type is.
            let recognised = batch.attempts > 1 && answer.log_append_time_ms == batch.max_timestamp();
            let log_append_time = if recognised { -1 } else { answer.log_append_time_ms };
            self.acknowledged(batch, base_offset, log_append_time, true);
        } else {
            add(&self.common.counters.error_answers, 1);
            let name = queue.name().clone();
            let own = answer.error_message.as_deref().filter(|text| !text.is_empty());
            let said = own.unwrap_or(code.meaning());
            let advised = match code {
                ErrorCode::MESSAGE_TOO_LARGE => {
                    let limits = "the topic's max.message.bytes, or the broker's message.max.bytes";
                    Some(format!("{} bytes are over {limits}: {said}", batch.len()))
                }
                _ => advice(code, self.rules.idempotent).map(|advice| format!("{said}; {advice}")),
            };
            let error = self.at_this_broker(refusal(code, advised.as_deref().or(own))).at_partition(&name);
            batch.maybe_written |= error.written() == Some(Written::Maybe);
            debug!("{error}: {verdict:?}");
            if code.refreshes_metadata() {
                self.actions.push_back(Action::RefreshMetadata);
            }
            self.apply_verdict(id, batch, verdict, error, answer, now);
        }
        self.attend_to(id);
    }

    pub(super) fn apply_verdict(
        &mut self,
        id: PartitionId,
        mut batch: Box<Batch>,
        verdict: BatchVerdict,
        error: Error,
        answer: &PartitionProduceResponse,
        now: Instant,
    ) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        if verdict != BatchVerdict::Wait {
            // A batch that has to wait for earlier ones has no error of its own.
            batch.last_error = Some(error.clone());
        }
        if batch.is_finished() {
            // It expired while it was in flight: its records have their result, and only its sequence numbers are still
            // to be resolved.
            return queue.give_up(&batch, &self.common.obstacles);
        }
        match verdict {
            BatchVerdict::Acknowledge => {}
            BatchVerdict::Retry => self.retry(id, batch, &error, now),
            BatchVerdict::Wait => queue.wait_for_earlier(batch),
            BatchVerdict::NewEpoch => {
                info!("{error:#}: the partition goes on under a new epoch");
                queue.numbers_are_forgotten(&batch);
                // With a back-off, so that a broker which refuses every epoch is not asked without a pause.
                self.retry(id, batch, &error, now);
            }
            BatchVerdict::Split => {
                let (limit, is_new) = queue.learn_limit(&batch, now);
                if is_new {
                    info!("{error:#}: from now on the partition's batches have at most {limit} bytes, uncompressed");
                }
                queue.split(batch, limit, &self.common);
            }
            BatchVerdict::Fail | BatchVerdict::FailProducer => {
                if verdict == BatchVerdict::FailProducer {
                    self.common.identity.refuse(error.clone());
                }
                let (error, records) = record_errors(error, answer, batch.count());
                queue.fail_with_records(batch, error, records, &self.common);
            }
        }
    }

    /// Has the batch sent again, after a back-off.
    fn retry(&mut self, id: PartitionId, batch: Box<Batch>, error: &Error, now: Instant) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        let then = now + self.rules.retry_backoff.after(batch.attempts, &mut self.random);
        let level = queue.retry_at(batch, then, error, &self.common.obstacles, now);
        self.log_summary.set_back(queue.name(), error, level);
    }

    /// A batch came back without an answer.
    pub(super) fn unanswered(
        &mut self,
        id: PartitionId,
        mut batch: Box<Batch>,
        error: &Error,
        written: Written,
        now: Instant,
    ) {
        let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { return };
        queue.came_back();
        batch.maybe_written |= written == Written::Maybe;
        let error = error.clone().with_written(written);
        batch.last_error = Some(error.clone());
        if batch.is_finished() {
            queue.give_up(&batch, &self.common.obstacles);
        } else if batch.attempts > self.rules.retries {
            queue.fail(batch, error, &self.common);
        } else {
            self.retry(id, batch, &error, now);
        }
        self.attend_to(id);
    }

    pub(super) fn acknowledged(
        &mut self,
        mut batch: Box<Batch>,
        base_offset: i64,
        log_append_time: i64,
        acknowledged: bool,
    ) {
        let counters = &self.common.counters;
        if !batch.is_finished() {
            add(&counters.records_acknowledged, u64::from(batch.count()));
            add(&counters.bytes_acknowledged, batch.len() as u64);
            add(&counters.uncompressed_bytes, batch.uncompressed_len() as u64);
        }
        // The memory is released first, so that a thread which is woken finds it free.
        batch.release(&self.common.budget);
        batch.finish(Outcome::Acknowledged { base_offset, log_append_time, acknowledged });
    }

    pub(super) fn enter(&mut self, request: InFlight) {
        add(&self.common.counters.requests_in_flight, 1);
        if let Some(up) = self.up_mut() {
            up.enter(request);
        }
    }

    fn left(&self, requests: usize) {
        self.common.counters.requests_in_flight.fetch_sub(requests as u64, Ordering::Relaxed);
    }

    /// The requests that were in flight on a connection that has ended.
    pub(super) fn left_on(&self, connection: ConnectionState) -> VecDeque<InFlight> {
        let ConnectionState::Up(up) = connection else { return VecDeque::new() };
        self.left(up.in_flight.len());
        up.in_flight
    }
}

/// The positions of `batches`, sorted by key.
pub(super) fn sorted_positions(batches: &[BatchInRequest], by_id: bool) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..batches.len()).collect();
    positions.sort_unstable_by_key(|position| batches.get(*position).map(|in_request| in_request.key(by_id)));
    positions
}

/// The errors of single records (KIP-467): those of the records that the broker names as the cause, and the error of
/// all others.
pub(super) fn record_errors(error: Error, answer: &PartitionProduceResponse, count: u32) -> (Error, Vec<(u32, Error)>) {
    let named: Vec<(u32, Error)> = answer
        .record_errors
        .iter()
        .filter_map(|fault| {
            let index = u32::try_from(fault.batch_index).ok().filter(|index| *index < count)?;
            let text = fault.batch_index_error_message.as_deref().or(answer.error_message.as_deref());
            let code = ErrorCode(answer.error_code);
            let own = refusal(code, text).in_context(|context| *context = error.context().clone());
            Some((index, own))
        })
        .collect();
    if named.is_empty() {
        return (error, named);
    }
    let text =
        "the broker refused another record of the same batch; nothing is wrong with this one, which can be sent again";
    let beside = Error::new(error.kind(), Recovery::Retry, text)
        .in_context(|context| *context = error.context().clone())
        .with_source(error);
    (beside, named)
}

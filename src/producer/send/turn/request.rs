//! Building the next request: which partitions have a batch for it, and its bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hold::Hold;
use super::{Action, BatchInRequest, ConnectionState, InFlight, PRODUCE_BY_TOPIC_ID, Scheduled, Turn};
use crate::error::{Error, ErrorKind, Recovery};
use crate::logging::trace;
use crate::producer::buffer::partition::PartitionId;
use crate::producer::metrics::add;
use crate::producer::send::queue::Readiness;
use crate::protocol::header::encode_request;
use crate::protocol::messages::ProduceRequest;
use crate::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::protocol::wire::Records;
use crate::record::Compression;
use crate::time::wire_ms;

/// The first Produce version that takes zstd (KIP-110).
const PRODUCE_WITH_ZSTD: i16 = 7;
impl Turn {
    /// Builds the next request, if one can be sent now. Its bytes are [`parts`](Self::parts).
    pub(crate) fn next_request(&mut self, now: Instant) -> bool {
        let built = !self.ready.is_empty() && self.build(now);
        self.look_at_fresh();
        built
    }

    pub(super) fn build(&mut self, now: Instant) -> bool {
        if self.common.identity.is_refusing() && self.refuse_listed(now) {
            return false;
        }
        let version = match &self.connection {
            ConnectionState::Down { .. } => {
                self.connect_if_needed(now);
                return false;
            }
            ConnectionState::Connecting { .. } => return false,
            ConnectionState::Up(up) if up.leaving => {
                self.leave_if_answered();
                return false;
            }
            ConnectionState::Up(up) if up.muted_until.is_some_and(|until| until > now) => return false,
            ConnectionState::Up(up) if up.in_flight.len() >= self.rules.max_in_flight => return false,
            ConnectionState::Up(up) => up.version,
        };
        let version = version.min(self.common.identity.produce_limit());
        let hold = self.hold(now);
        if hold == Hold::All {
            return false;
        }
        let mut built = false;
        // A partition whose batch could not be encoded is listed again, so that its next batch is tried.
        while !built && !self.ready.is_empty() {
            let batches = self.gather(version, hold, now);
            if batches.is_empty() {
                self.spare_batches = batches;
            } else {
                built = self.encode(batches, version, now);
            }
        }
        self.ready.extend(self.held.drain(..));
        built
    }

    /// The pieces of the request that was built last, in their order: frame, batch, frame, batch, ..., frame.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let batches = self.last_request().map(|request| request.batches.as_slice()).unwrap_or_default();
        let batches =
            batches.iter().filter_map(|in_request| in_request.batch.as_ref()).map(|batch| Some(batch.bytes()));
        let batches = batches.chain(std::iter::once(None));
        self.frame.segments().zip(batches).flat_map(|(segment, batch)| std::iter::once(segment).chain(batch))
    }

    /// How many bytes [`parts`](Self::parts) has.
    pub(crate) fn request_len(&self) -> usize {
        self.frame.total_len()
    }

    /// The correlation id and deadline of the request that was built last.
    pub(crate) fn built_request(&self) -> Option<(i32, Instant)> {
        self.last_request().map(|request| (request.correlation, request.deadline))
    }

    fn last_request(&self) -> Option<&InFlight> {
        self.up()?.in_flight.back()
    }

    /// Looks at partitions that got a notice and were not looked at while a request was built: from now on their
    /// batches expire on time. Those without a batch are marked so, or their next record would give no notice.
    pub(super) fn look_at_fresh(&mut self) {
        for position in 0..self.fresh.len() {
            let Some(&id) = self.fresh.get(position) else { break };
            if let Some(scheduled) = self.queues.get(&id).filter(|scheduled| scheduled.listed) {
                scheduled.queue.partition().rest();
                self.watch(id);
            }
        }
        self.fresh.clear();
    }

    /// Asks for a connection if a partition that this broker leads has something to send. Partitions without batches
    /// are taken off the list, and those that another broker leads are moved to it.
    pub(super) fn connect_if_needed(&mut self, now: Instant) {
        let ConnectionState::Down { failures, not_before, why } = &self.connection else { return };
        let (failures, why) = (*failures, why.clone());
        if not_before.is_some_and(|then| then > now) {
            if let Some(error) = why.filter(Error::is_final) {
                self.fail_listed(&error, now);
            }
            return;
        }
        let (mut needed, mut leaderless) = (false, false);
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(Scheduled { queue, listed, .. }) = self.queues.get_mut(&id) else { continue };
            *listed = false;
            match queue.leader() {
                Some(leader) if leader != self.broker => {
                    if !self.move_if_led_elsewhere(id) {
                        self.watch(id);
                    }
                    continue;
                }
                leader => {
                    if !queue.is_idle() {
                        if leader.is_some() {
                            if let Some(error) = &why {
                                queue.note_error(error, &self.common.obstacles);
                            }
                            needed = true;
                            self.list(id);
                            continue;
                        }
                        // The partition is looked at again when there is new metadata.
                        queue.meets_obstacle(&self.common.obstacles);
                        leaderless = true;
                    }
                    self.watch(id);
                }
            }
        }
        if needed {
            self.connection = ConnectionState::Connecting { failures, why, leaving: false };
            self.actions.push_back(Action::Connect);
        }
        if leaderless {
            self.actions.push_back(Action::RefreshMetadata);
        }
    }

    /// Fails the batches of the listed partitions that this broker leads: nothing can be sent to it until the broker
    /// itself changes.
    pub(super) fn fail_listed(&mut self, error: &Error, now: Instant) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(Scheduled { queue, listed, .. }) = self.queues.get_mut(&id) else { continue };
            if queue.leader() == Some(self.broker) {
                *listed = false;
                self.fail_queue(id, error, now);
            } else {
                self.ready.push_back(id);
            }
        }
    }

    /// If the transaction is over, fails all batches of the listed partitions that are not in flight.
    pub(super) fn refuse_listed(&mut self, now: Instant) -> bool {
        let (ready, queues) = (&mut self.ready, &mut self.queues);
        // When the first batch fails, the program may end the transaction and begin the next one, whose batches must
        // not fail. So all batches are taken while the gate is locked, and fail only afterwards.
        let refused = self.common.identity.while_refusing(|| {
            let mut taken = Vec::with_capacity(ready.len());
            for id in ready.drain(..) {
                let Some(Scheduled { queue, listed, .. }) = queues.get_mut(&id) else { continue };
                *listed = false;
                taken.push((id, queue.take_all()));
            }
            taken
        });
        let Some((error, taken)) = refused else { return false };
        for (id, batches) in taken {
            let Some(Scheduled { queue, .. }) = self.queues.get_mut(&id) else { continue };
            // Later records must be told of.
            let again = queue.fail_taken(batches, &error, &self.common).then_some(now);
            self.watch_until(id, again);
        }
        true
    }

    /// Takes one batch of every partition that is ready, as far as the request has room.
    pub(super) fn gather(&mut self, version: i16, hold: Hold, now: Instant) -> Vec<BatchInRequest> {
        let mut batches = std::mem::take(&mut self.spare_batches);
        let mut size = 0_usize;
        let hurry = self.common.budget.is_exhausted();
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(Scheduled { queue, listed, .. }) = self.queues.get_mut(&id) else { continue };
            *listed = false;
            match queue.readiness(now, self.broker, self.rules.overlap(), hurry, &self.common) {
                Readiness::Ready if hold == Hold::Partial && !hurry && !queue.has_sealed() => {
                    *listed = true;
                    self.held.push(id);
                }
                Readiness::Ready => {
                    if !batches.is_empty() && size.saturating_add(queue.head_len()) > self.rules.max_request_size {
                        self.ready.push_front(id);
                        *listed = true;
                        break;
                    }
                    if let Some(in_request) = self.take(id, version) {
                        size = size.saturating_add(in_request.batch.as_ref().map_or(0, |batch| batch.len()));
                        batches.push(in_request);
                    }
                    if size >= self.rules.max_request_size {
                        break;
                    }
                }
                Readiness::At(then) => self.watch_until(id, Some(then)),
                Readiness::Blocked | Readiness::Empty => self.watch(id),
                Readiness::Leaderless => {
                    queue.meets_obstacle(&self.common.obstacles);
                    self.actions.push_back(Action::RefreshMetadata);
                    self.watch(id);
                }
                Readiness::Move(leader) => self.hand_over(id, leader),
                Readiness::Purged => self.purge_waiting(id),
                Readiness::Refused(error) => self.fail_queue(id, &error, now),
            }
        }
        batches
    }

    /// Takes, compresses and numbers the next batch of a partition.
    pub(super) fn take(&mut self, id: PartitionId, version: i16) -> Option<BatchInRequest> {
        let Scheduled { queue, .. } = self.queues.get_mut(&id)?;
        let mut batch = queue.take()?;
        let sealed = if batch.is_purged() {
            // The purge has sealed it after the queue's readiness was looked at.
            Err(Error::new(ErrorKind::Purged, Recovery::Retry, "the record was purged before it was acknowledged"))
        } else if matches!(self.rules.compression, Compression::Zstd(_)) && version < PRODUCE_WITH_ZSTD {
            let text =
                "the broker does not know zstd, which came with Kafka 2.1 (Produce version 7); see `compression`";
            Err(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text))
        } else {
            batch.seal(&mut self.compressor)
        };
        let in_request = match sealed {
            Err(error) => {
                let error = error.at_broker(self.broker);
                let error = error.in_context(|context| context.address.clone_from(&self.address));
                queue.fail(batch, error, &self.common);
                None
            }
            Ok(()) => match queue.is_over(&batch) {
                // The broker would refuse it, so it is split before it is sent.
                Some(limit) => {
                    queue.split(batch, limit, &self.common);
                    None
                }
                None => {
                    queue.sent(&mut batch, self.rules.transactional_id.is_some(), &self.common.counters);
                    let name = queue.name();
                    let (topic, index) = (Arc::clone(&name.topic), name.index);
                    Some(BatchInRequest { id, topic, topic_id: queue.topic_id(), index, batch: Some(batch) })
                }
            },
        };
        // The partition is looked at again, for its next batch.
        self.list(id);
        self.watch(id);
        in_request
    }

    pub(super) fn encode(&mut self, mut batches: Vec<BatchInRequest>, version: i16, now: Instant) -> bool {
        let by_id = batches.iter().all(|in_request| !in_request.topic_id.is_zero());
        let version = if by_id { version } else { version.min(PRODUCE_BY_TOPIC_ID - 1) };
        if batches.first().is_some_and(|first| batches.iter().any(|in_request| in_request.topic != first.topic)) {
            batches.sort_by(|a, b| a.topic.cmp(&b.topic));
        }
        let mut topic_data = std::mem::take(&mut self.spare_topics);
        let mut spare = topic_data.pop().map(|topic| topic.partition_data).unwrap_or_default();
        topic_data.clear();
        spare.clear();
        let (mut current, mut expires): (Option<&Arc<str>>, Option<Instant>) = (None, None);
        for in_request in &batches {
            let deadline = in_request.batch.as_ref().map(|batch| batch.deadline());
            expires = [expires, deadline].into_iter().flatten().min();
            let data = PartitionProduceData {
                index: in_request.index,
                records: Records::Spliced(in_request.batch.as_ref().map_or(0, |batch| batch.len())),
            };
            if let Some(topic) = topic_data.last_mut().filter(|_| current == Some(&in_request.topic)) {
                topic.partition_data.push(data);
            } else {
                let by_name = version < PRODUCE_BY_TOPIC_ID;
                let mut partition_data = std::mem::take(&mut spare);
                partition_data.push(data);
                topic_data.push(TopicProduceData {
                    name: if by_name { in_request.topic.to_string() } else { String::new() },
                    topic_id: in_request.topic_id,
                    partition_data,
                });
                current = Some(&in_request.topic);
            }
        }
        let request = ProduceRequest {
            transactional_id: self.rules.transactional_id.as_deref().map(str::to_owned),
            acks: self.rules.acks,
            // 0 would mean that the broker does not wait at all.
            timeout_ms: wire_ms(broker_timeout(self.rules.request_timeout)).max(1),
            topic_data,
        };
        let Some(up) = self.up_mut() else { return false };
        let correlation = up.next_correlation;
        up.next_correlation = up.next_correlation.checked_add(1).unwrap_or(0);
        let client_id = self.rules.client_id.as_deref();
        let encoded = encode_request(&mut self.frame, &request, version, correlation, client_id);
        self.spare_topics = request.topic_data;
        let deadline = crate::time::deadline(now, self.rules.request_timeout);
        if let Err(error) = encoded {
            // This takes a fault of this crate, or lengths that no setting allows. The batches fail, because another
            // attempt would fail, too.
            for in_request in batches {
                if let (Some(batch), Some(Scheduled { queue, .. })) =
                    (in_request.batch, self.queues.get_mut(&in_request.id))
                {
                    queue.came_back();
                    queue.fail(batch, error.clone(), &self.common);
                }
                self.list(in_request.id);
            }
            return false;
        }
        trace!("broker {}: request {correlation} with {} batches", self.broker, batches.len());
        add(&self.common.counters.requests_sent, 1);
        add(&self.common.counters.request_bytes, self.frame.total_len() as u64);
        let expiring = Vec::new();
        self.enter(InFlight { correlation, version, sent: now, deadline, written: false, batches, expires, expiring });
        true
    }
}

/// How long a broker may wait for its replicas: a little less than the client waits for the broker, so that the
/// broker's error comes before the client's own time-out, which says less.
pub(super) fn broker_timeout(request_timeout: Duration) -> Duration {
    request_timeout - (request_timeout / 10).min(Duration::from_millis(500))
}

//! Topics: creating, deleting, describing and listing them, and adding partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::brokers::{Brokers, Place};
use super::items::{Answers, ItemCall, Items, Outcome, Routes, Said, to_one};
use super::routes::{check_topic, checked};
use super::topic_values::{
    CreatedTopic, NewPartitions, NewTopic, PartitionDescription, TopicDescription, TopicId, TopicListing,
};
use super::{Admin, Results, ValidateOnly};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result};
use crate::protocol::messages::create_partitions::{CreatePartitionsAssignment, CreatePartitionsTopic};
use crate::protocol::messages::delete_topics::DeleteTopicState;
use crate::protocol::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use crate::protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, MetadataRequest,
};
use crate::protocol::wire::Uuid;
use crate::time::wire_ms;
use crate::topic::{BrokerId, TopicPartition};

/// Topics.
impl Admin {
    /// Creates topics. It may take moments until every broker knows them, which the other calls of this client bear. Java: `createTopics`.
    ///
    /// *Blocks* until the controller has created them, at most for `api_timeout`.
    ///
    /// *Errors*, for each topic: `Broker` with `TOPIC_ALREADY_EXISTS`, `INVALID_REPLICATION_FACTOR`, `INVALID_CONFIG`,
    /// `POLICY_VIOLATION`, `TOPIC_AUTHORIZATION_FAILED` (without the right `CREATE`) and others; `InvalidInput` for what no
    /// broker would take, and for all topics of a name that is there twice; `UnsupportedVersion` where the broker is too old
    /// for a default; `Timeout(Api)`, with the last cause. Where an answer was lost and the topic is there then, with the
    /// partitions and replicas that were wanted, it counts as created; Java tells `TopicExistsException`.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Results<String, CreatedTopic> {
        self.create(topics, false)
    }

    fn create(&self, topics: impl IntoIterator<Item = NewTopic>, validate_only: bool) -> Results<String, CreatedTopic> {
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), topic));
        let (wanted, mut results) =
            gather(topics, |name| Error::invalid(TWICE).at_topic(name), |_, topic| topic.check());
        let mut attempts = self.attempts();
        let outcomes = attempts.run(&self.brokers, &CreateTopics { validate_only }, wanted.clone());
        let deadline = attempts.deadline;
        let there = self.look_at(&outcomes, ErrorCode::TOPIC_ALREADY_EXISTS, deadline);
        for (name, Outcome { result, .. }) in outcomes {
            let done = there.get(&name).and_then(Option::as_ref).zip(wanted.get(&name));
            let result = match (result, done) {
                (Err(_), Some((there, wanted))) if wanted.is(there) => Ok(created(there)),
                (Err(error), Some(_)) => Err(error.with_hint(
                    "an earlier attempt had no answer, but the topic that is there has not the partitions that were wanted",
                )),
                (result, _) => result,
            };
            if result.is_ok() && !validate_only {
                self.brokers.has_made(&name);
            }
            results.insert(name, result);
        }
        Results::new(results)
    }

    /// The topics that an attempt without an answer may have changed, as they are now: those for which a later attempt was
    /// told that it came too late.
    fn look_at<T>(
        &self,
        outcomes: &BTreeMap<String, Outcome<T>>,
        too_late: ErrorCode,
        deadline: Instant,
    ) -> BTreeMap<String, Option<TopicDescription>> {
        let is_late = |outcome: &Outcome<T>| {
            outcome.in_doubt && outcome.result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Broker(too_late))
        };
        let doubted: BTreeSet<&str> =
            outcomes.iter().filter(|(_, outcome)| is_late(outcome)).map(|(name, _)| name.as_str()).collect();
        if doubted.is_empty() {
            return BTreeMap::new();
        }
        match self.brokers.metadata(&MetadataRequest::named(doubted, false), deadline) {
            Ok(response) => response
                .topics
                .into_iter()
                .filter_map(|topic| Some((topic.name.clone()?, described(topic).ok())))
                .collect(),
            // Then the errors are told as they are.
            Err(_) => BTreeMap::new(),
        }
    }

    /// Deletes topics by their names. It may take moments until no broker knows them any more. Java: `deleteTopics`.
    ///
    /// *Blocks* until the controller has deleted them, at most for `api_timeout`.
    ///
    /// *Errors*, for each topic: `Broker` with `UNKNOWN_TOPIC_OR_PARTITION`, unless an earlier attempt had no answer;
    /// `TOPIC_AUTHORIZATION_FAILED` (without the right `DELETE`), `TOPIC_DELETION_DISABLED` and others; `InvalidInput` for a
    /// name that no topic can have; `Timeout(Api)`, with the last cause.
    pub fn delete_topics<S: Into<String>>(&self, topics: impl IntoIterator<Item = S>) -> Results<String, ()> {
        let topics = topics.into_iter().map(|name| (name.into(), ()));
        let (wanted, results) = gather_same(topics, |name, ()| check_topic(name));
        let outcomes = self.attempts().run(&self.brokers, &DeleteByName, wanted);
        outcomes.keys().for_each(|name| self.brokers.has_deleted(Some(name)));
        gone(outcomes, results, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// Deletes topics by their ids: not one that was made anew under the same name meanwhile. From Kafka 2.8 on. Java:
    /// `deleteTopics` with `TopicCollection.ofTopicIds`.
    ///
    /// *Blocks* until the controller has deleted them, at most for `api_timeout`.
    ///
    /// *Errors*, for each topic: as [`delete_topics`](Self::delete_topics), with `UNKNOWN_TOPIC_ID`; `UnsupportedVersion`
    /// where the broker is too old.
    pub fn delete_topics_by_id(&self, ids: impl IntoIterator<Item = TopicId>) -> Results<TopicId, ()> {
        let (wanted, results) = gather_same(ids.into_iter().map(|id| (id, ())), |_, ()| Ok(()));
        let outcomes = self.attempts().run(&self.brokers, &DeleteById, wanted);
        self.brokers.has_deleted(None);
        gone(outcomes, results, ErrorCode::UNKNOWN_TOPIC_ID)
    }

    /// Describes topics: their partitions, leaders and replicas. Topics that are missing are not created. Java:
    /// `describeTopics`.
    ///
    /// *Blocks* until a broker has answered, at most for `api_timeout`.
    ///
    /// *Errors*, for each topic: `Broker` with `UNKNOWN_TOPIC_OR_PARTITION`, at once, unless this client has created it within
    /// the last five seconds, for brokers learn of it one after the other; `TOPIC_AUTHORIZATION_FAILED` (without the right `DESCRIBE`); `InvalidInput` for a name
    /// that no topic can have; `Timeout(Api)`, with the last cause.
    pub fn describe_topics<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Results<String, TopicDescription> {
        let topics = topics.into_iter().map(|name| (name.into(), ()));
        let (wanted, mut results) = gather_same(topics, |name, ()| check_topic(name));
        let outcomes = self.attempts().run(&self.brokers, &DescribeTopics, wanted);
        results.extend(outcomes.into_iter().map(|(name, outcome)| (name, outcome.result.and_then(described))));
        Results::new(results)
    }

    /// All topics that the client may see, Kafka's own included, in the order of their names. Java: `listTopics`.
    ///
    /// *Blocks* until a broker has answered, at most for `api_timeout`. *Errors*: `Timeout(Api)`, with the last cause.
    pub fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let response =
            self.attempts().until_it_works(|deadline| self.brokers.metadata(&MetadataRequest::all(), deadline))?;
        let listing = |topic: MetadataResponseTopic| {
            let listing = |name| TopicListing { name, id: TopicId::of(topic.topic_id), is_internal: topic.is_internal };
            topic.name.map(listing)
        };
        let mut topics: Vec<TopicListing> = response.topics.into_iter().filter_map(listing).collect();
        topics.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// Adds partitions to topics. Records that are there stay where they are, so keys may be in other partitions from then on.
    /// From Kafka 1.0 on. Java: `createPartitions`.
    ///
    /// *Blocks* until the controller has added them, at most for `api_timeout`.
    ///
    /// *Errors*, for each topic: `Broker` with `INVALID_PARTITIONS` where it has as many or more,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, `INVALID_REPLICA_ASSIGNMENT`, `REASSIGNMENT_IN_PROGRESS`,
    /// `TOPIC_AUTHORIZATION_FAILED` (without the right `ALTER`) and others; `InvalidInput`; `UnsupportedVersion`;
    /// `Timeout(Api)`, with the last cause. Where an answer was lost and the topic has as many partitions then as were wanted,
    /// they count as added.
    pub fn create_partitions<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = (S, NewPartitions)>,
    ) -> Results<String, ()> {
        self.add_partitions(topics, false)
    }

    fn add_partitions<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = (S, NewPartitions)>,
        validate_only: bool,
    ) -> Results<String, ()> {
        let topics = topics.into_iter().map(|(name, partitions)| (name.into(), partitions));
        let (wanted, mut results) =
            gather(topics, |name| Error::invalid(TWICE).at_topic(name), |name, _| check_topic(name));
        let mut attempts = self.attempts();
        let outcomes = attempts.run(&self.brokers, &CreatePartitions { validate_only }, wanted.clone());
        let there = self.look_at(&outcomes, ErrorCode::INVALID_PARTITIONS, attempts.deadline);
        for (name, Outcome { result, .. }) in outcomes {
            let there = there.get(&name).and_then(Option::as_ref).map(|there| there.partitions.len());
            let wanted = wanted.get(&name).and_then(|wanted| usize::try_from(wanted.total).ok());
            let is_done = there.is_some() && there == wanted;
            results.insert(name, if is_done { Ok(()) } else { result });
        }
        Results::new(results)
    }
}

/// Topics.
impl ValidateOnly<'_> {
    /// Whether [`Admin::create_topics`] would create these. *Blocks* and *Errors* as there.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> Results<String, CreatedTopic> {
        self.admin.create(topics, true)
    }

    /// Whether [`Admin::create_partitions`] would add these. *Blocks* and *Errors* as there.
    pub fn create_partitions<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = (S, NewPartitions)>,
    ) -> Results<String, ()> {
        self.admin.add_partitions(topics, true)
    }
}

const TWICE: &str = "it is there twice in one call";

/// What is to be asked for, and what is wrong before.
type Gathered<K, W, T> = (BTreeMap<K, W>, BTreeMap<K, Result<T>>);

/// The items of a call. One that is there twice is an error, for nobody can say which is meant.
pub(super) fn gather<K: Ord + Clone, W, T>(
    items: impl IntoIterator<Item = (K, W)>,
    twice: impl Fn(&K) -> Error,
    check: impl Fn(&K, &W) -> Result<()>,
) -> Gathered<K, W, T> {
    let (mut wanted, mut results) = (BTreeMap::new(), BTreeMap::new());
    for (item, want) in items {
        if results.contains_key(&item) {
            continue;
        }
        if let Err(error) = check(&item, &want) {
            results.insert(item, Err(error));
        } else if wanted.insert(item.clone(), want).is_some() {
            wanted.remove(&item);
            results.insert(item.clone(), Err(twice(&item)));
        }
    }
    (wanted, results)
}

/// [`gather`] where an item that is there twice says the same twice.
pub(super) fn gather_same<K: Ord + Clone, W, T>(
    items: impl IntoIterator<Item = (K, W)>,
    check: impl Fn(&K, &W) -> Result<()>,
) -> Gathered<K, W, T> {
    let items: BTreeMap<K, W> = items.into_iter().collect();
    gather(items, |_| Error::bug("an item is there twice"), check)
}

/// The results of a deletion: what an earlier attempt may have deleted is gone now.
fn gone<K: Ord>(
    outcomes: BTreeMap<K, Outcome<()>>,
    mut results: BTreeMap<K, Result<()>>,
    missing: ErrorCode,
) -> Results<K, ()> {
    for (item, Outcome { result, in_doubt }) in outcomes {
        let result = match result {
            Err(error) if in_doubt && error.kind() == ErrorKind::Broker(missing) => Ok(()),
            result => result,
        };
        results.insert(item, result);
    }
    Results::new(results)
}

fn created(there: &TopicDescription) -> CreatedTopic {
    CreatedTopic {
        id: there.id,
        partitions: i32::try_from(there.partitions.len()).ok(),
        replication: there.partitions.first().and_then(|partition| i16::try_from(partition.replicas.len()).ok()),
    }
}

fn described(topic: MetadataResponseTopic) -> Result<TopicDescription> {
    let name = topic.name.unwrap_or_default();
    let shared: Arc<str> = name.as_str().into();
    checked(topic.error_code, None).map_err(|error| error.at_topic(&name))?;
    let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
    let partition = |partition: MetadataResponsePartition| PartitionDescription {
        partition: TopicPartition::new(Arc::clone(&shared), partition.partition_index),
        leader: (partition.leader_id >= 0).then_some(BrokerId(partition.leader_id)),
        leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
        replicas: brokers(partition.replica_nodes),
        in_sync_replicas: brokers(partition.isr_nodes),
        offline_replicas: brokers(partition.offline_replicas),
    };
    let mut partitions: Vec<PartitionDescription> = topic.partitions.into_iter().map(partition).collect();
    partitions.sort_by_key(|partition| partition.partition.index);
    Ok(TopicDescription { id: TopicId::of(topic.topic_id), is_internal: topic.is_internal, partitions, name })
}

/// The error of a request whose version lacks something.
pub(super) fn too_old(text: &'static str) -> Error {
    Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text)
}

struct CreateTopics {
    validate_only: bool,
}

impl ItemCall for CreateTopics {
    type Key = String;
    type Wanted = NewTopic;
    type Answer = CreatedTopic;
    type Request = CreateTopicsRequest;

    fn changes(&self) -> bool {
        !self.validate_only
    }

    fn fault(&self, _: &String, topic: &NewTopic, version: i16) -> Option<Error> {
        let takes_defaults =
            topic.assignments.is_empty() && (topic.partitions.is_none() || topic.replication.is_none());
        (version < 4 && takes_defaults).then(|| {
            too_old("brokers before Kafka 2.4 have no defaults for partitions and replicas (KIP-464): set both numbers")
        })
    }

    fn request(&self, items: &Items<'_, String, NewTopic>, _: i16, time: Duration) -> CreateTopicsRequest {
        let topics = items.values().map(|topic| topic.to_wire()).collect();
        CreateTopicsRequest { topics, timeout_ms: wire_ms(time), validate_only: self.validate_only }
    }

    fn answers(&self, response: CreateTopicsResponse) -> Answers<String, CreatedTopic> {
        let items = response.topics.into_iter().map(|topic| Said {
            item: topic.name,
            code: topic.error_code,
            message: topic.error_message,
            answer: CreatedTopic {
                // Who only checks is told an id as well, which no topic gets.
                id: TopicId::of(topic.topic_id).filter(|_| !self.validate_only),
                partitions: (topic.num_partitions >= 0).then_some(topic.num_partitions),
                replication: (topic.replication_factor >= 0).then_some(topic.replication_factor),
            },
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, topic: &String) -> Error {
        error.at_topic(topic)
    }
}

struct DeleteByName;

impl ItemCall for DeleteByName {
    type Key = String;
    type Wanted = ();
    type Answer = ();
    type Request = DeleteTopicsRequest;

    fn changes(&self) -> bool {
        true
    }

    fn request(&self, items: &Items<'_, String, ()>, version: i16, time: Duration) -> DeleteTopicsRequest {
        DeleteTopicsRequest::named(items.keys().map(|name| name.as_str()), wire_ms(time), version)
    }

    fn answers(&self, response: DeleteTopicsResponse) -> Answers<String, ()> {
        let items = response.responses.into_iter().filter_map(|topic| {
            Some(Said { item: topic.name?, code: topic.error_code, message: topic.error_message, answer: () })
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, topic: &String) -> Error {
        error.at_topic(topic)
    }
}

struct DeleteById;

impl ItemCall for DeleteById {
    type Key = TopicId;
    type Wanted = ();
    type Answer = ();
    type Request = DeleteTopicsRequest;

    fn changes(&self) -> bool {
        true
    }

    fn fault(&self, _: &TopicId, (): &(), version: i16) -> Option<Error> {
        (version < 6).then(|| too_old("brokers before Kafka 2.8 delete topics by their names alone (KIP-516)"))
    }

    fn request(&self, items: &Items<'_, TopicId, ()>, _: i16, time: Duration) -> DeleteTopicsRequest {
        let topics = items.keys().map(|id| DeleteTopicState { name: None, topic_id: Uuid(id.0) }).collect();
        DeleteTopicsRequest { topics, timeout_ms: wire_ms(time), ..Default::default() }
    }

    fn answers(&self, response: DeleteTopicsResponse) -> Answers<TopicId, ()> {
        let items = response.responses.into_iter().filter_map(|topic| {
            let item = TopicId::of(topic.topic_id)?;
            Some(Said { item, code: topic.error_code, message: topic.error_message, answer: () })
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, id: &TopicId) -> Error {
        error.at_topic(&id.to_string())
    }
}

struct DescribeTopics;

impl ItemCall for DescribeTopics {
    type Key = String;
    type Wanted = ();
    type Answer = MetadataResponseTopic;
    type Request = MetadataRequest;

    fn awaits_unknown(&self, brokers: &Brokers, topic: &String) -> bool {
        brokers.has_just_made(topic)
    }

    fn route(&self, brokers: &Brokers, items: &[&String], deadline: Instant) -> Result<Routes<String>> {
        to_one(&brokers.any(deadline)?, items)
    }

    fn misrouted(&self, _: &Brokers, _: &Place) {}

    fn request(&self, items: &Items<'_, String, ()>, _: i16, _: Duration) -> MetadataRequest {
        MetadataRequest::named(items.keys().map(|name| name.as_str()), false)
    }

    fn answers(
        &self,
        response: <MetadataRequest as crate::protocol::api::Request>::Response,
    ) -> Answers<String, MetadataResponseTopic> {
        let items = response.topics.into_iter().filter_map(|topic| {
            Some(Said { item: topic.name.clone()?, code: topic.error_code, message: None, answer: topic })
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, topic: &String) -> Error {
        error.at_topic(topic)
    }
}

struct CreatePartitions {
    validate_only: bool,
}

impl ItemCall for CreatePartitions {
    type Key = String;
    type Wanted = NewPartitions;
    type Answer = ();
    type Request = CreatePartitionsRequest;

    fn changes(&self) -> bool {
        !self.validate_only
    }

    fn request(&self, items: &Items<'_, String, NewPartitions>, _: i16, time: Duration) -> CreatePartitionsRequest {
        let assigned = |brokers: &Vec<BrokerId>| CreatePartitionsAssignment {
            broker_ids: brokers.iter().map(|broker| broker.0).collect(),
        };
        let topics = items.iter().map(|(name, wanted)| CreatePartitionsTopic {
            name: (*name).clone(),
            count: wanted.total,
            assignments: wanted.assignments.as_ref().map(|all| all.iter().map(assigned).collect()),
        });
        CreatePartitionsRequest {
            topics: topics.collect(),
            timeout_ms: wire_ms(time),
            validate_only: self.validate_only,
        }
    }

    fn answers(&self, response: CreatePartitionsResponse) -> Answers<String, ()> {
        let items = response.results.into_iter().map(|topic| Said {
            item: topic.name,
            code: topic.error_code,
            message: topic.error_message,
            answer: (),
        });
        Answers { throttle_ms: response.throttle_time_ms, items: items.collect() }
    }

    fn at(error: Error, topic: &String) -> Error {
        error.at_topic(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_shown_as_kafkas_tools_show_it() {
        // java.util.UUID's bits 0x0123456789abcdef, 0xfedcba9876543210 in Kafka's Uuid.toString.
        let bytes = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes();
        assert_eq!(TopicId(bytes).to_string(), "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(TopicId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId([255; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn an_item_that_is_there_twice_is_an_error_of_that_item_alone() {
        let twice = |name: &&str| Error::invalid("twice").at_topic(name);
        let check = |_: &&str, number: &i32| if *number < 0 { Err(Error::invalid("negative")) } else { Ok(()) };
        let items = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", -1)];
        let (wanted, results): Gathered<_, _, ()> = gather(items, twice, check);
        assert_eq!(wanted, [("b", 2)].into());
        assert_eq!(results.keys().copied().collect::<Vec<_>>(), ["a", "c"]);
        assert!(results["a"].as_ref().unwrap_err().to_string().contains("twice (topic a)"));
    }
}

//! What stands in the way at the moment. It becomes the cause of an error when something meanwhile runs out of time.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::error::Error;
use crate::topic::TopicPartition;

/// What stands in the way of one task. Changed when an attempt fails, and by the first attempt that does not. *Thread*:
/// any.
#[derive(Debug, Default)]
pub(crate) struct Obstacle(Mutex<Option<Error>>);

impl Obstacle {
    /// An attempt has failed.
    pub(crate) fn meet(&self, error: &Error) {
        *self.0.lock() = Some(error.clone());
    }

    /// An attempt has succeeded.
    pub(crate) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// The error of the last attempt, if none has succeeded since.
    pub(crate) fn last(&self) -> Option<Error> {
        self.0.lock().clone()
    }
}

/// The last error of each partition whose batches make no progress. Changed when a partition fails, and when such a
/// partition recovers. *Thread*: any.
#[derive(Debug, Default)]
pub(crate) struct Obstacles(Mutex<BTreeMap<TopicPartition, Error>>);

impl Obstacles {
    /// The partition makes no progress, because of this error.
    pub(crate) fn meet(&self, partition: &TopicPartition, error: &Error) {
        let cause = error.as_cause();
        self.0.lock().insert(partition.clone(), cause);
    }

    /// The partition makes progress again.
    pub(crate) fn forget(&self, partition: &TopicPartition) {
        self.0.lock().remove(partition);
    }

    #[cfg(test)]
    pub(crate) fn names(&self, partition: &TopicPartition) -> bool {
        self.0.lock().contains_key(partition)
    }

    /// One of these errors, with its partition: the same partition for as long as it makes no progress.
    pub(crate) fn first(&self) -> Option<Error> {
        let obstacles = self.0.lock();
        let (partition, error) = obstacles.first_key_value()?;
        Some(error.clone().at_partition(partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Written;

    #[test]
    fn what_one_thing_has_met_last_is_told_until_it_is_done() {
        let obstacle = Obstacle::default();
        assert!(obstacle.last().is_none());
        obstacle.meet(&Error::network("first"));
        obstacle.meet(&Error::network("second"));
        assert_eq!(obstacle.last().unwrap().message(), "second");
        obstacle.forget();
        assert!(obstacle.last().is_none());
    }

    #[test]
    fn the_same_partition_is_told_for_as_long_as_it_does_not_get_on() {
        let obstacles = Obstacles::default();
        let [a, b] = [TopicPartition::new("a", 7), TopicPartition::new("b", 0)];
        let told = || obstacles.first().map(|error| (error.message().to_owned(), error.context().topic.clone()));
        obstacles.meet(&b, &Error::network("at b"));
        obstacles.meet(&a, &Error::network("at a").with_written(Written::Maybe));
        obstacles.meet(&b, &Error::network("at b again"));
        assert_eq!(told(), Some(("at a".to_owned(), Some("a".into()))));
        assert_eq!(obstacles.first().unwrap().context().partition, Some(7));
        assert_eq!(obstacles.first().unwrap().written(), None, "it says nothing of other records");
        obstacles.forget(&a);
        assert_eq!(told(), Some(("at b again".to_owned(), Some("b".into()))));
        obstacles.forget(&b);
        assert!(told().is_none());
    }
}

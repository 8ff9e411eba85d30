//! What keeps things from being done at the moment: the cause of whatever ends meanwhile because its time is over.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::error::Error;
use crate::topic::TopicPartition;

/// What keeps one thing from being done. Touched when an attempt fails, and with the first that does not. *Thread*: any.
#[derive(Debug, Default)]
pub(crate) struct Obstacle(Mutex<Option<Error>>);

impl Obstacle {
    /// An attempt has failed.
    pub(crate) fn meet(&self, error: &Error) {
        *self.0.lock() = Some(error.clone());
    }

    /// An attempt was answered.
    pub(crate) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// What the last attempt met, if none has succeeded since.
    pub(crate) fn last(&self) -> Option<Error> {
        self.0.lock().clone()
    }
}

/// What partitions have met last, of those that do not get on. Touched when something fails, and when a partition of which
/// that was noted recovers. *Thread*: any.
#[derive(Debug, Default)]
pub(crate) struct Obstacles(Mutex<BTreeMap<TopicPartition, Error>>);

impl Obstacles {
    /// The partition does not get on.
    pub(crate) fn meet(&self, partition: &TopicPartition, error: &Error) {
        let cause = error.as_cause();
        self.0.lock().insert(partition.clone(), cause);
    }

    /// The partition gets on.
    pub(crate) fn forget(&self, partition: &TopicPartition) {
        self.0.lock().remove(partition);
    }

    #[cfg(test)]
    pub(crate) fn names(&self, partition: &TopicPartition) -> bool {
        self.0.lock().contains_key(partition)
    }

    /// One of them, with its partition: the same one for as long as it lasts.
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

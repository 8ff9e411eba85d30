//! What came of each item of a call.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};

use crate::error::{Error, Result};

/// The result of each item that a call of an [`Admin`](super::Admin) was about, in the order of the items: one that fails leaves
/// the others alone.
///
/// ```
/// use kafka_blocking::admin::{Admin, NewTopic};
/// # use kafka_blocking::testing::FakeCluster;
///
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::start(1)?;
/// # let admin = Admin::builder(cluster.bootstrap()).build()?;
/// // All of them, or the first error.
/// admin.create_topics([NewTopic::new("a"), NewTopic::new("b")]).all()?;
///
/// // One by one.
/// for (topic, result) in admin.delete_topics(["a", "no such topic"]) {
///     match result {
///         Ok(()) => println!("{topic} is deleted"),
///         Err(error) => println!("{topic} is not: {error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "items may have failed: `all` tells the first error"]
pub struct Results<K, T>(BTreeMap<K, Result<T>>);

impl<K: Ord, T> Results<K, T> {
    pub(super) fn new(results: BTreeMap<K, Result<T>>) -> Self {
        Self(results)
    }

    /// What all items have answered, or the error of the first item that has failed.
    pub fn all(self) -> Result<BTreeMap<K, T>> {
        self.0.into_iter().map(|(item, result)| Ok((item, result?))).collect()
    }

    /// An item's result. `None` for one that the call was not about.
    pub fn get<Q: Ord + ?Sized>(&self, item: &Q) -> Option<&Result<T>>
    where
        K: Borrow<Q>,
    {
        self.0.get(item)
    }

    /// Takes an item's result out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, item: &Q) -> Option<Result<T>>
    where
        K: Borrow<Q>,
    {
        self.0.remove(item)
    }

    /// The items with their results, in their order.
    pub fn iter(&self) -> btree_map::Iter<'_, K, Result<T>> {
        self.0.iter()
    }

    /// The items that have failed.
    pub fn errors(&self) -> impl Iterator<Item = (&K, &Error)> {
        self.0.iter().filter_map(|(item, result)| Some((item, result.as_ref().err()?)))
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the call was about nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, T> IntoIterator for Results<K, T> {
    type Item = (K, Result<T>);
    type IntoIter = btree_map::IntoIter<K, Result<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'r, K, T> IntoIterator for &'r Results<K, T> {
    type Item = (&'r K, &'r Result<T>);
    type IntoIter = btree_map::Iter<'r, K, Result<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

//! A bounded cache that loads each value once, however many threads ask for it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};

/// Values that were loaded, by their keys. When the cache is full the oldest is dropped. Only values that never change
/// belong here, so a dropped entry costs only another request.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    capacity: usize,
    /// The lock is never held while a value is being loaded.
    state: Mutex<CacheState<K, V>>,
}

#[derive(Debug)]
struct CacheState<K, V> {
    ready: HashMap<K, V>,
    /// The keys of `ready`, the oldest first.
    order: VecDeque<K>,
    loading: HashMap<K, Arc<Load<V>>>,
}

/// One load that is under way. Other callers may wait for its end.
#[derive(Debug)]
struct Load<V> {
    result: Mutex<Option<Result<V>>>,
    ended: Condvar,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = CacheState { ready: HashMap::new(), order: VecDeque::new(), loading: HashMap::new() };
        Self { capacity, state: Mutex::new(state) }
    }

    /// How many values it keeps.
    #[cfg(feature = "avro")]
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The value of `key`. If it is not in the cache, one caller loads it, and callers that ask meanwhile get the same
    /// result, also a failure. A failure is not kept.
    ///
    /// *Blocks* as long as `load` does.
    pub(super) fn get_or_load(&self, key: &K, load: impl FnOnce() -> Result<V>) -> Result<V> {
        let mut state = self.state.lock();
        if let Some(value) = state.ready.get(key) {
            return Ok(value.clone());
        }
        if let Some(running) = state.loading.get(key).map(Arc::clone) {
            drop(state);
            return running.wait();
        }
        let started = Arc::new(Load { result: Mutex::new(None), ended: Condvar::new() });
        state.loading.insert(key.clone(), Arc::clone(&started));
        drop(state);

        let mut guard = LoadGuard { cache: self, key, load: &started, result: None };
        let result = load();
        guard.result = Some(result.clone());
        result
    }

    /// Forgets the keys for which `keep` is false.
    pub(super) fn retain(&self, keep: impl Fn(&K) -> bool) {
        let mut state = self.state.lock();
        state.ready.retain(|key, _| keep(key));
        state.order.retain(|key| keep(key));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let state = self.state.lock();
        assert_eq!(state.ready.len(), state.order.len());
        assert!(state.loading.is_empty());
        state.ready.len()
    }
}

impl<K: Clone + Eq + Hash, V> CacheState<K, V> {
    fn insert(&mut self, key: K, value: V, capacity: usize) {
        if self.ready.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.ready.remove(&oldest);
            }
        }
    }
}

impl<V: Clone> Load<V> {
    fn wait(&self) -> Result<V> {
        let mut result = self.result.lock();
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            self.ended.wait(&mut result);
        }
    }
}

/// Ends a load when it is dropped, also when the caller's function panics, so that no caller waits for ever.
struct LoadGuard<'a, K: Clone + Eq + Hash, V: Clone> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    load: &'a Load<V>,
    result: Option<Result<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for LoadGuard<'_, K, V> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(Error::bug("loading a schema panicked")));
        let mut state = self.cache.state.lock();
        state.loading.remove(self.key);
        if let Ok(value) = &result {
            state.insert(self.key.clone(), value.clone(), self.cache.capacity);
        }
        drop(state);
        *self.load.result.lock() = Some(result);
        self.load.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Sixteen threads ask for one key at the same time; `load` is slow enough for all to arrive.
    fn sixteen(load: impl Fn() -> Result<u32> + Sync) -> Vec<thread::Result<Result<u32>>> {
        let cache = Cache::new(10);
        let barrier = Barrier::new(16);
        thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                cache.get_or_load(&"key", || {
                    thread::sleep(Duration::from_millis(100));
                    load()
                })
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        })
    }

    #[test]
    fn concurrent_callers_of_one_key_load_once() {
        let loads = AtomicUsize::new(0);
        let results = sixteen(|| {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok(7)
        });
        assert!(results.into_iter().all(|result| result.unwrap().unwrap() == 7));
        assert_eq!(loads.into_inner(), 1);
    }

    #[test]
    fn a_failure_is_shared_and_not_kept() {
        let results = sixteen(|| Err(Error::network("gone")));
        assert!(results.into_iter().all(|result| result.unwrap().unwrap_err().to_string() == "gone"));
        let cache = Cache::new(10);
        cache.get_or_load(&1, || Err::<u32, _>(Error::network("gone"))).unwrap_err();
        assert_eq!(cache.get_or_load(&1, || Ok(2)).unwrap(), 2);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_panic_strands_nobody() {
        let results = sixteen(|| panic!("on purpose"));
        assert!(results.iter().filter(|result| result.is_err()).count() >= 1);
        assert!(results.into_iter().flatten().all(|result| result.is_err()));
    }

    #[test]
    fn the_oldest_entry_goes_when_the_cache_is_full() {
        let cache = Cache::new(3);
        for key in 0..10 {
            assert_eq!(cache.get_or_load(&key, || Ok(key)).unwrap(), key);
            assert_eq!(cache.get_or_load(&key, || panic!("{key} is there")).unwrap(), key);
        }
        assert_eq!(cache.len(), 3);
        let loaded = |key| cache.get_or_load(&key, || Err(Error::network("not kept"))).is_err();
        assert_eq!((6..10).map(loaded).collect::<Vec<_>>(), [true, false, false, false]);
        cache.retain(|key| *key != 8);
        assert_eq!(cache.len(), 2);
        assert!(loaded(8) && !loaded(9));
    }
}

//! Which addresses have answered and which have failed. It is remembered for all connections of a cluster, so that an
//! address for which one thread has waited in vain is not the first that the next thread tries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use parking_lot::Mutex;

use super::HostPort;

/// The most addresses that are remembered. A client meets fewer; when there are more, all are forgotten, which costs no
/// more than waiting for their time-outs again.
const MOST: usize = 20_000;

/// What is remembered for all connections of a cluster. *Thread*: any. Its locks are held for moments, and no other is
/// taken meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    addresses: Mutex<HashMap<HostPort, AddressStatus>>,
    /// By network address, because a name may have several.
    sockets: Mutex<HashMap<SocketAddr, Failures>>,
}

/// What is known of an address, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AddressStatus {
    /// The last connection was made, or the last request answered.
    Answers,
    /// Nothing.
    Untried,
    /// The last connection was not made, or the last request was not answered, at this time.
    Failed(Instant),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    /// In a row.
    count: u32,
    last: Instant,
}

impl Reachability {
    pub(crate) fn status(&self, address: &HostPort) -> AddressStatus {
        self.addresses.lock().get(address).copied().unwrap_or(AddressStatus::Untried)
    }

    /// A connection was made. That alone does not undo the failure of a request: the address counts as failed until a
    /// request is answered.
    pub(crate) fn connected(&self, address: &HostPort) {
        let mut addresses = self.addresses.lock();
        if !addresses.contains_key(address) {
            insert(&mut addresses, address.clone(), AddressStatus::Answers);
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, address: &HostPort) {
        let mut addresses = self.addresses.lock();
        match addresses.get_mut(address) {
            Some(status) => *status = AddressStatus::Answers,
            None => insert(&mut addresses, address.clone(), AddressStatus::Answers),
        }
    }

    /// No connection was made, or no answer has come.
    pub(crate) fn failed(&self, address: &HostPort) {
        insert(&mut self.addresses.lock(), address.clone(), AddressStatus::Failed(Instant::now()));
    }

    /// Brings a name's addresses into the order in which to try them: the one that failed last comes last.
    pub(super) fn order(&self, sockets: &mut [SocketAddr]) {
        let failures = self.sockets.lock();
        sockets.sort_by_key(|socket| failures.get(socket).map(|failures| failures.last));
    }

    /// How many connections to it in a row have failed.
    pub(super) fn failures(&self, socket: &SocketAddr) -> u32 {
        self.sockets.lock().get(socket).map_or(0, |failures| failures.count)
    }

    pub(super) fn socket_connected(&self, socket: &SocketAddr) {
        self.sockets.lock().remove(socket);
    }

    /// An attempt that began at `began` has failed. Attempts of several threads at the same time count as one failure.
    pub(super) fn socket_failed(&self, socket: &SocketAddr, began: Instant) {
        let mut sockets = self.sockets.lock();
        let known = sockets.get(socket).copied().unwrap_or(Failures { count: 0, last: began });
        let count = if known.last > began { known.count } else { known.count.saturating_add(1) };
        insert(&mut sockets, *socket, Failures { count, last: Instant::now() });
    }
}

fn insert<A: std::hash::Hash + Eq, V>(memory: &mut HashMap<A, V>, address: A, value: V) {
    if memory.len() >= MOST {
        memory.clear();
    }
    memory.insert(address, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_failed_last_comes_last() {
        let memory = Reachability::default();
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let order = || {
            let mut sockets = [a, b, c];
            memory.order(&mut sockets);
            sockets
        };
        assert_eq!(order(), [a, b, c]);
        memory.socket_failed(&a, Instant::now());
        assert_eq!(order(), [b, c, a]);
        memory.socket_failed(&b, Instant::now());
        assert_eq!(order(), [c, a, b]);
        memory.socket_connected(&a);
        assert_eq!(order(), [a, c, b]);
    }

    #[test]
    fn attempts_at_the_same_time_are_one_failure() {
        let memory = Reachability::default();
        let socket = SocketAddr::from(([127, 0, 0, 1], 1));
        let began = Instant::now();
        memory.socket_failed(&socket, began);
        memory.socket_failed(&socket, began);
        assert_eq!(memory.failures(&socket), 1);
        memory.socket_failed(&socket, Instant::now());
        assert_eq!(memory.failures(&socket), 2);
        memory.socket_connected(&socket);
        assert_eq!(memory.failures(&socket), 0);
    }

    #[test]
    fn a_request_that_was_not_answered_counts_until_one_is() {
        let memory = Reachability::default();
        let address = HostPort::new("a", 1);
        assert_eq!(memory.status(&address), AddressStatus::Untried);
        memory.connected(&address);
        assert_eq!(memory.status(&address), AddressStatus::Answers);
        memory.failed(&address);
        memory.connected(&address);
        assert!(matches!(memory.status(&address), AddressStatus::Failed(_)));
        memory.answered(&address);
        assert_eq!(memory.status(&address), AddressStatus::Answers);
    }

    #[test]
    fn the_memory_has_a_bound() {
        let memory = Reachability::default();
        for port in 0..=u16::MAX {
            memory.failed(&HostPort::new("a", port));
        }
        assert!(memory.addresses.lock().len() <= MOST);
    }
}

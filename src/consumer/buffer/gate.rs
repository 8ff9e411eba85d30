//! How far a partition is read ahead. Pure.

/// Closes when a partition holds so many bytes, unread or handed out, and opens when it holds half of that: a session is not
/// changed for every batch that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    high: usize,
    held: usize,
    is_open: bool,
}

impl Gate {
    pub(crate) fn new(high: usize) -> Self {
        Self { high, held: 0, is_open: true }
    }

    /// Whether more may be fetched.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// So much has come.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.held = self.held.saturating_add(bytes);
        self.is_open &= self.held < self.high;
    }

    /// So much is not held any more. True if that opens the gate.
    pub(crate) fn remove(&mut self, bytes: usize) -> bool {
        self.held = self.held.saturating_sub(bytes);
        self.open()
    }

    /// Another mark: the memory is for more partitions now, or for fewer. True if that opens the gate.
    pub(crate) fn set_high(&mut self, high: usize) -> bool {
        self.high = high;
        self.is_open &= self.held < self.high;
        self.open()
    }

    fn open(&mut self) -> bool {
        let opens = !self.is_open && self.held <= self.high / 2;
        self.is_open |= opens;
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_at_its_mark_and_opens_below_half_of_it() {
        let mut gate = Gate::new(100);
        gate.add(99);
        assert!(gate.is_open());
        gate.add(1);
        assert!(!gate.is_open());
        assert!(!gate.remove(49) && !gate.is_open(), "51 are held");
        assert!(gate.remove(1) && gate.is_open(), "it says so once");
        assert!(!gate.remove(1));
        gate.add(500);
        assert!(!gate.is_open());
        assert!(!gate.set_high(1000) && !gate.is_open(), "549 are more than half of the new mark");
        assert!(gate.set_high(1098) && gate.is_open());
        assert!(!gate.set_high(100) && !gate.is_open());
        assert!(gate.remove(usize::MAX) && gate.held == 0);
    }
}

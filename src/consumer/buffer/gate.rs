//! How far a partition is read ahead. Pure.

/// Closes when a partition has so much that is not read, or so much of it is held in all, and opens when it has half of that:
/// a session is not changed for every batch that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    marks: Marks,
    unread: usize,
    /// What the program holds.
    handed_out: usize,
    is_open: bool,
}

/// When a gate closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) unread: usize,
    /// Unread and handed out together.
    pub(crate) held: usize,
}

impl Gate {
    pub(crate) fn new(marks: Marks) -> Self {
        Self { marks, unread: 0, handed_out: 0, is_open: true }
    }

    /// Whether more may be fetched.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it is closed because of what the program holds alone.
    pub(crate) fn is_closed_by_program(&self) -> bool {
        !self.is_open && self.unread == 0
    }

    /// So much has come.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_add(bytes);
        self.close();
    }

    /// So much was handed out. True if that opens the gate.
    pub(crate) fn hand_out(&mut self, bytes: usize) -> bool {
        self.handed_out = self.handed_out.saturating_add(bytes);
        self.pass(bytes)
    }

    /// So much is not for the program. True if that opens the gate.
    pub(crate) fn pass(&mut self, bytes: usize) -> bool {
        self.unread = self.unread.saturating_sub(bytes);
        self.open()
    }

    /// Nothing that is unread counts any more. True if that opens the gate.
    pub(crate) fn clear(&mut self) -> bool {
        self.unread = 0;
        self.open()
    }

    /// The program does not hold so much any more. True if that opens the gate.
    pub(crate) fn take_back(&mut self, bytes: usize) -> bool {
        self.handed_out = self.handed_out.saturating_sub(bytes);
        self.open()
    }

    /// Other marks: the memory is for more partitions now, or for fewer. True if that opens the gate.
    pub(crate) fn set_marks(&mut self, marks: Marks) -> bool {
        self.marks = marks;
        self.close();
        self.open()
    }

    fn held(&self) -> usize {
        self.unread.saturating_add(self.handed_out)
    }

    fn close(&mut self) {
        self.is_open &= self.unread < self.marks.unread && self.held() < self.marks.held;
    }

    fn open(&mut self) -> bool {
        let is_low = self.unread <= self.marks.unread / 2 && self.held() <= self.marks.held / 2;
        let opens = !self.is_open && is_low;
        self.is_open |= opens;
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(unread: usize, held: usize) -> Gate {
        Gate::new(Marks { unread, held })
    }

    #[test]
    fn a_gate_closes_at_its_mark_and_opens_below_half_of_it() {
        let mut gate = gate(100, 1000);
        gate.add(99);
        assert!(gate.is_open());
        gate.add(1);
        assert!(!gate.is_open());
        assert!(!gate.pass(49) && !gate.is_open(), "51 are unread");
        assert!(gate.hand_out(1) && gate.is_open(), "it says so once");
        assert!(!gate.hand_out(1));
        gate.add(500);
        assert!(!gate.is_open());
        assert!(!gate.set_marks(Marks { unread: 1000, held: 1000 }), "549 are more than half of the new mark");
        assert!(gate.set_marks(Marks { unread: 1098, held: 5000 }) && gate.is_open());
        assert!(!gate.set_marks(Marks { unread: 100, held: 1000 }) && !gate.is_open());
        assert!(gate.clear() && gate.is_open());
    }

    #[test]
    fn what_the_program_holds_closes_the_gate_later_and_alone() {
        let mut gate = gate(100, 200);
        for _ in 0..4 {
            gate.add(50);
            assert!(!gate.is_closed_by_program());
            gate.hand_out(50);
        }
        assert!(gate.is_closed_by_program());
        assert!(!gate.take_back(50) && gate.is_closed_by_program());
        assert!(gate.take_back(50) && gate.is_open());
        assert!(!gate.take_back(usize::MAX));
    }
}

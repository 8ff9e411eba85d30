//! The sticky partition of KIP-794: where records without a fixed partition go. Pure; the caller keeps it behind a
//! lock.

use std::time::{Duration, Instant};

use crate::time::RandomNumbers;

/// The sticky partition of one topic: it is chosen, given up when it has had its [share](Given), and chosen again.
#[derive(Debug, Default)]
pub(crate) struct StickyPartition {
    /// `None` before the first record and after a switch.
    current: Option<i32>,
    /// `None`: choose evenly.
    load: Option<PartitionLoad>,
}

impl StickyPartition {
    /// The partition for the next record, chosen now if there is none: by load if that is known, otherwise at random
    /// among `available`, or among `all` if none has a leader. `None` only where the topic has no partitions.
    pub(crate) fn current(&mut self, all: &[i32], available: &[i32], random: &mut RandomNumbers) -> Option<i32> {
        // A topic that was deleted and created again may have fewer partitions than before.
        if let Some(current) = self.current.filter(|current| holds(all, *current)) {
            return Some(current);
        }
        let candidates = if available.is_empty() { all } else { available };
        let by_load = self.load.as_ref().and_then(|load| load.pick(random)).filter(|p| holds(candidates, *p));
        let chosen = by_load.or_else(|| candidates.get(random.below(candidates.len())).copied());
        self.current = chosen;
        chosen
    }

    /// Gives up `partition`, which has had its share. False if another thread has done so before.
    pub(crate) fn switch_partition(&mut self, partition: i32) -> bool {
        let is_current = self.current == Some(partition);
        if is_current {
            self.current = None;
        }
        is_current
    }

    /// The loads for the next choices; `None` to choose evenly.
    pub(crate) fn set_load(&mut self, load: Option<PartitionLoad>) {
        self.load = load;
    }
}

/// How many bytes one partition was given since it was chosen. The partition's lock guards it, so that counting a
/// record takes no lock of its own.
///
/// When it has had a share, it is given up as soon as a new batch would begin: giving it up in the middle of a batch
/// would leave small batches behind, which linger. But the open batch of a slow broker waits and grows for a long time,
/// so after two shares the partition is given up in any case. What it got beyond one share is subtracted the next time,
/// or that broker would get twice as much.
#[derive(Debug, Default)]
pub(crate) struct Given(usize);

impl Given {
    /// Counts a record. True if the partition is to be given up, although its batch is open.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize, share: usize) -> bool {
        self.0 = self.0.saturating_add(bytes);
        self.0 >= share.saturating_mul(2)
    }

    /// Whether the partition, which would get `more` bytes, is to be given up when a batch begins.
    pub(crate) fn is_share(&self, more: usize, share: usize) -> bool {
        self.0.saturating_add(more) >= share
    }

    /// The partition was given up. At most two shares are subtracted the next times, so that one large record does not
    /// cost the partition many small ones.
    pub(crate) fn carry_over(&mut self, share: usize) {
        self.0 = self.0.saturating_sub(share).min(share.saturating_mul(2));
    }
}

/// Whether ascending `partitions` holds `partition`. Kafka's partitions are 0 to n - 1, so the id is almost always
/// its own index.
fn holds(partitions: &[i32], partition: i32) -> bool {
    let at_own_index = usize::try_from(partition).ok().and_then(|index| partitions.get(index));
    at_own_index == Some(&partition) || partitions.binary_search(&partition).is_ok()
}

/// How often each partition is to be chosen: the longer its queue of batches, the less often. The longest queue has
/// frequency 1, and each batch fewer adds 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionLoad {
    /// (frequencies up to and including this partition's, partition), ascending.
    cumulative: Vec<(usize, i32)>,
}

impl PartitionLoad {
    /// The loads of a topic with `partitions` partitions in all, from those that can take records: each with the
    /// number of batches in its queue. `None` where an even choice says the same: there are fewer than two
    /// partitions, none can take records, or all can and their queues are equal.
    pub(crate) fn new(queues: &[(i32, usize)], partitions: usize) -> Option<Self> {
        let longest = queues.iter().map(|(_, length)| *length).max()?;
        let all_equal = queues.iter().all(|(_, length)| *length == longest);
        if partitions < 2 || all_equal && queues.len() >= partitions {
            return None;
        }
        let mut sum = 0usize;
        let cumulative = queues.iter().map(|(partition, length)| {
            sum = sum.saturating_add((longest - length).saturating_add(1));
            (sum, *partition)
        });
        Some(Self { cumulative: cumulative.collect() })
    }

    fn pick(&self, random: &mut RandomNumbers) -> Option<i32> {
        let (total, _) = self.cumulative.last()?;
        self.at(random.below(*total))
    }

    /// The first partition whose cumulative frequency is over `number`.
    fn at(&self, number: usize) -> Option<i32> {
        let index = self.cumulative.partition_point(|(sum, _)| *sum <= number);
        self.cumulative.get(index).map(|(_, partition)| *partition)
    }
}

/// Whether a broker's partitions are to be left out of the choice: it had batches ready, but for longer than `timeout`
/// nothing could be sent to it. `ready` and `drained` are when it last had some and when it last took some. A `timeout`
/// of zero turns this off. Property: `partitioner.availability.timeout.ms`.
pub(crate) fn is_stalled(ready: Instant, drained: Instant, timeout: Duration) -> bool {
    !timeout.is_zero() && ready.saturating_duration_since(drained) > timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: usize = 1000;

    fn sticky(current: i32) -> StickyPartition {
        StickyPartition { current: Some(current), ..StickyPartition::default() }
    }

    #[test]
    fn stays_until_it_is_given_up_and_then_switches() {
        let mut random = RandomNumbers::seeded(1);
        let all: Vec<i32> = (0..100).collect();
        let mut sticky = StickyPartition::default();
        let first = sticky.current(&all, &all, &mut random).unwrap();
        assert_eq!(sticky.current(&all, &all, &mut random), Some(first));
        assert!(sticky.switch_partition(first));
        let second = sticky.current(&all, &all, &mut random).unwrap();
        assert_ne!(second, first);
        assert!(!sticky.switch_partition(first), "a thread that comes late does not end another partition's time");
        assert_eq!(sticky.current(&all, &all, &mut random), Some(second));
    }

    #[test]
    fn a_share_is_over_when_a_batch_begins_and_two_in_any_case() {
        let mut given = Given::default();
        assert!(!given.count(SHARE - 1, SHARE) && !given.is_share(0, SHARE));
        assert!(!given.count(1, SHARE) && given.is_share(0, SHARE));
        assert!(!given.count(SHARE - 1, SHARE));
        assert!(given.count(1, SHARE));
    }

    #[test]
    fn what_was_given_beyond_a_share_counts_against_the_next_time() {
        let mut given = Given::default();
        given.count(SHARE + 300, SHARE);
        given.carry_over(SHARE);
        assert!(!given.count(SHARE - 301, SHARE) && !given.is_share(0, SHARE));
        given.count(1, SHARE);
        assert!(given.is_share(0, SHARE));
        given.count(100 * SHARE, SHARE);
        given.carry_over(SHARE);
        for _ in 0..2 {
            assert!(given.is_share(0, SHARE), "it is passed over twice");
            given.carry_over(SHARE);
        }
        assert!(!given.is_share(0, SHARE));
    }

    /// One partition whose batch is always open, as with a slow broker, and one whose batches are sent all the time.
    #[test]
    fn a_partition_whose_batch_never_ends_gets_no_more_than_others() {
        let mut random = RandomNumbers::seeded(8);
        let (mut given, mut total) = ([Given::default(), Given::default()], [0usize; 2]);
        for _ in 0..20_000 {
            let place = random.below(2);
            let (given, total) = (&mut given[place], &mut total[place]);
            for record in 0.. {
                let begins = place == 0 && record % 3 == 0;
                if begins && given.is_share(0, SHARE) {
                    break;
                }
                *total += 70;
                if given.count(70, SHARE) {
                    break;
                }
            }
            given.carry_over(SHARE);
        }
        assert!(total[0].abs_diff(total[1]) < total[0] / 20, "{total:?}");
    }

    #[test]
    fn only_partitions_with_a_leader_are_chosen_if_there_are_any() {
        let mut random = RandomNumbers::seeded(2);
        for _ in 0..200 {
            let chosen = StickyPartition::default().current(&[0, 1, 2], &[1], &mut random);
            assert_eq!(chosen, Some(1));
        }
        let mut seen = [false; 3];
        for _ in 0..200 {
            let chosen = StickyPartition::default().current(&[0, 1, 2], &[], &mut random).unwrap();
            seen[usize::try_from(chosen).unwrap()] = true;
        }
        assert_eq!(seen, [true; 3], "with no leader at all, every partition is as good");
        assert_eq!(StickyPartition::default().current(&[], &[], &mut random), None);
    }

    #[test]
    fn a_partition_that_is_gone_is_given_up() {
        let mut random = RandomNumbers::seeded(3);
        assert_eq!(sticky(7).current(&[0], &[0], &mut random), Some(0));
    }

    #[test]
    fn without_loads_the_choice_is_even() {
        let mut random = RandomNumbers::seeded(4);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            let chosen = StickyPartition::default().current(&[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4], &mut random).unwrap();
            counts[usize::try_from(chosen).unwrap()] += 1;
        }
        for count in counts {
            assert!((9_500..10_500).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn frequencies_are_those_of_java() {
        let load = PartitionLoad::new(&[(0, 0), (1, 3), (2, 1)], 3).unwrap();
        assert_eq!(load.cumulative, [(4, 0), (5, 1), (8, 2)]);
        let places: Vec<i32> = (0..8).map(|number| load.at(number).unwrap()).collect();
        assert_eq!(places, [0, 0, 0, 0, 1, 2, 2, 2]);
        assert_eq!(load.at(8), None);
    }

    #[test]
    fn a_long_queue_is_chosen_less_often() {
        // Java's own example: queues 5 0 3 0 1 give frequencies 1 6 3 6 5.
        let queues = [(0, 5), (1, 0), (2, 3), (3, 0), (4, 1)];
        let load = PartitionLoad::new(&queues, 5);
        let mut random = RandomNumbers::seeded(5);
        let mut counts = [0usize; 5];
        for _ in 0..21_000 {
            let mut sticky = StickyPartition::default();
            sticky.set_load(load.clone());
            let chosen = sticky.current(&[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4], &mut random).unwrap();
            counts[usize::try_from(chosen).unwrap()] += 1;
        }
        for (count, frequency) in counts.into_iter().zip([1, 6, 3, 6, 5]) {
            assert!(count.abs_diff(frequency * 1000) < 250, "{counts:?}");
        }
    }

    #[test]
    fn equal_queues_need_no_table_unless_a_partition_is_left_out() {
        assert_eq!(PartitionLoad::new(&[(0, 2), (1, 2)], 2), None);
        assert_eq!(PartitionLoad::new(&[(0, 2)], 1), None);
        assert_eq!(PartitionLoad::new(&[], 2), None);
        let mut random = RandomNumbers::seeded(6);
        let load = PartitionLoad::new(&[(0, 2), (2, 2)], 3).unwrap();
        assert!((0..200).all(|_| load.pick(&mut random) != Some(1)));
    }

    #[test]
    fn a_load_that_names_a_lost_partition_falls_back_to_an_even_choice() {
        let mut random = RandomNumbers::seeded(7);
        let mut sticky = StickyPartition::default();
        sticky.set_load(PartitionLoad::new(&[(8, 0), (9, 5)], 3));
        assert_eq!(sticky.current(&[0, 1], &[1], &mut random), Some(1));
    }

    #[test]
    fn a_broker_that_takes_nothing_is_stalled_after_the_timeout() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        assert!(is_stalled(later, start, Duration::from_secs(4)));
        assert!(!is_stalled(later, start, Duration::from_secs(5)));
        assert!(!is_stalled(later, start, Duration::ZERO), "off");
        assert!(!is_stalled(start, later, Duration::from_nanos(1)));
    }
}

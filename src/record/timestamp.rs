//! A record's time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A record's time: milliseconds since 1970, and whose clock they are from.
///
/// The same type goes in, with a [`Record`](crate::Record), and comes out, with a
/// [`RecordMetadata`](crate::RecordMetadata) and a record that is read. Where an `Option<Timestamp>` is `None`, the
/// record has no time, which is possible only in the oldest message format, or its time is not known.
///
/// ```
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// use kafka_blocking::{Record, Timestamp, TimestampType};
///
/// let moment = Timestamp::from_millis(1_700_000_000_000);
/// assert_eq!(moment, Timestamp::from(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
/// assert_eq!((moment.millis(), moment.timestamp_type()), (1_700_000_000_000, TimestampType::CreateTime));
/// let record = Record::to("readings").timestamp(SystemTime::now());
/// # let _ = record;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    millis: i64,
    timestamp_type: TimestampType,
}

/// Which clock a record's timestamp is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's: set by its caller, or when the record was sent.
    CreateTime,
    /// The broker's: when the record was appended to the log (`message.timestamp.type=LogAppendTime`).
    LogAppendTime,
}

impl Timestamp {
    /// The time that is `millis` milliseconds after the beginning of 1970, by the producer's clock.
    pub const fn from_millis(millis: i64) -> Self {
        Self::new(millis, TimestampType::CreateTime)
    }

    /// The time that is `millis` milliseconds after the beginning of 1970, by the clock that `timestamp_type` says.
    pub const fn new(millis: i64, timestamp_type: TimestampType) -> Self {
        Self { millis, timestamp_type }
    }

    /// Milliseconds since 1970; negative before that.
    pub const fn millis(self) -> i64 {
        self.millis
    }

    /// Which clock it is from.
    pub const fn timestamp_type(self) -> TimestampType {
        self.timestamp_type
    }

    /// The time as the standard library's type, or `None` where the operating system cannot express it.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.millis.unsigned_abs());
        if self.millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
    }

    /// From the number in the protocol and in logs, which is -1 where there is no time.
    pub(crate) const fn from_wire(millis: i64, timestamp_type: TimestampType) -> Option<Self> {
        if millis < 0 { None } else { Some(Self::new(millis, timestamp_type)) }
    }
}

/// A time of the program's own clock. One that does not fit becomes the nearest one that does.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }
}

/// Milliseconds since 1970.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.millis, f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.millis, self.timestamp_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_system_comes_back_to_the_millisecond() {
        for (time, millis) in [
            (UNIX_EPOCH + Duration::from_micros(1_999), 1),
            (UNIX_EPOCH - Duration::from_millis(2), -2),
            (UNIX_EPOCH + Duration::from_secs(1_700_000_000), 1_700_000_000_000),
        ] {
            let timestamp = Timestamp::from(time);
            assert_eq!((timestamp.millis(), timestamp.timestamp_type()), (millis, TimestampType::CreateTime));
            let back = timestamp.to_system_time().unwrap();
            assert_eq!(Timestamp::from(back), timestamp);
        }
        for extreme in [i64::MIN, i64::MAX] {
            // Whether or not the operating system can express it, nothing panics.
            let _ = Timestamp::from_millis(extreme).to_system_time();
        }
    }

    #[test]
    fn a_time_that_is_not_there_costs_no_space() {
        assert_eq!(size_of::<Option<Timestamp>>(), size_of::<Option<i64>>());
        assert_eq!(Timestamp::from_wire(-1, TimestampType::CreateTime), None);
        assert_eq!(Timestamp::from_wire(0, TimestampType::LogAppendTime).map(Timestamp::millis), Some(0));
    }

    #[test]
    fn a_timestamp_says_whose_clock_it_is_from() {
        let appended = Timestamp::new(5, TimestampType::LogAppendTime);
        assert_ne!(appended, Timestamp::from_millis(5));
        assert_eq!(format!("{appended} {appended:?}"), "5 5 (LogAppendTime)");
    }
}

//! Where reading begins, and what is seen.

use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::record::Timestamp;

/// Where the reading of a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest record that the partition still has.
    Beginning,
    /// Behind the newest record: with what is written from then on. For [`IsolationLevel::Committed`](crate::IsolationLevel::Committed) it is where the
    /// oldest open transaction begins.
    End,
    /// With the record of this offset, or the next one that there is.
    Offset(i64),
    /// With the first record whose timestamp is not before this time; at the end where there is none.
    Time(SystemTime),
    /// [`Time`](Self::Time) for this long before the broker is asked.
    Ago(Duration),
}

/// The special timestamps of ListOffsets.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

impl Start {
    /// The offset, where nobody has to be asked for it.
    pub(crate) fn offset(self) -> Option<i64> {
        match self {
            Self::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// *Errors*: `InvalidInput` for a negative offset.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Offset(offset) if offset < 0 => {
                Err(Error::invalid(format!("the offset {offset} is negative; they count from 0")))
            }
            _ => Ok(()),
        }
    }

    /// What ListOffsets is asked for at this time.
    pub(crate) fn timestamp(self, now: SystemTime) -> i64 {
        let time = |time: SystemTime| Timestamp::from(time).millis().max(0);
        match self {
            Self::Beginning => EARLIEST,
            Self::End | Self::Offset(_) => LATEST,
            Self::Time(at) => time(at),
            Self::Ago(before) => now.checked_sub(before).map_or(0, time),
        }
    }
}

/// What becomes of a partition whose position its leader does not have (any more): records were deleted before they
/// were read, or the log was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutOfRange {
    /// An error, and no further record of the partition until the program seeks. Java: `none`.
    #[default]
    Error,
    /// It goes on with the oldest record. Java: `earliest`.
    Beginning,
    /// It goes on with what is written from then on. Java: `latest`.
    End,
}

impl OutOfRange {
    /// Where to go on, if anywhere.
    pub(crate) fn start(self) -> Option<Start> {
        match self {
            Self::Error => None,
            Self::Beginning => Some(Start::Beginning),
            Self::End => Some(Start::End),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_start_is_asked_for_as_the_protocol_has_it() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(Start::Beginning.timestamp(at(9)), -2);
        assert_eq!(Start::End.timestamp(at(9)), -1);
        assert_eq!(Start::Time(at(7)).timestamp(at(9)), 7000);
        assert_eq!(Start::Ago(Duration::from_secs(7)).timestamp(at(9)), 2000);
        // No time before 1970 is one of the special ones.
        assert_eq!(Start::Time(UNIX_EPOCH - Duration::from_millis(2)).timestamp(at(9)), 0);
        assert_eq!(Start::Ago(Duration::MAX).timestamp(at(9)), 0);
        assert_eq!((Start::Offset(5).offset(), Start::End.offset()), (Some(5), None));
    }
}

//! Settings: those that every client has, and what each builder needs to check its own settings and to read them from
//! properties.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod properties;
pub(crate) mod servers;
pub(crate) mod siblings;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, Result};

/// The longest duration that the wire and Java's settings hold: about 24.8 days.
const MAX_DURATION: Duration = Duration::from_millis(i32::MAX.unsigned_abs() as u64);

/// The largest size that the wire holds.
pub(crate) const MAX_WIRE_BYTES: usize = i32::MAX.unsigned_abs() as usize;

/// Checks a duration against the least that makes sense, for the `reason` given, and against the most. The most is the
/// same for all, so that Java's property and the field of the request, where there is one, can hold the value.
pub(crate) fn check_duration(label: &str, value: Duration, least: Duration, reason: &str, faults: &mut Vec<String>) {
    if value < least {
        faults.push(format!("{label} is {value:?}, it must be at least {least:?}: {reason}"));
    } else if value > MAX_DURATION {
        faults.push(format!("{label} is {value:?}, it must be at most {} ms", MAX_DURATION.as_millis()));
    }
}

/// Checks a size or a count.
pub(crate) fn check_size(
    label: &str,
    value: usize,
    unit: &str,
    bounds: RangeInclusive<usize>,
    reason: &str,
    faults: &mut Vec<String>,
) {
    if !bounds.contains(&value) {
        let (least, most) = (bounds.start(), bounds.end());
        faults.push(format!("{label} is {value}{unit}, it must be in {least} to {most}: {reason}"));
    }
}

/// Every check of a builder ends with this. *Errors*: `Config` with all faults, if there are any.
pub(crate) fn report(faults: &[String]) -> Result<()> {
    match faults {
        [] => Ok(()),
        [fault] => Err(Error::config(format!("wrong setting: {fault}"))),
        _ => Err(Error::config(format!("{} wrong settings: {}", faults.len(), faults.join("; ")))),
    }
}

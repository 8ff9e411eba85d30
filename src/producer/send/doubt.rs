//! What a failed batch means for the transaction that it was part of.

use crate::error::{Error, ErrorCode, ErrorKind};

/// Whether an error that a batch failed with ends the producer; after every other one the transaction can be aborted.
pub(crate) fn ends_the_producer(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Broker(code) => matches!(
            code,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::PRODUCER_FENCED
                | ErrorCode::UNSUPPORTED_VERSION
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        ),
        ErrorKind::Bug => true,
        _ => false,
    }
}

/// What is known of the sequence numbers once batches have failed. In order of weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Every batch that was given numbers is in the log.
    #[default]
    None,
    /// A batch was refused, and its numbers are free again.
    Refused,
    /// A batch that failed may be in the log, or the broker no longer knows the numbers: only a new epoch helps.
    Lost,
}

/// What a failed batch says of the sequence numbers.
pub(crate) fn doubt(error: &Error) -> Doubt {
    let lost = matches!(
        error.code(),
        Some(
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrorCode::UNKNOWN_PRODUCER_ID
                | ErrorCode::INVALID_PRODUCER_EPOCH
        )
    );
    match error.kind() {
        _ if lost || error.may_be_written() => Doubt::Lost,
        // What is given up by an abort was not refused by anybody.
        ErrorKind::Aborted => Doubt::None,
        _ => Doubt::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Written;

    #[test]
    fn a_failed_batch_leaves_doubt_only_where_its_numbers_may_be_used() {
        let refused = Error::broker(ErrorCode::INVALID_RECORD, None);
        assert_eq!(doubt(&refused), Doubt::Refused);
        assert_eq!(doubt(&refused.clone().with_written(Written::Maybe)), Doubt::Lost);
        assert_eq!(doubt(&Error::broker(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, None)), Doubt::Lost);
        let aborted = Error::new(ErrorKind::Aborted, crate::error::Recovery::Retry, "aborted");
        assert_eq!(doubt(&aborted), Doubt::None);
        assert_eq!(doubt(&aborted.with_written(Written::Maybe)), Doubt::Lost);
        assert!(ends_the_producer(&Error::broker(ErrorCode::PRODUCER_FENCED, None)));
        assert!(!ends_the_producer(&Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    }
}

//! What a failed batch means for the transaction that it was part of.

use crate::error::{Error, ErrorCode, ErrorKind};

/// Whether the error of a failed batch ends the producer. After any other error the transaction can be aborted.
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

/// What failed batches leave in the sequence numbers. The worst comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SequenceGap {
    /// No gap: every batch that was given numbers is in the log.
    #[default]
    None,
    /// A batch was refused, and its numbers can be used again.
    Reusable,
    /// A batch that failed may be in the log, or the broker no longer knows the numbers: only a new epoch helps.
    Lost,
}

/// What a failed batch leaves in the sequence numbers.
pub(crate) fn sequence_gap(error: &Error) -> SequenceGap {
    let lost = matches!(
        error.code(),
        Some(
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrorCode::UNKNOWN_PRODUCER_ID
                | ErrorCode::INVALID_PRODUCER_EPOCH
        )
    );
    match error.kind() {
        _ if lost || error.may_be_written() => SequenceGap::Lost,
        // Batches that an abort gives up were not refused by a broker.
        ErrorKind::Aborted => SequenceGap::None,
        _ => SequenceGap::Reusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Written;

    #[test]
    fn a_failed_batch_leaves_doubt_only_where_its_numbers_may_be_used() {
        let refused = Error::broker(ErrorCode::INVALID_RECORD, None);
        assert_eq!(sequence_gap(&refused), SequenceGap::Reusable);
        assert_eq!(sequence_gap(&refused.clone().with_written(Written::Maybe)), SequenceGap::Lost);
        assert_eq!(sequence_gap(&Error::broker(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, None)), SequenceGap::Lost);
        let aborted = Error::new(ErrorKind::Aborted, crate::error::Recovery::Retry, "aborted");
        assert_eq!(sequence_gap(&aborted), SequenceGap::None);
        assert_eq!(sequence_gap(&aborted.with_written(Written::Maybe)), SequenceGap::Lost);
        assert!(ends_the_producer(&Error::broker(ErrorCode::PRODUCER_FENCED, None)));
        assert!(!ends_the_producer(&Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    }
}

//! What an answer of a broker means for a batch: one pure function, one table.

use crate::error::{Error, ErrorCode, Recovery};

/// What a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFacts {
    pub(crate) code: ErrorCode,
    /// The producer is idempotent.
    pub(crate) idempotent: bool,
    /// The batch is part of a transaction, which fails with it.
    pub(crate) transactional: bool,
    /// How many records the batch has.
    pub(crate) count: u32,
    /// The broker should have everything that comes before the batch.
    pub(crate) is_due: bool,
    /// How often the batch was sent.
    pub(crate) attempts: u32,
    /// How often it may be sent again.
    pub(crate) retries: u32,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchVerdict {
    /// It is in the log.
    Acknowledge,
    /// Send the same bytes again, after a back-off.
    Retry,
    /// Send it again once the batches before it have their result: the broker refused it because one of them is
    /// missing.
    Wait,
    /// Send it again under a new epoch: the broker no longer knows what it had acknowledged (KIP-360).
    NewEpoch,
    /// Send it again in smaller parts.
    Split,
    /// Its records fail.
    Fail,
    /// Its records fail, and so do all other records of the producer, present and later ones.
    FailProducer,
}

/// What is to be done with a batch after an answer.
pub(crate) fn batch_verdict(facts: BatchFacts) -> BatchVerdict {
    let may_retry = facts.attempts <= facts.retries;
    match facts.code {
        // A duplicate is a success whose offset the broker no longer knows; brokers since 1.0 answer with the offset.
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => BatchVerdict::Acknowledge,
        ErrorCode::MESSAGE_TOO_LARGE if facts.count > 1 => BatchVerdict::Split,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID if facts.idempotent => {
            if !facts.is_due {
                BatchVerdict::Wait
            } else if may_retry && !facts.transactional {
                BatchVerdict::NewEpoch
            } else {
                BatchVerdict::Fail
            }
        }
        ErrorCode::INVALID_PRODUCER_EPOCH if facts.idempotent && may_retry && !facts.transactional => {
            BatchVerdict::NewEpoch
        }
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::PRODUCER_FENCED
            if facts.idempotent =>
        {
            BatchVerdict::FailProducer
        }
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED if facts.transactional => BatchVerdict::FailProducer,
        code if code.is_retriable() && may_retry => BatchVerdict::Retry,
        _ => BatchVerdict::Fail,
    }
}

/// What a code means for a producer. For some codes that is more than their general meaning.
pub(crate) fn recovery(code: ErrorCode) -> Recovery {
    match code {
        // After an abort the producer has its next epoch, and can begin a new transaction.
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_TXN_STATE => Recovery::AbortTransaction,
        // These end the producer: all its records fail. A new producer may succeed with other settings, other rights,
        // or another producer id.
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::TRANSACTION_COORDINATOR_FENCED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Recovery::Fatal,
        code => code.recovery(),
    }
}

/// The error that a broker's code stands for when it refuses a batch; `detail` is the broker's own text, where it sent
/// one.
pub(crate) fn refusal(code: ErrorCode, detail: Option<&str>) -> Error {
    Error::broker(code, detail).with_recovery(recovery(code)).with_written(code.written())
}

/// The advice for an idempotent producer without the right to write.
const IDEMPOTENT_WRITE: &str = "an idempotent producer needs the right IdempotentWrite on the cluster, or, from \
    Kafka 2.8 on, Write on any topic; without it, set `idempotence(false)` (enable.idempotence)";

/// Advice for a code whose meaning alone does not say what to do.
pub(crate) fn advice(code: ErrorCode, idempotent: bool) -> Option<&'static str> {
    match code {
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED if idempotent => Some(IDEMPOTENT_WRITE),
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => Some("the producer needs the right Write on the topic"),
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            Some("the producer needs the right Write on its transactional id")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(code: ErrorCode, change: impl FnOnce(&mut BatchFacts)) -> BatchVerdict {
        let mut facts = BatchFacts {
            code,
            idempotent: true,
            transactional: false,
            count: 10,
            is_due: true,
            attempts: 1,
            retries: u32::MAX,
        };
        change(&mut facts);
        batch_verdict(facts)
    }

    /// What `Error::recovery` says to a producer's user when a batch is refused with a code. All others say `Retry`.
    const FIX: [i16; 71] = [
        1, 4, 10, 12, 17, 18, 21, 23, 24, 26, 28, 29, 30, 32, 33, 34, 36, 37, 38, 39, 40, 42, 43, 44, 50, 54, 57, 58,
        61, 62, 63, 64, 65, 66, 67, 68, 69, 73, 76, 81, 84, 85, 86, 87, 91, 92, 93, 94, 95, 96, 97, 99, 101, 104, 105,
        111, 112, 114, 115, 116, 118, 119, 121, 124, 125, 126, 127, 128, 130, 131, 132,
    ];
    const ABORT: [i16; 3] = [47, 48, 120];
    const FATAL: [i16; 7] = [31, 35, 49, 52, 53, 82, 90];

    /// Codes that mean more for a producer: the code, its general meaning, and its meaning for a producer.
    const MORE: [(ErrorCode, Recovery, Recovery); 7] = [
        // A missing right, an unknown version, an unknown id, a replaced coordinator: repeating the request cannot
        // help, and a producer cannot go on without its epoch and its sequence numbers.
        (ErrorCode::CLUSTER_AUTHORIZATION_FAILED, Recovery::Fix, Recovery::Fatal),
        (ErrorCode::UNSUPPORTED_VERSION, Recovery::Fix, Recovery::Fatal),
        (ErrorCode::INVALID_PRODUCER_ID_MAPPING, Recovery::Fix, Recovery::Fatal),
        (ErrorCode::TRANSACTION_COORDINATOR_FENCED, Recovery::Fix, Recovery::Fatal),
        (ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Recovery::Fix, Recovery::Fatal),
        // The request does not fit what the coordinator knows. After an abort the producer's next transaction does.
        (ErrorCode::INVALID_PRODUCER_EPOCH, Recovery::Fix, Recovery::AbortTransaction),
        (ErrorCode::INVALID_TXN_STATE, Recovery::Fix, Recovery::AbortTransaction),
    ];

    #[test]
    fn every_code_says_what_a_producers_user_can_do() {
        for code in (-2..=140).map(ErrorCode) {
            let wanted = match code.0 {
                number if FIX.contains(&number) => Recovery::Fix,
                number if ABORT.contains(&number) => Recovery::AbortTransaction,
                number if FATAL.contains(&number) => Recovery::Fatal,
                _ => Recovery::Retry,
            };
            assert_eq!(recovery(code), wanted, "{code}");
            assert_eq!(refusal(code, None).recovery(), wanted, "{code}");
            let in_itself = match MORE.iter().find(|(other, ..)| *other == code) {
                Some((_, in_itself, for_a_producer)) => {
                    assert_eq!(wanted, *for_a_producer, "{code}");
                    *in_itself
                }
                None => wanted,
            };
            assert_eq!(code.recovery(), in_itself, "{code}");
        }
    }

    #[test]
    fn every_retriable_code_is_retried_until_the_retries_are_used_up() {
        let mut retriable = 0;
        for code in (-1..=140).map(ErrorCode).filter(|code| code.is_retriable()) {
            assert_eq!(judge(code, |_| ()), BatchVerdict::Retry, "{code}");
            assert_eq!(judge(code, |facts| (facts.attempts, facts.retries) = (3, 3)), BatchVerdict::Retry, "{code}");
            assert_eq!(judge(code, |facts| (facts.attempts, facts.retries) = (4, 3)), BatchVerdict::Fail, "{code}");
            retriable += 1;
        }
        assert!(retriable > 20);
    }

    #[test]
    fn codes_with_a_meaning_of_their_own() {
        assert_eq!(judge(ErrorCode::NONE, |_| ()), BatchVerdict::Acknowledge);
        assert_eq!(judge(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, |_| ()), BatchVerdict::Acknowledge);
        assert_eq!(judge(ErrorCode::MESSAGE_TOO_LARGE, |_| ()), BatchVerdict::Split);
        assert_eq!(judge(ErrorCode::MESSAGE_TOO_LARGE, |facts| facts.count = 1), BatchVerdict::Fail);
        assert_eq!(judge(ErrorCode::RECORD_LIST_TOO_LARGE, |_| ()), BatchVerdict::Fail);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |_| ()), BatchVerdict::NewEpoch);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |facts| facts.is_due = false), BatchVerdict::Wait);
        assert_eq!(
            judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |facts| facts.idempotent = false),
            BatchVerdict::Fail
        );
        assert_eq!(judge(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, |_| ()), BatchVerdict::FailProducer);
        assert_eq!(
            judge(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, |facts| facts.idempotent = false),
            BatchVerdict::Fail
        );
        assert_eq!(judge(ErrorCode::INVALID_PRODUCER_EPOCH, |_| ()), BatchVerdict::NewEpoch);
        for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::INVALID_RECORD, ErrorCode(999), ErrorCode(-1)] {
            assert_eq!(judge(code, |_| ()), BatchVerdict::Fail, "{code}");
        }
    }

    #[test]
    fn a_transaction_fails_where_another_epoch_would_be_taken() {
        let judge = |code, is_due| judge(code, |facts| (facts.transactional, facts.is_due) = (true, is_due));
        for code in [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID] {
            assert_eq!(judge(code, true), BatchVerdict::Fail);
            assert_eq!(judge(code, false), BatchVerdict::Wait);
        }
        assert_eq!(judge(ErrorCode::INVALID_PRODUCER_EPOCH, true), BatchVerdict::Fail);
        assert_eq!(judge(ErrorCode::INVALID_TXN_STATE, true), BatchVerdict::Fail);
        assert_eq!(judge(ErrorCode::TRANSACTION_ABORTABLE, true), BatchVerdict::Fail);
        assert_eq!(judge(ErrorCode::CONCURRENT_TRANSACTIONS, true), BatchVerdict::Retry);
        for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED] {
            assert_eq!(judge(code, true), BatchVerdict::FailProducer);
        }
    }
}

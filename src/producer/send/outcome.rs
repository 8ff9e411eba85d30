//! What an answer of a broker means for a batch: one pure function, one table.

use crate::error::ErrorCode;

/// What a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
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

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the log.
    Acknowledge,
    /// Send the same bytes again, after a back-off.
    Retry,
    /// Send it again once the batches before it are settled: the broker refused it because one of them is missing.
    Wait,
    /// Send it again under a new epoch: the broker no longer knows what it had acknowledged (KIP-360).
    NewEpoch,
    /// Send it again in smaller parts.
    Split,
    /// Its records fail.
    Fail,
    /// Its records fail, and so does everything that the producer still has or is given.
    FailProducer,
}

/// Judges an answer.
pub(crate) fn verdict(facts: Facts) -> Verdict {
    let may_retry = facts.attempts <= facts.retries;
    match facts.code {
        // A duplicate is a success whose offset the broker no longer knows; brokers since 1.0 answer with the offset.
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Acknowledge,
        ErrorCode::MESSAGE_TOO_LARGE if facts.count > 1 => Verdict::Split,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER | ErrorCode::UNKNOWN_PRODUCER_ID if facts.idempotent => {
            if !facts.is_due {
                Verdict::Wait
            } else if may_retry && !facts.transactional {
                Verdict::NewEpoch
            } else {
                Verdict::Fail
            }
        }
        ErrorCode::INVALID_PRODUCER_EPOCH if facts.idempotent && may_retry && !facts.transactional => Verdict::NewEpoch,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING
        | ErrorCode::PRODUCER_FENCED
            if facts.idempotent =>
        {
            Verdict::FailProducer
        }
        ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED if facts.transactional => Verdict::FailProducer,
        code if code.is_retriable() && may_retry => Verdict::Retry,
        _ => Verdict::Fail,
    }
}

/// What an idempotent producer may lack.
const IDEMPOTENT_WRITE: &str = "an idempotent producer needs the right IdempotentWrite on the cluster, or, from \
    Kafka 2.8 on, Write on any topic; without it, set `idempotence(false)` (enable.idempotence)";

/// What is to be done about an answer, where it takes more than its code to know that.
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

    fn judge(code: ErrorCode, change: impl FnOnce(&mut Facts)) -> Verdict {
        let mut facts = Facts {
            code,
            idempotent: true,
            transactional: false,
            count: 10,
            is_due: true,
            attempts: 1,
            retries: u32::MAX,
        };
        change(&mut facts);
        verdict(facts)
    }

    #[test]
    fn every_retriable_code_is_retried_until_the_retries_are_used_up() {
        let mut retriable = 0;
        for code in (-1..=140).map(ErrorCode).filter(|code| code.is_retriable()) {
            assert_eq!(judge(code, |_| ()), Verdict::Retry, "{code}");
            assert_eq!(judge(code, |facts| (facts.attempts, facts.retries) = (3, 3)), Verdict::Retry, "{code}");
            assert_eq!(judge(code, |facts| (facts.attempts, facts.retries) = (4, 3)), Verdict::Fail, "{code}");
            retriable += 1;
        }
        assert!(retriable > 20);
    }

    #[test]
    fn codes_with_a_meaning_of_their_own() {
        assert_eq!(judge(ErrorCode::NONE, |_| ()), Verdict::Acknowledge);
        assert_eq!(judge(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, |_| ()), Verdict::Acknowledge);
        assert_eq!(judge(ErrorCode::MESSAGE_TOO_LARGE, |_| ()), Verdict::Split);
        assert_eq!(judge(ErrorCode::MESSAGE_TOO_LARGE, |facts| facts.count = 1), Verdict::Fail);
        assert_eq!(judge(ErrorCode::RECORD_LIST_TOO_LARGE, |_| ()), Verdict::Fail);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |_| ()), Verdict::NewEpoch);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |facts| facts.is_due = false), Verdict::Wait);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, |facts| facts.idempotent = false), Verdict::Fail);
        assert_eq!(judge(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, |_| ()), Verdict::FailProducer);
        assert_eq!(judge(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, |facts| facts.idempotent = false), Verdict::Fail);
        assert_eq!(judge(ErrorCode::INVALID_PRODUCER_EPOCH, |_| ()), Verdict::NewEpoch);
        for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::INVALID_RECORD, ErrorCode(999), ErrorCode(-1)] {
            assert_eq!(judge(code, |_| ()), Verdict::Fail, "{code}");
        }
    }

    #[test]
    fn a_transaction_fails_where_another_epoch_would_be_taken() {
        let judge = |code, is_due| judge(code, |facts| (facts.transactional, facts.is_due) = (true, is_due));
        for code in [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID] {
            assert_eq!(judge(code, true), Verdict::Fail);
            assert_eq!(judge(code, false), Verdict::Wait);
        }
        assert_eq!(judge(ErrorCode::INVALID_PRODUCER_EPOCH, true), Verdict::Fail);
        assert_eq!(judge(ErrorCode::INVALID_TXN_STATE, true), Verdict::Fail);
        assert_eq!(judge(ErrorCode::TRANSACTION_ABORTABLE, true), Verdict::Fail);
        assert_eq!(judge(ErrorCode::CONCURRENT_TRANSACTIONS, true), Verdict::Retry);
        for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED] {
            assert_eq!(judge(code, true), Verdict::FailProducer);
        }
    }
}

//! What an error code means for a transaction, request by request: one pure function for the coordinators' answers, one
//! for the batches'.

use crate::error::{Error, ErrorCode, ErrorKind};

/// A request of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStep {
    /// FindCoordinator of the transactional id, or of the group whose offsets are committed.
    Find(CoordinatorType),
    /// InitProducerId of a new instance.
    Init,
    /// InitProducerId of a producer that has an identity and wants its next epoch (KIP-360).
    Bump,
    /// AddPartitionsToTxn.
    AddPartitions,
    /// AddOffsetsToTxn.
    AddOffsets,
    /// TxnOffsetCommit, which goes to the group's coordinator.
    CommitOffsets,
    /// EndTxn.
    End { commit: bool },
}

/// Whose coordinator it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoordinatorType {
    Transaction,
    Group,
}

impl TransactionStep {
    /// Which coordinator answers it.
    pub(crate) fn coordinator(self) -> CoordinatorType {
        match self {
            Self::Find(whose) => whose,
            Self::CommitOffsets => CoordinatorType::Group,
            Self::Init | Self::Bump | Self::AddPartitions | Self::AddOffsets | Self::End { .. } => {
                CoordinatorType::Transaction
            }
        }
    }
}

/// What is to be done after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepVerdict {
    /// Repeat the request after a back-off.
    Again,
    /// Repeat the request very soon: the end of the previous transaction takes milliseconds.
    Soon,
    /// Find the coordinator again, then repeat the request.
    Find,
    /// `init_transactions` fails, and can be called again when the cause is removed.
    Refuse,
    /// The transaction can only be aborted.
    Abort,
    /// Another producer has taken the transactional id.
    Fenced,
    /// The producer can do nothing more.
    Fatal,
}

/// What a verdict depends on besides step and code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepFacts {
    /// Transactions V2 (KIP-890).
    pub(crate) v2: bool,
    /// The producer can get a new epoch after an abort. In V2 the end of every transaction gives one; in V1 this needs
    /// a coordinator with KIP-360 (Kafka 2.5).
    pub(crate) can_bump: bool,
}

/// What is to be done after a coordinator's answer. The same as in Java's `TransactionManager` of Kafka 4.2, with two
/// exceptions in transactions V2:
///
/// INVALID_TXN_STATE to a commit leads to an abort: the coordinator answers so only if the transaction is not
/// committed, because it timed out and was aborted, or because no request of it had arrived. INVALID_PRODUCER_EPOCH to
/// TxnOffsetCommit leads to an abort as well: a transaction that timed out is also aborted under the next epoch.
pub(crate) fn step_verdict(step: TransactionStep, code: ErrorCode, facts: StepFacts) -> StepVerdict {
    let abort_or_die = if facts.can_bump { StepVerdict::Abort } else { StepVerdict::Fatal };
    match (step, code) {
        (TransactionStep::Find(_), ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) => {
            StepVerdict::Again
        }
        (_, ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE)
        | (TransactionStep::CommitOffsets, ErrorCode::REQUEST_TIMED_OUT) => StepVerdict::Find,
        (_, ErrorCode::CONCURRENT_TRANSACTIONS) => StepVerdict::Soon,
        (_, code) if code.is_retriable() => StepVerdict::Again,
        // The group's coordinator answers so also after a transaction has timed out; the abort shows which of the two
        // it is.
        (TransactionStep::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH) if facts.v2 => StepVerdict::Abort,
        (_, ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH) => StepVerdict::Fenced,
        (TransactionStep::Init, ErrorCode::TRANSACTION_ABORTABLE)
        | (
            TransactionStep::Init | TransactionStep::Find(CoordinatorType::Transaction),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        ) => StepVerdict::Refuse,
        (_, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        | (TransactionStep::Init | TransactionStep::Bump, _)
        | (TransactionStep::End { commit: false }, ErrorCode::TRANSACTION_ABORTABLE) => StepVerdict::Fatal,
        (_, ErrorCode::TRANSACTION_ABORTABLE) => StepVerdict::Abort,
        (
            TransactionStep::AddPartitions | TransactionStep::AddOffsets | TransactionStep::End { .. },
            ErrorCode::UNKNOWN_PRODUCER_ID,
        ) => abort_or_die,
        (TransactionStep::AddPartitions, ErrorCode::INVALID_TXN_STATE | ErrorCode::INVALID_PRODUCER_ID_MAPPING) => {
            StepVerdict::Fatal
        }
        (TransactionStep::AddPartitions, _)
        | (
            TransactionStep::Find(CoordinatorType::Group)
            | TransactionStep::AddOffsets
            | TransactionStep::CommitOffsets,
            ErrorCode::GROUP_AUTHORIZATION_FAILED,
        )
        | (
            TransactionStep::CommitOffsets,
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::FENCED_INSTANCE_ID,
        ) => StepVerdict::Abort,
        (TransactionStep::End { commit: true }, ErrorCode::INVALID_TXN_STATE) if facts.v2 => StepVerdict::Abort,
        (
            TransactionStep::Find(_)
            | TransactionStep::AddOffsets
            | TransactionStep::CommitOffsets
            | TransactionStep::End { .. },
            _,
        ) => StepVerdict::Fatal,
    }
}

/// Whether an error to EndTxn proves that the request was not carried out: the coordinator refuses before it writes
/// anything. Other errors prove nothing: NOT_COORDINATOR and COORDINATOR_NOT_AVAILABLE are also answered if the
/// decision was written and not replicated in time, and it may become valid with the next coordinator.
pub(crate) fn denies_the_end(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Broker(code) => matches!(
            code,
            ErrorCode::PRODUCER_FENCED
                | ErrorCode::INVALID_PRODUCER_EPOCH
                | ErrorCode::INVALID_TXN_STATE
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTION_ABORTABLE
                | ErrorCode::CONCURRENT_TRANSACTIONS
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                | ErrorCode::UNSUPPORTED_VERSION
                | ErrorCode::INVALID_REQUEST
        ),
        // The broker does not know the version.
        ErrorKind::UnsupportedVersion => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: StepFacts = StepFacts { v2: true, can_bump: true };
    const V1: StepFacts = StepFacts { v2: false, can_bump: true };
    const OLD: StepFacts = StepFacts { v2: false, can_bump: false };

    const STEPS: [TransactionStep; 9] = [
        TransactionStep::Find(CoordinatorType::Transaction),
        TransactionStep::Find(CoordinatorType::Group),
        TransactionStep::Init,
        TransactionStep::Bump,
        TransactionStep::AddPartitions,
        TransactionStep::AddOffsets,
        TransactionStep::CommitOffsets,
        TransactionStep::End { commit: true },
        TransactionStep::End { commit: false },
    ];

    /// A row of the table: the verdicts in the order of [`STEPS`]. R again, S soon, C find, I refused, A abort,
    /// X fenced, F fatal.
    fn check(code: ErrorCode, facts: StepFacts, row: &str) {
        for (step, wanted) in STEPS.iter().zip(row.split(' ')) {
            let wanted = match wanted {
                "R" => StepVerdict::Again,
                "S" => StepVerdict::Soon,
                "C" => StepVerdict::Find,
                "I" => StepVerdict::Refuse,
                "A" => StepVerdict::Abort,
                "X" => StepVerdict::Fenced,
                "F" => StepVerdict::Fatal,
                other => panic!("{other}"),
            };
            assert_eq!(step_verdict(*step, code, facts), wanted, "{code} to {step:?}, {facts:?}");
        }
    }

    #[test]
    fn every_code_of_the_table_has_its_verdict() {
        for facts in [V1, V2, OLD] {
            //                                              find  find-group init bump partitions offsets commit end abort
            check(ErrorCode::NOT_COORDINATOR, facts, "R R C C C C C C C");
            check(ErrorCode::COORDINATOR_NOT_AVAILABLE, facts, "R R C C C C C C C");
            check(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, facts, "R R R R R R R R R");
            check(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, facts, "R R R R R R R R R");
            check(ErrorCode::REQUEST_TIMED_OUT, facts, "R R R R R R C R R");
            check(ErrorCode::CONCURRENT_TRANSACTIONS, facts, "S S S S S S S S S");
            check(ErrorCode::PRODUCER_FENCED, facts, "X X X X X X X X X");
            check(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, facts, "I F I F F F F F F");
            check(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, facts, "I F I F A F F F F");
            check(ErrorCode::INVALID_PRODUCER_ID_MAPPING, facts, "F F F F F F F F F");
            check(ErrorCode::TOPIC_AUTHORIZATION_FAILED, facts, "F F F F A F F F F");
            check(ErrorCode::OPERATION_NOT_ATTEMPTED, facts, "F F F F A F F F F");
            check(ErrorCode::GROUP_AUTHORIZATION_FAILED, facts, "F A F F A A A F F");
            check(ErrorCode::UNKNOWN_MEMBER_ID, facts, "F F F F A F A F F");
            check(ErrorCode::ILLEGAL_GENERATION, facts, "F F F F A F A F F");
            check(ErrorCode::STALE_MEMBER_EPOCH, facts, "F F F F A F A F F");
            check(ErrorCode::FENCED_INSTANCE_ID, facts, "F F F F A F A F F");
            check(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, facts, "F F F F A F F F F");
            check(ErrorCode::TRANSACTION_ABORTABLE, facts, "A A I F A A A A F");
            check(ErrorCode::INVALID_TRANSACTION_TIMEOUT, facts, "F F F F A F F F F");
            check(ErrorCode(999), facts, "F F F F A F F F F");
        }
        check(ErrorCode::INVALID_PRODUCER_EPOCH, V1, "X X X X X X X X X");
        check(ErrorCode::INVALID_PRODUCER_EPOCH, OLD, "X X X X X X X X X");
        check(ErrorCode::INVALID_PRODUCER_EPOCH, V2, "X X X X X X A X X");
        check(ErrorCode::INVALID_TXN_STATE, V1, "F F F F F F F F F");
        check(ErrorCode::INVALID_TXN_STATE, V2, "F F F F F F F A F");
        check(ErrorCode::UNKNOWN_PRODUCER_ID, V2, "F F F F A A F A A");
        check(ErrorCode::UNKNOWN_PRODUCER_ID, OLD, "F F F F F F F F F");
    }
}

use super::super::verdict::CoordinatorType;
use super::*;
use crate::offsets::GroupMetadata;
use crate::producer::send::batch_failure::sequence_gap;

const SECOND: Duration = Duration::from_secs(1);
const V1: Protocol = Protocol::V1 { can_bump: true };
const OLD: Protocol = Protocol::V1 { can_bump: false };

/// The state with a clock that the test sets.
struct StateFixture {
    state: TransactionPhase,
    config: TransactionConfig,
    now: Instant,
}

impl StateFixture {
    fn new() -> Self {
        let config = TransactionConfig { id: "shop".into(), timeout: 60 * SECOND };
        Self { state: TransactionPhase::Uninitialized { refused: None }, config, now: Instant::now() }
    }

    fn ready(protocol: Protocol) -> Self {
        let mut fixture = Self::new();
        fixture.on(TransactionEvent::Init);
        fixture.on(TransactionEvent::Initialized(session(protocol, 0)));
        fixture
    }

    fn open(protocol: Protocol) -> Self {
        let mut fixture = Self::ready(protocol);
        fixture.on(TransactionEvent::Begin { number: 1 });
        fixture
    }

    /// A state whose EndTxn is on its way.
    fn ending(protocol: Protocol, commit: bool) -> Self {
        let mut fixture = Self::open(protocol);
        if commit {
            fixture.on(TransactionEvent::Commit);
            fixture.on(TransactionEvent::Flushed { begun: Begun::Yes });
            fixture.on(TransactionEvent::Asked);
        } else {
            fixture.on(TransactionEvent::Abort);
            fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
        }
        fixture
    }

    fn on(&mut self, event: TransactionEvent) -> TransactionActions {
        let state = std::mem::replace(&mut self.state, TransactionPhase::Uninitialized { refused: None });
        let (state, actions) = state.on(&self.config, self.now, event);
        self.state = state;
        actions
    }

    fn refuse(&mut self, step: TransactionStep, code: ErrorCode) -> TransactionActions {
        self.on(TransactionEvent::Refused { step, error: Error::broker(code, None), sent: true, begun: Begun::Yes })
    }

    /// The error that every call is refused with.
    fn refusal(&self) -> (ErrorKind, Recovery) {
        let error = self.state.refusal().unwrap();
        (error.kind(), error.recovery())
    }

    fn producer(&self) -> ProducerIdAndEpoch {
        match &self.state {
            TransactionPhase::Ready(session) | TransactionPhase::Bumping(session) => session.producer,
            other => other.open().unwrap().session.producer,
        }
    }
}

fn session(protocol: Protocol, epoch: i16) -> ProducerSession {
    ProducerSession { producer: ProducerIdAndEpoch { producer_id: 7, epoch }, protocol }
}

fn next(epoch: i16) -> Option<ProducerIdAndEpoch> {
    Some(ProducerIdAndEpoch { producer_id: 7, epoch })
}

fn offsets(number: u64) -> TransactionOffsets {
    TransactionOffsets { number, group: GroupMetadata::new("group"), offsets: Arc::from([]) }
}

fn failed(error: Error) -> TransactionEvent {
    TransactionEvent::Failed { sequence_gap: sequence_gap(&error), error }
}

fn kind(actions: &TransactionActions) -> Option<ErrorKind> {
    actions.refused.as_ref().map(Error::kind)
}

#[test]
fn a_transaction_from_begin_to_commit() {
    let mut fixture = StateFixture::new();
    assert!(fixture.state.request().is_none());
    fixture.on(TransactionEvent::Init);
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::Init { known: ProducerIdAndEpoch::NONE })));
    fixture.on(TransactionEvent::Initialized(session(Protocol::V2, 0)));
    let begun = fixture.on(TransactionEvent::Begin { number: 1 });
    assert!(matches!(begun.gate, Some(GateAction::Open(opened)) if opened == session(Protocol::V2, 0)));
    assert!(fixture.state.refusal().is_none() && fixture.state.request().is_none());
    fixture.on(TransactionEvent::Commit);
    // The coordinator is not asked to commit before the last batch has its result.
    assert!(fixture.state.request().is_none());
    assert_eq!(fixture.refusal(), (ErrorKind::Misuse, Recovery::Fix));
    let flushed = fixture.on(TransactionEvent::Flushed { begun: Begun::Maybe });
    assert!(matches!(flushed.gate, Some(GateAction::Shut)) && flushed.ended.is_none());
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: true, .. })));
    let ended = fixture.on(TransactionEvent::Ended { next: next(1), protocol: Protocol::V2 });
    assert_eq!(ended.ended, Some((1, TransactionResult::Committed)));
    assert_eq!(fixture.producer(), next(1).unwrap());
}

#[test]
fn what_has_not_begun_ends_without_the_coordinator() {
    for protocol in [V1, OLD, Protocol::V2] {
        let mut fixture = StateFixture::open(protocol);
        fixture.on(TransactionEvent::Commit);
        assert_eq!(
            fixture.on(TransactionEvent::Flushed { begun: Begun::No }).ended,
            Some((1, TransactionResult::Committed))
        );
        fixture.on(TransactionEvent::Begin { number: 2 });
        fixture.on(TransactionEvent::Abort);
        assert_eq!(
            fixture.on(TransactionEvent::Drained { begun: Begun::No }).ended,
            Some((2, TransactionResult::Aborted))
        );
        assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
        assert_eq!(fixture.producer(), next(0).unwrap());
    }
}

#[test]
fn an_abort_that_finds_nothing_to_abort_has_ended() {
    let mut fixture = StateFixture::ending(V1, false);
    let error = Error::broker(ErrorCode::INVALID_TXN_STATE, None);
    let (step, begun) = (TransactionStep::End { commit: false }, Begun::Maybe);
    let ended = fixture.on(TransactionEvent::Refused { step, error, sent: true, begun });
    assert_eq!(ended.ended, Some((1, TransactionResult::Aborted)));
    assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
    // If it had begun, this answer would be a fault.
    let mut fixture = StateFixture::ending(V1, false);
    fixture.refuse(step, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(fixture.refusal().1, Recovery::Fatal);
}

#[test]
fn a_failed_batch_leaves_the_abort_only() {
    for during_commit in [false, true] {
        let mut fixture = StateFixture::open(Protocol::V2);
        if during_commit {
            fixture.on(TransactionEvent::Commit);
        }
        let failed = fixture.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
        assert!(matches!(failed.gate, Some(GateAction::Refuse(_))), "what waits fails, too");
        // That all batches are done comes too late, and changes nothing.
        fixture.on(TransactionEvent::Flushed { begun: Begun::Yes });
        assert!(fixture.state.request().is_none());
        let broker = ErrorKind::Broker(ErrorCode::INVALID_RECORD);
        assert_eq!(fixture.refusal(), (broker, Recovery::AbortTransaction));
        for event in
            [TransactionEvent::Commit, TransactionEvent::SendOffsets(offsets(1)), TransactionEvent::Begin { number: 2 }]
        {
            assert_eq!(kind(&fixture.on(event)), Some(broker));
        }
        assert_eq!(kind(&fixture.on(TransactionEvent::Abort)), None);
        assert!(fixture.state.request().is_none(), "batches in flight come first");
        fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
        assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: false, .. })));
        let ended = fixture.on(TransactionEvent::Ended { next: next(1), protocol: Protocol::V2 });
        assert_eq!(ended.ended, Some((1, TransactionResult::Aborted)));
        assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
    }
}

#[test]
fn a_failed_batch_is_followed_by_another_epoch() {
    let refused = Error::broker(ErrorCode::INVALID_RECORD, None);
    let lost = Error::broker(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, None);
    let maybe = refused.clone().with_written(Written::Maybe);
    let aborted = Error::new(ErrorKind::Aborted, Recovery::Retry, "");
    // (protocol, error, the state after the abort)
    let cases = [
        (Protocol::V2, &lost, "ready"),
        (V1, &aborted, "ready"),
        (V1, &refused, "bumping"),
        (V1, &lost, "bumping"),
        (V1, &maybe, "bumping"),
        (OLD, &aborted, "ready"),
        (OLD, &refused, "ready"),
        (OLD, &lost, "fatal"),
        (OLD, &maybe, "fatal"),
    ];
    for (protocol, error, wanted) in cases {
        for while_aborting in [false, true] {
            let mut fixture = StateFixture::open(protocol);
            if while_aborting {
                fixture.on(TransactionEvent::Abort);
            }
            fixture.on(failed(error.clone()));
            fixture.on(TransactionEvent::Abort);
            fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
            let ended = fixture.on(TransactionEvent::Ended { next: None, protocol });
            assert_eq!(ended.ended, Some((1, TransactionResult::Aborted)));
            let state = match &fixture.state {
                TransactionPhase::Ready(_) => "ready",
                TransactionPhase::Bumping(_) => "bumping",
                TransactionPhase::Fatal(_) => "fatal",
                other => panic!("{other:?}"),
            };
            assert_eq!(state, wanted, "{protocol:?} {error:?}");
            if state == "bumping" {
                let known = next(0).unwrap();
                assert!(
                    matches!(fixture.state.request(), Some(CoordinatorRequest::Init { known: asked }) if asked == known)
                );
                fixture.on(TransactionEvent::Initialized(session(protocol, 1)));
                assert_eq!(fixture.producer(), next(1).unwrap());
            }
        }
    }
}

#[test]
fn offsets_come_before_the_end() {
    let mut fixture = StateFixture::open(V1);
    fixture.on(TransactionEvent::SendOffsets(offsets(1)));
    fixture.on(TransactionEvent::SendOffsets(offsets(2)));
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::AddOffsets { .. })));
    fixture.on(TransactionEvent::GroupAdded);
    fixture.on(TransactionEvent::Commit);
    fixture.on(TransactionEvent::Flushed { begun: Begun::No });
    for number in [1, 2] {
        assert!(
            matches!(fixture.state.request(), Some(CoordinatorRequest::CommitOffsets { offsets, .. }) if offsets.number == number)
        );
        assert_eq!(fixture.on(TransactionEvent::OffsetsCommitted).offsets_done, Some(number));
    }
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: true, .. })));

    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.on(TransactionEvent::SendOffsets(offsets(1)));
    assert!(
        matches!(fixture.state.request(), Some(CoordinatorRequest::CommitOffsets { .. })),
        "V2 adds the group on the way"
    );
    fixture.on(TransactionEvent::Abort);
    fixture.on(TransactionEvent::OffsetsCommitted);
    fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: false, .. })));
}

#[test]
fn a_commit_that_may_be_done_is_not_aborted() {
    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.on(TransactionEvent::Commit);
    assert_eq!(kind(&fixture.on(TransactionEvent::Commit)), None, "it goes on");
    let mut early = StateFixture::open(Protocol::V2);
    early.on(TransactionEvent::Commit);
    assert_eq!(kind(&early.on(TransactionEvent::Abort)), None, "nothing is decided yet");
    fixture.on(TransactionEvent::Flushed { begun: Begun::Yes });
    fixture.on(TransactionEvent::Asked);
    let refused = fixture.on(TransactionEvent::Abort).refused.unwrap();
    assert_eq!((refused.kind(), refused.written()), (ErrorKind::Misuse, Some(Written::Maybe)));
    assert_eq!(kind(&fixture.on(TransactionEvent::Commit)), None);
    assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: true, .. })));
}

/// A commit that waits for its offsets, or whose coordinator is not found.
#[test]
fn a_commit_that_was_not_asked_for_can_be_aborted() {
    for waits_for_offsets in [true, false] {
        let mut fixture = StateFixture::open(Protocol::V2);
        if waits_for_offsets {
            fixture.on(TransactionEvent::SendOffsets(offsets(1)));
        }
        fixture.on(TransactionEvent::Commit);
        fixture.on(TransactionEvent::Flushed { begun: Begun::Yes });
        fixture.on(TransactionEvent::Asked);
        let (step, code) = if waits_for_offsets {
            (TransactionStep::CommitOffsets, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        } else {
            (TransactionStep::Find(CoordinatorType::Transaction), ErrorCode::COORDINATOR_NOT_AVAILABLE)
        };
        let error = Error::broker(code, None);
        fixture.on(TransactionEvent::Refused { step, error, sent: waits_for_offsets, begun: Begun::Yes });
        assert!(!fixture.state.open().unwrap().may_be_committed());
        let aborted = fixture.on(TransactionEvent::Abort);
        assert!(aborted.refused.is_none() && matches!(aborted.gate, Some(GateAction::Refuse(_))));
        fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
        assert!(matches!(fixture.state.request(), Some(CoordinatorRequest::End { commit: false, .. })));
    }
}

/// These codes also have a meaning for other clients, such as a group's member. A producer must abort, and the error
/// says after that whether the same work may be done again.
#[test]
fn what_a_group_or_a_coordinator_refuses_asks_for_an_abort() {
    let cases = [
        (TransactionStep::CommitOffsets, ErrorCode::ILLEGAL_GENERATION, Recovery::Retry),
        (TransactionStep::CommitOffsets, ErrorCode::UNKNOWN_MEMBER_ID, Recovery::Retry),
        (TransactionStep::CommitOffsets, ErrorCode::STALE_MEMBER_EPOCH, Recovery::Retry),
        (TransactionStep::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH, Recovery::Retry),
        (TransactionStep::CommitOffsets, ErrorCode::FENCED_INSTANCE_ID, Recovery::Fatal),
        (TransactionStep::CommitOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED, Recovery::Fix),
        (TransactionStep::AddPartitions, ErrorCode::OPERATION_NOT_ATTEMPTED, Recovery::Retry),
        (TransactionStep::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Recovery::Fix),
        (TransactionStep::End { commit: true }, ErrorCode::INVALID_TXN_STATE, Recovery::Retry),
    ];
    for (step, code, after) in cases {
        let mut fixture = if step == (TransactionStep::End { commit: true }) {
            StateFixture::ending(Protocol::V2, true)
        } else {
            StateFixture::open(Protocol::V2)
        };
        fixture.refuse(step, code);
        assert_eq!(fixture.refusal(), (ErrorKind::Broker(code), Recovery::AbortTransaction), "{code}");
        let TransactionPhase::Abortable(_, error) = fixture.state else { panic!("{code}") };
        assert_eq!(error.once_aborted().recovery(), after, "{code}");
    }
}

#[test]
fn an_answer_that_denies_a_commit_says_nothing_of_one_that_was_lost() {
    let network = || Error::network("cut");
    let broker = |code| Error::broker(code, None);
    // Whether the commit may have been carried out: if this was the only answer, and if an earlier request had got no
    // answer.
    let cases = [
        (network(), true, true),
        (broker(ErrorCode::NOT_COORDINATOR), true, true),
        (broker(ErrorCode::COORDINATOR_NOT_AVAILABLE), true, true),
        (broker(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), false, true),
        (broker(ErrorCode::CONCURRENT_TRANSACTIONS), false, true),
        (broker(ErrorCode::PRODUCER_FENCED), false, true),
        (broker(ErrorCode::INVALID_PRODUCER_ID_MAPPING), false, true),
        (broker(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED), false, true),
        (broker(ErrorCode::TRANSACTION_ABORTABLE), false, true),
        (broker(ErrorCode::UNKNOWN_SERVER_ERROR), true, true),
        // The coordinator has aborted it.
        (broker(ErrorCode::INVALID_TXN_STATE), false, false),
    ];
    for protocol in [V1, OLD, Protocol::V2] {
        for (error, alone, after_lost) in &cases {
            for (lost, maybe) in [(false, *alone), (true, *after_lost)] {
                let mut fixture = StateFixture::ending(protocol, true);
                let step = TransactionStep::End { commit: true };
                if lost {
                    fixture.on(TransactionEvent::Refused { step, error: network(), sent: true, begun: Begun::Yes });
                    assert!(fixture.state.open().unwrap().may_be_committed());
                    fixture.on(TransactionEvent::Asked);
                }
                let actions =
                    fixture.on(TransactionEvent::Refused { step, error: error.clone(), sent: true, begun: Begun::Yes });
                let text = format!("{protocol:?}, {error:?}, lost: {lost}");
                let written = if maybe { Written::Maybe } else { Written::No };
                match &fixture.state {
                    TransactionPhase::Fatal(for_others) => {
                        let (number, error) = actions.lost.unwrap();
                        assert_eq!(
                            (number, error.recovery(), error.written()),
                            (1, Recovery::Fatal, Some(written)),
                            "{text}"
                        );
                        assert_eq!(for_others.written(), None, "{text}");
                    }
                    TransactionPhase::Abortable(open, error) => {
                        assert_eq!((open.may_be_committed(), error.written()), (maybe, Some(written)), "{text}");
                    }
                    TransactionPhase::Committing(open) => assert_eq!(open.may_be_committed(), maybe, "{text}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn offsets_of_a_transaction_whose_time_was_over_leave_the_abort() {
    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.on(TransactionEvent::SendOffsets(offsets(1)));
    fixture.refuse(TransactionStep::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(fixture.refusal().1, Recovery::AbortTransaction);
    fixture.on(TransactionEvent::Abort);
    fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
    fixture.on(TransactionEvent::Ended { next: next(1), protocol: Protocol::V2 });
    assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
    // If it was another instance, the abort's answer says so.
    let mut fixture = StateFixture::ending(Protocol::V2, false);
    fixture.refuse(TransactionStep::End { commit: false }, ErrorCode::PRODUCER_FENCED);
    assert_eq!(fixture.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
    // V1 cannot tell.
    let mut fixture = StateFixture::open(V1);
    fixture.on(TransactionEvent::SendOffsets(offsets(1)));
    fixture.on(TransactionEvent::GroupAdded);
    fixture.refuse(TransactionStep::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(fixture.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
}

#[test]
fn every_call_out_of_place_is_refused_and_changes_nothing() {
    let calls = || {
        [
            TransactionEvent::Init,
            TransactionEvent::Begin { number: 9 },
            TransactionEvent::Commit,
            TransactionEvent::Abort,
            TransactionEvent::SendOffsets(offsets(1)),
        ]
    };
    let states: [(StateFixture, [bool; 5]); 7] = [
        (StateFixture::new(), [true, false, false, false, false]),
        (StateFixture::ready(V1), [false, true, false, false, false]),
        (StateFixture::open(V1), [false, false, true, true, true]),
        (StateFixture::ending(V1, true), [false, false, true, false, false]),
        (StateFixture::ending(V1, false), [false, false, false, true, false]),
        (
            {
                let mut fixture = StateFixture::open(V1);
                fixture.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
                fixture
            },
            [false, false, false, true, false],
        ),
        (
            {
                let mut fixture = StateFixture::open(V1);
                fixture.on(failed(Error::broker(ErrorCode::PRODUCER_FENCED, None)));
                fixture
            },
            [false; 5],
        ),
    ];
    for (mut fixture, allowed) in states {
        for (event, allowed) in calls().into_iter().zip(allowed) {
            if allowed {
                continue;
            }
            let (before, call) = (format!("{:?}", fixture.state), format!("{event:?}"));
            let actions = fixture.on(event);
            assert!(actions.refused.is_some(), "{call} while {before}");
            assert!(actions.gate.is_none() && actions.ended.is_none());
            assert_eq!(format!("{:?}", fixture.state), before);
        }
    }
}

#[test]
fn what_can_be_asked_again_is() {
    let mut fixture = StateFixture::ending(Protocol::V2, true);
    let step = TransactionStep::End { commit: true };
    for (code, pace, find) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, RetryDelay::Later, false),
        (ErrorCode::CONCURRENT_TRANSACTIONS, RetryDelay::Soon, false),
        (ErrorCode::NOT_COORDINATOR, RetryDelay::Later, true),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, RetryDelay::Later, true),
    ] {
        let actions = fixture.refuse(step, code);
        assert_eq!((actions.again, actions.find), (Some(pace), find), "{code}");
        assert!(matches!(fixture.state, TransactionPhase::Committing(_)));
    }
    let lost =
        fixture.on(TransactionEvent::Refused { step, error: Error::network("cut"), sent: true, begun: Begun::Yes });
    assert_eq!((lost.again, lost.find), (Some(RetryDelay::Later), true));
}

#[test]
fn init_that_is_not_allowed_can_be_called_again() {
    let mut fixture = StateFixture::new();
    fixture.on(TransactionEvent::Init);
    fixture.refuse(TransactionStep::Init, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!(fixture.refusal().1, Recovery::Fix);
    assert!(fixture.state.request().is_none());
    assert!(fixture.on(TransactionEvent::Init).refused.is_none());
    assert!(fixture.state.request().is_some());
    fixture
        .refuse(TransactionStep::Find(CoordinatorType::Transaction), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert!(matches!(fixture.state, TransactionPhase::Uninitialized { refused: Some(_) }));
    fixture.on(TransactionEvent::Init);
    fixture.refuse(TransactionStep::Init, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    assert!(matches!(fixture.state, TransactionPhase::Fatal(_)));
    assert_eq!(fixture.refusal().1, Recovery::Fix);
}

#[test]
fn an_answer_to_an_earlier_request_does_not_hurt_an_abort() {
    let mut fixture = StateFixture::open(V1);
    fixture.on(TransactionEvent::Abort);
    fixture.refuse(TransactionStep::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    fixture.refuse(TransactionStep::CommitOffsets, ErrorCode::ILLEGAL_GENERATION);
    assert!(matches!(fixture.state, TransactionPhase::Draining(_)));
    fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
    fixture.refuse(TransactionStep::AddOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert!(matches!(fixture.state, TransactionPhase::Aborting(_)));
    // But the abort itself must not fail.
    fixture.refuse(TransactionStep::End { commit: false }, ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(fixture.refusal().1, Recovery::Fatal);
}

#[test]
fn a_refused_record_leaves_the_abort_only_and_the_epoch_alone() {
    let refused = || TransactionEvent::RecordRefused(Error::invalid("no such partition"));
    for commits in [false, true] {
        let mut fixture = StateFixture::open(V1);
        if commits {
            fixture.on(TransactionEvent::Commit);
        }
        let failed = fixture.on(refused());
        assert!(matches!(failed.gate, Some(GateAction::Refuse(_))));
        assert_eq!(fixture.refusal(), (ErrorKind::InvalidInput, Recovery::AbortTransaction));
        fixture.on(TransactionEvent::Abort);
        fixture.on(TransactionEvent::Drained { begun: Begun::Yes });
        fixture.on(TransactionEvent::Ended { next: None, protocol: V1 });
        // It had no sequence number.
        assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
    }
    // It concerns only the transaction that is open.
    let mut fixture = StateFixture::ready(V1);
    fixture.on(refused());
    assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
    let mut fixture = StateFixture::ending(V1, true);
    fixture.on(refused());
    assert!(matches!(fixture.state, TransactionPhase::Committing(_)));
}

#[test]
fn a_transaction_that_took_too_long_says_so() {
    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.now += 61 * SECOND;
    fixture.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    let error = fixture.state.refusal().unwrap();
    assert_eq!(error.recovery(), Recovery::AbortTransaction);
    assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");

    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.on(TransactionEvent::Commit);
    fixture.on(TransactionEvent::Flushed { begun: Begun::Yes });
    fixture.now += 61 * SECOND;
    fixture.refuse(TransactionStep::End { commit: true }, ErrorCode::INVALID_TXN_STATE);
    let error = fixture.state.refusal().unwrap();
    assert_eq!(error.recovery(), Recovery::AbortTransaction);
    assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");

    // Before the time-out the error is only what the broker says; and in V1 it looks the same as another producer.
    let mut fixture = StateFixture::open(Protocol::V2);
    fixture.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    assert!(!fixture.state.refusal().unwrap().to_string().contains("transaction_timeout"));
    for (late, mentions) in [(false, false), (true, true)] {
        let mut fixture = StateFixture::ending(V1, true);
        if late {
            fixture.now += 61 * SECOND;
        }
        fixture.refuse(TransactionStep::End { commit: true }, ErrorCode::PRODUCER_FENCED);
        assert_eq!(fixture.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
        let text = fixture.state.refusal().unwrap().to_string();
        assert_eq!(text.contains("transaction_timeout"), mentions, "{text}");
    }
}

#[test]
fn after_an_upgrade_the_epoch_is_bumped_once() {
    let mut fixture = StateFixture::ending(V1, true);
    let ended = fixture.on(TransactionEvent::Ended { next: None, protocol: Protocol::V2 });
    assert_eq!(ended.ended, Some((1, TransactionResult::Committed)), "the commit is done, whatever comes of the epoch");
    assert!(matches!(fixture.state, TransactionPhase::Bumping(_)));
    fixture.on(TransactionEvent::Initialized(session(Protocol::V2, 1)));
    assert!(matches!(fixture.state, TransactionPhase::Ready(_)));
}

#[test]
fn a_fatal_error_is_the_answer_to_everything() {
    let mut fixture = StateFixture::open(V1);
    let dead = fixture.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_ID_MAPPING, None)));
    assert!(matches!(dead.gate, Some(GateAction::Refuse(_))));
    let kind_of = ErrorKind::Broker(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    for event in [
        TransactionEvent::Init,
        TransactionEvent::Begin { number: 2 },
        TransactionEvent::Commit,
        TransactionEvent::Abort,
    ] {
        assert_eq!(kind(&fixture.on(event)), Some(kind_of));
    }
    fixture.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
    fixture.on(TransactionEvent::Ended { next: None, protocol: V1 });
    assert!(matches!(fixture.state, TransactionPhase::Fatal(_)) && fixture.state.request().is_none());
}

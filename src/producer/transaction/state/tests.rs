use super::super::verdict::Whose;
use super::*;
use crate::offsets::GroupMetadata;
use crate::producer::send::doubt::doubt;

const SECOND: Duration = Duration::from_secs(1);
const V1: Protocol = Protocol::V1 { can_bump: true };
const OLD: Protocol = Protocol::V1 { can_bump: false };

/// The machine with a clock that is set by hand.
struct Rig {
    state: State,
    terms: Terms,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let terms = Terms { id: "shop".into(), timeout: 60 * SECOND };
        Self { state: State::Uninitialized { refused: None }, terms, now: Instant::now() }
    }

    fn ready(protocol: Protocol) -> Self {
        let mut rig = Self::new();
        rig.on(Event::Init);
        rig.on(Event::Initialized(standing(protocol, 0)));
        rig
    }

    fn open(protocol: Protocol) -> Self {
        let mut rig = Self::ready(protocol);
        rig.on(Event::Begin { number: 1 });
        rig
    }

    /// One whose EndTxn is under way.
    fn ending(protocol: Protocol, commit: bool) -> Self {
        let mut rig = Self::open(protocol);
        if commit {
            rig.on(Event::Commit);
            rig.on(Event::Flushed { begun: Begun::Yes });
            rig.on(Event::Asked);
        } else {
            rig.on(Event::Abort);
            rig.on(Event::Drained { begun: Begun::Yes });
        }
        rig
    }

    fn on(&mut self, event: Event) -> Actions {
        let state = std::mem::replace(&mut self.state, State::Uninitialized { refused: None });
        let (state, actions) = state.on(&self.terms, self.now, event);
        self.state = state;
        actions
    }

    fn refuse(&mut self, step: Step, code: ErrorCode) -> Actions {
        self.on(Event::Refused { step, error: Error::broker(code, None), sent: true, begun: Begun::Yes })
    }

    /// The error that every call is refused with.
    fn refusal(&self) -> (ErrorKind, Recovery) {
        let error = self.state.refusal().unwrap();
        (error.kind(), error.recovery())
    }

    fn producer(&self) -> ProducerIdAndEpoch {
        match &self.state {
            State::Ready(standing) | State::Bumping(standing) => standing.producer,
            other => other.open().unwrap().standing.producer,
        }
    }
}

fn standing(protocol: Protocol, epoch: i16) -> Standing {
    Standing { producer: ProducerIdAndEpoch { producer_id: 7, epoch }, protocol }
}

fn next(epoch: i16) -> Option<ProducerIdAndEpoch> {
    Some(ProducerIdAndEpoch { producer_id: 7, epoch })
}

fn offsets(number: u64) -> Offsets {
    Offsets { number, group: GroupMetadata::new("group"), offsets: Arc::from([]) }
}

fn failed(error: Error) -> Event {
    Event::Failed { doubt: doubt(&error), error }
}

fn kind(actions: &Actions) -> Option<ErrorKind> {
    actions.refused.as_ref().map(Error::kind)
}

#[test]
fn a_transaction_from_begin_to_commit() {
    let mut rig = Rig::new();
    assert!(rig.state.request().is_none());
    rig.on(Event::Init);
    assert!(matches!(rig.state.request(), Some(Request::Init { known: ProducerIdAndEpoch::NONE })));
    rig.on(Event::Initialized(standing(Protocol::V2, 0)));
    let begun = rig.on(Event::Begin { number: 1 });
    assert!(matches!(begun.gate, Some(Gate::Open(opened)) if opened == standing(Protocol::V2, 0)));
    assert!(rig.state.refusal().is_none() && rig.state.request().is_none());
    rig.on(Event::Commit);
    // Nothing is decided before the last batch has its result.
    assert!(rig.state.request().is_none());
    assert_eq!(rig.refusal(), (ErrorKind::Misuse, Recovery::Fix));
    let flushed = rig.on(Event::Flushed { begun: Begun::Maybe });
    assert!(matches!(flushed.gate, Some(Gate::Shut)) && flushed.ended.is_none());
    assert!(matches!(rig.state.request(), Some(Request::End { commit: true, .. })));
    let ended = rig.on(Event::Ended { next: next(1), protocol: Protocol::V2 });
    assert_eq!(ended.ended, Some((1, Ended::Committed)));
    assert_eq!(rig.producer(), next(1).unwrap());
}

#[test]
fn what_has_not_begun_ends_without_the_coordinator() {
    for protocol in [V1, OLD, Protocol::V2] {
        let mut rig = Rig::open(protocol);
        rig.on(Event::Commit);
        assert_eq!(rig.on(Event::Flushed { begun: Begun::No }).ended, Some((1, Ended::Committed)));
        rig.on(Event::Begin { number: 2 });
        rig.on(Event::Abort);
        assert_eq!(rig.on(Event::Drained { begun: Begun::No }).ended, Some((2, Ended::Aborted)));
        assert!(matches!(rig.state, State::Ready(_)));
        assert_eq!(rig.producer(), next(0).unwrap());
    }
}

#[test]
fn an_abort_that_finds_nothing_to_abort_has_ended() {
    let mut rig = Rig::ending(V1, false);
    let error = Error::broker(ErrorCode::INVALID_TXN_STATE, None);
    let (step, begun) = (Step::End { commit: false }, Begun::Maybe);
    let ended = rig.on(Event::Refused { step, error, sent: true, begun });
    assert_eq!(ended.ended, Some((1, Ended::Aborted)));
    assert!(matches!(rig.state, State::Ready(_)));
    // If it had begun, something is very wrong.
    let mut rig = Rig::ending(V1, false);
    rig.refuse(step, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(rig.refusal().1, Recovery::Fatal);
}

#[test]
fn a_failed_batch_leaves_the_abort_only() {
    for during_commit in [false, true] {
        let mut rig = Rig::open(Protocol::V2);
        if during_commit {
            rig.on(Event::Commit);
        }
        let failed = rig.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
        assert!(matches!(failed.gate, Some(Gate::Refuse(_))), "what waits fails, too");
        // The late news that all batches are done changes nothing.
        rig.on(Event::Flushed { begun: Begun::Yes });
        assert!(rig.state.request().is_none());
        let broker = ErrorKind::Broker(ErrorCode::INVALID_RECORD);
        assert_eq!(rig.refusal(), (broker, Recovery::AbortTransaction));
        for event in [Event::Commit, Event::SendOffsets(offsets(1)), Event::Begin { number: 2 }] {
            assert_eq!(kind(&rig.on(event)), Some(broker));
        }
        assert_eq!(kind(&rig.on(Event::Abort)), None);
        assert!(rig.state.request().is_none(), "batches in flight come first");
        rig.on(Event::Drained { begun: Begun::Yes });
        assert!(matches!(rig.state.request(), Some(Request::End { commit: false, .. })));
        let ended = rig.on(Event::Ended { next: next(1), protocol: Protocol::V2 });
        assert_eq!(ended.ended, Some((1, Ended::Aborted)));
        assert!(matches!(rig.state, State::Ready(_)));
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
            let mut rig = Rig::open(protocol);
            if while_aborting {
                rig.on(Event::Abort);
            }
            rig.on(failed(error.clone()));
            rig.on(Event::Abort);
            rig.on(Event::Drained { begun: Begun::Yes });
            let ended = rig.on(Event::Ended { next: None, protocol });
            assert_eq!(ended.ended, Some((1, Ended::Aborted)));
            let state = match &rig.state {
                State::Ready(_) => "ready",
                State::Bumping(_) => "bumping",
                State::Fatal(_) => "fatal",
                other => panic!("{other:?}"),
            };
            assert_eq!(state, wanted, "{protocol:?} {error:?}");
            if state == "bumping" {
                let known = next(0).unwrap();
                assert!(matches!(rig.state.request(), Some(Request::Init { known: asked }) if asked == known));
                rig.on(Event::Initialized(standing(protocol, 1)));
                assert_eq!(rig.producer(), next(1).unwrap());
            }
        }
    }
}

#[test]
fn offsets_come_before_the_end() {
    let mut rig = Rig::open(V1);
    rig.on(Event::SendOffsets(offsets(1)));
    rig.on(Event::SendOffsets(offsets(2)));
    assert!(matches!(rig.state.request(), Some(Request::AddOffsets { .. })));
    rig.on(Event::GroupAdded);
    rig.on(Event::Commit);
    rig.on(Event::Flushed { begun: Begun::No });
    for number in [1, 2] {
        assert!(
            matches!(rig.state.request(), Some(Request::CommitOffsets { offsets, .. }) if offsets.number == number)
        );
        assert_eq!(rig.on(Event::OffsetsCommitted).offsets_done, Some(number));
    }
    assert!(matches!(rig.state.request(), Some(Request::End { commit: true, .. })));

    let mut rig = Rig::open(Protocol::V2);
    rig.on(Event::SendOffsets(offsets(1)));
    assert!(matches!(rig.state.request(), Some(Request::CommitOffsets { .. })), "V2 adds the group on the way");
    rig.on(Event::Abort);
    rig.on(Event::OffsetsCommitted);
    rig.on(Event::Drained { begun: Begun::Yes });
    assert!(matches!(rig.state.request(), Some(Request::End { commit: false, .. })));
}

#[test]
fn a_commit_that_may_be_done_is_not_aborted() {
    let mut rig = Rig::open(Protocol::V2);
    rig.on(Event::Commit);
    assert_eq!(kind(&rig.on(Event::Commit)), None, "it goes on");
    let mut early = Rig::open(Protocol::V2);
    early.on(Event::Commit);
    assert_eq!(kind(&early.on(Event::Abort)), None, "nothing is decided yet");
    rig.on(Event::Flushed { begun: Begun::Yes });
    rig.on(Event::Asked);
    let refused = rig.on(Event::Abort).refused.unwrap();
    assert_eq!((refused.kind(), refused.written()), (ErrorKind::Misuse, Some(Written::Maybe)));
    assert_eq!(kind(&rig.on(Event::Commit)), None);
    assert!(matches!(rig.state.request(), Some(Request::End { commit: true, .. })));
}

/// One that waits for its offsets, or whose coordinator is not found.
#[test]
fn a_commit_that_was_not_asked_for_can_be_aborted() {
    for waits_for_offsets in [true, false] {
        let mut rig = Rig::open(Protocol::V2);
        if waits_for_offsets {
            rig.on(Event::SendOffsets(offsets(1)));
        }
        rig.on(Event::Commit);
        rig.on(Event::Flushed { begun: Begun::Yes });
        rig.on(Event::Asked);
        let (step, code) = if waits_for_offsets {
            (Step::CommitOffsets, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        } else {
            (Step::Find(Whose::Transaction), ErrorCode::COORDINATOR_NOT_AVAILABLE)
        };
        let error = Error::broker(code, None);
        rig.on(Event::Refused { step, error, sent: waits_for_offsets, begun: Begun::Yes });
        assert!(!rig.state.open().unwrap().may_be_committed());
        let aborted = rig.on(Event::Abort);
        assert!(aborted.refused.is_none() && matches!(aborted.gate, Some(Gate::Refuse(_))));
        rig.on(Event::Drained { begun: Begun::Yes });
        assert!(matches!(rig.state.request(), Some(Request::End { commit: false, .. })));
    }
}

/// What these codes mean in themselves is for others to say, such as a group's member. A producer is told to abort, and
/// afterwards whether the same work may be done again.
#[test]
fn what_a_group_or_a_coordinator_refuses_asks_for_an_abort() {
    let cases = [
        (Step::CommitOffsets, ErrorCode::ILLEGAL_GENERATION, Recovery::Retry),
        (Step::CommitOffsets, ErrorCode::UNKNOWN_MEMBER_ID, Recovery::Retry),
        (Step::CommitOffsets, ErrorCode::STALE_MEMBER_EPOCH, Recovery::Retry),
        (Step::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH, Recovery::Retry),
        (Step::CommitOffsets, ErrorCode::FENCED_INSTANCE_ID, Recovery::Fatal),
        (Step::CommitOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED, Recovery::Fix),
        (Step::AddPartitions, ErrorCode::OPERATION_NOT_ATTEMPTED, Recovery::Retry),
        (Step::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Recovery::Fix),
        (Step::End { commit: true }, ErrorCode::INVALID_TXN_STATE, Recovery::Retry),
    ];
    for (step, code, after) in cases {
        let mut rig = if step == (Step::End { commit: true }) {
            Rig::ending(Protocol::V2, true)
        } else {
            Rig::open(Protocol::V2)
        };
        rig.refuse(step, code);
        assert_eq!(rig.refusal(), (ErrorKind::Broker(code), Recovery::AbortTransaction), "{code}");
        let State::Abortable(_, error) = rig.state else { panic!("{code}") };
        assert_eq!(error.once_aborted().recovery(), after, "{code}");
    }
}

#[test]
fn an_answer_that_denies_a_commit_says_nothing_of_one_that_was_lost() {
    let network = || Error::network("cut");
    let broker = |code| Error::broker(code, None);
    // Whether a commit may be done that was answered with this alone, and when another one was lost before it.
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
                let mut rig = Rig::ending(protocol, true);
                let step = Step::End { commit: true };
                if lost {
                    rig.on(Event::Refused { step, error: network(), sent: true, begun: Begun::Yes });
                    assert!(rig.state.open().unwrap().may_be_committed());
                    rig.on(Event::Asked);
                }
                let actions = rig.on(Event::Refused { step, error: error.clone(), sent: true, begun: Begun::Yes });
                let text = format!("{protocol:?}, {error:?}, lost: {lost}");
                let written = if maybe { Written::Maybe } else { Written::No };
                match &rig.state {
                    State::Fatal(for_others) => {
                        let (number, error) = actions.lost.unwrap();
                        assert_eq!(
                            (number, error.recovery(), error.written()),
                            (1, Recovery::Fatal, Some(written)),
                            "{text}"
                        );
                        assert_eq!(for_others.written(), None, "{text}");
                    }
                    State::Abortable(open, error) => {
                        assert_eq!((open.may_be_committed(), error.written()), (maybe, Some(written)), "{text}");
                    }
                    State::Committing(open) => assert_eq!(open.may_be_committed(), maybe, "{text}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn offsets_of_a_transaction_whose_time_was_over_leave_the_abort() {
    let mut rig = Rig::open(Protocol::V2);
    rig.on(Event::SendOffsets(offsets(1)));
    rig.refuse(Step::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(rig.refusal().1, Recovery::AbortTransaction);
    rig.on(Event::Abort);
    rig.on(Event::Drained { begun: Begun::Yes });
    rig.on(Event::Ended { next: next(1), protocol: Protocol::V2 });
    assert!(matches!(rig.state, State::Ready(_)));
    // Or it was another instance, which the abort is told.
    let mut rig = Rig::ending(Protocol::V2, false);
    rig.refuse(Step::End { commit: false }, ErrorCode::PRODUCER_FENCED);
    assert_eq!(rig.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
    // V1 cannot tell.
    let mut rig = Rig::open(V1);
    rig.on(Event::SendOffsets(offsets(1)));
    rig.on(Event::GroupAdded);
    rig.refuse(Step::CommitOffsets, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(rig.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
}

#[test]
fn every_call_out_of_place_is_refused_and_changes_nothing() {
    let calls =
        || [Event::Init, Event::Begin { number: 9 }, Event::Commit, Event::Abort, Event::SendOffsets(offsets(1))];
    let states: [(Rig, [bool; 5]); 7] = [
        (Rig::new(), [true, false, false, false, false]),
        (Rig::ready(V1), [false, true, false, false, false]),
        (Rig::open(V1), [false, false, true, true, true]),
        (Rig::ending(V1, true), [false, false, true, false, false]),
        (Rig::ending(V1, false), [false, false, false, true, false]),
        (
            {
                let mut rig = Rig::open(V1);
                rig.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
                rig
            },
            [false, false, false, true, false],
        ),
        (
            {
                let mut rig = Rig::open(V1);
                rig.on(failed(Error::broker(ErrorCode::PRODUCER_FENCED, None)));
                rig
            },
            [false; 5],
        ),
    ];
    for (mut rig, allowed) in states {
        for (event, allowed) in calls().into_iter().zip(allowed) {
            if allowed {
                continue;
            }
            let (before, call) = (format!("{:?}", rig.state), format!("{event:?}"));
            let actions = rig.on(event);
            assert!(actions.refused.is_some(), "{call} while {before}");
            assert!(actions.gate.is_none() && actions.ended.is_none());
            assert_eq!(format!("{:?}", rig.state), before);
        }
    }
}

#[test]
fn what_can_be_asked_again_is() {
    let mut rig = Rig::ending(Protocol::V2, true);
    let step = Step::End { commit: true };
    for (code, pace, find) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Pace::Later, false),
        (ErrorCode::CONCURRENT_TRANSACTIONS, Pace::Soon, false),
        (ErrorCode::NOT_COORDINATOR, Pace::Later, true),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, Pace::Later, true),
    ] {
        let actions = rig.refuse(step, code);
        assert_eq!((actions.again, actions.find), (Some(pace), find), "{code}");
        assert!(matches!(rig.state, State::Committing(_)));
    }
    let lost = rig.on(Event::Refused { step, error: Error::network("cut"), sent: true, begun: Begun::Yes });
    assert_eq!((lost.again, lost.find), (Some(Pace::Later), true));
}

#[test]
fn init_that_is_not_allowed_can_be_called_again() {
    let mut rig = Rig::new();
    rig.on(Event::Init);
    rig.refuse(Step::Init, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!(rig.refusal().1, Recovery::Fix);
    assert!(rig.state.request().is_none());
    assert!(rig.on(Event::Init).refused.is_none());
    assert!(rig.state.request().is_some());
    rig.refuse(Step::Find(Whose::Transaction), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert!(matches!(rig.state, State::Uninitialized { refused: Some(_) }));
    rig.on(Event::Init);
    rig.refuse(Step::Init, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
    assert!(matches!(rig.state, State::Fatal(_)));
    assert_eq!(rig.refusal().1, Recovery::Fix);
}

#[test]
fn an_answer_to_an_earlier_request_does_not_hurt_an_abort() {
    let mut rig = Rig::open(V1);
    rig.on(Event::Abort);
    rig.refuse(Step::AddPartitions, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    rig.refuse(Step::CommitOffsets, ErrorCode::ILLEGAL_GENERATION);
    assert!(matches!(rig.state, State::Draining(_)));
    rig.on(Event::Drained { begun: Begun::Yes });
    rig.refuse(Step::AddOffsets, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    assert!(matches!(rig.state, State::Aborting(_)));
    // But the abort itself must not fail.
    rig.refuse(Step::End { commit: false }, ErrorCode::TRANSACTION_ABORTABLE);
    assert_eq!(rig.refusal().1, Recovery::Fatal);
}

#[test]
fn a_refused_record_leaves_the_abort_only_and_the_epoch_alone() {
    let refused = || Event::RecordRefused(Error::invalid("no such partition"));
    for commits in [false, true] {
        let mut rig = Rig::open(V1);
        if commits {
            rig.on(Event::Commit);
        }
        let failed = rig.on(refused());
        assert!(matches!(failed.gate, Some(Gate::Refuse(_))));
        assert_eq!(rig.refusal(), (ErrorKind::InvalidInput, Recovery::AbortTransaction));
        rig.on(Event::Abort);
        rig.on(Event::Drained { begun: Begun::Yes });
        rig.on(Event::Ended { next: None, protocol: V1 });
        // It had no sequence number.
        assert!(matches!(rig.state, State::Ready(_)));
    }
    // It concerns nothing but the transaction that is open.
    let mut rig = Rig::ready(V1);
    rig.on(refused());
    assert!(matches!(rig.state, State::Ready(_)));
    let mut rig = Rig::ending(V1, true);
    rig.on(refused());
    assert!(matches!(rig.state, State::Committing(_)));
}

#[test]
fn a_transaction_that_took_too_long_says_so() {
    let mut rig = Rig::open(Protocol::V2);
    rig.now += 61 * SECOND;
    rig.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    let error = rig.state.refusal().unwrap();
    assert_eq!(error.recovery(), Recovery::AbortTransaction);
    assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");

    let mut rig = Rig::open(Protocol::V2);
    rig.on(Event::Commit);
    rig.on(Event::Flushed { begun: Begun::Yes });
    rig.now += 61 * SECOND;
    rig.refuse(Step::End { commit: true }, ErrorCode::INVALID_TXN_STATE);
    let error = rig.state.refusal().unwrap();
    assert_eq!(error.recovery(), Recovery::AbortTransaction);
    assert!(error.to_string().contains("longer than transaction_timeout"), "{error}");

    // In time it is the broker's word alone; and V1 cannot tell it from another producer.
    let mut rig = Rig::open(Protocol::V2);
    rig.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)));
    assert!(!rig.state.refusal().unwrap().to_string().contains("transaction_timeout"));
    for (late, mentions) in [(false, false), (true, true)] {
        let mut rig = Rig::ending(V1, true);
        if late {
            rig.now += 61 * SECOND;
        }
        rig.refuse(Step::End { commit: true }, ErrorCode::PRODUCER_FENCED);
        assert_eq!(rig.refusal(), (ErrorKind::Fenced, Recovery::Fatal));
        let text = rig.state.refusal().unwrap().to_string();
        assert_eq!(text.contains("transaction_timeout"), mentions, "{text}");
    }
}

#[test]
fn after_an_upgrade_the_epoch_is_bumped_once() {
    let mut rig = Rig::ending(V1, true);
    let ended = rig.on(Event::Ended { next: None, protocol: Protocol::V2 });
    assert_eq!(ended.ended, Some((1, Ended::Committed)), "the commit is done, whatever comes of the epoch");
    assert!(matches!(rig.state, State::Bumping(_)));
    rig.on(Event::Initialized(standing(Protocol::V2, 1)));
    assert!(matches!(rig.state, State::Ready(_)));
}

#[test]
fn a_fatal_error_is_the_answer_to_everything() {
    let mut rig = Rig::open(V1);
    let dead = rig.on(failed(Error::broker(ErrorCode::INVALID_PRODUCER_ID_MAPPING, None)));
    assert!(matches!(dead.gate, Some(Gate::Refuse(_))));
    let kind_of = ErrorKind::Broker(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    for event in [Event::Init, Event::Begin { number: 2 }, Event::Commit, Event::Abort] {
        assert_eq!(kind(&rig.on(event)), Some(kind_of));
    }
    rig.on(failed(Error::broker(ErrorCode::INVALID_RECORD, None)));
    rig.on(Event::Ended { next: None, protocol: V1 });
    assert!(matches!(rig.state, State::Fatal(_)) && rig.state.request().is_none());
}

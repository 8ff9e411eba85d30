use std::time::Duration;

use super::super::offsets::TransactionOffsets;
use super::super::state::CoordinatorRequest;
use super::super::verdict::TransactionStep;
use super::*;
use crate::error::{ErrorCode, Timeout};
use crate::offsets::GroupMetadata;
use crate::producer::send::batch_failure::SequenceGap;
use crate::producer::send::gate::{BatchFailure, Begun, ProducerSession, Protocol, TransactionGate};
use crate::testing::transactions::{Addition, EndAnswer, FakeTransactions, TransactionVersion};
use crate::time::RandomNumbers;
use crate::topic::ProducerIdAndEpoch;

const ID: &str = "shop";
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn whoever_waits_learns_the_outcome_although_other_transactions_end_before_it_looks() {
    let mut world = World::new(TransactionVersion::V2, 1);
    let first = world.begin().unwrap();
    world.write();
    world.commit(Some(&first));
    // The call sleeps, and other threads go on.
    world.call = None;
    world.heal();
    for is_commit in [true, false, true] {
        let next = world.begin().unwrap();
        world.write();
        if is_commit {
            world.commit(Some(&next))
        } else {
            world.abort(Some(&next))
        }
        world.call = None;
        world.heal();
    }
    assert!(matches!(world.core.outcome(&first), Some(Ok(TransactionResult::Committed))));
    assert!(first.committed(world.core.outcome(&first).unwrap()).is_ok());
}

#[test]
fn the_last_outcome_is_told_once_to_those_without_a_guard() {
    let mut world = World::new(TransactionVersion::V1, 1);
    for is_commit in [true, false] {
        let handle = world.begin().unwrap();
        world.write();
        if is_commit {
            world.commit(None)
        } else {
            world.abort(None)
        }
        // No call has returned the outcome.
        world.call = None;
        world.heal();
        let found = world.core.transaction(None).unwrap();
        assert!(Arc::ptr_eq(&found, &handle));
        let outcome = found.outcome().unwrap();
        // The other call is refused, and does not count as told.
        let (right, other) = if is_commit {
            let other = found.aborted(outcome.clone());
            assert!(world.core.transaction(None).is_ok());
            (found.committed(outcome), other)
        } else {
            let other = found.committed(outcome.clone());
            assert!(world.core.transaction(None).is_ok());
            (found.aborted(outcome), other)
        };
        right.unwrap();
        let other = other.unwrap_err();
        let wanted = if is_commit { Recovery::Fix } else { Recovery::AbortTransaction };
        assert_eq!(other.recovery(), wanted);
        assert_eq!(world.core.transaction(None).unwrap_err().kind(), ErrorKind::Misuse);
    }
}

#[test]
fn an_initialisation_is_told_once() {
    let mut core = Core::new();
    let config = config();
    assert!(!core.is_initialised_untold());
    core.on(&config, Instant::now(), TransactionEvent::Init);
    assert!(core.initialised().is_none() && !core.is_initialised_untold());
    // The call gives up, and then the answer comes.
    core.on(
        &config,
        Instant::now(),
        TransactionEvent::Initialized(session(TransactionVersion::V2, ProducerIdAndEpoch::NONE)),
    );
    assert!(core.is_initialised_untold());
    assert!(core.initialised().unwrap().is_ok());
    assert!(!core.is_initialised_untold());
    assert!(core.on(&config, Instant::now(), TransactionEvent::Init).refused.is_some());
}

/// Random calls, faults and interleavings against the fake cluster's coordinator: what each call returns is true.
#[test]
fn no_call_says_what_is_not_so() {
    let mut seen = Seen::default();
    for seed in 0..6000 {
        for version in [TransactionVersion::V1, TransactionVersion::V2] {
            let mut world = World::new(version, seed);
            for _ in 0..60 {
                world.step();
            }
            world.end();
            seen.add(&world.seen);
        }
    }
    // Each of them happened.
    assert!(seen.all(), "{seen:?}");
}

/// What has happened, to assert that each kind of fault did happen.
#[derive(Debug, Default)]
struct Seen {
    committed: u64,
    aborted: u64,
    given_up_in_doubt: u64,
    given_up_undone: u64,
    told_later: u64,
    aborted_while_committing: u64,
    fatal_in_doubt: u64,
    bumped_after_harmless: u64,
    offsets_timed_out: u64,
}

impl Seen {
    fn counts(&self) -> [u64; 9] {
        [
            self.committed,
            self.aborted,
            self.given_up_in_doubt,
            self.given_up_undone,
            self.told_later,
            self.aborted_while_committing,
            self.fatal_in_doubt,
            self.bumped_after_harmless,
            self.offsets_timed_out,
        ]
    }

    fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.given_up_in_doubt += other.given_up_in_doubt;
        self.given_up_undone += other.given_up_undone;
        self.told_later += other.told_later;
        self.aborted_while_committing += other.aborted_while_committing;
        self.fatal_in_doubt += other.fatal_in_doubt;
        self.bumped_after_harmless += other.bumped_after_harmless;
        self.offsets_timed_out += other.offsets_timed_out;
    }

    fn all(&self) -> bool {
        self.counts().iter().all(|count| *count > 0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Commit,
    Abort,
}

/// A request that the coordinator has received, or never will, and its answer.
struct Flight {
    comes_back: Result<TransactionEvent, (TransactionStep, Error, bool)>,
}

/// A producer's core with its gate, a coordinator, and the requests between them.
struct World {
    version: TransactionVersion,
    coordinator: FakeTransactions,
    core: Core,
    gate: TransactionGate,
    config: TransactionConfig,
    now: Instant,
    random: RandomNumbers,
    flight: Option<Flight>,
    /// The handles of all transactions, and whether each is really committed.
    handles: Vec<(Arc<TransactionHandle>, bool)>,
    /// Transactions for which a call has said that they never will be committed.
    never: Vec<u64>,
    call: Option<(Arc<TransactionHandle>, Call)>,
    /// V1: a batch of this epoch may be in the log.
    in_doubt: bool,
    /// A harmless failure came before.
    hidden: bool,
    /// The open transaction is over for the coordinator.
    timed_out: bool,
    /// The coordinator was, or may have been, asked to commit the last transaction.
    asked: bool,
    /// Whether a call has returned how the last transaction ended.
    told: bool,
    /// Another instance came.
    rival: bool,
    seen: Seen,
}

fn config() -> TransactionConfig {
    TransactionConfig { id: ID.into(), timeout: MINUTE }
}

fn session(version: TransactionVersion, producer: ProducerIdAndEpoch) -> ProducerSession {
    let protocol = match version {
        TransactionVersion::V1 => Protocol::V1 { can_bump: true },
        TransactionVersion::V2 => Protocol::V2,
    };
    ProducerSession { producer, protocol }
}

impl World {
    fn new(version: TransactionVersion, seed: u64) -> Self {
        let mut world = Self {
            version,
            coordinator: FakeTransactions::new(version),
            core: Core::new(),
            gate: TransactionGate::new().0,
            config: config(),
            now: Instant::now(),
            random: RandomNumbers::seeded(seed),
            flight: None,
            handles: Vec::new(),
            never: Vec::new(),
            call: None,
            in_doubt: false,
            hidden: false,
            timed_out: false,
            asked: false,
            told: false,
            rival: false,
            seen: Seen::default(),
        };
        world.on(TransactionEvent::Init);
        world.heal();
        assert!(world.core.initialised().unwrap().is_ok());
        world
    }

    fn on(&mut self, event: TransactionEvent) -> Option<Error> {
        let actions = self.core.on(&self.config, self.now, event);
        match actions.gate {
            Some(super::super::state::GateAction::Open(session)) => self.gate.open(session),
            Some(super::super::state::GateAction::Shut) => self.gate.shut(),
            Some(super::super::state::GateAction::Refuse(error)) => self.gate.refuse(error),
            None => {}
        }
        actions.refused
    }

    fn one_of(&mut self, count: u32) -> u32 {
        let drawn = (self.random.unit() * f64::from(count)).floor();
        (0..count).rev().find(|index| f64::from(*index) <= drawn).unwrap()
    }

    fn is_open(&self) -> bool {
        matches!(self.core.state, TransactionPhase::Open(_))
    }

    fn step(&mut self) {
        match self.one_of(16) {
            0 | 1 => drop(self.begin()),
            2 => self.write(),
            3 => self.fail(),
            4 => self.send_offsets(),
            5 | 6 => {
                let own = self.own();
                self.commit(own.as_ref());
            }
            7 => {
                let own = self.own();
                self.abort(own.as_ref());
            }
            8 => self.give_up(),
            9..12 => self.ask(true),
            12 | 13 => self.answer(),
            14 => drop(self.coordinator.complete()),
            _ => match self.one_of(8) {
                0 => self.time_out(),
                1 => {
                    self.rival = true;
                    self.coordinator.init(ID, 60_000, None).ok();
                }
                _ => self.take_batch_failure(),
            },
        }
        self.look();
        if let TransactionPhase::Fatal(error) = &self.core.state
            && error.kind() == ErrorKind::Fenced
        {
            // Only in V1 does a time-out look the same as another instance.
            assert!(self.rival || self.version == TransactionVersion::V1, "nobody has fenced it: {error:?}");
        }
    }

    /// The guard of the last transaction, if the call is made by it.
    fn own(&mut self) -> Option<Arc<TransactionHandle>> {
        let has_guard = self.one_of(2) == 0;
        self.handles.last().filter(|_| has_guard).map(|(handle, _)| Arc::clone(handle))
    }

    // ---- the program -------------------------------------------------------------------------------------------------

    fn begin(&mut self) -> Option<Arc<TransactionHandle>> {
        if self.call.is_some() {
            return None;
        }
        self.take_batch_failure();
        let number = self.core.next_number();
        if self.on(TransactionEvent::Begin { number }).is_some() {
            return None;
        }
        assert!(!self.in_doubt, "a batch of this epoch may be in the log, and the next transaction has the same epoch");
        let handle = self.core.begun(number);
        self.handles.push((Arc::clone(&handle), false));
        (self.hidden, self.timed_out, self.asked, self.told) = (false, false, false, false);
        Some(handle)
    }

    fn write(&mut self) {
        if !self.is_open() {
            return;
        }
        let Some(producer) = self.core.state.open().map(|open| open.session.producer) else { return };
        let partitions = [("t".into(), 0)].into();
        match self.coordinator.add(ID, producer, Addition::Partitions(partitions)) {
            Ok(()) => self.gate.begin(Begun::Yes),
            // It is sent again.
            Err(ErrorCode::CONCURRENT_TRANSACTIONS) => {}
            Err(_) => self.gate.note_failure(&Error::broker(ErrorCode::INVALID_PRODUCER_EPOCH, None)),
        }
    }

    /// A batch fails, if there can be one.
    fn fail(&mut self) {
        if !matches!(
            self.core.state,
            TransactionPhase::Open(_) | TransactionPhase::Abortable(..) | TransactionPhase::Draining(_)
        ) {
            return;
        }
        // Nothing is in flight before the transaction has begun.
        let lost = self.gate.begun() == Begun::Yes && self.one_of(3) == 0;
        let error = if lost {
            Error::network("cut").with_written(Written::Maybe)
        } else {
            Error::new(ErrorKind::Aborted, Recovery::Retry, "given up")
        };
        self.gate.note_failure(&error);
        if lost && self.version == TransactionVersion::V1 {
            self.seen.bumped_after_harmless += u64::from(self.hidden);
            self.in_doubt = true;
        }
        self.hidden = !lost;
    }

    fn take_batch_failure(&mut self) {
        self.hidden = false;
        while let Some(BatchFailure { error, sequence_gap }) = self.gate.take_failure() {
            assert!(sequence_gap == SequenceGap::Lost || !error.may_be_written());
            self.on(TransactionEvent::Failed { error, sequence_gap });
        }
    }

    fn send_offsets(&mut self) {
        let number = self.core.next_offsets();
        let offsets = TransactionOffsets { number, group: GroupMetadata::new("group"), offsets: Arc::from([]) };
        if self.on(TransactionEvent::SendOffsets(offsets)).is_none() {
            self.core.offsets_begun(number);
        }
    }

    fn commit(&mut self, own: Option<&Arc<TransactionHandle>>) {
        self.take_batch_failure();
        if self.call.is_some() {
            return;
        }
        let Some(handle) = self.subject(own) else { return };
        if let Some(outcome) = handle.outcome() {
            self.seen.told_later += 1;
            return self.check(&handle, Call::Commit, outcome);
        }
        if let Some(error) = self.on(TransactionEvent::Commit) {
            return self.judge(&handle, &error);
        }
        let begun = self.gate.begun();
        self.on(TransactionEvent::Flushed { begun });
        self.call = Some((handle, Call::Commit));
    }

    /// The transaction that a call is about. There is one as long as no call has returned its outcome.
    fn subject(&self, own: Option<&Arc<TransactionHandle>>) -> Option<Arc<TransactionHandle>> {
        let found = self.core.transaction(own);
        if let Err(error) = &found {
            let nothing_is_left = own.is_none() && (self.told || self.handles.is_empty());
            assert!(nothing_is_left, "there is an outcome to be told: {error:?}");
        }
        found.ok()
    }

    fn abort(&mut self, own: Option<&Arc<TransactionHandle>>) {
        self.take_batch_failure();
        if self.call.is_some() {
            return;
        }
        let Some(handle) = self.subject(own) else { return };
        if let Some(outcome) = handle.outcome() {
            self.seen.told_later += 1;
            return self.check(&handle, Call::Abort, outcome);
        }
        let was_committing = matches!(self.core.state, TransactionPhase::Committing(_));
        match self.on(TransactionEvent::Abort) {
            Some(error) => {
                // As long as a request is on its way, it may still arrive.
                assert!(
                    !was_committing || self.asked || self.flight.is_some(),
                    "the coordinator was not asked to commit: {error:?}"
                );
                self.judge(&handle, &error);
            }
            None => {
                self.seen.aborted_while_committing += u64::from(was_committing);
                self.never.push(handle.number);
                self.call = Some((handle, Call::Abort));
            }
        }
    }

    /// `max_block` is over.
    fn give_up(&mut self) {
        let Some((handle, _)) = self.call.take() else { return };
        let error = self.core.undecided(&handle, Error::timeout(Timeout::Transaction, "late"));
        if error.written() == Some(Written::Maybe) {
            self.seen.given_up_in_doubt += 1;
        } else {
            self.seen.given_up_undone += 1;
        }
        self.judge(&handle, &error);
    }

    /// The waiting call looks at the state.
    fn look(&mut self) {
        let Some((handle, call)) = self.call.take() else { return };
        match self.core.outcome(&handle) {
            // That the transaction must be aborted does not end an abort.
            Some(Err(_)) if call == Call::Abort && matches!(self.core.state, TransactionPhase::Abortable(..)) => {
                self.call = Some((handle, call));
            }
            Some(outcome) => self.check(&handle, call, outcome),
            None => self.call = Some((handle, call)),
        }
    }

    fn is_committed(&self, handle: &TransactionHandle) -> bool {
        self.handles.iter().any(|(other, committed)| other.number == handle.number && *committed)
    }

    fn check(&mut self, handle: &Arc<TransactionHandle>, call: Call, outcome: Result<TransactionResult>) {
        let said = match call {
            Call::Commit => handle.committed(outcome),
            Call::Abort => handle.aborted(outcome),
        };
        let is_last = self.handles.last().is_some_and(|(last, _)| Arc::ptr_eq(last, handle));
        self.told |= said.is_ok() && is_last;
        match (call, said) {
            (Call::Commit, Ok(())) => {
                assert!(self.is_committed(handle) || self.is_empty(handle), "it is not committed");
                self.seen.committed += 1;
            }
            (Call::Abort, Ok(())) => {
                assert!(!self.is_committed(handle), "it is committed");
                self.never.push(handle.number);
                self.seen.aborted += 1;
            }
            (_, Err(error)) => self.judge(handle, &error),
        }
    }

    /// A transaction without requests is committed without the coordinator.
    fn is_empty(&self, handle: &TransactionHandle) -> bool {
        self.handles.last().is_some_and(|(last, _)| last.number == handle.number) && self.gate.begun() == Begun::No
    }

    /// What an error says about the transaction is true now, and stays true if the error says that it is final.
    fn judge(&mut self, handle: &TransactionHandle, error: &Error) {
        match error.written() {
            None | Some(Written::No) => {
                let is_about_it = error.kind() != ErrorKind::Misuse;
                assert!(!is_about_it || !self.is_committed(handle), "it is committed: {error:?}");
                if matches!(error.recovery(), Recovery::AbortTransaction | Recovery::Fatal) {
                    self.never.push(handle.number);
                }
            }
            Some(Written::Maybe) => self.seen.fatal_in_doubt += u64::from(error.recovery() == Recovery::Fatal),
            Some(Written::Yes) => {
                assert!(self.is_committed(handle) || self.is_empty(handle), "it is not committed: {error:?}")
            }
        }
    }

    // ---- the thread kafka-txn and the brokers --------------------------------------------------------------------------

    fn time_out(&mut self) {
        self.timed_out |= self.coordinator.time_out(ID);
    }

    fn ask(&mut self, faults: bool) {
        if self.flight.is_some() {
            return;
        }
        self.take_batch_failure();
        if let TransactionPhase::Draining(_) = self.core.state {
            let begun = self.gate.begun();
            self.on(TransactionEvent::Drained { begun });
            return;
        }
        let Some(request) = self.core.state.request() else { return };
        self.on(TransactionEvent::Asked);
        let step = step_of(&request);
        let fault = if faults { self.one_of(12) } else { 11 };
        self.asked |= fault != 2 && step == (TransactionStep::End { commit: true });
        let network = || Error::network("cut");
        let comes_back = match fault {
            0 => Err((step, network(), true)),
            1 => {
                drop(self.serve(&request));
                Err((step, network(), true))
            }
            2 => Err((
                TransactionStep::Find(step.coordinator()),
                Error::broker(ErrorCode::COORDINATOR_NOT_AVAILABLE, None),
                false,
            )),
            3 => Err((step, Error::broker(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, None), true)),
            4 => {
                // The decision was written, but not replicated in time.
                drop(self.serve(&request));
                Err((step, Error::broker(ErrorCode::NOT_COORDINATOR, None), true))
            }
            5 => Err((step, Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None), true)),
            6 if step == (TransactionStep::End { commit: true }) && self.one_of(4) == 0 => {
                Err((step, Error::broker(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, None), true))
            }
            _ => self.serve(&request).map_err(|code| (step, Error::broker(code, None), true)),
        };
        self.flight = Some(Flight { comes_back });
    }

    fn answer(&mut self) {
        let Some(Flight { comes_back }) = self.flight.take() else { return };
        self.take_batch_failure();
        match comes_back {
            Ok(event) => {
                if let TransactionEvent::Initialized(_) = event {
                    self.in_doubt = false;
                }
                self.on(event);
            }
            Err((step, error, sent)) => {
                let begun = self.gate.begun();
                let timed_out = step == TransactionStep::CommitOffsets && self.timed_out;
                self.seen.offsets_timed_out +=
                    u64::from(timed_out && error.code() == Some(ErrorCode::INVALID_PRODUCER_EPOCH));
                self.on(TransactionEvent::Refused { step, error, sent, begun });
            }
        }
        if self.version == TransactionVersion::V2 {
            self.in_doubt = false;
        }
    }

    /// The coordinator carries out a request, and answers it.
    fn serve(&mut self, request: &CoordinatorRequest) -> Result<TransactionEvent, ErrorCode> {
        let by_group = |code| match code {
            ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
            code => code,
        };
        match request {
            CoordinatorRequest::Init { known } => {
                let given = self.coordinator.init(ID, 60_000, known.is_some().then_some(*known))?;
                Ok(TransactionEvent::Initialized(session(self.version, given)))
            }
            CoordinatorRequest::AddOffsets { producer, .. } => {
                self.coordinator.add(ID, *producer, Addition::Group("group"))?;
                self.gate.begin(Begun::Yes);
                Ok(TransactionEvent::GroupAdded)
            }
            CoordinatorRequest::CommitOffsets { session, .. } => {
                let group = Addition::Group("group");
                let joined = match self.version {
                    TransactionVersion::V1 => self.coordinator.verify(ID, session.producer, &group),
                    TransactionVersion::V2 => self.coordinator.add(ID, session.producer, group),
                };
                joined.map_err(by_group)?;
                self.gate.begin(Begun::Yes);
                Ok(TransactionEvent::OffsetsCommitted)
            }
            CoordinatorRequest::End { session: current, commit } => {
                let ended = self.coordinator.end(ID, current.producer, *commit, self.version)?;
                let number = self.core.number().unwrap();
                if *commit {
                    assert!(!self.never.contains(&number), "it was said that it never would be committed");
                    let handle = self.handles.iter_mut().find(|(handle, _)| handle.number == number);
                    handle.unwrap().1 = true;
                } else {
                    let handle = self.handles.iter().find(|(handle, _)| handle.number == number);
                    assert!(!handle.unwrap().1, "the coordinator aborts what it has committed");
                }
                let (EndAnswer::Already(next) | EndAnswer::Now(next)) = ended;
                let protocol = session(self.version, next).protocol;
                Ok(TransactionEvent::Ended { next: next.is_some().then_some(next), protocol })
            }
        }
    }

    /// Runs without faults until there is nothing to do.
    fn heal(&mut self) {
        for _ in 0..50 {
            self.answer();
            self.ask(false);
            drop(self.coordinator.complete());
        }
        assert!(self.flight.is_none() && self.core.state.request().is_none(), "{:?}", self.core.state);
    }

    /// At the end every transaction has an outcome, and it is the true one.
    fn end(&mut self) {
        self.call = None;
        self.heal();
        let last = self.handles.last().cloned();
        if let Some((handle, _)) = &last
            && handle.outcome().is_none()
        {
            self.abort(Some(handle));
            self.heal();
        }
        for (handle, _) in self.handles.clone() {
            let is_committed = self.is_committed(&handle);
            match handle.outcome().expect("an outcome") {
                Ok(TransactionResult::Committed) => assert!(is_committed || handle.number > 0),
                Ok(TransactionResult::Aborted) => assert!(!is_committed),
                Err(error) => assert!(!is_committed || error.written() == Some(Written::Maybe), "{error:?}"),
            }
        }
    }
}

fn step_of(request: &CoordinatorRequest) -> TransactionStep {
    match request {
        CoordinatorRequest::Init { known } if known.is_some() => TransactionStep::Bump,
        CoordinatorRequest::Init { .. } => TransactionStep::Init,
        CoordinatorRequest::AddOffsets { .. } => TransactionStep::AddOffsets,
        CoordinatorRequest::CommitOffsets { .. } => TransactionStep::CommitOffsets,
        CoordinatorRequest::End { commit, .. } => TransactionStep::End { commit: *commit },
    }
}

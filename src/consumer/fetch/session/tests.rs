use super::*;

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

fn spec(offset: i64) -> Spec {
    Spec { stamp: Stamp { epoch: 0, offset }, leader_epoch: 1, last_epoch: -1, topic_id: Uuid([1; 16]), max_bytes: 100 }
}

fn asked(plan: &Plan) -> Vec<(i32, i64)> {
    plan.fetch.iter().map(|(partition, spec)| (partition.index, spec.stamp.offset)).collect()
}

fn forgotten(plan: &Plan) -> Vec<i32> {
    plan.forget.iter().map(|(partition, _)| partition.index).collect()
}

fn session(partitions: i32) -> Session {
    let mut session = Session::default();
    for index in 0..partitions {
        session.set(&partition(index), spec(0));
    }
    session
}

/// A session that the broker has accepted, under the id 7.
fn established(partitions: i32) -> Session {
    let mut session = session(partitions);
    session.plan(true, true);
    assert_eq!(session.answered(ErrorCode::NONE, 7), Verdict::Accepted);
    session
}

#[test]
fn a_session_names_what_has_changed_alone() {
    let mut session = session(3);
    let plan = session.plan(true, true);
    assert_eq!((plan.session_id, plan.session_epoch, asked(&plan).len()), (0, 0, 3));
    assert_eq!(session.answered(ErrorCode::NONE, 7), Verdict::Accepted);
    let plan = session.plan(true, true);
    assert_eq!((plan.session_id, plan.session_epoch, asked(&plan), forgotten(&plan)), (7, 1, vec![], vec![]));
    assert_eq!(session.answered(ErrorCode::NONE, 7), Verdict::Accepted);
    session.set(&partition(1), spec(5));
    session.remove(&partition(2));
    session.set(&partition(3), spec(9));
    let plan = session.plan(true, true);
    assert_eq!((plan.session_epoch, asked(&plan), forgotten(&plan)), (2, vec![(1, 5), (3, 9)], vec![2]));
}

#[test]
fn what_changes_and_changes_back_between_two_requests_is_not_told() {
    let mut session = established(3);
    session.remove(&partition(0));
    session.set(&partition(0), spec(0));
    session.set(&partition(8), spec(0));
    session.remove(&partition(8));
    let plan = session.plan(true, true);
    assert_eq!((asked(&plan), forgotten(&plan)), (vec![], vec![]));
    // Another reading epoch is nothing that a broker knows of.
    session.set(&partition(0), Spec { stamp: Stamp { epoch: 4, offset: 0 }, ..spec(0) });
    assert_eq!(asked(&session.plan(true, true)), []);
    assert_eq!(session.spec(&partition(0)).map(|spec| spec.stamp.epoch), Some(4));
}

#[test]
fn a_topic_of_another_id_is_forgotten_and_fetched() {
    let mut session = established(1);
    session.set(&partition(0), Spec { topic_id: Uuid([2; 16]), ..spec(0) });
    let plan = session.plan(true, true);
    assert_eq!(plan.forget, [(partition(0), Uuid([1; 16]))]);
    assert_eq!(plan.fetch.len(), 1);
    assert_eq!(session.name_of(Uuid([2; 16])).map(|name| &**name), Some("t"));
}

#[test]
fn a_session_that_is_gone_begins_anew_with_all() {
    for code in [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    ] {
        let mut session = established(3);
        session.set(&partition(1), spec(5));
        session.plan(true, true);
        assert_eq!(session.answered(code, 0), Verdict::Renewed);
        let plan = session.plan(true, true);
        let all: BTreeSet<_> = asked(&plan).into_iter().collect();
        assert_eq!((plan.session_id, plan.session_epoch, all), (0, 0, [(0, 0), (1, 5), (2, 0)].into()));
    }
}

#[test]
fn an_answer_of_another_session_is_refused() {
    let mut session = established(1);
    session.plan(true, true);
    assert_eq!(session.answered(ErrorCode::NONE, 8), Verdict::Refused);
    assert_eq!(session.plan(true, true).session_id, 0);
    assert_eq!(session.answered(ErrorCode::UNKNOWN_SERVER_ERROR, 0), Verdict::Refused);
}

#[test]
fn names_and_ids_are_not_mixed_in_a_session() {
    let mut session = established(2);
    assert!(session.has_ids());
    session.set(&partition(1), Spec { topic_id: Uuid::default(), ..spec(0) });
    assert!(!session.has_ids());
    let plan = session.plan(true, false);
    assert_eq!((plan.session_id, plan.session_epoch, plan.fetch.len()), (0, 0, 2));
    session.remove(&partition(1));
    assert!(session.has_ids());
    assert_eq!(session.max_bytes(), 100);
}

#[test]
fn without_a_session_every_partition_is_the_first_in_its_turn() {
    for (has_sessions, epoch) in [(true, 0), (false, -1)] {
        let mut session = session(3);
        let mut first = Vec::new();
        for _ in 0..4 {
            let plan = session.plan(has_sessions, true);
            assert_eq!((plan.session_id, plan.session_epoch, plan.fetch.len()), (0, epoch, 3));
            first.push(plan.fetch[0].0.index);
            // The broker has no room for a session.
            assert_eq!(session.answered(ErrorCode::NONE, 0), Verdict::Accepted);
        }
        assert_eq!(first, [0, 1, 2, 0]);
    }
}

#[test]
fn the_epoch_begins_anew_behind_the_last_one() {
    let mut session = established(1);
    session.epoch = i32::MAX;
    assert_eq!(session.plan(true, true).session_epoch, i32::MAX);
    assert_eq!(session.answered(ErrorCode::NONE, 7), Verdict::Accepted);
    assert_eq!(session.plan(true, true).session_epoch, 1);
}

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The topics that each request names, and whether it may create them.
fn requests(asked: &Asked) -> Vec<(Vec<String>, bool)> {
    let read = |request: MetadataRequest| {
        let topics = request.topics.unwrap().into_iter().map(|topic| topic.name.unwrap());
        (topics.collect(), request.allow_auto_topic_creation)
    };
    asked.requests().into_iter().map(read).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_forgotten_topic_is_asked_for_again_when_it_is_used() {
    let (begin, mut interests) = (Instant::now(), Interests::default());
    let name: Arc<str> = "t".into();
    assert!(interests.keep(&name, Creation::Allowed, begin));
    let usage = interests.usage(&name, Creation::Allowed);
    let after = |interests: &mut Interests, seconds: u32| {
        interests.forget_unused(begin + seconds * SECOND, SECOND);
        interests.creating.kept.contains_key(&name)
    };
    assert!(after(&mut interests, 0), "new");
    assert!(!usage.mark());
    assert!(after(&mut interests, 60), "used meanwhile");
    assert!(!after(&mut interests, 120), "not used for a minute");
    assert!(usage.mark(), "whoever sends to it now must tell");
    interests.remember(&name, &usage, begin + 120 * SECOND);
    assert!(!usage.mark());
    assert!(after(&mut interests, 180), "the mark is the one that the sender of records has");
}

#[test]
fn a_topic_is_kept_for_as_long_as_one_of_its_users_uses_it() {
    let (begin, mut interests) = (Instant::now(), Interests::default());
    let name: Arc<str> = "t".into();
    // Each of two clients has met the topic before it was kept.
    let usages = [0, 1].map(|_| interests.usage(&name, Creation::Allowed));
    assert!(!interests.creating.kept.contains_key(&name), "a mark alone asks for nothing");
    for usage in &usages {
        assert!(usage.mark());
        interests.remember(&name, usage, begin);
    }
    for (round, used) in (1..).zip([0, 1, 0, 1]) {
        interests.forget_unused(begin + round * 60 * SECOND, SECOND);
        assert!(interests.creating.kept.contains_key(&name), "round {round}");
        usages[used].mark();
    }
    // The other one's mark was taken back long ago.
    interests.forget_unused(begin + 600 * SECOND, SECOND);
    interests.forget_unused(begin + 1200 * SECOND, SECOND);
    assert!(!interests.creating.kept.contains_key(&name));
    assert!(usages.iter().all(|usage| usage.mark()), "both are told that it is forgotten");
    // The marks of clients that have ended do not pile up.
    for _ in 0..100 {
        interests.remember(&name, &Usage::new(USED, Creation::Allowed), begin);
    }
    assert!(interests.creating.kept[&name].usages.len() <= 3);
}

#[test]
fn only_those_topics_may_be_created_of_which_somebody_allows_it() {
    let (now, mut interests) = (Instant::now(), Interests::default());
    // Nobody wants a topic: it is the brokers that are asked for.
    assert_eq!(requests(&interests.to_ask(true)), [(vec![], false)]);
    interests.keep("a", Creation::Forbidden, now);
    interests.keep("b", Creation::Forbidden, now);
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["a", "b"]), false)]);
    interests.keep("b", Creation::Allowed, now);
    interests.keep("c", Creation::Allowed, now);
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["b", "c"]), true), (names(&["a"]), false)]);
    // Of those that are waited for it is the same.
    assert!(!interests.are_awaited());
    interests.begin_waiting(&"a".into(), Creation::Forbidden);
    assert_eq!(requests(&interests.to_ask(false)), [(names(&["a"]), false)]);
    interests.begin_waiting(&"c".into(), Creation::Allowed);
    assert_eq!(requests(&interests.to_ask(false)), [(names(&["c"]), true), (names(&["a"]), false)]);
    interests.end_waiting(&"a".into(), Creation::Forbidden);
    assert_eq!(requests(&interests.to_ask(false)), [(names(&["c"]), true)]);
    interests.end_waiting(&"c".into(), Creation::Allowed);
    assert!(!interests.are_awaited());
}

#[test]
fn a_topic_is_new_to_those_who_may_create_it_until_they_have_asked() {
    let (now, mut interests) = (Instant::now(), Interests::default());
    assert!(interests.keep("a", Creation::Forbidden, now));
    assert!(!interests.keep("a", Creation::Forbidden, now));
    let asked = interests.to_ask(true);
    // That it is missing has been told to those who do not create it; those who do have not been told anything.
    assert!(interests.keep("a", Creation::Allowed, now));
    interests.answered(&asked);
    assert!(interests.have_new());
    interests.keep("b", Creation::Forbidden, now);
    let asked = interests.to_ask(true);
    interests.answered(&asked);
    assert!(!interests.have_new());
}

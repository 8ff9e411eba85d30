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

fn interested(creation: Creation) -> Arc<Interested> {
    Interested::new(creation, SECOND)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_forgotten_topic_is_asked_for_again_when_it_is_used() {
    let (begin, mut interests) = (Instant::now(), Interests::default());
    let (name, client): (Arc<str>, _) = ("t".into(), interested(Creation::Allowed));
    assert!(interests.keep(&name, &client, begin));
    let usage = interests.usage(&name, &client).unwrap();
    let after = |interests: &mut Interests, seconds: u32| {
        interests.forget_unused(begin + seconds * SECOND);
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
    let clients = [0, 1].map(|_| interested(Creation::Allowed));
    assert!(clients.iter().all(|client| interests.usage(&name, client).is_none()), "nobody wants it");
    assert!(interests.keep(&name, &clients[0], begin));
    assert!(interests.usage(&name, &clients[1]).is_none(), "that another client wants it is not this one's wish");
    assert!(!interests.keep(&name, &clients[1], begin), "it has been asked for");
    let usages = [0, 1].map(|client| interests.usage(&name, &clients[client]).unwrap());
    for (round, used) in (1..).zip([0, 1, 0, 1]) {
        interests.forget_unused(begin + round * 60 * SECOND);
        assert!(interests.creating.kept.contains_key(&name), "round {round}");
        usages[used].mark();
    }
    // The other client's mark was taken back long ago.
    interests.forget_unused(begin + 600 * SECOND);
    interests.forget_unused(begin + 1200 * SECOND);
    assert!(!interests.creating.kept.contains_key(&name));
    assert!(usages.iter().all(|usage| usage.mark()), "both are told that it is forgotten");
    // A client's marks do not pile up.
    for _ in 0..100 {
        interests.remember(&name, &Usage::new(&clients[0]), begin);
    }
    assert_eq!(interests.creating.kept[&name].len(), 1);
}

#[test]
fn a_topic_is_kept_for_as_long_as_one_of_its_users_wants_to_know_of_it() {
    let (begin, mut interests) = (Instant::now(), Interests::default());
    let patient = Interested::new(Creation::Allowed, 60 * SECOND);
    for client in [interested(Creation::Allowed), patient] {
        interests.keep("t", &client, begin);
    }
    let mut after = |seconds: u32| {
        interests.forget_unused(begin + seconds * SECOND);
        interests.creating.kept.contains_key("t")
    };
    // The marks of the beginning are taken back.
    assert!(after(0));
    assert!(after(59));
    assert!(!after(60));
}

#[test]
fn a_client_that_ends_takes_its_interests_along_and_nobody_elses() {
    let (now, mut interests) = (Instant::now(), Interests::default());
    let writer = interested(Creation::Allowed);
    let reader = interested(Creation::Forbidden);
    let other = interested(Creation::Allowed);
    for (topic, client) in
        [("a", &writer), ("b", &writer), ("b", &other), ("c", &writer), ("c", &reader), ("d", &reader)]
    {
        interests.keep(topic, client, now);
    }
    let usage = interests.usage("b", &other).unwrap();
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["a", "b", "c"]), true), (names(&["d"]), false)]);
    interests.end(&writer);
    assert!(writer.has_ended() && !other.has_ended() && !reader.has_ended());
    // A topic that only this client allowed to be created is not created any more for clients that do not allow it.
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["b"]), true), (names(&["c", "d"]), false)]);
    assert!(!usage.mark(), "the other one's topic was not forgotten");
    assert!(!interests.creating.new.contains("a"), "nobody waits for an answer about it");
    for client in [&other, &reader] {
        interests.end(client);
    }
    assert_eq!(requests(&interests.to_ask(true)), [(vec![], false)]);
    assert!(!interests.have_new());
}

#[test]
fn only_those_topics_may_be_created_of_which_somebody_allows_it() {
    let (now, mut interests) = (Instant::now(), Interests::default());
    let (writer, reader) = (interested(Creation::Allowed), interested(Creation::Forbidden));
    // No topic is wanted: the request asks for the brokers.
    assert_eq!(requests(&interests.to_ask(true)), [(vec![], false)]);
    interests.keep("a", &reader, now);
    interests.keep("b", &reader, now);
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["a", "b"]), false)]);
    interests.keep("b", &writer, now);
    interests.keep("c", &writer, now);
    assert_eq!(requests(&interests.to_ask(true)), [(names(&["b", "c"]), true), (names(&["a"]), false)]);
    // The same holds for topics that callers wait for.
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
    let (writer, reader) = (interested(Creation::Allowed), interested(Creation::Forbidden));
    assert!(interests.keep("a", &reader, now));
    assert!(!interests.keep("a", &reader, now));
    let asked = interests.to_ask(true);
    // The answer was to a request that does not create the topic; the one that creates it has not been made yet.
    assert!(interests.keep("a", &writer, now));
    interests.answered(&asked);
    assert!(interests.have_new());
    interests.keep("b", &reader, now);
    let asked = interests.to_ask(true);
    interests.answered(&asked);
    assert!(!interests.have_new());
}

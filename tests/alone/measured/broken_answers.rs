//! Answers that cannot be used cost little memory, whatever lengths they claim.

use std::time::Duration;

use kafka_blocking::testing::{Api, Fault, On};

use crate::common::*;
use crate::{ALLOCATOR, alone};

fn framed(length: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Bytes without a meaning.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Answers that cannot be used; each breaks the connection without a timeout.
fn broken_answers() -> Vec<(&'static str, Fault)> {
    let mut list = vec![
        ("a wrong correlation id", Fault::WrongCorrelation),
        ("an answer that comes twice", Fault::RepeatAnswer),
        ("noise in a frame", Fault::Garbage(framed(300, &noise(300)))),
        ("an empty frame", Fault::Garbage(framed(0, &[]))),
        ("a frame of zeros", Fault::Garbage(framed(200, &[0; 200]))),
        ("a frame of ones", Fault::Garbage(framed(200, &[0xFF; 200]))),
        ("a huge frame", Fault::Garbage(framed(i32::MAX, &noise(100)))),
        ("a frame just below the limit", Fault::Garbage(framed(BELOW_THE_LIMIT, &noise(100)))),
        ("a negative frame", Fault::Garbage(framed(-1, &noise(100)))),
        ("the most negative frame", Fault::Garbage(framed(i32::MIN, &noise(100)))),
        ("HTTP", Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec())),
        ("TLS", Fault::Garbage(vec![0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46])),
        ("a cut before the append", Fault::CutBefore),
    ];
    // The right correlation id cannot be known here, so arrays with absurd lengths come behind each likely one.
    for correlation in 0..6 {
        let mut body = i32::to_be_bytes(correlation).to_vec();
        body.extend([0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x7F]);
        list.push(("an array of absurd length", Fault::Garbage(framed(body.len() as i32, &body))));
    }
    for length in [0, 1, 3, 4, 5, 8, 9, 20, 40, 60] {
        list.push(("a truncated answer", Fault::Truncate(length)));
    }
    list
}

const BELOW_THE_LIMIT: i32 = 99_000_000;

/// An answer that never becomes whole is noticed by its time. All others are noticed without.
fn is_noticed_by_time(broken: &Fault) -> bool {
    matches!(broken, Fault::Garbage(bytes) if bytes.starts_with(&BELOW_THE_LIMIT.to_be_bytes()))
}

/// The request timeout.
fn time_of(broken: &Fault) -> Duration {
    if is_noticed_by_time(broken) { ms(1000) } else { Duration::from_secs(30) }
}

#[test]
fn a_broken_answer_ends_the_connection_and_writes_nothing_twice() {
    let _alone = alone();
    for (what, broken) in broken_answers() {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).batch_records(2).request_timeout(time_of(&broken)).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 4));
        let lost = producer.metrics().connections_lost;
        let before = ALLOCATOR.stats().bytes_allocated;
        let fault = cluster.inject(On::produce().topic("t").skip(1), broken.clone());
        succeed(&send_all(&producer, "t", 0, 4, 40));
        let allocated = ALLOCATOR.stats().bytes_allocated - before;
        assert_eq!(fault.fired(), 1, "{what}");
        until("the connection ends", || producer.metrics().connections_lost > lost);
        assert_once_in_order(&cluster, "t", 0, 40);
        assert!(allocated < 16 << 20, "{what}: {allocated} bytes were allocated");
        let lost = producer.metrics().connections_lost as usize;
        if is_noticed_by_time(&broken) {
            // A machine that stands still lets a good answer come too late as well, and what was sent again come twice.
            assert_refused_behind(&cluster, 2 * lost);
        } else {
            assert_eq!(lost, 1, "{what}");
            assert_refused_behind(&cluster, 1);
        }
        close(&producer);
    }
}

#[test]
fn broken_answers_to_other_requests_are_borne() {
    let _alone = alone();
    at_once([Api::Metadata, Api::InitProducerId], |api| {
        for (what, broken) in broken_answers() {
            let cluster = one_topic("t", 1);
            let fault = cluster.inject(On::api(api), broken.clone());
            let producer = quick(&cluster).request_timeout(time_of(&broken)).build().unwrap();
            succeed(&send_all(&producer, "t", 0, 0, 3));
            assert_eq!(fault.fired(), 1, "{api}: {what}");
            assert_once_in_order(&cluster, "t", 0, 3);
            assert_no_refusals(&cluster);
            close(&producer);
        }
    });
}

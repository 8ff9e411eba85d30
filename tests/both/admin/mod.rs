//! The admin client, on real Kafka and on the fake cluster.

mod configs;
mod offsets;
mod topics;

use std::time::Duration;

use kafka_blocking::admin::{Admin, TopicDescription};
use kafka_blocking::{Error, ErrorCode, ErrorKind, Recovery};

use crate::support::target::Target;
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_secs(60);

/// What these tests have of a cluster besides.
trait Prepare {
    fn admin(&self) -> Admin;
    fn topic(&self, suffix: &str) -> String;
}

impl Prepare for Target {
    fn admin(&self) -> Admin {
        Admin::builder(&self.bootstrap).build().unwrap()
    }

    /// Of a name that nobody else has.
    fn topic(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.name)
    }
}

/// What a broker says of a topic that this client has just made.
fn described(admin: &Admin, topic: &str) -> TopicDescription {
    admin.describe_topics([topic]).all().unwrap().remove(topic).unwrap()
}

/// Until the brokers know that a topic is gone.
fn gone(admin: &Admin, topic: &str) {
    wait_for("the deletion", MINUTE, || admin.describe_topics([topic]).all().is_err().then_some(()));
}

/// The error is this code of the broker, about this topic, and repeating the call would not help.
#[track_caller]
fn refused<T>(result: Option<&Result<T, Error>>, code: ErrorCode, topic: &str) {
    let Err(error) = result.expect("the item has a result") else { panic!("it was done") };
    assert_eq!(error.kind(), ErrorKind::Broker(code), "{error:?}");
    assert_eq!(error.context().topic.as_deref(), Some(topic), "{error}");
    assert!(error.context().api.is_some() && error.context().address.is_some(), "{error}");
    // A topic that is not there may be there soon.
    if code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && code != ErrorCode::UNKNOWN_TOPIC_ID {
        assert_eq!(error.recovery(), Recovery::Fix, "{error}");
    }
}

/// The client itself refuses the item.
#[track_caller]
fn invalid<T>(result: Option<&Result<T, Error>>, part: &str) {
    let Err(error) = result.expect("the item has a result") else { panic!("it was done") };
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::InvalidInput, Recovery::Fix), "{error:?}");
    assert!(error.to_string().contains(part), "{error}");
}

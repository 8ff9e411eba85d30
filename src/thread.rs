//! The library's own threads: how they get their names, how their panics are caught, and how their end is waited for.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, printable};

/// Starts a thread of this name. Its `body` must [`catch`] its own panics, so that all callers that wait for it
/// are told.
///
/// *Errors*: `Network`, where the operating system starts no thread.
pub(crate) fn spawn(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let name = name.into();
    let started = Builder::new().name(name.clone()).spawn(body);
    started.map_err(|error| Error::network(format!("cannot start the thread {name}")).with_source(error))
}

/// Runs `work` and returns its result, or the text of its panic.
///
/// After a panic, what `work` has changed may be half done. So the caller gives all of it up, and tells those who wait.
// Partitioners run in it, for every record, so the code for a panic is kept out of line.
#[inline]
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(said)
}

/// The text of a panic.
#[cold]
fn said(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => printable(text),
        (None, Some(text)) => printable(text),
        (None, None) => "no text".to_owned(),
    };
    // The payload may be of the user's type. Its drop may panic, and so may the drop of that panic's payload.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        let _never_dropped = ManuallyDrop::new(second);
    }
    text
}

/// Joins a thread that ends soon, or detaches it at the deadline. True if it has ended.
pub(crate) fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    // The standard library joins only without a time limit. A thread that is about to end takes microseconds, so the
    // pauses are short at first.
    let mut pause = Duration::from_micros(50);
    while !thread.is_finished() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    thread.join().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_has_its_name_and_its_panic_is_caught() {
        let (tell, told) = channel();
        let body = move || {
            tell.send(thread::current().name().map(str::to_owned)).unwrap();
            assert_eq!(catch(|| 7), Ok(7));
            let heard = catch(|| assert!(tell.send(None).is_err(), "the test hears it"));
            assert_eq!(heard, Err("the test hears it".to_owned()));
        };
        let thread = spawn("kafka-test", body).unwrap();
        assert_eq!(told.recv().unwrap().as_deref(), Some("kafka-test"));
        assert_eq!(told.recv().unwrap(), None);
        assert!(join_until(thread, Instant::now() + Duration::from_secs(60)));
    }

    #[test]
    fn what_a_panic_says_is_kept_and_a_payload_that_panics_when_dropped_is_borne() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Self);
            }
        }
        let number = 7;
        assert_eq!(catch(|| -> () { panic!("so") }), Err("so".to_owned()));
        assert_eq!(catch(|| -> () { panic!("so {number}\n") }), Err("so 7 ".to_owned()));
        assert_eq!(catch(|| -> () { std::panic::panic_any(Bomb) }), Err("no text".to_owned()));
    }

    #[test]
    fn a_thread_that_does_not_end_is_let_go_at_the_deadline() {
        let (end, ended) = channel::<()>();
        let thread = spawn("kafka-test", move || ended.recv().unwrap_or_default()).unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        assert!(!join_until(thread, deadline));
        assert!(Instant::now() >= deadline);
        drop(end);
    }
}

//! Panics of code that is not ours, or that runs such code.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::printable;

/// Runs `code`. `Err`: it panicked, and said this.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => printable(text),
            (None, Some(text)) => printable(text),
            (None, None) => "no text".to_owned(),
        };
        // What was thrown is foreign, too: it may panic when it is dropped, and so may what that throws.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            let _never_dropped = ManuallyDrop::new(second);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Self);
        }
    }

    #[test]
    fn what_a_panic_says_is_kept_and_a_payload_that_panics_when_dropped_is_borne() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| -> () { panic!("so") }), Err("so".to_owned()));
        let number = 7;
        assert_eq!(caught(|| -> () { panic!("so {number}\n") }), Err("so 7 ".to_owned()));
        assert_eq!(caught(|| -> () { std::panic::panic_any(Bomb) }), Err("no text".to_owned()));
    }
}

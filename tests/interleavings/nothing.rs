//! Empty: a package needs a library or binary, and the tests are another target.

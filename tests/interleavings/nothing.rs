//! Nothing: the tests are the target beside it.

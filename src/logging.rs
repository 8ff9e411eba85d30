//! What the crate logs with `log`. The logger is the program's own code.
//!
//! A logger may be slow, and it may send what it is told to Kafka, through the same producer that logs. So it is never
//! called under a lock: a line that is logged under one is held back until the lock is free ([`Quiet`]). And nothing
//! that the logger sends is waited for ([`is_inside`]), because it runs on threads on which records and metadata
//! depend.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;

pub(crate) use log::Level;
use log::Record;

/// A line that waits for the end of a lock.
struct Line {
    level: Level,
    module: &'static str,
    file: &'static str,
    line: u32,
    text: String,
}

thread_local! {
    /// How many locks the thread holds under which lines are held back.
    static LOCKS: Cell<usize> = const { Cell::new(0) };
    static HELD_BACK: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// Whether lines are held back. With it, most locks end without a look at the list.
    static ANY: Cell<bool> = const { Cell::new(false) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Holds back what the thread logs until this is dropped. It is declared before the guard of a lock, or is the last
/// field of a type that has a guard, so that it is dropped after the guard.
pub(crate) struct Quiet {
    /// Makes the type neither `Send` nor `Sync`: it counts for this thread.
    _here: PhantomData<*const ()>,
}

impl Quiet {
    #[inline]
    pub(crate) fn begin() -> Self {
        // While a thread is ending, its thread-local values may be gone; then nothing is held back.
        LOCKS.try_with(|locks| locks.set(locks.get() + 1)).ok();
        Self { _here: PhantomData }
    }
}

impl Drop for Quiet {
    #[inline]
    fn drop(&mut self) {
        let outermost = LOCKS.try_with(|locks| {
            locks.set(locks.get().saturating_sub(1));
            locks.get() == 0
        });
        if outermost == Ok(true) && ANY.try_with(Cell::get) == Ok(true) {
            catch_up();
        }
    }
}

/// Logs what was held back.
#[cold]
fn catch_up() {
    ANY.try_with(|any| any.set(false)).ok();
    let lines = HELD_BACK.try_with(|lines| lines.borrow_mut().split_off(0)).unwrap_or_default();
    for Line { level, module, file, line, text } in lines {
        call(level, module, file, line, format_args!("{text}"));
    }
}

/// Whether the calling thread is inside of the program's logger, called by this crate.
pub(crate) fn is_inside() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(false)
}

/// Logs a line, now or when the thread's locks are free.
pub(crate) fn tell(level: Level, module: &'static str, file: &'static str, line: u32, text: fmt::Arguments<'_>) {
    if LOCKS.try_with(Cell::get).unwrap_or(0) == 0 {
        return call(level, module, file, line, text);
    }
    let held = Line { level, module, file, line, text: text.to_string() };
    HELD_BACK.try_with(|lines| lines.borrow_mut().push(held)).ok();
    ANY.try_with(|any| any.set(true)).ok();
}

fn call(level: Level, module: &'static str, file: &'static str, line: u32, text: fmt::Arguments<'_>) {
    /// Resets the mark also when the logger panics.
    struct Inside(bool);
    impl Drop for Inside {
        fn drop(&mut self) {
            INSIDE.try_with(|inside| inside.set(self.0)).ok();
        }
    }
    let _inside = Inside(INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true));
    let mut record = Record::builder();
    record.level(level).target(module).module_path_static(Some(module)).file_static(Some(file)).line(Some(line));
    log::logger().log(&record.args(text).build());
}

/// One level's macro; the text is made only where the level is logged. The names differ from their level's because an
/// attribute is called `warn`.
macro_rules! levels {
    ($dollar:tt $($name:ident $level:ident),*) => {$(
        macro_rules! $name {
            ($dollar($dollar text:tt)+) => {
                if log::Level::$level <= log::STATIC_MAX_LEVEL && log::Level::$level <= log::max_level() {
                    let text = format_args!($dollar($dollar text)+);
                    $crate::logging::tell(log::Level::$level, module_path!(), file!(), line!(), text);
                }
            };
        }
    )*};
}

levels! { $ error_line Error, warn_line Warn, info_line Info, debug_line Debug, trace_line Trace }

/// Logs a line at a level that is known only at run time.
macro_rules! line {
    ($level:expr, $($text:tt)+) => {{
        let level = $level;
        if level <= log::STATIC_MAX_LEVEL && level <= log::max_level() {
            $crate::logging::tell(level, module_path!(), file!(), line!(), format_args!($($text)+));
        }
    }};
}

pub(crate) use line as log;
pub(crate) use {debug_line as debug, error_line as error, info_line as info, trace_line as trace, warn_line as warn};

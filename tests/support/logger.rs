//! The process's one logger, for tests that have the process to themselves.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::Duration;

struct Logger;

/// The text at which a thread is to stand still, and who is told when it does.
static SLOW_AT: Mutex<Option<(&'static str, Sender<()>)>> = Mutex::new(None);
/// Level and text of what was logged since [`collect`].
static COLLECTED: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// A failed test must not fail the others.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if let Some(collected) = &mut *locked(&COLLECTED) {
            collected.push(format!("{} {text}", record.level()));
        }
        let met = locked(&SLOW_AT).take_if(|(part, _)| text.contains(*part));
        if let Some((_, told)) = met {
            // The test may have ended.
            let _ = told.send(());
            thread::sleep(Duration::from_millis(2500));
        }
    }

    fn flush(&self) {}
}

fn install(level: log::LevelFilter) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_logger(&Logger).unwrap());
    log::set_max_level(level);
}

/// Makes the thread that next logs this text stand still for a while, and reports when it does. A thread can be as late
/// as this on a busy machine.
pub fn stand_still_at(text: &'static str) -> Receiver<()> {
    let (told, tell) = channel();
    *locked(&SLOW_AT) = Some((text, told));
    install(log::LevelFilter::Debug);
    tell
}

/// Keeps what is logged from now on, up to this level.
pub fn collect(level: log::LevelFilter) {
    *locked(&COLLECTED) = Some(Vec::new());
    install(level);
}

/// The lines since [`collect`] that contain `part`, each behind its level.
pub fn lines(part: &str) -> Vec<String> {
    let collected = locked(&COLLECTED);
    collected.iter().flatten().filter(|line| line.contains(part)).cloned().collect()
}

/// Nothing is logged any more.
pub fn silence() {
    log::set_max_level(log::LevelFilter::Off);
    *locked(&SLOW_AT) = None;
    *locked(&COLLECTED) = None;
}

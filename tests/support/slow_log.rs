//! A log that takes its time: so late may a thread be on a busy machine.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

struct SlowLog(Mutex<Option<(&'static str, Sender<()>)>>);

static LOG: SlowLog = SlowLog(Mutex::new(None));

impl log::Log for SlowLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let waited_for = |(text, _): &mut (&str, Sender<()>)| record.args().to_string().contains(*text);
        let met = self.0.lock().unwrap().take_if(waited_for);
        if let Some((_, told)) = met {
            // The test may have ended.
            let _ = told.send(());
            thread::sleep(Duration::from_millis(2500));
        }
    }

    fn flush(&self) {}
}

/// Has the thread that next logs this text stand still for a while, and tells when it does. Once in a process.
pub(crate) fn stand_still_at(text: &'static str) -> Receiver<()> {
    let (told, tell) = channel();
    *LOG.0.lock().unwrap() = Some((text, told));
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    tell
}

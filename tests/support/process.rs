//! A child process that cannot outlive the test process.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Starts the program, tells its pid, and waits for it. A second shell reads signal names from the pipe that the test
/// process holds, sends each to the program, and says when it is sent. End of file on that pipe means that the test
/// process let go of it or is gone, even by SIGKILL: then the program is killed, and SIGKILL ends a stopped one too.
const WATCHDOG: &str = r#"
exec 3<&0
"$@" </dev/null >>"$WATCHED_OUT" 2>>"$WATCHED_ERR" 3<&- &
program=$!
trap '' INT HUP TERM QUIT
echo "$program"
(
    while read -r signal; do
        kill -s "$signal" "$program"
        echo sent
    done
    kill -s KILL "$program"
) <&3 2>/dev/null &
reader=$!
exec 3<&- </dev/null
wait "$program"
status=$?
kill -s KILL "$reader" 2>/dev/null
exit "$status"
"#;

/// A running program; dropping it kills the program (SIGKILL) and waits for its end.
#[derive(Debug)]
pub struct Watched {
    child: Child,
    control: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: u32,
}

impl Watched {
    /// Starts `program`, its standard output and error appended to files (which may be the same one).
    pub fn start<S: AsRef<OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = S>,
        out: &Path,
        err: &Path,
    ) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", program])
            .args(arguments)
            .env("WATCHED_OUT", out)
            .env("WATCHED_ERR", err)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Not in our process group: an interrupt at the terminal must not end the watchdog before its program.
            .process_group(0)
            .spawn()
            .expect("cannot start sh");
        let control = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let pid = line.trim().parse().expect("the watchdog tells a pid");
        Self { child, control, answers, pid }
    }

    /// The program's own process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal by name without `SIG`, and returns once it is sent.
    pub fn signal(&mut self, name: &str) {
        let Some(control) = &mut self.control else { return };
        // An error means that the program has ended already.
        if writeln!(control, "{name}").is_ok() {
            let _ = self.answers.read_line(&mut String::new());
        }
    }

    /// Whether every thread of the program is stopped (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        // The state comes behind the name, which is in brackets.
        stats.filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next()).all(|state| "Ttx".contains(state))
    }

    /// Kills the program (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.control = None;
        let _ = self.child.wait();
    }

    /// The exit status if the program has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of the program, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process exists (a zombie does).
pub fn exists(pid: u32) -> bool {
    let status = Command::new("sh").args(["-c", "kill -s 0 \"$1\" 2>/dev/null", "sh", &pid.to_string()]).status();
    status.unwrap().success()
}

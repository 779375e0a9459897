//! Keeping watch over a suite's process: its output, its time, and the wish to stop.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fold::ProcessEnd;

/// How often the deadline and the interrupt are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long output may trail behind the end of its process.
const DRAIN: Duration = Duration::from_millis(500);
const KEPT_LINES: usize = 20;

/// A process that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// How.
    pub end: ProcessEnd,
    /// How long it lived.
    pub lived: Duration,
    /// The end of what it wrote to standard error.
    pub last_words: String,
}

/// Runs a command to its end, its limit or an interrupt, whichever comes first. Nothing is left running.
///
/// Every line of its standard output is handed on as it comes. Its standard input stays open and empty: when
/// this process dies, the other sees the end of it.
pub fn watch(
    command: &mut Command,
    limit: Duration,
    interrupted: &AtomicBool,
    mut on_line: impl FnMut(&str, Duration),
) -> Watched {
    let start = Instant::now();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    own_process_group(command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return Watched {
                end: ProcessEnd::NotStarted(error.to_string()),
                lived: Duration::ZERO,
                last_words: String::new(),
            };
        }
    };
    let output = child.stdout.take().map(lines);
    let words = child.stderr.take().map(Tail::of);

    let mut exited: Option<(Instant, ProcessEnd)> = None;
    let end = loop {
        let heard = hear(output.as_ref(), &mut on_line, start);
        if exited.is_none() {
            exited = end_of(&mut child).map(|end| (Instant::now(), end));
        }
        if let Some((since, end)) = &exited {
            // Something the process started may hold its output open for ever.
            if heard == Heard::Closed || (heard == Heard::Nothing && since.elapsed() > DRAIN) {
                break end.clone();
            }
            continue;
        }
        let stop = if interrupted.load(Ordering::SeqCst) {
            ProcessEnd::Interrupted
        } else if start.elapsed() >= limit {
            ProcessEnd::TimedOut
        } else {
            continue;
        };
        // It may have ended by itself in this moment; then there is nothing left to kill.
        let _ = child.kill();
        let _ = child.wait();
        while hear(output.as_ref(), &mut on_line, start) == Heard::Line {}
        break stop;
    };
    Watched {
        end,
        lived: start.elapsed(),
        last_words: words.map(Tail::text).unwrap_or_default(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Line,
    Nothing,
    Closed,
}

/// Waits a tick for a line and hands it on.
fn hear(
    output: Option<&Receiver<String>>,
    on_line: &mut impl FnMut(&str, Duration),
    start: Instant,
) -> Heard {
    match output.map(|output| output.recv_timeout(TICK)) {
        Some(Ok(line)) => {
            on_line(&line, start.elapsed());
            Heard::Line
        }
        Some(Err(RecvTimeoutError::Timeout)) => Heard::Nothing,
        Some(Err(RecvTimeoutError::Disconnected)) | None => {
            thread::sleep(TICK);
            Heard::Closed
        }
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || for_each_line(stream, |line| sender.send(line).is_ok()));
    receiver
}

/// Reads to the end. The last line may lack its end, and bytes that are no text become marks of that.
fn for_each_line(stream: impl Read, mut keep_going: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while matches!(reader.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
        let line = String::from_utf8_lossy(&bytes);
        if !keep_going(line.trim_end_matches(['\r', '\n']).to_owned()) {
            return;
        }
        bytes.clear();
    }
}

/// The last lines of a stream, and whether all of it has been read.
struct Tail {
    kept: Arc<Mutex<VecDeque<String>>>,
    reader: thread::JoinHandle<()>,
}

impl Tail {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let shared = Arc::clone(&kept);
        let reader = thread::spawn(move || {
            for_each_line(stream, |line| {
                let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT_LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
                true
            });
        });
        Self { kept, reader }
    }

    fn text(self) -> String {
        let start = Instant::now();
        while !self.reader.is_finished() && start.elapsed() < DRAIN {
            thread::sleep(Duration::from_millis(5));
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Vec::from_iter(kept.iter().map(String::as_str)).join("\n")
    }
}

fn end_of(child: &mut Child) -> Option<ProcessEnd> {
    match child.try_wait() {
        Ok(None) => None,
        Ok(Some(status)) => Some(describe(status)),
        Err(error) => Some(ProcessEnd::NotStarted(error.to_string())),
    }
}

/// A terminal's interrupt goes to a whole group, and it is the gate that decides what becomes of its suites.
#[cfg(unix)]
pub(crate) fn own_process_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub(crate) fn own_process_group(_command: &mut Command) {}

#[cfg(unix)]
fn describe(status: ExitStatus) -> ProcessEnd {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => ProcessEnd::Signalled(signal),
        None => ProcessEnd::Exited(status.code().unwrap_or(-1)),
    }
}

#[cfg(not(unix))]
fn describe(status: ExitStatus) -> ProcessEnd {
    ProcessEnd::Exited(status.code().unwrap_or(-1))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, limit: Duration, interrupted: &AtomicBool) -> (Watched, Vec<String>) {
        let mut heard = Vec::new();
        let watched = watch(
            Command::new("sh").args(["-c", script]),
            limit,
            interrupted,
            |line, _| heard.push(line.to_owned()),
        );
        (watched, heard)
    }

    #[test]
    fn every_line_arrives_even_one_without_an_end() {
        let (watched, heard) = shell(
            "printf 'a\\nb\\nhalf'; exit 7",
            LONG,
            &AtomicBool::new(false),
        );
        assert_eq!(heard, ["a", "b", "half"]);
        assert_eq!(watched.end, ProcessEnd::Exited(7));
    }

    #[test]
    fn a_signal_is_told_from_a_status() {
        let (watched, heard) = shell("echo a; kill -9 $$", LONG, &AtomicBool::new(false));
        assert_eq!(watched.end, ProcessEnd::Signalled(9));
        assert_eq!(heard, ["a"]);
    }

    #[test]
    fn a_hang_ends_at_the_limit_and_keeps_what_was_said() {
        let (watched, heard) = shell(
            "echo a; echo words >&2; exec sleep 600",
            Duration::from_millis(400),
            &AtomicBool::new(false),
        );
        assert_eq!(watched.end, ProcessEnd::TimedOut);
        assert_eq!(heard, ["a"]);
        assert_eq!(watched.last_words, "words");
        assert!(watched.lived < Duration::from_secs(30));
    }

    #[test]
    fn closing_its_output_does_not_hide_a_hang() {
        let (watched, _) = shell(
            "exec >&- 2>&-; exec sleep 600",
            Duration::from_millis(400),
            &AtomicBool::new(false),
        );
        assert_eq!(watched.end, ProcessEnd::TimedOut);
    }

    #[test]
    fn output_held_open_by_another_process_does_not_hold_the_watch() {
        let (watched, heard) = shell("sleep 20 & echo a", LONG, &AtomicBool::new(false));
        assert_eq!(watched.end, ProcessEnd::Exited(0));
        assert_eq!(heard, ["a"]);
        assert!(watched.lived < Duration::from_secs(15));
    }

    #[test]
    fn an_interrupt_stops_it() {
        let (watched, _) = shell("exec sleep 600", LONG, &AtomicBool::new(true));
        assert_eq!(watched.end, ProcessEnd::Interrupted);
        assert!(watched.lived < Duration::from_secs(30));
    }

    #[test]
    fn only_the_last_words_are_kept() {
        let (watched, _) = shell(
            "i=0; while [ $i -lt 50 ]; do echo w$i >&2; i=$((i+1)); done",
            LONG,
            &AtomicBool::new(false),
        );
        let words: Vec<_> = watched.last_words.lines().collect();
        assert_eq!(words.len(), KEPT_LINES);
        assert_eq!(words.last(), Some(&"w49"));
    }

    #[test]
    fn its_input_ends_only_with_this_process() {
        let (watched, _) = shell(
            "cat; echo ended",
            Duration::from_millis(400),
            &AtomicBool::new(false),
        );
        assert_eq!(watched.end, ProcessEnd::TimedOut);
    }

    #[test]
    fn a_program_that_is_not_there_is_not_started() {
        let watched = watch(
            &mut Command::new("no-such-program"),
            LONG,
            &AtomicBool::new(false),
            |_, _| {},
        );
        assert!(matches!(watched.end, ProcessEnd::NotStarted(_)));
    }
}

//! What a long download tells the person who waits for it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// Something worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressEvent<'a> {
    /// Another process is fetching the same model; this one waits for it.
    Waiting {
        /// The model's name.
        model: &'a str,
    },
    /// A source is being tried.
    Trying {
        /// The model's name.
        model: &'a str,
        /// The source, as the catalogue describes it.
        source: &'a str,
    },
    /// Bytes have come. `total` is what the current step will come to.
    Bytes {
        /// Bytes there so far.
        done: u64,
        /// Bytes at the end.
        total: u64,
    },
    /// The source did not deliver; the next one is tried, if there is one.
    GaveWay {
        /// The source, as the catalogue describes it.
        source: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The files are in the cache and their hashes are right.
    Ready {
        /// The model's name.
        model: &'a str,
    },
}

/// Receives the events of a download, in order. Must not block: it is called while bytes flow.
pub trait Progress: Send {
    /// Called for each event.
    fn event(&mut self, event: ProgressEvent<'_>);
}

/// A bar on a terminal. Elsewhere (a pipe, a CI log) one line that says what is being fetched.
#[derive(Debug)]
pub struct TerminalProgress {
    bar: ProgressBar,
    terminal: bool,
    announced: bool,
    gave_way: Option<String>,
}

impl TerminalProgress {
    /// Draws on standard error, so that a command's output stays its own.
    #[must_use]
    pub fn stderr() -> Self {
        let style = ProgressStyle::with_template(
            "{msg} {bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )
        .expect("the template is a constant with known fields");
        // Cleared however the download ends, so that an error is not printed behind a bar.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
            .with_finish(ProgressFinish::AndClear)
            .with_style(style);
        Self {
            bar,
            terminal: std::io::stderr().is_terminal(),
            announced: false,
            gave_way: None,
        }
    }
}

impl Progress for TerminalProgress {
    fn event(&mut self, event: ProgressEvent<'_>) {
        match event {
            ProgressEvent::Waiting { model } => {
                self.bar.println(format!(
                    "another process is fetching {model}; waiting for it"
                ));
            }
            ProgressEvent::Trying { model, source } => {
                if !self.terminal && !self.announced {
                    eprintln!("fetching {model} from {source}");
                    self.announced = true;
                }
                if let Some(reason) = self.gave_way.take() {
                    self.bar.println(reason);
                }
                self.bar.set_message(model.to_owned());
                self.bar.reset();
            }
            ProgressEvent::Bytes { done, total } => {
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            // Shown when another source follows; after the last one the error lists every reason.
            ProgressEvent::GaveWay { source, reason } => {
                self.gave_way = Some(format!("{source}: {reason}"));
            }
            ProgressEvent::Ready { .. } => self.bar.finish_and_clear(),
        }
    }
}

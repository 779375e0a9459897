//! What is shown while suites run: a bar on a terminal, a line per case elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use kakeya_evidence::{Outcome, TestCase};

/// Shows cases as they come and go, on standard error, so that standard output stays the result's.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A display for that many cases.
    pub fn new(cases: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(cases as u64);
            if let Ok(style) =
                ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {pos}/{len} {msg}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    /// A line of news.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// A case begins.
    pub fn started(&self, suite: &str, case: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{suite}::{case}"));
        }
    }

    /// A case came to its end.
    pub fn finished(&self, case: &TestCase) {
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                // Passes scroll by unseen; what did not pass stays on the screen.
                if case.outcome != Outcome::Passed {
                    bar.println(line(case));
                }
            }
            None => eprintln!("{}", line(case)),
        }
    }

    /// Clears the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One case in one line.
pub fn line(case: &TestCase) -> String {
    let mut text = format!(
        "{:9} {}::{} ({:.2} s)",
        case.outcome.as_str(),
        case.suite,
        case.name,
        case.duration_seconds
    );
    if let Some(message) = &case.message {
        text.push_str(&format!("\n          {message}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_a_case_ended_and_why() {
        let mut case = TestCase {
            suite: "inv3".into(),
            name: "chunks_of_7".into(),
            tier: "fast".into(),
            history: None,
            outcome: Outcome::Passed,
            duration_seconds: 1.234,
            forward_passes: Some(3),
            comparisons: Vec::new(),
            message: None,
        };
        assert_eq!(line(&case), "passed    inv3::chunks_of_7 (1.23 s)");
        case.outcome = Outcome::TimedOut;
        case.message = Some("why".into());
        assert_eq!(
            line(&case),
            "timed_out inv3::chunks_of_7 (1.23 s)\n          why"
        );
    }
}

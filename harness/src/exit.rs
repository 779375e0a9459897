//! Exit statuses: the one list that scripts may rely on.

use std::process::ExitCode;

/// How the harness ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every required case passed, or the command did what it was asked.
    Success = 0,
    /// A case failed, or was skipped: it did not pass. Or a gate that was measured does not hold. Or evidence, or
    /// coverage, or the index is not what is asked for.
    CaseFailed = 1,
    /// The command line, or the checkout it is run in, makes no sense.
    Usage = 2,
    /// The host is not what the platform asks for.
    HostMismatch = 3,
    /// The model is missing or wrong.
    Model = 4,
    /// Nothing ran.
    NothingRan = 5,
    /// A suite crashed, timed out or was interrupted.
    SuiteDied = 6,
    /// The harness could not do its own work, such as writing the evidence.
    Internal = 7,
}

impl Exit {
    /// Every status, for the documentation.
    pub const ALL: [Exit; 8] = [
        Exit::Success,
        Exit::CaseFailed,
        Exit::Usage,
        Exit::HostMismatch,
        Exit::Model,
        Exit::NothingRan,
        Exit::SuiteDied,
        Exit::Internal,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, as a fragment.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "all required cases passed, or the command did what it was asked",
            Exit::CaseFailed => {
                "a case failed or was skipped, a measured gate does not hold, or evidence is rejected"
            }
            Exit::Usage => "the command line or the checkout makes no sense",
            Exit::HostMismatch => "the host is not what the platform asks for",
            Exit::Model => "the model is missing or wrong",
            Exit::NothingRan => "nothing ran",
            Exit::SuiteDied => "a suite crashed, timed out or was interrupted",
            Exit::Internal => "the harness could not do its own work, such as writing evidence",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Exit::Success => "Nothing.",
            Exit::CaseFailed => {
                "Of a gate: the lines above the summary name each case that did not pass and why, and so does the \
                 record. Run it alone with --suite and --case until it passes, then the whole gate: a partial run is no \
                 evidence. Of verify, checks or coverage: each reason is printed, and `harness explain CODE` says what to \
                 do. A flake is not a pass; nothing is repeated until it succeeds."
            }
            Exit::Usage => {
                "The message names the flag, the file or the name that is wrong, and what would be right. Nothing was run \
                 and no evidence written."
            }
            Exit::HostMismatch => {
                "`harness doctor --platform P` shows each fact beside what the platform asks. Free the disk, update the \
                 compiler, or take another host. The platform's file is policy: it does not change to fit a host."
            }
            Exit::Model => {
                "The message names the model, and what is missing or wrong. `harness prewarm --platform P`, once with the \
                 network allowed, fetches and checks all of them; what is corrupt it fetches anew."
            }
            Exit::NothingRan => {
                "A filter matched no case, or this build has none of that tier. `harness list` shows what there is. Zero \
                 cases are not a pass."
            }
            Exit::SuiteDied => {
                "The record was written all the same, and names the suite, how its process ended, and its last words. A \
                 signal 9 is most often memory: close what else runs. A time limit that passed means a busy host or a \
                 hang: look at the load before the code. An interrupt was somebody's."
            }
            Exit::Internal => {
                "The message says what could not be done: a full disk, a folder that cannot be written, a network that \
                 does not answer, a permission that a token lacks. Mend that and run again."
            }
        }
    }

    /// The list for `--help`.
    pub fn help() -> String {
        let lines: Vec<_> = Exit::ALL
            .iter()
            .map(|exit| format!("  {}  {}", exit.code(), exit.meaning()))
            .collect();
        format!("Exit status:\n{}", lines.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        let numbers: Vec<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            Exit::help(),
            "Exit status:\n  \
             0  all required cases passed, or the command did what it was asked\n  \
             1  a case failed or was skipped, a measured gate does not hold, or evidence is rejected\n  \
             2  the command line or the checkout makes no sense\n  \
             3  the host is not what the platform asks for\n  \
             4  the model is missing or wrong\n  \
             5  nothing ran\n  \
             6  a suite crashed, timed out or was interrupted\n  \
             7  the harness could not do its own work, such as writing evidence"
        );
    }
}

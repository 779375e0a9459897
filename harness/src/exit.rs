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

//! Every reason to reject evidence: its code, its sentence, and its page.
//!
//! A code never changes its meaning and is never used again. The table is the only place that knows them:
//! `harness explain` and `docs/evidence.md` are made from it.

use std::fmt;

/// The code of a reason: `EV-042`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EV-{:03}", self.0)
    }
}

impl Code {
    /// Reads `EV-042`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("EV-").filter(|rest| rest.len() == 3)?;
        let code = Self(digits.parse().ok()?);
        Page::of(code).map(|page| page.code)
    }
}

/// Whether a maintainer may accept a reason for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waivable {
    /// Never: it is about whether the record can be believed at all.
    Never,
    /// Yes, on one platform.
    Whole,
    /// Yes, on one platform, for one case, measurement, gate or module.
    Each,
}

/// What a code means and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The code.
    pub code: Code,
    /// What it is about.
    pub group: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// Whether it can be waived, with a reason, an owner and an end.
    pub waivable: Waivable,
    /// What it means, and what to do.
    pub text: &'static str,
}

impl Page {
    /// The page of a code.
    pub fn of(code: Code) -> Option<&'static Self> {
        Self::ALL.iter().find(|page| page.code == code)
    }
}

macro_rules! rejections {
    ($($group:literal => {
        $($code:literal $waivable:ident $name:ident { $($field:ident: $kind:ty),* }
            $title:literal, $message:literal, $text:literal;)*
    })*) => {
        /// A reason to reject evidence. Each says what was found and what was expected.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[expect(missing_docs, reason = "the sentence names each field")]
        pub enum Rejection {
            $($(
                #[doc = $title]
                #[error($message)]
                $name { $($field: $kind),* },
            )*)*
        }

        impl Rejection {
            /// Its code.
            pub fn code(&self) -> Code {
                match self {
                    $($(Self::$name { .. } => Code($code),)*)*
                }
            }
        }

        impl Page {
            /// Every page, in the order of the codes.
            pub const ALL: &'static [Self] = &[
                $($(Self {
                    code: Code($code),
                    group: $group,
                    title: $title,
                    waivable: Waivable::$waivable,
                    text: $text,
                },)*)*
            ];
        }
    };
}

pub use table::Rejection;

// After the macro, which it is made with.
mod table;

impl Rejection {
    /// The page of its code.
    pub fn page(&self) -> &'static Page {
        Page::of(self.code()).expect("the table has a page for each code")
    }

    /// The one case or measurement it is about, where it is about one: what a waiver names.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::CaseMissing { case }
            | Self::CaseNotRequired { case }
            | Self::CaseSkipped { case, .. }
            | Self::CaseFailed { case, .. }
            | Self::CaseDied { case, .. }
            | Self::Flake { case, .. }
            | Self::TooFewForwardPasses { case, .. } => Some(case),
            Self::MeasurementMissing { name } | Self::OutsideLimits { name, .. } => Some(name),
            Self::GateDoesNotHold { gate, .. } => Some(gate),
            Self::CoverageLow { module, .. } => Some(module),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

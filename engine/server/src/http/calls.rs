//! Reading calls of functions out of an answer's text as it comes.
//!
//! The text has the form of [`super::forms`]: whatever looks like a call is one, and its arguments end with their line.
//! An answer that was cut off may end anywhere in it.

use serde::de::IgnoredAny;

use super::forms::{BEFORE_ARGUMENTS, BEFORE_NAME, CALL_BEGINS, CALL_ENDS, Calls};

/// What is new in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Text beside the calls.
    Content(String),
    /// A call begins.
    Call {
        /// Its number, from 0.
        index: u32,
        /// The function.
        name: String,
    },
    /// More of the arguments of the call that began last.
    Arguments {
        /// The call's number.
        index: u32,
        /// JSON text.
        text: String,
    },
}

/// Where in an answer the reader is.
#[derive(Debug)]
enum Place {
    /// In free text, in which a call may begin at any point.
    Text,
    /// At the very beginning, where a call may begin.
    Beginning,
    /// In text, and no call can come.
    Content,
    /// Behind what a call begins with: the name is not known yet.
    Name,
    /// In a call's arguments, with all of them so far.
    Arguments(String),
    /// Behind a call's arguments, where another call may begin.
    Behind,
}

/// Reads one answer.
#[derive(Debug)]
pub struct CallReader {
    place: Place,
    /// What came and is not certain yet.
    held: String,
    begun: u32,
}

impl CallReader {
    /// A reader of an answer that may call functions there.
    pub fn new(calls: Calls) -> Self {
        Self {
            place: match calls {
                Calls::Never => Place::Content,
                Calls::Whole => Place::Beginning,
                Calls::AfterText => Place::Text,
            },
            held: String::new(),
            begun: 0,
        }
    }

    /// Takes more text, and tells what is certain of it.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        self.held += text;
        let mut said = Vec::new();
        while self.step(&mut said) {}
        said
    }

    /// Whether the answer is made of calls, and ends with a whole one.
    pub fn ends_with_a_call(&self) -> bool {
        matches!(self.place, Place::Behind)
    }

    /// Tells what is left when the answer has ended, wherever that was.
    pub fn finish(mut self) -> Vec<Said> {
        let held = std::mem::take(&mut self.held);
        match &self.place {
            Place::Text | Place::Beginning | Place::Content if !held.is_empty() => {
                vec![Said::Content(held)]
            }
            // The brace is the call's own where the arguments are whole without it.
            Place::Arguments(all)
                if !held.is_empty() && serde_json::from_str::<IgnoredAny>(all).is_err() =>
            {
                vec![self.arguments(held)]
            }
            _ => Vec::new(),
        }
    }

    /// Goes on by what is held; `false` where more must come first.
    fn step(&mut self, said: &mut Vec<Said>) -> bool {
        match &mut self.place {
            Place::Content => {
                let text = std::mem::take(&mut self.held);
                said.extend((!text.is_empty()).then_some(Said::Content(text)));
                false
            }
            Place::Beginning => {
                if CALL_BEGINS.starts_with(&self.held) && self.held != CALL_BEGINS {
                    return false;
                }
                self.place = match self.held.strip_prefix(CALL_BEGINS) {
                    Some(rest) => {
                        self.held = rest.to_owned();
                        Place::Name
                    }
                    None => Place::Content,
                };
                true
            }
            Place::Text => self.text(said),
            Place::Name => {
                let Some((name, rest)) = self.held.split_once(BEFORE_ARGUMENTS) else {
                    return false;
                };
                let name = name.strip_prefix(BEFORE_NAME).unwrap_or(name).to_owned();
                self.held = rest.to_owned();
                said.push(Said::Call {
                    index: self.begun,
                    name,
                });
                self.begun += 1;
                self.place = Place::Arguments(String::new());
                true
            }
            Place::Arguments(all) => {
                let (certain, ended) = match self.held.find(CALL_ENDS) {
                    Some(at) => (at, true),
                    // The last brace may be the call's own, and what it ends with may be cut in two.
                    None => (
                        self.held
                            .find("}\n")
                            .unwrap_or_else(|| before_brace(&self.held)),
                        false,
                    ),
                };
                let rest = self.held.split_off(certain);
                let text = std::mem::replace(&mut self.held, rest);
                *all += &text;
                if ended {
                    self.held.drain(..CALL_ENDS.len());
                    self.place = Place::Behind;
                }
                said.extend((!text.is_empty()).then(|| self.arguments(text)));
                ended
            }
            Place::Behind => {
                let Some((_, rest)) = self.held.split_once(CALL_BEGINS) else {
                    return false;
                };
                self.held = rest.to_owned();
                self.place = Place::Name;
                true
            }
        }
    }

    /// Text in which a call may begin: the blanks before one belong to it.
    fn text(&mut self, said: &mut Vec<Said>) -> bool {
        let (found, end) = match self.held.find(CALL_BEGINS) {
            Some(at) => (true, at),
            None => (false, self.held.len() - begun_at_end(&self.held)),
        };
        let certain = self.held[..end].trim_end().len();
        if certain > 0 {
            said.push(Said::Content(self.held[..certain].to_owned()));
        }
        if found {
            self.held.drain(..end + CALL_BEGINS.len());
            self.place = Place::Name;
        } else {
            self.held.drain(..certain);
        }
        found
    }

    fn arguments(&self, text: String) -> Said {
        Said::Arguments {
            index: self.begun - 1,
            text,
        }
    }
}

/// How long the beginning of a call is that a text ends with.
fn begun_at_end(text: &str) -> usize {
    let fits = |length: &usize| text.ends_with(&CALL_BEGINS[..*length]);
    (1..CALL_BEGINS.len()).rev().find(fits).unwrap_or(0)
}

fn before_brace(text: &str) -> usize {
    text.len() - usize::from(text.ends_with('}'))
}

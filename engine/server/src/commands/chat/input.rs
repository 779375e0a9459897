//! Where lines come from: a terminal with line editing, or whatever else standard input is.

use std::io::{self, BufRead, IsTerminal};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A line.
    Line(String),
    /// One that is no text.
    NotUtf8,
    /// Ctrl-C instead of a line.
    Interrupted,
    /// There are no more.
    End,
}

/// Lines of a person or of a program.
pub enum Input {
    /// A terminal, where lines can be edited and called back.
    Terminal(Box<DefaultEditor>),
    /// Anything else, read as it is.
    Plain,
}

impl Input {
    /// Standard input.
    ///
    /// # Errors
    /// When the terminal cannot be set up.
    pub fn open() -> io::Result<Self> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Plain);
        }
        let config = Config::builder().auto_add_history(true).build();
        let editor = DefaultEditor::with_config(config).map_err(io::Error::other)?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Columns of the terminal; those of a usual one where it does not tell.
    pub fn columns(&mut self) -> usize {
        match self {
            Self::Terminal(editor) => editor
                .dimensions()
                .map_or(80, |(columns, _)| columns as usize),
            Self::Plain => 80,
        }
    }

    /// Whether a person looks on.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&mut self, prompt: &str) -> io::Result<Read> {
        let Self::Terminal(editor) = self else {
            return read_plain(&mut io::stdin().lock());
        };
        match editor.readline(prompt) {
            Ok(line) => Ok(Read::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Ok(Read::NotUtf8)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

fn read_plain(input: &mut impl BufRead) -> io::Result<Read> {
    let mut bytes = Vec::new();
    if input.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(Read::End);
    }
    Ok(String::from_utf8(bytes).map_or(Read::NotUtf8, Read::Line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_text_are_told_and_those_after_them_read() {
        let mut input = &b"one\n\xff\xfe\nthree"[..];
        let mut next = || read_plain(&mut input).expect("bytes in memory");
        assert_eq!(next(), Read::Line("one\n".to_owned()));
        assert_eq!(next(), Read::NotUtf8);
        assert_eq!(next(), Read::Line("three".to_owned()));
        assert_eq!(next(), Read::End);
    }
}

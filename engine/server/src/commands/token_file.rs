//! Token ids as text: in a file, separated by blanks, commas or lines, or in a flag, separated by commas.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why token ids could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file could not be opened or read.
    #[error("cannot read token ids from {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the file is no token id.
    #[error("{}: {id}", path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// Where and what.
        id: NotATokenId,
    },
    /// The file has no ids at all.
    #[error("{} holds no token ids: expected numbers separated by blanks, commas or lines", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// A piece of text that should have been a token id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}, column {column}: {text:?} is not a token id: expected a whole number from 0 to {}",
    u32::MAX
)]
pub struct NotATokenId {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The text found, cut where it is long.
    pub text: String,
}

/// How much of a wrong piece of text is repeated in the error.
const QUOTED: usize = 40;

/// Reads the ids in `path`.
///
/// # Errors
/// An unreadable file, anything that is not a whole number (with its place), or no ids at all.
pub fn read(path: &Path) -> Result<Vec<u32>, TokenFileError> {
    let bytes = fs::read(path).map_err(|source| TokenFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let ids = parse(&String::from_utf8_lossy(&bytes)).map_err(|id| TokenFileError::Id {
        path: path.to_owned(),
        id,
    })?;
    if ids.is_empty() {
        Err(TokenFileError::Empty {
            path: path.to_owned(),
        })
    } else {
        Ok(ids)
    }
}

/// Reads ids separated by blanks, commas or lines.
///
/// # Errors
/// The first piece that is not a whole number, with its place.
pub fn parse(text: &str) -> Result<Vec<u32>, NotATokenId> {
    let mut ids = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (offset, piece) in pieces(line) {
            // `parse` alone would take "+7".
            let digits = piece.bytes().all(|byte| byte.is_ascii_digit());
            match piece.parse() {
                Ok(id) if digits => ids.push(id),
                _ => {
                    return Err(NotATokenId {
                        line: index + 1,
                        column: line[..offset].chars().count() + 1,
                        text: piece.chars().take(QUOTED).collect(),
                    });
                }
            }
        }
    }
    Ok(ids)
}

/// Reads one id, as a flag gives it.
///
/// # Errors
/// What would be right; clap names the flag and the value.
pub fn token_id(text: &str) -> Result<u32, String> {
    match parse(text).as_deref() {
        Ok([id]) => Ok(*id),
        _ => Err(format!("expected a whole number from 0 to {}", u32::MAX)),
    }
}

/// The pieces of a line between separators, with their byte offsets.
fn pieces(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(|character: char| character.is_whitespace() || character == ',')
        .map(move |piece| (piece.as_ptr() as usize - line.as_ptr() as usize, piece))
        .filter(|(_, piece)| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_commas_and_lines_separate() {
        assert_eq!(
            parse("1 2,3\n4, 5\t6\r\n\n,7,\n"),
            Ok(vec![1, 2, 3, 4, 5, 6, 7])
        );
        assert_eq!(parse("4294967295"), Ok(vec![u32::MAX]));
        assert_eq!(parse(" \n, "), Ok(vec![]));
    }

    #[test]
    fn the_first_wrong_piece_is_named_with_its_place() {
        for (text, line, column, piece) in [
            ("1 2\n3, abc 4", 2, 4, "abc"),
            ("1\n2\n-3", 3, 1, "-3"),
            ("+7", 1, 1, "+7"),
            ("4294967296", 1, 1, "4294967296"),
            ("1.5", 1, 1, "1.5"),
            ("é 1", 1, 1, "é"),
            ("1 ü2", 1, 3, "ü2"),
        ] {
            assert_eq!(
                parse(text),
                Err(NotATokenId {
                    line,
                    column,
                    text: piece.into()
                }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_flag_gives_one_id() {
        assert_eq!(token_id("7"), Ok(7));
        for wrong in ["", "x", "1 2", "-1"] {
            assert_eq!(
                token_id(wrong),
                Err("expected a whole number from 0 to 4294967295".to_owned())
            );
        }
    }

    #[test]
    fn a_long_wrong_piece_is_cut() {
        let error = parse(&"x".repeat(1000)).expect_err("no number");
        assert_eq!(error.text.len(), QUOTED);
    }

    #[test]
    fn a_file_is_named_in_every_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ids.txt");
        let text = |path: &Path| read(path).expect_err("a wrong file").to_string();

        let name = path.display().to_string();
        assert!(text(&path).starts_with(&format!("cannot read token ids from {name}: ")));
        fs::write(&path, "\n").expect("written");
        assert!(text(&path).starts_with(&format!("{name} holds no token ids")));
        fs::write(&path, "1\n 2 three").expect("written");
        assert_eq!(
            text(&path),
            format!(
                "{name}: line 2, column 4: \"three\" is not a token id: expected a whole number from 0 to 4294967295"
            )
        );
        fs::write(&path, b"1 \xff\xfe 2").expect("written");
        assert!(text(&path).contains("line 1, column 3"));
        fs::write(&path, "5 6").expect("written");
        assert_eq!(read(&path).expect("two ids"), [5, 6]);
    }
}

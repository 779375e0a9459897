//! Reading keys: a TOML file, or an environment variable.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use kakeya_core::Limits;
use serde::Deserialize;

use super::KeysError;

/// The variable that may hold keys: `NAME=SHA256,NAME=SHA256`.
pub const KEYS_VARIABLE: &str = "KAKEYA_API_KEYS";

/// How much of a wrong name is repeated, in characters.
const QUOTED: usize = 80;
const MAX_NAME: usize = 64;

/// One key: its name, its digest, and what its holder may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// What logs and errors call it.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Where it has limits of its own.
    pub limits: Limits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyFields>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFields {
    name: String,
    sha256: String,
    max_history: Option<NonZeroU64>,
    max_new_tokens: Option<NonZeroU32>,
    max_sessions: Option<NonZeroU32>,
    max_streams: Option<NonZeroU32>,
    tokens_per_minute: Option<NonZeroU32>,
}

/// Reads a key file, and warns of one that others on this machine can read as well.
///
/// # Errors
/// [`KeysError::Read`], and [`KeysError::File`] with what is wrong.
pub fn read_file(path: &Path) -> Result<Vec<KeyEntry>, KeysError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    if is_readable_by_others(path) {
        let file = path.display();
        tracing::warn!(%file, "other users of this machine can read the key file: chmod 600 it");
    }
    parse_file(&text).map_err(|error| KeysError::File {
        path: path.to_owned(),
        source: Box::new(error),
    })
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}

/// Reads the text of a key file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_file(text: &str) -> Result<Vec<KeyEntry>, KeysError> {
    let file: KeyFile = toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        KeysError::Toml {
            line: before.matches('\n').count() + 1,
            // Its own account only: the line itself may hold a key.
            detail: error.message().to_owned(),
        }
    })?;
    let entries = file.key.into_iter().zip(1..).map(|(fields, number)| {
        let limits = Limits {
            max_history: fields.max_history.map(NonZeroU64::get),
            max_new_tokens: fields.max_new_tokens.map(NonZeroU32::get),
            max_sessions: fields.max_sessions.map(NonZeroU32::get),
            max_streams: fields.max_streams.map(NonZeroU32::get),
            tokens_per_minute: fields.tokens_per_minute.map(NonZeroU32::get),
        };
        entry(number, fields.name, &fields.sha256, limits)
    });
    distinct(entries.collect::<Result<_, _>>()?)
}

/// Reads the value of [`KEYS_VARIABLE`].
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_variable(text: &str) -> Result<Vec<KeyEntry>, KeysError> {
    let items = text.split(',').map(str::trim).zip(1..);
    let entries = items
        .filter(|(item, _)| !item.is_empty())
        .map(|(item, number)| {
            let (name, digest) = item.split_once('=').ok_or(KeysError::Item { number })?;
            entry(number, name.to_owned(), digest, Limits::default())
        });
    distinct(entries.collect::<Result<_, _>>()?)
}

fn entry(number: usize, name: String, digest: &str, limits: Limits) -> Result<KeyEntry, KeysError> {
    if !is_name(&name) {
        let name = name.chars().take(QUOTED).collect();
        return Err(KeysError::Name { number, name });
    }
    match sha256(digest) {
        Some(sha256) => Ok(KeyEntry {
            name,
            sha256,
            limits,
        }),
        None => Err(KeysError::Digest { name }),
    }
}

/// Whether a text may name a key.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The 32 bytes of 64 hexadecimal digits.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn distinct(entries: Vec<KeyEntry>) -> Result<Vec<KeyEntry>, KeysError> {
    if entries.is_empty() {
        return Err(KeysError::Empty);
    }
    for (index, entry) in entries.iter().enumerate() {
        for earlier in &entries[..index] {
            if earlier.name == entry.name {
                let name = entry.name.clone();
                return Err(KeysError::DuplicateName { name });
            }
            if earlier.sha256 == entry.sha256 {
                let (first, second) = (earlier.name.clone(), entry.name.clone());
                return Err(KeysError::DuplicateKey { first, second });
            }
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "b1b9b9f3f0a5d3a8aaf5a3cbd7c2f9b1b9b9f3f0a5d3a8aaf5a3cbd7c2f9aa01";
    const TWO: &str = "B1B9B9F3F0A5D3A8AAF5A3CBD7C2F9B1B9B9F3F0A5D3A8AAF5A3CBD7C2F9AA02";

    #[cfg(unix)]
    #[test]
    fn a_file_is_read_whoever_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = format!("[[key]]\nname = \"a\"\nsha256 = \"{ONE}\"\n");
        std::fs::write(file.path(), text).expect("written");
        for (mode, others) in [(0o600, false), (0o644, true)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).expect("changed");
            assert_eq!(is_readable_by_others(file.path()), others);
            assert_eq!(read_file(file.path()).expect("a key").len(), 1);
        }
    }

    #[test]
    fn a_file_has_names_digests_and_limits() {
        let text = format!(
            "[[key]]\nname = \"app\"\nsha256 = \"{ONE}\"\nmax_history = 8192\nmax_new_tokens = 1024\n\
             max_sessions = 8\nmax_streams = 4\ntokens_per_minute = 60000\n\n\
             [[key]]\nname = \"b-2_c.d\"\nsha256 = \"{TWO}\"\n"
        );
        let entries = parse_file(&text).expect("two keys");
        assert_eq!(entries.len(), 2);
        let (one, two) = (&entries[0], &entries[1]);
        assert_eq!((one.name.as_str(), two.name.as_str()), ("app", "b-2_c.d"));
        assert_eq!((one.sha256[0], one.sha256[31]), (0xb1, 0x01));
        assert_eq!(two.sha256[31], 0x02);
        let limits = Limits {
            max_history: Some(8192),
            max_new_tokens: Some(1024),
            max_sessions: Some(8),
            max_streams: Some(4),
            tokens_per_minute: Some(60_000),
        };
        assert_eq!((one.limits, two.limits), (limits, Limits::default()));
        let variable = format!(" app={ONE}, b-2_c.d={TWO} ,");
        let same = parse_variable(&variable).expect("two keys");
        assert_eq!(same[1], *two);
        assert_eq!((&same[0].name, same[0].sha256), (&one.name, one.sha256));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named_and_no_key_repeated() {
        let key = |name: &str, digest: &str, more: &str| {
            format!("[[key]]\nname = {name:?}\nsha256 = {digest:?}\n{more}\n")
        };
        let secret = "kakeya-secret";
        for (text, part) in [
            (String::new(), "there are no keys in it"),
            ("# nothing\n".to_owned(), "`kakeya key new NAME`"),
            (
                key("a", ONE, "colour = 3"),
                "line 4: unknown field `colour`",
            ),
            (
                key("a", ONE, "max_streams = 0"),
                "line 4: invalid value: integer `0`",
            ),
            (key("a", ONE, "max_history = -1"), "line 4: invalid value"),
            (
                format!("[[key]]\nname = \"a\"\nsecret = \"{secret}\"\n"),
                "unknown field `secret`",
            ),
            (
                "[[key]]\nname = \"a\"\n".to_owned(),
                "missing field `sha256`",
            ),
            ("[[key]\n".to_owned(), "line 1: "),
            ("[[keys]]\n".to_owned(), "unknown field `keys`"),
            (
                key("a", secret, ""),
                "sha256 of key `a` is not 64 hexadecimal digits",
            ),
            (key("a", &"é".repeat(32), ""), "sha256 of key `a`"),
            (key("", ONE, ""), "key 1 has the name \"\""),
            (key("a b", ONE, ""), "key 1 has the name \"a b\""),
            (key("a\nb", ONE, ""), "key 1 has the name \"a\\nb\""),
            (key("ä", ONE, ""), "key 1 has the name \"ä\""),
            (key(&"a".repeat(65), ONE, ""), "1 to 64 letters"),
            (
                key("a", ONE, "") + &key("a", TWO, ""),
                "two keys have the name `a`",
            ),
            (
                key("a", TWO, "") + &key("b", &TWO.to_lowercase(), ""),
                "`a` and `b` are the same key",
            ),
        ] {
            let error = parse_file(&text).expect_err(&text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains(secret), "{error}");
        }
        for (text, part) in [
            ("", "there are no keys"),
            (" , ", "there are no keys"),
            ("app", "item 1 is not NAME=SHA256"),
            ("app=x", "sha256 of key `app`"),
            ("=x", "key 1 has the name \"\""),
        ] {
            let error = parse_variable(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_and_named_when_it_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.toml");
        let error = read_file(&path).expect_err("no file").to_string();
        assert!(error.contains("keys.toml cannot be read: "), "{error}");
        std::fs::write(&path, "[[key]]\n").expect("written");
        let error = read_file(&path).expect_err("no name").to_string();
        assert!(
            error.contains("keys.toml: line 1: missing field `name`"),
            "{error}"
        );
        std::fs::write(
            &path,
            format!("[[key]]\nname = \"a\"\nsha256 = \"{ONE}\"\n"),
        )
        .expect("written");
        // Whether others can read it is told in the log alone.
        let log = tracing_subscriber::fmt().with_test_writer().finish();
        tracing::subscriber::with_default(log, || {
            assert_eq!(read_file(&path).expect("a key").len(), 1);
        });
    }
}

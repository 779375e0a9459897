//! `harness keygen` and `harness sign`: keys, and what they vouch for.
//!
//! A key is kept as a PKCS#8 PEM file (RFC 8410), which other tools read and write too.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use jiff::{Span, Timestamp, tz::TimeZone};
use kakeya_evidence::{canonical, sign};
use kakeya_report::store;

use crate::cli::{KeygenArgs, SignArgs};
use crate::compare;
use crate::error::HarnessError;
use crate::exit::Exit;

/// Makes a key and prints what to add to `gates/keys.toml`.
///
/// # Errors
/// When there is a file of that name already, or it cannot be written.
pub fn keygen(arguments: &KeygenArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let unwritable = |source| HarnessError::System {
        what: format!("write the key {}", arguments.out.display()),
        source,
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| unwritable(std::io::Error::other(error.to_string())))?;
    let key = SigningKey::from_bytes(&seed);
    // The first version of the format, without the public half: other tools do not read the second.
    let pem = KeypairBytes {
        secret_key: seed,
        public_key: None,
    };
    let pem = pem
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| unwritable(std::io::Error::other(error.to_string())))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(&arguments.out)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(unwritable)?;
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let until = now
        .checked_add(Span::new().days(i64::from(arguments.days)))
        .map_err(|error| unwritable(std::io::Error::other(error)))?;
    writeln!(
        output,
        "# The secret is in {}. This goes into gates/keys.toml, in a change of its own:\n[[key]]\n\
         name = {:?}\nowner = {:?}\npublic = {:?}\nfrom = \"{}\"\nuntil = \"{}\"",
        arguments.out.display(),
        arguments.name,
        arguments.owner,
        sign::public_text(&key.verifying_key()),
        now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    .map_err(HarnessError::system("write the entry"))?;
    Ok(Exit::Success)
}

/// Signs a record that is there, beside it.
///
/// # Errors
/// When the key or the record cannot be read, the record is none, or an envelope is there already.
pub fn sign(arguments: &SignArgs, output: &mut impl Write) -> Result<Exit, HarnessError> {
    let keys = read_all(&arguments.key)?;
    let path = &arguments.record;
    // A record is signed as it is, so the bytes that were read are those that the envelope holds.
    let bytes = canonical::to_bytes(&compare::read(path)?);
    let beside = store::write_envelope(path, &sign::sign(&bytes, &keys).to_bytes())?;
    writeln!(output, "signed: {}", beside.display())
        .map_err(HarnessError::system("write the result"))?;
    Ok(Exit::Success)
}

/// Reads keys.
///
/// # Errors
/// When one of the files cannot be read or holds no Ed25519 key.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<SigningKey>, HarnessError> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<SigningKey, HarnessError> {
    let pem = fs::read_to_string(path).map_err(HarnessError::system(format!(
        "read the key {}",
        path.display()
    )))?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|error| HarnessError::Key {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(out: PathBuf) -> KeygenArgs {
        KeygenArgs {
            out,
            name: "release".to_owned(),
            owner: "someone \"quoted\"".to_owned(),
            days: 365,
        }
    }

    #[test]
    fn a_new_key_is_its_owners_alone_and_its_entry_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let mut output = Vec::new();
        keygen(&arguments(path.clone()), &mut output).unwrap();
        let key = read(&path).unwrap();
        let keys: kakeya_evidence::policy::Keys =
            toml::from_str(&String::from_utf8(output).unwrap()).unwrap();
        assert_eq!(keys.key[0].public, sign::public_text(&key.verifying_key()));
        assert_eq!(keys.key[0].owner, "someone \"quoted\"");
        assert!(keys.key[0].from < keys.key[0].until);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = keygen(&arguments(path), &mut Vec::new()).unwrap_err();
        assert!(
            again.to_string().starts_with("cannot write the key"),
            "{again}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let missing = read(&path).unwrap_err().to_string();
        assert!(missing.contains("key.pem"), "{missing}");
        fs::write(&path, "secret").unwrap();
        let wrong = read(&path).unwrap_err().to_string();
        assert!(wrong.contains("is no Ed25519 key in PKCS#8 PEM"), "{wrong}");
    }
}

//! Making a key.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::KeysError;
use super::file::is_name;

/// A key that nobody has yet.
#[derive(Clone)]
pub struct FreshKey {
    name: String,
    secret: String,
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FreshKey")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl FreshKey {
    /// A key for `name`: 244 random bits of the operating system's, as hexadecimal digits.
    ///
    /// # Errors
    /// [`KeysError::Name`].
    pub fn new(name: &str) -> Result<Self, KeysError> {
        if !is_name(name) {
            let name = name.to_owned();
            return Err(KeysError::Name { number: 1, name });
        }
        let half = || Uuid::new_v4().simple();
        Ok(Self {
            name: name.to_owned(),
            secret: format!("kakeya-{}{}", half(), half()),
        })
    }

    /// The key itself. It is nowhere else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The lines of a key file that let it in.
    #[must_use]
    pub fn lines(&self) -> String {
        let digest = Sha256::digest(&self.secret);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[key]]\nname = \"{}\"\nsha256 = \"{hex}\"\n", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KeyRing, parse_file};
    use super::*;
    use kakeya_core::Limits;

    #[test]
    fn a_fresh_key_is_let_in_by_its_lines_and_is_not_in_them() {
        let key = FreshKey::new("app").expect("a name");
        let other = FreshKey::new("app").expect("a name");
        assert_ne!(key.secret(), other.secret());
        assert_eq!(key.secret().len(), "kakeya-".len() + 64);
        assert!(!key.lines().contains(key.secret()));
        assert_eq!(format!("{key:?}"), "FreshKey { name: \"app\", .. }");
        let ring = KeyRing::new(parse_file(&key.lines()).expect("lines"), Limits::default());
        let holder = ring.holder(key.secret().as_bytes()).expect("let in");
        assert_eq!(holder.name(), Some("app"));
        assert!(ring.holder(other.secret().as_bytes()).is_none());
        assert!(FreshKey::new("a b").is_err());
    }
}

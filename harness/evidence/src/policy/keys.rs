//! Whose signatures count (`gates/keys.toml`).

use jiff::Timestamp;
use serde::Deserialize;

/// The keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The keys.
    #[serde(default)]
    pub key: Vec<Key>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What people call it.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// The Ed25519 public key: 32 bytes in standard base64.
    pub public: String,
    /// From when on it is good.
    pub from: Timestamp,
    /// Until when it is good.
    pub until: Timestamp,
    /// Why nothing it signed counts any more, where that is so.
    pub revoked: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_keys_are_read() {
        // With one more, so that there is one.
        let text = format!(
            "{}\n[[key]]\nname = 'k'\nowner = 'o'\npublic = 'AA=='\nfrom = '2026-01-01T00:00:00Z'\n\
             until = '2027-01-01T00:00:00Z'\n",
            include_str!("../../../../gates/keys.toml")
        );
        let keys: Keys = toml::from_str(&text).unwrap();
        assert!(keys.key.iter().all(|key| key.from < key.until));
    }

    #[test]
    fn a_key_has_an_end() {
        let text =
            "[[key]]\nname = 'k'\nowner = 'o'\npublic = 'AA=='\nfrom = '2026-01-01T00:00:00Z'\n";
        let error = toml::from_str::<Keys>(text).unwrap_err().to_string();
        assert!(error.contains("missing field `until`"), "{error}");
    }
}

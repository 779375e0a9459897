//! Which bytes a model's name means (`gates/models.toml`), as far as evidence is concerned.

use serde::Deserialize;

/// The models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ModelLock {
    /// The models.
    #[serde(default)]
    pub model: Vec<LockedModel>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LockedModel {
    /// Its name.
    pub name: String,
    /// The revision its files belong to.
    pub revision: String,
    /// Its files.
    pub file: Vec<LockedFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LockedFile {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl ModelLock {
    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&LockedModel> {
        self.model.iter().find(|model| model.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_lock_is_read() {
        let lock: ModelLock =
            toml::from_str(include_str!("../../../../gates/models.toml")).unwrap();
        let model = lock.model("smollm2-135m").unwrap();
        assert_eq!(model.file[0].size, 98_362_432);
        assert!(lock.model("none").is_none());
    }
}

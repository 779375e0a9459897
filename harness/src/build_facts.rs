//! What the running program was built from.

use std::path::Path;

use kakeya_evidence::{Build, hex};

use crate::error::HarnessError;
use crate::subject::Built;

/// What `rustc --version` said at build time.
pub const RUSTC: &str = env!("HARNESS_RUSTC");

/// The commit that the program was built from, where git or the builder told it.
pub fn commit() -> Option<String> {
    Some(env!("HARNESS_COMMIT").to_owned()).filter(|commit| !commit.is_empty())
}

/// The program's own digest, the lock's, what the build script stamped in, and how the code that computes was built.
///
/// # Errors
/// When the program or the lock cannot be read.
pub fn observe(root: &Path, built: Built) -> Result<Build, HarnessError> {
    let program = std::env::current_exe().map_err(HarnessError::system("find this program"))?;
    let lock = root.join("Cargo.lock");
    let sha256 = |path: &Path| {
        hex::sha256_file(path).map_err(HarnessError::system(format!("digest {}", path.display())))
    };
    Ok(Build {
        harness_sha256: sha256(&program)?,
        cargo_lock_sha256: sha256(&lock)?,
        commit: built.commit,
        rustc: RUSTC.to_owned(),
        target: env!("HARNESS_TARGET").to_owned(),
        profile: env!("HARNESS_PROFILE").to_owned(),
        opt_level: built.opt_level,
        debug_assertions: built.debug_assertions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_named_by_compiler_and_digests() {
        // Cargo runs a test in the folder of its package.
        let built = || Built {
            commit: commit(),
            opt_level: "3".to_owned(),
            debug_assertions: false,
        };
        let build = observe(Path::new(".."), built()).unwrap();
        assert!(build.rustc.starts_with("rustc "), "{}", build.rustc);
        assert_eq!(build.harness_sha256.len(), 64);
        assert_ne!(build.harness_sha256, build.cargo_lock_sha256);
        assert!(!build.target.is_empty() && !build.opt_level.is_empty());
        let error = observe(Path::new("/no/such/checkout"), built()).unwrap_err();
        assert!(error.to_string().contains("Cargo.lock"), "{error}");
    }
}

//! Stamps the optimisation level into the crate, so that evidence can say how the kernels were built. The profile
//! sets it for this crate alone, and nothing at run time can find it out again.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let level = env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo:rustc-env=KAKEYA_MODEL_OPT_LEVEL={level}");
}

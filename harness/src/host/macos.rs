//! Facts that macOS tells through `sysctl`. Written from Apple's documentation; not run on such a host yet.

use sysinfo::System;

use super::output;

const SYSCTL: &str = "/usr/sbin/sysctl";

/// The processor's brand string, such as `Apple M4`.
pub fn chip(_facts: &System) -> Option<String> {
    output(SYSCTL, &["-n", "machdep.cpu.brand_string"])
}

/// Whether the process runs under Rosetta.
///
/// `sysctl.proc_translated` is 1 under Rosetta and 0 in a native process. Systems too old to know it cannot
/// translate, and answer that the name is unknown; that counts as not observed.
pub fn translated() -> Option<bool> {
    match output(SYSCTL, &["-n", "sysctl.proc_translated"])?.as_str() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

//! Facts that Linux keeps in `/proc`.

use std::fs;

use sysinfo::System;

/// The processor's brand string. Empty on most arm64 systems, where the kernel does not tell.
pub fn chip(facts: &System) -> Option<String> {
    facts
        .cpus()
        .first()
        .map(|cpu| cpu.brand().trim().to_owned())
        .filter(|brand| !brand.is_empty())
}

/// Whether another processor pretends to be this one.
pub fn translated() -> Option<bool> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    translated_by(std::env::consts::ARCH, &cpuinfo)
}

/// Reads the signs of translation out of `/proc/cpuinfo`.
///
/// A user-mode translator runs a program of one architecture on a kernel of another, and most show the
/// kernel's own text, which lacks the keys of the program's architecture. Rosetta and QEMU's translator show
/// a text of the right shape with a vendor or brand of their own.
fn translated_by(arch: &str, cpuinfo: &str) -> Option<bool> {
    let key = match arch {
        "x86_64" => "vendor_id",
        "aarch64" => "CPU implementer",
        _ => return None,
    };
    let native_shape = cpuinfo.lines().any(|line| line.starts_with(key));
    let translator = ["VirtualApple", "QEMU TCG"]
        .iter()
        .any(|name| cpuinfo.contains(name));
    Some(!native_shape || translator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translation_shows_in_the_processor_text() {
        let amd = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n";
        let arm = "processor\t: 0\nBogoMIPS\t: 48.00\nCPU implementer\t: 0x61\n";
        let rosetta = "vendor_id\t: VirtualApple\nmodel name\t: VirtualApple @ 2.50GHz\n";
        let qemu = "vendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\n";
        for (arch, text, expected) in [
            ("x86_64", amd, Some(false)),
            ("aarch64", arm, Some(false)),
            ("x86_64", arm, Some(true)),
            ("aarch64", amd, Some(true)),
            ("x86_64", rosetta, Some(true)),
            ("x86_64", qemu, Some(true)),
            ("riscv64", amd, None),
        ] {
            assert_eq!(translated_by(arch, text), expected, "{arch}\n{text}");
        }
    }
}

//! The machine as observed. Nothing here is taken from a flag or a file that a run could write.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

use std::path::Path;
use std::process::{Command, Stdio};

use kakeya_evidence::Host;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::error::HarnessError;

/// The backends this build can compute with.
pub const BACKENDS: &[&str] = match cfg!(feature = "cuda") {
    true => &["cpu", "cuda"],
    false => &["cpu"],
};

/// Observes the host. `near` is a path on the file system whose free space matters.
///
/// # Errors
/// When the operating system does not tell of memory and processors.
pub fn observe(near: &Path) -> Result<Host, HarnessError> {
    let wanted = RefreshKind::nothing()
        .with_memory(MemoryRefreshKind::nothing().with_ram())
        .with_cpu(CpuRefreshKind::nothing());
    let facts = System::new_with_specifics(wanted)?;
    // Inside a container the machine's memory is not what may be used.
    let memory = facts
        .cgroup_limits()
        .map_or(facts.total_memory(), |limits| {
            limits.total_memory.min(facts.total_memory())
        });
    Ok(Host {
        os: std::env::consts::OS.to_owned(),
        os_version: System::long_os_version().ok(),
        kernel: System::kernel_version().ok(),
        arch: std::env::consts::ARCH.to_owned(),
        chip: system::chip(&facts),
        logical_cores: facts.cpus().len(),
        memory_bytes: memory,
        free_disk_bytes: fs4::available_space(near).ok(),
        cpu_features: cpu_features(),
        accelerators: accelerators(),
        translated: system::translated(),
    })
}

/// What is told of an NVIDIA device besides its name, as its driver's tool calls it: the driver, the memory, the clocks of the
/// processors now and at most and that of the memory, and whether errors of the memory are corrected.
const DEVICE_FACTS: &str =
    "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,ecc.mode.current";

/// NVIDIA devices as they were found, asked of the driver's own tool; none where it is not installed.
fn accelerators() -> Vec<String> {
    let query = format!("--query-gpu={DEVICE_FACTS}");
    output("nvidia-smi", &[&query, "--format=csv,noheader"])
        .map(|text| text.lines().filter_map(device).collect())
        .unwrap_or_default()
}

/// A device's line of facts, in words.
fn device(line: &str) -> Option<String> {
    let mut facts = line.split(',').map(str::trim);
    let name = facts.next().filter(|name| !name.is_empty())?;
    let mut of = |label: &str| facts.next().map(|fact| format!(", {label} {fact}"));
    let labels = [
        "driver",
        "memory",
        "clock",
        "of at most",
        "memory clock",
        "ECC",
    ];
    let rest: String = labels.into_iter().filter_map(&mut of).collect();
    Some(format!("{name}{rest}"))
}

/// What a command printed, if it could be run and ended well.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The features the kernels choose by, and their neighbours, in alphabetic order.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    use std::arch::is_x86_feature_detected as has;
    select(&[
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("avx512bw", has!("avx512bw")),
        ("avx512f", has!("avx512f")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vnni", has!("avx512vnni")),
        ("f16c", has!("f16c")),
        ("fma", has!("fma")),
        ("sse4.2", has!("sse4.2")),
    ])
}

/// The features the kernels choose by, and their neighbours, in alphabetic order. Not run on such a host yet.
#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<String> {
    use std::arch::is_aarch64_feature_detected as has;
    select(&[
        ("bf16", has!("bf16")),
        ("dotprod", has!("dotprod")),
        ("fp16", has!("fp16")),
        ("i8mm", has!("i8mm")),
        ("neon", has!("neon")),
        ("sve", has!("sve")),
    ])
}

fn select(features: &[(&str, bool)]) -> Vec<String> {
    features
        .iter()
        .filter(|(_, present)| *present)
        .map(|(name, _)| (*name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_cores_memory_and_an_architecture() {
        let host = observe(Path::new(".")).unwrap();
        assert_eq!(host.os, std::env::consts::OS);
        assert!(host.logical_cores > 0);
        assert!(host.memory_bytes > 1 << 28, "{}", host.memory_bytes);
        assert!(host.free_disk_bytes.is_some());
        let mut sorted = host.cpu_features.clone();
        sorted.sort();
        assert_eq!(host.cpu_features, sorted);
    }

    #[test]
    fn a_device_is_told_with_what_its_driver_says_of_it() {
        let line =
            "NVIDIA H100 80GB HBM3, 580.159.04, 81559 MiB, 345 MHz, 1980 MHz, 2619 MHz, Enabled";
        assert_eq!(
            device(line).unwrap(),
            "NVIDIA H100 80GB HBM3, driver 580.159.04, memory 81559 MiB, clock 345 MHz, of at most 1980 MHz, \
             memory clock 2619 MHz, ECC Enabled"
        );
        assert_eq!(device("NVIDIA T4").unwrap(), "NVIDIA T4");
        assert_eq!(device(""), None);
    }

    #[test]
    fn a_program_that_is_missing_or_fails_says_nothing() {
        assert_eq!(output("no-such-program", &[]), None);
        assert_eq!(output("false", &[]), None);
        assert_eq!(output("echo", &["x"]), Some("x".to_owned()));
    }
}

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
pub const BACKENDS: &[&str] = &["cpu"];

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

/// The names of NVIDIA devices, asked of the driver's own tool; none where it is not installed.
fn accelerators() -> Vec<String> {
    output("nvidia-smi", &["--query-gpu=name", "--format=csv,noheader"])
        .map(|text| text.lines().map(|line| line.trim().to_owned()).collect())
        .unwrap_or_default()
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
    fn a_program_that_is_missing_or_fails_says_nothing() {
        assert_eq!(output("no-such-program", &[]), None);
        assert_eq!(output("false", &[]), None);
        assert_eq!(output("echo", &["x"]), Some("x".to_owned()));
    }
}

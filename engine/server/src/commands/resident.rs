//! How much memory this process has held at most.

/// The peak resident size of this process in bytes, where the system tells it.
///
/// Linux keeps the figure in `/proc/self/status`. Elsewhere there is no such file, and reading the figure needs a
/// system call that safe Rust does not offer, so the answer is `None` rather than the size of the moment.
pub fn peak_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// The `VmHWM` line of a status file; the kernel gives it in KiB, and calls them kB.
#[cfg(target_os = "linux")]
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(
            high_water_mark("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 7 kB\n"),
            Some(2048 * 1024)
        );
        assert_eq!(high_water_mark("VmRSS:\t 7 kB\n"), None);
        assert_eq!(high_water_mark("VmHWM:\t many kB\n"), None);
    }

    #[test]
    fn the_peak_grows_with_what_is_touched() {
        let before = peak_bytes().expect("Linux tells");
        let touched = vec![1_u8; 64 << 20];
        let after = peak_bytes().expect("Linux tells");
        assert!(
            after >= before + (32 << 20),
            "{before} then {after} with {} bytes",
            touched.len()
        );
    }
}

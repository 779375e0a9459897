//! What a platform asks of a host (`gates/platforms/*.toml`), and whether a host is it.

use serde::{Deserialize, Serialize, Serializer};

use crate::environment::Host;

const GIB: u64 = 1 << 30;

/// A named kind of host, and what its gate runs there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The name evidence files begin with.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// What the host must be.
    pub host: HostShape,
    /// The device that must compute the forward passes: `cpu`, `cuda`.
    pub backend: String,
    /// The oldest compiler, as `major.minor`, that may have built what runs.
    pub min_rustc: String,
    /// Models the gate needs, the first being the one suites run by default.
    pub models: Vec<String>,
    /// Suites the gate runs, in order.
    pub suites: Vec<String>,
}

/// What a host must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostShape {
    /// The operating system, as Rust names it.
    pub os: String,
    /// The architectures that will do, as Rust names them.
    pub arch: Vec<String>,
    /// The processors that will do, by their exact brand string. Empty means any.
    pub chip: Vec<String>,
    /// The least physical memory, in GiB.
    pub min_memory_gib: u64,
    /// The least free space beside the checkout, in GiB.
    pub min_free_disk_gib: u64,
    /// A text some accelerator's name must contain. Absent means that none is asked for.
    pub accelerator: Option<String>,
}

/// What a platform asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The operating system.
    Os,
    /// The architecture.
    Architecture,
    /// The processor.
    Chip,
    /// Physical memory.
    Memory,
    /// Free space beside the checkout.
    Disk,
    /// Whether the process is translated.
    Translation,
    /// What computes.
    Backend,
    /// The compiler.
    Toolchain,
    /// An accelerator.
    Accelerator,
}

impl Fact {
    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Os => "operating system",
            Self::Architecture => "architecture",
            Self::Chip => "chip",
            Self::Memory => "memory",
            Self::Disk => "free disk",
            Self::Translation => "translation",
            Self::Backend => "backend",
            Self::Toolchain => "toolchain",
            Self::Accelerator => "accelerator",
        }
    }
}

impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One line of the comparison of a host with a platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was compared.
    pub fact: Fact,
    /// What the platform asks.
    pub wanted: String,
    /// What the host is.
    pub found: String,
    /// Whether that will do.
    pub ok: bool,
}

/// What is compared with a platform.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The machine.
    pub host: &'a Host,
    /// What `rustc --version` said when the harness was built.
    pub rustc: &'a str,
    /// The backends this build can compute with.
    pub backends: &'a [&'a str],
}

/// Compares what was observed with what a platform asks. A fact that could not be observed does not match.
pub fn check_host(platform: &Platform, observed: Observed<'_>) -> Vec<Check> {
    let Observed {
        host,
        rustc,
        backends,
    } = observed;
    let shape = &platform.host;
    let unknown = || "unknown".to_owned();
    let mut checks = vec![
        check(Fact::Os, &shape.os, host.os.clone(), shape.os == host.os),
        check(
            Fact::Architecture,
            &shape.arch.join(" or "),
            host.arch.clone(),
            shape.arch.contains(&host.arch),
        ),
        check(
            Fact::Chip,
            &any_or(&shape.chip),
            host.chip.clone().unwrap_or_else(unknown),
            shape.chip.is_empty()
                || host
                    .chip
                    .as_ref()
                    .is_some_and(|chip| shape.chip.contains(chip)),
        ),
        check(
            Fact::Memory,
            &format!("{} GiB or more", shape.min_memory_gib),
            gib(host.memory_bytes),
            host.memory_bytes >= shape.min_memory_gib * GIB,
        ),
        check(
            Fact::Disk,
            &format!("{} GiB or more", shape.min_free_disk_gib),
            host.free_disk_bytes.map_or_else(unknown, gib),
            host.free_disk_bytes
                .is_some_and(|free| free >= shape.min_free_disk_gib * GIB),
        ),
        check(
            Fact::Translation,
            "native",
            match host.translated {
                Some(false) => "native".to_owned(),
                Some(true) => "translated".to_owned(),
                None => unknown(),
            },
            host.translated == Some(false),
        ),
        check(
            Fact::Backend,
            &platform.backend,
            backends.join(", "),
            backends.contains(&platform.backend.as_str()),
        ),
        check(
            Fact::Toolchain,
            &format!("rustc {} or newer", platform.min_rustc),
            rustc.to_owned(),
            is_new_enough(rustc, &platform.min_rustc),
        ),
    ];
    if let Some(wanted) = &shape.accelerator {
        checks.push(check(
            Fact::Accelerator,
            wanted,
            none_or(&host.accelerators),
            host.accelerators.iter().any(|name| name.contains(wanted)),
        ));
    }
    checks
}

fn check(fact: Fact, wanted: &str, found: String, ok: bool) -> Check {
    Check {
        fact,
        wanted: wanted.to_owned(),
        found,
        ok,
    }
}

fn any_or(list: &[String]) -> String {
    if list.is_empty() {
        "any".to_owned()
    } else {
        list.join(" or ")
    }
}

fn none_or(list: &[String]) -> String {
    if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(", ")
    }
}

/// Whether `rustc 1.95.0 (...)` is at least `1.89`. What cannot be read is not.
fn is_new_enough(rustc: &str, minimum: &str) -> bool {
    let version = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let found = rustc.split_whitespace().nth(1).and_then(version);
    version(minimum).is_some_and(|minimum| found >= Some(minimum))
}

/// Bytes as GiB, rounded down to a tenth, so that a value short of a limit is never shown as meeting it.
fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / u128::from(GIB);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small Linux machine, as data.
    pub(crate) fn linux_host() -> Host {
        Host {
            os: "linux".into(),
            os_version: Some("Debian GNU/Linux 13".into()),
            kernel: Some("6.12.0".into()),
            arch: "x86_64".into(),
            chip: Some("AMD EPYC 7B13".into()),
            logical_cores: 2,
            memory_bytes: 8 * GIB,
            free_disk_bytes: Some(20 * GIB),
            cpu_features: vec!["avx2".into(), "f16c".into(), "fma".into()],
            accelerators: Vec::new(),
            translated: Some(false),
        }
    }

    fn platform(name: &str) -> Platform {
        // Cargo runs a test in the folder of its package.
        let path = format!("../../gates/platforms/{name}.toml");
        toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn observed(host: &Host) -> Observed<'_> {
        Observed {
            host,
            rustc: "rustc 1.95.0 (59807616e 2026-04-14)",
            backends: &["cpu"],
        }
    }

    fn mismatches(platform: &Platform, host: &Host) -> Vec<&'static str> {
        check_host(platform, observed(host))
            .into_iter()
            .filter(|check| !check.ok)
            .map(|check| check.fact.as_str())
            .collect()
    }

    #[test]
    fn a_linux_machine_is_linux_cpu_and_nothing_else() {
        let host = linux_host();
        assert_eq!(
            mismatches(&platform("linux-cpu"), &host),
            Vec::<&str>::new()
        );
        assert_eq!(
            mismatches(&platform("mac-m4"), &host),
            ["operating system", "architecture", "chip", "memory"]
        );
        assert_eq!(
            mismatches(&platform("linux-cuda"), &host),
            ["backend", "accelerator"]
        );
    }

    #[test]
    fn a_fact_that_was_not_observed_does_not_match() {
        let host = Host {
            chip: None,
            free_disk_bytes: None,
            translated: None,
            ..linux_host()
        };
        assert_eq!(
            mismatches(&platform("linux-cpu"), &host),
            ["free disk", "translation"]
        );
        let found: Vec<_> = check_host(&platform("mac-m4"), observed(&host))
            .into_iter()
            .map(|check| (check.fact, check.found))
            .filter(|(fact, _)| *fact == Fact::Chip)
            .collect();
        assert_eq!(found, [(Fact::Chip, "unknown".to_owned())]);
    }

    #[test]
    fn a_translated_process_is_refused() {
        let host = Host {
            translated: Some(true),
            ..linux_host()
        };
        assert_eq!(mismatches(&platform("linux-cpu"), &host), ["translation"]);
    }

    #[test]
    fn an_m4_with_enough_memory_is_mac_m4() {
        let mac = Host {
            os: "macos".into(),
            arch: "aarch64".into(),
            chip: Some("Apple M4".into()),
            memory_bytes: 24 * GIB,
            ..linux_host()
        };
        assert_eq!(mismatches(&platform("mac-m4"), &mac), Vec::<&str>::new());
        let smaller = Host {
            chip: Some("Apple M3".into()),
            memory_bytes: 24 * GIB - 1,
            ..mac
        };
        let checks = check_host(&platform("mac-m4"), observed(&smaller));
        let memory = checks.iter().find(|check| check.fact == Fact::Memory);
        assert_eq!(memory.map(|check| check.found.as_str()), Some("23.9 GiB"));
        assert_eq!(
            mismatches(&platform("mac-m4"), &smaller),
            ["chip", "memory"]
        );
    }

    #[test]
    fn an_accelerator_is_matched_by_a_part_of_its_name() {
        let host = Host {
            accelerators: vec!["NVIDIA H100 80GB HBM3".into()],
            ..linux_host()
        };
        // The device alone is not enough: a build without the backend would fall back to the processor.
        assert_eq!(mismatches(&platform("linux-cuda"), &host), ["backend"]);
        let with_backend = Observed {
            backends: &["cpu", "cuda"],
            ..observed(&host)
        };
        let checks = check_host(&platform("linux-cuda"), with_backend);
        assert!(checks.iter().all(|check| check.ok), "{checks:?}");
        let row = checks.last().map(|row| row.found.as_str());
        assert_eq!(row, Some("NVIDIA H100 80GB HBM3"));
    }

    #[test]
    fn the_compiler_must_be_new_enough_and_known() {
        for (rustc, ok) in [
            ("rustc 1.89.0 (x 2025-08-07)", true),
            ("rustc 2.0.0", true),
            ("rustc 1.88.9", false),
            ("rustc", false),
            ("rustc one.two", false),
        ] {
            assert_eq!(is_new_enough(rustc, "1.89"), ok, "{rustc}");
        }
        assert!(!is_new_enough("rustc 1.95.0", "new"));
    }

    #[test]
    fn a_platform_file_with_a_field_nobody_knows_is_refused() {
        let error = toml::from_str::<Platform>("name = 'x'\nspeed = 'fast'\n").unwrap_err();
        assert!(
            error.to_string().contains("unknown field `speed`"),
            "{error}"
        );
    }

    #[test]
    fn facts_have_names() {
        let checks = check_host(&platform("linux-cuda"), observed(&linux_host()));
        let names: Vec<_> = checks.iter().map(|check| check.fact.as_str()).collect();
        assert_eq!(
            names,
            [
                "operating system",
                "architecture",
                "chip",
                "memory",
                "free disk",
                "translation",
                "backend",
                "toolchain",
                "accelerator"
            ]
        );
        let written = serde_json::to_value(&checks[0]).unwrap();
        assert_eq!(written["fact"], "operating system");
    }
}

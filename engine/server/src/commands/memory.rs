//! Whether the sessions that a server promises fit into the machine.
//!
//! Slabs cost memory only once they are touched, so a server that promises too much starts well and dies later,
//! under load. The promise is checked at start instead, and a refusal shows its arithmetic.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::output::bytes;

/// What a server with all its sessions in use needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Sessions at once.
    pub capacity: usize,
    /// One session's KV cache.
    pub slab_bytes: u64,
    /// The weights.
    pub model_bytes: u64,
    /// What passes and sessions take beside them.
    pub scratch_bytes: u64,
    /// Cached beginnings of prompts.
    pub prefix_bytes: u64,
    /// Whether the sessions' KV caches lie in the memory of a GPU, whose room is checked there.
    pub on_device: bool,
}

/// How much memory a server may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of what the machine, or the control group of this process, has.
    Percent(u8),
}

impl Default for MemoryLimit {
    /// What is left is for requests on their way in and answers on their way out, and for the system.
    fn default() -> Self {
        Self::Percent(90)
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(count) => f.write_str(&bytes(*count)),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 7] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
        ];
        let wrong =
            || "expected a size, such as 12GiB or 800MB, or a share, such as 80%".to_owned();
        if let Some(share) = text.strip_suffix('%') {
            let share: u8 = share.trim().parse().map_err(|_| wrong())?;
            let fits = (1..=100).contains(&share);
            return fits.then_some(Self::Percent(share)).ok_or_else(wrong);
        }
        let unit = UNITS
            .iter()
            .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
        let (number, factor) = unit.unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        let size = number.checked_mul(factor).filter(|size| *size > 0);
        size.map(Self::Bytes).ok_or_else(wrong)
    }
}

impl MemoryLimit {
    /// The limit in bytes.
    ///
    /// # Errors
    /// As [`machine_bytes`].
    pub fn in_bytes(self) -> anyhow::Result<u64> {
        Ok(match self {
            Self::Bytes(count) => count,
            Self::Percent(share) => (u128::from(machine_bytes()?) * u128::from(share) / 100) as u64,
        })
    }
}

/// The sessions do not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct TooLittleMemory {
    need: MemoryNeed,
    room: u64,
    /// Whose the room is.
    whose: Whose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Machine,
    Limit,
}

impl MemoryNeed {
    /// The need with every session in use.
    fn total(&self) -> u128 {
        match self.on_device {
            true => self.fixed(),
            false => self.capacity as u128 * u128::from(self.slab_bytes) + self.fixed(),
        }
    }

    /// The need with no session.
    fn fixed(&self) -> u128 {
        u128::from(self.model_bytes)
            + u128::from(self.scratch_bytes)
            + u128::from(self.prefix_bytes)
    }

    /// As many bytes, or the most that can be counted.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.total()).unwrap_or(u64::MAX)
    }

    /// Checks the need against `machine` bytes of memory.
    ///
    /// # Errors
    /// [`TooLittleMemory`], whose text shows the arithmetic.
    pub fn check(self, machine: u64) -> Result<(), TooLittleMemory> {
        self.check_room(machine, Whose::Machine)
    }

    /// Checks the need against a limit of `limit` bytes.
    ///
    /// # Errors
    /// As [`MemoryNeed::check`].
    pub fn check_limit(self, limit: u64) -> Result<(), TooLittleMemory> {
        self.check_room(limit, Whose::Limit)
    }

    fn check_room(self, room: u64, whose: Whose) -> Result<(), TooLittleMemory> {
        if self.total() <= u128::from(room) {
            Ok(())
        } else {
            let need = self;
            Err(TooLittleMemory { need, room, whose })
        }
    }
}

/// The arithmetic.
impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.on_device {
            let (capacity, slab) = (self.capacity, bytes(self.slab_bytes));
            write!(f, "{capacity} sessions x {slab} of KV cache + ")?;
        }
        write!(f, "{} of weights", bytes(self.model_bytes))?;
        if self.scratch_bytes > 0 {
            write!(f, " + {} of scratch", bytes(self.scratch_bytes))?;
        }
        if self.prefix_bytes > 0 {
            write!(f, " + {} of cached prompts", bytes(self.prefix_bytes))?;
        }
        write!(f, " = {}", bytes(self.bytes()))
    }
}

impl TooLittleMemory {
    fn sentence(&self) -> String {
        let Self { need, room, whose } = self;
        let has = match whose {
            Whose::Machine => "this machine has",
            Whose::Limit => "--memory-limit is",
        };
        let arithmetic = format!("{need}, but {has} {}", bytes(*room));
        if need.on_device {
            let prefix = u128::from(need.prefix_bytes);
            return match need.fixed() - prefix <= u128::from(*room) {
                true => format!("{arithmetic}: use a smaller --prefix-cache-bytes"),
                false => format!("{arithmetic}: use a smaller model"),
            };
        }
        let left = u128::from(*room).saturating_sub(need.fixed());
        match left.checked_div(u128::from(need.slab_bytes)) {
            Some(0) | None if need.prefix_bytes > 0 => {
                format!("{arithmetic}: use a smaller --prefix-cache-bytes, or a smaller --window")
            }
            Some(0) | None => {
                format!("{arithmetic}: not even one session fits; use a smaller --window")
            }
            Some(fits) => {
                format!("{arithmetic}: use --capacity {fits} or less, or a smaller --window")
            }
        }
    }
}

/// The memory of this machine in bytes, or of the control group that this process is confined to.
///
/// # Errors
/// When the system does not tell: a promise that cannot be checked is not made.
pub fn machine_bytes() -> anyhow::Result<u64> {
    let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system =
        System::new_with_specifics(ram).context("the size of this machine's memory is unknown")?;
    let total = system.total_memory();
    Ok(system
        .cgroup_limits()
        .map_or(total, |limits| limits.total_memory.min(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_fits_exactly_is_accepted_and_one_byte_less_is_not() {
        let need = MemoryNeed {
            capacity: 16,
            slab_bytes: 24 * MIB,
            model_bytes: 100 * MIB,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: false,
        };
        assert_eq!(need.check(484 * MIB), Ok(()));
        assert!(need.check(484 * MIB - 1).is_err());
    }

    #[test]
    fn the_refusal_shows_its_arithmetic_and_a_capacity_that_fits() {
        let need = MemoryNeed {
            capacity: 1000,
            slab_bytes: 24 * MIB,
            model_bytes: 100 * MIB,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: false,
        };
        let error = need.check(1024 * MIB).expect_err("too much").to_string();
        assert_eq!(
            error,
            "1000 sessions x 24.0 MiB of KV cache + 100.0 MiB of weights = 23.5 GiB, but this machine has 1.0 GiB: \
             use --capacity 38 or less, or a smaller --window"
        );
        let fits = MemoryNeed {
            capacity: 38,
            ..need
        };
        assert_eq!(fits.check(1024 * MIB), Ok(()));
        assert!(
            MemoryNeed {
                capacity: 39,
                ..need
            }
            .check(1024 * MIB)
            .is_err()
        );
    }

    #[test]
    fn one_session_that_does_not_fit_asks_for_a_smaller_window() {
        let need = MemoryNeed {
            capacity: 1,
            slab_bytes: 924 * MIB + 1,
            model_bytes: 100 * MIB,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: false,
        };
        let error = need.check(1024 * MIB).expect_err("too much").to_string();
        assert!(
            error.ends_with("not even one session fits; use a smaller --window"),
            "{error}"
        );
    }

    #[test]
    fn cached_prompts_count_and_are_in_the_arithmetic() {
        let need = MemoryNeed {
            capacity: 2,
            slab_bytes: 24 * MIB,
            model_bytes: 100 * MIB,
            scratch_bytes: 0,
            prefix_bytes: 96 * MIB,
            on_device: false,
        };
        assert_eq!(need.check(244 * MIB), Ok(()));
        let error = need.check(243 * MIB).expect_err("too much").to_string();
        assert_eq!(
            error,
            "2 sessions x 24.0 MiB of KV cache + 100.0 MiB of weights + 96.0 MiB of cached prompts = 244.0 MiB, but this \
             machine has 243.0 MiB: use --capacity 1 or less, or a smaller --window"
        );
        let error = need.check(200 * MIB).expect_err("too much").to_string();
        assert!(
            error.ends_with("use a smaller --prefix-cache-bytes, or a smaller --window"),
            "{error}"
        );
    }

    #[test]
    fn caches_on_a_device_are_no_memory_of_the_host() {
        let need = MemoryNeed {
            capacity: 1000,
            slab_bytes: 24 * MIB,
            model_bytes: 100 * MIB,
            scratch_bytes: 50 * MIB,
            prefix_bytes: 96 * MIB,
            on_device: true,
        };
        assert_eq!(need.check_limit(246 * MIB), Ok(()));
        let said = |limit| need.check_limit(limit).expect_err("too much").to_string();
        assert_eq!(
            said(245 * MIB),
            "100.0 MiB of weights + 50.0 MiB of scratch + 96.0 MiB of cached prompts = 246.0 MiB, but --memory-limit is \
             245.0 MiB: use a smaller --prefix-cache-bytes"
        );
        assert!(said(149 * MIB).ends_with(": use a smaller model"));
    }

    #[test]
    fn products_beyond_64_bits_are_refused_not_wrapped() {
        let need = MemoryNeed {
            capacity: usize::MAX,
            slab_bytes: u64::MAX,
            model_bytes: 0,
            scratch_bytes: 0,
            prefix_bytes: 0,
            on_device: false,
        };
        assert!(need.check(u64::MAX).is_err());
    }

    #[test]
    fn scratch_counts_and_the_limit_is_named() {
        let need = MemoryNeed {
            capacity: 16,
            slab_bytes: 24 * MIB,
            model_bytes: 100 * MIB,
            prefix_bytes: 0,
            scratch_bytes: 50 * MIB,
            on_device: false,
        };
        assert_eq!(need.check_limit(534 * MIB), Ok(()));
        let error = need
            .check_limit(200 * MIB)
            .expect_err("too much")
            .to_string();
        assert_eq!(
            error,
            "16 sessions x 24.0 MiB of KV cache + 100.0 MiB of weights + 50.0 MiB of scratch = 534.0 MiB, but \
             --memory-limit is 200.0 MiB: use --capacity 2 or less, or a smaller --window"
        );
    }

    #[test]
    fn limits_are_sizes_or_shares() {
        for (text, limit) in [
            ("12GiB", MemoryLimit::Bytes(12 << 30)),
            ("800 MB", MemoryLimit::Bytes(800_000_000)),
            ("4096", MemoryLimit::Bytes(4096)),
            ("80%", MemoryLimit::Percent(80)),
            ("100 %", MemoryLimit::Percent(100)),
        ] {
            assert_eq!(text.parse(), Ok(limit), "{text}");
        }
        for text in [
            "",
            "0",
            "0%",
            "101%",
            "-1",
            "12 apples",
            "99999999999TiB",
            "1.5GiB",
        ] {
            let error = text.parse::<MemoryLimit>().expect_err("no limit");
            assert!(error.contains("such as 12GiB"), "{text}: {error}");
        }
        let machine = machine_bytes().expect("known");
        let default = MemoryLimit::default().in_bytes().expect("known");
        assert!(default < machine && default > machine / 2);
        assert_eq!(MemoryLimit::Bytes(7).in_bytes().expect("plain"), 7);
        assert_eq!(MemoryLimit::Percent(90).to_string(), "90%");
        assert_eq!(MemoryLimit::Bytes(1 << 30).to_string(), "1.0 GiB");
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_bytes().expect("known") > 64 * MIB);
    }
}

//! Whether the sessions that a server promises fit into the machine.
//!
//! Slabs cost memory only once they are touched, so a server that promises too much starts well and dies later,
//! under load. The promise is checked at start instead, and a refusal shows its arithmetic.

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
    /// Cached beginnings of prompts.
    pub prefix_bytes: u64,
}

/// The sessions do not fit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct TooLittleMemory {
    need: MemoryNeed,
    machine: u64,
}

impl MemoryNeed {
    /// The need with every session in use.
    fn total(&self) -> u128 {
        self.capacity as u128 * u128::from(self.slab_bytes)
            + u128::from(self.model_bytes)
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
        if self.total() <= u128::from(machine) {
            Ok(())
        } else {
            Err(TooLittleMemory {
                need: self,
                machine,
            })
        }
    }
}

impl TooLittleMemory {
    fn sentence(&self) -> String {
        let Self { need, machine } = self;
        let total = need.bytes();
        let prefixes = match need.prefix_bytes {
            0 => String::new(),
            prefixes => format!(" + {} of cached prompts", bytes(prefixes)),
        };
        let arithmetic = format!(
            "{} sessions x {} of KV cache + {} of weights{prefixes} = {}, but this machine has {}",
            need.capacity,
            bytes(need.slab_bytes),
            bytes(need.model_bytes),
            bytes(total),
            bytes(*machine)
        );
        match machine
            .saturating_sub(need.model_bytes.saturating_add(need.prefix_bytes))
            .checked_div(need.slab_bytes)
        {
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
            prefix_bytes: 0,
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
            prefix_bytes: 0,
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
            prefix_bytes: 0,
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
            prefix_bytes: 96 * MIB,
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
    fn products_beyond_64_bits_are_refused_not_wrapped() {
        let need = MemoryNeed {
            capacity: usize::MAX,
            slab_bytes: u64::MAX,
            model_bytes: 0,
            prefix_bytes: 0,
        };
        assert!(need.check(u64::MAX).is_err());
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine_bytes().expect("known") > 64 * MIB);
    }
}

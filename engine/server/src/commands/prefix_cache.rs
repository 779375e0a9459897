//! How much memory the beginnings of prompts are cached in.

use clap::Args;

use super::memory::MemoryNeed;

/// Sessions whose memory it is, if nobody says how much.
const SESSIONS: u64 = 4;

/// Flags of the prefix cache. Only requests over HTTP use it: sessions of gRPC have their history cached anyway.
#[derive(Debug, Clone, Copy, Args)]
pub struct PrefixCacheArgs {
    /// Compute every prompt of an HTTP request from its first token, though another began with the same ones
    #[arg(long, requires = "http", conflicts_with = "prefix_cache_bytes")]
    no_prefix_cache: bool,
    /// The most bytes that beginnings of HTTP requests' prompts are cached in [default: those of 4 sessions, or what
    /// memory is left]
    #[arg(long, value_name = "BYTES", requires = "http", value_parser = clap::value_parser!(u64).range(1..))]
    prefix_cache_bytes: Option<u64>,
}

impl PrefixCacheArgs {
    /// Bytes of the cache of a server that needs `need` without one, and has HTTP routes or not, on a machine of
    /// `machine` bytes.
    pub fn bytes(self, http: bool, need: MemoryNeed, machine: u64) -> u64 {
        let left = machine.saturating_sub(need.bytes());
        match self.prefix_cache_bytes {
            _ if self.no_prefix_cache || !http => 0,
            // If it does not fit, the start is refused: it was asked for.
            Some(bytes) => bytes,
            None => need.slab_bytes.saturating_mul(SESSIONS).min(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        cache: PrefixCacheArgs,
        #[arg(long)]
        http: Option<String>,
    }

    const NEED: MemoryNeed = MemoryNeed {
        capacity: 2,
        slab_bytes: 10,
        model_bytes: 30,
        scratch_bytes: 0,
        prefix_bytes: 0,
        on_device: false,
    };

    fn bytes(flags: &[&str], machine: u64) -> Result<u64, String> {
        let line = Line::try_parse_from([&["kakeya"], flags].concat());
        let line = line.map_err(|error| error.to_string())?;
        Ok(line.cache.bytes(line.http.is_some(), NEED, machine))
    }

    #[test]
    fn it_has_the_memory_of_four_sessions_as_far_as_that_is_left() {
        for (machine, expected) in [(1000, 40), (90, 40), (89, 39), (50, 0), (20, 0)] {
            assert_eq!(bytes(&["--http", "x"], machine), Ok(expected), "{machine}");
        }
    }

    #[test]
    fn it_has_what_it_is_given_or_nothing() {
        for (flags, expected) in [
            (&["--http", "x", "--prefix-cache-bytes", "7000"][..], 7000),
            (&["--http", "x", "--no-prefix-cache"], 0),
            (&[], 0),
        ] {
            assert_eq!(bytes(flags, 100), Ok(expected), "{flags:?}");
        }
    }

    #[test]
    fn flags_that_would_do_nothing_are_refused() {
        for (flags, part) in [
            (&["--no-prefix-cache"][..], "--http"),
            (&["--prefix-cache-bytes", "1"], "--http"),
            (&["--http", "x", "--prefix-cache-bytes", "0"], "1.."),
            (
                &[
                    "--http",
                    "x",
                    "--prefix-cache-bytes",
                    "1",
                    "--no-prefix-cache",
                ],
                "cannot be used with",
            ),
        ] {
            let error = bytes(flags, 100).expect_err("refused");
            assert!(error.contains(part), "{flags:?}: {error}");
        }
    }
}

//! `kakeya digest`: the bits of a session, whatever the pieces its tokens came in.
//!
//! Anyone can check the promise with it: other pieces, threads or instruction sets must give the same digests.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kakeya_model::LogitRows;
use kakeya_runtime::digest::{LogitsDigest, kv_sha256};
use kakeya_runtime::sampler::greedy;
use serde::Serialize;

use super::options::{EngineArgs, Settings, positive};
use super::session::{LocalSession, check_ids};
use super::{Outcome, model, output, token_file};

/// The longest block run at once; a longer piece runs as several. It bounds the memory that logits at every position
/// take, and is longer than any block that a server runs.
const LONGEST_BLOCK: usize = 1024;

/// Flags of `kakeya digest`.
#[derive(Debug, Args)]
pub struct DigestArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// The session's token ids, separated by blanks, commas or lines
    #[arg(long, value_name = "FILE")]
    token_ids_file: PathBuf,
    /// Sizes of the pieces in which the ids are appended; the list repeats to the end. A piece beyond 1024 runs as
    /// blocks of 1024
    #[arg(
        long,
        value_name = "N,N,..",
        value_delimiter = ',',
        default_value = "256",
        value_parser = positive
    )]
    chunks: Vec<NonZeroUsize>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    logits_sha256: String,
    kv_sha256: String,
    next_token: u32,
    history_length: u64,
    cached_length: u64,
    #[serde(flatten)]
    settings: Settings,
}

/// Runs `kakeya digest`.
pub fn run(args: DigestArgs) -> Outcome {
    let options = args.engine.validate()?;
    let ids = token_file::read(&args.token_ids_file)?;
    let model = model::load(&options)?;
    check_ids(&model, &options, &ids).with_context(|| args.token_ids_file.display().to_string())?;

    let longest = args
        .chunks
        .iter()
        .map(|size| size.get())
        .max()
        .unwrap_or(1)
        .min(LONGEST_BLOCK);
    let mut session = LocalSession::new(&model, &options, longest)?;
    let vocabulary = model.config().vocabulary;
    let mut logits_digest = LogitsDigest::default();
    let mut next_token = 0;
    for block in pieces(&ids, &args.chunks).flat_map(|piece| piece.chunks(LONGEST_BLOCK)) {
        let logits = session.append_block(block, LogitRows::All);
        logits_digest.update(logits);
        next_token = greedy(&logits[logits.len() - vocabulary..]);
    }
    let verifier = session.verifier();
    output::print_json(&Report {
        logits_sha256: logits_digest.hex(),
        kv_sha256: kv_sha256(verifier),
        next_token,
        history_length: verifier.position(),
        cached_length: verifier.cached_length(),
        settings: options.settings(),
    })?;
    Ok(())
}

/// Cuts `ids` into pieces of the given sizes, over and over until the end.
fn pieces<'a>(ids: &'a [u32], sizes: &'a [NonZeroUsize]) -> impl Iterator<Item = &'a [u32]> {
    let mut rest = ids;
    sizes.iter().cycle().map_while(move |size| {
        let (piece, after) = rest.split_at(size.get().min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(count: usize, sizes: &[usize]) -> Vec<usize> {
        let ids: Vec<u32> = (0..count as u32).collect();
        let sizes: Vec<_> = sizes
            .iter()
            .map(|size| NonZeroUsize::new(*size).expect("above 0"))
            .collect();
        assert_eq!(
            pieces(&ids, &sizes).flatten().copied().collect::<Vec<_>>(),
            ids
        );
        pieces(&ids, &sizes).map(<[u32]>::len).collect()
    }

    #[test]
    fn the_sizes_repeat_to_the_end_and_the_last_piece_is_what_is_left() {
        assert_eq!(lengths(25, &[7, 1, 3]), [7, 1, 3, 7, 1, 3, 3]);
        assert_eq!(lengths(11, &[7, 1, 3]), [7, 1, 3]);
        assert_eq!(lengths(2, &[1000]), [2]);
        assert_eq!(lengths(0, &[4]), [0; 0]);
    }
}

//! `kakeya digest`: the bits of a session, whatever the pieces its tokens came in.
//!
//! Anyone can check the promise with it: other pieces, threads or instruction sets must give the same digests.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kakeya_model::LogitRows;
use kakeya_runtime::EngineConfig;
use kakeya_runtime::digest::{LogitsDigest, kv_sha256};
use kakeya_runtime::sampler::greedy;
use kakeya_runtime::speculation::{MAX_DRAFTS, Proposer, Proposers};
use serde::Serialize;

use super::options::{EngineArgs, Settings, positive};
use super::proposer::ProposerArgs;
use super::session::{LocalSession, check_ids};
use super::{Outcome, engine, model, output, token_file};

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
        value_parser = positive,
        conflicts_with = "proposer"
    )]
    chunks: Vec<NonZeroUsize>,
    // The ids are then appended one by one as if they were generated, each with what is guessed to come after it, of
    // which is kept what the file has.
    #[command(flatten)]
    proposer: ProposerArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    logits_sha256: String,
    kv_sha256: String,
    next_token: u32,
    history_length: u64,
    cached_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<Speculated>,
    #[serde(flatten)]
    settings: Settings,
}

/// What a proposer has guessed.
#[derive(Debug, Default, Serialize)]
struct Speculated {
    drafted: u64,
    accepted: u64,
}

/// Runs `kakeya digest`.
pub fn run(args: DigestArgs) -> Outcome {
    let options = args.engine.validate()?;
    let ids = token_file::read(&args.token_ids_file)?;
    let (model, tokenizer) = if args.proposer.needs_tokenizer() {
        let (model, tokenizer) = model::load_with_tokenizer(&options)?;
        (model, Some(tokenizer))
    } else {
        (model::load(&options)?, None)
    };
    check_ids(&model, &options, &ids).with_context(|| args.token_ids_file.display().to_string())?;
    let proposing = args.proposer.load(&options, &model, tokenizer.as_ref())?;
    let config = EngineConfig {
        capacity: 1,
        ..engine::config(&options)
    };
    let proposer = proposing
        .proposers(&config)?
        .map(Proposers::start)
        .transpose();
    let proposer = proposer.context("--proposer")?;

    let longest = args
        .chunks
        .iter()
        .map(|size| size.get())
        .max()
        .unwrap_or(1)
        .min(LONGEST_BLOCK);
    let mut session = LocalSession::new(&model, &options, longest.max(1 + MAX_DRAFTS))?;
    let mut digest = Digest {
        vocabulary: model.config().vocabulary,
        logits: LogitsDigest::default(),
        next_token: 0,
    };
    let speculation = match proposer {
        None => {
            for block in pieces(&ids, &args.chunks).flat_map(|piece| piece.chunks(LONGEST_BLOCK)) {
                digest.update(session.append_block(block, LogitRows::All)?);
            }
            None
        }
        Some(proposer) => {
            let most = args.proposer.drafts();
            Some(speculate(&mut session, &mut digest, proposer, most, &ids)?)
        }
    };
    let verifier = session.verifier();
    output::print_json(&Report {
        logits_sha256: digest.logits.hex(),
        kv_sha256: kv_sha256(verifier),
        next_token: digest.next_token,
        history_length: verifier.position(),
        cached_length: verifier.cached_length(),
        speculation,
        settings: options.settings(),
    })?;
    Ok(())
}

/// The digest so far.
struct Digest {
    vocabulary: usize,
    logits: LogitsDigest,
    next_token: u32,
}

impl Digest {
    /// Takes in the logits after one token or more.
    fn update(&mut self, logits: &[f32]) {
        self.logits.update(logits);
        self.next_token = greedy(&logits[logits.len() - self.vocabulary..]);
    }
}

/// Appends ids as if they were generated, with a proposer that does not know what comes.
fn speculate(
    session: &mut LocalSession,
    digest: &mut Digest,
    mut proposer: Box<dyn Proposer>,
    most: usize,
    ids: &[u32],
) -> anyhow::Result<Speculated> {
    let mut counts = Speculated::default();
    let (mut done, mut told) = (0, 0);
    let mut state: Vec<f32> = Vec::new();
    while let Some(next) = ids.get(done) {
        let rest = &ids[done + 1..];
        let known_state = (!state.is_empty()).then_some(&state[..]);
        proposer.extend(&ids[told..=done], known_state);
        told = done + 1;
        let proposal = proposer.propose(most.min(rest.len()))?;
        let known = |token: &&u32| (**token as usize) < digest.vocabulary;
        let mut block = vec![*next];
        block.extend(proposal.tokens.iter().take(most).take_while(known));
        let right = block[1..].iter().zip(rest);
        let accepted = right.take_while(|(one, other)| one == other).count();
        counts.drafted += block.len() as u64 - 1;
        counts.accepted += accepted as u64;
        let logits = session.append_part(&block, 1 + accepted)?;
        digest.update(&logits[..(1 + accepted) * digest.vocabulary]);
        let states = session.compute().states(0);
        let hidden = states.len() / block.len();
        state.clear();
        state.extend_from_slice(&states[accepted * hidden..][..hidden]);
        done += 1 + accepted;
    }
    Ok(counts)
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

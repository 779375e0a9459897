//! `kakeya perplexity`: how well the model predicts a text, token by token, through the session's own cache.
//!
//! Plainly, the whole text is one session and every token but the first is scored. With `--context N` the text is
//! cut into pieces of N tokens, each a session of its own, and the second half of each is scored: the protocol of
//! llama.cpp's perplexity program, for comparison with it (with `--window full`).

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use kakeya_model::tokenizer::Tokenizer;
use kakeya_model::{CudaError, LogitRows};
use kakeya_runtime::{MAX_CHUNK, negative_log_likelihood};
use serde::Serialize;

use super::options::{EngineArgs, positive};
use super::output::{self, ReportFormat};
use super::session::{LocalSession, check_length};
use super::{Failure, Outcome, model};

/// Flags of `kakeya perplexity`.
#[derive(Debug, Args)]
pub struct PerplexityArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// A text in UTF-8
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Use only so many tokens from the start of the text
    #[arg(long, value_name = "N", value_parser = positive)]
    max_tokens: Option<NonZeroUsize>,
    /// Score the second half of each N tokens, every N a session of its own, as llama.cpp does
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// How the figure is printed
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    perplexity: f64,
    /// Mean negative log-likelihood, in nats; the perplexity is its exponential.
    mean_nll: f64,
    /// Standard error of that mean, tokens taken as independent.
    mean_nll_error: f64,
    scored_tokens: usize,
    text_tokens: usize,
}

/// Runs `kakeya perplexity`.
pub fn run(args: PerplexityArgs) -> Outcome {
    let options = args.engine.validate()?;
    if args.context.is_some_and(|context| context < 4) {
        return Err(Failure::usage(
            "--context is below 4: a piece needs tokens to read and tokens to score",
        ));
    }
    let path = args.file.display();
    let text = fs::read(&args.file).with_context(|| format!("cannot read {path}"))?;
    let text = String::from_utf8(text).with_context(|| format!("{path} is not a text in UTF-8"))?;
    let (model, tokenizer) = model::load_with_tokenizer(&options)?;
    let mut ids = tokenizer
        .encode_prompt(&text, false)
        .with_context(|| path.to_string())?;
    ids.truncate(args.max_tokens.map_or(ids.len(), NonZeroUsize::get));

    let least = args.context.unwrap_or(2);
    if ids.len() < least {
        let count = ids.len();
        return Err(Failure::Run(anyhow!(
            "{path} gives {count} tokens, and at least {least} are needed"
        )));
    }
    check_length(&model, &options, args.context.unwrap_or(ids.len()) as u64)?;
    let mut session = LocalSession::like_a_server(&model, &options)?;
    let losses = match args.context {
        None => losses(&mut session, &ids, 1)?,
        Some(context) => losses_by_piece(&mut session, &tokenizer, &ids, context)?,
    };
    let report = Report::of(&losses, ids.len());
    match args.format {
        ReportFormat::Json => output::print_json(&report)?,
        ReportFormat::Text => output::print(&format!(
            "perplexity {:.4} over {} of {} tokens (mean negative log-likelihood {:.5} +/- {:.5})\n",
            report.perplexity,
            report.scored_tokens,
            report.text_tokens,
            report.mean_nll,
            report.mean_nll_error
        ))?,
    }
    Ok(())
}

/// The loss of each token from `first` on, in a session of its own.
fn losses(session: &mut LocalSession, ids: &[u32], first: usize) -> Result<Vec<f64>, CudaError> {
    session.reset();
    let mut losses = Vec::with_capacity(ids.len() - first);
    let mut position = 0;
    for block in ids.chunks(MAX_CHUNK) {
        let logits = session.append_block(block, LogitRows::All)?;
        for row in logits.chunks_exact(logits.len() / block.len()) {
            position += 1;
            if (first..ids.len()).contains(&position) {
                losses.push(negative_log_likelihood(row, ids[position]));
            }
        }
    }
    Ok(losses)
}

/// The losses of the second half of each piece; what is left over at the end is not scored.
fn losses_by_piece(
    session: &mut LocalSession,
    tokenizer: &Tokenizer,
    ids: &[u32],
    context: usize,
) -> Result<Vec<f64>, CudaError> {
    let begin = tokenizer.bos_token_id().filter(|_| tokenizer.adds_bos());
    let mut all = Vec::new();
    for piece in ids.chunks_exact(context) {
        let mut piece = piece.to_vec();
        piece[0] = begin.unwrap_or(piece[0]);
        all.extend(losses(session, &piece, context / 2 + 1)?);
    }
    Ok(all)
}

impl Report {
    /// Sums up the losses, of which there is at least one.
    fn of(losses: &[f64], text_tokens: usize) -> Self {
        let count = losses.len() as f64;
        let mean_nll = losses.iter().sum::<f64>() / count;
        let variance = losses
            .iter()
            .map(|loss| (loss - mean_nll).powi(2))
            .sum::<f64>()
            / (count - 1.0).max(1.0);
        Self {
            perplexity: mean_nll.exp(),
            mean_nll,
            mean_nll_error: (variance / count).sqrt(),
            scored_tokens: losses.len(),
            text_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_distribution_has_the_perplexity_of_its_width() {
        let loss = negative_log_likelihood(&[2.5; 64], 7);
        let report = Report::of(&[loss, loss, loss], 4);
        assert!((report.perplexity - 64.0).abs() < 1e-9, "{report:?}");
        assert!(report.mean_nll_error < 1e-12, "{report:?}");
        assert_eq!((report.scored_tokens, report.text_tokens), (3, 4));
    }

    #[test]
    fn the_mean_and_its_error_are_those_of_the_losses() {
        let report = Report::of(&[1.0, 3.0], 3);
        assert_eq!(report.mean_nll, 2.0);
        assert!((report.mean_nll_error - 1.0).abs() < 1e-12);
        assert_eq!(Report::of(&[1.0], 2).mean_nll_error, 0.0);
    }
}

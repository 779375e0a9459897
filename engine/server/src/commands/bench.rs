//! `kakeya bench`: prefill and decode speed at several depths of a session.
//!
//! Prefill at depth D is N prompt tokens appended after D tokens; decode is N tokens generated after D. Each figure is
//! the median over the repetitions. The tokens are pseudo-random and always the same.

use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use kakeya_model::LogitRows;
use kakeya_runtime::sampler::greedy;
use serde::Serialize;

use super::options::{EngineArgs, positive};
use super::output::{self, ReportFormat};
use super::session::{LocalSession, check_length};
use super::{Outcome, model, resident};

/// Flags of `kakeya bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Tokens appended in one measurement of prefill
    #[arg(long, value_name = "N", default_value = "512", value_parser = positive)]
    prompt: NonZeroUsize,
    /// Tokens generated in one measurement of decode
    #[arg(long, value_name = "N", default_value = "64", value_parser = positive)]
    r#gen: NonZeroUsize,
    /// Tokens already in the session when a measurement starts
    #[arg(
        long,
        value_name = "D,D,..",
        value_delimiter = ',',
        default_value = "0"
    )]
    depth: Vec<usize>,
    /// Measurements of each figure, of which the median is printed
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    repeat: NonZeroUsize,
    /// How the figures are printed
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    threads: usize,
    isa: String,
    prompt: usize,
    r#gen: usize,
    repeat: usize,
    results: Vec<Row>,
}

/// The figures at one depth.
#[derive(Debug, Serialize)]
struct Row {
    depth: usize,
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    /// Of the process so far; `null` where the system does not tell.
    peak_rss_bytes: Option<u64>,
    /// Keys and values in use once the prompt is appended.
    kv_bytes: u64,
}

/// Runs `kakeya bench`.
pub fn run(args: BenchArgs) -> Outcome {
    let options = args.engine.validate()?;
    let model = model::load(&options.source)?;
    let (prompt, generated, repeat) = (args.prompt.get(), args.r#gen.get(), args.repeat.get());
    let deepest = args.depth.iter().max().copied().unwrap_or(0);
    let longest = deepest.saturating_add(prompt.max(generated)) as u64;
    check_length(&model, &options, longest).context("--depth with --prompt or --gen")?;
    let mut bench = Bench {
        session: LocalSession::like_a_server(&model, &options)?,
        tokens: pseudo_random_ids(deepest + prompt.max(1), model.config().vocabulary),
    };
    bench.prefill(0, prompt);

    let mut results = Vec::with_capacity(args.depth.len());
    for depth in args.depth {
        let prefill = median((0..repeat).map(|_| bench.prefill(depth, prompt)).collect());
        let kv_bytes = bench.session.verifier().kv_live_bytes();
        let decode = median(
            (0..repeat)
                .map(|_| bench.decode(depth, generated))
                .collect(),
        );
        results.push(Row {
            depth,
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            peak_rss_bytes: resident::peak_bytes(),
            kv_bytes,
        });
    }
    let report = Report {
        model: model.file().path().display().to_string(),
        threads: options.compute.threads,
        isa: options.compute.isa.to_string(),
        prompt,
        r#gen: generated,
        repeat,
        results,
    };
    match args.format {
        ReportFormat::Json => output::print_json(&report)?,
        ReportFormat::Text => output::print(&table(&report))?,
    }
    Ok(())
}

struct Bench {
    session: LocalSession,
    tokens: Vec<u32>,
}

impl Bench {
    fn go_to(&mut self, depth: usize) {
        self.session.reset();
        if depth > 0 {
            self.session.append(&self.tokens[..depth]);
        }
    }

    /// Tokens a second while `prompt` tokens are appended after `depth`.
    fn prefill(&mut self, depth: usize, prompt: usize) -> f64 {
        self.go_to(depth);
        let start = Instant::now();
        self.session.append(&self.tokens[depth..depth + prompt]);
        prompt as f64 / start.elapsed().as_secs_f64()
    }

    /// Tokens a second while `generated` tokens are, greedily, after `depth`.
    fn decode(&mut self, depth: usize, generated: usize) -> f64 {
        self.go_to(depth);
        let mut token = self.tokens[depth];
        let start = Instant::now();
        for _ in 0..generated {
            token = greedy(self.session.append_block(&[token], LogitRows::Last));
        }
        generated as f64 / start.elapsed().as_secs_f64()
    }
}

/// Token ids below `vocabulary` that look random and never change: SplitMix64 (Steele, Lea and Flood 2014) from 0.
fn pseudo_random_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..count)
        .map(|_| (next() % vocabulary as u64) as u32)
        .collect()
}

/// The middle value, or the mean of the two in the middle. `values` has at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn table(report: &Report) -> String {
    let Report {
        model,
        threads,
        isa,
        prompt,
        r#gen,
        repeat,
        results,
    } = report;
    let mut text = format!(
        "{model}\n{threads} threads, {isa}; prefill of {prompt} and decode of {gen} tokens, median of {repeat}\n\n\
         {:>8} {:>14} {:>14} {:>12} {:>12}\n",
        "depth", "prefill tok/s", "decode tok/s", "peak memory", "KV cache"
    );
    for row in results {
        let peak = row
            .peak_rss_bytes
            .map_or_else(|| "unknown".to_owned(), output::bytes);
        text += &format!(
            "{:>8} {:>14.1} {:>14.1} {:>12} {:>12}\n",
            row.depth,
            row.prefill_tokens_per_second,
            row.decode_tokens_per_second,
            peak,
            output::bytes(row.kv_bytes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn the_ids_are_the_same_every_time_and_inside_the_vocabulary() {
        let ids = pseudo_random_ids(1000, 49_152);
        assert_eq!(ids, pseudo_random_ids(1000, 49_152));
        assert_eq!(ids[..500], pseudo_random_ids(500, 49_152));
        assert!(ids.iter().all(|id| *id < 49_152));
        assert!(ids.iter().collect::<std::collections::BTreeSet<_>>().len() > 900);
    }

    #[test]
    fn the_table_has_a_line_for_each_depth() {
        let row = |depth, peak_rss_bytes| Row {
            depth,
            prefill_tokens_per_second: 123.45,
            decode_tokens_per_second: 6.0,
            peak_rss_bytes,
            kv_bytes: 23_592_960,
        };
        let report = Report {
            model: "m.gguf".into(),
            threads: 2,
            isa: "scalar".into(),
            prompt: 512,
            r#gen: 64,
            repeat: 3,
            results: vec![row(0, Some(1 << 30)), row(2048, None)],
        };
        assert_eq!(
            table(&report),
            "m.gguf\n2 threads, scalar; prefill of 512 and decode of 64 tokens, median of 3\n\n   \
             depth  prefill tok/s   decode tok/s  peak memory     KV cache\n       \
             0          123.5            6.0      1.0 GiB     22.5 MiB\n    \
             2048          123.5            6.0      unknown     22.5 MiB\n"
        );
    }
}

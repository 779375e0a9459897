//! `kakeya bench`: how fast this machine runs a model.
//!
//! Prefill at depth D is N prompt tokens appended after D tokens; decode is N tokens generated after D. Batched decode is
//! N tokens for each of B sessions in the same passes. With `--arriving N`, streams decode in a real engine while a prompt
//! of N tokens is appended to another session. Each figure is the median over the repetitions. The tokens are
//! pseudo-random and always the same.

mod arrival;
mod measure;
pub mod speculative;
mod streams;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kakeya_model::{Phase, time_device};
use serde::Serialize;

use super::options::{EngineArgs, Settings, positive};
use super::output::{self, ReportFormat};
use super::proposer::{ProposerArgs, ProposerChoice, Proposing};
use super::session::check_length;
use super::{Failure, Outcome, model, resident};
use arrival::Arrival;
use measure::{Batched, Single, pseudo_random_ids};
use speculative::Speculative;
use streams::StreamsRow;

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
    /// Also measure the decode of so many sessions at once, at the first depth
    #[arg(long, value_name = "B,B,..", value_delimiter = ',', value_parser = positive)]
    batch: Vec<NonZeroUsize>,
    /// Also measure the decode of so many streams of an engine, as a server has them
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = positive)]
    streams: Vec<NonZeroUsize>,
    /// Also measure how long 4 streams wait for their tokens while a prompt of so many tokens is read
    #[arg(long, value_name = "N", value_parser = positive)]
    arriving: Option<NonZeroUsize>,
    /// With --proposer, the text to continue, in which special tokens are read as such [default: pseudo-random tokens, of
    /// which little can be guessed]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    proposer: ProposerArgs,
    /// Measurements of each figure, of which the median is printed
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    repeat: NonZeroUsize,
    /// Also print where the time of a pass goes; with a GPU, the host's part of a step
    #[arg(long)]
    profile: bool,
    /// How the figures are printed
    #[arg(long, value_enum, default_value = "text")]
    format: ReportFormat,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    #[serde(flatten)]
    settings: Settings,
    prompt: usize,
    r#gen: usize,
    repeat: usize,
    /// From the start of the process to the model's first logits: loading, packing and one token.
    first_token_seconds: f64,
    /// Bytes of weights, as packed.
    weight_bytes: u64,
    results: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    batches: Vec<BatchRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    streams: Vec<StreamsRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<Arrival>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculative: Option<Speculative>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    prefill_phases: Option<Phases>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_phases: Option<Phases>,
    /// The part of the time of decoding in which no GPU was at work on a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    decode_host_share: Option<f64>,
}

/// The figures of one number of sessions.
#[derive(Debug, Serialize)]
struct BatchRow {
    sessions: usize,
    depth: usize,
    /// Of all sessions together.
    decode_tokens_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<Phases>,
    /// The part of the time in which no GPU was at work on a pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_share: Option<f64>,
}

/// Microseconds of each phase for one token.
type Phases = Vec<PhaseTime>;

#[derive(Clone, Copy, Debug, Serialize)]
struct PhaseTime {
    phase: &'static str,
    microseconds_per_token: f64,
}

/// Runs `kakeya bench`.
pub fn run(args: BenchArgs) -> Outcome {
    let begun = std::time::Instant::now();
    let options = args.engine.validate()?;
    if args.text.is_some() && *args.proposer.choice() == ProposerChoice::None {
        return Err(Failure::usage(
            "--text is continued to measure a proposer: say which with --proposer",
        ));
    }
    let (model, tokenizer) = if args.text.is_some() || args.proposer.needs_tokenizer() {
        let (model, tokenizer) = model::load_with_tokenizer(&options)?;
        (model, Some(tokenizer))
    } else {
        (model::load(&options)?, None)
    };
    let proposing = args.proposer.load(&options, &model, tokenizer.as_ref())?;
    let (prompt, generated, repeat) = (args.prompt.get(), args.r#gen.get(), args.repeat.get());
    let deepest = args.depth.iter().max().copied().unwrap_or(0);
    let longest = deepest.saturating_add(prompt.max(generated)) as u64;
    check_length(&model, &options, longest).context("--depth with --prompt or --gen")?;
    let arriving = args.arriving.map_or(0, NonZeroUsize::get) as u64;
    check_length(&model, &options, arriving).context("--arriving")?;
    let tokens = pseudo_random_ids(deepest + prompt.max(1), model.config().vocabulary);
    time_device(args.profile);
    let mut bench = Single::new(&model, &options, tokens.clone())?;
    bench.decode(0, 1)?;
    let first_token_seconds = begun.elapsed().as_secs_f64();
    bench.prefill(0, prompt)?;

    let mut results = Vec::with_capacity(args.depth.len());
    for &depth in &args.depth {
        bench.profile(args.profile);
        let prefill = median_of(repeat, || bench.prefill(depth, prompt))?;
        let prefill_phases = bench.phases(repeat * prompt);
        let kv_bytes = bench.kv_live_bytes();
        bench.profile(args.profile);
        let decode = median_of(repeat, || bench.decode(depth, generated))?;
        results.push(Row {
            depth,
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            peak_rss_bytes: resident::peak_bytes(),
            kv_bytes,
            prefill_phases,
            decode_phases: bench.phases(repeat * generated),
            decode_host_share: bench.host_share(),
        });
    }
    drop(bench);
    let depth = args.depth.first().copied().unwrap_or(0);
    let mut batches = Vec::with_capacity(args.batch.len());
    for sessions in args.batch.into_iter().map(NonZeroUsize::get) {
        let mut batched = Batched::new(&model, &options, sessions, &tokens[..depth])?;
        batched.decode(1)?;
        batched.profile(args.profile);
        let decode = median_of(repeat, || batched.decode(generated))?;
        batches.push(BatchRow {
            sessions,
            depth,
            decode_tokens_per_second: decode,
            phases: batched.phases(repeat * generated * sessions),
            host_share: batched.host_share(),
        });
    }
    let streams = args.streams.iter().map(|count| {
        let timed = (generated, repeat);
        streams::measure(&model, &options, &tokens, count.get(), timed)
    });
    let streams = streams.collect::<anyhow::Result<_>>()?;
    let arrival = args
        .arriving
        .map(|prompt| {
            let tokens = pseudo_random_ids(prompt.get(), model.config().vocabulary);
            arrival::measure(&model, &options, &tokens)
        })
        .transpose()?;
    let speculative = match proposing {
        Proposing::None => None,
        proposing => {
            let prompt = match args.text.as_deref().zip(tokenizer.as_ref()) {
                Some((text, tokenizer)) => speculative::prompt(text, tokenizer)?,
                None => pseudo_random_ids(prompt.max(1), model.config().vocabulary),
            };
            check_length(&model, &options, (prompt.len() + generated) as u64).context("--text")?;
            Some(speculative::measure(
                &model,
                &options,
                (args.proposer.choice().to_string(), args.proposer.drafts()),
                &proposing,
                &prompt,
                (generated, repeat),
            )?)
        }
    };
    let report = Report {
        model: model.source().path().display().to_string(),
        settings: options.settings(),
        prompt,
        r#gen: generated,
        repeat,
        first_token_seconds,
        weight_bytes: model.weight_bytes() as u64,
        results,
        batches,
        streams,
        arrival,
        speculative,
    };
    match args.format {
        ReportFormat::Json => output::print_json(&report)?,
        ReportFormat::Text => output::print(&table(&report))?,
    }
    Ok(())
}

/// The median of what `count` runs measure.
fn median_of(count: usize, mut run: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    (0..count)
        .map(|_| run())
        .collect::<Result<_, _>>()
        .map(median)
}

/// The middle value, or the mean of the two in the middle. `values` has at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

fn table(report: &Report) -> String {
    let Report {
        model,
        settings,
        prompt,
        r#gen,
        repeat,
        first_token_seconds,
        weight_bytes,
        results,
        batches,
        streams,
        arrival,
        speculative,
    } = report;
    let mut text = format!(
        "{model}\n{settings}; prefill of {prompt} and decode of {gen} tokens, median of {repeat}; \
         {} of weights, first token after {first_token_seconds:.2} s\n\n\
         {:>8} {:>14} {:>14} {:>12} {:>12}\n",
        output::bytes(*weight_bytes),
        "depth",
        "prefill tok/s",
        "decode tok/s",
        "peak memory",
        "KV cache"
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
    if !batches.is_empty() {
        text += &format!(
            "\n{:>8} {:>14} {:>14}\n",
            "sessions", "depth", "decode tok/s"
        );
    }
    for row in batches {
        text += &format!(
            "{:>8} {:>14} {:>14.1}\n",
            row.sessions, row.depth, row.decode_tokens_per_second
        );
    }
    if !streams.is_empty() {
        text += &format!("\n{:>8} {:>14}\n", "streams", "decode tok/s");
    }
    for row in streams {
        text += &format!("{:>8} {:>14.1}\n", row.streams, row.tokens_per_second);
    }
    let decodes = results
        .iter()
        .map(|row| (format!("decode @{}", row.depth), row.decode_host_share));
    let batched = batches
        .iter()
        .map(|row| (format!("{} x @{}", row.sessions, row.depth), row.host_share));
    let streamed = streams
        .iter()
        .map(|row| (format!("{} streams", row.streams), row.host_share));
    let shares: Vec<String> = decodes
        .chain(batched)
        .chain(streamed)
        .filter_map(|(name, share)| Some(format!("{name} {:.1}%", 100.0 * share?)))
        .collect();
    if !shares.is_empty() {
        text += &format!("\nthe host's part of a step: {}\n", shares.join(", "));
    }
    if let Some(arrival) = arrival {
        text += &format!(
            "\n{} streams beside a prompt of {}, read in {:.1} s: a token every {:.1} ms, {:.2} times the {:.1} ms \
             without (95%: {:.1} and {:.1} ms)\n",
            arrival.streams,
            arrival.prompt,
            arrival.prompt_seconds,
            arrival.beside.median_ms,
            arrival.slowdown,
            arrival.quiet.median_ms,
            arrival.beside.p95_ms,
            arrival.quiet.p95_ms,
        );
    }
    if let Some(found) = speculative {
        let or_none =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        text += &format!(
            "\nproposer {}: {} tokens after {}: {:.1} tok/s, {:.2} times the {:.1} without; {} of {} guesses accepted \
             ({}), {} tokens a verification\n",
            found.proposer,
            found.generated,
            found.prompt,
            found.tokens_per_second,
            found.speedup,
            found.plain_tokens_per_second,
            found.accepted,
            found.drafted,
            or_none(found.acceptance_rate),
            or_none(found.tokens_per_verification),
        );
    }
    let profiles: Vec<(String, &Phases)> = results
        .iter()
        .flat_map(|row| {
            let prefill = row.prefill_phases.iter();
            let decode = row.decode_phases.iter();
            prefill
                .map(|phases| (format!("prefill @{}", row.depth), phases))
                .chain(decode.map(|phases| (format!("decode @{}", row.depth), phases)))
        })
        .chain(batches.iter().filter_map(|row| {
            let phases = row.phases.as_ref()?;
            Some((format!("{} x @{}", row.sessions, row.depth), phases))
        }))
        .collect();
    if !profiles.is_empty() {
        text += "\nmicroseconds a token";
        for (name, _) in &profiles {
            text += &format!(" {name:>14}");
        }
        text += "\n";
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            text += &format!("{:<20}", phase.name());
            for (_, phases) in &profiles {
                text += &format!(" {:>14.1}", phases[index].microseconds_per_token);
            }
            text += "\n";
        }
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
    fn the_table_has_a_line_for_each_depth_and_batch_and_a_column_for_each_profile() {
        let row = |depth, peak_rss_bytes, decode_phases| Row {
            depth,
            prefill_tokens_per_second: 123.45,
            decode_tokens_per_second: 6.0,
            peak_rss_bytes,
            kv_bytes: 23_592_960,
            prefill_phases: None,
            decode_phases,
            decode_host_share: None,
        };
        let phases = Phase::ALL.map(|phase| PhaseTime {
            phase: phase.name(),
            microseconds_per_token: 0.25,
        });
        let report = Report {
            model: "m.gguf".into(),
            settings: Settings::example(),
            prompt: 512,
            r#gen: 64,
            repeat: 3,
            first_token_seconds: 0.187,
            weight_bytes: 1 << 20,
            results: vec![
                row(0, Some(1 << 30), None),
                row(2048, None, Some(phases.to_vec())),
            ],
            batches: vec![BatchRow {
                sessions: 8,
                depth: 0,
                decode_tokens_per_second: 400.0,
                phases: None,
                host_share: Some(0.0312),
            }],
            streams: vec![StreamsRow {
                streams: 4,
                tokens_per_second: 321.0,
                host_share: None,
            }],
            arrival: None,
            speculative: None,
        };
        let text = table(&report);
        let (figures, profile) = text.split_at(text.find("microseconds").expect("a profile"));
        assert_eq!(
            figures,
            "m.gguf\n2 threads, scalar, 4 sinks and window full, f16 KV; prefill of 512 and decode of 64 tokens, median of 3; 1.0 MiB of weights, \
             first token after 0.19 s\n\n   \
             depth  prefill tok/s   decode tok/s  peak memory     KV cache\n       \
             0          123.5            6.0      1.0 GiB     22.5 MiB\n    \
             2048          123.5            6.0      unknown     22.5 MiB\n\n\
             sessions          depth   decode tok/s\n       \
             8              0          400.0\n\n \
             streams   decode tok/s\n       \
             4          321.0\n\n\
             the host's part of a step: 8 x @0 3.1%\n\n"
        );
        let lines: Vec<&str> = profile.lines().collect();
        assert_eq!(lines[0], "microseconds a token   decode @2048");
        assert_eq!(lines[5], "attention                       0.2");
        assert_eq!(lines.len(), 1 + Phase::ALL.len());
    }
}

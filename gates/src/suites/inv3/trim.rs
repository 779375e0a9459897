//! The same, at and across the boundary where positions leave the cache.

use kakeya_core::KvElement;

use super::run::{HISTORIES, Setting, Trace, cache, history};
use crate::context::SuiteContext;
use crate::suite::Case;
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in HISTORIES {
        let body = move |ctx: &SuiteContext| grid(ctx, name, 2, 8, &edges(2, 8));
        cases.push(Case::fast(format!("every_edge_of_2_sinks_and_8.{name}"), body).history(name));
        let body = move |ctx: &SuiteContext| grid(ctx, name, 4, 64, &[137]);
        cases.push(
            Case::fast(
                format!("chunks_at_the_edges_of_4_sinks_and_64.{name}"),
                body,
            )
            .history(name),
        );
        let body = move |ctx: &SuiteContext| grid(ctx, name, 4, 64, &edges(4, 64));
        cases.push(Case::full(format!("every_edge_of_4_sinks_and_64.{name}"), body).history(name));
        let body = move |ctx: &SuiteContext| grid(ctx, name, 0, 9, &[30]);
        cases.push(Case::fast(format!("a_window_without_sinks.{name}"), body).history(name));
        let body = move |ctx: &SuiteContext| grid(ctx, name, 40, 40, &[130]);
        cases
            .push(Case::fast(format!("sinks_over_more_than_a_segment.{name}"), body).history(name));
    }
    cases.push(
        Case::fast("chunks_at_the_edges_with_int8_kv.prose", |ctx| {
            let setting = Setting {
                element: KvElement::Int8,
                ..Setting::new(ctx, cache(4, 64))
            };
            grid_of(ctx, "prose", &setting, (4, 64), &[137])
        })
        .history("prose"),
    );
    cases.push(
        Case::fast("the_default_window_across_its_trim.random", default_window).history("random"),
    );
    cases.push(
        Case::full(
            "three_default_windows_in_chunks_of_one.random",
            three_windows,
        )
        .history("random"),
    );
    cases
}

/// S, W, S + W and 2 (S + W), each one less and one more as well.
fn edges(sink: usize, window: usize) -> Vec<usize> {
    let mut edges: Vec<usize> = [sink, window, sink + window, 2 * (sink + window)]
        .into_iter()
        .flat_map(|edge| [edge - 1, edge, edge + 1])
        .filter(|edge| *edge > 0)
        .collect();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// Every length with every chunk size at the edges, and chunks longer than the window among them.
fn grid(
    ctx: &SuiteContext,
    name: &str,
    sink: usize,
    window: usize,
    lengths: &[usize],
) -> CaseResult {
    let setting = Setting::new(ctx, cache(sink as u32, window as u32));
    grid_of(ctx, name, &setting, (sink, window), lengths)
}

fn grid_of(
    ctx: &SuiteContext,
    name: &str,
    setting: &Setting,
    (sink, window): (usize, usize),
    lengths: &[usize],
) -> CaseResult {
    let longest = lengths.iter().max().copied().unwrap_or(0);
    let tokens = history(ctx, name, longest)?;
    for length in lengths {
        let tokens = &tokens[..*length];
        let singly = Trace::of(ctx, setting, tokens, &[1])?;
        let edges = edges(sink.max(1), window);
        for size in edges.iter().filter(|size| **size > 1).chain([length]) {
            let what = format!(
                "{length} tokens, cache {sink}+{window}, chunks of {size} against chunks of 1"
            );
            Trace::of(ctx, setting, tokens, &[*size])?.ensure_equals(&singly, &what)?;
        }
    }
    Ok(())
}

fn default_window(ctx: &SuiteContext) -> CaseResult {
    let setting = Setting::new(ctx, kakeya_core::CacheConfig::default());
    let tokens = history(ctx, "random", 1100)?;
    let expected = Trace::from(ctx, &setting, &tokens, &[64], 1020)?;
    for chunks in [&[256][..], &[7, 100, 33]] {
        let what = format!("chunks {chunks:?} against 64, across position 1028");
        Trace::from(ctx, &setting, &tokens, chunks, 1020)?.ensure_equals(&expected, &what)?;
    }
    Ok(())
}

fn three_windows(ctx: &SuiteContext) -> CaseResult {
    let setting = Setting::new(ctx, kakeya_core::CacheConfig::default());
    let tokens = history(ctx, "random", 3100)?;
    let expected = Trace::from(ctx, &setting, &tokens, &[256], 3000)?;
    Trace::from(ctx, &setting, &tokens, &[1], 3000)?
        .ensure_equals(&expected, "chunks of 1 against 256, three windows")
}

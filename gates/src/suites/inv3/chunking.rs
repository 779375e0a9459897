//! The chunks a history is appended in do not show.

use kakeya_core::CacheConfig;
use kakeya_runtime::longest_append;

use super::run::{HISTORIES, Setting, Trace, cache, history, random_tokens};
use crate::context::SuiteContext;
use crate::suite::Case;
use kakeya_suite::CaseResult;

/// Tokens of a history that fits the default cache.
const LENGTH: usize = 160;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in HISTORIES {
        for size in [1, 2, 7, 8, 16, 33, 64] {
            let body = move |ctx: &SuiteContext| compare(ctx, name, &[&[size]]);
            cases.push(
                Case::fast(format!("chunks_of_{size}_equal_one_chunk.{name}"), body).history(name),
            );
        }
        let body = move |ctx: &SuiteContext| {
            compare(ctx, name, &[&[2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31]])
        };
        cases.push(Case::fast(format!("prime_chunks_equal_one_chunk.{name}"), body).history(name));
        let body = move |ctx: &SuiteContext| compositions(ctx, name, 4);
        cases.push(
            Case::fast(format!("random_compositions_equal_one_chunk.{name}"), body).history(name),
        );
        let body = move |ctx: &SuiteContext| compositions(ctx, name, 60);
        cases.push(
            Case::full(
                format!("sixty_random_compositions_equal_one_chunk.{name}"),
                body,
            )
            .history(name),
        );
    }
    cases.push(
        Case::fast("the_longest_passes_equal_chunks_of_64.random", longest).history("random"),
    );
    cases
}

/// A GPU reads several chunks of a layout in a pass, each of which a layer stores and attends to after the one before it.
fn longest(ctx: &SuiteContext) -> CaseResult {
    let (length, first) = (700, 640);
    let tokens = history(ctx, "random", length)?;
    let longest = longest_append(ctx.isa());
    // Less than a chunk is in the window, and more than one.
    for cache in [cache(4, 100), cache(2, 300)] {
        let setting = Setting::new(ctx, cache);
        let short = Trace::from(ctx, &setting, &tokens, &[64], first)?;
        for chunks in [&[longest][..], &[1, longest]] {
            Trace::from(ctx, &setting, &tokens, chunks, first)?
                .ensure_equals(&short, &format!("chunks {chunks:?} against chunks of 64"))?;
        }
    }
    Ok(())
}

fn compare(ctx: &SuiteContext, name: &str, chunkings: &[&[usize]]) -> CaseResult {
    let tokens = history(ctx, name, LENGTH)?;
    let setting = Setting::new(ctx, CacheConfig::default());
    let whole = Trace::of(ctx, &setting, &tokens, &[LENGTH])?;
    for chunks in chunkings {
        Trace::of(ctx, &setting, &tokens, chunks)?
            .ensure_equals(&whole, &format!("chunks {chunks:?} against one chunk"))?;
    }
    Ok(())
}

fn compositions(ctx: &SuiteContext, name: &str, count: u64) -> CaseResult {
    let chunkings: Vec<Vec<usize>> = (0..count)
        .map(|seed| {
            random_tokens(24, 40, seed)
                .into_iter()
                .map(|size| size as usize + 1)
                .collect()
        })
        .collect();
    compare(
        ctx,
        name,
        &chunkings.iter().map(Vec::as_slice).collect::<Vec<_>>(),
    )
}

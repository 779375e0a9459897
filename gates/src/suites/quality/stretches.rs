//! Perplexity over a text far longer than the model's context, stretch by stretch.
//!
//! The yardstick is sliding-window recomputation, as in the StreamingLLM paper (Xiao et al. 2023): each token predicted
//! from the tokens of its window alone, in a session of their own. That takes a whole window for every token. Sampled
//! tokens would not do: some passages lean on what is far back and others do not, and the perplexity of a few hundred
//! tokens differs by more than is to be shown. So every token is scored, and neighbours share one recomputation: the
//! first of a group is predicted from half a group less than a window and the last from half a group more, a window in
//! the mean. A case of its own holds this to the recomputation of sampled tokens one by one.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use kakeya_core::{CacheConfig, KvElement, PositionPolicy, Window};

use super::losses::{losses, perplexity, text};
use crate::context::SuiteContext;
use crate::ensure;
use crate::suite::Case;
use kakeya_suite::{CaseFailure, CaseResult};

/// How far a stretch may lie from recomputation.
const LIMIT: f64 = 0.015;
/// The same for the short run, whose tokens are too few to tell more.
const SHORT_LIMIT: f64 = 0.05;

/// What a window of 1024 may cost where the model's context would hold the text. Nobody can know beforehand what a text
/// loses with what is far back; this is half as much again as what was found.
const INSIDE_LIMIT: f64 = 0.1;

/// What is run: a window, and stretches of a text.
#[derive(Clone, Copy, Debug)]
struct Plan {
    window: usize,
    stretches: usize,
    /// Tokens of a stretch.
    length: usize,
    /// Neighbours that share a recomputation.
    group: usize,
}

/// It takes seconds.
const SHORT: Plan = Plan {
    window: 256,
    stretches: 1,
    length: 2500,
    group: 64,
};

const LONG: Plan = Plan {
    window: 1024,
    stretches: 10,
    length: 10_000,
    group: 64,
};

/// The policies that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Streaming,
    Global,
    WithoutSinks,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Streaming, Self::Global, Self::WithoutSinks];

    fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Global => "global",
            Self::WithoutSinks => "without_sinks",
        }
    }

    fn cache(self, window: usize) -> CacheConfig {
        let (sink, positions) = match self {
            Self::Streaming => (4, PositionPolicy::Streaming),
            Self::Global => (4, PositionPolicy::Global),
            Self::WithoutSinks => (0, PositionPolicy::Streaming),
        };
        CacheConfig {
            sink,
            window: Window::Sliding(window as u32),
            positions,
        }
    }
}

/// A cache that keeps everything.
fn full() -> CacheConfig {
    CacheConfig {
        window: Window::Full,
        ..CacheConfig::default()
    }
}

pub fn cases() -> Vec<Case> {
    let recomputed = Arc::<OnceLock<Vec<f64>>>::default();
    let long = |policy| {
        let recomputed = Arc::clone(&recomputed);
        move |ctx: &SuiteContext| {
            let run = Run::of(ctx, LONG, policy, &recomputed)?;
            run.record(ctx)?;
            Ok::<_, CaseFailure>(run)
        }
    };
    let (streaming, global, without) = (
        long(Policy::Streaming),
        long(Policy::Global),
        long(Policy::WithoutSinks),
    );
    vec![
        Case::fast("sinks_keep_what_a_bare_window_loses", short),
        Case::full("perplexity_inside_the_context", inside_the_context),
        Case::full("groups_are_recomputed_like_single_tokens", groups),
        Case::full("a_hundred_thousand_tokens.streaming", move |ctx| {
            let run = streaming(ctx)?;
            run.ensure_like_recomputation()?;
            run.ensure_no_drift(ctx)
        }),
        Case::full("a_hundred_thousand_tokens.global", move |ctx| {
            global(ctx).map(|_| ())
        }),
        Case::full("a_hundred_thousand_tokens.without_sinks", move |ctx| {
            without(ctx)?.ensure_worse()
        }),
    ]
}

/// The perplexities of a run by stretch.
struct Run {
    plan: Plan,
    policy: Policy,
    found: Vec<f64>,
    recomputed: Vec<f64>,
}

impl Plan {
    fn tokens(self) -> usize {
        self.stretches * self.length
    }

    /// The scored tokens of a stretch: those with a whole window before them.
    fn scored(self, stretch: usize) -> Range<usize> {
        let first = stretch * self.length;
        first.max(self.window)..first + self.length
    }

    /// The perplexity of each stretch, recomputed.
    fn recompute(self, ctx: &SuiteContext, tokens: &[u32]) -> Result<Vec<f64>, CaseFailure> {
        let of = |stretch| {
            let scored = self.scored(stretch);
            let mut all = Vec::with_capacity(scored.len());
            for first in scored.clone().step_by(self.group) {
                let group = first..scored.end.min(first + self.group);
                all.extend(self.recompute_group(ctx, tokens, group)?);
            }
            Ok(perplexity(&all))
        };
        (0..self.stretches).map(of).collect()
    }

    /// The losses of neighbours, predicted from a window in the mean.
    fn recompute_group(
        self,
        ctx: &SuiteContext,
        tokens: &[u32],
        group: Range<usize>,
    ) -> Result<Vec<f64>, CaseFailure> {
        let everything = full();
        let before = self.window - group.len() / 2;
        let seen = &tokens[group.start - before..group.end];
        losses(ctx, everything, KvElement::F16, seen, before)
    }
}

impl Run {
    fn of(
        ctx: &SuiteContext,
        plan: Plan,
        policy: Policy,
        shared: &OnceLock<Vec<f64>>,
    ) -> Result<Self, CaseFailure> {
        let tokens = text(ctx, plan.tokens())?;
        let recomputed = match shared.get() {
            Some(known) => known,
            None => {
                let made = plan.recompute(ctx, &tokens)?;
                shared.get_or_init(|| made)
            }
        };
        let cache = policy.cache(plan.window);
        let all = losses(ctx, cache, KvElement::F16, &tokens, plan.window)?;
        let found = (0..plan.stretches).map(|stretch| {
            let Range { start, end } = plan.scored(stretch);
            perplexity(&all[start - plan.window..end - plan.window])
        });
        Ok(Self {
            plan,
            policy,
            found: found.collect(),
            recomputed: recomputed.clone(),
        })
    }

    /// Perplexity over that of recomputation, by stretch.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.found.iter().zip(&self.recomputed);
        pairs.map(|(found, yardstick)| found / yardstick).collect()
    }

    /// The geometric mean of the ratios of all stretches.
    fn overall(&self) -> f64 {
        let ratios = self.ratios();
        (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
    }

    fn record(&self, ctx: &SuiteContext) -> CaseResult {
        let policy = self.policy.name();
        for (stretch, ratio) in self.ratios().into_iter().enumerate() {
            let end = (stretch + 1) * self.plan.length;
            let measure =
                |what: String, value, unit| ctx.measure(&format!("{what}.{end:06}"), value, unit);
            measure(
                format!("perplexity.{policy}"),
                self.found[stretch],
                "perplexity",
            )?;
            measure(
                format!("perplexity_over_recomputation.{policy}"),
                ratio,
                "ratio",
            )?;
            if self.policy == Policy::Streaming {
                let yardstick = self.recomputed[stretch];
                measure("perplexity.recomputed".to_owned(), yardstick, "perplexity")?;
            }
        }
        ctx.measure(
            &format!("perplexity_over_recomputation.{policy}.all"),
            self.overall(),
            "ratio",
        )
    }

    fn ensure_like_recomputation(&self) -> CaseResult {
        for (stretch, ratio) in self.ratios().into_iter().enumerate() {
            ensure!(
                (ratio - 1.0).abs() <= LIMIT,
                "tokens {} to {}: perplexity {} and recomputed {}, apart by more than {}%",
                stretch * self.plan.length,
                (stretch + 1) * self.plan.length,
                self.found[stretch],
                self.recomputed[stretch],
                LIMIT * 100.0
            );
        }
        Ok(())
    }

    /// The later half of the stretches is no further from recomputation than the earlier, by a third of the limit.
    fn ensure_no_drift(&self, ctx: &SuiteContext) -> CaseResult {
        let ratios = self.ratios();
        let (early, late) = ratios.split_at(ratios.len() / 2);
        let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
        let drift = mean(late) / mean(early);
        ctx.measure("drift_of_the_later_half", drift, "ratio")?;
        ensure!(
            drift <= 1.0 + LIMIT / 3.0,
            "the later half of the stretches is {drift} times as far from recomputation as the earlier: {ratios:?}"
        );
        Ok(())
    }

    fn ensure_worse(&self) -> CaseResult {
        let found = self.overall();
        ensure!(
            found > 1.0 + 10.0 * LIMIT,
            "without sinks the perplexity is {found} times that of recomputation: the comparison shows nothing"
        );
        Ok(())
    }
}

/// What sharing a recomputation changes, on tokens spread over the text, each against its group.
fn groups(ctx: &SuiteContext) -> CaseResult {
    const TOKENS: usize = 200;
    let tokens = text(ctx, LONG.tokens())?;
    let (mut single, mut shared) = (Vec::new(), Vec::new());
    for index in 0..TOKENS {
        let stride = (LONG.tokens() - LONG.window - LONG.group) / TOKENS;
        let first = LONG.window + index * stride;
        // Its place in the group goes through the whole group.
        let place = index * 37 % LONG.group;
        let token = first + place;
        single.extend(LONG.recompute_group(ctx, &tokens, token..token + 1)?);
        shared.push(LONG.recompute_group(ctx, &tokens, first..first + LONG.group)?[place]);
    }
    let ratio = perplexity(&shared) / perplexity(&single);
    ctx.measure("recomputed_in_groups_over_singly", ratio, "ratio")?;
    ensure!(
        (ratio - 1.0).abs() <= LIMIT / 3.0,
        "{TOKENS} tokens have {ratio} times the perplexity in groups that they have one by one"
    );
    Ok(())
}

/// The same on a small scale: sinks do what they are for, and the comparison can tell.
fn short(ctx: &SuiteContext) -> CaseResult {
    let recomputed = OnceLock::new();
    for policy in Policy::ALL {
        let run = Run::of(ctx, SHORT, policy, &recomputed)?;
        let found = run.overall();
        let name = format!("perplexity_over_recomputation.{}.short", policy.name());
        ctx.measure(&name, found, "ratio")?;
        match policy {
            Policy::WithoutSinks => run.ensure_worse()?,
            _ => ensure!(
                (found - 1.0).abs() <= SHORT_LIMIT,
                "{} over {} tokens: {found} times the perplexity of recomputation",
                policy.name(),
                SHORT.tokens()
            ),
        }
    }
    Ok(())
}

/// What the window costs where the whole text would fit.
fn inside_the_context(ctx: &SuiteContext) -> CaseResult {
    let length = ctx.model()?.config().context.min(8192);
    let tokens = text(ctx, length)?;
    let of = |cache| losses(ctx, cache, KvElement::F16, &tokens, 1);
    let (full, bounded) = (of(full())?, of(CacheConfig::default())?);
    ensure!(length >= 2048, "the model's context is {length} tokens");
    for end in [2048, 4096, 8192].into_iter().filter(|end| *end <= length) {
        let [full, bounded] = [&full, &bounded].map(|losses| perplexity(&losses[..end - 1]));
        ctx.measure(&format!("perplexity_of_{end}.full"), full, "perplexity")?;
        ctx.measure(
            &format!("perplexity_of_{end}.window_1024"),
            bounded,
            "perplexity",
        )?;
        ensure!(
            bounded / full < 1.0 + INSIDE_LIMIT,
            "over {end} tokens a window of 1024 has perplexity {bounded} and full attention {full}: more than {}% apart",
            INSIDE_LIMIT * 100.0
        );
    }
    Ok(())
}

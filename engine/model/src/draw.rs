//! Drawing a token from logits: rule DRAW of `docs/numerics.md`.
//!
//! What a token weighs is an integer, so what tokens weigh together does not depend on the order in which they are added
//! up. So nobody has to sort them to find the one that is drawn, and whoever looks for it, a GPU too, finds the same.

use crate::isa::Isa;
use crate::kernels::Kernels;

/// What the greatest logit weighs: 2^40. A token that is less than 2^-40 times as likely weighs nothing.
const PEAK: f32 = (1_u64 << 40) as f32;

/// How far below the greatest logit, in temperatures, those are that are looked at first: what is further down is less than a
/// thousandth as likely. And how many of them there may be.
const HEAD: f32 = 7.0;
const MOST_IN_HEAD: usize = 2048;

/// Bits of a rank that tell a bin from the others of its kind, and how many bits the finest bins leave: ids alone.
const BIN_BITS: u32 = 12;
const FINEST: u32 = 28;

/// How a token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "cuda", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Draw {
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// Keeps so many of the greatest logits; 0 keeps all.
    pub top_k: u32,
    /// Keeps the smallest set of most likely tokens whose probabilities reach this; 1 keeps all.
    pub top_p: f32,
    /// Keeps the tokens that are at least this times as likely as the likeliest.
    pub min_p: f32,
    /// Says which of those that are kept: random bits.
    pub random: u64,
}

/// Draws tokens. Its lists are kept from one to the next.
#[derive(Clone, Debug)]
pub struct Drawer {
    isa: Isa,
    /// The tokens that `top_k` keeps, and their logits.
    ids: Vec<u32>,
    logits: Vec<f32>,
    /// What tokens weigh, for a peak of 1, and as fractions.
    terms: Vec<f32>,
    /// What they are worth by bins of logits.
    bins: Vec<u64>,
    /// Ranks, and what they are worth.
    found: Vec<(u64, u64)>,
}

impl Default for Drawer {
    fn default() -> Self {
        Self::on(Isa::detect())
    }
}

/// What of the logits is kept.
#[derive(Clone, Copy)]
struct Kept {
    /// The lowest rank.
    rank: u64,
    /// The least weight.
    weight: u64,
}

impl Kept {
    /// What a token is worth, by its term.
    fn worth(self, rank: u64, term: f32) -> u64 {
        let weight = weight(term);
        match rank >= self.rank && weight >= self.weight {
            true => weight,
            false => 0,
        }
    }
}

impl Drawer {
    /// One that computes with an instruction set of this processor. They all find the same.
    #[must_use]
    pub fn on(isa: Isa) -> Self {
        Self {
            isa,
            ids: Vec::new(),
            logits: Vec::new(),
            terms: Vec::new(),
            bins: Vec::new(),
            found: Vec::new(),
        }
    }

    /// The place in `logits`, of which there is at least one, of the token that is drawn.
    pub fn draw(&mut self, logits: &[f32], draw: &Draw) -> usize {
        if draw.top_k == 0 || draw.top_k as usize >= logits.len() {
            return self.draw_of_all(logits, draw);
        }
        let least = self.reach_in_bins(logits, u64::from(draw.top_k), |_, _| 1);
        let kept = (0..)
            .zip(logits)
            .filter(|(at, logit)| rank(*at, **logit) >= least);
        self.ids.clear();
        self.ids.extend(kept.map(|(at, _)| at));
        let mut kept = std::mem::take(&mut self.logits);
        kept.clear();
        kept.extend(self.ids.iter().map(|at| logits[*at as usize]));
        // Ids ascend, so equal logits are ranked as before.
        let drawn = self.draw_of_all(&kept, draw);
        self.logits = kept;
        self.ids[drawn] as usize
    }

    /// Draws from what `top_k` has kept.
    fn draw_of_all(&mut self, logits: &[f32], draw: &Draw) -> usize {
        let most = logits.iter().map(|logit| key(*logit)).max();
        let top = logits.iter().position(|logit| Some(key(*logit)) == most);
        let top = top.unwrap_or(0);
        let peak = logits[top];
        Kernels::of(self.isa).terms_of(logits, peak, draw.temperature, &mut self.terms);
        // Tokens that are most of what is drawn, and mostly few.
        let head = peak - HEAD * draw.temperature;
        let mut kept = Kept { rank: 0, weight: 0 };
        let mut mass: u64 = self.terms.iter().map(|term| weight(*term)).sum();
        // Where the greatest is not finite, nothing weighs anything.
        if mass == 0 {
            return top;
        }
        if draw.top_p < 1.0 {
            let bound = (f64::from(draw.top_p) * mass as f64).ceil() as u64;
            kept.rank = self.reach(logits, head, bound.clamp(1, mass), kept);
        }
        if draw.min_p > 0.0 {
            kept.weight = (f64::from(draw.min_p) * f64::from(PEAK)).ceil() as u64;
        }
        if draw.top_p < 1.0 || draw.min_p > 0.0 {
            let all = (0..).zip(logits).zip(&self.terms);
            mass = all
                .map(|((at, logit), term)| kept.worth(rank(at, *logit), *term))
                .sum();
        }
        let random = (u128::from(draw.random) * u128::from(mass)) >> u64::BITS;
        place(self.reach(logits, head, random as u64 + 1, kept))
    }

    /// The greatest rank such that the kept tokens from there upwards weigh `bound` together, which all of them do.
    fn reach(&mut self, logits: &[f32], head: f32, bound: u64, kept: Kept) -> u64 {
        self.found.clear();
        // At once, so that draws to come allocate nothing.
        self.found.reserve(MOST_IN_HEAD + 1);
        let mut mass = 0;
        for ((at, logit), term) in (0..).zip(logits).zip(&self.terms) {
            if *logit >= head {
                let rank = rank(at, *logit);
                let worth = kept.worth(rank, *term);
                mass += worth;
                self.found.push((rank, worth));
                if self.found.len() > MOST_IN_HEAD {
                    mass = 0;
                    break;
                }
            }
        }
        if mass >= bound {
            return self.reach_in_found(0, bound);
        }
        let terms = std::mem::take(&mut self.terms);
        let worth = |at: u32, rank| kept.worth(rank, terms[at as usize]);
        let reached = self.reach_in_bins(logits, bound, worth);
        self.terms = terms;
        reached
    }

    /// The same by what tokens are said to be worth.
    fn reach_in_bins(
        &mut self,
        logits: &[f32],
        bound: u64,
        worth: impl Fn(u32, u64) -> u64,
    ) -> u64 {
        let ranked = || (0..).zip(logits).map(|(at, logit)| (at, rank(at, *logit)));
        let (mut above, mut bin) = (0, 0);
        let mut shift = u64::BITS;
        // A bin with many tokens is cut into bins again.
        while shift == u64::BITS || shift > FINEST && is_full(logits, shift, bin) {
            shift -= BIN_BITS;
            self.bins.clear();
            self.bins.resize(1 << BIN_BITS, 0);
            let of_bin = ranked().filter(|(_, rank)| parent(*rank, shift) == bin);
            for (at, rank) in of_bin {
                self.bins[(rank >> shift) as usize % (1 << BIN_BITS)] += worth(at, rank);
            }
            let mut bins = self.bins.iter().enumerate().rev();
            let reached = bins.find(|(_, worth)| {
                above += **worth;
                above >= bound
            });
            let (within, worth_of_bin) = reached.expect("all are worth the bound");
            above -= worth_of_bin;
            bin = bin << BIN_BITS | within as u64;
        }
        self.found.clear();
        self.found.reserve(MOST_IN_HEAD + 1);
        let of_bin = ranked().filter(|(_, rank)| rank >> shift == bin);
        self.found
            .extend(of_bin.map(|(at, rank)| (rank, worth(at, rank))));
        self.reach_in_found(above, bound)
    }

    /// The same among those that were found, where others above them are worth `above`.
    fn reach_in_found(&mut self, mut above: u64, bound: u64) -> u64 {
        self.found.sort_unstable();
        let reached = self.found.iter().rev().find(|(_, worth)| {
            above += worth;
            above >= bound
        });
        reached.expect("they are worth the bound").0
    }
}

/// Whether a bin has more tokens than are found at once.
fn is_full(logits: &[f32], shift: u32, bin: u64) -> bool {
    let ranks = (0..).zip(logits).map(|(at, logit)| rank(at, *logit));
    let of_bin = ranks.filter(|rank| rank >> shift == bin);
    of_bin.take(MOST_IN_HEAD + 1).count() > MOST_IN_HEAD
}

/// What a token of this term weighs. What is no number weighs nothing.
fn weight(term: f32) -> u64 {
    // The product is exact, and it is not negative.
    (term * PEAK) as i64 as u64
}

/// A number that is greater for a greater logit, as `f32::total_cmp` has them.
fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    bits ^ (((bits as i32) >> 31) as u32 | 1 << 31)
}

/// The bin of the kind before, which has the bins that a shift leaves.
fn parent(rank: u64, shift: u32) -> u64 {
    rank.checked_shr(shift + BIN_BITS).unwrap_or(0)
}

/// A token's place among all: greater for a greater logit, and among equals for a lower id. No two have the same.
fn rank(at: u32, logit: f32) -> u64 {
    u64::from(key(logit)) << 32 | u64::from(!at)
}

/// Where the token of a rank stands.
fn place(rank: u64) -> usize {
    !(rank as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Draw = Draw {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        random: 0,
    };

    /// Numbers that look random: SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The rule as it reads: everything sorted, one after the other.
    fn by_the_rule(logits: &[f32], draw: &Draw) -> usize {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        let top = order[0];
        if draw.top_k > 0 {
            order.truncate(draw.top_k as usize);
        }
        let terms = |at: &usize| {
            let mut term = Vec::new();
            Kernels::of(Isa::Scalar).terms_of(
                &logits[*at..=*at],
                logits[top],
                draw.temperature,
                &mut term,
            );
            (f64::from(term[0]) * f64::from(PEAK)) as u64
        };
        let mut kept: Vec<(usize, u64)> = order.iter().map(|at| (*at, terms(at))).collect();
        let mass: u64 = kept.iter().map(|(_, weight)| weight).sum();
        if draw.top_p < 1.0 {
            let bound = (f64::from(draw.top_p) * mass as f64).ceil() as u64;
            let mut sum = 0;
            let reached = kept.iter().position(|(_, weight)| {
                sum += weight;
                sum >= bound.clamp(1, mass.max(1))
            });
            kept.truncate(reached.map_or(kept.len(), |last| last + 1));
        }
        kept.retain(|(_, weight)| *weight as f64 >= f64::from(draw.min_p) * f64::from(PEAK));
        let mass: u64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut left = ((u128::from(draw.random) * u128::from(mass)) >> 64) as u64;
        for (at, weight) in kept {
            if left < weight {
                return at;
            }
            left -= weight;
        }
        top
    }

    #[test]
    fn what_is_drawn_is_what_the_rule_says_on_every_instruction_set() {
        let mut state = 1;
        let odd = [f32::NEG_INFINITY, -0.0, 0.0, f32::MIN, 1e-40, -7.0];
        let mut drawn = std::collections::HashSet::new();
        for round in 0..3000_u64 {
            let count = 1 + random(&mut state) as usize % 300;
            let wide = [0.01, 1.0, 20.0][round as usize % 3];
            let logits: Vec<f32> = (0..count)
                .map(|_| match random(&mut state) {
                    // Some are odd, and some are there several times.
                    number if round % 2 == 0 && number % 5 == 0 => {
                        odd[(number >> 8) as usize % odd.len()]
                    }
                    number => ((number >> 40) as f32 / (1 << 20) as f32 - 8.0).round() * wide,
                })
                .collect();
            let of = |from: &[f32], state: &mut u64| from[random(state) as usize % from.len()];
            let draw = Draw {
                temperature: of(&[1e-30, 0.3, 1.0, 100.0], &mut state),
                top_k: [0, 1, 2, 5, 40, 1000][random(&mut state) as usize % 6],
                top_p: of(&[f32::MIN_POSITIVE, 0.1, 0.9, 0.999_999_9, 1.0], &mut state),
                min_p: of(&[0.0, 1e-20, 0.05, 1.0], &mut state),
                random: [0, u64::MAX, random(&mut state)][random(&mut state) as usize % 3],
            };
            let expected = by_the_rule(&logits, &draw);
            drawn.insert(expected);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
                assert_eq!(
                    Drawer::on(isa).draw(&logits, &draw),
                    expected,
                    "{isa}: {draw:?} of {logits:?}"
                );
            }
        }
        assert!(drawn.len() > 100, "only {drawn:?} were drawn");
    }

    #[test]
    fn logits_that_are_not_finite_draw_the_greatest() {
        for greatest in [f32::INFINITY, f32::NAN] {
            let logits = [1.0, greatest, 2.0, f32::NEG_INFINITY];
            assert_eq!(Drawer::default().draw(&logits, &ALL), 1);
        }
        let nothing = [f32::NEG_INFINITY; 3];
        assert_eq!(Drawer::default().draw(&nothing, &ALL), 0);
    }

    #[test]
    fn what_was_drawn_before_leaves_nothing_behind() {
        let (few, many) = ([3.0, 1.0], [0.5; 5000]);
        let draw = Draw {
            random: u64::MAX,
            ..ALL
        };
        let mut drawer = Drawer::default();
        assert_eq!(drawer.draw(&many, &draw), 4999);
        assert_eq!(drawer.draw(&few, &draw), 1);
        assert_eq!(drawer.draw(&many, &draw), 4999);
    }

    #[test]
    fn random_bits_go_through_the_tokens_from_the_likeliest_on() {
        // Weights 1/2, 1/4, 1 and 1/8: at two to the power of -1, -2, 0 and -3.
        let logits = [-1.0, -2.0, 0.0, -3.0];
        let draw = Draw {
            temperature: std::f32::consts::LOG2_E,
            ..ALL
        };
        let drawn = |eighths: f64| {
            let random = (eighths / 15.0 * 2.0_f64.powi(64)) as u64;
            Drawer::default().draw(&logits, &Draw { random, ..draw })
        };
        // EXP is right to two units in the last place.
        for (eighths, expected) in [
            (0.0, 2),
            (7.99, 2),
            (8.01, 0),
            (11.99, 0),
            (12.01, 1),
            (13.99, 1),
            (14.01, 3),
            (15.0, 3),
        ] {
            assert_eq!(drawn(eighths), expected, "{eighths} of 15");
        }
    }
}

//! How this process's floating-point unit rounds, found by computing.
//!
//! The numerics contract holds for round-to-nearest-even with subnormals kept. A library that was linked in
//! can change these modes for a whole process, so each suite's process looks for itself.

use std::hint::black_box;

use kakeya_evidence::{FloatModes, Rounding};

/// Half the distance from 1 to the next greater `f32`.
const HALF_STEP: f32 = f32::EPSILON / 2.0;

/// Computes a few sums and products whose results depend on the modes.
pub fn observe() -> FloatModes {
    let smallest_subnormal = f32::from_bits(1);
    // The product of a normal number that is subnormal itself, and a normal product of a subnormal.
    let subnormal_result = black_box(f32::MIN_POSITIVE) * black_box(0.5);
    let from_subnormal = black_box(smallest_subnormal) * black_box(f32::MAX);
    FloatModes {
        flush_to_zero: subnormal_result == 0.0,
        denormals_are_zero: from_subnormal == 0.0,
        rounding: rounding(),
    }
}

fn rounding() -> Rounding {
    let add = |a: f32, b: f32| black_box(a) + black_box(b);
    let next = 1.0 + f32::EPSILON;
    let after_next = 1.0 + 2.0 * f32::EPSILON;
    // Both ties must go to the even neighbour, on both sides of zero: no directed mode does that.
    let ties_to_even = add(1.0, HALF_STEP) == 1.0
        && add(next, HALF_STEP) == after_next
        && add(-1.0, -HALF_STEP) == -1.0
        && add(-next, -HALF_STEP) == -after_next;
    let to_nearest = add(1.0, 1.5 * HALF_STEP) == next && add(1.0, 0.5 * HALF_STEP) == 1.0;
    if ties_to_even && to_nearest {
        Rounding::NearestEven
    } else {
        Rounding::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rust_program_starts_in_the_modes_the_contract_asks_for() {
        assert_eq!(
            observe(),
            FloatModes {
                flush_to_zero: false,
                denormals_are_zero: false,
                rounding: Rounding::NearestEven
            }
        );
    }
}

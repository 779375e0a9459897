//! The learning rate over a training: up in a line, and down along half a cosine (Loshchilov and Hutter 2017).

/// Of the highest rate, what is left at the end.
const LAST: f64 = 0.05;

/// The rate of step `step` of `steps`, from 0, of which the first `warmup` warm up.
pub(crate) fn rate(highest: f64, step: u64, warmup: u64, steps: u64) -> f64 {
    if step < warmup {
        return highest * (step + 1) as f64 / warmup as f64;
    }
    let left = steps.saturating_sub(warmup).max(1);
    let done = ((step - warmup) as f64 / left as f64).min(1.0);
    let falling = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done));
    highest * (LAST + (1.0 - LAST) * falling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_in_a_line_and_falls_along_a_cosine() {
        let of = |step| rate(2.0, step, 10, 110);
        assert!((of(0) - 0.2).abs() < 1e-12);
        assert!((of(4) - 1.0).abs() < 1e-12);
        assert!((of(9) - 2.0).abs() < 1e-12);
        assert!((of(10) - 2.0).abs() < 1e-12);
        assert!((of(60) - (0.1 + 0.95)).abs() < 1e-12);
        assert!((of(110) - 0.1).abs() < 1e-12);
        assert!((of(500) - 0.1).abs() < 1e-12);
        assert!(rate(2.0, 0, 0, 0).is_finite());
    }
}

//! Each kernel alone: a row's bits do not depend on how many rows came with it, nor on the instruction set.

use kakeya_model::Isa;
use kakeya_model::probe::{Kernel, Probe, ProbeShape};

use crate::context::SuiteContext;
use crate::ensure_same_bits;
use crate::suite::Case;
use kakeya_suite::CaseResult;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in Kernel::all() {
        let name = kernel.name();
        cases.push(Case::fast(
            format!("row_0_of_{name}_does_not_depend_on_the_rows"),
            move |ctx| rows(ctx, kernel),
        ));
        cases.push(Case::fast(
            format!("{name}_has_the_bits_of_scalar"),
            move |_| scalar(kernel),
        ));
    }
    cases
}

/// What a kernel makes of the first of `rows` rows.
fn row_zero(kernel: Kernel, isa: Isa, rows: usize, seed: u64) -> Vec<f32> {
    let shape = ProbeShape {
        rows,
        inputs: 512,
        outputs: 100,
        keys: 150,
    };
    let mut probe = Probe::new(kernel, isa, shape, seed);
    probe.run();
    probe.row_zero()
}

fn rows(ctx: &SuiteContext, kernel: Kernel) -> CaseResult {
    let one = row_zero(kernel, ctx.isa(), 1, 11);
    for rows in (2..=17)
        .chain(31..=33)
        .chain(63..=65)
        .chain(95..=98)
        .chain(127..=129)
    {
        let found = row_zero(kernel, ctx.isa(), rows, 11);
        ensure_same_bits(
            &format!("row 0 of {rows} against a row alone"),
            &found,
            &one,
        )?;
    }
    Ok(())
}

/// Every instruction set of this processor, so that the slower ones are shown as well.
fn scalar(kernel: Kernel) -> CaseResult {
    for rows in [1, 7, 13] {
        let reference = row_zero(kernel, Isa::Scalar, rows, 23);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            let found = row_zero(kernel, isa, rows, 23);
            ensure_same_bits(
                &format!("{isa} against scalar, {rows} rows"),
                &found,
                &reference,
            )?;
        }
    }
    Ok(())
}

//! Each kernel alone: a row's bits do not depend on how many rows came with it, nor on the instruction set.

use kakeya_model::Isa;
use kakeya_model::probe::{Kernel, row_zero};

use crate::context::SuiteContext;
use crate::ensure_same_bits;
use crate::failure::CaseResult;
use crate::suite::Case;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kernel in Kernel::ALL {
        let name = name(kernel);
        cases.push(Case::fast(
            format!("row_0_of_{name}_does_not_depend_on_the_rows"),
            move |ctx| rows(ctx, kernel),
        ));
        cases.push(Case::fast(
            format!("{name}_has_the_bits_of_scalar"),
            move |ctx| scalar(ctx, kernel),
        ));
    }
    cases
}

fn name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::LinearQ4_1 => "linear_q4_1",
        Kernel::LinearQ8_0 => "linear_q8_0",
        Kernel::LinearF32 => "linear_f32",
        Kernel::Norm => "norm",
        Kernel::SwiGlu => "swiglu",
        Kernel::AttentionF16 => "attention_f16",
        Kernel::AttentionF32 => "attention_f32",
    }
}

fn rows(ctx: &SuiteContext, kernel: Kernel) -> CaseResult {
    let model = ctx.model()?;
    let one = row_zero(kernel, model, ctx.isa(), 1, 11)?;
    for rows in (2..=17).chain(31..=33).chain(63..=65).chain(127..=129) {
        let found = row_zero(kernel, model, ctx.isa(), rows, 11)?;
        ensure_same_bits(
            &format!("row 0 of {rows} against a row alone"),
            &found,
            &one,
        )?;
    }
    Ok(())
}

fn scalar(ctx: &SuiteContext, kernel: Kernel) -> CaseResult {
    let model = ctx.model()?;
    for rows in [1, 7] {
        let reference = row_zero(kernel, model, Isa::Scalar, rows, 23)?;
        let found = row_zero(kernel, model, Isa::detect(), rows, 23)?;
        ensure_same_bits(
            &format!("{} against scalar, {rows} rows", Isa::detect()),
            &found,
            &reference,
        )?;
    }
    Ok(())
}

//! How tokens are drawn, as the commands that generate take it.

use clap::Args;
use kakeya_core::Sampling;

/// Flags of what generates.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 always takes the likeliest token; higher is more varied
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    temperature: f32,
    /// Draw from so many of the likeliest tokens; 0 from all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Draw from the likeliest tokens whose probabilities add up to this
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    top_p: f32,
    /// Draw from the tokens with at least this share of the likeliest one's probability; 0 from all
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    min_p: f32,
    /// Makes what is drawn repeatable [default: random]
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
}

impl SamplingArgs {
    /// The settings, which are not checked.
    pub fn sampling(self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed,
            ..Sampling::default()
        }
    }
}

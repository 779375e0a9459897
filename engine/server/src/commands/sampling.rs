//! How tokens are drawn, as the commands that generate take it.

use clap::Args;
use kakeya_core::Sampling;

/// Flags of what generates. What a command draws like if nothing is said is its own.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 always takes the likeliest token; higher is more varied [default: 0, and 0.2 to chat]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw from so many of the likeliest tokens; 0 from all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Draw from the likeliest tokens whose probabilities add up to this [default: 1, and 0.9 to chat]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
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
    /// The settings, with the `temperature` and the `top_p` of the command where none are given. They are not checked.
    pub fn or(self, temperature: f32, top_p: f32) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(temperature),
            top_k: self.top_k,
            top_p: self.top_p.unwrap_or(top_p),
            min_p: self.min_p,
            seed: self.seed,
            ..Sampling::default()
        }
    }
}

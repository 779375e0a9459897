//! `kakeya align`: a draft head for a model, from collecting what to learn from to saying what it is worth.

mod collect;
mod evaluate;
mod train;

use clap::{Args, Subcommand};

use super::Outcome;

/// Flags of `kakeya align`.
#[derive(Debug, Args)]
pub struct AlignArgs {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Let the model talk, and write down what it says and its states: what a head is trained on
    Collect(collect::CollectArgs),
    /// Train a head on what was collected, for `--proposer head=FILE`
    Train(train::TrainArgs),
    /// Say what a head is worth: how often it is right, and what that brings
    Evaluate(evaluate::EvaluateArgs),
}

/// Runs `kakeya align`.
pub fn run(args: AlignArgs) -> Outcome {
    match args.step {
        Step::Collect(args) => collect::run(args),
        Step::Train(args) => train::run(args),
        Step::Evaluate(args) => evaluate::run(args),
    }
}

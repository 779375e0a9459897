//! The gate's suites under `cargo test`: the same registry, the same model, the fast tier.
//!
//! Names are `suite::case`. Cases run one after the other unless `--test-threads` says otherwise, because
//! they share a few cores and a loaded model. `KAKEYA_TIER=full` runs the full tier, and `KAKEYA_SUITES=model,grpc` these suites
//! alone.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use kakeya_gates::{
    Case, OF_A_GPU, Outcome, Suite, SuiteContext, SuiteSettings, Tier, Workspace, default_model,
    registry, run_case,
};
use kakeya_model::Isa;
use kakeya_model::catalogue::TerminalProgress;
use libtest_mimic::{Arguments, Failed, Trial};

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Error> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let tier = match std::env::var("KAKEYA_TIER") {
        Ok(text) => text.parse()?,
        Err(_) => Tier::Fast,
    };
    let shared = Arc::new(Shared::new(tier)?);
    // Trials own what they run for as long as the process lives.
    let suites: &'static [Suite] = Box::leak(asked(registry())?.into_boxed_slice());
    let mut trials = Vec::new();
    for suite in suites {
        let context = Arc::new(OnceLock::new());
        for case in suite.required(tier) {
            let (context, shared) = (Arc::clone(&context), Arc::clone(&shared));
            trials.push(trial(suite.id(), case, context, shared));
        }
    }
    // The library is content with no tests at all, and a list that lost its suites would look like a pass.
    if trials.is_empty() {
        return Err("no suite has a case, so nothing would be tested".into());
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// The suites that `KAKEYA_SUITES` names, in the order of the registry; where it is not set all of them, but without a GPU not
/// those about what only that does.
fn asked(suites: Vec<Suite>) -> Result<Vec<Suite>, Error> {
    let Ok(text) = std::env::var("KAKEYA_SUITES") else {
        let Err(reason) = Isa::CudaFast.check() else {
            return Ok(suites);
        };
        let (left_out, suites): (Vec<_>, Vec<_>) = suites
            .into_iter()
            .partition(|suite| OF_A_GPU.contains(&suite.id()));
        for suite in left_out {
            eprintln!("suite {} is left out: {reason}", suite.id());
        }
        return Ok(suites);
    };
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let known: Vec<&str> = suites.iter().map(Suite::id).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        let known = known.join(", ");
        return Err(
            format!("KAKEYA_SUITES: there is no suite {name:?}: expected some of {known}").into(),
        );
    }
    Ok(suites
        .into_iter()
        .filter(|suite| names.contains(&suite.id()))
        .collect())
}

/// What the trials share: one loaded model, and one context per suite.
struct Shared {
    workspace: Workspace,
    tier: Tier,
    first: OnceLock<Result<SuiteContext, String>>,
}

impl Shared {
    fn new(tier: Tier) -> Result<Self, Error> {
        Ok(Self {
            workspace: Workspace::find(&std::env::current_dir()?)?,
            tier,
            first: OnceLock::new(),
        })
    }

    /// A context for one more suite. Without a model there is none, and nobody tries twice.
    fn context(&self) -> Result<SuiteContext, String> {
        let first = self
            .first
            .get_or_init(|| self.settings().map(SuiteContext::new));
        first
            .as_ref()
            .map(SuiteContext::for_another_suite)
            .map_err(Clone::clone)
    }

    fn settings(&self) -> Result<SuiteSettings, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let model = default_model(&self.workspace, &mut TerminalProgress::stderr());
        let threads = std::thread::available_parallelism();
        Ok(SuiteSettings {
            model: model.map_err(|error| text(&error))?,
            threads: threads.map_err(|error| text(&error))?.get(),
            isa: Isa::from_env().map_err(|error| text(&error))?,
            tier: self.tier,
            goldens: self.workspace.goldens(),
        })
    }
}

fn trial(
    suite: &str,
    case: &'static Case,
    context: Arc<OnceLock<Result<SuiteContext, String>>>,
    shared: Arc<Shared>,
) -> Trial {
    Trial::test(format!("{suite}::{}", case.name()), move || {
        let context = context.get_or_init(|| shared.context());
        let report = run_case(case, context.as_ref()?);
        match report.outcome {
            Outcome::Passed => Ok(()),
            // The library knows no run-time skip, and a required case that was skipped did not pass.
            Outcome::Skipped | Outcome::Failed => {
                Err(Failed::from(report.message.unwrap_or_default()))
            }
        }
    })
}

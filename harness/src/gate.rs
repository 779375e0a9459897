//! `harness gate`: host, model, suites, evidence, in this order.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use kakeya_evidence::policy::Platform;
use kakeya_evidence::store::{self, Written};
use kakeya_evidence::{
    Build, Counts, Ending, Evidence, GateVerdict, Host, ModelDigest, Outcome, SchemaVersion,
    Source, tree, verdict,
};
use kakeya_gates::{ModelFile, ModelFileError, Workspace, check_registry, registry, resolver};
use kakeya_model::catalogue::TerminalProgress;

use crate::cli::GateArgs;
use crate::conclude;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::fold::{Fold, ProcessEnd, Shown, SuiteRecord};
use crate::plan::{Plan, PlannedSuite, plan};
use crate::progress::{self, Progress};
use crate::{build_facts, doctor, host, policy, source, supervise, table};

/// Runs a platform's gate.
///
/// # Errors
/// When the command makes no sense, the host is another one, or the harness cannot do its own work. A case
/// that fails is not an error but a status.
pub fn run(
    arguments: &GateArgs,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let platform = policy::platform(workspace, &arguments.platform)?;
    let suites = registry();
    if !suites.is_empty() {
        check_registry(&suites)?;
    }
    let plan = plan(arguments, &platform, &suites)?;
    let host = host::observe(workspace.root())?;
    let checks = doctor::compare(&platform, &host);
    if let Some(refusal) = doctor::refusal(&platform, &checks) {
        writeln!(output, "{}", table::checks(&checks))
            .map_err(HarnessError::system("write the table"))?;
        return Err(refusal);
    }
    if plan.cases() == 0 {
        let what = match &arguments.case {
            Some(text) => format!("no case of the {} tier contains `{text}`", plan.tier),
            None => format!("this build has no case of the {} tier", plan.tier),
        };
        let last = Counts::default().last_line();
        writeln!(output, "nothing ran: {what}\n{last}")
            .map_err(HarnessError::system("write the result"))?;
        return Ok(Exit::NothingRan);
    }
    let run = Run {
        started: Timestamp::now(),
        // Without dashes, so that the parts of a file name stay apart.
        id: uuid::Uuid::new_v4().simple().to_string(),
        source: source::observe(workspace.root(), &policy::guarded(workspace)?)?,
        build: build_facts::observe(workspace.root())?,
        gates: policy::gates(workspace)?,
        platform: &platform,
        workspace,
        plan,
        host,
    };
    let (evidence, exit) = run.go()?;
    let directory = match &arguments.out {
        Some(directory) => directory.clone(),
        None => workspace.results(),
    };
    let written = store::write(&directory, &evidence)?;
    report(&evidence, &written, output).map_err(HarnessError::system("write the result"))?;
    Ok(exit)
}

/// A run in progress.
struct Run<'a> {
    started: Timestamp,
    id: String,
    source: Source,
    build: Build,
    gates: kakeya_evidence::policy::GatePolicy,
    platform: &'a Platform,
    workspace: &'a Workspace,
    plan: Plan,
    host: Host,
}

impl Run<'_> {
    fn go(mut self) -> Result<(Evidence, Exit), HarnessError> {
        let program = std::env::current_exe().map_err(HarnessError::system("find this program"))?;
        let (records, models, ending) = match models(self.platform, self.workspace) {
            Ok((model, digests)) => {
                let (records, interrupted) = self.suites(&program, &model)?;
                let ending = if interrupted {
                    Ending::Interrupted
                } else {
                    Ending::Completed
                };
                (records, digests, ending)
            }
            Err(error) => {
                eprintln!("error: {error}");
                let end = ProcessEnd::NotStarted(error.to_string());
                let unstarted = |suite| Self::unstarted(suite, &end);
                let records = self.plan.suites.iter().map(unstarted).collect();
                (records, Vec::new(), Ending::NoModel)
            }
        };
        let guarded = policy::guarded(self.workspace)?;
        self.source.tree_sha256_at_end = tree::digest(self.workspace.root(), &guarded)?.sha256;
        Ok(self.conclude(records, models, ending))
    }

    /// Runs every planned suite. After an interrupt the rest is recorded as not started.
    fn suites(
        &self,
        program: &Path,
        model: &ModelFile,
    ) -> Result<(Vec<SuiteRecord>, bool), HarnessError> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        ctrlc::set_handler(move || {
            // Asked a second time, there is no time left for evidence.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(Exit::SuiteDied.code().into());
            }
        })?;
        let progress = Progress::new(self.plan.cases());
        let mut records = Vec::new();
        for suite in &self.plan.suites {
            if interrupted.load(Ordering::SeqCst) {
                let end = ProcessEnd::NotStarted("the run was interrupted".to_owned());
                records.push(Self::unstarted(suite, &end));
                continue;
            }
            progress.say(&format!(
                "suite {}: {} cases",
                suite.id,
                suite.expected.len()
            ));
            let record = self.suite(suite, program, model, &interrupted, &progress);
            if let Some(detail) = &record.run.detail {
                progress.say(&format!("suite {}: its process {detail}", suite.id));
            }
            records.push(record);
        }
        progress.end();
        Ok((records, interrupted.load(Ordering::SeqCst)))
    }

    fn suite(
        &self,
        suite: &PlannedSuite,
        program: &Path,
        model: &ModelFile,
        interrupted: &AtomicBool,
        progress: &Progress,
    ) -> SuiteRecord {
        let mut command = Command::new(program);
        command
            .current_dir(self.workspace.root())
            .args(["run-suite", "--suite", suite.id])
            .args(["--tier", self.plan.tier.as_str()])
            .args(["--model-name", &model.name, "--model-sha256", &model.sha256])
            .arg("--model-path")
            .arg(&model.path);
        if let Some(text) = &self.plan.selection.case_filter {
            command.args(["--case", text]);
        }
        let mut fold = Fold::new(suite.id, &suite.expected);
        let watched = supervise::watch(
            &mut command,
            suite.limit,
            interrupted,
            |line, at| match fold.line(line, at) {
                Some(Shown::Started(case)) => progress.started(suite.id, &case),
                Some(Shown::Finished(case)) => progress.finished(&case),
                None => {}
            },
        );
        fold.end(
            &watched.end,
            watched.lived,
            suite.limit,
            &watched.last_words,
        )
    }

    fn unstarted(suite: &PlannedSuite, end: &ProcessEnd) -> SuiteRecord {
        Fold::new(suite.id, &suite.expected).end(end, std::time::Duration::ZERO, suite.limit, "")
    }

    fn conclude(
        self,
        records: Vec<SuiteRecord>,
        models: Vec<ModelDigest>,
        ending: Ending,
    ) -> (Evidence, Exit) {
        let mut suites = Vec::new();
        let mut cases = Vec::new();
        let mut measurements = Vec::new();
        for record in records {
            suites.push(record.run);
            cases.extend(record.cases);
            measurements.extend(record.measurements);
        }
        let facts = verdict::Facts {
            partial: self.plan.selection.partial,
            tree_unchanged: self.source.is_unchanged(),
            suites: &suites,
            required: &self.plan.required,
            cases: &cases,
        };
        let verdicts = verdict::verdicts(&self.gates, facts);
        let exit = conclude::exit(ending, &suites, &cases, &verdicts);
        let mut evidence = Evidence {
            schema_version: SchemaVersion::CURRENT,
            run_id: self.id,
            platform: self.platform.name.clone(),
            tier: self.plan.tier.to_string(),
            selection: self.plan.selection,
            started: self.started,
            ended: Timestamp::now(),
            ending,
            exit_status: exit.code(),
            source: self.source,
            build: self.build,
            host: self.host,
            backend: Evidence::agreed(&suites, |run| run.backend.as_ref()),
            float_modes: Evidence::agreed(&suites, |run| run.float_modes.as_ref()),
            models,
            forward_passes: suites.iter().map(|run| run.forward_passes).sum(),
            suites,
            required: self.plan.required,
            counts: Counts::of(&cases),
            cases,
            measurements,
            verdicts,
            summary_text: String::new(),
        };
        evidence.summary_text = conclude::summary(&evidence);
        (evidence, exit)
    }
}

/// The platform's models, fetched where they are missing, all checked. The first is the one suites run.
fn models(
    platform: &Platform,
    workspace: &Workspace,
) -> Result<(ModelFile, Vec<ModelDigest>), ModelFileError> {
    let resolver = resolver(workspace)?;
    let mut digests = Vec::new();
    let mut first = None;
    for name in &platform.models {
        let model = resolver.ensure(name, &mut TerminalProgress::stderr())?;
        for file in &model.files {
            digests.push(ModelDigest {
                name: name.clone(),
                file: file.expected.name.clone(),
                size_bytes: file.expected.size,
                sha256: file.expected.sha256.clone(),
            });
        }
        first.get_or_insert_with(|| ModelFile::from(&model));
    }
    // Policy is refused when it is read if a platform has no model.
    let first = first.ok_or(ModelFileError::NoneAsked)?;
    Ok((first, digests))
}

fn report(evidence: &Evidence, written: &Written, output: &mut impl Write) -> std::io::Result<()> {
    let bad = |case: &&kakeya_evidence::TestCase| case.outcome != Outcome::Passed;
    for case in evidence.cases.iter().filter(bad) {
        writeln!(output, "{}", progress::line(case))?;
    }
    for suite in &evidence.suites {
        if let Some(detail) = &suite.detail {
            writeln!(output, "suite {}: its process {detail}", suite.id)?;
        }
    }
    let row = |verdict: &GateVerdict| {
        vec![
            verdict.gate.clone(),
            verdict.title.clone(),
            verdict.holds.to_string(),
            verdict.reason.clone(),
        ]
    };
    let verdicts = evidence.verdicts.iter().map(row);
    writeln!(
        output,
        "{}",
        table::table(&["gate", "title", "verdict", "why"], verdicts)
    )?;
    writeln!(output, "{}", evidence.summary_text)?;
    writeln!(output, "evidence: {}", written.json.display())?;
    writeln!(output, "{}", evidence.counts.last_line())
}

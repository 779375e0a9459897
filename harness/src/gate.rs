//! `harness gate`: host, model, suites, evidence, in this order.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use kakeya_evidence::policy::{Platform, Policy};
use kakeya_evidence::{
    Build, Counts, Coverage, Ending, Evidence, GateVerdict, Host, Network, Outcome, SchemaVersion,
    Source, canonical, export, sign, tree, verdict, verify,
};
use kakeya_report::Checkpoint;
use kakeya_report::store::{self, Written};
use kakeya_suite::{ModelFile, Workspace, check_registry};

use crate::cli::{Export, GateArgs, SoakArgs};
use crate::conclude;
use crate::error::HarnessError;
use crate::exit::Exit;
use crate::fold::{Fold, ProcessEnd, Shown, SuiteRecord};
use crate::long_run::LongRun;
use crate::plan::{Plan, PlannedSuite, plan};
use crate::progress::{self, Progress};
use crate::subject::Subject;
use crate::weights::{NoWeights, Weights};
use crate::{build_facts, coverage, doctor, host, keys, policy, source, supervise, table};

/// Runs a platform's gate.
///
/// # Errors
/// When the command makes no sense, the host is another one, or the harness cannot do its own work. A case
/// that fails is not an error but a status.
pub fn run<S: Subject>(
    arguments: &GateArgs,
    subject: &S,
    workspace: &Workspace,
    output: &mut impl Write,
) -> Result<Exit, HarnessError> {
    let platform = policy::platform(workspace, &arguments.platform)?;
    let suites = subject.suites();
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
    // What cannot be signed or recorded is found out before the suites run, not after.
    let signers = keys::read_all(&arguments.sign)?;
    let policy = policy::load(policy::Place::Checkout(workspace))?;
    let coverage = arguments
        .coverage
        .as_deref()
        .map(|path| coverage::record(path, workspace, &policy.coverage))
        .transpose()?;
    let run = Run {
        started: Timestamp::now(),
        // Without dashes, so that the parts of a file name stay apart.
        id: uuid::Uuid::new_v4().simple().to_string(),
        source: source::observe(workspace.root(), &policy.guarded, subject.built().commit)?,
        build: build_facts::observe(workspace.root(), subject.built())?,
        policy,
        coverage,
        soak: &arguments.soak,
        subject,
        platform: &platform,
        workspace,
        plan,
        host,
    };
    let directory = match &arguments.out {
        Some(directory) => directory.clone(),
        None => workspace.results(),
    };
    let (mut evidence, exit, checkpoint) = run.go(&directory)?;
    canonical::seal(&mut evidence);
    let envelope = (!signers.is_empty())
        .then(|| sign::sign(&canonical::to_bytes(&evidence), &signers).to_bytes());
    let written = match checkpoint {
        Some(checkpoint) => checkpoint.finish(&mut evidence, envelope.as_deref()),
        None => store::write(&directory, &mut evidence, envelope.as_deref()),
    }?;
    if arguments.export == Some(Export::TestResult) {
        store::write_export(&written.json, &export::test_result(&evidence).to_bytes())?;
    }
    if arguments.out.is_none() {
        crate::report::update_index(workspace)?;
    }
    report(&evidence, &written, output).map_err(HarnessError::system("write the result"))?;
    Ok(exit)
}

/// A run in progress.
struct Run<'a, S> {
    subject: &'a S,
    started: Timestamp,
    id: String,
    source: Source,
    build: Build,
    policy: Policy,
    coverage: Option<Coverage>,
    soak: &'a SoakArgs,
    platform: &'a Platform,
    workspace: &'a Workspace,
    plan: Plan,
    host: Host,
}

impl<S: Subject> Run<'_, S> {
    /// Runs the suites, and the long session where one was asked for, of which checkpoints are kept in `directory`.
    fn go(self, directory: &Path) -> Result<(Evidence, Exit, Option<Checkpoint>), HarnessError> {
        let program = std::env::current_exe().map_err(HarnessError::system("find this program"))?;
        let mut weights = match Weights::ensure(self.platform, self.subject, self.workspace) {
            Ok(weights) => weights,
            Err(NoWeights::Absent(reason)) => {
                eprintln!("error: {reason}");
                let end = ProcessEnd::NotStarted(reason);
                let unstarted = |suite| Self::unstarted(suite, &end);
                let records = self.plan.suites.iter().map(unstarted).collect();
                let mut evidence = self.record(records, None);
                let exit = self.close(&mut evidence, Ending::NoModel)?;
                return Ok((evidence, exit, None));
            }
            Err(NoWeights::Unreadable(error)) => return Err(error),
        };
        let interrupted = listen()?;
        let progress = Progress::new(self.plan.cases());
        let records = self.suites(&program, &weights.first, &interrupted, &progress);
        let mut evidence = self.record(records, Some(&weights));
        let checkpoint = if interrupted.load(Ordering::SeqCst) {
            None
        } else {
            let long = LongRun {
                program: &program,
                model: &weights.first,
                workspace: self.workspace,
                interrupted: &interrupted,
                progress: &progress,
                directory,
            };
            long.run(self.soak, &mut evidence)?
        };
        progress.end();
        weights.observe_again()?;
        evidence.models = weights.files;
        let ending = if interrupted.load(Ordering::SeqCst) {
            Ending::Interrupted
        } else {
            Ending::Completed
        };
        let exit = self.close(&mut evidence, ending)?;
        Ok((evidence, exit, checkpoint))
    }

    /// Runs every planned suite. After an interrupt the rest is recorded as not started.
    fn suites(
        &self,
        program: &Path,
        model: &ModelFile,
        interrupted: &AtomicBool,
        progress: &Progress,
    ) -> Vec<SuiteRecord> {
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
            let record = self.suite(suite, program, model, interrupted, progress);
            if let Some(detail) = &record.run.detail {
                progress.say(&format!("suite {}: its process {detail}", suite.id));
            }
            records.push(record);
        }
        records
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
            .args(["--backend", &self.platform.backend])
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

    /// The record as it stands after the suites, without an end.
    fn record(&self, records: Vec<SuiteRecord>, weights: Option<&Weights>) -> Evidence {
        let mut suites = Vec::new();
        let mut cases = Vec::new();
        let mut measurements = Vec::new();
        for record in records {
            suites.push(record.run);
            cases.extend(record.cases);
            measurements.extend(record.measurements);
        }
        Evidence {
            schema_version: SchemaVersion::CURRENT,
            run_id: self.id.clone(),
            repository: self.policy.request.repository.clone(),
            platform: self.platform.name.clone(),
            tier: self.plan.tier.to_string(),
            source: self.source.clone(),
            selection: self.plan.selection.clone(),
            started: self.started,
            ended: None,
            ending: Ending::Unfinished,
            exit_status: None,
            build: self.build.clone(),
            host: self.host.clone(),
            network: match weights {
                Some(weights) => weights.network.clone(),
                None => Network {
                    offline: is_offline(self.subject, self.workspace),
                    fetched: Vec::new(),
                },
            },
            backend: Evidence::agreed(&suites, |run| run.backend.as_ref()),
            float_modes: Evidence::agreed(&suites, |run| run.float_modes.as_ref()),
            models: weights.map_or_else(Vec::new, |weights| weights.files.clone()),
            forward_passes: suites.iter().map(|run| run.forward_passes).sum(),
            suites,
            required: self.plan.required.clone(),
            counts: Counts::of(&cases),
            cases,
            measurements,
            long_session: None,
            coverage: self.coverage.clone(),
            verdicts: Vec::new(),
            summary_text: String::new(),
            content_sha256: String::new(),
        }
    }

    /// Gives the record its end: the tree and the time as they are now, and what follows from the rest.
    fn close(&self, evidence: &mut Evidence, ending: Ending) -> Result<Exit, HarnessError> {
        let digest = tree::digest(self.workspace.root(), &self.policy.guarded)?;
        evidence.source.tree_sha256_at_end = Some(digest.sha256);
        evidence.ended = Some(Timestamp::now());
        evidence.ending = ending;
        evidence.verdicts = verdict::verdicts(&self.policy.gates, verdict::Facts::of(evidence));
        let exit = conclude::exit(evidence);
        evidence.exit_status = Some(exit.code());
        evidence.summary_text = conclude::summary(evidence);
        Ok(exit)
    }
}

/// The flag that an interrupt raises. Asked a second time, there is no time left for evidence.
fn listen() -> Result<Arc<AtomicBool>, HarnessError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(Exit::SuiteDied.code().into());
        }
    })?;
    Ok(interrupted)
}

fn is_offline<S: Subject>(subject: &S, workspace: &Workspace) -> bool {
    subject
        .models(workspace)
        .is_ok_and(|models| models.is_offline())
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
    for fault in verify::faults_of_the_run(evidence) {
        writeln!(
            output,
            "warning: {fault}: `harness verify` will reject this record ({})",
            fault.code()
        )?;
    }
    writeln!(output, "evidence: {}", written.json.display())?;
    writeln!(output, "{}", evidence.counts.last_line())
}

//! The table of reasons: for each its code, whether it can be waived, what it says, and its page.

use super::{Code, Page, Waivable};

rejections! {
    "Reading a record" => {
        1 Never Unreadable { reason: String }
            "the file cannot be read",
            "the file cannot be read: {reason}",
            "The file is there, and the system does not let it be read. Give it back its permissions, or leave it out.";
        2 Never TooLarge { bytes: u64, limit: u64 }
            "the file is too large",
            "the file has {bytes} bytes, and a record has at most {limit}",
            "A record takes some hundred kilobytes. A file of this size is not read at all. Look at what is in it, and remove it.";
        3 Never Truncated { bytes: usize }
            "the record is cut short",
            "the JSON ends after {bytes} bytes, in the middle of a value",
            "The file lost its end, on a full disk or in a copy. Copy it again from where it was written, or run the gate again.";
        4 Never Malformed { reason: String }
            "the record is not JSON",
            "the file is not JSON: {reason}",
            "A record is one JSON object in UTF-8. NaN and infinity are not JSON, so a record that holds them is refused here.";
        5 Never DuplicateKey { key: String }
            "a key is written twice",
            "the key `{key}` is written twice in one object, and readers disagree on which counts",
            "JSON readers take the first, the last or both of two values under one key. No record is written so. It was edited.";
        6 Never UnknownVersion { found: String, known: String }
            "the version is not known",
            "the record's schema_version is {found}, and this reader knows {known}",
            "The record was written by another generation of the harness. Run the gate of this tree: what an old record meant cannot be guessed.";
        7 Never UnknownValue { reason: String }
            "a value is not one of its kind",
            "a field holds a word that this version does not have: {reason}",
            "Fields such as an outcome have a fixed list of words. One outside the list is no pass and no failure, so nothing can be said.";
        8 Never UnknownField { reason: String }
            "a field is not known",
            "the record has a field that this version does not have: {reason}",
            "A reader that skips what it does not know can be talked into anything. Another version of the harness may have written it.";
        9 Never MissingField { reason: String }
            "a field is missing",
            "the record lacks a field: {reason}",
            "Every field is written, as null where there is nothing to say. A missing one denies.";
        10 Never WrongType { reason: String }
            "a field holds something else",
            "a field does not hold what it should: {reason}",
            "A number stands where a text is expected, or null where a number is: JSON has no NaN, and a measurement that is not a number is none.";
        11 Never NotCanonical { offset: usize }
            "the bytes are not the canonical ones",
            "from byte {offset} on the file is not what the harness writes for this record",
            "A record has one form in bytes: fields in their order, two spaces of indent, the shortest digits. Another form means that an editor or a formatter went over it.";
        12 Never ContentDiffers { found: String, expected: String }
            "the content is not what was written",
            "the record's content has the digest {found}, and says that it should have {expected}",
            "A byte was changed after the run: by hand, by a merge, by a disk. The digest finds accidents; against intent there are signatures. Take the file from where it was written.";
        13 Never Misnamed { expected: String }
            "the file has another run's name",
            "the file should be named {expected}",
            "A record is named after its platform, the time it began, and its run. Another name means that a record was copied to look like two.";
        14 Never RunIdReused { run_id: String, other: String }
            "two records are of one run",
            "run {run_id} is also recorded in {other}",
            "A run has one record. Remove the copy.";
        15 Never JunitDiffers {}
            "the JUnit file tells another story",
            "the .junit.xml beside the record is missing or does not say what the record says",
            "The JUnit file is made from the record, for tools that read nothing else. Write both again by running the gate.";
    }
    "The run" => {
        20 Never NotEnded {}
            "the run has no end",
            "the record has no end: the run was killed, or goes on",
            "What was measured up to the last checkpoint is in the record, and proves nothing about the rest. Run the gate again.";
        21 Never EndsBeforeStart { started: String, ended: String }
            "the run ends before it starts",
            "the run started at {started} and ended at {ended}",
            "The host's clock was set back during the run, or the record was made up. Check the clock and run the gate again.";
        22 Never InTheFuture { time: String, now: String }
            "a time lies in the future",
            "the record speaks of {time}, and now is {now}",
            "The clock of the host that wrote it, or of this one, is wrong by more than five minutes.";
        23 Never NoDuration { what: String }
            "nothing takes no time",
            "{what} took no time at all",
            "Running a model takes time. A passed case or a whole run of zero seconds did not happen.";
        24 Never CaseLongerThanRun { case: String, seconds: String, limit: String }
            "a case is longer than its run",
            "case {case} took {seconds} s, and the run {limit} s",
            "A part cannot be longer than the whole: cases of a suite run one after the other, within its process.";
        25 Never CasesLongerThanSuite { suite: String, seconds: String, limit: String }
            "a suite is shorter than its cases",
            "the cases of suite {suite} took {seconds} s together, and its process lived {limit} s",
            "Cases run one after the other within their suite's process. Durations that do not fit were not measured.";
        26 Never EndedEarly { ending: String }
            "the run did not complete",
            "the run ended as `{ending}`, not as `completed`",
            "It was interrupted, or had no model. The record is kept, since a run that failed is evidence too. It proves no readiness.";
        27 Never Partial { selected: usize, required: usize }
            "the run was a partial one",
            "{selected} of {required} required cases were selected",
            "A run with --suite or --case is for work on one thing. Run the gate without them.";
        28 Never ExitWithoutFailure { status: u8 }
            "a status without a failure",
            "the harness left with status {status}, and no case failed",
            "Something went wrong that the cases do not show. The harness's own output tells more.";
        29 Never SuccessWithFailure { case: String }
            "success in spite of a failure",
            "the harness left with status 0, and case {case} did not pass",
            "The harness never does that. The record was edited.";
        30 Never TierTooLow { found: String, wanted: String }
            "the tier is too low",
            "the {found} tier was run, and {wanted} is asked for",
            "Run the gate with `--tier full`.";
    }
    "Cases" => {
        40 Never NoCases {}
            "no case was run",
            "the record has no case at all",
            "Zero failures out of zero cases is not a pass.";
        41 Never FilterMatchedNothing { filter: String }
            "the filter matched nothing",
            "no case contains `{filter}`",
            "A filter that selects nothing runs nothing. `harness list` shows the cases.";
        42 Each CaseMissing { case: String }
            "a required case is missing",
            "case {case} is required on this platform and is not in the record",
            "The policy at the base names the cases that must run. It may have been renamed or removed by the change: then the policy changes first, in a change of its own.";
        43 Each CaseNotRequired { case: String }
            "a case that the policy does not know",
            "case {case} is in the record and not in the policy",
            "A renamed case shows as one that is missing and one that is not known. `harness required` prints what gates/required.toml should hold.";
        44 Never CaseDuplicated { case: String, times: usize }
            "a case is recorded more than once",
            "case {case} is recorded {times} times",
            "A case has one outcome. A second run that went better does not take back the first.";
        45 Never AllSkipped { count: usize }
            "every case was skipped",
            "all {count} cases were skipped",
            "A run that skips everything tests nothing.";
        46 Each CaseSkipped { case: String, reason: String }
            "a case was skipped",
            "case {case} was skipped: {reason}",
            "Skipped is not passed. If the host cannot run it, the platform should not require it.";
        47 Each CaseFailed { case: String, reason: String }
            "a case failed",
            "case {case} failed: {reason}",
            "The rule it is about does not hold on that host.";
        48 Each CaseDied { case: String, outcome: String, reason: String }
            "a case did not come to its end",
            "case {case} is {outcome}: {reason}",
            "It crashed, ran out of time, or never began. None of these is a pass.";
        49 Never CountsDisagree { stored: String, counted: String }
            "the counts disagree with the cases",
            "the record counts {stored}, and its cases are {counted}",
            "Counts are made from the cases. Where they disagree one of them was edited.";
        50 Never VerdictDisagrees { gate: String, stored: String, computed: String }
            "a verdict is not what the cases say",
            "gate {gate} is recorded as `{stored}`, and computed from the record it is `{computed}`",
            "Verdicts are for readers. They are always computed again, with the policy at the base.";
        51 Each GateDoesNotHold { gate: String, reason: String }
            "a gate does not hold",
            "gate {gate} does not hold: {reason}",
            "The gates are in gates/ga.toml. The reason says which figure or case is short.";
        52 Never SuiteDied { suite: String, ending: String }
            "a suite did not complete",
            "the process of suite {suite} ended as `{ending}`",
            "What a process said before it died is kept, and not believed as a whole.";
        53 Never RequirementsLowered { case: String }
            "the record asks for less than the policy",
            "the record does not list case {case} as required, and the policy does",
            "The list in the record is what the tree under test asked of itself. The policy at the base decides.";
        54 Each Flake { case: String, run_id: String }
            "a failure was followed by a pass",
            "case {case} did not pass in run {run_id} of the same tree on the same platform",
            "A second run that passes does not take back the first. Find out why it failed; a waiver can say that this is known.";
        55 Never Unexplained { case: String }
            "a case did not pass and does not say why",
            "case {case} did not pass, and the record gives no reason",
            "Every case that does not pass says why, and one that passes has nothing to say.";
        56 Never SuitesDisagree { what: String }
            "suites and cases do not belong together",
            "{what}",
            "Each suite that the platform runs has one process in the record, each case belongs to one of them, and what the record says of the run as a whole is what its suites say.";
        57 Never CaseRedefined { case: String, found: String, expected: String }
            "a case says something else of itself than the policy",
            "case {case} is recorded as {found}, and listed as {expected}",
            "Tier and history of a case are in gates/required.toml. A case that names another history counts for one that was never run.";
    }
    "The source" => {
        60 Never OtherTree { found: String, expected: String }
            "the evidence is of another tree",
            "the record is of the tree {found}, and this tree is {expected}",
            "A guarded file changed after the run. Run the gate again on this tree.";
        61 Never Modified { paths: String }
            "guarded files were modified",
            "guarded files differed from the commit: {paths}",
            "Nobody else can have that tree. Commit first, then run the gate.";
        62 Never Staged { paths: String }
            "guarded files were staged",
            "changes to guarded files were staged and not committed: {paths}",
            "Nobody else can have that tree. Commit first, then run the gate.";
        63 Never Untracked { paths: String }
            "guarded files were untracked",
            "guarded files were not in the commit: {paths}",
            "A new file that git does not know is part of what was built. Add it or remove it, then run the gate.";
        64 Never ChangedDuringRun { before: String, after: String }
            "the tree changed during the run",
            "the tree was {before} when the run began and {after} when it ended",
            "Which of the two was tested cannot be known. Leave the checkout alone while a gate runs.";
        65 Never NotThatCommit { commit: String, found: String, expected: String }
            "the tree is not its commit's",
            "the record's tree is {found}, and commit {commit} has {expected}",
            "The commit is named by git or stamped into the harness when it is built. The files that were tested are others.";
        66 Never CommitUnknown { commit: String }
            "the commit is not known here",
            "the record names commit {commit}, which this repository does not have, and the tree had no git of its own",
            "A run in a copied tree is accepted where the tree is that of the commit that its harness was built from. Fetch that commit.";
        67 Never NoCommit { reason: String }
            "no commit is named",
            "the record names no commit: {reason}",
            "Neither git nor the harness could tell a commit. Build the harness in a git checkout before copying the tree.";
        68 Never CheckoutChanged { paths: String }
            "this checkout has changes of its own",
            "guarded files in this checkout differ from its commit: {paths}",
            "Evidence is for a commit. Commit the changes, or put them away, and verify again.";
        69 Never BaseMoved { base: String, paths: String }
            "the base moved on",
            "{base} has changed guarded files since this change left it: {paths}",
            "After the merge the tree is another one, that nobody has tested. Rebase or merge the base, and run the gate again.";
        70 Never LineEndings { paths: String }
            "line endings were changed",
            "this checkout has other line endings than its commit in: {paths}",
            "Git was told to convert line endings (core.autocrlf), so the files are not the ones that were tested. Set core.autocrlf to false or input and check out again.";
        71 Never SourceContradicts { what: String }
            "the source contradicts itself",
            "{what}",
            "What git told and what it did not tell exclude each other. The record was edited.";
        72 Never BuiltElsewhere { found: String, expected: String }
            "the harness was built from another commit",
            "the harness was built from {found}, and run on {expected}",
            "The program that ran holds the engine that was tested. Run it with `cargo run`, which builds what is checked out.";
        73 Never OtherLock { found: String, expected: String }
            "the dependencies are others",
            "the record names a Cargo.lock of {found}, and the tree's is {expected}",
            "The lock is part of the tree, and the record names it once more: the two belong together.";
    }
    "The host" => {
        80 Never UnknownPlatform { platform: String, known: String }
            "the platform is not known",
            "the record is for platform {platform}, and the policy has {known}",
            "Platforms are declared in gates/platforms.";
        81 Never WrongOs { found: String, wanted: String }
            "another operating system",
            "the run was on {found}, and the platform is {wanted}",
            "Run the gate on a host of the platform.";
        82 Never WrongArchitecture { found: String, wanted: String }
            "another architecture",
            "the run was on {found}, and the platform is {wanted}",
            "Run the gate on a host of the platform.";
        83 Never WrongChip { found: String, wanted: String }
            "another processor",
            "the processor was {found}, and the platform has {wanted}",
            "Run the gate on a host of the platform. A processor of another name is another one, however close.";
        84 Whole TooLittleMemory { found: String, wanted: String }
            "too little memory",
            "the host had {found} of memory, and the platform has {wanted}",
            "Run the gate on a host of the platform.";
        85 Whole TooLittleDisk { found: String, wanted: String }
            "too little disk",
            "the host had {found} of free disk, and the platform asks {wanted}",
            "Free some space and run the gate again.";
        86 Never Translated { found: String }
            "the process was translated",
            "the harness did not run natively: {found}",
            "Under Rosetta or qemu-user another processor is imitated. Build the harness for the host's own architecture.";
        87 Never NoAccelerator { found: String, wanted: String }
            "the accelerator is missing",
            "the host's accelerators were {found}, and the platform has {wanted}",
            "Run the gate on a host of the platform.";
        88 Never WrongBackend { suite: String, found: String, wanted: String }
            "another backend computed",
            "suite {suite} computed on {found}, and the platform asks for {wanted}",
            "An engine that falls back to the CPU passes every test of the CPU. What counts is what computed.";
        89 Never Unoptimised { found: String }
            "a debug build",
            "the kernels were built with {found}, and evidence is of optimised ones",
            "Other optimisation, other code. Build as the README says.";
        90 Never WrongToolchain { found: String, wanted: String }
            "another compiler",
            "the harness was built by {found}, and the platform asks for {wanted}",
            "Update the toolchain and run the gate again.";
        91 Never FloatModes { found: String }
            "floating-point modes were changed",
            "the floating-point modes were {found}, and the numerics contract asks for round-to-nearest-even without flushing",
            "Something in the process, or in what started it, set the processor's modes. The same program then computes other bits.";
        92 Never WrongNumerics { found: String, wanted: u32 }
            "another numerics contract",
            "the kernels keep version {found} of the numerics contract, and the policy asks for version {wanted}",
            "A build that is free to reorder is for measuring what exactness costs, and says version 0. A mode of its own keeps a version of its own, in the suites that `numerics_of` in `gates/evidence.toml` names, and nowhere else.";
    }
    "Weights" => {
        100 Never WeightsDiffer { file: String, found: String, expected: String }
            "the weights are others",
            "{file} has the digest {found}, and the lock says {expected}",
            "One flipped byte is enough. `harness prewarm` finds and mends a damaged file.";
        101 Never WeightsSize { file: String, found: u64, expected: u64 }
            "the weights have another size",
            "{file} has {found} bytes, and the lock says {expected}",
            "A file of the right name with other bytes. `harness prewarm` mends it.";
        102 Never RevisionMoved { model: String, found: String, expected: String }
            "the revision is another one",
            "model {model} was read from revision {found}, and the lock says {expected}",
            "A name such as `main` was moved to other bytes. The lock in gates/models.toml decides.";
        103 Never OutsideCache { file: String }
            "the weights lie outside the cache",
            "{file} is a link that leads out of the model cache",
            "What lies elsewhere can change without the cache's notice. Remove the link; `harness prewarm` fetches the file.";
        104 Never LfsPointer { file: String }
            "the weights are a git-lfs pointer",
            "{file} is the text that git-lfs leaves in place of a file",
            "The repository was cloned without git-lfs. `harness prewarm` fetches the file itself.";
        105 Never WeightsChanged { file: String, before: String, after: String }
            "the weights changed during the run",
            "{file} was {before} before the suites ran, and {after} after",
            "What the suites computed with cannot be known. Nothing should write to the model cache while a gate runs.";
        106 Never FetchedOffline { models: String }
            "something was fetched offline",
            "the environment forbade fetching, and {models} was fetched",
            "HF_HUB_OFFLINE=1 means that the network is not used. The harness never does that. The record was edited.";
        107 Never ModelMissing { file: String }
            "a model is missing",
            "the platform runs {file}, and the record does not have it",
            "Without the digest of its weights a run says nothing about a model.";
        108 Never ModelNotLocked { file: String }
            "a model that the lock does not know",
            "the record has {file}, which gates/models.toml does not",
            "Only weights whose digest is in the lock count.";
    }
    "Computing" => {
        120 Never NoForwardPasses { suite: String }
            "nothing was computed",
            "suite {suite} passed without a forward pass of the model",
            "A suite about a model that never ran the model was about something else.";
        121 Each TooFewForwardPasses { case: String, found: u64, least: u64 }
            "too little was computed",
            "case {case} made {found} forward passes, and takes at least {least}",
            "The policy knows what a case costs. One that passes for less skipped its work.";
        122 Never PassesDisagree { what: String, stored: u64, counted: u64 }
            "forward passes do not add up",
            "{what} is recorded with {stored} forward passes, and its parts have {counted}",
            "Passes of a suite are at least those of its cases, and those of the run are those of its suites.";
        123 Never ComparedWithItself { case: String, what: String }
            "a thing was compared with itself",
            "case {case} compared {what} with itself",
            "Everything equals itself. A comparison needs two computations.";
        124 Never NothingCompared { case: String, what: String }
            "nothing was compared",
            "case {case} compared {what} over no values",
            "Two empty streams are equal. That proves nothing.";
        125 Never NoComparison { case: String }
            "a case compared nothing",
            "case {case} passed without a comparison, and comparing is what it is for",
            "Cases of INV-3 compare bits of two computations, and the record names both.";
    }
    "Measurements" => {
        140 Each MeasurementMissing { name: String }
            "a measurement is missing",
            "measurement {name} is required and is not in the record",
            "What was not measured was not met.";
        141 Never MeasurementInvalid { name: String, value: String }
            "a measurement is no quantity",
            "measurement {name} is {value}",
            "Times, rates and sizes are positive numbers. Others come from a broken measurement.";
        142 Never MeasurementTwice { name: String }
            "a measurement is recorded twice",
            "measurement {name} is recorded twice",
            "A figure has one value in a run.";
        143 Each OutsideLimits { name: String, value: String, low: String, high: String }
            "a measurement is outside its limits",
            "measurement {name} is {value}, and should be from {low} to {high}",
            "Limits have two sides: memory that falls by hundreds of megabytes is as strange as memory that grows.";
        144 Never OtherUnit { name: String, found: String, wanted: String }
            "a measurement has another unit",
            "measurement {name} is in {found}, and the policy says {wanted}",
            "Figures in different units are not compared.";
        145 Never CoverageEmpty { module: String }
            "a coverage report of nothing",
            "the coverage report has no line of {module}",
            "An empty report covers everything that is in it.";
        146 Each CoverageLow { module: String, found: String, wanted: String }
            "too little is covered",
            "{found} of the lines of {module} are covered, and {wanted} are asked for",
            "`harness coverage` names the lines. A line that cannot be covered is excused in gates/coverage.toml, with its reason.";
        147 Whole CoverageMissing {}
            "no coverage is recorded",
            "the policy asks for coverage, and the record has none",
            "Run the gate with `--coverage REPORT`.";
    }
    "The long session" => {
        160 Never NoLongSession {}
            "no long session was run",
            "general availability asks for a long session, and the record has none",
            "Run the gate with `--tier full --soak 4h`.";
        161 Never LongSessionShort { found: String, wanted: String }
            "the long session was short",
            "the long session ran {found}, and general availability asks for {wanted}",
            "A shorter one is good for finding faults, and is never called GA.";
        162 Never LongSessionIncomplete { found: String, wanted: String }
            "the long session did not come to its end",
            "the long session ran {found} of {wanted}",
            "It was killed or failed. What it measured up to then is in the record.";
        163 Never BucketsDisagree { reason: String }
            "the buckets do not add up",
            "the long session's time buckets do not add up: {reason}",
            "Buckets follow each other without a gap, inside the run, and their turns are the session's turns.";
    }
    "Signatures" => {
        180 Never Unsigned {}
            "the record is not signed",
            "the policy asks for a signature, and there is no .dsse.json beside the record",
            "Run the gate with `--sign KEY`, or sign the record that is there with `harness sign`.";
        181 Never BadSignature { keys: usize }
            "no signature is good",
            "no signature on the record verifies under any of the {keys} known keys",
            "The envelope was edited, or signed with a key that the policy at the base does not have.";
        182 Never PayloadDiffers {}
            "another record was signed",
            "the record in the signed statement is not the one in the file",
            "One of the two was edited after signing.";
        183 Never PayloadType { found: String, wanted: String }
            "the payload's type is another one",
            "the envelope's payload type is {found}, and should be {wanted}",
            "The type is part of what is signed. An envelope of another type says something else.";
        184 Never KeyExpired { key: String, until: String, signed: String }
            "the key had expired",
            "key {key} was good until {until}, and the run ended at {signed}",
            "Sign with a key that is good now.";
        185 Never KeyTooYoung { key: String, from: String, signed: String }
            "the key was not good yet",
            "key {key} is good from {from}, and the run ended at {signed}",
            "A signature over a time before the key was made is worth nothing.";
        186 Never KeyRevoked { key: String, reason: String }
            "the key is revoked",
            "key {key} is revoked: {reason}",
            "Nothing that a revoked key signed counts, whenever it was signed.";
        187 Never KeyAddedByChange { key: String }
            "the change brings its own key",
            "the record is signed with key {key}, which only this change adds",
            "Keys come from the base. Add the key in a change of its own, that somebody with a key accepts.";
        188 Never TooFewSigners { found: usize, wanted: usize }
            "too few have signed",
            "{found} different keys have signed, and {wanted} are asked for",
            "A key counts once, however often it signs.";
        189 Never OtherRepository { found: String, expected: String }
            "the signature is for another repository",
            "the record is of repository {found}, and this is {expected}",
            "The name is in the policy, so that a record of a fork or a neighbour does not count here.";
        190 Never SubjectDiffers { found: String, expected: String }
            "the statement is about something else",
            "the statement's subject is {found}, and the record is about {expected}",
            "The subject is the guarded tree and the commit of the record. The statement was put together from two runs.";
        191 Never EnvelopeMalformed { reason: String }
            "the envelope cannot be read",
            "the signature's envelope cannot be read: {reason}",
            "It is a DSSE envelope around an in-toto statement. Sign the record again with `harness sign`.";
        192 Never OtherPredicate { found: String, wanted: String }
            "the statement is of another kind",
            "the statement's predicate type is {found}, and should be {wanted}",
            "A test-result statement made for other tools is no evidence: it lacks nearly everything.";
    }
    "The change" => {
        200 Whole PolicyEdited { paths: String }
            "the change edits policy",
            "the change edits the policy that it is judged by: {paths}",
            "It is judged by the policy at the base. So that everybody sees it, policy changes in a change of its own, under a waiver that is at the base already.";
        201 Never KeysEdited { path: String }
            "the change edits keys",
            "the change edits {path}",
            "Who may sign is decided at the base, by those who could sign before. This is never waived: a person with the right to do so merges it.";
        202 Never WaiversEdited { path: String }
            "the change edits waivers",
            "the change edits {path}",
            "A change cannot waive its own faults. Waivers land alone, merged by a person with the right to do so.";
        203 Never EvidenceEdited { path: String, commit: String }
            "committed evidence was edited",
            "{path} was changed in commit {commit}, after it was committed",
            "Evidence is written once. Put the old bytes back, and commit a new run beside it.";
        204 Never EvidenceDeleted { path: String, commit: String }
            "committed evidence was deleted",
            "{path} was deleted in commit {commit}",
            "A record that looks bad is part of the history too. Put it back.";
        205 Never WaiverExpired { waiver: String, expired: String }
            "a waiver has expired",
            "waiver {waiver} expired on {expired}",
            "Mend what it was about, or argue for another one.";
        206 Never WaiverUnreasoned { waiver: String }
            "a waiver without a reason or an owner",
            "waiver {waiver} has no reason or no owner",
            "Whoever reads a report should know why a fault was accepted, and whom to ask.";
        207 Never WaiverTooBroad { waiver: String, why: String }
            "a waiver is too broad",
            "waiver {waiver} is too broad: {why}",
            "A waiver is for one code, one platform, one case or measurement, and at most ninety days. What tells whether a record can be believed is never waived.";
    }
    "The repository" => {
        210 Never NoHistory { reason: String }
            "there is no history",
            "the base cannot be compared with: {reason}",
            "Verifying asks git what the base is and what changed. Make a first commit, or run it in a clone.";
        211 Never Shallow {}
            "the clone is shallow",
            "this clone is shallow, so what happened to evidence earlier cannot be seen",
            "Run `git fetch --unshallow`. In a workflow, check out with the whole history (`fetch-depth: 0`).";
        212 Never BaseUnknown { base: String, reason: String }
            "the base is not known",
            "the base {base} is not a commit here: {reason}",
            "Fetch it, or name another with --base.";
        213 Never NoEvidence { platform: String }
            "there is no evidence",
            "no record for platform {platform} is of this tree",
            "Run `harness gate` on a host of that platform, and commit what it writes.";
        214 Never BaseWithoutPolicy { base: String, path: String }
            "the base has no policy of evidence",
            "the base {base} has no {path}, so nothing there says what evidence a change needs",
            "Policy is read at the base, so that no change can loosen it for itself. A base from before the policy cannot ask for evidence. Bring the policy there first, or name a later base with --base.";
    }
}

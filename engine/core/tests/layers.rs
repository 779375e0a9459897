//! Which crate may depend on which: the LAYER rules of `docs/architecture.md`, held against `cargo metadata`.
//!
//! What a crate depends on is read from the resolved graph, all the way down, and from the crate's own
//! manifest, where a dependency also counts that this host or these features leave out.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Each crate of the workspace, and the crates of the workspace that it may depend on. (LAYER-2, LAYER-4)
const LAYERS: [(&str, &[&str]); 13] = [
    ("kakeya-proto", &[]),
    ("kakeya-client", &["kakeya-proto"]),
    ("kakeya-core", &[]),
    ("kakeya-evidence", &[]),
    ("kakeya-report", &["kakeya-evidence"]),
    ("kakeya-suite", &[]),
    ("kakeya-github", &[]),
    ("kakeya-model", &["kakeya-core"]),
    ("kakeya-runtime", &["kakeya-core", "kakeya-model"]),
    (
        "kakeya-align",
        &["kakeya-core", "kakeya-model", "kakeya-runtime"],
    ),
    (
        "kakeya-server",
        &[
            "kakeya-proto",
            "kakeya-core",
            "kakeya-model",
            "kakeya-runtime",
            "kakeya-align",
        ],
    ),
    (
        "kakeya-gates",
        &[
            "kakeya-proto",
            "kakeya-client",
            "kakeya-core",
            "kakeya-model",
            "kakeya-runtime",
            "kakeya-align",
            "kakeya-server",
            "kakeya-suite",
        ],
    ),
    (
        "harness",
        &[
            "kakeya-proto",
            "kakeya-client",
            "kakeya-core",
            "kakeya-model",
            "kakeya-runtime",
            "kakeya-align",
            "kakeya-server",
            "kakeya-gates",
            "kakeya-suite",
            "kakeya-evidence",
            "kakeya-report",
            "kakeya-github",
        ],
    ),
];

/// The crates that hold without a model. (LAYER-1)
const WITHOUT_TENSORS: [&str; 7] = [
    "kakeya-client",
    "kakeya-core",
    "kakeya-evidence",
    "kakeya-github",
    "kakeya-proto",
    "kakeya-report",
    "kakeya-suite",
];

/// The crates that hold without a network. (LAYER-3)
const WITHOUT_NETWORK: [&str; 4] = [
    "kakeya-core",
    "kakeya-evidence",
    "kakeya-report",
    "kakeya-suite",
];

/// The most crates that evidence may be built from. (LAYER-5)
const CRATES_OF_EVIDENCE: usize = 60;

/// The builds of the harness that leave something out: their features, and what they are then not built from. (LAYER-6)
const LIGHT: [(&str, &[&str]); 3] = [
    ("github", &["candle", "hf-hub", "tonic"]),
    ("engine", &["octocrab"]),
    (
        "",
        &["candle", "octocrab", "hf-hub", "tonic", "hyper", "rustls"],
    ),
];

/// What a crate that speaks over a network ends up with. Tokio is not among them: its channels are in core.
const NETWORK: [&str; 12] = [
    "axum",
    "curl",
    "h2",
    "hf-hub",
    "hyper",
    "octocrab",
    "quinn",
    "reqwest",
    "rustls",
    "tonic",
    "tower-http",
    "ureq",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Part of what the crate is built from: a normal or a build dependency.
    Built,
    /// For its tests alone.
    Dev,
}

/// Who depends on whom. A node is a package's name, or `name@version` where versions are told apart.
#[derive(Default)]
struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<(String, bool)>>,
}

impl Graph {
    fn depend(&mut self, from: &str, on: &str, kind: Kind) {
        let built = kind == Kind::Built;
        self.edges
            .entry(from.to_owned())
            .or_default()
            .insert((on.to_owned(), built));
    }

    /// The names of every package that `root` is built from, and not its own.
    fn built_from<'a>(&'a self, root: &'a str) -> BTreeSet<&'a str> {
        let mut seen = BTreeSet::new();
        let mut next = vec![root];
        while let Some(node) = next.pop() {
            let on = self.edges.get(node).into_iter().flatten();
            next.extend(
                on.filter(|(_, built)| *built)
                    .map(|(on, _)| on.as_str())
                    .filter(|on| seen.insert(*on)),
            );
        }
        seen.into_iter().map(name).collect()
    }

    /// The names of the packages that `root` itself names, for its tests too.
    fn named_by(&self, root: &str) -> BTreeSet<&str> {
        self.edges
            .get(root)
            .into_iter()
            .flatten()
            .map(|(on, _)| name(on))
            .collect()
    }
}

fn name(node: &str) -> &str {
    node.split_once('@').map_or(node, |(name, _)| name)
}

fn is_candle(name: &str) -> bool {
    name == "candle" || name.starts_with("candle-")
}

/// Every violation of the LAYER rules in `graph`, as sentences.
fn violations(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for root in WITHOUT_TENSORS {
        for on in graph
            .built_from(root)
            .into_iter()
            .filter(|on| is_candle(on))
        {
            found.push(format!("LAYER-1: {root} is built from {on}"));
        }
    }
    for (root, allowed) in LAYERS {
        let mut on = graph.built_from(root);
        on.extend(graph.named_by(root));
        for on in on
            .into_iter()
            .filter(|on| graph.members.contains(*on) && !allowed.contains(on))
        {
            found.push(format!(
                "LAYER-2: {root} depends on {on}, which is not below it"
            ));
        }
    }
    for root in WITHOUT_NETWORK {
        for on in graph
            .built_from(root)
            .into_iter()
            .filter(|on| NETWORK.contains(on))
        {
            found.push(format!("LAYER-3: {root} is built from {on}"));
        }
    }
    let placed: BTreeSet<_> = LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for homeless in graph.members.difference(&placed) {
        found.push(format!("LAYER-4: {homeless} has no place in the layers"));
    }
    for missing in placed.difference(&graph.members) {
        found.push(format!(
            "LAYER-4: {missing} has a place in the layers, and is no crate"
        ));
    }
    found
}

fn kind_of(kind: DependencyKind) -> Kind {
    match kind {
        DependencyKind::Development => Kind::Dev,
        _ => Kind::Built,
    }
}

fn graph_of(metadata: &Metadata) -> Graph {
    let mut graph = Graph::default();
    for package in metadata.workspace_packages() {
        graph.members.insert(package.name.to_string());
        for dependency in &package.dependencies {
            graph.depend(&package.name, &dependency.name, kind_of(dependency.kind));
        }
    }
    let node_of = |id| {
        let package = &metadata[id];
        match graph.members.contains(package.name.as_str()) {
            true => package.name.to_string(),
            false => format!("{}@{}", package.name, package.version),
        }
    };
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("cargo metadata resolves the graph");
    let mut resolved = Vec::new();
    for node in &resolve.nodes {
        for dependency in &node.deps {
            for kind in &dependency.dep_kinds {
                resolved.push((
                    node_of(&node.id),
                    node_of(&dependency.pkg),
                    kind_of(kind.kind),
                ));
            }
        }
    }
    for (from, on, kind) in resolved {
        graph.depend(&from, &on, kind);
    }
    graph
}

/// The workspace as cargo resolves it for this host: what was downloaded to build it, so that the test asks
/// the network for nothing.
fn workspace() -> Graph {
    let cargo = Command::new(env!("CARGO"))
        .arg("-vV")
        .output()
        .expect("cargo runs");
    let version = String::from_utf8(cargo.stdout).expect("cargo speaks UTF-8");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("a host line");
    let metadata = MetadataCommand::new()
        // Cargo runs a test in the folder of its package. A path from build time would be that of another checkout
        // where two share a target folder.
        .manifest_path("Cargo.toml")
        .other_options(["--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata reads the workspace");
    graph_of(&metadata)
}

/// A graph that keeps every rule: each crate of the workspace with what it is built from.
fn sound() -> Graph {
    let mut graph = Graph::default();
    for (root, allowed) in LAYERS {
        graph.members.insert(root.to_owned());
        for on in allowed {
            graph.depend(root, on, Kind::Built);
        }
    }
    graph.depend("kakeya-core", "thiserror@2.0.0", Kind::Built);
    graph.depend("kakeya-model", "candle-core@0.11.0", Kind::Built);
    graph.depend("kakeya-proto", "tonic@0.14.0", Kind::Built);
    graph
}

#[test]
fn the_workspace_keeps_every_layer_rule() {
    assert_eq!(violations(&workspace()), [""; 0]);
}

#[test]
fn the_graph_of_the_workspace_reaches_what_is_known_to_be_there() {
    let graph = workspace();
    assert!(
        graph.built_from("kakeya-model").contains("candle-core"),
        "a direct dependency"
    );
    assert!(
        graph.built_from("kakeya-runtime").contains("candle-core"),
        "an indirect one"
    );
    assert!(
        graph.built_from("kakeya-proto").contains("http"),
        "one of another package"
    );
    assert!(
        graph.built_from("kakeya-proto").contains("protox"),
        "a build dependency"
    );
    assert!(
        !graph.built_from("kakeya-core").contains("cargo_metadata"),
        "for tests alone"
    );
    assert!(
        graph.named_by("kakeya-core").contains("cargo_metadata"),
        "for tests alone"
    );
}

#[test]
fn a_sound_graph_has_no_violations() {
    assert_eq!(violations(&sound()), [""; 0]);
}

#[test]
fn layer_1_catches_candle_however_deep_and_in_a_build_script() {
    for root in WITHOUT_TENSORS {
        for candle in ["candle-core@0.11.0", "candle"] {
            let mut graph = sound();
            graph.depend(root, candle, Kind::Built);
            let expected = format!("LAYER-1: {root} is built from {}", name(candle));
            // What is built from the crate is built from it too.
            assert!(violations(&graph).contains(&expected));
        }
        let mut graph = sound();
        graph.depend(root, "innocent@1.0.0", Kind::Built);
        graph.depend("innocent@1.0.0", "deeper@1.0.0", Kind::Built);
        graph.depend("deeper@1.0.0", "innocent@1.0.0", Kind::Built);
        graph.depend("deeper@1.0.0", "candle-nn@0.11.0", Kind::Built);
        let expected = format!("LAYER-1: {root} is built from candle-nn");
        assert!(violations(&graph).contains(&expected));
    }
}

#[test]
fn layer_1_lets_a_test_dependency_be() {
    let mut graph = sound();
    graph.depend("kakeya-evidence", "test-kit@1.0.0", Kind::Dev);
    graph.depend("test-kit@1.0.0", "candle-core@0.11.0", Kind::Built);
    assert_eq!(violations(&graph), [""; 0]);
}

#[test]
fn layer_2_catches_every_upward_dependency_for_tests_too() {
    for (root, allowed) in LAYERS {
        for (on, _) in LAYERS
            .iter()
            .filter(|(on, _)| *on != root && !allowed.contains(on))
        {
            for kind in [Kind::Built, Kind::Dev] {
                let mut graph = sound();
                graph.depend(root, on, kind);
                let expected = format!("LAYER-2: {root} depends on {on}, which is not below it");
                let found = violations(&graph);
                assert!(found.contains(&expected), "{found:?}");
            }
        }
    }
}

#[test]
fn layer_2_catches_a_way_up_through_a_foreign_crate() {
    let mut graph = sound();
    graph.depend("kakeya-core", "innocent@1.0.0", Kind::Built);
    graph.depend("innocent@1.0.0", "kakeya-evidence", Kind::Built);
    let found = violations(&graph);
    let expected = "LAYER-2: kakeya-core depends on kakeya-evidence, which is not below it";
    assert!(found.contains(&expected.to_owned()), "{found:?}");
}

#[test]
fn layer_3_catches_a_network_crate_however_deep() {
    for root in WITHOUT_NETWORK {
        for network in NETWORK {
            let mut graph = sound();
            graph.depend(root, "innocent@1.0.0", Kind::Built);
            graph.depend("innocent@1.0.0", &format!("{network}@1.0.0"), Kind::Built);
            let expected = format!("LAYER-3: {root} is built from {network}");
            assert!(violations(&graph).contains(&expected));
        }
    }
}

#[test]
fn layer_4_catches_a_crate_without_a_place_and_a_place_without_a_crate() {
    let mut graph = sound();
    graph.members.insert("kakeya-new".to_owned());
    assert_eq!(
        violations(&graph),
        ["LAYER-4: kakeya-new has no place in the layers"]
    );
    let mut graph = sound();
    graph.members.remove("kakeya-proto");
    let expected = "LAYER-4: kakeya-proto has a place in the layers, and is no crate";
    assert_eq!(violations(&graph), [expected]);
}

#[test]
fn layer_5_counts_what_evidence_is_built_from() {
    // What whoever verifies builds, and not what the workspace as a whole asks of the same crates.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "kakeya-evidence", "--prefix", "none"])
        .args([
            "--edges",
            "normal,build",
            "--no-dedupe",
            "--manifest-path",
            "Cargo.toml",
        ])
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("cargo speaks UTF-8");
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(crates.contains("kakeya-evidence") && crates.contains("serde_json"));
    let others = crates.len() - 1;
    assert!(
        others < CRATES_OF_EVIDENCE,
        "LAYER-5: kakeya-evidence is built from {others} crates, and may be from fewer than {CRATES_OF_EVIDENCE}"
    );
}

/// The names of all packages that a build of the harness with these features is built from, for this host.
fn harness_with(features: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--quiet",
            "--offline",
            "--locked",
            "--package",
            "harness",
        ])
        .args(["--no-default-features", "--features", features])
        .args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// What of `without` is among the packages, where a name stands for all that begin with it and a dash, too.
fn of<'a>(packages: &'a BTreeSet<String>, without: &[&str]) -> Vec<&'a str> {
    let is_one = |package: &&String| {
        without
            .iter()
            .any(|name| *package == name || package.starts_with(&format!("{name}-")))
    };
    packages.iter().filter(is_one).map(String::as_str).collect()
}

#[test]
fn layer_6_a_harness_without_a_feature_is_not_built_from_what_it_brings() {
    for (features, without) in LIGHT {
        let packages = harness_with(features);
        assert!(packages.contains("kakeya-evidence"), "{packages:?}");
        let found = of(&packages, without);
        assert_eq!(
            found, [""; 0],
            "LAYER-6: harness with [{features}] is built from these"
        );
    }
    // And the features bring it.
    let whole = harness_with("engine,github");
    assert!(!of(&whole, &["candle"]).is_empty() && !of(&whole, &["octocrab"]).is_empty());
}

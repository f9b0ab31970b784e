//! Who may depend on whom, read from cargo's own resolution.
//!
//! The rule that matters most: the relay's dependency graph contains no code that could decrypt. That it cannot read is then a fact of
//! the build, not a promise; the tree is printed so that a person can look too.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::Verdict;
use crate::shell;

/// Each member and the members that it may use in what it ships (tests may use more). A new crate gets a row.
const ARROWS: &[(&str, &[&str])] = &[
    ("bulla-protocol", &[]),
    ("bulla-directory", &["bulla-protocol"]),
    ("bulla-e2ee", &["bulla-protocol"]),
    ("bulla-client", &["bulla-protocol", "bulla-e2ee", "bulla-directory"]),
    ("bulla-tls", &[]),
    ("bulla-relay", &["bulla-protocol", "bulla-directory", "bulla-tls"]),
    ("bulla-gateway", &["bulla-protocol", "bulla-e2ee", "bulla-client", "bulla-directory", "bulla-tls"]),
    ("bulla-web-core", &["bulla-protocol", "bulla-e2ee", "bulla-client", "bulla-directory"]),
    ("bulla", &["bulla-protocol", "bulla-e2ee", "bulla-client", "bulla-gateway", "bulla-directory", "bulla-tls"]),
    ("bulla-bindgen", &[]),
    ("xtask", &[]),
];

/// Members that only tests and measurements use: they may use every other, and nobody ships them.
const TESTS_ONLY: &[&str] = &["bulla-testkit", "bulla-bench"];

/// What must not be in the relay, by the beginning of its name.
const CAN_DECRYPT: &[&str] = &["bulla-e2ee", "bulla-client", "openmls", "hpke", "mls"];

/// What makes a program an end of the encryption.
const ENDPOINT: &[&str] = &["bulla-client", "bulla-e2ee", "openmls"];

/// Features of OpenMLS that print secrets or skip checks.
const MLS_FEATURES: &[&str] = &["test-utils", "content-debug", "crypto-debug"];

/// The programs that are shipped.
const SHIPPED: &[&str] = &["bulla", "bulla-relay", "bulla-web-core"];

/// Features that tests alone have.
const TEST_FEATURES: &[&str] = &["under-test", "sabotage-ack-before-commit", "contract"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dep>,
}

#[derive(Deserialize)]
struct Dep {
    pkg: String,
    dep_kinds: Vec<DepKind>,
}

#[derive(Deserialize)]
struct DepKind {
    /// `null` is a normal dependency.
    kind: Option<String>,
}

/// The resolved graph: for each package, whom it uses in what it ships (also while building).
struct Graph {
    members: BTreeSet<String>,
    ships: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn load() -> Result<Self> {
        let json = shell::stdout_of(&mut shell::cargo(["metadata", "--format-version", "1", "--locked"]))
            .context("cargo metadata (is Cargo.lock up to date?)")?;
        Ok(Self::from_metadata(serde_json::from_slice(&json).context("cargo metadata")?))
    }

    fn from_metadata(metadata: Metadata) -> Self {
        let names: BTreeMap<_, _> = metadata.packages.into_iter().map(|p| (p.id, p.name)).collect();
        let name = |id: &String| names.get(id).cloned().unwrap_or_default();
        let mut graph = Self { members: metadata.workspace_members.iter().map(name).collect(), ships: BTreeMap::new() };
        for node in &metadata.resolve.nodes {
            let shipped = node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind.as_deref() != Some("dev")));
            graph.ships.entry(name(&node.id)).or_default().extend(shipped.map(|d| name(&d.pkg)));
        }
        graph
    }

    /// Everything that `from` reaches.
    fn reach(&self, from: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for next in self.ships.get(at).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    }

    /// Those of `wanted` that `from` does not reach.
    fn not_reached<'a>(&self, from: &str, wanted: &[&'a str]) -> Vec<&'a str> {
        let reached = self.reach(from);
        wanted.iter().copied().filter(|name| !reached.contains(name)).collect()
    }

    /// Breaches of [`ARROWS`], as sentences.
    fn wrong_arrows(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for member in &self.members {
            let used: Vec<_> =
                self.ships.get(member).into_iter().flatten().filter(|used| self.members.contains(*used)).collect();
            if TESTS_ONLY.contains(&member.as_str()) {
                continue;
            }
            match ARROWS.iter().find(|(name, _)| name == member) {
                None => wrong.push(format!("{member} has no row in xtask/src/check/arrows.rs: add one")),
                Some((_, allowed)) => wrong.extend(
                    used.into_iter()
                        .filter(|used| !allowed.contains(&used.as_str()))
                        .map(|used| format!("{member} must not depend on {used}")),
                ),
            }
        }
        wrong
    }

    /// What of the relay's graph could decrypt.
    fn relay_readers(&self) -> Vec<&str> {
        self.reach("bulla-relay").into_iter().filter(|name| CAN_DECRYPT.iter().any(|p| name.starts_with(p))).collect()
    }
}

/// Arrows between the project's crates point down only.
pub(super) fn between_crates() -> Result<Verdict> {
    let graph = Graph::load()?;
    let wrong = graph.wrong_arrows();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(Verdict::Holds(format!("{} crates, arrows point down only", graph.members.len())))
}

/// The relay cannot decrypt, by its dependency tree, which is printed.
pub(super) fn relay_cannot_read() -> Result<Verdict> {
    let tree = ["tree", "--package", "bulla-relay", "--edges", "normal,build", "--target", "all", "--locked"];
    let tree = String::from_utf8(shell::stdout_of(&mut shell::cargo(tree))?)?;
    let root = shell::root().display().to_string();
    println!("{}", tree.replace(&root, ".").trim_end());
    let graph = Graph::load()?;
    let readers = graph.relay_readers();
    if !readers.is_empty() {
        bail!("bulla-relay could decrypt: its tree contains {}", readers.join(", "));
    }
    let all = graph.reach("bulla-relay").len();
    Ok(Verdict::Holds(format!("{all} crates, none of them {}", CAN_DECRYPT.join("*, ") + "*")))
}

/// The gateway is an endpoint: the engine that a customer's device has, and MLS, are part of its build, so that what its API takes is sealed
/// in this very program (P6).
pub(super) fn gateway_is_an_endpoint() -> Result<Verdict> {
    let graph = Graph::load()?;
    let missing = graph.not_reached("bulla-gateway", ENDPOINT);
    if !missing.is_empty() {
        bail!("bulla-gateway does not reach {}: who seals what its API takes?", missing.join(", "));
    }
    Ok(Verdict::Holds(format!("bulla-gateway contains {}", ENDPOINT.join(", "))))
}

/// No feature of OpenMLS that is for its own tests. `cargo tree` and not `cargo metadata`, which also lists what no build uses.
pub(super) fn mls_features() -> Result<Verdict> {
    let mut tree = shell::cargo(["tree", "--workspace", "--edges", "normal,build,dev", "--target", "all", "--locked"]);
    let lines = shell::stdout_of(tree.args(["--prefix", "none", "--format", "{p} | {f}"]))?;
    let (seen, wrong) = findings(&String::from_utf8(lines)?, "openmls", MLS_FEATURES);
    if let Some(wrong) = wrong {
        bail!("{wrong}: it prints secrets or is for OpenMLS's own tests");
    }
    if seen == 0 {
        bail!("no openmls crate in the graph: has it been renamed? mend this check");
    }
    Ok(Verdict::Holds(format!("{seen} openmls crates without {}", MLS_FEATURES.join(", "))))
}

/// What is there for tests is in no program that anybody ships: no witness of keys, no rule that can be broken.
pub(super) fn shipped_features() -> Result<Verdict> {
    let mut tree = shell::cargo(["tree", "--edges", "normal,build", "--target", "all", "--locked", "--prefix", "none"]);
    for program in SHIPPED {
        tree.args(["--package", program]);
    }
    let lines = shell::stdout_of(tree.args(["--format", "{p} | {f}"]))?;
    let (seen, wrong) = findings(&String::from_utf8(lines)?, "bulla", TEST_FEATURES);
    if let Some(wrong) = wrong {
        bail!("{wrong}: that is for tests alone");
    }
    if seen < SHIPPED.len() {
        bail!("{} are not in the graph: have they been renamed? mend this check", SHIPPED.join(", "));
    }
    Ok(Verdict::Holds(format!(
        "{} and {} crates of ours without {}",
        SHIPPED.join(", "),
        seen,
        TEST_FEATURES.join(", ")
    )))
}

/// From lines `openmls v0.9.2 | feature,feature`: how many crates begin with a name, and the first that has a feature which it must not have.
fn findings(tree: &str, name: &str, features: &[&str]) -> (usize, Option<String>) {
    let unwanted = features;
    let mut seen = BTreeSet::new();
    let mut wrong = None;
    for line in tree.lines().filter(|line| line.starts_with(name)) {
        let (package, features) = line.split_once(" | ").unwrap_or((line, ""));
        seen.insert(package);
        let features = features.trim_end_matches(" (*)").split(',');
        if let Some(feature) = features.into_iter().find(|f| unwanted.contains(f)) {
            wrong.get_or_insert(format!("{package} is built with {feature}"));
        }
    }
    (seen.len(), wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(ships: &[(&str, &[&str])]) -> Graph {
        let ships: BTreeMap<String, BTreeSet<String>> = ships
            .iter()
            .map(|(name, used)| ((*name).to_owned(), used.iter().map(|u| (*u).to_owned()).collect()))
            .collect();
        let members = ships.keys().filter(|n| n.starts_with("bulla") || *n == "stray").cloned().collect();
        Graph { members, ships }
    }

    #[test]
    fn a_relay_that_reaches_mls_through_another_crate_is_found() {
        let clean = graph(&[("bulla-relay", &["bulla-protocol"]), ("bulla-protocol", &["prost"])]);
        assert!(clean.relay_readers().is_empty());
        let dirty = graph(&[("bulla-relay", &["handy"]), ("handy", &["openmls_traits"]), ("bulla-protocol", &[])]);
        assert_eq!(dirty.relay_readers(), ["openmls_traits"]);
    }

    #[test]
    fn a_gateway_that_leaves_the_sealing_to_others_is_found() {
        let whole: &[(&str, &[&str])] = &[
            ("bulla-gateway", &["bulla-client"]),
            ("bulla-client", &["bulla-e2ee"]),
            ("bulla-e2ee", &["openmls"]),
            ("openmls", &[]),
        ];
        assert!(graph(whole).not_reached("bulla-gateway", ENDPOINT).is_empty());
        assert_eq!(graph(&whole[1..]).not_reached("bulla-gateway", ENDPOINT), ENDPOINT);
        let thin = graph(&[("bulla-gateway", &["bulla-client"]), ("bulla-client", &[])]);
        assert_eq!(thin.not_reached("bulla-gateway", ENDPOINT), ["bulla-e2ee", "openmls"]);
    }

    #[test]
    fn an_arrow_that_points_up_is_found_and_so_is_a_crate_without_a_row() {
        let up = graph(&[("bulla-protocol", &["bulla-e2ee"]), ("bulla-e2ee", &["bulla-protocol"])]);
        assert_eq!(up.wrong_arrows(), ["bulla-protocol must not depend on bulla-e2ee"]);
        let shipped_tests = graph(&[("bulla-gateway", &["bulla-testkit"]), ("bulla-testkit", &["bulla-relay"])]);
        assert_eq!(shipped_tests.wrong_arrows(), ["bulla-gateway must not depend on bulla-testkit"]);
        assert!(graph(&[("stray", &[])]).wrong_arrows()[0].contains("has no row"));
    }

    #[test]
    fn a_dependency_of_tests_is_not_shipped() {
        let metadata = serde_json::json!({
            "packages": [{"id": "r", "name": "bulla-relay"}, {"id": "m", "name": "openmls"}],
            "workspace_members": ["r"],
            "resolve": {"nodes": [
                {"id": "r", "deps": [{"pkg": "m", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "m", "deps": []},
            ]},
        });
        let graph = Graph::from_metadata(serde_json::from_value(metadata).unwrap());
        assert!(graph.relay_readers().is_empty());
    }

    #[test]
    fn a_feature_for_mls_own_tests_is_found() {
        let good = "openmls v0.9.2 | default,draft\nopenmls_traits v0.6.0 | \nopenmls v0.9.2 | default (*)\n";
        let mls = |tree| findings(tree, "openmls", MLS_FEATURES);
        assert_eq!(mls(good), (2, None));
        let (_, wrong) = mls("openmls v0.9.2 | default,test-utils (*)");
        assert_eq!(wrong.as_deref(), Some("openmls v0.9.2 is built with test-utils"));
        assert_eq!(mls("serde v1.0.0 | test-utils"), (0, None));
        let (_, wrong) = findings("bulla-e2ee v0.1.0 (/x) | under-test", "bulla", TEST_FEATURES);
        assert!(wrong.is_some_and(|wrong| wrong.ends_with("is built with under-test")));
    }
}

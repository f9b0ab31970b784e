//! What must not stand in a committed file: notes to self, paths of somebody's machine, package hosts other than the public ones.

use std::process::Command;

use anyhow::{Result, bail};

use super::Verdict;
use crate::shell;

/// Words of unfinished work, written in two halves so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
    concat!("it.on", "ly("),
    concat!("test.on", "ly("),
    concat!("it.sk", "ip("),
    concat!("test.sk", "ip("),
];

/// Beginnings of paths that exist on one machine only.
const PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("../sha", "red"),
];

/// Ways to name a package host in a file of the project: packages come from the public registries by their default names.
const HOSTS: &[&str] = &[
    concat!("--index", "-url"),
    concat!("--extra-index", "-url"),
    concat!("--find", "-links"),
    concat!("replace", "-with"),
];

/// A file with more lines is listed: is it still one idea?
const LONG: usize = 800;

/// Where code is, as opposed to prose: an essay may say that something is yet to be done.
const CODE: &[&str] = &["rs", "py", "mjs", "js", "ts", "svelte", "sh", "proto", "toml", "yml", "yaml"];

/// Fixtures and lock files are made by machines, and Meta's description of its API by Meta.
fn is_made(path: &str) -> bool {
    let folders = ["/corpus/", "/fixtures/", "sdk-tests/openapi/"];
    path.ends_with(".lock") || path.ends_with("-lock.json") || folders.iter().any(|folder| path.contains(folder))
}

/// Whether the word stands where a path begins: inside a longer one (`bulla/1/…`) it means something else.
fn begins_a_path(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c)))
}

/// What is wrong in one file.
fn findings(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let extension = path.rsplit('.').next().unwrap_or_default();
    let prose = !CODE.contains(&extension);
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        let mut tell = |words: &[&str], stands: fn(&str, &str) -> bool, what: &str| {
            if let Some(word) = words.iter().find(|word| stands(line, word)) {
                found.push(format!("{path}:{at}: {what}: {word}"));
            }
        };
        if !is_made(path) {
            tell(PATHS, begins_a_path, "a path of one machine");
            tell(HOSTS, |line, word| line.contains(word), "a package host");
            if !prose {
                tell(UNFINISHED, |line, word| line.contains(word), "unfinished");
            }
        }
        if path.ends_with("Cargo.lock")
            && line.starts_with("source = ")
            && line != r#"source = "registry+https://github.com/rust-lang/crates.io-index""#
        {
            found.push(format!("{path}:{at}: not from crates.io"));
        }
        if path.ends_with("-lock.json")
            && line.contains(r#""resolved":"#)
            && !line.contains(r#""resolved": "https://registry.npmjs.org/"#)
        {
            found.push(format!("{path}:{at}: not from registry.npmjs.org"));
        }
    }
    found
}

/// Looks through every file that git knows or would add.
pub(super) fn check() -> Result<Verdict> {
    let mut git = Command::new("git");
    git.current_dir(shell::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = String::from_utf8(shell::stdout_of(&mut git)?)?;
    let (mut files, mut found, mut long) = (0, Vec::new(), Vec::new());
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        // Not text, or deleted in the work tree: nothing to read.
        let Ok(text) = std::fs::read_to_string(shell::root().join(path)) else { continue };
        files += 1;
        found.extend(findings(path, &text));
        let lines = text.lines().count();
        if lines > LONG && CODE.iter().any(|extension| path.ends_with(&format!(".{extension}"))) && !is_made(path) {
            long.push((lines, path));
        }
    }
    long.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, path) in &long {
        println!("      {lines} lines: {path} (is it one idea?)");
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(Verdict::Holds(format!("{files} files, {} of them over {LONG} lines", long.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_word_is_found_with_file_and_line() {
        let code = format!("fn a() {{}}\n// {}: later\n", concat!("TO", "DO"));
        assert_eq!(findings("a.rs", &code), [format!("a.rs:2: unfinished: {}", concat!("TO", "DO"))]);
        assert_eq!(findings("README.md", &code), Vec::<String>::new(), "prose may speak of what is to be done");
        let path = format!("see {}somebody/notes", concat!("/ho", "me/"));
        assert_eq!(findings("docs/a.md", &path).len(), 1);
        assert!(findings("a.rs", concat!("label(b\"bulla/1/wo", "rk/mailbox\")")).is_empty(), "a label is not a path");
        assert_eq!(findings("requirements.txt", concat!("--index", "-url https://packages.example")).len(), 1);
    }

    #[test]
    fn packages_come_from_the_public_registries() {
        assert_eq!(findings("Cargo.lock", "source = \"git+https://example.com/x\"").len(), 1);
        assert!(
            findings("Cargo.lock", "source = \"registry+https://github.com/rust-lang/crates.io-index\"").is_empty()
        );
        let npm =
            |host: &str| findings("x/package-lock.json", &format!("\"resolved\": \"https://{host}/a/-/a-1.tgz\""));
        assert!(npm("registry.npmjs.org").is_empty());
        assert_eq!(npm("packages.example").len(), 1);
    }
}

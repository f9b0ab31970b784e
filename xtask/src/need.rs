//! What must be installed before a task can run, and the one line that says how.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program that a task cannot do without.
pub(crate) struct Need {
    /// Name in what is printed.
    pub(crate) name: &'static str,
    /// How its version is asked for.
    pub(crate) probe: &'static [&'static str],
    /// Least major and minor version.
    pub(crate) least: (u32, u32),
    /// What installs it.
    pub(crate) install: &'static str,
}

/// The compiler, as the workspace asks for.
pub(crate) const RUST: Need = Need {
    name: "rust",
    probe: &["rustc", "--version"],
    least: (1, 95),
    install: "see https://rustup.rs, or your distribution's package",
};

/// For the SDK tests and the relay client written from the contract. The SDKs ask for 3.10.
pub(crate) const PYTHON: Need = Need {
    name: "python",
    probe: &["python3", "--version"],
    least: (3, 10),
    install: "apt-get install python3 python3-venv",
};

/// For the SDK tests.
pub(crate) const NODE: Need =
    Need { name: "node", probe: &["node", "--version"], least: (18, 0), install: "apt-get install nodejs npm" };

/// For the web app, which is built with Vite.
pub(crate) const NODE_FOR_APP: Need = Need { least: (20, 19), ..NODE };

impl Need {
    /// Whether it is there, and new enough.
    pub(crate) fn is_there(&self) -> bool {
        self.version().as_deref().and_then(major_minor).is_some_and(|have| have >= self.least)
    }

    /// Whether what a program says of its version is new enough.
    pub(crate) fn is_met_by(&self, said: &str) -> bool {
        version_in(said).as_deref().and_then(major_minor).is_some_and(|have| have >= self.least)
    }

    /// The version that is there, if it is there.
    fn version(&self) -> Option<String> {
        let (program, args) = self.probe.split_first()?;
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
        version_in(&String::from_utf8_lossy(&output.stdout))
    }
}

/// The first word that is a version.
fn version_in(text: &str) -> Option<String> {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// Prints the line `need  rust 1.95 ✓ …` and fails, with the commands, if something is missing or too old.
pub(crate) fn check(needs: &[&Need]) -> Result<()> {
    let mut line = String::from("need      ");
    let mut missing = Vec::new();
    for need in needs {
        let version = need.version();
        let good = version.as_deref().and_then(major_minor).is_some_and(|have| have >= need.least);
        line.push_str(&match (&version, good) {
            (Some(version), true) => format!("{} {version} ✓   ", need.name),
            (Some(version), false) => format!("{} {version} ✗   ", need.name),
            (None, _) => format!("{} ✗   ", need.name),
        });
        if !good {
            missing.push(format!("{} {}.{} or newer ({})", need.name, need.least.0, need.least.1, need.install));
        }
    }
    println!("{}", line.trim_end());
    if !missing.is_empty() {
        bail!("missing: {}", missing.join("; "));
    }
    Ok(())
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|m| m.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_not_by_text() {
        assert_eq!(major_minor("1.95.0"), Some((1, 95)));
        assert!(major_minor("1.100.0") > major_minor("1.95.0"));
        assert!(major_minor("20.20.2") > major_minor("18.0"));
        assert_eq!(major_minor("nightly"), None);
    }

    #[test]
    fn something_that_is_not_there_is_said_with_its_command() {
        let absent = Need {
            name: "nothing",
            probe: &["no-such-program-here"],
            least: (1, 0),
            install: "apt-get install nothing",
        };
        let error = check(&[&absent]).unwrap_err().to_string();
        assert!(error.contains("nothing 1.0 or newer (apt-get install nothing)"), "{error}");
    }
}

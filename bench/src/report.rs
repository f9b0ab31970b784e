//! The figures for people (a table, a page) and for programs (JSON).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::bench::{Figure, Group};
use crate::machine::Machine;
use crate::plot;
use crate::stats::{Spread, percentile};

/// The layout of the JSON file.
const FORMAT: u32 = 1;

/// Everything that was measured, and how.
#[derive(Debug)]
pub(crate) struct Report {
    /// The commit that was measured.
    pub(crate) commit: String,
    /// The day, UTC.
    pub(crate) date: String,
    /// The command line.
    pub(crate) command: String,
    /// On what.
    pub(crate) machine: Machine,
    /// Why these figures should not be quoted; empty if they may be.
    pub(crate) caveats: Vec<String>,
    /// The measurements.
    pub(crate) groups: Vec<Group>,
    /// Whose figures stand beside each other; empty if they are Bulla's alone.
    pub(crate) compared: Vec<Compared>,
}

/// A system whose figures stand beside those of others.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    /// Its name, as in the groups' cases.
    pub(crate) name: &'static str,
    /// The version that was measured.
    pub(crate) version: String,
    /// How it was set, and what that means.
    pub(crate) setting: &'static str,
}

impl Report {
    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "Bulla {}, {}; {}", self.commit, self.date, self.machine_line());
        for caveat in &self.caveats {
            let _ = writeln!(out, "DRAFT: {caveat}");
        }
        for group in &self.groups {
            let _ = writeln!(out, "\n{:<52} {:>10} {:>21}", group.title, "median", "lowest – highest");
            let mut case = "";
            for figure in &group.figures {
                let Some(spread) = Spread::of(&figure.runs) else { continue };
                if figure.case != case {
                    case = &figure.case;
                    let _ = writeln!(out, "  {case}");
                }
                let range = format!("{} – {}", shown(spread.min, figure.unit), shown(spread.max, figure.unit));
                let _ = writeln!(
                    out,
                    "    {:<48} {:>10} {range:>21} {}{}",
                    figure.what,
                    shown(spread.median, figure.unit),
                    figure.unit,
                    group.ratio(figure).map_or_else(String::new, |times| format!("  {}×", ratio(times)))
                );
            }
        }
        out
    }

    fn machine_line(&self) -> String {
        let Machine { processor, cores, memory_gib, kernel, filesystem } = &self.machine;
        format!("{processor}, {cores} cores, {memory_gib} GiB, {kernel}, {filesystem}")
    }

    /// `<date>-<commit>`, `-peers` with others, and `-draft` if it is one.
    fn name(&self) -> String {
        let peers = if self.compared.is_empty() { "" } else { "-peers" };
        let draft = if self.caveats.is_empty() { "" } else { "-draft" };
        format!("{}-{}{peers}{draft}", self.date, self.commit)
    }

    /// Writes JSON, page and plots; returns their paths.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let name = self.name();
        let plots = [
            ("bars", plot::bars(&self.groups)?),
            ("latency", plot::latency(&self.groups)?),
            ("plot", plot::peers(&self.groups)?),
        ];
        let plots = plots.into_iter().filter_map(|(what, svg)| Some((format!("{name}-{what}.svg"), svg?)));
        let plots: Vec<_> = plots.collect();
        let names = plots.iter().map(|(file, _)| file.as_str());
        let mut files = vec![
            (format!("{name}.json"), serde_json::to_string_pretty(&self.json())? + "\n"),
            (format!("{name}.md"), self.page(names)),
        ];
        files.extend(plots);
        files
            .into_iter()
            .map(|(file, text)| {
                let path = folder.join(file);
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
                Ok(path)
            })
            .collect()
    }

    fn page<'a>(&self, plots: impl Iterator<Item = &'a str>) -> String {
        let mut out = format!("# Figures of {}\n\n", self.commit);
        for caveat in &self.caveats {
            let _ = writeln!(out, "> **Draft, not to be quoted:** {caveat}.\n");
        }
        let _ = writeln!(
            out,
            "Measured on {} at commit `{}` with `{}`.\nMachine: {}; others used at most {:.2} of its processors during any \
             measurement.\nEach figure is the median over the runs, with the lowest and the highest run.\n",
            self.date,
            self.commit,
            self.command,
            self.machine_line(),
            self.groups.iter().map(|group| group.strangers).fold(0.0, f64::max)
        );
        for plot in plots {
            let _ = writeln!(out, "![{plot}]({plot})\n");
        }
        if !self.compared.is_empty() {
            let _ = writeln!(out, "| | version | set how, and what an answer means |\n|---|---|---|");
            for Compared { name, version, setting } in &self.compared {
                let _ = writeln!(out, "| {name} | {version} | {setting} |");
            }
            out.push('\n');
            self.overview(&mut out);
        }
        for group in &self.groups {
            let _ = writeln!(out, "## {}\n\n{}\n", group.title, group.about);
            let (to, line) = group.relative_to.map_or_else(Default::default, |to| (format!(" ÷ {to} |"), "---:|"));
            let _ = writeln!(out, "| | | median | lowest – highest | |{to}\n|---|---|---:|---:|---|{line}");
            let mut case = "";
            for figure in &group.figures {
                let Some(spread) = Spread::of(&figure.runs) else { continue };
                let title = if figure.case == case { "" } else { &figure.case };
                case = &figure.case;
                let shown = |value: f64| shown(value, figure.unit);
                let (median, min, max) = (shown(spread.median), shown(spread.min), shown(spread.max));
                let what = figure.what.replace("  ", "… ");
                let ratio = match group.relative_to {
                    Some(_) => format!(" {} |", group.ratio(figure).map_or_else(|| "–".to_owned(), ratio)),
                    None => String::new(),
                };
                let _ = writeln!(out, "| {title} | {what} | {median} | {min} – {max} | {} |{ratio}", figure.unit);
            }
            out.push('\n');
            for samples in &group.samples {
                let of = |percent| percentile(&samples.millis, percent).map_or_else(String::new, number);
                let _ = writeln!(
                    out,
                    "{}, all {} of all runs: p50 {}, p90 {}, p99 {}, slowest {} ms.\n",
                    samples.case,
                    samples.millis.len(),
                    of(50.0),
                    of(90.0),
                    of(99.0),
                    of(100.0)
                );
            }
        }
        out.truncate(out.trim_end().len());
        out + "\n"
    }

    /// The first figure of each group, one line for each system.
    fn overview(&self, out: &mut String) {
        let firsts = || self.groups.iter().filter_map(|group| Some((group, group.figures.first()?)));
        let _ = write!(out, "|");
        for (group, first) in firsts() {
            let _ = write!(out, " | {}: {}, {}", group.title, first.what, first.unit);
        }
        let _ = writeln!(out, " |\n|---{}|", "|---:".repeat(firsts().count()));
        for Compared { name, .. } in &self.compared {
            let _ = write!(out, "| {name}");
            for (group, first) in firsts() {
                let figure = group.figures.iter().find(|figure| figure.case == *name && figure.what == first.what);
                let median = figure.and_then(|figure| Some(shown(Spread::of(&figure.runs)?.median, figure.unit)));
                let times = figure.and_then(|figure| Some(format!(" ({}×)", ratio(group.ratio(figure)?))));
                let _ = write!(out, " | {}{}", median.unwrap_or_else(|| "–".to_owned()), times.unwrap_or_default());
            }
            let _ = writeln!(out, " |");
        }
        let _ = writeln!(out, "\nMedians; in brackets, how many times the {}'s.\n", self.reference());
    }

    fn reference(&self) -> &str {
        self.groups.iter().find_map(|group| group.relative_to).unwrap_or_default()
    }

    fn json(&self) -> Value {
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let rounded = |values: &[f64]| values.iter().map(|value| round(*value)).collect::<Vec<_>>();
        let figure = |group: &Group, figure: &Figure| {
            let spread = Spread::of(&figure.runs);
            json!({
                "case": figure.case, "what": figure.what.trim(), "unit": figure.unit, "runs": rounded(&figure.runs),
                "median": spread.map(|s| round(s.median)), "min": spread.map(|s| round(s.min)),
                "max": spread.map(|s| round(s.max)), "ratio": group.ratio(figure).map(round),
            })
        };
        let group = |group: &Group| {
            let samples = group.samples.iter().map(|s| json!({"case": s.case, "ms": rounded(&s.millis)}));
            json!({
                "name": group.name, "title": group.title, "about": group.about,
                "processors_used_by_others": round(group.strangers),
                "relative_to": group.relative_to,
                "figures": group.figures.iter().map(|one| figure(group, one)).collect::<Vec<_>>(),
                "samples": samples.collect::<Vec<_>>(),
            })
        };
        json!({
            "format": FORMAT, "commit": self.commit, "date": self.date, "command": self.command,
            "machine": self.machine, "draft": self.caveats, "compared": self.compared,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
        })
    }
}

/// What is counted has no fraction.
fn shown(value: f64, unit: &str) -> String {
    if unit == "messages" { thousands(value) } else { number(value) }
}

/// Two digits that count, or how small it is.
fn ratio(value: f64) -> String {
    if value > 0.0 && value < 0.095 { format!("1/{}", thousands(1.0 / value)) } else { number(value) }
}

/// Three digits that count, and thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        at if at >= 99.95 => thousands(value.round()),
        at if at >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Without a fraction, thousands apart.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_exact_as_they_are_known() {
        let shown = |value: f64| number(value);
        assert_eq!(shown(1_234_567.8), "1,234,568");
        assert_eq!(shown(999.6), "1,000");
        assert_eq!(shown(123.4), "123");
        assert_eq!(shown(45.67), "45.7");
        assert_eq!(shown(1.234), "1.23");
        assert_eq!(shown(0.0), "0.00");
    }

    #[test]
    fn a_ratio_says_how_small_it_is() {
        assert_eq!(
            (ratio(12.34), ratio(0.5), ratio(0.001)),
            ("12.3".to_owned(), "0.50".to_owned(), "1/1,000".to_owned())
        );
    }
}

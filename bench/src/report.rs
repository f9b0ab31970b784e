//! The figures for people (a table, a page) and for programs (JSON).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
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
                let range = format!("{} – {}", number(spread.min), number(spread.max));
                let _ =
                    writeln!(out, "    {:<48} {:>10} {range:>21} {}", figure.what, number(spread.median), figure.unit);
            }
        }
        out
    }

    fn machine_line(&self) -> String {
        let Machine { processor, cores, memory_gib, kernel, filesystem } = &self.machine;
        format!("{processor}, {cores} cores, {memory_gib} GiB, {kernel}, {filesystem}")
    }

    /// `<date>-<commit>`, and `-draft` if it is one.
    fn name(&self) -> String {
        let draft = if self.caveats.is_empty() { "" } else { "-draft" };
        format!("{}-{}{draft}", self.date, self.commit)
    }

    /// Writes JSON, page and plots; returns their paths.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let name = self.name();
        let plots = [("bars", plot::bars(&self.groups)?), ("latency", plot::latency(&self.groups)?)];
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
        for group in &self.groups {
            let _ = writeln!(out, "## {}\n\n{}\n", group.title, group.about);
            let _ = writeln!(out, "| | | median | lowest – highest | |\n|---|---|---:|---:|---|");
            let mut case = "";
            for figure in &group.figures {
                let Some(spread) = Spread::of(&figure.runs) else { continue };
                let shown = if figure.case == case { "" } else { &figure.case };
                case = &figure.case;
                let (median, min, max) = (number(spread.median), number(spread.min), number(spread.max));
                let what = figure.what.replace("  ", "… ");
                let _ = writeln!(out, "| {shown} | {what} | {median} | {min} – {max} | {} |", figure.unit);
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

    fn json(&self) -> Value {
        let round = |value: f64| (value * 1e3).round() / 1e3;
        let rounded = |values: &[f64]| values.iter().map(|value| round(*value)).collect::<Vec<_>>();
        let figure = |figure: &Figure| {
            let spread = Spread::of(&figure.runs);
            json!({
                "case": figure.case, "what": figure.what.trim(), "unit": figure.unit, "runs": rounded(&figure.runs),
                "median": spread.map(|s| round(s.median)), "min": spread.map(|s| round(s.min)),
                "max": spread.map(|s| round(s.max)),
            })
        };
        let group = |group: &Group| {
            let samples = group.samples.iter().map(|s| json!({"case": s.case, "ms": rounded(&s.millis)}));
            json!({
                "name": group.name, "title": group.title, "about": group.about,
                "processors_used_by_others": round(group.strangers),
                "figures": group.figures.iter().map(figure).collect::<Vec<_>>(),
                "samples": samples.collect::<Vec<_>>(),
            })
        };
        json!({
            "format": FORMAT, "commit": self.commit, "date": self.date, "command": self.command,
            "machine": self.machine, "draft": self.caveats, "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
        })
    }
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
}

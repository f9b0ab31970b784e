//! What every measurement is given, and what it hands back.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::meter::Taken;
use crate::stats::Spread;

/// How to measure.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Messages of one run, where a message takes microseconds.
    pub(crate) messages: u64,
    /// Runs of each measurement.
    pub(crate) runs: usize,
    /// Processor time of strangers, and the wall time in which it was used, over the sections of this measurement.
    foreign: Cell<(Duration, Duration)>,
}

impl Bench {
    pub(crate) fn new(messages: u64, runs: usize) -> Self {
        Self { messages, runs, foreign: Cell::default() }
    }

    /// Notes what a section took.
    pub(crate) fn note(&self, taken: &Taken) {
        let (foreign, wall) = self.foreign.get();
        self.foreign.set((foreign + taken.foreign, wall + taken.wall));
    }

    /// How many of the machine's processors others kept busy in the sections since this was last asked, on average.
    pub(crate) fn strangers(&self) -> f64 {
        let (foreign, wall) = self.foreign.take();
        if wall.is_zero() { 0.0 } else { foreign.as_secs_f64() / wall.as_secs_f64() }
    }

    /// A bar on standard error, while it lives; nothing where standard error is not a terminal.
    pub(crate) fn bar(&self, what: &str, run: usize, steps: u64) -> Bar {
        let bar = ProgressBar::new(steps).with_message(format!("{what}, run {} of {}", run + 1, self.runs));
        if let Ok(style) = ProgressStyle::with_template("{msg:<36} [{wide_bar}] {pos}/{len} {elapsed}") {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Bar(bar)
    }
}

/// See [`Bench::bar`].
#[derive(Debug, Clone)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// So many steps more.
    pub(crate) fn inc(&self, steps: u64) {
        self.0.inc(steps);
        if self.0.position() >= self.0.length().unwrap_or(u64::MAX) {
            self.0.finish_and_clear();
        }
    }
}

/// One figure, over the runs.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Under which circumstances.
    pub(crate) case: String,
    /// What was measured.
    pub(crate) what: String,
    /// In what.
    pub(crate) unit: &'static str,
    /// One value per run.
    pub(crate) runs: Vec<f64>,
}

/// Single durations, of all runs together, for a distribution.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    /// Of what.
    pub(crate) case: &'static str,
    /// Milliseconds.
    pub(crate) millis: Vec<f64>,
}

/// A measurement's figures.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// For `--only` and for programs.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    /// What was done, in a few sentences.
    pub(crate) about: String,
    /// The figures, by case, otherwise in the order in which they came.
    pub(crate) figures: Vec<Figure>,
    /// Distributions.
    pub(crate) samples: Vec<Samples>,
    /// How many processors others kept busy meanwhile.
    pub(crate) strangers: f64,
    /// The case that the others are divided by, if they are compared.
    pub(crate) relative_to: Option<&'static str>,
}

impl Group {
    pub(crate) fn new(name: &'static str, title: &'static str, about: impl Into<String>) -> Self {
        let (figures, samples) = (Vec::new(), Vec::new());
        Self { name, title, about: about.into(), figures, samples, strangers: 0.0, relative_to: None }
    }

    /// Adds one run's value of a figure. A run without a value adds nothing.
    pub(crate) fn add(&mut self, what: &str, case: &str, unit: &'static str, value: impl Into<Option<f64>>) {
        let Some(value) = value.into() else { return };
        if let Some(figure) = self.figures.iter_mut().find(|figure| figure.what == what && figure.case == case) {
            figure.runs.push(value);
            return;
        }
        // Beside the others of its case, whenever it came.
        let place = self.figures.iter().rposition(|figure| figure.case == case).map_or(self.figures.len(), |at| at + 1);
        self.figures.insert(place, Figure { case: case.to_owned(), what: what.to_owned(), unit, runs: vec![value] });
    }

    /// How many times what the case compared with has of the same: nothing without one, for itself, and where that has none.
    pub(crate) fn ratio(&self, figure: &Figure) -> Option<f64> {
        let to = self.relative_to.filter(|to| *to != figure.case)?;
        let to = self.figures.iter().find(|other| other.case == to && other.what == figure.what)?;
        let (of, to) = (Spread::of(&figure.runs)?.median, Spread::of(&to.runs)?.median);
        (to > 0.0).then(|| of / to)
    }

    /// Adds one run's durations to a distribution.
    pub(crate) fn add_samples(&mut self, case: &'static str, millis: Vec<f64>) {
        match self.samples.iter_mut().find(|samples| samples.case == case) {
            Some(samples) => samples.millis.extend(millis),
            None => self.samples.push(Samples { case, millis }),
        }
    }
}

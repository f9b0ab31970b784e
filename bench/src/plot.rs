//! The two pictures: bars for what the relay does, curves for latency.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bench::Group;
use crate::report::thousands;
use crate::stats::{Spread, percentile, sorted};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One per case, in the order of cases.
const COLOURS: [RGBColor; 2] = [RGBColor(0x2a, 0x6f, 0x97), RGBColor(0xe0, 0x7a, 0x1f)];

const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const PALE: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const FONT: &str = "sans-serif";

/// The relay's groups, by the word that stands below their bars.
const RELAY: [(&str, &str); 3] = [("handover", "hand-over"), ("store", "store"), ("drain", "drain")];

fn drawn(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// One per system.
const SYSTEMS: [RGBColor; 6] = [
    RGBColor(0x2a, 0x6f, 0x97),
    RGBColor(0xe0, 0x7a, 0x1f),
    RGBColor(0xc0, 0x39, 0x2b),
    RGBColor(0x7f, 0xb0, 0x69),
    RGBColor(0x3d, 0x6b, 0x35),
    RGBColor(0x8e, 0x6c, 0x8a),
];

/// The works that systems are compared in, by the word that stands below their bars.
const WORKS: [(&str, &str); 4] = [
    ("peers-online-1", "online, 1"),
    ("peers-online-8", "online, 8"),
    ("peers-store", "store"),
    ("peers-drain", "drain"),
];

/// Processor time, latency and memory of systems beside each other, each in its own scale of powers of ten; nothing if none were.
pub(crate) fn peers(groups: &[Group]) -> Result<Option<String>> {
    let find = |name: &str| groups.iter().find(|group| group.name == name);
    let works: Vec<_> = WORKS.iter().filter_map(|(name, word)| Some((*word, find(name)?))).collect();
    let Some((_, first)) = works.first() else { return Ok(None) };
    let mut systems: Vec<&str> = first.figures.iter().map(|figure| figure.case.as_str()).collect();
    systems.dedup();
    let of = |works: &[(&'static str, &Group)], what: &str| -> Vec<(&'static str, Vec<Option<Spread>>)> {
        let spread = |group: &Group, system: &str| {
            let figure = group.figures.iter().find(|figure| figure.case == system && figure.what == what)?;
            Spread::of(&figure.runs)
        };
        works
            .iter()
            .map(|(word, group)| (*word, systems.iter().map(|system| spread(group, system)).collect()))
            .collect()
    };
    let mut latency = Vec::new();
    if let Some(group) = find("peers-latency-same") {
        latency.extend(of(&[("p50", group)], "delivered, p50"));
        latency.extend(of(&[("p99", group)], "delivered, p99"));
    }
    let idle = find("peers-idle").map(|group| of(&[("idle connection", group)], "a connection")).unwrap_or_default();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1_200, 440)).into_drawing_area();
        root.fill(&WHITE).map_err(drawn)?;
        let (top, bottom) = root.split_vertically(404);
        let (left, rest) = top.split_horizontally(620);
        let (middle, right) = rest.split_horizontally(350);
        logarithmic(&left, &of(&works, "server's processor time"), "processor time of the server, µs per message")?;
        logarithmic(&middle, &latency, "delivered, at the same load, ms")?;
        logarithmic(&right, &idle, "memory, KiB each")?;
        let mut x = 40;
        for (system, colour) in systems.iter().zip(SYSTEMS) {
            bottom.draw(&Rectangle::new([(x, 8), (x + 12, 18)], colour.filled())).map_err(drawn)?;
            let style = (FONT, 13, &INK).into_text_style(&bottom);
            bottom.draw_text(system, &style, (x + 18, 6)).map_err(drawn)?;
            x += 180;
        }
        root.present().map_err(drawn)?;
    }
    Ok(Some(svg))
}

/// Bars of systems by work, from the lowest power of ten below all of them.
fn logarithmic(area: &Area<'_>, works: &[(&str, Vec<Option<Spread>>)], title: &str) -> Result<()> {
    let all = || works.iter().flat_map(|(_, bars)| bars.iter().flatten()).filter(|spread| spread.min > 0.0);
    let least = all().map(|spread| spread.min).fold(f64::INFINITY, f64::min);
    let most = all().map(|spread| spread.max).fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(());
    }
    let bottom = 10_f64.powf((least * 0.8).log10().floor());
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 17, &INK))
        .margin(14)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..works.len() as f64, (bottom..most * 1.3).log_scale())
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(INK)
        .x_labels(0)
        .y_label_style((FONT, 13, &INK))
        .y_label_formatter(&|value| if *value < 1.0 { value.to_string() } else { thousands(*value) })
        .draw()
        .map_err(drawn)?;
    for (index, (word, bars)) in works.iter().enumerate() {
        let width = 0.86 / bars.len().max(1) as f64;
        for (place, (bar, colour)) in bars.iter().zip(SYSTEMS).enumerate() {
            let Some(spread) = bar.filter(|spread| spread.min > 0.0) else { continue };
            let from = index as f64 + 0.07 + width * place as f64;
            let shape = Rectangle::new([(from, bottom), (from + width * 0.9, spread.median)], colour.filled());
            chart.draw_series([shape]).map_err(drawn)?;
            let middle = from + width * 0.45;
            let whisker = PathElement::new(vec![(middle, spread.min), (middle, spread.max)], INK.stroke_width(2));
            chart.draw_series([whisker]).map_err(drawn)?;
        }
        below(area, word, chart.backend_coord(&(index as f64 + 0.5, bottom)))?;
    }
    Ok(())
}

/// A word below the axis.
fn below(area: &Area<'_>, word: &str, (x, y): (i32, i32)) -> Result<()> {
    let style = (FONT, 14, &INK).into_text_style(area);
    let style = style.pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Top,
    ));
    let base = area.get_base_pixel();
    area.draw_text(word, &style, (x - base.0, y - base.1 + 8)).map_err(drawn)
}

/// Messages per second and processor time per message of the relay; nothing if it was not measured.
pub(crate) fn bars(groups: &[Group]) -> Result<Option<String>> {
    let found: Vec<_> = RELAY
        .iter()
        .filter_map(|(name, word)| Some((*word, groups.iter().find(|group| group.name == *name)?)))
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (960, 380)).into_drawing_area();
        root.fill(&WHITE).map_err(drawn)?;
        let (left, right) = root.split_horizontally(480);
        panel(&left, &found, "messages", "messages per second")?;
        panel(&right, &found, "relay's processor time", "processor time of the relay, µs per message")?;
        root.present().map_err(drawn)?;
    }
    Ok(Some(svg))
}

fn panel(area: &Area<'_>, groups: &[(&str, &Group)], what: &str, title: &str) -> Result<()> {
    let bars: Vec<Vec<(&str, Spread)>> = groups
        .iter()
        .map(|(_, group)| {
            let figures = group.figures.iter().filter(|figure| figure.what == what);
            figures.filter_map(|figure| Some((figure.case.as_str(), Spread::of(&figure.runs)?))).collect()
        })
        .collect();
    let top = bars.iter().flatten().map(|(_, spread)| spread.max).fold(0.0, f64::max) * 1.35;
    let words: Vec<&str> = groups.iter().map(|(word, _)| *word).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 17, &INK))
        .margin(14)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..top.max(1.0))
        .map_err(drawn)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(INK)
        .x_labels(0)
        .y_label_style((FONT, 13, &INK))
        .y_label_formatter(&|value| thousands(*value))
        .draw()
        .map_err(drawn)?;
    // Cases differ by group only in their words: the first is many connections, the second one.
    for (case, label) in ["100 connections", "1 connection"].into_iter().enumerate() {
        let Some(colour) = COLOURS.get(case).copied() else { continue };
        let mut shapes = Vec::new();
        let mut whiskers = Vec::new();
        for (index, cases) in bars.iter().enumerate() {
            let Some((_, spread)) = cases.get(case) else { continue };
            let from = index as f64 + 0.16 + 0.34 * case as f64;
            shapes.push(Rectangle::new([(from, 0.0), (from + 0.32, spread.median)], colour.filled()));
            let middle = from + 0.16;
            whiskers.push(PathElement::new(vec![(middle, spread.min), (middle, spread.max)], INK.stroke_width(2)));
        }
        let series = chart.draw_series(shapes).map_err(drawn)?;
        series.label(label).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        chart.draw_series(whiskers).map_err(drawn)?;
    }
    for (index, word) in words.iter().enumerate() {
        below(area, word, chart.backend_coord(&(index as f64 + 0.5, 0.0)))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.filled())
        .label_font((FONT, 13, &INK))
        .draw()
        .map_err(drawn)
}

/// The share of messages that came out within a time; nothing if it was not measured.
pub(crate) fn latency(groups: &[Group]) -> Result<Option<String>> {
    let all: Vec<_> = groups.iter().flat_map(|group| &group.samples).filter(|s| !s.millis.is_empty()).collect();
    // The slowest thousandth would squeeze all others into a line; the page names it.
    let end = all.iter().filter_map(|samples| percentile(&samples.millis, 99.9)).fold(0.0, f64::max) * 1.05;
    if all.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (960, 380)).into_drawing_area();
        root.fill(&WHITE).map_err(drawn)?;
        let mut chart = ChartBuilder::on(&root)
            .caption("share of messages that came out within so many milliseconds", (FONT, 17, &INK))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..end, 0.0..100.0)
            .map_err(drawn)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(PALE)
            .axis_style(INK)
            .x_desc("ms")
            .x_label_formatter(&|ms| thousands(*ms))
            .y_labels(6)
            .y_label_formatter(&|share| format!("{share:.0} %"))
            .label_style((FONT, 13, &INK))
            .draw()
            .map_err(drawn)?;
        for (samples, colour) in all.iter().zip(COLOURS) {
            let millis = sorted(&samples.millis);
            let step = 100.0 / millis.len() as f64;
            let points = millis.iter().enumerate().map(|(index, ms)| (*ms, step * (index + 1) as f64));
            let points = std::iter::once((millis.first().copied().unwrap_or(0.0), 0.0)).chain(points);
            let points = points.filter(|(ms, _)| *ms <= end);
            let series = chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(drawn)?;
            let of = |percent| percentile(&millis, percent).unwrap_or(0.0);
            series
                .label(format!("{}: p50 {:.1}, p99 {:.1} ms", samples.case, of(50.0), of(99.0)))
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour.stroke_width(3)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.filled())
            .label_font((FONT, 13, &INK))
            .draw()
            .map_err(drawn)?;
        root.present().map_err(drawn)?;
    }
    Ok(Some(svg))
}

//! Draws figures over depth as an SVG: `plot figures.json > figures.svg`.
//!
//! The file has a title, the axes' names, and series of `[depth, value]` points.

use std::io::Write;

use anyhow::Context;
use plotters::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    title: String,
    x: String,
    y: String,
    series: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 440);
/// Room above the highest point, as a share of it: the legend lies there, and over no point.
const HEADROOM: f64 = 0.4;
const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

fn main() -> anyhow::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("usage: plot FIGURES.json > FIGURES.svg")?;
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let figures: Figures = serde_json::from_str(&text)
        .with_context(|| format!("{} is no file of figures", path.display()))?;
    let mut svg = String::new();
    draw(&figures, &mut svg).context("cannot draw the figures")?;
    std::io::stdout().write_all(svg.as_bytes())?;
    Ok(())
}

fn draw(figures: &Figures, svg: &mut String) -> anyhow::Result<()> {
    let points = || figures.series.iter().flat_map(|series| &series.points);
    let right = points().map(|point| point.0).fold(0.0, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    anyhow::ensure!(right > 0.0 && top > 0.0, "there are no points to draw");
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(&figures.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right * 1.02, 0.0..top * (1.0 + HEADROOM))?;
    chart
        .configure_mesh()
        .x_desc(&figures.x)
        .y_desc(&figures.y)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (series, colour) in figures.series.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(
                LineSeries::new(series.points.iter().copied(), colour.stroke_width(2))
                    .point_size(3),
            )?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

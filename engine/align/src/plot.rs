//! The curve of a training, as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::error::AlignError;
use crate::train::Point;

/// What a line is called, its colour and its values.
type Line = (&'static str, RGBColor, fn(&Point) -> f64);

/// Draws the losses over the steps, and the share of first guesses that were right.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(curve: &[Point], path: &Path) -> Result<(), AlignError> {
    let failed = |error: &dyn std::fmt::Display| AlignError::Plot(error.to_string());
    let last = curve.last().map_or(1, |point| point.step).max(1) as f64;
    let highest = curve.iter().map(|point| point.loss.max(point.divergence));
    let highest = highest.fold(1.0_f64, f64::max);
    let root = SVGBackend::new(path, (800, 420)).into_drawing_area();
    root.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(44)
        .right_y_label_area_size(44)
        .build_cartesian_2d(0.0..last, 0.0..highest)
        .map_err(|error| failed(&error))?
        .set_secondary_coord(0.0..last, 0.0..1.0);
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .draw()
        .map_err(|error| failed(&error))?;
    chart
        .configure_secondary_axes()
        .y_desc("first guesses that are right")
        .draw()
        .map_err(|error| failed(&error))?;
    let lines: [Line; 3] = [
        ("loss", RGBColor(40, 40, 40), |point| point.loss),
        ("divergence", RGBColor(200, 90, 20), |point| {
            point.divergence
        }),
        ("states", RGBColor(30, 110, 180), |point| point.states),
    ];
    for (name, colour, of) in lines {
        let values = curve.iter().map(|point| (point.step as f64, of(point)));
        chart
            .draw_series(LineSeries::new(values, colour))
            .map_err(|error| failed(&error))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    let green = RGBColor(20, 140, 70);
    let values = curve
        .iter()
        .map(|point| (point.step as f64, point.accepted));
    chart
        .draw_secondary_series(LineSeries::new(values, green))
        .map_err(|error| failed(&error))?
        .label("right (right axis)")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], green));
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(|error| failed(&error))?;
    root.present().map_err(|error| failed(&error))
}

//! Charts, as the inside of an `svg` element.
//!
//! Why plotters and not functions of our own: it chooses the ticks. Why its output can follow the page from light to
//! dark nevertheless: its backend writes colours as presentation attributes, which any rule of a style sheet
//! overrules. So each colour here is a mark, and `style.css` says by `[stroke="#…"]` what it looks like. No
//! font library is needed: text stays text, and only its width is estimated.
//!
//! Series differ in colour, and in the shape of their points for those who do not tell the colours apart.

use std::error::Error;

use plotters::prelude::*;

use crate::tables::figure;

/// Width and height of the drawing, in its own units.
const SIZE: (u32, u32) = (480, 250);
/// Marks for the series' lines and points.
const SERIES: [RGBColor; 2] = [RGBColor(1, 1, 1), RGBColor(2, 2, 2)];
/// The mark for the grid and the axes.
const GRID: RGBColor = RGBColor(3, 3, 3);
/// The mark for text.
const TEXT: RGBColor = RGBColor(4, 4, 4);

/// Draws one or two series of (x, y) over common axes. The vertical axis starts at zero, so that heights can be compared.
pub(super) fn draw(series: &[Vec<(f64, f64)>]) -> String {
    let mut svg = String::new();
    try_draw(series, &mut svg).expect("drawing into a text does not fail");
    // The element itself is the template's, which gives it its name and its description.
    let inside = svg
        .split_once("<svg")
        .and_then(|(_, rest)| rest.split_once('>'));
    let inside = inside.map_or("", |(_, inside)| inside);
    inside
        .trim_end()
        .trim_end_matches("</svg>")
        .trim()
        .to_owned()
}

fn try_draw(series: &[Vec<(f64, f64)>], svg: &mut String) -> Result<(), Box<dyn Error>> {
    let points = || series.iter().flatten();
    let left = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let right = points().map(|point| point.0).fold(left, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.15 } else { 1.0 };
    // A little room on both sides, also around a single point.
    let room = ((right - left) * 0.04).max(0.04);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(left - room..right + room, 0.0..top)?;
    let number = |value: &f64| figure(*value);
    // Where everything stands at whole numbers, as runs do, what is between them has no name.
    let whole = points().all(|point| point.0.fract() == 0.0);
    let across = |value: &f64| match whole && value.fract() != 0.0 {
        true => String::new(),
        false => figure(*value),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(6)
        .y_labels(5)
        .x_label_formatter(&across)
        .y_label_formatter(&number)
        .label_style(("sans-serif", 18).into_font().color(&TEXT))
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, (points, mark)) in series.iter().zip(SERIES).enumerate() {
        let line = LineSeries::new(points.iter().copied(), mark.stroke_width(2));
        chart.draw_series(line)?;
        if index == 0 {
            let point = |&at: &(f64, f64)| Circle::new(at, 4, mark.filled());
            chart.draw_series(points.iter().map(point))?;
        } else {
            let point = |&at: &(f64, f64)| TriangleMarker::new(at, 6, mark.filled());
            chart.draw_series(points.iter().map(point))?;
        }
    }
    area.present()?;
    drop(chart);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_differ_in_colour_and_in_the_shape_of_their_points() {
        let line = |y: f64| vec![(0.0, y), (1.0, y + 1.0)];
        let svg = draw(&[line(1.0), line(2.0)]);
        assert_eq!(svg.matches("<polygon").count(), 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("stroke=\"#010101\"") && svg.contains("stroke=\"#020202\""));
        assert!(!svg.contains("<svg") && !svg.contains("</svg"));
    }

    #[test]
    fn one_point_and_a_line_at_zero_are_drawn_too() {
        assert_eq!(draw(&[vec![(3.0, 2.0)]]).matches("<circle").count(), 1);
        let zero = draw(&[vec![(0.0, 0.0), (1.0, 0.0)]]);
        assert!(
            zero.contains(">\n1\n<") && !zero.contains(">\n0.2\n<"),
            "{zero}"
        );
        assert!(!zero.contains("NaN") && !zero.contains("inf"), "{zero}");
    }
}

//! The samples as a picture: one panel a quantity, over the time.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Size of a panel, pixels.
const PANEL: (u32, u32) = (900, 180);

/// One panel: what it shows, and its values `(seconds, value)`.
pub(crate) type Panel = (&'static str, Vec<(f64, f64)>);

/// Writes an SVG file.
pub(crate) fn write(file: &Path, panels: &[Panel]) -> Result<()> {
    let count = u32::try_from(panels.len())?.max(1);
    let area = SVGBackend::new(file, (PANEL.0, PANEL.1 * count)).into_drawing_area();
    let fault = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| fault(&error))?;
    for (place, (title, values)) in area.split_evenly((panels.len().max(1), 1)).iter().zip(panels) {
        draw(place, title, values).map_err(|error| fault(&error))?;
    }
    area.present().map_err(|error| fault(&error))
}

type Place<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    place: &Place<'_>,
    title: &str,
    values: &[(f64, f64)],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let end = values.last().map_or(1.0, |(at, _)| at.max(1.0));
    let top = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(place)
        .caption(title, ("sans-serif", 14))
        .margin(6)
        .x_label_area_size(24)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..(top * 1.1).max(1.0))?;
    chart.configure_mesh().disable_x_mesh().y_labels(4).x_desc("s").draw()?;
    chart.draw_series(LineSeries::new(values.iter().copied(), &BLUE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_quantity_has_its_line() {
        let folder = tempfile::TempDir::with_prefix("viaduct-plot-").unwrap();
        let file = folder.path().join("x.svg");
        let values = vec![(0.0, 3.0), (1.0, 4.0), (2.0, 3.5)];
        write(&file, &[("memory", values), ("descriptors", Vec::new())]).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("memory") && text.contains("descriptors"), "{text}");
        assert!(text.contains("polyline"), "{text}");
    }
}

//! A bar for each program, as SVG.

use std::fmt::Write as _;

use crate::programs::Load;
use crate::table::{OURS, Row, main_figure};

const LABELS: f64 = 210.0;
const BARS: f64 = 520.0;
const FIGURES: f64 = 110.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const TOP: f64 = 52.0;

/// The medians as bars, the ranges as lines through their ends.
pub(crate) fn svg(target: &str, load: &Load, rows: &[Row]) -> String {
    let (_, more_is_better) = main_figure(load);
    // The floors of throughput would leave no room for the clients: their bars end at the edge.
    let clients = rows.iter().filter(|row| !row.is_raw).map(|row| row.main.max).fold(0.0, f64::max);
    let widest = rows.iter().map(|row| row.main.max).fold(0.0, f64::max).min(clients * 1.5).max(f64::MIN_POSITIVE);
    let x = |value: f64| LABELS + value.min(widest) / widest * BARS;
    let (width, height) = (LABELS + BARS + FIGURES, TOP + STEP * rows.len() as f64 + 10.0);
    let unit =
        if more_is_better { "records per second (more is better)" } else { "p50 in microseconds (less is better)" };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-weight=\"bold\">{target}: {}</text>\n\
         <text x=\"10\" y=\"38\" fill=\"#555\">{unit}</text>\n",
        load.title
    );
    for (row, index) in rows.iter().zip(0..) {
        let y = TOP + STEP * f64::from(index);
        let color = match row.name {
            _ if row.is_raw => "#bbb",
            OURS => "#d9480f",
            _ => "#4a7ebb",
        };
        let (middle, figure) = (y + BAR / 2.0, figure(row.main.median, more_is_better));
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\"/>\n\
             <text x=\"{}\" y=\"{}\">{figure}</text>\n",
            LABELS - 8.0,
            middle + 4.0,
            row.name,
            x(row.main.median) - LABELS,
            x(row.main.min),
            x(row.main.max),
            LABELS + BARS + 8.0,
            middle + 4.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn figure(value: f64, is_rate: bool) -> String {
    match value {
        1e3.. if !is_rate => format!("{:.2} ms", value / 1e3),
        _ if !is_rate => format!("{value:.1} us"),
        1e6.. => format!("{:.2} M", value / 1e6),
        _ => format!("{:.0} k", value / 1e3),
    }
}

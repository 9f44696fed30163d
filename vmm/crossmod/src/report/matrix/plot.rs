//! What searching costs: seconds against transitions, both logarithmic.

use maud::{Markup, html};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;

/// A scatter plot with lines of constant rate; nothing for fewer than two points.
pub(super) fn plot(costs: &[(u64, f64)]) -> Option<Markup> {
    let point =
        |&(transitions, seconds): &(u64, f64)| ((transitions as f64).log10(), seconds.max(1e-6).log10());
    let points: Vec<(f64, f64)> = costs.iter().map(point).collect();
    let ends = |pick: fn(&(f64, f64)) -> f64| {
        let values = || points.iter().map(pick);
        let low = values().fold(f64::INFINITY, f64::min).floor();
        (low, values().fold(f64::NEG_INFINITY, f64::max).ceil().max(low + 1.0))
    };
    if points.len() < 2 {
        return None;
    }
    let ((left, right), (bottom, top)) = (ends(|point| point.0), ends(|point| point.1));
    let x = |value: f64| MARGIN + (value - left) / (right - left) * (WIDTH - 1.5 * MARGIN);
    let y = |value: f64| HEIGHT - MARGIN - (value - bottom) / (top - bottom) * (HEIGHT - 1.5 * MARGIN);
    let ticks = |low: f64, high: f64| (low as i32..=high as i32).collect::<Vec<_>>();
    // The part of a line of `rate` transitions a second that lies inside.
    let line = |rate: f64| {
        let rate = rate.log10();
        let (from, to) = (left.max(bottom + rate), right.min(top + rate));
        (from < to).then(|| (x(from), y(from - rate), x(to), y(to - rate)))
    };
    Some(html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label="seconds against transitions" {
            @for tick in ticks(left, right) {
                line class="grid" x1=(x(tick.into())) x2=(x(tick.into())) y1=(y(bottom)) y2=(y(top)) {}
                text x=(x(tick.into())) y=(HEIGHT - MARGIN + 18.0) text-anchor="middle" { "10" tspan dy="-5" font-size="9" { (tick) } }
            }
            @for tick in ticks(bottom, top) {
                line class="grid" x1=(x(left)) x2=(x(right)) y1=(y(tick.into())) y2=(y(tick.into())) {}
                text x=(MARGIN - 8.0) y=(y(tick.into()) + 4.0) text-anchor="end" { "10" tspan dy="-5" font-size="9" { (tick) } }
            }
            @for (rate, name) in [(1e5, "0.1 M/s"), (1e6, "1 M/s"), (1e7, "10 M/s")] {
                @if let Some((x1, y1, x2, y2)) = line(rate) {
                    line class="rate" x1=(x1) y1=(y1) x2=(x2) y2=(y2) {}
                    text class="rate" x=(x2 - 4.0) y=(y2 - 4.0) text-anchor="end" { (name) }
                }
            }
            @for point in &points {
                circle cx=(x(point.0)) cy=(y(point.1)) r="3" {}
            }
            text x=((x(left) + x(right)) / 2.0) y=(HEIGHT - 12.0) text-anchor="middle" { "transitions" }
            text x="14" y=((y(bottom) + y(top)) / 2.0) text-anchor="middle" transform=(format!("rotate(-90 14 {})", (y(bottom) + y(top)) / 2.0)) { "seconds" }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::plot;

    #[test]
    fn points_lie_inside_and_one_is_no_plot() {
        assert!(plot(&[(10, 0.1)]).is_none());
        let svg = plot(&[(1000, 0.001), (100_000_000, 20.0)]).expect("a plot").into_string();
        assert_eq!(svg.matches("<circle").count(), 2);
        for number in svg.split("cx=\"").skip(1).map(|rest| rest.split('"').next().expect("a number")) {
            let x: f64 = number.parse().expect("a number");
            assert!((super::MARGIN..=super::WIDTH).contains(&x), "{x}");
        }
    }
}

//! Charts as SVG: no script, colours from the page, so that they are right in the light and in the dark.

use itertools::Itertools;
use maud::{Markup, PreEscaped, html};

/// Colours of series, and what charts look like. Also part of a picture that stands alone.
pub(super) const STYLE: &str = include_str!("chart.css");

/// The colours that pages define and a picture alone needs.
const ALONE: &str = include_str!("picture.css");

/// A picture of its own.
pub(super) fn alone(width: f64, height: f64, body: &Markup) -> String {
    html! {
        svg.chart xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) {
            style { (PreEscaped(STYLE)) (PreEscaped(ALONE)) }
            rect width=(width) height=(height) rx="6" style="fill:var(--paper)" {}
            (body)
        }
    }
    .into_string()
}

/// How values become places.
#[derive(Clone, Copy)]
pub(super) enum Scale {
    /// By their logarithm, between powers of ten.
    Log,
    /// By their logarithm to base 2.
    Doublings,
    /// Quantiles, by how rare is what lies beyond.
    Tail,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Log => value.max(1e-12).log10(),
            Scale::Doublings => value.max(1e-12).log2(),
            Scale::Tail => -(1.0 - value).max(1e-12).log10(),
        }
    }

    fn ticks(self, low: f64, high: f64) -> Vec<(f64, String)> {
        match self {
            Scale::Log => (low.floor() as i32..=high.ceil() as i32)
                .map(|power| (f64::from(power), number(10f64.powi(power))))
                .collect(),
            Scale::Doublings => {
                let step = if high - low > 4.0 { 4 } else { 1 };
                let powers = (low.round() as i32..=high.round() as i32).step_by(step);
                powers.map(|power| (f64::from(power), number(2f64.powi(power)))).collect()
            }
            Scale::Tail => [0.5, 0.9, 0.99, 0.999]
                .map(|quantile| (self.place(quantile), format!("p{}", quantile * 100.0)))
                .into_iter()
                .filter(|(place, _)| (low - 1e-9..=high + 1e-9).contains(place))
                .collect(),
        }
    }
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else {
        format!("{value}")
    }
}

/// One line.
pub(super) struct Series {
    /// What it is called.
    pub name: String,
    /// Number of its colour.
    pub colour: usize,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Points with this place or more on the x axis are drawn hollow.
    pub hollow_from: Option<f64>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 58.0;
const BOTTOM: f64 = 44.0;
/// Room for names at the right.
const RIGHT: f64 = 142.0;

/// Lines, each with its name at its end.
pub(super) fn lines(title: &str, x: (Scale, &str), y: (Scale, &str), series: &[Series]) -> Markup {
    let range = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let places = series.iter().flat_map(|series| &series.points).map(of);
        places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)))
    };
    let (left, right) = range(&|point| x.0.place(point.0));
    let (low, high) = range(&|point| y.0.place(point.1));
    if !(left.is_finite() && low.is_finite()) {
        return html! {};
    }
    let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
    let right = right.max(left + 1e-6);
    let across = |value: f64| LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - 16.0);
    let at = |&(a, b): &(f64, f64)| (across(x.0.place(a)), up(y.0.place(b)));
    // Names from the top down, none over another.
    let end = |(index, series): (usize, &Series)| Some((at(series.points.last()?).1, index));
    let ends = series.iter().enumerate().filter_map(end);
    let mut names: Vec<(f64, usize)> = ends.sorted_by(|a, b| a.0.total_cmp(&b.0)).collect();
    let room = 14.0;
    for index in 1..names.len() {
        names[index].0 = names[index].0.max(names[index - 1].0 + room);
    }
    let mut floor = HEIGHT - 6.0;
    for name in names.iter_mut().rev() {
        name.0 = name.0.min(floor);
        floor = name.0 - room;
    }
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(title) {
            @for (tick, name) in x.0.ticks(left, right) {
                line.grid x1=(across(tick)) x2=(across(tick)) y1=(up(low)) y2=(up(high)) {}
                text x=(across(tick)) y=(HEIGHT - BOTTOM + 17.0) text-anchor="middle" { (name) }
            }
            @for (tick, name) in y.0.ticks(low, high) {
                line.grid x1=(across(left)) x2=(across(right)) y1=(up(tick)) y2=(up(tick)) {}
                text x=(LEFT - 7.0) y=(up(tick) + 4.0) text-anchor="end" { (name) }
            }
            text x=((across(left) + across(right)) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (x.1) }
            text x="13" y=((up(low) + up(high)) / 2.0) text-anchor="middle" transform=(format!("rotate(-90 13 {})", (up(low) + up(high)) / 2.0)) { (y.1) }
            @for series in series {
                @let path: Vec<String> = series.points.iter().map(at).map(|(a, b)| format!("{a:.1} {b:.1}")).collect();
                @let colour = format!("var(--s{})", series.colour);
                path.curve d=(format!("M{}", path.join("L"))) style=(format!("stroke:{colour}")) {}
                @if series.points.len() < 8 {
                    @for point in &series.points {
                        @let (a, b) = at(point);
                        @if series.hollow_from.is_some_and(|from| point.0 >= from) {
                            circle.hollow cx=(format!("{a:.1}")) cy=(format!("{b:.1}")) r="4" style=(format!("stroke:{colour}")) {}
                        } @else {
                            circle cx=(format!("{a:.1}")) cy=(format!("{b:.1}")) r="3.5" style=(format!("fill:{colour};fill-opacity:1")) {}
                        }
                    }
                }
            }
            g.names { @for (place, index) in &names {
                @let series = &series[*index];
                rect x=(WIDTH - RIGHT + 10.0) y=(place - 5.0) width="10" height="10" rx="2" style=(format!("fill:var(--s{})", series.colour)) {}
                text.strong x=(WIDTH - RIGHT + 25.0) y=(place + 4.0) { (series.name) }
            } }
        }
    }
}

/// Two bars for each row, from 0; a line at 1.
pub(super) fn bars(rows: &[(String, usize, [f64; 2])], y: f64, width: f64) -> (Markup, f64) {
    const ROW: f64 = 34.0;
    let names = 148.0;
    let most = rows.iter().flat_map(|(_, _, values)| values).fold(1.0_f64, |most, &value| most.max(value));
    let long = |value: f64| value / most * (width - names - 60.0);
    let bottom = y + ROW * rows.len() as f64;
    let body = html! {
        line.grid x1=(names + long(1.0)) x2=(names + long(1.0)) y1=(y - 4.0) y2=(bottom) {}
        @for (index, (name, colour, values)) in rows.iter().enumerate() {
            @let top = y + ROW * index as f64;
            text.strong x=(names - 8.0) y=(top + 17.0) text-anchor="end" { (name) }
            @for (bar, (value, opacity)) in values.iter().zip([1.0, 0.45]).enumerate() {
                @let at = top + 2.0 + 13.0 * bar as f64;
                rect x=(names) y=(at) width=(format!("{:.1}", long(*value).max(1.0))) height="12" rx="2" style=(format!("fill:var(--s{colour});fill-opacity:{opacity}")) {}
                text x=(format!("{:.1}", names + long(*value) + 6.0)) y=(at + 10.0) { (format!("{value:.2}")) }
            }
        }
    };
    (body, bottom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_inside_and_names_do_not_overlap() {
        let series: Vec<Series> = (0..9)
            .map(|index| Series {
                name: format!("series {index}"),
                colour: index,
                points: vec![(1.0, 3.0), (16.0, 3.1), (256.0, 30.0)],
                hollow_from: None,
            })
            .collect();
        let svg = lines("t", (Scale::Doublings, "x"), (Scale::Log, "y"), &series).into_string();
        let of = |attribute: &str| -> Vec<f64> {
            let parts = svg.split(attribute).skip(1);
            parts.map(|rest| rest.split('"').next().expect("a value").parse().expect("a number")).collect()
        };
        assert!(of("cx=\"").iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)));
        assert!(of("cy=\"").iter().all(|y| (0.0..=HEIGHT - BOTTOM).contains(y)));
        let mut names: Vec<f64> = svg
            .split("text class=\"strong\"")
            .skip(1)
            .map(|rest| {
                rest.split("y=\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .expect("y")
                    .parse()
                    .expect("a number")
            })
            .collect();
        names.sort_by(f64::total_cmp);
        assert!(names.len() == 9 && names.windows(2).all(|pair| pair[1] - pair[0] > 13.0), "{names:?}");
        assert!(names.iter().all(|y| (0.0..=HEIGHT).contains(y)), "{names:?}");
        assert_eq!(lines("t", (Scale::Tail, "x"), (Scale::Log, "y"), &[]).into_string(), "");
    }
}

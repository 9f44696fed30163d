//! What a terminal shows while something is explored.

use crossmod::explore::SearchProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar, on a terminal.
pub fn bar(template: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// What is explored, without a length.
pub fn progress() -> ProgressBar {
    bar("{spinner} {prefix}  {msg}", 0)
}

/// Rates only where time means something.
pub fn show(bar: &ProgressBar, tick: SearchProgress, timed: bool) {
    let rate = |count: f64| {
        let rate = count / tick.elapsed.as_secs_f64().max(1e-6) / 1e6;
        if timed { format!(" ({rate:.1} M/s)") } else { String::new() }
    };
    let SearchProgress { states, expanded, transitions, .. } = tick;
    let (of_states, of_transitions) = (rate(states as f64), rate(transitions as f64));
    let (left, remembered, mebibytes) = (states - expanded, tick.hit_rate * 100.0, tick.memory >> 20);
    bar.set_message(format!(
        "{states} states{of_states}, {left} to expand, {transitions} transitions{of_transitions}, {remembered:.1} % \
         remembered, {mebibytes} MiB"
    ));
    bar.tick();
}

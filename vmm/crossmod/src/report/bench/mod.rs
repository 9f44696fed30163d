//! The cost of protocols: ratios first, absolute times second.

mod html;
mod text;

pub use html::{comparison_svg, section};
pub use text::{comparisons, text};

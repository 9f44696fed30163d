//! `#[test]` for binaries that bring their own harness: a test can find out while it runs that it cannot run here, and is
//! then reported as ignored, which the usual harness cannot do.
//!
//! `#[macro_use] extern crate crossmod_test;` shadows the usual attribute in the whole crate, so that no test can be left out
//! by mistake.

use proc_macro::TokenStream;

/// Registers a function with `crate::registry`. `#[test(long)]` is for those that take seconds: they begin before all others.
///
/// # Panics
///
/// If it is put on something that is not a function.
#[proc_macro_attribute]
pub fn test(options: TokenStream, function: TokenStream) -> TokenStream {
    let mut signature = function.clone().into_iter().skip_while(|token| token.to_string() != "fn");
    let name = signature.nth(1).expect("a test is a function");
    let registration = format!("crate::registry::register!({name} {options});").parse().expect("tokens");
    [function, registration].into_iter().collect()
}

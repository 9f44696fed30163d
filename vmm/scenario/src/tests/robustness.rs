//! No input makes the parser panic.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = parse("fuzz", &text, &Options::default());
    }

    #[test]
    fn mutated_scenarios_never_panic(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, any::<i64>(), "\\PC{0,6}"), 1..6),
    ) {
        let library = library();
        let mut text = pick.get(&library).text.clone();
        for (place, kind, number, junk) in edits {
            let mut words: Vec<&str> = text.split_inclusive([' ', '\n', '"', ',']).collect();
            let at = place.index(words.len());
            let number = number.to_string();
            match kind {
                0 => { words.remove(at); }
                1 => words.insert(at, words[at]),
                2 => words[at] = &junk,
                3 => words[at] = &number,
                4 => { let other = words.len() / 2; words.swap(at, other); }
                _ => words.truncate(at),
            }
            text = words.concat();
            if text.is_empty() {
                break;
            }
        }
        if let Err(error) = parse("fuzz", &text, &Options::default()) {
            prop_assert!(!error.advice().is_empty());
            let mut shown = String::new();
            let handler = miette::GraphicalReportHandler::new();
            prop_assert!(handler.render_report(&mut shown, &error).is_ok());
        }
    }

    #[test]
    fn random_site_bytes_never_panic(
        old in prop::collection::vec(any::<u8>(), 1..12),
        offset in 0..0x1000u16,
        target in any::<i32>(),
    ) {
        let hex: Vec<_> = old.iter().map(|byte| format!("{byte:02x}")).collect();
        let site = format!(
            "title = \"t\"\nexpect = \"safe\"\nprotocol = \"text_poke_fixup\"\n[site]\nold = \"{}\"\nnew = \"jmp32\"\n\
             offset = {offset}\nnew-target = {target}\n", hex.join(" "));
        let _ = parse("fuzz", &site, &Options::default());
    }
}

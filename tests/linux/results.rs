//! What is made of the sites: numbers, lists, differences, windows, verdicts, pages.

use crossmod::linux::{self, Filter, Hazard, Image, Kind, State, Via};
use crossmod::property::Property;
use crossmod::sites::export::PatchSetup;
use crossmod::sites::judge::{self, Judged, OneStore, Provisos, Torn, Verdict};
use crossmod::sites::tables::{self, Table};

use super::parse;
use super::synth::{self, Kernel, TEXT};

#[test]
fn the_inventory_counts_what_there_is() {
    let images = [parse(synth::sample(false).elf())];
    let inventory = linux::inventory(&images);
    let labels = &inventory.kinds[0];
    assert_eq!((labels.kind, labels.sites, labels.crossings), ("jump-label", 2, [1, 1, 1, 1, 0]));
    assert_eq!(
        labels.lengths.iter().map(|row| (row.length, row.sites)).collect::<Vec<_>>(),
        [(2, 1), (5, 1)]
    );
    assert_eq!(labels.lengths[0].states.iter().collect::<Vec<_>>(), [(&"jmp", &1)]);
    let calls = &inventory.kinds[1];
    assert_eq!(
        (calls.kind, calls.sites, calls.tail, calls.crossings),
        ("static-call", 3, 1, [1, 0, 0, 0, 0])
    );
    // A short jump leads three bytes into the alternative, and the exception table has an instruction there.
    let alternatives = inventory.kinds.iter().find(|row| row.kind == "alternative").unwrap();
    assert_eq!((alternatives.entered, alternatives.faulting), (1, 1));
    let [entered] = &inventory.entered[..] else { panic!("{:?}", inventory.entered) };
    assert_eq!((entered.site.as_str(), entered.byte, entered.via), ("third_function+0x0", 3, Via::Branch));
    assert_eq!(entered.from, "third_function+0xa");
    assert_eq!(inventory.overlaps, []);
}

#[test]
fn overlaps_are_counted_by_pairs_of_kinds() {
    let mut kernel = synth::sample(false);
    kernel.alternatives.push((TEXT + 0x240, TEXT + 0x900, 1, 6, 3));
    let inventory = linux::inventory(&[parse(kernel.elf())]);
    assert_eq!(inventory.overlaps, [("alternative", "paravirt", 1)]);
}

#[test]
fn letters_of_an_emulate_prefix_are_no_branch() {
    let mut kernel = synth::sample(false);
    // UD2, "xen", CPUID. Decoded straight on, `xe` is a jump of 0x65 bytes.
    kernel.code(TEXT + 0x300, b"\x0f\x0bxen\x0f\xa2");
    kernel.code(TEXT + 0x365, &synth::branch(0xe9, TEXT + 0x365, TEXT + 0x8a0));
    kernel.pointers.entry(".return_sites").or_default().push(TEXT + 0x365);
    let inventory = linux::inventory(&[parse(kernel.elf())]);
    assert!(inventory.entered.iter().all(|entered| entered.kind != "return"), "{:?}", inventory.entered);
}

#[test]
fn filters_leave_what_they_say() {
    let images = [parse(synth::sample(false).elf())];
    let rows = |filter: Filter| linux::rows(&images, &filter).map(|row| row.site).collect::<Vec<_>>();
    let any = Filter::default;
    assert_eq!(
        rows(Filter { kinds: vec![Kind::JumpLabel], ..any() }),
        ["first_function+0x3e", "first_function+0x50"]
    );
    assert_eq!(rows(Filter { crossing: Some(64), ..any() }), ["first_function+0x3e"]);
    assert_eq!(rows(Filter { length: Some(8), ..any() }), ["third_function+0x0"]);
    assert_eq!(rows(Filter { state: Some(State::Lock), ..any() }), ["third_function+0x70"]);
    assert_eq!(rows(Filter { function: Some("second_function".into()), ..any() }).len(), 3);
    assert_eq!(rows(Filter { function: Some("*nd_func*".into()), ..any() }).len(), 3);
    assert_eq!(rows(Filter { function: Some("second".into()), ..any() }).len(), 0);
}

#[test]
fn a_difference_is_a_site_that_moved_came_or_went() {
    let before = [parse(synth::sample(false).elf())];
    assert!(linux::diff(&before, &before, &Filter::default()).is_empty());
    let mut kernel = synth::sample(false);
    // The long label moves out of its cache line, the short one goes, and a call comes.
    kernel.labels[0].0 = TEXT + 0x48;
    kernel.code(TEXT + 0x48, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
    kernel.labels.pop();
    kernel.code(TEXT + 0x130, &synth::branch(0xe8, TEXT + 0x130, TEXT + 0x820));
    let key = kernel.calls[0].1;
    kernel.calls.push((TEXT + 0x130, key, false));
    let after = [parse(kernel.elf())];
    let diff = linux::diff(&before, &after, &Filter::default());
    let labels = &diff.kinds[0];
    assert_eq!((labels.before, labels.after, labels.removed, labels.crossing, labels.state), (2, 1, 1, 1, 0));
    let calls = &diff.kinds[1];
    assert_eq!((calls.before, calls.after, calls.added, calls.removed), (3, 4, 1, 0));
    assert_eq!(diff.changes.len(), 3);
    assert_eq!(diff.changes[0].before.as_deref(), Some("5 bytes, nop, 2+3 across 64"));
    assert_eq!(diff.changes[0].after.as_deref(), Some("5 bytes, nop"));
}

#[test]
fn each_hazard_of_a_window_is_named() {
    let mut kernel = synth::sample(false);
    kernel.symbol(TEXT + 0x400, 'T', "probed");
    #[rustfmt::skip]
    let code = [
        0x48, 0x89, 0xf8,             // 0: mov rax, rdi
        0x48, 0x8b, 0x07,             // 3: mov rax, [rdi]       in the exception table
        0xff, 0xd0,                   // 6: call rax
        0x90,                         // 8: nop                  where the call returns
        0x48, 0x01, 0xc8,             // 9: add rax, rcx
        0x48, 0x01, 0xd0,             // c: add rax, rdx         where a branch arrives
        0x48, 0x01, 0xf0,             // f: add rax, rsi
        0x75, 0xf8,                   // 12: jne c
        0xb8, 1, 0, 0, 0,             // 14: mov eax, 1
        0xc3,                         // 19: ret
    ];
    kernel.code(TEXT + 0x400, &code);
    kernel.exceptions.push((TEXT + 0x403, TEXT + 0x414));
    kernel.symbol(TEXT + 0x440, 'T', "next_function");
    let image = parse(kernel.elf());
    let windows = linux::windows(&image, "probed");
    let at =
        |offset: u64| &windows.iter().find(|window| window.address == TEXT + 0x400 + offset).unwrap().hazards;
    assert_eq!(at(0)[..], [Hazard::Faulting { byte: 3 }]);
    assert_eq!(at(6)[..], [Hazard::Returned { byte: 2 }]);
    assert_eq!(at(8).len(), 1);
    assert!(matches!(at(9)[..], [Hazard::Entered { byte: 3, via: Via::Branch, .. }]), "{:?}", at(9));
    assert_eq!(at(0xc)[..], []);
    assert!(matches!(at(0x12)[..], [Hazard::Entered { byte: 2, via: Via::Fixup, .. }]), "{:?}", at(0x12));
    assert_eq!(at(0x14)[..], []);
    assert_eq!(at(0x19)[..], [Hazard::FunctionEnd { left: 1 }]);
    let label = linux::windows(&image, "first_function");
    let label = label.iter().find(|window| window.address == TEXT + 0x3e).unwrap();
    assert_eq!(label.hazards[..], [Hazard::Patched { kind: "jump-label", byte: 0 }]);
    for hazard in windows.iter().flat_map(|window| &window.hazards) {
        assert!(!hazard.to_string().is_empty());
    }
}

#[test]
fn a_page_needs_nothing_else_and_escapes_names() {
    let mut kernel = synth::sample(false);
    kernel.symbols.iter_mut().filter(|symbol| symbol.2 == "first_function").for_each(|symbol| {
        symbol.2 = "<script>&\"".into();
    });
    let images = [parse(kernel.elf())];
    let filter = Filter::default();
    let list = tables::list(images[0].release.as_ref(), linux::rows(&images, &filter), false);
    for page in [tables::html(&tables::inventory(&linux::inventory(&images))), tables::html(&list)] {
        assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
        for outside in ["http:", "https:", "src=", "@import", "url(", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("prefers-color-scheme:dark") && page.contains("@media print"));
    }
    assert!(tables::html(&list).contains("&lt;script&gt;&amp;"));
    let csv = tables::csv(&list);
    assert!(csv.lines().all(|line| line.split(',').count() == 11), "{csv}");
    assert!(csv.contains("\"<script>&\"\"+0x3e\""), "{csv}");
}

/// Every class with the verdict that a rule of the test gives it.
fn judged(images: &[Image], kinds: &[Kind], verdict: impl Fn(&str) -> Verdict) -> Vec<Judged> {
    let classes = linux::classes(images, &Filter { kinds: kinds.to_vec(), ..Filter::default() });
    let setup = PatchSetup::new("text_poke_fixup");
    let check = |scenario: &crossmod::Scenario| Ok::<_, ()>(verdict(&scenario.name));
    let (judged, error) = judge::judge(images, classes, &setup, check, |_, _| {});
    assert_eq!(error, None);
    judged
}

#[test]
fn a_class_longer_than_a_scenario_shows_the_bytes_that_were_judged() {
    let images = [parse(Kernel::long().elf())];
    let judged = judged(&images, &[Kind::Alternative], |_| Verdict::Hazard([Property::Interior].into()));
    let [one] = &judged[..] else { panic!("{judged:?}") };
    assert_eq!((one.class.traits.length, one.left_out), (43, 13));
    let document = tables::judgement(&images, &judged, &PatchSetup::new("text_poke_fixup"), "", 1);
    let shown = format!("{} and 13 more", "x".repeat(30));
    for form in [tables::text(&document), tables::html(&document)] {
        assert!(form.contains(&shown), "{form}");
    }
}

#[test]
fn what_safe_rests_on_is_counted_and_said() {
    let mut images = vec![parse(Kernel::long().elf())];
    images.push(parse(synth::sample(false).elf()));
    let mut judged = judged(&images, &[Kind::Alternative, Kind::Lock, Kind::JumpLabel], |_| Verdict::Safe);
    let provisos = Provisos::of(&judged, &Verdict::Safe);
    // The lock's instruction and the shorter alternative access memory.
    assert_eq!(provisos, Provisos { adapted: 2, misses: 0, left_out: 1 });
    judged.iter_mut().find(|one| one.class.traits.kind == Kind::Lock).unwrap().misses = 1;
    let document = tables::judgement(&images, &judged, &PatchSetup::new("text_poke_fixup"), "", 5);
    let text = tables::text(&document);
    for line in [
        "5 of 5 sites are safe with text_poke_fixup under the intel rule",
        "2 of the safe sites were judged with stand-ins or moved targets",
        "1 of the safe sites were judged with versions that differ in other bytes than the real ones",
        "1 of the safe sites were judged by their first bytes only",
    ] {
        assert!(text.contains(line), "`{line}` is not in\n{text}");
        assert!(tables::html(&document).contains(line), "{line}");
    }
    // Nothing is claimed about sites that are not safe.
    judged.iter_mut().for_each(|one| one.verdict = Verdict::NotDecided("cut".into()));
    assert_eq!(Provisos::of(&judged, &Verdict::Safe).lines(), [""; 0]);
}

#[test]
fn the_summary_says_what_a_store_alone_would_do() {
    let mut kernel = Kernel::default();
    kernel.symbol(TEXT, 'T', "function");
    let key = kernel.key("key", 0);
    // Inside of a quadword twice, across one, across a line, across a page twice; and what nobody judged.
    for offset in [0x100, 0x200, 0x306, 0x43e, 0xffe, 0x1ffe] {
        kernel.code(TEXT + offset, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        kernel.labels.push((TEXT + offset, TEXT + offset + 0x145, key));
    }
    kernel.code(TEXT + 0x3000, &[0xc3]);
    let images = [parse(kernel.elf())];
    let mut judged = judged(&images, &[Kind::JumpLabel], |name| {
        let torn = ["+0x306", "+0x43e", "+0xffe"].iter().any(|site| name.contains(site));
        // Neither the rule nor INT3 promises when a store is seen.
        let late = Verdict::Hazard([Property::Stale].into());
        if torn { Verdict::Hazard([Property::Torn, Property::Unserialised].into()) } else { late }
    });
    let sum = OneStore::of(&judged, 7);
    let torn = Torn { inside: 0, quadword: 1, line: 1, page: 2 };
    assert_eq!(sum, OneStore { sites: 7, safe: 2, int3: 4, wait: 0, not_decided: 1, torn });
    let text = sum.text();
    assert!(
        text.starts_with(
            "of 7 sites 2 are safe with one aligned store under the AMD rule (which does not say when it is seen), 4 need \
             int3 (a handshake), 1 are not decided"
        ) && text.ends_with("4 would tear: 1 at a quadword, 1 at a line, 2 at a page"),
        "{text}"
    );
    judged.iter_mut().for_each(|one| one.verdict = Verdict::Hazard([Property::Interior].into()));
    let sum = OneStore::of(&judged, 6);
    assert_eq!((sum.wait, sum.int3, sum.torn), (6, 0, Torn::default()));
}

#[test]
fn csv_may_have_a_table_of_its_own() {
    let table =
        |head| Table { columns: vec![(head, false)], rows: vec![vec!["a,b".into()]], ..Table::default() };
    let mut document = tables::Document { tables: vec![table("first")], ..tables::Document::default() };
    assert_eq!(tables::csv(&document), "first\r\n\"a,b\"\r\n");
    document.csv = Some(table("own"));
    assert_eq!(tables::csv(&document), "own\r\n\"a,b\"\r\n");
}

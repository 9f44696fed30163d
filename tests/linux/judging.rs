//! Classes, scenarios of sites, and verdicts.

use std::collections::BTreeSet;

use crossmod::CheckOptions;
use crossmod::linux::{self, Filter, Image, Kind, State};
use crossmod::property::Property;
use crossmod::sites::export::{self, Direction, PatchSetup};
use crossmod::sites::judge::{self, Verdict};
use crossmod::x86::VendorRule;

use super::synth::{self, Kernel, TEXT};
use super::{of, parse};
use crate::{harness, kvm};

fn patched() -> Filter {
    Filter { kinds: vec![Kind::JumpLabel, Kind::StaticCall], ..Filter::default() }
}

/// Long jump labels at these offsets, all to the same place.
fn labels(offsets: &[u64]) -> Image {
    let mut kernel = Kernel::default();
    kernel.symbol(TEXT, 'T', "function");
    let key = kernel.key("key", 0);
    for offset in offsets {
        kernel.code(TEXT + offset, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        kernel.labels.push((TEXT + offset, TEXT + offset + 0x145, key));
    }
    kernel.code(TEXT + 0x3000, &[0xc3]);
    parse(kernel.elf())
}

#[test]
fn a_class_is_what_decides_and_nothing_else() {
    // In a quadword; across one, a line and a page, split 2+3; the same elsewhere; a line split 3+2.
    let image = labels(&[0x100, 0x200, 0x303, 0x106, 0x206, 0x13e, 0x23e, 0x7d, 0xffe]);
    let classes = linux::classes(&[image], &patched());
    let found: BTreeSet<_> =
        classes.iter().map(|class| (class.traits.crossing, class.members.len())).collect();
    let expected =
        [(None, 3), (Some((8, 2)), 2), (Some((64, 2)), 2), (Some((64, 3)), 1), (Some((4096, 2)), 1)];
    assert_eq!(found, expected.into());
    // 0f 1f 44 00 00 and e9 40 01 00 00: the last two bytes stay.
    assert!(classes.iter().all(|class| class.traits.differs == 0b111), "{classes:?}");
    assert!(classes.iter().all(|class| class.traits.disk == State::Nop && class.traits.other == State::Jmp));
}

#[test]
fn members_of_a_class_have_scenarios_of_that_class() {
    let images = [parse(synth::sample(false).elf())];
    let setup = PatchSetup::new("text_poke_fixup");
    let mut count = 0;
    for class in linux::classes(&images, &Filter::default()) {
        for member in &class.members {
            let site = &images[0].tables.sites[member.site];
            for direction in Direction::BOTH {
                let exported = export::scenario(&images[0], site, &setup, direction).unwrap();
                let plan = exported.scenario.plan(&crossmod::scenario::Options::default()).unwrap();
                let [old, new] = [&plan.site.old.bytes, &plan.site.new.bytes];
                let differs = old
                    .iter()
                    .zip(new)
                    .enumerate()
                    .fold(0, |mask, (at, (a, b))| mask | u32::from(a != b) << at);
                assert_eq!(differs, class.traits.differs, "{}", exported.scenario.text);
                assert_eq!(plan.site.address % 4096, site.address % 4096);
                if !exported.adapted {
                    let forward = direction == Direction::Forward;
                    assert_eq!(old == &site.bytes, forward);
                }
                count += 1;
            }
        }
    }
    // Labels, calls, ftrace's, and one of each of the five others.
    assert_eq!(count, 2 * (2 + 3 + 1 + 5));
    assert!(linux::without_class(&images, &Filter::default()).is_empty());
}

#[test]
fn what_the_image_does_not_tell_can_be_said() {
    let mut kernel = synth::sample(false);
    kernel.symbols.retain(|symbol| symbol.2 != "pv_ops");
    let images = [parse(kernel.elf())];
    let site = of(&images[0], Kind::Paravirt)[0];
    assert_eq!(linux::without_class(&images, &Filter::default()), [(Kind::Paravirt, 1)].into());
    let setup = PatchSetup::new("text_poke_fixup");
    let export = |site: &_| export::scenario(&images[0], site, &setup, Direction::Forward);
    let error = export(site).unwrap_err().to_string();
    assert!(error.contains("third_function+0x40") && error.contains("`--new`"), "{error}");
    // NOPs fill what is left of it.
    let given = export::with_new(&images[0], site, &[0x31, 0xc0]).unwrap();
    assert_eq!(given.other.as_deref(), Some(&[0x31, 0xc0, 0x0f, 0x1f, 0x40, 0x00][..]));
    assert!(export(&given).is_ok());
    for (bytes, reason) in [(&[0x90; 7][..], "7"), (&[], "0"), (&site.bytes[..], "differ from")] {
        let error = export::with_new(&images[0], site, bytes).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("6 bytes") && error.contains("help: "), "{error}");
    }
}

#[test]
fn instructions_decide_about_a_class_not_only_bytes() {
    // The same bytes differ, once in one instruction and once in two.
    let mut kernel = Kernel::default();
    kernel.symbol(TEXT, 'T', "function");
    kernel.code(TEXT + 0x900, &[0x31, 0xc9, 0x31, 0xd2, 0x31, 0xf6, 0x31, 0xff, 0xc3]);
    for (at, code) in [(0x100, &[0x48, 0x8d, 0x49, 0x01][..]), (0x200, &[0x88, 0xca, 0x88, 0xd9])] {
        kernel.code(TEXT + at, code);
        kernel.alternatives.push((TEXT + at, TEXT + 0x900, 1, 4, 4));
    }
    let images = [parse(kernel.elf())];
    let classes = linux::classes(&images, &Filter::default());
    assert_eq!(classes.len(), 2, "{classes:?}");
    assert!(classes.iter().all(|class| class.traits.differs == 0b1111), "{classes:?}");
}

#[test]
fn a_long_site_is_cut_between_instructions_and_the_file_says_so() {
    let image = parse(Kernel::long().elf());
    let site = of(&image, Kind::Alternative)[0];
    let setup = PatchSetup::new("stop_machine");
    let exported = export::scenario(&image, site, &setup, Direction::Forward).unwrap();
    assert!(exported.scenario.text.contains("the first 30 of its"), "{}", exported.scenario.text);
    let plan = exported.scenario.plan(&crossmod::scenario::Options::default()).unwrap();
    assert_eq!((plan.site.len(), plan.site.new.boundaries.len()), (30, 6));
    assert!(exported.stand_ins.is_empty());
}

#[test]
fn what_is_not_explored_has_a_stand_in_that_the_file_names() {
    let image = parse(synth::sample(false).elf());
    let setup = PatchSetup::new("text_poke_fixup");
    let export = |kind, direction| export::scenario(&image, of(&image, kind)[0], &setup, direction).unwrap();
    let lock = export(Kind::Lock, Direction::Forward);
    assert!(lock.adapted && lock.misses == 0 && lock.stand_ins.len() == 2);
    let text = &lock.scenario.text;
    assert!(text.contains("stands for `f0 ff 07` at byte 0: it reads or writes memory"), "{text}");
    assert!(text.contains("while only one CPU is online") && text.contains("without = [\"tail\"]"), "{text}");
    let alternative = export(Kind::Alternative, Direction::Forward);
    let text = &alternative.scenario.text;
    // `mov rax, [rdi]` reads memory; the move before it is taken as it is.
    assert!(text.contains("stands for `48 8b 07` at byte 3") && text.contains("old = \"48 89 c8 "), "{text}");
    assert!(text.contains("Linux patches it once") && text.contains("resume = \"retry\""), "{text}");
    let call = of(&image, Kind::StaticCall)[2];
    let zero = export::scenario(&image, call, &setup, Direction::Forward).unwrap().scenario.text;
    assert!(zero.contains("resume = \"next\"") && !zero.contains("stands for"), "{zero}");
}

#[test]
fn targets_too_near_for_pads_are_moved_and_the_file_says_so() {
    let mut kernel = Kernel::default();
    kernel.symbol(TEXT, 'T', "function");
    let key = kernel.key("key", 0);
    // The jump skips two bytes only.
    kernel.code(TEXT + 0x20, &[0x66, 0x90]);
    kernel.labels.push((TEXT + 0x20, TEXT + 0x24, key));
    kernel.code(TEXT + 0x100, &[0xc3]);
    let image = parse(kernel.elf());
    let site = &image.tables.sites[0];
    let exported =
        export::scenario(&image, site, &PatchSetup::new("plain_store"), Direction::Forward).unwrap();
    assert!(exported.adapted);
    assert!(
        exported.scenario.text.contains("# new:   eb 02 (jmp to function+0x24"),
        "{}",
        exported.scenario.text
    );
    assert!(exported.scenario.text.contains("moved apart"), "{}", exported.scenario.text);
    assert!(exported.scenario.text.contains("new = \"eb 12\""), "{}", exported.scenario.text);
}

#[test]
fn names_from_an_image_cannot_leave_their_line_or_directory() {
    let mut kernel = synth::sample(false);
    kernel.symbols.iter_mut().filter(|symbol| symbol.2 == "first_function").for_each(|symbol| {
        symbol.2 = "../\"x\"\n[site]\\".into();
    });
    kernel.unstripped = true;
    let image = parse(kernel.elf());
    let site = of(&image, Kind::JumpLabel)[0];
    let exported =
        export::scenario(&image, site, &PatchSetup::new("plain_store"), Direction::Forward).unwrap();
    assert_eq!(export::file_stem(&exported.scenario.name), "..__x___site__+0x3e");
    exported.scenario.plan(&crossmod::scenario::Options::default()).unwrap();
}

#[test]
fn each_class_is_asked_once_in_each_direction() {
    let images = [labels(&[0x100, 0x200, 0x303, 0x13e, 0x23e])];
    let classes = linux::classes(&images, &patched());
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    let (judged, error) = judge::judge(
        &images,
        classes,
        &PatchSetup::new("plain_store"),
        |scenario| {
            asked.push(scenario.name.clone());
            Ok::<_, ()>(match scenario.name.contains("+0x13e") {
                true => Verdict::Hazard([Property::Torn].into()),
                false => Verdict::Safe,
            })
        },
        |done, _| told.push(done),
    );
    assert_eq!(error, None);
    assert_eq!(
        asked,
        [
            "sites/function+0x100",
            "sites/function+0x100-back",
            "sites/function+0x13e",
            "sites/function+0x13e-back"
        ]
    );
    assert_eq!(told, [0, 1]);
    let tally = judge::tally(&judged);
    assert_eq!(tally, [(Verdict::Hazard([Property::Torn].into()), 2, 1), (Verdict::Safe, 3, 1)]);
    // The verdicts from before an error are kept.
    let classes = linux::classes(&images, &patched());
    let mut left = 2;
    let check = |_: &crossmod::Scenario| {
        left -= 1;
        if left < 0 { Err("enough") } else { Ok(Verdict::Safe) }
    };
    let (judged, error) = judge::judge(&images, classes, &PatchSetup::new("plain_store"), check, |_, _| {});
    assert_eq!((judged.len(), error), (1, Some("enough")));
}

#[test]
fn verdicts_are_those_of_the_protocols() {
    kvm::required();
    let images = [parse(synth::sample(false).elf())];
    let mut checker = harness::checker();
    let mut verdicts = |protocol: &str, rule: VendorRule| {
        let setup = PatchSetup { rule, passes: 1, ..PatchSetup::new(protocol) };
        let check = |scenario: &crossmod::Scenario| {
            checker.check(scenario, &CheckOptions::default(), |_| {}).map(|report| Verdict::of(&report))
        };
        let (judged, error) =
            judge::judge(&images, linux::classes(&images, &patched()), &setup, check, |_, _| {});
        assert!(error.is_none(), "{error:?}");
        judged.into_iter().map(|judged| (judged.class.traits, judged.verdict)).collect::<Vec<_>>()
    };
    for (traits, verdict) in verdicts("text_poke_fixup", VendorRule::Intel) {
        assert_eq!(verdict, Verdict::Safe, "{traits:?}");
    }
    for (traits, verdict) in verdicts("plain_store", VendorRule::Amd) {
        // One store inside an aligned quadword needs no sync; across a line it tears.
        match traits.crossing {
            None => assert_eq!(verdict, Verdict::Safe, "{traits:?}"),
            Some((64.., _)) => assert!(verdict.text().contains("torn"), "{traits:?}: {verdict:?}"),
            Some(_) => assert_eq!(verdict.text(), "unserialised", "{traits:?}"),
        }
    }
}

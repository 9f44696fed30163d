//! Every container, compression and layout gives the same sites.

use crossmod::linux::{self, Kind, State};

use super::synth::{self, Packing, TEXT};
use super::{of, parse};

#[test]
fn every_compression_holds_the_same_kernel() {
    for newer in [false, true] {
        let kernel = synth::sample(newer).elf();
        let plain = parse(kernel.clone());
        assert_eq!(plain.compression, None);
        assert_eq!(plain.release.as_deref(), Some("6.0.0-synthetic (nobody@nowhere) #1 SMP"));
        for packing in Packing::ALL {
            let image = parse(synth::bzimage(&kernel, packing));
            assert_eq!(image.tables, plain.tables, "{packing:?}");
            assert_eq!(
                image.compression.map(|packed| packed.name().to_owned()),
                Some(format!("{packing:?}").to_lowercase())
            );
        }
    }
}

#[test]
fn kallsyms_of_both_layouts_and_a_symbol_table_give_the_same_names() {
    for newer in [false, true] {
        let mut kernel = synth::sample(newer);
        let stripped = parse(kernel.elf());
        kernel.unstripped = true;
        let unstripped = parse(kernel.elf());
        assert!(unstripped.binary.unstripped && !stripped.binary.unstripped);
        assert_eq!(stripped.tables, unstripped.tables);
        for site in &stripped.tables.sites {
            assert_eq!(stripped.label(site), unstripped.label(site));
        }
        let labels: Vec<String> =
            of(&stripped, Kind::JumpLabel).iter().map(|site| stripped.label(site)).collect();
        assert_eq!(labels, ["first_function+0x3e", "first_function+0x50"]);
    }
}

#[test]
fn each_kind_is_read_with_both_versions() {
    let image = parse(synth::sample(false).elf());
    let labels = of(&image, Kind::JumpLabel);
    assert_eq!(labels[0].bytes, [0x0f, 0x1f, 0x44, 0x00, 0x00]);
    assert_eq!(labels[0].other.as_deref(), Some(&[0xe9, 0x3d, 0, 0, 0][..]));
    assert_eq!((labels[0].crossing(), labels[0].split()), (Some(64), Some(2)));
    assert_eq!(labels[0].target, Some(TEXT + 0x80));
    assert_eq!((labels[1].state(), labels[1].other.as_deref()), (State::Jmp, Some(&[0x66, 0x90][..])));
    let calls = of(&image, Kind::StaticCall);
    assert_eq!(calls.iter().map(|call| call.tail).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(calls[0].other.as_deref(), Some(&synth::branch(0xe8, TEXT + 0x106, TEXT + 0x200)[..]));
    assert_eq!(calls[1].other.as_deref(), Some(&[0xc3, 0xcc, 0xcc, 0xcc, 0xcc][..]));
    assert_eq!(calls[2].other.as_deref(), Some(&[0x2e, 0x2e, 0x2e, 0x31, 0xc0][..]));
    assert_eq!(image.binary.symbols.label(calls[0].key.unwrap()), "__SCK__call+0x0");
    assert_eq!(of(&image, Kind::Mcount)[0].other.as_deref(), Some(&[0x0f, 0x1f, 0x44, 0x00, 0x00][..]));
    let alternative = of(&image, Kind::Alternative)[0];
    assert_eq!((alternative.len(), alternative.feature), (8, Some(0x127)));
    // The replacement, `xor eax, eax` and a NOP, and NOPs.
    assert_eq!(alternative.other.as_deref(), Some(&[0x31, 0xc0, 0x66, 0x0f, 0x1f, 0x44, 0, 0][..]));
    let direct = [&synth::branch(0xe8, TEXT + 0x240, TEXT + 0x840)[..], &[0x90]].concat();
    for (kind, state, other) in [
        (Kind::Paravirt, State::Indirect, &direct[..]),
        (Kind::Retpoline, State::Call, &[0xff, 0xd0, 0x0f, 0x1f, 0x00]),
        (Kind::Return, State::Jmp, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc]),
        (Kind::Lock, State::Lock, &[0x3e]),
    ] {
        let site = of(&image, kind)[0];
        assert_eq!((site.state(), site.other.as_deref()), (state, Some(other)), "{kind}");
    }
    assert_eq!(image.tables.exceptions.len(), 1);
}

#[test]
fn entry_formats_are_detected() {
    let formats = |newer| parse(synth::sample(newer).elf()).tables.formats[".altinstructions"];
    assert_eq!(formats(false), "12 bytes");
    assert_eq!(formats(true), "14 bytes, with flags");
    let newer = parse(synth::sample(true).elf());
    assert_eq!(newer.tables.padding["__mcount_loc"], 3);
    assert_eq!(newer.tables.padding[".smp_locks"], 1);
    assert_eq!(of(&newer, Kind::Mcount).len(), 1);
    assert_eq!(of(&newer, Kind::CallThunk)[0].state(), State::Call);
    assert_eq!(of(&newer, Kind::Endbr)[0].state(), State::Endbr);
    assert_eq!(of(&newer, Kind::Endbr)[0].other.as_deref(), Some(&[0x66, 0x0f, 0x1f, 0x00][..]));
    // What counts a call stands before the function.
    let counted = synth::branch(0xe8, TEXT + 0x250, TEXT + 0x880 - 10);
    assert_eq!(of(&newer, Kind::CallThunk)[0].other.as_deref(), Some(&counted[..]));
}

#[test]
fn a_call_through_a_pointer_becomes_one_of_what_it_points_to() {
    // Since 6.8 an alternative: flags above the feature, `call BUG_func` as its replacement.
    let at = TEXT + 0x240;
    let other = |function: u64, named: &str| {
        let mut kernel = synth::sample(true);
        let pointer = kernel.key("pv_ops", function);
        kernel.symbol(function, 'T', named);
        let displacement = (pointer.wrapping_sub(at + 6) as i32).to_le_bytes();
        kernel.code(at, &[&[0xff, 0x15][..], &displacement].concat());
        kernel.code(TEXT + 0x908, &synth::branch(0xe8, TEXT + 0x908, TEXT + 0x840));
        kernel.direct_calls = true;
        kernel.alternatives = vec![(at, TEXT + 0x908, 0x127, 6, 5)];
        of(&parse(kernel.elf()), Kind::Alternative)[0].other.clone()
    };
    let call = [&synth::branch(0xe8, at, TEXT + 0x910)[..], &[0x90]].concat();
    assert_eq!(other(TEXT + 0x910, "native"), Some(call));
    assert_eq!(other(TEXT + 0x910, "nop_func"), Some(vec![0x66, 0x0f, 0x1f, 0x44, 0, 0]));
}

#[test]
fn a_module_is_laid_out_as_the_kernel_does_it() {
    let image = parse(synth::module());
    assert!(image.binary.module);
    assert_eq!(image.release.as_deref(), Some("6.0.0-synthetic SMP "));
    // .text has 0x50 bytes, the next text section begins at the next multiple of 64, so that 0x2f is 0xaf.
    let label = of(&image, Kind::JumpLabel)[0];
    assert_eq!(label.address % 4096, 0xaf);
    assert_eq!(image.label(label), "function+0xf");
    assert_eq!(image.binary.symbols.label(label.key.unwrap()), "some_key+0x0");
    assert_eq!((label.crossing(), label.split()), (Some(16), Some(1)));
    assert_eq!(label.target.map(|target| target % 4096), Some(0x100));
}

#[test]
fn a_directory_holds_modules_in_any_packing() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("kernel/net");
    std::fs::create_dir_all(&deep).unwrap();
    let module = synth::module();
    std::fs::write(directory.path().join("a.ko"), &module).unwrap();
    std::fs::write(deep.join("b.ko.xz"), Packing::Xz.pack(&module)).unwrap();
    std::fs::write(deep.join("c.ko.zst"), Packing::Zstd.pack(&module)).unwrap();
    std::fs::write(deep.join("d.ko.gz"), Packing::Gzip.pack(&module)).unwrap();
    std::fs::write(deep.join("modules.dep"), "nothing").unwrap();
    std::os::unix::fs::symlink(directory.path(), directory.path().join("build")).unwrap();
    let images = linux::load(directory.path(), &|_, _| {}).unwrap();
    let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
    assert_eq!(names, ["a.ko", "kernel/net/b.ko.xz", "kernel/net/c.ko.zst", "kernel/net/d.ko.gz"]);
    assert!(images.iter().all(|image| image.tables == images[0].tables));
    assert_eq!(linux::inventory(&images).kinds[0].sites, 4);
}

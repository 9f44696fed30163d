//! Damaged and hostile images: the error says where, why and what to do, and nothing panics.

use crossmod::linux::{self, ImageError};
use crossmod::sites::export::{self, Direction, PatchSetup};
use proptest::prelude::*;

use super::synth::{self, Kernel, Packing, TEXT};

/// Reads an image and does everything else that Crossmod does with images.
fn digest(bytes: Vec<u8>) -> Result<(), ImageError> {
    let images = [linux::exercise(bytes)?];
    let inventory = linux::inventory(&images);
    let classes = linux::classes(&images, &linux::Filter::default());
    assert!(classes.len() <= images[0].tables.sites.len());
    let setup = PatchSetup::new("text_poke_fixup");
    for class in classes.iter().take(8) {
        let site = &images[0].tables.sites[class.members[0].site];
        for direction in Direction::BOTH {
            // The bytes of a scenario differ where those of its class do.
            let Ok(exported) = export::scenario(&images[0], site, &setup, direction) else { continue };
            let plan = exported.scenario.plan(&crossmod::scenario::Options::default()).unwrap();
            let pairs = plan.site.old.bytes.iter().zip(&plan.site.new.bytes).enumerate();
            let differs = pairs.fold(0, |mask, (at, (a, b))| mask | u32::from(a != b) << at);
            assert!(exported.misses > 0 || differs == class.traits.differs, "{}", exported.scenario.text);
        }
    }
    assert!(inventory.kinds.iter().all(|kind| kind.places <= kind.sites));

    Ok(())
}

/// An error has all three parts.
fn complete(error: &ImageError) {
    for part in [&error.place, &error.reason, &error.remedy] {
        assert!(!part.is_empty() && part.len() < 400, "{error:?}");
    }
}

fn images() -> Vec<Vec<u8>> {
    let mut unstripped = synth::sample(true);
    unstripped.unstripped = true;
    let kernel = synth::sample(false).elf();
    let mut images = vec![kernel.clone(), synth::sample(true).elf(), unstripped.elf(), synth::module()];
    images.extend(Packing::ALL.map(|packing| synth::bzimage(&kernel, packing)));
    images.push(Packing::Xz.pack(&synth::module()));
    images.push(Packing::Zstd.pack(&synth::module()));
    images
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_truncated_image_is_refused(which in 0..12usize, keep in 0.0..1.0f64) {
        let mut bytes = images().swap_remove(which);
        bytes.truncate((bytes.len() as f64 * keep) as usize);
        // The missing part may be padding behind a payload, which is not read.
        if let Err(error) = digest(bytes) {
            complete(&error);
        }
    }

    #[test]
    fn flipped_bits_are_no_panic(which in 0..12usize, flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..24)) {
        let mut bytes = images().swap_remove(which);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        if let Err(error) = digest(bytes) {
            complete(&error);
        }
    }

    #[test]
    fn wild_words_are_no_panic(which in 0..4usize, words in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0u64, 1, u64::MAX, u64::MAX >> 1, 0xffff_ffff, 0xffff_ffff_ffff_f000])), 1..8)) {
        let mut bytes = images().swap_remove(which);
        for (at, word) in words {
            let at = at.index(bytes.len() / 8) * 8;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        if let Err(error) = digest(bytes) {
            complete(&error);
        }
    }

    #[test]
    fn noise_is_no_panic(magic in prop::sample::select(vec![&b"\x7fELF\x02\x01"[..], b"BZh9", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x5d\0\0", b"\x02\x21\x4c\x18"]), noise in prop::collection::vec(any::<u8>(), 0..4096)) {
        let bytes = [magic, &noise].concat();
        complete(&digest(bytes).unwrap_err());
    }
}

/// What is said of a kernel after something was done to it.
fn said(change: impl FnOnce(&mut Kernel)) -> String {
    let mut kernel = synth::sample(false);
    change(&mut kernel);
    let error = digest(kernel.elf()).unwrap_err();
    complete(&error);
    error.to_string()
}

#[test]
fn entries_that_are_wrong_are_named() {
    let check = |said: String, parts: &[&str]| {
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in\n{said}");
        }
    };
    check(
        said(|kernel| kernel.code(TEXT + 0x3e, &[0x0f, 0x1f, 0x44, 0x00, 0x01])),
        &[
            "__jump_table, entry at 0xffffffff83",
            "0f 1f 44 00 01, are neither a NOP nor a jump to 0xffffffff81000080",
        ],
    );
    check(
        said(|kernel| kernel.labels[0].0 = 0xffff_ffff_8500_0000),
        &["__jump_table", "is not in executable memory"],
    );
    check(
        said(|kernel| kernel.code(TEXT + 0x106, &[0xe9])),
        &[".static_call_sites, entry at", "are not a call"],
    );
    check(said(|kernel| kernel.code(TEXT, &[0x90])), &["__mcount_loc", "are neither a call nor a NOP"]);
    check(said(|kernel| kernel.alternatives[0].4 = 200), &[".altinstructions", "200 bytes cannot replace 8"]);
    check(said(|kernel| kernel.paravirt[0].1 = 0), &[".parainstructions", "its 0 bytes"]);
    check(
        said(|kernel| kernel.code(TEXT + 0x25d, &[0x31, 0xc0])),
        &[".return_sites", "are not a jump or return"],
    );
    check(said(|kernel| kernel.exceptions[0].1 = 0xffff_ffff_8500_0000), &["__ex_table", "its fixup"]);
    check(
        said(|kernel| {
            let alternative = kernel.alternatives[0];
            kernel.alternatives = vec![alternative; 20];
        }),
        &["tables", "more than 16 sites"],
    );
}

#[test]
fn containers_that_are_wrong_are_named() {
    let kernel = synth::sample(false).elf();
    let say = |bytes: Vec<u8>| digest(bytes).unwrap_err().to_string();
    let image = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = synth::bzimage(&kernel, Packing::Lz4);
        change(&mut bytes);
        say(bytes)
    };
    assert!(say(Vec::new()).contains("it is empty"));
    assert!(say(b"!<arch>\ndebian-binary".to_vec()).contains("dpkg-deb -x"));
    assert!(say(b"#!/bin/sh\n".to_vec()).contains("it is not an ELF file"));
    assert!(image(&|bytes| bytes[0x207] = 1).contains("boot protocol 1.15"));
    assert!(image(&|bytes| bytes[0x24f] = 0x7f).contains("the payload is bytes 1088 to"));
    assert!(image(&|bytes| bytes[0x440] = 0).contains("no known compression begins with 00 21 4c 18"));
    // A payload that announces more than any kernel has is not unpacked.
    let end = 0x440 + u32::from_le_bytes(*image_length(&kernel).first_chunk().unwrap()) as usize;
    assert!(image(&|bytes| bytes[end - 1] = 0xff).contains("more than any kernel has"));
    // Unpacking stops where the payload exceeds the announced size.
    assert!(image(&|bytes| bytes[end - 4..end].fill(0)).contains("unpacks to more than 0 bytes"));
    let mut arm = kernel.clone();
    arm[18] = 183;
    assert!(say(arm).contains("it is for machine 183"));
}

fn image_length(kernel: &[u8]) -> Vec<u8> {
    synth::bzimage(kernel, Packing::Lz4)[0x24c..0x250].to_vec()
}

#[test]
fn a_kernel_without_names_says_what_to_do() {
    let mut bytes = synth::sample(false).elf();
    // kallsyms is found by the digits of its token table.
    let at = bytes.windows(6).position(|window| window == b"0\x001\x002\0").unwrap();
    bytes[at] = b'?';
    let said = digest(bytes).unwrap_err().to_string();
    assert!(said.contains("nor kallsyms in a known layout") && said.contains("CONFIG_KALLSYMS"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_alternative_is_a_scenario(
        old in prop::collection::vec(any::<u8>(), 1..48),
        new in prop::collection::vec(any::<u8>(), 0..48),
        newer in any::<bool>(),
        offset in 0x400..0x500u64,
    ) {
        let mut kernel = synth::sample(newer);
        let short = new.len().min(old.len());
        kernel.code(TEXT + offset, &old);
        kernel.code(TEXT + 0x980, &[0xcc; 64]);
        kernel.code(TEXT + 0x980, &new[..short]);
        kernel.alternatives = vec![(TEXT + offset, TEXT + 0x980, 1, old.len() as u8, short as u8)];
        let result = digest(kernel.elf());
        prop_assert!(result.is_ok(), "{result:?}");
    }
}

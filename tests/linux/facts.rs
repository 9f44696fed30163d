//! The facts of one real kernel, from a small file that `scripts/check-sites --facts` writes. Its sites, put at their
//! addresses in a made-up kernel, are read as they are in the real one, and the shipped scenarios describe them.

use crossmod::Scenario;
use crossmod::linux::{self, Filter, Image, Kind};
use crossmod::sites::export::{self, Direction, PatchSetup};
use serde_json::Value;

use super::parse;
use super::synth::{Kernel, TEXT};
use crate::shipped;

/// Where `__static_call_return0` is put.
const ZERO: u64 = TEXT + 0x10;

fn facts() -> Value {
    serde_json::from_str(include_str!("6.1.0-56-cloud.facts.json")).unwrap()
}

fn text<'a>(site: &'a Value, field: &str) -> &'a str {
    site[field].as_str().unwrap_or_else(|| panic!("{field} of {site}"))
}

fn address(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Name and offset of a label.
fn split(label: &str) -> (&str, u64) {
    let (name, offset) = label.rsplit_once('+').unwrap();
    (name, address(offset))
}

/// A kernel with those sites, at their addresses.
fn kernel(facts: &Value) -> Image {
    let mut kernel = Kernel::default();
    let name = |kernel: &mut Kernel, at: u64, label: &str| {
        let (name, offset) = split(label);
        if !kernel.symbols.iter().any(|(_, _, known)| known == name) {
            kernel.symbol(at - offset, 'T', name);
        }
    };
    for site in facts["sites"].as_array().unwrap() {
        let at = address(text(site, "address"));
        let (old, target) = (bytes(text(site, "bytes")), address(text(site, "target_address")));
        kernel.code(at, &old);
        // Code must be where branches lead.
        kernel.code(target, &[0xc3]);
        name(&mut kernel, at, text(site, "site"));
        name(&mut kernel, target, text(site, "target"));
        let (key, offset) = split(text(site, "key"));
        let other = bytes(text(site, "other"));
        if text(site, "kind") == "jump-label" {
            let key = kernel.key(key, 0) + offset;
            kernel.labels.push((at, target, key));
        } else {
            let displacement = i32::from_le_bytes(other[1..5].try_into().unwrap());
            let function = (at + 5).wrapping_add_signed(displacement.into());
            let function = match other[0] {
                0x2e => ZERO,
                opcode if opcode == old[0] => function,
                _ => 0,
            };
            let key = kernel.key(key, function);
            kernel.calls.push((at, key, site["tail"] == true));
        }
    }
    kernel.code(ZERO, &[0xc3]);
    kernel.symbol(ZERO, 'T', "__static_call_return0");
    parse(kernel.elf())
}

#[test]
fn real_sites_are_read_as_they_are() {
    let facts = facts();
    let images = [kernel(&facts)];
    let sites = facts["sites"].as_array().unwrap();
    let rows: Vec<_> = linux::rows(&images, &Filter::default()).collect();
    assert_eq!(rows.len(), sites.len());
    for fact in sites {
        let row = rows.iter().find(|row| row.address == text(fact, "address")).unwrap();
        let row = serde_json::to_value(row).unwrap();
        for (field, value) in fact.as_object().unwrap() {
            if field != "key_address" {
                assert_eq!(row[field], *value, "{field} of {fact}");
            }
        }
    }
}

#[test]
fn the_counts_agree_with_one_another() {
    let counts = &facts()["counts"];
    let number = |name: &str| counts[name].as_u64().unwrap();
    assert_eq!(number("jump labels"), number("jump labels, 2 bytes") + number("jump labels, 5 bytes"));
    assert_eq!((number("jump labels"), number("static calls"), number("mcount")), (5980, 4276, 37697));
    let crossing: Vec<u64> = counts["static calls crossing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count.as_u64().unwrap())
        .collect();
    assert_eq!(crossing, [2148, 1059, 530, 250, 4]);
}

#[test]
fn the_shipped_scenarios_are_about_these_sites() {
    let facts = facts();
    let image = kernel(&facts);
    for Scenario { text, .. } in shipped::group("linux") {
        let header = text.lines().find_map(|line| line.strip_prefix("# site:  ")).unwrap();
        let (label, at) = header.split_once(", ").unwrap();
        let site = image.tables.sites.iter().find(|site| site.address == address(at)).unwrap();
        assert_eq!(image.label(site), label);
        assert!(text.contains(&format!("offset = {:#x}", site.address % 4096)), "{text}");
        let exported =
            export::scenario(&image, site, &PatchSetup::new("text_poke_fixup"), Direction::Forward).unwrap();
        if site.kind == Kind::JumpLabel && !exported.adapted {
            let line =
                |text: &str, key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
            let ours = [line(&exported.scenario.text, "old = "), line(&exported.scenario.text, "new = ")];
            let shipped = [line(&text, "old = "), line(&text, "new = ")];
            let mut back = ours.clone();
            back = [back[1].replace("new", "old"), back[0].replace("old", "new")];
            assert!(shipped == ours || shipped == back, "{shipped:?}, {ours:?}");
        }
    }
}

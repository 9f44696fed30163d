//! Random scenarios: small, of all kinds, the same for the same seed.

use std::fmt::Write;

use crossmod::Scenario;
use fastrand::Rng;

use crate::bench::inline;

/// Old and new.
const SITES: [(&str, &str); 8] = [
    ("\"nop5\"", "\"jmp32\""),
    ("\"jmp32\"", "\"nop5\""),
    ("\"call\"", "\"call\""),
    ("\"nop5\"", "\"call\""),
    ("\"nop2\"", "\"jmp8\""),
    ("[\"xor-ecx-ecx\", \"nop3\"]", "\"jmp32\""),
    ("\"31 c9 31 c9\"", "\"31 d2 31 d2\""),
    ("[\"push-rbp\", \"pop-rbp\"]", "[\"nop1\", \"nop1\"]"),
];
/// Inside a quadword, across two, across a cache line (twice), across a page.
const OFFSETS: [u64; 5] = [0x100, 0x104, 0x13e, 0x13f, 0xfff];
const FIXUP: [&str; 8] = [
    "arm = {}",
    "store = { what = \"int3\" }",
    "sync = {}",
    "store = { what = \"new-tail\" }",
    "sync = {}",
    "store = { what = \"new-first\" }",
    "sync = {}",
    "disarm = {}",
];
const STOP: [&str; 5] = [
    "broadcast = { run = \"stop\" }",
    "wait = { arrived = \"all\" }",
    "store = { what = \"new\" }",
    "set = { release = 1 }",
    "wait = { acks = \"all\" }",
];
/// Any step; what the parser does not let pass is another seed's turn.
const STEPS: [&str; 28] = [
    "store = { what = \"int3\" }",
    "store = { what = \"new\" }",
    "store = { what = \"new\", each = 1 }",
    "store = { what = \"new\", each = 2 }",
    "store = { what = \"new-first\" }",
    "store = { what = \"new-tail\" }",
    "store = { what = \"old\" }",
    "store = { what = \"old-first\" }",
    "store = { what = \"old-tail\" }",
    "arm = {}",
    "disarm = {}",
    "sync = {}",
    "sync = { ack = \"before\" }",
    "sync = { ack = \"only\" }",
    "sync = { to = [0] }",
    "broadcast = { run = \"sync\" }",
    "broadcast = { run = \"hold\" }",
    "broadcast = { run = \"stop\" }",
    "broadcast = { run = \"early\" }",
    "wait = { arrived = \"all\" }",
    "wait = { acks = \"all\" }",
    "set = { release = 1 }",
    "assume-synchronised = {}",
    "quiesce = {}",
    "delay = { moves = 1 }",
    "free = { what = \"descriptor\" }",
    "free = { what = \"old-target\" }",
    "done = {}",
];

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn steps(random: &mut Rng) -> Vec<&'static str> {
    let mut steps: Vec<&str> = match random.u8(..4) {
        0 | 1 => FIXUP.to_vec(),
        2 => STOP.to_vec(),
        _ => (0..random.usize(1..5)).map(|_| pick(random, &STEPS)).collect(),
    };
    for _ in 0..random.usize(..4) {
        let at = random.usize(..steps.len());
        match random.u8(..4) {
            0 if steps.len() > 1 => drop(steps.remove(at)),
            1 => steps.insert(at, pick(random, &STEPS)),
            2 => steps[at] = pick(random, &STEPS),
            _ => {
                let other = random.usize(..steps.len());
                steps.swap(at, other);
            }
        }
    }
    if random.u8(..12) == 0 {
        steps.push("abandon = {}");
    }
    steps
}

/// The scenario of a seed.
pub fn scenario(seed: u64) -> Scenario {
    let mut random = Rng::with_seed(seed);
    let random = &mut random;
    let (old, new) = SITES[random.usize(..SITES.len())];
    let mut text = String::new();
    if random.u8(..4) == 0 {
        text.push_str("rule = \"amd\"\n");
    }
    let offset = OFFSETS[random.usize(..OFFSETS.len())];
    let _ = writeln!(text, "[site]\nold = {old}\nnew = {new}\noffset = {offset:#x}");

    let count = random.usize(1..=2);
    let several = old.starts_with('[');
    for _ in 0..count {
        let passes = if count == 1 { random.u8(1..=2) } else { 1 };
        let role = pick(random, &["loop", "loop", "loop", "lock", "lock-irqs-off"]);
        let ring = if role != "lock-irqs-off" && random.u8(..4) == 0 { 3 } else { 0 };
        let _ = writeln!(text, "[[executor]]\npasses = {passes}\nrole = \"{role}\"\nring = {ring}");
        if several && role == "loop" && random.bool() {
            let _ = writeln!(text, "start = {{ interior = {} }}", if old.contains("xor") { 2 } else { 1 });
        }
    }

    let resume = pick(random, &["\"new\"", "\"new\"", "\"old\"", "\"next\"", "\"retry\"", "{ at = 1 }"]);
    let variant = pick(random, &["plain", "plain", "counting", "traced"]);
    let armed = random.u8(..4) == 0;
    let _ = writeln!(text, "[handler]\nresume = {resume}\nvariant = \"{variant}\"\narmed = {armed}");

    // Two executors and events together are mostly too large to search without reduction.
    let (nmi, irq) = match (count, random.u8(..6)) {
        (1, 0) => (2, 0),
        (1, 1 | 2) => (1, 0),
        (1, 3) => (0, 1),
        (1, 4) => (1, 1),
        (2, 0) => (1, 0),
        (2, 1) => (0, 1),
        _ => (0, 0),
    };
    let runs = pick(random, &["site", "site", "nothing"]);
    let _ =
        writeln!(text, "[events]\nnmi = {nmi}\nirq = {irq}\nnmi-runs = \"{runs}\"\nirq-runs = \"{runs}\"");
    for step in steps(random) {
        let _ = write!(text, "\n[[step]]\n{step}\n");
    }
    inline(&format!("seed-{seed}"), &text)
}

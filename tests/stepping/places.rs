//! Every instruction that a run may meet, with where it stands: in the guest image, in the sites of the
//! shipped scenarios, in sites made of the scenario language's names, and in landing pads.

use std::fmt;
use std::sync::LazyLock;

use crossmod::image::Image;
use crossmod::layout::{in_site_pages, pad_code};
use crossmod::plan::Plan;
use crossmod::scenario::{self, Options};
use crossmod::x86::decode;
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

/// The form of an instruction: what the table has one row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    pub code: Code,
    /// It has a memory operand.
    pub memory: bool,
}

impl Form {
    pub fn of(instruction: &Instruction) -> Form {
        let memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        Form { code: instruction.code(), memory }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.code, if self.memory { " with memory" } else { "" })
    }
}

/// An instruction of the image.
pub struct InImage {
    pub instruction: Instruction,
    /// It belongs to an executor's loop that may run at ring 3.
    pub user: bool,
}

/// Decodes the whole image, from its first to its last byte. Left out are doorbells and the HLTs behind
/// them: their effect is the exit itself, which every delivery and fault test looks at. That is only right
/// where they stand as the host expects, so that is checked here.
pub fn image() -> Vec<InImage> {
    let image = Image::embedded().unwrap();
    let (start, len) = image.extent();
    let end = image.label("guest_end").unwrap();
    assert_eq!(end, start + len as u64, "the image ends with its last label");
    let user = image.label("exec_loop").unwrap()..image.label("exec_lock_irqoff").unwrap();
    let mut found = Vec::new();
    let mut at = start;
    let mut dead = true; // control cannot arrive here by falling through
    while at < end {
        let instruction = decode::decode(image.code(at), at)
            .unwrap_or_else(|| panic!("no instruction at {at:#x}, {:?}", image.nearest(at)));
        let labelled = image.nearest(at).is_some_and(|(_, distance)| distance == 0);
        match instruction.mnemonic() {
            Mnemonic::Out => {
                assert!(labelled, "{at:#x}: a doorbell that begins no handler");
                dead = true;
            }
            Mnemonic::Hlt => assert!(dead, "{at:#x}: a HLT that code runs into"),
            _ => {
                dead = false;
                found.push(InImage { instruction, user: user.contains(&at) });
            }
        }
        at = instruction.next_ip();
    }
    for pass in image.passes().unwrap() {
        assert!(found.iter().any(|place| place.instruction.ip() == pass.begin), "{pass:?} begins at no CALL");
    }
    found
}

/// Code that may stand at a site, with a plan in whose machine it can be executed.
pub struct AtSite {
    pub plan: usize,
    pub instruction: Instruction,
    pub bytes: Vec<u8>,
}

/// The plans of the shipped scenarios, and of one scenario for each instruction that the language names.
pub fn plans() -> &'static [Plan] {
    &PLANS
}

static PLANS: LazyLock<Vec<Plan>> = LazyLock::new(|| {
    let mut plans: Vec<Plan> =
        scenario::library().iter().map(|scenario| scenario.plan(&Options::default()).unwrap()).collect();
    for name in [
        "nop1",
        "nop2",
        "nop3",
        "nop4",
        "nop5",
        "nop6",
        "nop7",
        "nop8",
        "nop9",
        "self-loop",
        "endbr64",
        "xor-eax-eax",
        "xor-ecx-ecx",
        "xor-edx-edx",
        "lfence",
        "mfence",
    ] {
        plans.push(named(&format!("\"{name}\"")));
    }
    plans.push(named("[\"push-rbp\", \"mov-rbp-rsp\", \"pop-rbp\"]"));
    plans.push(named("[\"jmp8\", \"nop3\"]"));
    plans.push(named("[\"jmp32\", \"nop3\"]"));
    plans
});

/// A plan whose old version is this value of the language, and whose new one is a NOP of that length.
fn named(old: &str) -> Plan {
    let text = |new: &str| {
        format!(
            "title = \"x\"\nprotocol = \"plain_store\"\nexpect = \"safe\"\n\
             [site]\nold = {old}\nnew = \"{new}\"\noffset = 0x100\n"
        )
    };
    let plan = (1..=9).find_map(|length| {
        scenario::parse("table/named", &text(&format!("nop{length}")), &Options::default()).ok()
    });
    plan.unwrap_or_else(|| {
        panic!("{old} can be in no site: {:?}", scenario::parse("x", &text("nop5"), &Options::default()))
    })
}

/// Every instruction of every version, intermediate and pad of these plans.
pub fn sites(plans: &[Plan]) -> Vec<AtSite> {
    let mut found = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let mut add = |address: u64, bytes: &[u8]| {
            let instruction = decode::decode(bytes, address)
                .unwrap_or_else(|| panic!("{}: no instruction at {address:#x}: {bytes:02x?}", plan.name));
            let bytes = bytes[..instruction.len()].to_vec();
            found.push(AtSite { plan: number, instruction, bytes });
        };
        let site = &plan.site;
        for version in [&site.old, &site.new] {
            for &boundary in &version.boundaries {
                add(site.address + boundary as u64, &version.bytes[boundary..]);
            }
        }
        for intermediate in &site.intermediates {
            add(site.address, intermediate);
        }
        for pad in plan.pads.iter().filter(|pad| in_site_pages(pad.address) && !site.contains(pad.address)) {
            let code = pad_code(pad.mark);
            add(pad.address, &code);
            add(pad.address + 3, &code[3..]);
        }
    }
    found
}

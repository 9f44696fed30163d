//! Versions of a site, distinguished by the value that a pass leaves in RAX.
//!
//! Round *r* of stress has two versions: 2*r* is the old instruction, 2*r* + 1 the new one. A version that is a single
//! branch with a 32-bit displacement carries its number in every byte of the displacement: each target, and each mix of
//! the bytes of two, leads to a cell of the landing page that leaves its own address in RAX, from which every byte of the
//! executed displacement follows. Any other version is only *the old* or *the new one*. So is a version that shares a byte
//! of its displacement with the other, because that byte must remain the same in both.

use std::ops::Range;

use crossmod_abi::{PAGE, va};

use crate::layout::pad_code;
use crate::plan::{Code, Plan};

/// `lea rax, [rip]; ret`: leaves the address of its own end.
const CELL: [u8; 8] = [0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3];
/// The value that a cell leaves, relative to its address.
const LEFT: u32 = 7;
/// Opcodes of CALL and JMP with a 32-bit displacement.
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;

/// One of the two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// A single CALL or JMP rel32.
    Carrying {
        /// Its opcode.
        opcode: u8,
        /// Offset of the first byte of the displacement, so that cells do not overlap the scenario's own pads.
        salt: u8,
    },
    /// The scenario's bytes, and the value that a pass leaves in EAX.
    Fixed { bytes: Vec<u8>, outcome: u32 },
}

/// The version that a pass showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A version with a number, of which this is the low byte.
    Numbered(u8),
    /// The old version, without a number.
    Old,
    /// The new version, without a number.
    New,
    /// The bytes of a branch that is neither version.
    Mixed([u8; 5]),
    /// A value that neither version leaves.
    Neither(u32),
}

/// The versions of a site.
#[derive(Debug, Clone)]
pub struct Versions {
    /// Address behind the site.
    end: u64,
    /// The old version, and the new one.
    forms: [Form; 2],
    /// Mark of the pad behind the site.
    next: u8,
}

impl Versions {
    /// The versions of a plan, or the reason why they cannot be distinguished. `outcome` returns the value that a pass
    /// leaves in EAX with these site pages and this landing page in the machine, or the reason why it leaves none.
    ///
    /// # Errors
    ///
    /// Those of `outcome`, which say nothing about the plan.
    pub fn of<E>(
        plan: &Plan,
        mut outcome: impl FnMut((Vec<u8>, Vec<u8>)) -> Result<Result<u32, String>, E>,
    ) -> Result<Result<Versions, String>, E> {
        let end = plan.site.address + plan.site.len() as u64;
        let next = plan.pads.iter().find(|pad| pad.address == end).map_or(1, |pad| pad.mark);
        let codes = [&plan.site.old, &plan.site.new];
        let fixed = |code: &Code, outcome| Form::Fixed { bytes: code.bytes.clone(), outcome };
        let mut versions = Versions { end, forms: codes.map(|code| fixed(code, 0)), next };
        for (number, code) in codes.into_iter().enumerate() {
            versions.forms[number] = match versions.carrying(plan, code) {
                Some(form) => form,
                None => match outcome((versions.text(plan, number as u64), versions.landing(plan)))? {
                    Ok(outcome) => fixed(code, outcome),
                    Err(why) => {
                        let which = ["old", "new"][number];
                        return Ok(Err(format!("the {which} version alone {why}")));
                    }
                },
            };
        }
        Ok(match &versions.forms {
            [Form::Fixed { outcome: a, .. }, Form::Fixed { outcome: b, .. }] if a == b => Err(
                "a pass through the new version leaves the same value in EAX as one through the old version"
                    .into(),
            ),
            _ => Ok(versions),
        })
    }

    fn carrying(&self, plan: &Plan, code: &Code) -> Option<Form> {
        let &[opcode @ (CALL | JMP), ..] = &code.bytes[..] else { return None };
        if code.bytes.len() != 5 || code.boundaries != [0] {
            return None;
        }
        // A byte that a patch does not change cannot be torn: a number there would make it a different scenario.
        let (old, new) = (&plan.site.old.bytes, &plan.site.new.bytes);
        if (1..5).any(|at| old[at] == new[at]) {
            return None;
        }
        let taken: Vec<Range<u64>> =
            far_pads(plan).map(|address| address % PAGE..address % PAGE + pad_code(0).len() as u64).collect();
        let free = |salt| {
            (0..=255).all(|number| {
                let cell = target(self.end, number, salt) % PAGE;
                taken.iter().all(|pad| cell + CELL.len() as u64 <= pad.start || cell >= pad.end)
            })
        };
        (0..32).find(|&salt| free(salt)).map(|salt| Form::Carrying { opcode, salt })
    }

    fn form(&self, number: u64) -> &Form {
        &self.forms[(number % 2) as usize]
    }

    /// True if neither version carries a number, so that `stale` and `order` are not visible.
    pub fn two_valued(&self) -> bool {
        self.forms.iter().all(|form| matches!(form, Form::Fixed { .. }))
    }

    /// The site's bytes in a version.
    pub fn bytes(&self, number: u64) -> Vec<u8> {
        match self.form(number) {
            Form::Fixed { bytes, .. } => bytes.clone(),
            Form::Carrying { opcode, salt } => {
                let displacement = target(self.end, number as u8, *salt).wrapping_sub(self.end) as u32;
                [&[*opcode][..], &displacement.to_le_bytes()].concat()
            }
        }
    }

    /// The target of a version that carries its number.
    pub fn target(&self, number: u64) -> Option<u64> {
        match self.form(number) {
            Form::Carrying { salt, .. } => Some(target(self.end, number as u8, *salt)),
            Form::Fixed { .. } => None,
        }
    }

    /// The version that left this value in RAX.
    pub fn shown(&self, rax: u64) -> Shown {
        let eax = rax as u32;
        for (form, shown) in self.forms.iter().zip([Shown::Old, Shown::New]) {
            if matches!(form, Form::Fixed { outcome, .. } if *outcome == eax) {
                return shown;
            }
        }
        // A call returns to the pad behind the site, which adds its mark.
        let returned = LEFT + u32::from(self.next);
        let (opcode, left) = match eax & 7 {
            _ if eax < 0x100 => return Shown::Neither(eax),
            LEFT => (JMP, LEFT),
            rest if rest == returned & 7 => (CALL, returned),
            _ => return Shown::Neither(eax),
        };
        let displacement = eax.wrapping_sub(left).wrapping_sub(self.end as u32);
        let [a, number, c, d] = displacement.to_le_bytes();
        let bytes = [opcode, a, number, c, d];
        if self.bytes(u64::from(number)) == bytes { Shown::Numbered(number) } else { Shown::Mixed(bytes) }
    }

    /// The landing page.
    pub fn landing(&self, plan: &Plan) -> Vec<u8> {
        let mut page = CELL.repeat(PAGE as usize / CELL.len());
        for pad in plan.pads.iter().filter(|pad| far_pads(plan).any(|address| address == pad.address)) {
            let at = (pad.address % PAGE) as usize;
            page[at..at + 4].copy_from_slice(&pad_code(pad.mark));
        }
        page
    }

    /// The site pages with a version in place.
    pub fn text(&self, plan: &Plan, number: u64) -> Vec<u8> {
        let mut text = crate::layout::initial_text(plan);
        let start = (plan.site.address - va::SITE) as usize;
        text[start..start + plan.site.len()].copy_from_slice(&self.bytes(number));
        text
    }
}

/// Pads outside of the site pages that a version without a number may lead to.
fn far_pads(plan: &Plan) -> impl Iterator<Item = u64> {
    plan.pads.iter().map(|pad| pad.address).filter(|&address| !crate::layout::in_site_pages(address))
}

/// The target of a version: the start of a cell, forward by 512 MiB to 1.5 GiB.
fn target(end: u64, number: u8, salt: u8) -> u64 {
    let aligning = (end as u8).wrapping_neg() & 7;
    let first = number.wrapping_add(salt) << 3 | aligning;
    let displacement = u32::from_le_bytes([first, number, number, 0x20 + (number & 0x3f)]);
    end + u64::from(displacement)
}

/// The number nearest below or at `begun` with this low byte.
pub fn nearest(low: u8, begun: u64) -> Option<u64> {
    begun.checked_sub(u64::from((begun as u8).wrapping_sub(low)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    fn plan(site: &str) -> Plan {
        let text =
            format!("title = \"t\"\nexpect = \"safe\"\nprotocol = \"text_poke_fixup\"\n[site]\n{site}\n");
        scenario::parse("t", &text, &scenario::Options::default()).unwrap()
    }

    fn of(plan: &Plan, mut outcome: impl FnMut() -> u32) -> Result<Versions, String> {
        Versions::of::<()>(plan, |_| Ok(Ok(outcome()))).unwrap()
    }

    #[test]
    fn a_machine_that_fails_says_nothing_about_the_plan() {
        let plan = plan("old = \"nop2\"\nnew = \"jmp8\"\noffset = 0x100");
        assert_eq!(Versions::of(&plan, |_| Err("no machine")).unwrap_err(), "no machine");
        let why = Versions::of::<()>(&plan, |_| Ok(Err("raises #BP".into()))).unwrap().unwrap_err();
        assert_eq!(why, "the old version alone raises #BP");
    }

    #[test]
    fn every_byte_of_a_branch_says_which_version_it_is_of() {
        for (site, offset) in
            [("old = \"nop5\"\nnew = \"jmp32\"", 0x13e), ("old = \"call\"\nnew = \"call\"", 0x100)]
        {
            let plan = plan(&format!("{site}\noffset = {offset}"));
            let versions = of(&plan, || 1).unwrap();
            assert!(!versions.two_valued());
            let call = site.contains("call");
            for number in (1..600).filter(|number| call || number % 2 == 1) {
                let bytes = versions.bytes(number);
                let other = versions.bytes(number + if call { 1 } else { 2 });
                assert!((1..5).all(|at| bytes[at] != other[at]), "{bytes:02x?} {other:02x?}");
                let target = versions.target(number).unwrap();
                assert_eq!(target % 8, 0);
                let rax = if call { u64::from(target as u32 + 7) + 1 } else { target + 7 };
                assert_eq!(versions.shown(rax), Shown::Numbered(number as u8), "{number}");
                assert_eq!(nearest(number as u8, number + 3), Some(number));
                // Half of one and half of the other.
                let mixed = u32::from_le_bytes([bytes[1], bytes[2], other[3], other[4]]);
                let rax = u64::from((versions.end as u32).wrapping_add(mixed) + 7 + u32::from(call));
                let opcode = bytes[0];
                let expected = [opcode, bytes[1], bytes[2], other[3], other[4]];
                assert_eq!(versions.shown(rax), Shown::Mixed(expected));
            }
        }
    }

    #[test]
    fn what_carries_no_number_is_old_or_new() {
        let plan = plan("old = \"nop2\"\nnew = \"jmp8\"\noffset = 0x100");
        let mut outcomes = [1, 2].into_iter();
        let versions = of(&plan, || outcomes.next().unwrap()).unwrap();
        assert!(versions.two_valued() && versions.target(1).is_none());
        assert_eq!(versions.shown(1), Shown::Old);
        assert_eq!(versions.shown(2), Shown::New);
        assert_eq!(versions.shown(3), Shown::Neither(3));
        assert!(of(&plan, || 1).unwrap_err().contains("leaves the same value"));
        assert_eq!(nearest(3, 2), None);
    }

    #[test]
    fn a_byte_that_both_versions_share_stays_shared() {
        let plan = plan("old = \"0f 1f 44 00 00\"\nnew = \"e9 86 01 00 00\"\noffset = 0x3fc");
        let mut outcomes = [1, 4].into_iter();
        let versions = of(&plan, || outcomes.next().unwrap()).unwrap();
        assert!(versions.two_valued());
        assert_eq!((versions.bytes(6), versions.bytes(7)), (plan.site.old.bytes, plan.site.new.bytes));
    }

    #[test]
    fn cells_keep_off_the_pads_of_the_other_version() {
        let plan = plan("old = [\"xor-ecx-ecx\", \"nop3\"]\nnew = \"jmp32\"\noffset = 0x100");
        let versions = of(&plan, || 1).unwrap();
        let landing = versions.landing(&plan);
        for number in 0..256 {
            let Some(target) = versions.target(2 * number + 1) else { continue };
            let cell = (target % PAGE) as usize;
            assert_eq!(landing[cell..cell + 8], CELL);
        }
    }
}

//! What the guest finds where: the shared page, the site pages with what is around the site, the landing window.
//!
//! Virtual addresses are in [`crossmod_abi::va`]; guest-physical ones are the machine's own.

use crossmod_abi::{PAGE, shared, va};

use crate::plan::{Plan, Word};
use crate::x86::decode::FETCH_WINDOW;

/// vCPUs a machine can have, and executors a plan.
pub const MAX_CPUS: usize = 8;

/// Bytes of the shared page that belong to the state.
pub const SHARED_LEN: usize = shared::STATE_END as usize;

/// The shared page's state.
pub type Shared = [u8; SHARED_LEN];

const _: () = assert!(SHARED_LEN < 256, "offsets of stores are kept in a byte");

/// Filler of everything executable that nothing should reach: `06` is #UD in 64-bit mode, at any alignment.
pub const FILLER: u8 = 0x06;

/// `lea eax, [rax + mark]; ret`: leaves a mark without touching flags.
pub fn pad_code(mark: u8) -> [u8; 4] {
    [0x8d, 0x40, mark, 0xc3]
}

/// True for addresses of the two patchable pages.
pub fn in_site_pages(address: u64) -> bool {
    (va::SITE..va::SITE + 2 * PAGE).contains(&address)
}

/// True if a fetch at `rip` may meet the site pages.
pub fn near_site_pages(rip: u64) -> bool {
    (va::SITE - FETCH_WINDOW as u64..va::SITE + 2 * PAGE).contains(&rip)
}

/// True for every address around the site pages that a branch with a 32-bit displacement may reach from the site:
/// all of them are mapped to the one landing page.
pub fn in_landing_window(address: u64) -> bool {
    const GIB: u64 = 1 << 30;
    let first = va::SITE / GIB * GIB;
    (first - 2 * GIB..first + 3 * GIB).contains(&address) && !in_site_pages(address)
}

/// Where a program finds the site as data: the alias of an address of the site pages.
pub fn master(site: u64) -> u64 {
    va::MASTER + (site - va::SITE)
}

/// Offset of a word in the shared page.
pub fn word_offset(word: Word) -> u64 {
    match word {
        Word::Arrived => shared::ARRIVED,
        Word::Release => shared::RELEASE,
        Word::Flag => shared::FLAG,
        Word::Lock => shared::LOCK,
        Word::Armed => shared::ARMED,
        Word::Hits => shared::HITS,
        Word::Named(number) => shared::WORD + 4 * u64::from(number),
    }
}

/// The two site pages before the first patch: filler, pads, the old version.
pub fn initial_text(plan: &Plan) -> Vec<u8> {
    let mut text = vec![FILLER; 2 * PAGE as usize];
    let mut put = |address: u64, bytes: &[u8]| {
        let start = (address - va::SITE) as usize;
        text[start..start + bytes.len()].copy_from_slice(bytes);
    };
    for pad in plan.pads.iter().filter(|pad| in_site_pages(pad.address)) {
        put(pad.address, &pad_code(pad.mark));
    }
    put(plan.site.address, &plan.site.old.bytes);
    text
}

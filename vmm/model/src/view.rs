//! The views of one fetch: every choice of bytes that the model in force allows a vCPU.

use crate::fetch::{FetchModel, Order};
use crate::plan::Site;

/// More views than this are an error: the scenario has more unserialised stores than can be searched.
pub const MAX_VIEWS: usize = 256;

/// What a vCPU has seen of a site's history, as far as the next fetch depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// `images[n]` is the site after the first *n* commits.
    pub images: &'a [Vec<u8>],
    /// Offset and length of each commit.
    pub commits: &'a [(usize, usize)],
    /// Commits that the vCPU has been serialised for.
    pub serialised: usize,
    /// Its fetch clocks: none, one, or one for each block.
    pub clocks: &'a [u8],
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The site as this fetch sees it. Bytes that the instruction does not reach are those in memory, or, for a
    /// fetch that matches nothing, one more choice that the model allows.
    pub site: Vec<u8>,
    /// The clocks afterwards.
    pub clocks: Vec<u8>,
    /// Another view shows the same instruction and leaves the clocks further back: whatever this one leads
    /// to, the other leads to as well, because a clock may advance at any later fetch.
    pub dominated: bool,
}

/// All views of a fetch at `offset`, in an order that depends on nothing else. Of those that match no declared
/// instruction only one is given: each of them ends the execution in the same way. More than [`MAX_VIEWS`]
/// give the first ones, and one too many.
pub fn views(model: FetchModel, site: &Site, offset: usize, seen: Seen<'_>) -> Vec<View> {
    let declared = site.declared(offset).map(|(_, bytes)| bytes).collect();
    let mut search = Search {
        model,
        site,
        offset,
        seen,
        declared,
        found: Vec::new(),
        instructions: Vec::new(),
        torn: false,
    };
    let current = &seen.images[seen.images.len() - 1];
    if !model.stale {
        return vec![View { site: current.clone(), clocks: Vec::new(), dominated: false }];
    }
    match model.order {
        Order::Any => search.any(&mut Vec::new(), &mut vec![None; seen.commits.len()]),
        Order::Program | Order::Block => search.clocked(&mut Vec::new(), seen.clocks.to_vec()),
    }
    search.found
}

struct Search<'a> {
    model: FetchModel,
    site: &'a Site,
    offset: usize,
    seen: Seen<'a>,
    /// What an instruction here may look like.
    declared: Vec<&'a [u8]>,
    found: Vec<View>,
    /// The declared instruction of each view found, by number.
    instructions: Vec<usize>,
    torn: bool,
}

/// What the bytes read so far amount to.
enum Match {
    /// This declared instruction, whole.
    Whole(usize),
    /// The beginning of one.
    Partial,
    /// None.
    None,
}

impl Search<'_> {
    fn compare(&self, read: &[u8]) -> Match {
        if let Some(index) = self.declared.iter().position(|bytes| read.starts_with(bytes)) {
            return Match::Whole(index);
        }
        if self.declared.iter().any(|bytes| bytes.starts_with(read)) { Match::Partial } else { Match::None }
    }

    fn full(&self) -> bool {
        self.found.len() > MAX_VIEWS
    }

    /// A view that shows a declared instruction.
    fn emit(&mut self, read: &[u8], clocks: Vec<u8>, instruction: usize) {
        let known = self.instructions.contains(&instruction);
        let mut same = self.found.iter().zip(&self.instructions);
        if same.any(|(view, &other)| other == instruction && view.clocks == clocks) {
            return;
        }
        let mut site = self.seen.images[self.seen.images.len() - 1].clone();
        site[self.offset..self.offset + read.len()].copy_from_slice(read);
        self.found.push(View { site, clocks, dominated: known });
        self.instructions.push(instruction);
    }

    /// The first view that shows none.
    fn emit_torn(&mut self, read: &[u8], clocks: Vec<u8>, rest: impl Fn(usize) -> u8) {
        self.torn = true;
        let mut site = self.seen.images[self.seen.images.len() - 1].clone();
        for (at, byte) in site.iter_mut().enumerate().skip(self.offset) {
            *byte = read.get(at - self.offset).copied().unwrap_or_else(|| rest(at));
        }
        self.found.push(View { site, clocks, dominated: false });
        self.instructions.push(usize::MAX);
    }

    /// Reads block after block, each at a version not before its clock. Versions ascend, so that the first view
    /// of an instruction is the one with the clocks furthest back.
    fn clocked(&mut self, read: &mut Vec<u8>, clocks: Vec<u8>) {
        match self.compare(read) {
            Match::Whole(index) => return self.emit(read, clocks, index),
            Match::None if self.torn => return,
            Match::None => {
                let clock = |at: usize| usize::from(clocks[self.clock(at)]);
                let images = self.seen.images;
                let rest: Vec<u8> = (0..self.site.len()).map(|at| images[clock(at)][at]).collect();
                return self.emit_torn(read, clocks, |at| rest[at]);
            }
            Match::Partial => {}
        }
        let start = self.offset + read.len();
        let block = |at| self.model.block(self.site.address, at);
        let end = (start..self.site.len()).find(|&at| block(at) != block(start)).unwrap_or(self.site.len());
        let clock = self.clock(start);
        for version in usize::from(clocks[clock])..self.seen.images.len() {
            if self.full() {
                return;
            }
            let mut clocks = clocks.clone();
            clocks[clock] = version as u8;
            let known = read.len();
            read.extend_from_slice(&self.seen.images[version][start..end]);
            self.clocked(read, clocks);
            read.truncate(known);
        }
    }

    /// Index of the clock that the byte at `offset` is read by.
    fn clock(&self, offset: usize) -> usize {
        match self.model.order {
            Order::Block => self.model.block(self.site.address, offset),
            Order::Program | Order::Any => 0,
        }
    }

    /// Reads byte after byte; each is that of the last commit seen among those that store to it. Whether a
    /// commit is seen is decided where that first matters, and holds for the rest of this fetch.
    fn any(&mut self, read: &mut Vec<u8>, decided: &mut Vec<Option<bool>>) {
        let Seen { images, commits, serialised, .. } = self.seen;
        match self.compare(read) {
            Match::Whole(index) => return self.emit(read, Vec::new(), index),
            Match::None if self.torn => return,
            Match::None => {
                let byte = |at: usize| {
                    let seen = |commit: &usize| {
                        let (offset, len) = commits[*commit];
                        decided[*commit] == Some(true) && (offset..offset + len).contains(&at)
                    };
                    let last = (serialised..commits.len()).rev().find(seen);
                    images[last.map_or(serialised, |commit| commit + 1)][at]
                };
                return self.emit_torn(read, Vec::new(), byte);
            }
            Match::Partial => {}
        }
        let at = self.offset + read.len();
        let touching: Vec<usize> = (serialised..commits.len())
            .filter(|&commit| (commits[commit].0..commits[commit].0 + commits[commit].1).contains(&at))
            .collect();
        // The last one seen: none, or each in turn. Those behind it are missed, those before it are hidden here.
        for last in 0..=touching.len() {
            if self.full() {
                return;
            }
            let before = decided.clone();
            let missed = touching[last..].iter().all(|&commit| decided[commit] != Some(true));
            let seen = last == 0 || decided[touching[last - 1]] != Some(false);
            if missed && seen {
                for &commit in &touching[last..] {
                    decided[commit] = Some(false);
                }
                let mut version = serialised;
                if last > 0 {
                    decided[touching[last - 1]] = Some(true);
                    version = touching[last - 1] + 1;
                }
                read.push(images[version][at]);
                self.any(read, decided);
                read.pop();
            }
            *decided = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Code, Part};
    use crate::x86::decode;

    const OLD: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
    const NEW: [u8; 5] = [0xe9, 0x01, 0x02, 0x03, 0x04];

    fn site(address: u64) -> Site {
        let code = |bytes: [u8; 5]| Code { bytes: bytes.into(), boundaries: vec![0] };
        let parts = vec![Part::whole(OLD.len())];
        Site { address, old: code(OLD), new: code(NEW), intermediates: vec![vec![0xcc]], parts }
    }

    /// The site through commits given as (offset, bytes).
    fn history(stores: &[(usize, &[u8])]) -> (Vec<Vec<u8>>, Vec<(usize, usize)>) {
        let mut images = vec![OLD.to_vec()];
        for (offset, bytes) in stores {
            let mut image = images[images.len() - 1].clone();
            image[*offset..offset + bytes.len()].copy_from_slice(bytes);
            images.push(image);
        }
        (images, stores.iter().map(|(offset, bytes)| (*offset, bytes.len())).collect())
    }

    /// What a vCPU may see, in hex, with the clocks afterwards; dominated ones in brackets.
    fn seen(
        model: &str,
        address: u64,
        stores: &[(usize, &[u8])],
        serialised: usize,
        clocks: &[u8],
    ) -> Vec<String> {
        let (images, commits) = history(stores);
        let seen = Seen { images: &images, commits: &commits, serialised, clocks };
        let model = model.parse().expect("a model");
        views(model, &site(address), 0, seen)
            .into_iter()
            .map(|view| {
                let bytes = if view.site[0] == 0xcc { &view.site[..1] } else { &view.site[..] };
                let text = format!("{} {:?}", crate::hex::packed(bytes), view.clocks);
                if view.dominated { format!("({text})") } else { text }
            })
            .collect()
    }

    const INT3: (usize, &[u8]) = (0, &[decode::INT3]);
    const TAIL: (usize, &[u8]) = (1, &[1, 2, 3, 4]);
    const FIRST: (usize, &[u8]) = (0, &[0xe9]);

    #[test]
    fn coherent_sees_memory() {
        assert_eq!(seen("coherent", 0, &[INT3, TAIL], 0, &[]), ["cc []"]);
    }

    #[test]
    fn program_order_inside_one_block_sees_every_version_and_no_mix() {
        let all = ["0f1f440000 [0]", "cc [1]", "(cc [2])", "e901020304 [3]"];
        assert_eq!(seen("amd", 0x100, &[INT3, TAIL, FIRST], 0, &[0]), all);
        assert_eq!(seen("amd", 0x100, &[INT3, TAIL, FIRST], 1, &[1]), all[1..]);
        assert_eq!(seen("amd", 0x100, &[INT3, TAIL, FIRST], 3, &[3]), all[3..]);
    }

    #[test]
    fn program_order_across_blocks_combines_an_older_first_with_a_newer_second() {
        // 3 bytes in the first quadword, 2 in the second.
        let stores: [(usize, &[u8]); 2] = [(0, &[0xe9, 1, 2]), (3, &[3, 4])];
        assert_eq!(
            seen("amd", 0x105, &stores, 0, &[0]),
            ["0f1f440000 [0]", "(0f1f440000 [1])", "0f1f440304 [2]", "e901020304 [2]"],
            "the first block at 0 with the second at 2 matches nothing; new first bytes with old last ones, too, \
             and one of these represents all"
        );
        // The second half of new first: the first block cannot be newer.
        let stores: [(usize, &[u8]); 2] = [(3, &[3, 4]), (0, &[0xe9, 1, 2])];
        let views = seen("amd", 0x105, &stores, 1, &[1]);
        assert_eq!(views, ["0f1f440304 [1]", "e901020304 [2]"]);
    }

    #[test]
    fn block_order_lets_a_second_block_stay_behind() {
        // The tail lies in both blocks; its second part is missed by the new first byte.
        let stores: [(usize, &[u8]); 4] = [INT3, (1, &[1, 2]), (3, &[3, 4]), FIRST];
        assert_eq!(
            seen("amd-block", 0x105, &stores, 1, &[1, 1]),
            [
                "cc [1, 1]",
                "(cc [2, 1])",
                "(cc [3, 1])",
                "e901020000 [4, 1]",
                "e901020304 [4, 3]",
                "(e901020304 [4, 4])"
            ]
        );
        assert_eq!(
            seen("amd", 0x105, &stores, 1, &[1]),
            ["cc [1]", "(cc [2])", "(cc [3])", "e901020304 [4]"],
            "with one clock it is not"
        );
    }

    #[test]
    fn any_order_mixes_bytes_of_unserialised_commits_only() {
        let bytes: [(usize, &[u8]); 4] = [(1, &[1]), (2, &[2]), (3, &[3]), (4, &[4])];
        let stores = [&[INT3][..], &bytes, &[FIRST]].concat();
        assert_eq!(seen("intel", 0x100, &stores, 6, &[]), ["e901020304 []"]);
        assert_eq!(seen("intel", 0x100, &stores, 5, &[]), ["cc []", "e901020304 []"]);
        let views = seen("intel", 0x100, &stores, 1, &[]);
        assert_eq!(views, ["cc []", "e91f440000 []", "e901020304 []"]);
        let views = seen("intel", 0x100, &stores, 0, &[]);
        assert_eq!(views, ["0f1f440000 []", "0f1f440004 []", "cc []", "e901020304 []"]);
    }

    #[test]
    fn one_commit_is_seen_whole_or_not_at_all() {
        let stores: [(usize, &[u8]); 1] = [(0, &NEW)];
        assert_eq!(seen("atom=64,stale,any", 0, &stores, 0, &[]), ["0f1f440000 []", "e901020304 []"]);
    }
}

//! Random cases: small, hazardous as often as not, the same for the same seed.

use fastrand::Rng;

use super::case::{
    CALL, Case, Executor, INT3, JMP8, JMP32, NOP2, NOP3, NOP5, OTHER_CALL, Resume, Run, Step, Version, XOR,
    bytes,
};

/// Offsets of a site: inside a quadword, across two, across two cache lines with one byte before, and more.
const INSIDE: [usize; 3] = [0x100, 0x103, 0x108];
const ACROSS: [usize; 5] = [0x104, 0x106, 0x107, 0x13e, 0x13f];

fn site(random: &mut Rng) -> (Version, Version) {
    match random.u8(..10) {
        0..=3 => (vec![NOP5], vec![JMP32]),
        4 => (vec![JMP32], vec![NOP5]),
        5 | 6 => (vec![CALL], vec![OTHER_CALL]),
        7 => (vec![NOP5], vec![CALL]),
        8 => (vec![NOP2], vec![JMP8]),
        _ => (vec![XOR, NOP3], vec![JMP32]),
    }
}

fn store(at: usize, bytes: &[u8]) -> Step {
    Step::Store { at, bytes: bytes.to_vec() }
}

/// Any step but a wait, a broadcast and the end.
fn any(random: &mut Rng, old: &[u8], new: &[u8]) -> Step {
    let round = *random.choice(&[Run::Sync, Run::Sync, Run::AckFirst, Run::AckOnly]).unwrap();
    match random.u8(..14) {
        0 => store(0, &[INT3]),
        1 => store(0, new),
        2 => store(0, &new[..1]),
        3 => store(1, &new[1..]),
        4 => store(0, &old[..1]),
        5 => store(1, &old[1..]),
        6 => store(0, old),
        7 => Step::Arm,
        8 => Step::Disarm,
        9 => Step::FreeDescriptor,
        10 => Step::Assume,
        11 => Step::Quiesce,
        _ => Step::Round(round),
    }
}

fn protocol(random: &mut Rng, old: &[u8], new: &[u8]) -> Vec<Step> {
    let (int3, tail, first) = (store(0, &[INT3]), store(1, &new[1..]), store(0, &new[..1]));
    let round = || Step::Round(Run::Sync);
    let fixup =
        [Step::Arm, int3.clone(), round(), tail.clone(), round(), first.clone(), round(), Step::Disarm];
    match random.u8(..12) {
        0..=4 => fixup.to_vec(),
        5 => vec![
            Step::Broadcast(Run::Stop),
            Step::AwaitArrivals,
            store(0, new),
            Step::Release,
            Step::AwaitAcks,
        ],
        6 => vec![
            Step::Arm,
            int3,
            Step::Assume,
            tail,
            Step::Broadcast(Run::Hold),
            Step::AwaitArrivals,
            first,
            Step::Assume,
            Step::Release,
            Step::AwaitAcks,
            Step::Disarm,
        ],
        7 => vec![
            Step::Arm,
            int3,
            Step::Assume,
            tail,
            Step::Broadcast(Run::Early),
            Step::AwaitAcks,
            first,
            Step::Disarm,
        ],
        8 => vec![
            Step::Arm,
            int3,
            round(),
            tail,
            Step::Broadcast(Run::Hold),
            Step::AwaitArrivals,
            first,
            round(),
            Step::Release,
            Step::AwaitAcks,
        ],
        9 => {
            let mut steps = fixup.to_vec();
            steps.extend([Step::FreeDescriptor]);
            steps
        }
        _ => (0..random.usize(1..4)).map(|_| any(random, old, new)).collect(),
    }
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut random = Rng::with_seed(seed);
    let random = &mut random;
    let (old, new) = site(random);
    let [old_bytes, new_bytes] = [&old, &new].map(bytes);
    let mut steps = protocol(random, &old_bytes, &new_bytes);
    let simple = |step: &Step| {
        !matches!(
            step,
            Step::Broadcast(_) | Step::AwaitArrivals | Step::AwaitAcks | Step::Release | Step::Done
        )
    };
    for _ in 0..random.usize(..3) {
        let at = random.usize(..steps.len());
        match random.u8(..5) {
            0 | 1 if steps.len() > 1 && simple(&steps[at]) => drop(steps.remove(at)),
            2 => steps.insert(at, any(random, &old_bytes, &new_bytes)),
            3 if simple(&steps[at]) => steps[at] = any(random, &old_bytes, &new_bytes),
            4 => {
                let other = random.usize(..steps.len());
                if simple(&steps[at]) && simple(&steps[other]) {
                    steps.swap(at, other);
                }
            }
            _ => {}
        }
    }
    if random.u8(..8) == 0 {
        let at = random.usize(..=steps.len());
        steps.insert(at, Step::Done);
    }
    // A broadcast must be waited for before the next one is sent.
    tame(&mut steps);
    let branch = |version: &Version| version.iter().any(|one| one.flow != super::case::Flow::Through);
    if random.u8(..4) == 0 {
        if branch(&old) {
            steps.push(Step::FreeOld);
        } else if branch(&new) && random.u8(..4) == 0 {
            steps.push(Step::FreeNew);
        }
    }
    let len = old_bytes.len();
    let resume = match random.u8(..12) {
        0 => Resume::Old,
        1 => Resume::Next,
        2 | 3 => Resume::Retry,
        4 => Resume::At(random.usize(1..len)),
        _ => Resume::New,
    };
    let needs_handler = steps.contains(&Step::Arm);
    let resume = (needs_handler || random.u8(..4) > 0).then_some(resume);
    let armed = resume.is_some() && random.u8(..4) == 0;
    let offset =
        if random.bool() { *random.choice(&ACROSS).unwrap() } else { *random.choice(&INSIDE).unwrap() };
    // A site of two bytes crosses where its first byte is the last one.
    let offset = if len == 2 && ACROSS.contains(&offset) { offset | 7 } else { offset };
    let counting = random.u8(..3) == 0;
    let nmis = *random.choice(&[0, 0, 0, 0, 0, 1, 1, 2]).unwrap();
    let one = |random: &mut Rng, passes| Executor {
        passes,
        interior: (old.len() > 1 && random.bool()).then(|| old[0].bytes.len()),
    };
    let executors = match (random.u8(..6), nmis) {
        (0, 0) => vec![one(random, 1), one(random, 1)],
        (1..=3, _) => vec![one(random, 1)],
        (_, 0) => vec![one(random, 2)],
        _ => vec![one(random, 1)],
    };
    Case { old, new, offset, executors, resume, armed, counting, nmis, amd: random.u8(..5) == 0, steps }
}

/// The int3 protocol with a few changes, or any steps, on one instruction.
pub fn step_list(seed: u64) -> Case {
    let mut random = Rng::with_seed(seed);
    let [old, new] = [NOP5.bytes, JMP32.bytes];
    let (int3, round) = (store(0, &[INT3]), Step::Round(Run::Sync));
    let send = Step::Broadcast(Run::Sync);
    let any = [
        int3.clone(),
        store(0, new),
        store(0, &new[..1]),
        store(1, &new[1..]),
        store(0, old),
        store(0, &old[..1]),
        store(1, &old[1..]),
        Step::Arm,
        Step::Disarm,
        round.clone(),
        send.clone(),
        Step::Quiesce,
        Step::Done,
    ];
    let pick = |random: &mut Rng| random.choice(&any).unwrap().clone();
    let mut steps = if random.bool() {
        let [tail, first] = [store(1, &new[1..]), store(0, &new[..1])];
        vec![Step::Arm, int3, round.clone(), tail, round.clone(), first, round, Step::Disarm]
    } else {
        (0..random.usize(1..6)).map(|_| pick(&mut random)).collect()
    };
    for _ in 0..random.usize(..4) {
        let at = random.usize(..steps.len());
        match random.u8(..4) {
            0 if steps.len() > 1 => drop(steps.remove(at)),
            1 => steps.insert(at, pick(&mut random)),
            2 => steps[at] = pick(&mut random),
            _ => {
                let other = random.usize(..steps.len());
                steps.swap(at, other);
            }
        }
    }
    // An IPI is waited for later, if at all; completion is declared once.
    if let Some(at) = steps.iter().position(|step| *step == send)
        && random.bool()
    {
        steps.insert(random.usize(at + 1..=steps.len()), Step::AwaitAcks);
    }
    let mut done = false;
    steps.retain(|step| *step != Step::Done || !std::mem::replace(&mut done, true));
    let offset = if random.bool() { 0x13e } else { 0x100 };
    let count = random.usize(1..=2);
    let executor = Executor { passes: random.u8(1..=2), interior: None };
    let armed = random.u8(..4) == 0;
    let resume = if random.u8(..3) > 0 { Resume::New } else { Resume::Old };
    Case {
        old: vec![NOP5],
        new: vec![JMP32],
        offset,
        executors: vec![executor; count],
        resume: Some(resume),
        armed,
        counting: false,
        nmis: 0,
        amd: false,
        steps,
    }
}

/// Drops rounds that would come while an earlier broadcast may still be on its way.
fn tame(steps: &mut Vec<Step>) {
    let mut open = false;
    let mut arrived = false;
    steps.retain(|step| match step {
        Step::Broadcast(_) => {
            open = true;
            arrived = false;
            true
        }
        Step::AwaitArrivals => {
            arrived = true;
            true
        }
        Step::AwaitAcks => {
            open = false;
            true
        }
        Step::Round(_) => !open || arrived,
        _ => true,
    });
}

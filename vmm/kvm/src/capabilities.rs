//! What the KVM of a host can do for exploration, and what a plan needs. Each entry is the result of a small guest run
//! (see `probe`), not derived from a name: each of three KVMs lacks something that the others have.

use std::fmt;

use crossmod_model::plan::{Function, OpKind, Plan, Ring, Start};
use crossmod_model::x86::decode::INT3;
use serde::{Serialize, Serializer};

/// A feature of KVM that exploration may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Stepping instructions one by one.
    Step(Ring),
    /// #BP by an executed INT3, delivered by the CPU or by the host.
    Breakpoint(Ring),
    /// An NMI, its handler, and the return from it.
    Nmi(Ring),
    /// NMIs are blocked from one delivery until an IRET.
    NmiMask,
    /// A maskable interrupt, its handler, and the return from it.
    Interrupt(Ring),
    /// MOV to CR2, with which the guest's handlers serialise.
    Serialise,
    /// A machine check, its handler, and the return from it.
    MachineCheck(Ring),
    /// A system-management interrupt, its handler, and the return from it. Without this, SMIs are modelled.
    Smi,
}

impl Feature {
    /// All features, in the order of reports.
    pub const ALL: [Feature; 13] = [
        Feature::Step(Ring::Kernel),
        Feature::Step(Ring::User),
        Feature::Breakpoint(Ring::Kernel),
        Feature::Breakpoint(Ring::User),
        Feature::Nmi(Ring::Kernel),
        Feature::Nmi(Ring::User),
        Feature::NmiMask,
        Feature::Interrupt(Ring::Kernel),
        Feature::Interrupt(Ring::User),
        Feature::Serialise,
        Feature::MachineCheck(Ring::Kernel),
        Feature::MachineCheck(Ring::User),
        Feature::Smi,
    ];

    /// True if a host without it is usable, because few scenarios need it.
    pub fn optional(self) -> bool {
        matches!(self, Feature::MachineCheck(_) | Feature::Smi)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, ring) = match self {
            Feature::Step(ring) => ("single step", Some(ring)),
            Feature::Breakpoint(ring) => ("INT3", Some(ring)),
            Feature::Nmi(ring) => ("NMI injection", Some(ring)),
            Feature::NmiMask => ("NMI masking", None),
            Feature::Interrupt(ring) => ("interrupt injection", Some(ring)),
            Feature::Serialise => ("serialising by MOV to CR2", None),
            Feature::MachineCheck(ring) => ("machine-check injection", Some(ring)),
            Feature::Smi => ("SMI", None),
        };
        f.write_str(what)?;
        ring.map_or(Ok(()), |ring| write!(f, " at ring {}", ring.number()))
    }
}

/// The state of a feature on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// KVM provides it.
    Works,
    /// KVM does not. Crossmod does it instead, and counts it.
    HostHelps,
    /// Not available, with the reason.
    Missing(String),
}

/// What a host can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    entries: Vec<(Feature, Ability)>,
}

impl Capabilities {
    pub(super) fn new(entries: Vec<(Feature, Ability)>) -> Capabilities {
        Capabilities { entries }
    }

    /// The state of a feature.
    pub fn ability(&self, feature: Feature) -> &Ability {
        const UNKNOWN: &Ability = &Ability::Missing(String::new());
        self.entries.iter().find(|(known, _)| *known == feature).map_or(UNKNOWN, |(_, ability)| ability)
    }

    /// True if a feature is available.
    pub fn has(&self, feature: Feature) -> bool {
        !matches!(self.ability(feature), Ability::Missing(_))
    }

    /// True if every feature is available that is not optional.
    pub fn usable(&self) -> bool {
        Feature::ALL.into_iter().all(|feature| feature.optional() || self.has(feature))
    }

    /// The same host without a feature, to see on this host how others are treated.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Capabilities {
        self.entries.retain(|(known, _)| *known != feature);
        self.entries.push((feature, Ability::Missing("withheld".into())));
        self
    }

    /// The reason for skipping a plan, if this host lacks something that it needs.
    pub fn lacking(&self, plan: &Plan) -> Option<String> {
        let missing = needed(plan).into_iter().find(|feature| !self.has(*feature))?;
        let why = match self.ability(missing) {
            Ability::Missing(why) if !why.is_empty() => format!(": {why}"),
            _ => String::new(),
        };
        Some(format!("KVM on this host lacks {missing}{why}"))
    }
}

/// An object with a member for each feature: `works`, `host-helps`, or `{"missing": reason}`.
impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.entries.iter().map(|(feature, ability)| (feature.to_string(), ability)))
    }
}

/// The features that a plan needs. SMIs are not among them, because they can be modelled.
pub fn needed(plan: &Plan) -> Vec<Feature> {
    let mut rings = vec![Ring::Kernel]; // of handlers
    if plan.executors.iter().any(|executor| executor.ring == Ring::User) {
        rings.push(Ring::User);
    }
    let programs = &plan.programs;
    let function = |op: &crossmod_model::plan::Op| match op.kind {
        OpKind::Broadcast { function, .. } => Some(function),
        _ => None,
    };
    let sent: Vec<Function> = plan
        .program
        .iter()
        .filter_map(function)
        .chain(programs.sends.iter().map(|send| send.function))
        .collect();
    let nmis = plan.events.nmi > 0 || sent.contains(&Function::Nmi);
    let broadcasts = !sent.is_empty();
    let mut stored = plan.program.iter().chain(programs.stores.iter().map(|(_, op)| op));
    let traps = programs.code.contains(&INT3)
        || plan.executors.iter().any(|executor| executor.start == Start::Handler)
        || stored.any(|op| match &op.kind {
            OpKind::Store { bytes, .. } => bytes.contains(&INT3),
            _ => false,
        })
        || [&plan.site.old, &plan.site.new].into_iter().any(|code| code.bytes.contains(&INT3));
    let mut features = Vec::new();
    for &ring in &rings {
        features.push(Feature::Step(ring));
        let more = [
            (traps, Feature::Breakpoint(ring)),
            (nmis, Feature::Nmi(ring)),
            (broadcasts || plan.events.irq > 0, Feature::Interrupt(ring)),
            (plan.events.mce > 0, Feature::MachineCheck(ring)),
        ];
        features.extend(more.into_iter().filter_map(|(needs, feature)| needs.then_some(feature)));
    }
    if nmis {
        features.push(Feature::NmiMask);
    }
    if broadcasts || !programs.code.is_empty() {
        features.push(Feature::Serialise);
    }
    features
}

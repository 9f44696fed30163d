//! Which scenarios can run at full speed.

use crate::plan::{Function, HandlerVariant, OpKind, Plan, Role, Start, Word};

/// Why a scenario cannot run at full speed, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: String,
    /// The remedy.
    pub remedy: String,
}

/// Decides whether a scenario can run at full speed.
///
/// # Errors
///
/// The first reason why it cannot.
pub fn stressable(plan: &Plan) -> Result<(), Refusal> {
    let refuse = |reason: &str, remedy: &str| Err(Refusal { reason: reason.into(), remedy: remedy.into() });
    if plan.executors.iter().any(|executor| executor.start != Start::Outside) {
        return refuse(
            "an executor starts inside the site, which only stepping can arrange",
            "let every executor start outside, or explore it",
        );
    }
    if !plan.programs.code.is_empty() {
        return refuse(
            "vCPUs run programs of the scenario, which are compiled for stepping",
            "remove [program] or `patcher`, or explore it",
        );
    }
    if plan.site.parts.len() > 1 {
        return refuse(
            "it has several sites, but versions carry numbers for one only",
            "keep one of them, or explore it",
        );
    }
    if plan.executors.iter().any(|executor| executor.role != Role::Loop) {
        return refuse(
            "executors hold a lock, whose deadlocks depend on order, not on speed",
            "use the role `loop`, or explore it",
        );
    }
    if plan.events.smi > 0 || plan.events.mce > 0 {
        return refuse(
            "machine checks and SMIs cannot be sent to a running vCPU as messages",
            "use `nmi` or `irq` in [events], or explore it",
        );
    }
    if plan.handler.variant == HandlerVariant::Traced {
        return refuse(
            "the trap handler runs the site itself, and would trap without end",
            "use the handler variant `plain`, or explore it",
        );
    }
    for op in &plan.program {
        let problem = match &op.kind {
            OpKind::Broadcast { function: Function::Nmi | Function::Call(_), .. } => {
                "no handler at full speed answers that message"
            }
            OpKind::Quiesce(_) => "the position of a running CPU cannot be observed",
            OpKind::FreeTarget(_) => {
                "the targets of branches carry the number of a version, so that none of them can be freed"
            }
            OpKind::SetEach { .. } | OpKind::WaitEach { .. } | OpKind::Take(_) | OpKind::AddWord { .. } => {
                "no executor has or changes the word"
            }
            OpKind::WaitWord { word: Word::Lock, .. } | OpKind::SetWord { word: Word::Lock, .. } => {
                "no executor takes the lock"
            }
            _ => continue,
        };
        return Err(Refusal {
            reason: format!("step `{}`: {problem}", op.step),
            remedy: "remove the step, or explore it".into(),
        });
    }
    if !plan.program.iter().any(|op| matches!(op.kind, OpKind::Store { .. })) {
        return refuse("its patcher stores nothing", "add a `store` step");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Options, library};

    #[test]
    fn a_step_without_an_answer_at_full_speed_is_refused_by_name() {
        let all = library();
        let fixup = all.iter().find(|scenario| scenario.name == "seed/fixup").unwrap();
        let plan = fixup.plan(&Options::default()).unwrap();
        assert_eq!(stressable(&plan), Ok(()));
        let broadcast = |function| OpKind::Broadcast { function, mask: 3 };
        for (kind, why) in [
            (broadcast(Function::Nmi), "no handler at full speed answers that message"),
            (broadcast(Function::Call(0)), "no handler at full speed answers that message"),
            (OpKind::WaitWord { word: Word::Lock, value: 0 }, "no executor takes the lock"),
            (OpKind::SetWord { word: Word::Lock, value: 1 }, "no executor takes the lock"),
        ] {
            let mut plan = plan.clone();
            let op = &mut plan.program[2];
            op.kind = kind;
            let expected = format!("step `{}`: {why}", op.step);
            let refusal = stressable(&plan).unwrap_err();
            assert_eq!((refusal.reason, &*refusal.remedy), (expected, "remove the step, or explore it"));
        }
        for function in [Function::Sync, Function::Hold, Function::Stop] {
            let mut plan = plan.clone();
            plan.program[2].kind = broadcast(function);
            assert_eq!(stressable(&plan), Ok(()), "{function:?}");
        }
    }

    #[test]
    fn every_shipped_scenario_is_stressable_or_says_why_not() {
        let (mut good, mut bad) = (0, 0);
        for scenario in library() {
            let plan = scenario.plan(&Options::default()).unwrap();
            match stressable(&plan) {
                Ok(()) => good += 1,
                Err(Refusal { reason, remedy }) => {
                    assert!(!reason.is_empty() && remedy.ends_with("explore it"), "{reason}: {remedy}");
                    bad += 1;
                }
            }
        }
        assert!(good > 60 && bad > 5, "{good} {bad}");
    }
}

//! What a survey's counts come to: headlines, and whether the vendor's promises hold. The counts are made up.

use crossmod::freerun::survey::{
    Cell, Crosses, ModelLine, PairRow, PairSeen, PassCounts, Side, SideSeen, Survey, SurveyFinding, SurveyRow,
};
use crossmod::machine::free::survey::Length;
use crossmod::report::survey::headlines;

/// A survey that has seen nothing.
fn nothing() -> Survey {
    Survey {
        crossmod: String::new(),
        tier: String::new(),
        host: crossmod::host::Host { cpu: "AMD".into(), ..crossmod::host::Host::read() },
        cpus: [0, 1],
        pinned: true,
        seed: 1,
        seconds: 1.0,
        interrupted: false,
        rows: Vec::new(),
        pairs: Vec::new(),
        models: Vec::new(),
        findings: Vec::new(),
    }
}

/// What a survey comes to that saw these.
fn saw(change: impl FnOnce(&mut Survey)) -> bool {
    let mut survey = nothing();
    change(&mut survey);
    survey.held()
}

#[test]
fn pairs_that_are_torn_inside_a_block_are_a_headline_for_each_block() {
    let row = |pair: &str, crosses, torn| PairRow {
        pair: pair.into(),
        old: String::new(),
        new: String::new(),
        offset: 0,
        crosses,
        amd_promises_whole: crosses == Crosses::Nothing,
        several_bytes: true,
        seen: vec![PairSeen {
            side: Side::Host,
            passes: 1000,
            old: 500,
            new: 500 - torn,
            torn,
            unexplained: 0,
            exceptions: 0,
            mixes: Default::default(),
            stores: 1,
            seconds: 1.0,
        }],
    };
    let mut survey = nothing();
    survey.pairs = vec![
        row("jmp <-> jmp", Crosses::Bytes32, 3),
        row("jmp <-> jmp", Crosses::Line, 100),
        row("call <-> call", Crosses::Bytes32, 4),
        row("call <-> call", Crosses::Quadword, 0),
        row("call <-> call", Crosses::Nothing, 0),
    ];
    let inside =
        "7 passes executed bytes of both instructions of a pair that lies inside a line, at 2 of 3 places";
    assert_eq!(headlines(&survey), [inside]);
    survey.pairs.push(row("nop2 <-> jz", Crosses::Nothing, 1));
    assert_eq!(headlines(&survey).len(), 2);
    assert!(headlines(&survey)[0].contains("inside an aligned quadword, at 1 of 2 places"));
    assert!(!survey.held());
}

#[test]
fn a_newer_first_half_is_a_headline_with_its_boundaries() {
    let row = |length, store, first_newer| SurveyRow {
        cell: Cell { length, store },
        seen: vec![SideSeen {
            counts: PassCounts { passes: 1000, torn: 500, first_newer, ..PassCounts::default() },
            ..SideSeen::default()
        }],
    };
    let survey = |rows| Survey { rows, ..nothing() };
    // A single store shows such mixes while it is under way.
    let quiet = survey(vec![row(Length::Halves, 0x43e, 0), row(Length::Four, 0x43e, 9)]);
    assert!(headlines(&quiet).is_empty());
    let ordered = |survey: &Survey| {
        let rule = survey.rules().into_iter().find(|rule| rule.says.contains("in one order")).unwrap();
        (rule.against, rule.trials)
    };
    assert_eq!(ordered(&quiet), (0, 1000));
    let rows = vec![
        row(Length::Halves, 0x400, 5),
        row(Length::HalvesFence, 0x43e, 3),
        row(Length::HalvesPause, 0xffe, 4),
    ];
    let seen = survey(rows);
    // At the first place no boundary lies between the two.
    assert_eq!(ordered(&seen), (7, 2000));
    assert!(headlines(&seen)[0].contains("7 passes executed a newer first half"), "{:?}", headlines(&seen));
    assert!(headlines(&seen)[0].contains("across line, page:"), "{:?}", headlines(&seen));
}

/// Practice relies on a line's being fetched at once, and on nothing across lines.
#[test]
fn a_headline_speaks_of_practice_inside_a_line_only() {
    let mut survey = nothing();
    survey.models.push(ModelLine {
        model: "line".into(),
        allowed: 0,
        forbidden: 3,
        forbidden_passes: 3,
        forbidden_by_boundary: [Crosses::Bytes32, Crosses::Line, Crosses::Page].map(|one| (one, 1)).into(),
        unknown: 0,
    });
    let practice: Vec<bool> = headlines(&survey).iter().map(|line| line.contains("practice")).collect();
    assert_eq!(practice, [true, false, false]);
}

#[test]
fn rates_are_compared_with_those_of_two_threads() {
    let seen = |side, torn| SideSeen {
        side,
        counts: PassCounts { passes: 1000, torn, ..PassCounts::default() },
        stores: 1,
        seconds: 1.0,
        odd: Default::default(),
        unasked: 0,
    };
    let row = |host, vcpu, plain| SurveyRow {
        cell: Cell::in_line(Length::Four, 61),
        seen: vec![seen(Side::Host, host), seen(Side::Vcpu, vcpu), seen(Side::Plain, plain)],
    };
    let factors = |rows| Survey { rows, ..nothing() }.classes()[0].factors;
    assert_eq!(factors(vec![row(30, 6, 60)]), [Some(0.5), Some(0.1)]);
    assert_eq!(factors(vec![row(30, 0, 60), row(90, 0, 20)]), [Some(1.5), None]);
    assert_eq!(factors(vec![row(30, 6, 0)]), [None, None]);
}

/// However it is told: findings are cut short, and some outcomes are asked of no model.
#[test]
fn a_broken_promise_is_a_failure_with_and_without_a_finding() {
    let row = |torn| SurveyRow {
        cell: Cell::in_line(Length::Four, 0),
        seen: vec![SideSeen {
            side: Side::Host,
            counts: PassCounts { passes: 10, torn, ..PassCounts::default() },
            stores: 1,
            seconds: 1.0,
            odd: Default::default(),
            unasked: torn,
        }],
    };
    assert!(saw(|survey| survey.rows.push(row(0))));
    assert!(!saw(|survey| survey.rows.push(row(1))));
    // Intel promises nothing of the kind.
    assert!(saw(|survey| {
        survey.host.cpu = "Intel".into();
        survey.rows.push(row(1));
    }));
    let finding = |broken| SurveyFinding {
        what: "store 4".into(),
        offset: 61,
        crosses: Crosses::Line,
        side: Side::Host,
        outcome: String::new(),
        against: String::new(),
        broken,
    };
    assert!(saw(|survey| survey.findings.push(finding(false))));
    assert!(!saw(|survey| survey.findings.push(finding(true))));
}

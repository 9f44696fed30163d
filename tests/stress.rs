//! Scenarios at full speed: counts that add up, findings that survive, refusals. Nothing here is timed.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossmod::freerun::stress::{Rates, Stress, StressOptions, stress};
use crossmod::machine::free::bench::BenchVm;
use crossmod::machine::free::stress::{Observer, StressConfig, StressVm, Trap, Waited};
use crossmod::machine::free::{Message, Pass};
use crossmod::plan::Function;
use crossmod::property::Property;
use crossmod::scenario;

use crate::bench::shipped;
use crate::freerun::counting_required;

const BINARY: &str = env!("CARGO_BIN_EXE_crossmod");

fn options(findings: &Path) -> StressOptions {
    StressOptions {
        executors: None,
        // The number of rounds ends the run, however busy the host is.
        duration: Duration::from_secs(86_400),
        rounds: 100,
        rates: Rates { nmi: 0.0, irq: 0.0 },
        seed: 7,
        findings: findings.to_owned(),
        argument: "mine.toml".into(),
    }
}

fn run(name: &'static str, change: impl FnOnce(&mut StressOptions)) -> Stress {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    change(&mut options);
    // A thread of its own: a run binds the one that calls it to a CPU.
    std::thread::spawn(move || {
        let plan = shipped(name).plan(&scenario::Options::default()).unwrap();
        stress(&plan, &options, &|_, _| {}, |_| {}).unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn a_protocol_that_holds_shows_nothing_else_and_no_message_is_lost() {
    counting_required();
    for (name, executors) in
        [("seed/fixup-nmi", 1), ("seed/fixup-irq", 1), ("seed/fixup-nmi-crossing-line", 3)]
    {
        let result = run(name, |options| {
            options.executors = Some(executors);
            options.rates = Rates { nmi: 20_000.0, irq: 20_000.0 };
        });
        let counts = &result.counts;
        assert_eq!(result.rounds, 100);
        assert_eq!(result.overcommitted, executors >= crossmod::machine::allowed_cpus().len());
        assert!(result.findings.is_empty() && counts.ahead == 0, "{result:?}");
        assert!(counts.passes > 0 && counts.old > 0 && counts.new > 0, "{counts:?}");
        // A pass that was given up is neither, and none was. The passes of handlers are judged, too.
        assert_eq!(counts.old + counts.new, counts.passes + counts.handler_passes, "{counts:?}");
        for messages in [result.nmi, result.irq] {
            assert!(messages.delivered > 0, "{messages:?}");
            assert_eq!(messages.injected, messages.delivered + messages.coalesced, "{messages:?}");
            assert!(
                messages.coalesced <= messages.crowded && messages.crowded < messages.injected,
                "{messages:?}"
            );
        }
        let plan = shipped(name).plan(&scenario::Options::default()).unwrap();
        if plan.events.nmi_runs_site || plan.events.irq_runs_site {
            let handlers = result.nmi.delivered + result.irq.delivered;
            assert!((1..=handlers).contains(&counts.handler_passes), "{counts:?}");
        }
        assert!(result.claims.contains(&Property::Stale) && !result.two_valued);
        // An outcome that nothing explains is a failure.
        let mut ahead = result;
        assert!(ahead.held());
        ahead.counts.ahead = 1;
        assert!(!ahead.held() && ahead.unexpected().is_empty());
    }
}

#[test]
fn a_handler_that_leads_nowhere_is_found_and_recorded_with_its_context() {
    counting_required();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let result = run("seed/skip-over-call", move |options| options.findings = path);
    assert!(result.counts.wrong_resume > 0 && result.unexpected().is_empty(), "{result:?}");
    let file = directory.path().join("seed.skip-over-call.wrong-resume.finding.json");
    let finding: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(finding["replayable"], false);
    assert_eq!(finding["property"], "wrong-resume");
    assert_eq!(finding["explore"], "crossmod check mine.toml");
    assert_eq!(finding["seed"], 7);
    assert_eq!(finding["offset"], 0x100);
    assert_eq!(finding["pass"]["rax"], 1);
    for key in ["old", "new", "what", "bytes_before", "bytes_after", "not_replayable", "tier", "plan"] {
        assert!(finding[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {finding}");
    }
    assert!(finding["host"]["cpu"].is_string() && finding["before"].is_array(), "{finding}");
    assert_ne!(finding["old"], finding["new"]);
    let text = crossmod::report::stress::text(&result);
    assert!(text.contains("not replayable") && text.contains("crossmod check mine.toml"), "{text}");
}

#[test]
fn a_two_valued_site_claims_no_order() {
    counting_required();
    let result = run("seed/fixup-short-jump", |_| {});
    assert!(result.two_valued && !result.claims.contains(&Property::Stale), "{result:?}");
    assert!(result.claims.contains(&Property::Torn) && result.counts.new > 0);
    assert!(crossmod::report::stress::text(&result).contains("two-valued site"));
}

#[test]
fn a_patcher_that_deadlocks_is_a_finding() {
    counting_required();
    let result = run("seed/hold-acked", |_| {});
    let found: Vec<Property> = result.findings.iter().map(|finding| finding.event.property).collect();
    assert_eq!(found, [Property::Deadlock]);
    assert_eq!((result.counts.deadlock, result.unexpected().len()), (1, 0));
}

#[test]
fn what_cannot_run_at_full_speed_says_why_and_what_to_do() {
    counting_required();
    for (name, reason, remedy) in [
        (
            "seed/interior-parked",
            "starts inside the site",
            "explore it: `crossmod check seed/interior-parked`",
        ),
        ("seed/lock-dependency-hold", "hold a lock", "use the role `loop`"),
        ("seed/fixup-smi", "SMIs cannot be sent", "use `nmi` or `irq`"),
        ("seed/traced-handler", "trap without end", "handler variant `plain`"),
        ("seed", "names", "crossmod list"),
        ("no-such", "neither a file nor a shipped scenario", "crossmod list"),
    ] {
        let output = Command::new(BINARY).args(["stress", name]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {errors}");
        assert!(errors.contains(reason) && errors.contains(remedy), "{name}: {errors}");
    }
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("a-file");
    std::fs::write(&blocked, "").unwrap();
    let arguments = ["stress", "seed/fixup", "--iterations", "1", "--findings", blocked.to_str().unwrap()];
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a directory that can be written to"));
}

/// A directory has the finding's name, so the file cannot be renamed to it.
#[test]
fn a_finding_that_cannot_be_written_is_told_and_ends_the_run() {
    counting_required();
    let directory = tempfile::tempdir().unwrap();
    let name = "seed.skip-over-call.wrong-resume.finding.json";
    std::fs::create_dir(directory.path().join(name)).unwrap();
    let (child, mut lines) = started(directory.path());
    let mut out = String::new();
    lines.read_to_string(&mut out).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{out}{errors}");
    let (finding, message) = errors.split_once("\n}\n").unwrap();
    let finding: serde_json::Value = serde_json::from_str(&format!("{finding}\n}}")).unwrap();
    assert_eq!((&finding["property"], &finding["replayable"]), (&"wrong-resume".into(), &false.into()));
    assert!(message.starts_with("harness error: ") && message.contains(name), "{message}");
}

/// One executor whose site is a RET. What it sees does not matter.
fn bare() -> StressVm {
    let mut text = vec![0xcc; 0x200];
    text[0x100] = 0xc3;
    StressVm::new(StressConfig {
        executors: 1,
        site: crossmod_abi::va::SITE + 0x100,
        text,
        landing: vec![0xcc; 4096],
        nmi_runs_site: false,
        irq_runs_site: false,
    })
    .unwrap()
}

struct Blind;

impl Observer for Blind {
    fn passes(&mut self, _: &[Pass]) {}

    fn trap(&mut self, _: u64) -> Trap {
        Trap::Abandon
    }

    fn fault(&mut self, _: &str, _: u64) {}

    fn handler_begins(&mut self) {}

    fn handler_ends(&mut self, _: bool, _: Option<u64>) {}
}

/// Sends one message at a time and waits for each, so no two of them can coalesce.
#[test]
fn every_message_that_meets_no_other_arrives() {
    const PATIENCE: Duration = Duration::from_secs(10);
    counting_required();
    let cpus = crossmod::machine::allowed_cpus();
    let sent = bare().run(&cpus[1..], vec![Blind], |handle, injector| {
        for message in [Message::Nmi, Message::Irq] {
            for number in 1..=200 {
                assert!(!injector.outstanding(message, 0), "{message:?} {number}");
                injector.send(message, 0)?;
                assert_eq!(injector.sent(message, 0), number);
                let began = Instant::now();
                while injector.counted(message, 0) < number && began.elapsed() < PATIENCE {
                    std::thread::yield_now();
                }
                handle.broadcast(Function::Sync, 1)?;
                assert_eq!(handle.wait_acks(1), Waited::Done);
                assert_eq!(injector.counted(message, 0), number, "{message:?}");
            }
        }
        Ok(())
    });
    sent.map(|_| ()).unwrap();
}

/// Otherwise the executors would never stop, and the panic would never be seen.
#[test]
fn executors_stop_when_their_patcher_panics() {
    counting_required();
    let panics = |run: fn()| {
        let error = std::thread::spawn(run).join().unwrap_err();
        assert_eq!(error.downcast_ref::<&str>(), Some(&"on purpose"));
    };
    panics(|| {
        let cpus = crossmod::machine::allowed_cpus();
        let _ = bare().run(&cpus[1..], vec![Blind], |_, _| -> Result<(), _> { panic!("on purpose") });
    });
    panics(|| {
        let cpus = crossmod::machine::allowed_cpus();
        let vm = BenchVm::new(1, 0x100, &[0xc3], false).unwrap();
        let _ = vm.run(&cpus[1..], |_, _| -> Result<(), _> { panic!("on purpose") });
    });
}

fn started(directory: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(BINARY)
        .args(["stress", "seed/skip-over-call", "--seconds", "60", "--findings"])
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default()
}

/// A file under a finding's name is complete, and every finding that was reported has its file.
#[test]
fn a_kill_at_any_moment_loses_no_finding() {
    counting_required();
    let mut random = fastrand::Rng::with_seed(7);
    let mut told = 0;
    for attempt in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, mut lines) = started(directory.path());
        let mut out = String::new();
        if attempt % 3 == 0 {
            // At the moment of the report.
            lines.read_line(&mut out).unwrap();
        } else {
            std::thread::sleep(Duration::from_micros(random.u64(..250_000)));
        }
        child.kill().unwrap();
        lines.read_to_string(&mut out).unwrap();
        child.wait().unwrap();
        let whole: Vec<PathBuf> = files(directory.path())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .collect();
        for path in &whole {
            let text = std::fs::read_to_string(path).unwrap();
            let finding: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(finding["replayable"], false);
        }
        let announced = out.lines().filter(|line| line.starts_with("FINDING: ")).count();
        assert!(whole.len() >= announced, "{out} {whole:?}");
        told += announced;
    }
    assert!(told >= 4, "{told}");
}

#[test]
fn an_interrupted_run_prints_what_it_knows() {
    counting_required();
    let directory = tempfile::tempdir().unwrap();
    let (child, mut lines) = started(directory.path());
    let mut out = String::new();
    lines.read_line(&mut out).unwrap();
    // SAFETY: the child is ours and not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    lines.read_to_string(&mut out).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{out}");
    assert!(out.contains("INTERRUPTED") && out.contains("wrong-resume"), "{out}");
}

#[test]
fn the_examples_in_the_help_run() {
    counting_required();
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY).args(arguments).current_dir(directory.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), errors)
    };
    // Short runs.
    for (subcommand, shortened) in [("stress", "--iterations"), ("bench", "--rounds")] {
        let help = run(&[subcommand, "--help"]).1;
        let example = help.lines().find_map(|line| line.trim().strip_prefix("crossmod ")).unwrap();
        let mut arguments: Vec<&str> = example.split_whitespace().collect();
        arguments.extend([shortened, "2"]);
        let (status, out, errors) = run(&arguments);
        assert_eq!(status, Some(0), "{example}: {out}{errors}");
        assert!(out.contains("nothing here is replayable"), "{out}");
    }
    let help = run(&["report", "--help"]).1;
    assert!(help.contains("crossmod report survey.json bench.json > report.html"), "{help}");
}

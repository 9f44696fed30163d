//! Reports for machines: JSON, KTAP (the kernel's TAP), JUnit XML.

use std::fmt::Write;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::text::{claim, short};
use super::{MODELLED_SMI, detail};
use crate::results::{Report, Status};

/// One JSON object.
///
/// # Errors
///
/// The error of the serialiser.
pub fn json(results: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(results).map_err(|error| error.to_string())
}

/// KTAP version 1 (Documentation/dev-tools/ktap.rst of the Linux kernel).
pub fn ktap(reports: &[Report]) -> String {
    let mut out = format!("KTAP version 1\n1..{}\n", reports.len());
    for (index, report) in reports.iter().enumerate() {
        let result = if report.as_expected { "ok" } else { "not ok" };
        let skip = match (&report.status, &report.reason) {
            (Status::Skipped, Some(reason)) => format!(" # SKIP {reason}"),
            (Status::Skipped, None) => " # SKIP".into(),
            _ => String::new(),
        };
        let _ = writeln!(out, "# {}", claim(report));
        if !report.as_expected && report.status != Status::HarnessError {
            for line in detail(report).lines() {
                let _ = writeln!(out, "# {line}");
            }
        }
        if !report.modelled.is_empty() {
            let _ = writeln!(out, "# modelled: {MODELLED_SMI}");
        }
        let _ = writeln!(out, "{result} {} {}{skip}", index + 1, report.case());
    }
    out
}

/// JUnit XML.
///
/// # Errors
///
/// A text that XML cannot hold.
pub fn junit(reports: &[Report]) -> Result<String, String> {
    let mut junit = Junit::new("crossmod");
    let mut suite = TestSuite::new("crossmod check");
    for report in reports {
        let without = |mut status: TestCaseStatus| {
            status.set_message(report.reason.as_ref().map(ToString::to_string).unwrap_or_default());
            status
        };
        let failed = |message: &str| {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(message).set_description(detail(report));
            status
        };
        let status = match (report.status, report.as_expected) {
            (Status::Skipped, _) => without(TestCaseStatus::skipped()),
            (Status::HarnessError, _) => without(TestCaseStatus::non_success(NonSuccessKind::Error)),
            (_, true) => TestCaseStatus::success(),
            (Status::NotDecided, _) => {
                failed(&format!("not decided: {}", short(report).unwrap_or("not exhaustive")))
            }
            (Status::Vacuous, _) => failed(&format!("vacuous: {}", report.vacuous.join("; "))),
            _ => failed("the expectation did not hold"),
        };
        let mut case = TestCase::new(report.case(), status);
        if let Some(seconds) = report.counts.seconds {
            case.set_time(std::time::Duration::from_secs_f64(seconds));
        }
        let modelled =
            if report.modelled.is_empty() { String::new() } else { format!("\nmodelled: {MODELLED_SMI}") };
        case.set_system_out(format!("{}{modelled}", claim(report)));
        suite.add_test_case(case);
    }
    junit.add_test_suite(suite);
    junit.to_string().map_err(|error| error.to_string())
}

//! Tables of inventories, lists, differences and windows.

use std::collections::BTreeMap;

use crossmod_linux::{Diff, Hazard, Inventory, KindRow, LengthRow, ProbeWindow, SiteRow, Via};

use super::{Cell, Document, Table};

/// Maximum number of entries, classes and changes in a document; JSON has all.
pub(super) const LISTED: usize = 40;

pub(super) fn release(release: Option<&String>, otherwise: &str) -> String {
    release.map_or_else(|| otherwise.to_owned(), |release| format!("Linux {release}"))
}

pub(super) fn more(listed: usize, all: usize, what: &str) -> Vec<String> {
    if all > listed {
        vec![format!("... and {} more {what}; `--format json` has all", all - listed)]
    } else {
        Vec::new()
    }
}

/// The inventory.
pub fn inventory(inventory: &Inventory) -> Document {
    let columns = vec![
        ("kind", false),
        ("bytes", true),
        ("sites", true),
        ("8", true),
        ("16", true),
        ("32", true),
        ("64", true),
        ("4096", true),
        ("on disk", false),
    ];
    let mut document = Document {
        title: release(inventory.release.as_ref(), "an image"),
        notes: vec![format!(
            "{}, {}names from {}, {} exception table entries",
            if inventory.images == 1 {
                "one image".to_owned()
            } else {
                format!("{} images", inventory.images)
            },
            inventory.compression.map(|packed| format!("packed with {packed}, ")).unwrap_or_default(),
            inventory.names,
            inventory.exceptions
        )],
        ..Document::default()
    };
    let mut table = Table {
        caption: "Patch sites, and how many cross a boundary of 8, 16, 32, 64 and 4096 bytes".into(),
        columns,
        rows: Vec::new(),
    };
    for kind in &inventory.kinds {
        if kind.lengths.len() > 1 {
            let all = states(kind.lengths.iter().flat_map(|row| &row.states));
            table.rows.push(row(kind.kind, "all".into(), kind.sites, &kind.crossings, all));
        }
        for length in &kind.lengths {
            let LengthRow { length, sites, states: on_disk, crossings } = length;
            table.rows.push(row(kind.kind, length.to_string(), *sites, crossings, states(on_disk)));
        }
    }
    document.tables.push(table);
    document.summary.extend(inventory.kinds.iter().filter_map(remarks));
    for (name, zeros) in &inventory.padding {
        document.summary.push(format!("{name}: {zeros} empty entries"));
    }
    for (left, right, count) in &inventory.overlaps {
        document.summary.push(format!("overlap: {count} {right} sites begin inside {left} sites"));
    }
    let entered = inventory.entered.len();
    document.summary.push(match entered {
        0 => "no branch, fixup or jump label leads into a site after its first byte".into(),
        count => format!("{count} branches, fixups or jump labels lead into a site after its first byte"),
    });
    if entered > 0 {
        let rows = inventory.entered.iter().take(LISTED).map(|entered| {
            let via = match entered.via {
                Via::Branch => "branch",
                Via::Fixup => "fixup",
                Via::JumpLabel => "jump label",
            };
            vec![
                entered.kind.into(),
                (&entered.site).into(),
                entered.byte.into(),
                (&entered.from).into(),
                via.into(),
            ]
        });
        document.tables.push(Table {
            caption: "Ways into a site".into(),
            columns: vec![("kind", false), ("site", false), ("byte", true), ("from", false), ("via", false)],
            rows: rows.collect(),
        });
        document.summary.extend(more(LISTED, entered, "ways"));
    }
    let formats = inventory.formats.iter().map(|(table, format)| vec![(*table).into(), format.into()]);
    document.tables.push(Table {
        caption: "Tables and the format of their entries".into(),
        columns: vec![("table", false), ("entries", false)],
        rows: formats.collect(),
    });
    document
}

fn row(kind: &str, length: String, sites: usize, crossings: &[usize], states: String) -> Vec<Cell> {
    let mut row = vec![kind.into(), length.into(), sites.into()];
    row.extend(crossings.iter().map(|count| Cell::part(*count, sites)));
    row.push(states.into());
    row
}

fn states<'a>(states: impl IntoIterator<Item = (&'a &'static str, &'a usize)>) -> String {
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for (state, count) in states {
        *all.entry(state).or_default() += count;
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.into_iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

fn remarks(kind: &KindRow) -> Option<String> {
    let mut remarks = Vec::new();
    if kind.tail > 0 {
        remarks.push(format!("{} in tail position", kind.tail));
    }
    if kind.places < kind.sites {
        remarks.push(format!("{} entries for {} places", kind.sites, kind.places));
    }
    if kind.entered > 0 {
        remarks.push(format!("{} entered after the first byte", kind.entered));
    }
    if kind.faulting > 0 {
        remarks.push(format!("{} with an instruction of the exception table", kind.faulting));
    }
    (!remarks.is_empty()).then(|| format!("{}: {}", kind.kind, remarks.join(", ")))
}

/// A list of sites.
pub fn list(title: Option<&String>, rows: impl Iterator<Item = SiteRow>, several: bool) -> Document {
    let mut columns = vec![
        ("address", false),
        ("kind", false),
        ("site", false),
        ("bytes", true),
        ("state", false),
        ("on disk", false),
        ("other", false),
        ("crosses", true),
        ("split", false),
        ("target", false),
        ("key", false),
    ];
    if several {
        columns.push(("image", false));
    }
    let rows: Vec<Vec<Cell>> = rows
        .map(|row| {
            let split = row.split.map(|split| format!("{split}+{}", row.length - split));
            let kind = format!("{}{}", row.kind, if row.tail { " (tail)" } else { "" });
            let mut cells: Vec<Cell> = vec![
                row.address.into(),
                kind.into(),
                row.site.into(),
                row.length.into(),
                row.state.into(),
                row.bytes.into(),
                row.other.unwrap_or_default().into(),
                row.crossing.map(|boundary| boundary.to_string()).unwrap_or_default().into(),
                split.unwrap_or_default().into(),
                row.target.unwrap_or_default().into(),
                row.key.unwrap_or_default().into(),
            ];
            if several {
                cells.push(row.image.into());
            }
            cells
        })
        .collect();
    let summary = vec![format!("{} sites", rows.len())];
    let table = Table { caption: String::new(), columns, rows };
    Document { title: release(title, "sites"), tables: vec![table], summary, ..Document::default() }
}

/// The differences between two images: every change if `all`, else the first few.
pub fn differences(diff: &Diff, all: bool) -> Document {
    let rows = diff.kinds.iter().map(|row| {
        let mut cells: Vec<Cell> = vec![row.kind.into()];
        let counts = [row.before, row.after, row.removed, row.added, row.length, row.state, row.crossing];
        cells.extend(counts.map(Cell::from));
        cells
    });
    let columns = vec![
        ("kind", false),
        ("A", true),
        ("B", true),
        ("only in A", true),
        ("only in B", true),
        ("length", true),
        ("state", true),
        ("crossing", true),
    ];
    let kinds = Table {
        caption:
            "Sites in A and B, and how many of those in both differ in length, state and what they cross"
                .into(),
        columns,
        rows: rows.collect(),
    };
    let listed = if all { diff.changes.len() } else { LISTED };
    let changes = diff.changes.iter().take(listed).map(|change| {
        let absent = || "-".to_owned();
        vec![
            change.kind.into(),
            (&change.site).into(),
            change.before.clone().unwrap_or_else(absent).into(),
            change.after.clone().unwrap_or_else(absent).into(),
            (&change.image).into(),
        ]
    });
    let changes = Table {
        caption: "Changes".into(),
        columns: vec![("kind", false), ("site", false), ("A", false), ("B", false), ("module", false)],
        rows: changes.collect(),
    };
    let mut summary = more(listed, diff.changes.len(), "changes, or `--list`");
    if diff.is_empty() {
        summary.push("no site differs".into());
    }
    Document {
        title: "Patch sites of two images".into(),
        notes: vec![
            format!("A: {}", release(diff.before.as_ref(), "an image")),
            format!("B: {}", release(diff.after.as_ref(), "an image")),
        ],
        tables: if diff.is_empty() { vec![kinds] } else { vec![kinds, changes] },
        summary,
        ..Document::default()
    }
}

/// Probe windows.
pub fn windows(title: Option<&String>, pattern: &str, windows: &[ProbeWindow]) -> Document {
    let legal = windows.iter().filter(|window| window.hazards.is_empty()).count();
    let rows = windows.iter().map(|window| {
        let hazards: Vec<String> = window.hazards.iter().map(Hazard::text).collect();
        let verdict = if hazards.is_empty() { "legal".to_owned() } else { hazards.join("; ") };
        vec![
            (&window.site).into(),
            window.length.into(),
            window.instructions.into(),
            (&window.bytes).into(),
            verdict.into(),
        ]
    });
    let table = Table {
        caption: String::new(),
        columns: vec![
            ("window", false),
            ("bytes", true),
            ("instructions", true),
            ("on disk", false),
            ("a jump of five bytes", false),
        ],
        rows: rows.collect(),
    };
    Document {
        title: release(title, "an image"),
        notes: vec![format!(
            "places in `{pattern}` where a jump of five bytes may replace whole instructions"
        )],
        tables: vec![table],
        summary: vec![format!("{legal} of {} windows are legal", windows.len())],
        ..Document::default()
    }
}

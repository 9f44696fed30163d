//! Tables of inventories, lists, differences and windows.

use std::collections::BTreeMap;

use crossmod_linux::{Diff, Inventory, KindRow, LengthRow, ProbeWindow, SiteRow, Via};

use itertools::Itertools;

use super::{Cell, Document, Table, row};

/// Maximum number of entries, classes and changes in a document; JSON has all.
pub(super) const LISTED: usize = 40;

pub(super) fn release(release: Option<&String>, otherwise: &str) -> String {
    release.map_or_else(|| otherwise.to_owned(), |release| format!("Linux {release}"))
}

pub(super) fn more(listed: usize, all: usize, what: &str) -> Option<String> {
    (all > listed).then(|| format!("... and {} more {what}; `--format json` has all", all - listed))
}

/// The inventory.
pub fn inventory(inventory: &Inventory) -> Document {
    let mut rows = Vec::new();
    for kind in &inventory.kinds {
        if kind.lengths.len() > 1 {
            let all = states(kind.lengths.iter().flat_map(|row| &row.states));
            rows.push(counts(kind.kind, "all".into(), kind.sites, &kind.crossings, &all));
        }
        for LengthRow { length, sites, states: on_disk, crossings } in &kind.lengths {
            rows.push(counts(kind.kind, length.to_string(), *sites, crossings, &states(on_disk)));
        }
    }
    let mut tables = vec![Table::new(
        "Patch sites, and how many cross a boundary of 8, 16, 32, 64 and 4096 bytes",
        "kind, #bytes, #sites, #8, #16, #32, #64, #4096, on disk",
        rows,
    )];
    let mut summary: Vec<String> = inventory.kinds.iter().filter_map(remarks).collect();
    summary.extend(inventory.padding.iter().map(|(name, zeros)| format!("{name}: {zeros} empty entries")));
    for (left, right, count) in &inventory.overlaps {
        summary.push(format!("overlap: {count} {right} sites begin inside {left} sites"));
    }
    let entered = inventory.entered.len();
    if entered == 0 {
        summary.push("no branch, fixup or jump label leads into a site after its first byte".into());
    } else {
        summary
            .push(format!("{entered} branches, fixups or jump labels lead into a site after its first byte"));
        let rows = inventory.entered.iter().take(LISTED).map(|entered| {
            let via = match entered.via {
                Via::Branch => "branch",
                Via::Fixup => "fixup",
                Via::JumpLabel => "jump label",
            };
            row(&[&entered.kind, &entered.site, &entered.byte, &entered.from, &via])
        });
        tables.push(Table::new("Ways into a site", "kind, site, #byte, from, via", rows));
        summary.extend(more(LISTED, entered, "ways"));
    }
    let formats = inventory.formats.iter().map(|(table, format)| row(&[table, format]));
    tables.push(Table::new("Tables and the format of their entries", "table, entries", formats));
    let images = match inventory.images {
        1 => "one image".to_owned(),
        several => format!("{several} images"),
    };
    let packed = inventory.compression.map(|packed| format!("packed with {packed}, ")).unwrap_or_default();
    let note = format!(
        "{images}, {packed}names from {}, {} exception table entries",
        inventory.names, inventory.exceptions
    );
    let title = release(inventory.release.as_ref(), "an image");
    Document { title, notes: vec![note], tables, summary, ..Document::default() }
}

/// The row of one kind and length.
fn counts(kind: &str, length: String, sites: usize, crossings: &[usize], states: &str) -> Vec<Cell> {
    let mut cells = row(&[&kind, &length, &sites]);
    cells.extend(crossings.iter().map(|count| Cell::part(*count, sites)));
    cells.push(states.into());
    cells
}

fn states<'a>(states: impl IntoIterator<Item = (&'a &'static str, &'a usize)>) -> String {
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for (state, count) in states {
        *all.entry(state).or_default() += count;
    }
    let all = all.into_iter().sorted_by_key(|(_, count)| std::cmp::Reverse(*count));
    all.map(|(state, count)| format!("{count} {state}")).join(", ")
}

fn remarks(kind: &KindRow) -> Option<String> {
    let remarks = [
        (kind.tail > 0, format!("{} in tail position", kind.tail)),
        (kind.places < kind.sites, format!("{} entries for {} places", kind.sites, kind.places)),
        (kind.entered > 0, format!("{} entered after the first byte", kind.entered)),
        (kind.faulting > 0, format!("{} with an instruction of the exception table", kind.faulting)),
    ];
    let remarks = remarks.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text).join(", ");
    (!remarks.is_empty()).then(|| format!("{}: {remarks}", kind.kind))
}

/// A list of sites.
pub fn list(title: Option<&String>, rows: impl Iterator<Item = SiteRow>, several: bool) -> Document {
    let columns = "address, kind, site, #bytes, state, on disk, other, #crosses, split, target, key, image";
    let rows = rows.map(|site| {
        let split = site.split.map(|split| format!("{split}+{}", site.length - split)).unwrap_or_default();
        let kind = format!("{}{}", site.kind, if site.tail { " (tail)" } else { "" });
        let crossing = site.crossing.map(|boundary| boundary.to_string()).unwrap_or_default();
        let mut cells = row(&[&site.address, &kind, &site.site, &site.length, &site.state, &site.bytes]);
        cells.extend([site.other.unwrap_or_default(), crossing, split].map(Cell::from));
        cells.extend([site.target, site.key].map(|name| name.unwrap_or_default().into()));
        cells.extend(several.then(|| site.image.into()));
        cells
    });
    let columns = if several { columns } else { columns.trim_end_matches(", image") };
    let table = Table::new("", columns, rows);
    let summary = vec![format!("{} sites", table.rows.len())];
    Document { title: release(title, "sites"), tables: vec![table], summary, ..Document::default() }
}

/// The differences between two images: every change if `all`, else the first few.
pub fn differences(diff: &Diff, all: bool) -> Document {
    let kinds = diff.kinds.iter().map(|kind| {
        let [before, after, removed, added] = [&kind.before, &kind.after, &kind.removed, &kind.added];
        row(&[&kind.kind, before, after, removed, added, &kind.length, &kind.state, &kind.crossing])
    });
    let mut tables = vec![Table::new(
        "Sites in A and B, and how many of those in both differ in length, state and what they cross",
        "kind, #A, #B, #only in A, #only in B, #length, #state, #crossing",
        kinds,
    )];
    let listed = if all { diff.changes.len() } else { LISTED };
    let mut summary = Vec::from_iter(more(listed, diff.changes.len(), "changes, or `--list`"));
    if diff.is_empty() {
        summary.push("no site differs".into());
    } else {
        let changes = diff.changes.iter().take(listed).map(|change| {
            let [before, after] =
                [&change.before, &change.after].map(|bytes| bytes.as_deref().unwrap_or("-"));
            row(&[&change.kind, &change.site, &before, &after, &change.image])
        });
        tables.push(Table::new("Changes", "kind, site, A, B, module", changes));
    }
    let images = [("A", &diff.before), ("B", &diff.after)];
    Document {
        title: "Patch sites of two images".into(),
        notes: images.map(|(name, image)| format!("{name}: {}", release(image.as_ref(), "an image"))).into(),
        tables,
        summary,
        ..Document::default()
    }
}

/// Probe windows.
pub fn windows(title: Option<&String>, pattern: &str, windows: &[ProbeWindow]) -> Document {
    let legal = windows.iter().filter(|window| window.hazards.is_empty()).count();
    let rows = windows.iter().map(|window| {
        let hazards = window.hazards.iter().join("; ");
        let verdict = if hazards.is_empty() { "legal" } else { &hazards };
        row(&[&window.site, &window.length, &window.instructions, &window.bytes, &verdict])
    });
    let note = format!("places in `{pattern}` where a jump of five bytes may replace whole instructions");
    Document {
        title: release(title, "an image"),
        notes: vec![note],
        tables: vec![Table::new("", "window, #bytes, #instructions, on disk, a jump of five bytes", rows)],
        summary: vec![format!("{legal} of {} windows are legal", windows.len())],
        ..Document::default()
    }
}

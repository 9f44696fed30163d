//! Links lead to files and headings that exist.

use std::path::Path;

use super::page::{Page, pages, root};

/// The anchor of a heading, as forges make it: lower case, spaces as hyphens, no punctuation.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            _ if character.is_alphanumeric() => Some(character),
            _ => None,
        })
        .collect()
}

/// True if a heading of the text, or an explicit anchor, has this name.
fn has_anchor(text: &str, name: &str) -> bool {
    let page = Page { name: "", text: text.to_owned() };
    let headings = page.prose().filter_map(|line| line.strip_prefix('#'));
    headings.map(|heading| anchor(heading.trim_start_matches('#'))).any(|heading| heading == name)
        || [format!("id=\"{name}\""), format!("name=\"{name}\"")]
            .iter()
            .any(|explicit| text.contains(explicit))
}

/// Why a link leads nowhere, if it does.
fn broken(page: &str, text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, name) = target.split_once('#').unwrap_or((target, ""));
    let path = root().join(Path::new(page).parent().unwrap()).join(file);
    let there = match file {
        "" => text.to_owned(),
        _ if path.is_dir() => return None,
        _ => match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => return Some(format!("{page}: {target}: no such file")),
        },
    };
    (!name.is_empty() && !has_anchor(&there, name)).then(|| format!("{page}: {target}: no such heading"))
}

/// The targets of the links of a page.
fn targets(page: &Page) -> Vec<String> {
    // A link may be broken over two lines.
    let prose = page.prose().collect::<Vec<_>>().join("\n");
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut found = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for target in targets(&page) {
            found += 1;
            wrong.extend(broken(page.name, &page.text, &target));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 40, "only {found} links found");
}

#[test]
fn a_broken_link_is_found() {
    let text = "# One: two/three\n";
    assert_eq!(broken("README.md", text, "#one-twothree"), None);
    assert!(broken("README.md", text, "#one").is_some());
    assert!(broken("README.md", text, "nowhere.md").is_some());
    assert!(broken("README.md", text, "CHANGELOG.md#nowhere").is_some());
}

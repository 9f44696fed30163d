//! Tags: words by which scenarios are selected.

use super::error::ScenarioError;
use super::syntax::Text;

/// Whether a text is a tag: words of a-z and 0-9, joined by single hyphens, at most 40 characters.
pub fn is_tag(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 40 && text.split('-').all(word)
}

/// The tags of a scenario, in their order.
pub(super) fn resolve(given: &[Text]) -> Result<Vec<String>, ScenarioError> {
    let mut tags: Vec<String> = Vec::new();
    for tag in given {
        if !is_tag(tag) {
            return Err(tag.place.error(
                format!("`{}` is not a tag", tag.escape_debug()),
                "not a tag",
                "write words of a-z and 0-9, joined by hyphens, as in \"stop-machine\"; at most 40 characters",
            ));
        }
        if tags.contains(tag) {
            let message = format!("the tag `{}` is given twice", tag.value);
            return Err(tag.place.error(message, "again", "give it once"));
        }
        tags.push(tag.value.clone());
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use crate::{Options, Scenario, is_tag, library};

    fn tagged(tags: &str) -> Scenario {
        let mut scenario = library().into_iter().find(|scenario| scenario.name == "seed/fixup").unwrap();
        let at = scenario.text.find("tags = ").unwrap();
        let end = at + scenario.text[at..].find('\n').unwrap();
        scenario.text.replace_range(at..end, &format!("tags = {tags}"));
        scenario
    }

    #[test]
    fn tags_are_words_and_mistakes_have_their_place() {
        assert_eq!(tagged("[\"nmi\", \"x86-64\"]").tags().unwrap(), ["nmi", "x86-64"]);
        assert!(tagged("[]").tags().unwrap().is_empty());
        for (tags, column, message) in [
            ("[\"nmi\", \"NMI\"]", 16, "`NMI` is not a tag"),
            ("[\"\"]", 9, "`` is not a tag"),
            ("[\"a--b\"]", 9, "`a--b` is not a tag"),
            ("[\"nmi\", \"nmi\"]", 16, "the tag `nmi` is given twice"),
        ] {
            let scenario = tagged(tags);
            let error = scenario.tags().unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert_eq!(error.position().map(|(_, column)| column), Some(column), "{tags}");
            assert!(!error.advice().is_empty());
            assert_eq!(scenario.plan(&Options::default()).unwrap_err().to_string(), error.to_string());
        }
        assert!(!is_tag(&"a".repeat(41)) && !is_tag("-a") && !is_tag("a b") && is_tag("2"));
    }

    #[test]
    fn every_shipped_scenario_has_a_tag() {
        for scenario in library() {
            assert!(!scenario.tags().unwrap().is_empty(), "{}", scenario.name);
        }
    }
}

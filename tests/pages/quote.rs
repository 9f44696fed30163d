//! Compares quoted output with the output of a command.

/// A line as words, without what differs from run to run and from host to host: times, the host, and how many
/// steps KVM needed.
pub fn words(line: &str) -> Vec<&str> {
    if line.contains(" CPUs, Linux ") {
        return Vec::new();
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = |word: Option<&&str>| {
        word.is_some_and(|word| ["s", "ms"].contains(&word.trim_end_matches([',', ';'])))
    };
    let counts = line.contains("on KVM");
    (0..words.len())
        .filter(|&index| {
            let number = words[index].starts_with(|first: char| first.is_ascii_digit());
            !number || !(counts || unit(words.get(index + 1)))
        })
        .map(|index| words[index])
        .collect()
}

/// A quoted line that the output does not have in its place, and what the output has that is most like it.
#[derive(Debug, PartialEq)]
pub struct Missing {
    pub quoted: String,
    pub nearest: String,
}

/// The first quoted line that is missing; `...` matches any lines.
pub fn first_missing(quoted: &str, output: &str) -> Option<Missing> {
    let output: Vec<&str> = output.lines().collect();
    let (mut at, mut skipping) = (0, false);
    for line in quoted.lines() {
        if line.trim() == "..." {
            skipping = true;
            continue;
        }
        match (at..output.len()).find(|&index| words(output[index]) == words(line)) {
            Some(index) if skipping || index == at => at = index + 1,
            _ => return Some(Missing { quoted: line.to_owned(), nearest: nearest(line, &output[at..]) }),
        }
        skipping = false;
    }
    None
}

/// The line that shares the most words with `line`.
fn nearest(line: &str, output: &[&str]) -> String {
    let wanted = words(line);
    let shared = |line: &&&str| words(line).iter().filter(|word| wanted.contains(word)).count();
    output.iter().max_by_key(shared).map_or_else(String::new, |line| (*line).to_owned())
}

#[test]
fn a_wrong_quotation_is_found() {
    let output = "one 3 ms\ntwo\nthree 17 states\n";
    let missing = |quoted| first_missing(quoted, output).map(|missing| missing.quoted);
    assert_eq!(missing("one 4 ms\n...\nthree 17 states\n"), None);
    assert_eq!(missing("one 4 ms\nthree 17 states\n"), Some("three 17 states".into()));
    assert_eq!(
        first_missing("...\nthree 18 states\n", output),
        Some(Missing { quoted: "three 18 states".into(), nearest: "three 17 states".into() })
    );
}

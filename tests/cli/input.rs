//! Input that cannot be used: the place, the reason, the remedy, status 2, and no panic. None of it needs KVM.

use std::fs::File;

use super::{BROKEN, refused, write};

#[test]
fn names_that_mean_nothing_are_told_with_where_to_look() {
    refused(&["check", "seed/nonsense"], &["`seed/nonsense` is neither a file nor", "crossmod list"]);
    refused(
        &["check", "nowhere.toml"],
        &["nowhere.toml", "No such file", "give the path of a scenario file"],
    );
    refused(&["show", "seed/nonsense"], &["`seed/nonsense`", "crossmod list"]);
    refused(&["replay", "nowhere.json"], &["nowhere.json", "No such file"]);
    refused(&["check", "--ring", "1", "seed/fixup"], &["executors run at ring 0 or 3"]);
    refused(&["check", "--format", "yaml"], &["json", "ktap", "junit"]);
    refused(&["check", "--random", "5", "--pct", "5"], &["cannot be used with"]);
    refused(&["chekc"], &["check"]);
    refused(&["replay"], &["required"]);
}

#[test]
fn files_that_are_no_scenarios_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| write(directory.path(), name, bytes);
    let truncated = &BROKEN[..BROKEN.find("offset").expect("has one") + 9];
    for (name, bytes, parts) in [
        ("empty.toml", &b""[..], &["is empty", "start from a copy of a shipped scenario"][..]),
        ("blank.toml", b" \n\n\t\n", &["is empty"]),
        ("truncated.toml", truncated.as_bytes(), &["truncated.toml:8:", "is it complete"]),
        ("cut.toml", &BROKEN.as_bytes()[..20], &["cut.toml:1:"]),
        ("elf.toml", b"\x7fELF\x02\x01\x01\x00\x80\xff\xfe", &["not UTF-8 text (byte 8)", "binary"]),
        ("nul.toml", &[0; 512], &["is not text: byte 0", "binary"]),
        ("word.toml", b"hello", &["word.toml:1:"]),
    ] {
        let path = put(name, bytes);
        refused(&["check", &path], &[parts, &[name]].concat());
    }
    let directories = tempfile::tempdir().unwrap();
    let path = directories.path().to_str().unwrap();
    refused(&["check", path], &[path, "no .toml files in this directory"]);
    write(directories.path(), "notes.txt", "nothing");
    refused(&["check", path], &["no .toml files in this directory"]);
    // One bad file is enough, and it is named before anything runs.
    write(directories.path(), "a.toml", BROKEN);
    write(directories.path(), "b.toml", "title = 1\n");
    refused(&["check", path], &["b.toml:1:9"]);
    refused(&["check", "/dev/zero"], &["not a regular file"]);
}

#[test]
fn a_huge_file_is_refused_without_being_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("huge.toml");
    File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let path = path.to_str().unwrap();
    refused(&["check", path], &["104857600 bytes", "largest scenario", "is this another file?"]);
    refused(&["replay", path], &["not a trace: larger than 64 MiB"]);
}

#[test]
fn mistakes_have_a_line_a_column_a_caret_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    for (from, to, parts) in [
        ("offset = 0x100", "ofset = 0x100", &["x.toml:8:1", "unknown field", "did you mean `offset`?"][..]),
        ("expect", "expects", &["x.toml:3:1", "unknown field"]),
        ("unserialised", "unserialized", &["x.toml:3:", "did you mean `unserialised`?"]),
        ("plain_store", "plane_store", &["x.toml:2:", "plain_store"]),
        ("jmp32", "jmp8", &["x.toml:", "length"]),
        ("0x100", "\"far\"", &["x.toml:8:10"]),
        ("0x100", "0x10000", &["x.toml:8:10", "from 0 to 4095"]),
    ] {
        assert!(BROKEN.contains(from));
        let path = write(directory.path(), "x.toml", BROKEN.replacen(from, to, 1));
        refused(&["check", &path], &[parts, &["help:"]].concat());
        let run = super::run(&mut super::crossmod(&["check", &path]));
        // The caret is a line below the quoted one; miette draws it as a tee.
        assert!(run.err.contains('┬') || run.err.contains('▲') || run.err.contains('^'), "{}", run.err);
    }
}

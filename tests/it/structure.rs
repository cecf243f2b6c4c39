//! A module imports only from the floors below its own.

use std::{fs, path::Path};

const FLOORS: &[&[&str]] = &[
    &["error"],
    &["sys"],
    &["seed", "image", "download"],
    &["format"],
    &["sample"],
    &["transform"],
    &["data", "model", "loss", "metric"],
    &["optim"],
    &["learner"],
    &["callback", "interpret", "doctor"],
    &["show"],
    &["prelude", "guide"],
];

fn floor(module: &str) -> usize {
    FLOORS
        .iter()
        .position(|f| f.contains(&module))
        .unwrap_or_else(|| panic!("`{module}` has no floor"))
}

/// The modules that `text` names after `crate::`, alone or in braces.
fn imports(text: &str) -> Vec<String> {
    let word = |s: &str| {
        s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut found = vec![];
    for after in text.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            found.push(word(after));
            continue;
        };
        let (mut depth, mut start) = (1, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (c == ',' && depth == 1) {
                found.push(word(&group[start..i]));
                start = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|w| w.starts_with(char::is_lowercase));
    found
}

fn check(path: &Path, own: &str, broken: &mut Vec<String>) {
    if path.is_dir() {
        for e in fs::read_dir(path).unwrap() {
            check(&e.unwrap().path(), own, broken);
        }
        return;
    }
    if path.extension().is_none_or(|e| e != "rs") {
        return;
    }
    for m in imports(&fs::read_to_string(path).unwrap()) {
        if m != own && floor(&m) >= floor(own) {
            broken.push(format!("{} imports `{m}`", path.display()));
        }
    }
}

#[test]
fn every_import_goes_down() {
    let mut broken = vec![];
    for e in fs::read_dir("src").unwrap() {
        let path = e.unwrap().path();
        let own = path.file_stem().unwrap().to_string_lossy().into_owned();
        if own != "lib" {
            check(&path, &own, &mut broken);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

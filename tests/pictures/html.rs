//! Whether a page or a picture is well formed, as far as that can be told without a browser.

use std::collections::BTreeSet;

/// Elements that have no end.
const VOID: [&str; 6] = ["meta", "link", "img", "br", "hr", "input"];

/// Every element is closed where it should be, no text holds a bare `&`, and every `id` is there once.
pub(crate) fn balanced(page: &str) {
    let (mut open, mut ids) = (vec![], BTreeSet::new());
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        for entity in text.split('&').skip(1) {
            let end = entity.find(';').unwrap_or(usize::MAX);
            assert!(end < 8, "a bare `&` before {}", &entity[..entity.len().min(40)]);
        }
        let end = rest[start..].find('>').expect("every tag ends") + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name: String =
            tag.trim_start_matches('/').chars().take_while(|c| c.is_alphanumeric()).collect();
        if let Some(id) = tag.split(" id=\"").nth(1).and_then(|s| s.split('"').next()) {
            assert!(ids.insert(id.to_owned()), "the id {id} is there twice");
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        if tag.starts_with(['!', '?']) || tag.ends_with('/') || VOID.contains(&&*name) {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(&*name), "</{name}>");
        } else {
            // Styles are no HTML.
            if name == "style" {
                let end = rest.find("</style>").expect("a style ends");
                rest = &rest[end..];
            }
            open.push(name);
        }
    }
    assert!(open.is_empty(), "not closed: {open:?}");
}

/// Nothing is loaded from elsewhere, nothing is run, and links within the page lead somewhere.
pub(crate) fn self_contained(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    assert!(!page.contains("<script") && !page.contains("@import") && !page.contains("url("));
    for attribute in [" src=\"", " href=\""] {
        for link in page.split(attribute).skip(1) {
            let link = link.split('"').next().unwrap();
            let inside =
                link.strip_prefix('#').is_some_and(|id| page.contains(&format!(" id=\"{id}\"")));
            assert!(link.starts_with("data:") || inside, "{}", &link[..link.len().min(60)]);
        }
    }
    assert!(page.contains("name=\"viewport\"") && page.contains("prefers-color-scheme: dark"));
    assert_eq!(page.matches("<img ").count(), page.matches(" alt=\"").count());
}

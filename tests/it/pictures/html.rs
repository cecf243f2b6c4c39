//! Checks of self-contained HTML pages.

/// Checks that nothing is loaded from elsewhere, no script runs, and links within the page have targets.
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

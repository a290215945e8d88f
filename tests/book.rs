//! The book holds together: its contents, its parts, what it includes, and where it links to.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files in a folder, and in those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

struct Page {
    /// As in `SUMMARY.md`.
    name: String,
    path: PathBuf,
    text: String,
}

fn page(path: PathBuf) -> Page {
    let name = path.strip_prefix(root().join("book/src")).unwrap().to_str().unwrap().to_owned();
    Page { name, text: read(&path), path }
}

fn summary() -> Page {
    page(root().join("book/src/SUMMARY.md"))
}

/// All pages but the summary.
fn pages() -> Vec<Page> {
    let pages = files(&root().join("book/src")).into_iter().map(page);
    pages.filter(|page| page.name.ends_with(".md") && page.name != "SUMMARY.md").collect()
}

/// What stands between `open` and `close`, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let after = text.split(open).skip(1);
    after.filter_map(|rest| rest.split_once(close).map(|(inside, _)| inside)).collect()
}

/// A code fence: its language, and what is in it.
struct Fence<'a> {
    language: &'a str,
    text: &'a str,
}

fn fences(text: &str) -> Vec<Fence<'_>> {
    let parts = text.split("```").skip(1).step_by(2);
    parts
        .map(|part| part.split_once('\n').unwrap_or((part, "")))
        .map(|(language, text)| Fence { language, text })
        .collect()
}

/// The text without what is in fences.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

struct Include {
    path: PathBuf,
    part: Option<String>,
}

impl Page {
    fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap().join(path)
    }

    fn includes(&self) -> Vec<Include> {
        between(&self.text, "{{#", "}}").into_iter().map(|inside| self.include(inside)).collect()
    }

    fn include(&self, inside: &str) -> Include {
        let Some(("include" | "rustdoc_include", target)) = inside.split_once(' ') else {
            panic!("{}: what is {inside:?}?", self.name)
        };
        let (path, part) = match target.split_once(':') {
            Some((path, part)) => (path, Some(part.to_owned())),
            None => (target, None),
        };
        Include { path: self.resolve(path), part }
    }

    /// Where it links to, but for other places in the network.
    fn links(&self) -> Vec<String> {
        let prose = prose(&self.text);
        let links = between(&prose, "](", ")");
        let here = links.into_iter().filter(|link| !link.starts_with("http"));
        here.map(str::to_owned).collect()
    }

    /// What can be linked to: headings, and words that are explained.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = prose(&self.text);
        let lines: Vec<&str> = prose.lines().collect();
        let headings = lines.iter().filter_map(|line| {
            let text = line.trim_start_matches('#');
            (text.len() < line.len()).then_some(text)
        });
        let words = lines.windows(2).filter(|two| two[1].starts_with(": ")).map(|two| two[0]);
        headings.chain(words).map(slug).collect()
    }

    /// The text below a heading of the second level.
    fn part(&self, heading: &str) -> &str {
        let text = self.text.split_once(&format!("\n## {heading}\n"));
        let text = text.unwrap_or_else(|| panic!("{}: no part {heading:?}", self.name)).1;
        text.split("\n## ").next().unwrap_or_default()
    }
}

/// The anchor that mdBook makes of a heading.
fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || ['_', '-', ' '].contains(c);
    let text: String = heading.trim().chars().filter(kept).collect();
    text.replace(' ', "-").to_lowercase()
}

/// The pages in the summary, from a heading to the next.
fn listed(range: Range<&str>) -> Vec<String> {
    let text = summary().text;
    let after = text.split_once(range.start).expect(range.start).1;
    let part = after.split_once(range.end).map_or(after, |(part, _)| part);
    between(part, "](", ")").into_iter().map(str::to_owned).collect()
}

#[test]
fn every_page_is_in_the_summary_once_or_included_by_one_that_is() {
    let listed = listed("# Summary".."(the end)");
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(unique.len(), listed.len(), "twice in SUMMARY.md");
    for name in &listed {
        assert!(root().join("book/src").join(name).exists(), "{name} is no page");
    }
    let pages = pages();
    let included: Vec<PathBuf> = pages.iter().flat_map(Page::includes).map(|i| i.path).collect();
    for page in &pages {
        let is_known = unique.contains(&page.name) || included.contains(&page.path);
        assert!(is_known, "{} is in no table of contents", page.name);
    }
}

#[test]
fn every_example_is_shown_or_named_by_some_page() {
    let text: String = pages().iter().map(|page| page.text.as_str()).collect();
    let folder = root().join("examples");
    for path in files(&folder) {
        let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        if let Some(name) = name.strip_suffix(".rs").or_else(|| name.strip_suffix(".py")) {
            assert!(text.contains(name), "{name} is on no page");
        }
    }
}

#[test]
fn every_listing_is_shown_by_some_page() {
    let shown: BTreeSet<PathBuf> = pages()
        .iter()
        .flat_map(Page::includes)
        .map(|include| include.path.canonicalize().expect("tested elsewhere"))
        .collect();
    for path in files(&root().join("book/listings")) {
        assert!(shown.contains(&path.canonicalize().unwrap()), "{}", path.display());
    }
}

#[test]
fn everything_that_is_included_is_there() {
    for page in pages() {
        for Include { path, part } in page.includes() {
            let text = read(&path);
            let Some(part) = part else { continue };
            for mark in [format!("ANCHOR: {part}\n"), format!("ANCHOR_END: {part}\n")] {
                let count = text.matches(&mark).count();
                assert_eq!(count, 1, "{}: {mark}in {}", page.name, path.display());
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for from in pages().into_iter().chain([summary()]) {
        for link in from.links() {
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let path = if path.is_empty() { from.path.clone() } else { from.resolve(path) };
            assert!(path.exists(), "{}: {link}", from.name);
            if !anchor.is_empty() {
                let to = page(path.canonicalize().unwrap());
                assert!(to.anchors().contains(anchor), "{}: {link}", from.name);
            }
        }
    }
}

#[test]
fn nothing_is_pasted() {
    let doctests = read(&root().join("src/lib.rs"));
    for page in pages() {
        let is_tested = doctests.contains(&format!("\"../book/src/{}\"", page.name));
        for Fence { language, text } in fences(&page.text) {
            let is_included = text.starts_with("{{#") && text.trim_end().ends_with("}}");
            let is_fine = match language {
                "rust" => is_tested,                                       // it is a doctest
                "rust,ignore" | "text" | "json" | "python" => is_included, // it is a file
                "sh" | "toml" => true,
                _ => false,
            };
            assert!(is_fine, "{}: ```{language}\n{text}```", page.name);
        }
    }
}

#[test]
fn every_chapter_of_the_tutorial_has_all_parts() {
    for name in listed("# Tutorial".."\n# ") {
        let chapter = page(root().join("book/src").join(name));
        let name = &chapter.name;
        assert!(chapter.part("The program").contains(":body}}"), "{name}: a program");
        assert!(chapter.part("What it says").contains("/expected/"), "{name}: its output");
        assert!(chapter.text.contains("<div class=\"picture\">\n{{#include"), "{name}: a picture");
        assert!(chapter.part("What happened").contains("\n1. "), "{name}: is numbered");
        let broken = chapter.part("Break it");
        assert!(broken.contains("broken.rs:body}}"), "{name}: what breaks it");
        assert!(fences(broken).iter().any(|f| f.language == "text"), "{name}: the message");
        let rule = chapter.part("The rule").trim();
        let is_sentence = rule.starts_with("> ") && rule.ends_with('.') && !rule.contains(". ");
        assert!(is_sentence, "{name}: {rule}");
        let exercise = chapter.part("Exercise");
        let solution = exercise.contains("<details>") && exercise.contains("solution.rs:body}}");
        assert!(solution, "{name}: a solution");
    }
}

#[test]
fn a_program_of_the_book_fits_on_a_screen() {
    for page in pages() {
        for Include { path, part } in page.includes() {
            let (text, Some(part)) = (read(&path), part) else { continue };
            let inside = between(&text, &format!("ANCHOR: {part}\n"), "// ANCHOR_END");
            let lines = inside[0].lines().filter(|line| !line.trim().is_empty()).count();
            assert!(lines <= 40, "{}: {lines} lines of {}", page.name, path.display());
        }
    }
}

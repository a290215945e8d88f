//! The pages, the CI script and the justfile say the same.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines in the README's `sh` fences.
fn readme_commands() -> Vec<String> {
    let readme = read("README.md");
    let fences = readme.split("```sh\n").skip(1);
    let lines = fences.flat_map(|fence| fence.split("```").next().unwrap_or_default().lines());
    lines.map(str::to_owned).collect()
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let script = read(".ci/run");
    let last = script.lines().last().expect("a command");
    assert!(readme_commands().iter().any(|command| command == last), "not in the README: {last}");
}

#[test]
fn the_demo_of_the_readme_is_the_one_of_the_justfile() {
    let justfile = read("justfile");
    let demo = justfile.split("\ndemo:\n").nth(1).and_then(|recipe| recipe.lines().next());
    let demo = demo.expect("a recipe `demo`").trim();
    assert!(readme_commands().iter().any(|command| command == demo), "not in the README: {demo}");
}

/// What stands in the README's first fence of this language.
fn readme_fence(language: &str) -> String {
    let readme = read("README.md");
    let fence = readme.split_once(&format!("```{language}\n")).expect("a fence").1;
    fence.split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn the_example_of_the_readme_is_a_program_that_is_run() {
    let program = read("examples/26_pages.rs");
    let body = program.split_once("// ANCHOR: body\n").expect("its beginning").1;
    let body = body.split_once("// ANCHOR_END: body\n").expect("its end").0;
    assert_eq!(readme_fence("rust,no_run"), body);
    assert_eq!(readme_fence("text"), read("examples/expected/26_pages.txt"));
}

#[test]
fn every_file_that_the_readme_links_to_is_there() {
    let readme = read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    for link in links.filter(|link| !link.starts_with("http")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(path.exists(), "{link}");
    }
}

#[test]
fn the_justfile_fits_on_a_page() {
    assert!(read("justfile").lines().count() <= 80);
}

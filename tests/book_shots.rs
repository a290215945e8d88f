//! A browser opens every page of the book, as it was built: `just book-shots`, which keeps the pictures.
//!
//! Each page is opened in a frame, as wide as a desk or as a phone, in a light and a dark theme. A script that is put into
//! a copy of the page looks around and tells the outer page, whose text the browser prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// As wide as a desk, and as a phone.
const WIDTHS: [u32; 2] = [1200, 390];
const THEMES: [&str; 2] = ["light", "navy"];

/// Runs first in the copy of each page: sets the theme, and reports what is wrong when all is loaded.
const PROBE: &str = r#"<script>
localStorage.setItem("mdbook-theme", JSON.stringify("THEME"));
const wrong = [];
addEventListener("error", e => {
    const place = e.target.src || e.target.href;
    wrong.push(place ? "missing: " + place : "error: " + e.message);
}, true);
addEventListener("unhandledrejection", e => wrong.push("error: " + e.reason));
const log = console.error;
console.error = (...text) => { wrong.push("console: " + text.join(" ")); log(...text); };
addEventListener("load", () => setTimeout(() => {
    const page = document.documentElement;
    if (!page.classList.contains("THEME")) wrong.push("theme: " + page.className);
    for (const picture of document.querySelectorAll("main svg.nt, main img")) {
        if (picture.getBoundingClientRect().height < 20) wrong.push("a picture without height");
    }
    for (const place of document.querySelectorAll(".picture")) {
        if (!place.querySelector("svg, img")) wrong.push("missing: a picture");
    }
    if (document.querySelector("main")?.textContent.includes("{{#")) wrong.push("missing: an include");
    if (page.scrollWidth > page.clientWidth) {
        wrong.push("scrolls sideways: " + page.scrollWidth + " of " + page.clientWidth + " px");
    }
    parent.postMessage({ wrong, height: page.scrollHeight }, "*");
}, 300));
</script>"#;

/// The page around the frame.
const FRAME: &str = r#"<!doctype html><body style="margin:0"><script>
addEventListener("message", e => {
    frame.style.height = e.data.height + "px";
    report.textContent = "looked at " + e.data.height + " px\n" + e.data.wrong.join("\n");
});
</script>
<iframe id="frame" src="PAGE" style="border:0;width:WIDTHpx;height:900px"></iframe>
<pre id="report" hidden></pre></body>"#;

/// The built book, copied, with the probe in each page.
struct Copy {
    folder: PathBuf,
    pages: Vec<String>,
}

impl Copy {
    fn new(book: &Path, name: &str, theme: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).join(theme);
        let _ = fs::remove_dir_all(&folder);
        let mut copy = Copy { folder, pages: vec![] };
        copy.add(book, Path::new(""), &PROBE.replace("THEME", theme));
        copy.pages.sort();
        copy
    }

    fn add(&mut self, from: &Path, to: &Path, probe: &str) {
        fs::create_dir_all(self.folder.join(to)).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            if path.is_dir() {
                self.add(&path, &to, probe);
            } else if path.extension().is_some_and(|end| end == "html") {
                let text = fs::read_to_string(&path).unwrap();
                fs::write(self.folder.join(&to), text.replacen("<head>", probe, 1)).unwrap();
                if text.contains("<main>") {
                    self.pages.push(to.to_str().unwrap().to_owned());
                } // the table of contents for browsers without scripts is no page
            } else {
                fs::copy(&path, self.folder.join(&to)).unwrap();
            }
        }
    }

    /// Opens a page, keeps a picture, and returns what is wrong with it.
    fn look_at(&self, page: &str, width: u32) -> Result<(), String> {
        let frame = self.folder.join("frame.html");
        let text = FRAME.replace("PAGE", page).replace("WIDTH", &width.to_string());
        fs::write(&frame, text).unwrap();
        let shot = format!("{}-{width}.png", page.trim_end_matches(".html").replace('/', "-"));
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--force-prefers-reduced-motion", "--virtual-time-budget=3000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", self.folder.join("profile").display()))
            .arg(format!("--screenshot={}", self.folder.join(shot).display()))
            .arg(format!("--window-size={},3000", width.max(500)))
            .arg(format!("file://{}", frame.display()))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let report = said.rsplit_once("looked at ").and_then(|(_, rest)| rest.split_once("</pre>"));
        let Some((report, _)) = report else { return Err("said nothing".to_owned()) };
        let wrong: Vec<&str> = report.lines().skip(1).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

fn is_browser_installed() -> bool {
    let answer = Command::new("chromium").arg("--version").output();
    if answer.is_err() {
        eprintln!("skipped: `chromium` is not installed");
    }
    answer.is_ok()
}

#[test]
#[ignore = "needs the built book and a browser: `just book-shots`"]
fn every_page_can_be_looked_at_on_a_desk_and_on_a_phone() {
    if !is_browser_installed() {
        return;
    }
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("book/book");
    assert!(book.join("index.html").exists(), "there is no built book: `just book`");
    let mut failures = vec![];
    for theme in THEMES {
        let copy = Copy::new(&book, "book-shots", theme);
        eprintln!("pictures of {} pages: {}", copy.pages.len(), copy.folder.display());
        for page in &copy.pages {
            for width in WIDTHS {
                if let Err(wrong) = copy.look_at(page, width) {
                    failures.push(format!("{page}, {theme}, {width} px: {wrong}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
#[ignore = "needs a browser: `just book-shots`"]
fn what_is_wrong_with_a_page_is_noticed() {
    let wrongs = [
        ("", None),
        ("<img src='nowhere.png' height=50>", Some("missing: file://")),
        ("<div class='picture'></div>", Some("missing: a picture")),
        ("<script>nobody()</script>", Some("error: Uncaught ReferenceError")),
        ("<script>console.error('no')</script>", Some("console: no")),
        ("<div style='width:420px'>wide</div>", Some("scrolls sideways: 420 of 390 px")),
        ("{{#include nothing}}", Some("missing: an include")),
    ];
    if !is_browser_installed() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken-book");
    fs::create_dir_all(&folder).unwrap();
    for (number, (wrong, _)) in wrongs.iter().enumerate() {
        let page = format!(
            "<!doctype html><html class='light'><head></head>\
             <body style='margin:0'><main>a page {wrong}</main></body></html>"
        );
        fs::write(folder.join(format!("{number}.html")), page).unwrap();
    }
    let copy = Copy::new(&folder, "broken-book-shots", "light");
    for (page, (_, expected)) in copy.pages.iter().zip(wrongs) {
        let seen = copy.look_at(page, 390);
        match expected {
            None => assert_eq!(seen, Ok(())),
            Some(expected) => {
                let seen = seen.expect_err(expected);
                assert!(seen.contains(expected), "{page}: {seen} is not {expected}");
            }
        }
    }
}

//! A [`Trace`](crate::Trace) as a picture.
//!
//! Lines of one kind are one path, and numbers are whole, so that a file is small. There is no blank line in it: in a
//! Markdown page that would end it. The colours are those of the page around it; on its own, it has a background
//! as well, light or dark as the reader likes it.

mod layout;

use std::collections::BTreeMap;

use nursery::NodeKind;

use crate::trace::record::{Node, Record, Seconds, What};
use crate::trace::svg::layout::{Bar, Failure, HALF, HEAD, Layout, ROW, Span, WIDTH};
use crate::trace::text;

const STYLE: &str = "\
.nt:root{color:#24292f;background:#fff}
@media(prefers-color-scheme:dark){.nt:root{color:#d0d7de;background:#0d1117}}
.nt{max-width:100%;height:auto;font:12px system-ui,sans-serif}
.nt text{fill:currentColor}
.nt path,.nt rect{fill:none;stroke:currentColor;stroke-width:1.5}
.nt .s{font-size:10px;opacity:.75}
.nt .t{stroke-width:1;opacity:.2}
.nt .w{stroke-dasharray:2 4}
.nt .r{stroke-width:6}
.nt .c,.nt .b,.nt .x{stroke:#e5484d}
.nt .b{stroke-width:3}
.nt .x{stroke-width:2.5}
.nt .o{stroke-width:1;opacity:.6}
.nt .h{fill:url(#nt-h)}
.nt #nt-h path{stroke-width:1;opacity:.4}";

const HATCH: &str = "\
<defs><pattern id=\"nt-h\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
<path d=\"M-1 1l2-2M0 6l6-6M5 7l2-2\"/></pattern></defs>";

pub(crate) fn render(record: &Record, title: &str) -> String {
    let names = short_names(record);
    let layout = Layout::new(record, room_for_names(record, &names));
    let summary = text::summary(record, &names);
    let mut drawing = Drawing { layout, names, paths: BTreeMap::new(), parts: Vec::new() };
    drawing.scopes();
    drawing.nurseries();
    drawing.tasks();
    drawing.cancellations();
    drawing.failures();
    drawing.times();
    drawing.finish(title, &summary)
}

/// Unnamed tasks of one file are called by their line only.
fn short_names(record: &Record) -> Vec<String> {
    let unnamed = |node: &&Node| node.name.is_none() && node.kind == NodeKind::Task;
    let mut files = record.nodes.iter().filter(unnamed).map(|node| node.place.file());
    let first = files.next();
    let is_one_file = files.all(|file| Some(file) == first);
    let names = record.names().into_iter().zip(&record.nodes);
    let shorten = |(name, node): (String, &_)| match name.split_once(':') {
        Some((_, line)) if is_one_file && unnamed(&node) => format!("line {line}"),
        _ => name,
    };
    names.map(shorten).map(|name| cut(&name, 24)).collect()
}

fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

fn room_for_names(record: &Record, names: &[String]) -> i32 {
    let rows = record.rows();
    let width = |&row: &usize| indent(record, row) + wide(&names[row], 13) + 14;
    rows.iter().map(width).max().unwrap_or_default()
}

fn indent(record: &Record, task: usize) -> i32 {
    let above = |&at: &usize| record.nodes[at].parent.and_then(|above| record.task_of(above));
    let depth = std::iter::successors(Some(task), above).count() - 1;
    4 + i32::try_from(depth).unwrap_or_default() * 10
}

/// About how wide a text is, if a letter is on average `half` of two pixels.
fn wide(text: &str, half: i32) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or_default() * half / 2
}

struct Drawing<'a> {
    layout: Layout<'a>,
    names: Vec<String>,
    /// What is drawn, by its class.
    paths: BTreeMap<&'static str, String>,
    parts: Vec<String>,
}

impl Drawing<'_> {
    fn path(&mut self, class: &'static str, d: &str) {
        *self.paths.entry(class).or_default() += d;
    }

    fn text(&mut self, class: &str, x: i32, y: i32, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.parts.push(format!("<text{class} x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    fn scopes(&mut self) {
        for (i, node) in self.layout.record.nodes.iter().enumerate() {
            let Some(task) = self.layout.record.task_of(i) else { continue };
            let Span { from, to } = self.layout.life(i);
            if node.kind != NodeKind::Scope || from == to {
                continue;
            }
            let (y, half) = (self.layout.y(task), (HALF - 2 * self.level(i)).max(7));
            let shape = format!("M{from} {}H{to}V{}H{from}Z", y - half, y + half);
            self.path(if node.shield { "o h" } else { "o" }, &shape);
        }
    }

    /// How many scopes of the same task are around a scope.
    fn level(&self, scope: usize) -> i32 {
        let nodes = &self.layout.record.nodes;
        let around = std::iter::successors(nodes[scope].parent, |&at| nodes[at].parent);
        let own = around.take_while(|&at| nodes[at].kind != NodeKind::Task);
        let scopes = own.filter(|&at| nodes[at].kind == NodeKind::Scope).count();
        i32::try_from(scopes).unwrap_or(i32::MAX / 2)
    }

    fn nurseries(&mut self) {
        let mut taken = Vec::new();
        for (i, node) in self.layout.record.nodes.iter().enumerate() {
            if node.kind != NodeKind::Nursery {
                continue;
            }
            let Span { mut from, to } = self.layout.life(i);
            let (top, bottom) = self.layout.extent(i, |_| true);
            while taken.contains(&(from, top)) {
                from += 4;
            }
            taken.push((from, top));
            let (top, height) = (top - HALF, bottom - top + 2 * HALF);
            self.path("n", &format!("M{} {top}h-6v{height}h6", from + 6));
            self.path("n", &format!("M{} {top}h6v{height}h-6", to - 6));
        }
    }

    fn tasks(&mut self) {
        for task in self.layout.rows.clone() {
            let y = self.layout.y(task);
            let (name, x) = (self.names[task].clone(), indent(self.layout.record, task));
            self.text("", x, y + 4, &name);
            let life = self.layout.life(task);
            let (runs, hits) = (self.layout.runs(task), self.layout.hits(task));
            let waits = life.without(&runs);
            self.line("r", "r c", y, &runs, &hits);
            self.line("w", "w c", y, &waits, &hits);
            self.what_is_waited_for(task, &waits);
            if !self.layout.failures().iter().any(|failure| failure.task == task && failure.ends) {
                self.path("n", &format!("M{} {}v10", life.to, y - 5));
            }
        }
    }

    /// Draws a line in one class, and what of it is hit in another.
    fn line(
        &mut self,
        plain: &'static str,
        hit: &'static str,
        y: i32,
        line: &[Span],
        hits: &[Span],
    ) {
        for span in line {
            for part in span.without(hits) {
                self.path(plain, &format!("M{} {y}H{}", part.from, part.to));
            }
            for part in span.within(hits) {
                self.path(hit, &format!("M{} {y}H{}", part.from, part.to));
            }
        }
    }

    /// Says above a dashed line what the task waits for, if there is room.
    fn what_is_waited_for(&mut self, task: usize, spans: &[Span]) {
        let y = self.layout.y(task) - 4;
        let mut bars = self.layout.bars();
        bars.retain(|bar| bar.top < y && y < bar.bottom);
        let mut begun: BTreeMap<i32, &str> = BTreeMap::new();
        for (column, event) in self.layout.events() {
            let What::Waits(wait) = event.what else { continue };
            if self.layout.record.task_of(event.node) == Some(task) {
                let what = self.layout.record.waits[wait].what;
                begun.entry(self.layout.stop(column)).or_insert(what);
            }
        }
        for span in spans {
            let Some(what) = begun.get(&span.from) else { continue };
            let what = what.split(" (").next().unwrap_or_default();
            let width = wide(what, 10);
            // From the left, or behind a bar that is in the way.
            let behind = bars.iter().map(|bar| bar.x).filter(|x| (span.from..span.to).contains(x));
            let is_free = |x: &i32| {
                x + width <= span.to
                    && !bars.iter().any(|bar| (*x - 3..x + width + 3).contains(&bar.x))
            };
            if let Some(x) = std::iter::once(span.from).chain(behind).map(|x| x + 4).find(is_free) {
                self.text("s", x, y, what);
            }
        }
    }

    fn cancellations(&mut self) {
        for Bar { x, top, bottom } in self.layout.bars() {
            self.path("b", &format!("M{x} {top}V{bottom}"));
        }
    }

    fn failures(&mut self) {
        for Failure { task, x, .. } in self.layout.failures() {
            let y = self.layout.y(task);
            self.path("x", &format!("M{} {}l10 10m0-10l-10 10", x - 5, y - 5));
        }
    }

    fn times(&mut self) {
        let bottom = self.layout.height() - 4;
        let mut latest = None;
        let mut free_from = 0;
        for i in 0..self.layout.columns.len() {
            let time = self.layout.record.events[self.layout.columns[i].first].time;
            if latest.replace(time) == Some(time) {
                continue;
            }
            let (x, label) = (self.layout.x(i), Seconds(time).to_string());
            self.path("t", &format!("M{x} 4V{bottom}"));
            if x >= free_from {
                free_from = x + wide(&label, 12) + 8;
                self.text("s", x + 3, 14, &label);
            }
        }
    }

    fn finish(self, title: &str, summary: &str) -> String {
        let height = self.layout.height();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"nt\" role=\"img\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\">\n\
             <title>{}</title>\n<desc>{}</desc>\n<style>\n{STYLE}\n</style>\n{HATCH}\n",
            escape(title),
            escape(summary)
        );
        for (class, d) in &self.paths {
            svg += &format!("<path class=\"{class}\" d=\"{d}\"/>\n");
        }
        for part in &self.parts {
            svg += &format!("{part}\n");
        }
        svg + "</svg>\n"
    }
}

/// For the inside of an element, without blank lines.
fn escape(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control() && c != '\n', " ");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.join("\n")
}

const _: () = assert!(ROW > 2 * HALF && HEAD > HALF);

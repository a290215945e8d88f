//! Where in the picture things are: events in columns, tasks in rows.

use nursery::NodeKind;

use crate::trace::record::{Event, Record, What};

/// The width of the picture.
pub(crate) const WIDTH: i32 = 700;
/// The height of a row, and of the times above the first.
pub(crate) const ROW: i32 = 34;
pub(crate) const HEAD: i32 = 24;
/// How far a bar reaches above and below the middle of a row.
pub(crate) const HALF: i32 = 13;
const WIDEST_COLUMN: f64 = 120.0;
/// How much of a column a task runs; in the rest it waits again.
const RUNS: f64 = 0.5;

pub(crate) struct Layout<'a> {
    pub(crate) record: &'a Record,
    pub(crate) columns: Vec<Column>,
    /// For each event, the column it is in.
    column_of: Vec<usize>,
    /// The tasks, from top to bottom.
    pub(crate) rows: Vec<usize>,
    left: i32,
    width: f64,
}

/// What one task does without a pause, or time.
pub(crate) struct Column {
    /// Its first event.
    pub(crate) first: usize,
    pub(crate) by: Option<usize>,
}

/// Where something is cancelled: a bar.
pub(crate) struct Bar {
    pub(crate) x: i32,
    pub(crate) top: i32,
    pub(crate) bottom: i32,
}

/// Where a task fails: a cross.
pub(crate) struct Failure {
    pub(crate) task: usize,
    pub(crate) x: i32,
    /// The task ends with it.
    pub(crate) ends: bool,
}

/// A stretch from left to right.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: i32,
    pub(crate) to: i32,
}

impl<'a> Layout<'a> {
    /// `left` is how much room the names need.
    pub(crate) fn new(record: &'a Record, left: i32) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        let mut column_of = Vec::new();
        let mut latest = None;
        for (i, event) in record.events.iter().enumerate() {
            let is_from_nowhere = event.step.is_none() && matches!(event.what, What::Enters);
            if event.is_deed() && !is_from_nowhere && latest != Some(event.step) {
                latest = Some(event.step);
                columns.push(Column { first: i, by: record.by(event) });
            }
            column_of.push(columns.len().saturating_sub(1));
        }
        let room = f64::from(WIDTH - left - 8);
        let width = (room / f64::from(u32::try_from(columns.len().max(1)).unwrap_or(u32::MAX)))
            .min(WIDEST_COLUMN);
        Layout { record, columns, column_of, rows: record.rows(), left, width }
    }

    pub(crate) fn height(&self) -> i32 {
        self.row_count() * ROW + HEAD + 4
    }

    fn row_count(&self) -> i32 {
        i32::try_from(self.rows.len()).unwrap_or(i32::MAX / ROW)
    }

    /// The left edge of a column; also of the one after the last.
    pub(crate) fn x(&self, column: usize) -> i32 {
        self.at(column, 0.0)
    }

    /// Where what runs in a column does things.
    pub(crate) fn middle(&self, column: usize) -> i32 {
        self.at(column, RUNS / 2.0)
    }

    /// Where what runs in a column stops.
    pub(crate) fn stop(&self, column: usize) -> i32 {
        self.at(column, RUNS)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is within the picture")]
    fn at(&self, column: usize, part: f64) -> i32 {
        let column = f64::from(u32::try_from(column).unwrap_or(u32::MAX));
        self.left + ((column + part) * self.width).round() as i32
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = (usize, &'a Event)> + use<'a, '_> {
        self.record.events.iter().enumerate().map(|(i, event)| (self.column_of[i], event))
    }

    /// The middle of a task's row.
    pub(crate) fn y(&self, task: usize) -> i32 {
        let row = self.rows.iter().position(|&row| row == task).unwrap_or_default();
        HEAD + i32::try_from(row).unwrap_or_default() * ROW + ROW / 2
    }

    /// Where something is to be seen: from where it comes to where it goes.
    pub(crate) fn life(&self, node: usize) -> Span {
        let is_task = self.record.nodes[node].kind == NodeKind::Task;
        let mut life = Span { from: self.left, to: self.x(self.columns.len()) };
        for (column, event) in self.events().filter(|(_, event)| event.node == node) {
            let by = self.record.by(event);
            match event.what {
                What::Enters if by.is_none() => life.from = self.x(column),
                What::Enters => life.from = self.middle(column),
                What::Leaves if is_task && by == Some(node) => life.to = self.stop(column),
                What::Leaves => life.to = self.middle(column),
                _ => {}
            }
        }
        life
    }

    /// Where a task runs.
    pub(crate) fn runs(&self, task: usize) -> Vec<Span> {
        let columns = self.columns.iter().enumerate().filter(|(_, column)| column.by == Some(task));
        columns.map(|(i, _)| Span { from: self.x(i), to: self.stop(i) }).collect()
    }

    /// Where a task is cancelled.
    pub(crate) fn hits(&self, task: usize) -> Vec<Span> {
        let mut hits: Vec<Span> = Vec::new();
        let end = self.life(task).to;
        for (column, event) in self.events().filter(|(_, event)| event.node == task) {
            match event.what {
                What::Hit(true) => hits.push(Span { from: self.middle(column), to: end }),
                What::Hit(false) => {
                    if let Some(hit) = hits.last_mut() {
                        hit.to = self.middle(column);
                    }
                }
                _ => {}
            }
        }
        hits
    }

    /// The first and the last row of a scope, a nursery or a task, with all tasks below it that were there.
    pub(crate) fn extent(&self, node: usize, was_there: impl Fn(usize) -> bool) -> (i32, i32) {
        let owner = self.record.task_of(node);
        let is_below = |&task: &usize| self.record.is_below(task, node) && was_there(task);
        let tasks = self.rows.iter().copied().filter(is_below).chain(owner);
        let rows: Vec<i32> = tasks.map(|task| self.y(task)).collect();
        (rows.iter().copied().min().unwrap_or(HEAD), rows.iter().copied().max().unwrap_or(HEAD))
    }

    /// Where something is cancelled, with the tasks below it.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        let cancels = self.events().filter(|(_, e)| matches!(e.what, What::Cancelled { .. }));
        let bar = |(column, event): (usize, &Event)| {
            let x = self.middle(column);
            let was_there = |task: usize| {
                let life = self.life(task);
                life.from <= x && x <= life.to
            };
            let (top, bottom) = self.extent(event.node, was_there);
            Bar { x, top: top - HALF, bottom: bottom + HALF }
        };
        cancels.map(bar).collect()
    }

    /// Where tasks fail, and whether that is their end.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        let fails = self.events().filter(|(_, event)| matches!(event.what, What::Fails));
        let failure = |(column, event): (usize, &Event)| {
            let task = event.node;
            let mut own = self.events().filter(|(_, event)| event.node == task);
            let ends = own.any(|(at, e)| at == column && matches!(e.what, What::Leaves));
            let x = if ends { self.life(task).to } else { self.middle(column) };
            Failure { task, x, ends }
        };
        fails.map(failure).collect()
    }
}

impl Span {
    /// What is left of it where `holes` are not; they are in order.
    pub(crate) fn without(self, holes: &[Span]) -> Vec<Span> {
        let mut rest = Vec::new();
        let mut from = self.from;
        for hole in holes {
            rest.push(Span { from, to: hole.from.min(self.to) });
            from = from.max(hole.to);
        }
        rest.push(Span { from, to: self.to });
        rest.retain(|span| span.from < span.to);
        rest
    }

    /// What of it is in one of `others`.
    pub(crate) fn within(self, others: &[Span]) -> Vec<Span> {
        let cut =
            |other: &Span| Span { from: self.from.max(other.from), to: self.to.min(other.to) };
        others.iter().map(cut).filter(|span| span.from < span.to).collect()
    }
}

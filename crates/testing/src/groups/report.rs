//! What is expected beside what there is: two trees, in two columns, with marks at what has no partner.

use std::iter::once;

use crate::groups::view::View;
use crate::groups::{Expected, Kind, partners};

/// Marks what has no partner.
const LONELY: &str = "✗ ";
const WIDEST: usize = 72;

pub(crate) fn report(expected: &Expected, found: &View<'_>) -> String {
    let is_right = partners::fits(expected, found);
    let left = once("expected".to_owned()).chain(expected_tree(expected, Some(found), !is_right));
    let right = once("found".to_owned()).chain(found_tree(found, Some(expected), !is_right));
    let (left, right): (Vec<_>, Vec<_>) = (left.collect(), right.collect());
    let width = left.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let mut text = "these are not the expected errors\n\n".to_owned();
    for i in 0..left.len().max(right.len()) {
        let [left, right] = [&left, &right].map(|lines| lines.get(i).map_or("", String::as_str));
        text += format!("{left:width$}   {right}").trim_end();
        text.push('\n');
    }
    for hint in hints(expected, found) {
        text += &format!("\n{hint}");
    }
    text
}

pub(crate) fn tree(expected: &Expected) -> Vec<String> {
    expected_tree(expected, None, false)
}

/// The lines of what is expected; `partner` is what it is compared with.
fn expected_tree(expected: &Expected, partner: Option<&View<'_>>, is_lonely: bool) -> Vec<String> {
    let Kind::Group { members, is_flattened, or_bare } = &expected.0 else {
        return vec![marked(&in_words(expected), is_lonely)];
    };
    let flat = if *is_flattened { ", flattened" } else { "" };
    let bare = if *or_bare { ", or bare" } else { "" };
    let head = format!("{}{flat}{bare}", count(members.len()));
    let lonely = Lonely::of(expected, partner);
    let branches = members.iter().enumerate().map(|(i, member)| {
        let partner = lonely.partner_of_expected(i);
        expected_tree(member, partner, lonely.expected.contains(&i))
    });
    with_branches(marked(&head, is_lonely && !lonely.says_why()), branches.collect())
}

fn found_tree(found: &View<'_>, partner: Option<&Expected>, is_lonely: bool) -> Vec<String> {
    let Some(own) = &found.members else {
        return vec![marked(&leaf_in_words(found), is_lonely)];
    };
    let Some(partner) = partner.filter(|partner| matches!(partner.0, Kind::Group { .. })) else {
        let branches = own.iter().map(|member| found_tree(member, None, false));
        return with_branches(marked(&count(own.len()), is_lonely), branches.collect());
    };
    let lonely = Lonely::of(partner, Some(found));
    let members = partners::members_of(partner, found);
    let branches = own.iter().map(|member| {
        // Of a flattened group, the leaves are compared, wherever they are.
        flat_or_found(member, &members, &lonely)
    });
    with_branches(marked(&count(own.len()), is_lonely && !lonely.says_why()), branches.collect())
}

fn flat_or_found(found: &View<'_>, compared: &[&View<'_>], lonely: &Lonely<'_, '_>) -> Vec<String> {
    match compared.iter().position(|member| std::ptr::eq(*member, found)) {
        Some(i) => found_tree(found, lonely.partner_of_found(i), lonely.found.contains(&i)),
        None => {
            let members = found.members.iter().flatten();
            let branches: Vec<_> =
                members.map(|member| flat_or_found(member, compared, lonely)).collect();
            with_branches(count(branches.len()), branches)
        }
    }
}

/// Those members of a group that have no partner.
struct Lonely<'a, 'e> {
    expected: Vec<usize>,
    found: Vec<usize>,
    /// If one of each side is left, and both are groups, they are compared in their turn.
    last_two: Option<(&'a Expected, &'a View<'e>)>,
}

impl<'a, 'e> Lonely<'a, 'e> {
    fn of(expected: &'a Expected, partner: Option<&'a View<'e>>) -> Self {
        let (Kind::Group { members, .. }, Some(partner)) = (&expected.0, partner) else {
            return Lonely { expected: Vec::new(), found: Vec::new(), last_two: None };
        };
        if partner.members.is_none() {
            return Lonely { expected: Vec::new(), found: Vec::new(), last_two: None };
        }
        let compared = partners::members_of(expected, partner);
        let pairs = partners::pair(members, &compared);
        let expected: Vec<usize> = (0..members.len()).filter(|&i| pairs[i].is_none()).collect();
        let found: Vec<usize> =
            (0..compared.len()).filter(|&i| !pairs.contains(&Some(i))).collect();
        let last_two = match (expected.as_slice(), found.as_slice()) {
            (&[one], &[other]) => Some((&members[one], compared[other])),
            _ => None,
        };
        let last_two = last_two
            .filter(|(one, other)| matches!(one.0, Kind::Group { .. }) && other.members.is_some());
        Lonely { expected, found, last_two }
    }

    fn says_why(&self) -> bool {
        !self.expected.is_empty() || !self.found.is_empty()
    }

    fn partner_of_expected(&self, i: usize) -> Option<&'a View<'e>> {
        self.last_two.filter(|_| self.expected.contains(&i)).map(|(_, found)| found)
    }

    fn partner_of_found(&self, i: usize) -> Option<&'a Expected> {
        self.last_two.filter(|_| self.found.contains(&i)).map(|(expected, _)| expected)
    }
}

fn marked(text: &str, is_lonely: bool) -> String {
    format!("{}{text}", if is_lonely { LONELY } else { "" })
}

fn count(errors: usize) -> String {
    format!("group of {errors}")
}

fn in_words(expected: &Expected) -> String {
    match &expected.0 {
        Kind::Leaf(checks) if checks.is_empty() => "any error".to_owned(),
        Kind::Leaf(checks) => {
            let demands: Vec<&str> = checks.iter().map(|check| check.what.as_str()).collect();
            let is_typed = demands[0].starts_with('`');
            format!("{}{}", if is_typed { "" } else { "any error " }, demands.join(" "))
        }
        Kind::Group { members, .. } => count(members.len()),
    }
}

/// What an error says, and, unless that is the same, how it is debugged, which often tells its type.
fn leaf_in_words(found: &View<'_>) -> String {
    let text = cut(&found.text);
    let is_text = found.debug.starts_with('"') || found.debug.contains(&found.text);
    let is_telling = !found.debug.contains('\n') && !is_text;
    if is_telling { format!("{text} ({})", cut(&found.debug)) } else { text }
}

fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line == text && line.chars().count() <= WIDEST {
        return text.to_owned();
    }
    line.chars().take(WIDEST).chain(['…']).collect()
}

fn with_branches(head: String, branches: Vec<Vec<String>>) -> Vec<String> {
    let last = branches.len().saturating_sub(1);
    let mut lines = vec![head];
    for (i, branch) in branches.into_iter().enumerate() {
        let (first, rest) = if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let heads = once(first).chain(std::iter::repeat(rest));
        lines.extend(heads.zip(branch).map(|(head, line)| format!("{head}{line}")));
    }
    lines
}

/// What else would have matched.
fn hints(expected: &Expected, found: &View<'_>) -> Vec<&'static str> {
    let mut hints = Vec::new();
    match (&expected.0, &found.members) {
        (Kind::Leaf(_), Some(members)) if members.iter().any(|m| partners::fits(expected, m)) => {
            hints.push("It is there, in a group: expect `group([…])`, or use `assert_leaves`.");
        }
        (Kind::Group { members, .. }, None)
            if members.len() == 1 && partners::fits(&members[0], found) =>
        {
            hints.push("It is there, but in no group: `.or_bare()` accepts that.");
        }
        (Kind::Group { members, is_flattened: false, .. }, Some(_)) => {
            let leaves = found.leaves();
            let pairs = partners::pair(members, &leaves);
            if members.len() == leaves.len() && pairs.iter().all(Option::is_some) {
                hints.push("They are there, but grouped otherwise: `.flattened()` accepts that.");
            }
        }
        _ => {}
    }
    hints
}

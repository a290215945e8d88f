//! Whether an error is as expected: for groups, whether each expected member finds a partner of its own.

use crate::groups::view::View;
use crate::groups::{Expected, Kind};

pub(crate) fn fits(expected: &Expected, view: &View<'_>) -> bool {
    match (&expected.0, &view.members) {
        (Kind::Leaf(checks), None) => checks.iter().all(|check| (check.holds)(view)),
        (Kind::Leaf(_), Some(_)) => false,
        (Kind::Group { members, or_bare, .. }, None) => *or_bare && fits(&members[0], view),
        (Kind::Group { members, .. }, Some(_)) => {
            let found = members_of(expected, view);
            let partners = pair(members, &found);
            members.len() == found.len() && partners.iter().all(Option::is_some)
        }
    }
}

/// What the members of an expected group are compared with.
pub(crate) fn members_of<'v, 'e>(expected: &Expected, view: &'v View<'e>) -> Vec<&'v View<'e>> {
    match (&expected.0, &view.members) {
        (Kind::Group { is_flattened: true, .. }, Some(_)) => view.leaves(),
        (Kind::Group { .. }, Some(members)) => members.iter().collect(),
        _ => vec![view],
    }
}

/// For each expected error the position of its partner: as many as possible have one, and no two the same.
pub(crate) fn pair(expected: &[Expected], found: &[&View<'_>]) -> Vec<Option<usize>> {
    let fit: Vec<Vec<usize>> = expected
        .iter()
        .map(|expected| (0..found.len()).filter(|&i| fits(expected, found[i])).collect())
        .collect();
    let mut taken_by = vec![None; found.len()];
    for one in 0..expected.len() {
        find_partner(one, &fit, &mut taken_by, &mut vec![false; found.len()]);
    }
    let partner = |one| taken_by.iter().position(|&by| by == Some(one));
    (0..expected.len()).map(partner).collect()
}

/// Finds a partner for one, if need be by making others take another.
fn find_partner(
    one: usize,
    fit: &[Vec<usize>],
    taken_by: &mut [Option<usize>],
    is_tried: &mut [bool],
) -> bool {
    for &partner in &fit[one] {
        if std::mem::replace(&mut is_tried[partner], true) {
            continue;
        }
        let is_free = match taken_by[partner] {
            None => true,
            Some(other) => find_partner(other, fit, taken_by, is_tried),
        };
        if is_free {
            taken_by[partner] = Some(one);
            return true;
        }
    }
    false
}

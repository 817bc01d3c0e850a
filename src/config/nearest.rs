//! Which name was most likely meant.

/// The name that is fewest edits away, if that is few enough to be a slip. Hyphens and underscores are alike.
pub(super) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let typed = plain(typed);
    let edits_max = (typed.chars().count() / 3).max(1);
    names
        .map(|name| (edits(&typed, &plain(name)), name))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Letters to insert, delete or replace between two names (Levenshtein's distance). O(product of the lengths).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, &other) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(diagonal + 1).min(row[m] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_edits() {
        for (one, other, distance) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edits(one, other), distance, "{one} {other}");
            assert_eq!(edits(other, one), distance, "{other} {one}");
        }
    }

    #[test]
    fn a_slip_finds_its_name_and_nonsense_none() {
        let names = ["max_inflight", "max_retained", "max_retained_bytes", "log"];
        let find = |typed| nearest(typed, names.into_iter());
        assert_eq!(find("max-inflight"), Some("max_inflight"));
        assert_eq!(find("max_retaind"), Some("max_retained"));
        assert_eq!(find("LOG"), Some("log"));
        assert_eq!(find("colour"), None);
    }
}

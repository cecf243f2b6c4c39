//! Suggests names close to an unknown one.

/// Returns the `n` names with the smallest distance to `name`, closest first.
pub(in crate::model) fn nearest<'a>(
    name: &str,
    names: impl Iterator<Item = &'a str>,
    n: usize,
) -> Vec<&'a str> {
    let mut by_distance: Vec<(usize, &str)> =
        names.map(|other| (distance(name, other), other)).collect();
    by_distance.sort();
    by_distance.dedup();
    by_distance.into_iter().take(n).map(|(_, name)| name).collect()
}

/// Computes the Levenshtein distance of two names. Letters after the first hundred are ignored.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(100).collect();
    let b: Vec<char> = b.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("resnet34", "resnet34"), 0);
    }

    #[test]
    fn the_closest_come_first() {
        let names = ["resnet18", "convnext_tiny", "convnext_small"];
        assert_eq!(nearest("convnext_tinny", names.into_iter(), 1), ["convnext_tiny"]);
    }
}

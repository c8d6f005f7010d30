//! Which known word was meant: for keys, values and names that are nearly right.

/// Words that other proxies use for a key of ours.
const ALIASES: [(&str, &str); 18] = [
    ("address", "addresses"),
    ("bind", "addresses"),
    ("ca_file", "ca"),
    ("cert", "chain"),
    ("certificate", "certificates"),
    ("certificate_key", "key"),
    ("domain", "host"),
    ("listen", "addresses"),
    ("listen", "listeners"),
    ("location", "path"),
    ("max_conns", "max_sessions"),
    ("prefix", "path"),
    ("proxy_pass", "upstream"),
    ("root", "site"),
    ("send_proxy", "proxy_protocol"),
    ("server", "endpoints"),
    ("servers", "endpoints"),
    ("sni", "server_name"),
];

/// The known word that `word` most likely stands for; `None` when nothing is near.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let known: Vec<&str> = known.into_iter().collect();
    let word = word.to_lowercase().replace('-', "_");
    if let Some(alias) = ALIASES.iter().find(|(theirs, ours)| *theirs == word && known.contains(ours)) {
        return known.into_iter().find(|ours| *ours == alias.1);
    }
    let length = word.chars().count();
    let reach = (length / 3).clamp(1, 3);
    known
        .into_iter()
        // However long a word is, it takes no longer than a name.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= reach)
        .map(|candidate| (distance(&word, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean X?`, or nothing.
#[must_use]
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut least = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_found() {
        let keys = ["endpoints", "attempts", "avoid"];
        assert_eq!(nearest("endpiont", keys), Some("endpoints"));
        assert_eq!(nearest("Attempts", keys), Some("attempts"));
        assert_eq!(nearest("servers", keys), Some("endpoints"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("weigth", "weight"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

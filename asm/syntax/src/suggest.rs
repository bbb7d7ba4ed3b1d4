//! Did you mean ...?

/// The longest word for which others are looked for: comparing takes a time that grows with the length of both.
const LONG: usize = 128;

/// The candidate that is nearest to a misspelt word, if one is near.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.len() / 3).clamp(1, 5);
    candidates
        .into_iter()
        .filter(|_| word.len() <= LONG)
        .map(|candidate| (distance(word, candidate, most), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The same as the help of a message.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    suggest(word, known).map(|near| format!("did you mean `{near}`?"))
}

/// How many letters are to be inserted, removed or exchanged; anything above `most` when they are more.
fn distance(a: &str, b: &str, most: usize) -> usize {
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["bpf_map_lookup_elem", "bpf_map_delete_elem", "exit"];
        assert_eq!(suggest("bpf_map_lokup_elm", words), Some("bpf_map_lookup_elem"));
        assert_eq!(suggest("exti", ["exit", "goto"]), None);
        assert_eq!(suggest("exitt", words), Some("exit"));
        assert_eq!(suggest("frobnicate", words), None);
        let long = "l".repeat(200);
        assert_eq!((suggest(&long[..128], [&long[..127]]).is_some(), suggest(&long, [&long[..199]])), (true, None));
    }
}

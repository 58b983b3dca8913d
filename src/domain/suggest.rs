//! "Did you mean": the known word nearest to a misspelt one.
//!
//! Suggests or stays silent; it never corrects.

/// The candidate nearest to a misspelt word, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Lengths first: a distance takes time in proportion to both, and a word may be as long as a file.
    let length = word.chars().count();
    let word = if length <= 100 { word.to_lowercase() } else { return None };
    candidates
        .into_iter()
        .map(|candidate| (candidate, candidate.chars().count()))
        .map(|(candidate, size)| (candidate, size, 1 + size.min(12) / 4))
        .filter(|(_, size, far)| size.abs_diff(length) <= *far)
        .map(|(candidate, _, far)| {
            (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), far, candidate)
        })
        .filter(|(distance, far, _)| distance <= far)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(_, _, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_none() {
        let keys = ["preferences", "urgency", "cost"];
        assert_eq!(nearest("prefrence", keys), Some("preferences"));
        assert_eq!(nearest("urgancy", keys), Some("urgency"));
        assert_eq!(nearest("zzz", keys), None);
    }
}

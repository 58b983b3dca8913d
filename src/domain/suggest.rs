//! "Did you mean": the known word nearest to a misspelt one.
//!
//! Suggests or stays silent; it never corrects.

/// The candidate nearest to a misspelt word, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(12) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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

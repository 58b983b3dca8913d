//! The table of people's answers: no refusal is missed, nothing else is taken for one (reliability.md T25).

use channel_orchestrator::domain::consent::{Meaning, meaning};

#[test]
fn no_refusal_is_missed_and_hardly_anything_is_taken_for_one() {
    let table = include_str!("cases/answers.tsv");
    let (mut refusals, mut others, mut wrong, mut mistaken) = (0, 0, Vec::new(), Vec::new());
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (expected, answer) = line.split_once('\t').unwrap();
        let answer: String = serde_json::from_str(answer).unwrap();
        let found = meaning(&answer);
        let refused = matches!(found, Meaning::Stop | Meaning::NearStop);
        match expected {
            "stop" | "near" => {
                refusals += 1;
                let plain = expected == "stop";
                if !refused || (plain && found != Meaning::Stop) {
                    wrong.push(format!("{line}: {found:?}"));
                }
            }
            "start" if found != Meaning::Start => wrong.push(format!("{line}: {found:?}")),
            "other" => {
                others += 1;
                if refused {
                    mistaken.push(line.to_owned());
                } else if found != Meaning::Other {
                    wrong.push(format!("{line}: {found:?}"));
                }
            }
            _ => {}
        }
    }
    assert!(refusals >= 250 && others >= 200, "{refusals} refusals and {others} others: the table is short");
    assert!(wrong.is_empty(), "missed:\n{}", wrong.join("\n"));
    assert!(mistaken.len() * 100 <= others, "taken for refusals:\n{}", mistaken.join("\n"));
}

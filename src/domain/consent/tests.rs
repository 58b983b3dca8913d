//! What answers mean, by hand and by the table of answers.

use super::*;

#[test]
fn the_words_of_refusal_and_return() {
    for text in [
        "STOP",
        "stop",
        "Stop.",
        " ＳＴＯＰ ",
        "ARRET",
        "ARRÊT",
        "arre\u{302}t",
        "STOPALL",
        "Unsubscribe",
        "CANCEL",
        "End",
        "QUIT",
        "revoke",
        "OPT-OUT",
        "opt out",
        "DESABO",
        "Désabonnement",
        "STOP 36111",
        "STOP au",
        "stop 🙏",
    ] {
        assert_eq!(meaning(text), Meaning::Stop, "{text}");
    }
    for text in ["START", "unstop", "REPRENDRE", "Réabonnement"] {
        assert_eq!(meaning(text), Meaning::Start, "{text}");
    }
}

#[test]
fn near_words_count_and_other_senses_do_not() {
    for text in ["STOP PLEASE", "stop svp", "stooop", "Arrêtez de m'écrire", "désabonement"] {
        assert_eq!(meaning(text), Meaning::NearStop, "{text}");
    }
    for text in ["", "🙂", "arrêt de bus", "ne pas stopper", "OK merci", "the bus stop", "36111", "oui"] {
        assert_eq!(meaning(text), Meaning::Other, "{text}");
    }
    assert_eq!(meaning(&"é".repeat(100_000)), Meaning::Other);
}

#[test]
fn one_form_for_each_sender_and_address() {
    assert_eq!(sender_key(Channel::Sms, "+33 7 00 00 00 00"), "+33700000000");
    assert_eq!(sender_key(Channel::WhatsApp, "whatsapp:+33700000000"), "+33700000000");
    assert_eq!(sender_key(Channel::WhatsApp, "33700000000"), "+33700000000");
    assert_eq!(sender_key(Channel::Sms, "AGENCE"), "AGENCE");
    assert_eq!(sender_key(Channel::Sms, "MG00ff"), "MG00ff");
    assert_eq!(sender_key(Channel::Email, "Agence@Example.FR"), "agence@example.fr");
    assert_eq!(address_key(Channel::Email, "Zoe@Example.FR"), "Zoe@example.fr");
    assert_eq!(address_key(Channel::Telegram, "-100123"), "-100123");
    assert!(is_plain_sender(Channel::Sms, "+36111") && !is_plain_sender(Channel::Sms, "AGENCE"));
    assert!(!is_plain_sender(Channel::Sms, ""));
}

/// The table of people's answers (reliability.md T25): no refusal is missed, at most one in a hundred others is taken
/// for one.
#[test]
fn no_refusal_is_missed_and_hardly_anything_is_taken_for_one() {
    let table = include_str!("../../../tests/it/cases/answers.tsv");
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

//! What a person's answer says of whether they may be written to.
//!
//! Exact words of refusal and return, French and English (reliability.md T25), and what only comes near them: that
//! refuses too, and asks a person to look. A word inside another sense ("arrêt de bus", "ne pas stopper") is neither.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::channel::Channel;

/// What an inbound text means for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A refusal, in one of the words for it.
    Stop,
    /// A refusal in other words: it counts, and is to be reviewed.
    NearStop,
    /// Takes a refusal back.
    Start,
    Other,
}

impl Meaning {
    pub const fn as_str(self) -> &'static str {
        match self {
            Meaning::Stop => "stop",
            Meaning::NearStop => "near_stop",
            Meaning::Start => "start",
            Meaning::Other => "other",
        }
    }
}

/// What a text says, whatever its case, accents, width, spacing and punctuation.
pub fn meaning(text: &str) -> Meaning {
    let words = words(text);
    let joined = words.concat();
    if words.is_empty() {
        return Meaning::Other;
    }
    if START.contains(&joined.as_str()) {
        return Meaning::Start;
    }
    // "STOP 36111" is what French senders ask for.
    let without_numbers: String =
        words.iter().filter(|w| !w.bytes().all(|b| b.is_ascii_digit())).map(String::as_str).collect();
    if STOP.contains(&without_numbers.as_str()) {
        return Meaning::Stop;
    }
    if comes_near(&words, &without_numbers) { Meaning::NearStop } else { Meaning::Other }
}

/// The words of T25, and the forms in which people write them; without accents and spaces, in lower case.
const STOP: &[&str] = &[
    "stop",
    "arret",
    "stopall",
    "unsubscribe",
    "cancel",
    "end",
    "quit",
    "revoke",
    "optout",
    "desabo",
    "desabonnement",
    "remove",
    "stopsms",
    "smsstop",
    "stopmms",
    "stoppub",
    "pubstop",
    "stopmail",
    "stopmails",
    "stopemail",
    "stopemails",
    "stopmessage",
    "stopmessages",
    "unsub",
    "desabonner",
    "medesabonner",
    "desabonnezmoi",
    "desinscription",
    "desinscrire",
    "medesinscrire",
    "desinscrivezmoi",
    "optouts",
    "stopstop",
    "stopstopstop",
    "stopwhatsapp",
    "stoptelegram",
    "stoptout",
    "toutstop",
    "toutarreter",
    "arretsms",
    "stopspam",
];

/// What takes a refusal back.
const START: &[&str] = &[
    "start",
    "unstop",
    "restart",
    "resubscribe",
    "optin",
    "reprendre",
    "reprise",
    "reabonnement",
    "reabonner",
    "reabonnezmoi",
    "mereabonner",
    "reinscription",
    "reinscrire",
    "reinscrivezmoi",
    "startsms",
    "subscribe",
    "destop",
    "annulerstop",
    "annulestop",
];

/// Words that ask for an end and have other senses too: they count beside nothing but `FILLERS`.
const ENDING: &[&str] = &[
    "stop", "stops", "stopp", "stope", "stopper", "stoppez", "stoper", "stopez", "stopall", "stoped",
    "stopped", "stopping", "arret", "arrets", "arrete", "arretes", "arretez", "arreter", "aret", "arete",
    "aretez", "arreté", "cesser", "cessez", "cesse", "stp0", "st0p", "sotp", "stpo", "satop", "spot0",
    "tsop", "optout", "optouts",
];

/// Words that end something only where nothing but politeness stands beside them.
const ENDING_POLITELY: &[&str] = &["cancel", "end", "quit", "revoke", "remove"];

const POLITENESS: &[&str] = &[
    "please",
    "pls",
    "plz",
    "plse",
    "svp",
    "stp",
    "s",
    "il",
    "te",
    "vous",
    "plait",
    "merci",
    "thanks",
    "thank",
    "you",
    "thx",
    "ty",
    "now",
    "maintenant",
    "immediatement",
    "immediately",
    "bonjour",
    "bonsoir",
    "hello",
    "hi",
    "hey",
    "dear",
    "monsieur",
    "madame",
    "sir",
    "cordialement",
    "regards",
    "ok",
    "d",
    "avance",
    "bien",
    "tout",
    "de",
    "suite",
    "urgent",
];

/// What stands beside an ending without giving it another sense.
const FILLERS: &[&str] = &[
    "ca",
    "cela",
    "c",
    "est",
    "it",
    "this",
    "that",
    "these",
    "those",
    "les",
    "le",
    "la",
    "vos",
    "votre",
    "ces",
    "ce",
    "cette",
    "des",
    "du",
    "l",
    "your",
    "the",
    "all",
    "tous",
    "toutes",
    "toute",
    "sms",
    "mms",
    "texto",
    "textos",
    "texte",
    "textes",
    "text",
    "texts",
    "message",
    "messages",
    "msg",
    "msgs",
    "mail",
    "mails",
    "email",
    "emails",
    "e",
    "pub",
    "pubs",
    "publicite",
    "publicites",
    "promo",
    "promos",
    "promotion",
    "promotions",
    "spam",
    "spams",
    "spamming",
    "notification",
    "notifications",
    "notif",
    "notifs",
    "newsletter",
    "newsletters",
    "whatsapp",
    "telegram",
    "rappel",
    "rappels",
    "envoi",
    "envois",
    "envoyer",
    "offre",
    "offres",
    "alerte",
    "alertes",
    "marketing",
    "ads",
    "ad",
    "moi",
    "me",
    "m",
    "je",
    "j",
    "i",
    "we",
    "on",
    "nous",
    "ai",
    "dit",
    "dis",
    "say",
    "said",
    "veux",
    "voudrais",
    "souhaite",
    "want",
    "would",
    "like",
    "to",
    "faut",
    "fois",
    "encore",
    "again",
    "once",
    "more",
    "assez",
    "enough",
    "too",
    "much",
    "trop",
    "marre",
    "non",
    "no",
    "oui",
    "yes",
    "et",
    "and",
    "or",
    "ou",
    "a",
    "au",
    "aux",
    "just",
    "juste",
    "simply",
    "bon",
    "eh",
    "allez",
    "j'ai",
    "un",
    "une",
    "pour",
    "for",
    "definitif",
    "definitivement",
    "forever",
    "toujours",
    "number",
    "numero",
    "mon",
    "my",
    "sur",
    "from",
    "with",
    "avec",
    "tt",
    "la",
    "here",
    "ici",
    "demande",
    "request",
    "requete",
    "sms",
    "fin",
    "desabonnement",
    "unsubscribe",
    "desinscription",
    "abonnement",
    "subscription",
    "liste",
    "list",
    "contact",
    "contacts",
    "dire",
    "que",
    "sends",
    "sending",
    "send",
    "texting",
    "messaging",
    "contacting",
    "calling",
    "spamming",
    "fucking",
    "putain",
    "merde",
    "bordel",
    "harcelement",
    "harceler",
    "harassing",
    "maintenent",
    "there",
    "guys",
    "donc",
    "alors",
];

/// Beginnings of words that mean nothing else.
const PLAIN_STEMS: &[&str] = &[
    "desabon",
    "desinscri",
    "unsubscri",
    "unsuscri",
    "unsubcri",
    "unsubsri",
    "desincri",
    "desinscip",
    "desabbon",
    "dessabon",
    "dezabon",
    "stopall",
];

/// Sequences of words that ask for an end wherever they stand.
const PHRASES: &[&str] = &[
    "opt out",
    "opt me out",
    "opting out",
    "stop sms",
    "stop pub",
    "stop spam",
    "stop text",
    "stop texts",
    "stop texting",
    "stop messaging",
    "stop sending",
    "stop contacting",
    "stop calling",
    "stop spamming",
    "stop messages",
    "stop message",
    "stop mail",
    "stop mails",
    "stop email",
    "stop emails",
    "stop emailing",
    "stop harassing",
    "stop all messages",
    "stop all texts",
    "stop all sms",
    "stop the messages",
    "stop the texts",
    "stop these",
    "stop your",
    "stop aux",
    "stop a vos",
    "stop aux sms",
    "stop bothering",
    "stop writing",
    "stop it now",
    "remove me",
    "take me off",
    "take my number",
    "remove my number",
    "delete my number",
    "delete me",
    "delete my data",
    "leave me alone",
    "do not contact",
    "don t contact",
    "dont contact",
    "do not text",
    "don t text",
    "dont text",
    "do not message",
    "don t message",
    "dont message",
    "do not write",
    "don t write",
    "do not send",
    "don t send me",
    "dont send me",
    "do not email",
    "don t email",
    "no more texts",
    "no more sms",
    "no more messages",
    "no more emails",
    "no more mails",
    "no more ads",
    "not receive any more",
    "longer wish to receive",
    "longer want to receive",
    "longer want your",
    "don t want to receive",
    "do not want to receive",
    "dont want to receive",
    "don t want your",
    "don t want these",
    "don t want any more",
    "dont want any more",
    "not interested stop",
    "lose my number",
    "revoke my consent",
    "withdraw my consent",
    "revoke consent",
    "withdraw consent",
    "never contact",
    "never text",
    "never write to me",
    "quit texting",
    "quit messaging",
    "quit sending",
    "quit spamming",
    "cease and desist",
    "cease sending",
    "cease contacting",
    "ne plus recevoir",
    "ne plus etre contacte",
    "ne plus etre contactee",
    "ne plus etre sollicite",
    "ne plus etre derange",
    "ne plus m envoyer",
    "ne plus me contacter",
    "ne plus m ecrire",
    "ne plus me solliciter",
    "ne plus me deranger",
    "plus recevoir de",
    "plus recevoir vos",
    "plus recevoir ces",
    "plus recevoir aucun",
    "m envoyez plus",
    "m envoyer plus",
    "m envoie plus",
    "me contactez plus",
    "me contacter plus",
    "me contacte plus",
    "m ecrivez plus",
    "m ecris plus",
    "me sollicitez plus",
    "me derangez plus",
    "me spammez plus",
    "m appelez plus",
    "me textez plus",
    "veux plus de",
    "veux plus recevoir",
    "veux plus vos",
    "veux plus rien recevoir",
    "souhaite plus de",
    "souhaite plus recevoir",
    "souhaite plus vos",
    "desire plus recevoir",
    "desire plus de",
    "voudrais plus recevoir",
    "plus de sms",
    "plus de message",
    "plus de messages",
    "plus de mail",
    "plus de mails",
    "plus de pub",
    "plus de pubs",
    "plus de publicite",
    "plus de texto",
    "plus de textos",
    "plus d emails",
    "plus d email",
    "plus aucun message",
    "plus aucun sms",
    "plus aucun mail",
    "retirez moi",
    "retirer moi",
    "me retirer",
    "retirez mon numero",
    "retirer mon numero",
    "supprimez moi",
    "supprimez mon",
    "supprimer mon numero",
    "me supprimer",
    "enlevez moi",
    "enlevez mon",
    "m enlever",
    "rayez moi",
    "effacez mon",
    "effacez moi",
    "sortez moi",
    "otez moi",
    "laissez moi tranquille",
    "laisse moi tranquille",
    "foutez moi la paix",
    "fichez moi la paix",
    "cessez de m",
    "cessez de me",
    "cessez vos",
    "cessez ces",
    "cessez les",
    "cessez tout",
    "arretez de m",
    "arretez de me",
    "arrete de m",
    "arrete de me",
    "arreter de m",
    "arreter de me",
    "arretez vos",
    "arretez les",
    "arretez ces",
    "arretez avec",
    "arretez tout",
    "arretez les sms",
    "arreter les sms",
    "arreter les messages",
    "arreter les envois",
    "arreter les mails",
    "arreter les notifications",
    "arreter vos",
    "arreter ces",
    "arreter de recevoir",
    "arret des sms",
    "arret des messages",
    "arret des envois",
    "arret des mails",
    "arret de vos",
    "arret sms",
    "retire mon consentement",
    "retire mon accord",
    "revoque mon consentement",
    "m oppose",
    "mon opposition",
    "droit d opposition",
    "liste noire",
    "bloctel",
    "assez de vos",
    "marre de vos",
    "marre de recevoir",
    "stop definitif",
    "stoppez les",
    "stoppez vos",
    "stoppez ces",
    "stopper les",
    "stopper vos",
    "stopper ces",
    "stoppez de m",
    "stopper de m",
    "stop de m",
    "me desabo",
];

/// What turns an ending into its contrary.
const NEGATIONS: &[&str] = &[
    "ne pas stop",
    "pas stop",
    "don t stop",
    "dont stop",
    "do not stop",
    "never stop",
    "not stop",
    "won t stop",
    "pas arret",
    "n arret",
    "pas m arret",
    "jamais stop",
    "jamais arret",
    "sans arret",
    "pas desabon",
    "me desabonnez pas",
    "desabonnez pas",
    "pas me desabon",
    "pas desinscri",
    "desinscrivez pas",
    "don t unsub",
    "dont unsub",
    "do not unsub",
    "not unsub",
    "pas cess",
    "don t cease",
    "don t cancel",
    "do not cancel",
    "ne cess",
    "don t remove me",
    "do not remove me",
    "me retirez pas",
    "me supprimez pas",
    "not want to unsub",
    "rather not stop",
    "don t want to stop",
    "pas du tout stop",
    "nonstop",
    "pas de stop",
    "no need to stop",
    "pas un stop",
    "don t opt me out",
    "do not opt",
    "don t opt",
    "not opt out",
    "ne stop",
    "n envoyez pas stop",
    "can t stop",
    "couldn t stop",
    "cannot stop",
    "don t quit",
    "unstoppable",
    "ne m enlevez pas",
    "ne me rayez pas",
];

fn comes_near(words: &[String], joined: &str) -> bool {
    let sentence = format!(" {} ", words.join(" "));
    if NEGATIONS.iter().any(|phrase| sentence.contains(&format!(" {phrase}"))) {
        return false;
    }
    if words.iter().any(|word| PLAIN_STEMS.iter().any(|stem| word.starts_with(stem))) {
        return true;
    }
    if PHRASES.iter().any(|phrase| sentence.contains(&format!(" {phrase} "))) {
        return true;
    }
    // "S T O P", "STOOOP", "unsubscrieb": a text that is nothing but the word.
    let squeezed = squeezed(joined);
    if STOP.iter().any(|stop| self::squeezed(stop) == squeezed) || is_misspelt(joined) {
        return true;
    }
    let numbers = |word: &str| word.bytes().all(|b| b.is_ascii_digit());
    let ends = |word: &str| ENDING.contains(&word) || self::squeezed(word) == "stop";
    let beside = |word: &str| POLITENESS.contains(&word) || FILLERS.contains(&word) || numbers(word);
    if words.iter().any(|w| ends(w)) && words.iter().all(|w| ends(w) || beside(w)) {
        return true;
    }
    let politely = |word: &str| ENDING_POLITELY.contains(&word);
    words.iter().any(|w| politely(w)) && words.iter().all(|w| politely(w) || POLITENESS.contains(&w.as_str()))
}

/// A single long word with a slip of the finger in it.
fn is_misspelt(joined: &str) -> bool {
    const LONG: &[&str] = &[
        "unsubscribe",
        "desabonnement",
        "desabonner",
        "desinscription",
        "desinscrire",
        "stopall",
        "desabonnez",
    ];
    (6..=20).contains(&joined.len())
        && LONG.iter().any(|word| strsim::damerau_levenshtein(joined, word) <= word.len() / 5)
}

/// Without the repetition of letters.
fn squeezed(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

/// The longest text that is looked through, in characters: an answer to a message is shorter.
const LOOKED_AT: usize = 2_000;

/// Words of letters and digits: compatibility forms folded, accents taken off, in lower case.
fn words(text: &str) -> Vec<String> {
    let folded: String = text
        .nfkd()
        .filter(|c| !is_combining_mark(*c) && !is_invisible(*c))
        .take(LOOKED_AT)
        .flat_map(char::to_lowercase)
        .collect();
    // Once more: lowering may bring a mark of its own (the Turkish dotted I).
    let bare: String =
        folded.nfkd().filter(|c| !is_combining_mark(*c)).map(|c| if c == 'œ' { 'o' } else { c }).collect();
    bare.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// Characters that stand between letters without being seen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{00AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

/// An address as the store knows it, from what a provider writes: `+` and digits, a mailbox with its domain in lower
/// case, a chat as it is.
pub fn address_key(channel: Channel, text: &str) -> String {
    match channel {
        Channel::Sms | Channel::WhatsApp => number(text).unwrap_or_else(|| text.trim().to_owned()),
        Channel::Email => match text.trim().rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
            None => text.trim().to_owned(),
        },
        Channel::Telegram => text.trim().to_owned(),
    }
}

/// A sender in one form, so that a policy's `from` and a provider's `to` are the same text where they are the same
/// sender.
pub fn sender_key(channel: Channel, text: &str) -> String {
    match channel {
        Channel::Sms | Channel::WhatsApp => number(text).unwrap_or_else(|| text.trim().to_owned()),
        Channel::Email => text.trim().to_lowercase(),
        Channel::Telegram => text.trim().to_owned(),
    }
}

/// Whether a sender, as `sender_key` writes it, is what the person sees, so that it can be compared: a number, a
/// mailbox. A messaging service, a name or a bot hides behind something else.
pub fn is_plain_sender(channel: Channel, key: &str) -> bool {
    match channel {
        Channel::Sms | Channel::WhatsApp => key.starts_with('+'),
        Channel::Email => key.contains('@'),
        Channel::Telegram => false,
    }
}

/// `+` and digits, from a number in international form with or without its sign.
fn number(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("whatsapp:").unwrap_or(text);
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')')).collect();
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let all = !digits.is_empty() && digits.len() <= 15 && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests;

//! The examples of RFC 6376 and RFC 8463, which others have signed: if our canonical text is theirs, their
//! signature fits it. What we sign is verified by another reading of the rules in `tests/it/drivers`.

use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

use super::*;

/// RFC 8463 appendix A.3.
const MAIL: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
    To: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\n\
    Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
    Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\
    \r\n\
    Hi.\r\n\
    \r\n\
    We lost the game.  Are you hungry yet?\r\n\
    \r\n\
    Joe.\r\n";
const OWN: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
    d=football.example.com; i=@football.example.com;\r\n \
    q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
    subject : date : message-id : from : subject : date;\r\n \
    bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
    b=";
const SIGNATURE: &str =
    "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
const PUBLIC_KEY: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const SECRET_KEY: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

#[test]
fn the_text_of_rfc_8463_is_the_one_that_its_authors_signed() {
    let (head, body) = split(MAIL.as_bytes());
    assert_eq!(
        BASE64.encode(digest(&SHA256, &relaxed_body(body))),
        "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    );
    let names = ["from", "to", "subject", "date", "message-id", "from", "subject", "date"];
    let text = signed_text(&fields(head), &names, OWN.as_bytes());
    let hash = digest(&SHA256, &text);
    let public = BASE64.decode(PUBLIC_KEY).unwrap();
    let signature = BASE64.decode(SIGNATURE).unwrap();
    UnparsedPublicKey::new(&ED25519, &public).verify(hash.as_ref(), &signature).unwrap();
    // And with their key we write their signature: Ed25519 leaves no choice.
    let key = Ed25519KeyPair::from_seed_unchecked(&BASE64.decode(SECRET_KEY).unwrap()).unwrap();
    assert_eq!(key.public_key().as_ref(), public);
    let signer = Signer {
        domain: "football.example.com".into(),
        selector: "brisbane".into(),
        key: Key::Ed25519(Box::new(key)),
    };
    assert_eq!(signer.signature(&text).unwrap(), signature);
}

#[test]
fn canonical_forms_are_those_of_rfc_6376() {
    // Section 3.4.5, example 1.
    assert_eq!(relaxed_field(b"A: X"), b"a:X");
    assert_eq!(relaxed_field(b"B : Y\t\r\n\tZ  "), b"b:Y Z");
    assert_eq!(relaxed_body(b" C \r\nD \t E\r\n\r\n\r\n"), b" C\r\nD E\r\n");
    // Section 3.4.4: an empty body is nothing, a missing last line end is put there.
    assert_eq!(
        BASE64.encode(digest(&SHA256, &relaxed_body(b""))),
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    );
    assert_eq!(relaxed_body(b"\r\n\r\n"), b"");
    assert_eq!(relaxed_body(b"a"), b"a\r\n");
    assert_eq!(relaxed_body(b"a\r\n\r\nb\t \r\n"), b"a\r\n\r\nb\r\n");
}

#[test]
fn fields_keep_their_folded_lines_and_the_last_of_a_name_is_signed_first() {
    let mail = b"X: one\r\nSubject: a\r\n b\r\nX: two\r\n\r\nbody";
    let (head, body) = split(mail);
    assert_eq!(fields(head), [&b"X: one"[..], b"Subject: a\r\n b", b"X: two"]);
    assert_eq!(body, b"body");
    let text = signed_text(&fields(head), &["x", "x", "x", "subject"], b"own:");
    assert_eq!(text, b"x:two\r\nx:one\r\nsubject:a b\r\nown:");
    // Nothing but a header.
    assert_eq!(fields(split(b"X: one\r\n").0), [&b"X: one"[..]]);
}

#[test]
fn a_key_that_cannot_be_used_is_refused_without_being_shown() {
    for (text, says) in [
        ("hunter2 is no key", "it is no base64"),
        ("aHVudGVyMg==", "expected a private key"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----",
            "password",
        ),
    ] {
        let Err(refusal) = read_key(text) else { panic!("{text}") };
        assert!(refusal.contains(says) && refusal.contains("openssl"), "{refusal}");
        assert!(!refusal.contains("hunter2") && !refusal.contains("aHVudGVyMg"), "{refusal}");
    }
    for name in ["", "a b", "-a.org", "a..b", "ex;ample.org", "é.org"] {
        assert!(!is_name(name), "{name:?}");
    }
    assert!(is_name("mail-1._sub.example.org"));
}

//! The few pages that people see, in French and English.
//!
//! They hold no word of a request and nothing about a person, run no script, load nothing, and work without a style.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto;padding:0 1rem;\
color:#1b1b1b;background:#fff}button{font:inherit;padding:.6rem 1.2rem;border:0;border-radius:.4rem;\
background:#1a4fd0;color:#fff;cursor:pointer}@media(prefers-color-scheme:dark){body{color:#eee;background:#16181c}}";

/// What a page may do: show itself, and post its own form. The style is allowed by its hash.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    French,
    English,
}

impl Language {
    /// The one of the two that `Accept-Language` prefers; English where it names neither.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let mut best = (0.0, Language::English);
        for range in text.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let language = match name.split('-').next() {
                Some("fr") => Language::French,
                Some("en") => Language::English,
                _ => continue,
            };
            let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    const fn pick(self, french: &'static str, english: &'static str) -> &'static str {
        match self {
            Language::French => french,
            Language::English => english,
        }
    }
}

fn page(language: Language, status: StatusCode, title: &str, text: &str, form: &str) -> Response {
    let code = language.pick("fr", "en");
    let html = format!(
        "<!doctype html>\n<html lang=\"{code}\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1><p>{text}</p>{form}</main></body></html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_LANGUAGE, HeaderValue::from_static(code)),
    ];
    (status, headers, html).into_response()
}

pub(super) fn ask(language: Language) -> Response {
    let button = language.pick("Me désabonner", "Unsubscribe");
    // Without an action it posts to where it came from.
    let form = format!(
        "<form method=\"post\"><input type=\"hidden\" name=\"List-Unsubscribe\" value=\"One-Click\">\
         <button type=\"submit\">{button}</button></form>"
    );
    page(
        language,
        StatusCode::OK,
        language.pick("Se désabonner", "Unsubscribe"),
        language.pick(
            "Ne plus recevoir ces e-mails à cette adresse ?",
            "Stop receiving these emails at this address?",
        ),
        &form,
    )
}

pub(super) fn done(language: Language) -> Response {
    page(
        language,
        StatusCode::OK,
        language.pick("C’est fait", "Done"),
        language.pick(
            "Vous ne recevrez plus ces e-mails à cette adresse.",
            "You will not receive these emails at this address any more.",
        ),
        "",
    )
}

pub(super) fn unknown(language: Language) -> Response {
    page(
        language,
        StatusCode::NOT_FOUND,
        language.pick("Lien inconnu", "Unknown link"),
        language.pick(
            "Ce lien n’est pas complet, ou n’existe plus.",
            "This link is not complete, or does not exist any more.",
        ),
        "",
    )
}

pub(super) fn later(language: Language) -> Response {
    let mut response = page(
        language,
        StatusCode::SERVICE_UNAVAILABLE,
        language.pick("Réessayez dans un instant", "Try again in a moment"),
        language.pick(
            "Nous ne pouvons pas répondre maintenant, et rien n’a été fait.",
            "We cannot answer now, and nothing was done.",
        ),
        "",
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_that_is_preferred() {
        for (text, language) in [
            ("", Language::English),
            ("fr-FR,fr;q=0.9,en;q=0.8", Language::French),
            ("en;q=0.8, fr;q=0.9", Language::French),
            ("de, en-GB;q=0.5", Language::English),
            ("fr;q=0, en;q=0.1", Language::English),
            ("fr;q=x", Language::English),
            ("FR", Language::French),
            ("*", Language::English),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_str(text).unwrap());
            assert_eq!(Language::of(&headers), language, "{text}");
        }
    }
}

//! The OpenAPI document: made from the handlers, so that it cannot name a route that is not there.

use std::sync::OnceLock;

use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// What no handler says.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Channel Orchestrator",
        description = "Decides, for every message a business sends, whether it goes by SMS, email, WhatsApp or \
                       Telegram; says why; and sends it. On the Unix socket no key is needed; on TCP every \
                       route but /healthz, /readyz and this document needs one, and a key sees its tenant only. \
                       Every error is application/problem+json.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "decisions", description = "Which channel, and why"),
        (name = "messages", description = "Sending, and what became of it"),
        (name = "broadcasts", description = "One content to many people"),
        (name = "events", description = "What people did that no provider tells"),
        (name = "suppressions", description = "Who refused"),
        (name = "numbers", description = "What every channel came to"),
        (name = "policies", description = "What is in force, and why the files are not"),
        (name = "operations", description = "Health, metrics, this document"),
    ),
    security(("key" = [])),
    modifiers(&Keys),
)]
pub struct Document;

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("ork_ and 76 hex digits")
            .description(Some("A tenant's key (`orchestrator keys add TENANT`); on TCP only"))
            .build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// The document as text, made once.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| document().to_json().unwrap_or_default())
}

/// The document of every route.
pub fn document() -> utoipa::openapi::OpenApi {
    super::routes().iter().fold(Document::openapi(), |mut whole, group| {
        whole.merge(group.router.get_openapi().clone());
        whole
    })
}

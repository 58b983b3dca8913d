//! Templates edited while the daemon runs: live, broken, mended, overridden.

use channel_orchestrator::{
    bundles::status::{BundleSource, CandidateState},
    domain::channel::Channel,
    policy::template::{Need, Words},
    request::{self, Purpose},
};
use serde_json::json;

use super::fixture::{Fixture, cost};

/// One template that says this.
fn says(words: &str) -> String {
    format!(
        "variables = [\"name\"]\n[example]\nname = \"Marie\"\n[fr.sms]\ntext = \"{words} {{{{ name }}}}\"\n"
    )
}

/// What `tenant` sends for the template `HELLO` now.
fn said(fixture: &Fixture, tenant: &str) -> Option<String> {
    let request = json!({
        "context": { "tenantId": tenant, "prospectId": "p" },
        "content": { "templateId": "HELLO", "data": { "name": "Léa" } },
    });
    let asked = request::parse_value(request, Purpose::Explain).unwrap();
    let words = Words::of(&fixture.bundle(tenant), &asked.request, Need::Send).ok()?;
    Some(words.rendering?.forms[Channel::Sms].clone()?.body)
}

async fn until_said(fixture: &Fixture, tenant: &str, expected: &str) {
    let what = format!("{tenant} says {expected:?}");
    fixture.until(&what, |_| said(fixture, tenant).as_deref() == Some(expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_live_as_soon_as_it_is_saved_and_counts_in_the_version() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", ""), ("templates/HELLO.toml", &says("Bonjour"))]).await;
    let first = fixture.bundle("acme");
    assert_eq!(said(&fixture, "acme").as_deref(), Some("Bonjour Léa"));
    fixture.save("templates/HELLO.toml", &says("Salut"));
    until_said(&fixture, "acme", "Salut Léa").await;
    assert_ne!(fixture.bundle("acme").version(), first.version());
    // Whoever began with the old one keeps it.
    assert_eq!(first.templates().len(), 1);
    fixture.save("templates/HELLO.toml", &says("Bonjour"));
    until_said(&fixture, "acme", "Bonjour Léa").await;
    assert_eq!(fixture.bundle("acme").version(), first.version());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_template_keeps_the_last_good_of_its_users_and_is_mended() {
    let fixture = Fixture::watching(&[
        ("tenants/acme.toml", &cost(1)),
        ("tenants/beta.toml", &cost(1)),
        ("templates/HELLO.toml", &says("Bonjour")),
        ("tenants/beta/templates/HELLO.toml", &says("Hé")),
    ])
    .await;
    assert_eq!(said(&fixture, "beta").as_deref(), Some("Hé Léa"));
    fixture.save("templates/HELLO.toml", &says("Salut {{ nom }}"));
    fixture.until_candidate("acme", CandidateState::Rejected).await;
    let errors = fixture.status("acme").candidate.unwrap().errors;
    let place = (errors[0].file.as_str(), errors[0].line, errors[0].column);
    assert_eq!(place, ("templates/HELLO.toml", Some(5), Some(18)), "{errors:?}");
    assert!(errors[0].to_string().contains("\"nom\" is not declared"), "{errors:?}");
    assert_eq!(said(&fixture, "acme").as_deref(), Some("Bonjour Léa"));
    assert_eq!(fixture.source("acme"), BundleSource::LastGood);
    // Who has a version of their own is not held up.
    fixture.save("tenants/beta.toml", &cost(2));
    fixture.until_cost("beta", 2).await;
    assert_eq!(fixture.status("beta").candidate, None);
    fixture.save("templates/HELLO.toml", &says("Salut"));
    until_said(&fixture, "acme", "Salut Léa").await;
    assert_eq!(fixture.status("acme").candidate, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_templates_survive_a_restart_with_a_broken_file() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", ""), ("templates/HELLO.toml", &says("Bonjour"))]).await;
    fixture.save("templates/HELLO.toml", "[fr.sms\n");
    fixture.until_candidate("acme", CandidateState::Rejected).await;
    let fixture = fixture.restart().await;
    assert_eq!(said(&fixture, "acme").as_deref(), Some("Bonjour Léa"));
    assert_eq!(fixture.source("acme"), BundleSource::LastGood);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_templates_has_the_shipped_ones_and_one_of_its_own_replaces_them_all() {
    let fixture = Fixture::watching(&[("tenants/acme.toml", "")]).await;
    assert!(fixture.bundle("acme").templates().contains_key("NPS_SURVEY"));
    fixture.save("templates/HELLO.toml", &says("Bonjour"));
    until_said(&fixture, "acme", "Bonjour Léa").await;
    assert_eq!(fixture.bundle("acme").templates().len(), 1);
    // A name that no request can say is told.
    fixture.save("templates/MON MODELE.toml", &says("Bonjour"));
    fixture.until("the odd name is told", |p| p.status().problems.iter().any(|f| f.code == "not-read")).await;
}

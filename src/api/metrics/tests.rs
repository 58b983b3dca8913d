//! What is counted, under which names and for whom.

use super::{super::tenants::TENANTS_MAX, *};

#[test]
fn tenants_beyond_the_first_are_counted_together() {
    let metrics = Metrics::default();
    for n in 0..TENANTS_MAX + 5 {
        metrics.accepted(&TenantId::parse(&format!("t{n}")).unwrap(), Status::Queued);
    }
    let text = metrics.text(None);
    assert!(text.contains("tenant=\"t199\""));
    assert!(!text.contains("tenant=\"t200\""));
    assert!(text.contains("messages_accepted_total{tenant=\"other\",status=\"queued\"} 5"), "{text}");
}

#[test]
fn scripts_whose_compiled_form_differs_are_counted() {
    let metrics = Metrics::default();
    metrics.set_scripts_differing(2);
    metrics.set_scripts_differing(3);
    let text = metrics.text(None);
    assert!(text.contains("\norchestrator_scripts_differing_total 3\n"), "{text}");
}

#[test]
fn a_tenant_sees_its_own_lines_only() {
    let metrics = Metrics::default();
    let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("ab").unwrap());
    metrics.accepted(&a, Status::Queued);
    metrics.accepted(&b, Status::Queued);
    let text = metrics.text(Some(&a));
    assert!(text.contains("tenant=\"a\"") && !text.contains("tenant=\"ab\""), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

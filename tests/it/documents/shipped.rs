//! The shipped files: they load without a remark and say what spec.md section 2 says.

use super::{assembled, shipped_file};

#[test]
fn the_shipped_policy_loads_without_a_remark() {
    for own in [String::new(), text("tenants/tenant_123.toml")] {
        let assembled = assembled(&own);
        assert!(assembled.warnings.is_empty(), "{:?}", assembled.warnings);
    }
}

fn text(path: &str) -> String {
    String::from_utf8(shipped_file(path).bytes.clone()).unwrap()
}

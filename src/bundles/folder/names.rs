//! Which names in the policies folder mean something: an allow-list of exact names.
//!
//! What editors and Kubernetes leave behind is skipped without a word; anything else that looks like a policy
//! and is not read is told, with the reason. It opens nothing.

use crate::domain::ids::{CriterionName, TenantId};

/// What the file of a given path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `default.toml`.
    Default,
    /// `criteria/<name>.rhai`.
    Criterion(CriterionName),
    /// `tenants/<id>.toml`.
    Tenant(TenantId),
    /// `tenants/<id>/criteria/<name>.rhai`.
    TenantCriterion(TenantId, CriterionName),
    /// `templates/<ID>.toml`.
    Template(String),
    /// `tenants/<id>/templates/<ID>.toml`.
    TenantTemplate(TenantId, String),
    /// `tests/<any>.toml`.
    Test,
}

impl Role {
    /// The most bytes that such a file may have: 64 KiB of script (details.md section 4), 256 KiB of TOML
    /// (reliability.md T26).
    pub fn bytes_max(&self) -> u64 {
        match self {
            Role::Criterion(_) | Role::TenantCriterion(..) => 64 * 1024,
            _ => 256 * 1024,
        }
    }
}

/// A directory of the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Root,
    Criteria,
    Tenants,
    /// `tenants/<id>/`.
    Tenant(TenantId),
    /// `tenants/<id>/criteria/`.
    TenantCriteria(TenantId),
    /// `tenants/<id>/templates/`.
    TenantTemplates(TenantId),
    Templates,
    Tests,
}

/// What a name in a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    File(Role),
    Directory(Place),
    /// An editor's or a tool's dropping, or documentation: nobody means it to be read.
    Skipped,
    /// Nothing that is read; why, and what would be.
    Stray(String),
}

/// Reads a name where it stands. `directory` says whether it is one (links followed).
pub fn classify(place: &Place, name: &str, directory: bool) -> Named {
    if is_dropping(name) {
        return Named::Skipped;
    }
    if directory { directory_in(place, name) } else { file_in(place, name) }
}

/// Where a path would be read: the directory's place, and the path as far as names mean something. None: what lies
/// there is none of our business.
pub fn locate(path: &str) -> Option<(Place, &str)> {
    let (mut place, mut from) = (Place::Root, 0);
    loop {
        let end = path[from..].find('/').map_or(path.len(), |at| from + at);
        let name = &path[from..end];
        if name.is_empty() || classify(&place, name, false) == Named::Skipped {
            return None;
        }
        if end == path.len() {
            return Some((place, path));
        }
        match directory_in(&place, name) {
            Named::Directory(next) => (place, from) = (next, end + 1),
            Named::Skipped => return None,
            _ => return Some((place, &path[..end])),
        }
    }
}

/// The directories that each place has.
fn directory_in(place: &Place, name: &str) -> Named {
    match (place, name) {
        (Place::Root, "criteria") => Named::Directory(Place::Criteria),
        (Place::Root, "tenants") => Named::Directory(Place::Tenants),
        (Place::Root, "templates") => Named::Directory(Place::Templates),
        (Place::Root, "tests") => Named::Directory(Place::Tests),
        // Schemas for editors lie beside the policies; they are not policies.
        (Place::Root, "schema" | "lost+found") => Named::Skipped,
        (Place::Tenants, id) => match TenantId::parse(id) {
            Ok(id) => Named::Directory(Place::Tenant(id)),
            Err(fault) => Named::Stray(fault.to_string()),
        },
        (Place::Tenant(id), "criteria") => Named::Directory(Place::TenantCriteria(id.clone())),
        (Place::Tenant(id), "templates") => Named::Directory(Place::TenantTemplates(id.clone())),
        (Place::Root, _) => {
            Named::Stray("the folders here are criteria, tenants, templates and tests".into())
        }
        (Place::Tenant(_), _) => Named::Stray("a tenant's folder holds criteria/ and templates/ only".into()),
        _ => Named::Stray("no folder is read here".into()),
    }
}

fn file_in(place: &Place, name: &str) -> Named {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    match (place, extension) {
        (Place::Root, _) if name == "default.toml" => Named::File(Role::Default),
        (_, "md") | (Place::Root, "json") => Named::Skipped,
        (Place::Criteria, "rhai") => match CriterionName::parse(stem) {
            Ok(name) => Named::File(Role::Criterion(name)),
            Err(fault) => Named::Stray(fault.to_string()),
        },
        (Place::TenantCriteria(id), "rhai") => match CriterionName::parse(stem) {
            Ok(name) => Named::File(Role::TenantCriterion(id.clone(), name)),
            Err(fault) => Named::Stray(fault.to_string()),
        },
        (Place::Tenants, "toml") => match TenantId::parse(stem) {
            Ok(id) => Named::File(Role::Tenant(id)),
            Err(fault) => Named::Stray(fault.to_string()),
        },
        (Place::Templates | Place::TenantTemplates(_), "toml") if !is_template_id(stem) => {
            Named::Stray(format!("{stem:?} is no template's name: 1 to 64 of A-Z, a-z, 0-9, _ and -"))
        }
        (Place::Templates, "toml") => Named::File(Role::Template(stem.to_owned())),
        (Place::TenantTemplates(id), "toml") => {
            Named::File(Role::TenantTemplate(id.clone(), stem.to_owned()))
        }
        (Place::Tests, "toml") => Named::File(Role::Test),
        (Place::Root, _) => Named::Stray("the one file read here is default.toml".into()),
        (Place::Criteria | Place::TenantCriteria(_), _) => {
            Named::Stray("the files read here are scripts, <criterion>.rhai".into())
        }
        (Place::Tenants, _) => Named::Stray("the files read here are <tenantId>.toml".into()),
        (Place::Tenant(_), _) => Named::Stray(
            "a tenant's TOML is tenants/<tenantId>.toml, its scripts tenants/<tenantId>/criteria/<name>.rhai, \
             its templates tenants/<tenantId>/templates/<ID>.toml"
                .into(),
        ),
        (Place::Templates | Place::TenantTemplates(_) | Place::Tests, _) => Named::Stray("the files read here are *.toml".into()),
    }
}

/// What a request may call a template.
fn is_template_id(stem: &str) -> bool {
    (1..=64).contains(&stem.len())
        && stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What editors, package managers, `git` and Kubernetes leave behind (policy-engine.md part 2, case 21).
fn is_dropping(name: &str) -> bool {
    const ENDINGS: [&str; 18] = [
        "~",
        ".swp",
        ".swo",
        ".swx",
        ".tmp",
        ".temp",
        ".bak",
        ".orig",
        ".rej",
        ".part",
        ".new",
        ".old",
        ".crswap",
        ".dpkg-dist",
        ".rpmnew",
        ".rpmsave",
        "___jb_tmp___",
        "___jb_old___",
    ];
    let lower = name.to_lowercase();
    name.starts_with('.')
        || name.starts_with('#')
        || name.starts_with('~')
        || ENDINGS.iter().any(|ending| lower.ends_with(ending))
        // Vim tries whether a directory can be written with a file named 4913.
        || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::parse(text).unwrap()
    }

    #[test]
    fn exact_names_have_a_role() {
        let cost = CriterionName::parse("cost").unwrap();
        for (place, name, role) in [
            (Place::Root, "default.toml", Role::Default),
            (Place::Criteria, "cost.rhai", Role::Criterion(cost.clone())),
            (Place::Tenants, "acme.toml", Role::Tenant(id("acme"))),
            (Place::TenantCriteria(id("acme")), "cost.rhai", Role::TenantCriterion(id("acme"), cost)),
            (Place::Templates, "NPS_SURVEY.toml", Role::Template("NPS_SURVEY".into())),
            (
                Place::TenantTemplates(id("acme")),
                "NPS_SURVEY.toml",
                Role::TenantTemplate(id("acme"), "NPS_SURVEY".into()),
            ),
            (Place::Tests, "brief.toml", Role::Test),
        ] {
            assert_eq!(classify(&place, name, false), Named::File(role), "{name}");
        }
        assert_eq!(classify(&Place::Tenants, "acme", true), Named::Directory(Place::Tenant(id("acme"))));
    }

    #[test]
    fn a_path_is_located_as_far_as_its_names_mean_something() {
        let at = |path| locate(path);
        assert_eq!(at("tenants/acme.toml"), Some((Place::Tenants, "tenants/acme.toml")));
        assert_eq!(at("tenants/acme"), Some((Place::Tenants, "tenants/acme")));
        let script = "tenants/acme/criteria/cost.rhai";
        assert_eq!(at(script), Some((Place::TenantCriteria(id("acme")), script)));
        // What is told is the folder that nobody reads, not each file in it.
        assert_eq!(at("tenant/acme.toml"), Some((Place::Root, "tenant")));
        for path in ["", "tenants/.acme.toml.swp", ".git/index", "schema/x.json", "tenants/4913"] {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn droppings_are_skipped_without_a_word() {
        for name in [
            ".#acme.toml",
            "acme.toml~",
            ".acme.toml.swp",
            "4913",
            "acme.toml.tmp",
            "#acme.toml#",
            "..data",
            "acme.toml.orig",
            "acme.toml.bak",
            ".DS_Store",
        ] {
            for place in [Place::Root, Place::Tenants, Place::Criteria, Place::Tests] {
                assert_eq!(classify(&place, name, false), Named::Skipped, "{name}");
            }
        }
    }

    #[test]
    fn what_looks_meant_and_is_not_read_is_told() {
        for (place, name, directory) in [
            (Place::Tenants, "Foo.toml", false),
            (Place::Tenants, "acme.tml", false),
            (Place::Criteria, "x.txt", false),
            (Place::Criteria, "Cost.rhai", false),
            (Place::Root, "defaults.toml", false),
            (Place::Tenant(id("acme")), "policy.toml", false),
            (Place::Root, "tenant", true),
        ] {
            let named = classify(&place, name, directory);
            assert!(matches!(named, Named::Stray(_)), "{name}: {named:?}");
        }
    }
}

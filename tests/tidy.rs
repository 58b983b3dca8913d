//! Checks of the source itself: layers, fences, sizes, headers, dead files, and the codemap.
//!
//! These are the rules in the crate's documentation, as a test, so that they can't drift from it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What each top-level module may import. A row names earlier rows only, so no cycle is possible.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("failpoint", &[]),
    ("request", &["domain"]),
    ("policy", &["domain"]),
    ("decide", &["domain", "policy"]),
    ("bundles", &["domain", "failpoint", "request", "policy", "decide"]),
    ("store", &["domain", "failpoint"]),
    ("channels", &["domain", "failpoint"]),
    ("tracking", &["domain", "channels"]),
    ("bell", &["domain"]),
    ("delivery", &["domain", "failpoint", "store", "channels", "bell"]),
    (
        "orchestrator",
        &["domain", "failpoint", "request", "policy", "decide", "bundles", "store", "channels", "bell"],
    ),
    (
        "api",
        &[
            "domain",
            "failpoint",
            "request",
            "policy",
            "decide",
            "bundles",
            "store",
            "channels",
            "bell",
            "delivery",
            "orchestrator",
        ],
    ),
    ("public", &["domain", "failpoint", "store", "channels", "tracking", "bell", "delivery", "api"]),
    ("config", &["domain", "policy", "bundles", "store", "channels", "delivery", "api", "public"]),
    (
        "app",
        &[
            "domain",
            "failpoint",
            "request",
            "policy",
            "decide",
            "bundles",
            "store",
            "channels",
            "bell",
            "delivery",
            "orchestrator",
            "tracking",
            "api",
            "public",
            "config",
        ],
    ),
    (
        "cli",
        &["domain", "request", "policy", "decide", "bundles", "store", "channels", "api", "config", "app"],
    ),
];

/// What only some places may mention.
const FENCES: &[(&str, &[&str])] = &[
    ("rhai::", &["policy"]),
    ("notify::", &["bundles"]),
    ("sqlx::", &["store"]),
    ("libsqlite3_sys", &["store"]),
    ("axum::", &["api", "public"]),
    ("lettre::", &["channels"]),
    ("rlibphonenumber::", &["domain"]),
    ("hyper::", &["api", "cli", "channels", "public"]),
    ("reqwest::", &["channels"]),
    ("minijinja::", &["policy"]),
    ("unicode_normalization::", &["domain"]),
    ("anyhow::", &["app", "cli"]),
    ("Utc::now(", &[]),
    ("Local::now(", &[]),
    ("SystemTime::now(", &["domain"]),
];

const LINES_MAX: usize = 500;
const BANNED_NAMES: &[&str] = &["utils", "util", "helpers", "common", "misc", "types", "models"];

struct Source {
    path: PathBuf,
    /// First component under `src`, without `.rs`.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let inner = path.strip_prefix(&root).unwrap();
            let first = inner.components().next().unwrap().as_os_str().to_str().unwrap();
            Source {
                module: first.trim_end_matches(".rs").to_owned(),
                text: fs::read_to_string(&path).unwrap(),
                path,
            }
        })
        .collect()
}

/// Code without comments: enough for these checks, and no parser.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or(""))
}

/// The modules that `use crate::{a, b::c}` and `crate::a::b` name.
fn imports(text: &str) -> Vec<String> {
    let code: String = code(text).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code[at + "crate::".len()..].trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut name) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            found.push(name);
        } else {
            found.push(rest.to_owned());
        }
    }
    let head =
        |s: &String| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    found.iter().map(head).filter(|s| !s.is_empty()).collect()
}

#[track_caller]
fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_layer_table_has_no_cycle() {
    for (at, (module, may)) in LAYERS.iter().enumerate() {
        for below in *may {
            assert!(
                LAYERS[..at].iter().any(|(m, _)| m == below),
                "{module} names {below}, which isn't below it"
            );
        }
    }
}

#[test]
fn imports_point_downwards() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|s| s.module != "lib" && s.module != "main") {
        let Some((_, may)) = LAYERS.iter().find(|(m, _)| *m == source.module) else {
            problems.push(format!("{}: `{}` is not in LAYERS", source.path.display(), source.module));
            continue;
        };
        for import in imports(&source.text) {
            if import != source.module && !may.contains(&import.as_str()) {
                problems.push(format!(
                    "{}: `{}` may not import `{import}`",
                    source.path.display(),
                    source.module
                ));
            }
        }
    }
    report(problems);
}

#[test]
fn fences_hold() {
    let mut problems = Vec::new();
    for source in sources() {
        for (word, owners) in FENCES {
            if code(&source.text).any(|line| line.contains(word)) && !owners.contains(&source.module.as_str())
            {
                problems.push(format!("{}: `{word}` belongs to {owners:?}", source.path.display()));
            }
        }
    }
    report(problems);
}

#[test]
fn files_are_short_headed_and_named() {
    let mut problems = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{path}: {lines} lines; the most is {LINES_MAX}"));
        }
        if !source.text.starts_with("//!") {
            problems.push(format!("{path}: no `//!` header"));
        }
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        if BANNED_NAMES.contains(&stem) {
            problems.push(format!("{path}: name it after what it does"));
        }
    }
    report(problems);
}

#[test]
fn every_file_is_compiled() {
    let mut problems = Vec::new();
    for source in sources() {
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        let dir = source.path.parent().unwrap();
        let (name, parent) = match stem {
            "lib" | "main" => continue,
            "mod" => (dir.file_name().unwrap().to_str().unwrap(), dir.parent().unwrap()),
            _ => (stem, dir),
        };
        let beside = parent.with_extension("rs");
        let declared = [parent.join("lib.rs"), parent.join("mod.rs"), beside]
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .any(|text| {
                let declaration = format!("{name};");
                code(&text).any(|line| line.trim().rsplit_once("mod ").is_some_and(|(_, m)| m == declaration))
            });
        if !declared {
            problems.push(format!("{}: no `mod {name};` above it", source.path.display()));
        }
    }
    report(problems);
}

/// The packages beside this one have locks of their own, which no test builds: `benches/run` once broke on one that was old.
#[test]
fn the_locks_beside_ours_know_every_dependency() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| -> toml::Table {
        let text = fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let manifest = read("Cargo.toml");
    let wanted = manifest["dependencies"].as_table().unwrap();
    let optional = |wants: &toml::Value| wants.get("optional").and_then(toml::Value::as_bool) == Some(true);
    let mut problems = Vec::new();
    for lock in ["benches/rivals/Cargo.lock", "fuzz/Cargo.lock"] {
        let locked = read(lock);
        let packages = locked["package"].as_array().unwrap();
        let ours = packages.iter().find(|p| p["name"].as_str() == manifest["package"]["name"].as_str());
        let known = ours.and_then(|ours| ours["dependencies"].as_array()).unwrap_or_else(|| panic!("{lock}"));
        // A name, with its version where there are several.
        let names: Vec<_> = known.iter().filter_map(|known| known.as_str()?.split(' ').next()).collect();
        let missing =
            wanted.iter().filter(|(name, wants)| !optional(wants) && !names.contains(&name.as_str()));
        problems.extend(missing.map(|(name, _)| {
            format!(
                "{lock} lacks {name}: run `cargo metadata --manifest-path {}`",
                lock.replace("lock", "toml")
            )
        }));
    }
    report(problems);
}

#[test]
fn the_codemap_names_every_module_and_no_other() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let mut mapped: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! * `"))
        .filter_map(|rest| rest.split('`').next())
        .collect();
    let mut layered: Vec<&str> = LAYERS.iter().map(|(m, _)| *m).collect();
    mapped.sort_unstable();
    layered.sort_unstable();
    assert_eq!(mapped, layered);
}

/// SQLite 3.51 compiles a statement anew whenever a bare parameter of its LIMIT is bound (`sqlite3ExprIsInteger`): that was
/// a fifteenth of all processor time of a broadcast.
#[test]
fn no_statement_is_limited_by_a_bare_parameter() {
    let bare = ["LIMIT $", "LIMIT ?"];
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|source| source.text.lines().map(move |line| (source, line)))
        .filter(|(_, line)| bare.iter().any(|bare| line.contains(bare)))
        .map(|(source, line)| format!("{}: {}", source.path.display(), line.trim()))
        .collect();
    assert!(found.is_empty(), "write `LIMIT CAST($1 AS BIGINT)`: {found:#?}");
}

//! The dependency arrows, read from the manifests:
//! `message <- engine <- policy, location, media, transport <- daemon`.

use toml::Table;

use crate::tree::Tree;

/// Which crates of the repository a crate's product may use; what it is tested with may also be
/// [`FOR_TESTS`]. A folder that is not listed may use none, so a new crate must be placed here.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("router/message", &[]),
    ("router/engine", &["router/message"]),
    ("router/policy", MIDDLE_USES),
    ("router/location", MIDDLE_USES),
    ("router/media", MIDDLE_USES),
    ("router/transport", MIDDLE_USES),
    (
        "router/daemon",
        &[
            "router/message",
            "router/engine",
            "router/policy",
            "router/location",
            "router/media",
            "router/transport",
        ],
    ),
    // It plays the daemon: everything but sockets.
    (
        "tests/sim",
        &[
            "router/message",
            "router/engine",
            "router/policy",
            "router/location",
            "router/media",
            "tests",
        ],
    ),
    ("guest-sdk", &["guest-sdk/macro"]),
    ("guest-sdk/macro", &[]),
];

const MIDDLE_USES: &[&str] = &["router/message", "router/engine"];

/// What anybody's tests may use besides: crates that hold nothing but test support.
const FOR_TESTS: &[&str] = &["router/message", "router/engine", "tests"];

/// Every arrow that points the wrong way.
pub(crate) fn findings(tree: &Tree) -> Vec<String> {
    let shared = tree.text("Cargo.toml").map(parse).unwrap_or_default();
    tree.manifests().flat_map(|(path, text)| in_manifest(path, &parse(text), &shared)).collect()
}

fn parse(text: &str) -> Table {
    text.parse().unwrap_or_default()
}

/// The wrong arrows of one manifest. `shared` is the root manifest, for `foo.workspace = true`.
fn in_manifest(path: &str, manifest: &Table, shared: &Table) -> Vec<String> {
    let Some(folder) = path.strip_suffix("/Cargo.toml") else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (section, table) in sections(manifest) {
        for (name, value) in table {
            let Some(used) = folder_of(folder, name, value, shared) else {
                continue;
            };
            let allowed = may_use(folder, &used)
                || (section == "dev-dependencies" && FOR_TESTS.contains(&used.as_str()));
            if !allowed {
                findings.push(format!("{path}: [{section}] {folder} may not use {used}"));
            }
        }
    }
    findings
}

/// All dependency tables, those for some targets only included.
fn sections(manifest: &Table) -> Vec<(&'static str, &Table)> {
    const NAMES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(|targets| targets.as_table());
    let per_target = targets.into_iter().flat_map(|t| t.values()).filter_map(|t| t.as_table());
    std::iter::once(manifest)
        .chain(per_target)
        .flat_map(|table| NAMES.iter().map(move |name| (*name, table.get(*name))))
        .filter_map(|(name, value)| Some((name, value?.as_table()?)))
        .collect()
}

/// The folder of a dependency that is ours, from the root; `None` for one from a registry.
fn folder_of(from: &str, name: &str, value: &toml::Value, shared: &Table) -> Option<String> {
    let path_in = |value: &toml::Value| value.get("path")?.as_str().map(str::to_owned);
    if value.get("workspace").and_then(toml::Value::as_bool) == Some(true) {
        let dependency = shared.get("workspace")?.get("dependencies")?.get(name)?;
        return path_in(dependency);
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    // A path with a placeholder is a template's, filled in when a policy is made from it.
    let path = path_in(value).filter(|path| !path.contains("{{"))?;
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn may_use(folder: &str, used: &str) -> bool {
    if folder == "tests" {
        return used.starts_with("router/"); // tests may see everything
    }
    if let Some(fuzzed) = folder.strip_suffix("/fuzz") {
        return used == fuzzed || may_use(fuzzed, used); // a crate's fuzz targets are part of it
    }
    let is_policy = folder.starts_with("policies/") || folder.starts_with("tests/policies/");
    if is_policy {
        return used == "guest-sdk";
    }
    MAY_USE.iter().any(|(crate_, uses)| *crate_ == folder && uses.contains(&used))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = "[workspace.dependencies]\n\
        viaduct-engine = { path = \"router/engine\" }\nviaduct-policy = { path = \"router/policy\" }\n\
        memchr = \"2\"\n";

    fn check(path: &str, manifest: &str) -> Vec<String> {
        in_manifest(path, &parse(manifest), &parse(SHARED))
    }

    #[test]
    fn a_right_arrow_and_a_registry_crate_pass() {
        let manifest = "[dependencies]\nviaduct-engine.workspace = true\nmemchr.workspace = true\n";
        assert!(check("router/location/Cargo.toml", manifest).is_empty());
    }

    #[test]
    fn middle_rooms_do_not_see_each_other() {
        let by_workspace = "[dependencies]\nviaduct-policy.workspace = true\n";
        assert_eq!(check("router/location/Cargo.toml", by_workspace).len(), 1);
        let by_path = "[dependencies]\nx = { path = \"../policy\" }\n";
        assert_eq!(check("router/transport/Cargo.toml", by_path).len(), 1);
        let for_tests = "[dev-dependencies]\nviaduct-policy.workspace = true\n";
        assert_eq!(check("router/location/Cargo.toml", for_tests).len(), 1);
        let for_target = "[target.'cfg(unix)'.dependencies]\nviaduct-policy.workspace = true\n";
        assert_eq!(check("router/location/Cargo.toml", for_target).len(), 1);
    }

    #[test]
    fn the_engine_does_not_look_up() {
        let manifest = "[build-dependencies]\nx = { path = \"../policy\" }\n";
        assert_eq!(check("router/engine/Cargo.toml", manifest).len(), 1);
        let itself = "[dependencies]\nviaduct-engine.workspace = true\n";
        assert_eq!(check("router/message/Cargo.toml", itself).len(), 1);
    }

    #[test]
    fn policies_see_the_guest_sdk_and_nothing_of_the_router() {
        let sdk = "[dependencies]\nx = { path = \"../../guest-sdk\" }\n";
        assert!(check("policies/registrar/Cargo.toml", sdk).is_empty());
        let engine = "[dependencies]\nx = { path = \"../../router/engine\" }\n";
        assert_eq!(check("policies/registrar/Cargo.toml", engine).len(), 1);
        assert_eq!(
            check("guest-sdk/Cargo.toml", "[dependencies]\nx = { path = \"../router/policy\" }\n")
                .len(),
            1
        );
    }

    #[test]
    fn fuzz_targets_may_use_what_their_crate_may() {
        let own = "[dependencies]\nx = { path = \"..\" }\n";
        assert!(check("router/message/fuzz/Cargo.toml", own).is_empty());
        let other = "[dependencies]\nx = { path = \"../../policy\" }\n";
        assert_eq!(check("router/message/fuzz/Cargo.toml", other).len(), 1);
    }

    #[test]
    fn a_crate_nobody_has_placed_may_use_none() {
        let manifest = "[dependencies]\nviaduct-engine.workspace = true\n";
        assert_eq!(check("router/new/Cargo.toml", manifest).len(), 1);
    }
}

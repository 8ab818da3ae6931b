//! What the source tree promises, checked: who may depend on whom, how long functions and files
//! may be, that every folder says what it is, that nothing is left undone, that the README's map
//! and the table of behaviour are true.
//!
//! Each check is a function from text to findings, tested on small bad inputs beside it; the tests
//! here run them over the tree. A finding names file and line.

mod arrows;
mod behaviour;
mod content;
mod map;
mod patches;
mod sizes;
mod tree;
mod unsafe_code;

use crate::tree::Tree;

fn report(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}:\n  {}\n", findings.join("\n  "));
}

#[test]
fn dependencies_run_one_way() {
    let tree = Tree::read();
    assert!(tree.manifests().count() >= 5, "the walk has lost the crates");
    report("wrong dependencies", &arrows::findings(&tree));
}

#[test]
fn functions_are_under_70_lines() {
    let tree = Tree::read();
    assert!(tree.rust().count() >= 30, "the walk has lost the source");
    let findings: Vec<String> =
        tree.rust().flat_map(|(path, text)| sizes::long_functions(path, text)).collect();
    report("functions of 70 lines or more", &findings);
}

#[test]
fn files_are_under_800_lines() {
    let tree = Tree::read();
    let findings: Vec<String> =
        tree.all().filter_map(|(path, text)| sizes::long_file(path, text)).collect();
    report("files of 800 lines or more", &findings);
}

/// What a default script of Kamailio or OpenSIPS does, in a file that can be read in one go.
#[test]
fn the_default_script_has_under_150_lines() {
    let tree = Tree::read();
    let script = "policies/default-script/src/lib.rs";
    let (_, text) = tree.rust().find(|(path, _)| *path == script).expect(script);
    let lines = sizes::code_lines(text);
    assert!(lines < 150, "{script} has {lines} lines of code");
}

#[test]
fn crates_and_folders_say_what_they_are() {
    let tree = Tree::read();
    let findings: Vec<String> =
        tree.rust().filter_map(|(path, text)| content::missing_first_words(path, text)).collect();
    report("no //! at the top", &findings);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    let tree = Tree::read();
    let findings: Vec<String> =
        tree.rust().flat_map(|(path, text)| content::undone(path, text)).collect();
    report("left undone", &findings);
}

#[test]
fn unsafe_code_stands_only_where_it_is_listed_and_says_why() {
    let tree = Tree::read();
    let mut findings: Vec<String> =
        tree.rust().flat_map(|(path, text)| unsafe_code::findings(path, text)).collect();
    let uses = |path: &str| tree.text(path).is_some_and(unsafe_code::is_used);
    findings.extend(unsafe_code::stale(uses));
    report("unsafe", &findings);
}

#[test]
fn the_mutants_of_the_simulation_fit_the_source() {
    let tree = Tree::read();
    let patches = || tree.all().filter(|(path, _)| path.starts_with("tests/sim/mutants/"));
    assert!(patches().count() >= 8, "the walk has lost the mutants");
    let findings: Vec<String> = patches()
        .flat_map(|(path, patch)| patches::findings(path, patch, |file| tree.text(file)))
        .collect();
    report("patches that do not apply", &findings);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let tree = Tree::read();
    let findings: Vec<String> =
        tree.all().flat_map(|(path, text)| content::machine_paths(path, text)).collect();
    report("paths of one machine", &findings);
}

#[test]
fn the_readme_map_names_only_what_exists() {
    let tree = Tree::read();
    let readme = tree.text("README.md").unwrap_or_default();
    assert!(!readme.is_empty(), "there is no README.md at the root");
    let paths = map::paths(readme);
    assert!(!paths.is_empty(), "README.md has no code map (a fenced block with a tree of folders)");
    let findings: Vec<String> = paths
        .into_iter()
        .filter(|path| !tree.exists(path))
        .map(|path| format!("README.md names {path}"))
        .collect();
    report("stale entries in the code map", &findings);
}

#[test]
fn the_table_of_behaviour_says_what_the_tests_say() {
    let tree = Tree::read();
    let tests: Vec<_> = tree.rust().flat_map(|(path, text)| behaviour::tests(path, text)).collect();
    assert!(tests.len() >= 100, "the walk has lost the tests");
    report("requirements nobody has", &behaviour::unknown(&tests));
    let table = behaviour::table(tests.into_iter());
    if std::env::var_os("VIADUCT_WRITE").is_some() {
        tree.write(behaviour::FILE, &table);
        return;
    }
    let written = tree.text(behaviour::FILE).unwrap_or_default();
    let differs = written.lines().zip(table.lines()).find(|(is, should)| is != should);
    assert!(
        written == table,
        "{} is not what the tests say; VIADUCT_WRITE=1 writes it anew. It differs in:\n{differs:?}",
        behaviour::FILE
    );
}

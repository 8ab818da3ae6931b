//! Patches that break a copy of the source on purpose (`tests/sim/mutants`): each must still fit it,
//! or whoever runs `make sim-mutants` next learns nothing.

/// What each hunk of a patch expects to find, by the path of the file it is in.
pub(crate) fn expected(patch: &str) -> Vec<(String, String)> {
    let (mut path, mut found) = (String::new(), Vec::<(String, String)>::new());
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("--- a/") {
            path = name.to_owned();
        } else if line.starts_with("@@ ") {
            found.push((path.clone(), String::new()));
        } else if let Some(text) = line.strip_prefix([' ', '-'])
            && !line.starts_with("--- ")
            && let Some((_, block)) = found.last_mut()
        {
            block.push_str(text);
            block.push('\n');
        }
    }
    found
}

/// Hunks of the patch `name` that fit nowhere. `text` gives a file of the tree.
pub(crate) fn findings<'a>(
    name: &str,
    patch: &str,
    text: impl Fn(&str) -> Option<&'a str>,
) -> Vec<String> {
    let expected = expected(patch);
    if expected.is_empty() {
        return vec![format!("{name} changes nothing")];
    }
    let fits_not = |(path, block): &&(String, String)| {
        !text(path).is_some_and(|text| text.contains(block.as_str()))
    };
    let misfit = |(path, block): &(String, String)| format!("{name} expects in {path}:\n{block}");
    expected.iter().filter(fits_not).map(misfit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "--- a/x.rs\n+++ b/x.rs\n@@ -1,3 +1,3 @@ mod x\n one\n-two\n+2\n three\n\
                         @@ -9 +9 @@\n-nine\n+9\n";

    #[test]
    fn a_patch_fits_where_every_hunk_does() {
        let fits = "zero\none\ntwo\nthree\nnine\n";
        assert!(findings("p", PATCH, |path| (path == "x.rs").then_some(fits)).is_empty());
        let moved_on = "one\n2\nthree\nnine\n";
        let found = findings("p", PATCH, |_| Some(moved_on));
        assert_eq!(found, ["p expects in x.rs:\none\ntwo\nthree\n"]);
        assert_eq!(findings("p", PATCH, |_| None).len(), 2);
        assert_eq!(findings("p", "nothing of a patch", |_| None), ["p changes nothing"]);
    }
}

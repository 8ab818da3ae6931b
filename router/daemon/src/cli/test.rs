//! `viaduct policy test`: a policy's tests, compiled to WebAssembly, run by the real host.

use std::path::Path;
use std::time::Instant;

use viaduct_policy::record::Case;

use super::{build, policy, print, replay};

/// What a policy's tests are run with.
pub struct TestRun<'a> {
    /// The component that ships.
    pub component: &'a [u8],
    /// The component with the tests (world `policy-tests`).
    pub tests: &'a [u8],
    /// Only tests whose name holds this.
    pub filter: Option<&'a str>,
}

/// Runs the tests and tells each result: name, and what the test said where it failed. An error:
/// the tests could not be run at all.
pub type PolicyTests =
    fn(&TestRun<'_>, &mut dyn FnMut(&str, Result<(), String>)) -> anyhow::Result<()>;

/// `component`: one to test instead of what the folder's Rust gives. A folder without Rust has its
/// recorded cases alone.
pub(super) fn run(
    dir: &Path,
    filter: Option<&str>,
    component: Option<&Path>,
    host: PolicyTests,
) -> anyhow::Result<bool> {
    let manifest = build::manifest_text(dir)?;
    build::parse_manifest(dir, &manifest)?;
    let component = match component {
        Some(file) => policy::read(file)?,
        None => build::shipped(dir, &manifest)?,
    };
    let tests = match dir.join("Cargo.toml").exists() {
        true => build::tests(dir)?,
        false => Vec::new(),
    };
    let cases = replay::saved_cases(dir)?;
    report(&TestRun { component: &component, tests: &tests, filter }, host, &cases, &mut |text| {
        print(text).map(drop)
    })
}

/// In the words of `cargo test`, which editors and people read already.
fn report(
    run: &TestRun<'_>,
    host: PolicyTests,
    cases: &[(String, Case)],
    out: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let start = Instant::now();
    let mut passed = 0u64;
    let mut failures: Vec<(String, String)> = Vec::new();
    let mut broken = Ok(());
    let mut tell = |name: &str, result: Result<(), String>| {
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        if broken.is_ok() {
            broken = out(&format!("test {name} ... {verdict}\n"));
        }
        match result {
            Ok(()) => passed = passed.saturating_add(1),
            Err(fault) => failures.push((name.to_owned(), fault)),
        }
    };
    if !run.tests.is_empty() {
        host(run, &mut tell)?;
    }
    replay::run_cases(run.component, cases, run.filter, &mut tell)?;
    broken?;
    for (name, fault) in &failures {
        out(&format!("\n---- {name} ----\n{}\n", fault.trim_end()))?;
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let (failed, took) = (failures.len(), start.elapsed().as_secs_f32());
    out(&format!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; finished in {took:.2}s\n"
    ))?;
    Ok(failures.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(
        run: &TestRun<'_>,
        tell: &mut dyn FnMut(&str, Result<(), String>),
    ) -> anyhow::Result<()> {
        tell("register::stores", Ok(()));
        if run.filter.is_none() {
            tell("register::refuses", Err("expected 403, got 200\n".to_owned()));
        }
        Ok(())
    }

    fn printed(filter: Option<&str>) -> (bool, String) {
        let mut text = String::new();
        let run = TestRun { component: &[], tests: &[1], filter };
        let passed = report(&run, host, &[], &mut |line| {
            text.push_str(line);
            Ok(())
        });
        (passed.unwrap(), text)
    }

    #[test]
    fn a_failed_test_says_why_and_fails_the_command() {
        let (passed, text) = printed(None);
        assert!(!passed);
        let expected = "test register::stores ... ok\ntest register::refuses ... FAILED\n\n\
                        ---- register::refuses ----\nexpected 403, got 200\n\n\
                        test result: FAILED. 1 passed; 1 failed;";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn tests_that_pass_make_the_command_succeed() {
        let (passed, text) = printed(Some("stores"));
        assert!(passed);
        assert!(text.contains("test result: ok. 1 passed; 0 failed;"), "{text}");
    }
}

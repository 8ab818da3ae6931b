//! The code map of the README: a fenced block that draws the tree of folders.
//!
//! ```text
//! router/
//!   message/        bytes <-> SIP message
//!     scan.rs framing.rs   one pass to spans
//! Makefile          make run, make test
//! ```
//! An entry is named by the words before the first run of two blanks; its folder is the nearest
//! entry above with less indentation that ends in `/`.

/// Every path the first such block names.
pub(crate) fn paths(readme: &str) -> Vec<String> {
    blocks(readme).into_iter().map(|block| in_block(&block)).find(|p| is_map(p)).unwrap_or_default()
}

/// A map names the source folders.
fn is_map(paths: &[String]) -> bool {
    paths.iter().any(|path| path == "router" || path.starts_with("router/"))
}

fn blocks(readme: &str) -> Vec<Vec<&str>> {
    let (mut blocks, mut open) = (Vec::new(), None::<Vec<&str>>);
    for line in readme.lines() {
        match (line.trim_start().starts_with("```"), open.take()) {
            (true, Some(block)) => blocks.push(block),
            (true, None) => open = Some(Vec::new()),
            (false, Some(mut block)) => {
                block.push(line);
                open = Some(block);
            }
            (false, None) => {}
        }
    }
    blocks
}

fn in_block(lines: &[&str]) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), Vec::<(usize, String)>::new());
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        let names = line.trim_start().split("  ").next().unwrap_or_default();
        folders.retain(|(depth, _)| *depth < indent);
        let parent = folders.last().map(|(_, path)| path.clone()).unwrap_or_default();
        for name in names.split_whitespace() {
            let is_path = name.ends_with('/') || name.contains('.') || name == "Makefile";
            if !is_path || name.contains('<') || name.contains('*') {
                continue;
            }
            let path = format!("{parent}{name}");
            found.push(path.trim_end_matches('/').to_owned());
            if name.ends_with('/') {
                folders.push((indent, path));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_together_from_the_indentation() {
        let readme = "# X\n```\nmake run\n```\n```text\nCargo.toml        workspace\nrouter/   all\n  \
            message/        bytes\n    scan.rs framing.rs   one pass\n  engine/  core\nsql/ \n```\n";
        let expected = [
            "Cargo.toml",
            "router",
            "router/message",
            "router/message/scan.rs",
            "router/message/framing.rs",
            "router/engine",
            "sql",
        ];
        assert_eq!(paths(readme), expected);
    }

    #[test]
    fn a_readme_without_a_map_names_nothing() {
        assert!(paths("# X\n```\nmake run\n```\n").is_empty());
    }
}

//! Everything that router/daemon/BOUNDS.md lists has a metric, and each metric it names is there in a
//! running router.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};

/// Metrics in the last column of each row of the tables.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let cells = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix('|')?.split('|');
        Some((cells.next()?.trim(), cells.next_back()?))
    });
    let rows = cells.filter(|(what, _)| *what != "what");
    rows.map(|(what, metrics)| {
        let quoted = metrics.split('`').skip(1).step_by(2);
        (what, quoted.filter(|name| name.starts_with("viaduct_")).collect())
    })
    .collect()
}

#[test]
fn every_bound_has_a_metric_that_exists() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/daemon/BOUNDS.md");
    let text = fs::read_to_string(&file)?;
    let rows = rows(&text);
    ensure!(rows.len() > 35, "only {} rows were found in {}", rows.len(), file.display());
    for (what, metrics) in &rows {
        ensure!(!metrics.is_empty(), "no metric for: {what}");
    }
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    // Metrics of media are there where media are relayed, and those of nodes where there are nodes.
    let media = format!("[[media.address]]\naddress = \"{}\"\n", own_address());
    let nodes = format!("[[media.rtpengine.node]]\naddress = \"{}:2223\"\n", own_address());
    let mut scraped = String::new();
    for sections in [media, nodes] {
        let listen = SocketAddr::from((own_address(), 5060));
        let mut setup = Setup::new(listen, "bounds.example", policy::shipped("registrar")?);
        setup.location = "memory";
        setup.sections = sections.leak();
        scraped += &Router::start(&setup)?.metrics()?;
    }
    for (what, metrics) in &rows {
        for metric in metrics {
            // A family that has counted nothing yet has its head alone.
            let name = metric.split('{').next().unwrap_or(metric);
            let head = format!("# TYPE {} ", name.trim_end_matches("_total"));
            let found = scraped.lines().find(|line| line.starts_with(&head));
            found.with_context(|| format!("{what}: there is no metric {name}"))?;
        }
    }
    Ok(())
}

#[test]
fn rows_are_read_with_their_metrics() {
    let text = "| what | at most | past it | metric |\n|---|---|---|---|\n\
                | users | `[x] y` | 503 | `viaduct_a`, `viaduct_b_total{c=\"d\"}` |\n| pings | 4 | | none |\n";
    let expected =
        [("users", vec!["viaduct_a", "viaduct_b_total{c=\"d\"}"]), ("pings", Vec::new())];
    assert_eq!(rows(text), expected);
}

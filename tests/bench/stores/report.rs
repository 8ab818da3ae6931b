//! The tables.

use std::fmt::Write as _;

use super::Keeper;
use super::many::{FEW, Found};
use super::rates::{OUTSTANDING, Rate};
use crate::table::median;

/// How many times Kamailio's registrations a second we set out to reach.
const TARGET: f64 = 15.0;

/// Registrations a second.
pub(super) fn rates(rates: &[Rate]) -> String {
    let mut text = format!(
        "\n{:<22} {:>11} {:>9} {:>17} {:>10} {:>6} {:>7} {:>13} {:>15} {:>7}\n",
        "REGISTER, stored",
        "outstanding",
        "per s",
        "lowest-highest",
        "x kamailio",
        "x one",
        "target",
        "us CPU server",
        "us CPU database",
        "lost"
    );
    for outstanding in OUTSTANDING {
        let of_kamailio = |keeper| middle(&of(rates, keeper, outstanding), |rate| rate.per_s);
        let (eight, one) =
            (of_kamailio(Keeper::KamailioPostgres), of_kamailio(Keeper::KamailioOne));
        for keeper in Keeper::ALL {
            let runs = of(rates, keeper, outstanding);
            let Some(per_s) = middle(&runs, |rate| rate.per_s) else { continue };
            let lowest = runs.iter().map(|rate| rate.per_s).fold(f64::INFINITY, f64::min);
            let highest = runs.iter().map(|rate| rate.per_s).fold(0.0, f64::max);
            let target = match keeper {
                Keeper::ViaductPostgres => format!("{TARGET:.0}"),
                _ => "-".to_owned(),
            };
            let times = |other: Option<f64>| {
                other.map_or("-".to_owned(), |other| format!("{:.1}", per_s / other))
            };
            let _ = writeln!(
                text,
                "{:<22} {:>11} {:>9.0} {:>17} {:>10} {:>6} {:>7} {:>13.1} {:>15.1} {:>7}",
                keeper.name(),
                outstanding,
                per_s,
                format!("{lowest:.0} - {highest:.0}"),
                times(eight),
                times(one),
                target,
                middle(&runs, |rate| rate.server_us).unwrap_or(0.0),
                middle(&runs, |rate| rate.database_us).unwrap_or(0.0),
                runs.iter().map(|rate| rate.losses).sum::<usize>(),
            );
        }
    }
    text.push_str(
        "\nper s: median of refreshed bindings that were committed to disk and then answered 200.\n\
         x kamailio: beside Kamailio with eight processes, of which each waits for its own commit;\n\
         x one: beside Kamailio with one, as the router has one worker. us CPU: median CPU time of\n\
         server and of database for each.\n",
    );
    text
}

fn of(rates: &[Rate], keeper: Keeper, outstanding: usize) -> Vec<&Rate> {
    rates.iter().filter(|r| (r.keeper, r.outstanding) == (keeper, outstanding)).collect()
}

fn middle(runs: &[&Rate], of: impl Fn(&Rate) -> f64) -> Option<f64> {
    median(runs.iter().map(|rate| of(rate)).collect())
}

/// What very many bindings cost.
pub(super) fn many(found: &[Found], bindings: u32) -> String {
    let mut text = format!(
        "\n{:<22} {:>8} {:>14} {:>16} {:>16} {:>9}\n",
        format!("{bindings} bindings"),
        "start s",
        "bytes/binding",
        "us CPU, any AoR",
        format!("us, of {FEW}"),
        "import/s"
    );
    for one in found {
        let _ = writeln!(
            text,
            "{:<22} {:>8.2} {:>14.0} {:>16.2} {:>16.2} {:>9}",
            one.keeper.name(),
            one.start_s,
            one.bytes,
            one.lookup_us[0],
            one.lookup_us[1],
            one.import_per_s.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        );
    }
    text.push_str(
        "\nstart: until the first, the last and a middle binding are found. bytes: memory of the\n\
         server for each, what it shares counted once. us CPU: for a MESSAGE that is looked up,\n\
         relayed and answered, sent to any AoR of all and to any of a few. import: bindings taken\n\
         over from Kamailio's database a second.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(keeper: Keeper, per_s: f64) -> Rate {
        Rate { keeper, outstanding: 64, per_s, server_us: 7.0, database_us: 8.0, losses: 0 }
    }

    #[test]
    fn rates_are_compared_with_kamailio_at_the_same_number_outstanding() {
        let mut all: Vec<Rate> = [900.0, 1_000.0, 5_000.0]
            .into_iter()
            .map(|per_s| rate(Keeper::KamailioPostgres, per_s))
            .collect();
        all.push(rate(Keeper::KamailioOne, 500.0));
        all.push(rate(Keeper::ViaductPostgres, 20_000.0));
        let text = rates(&all);
        assert!(text.contains("20.0   40.0"), "{text}");
        assert!(text.contains("900 - 5000"), "{text}");
        assert_eq!(text.matches("viaduct").count(), 1, "{text}");
    }
}

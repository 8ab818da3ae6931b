//! `viaduct ban add|remove|list`.

use super::client::{Client, encode};
use super::{BanCommand, Common, print};
use crate::admin::Lifted;
use crate::control::BanEntry;

pub(super) fn run(common: &Common, command: &BanCommand) -> anyhow::Result<bool> {
    let client = Client::new(common)?;
    match command {
        BanCommand::Add { source, seconds } => {
            let path = format!("/v1/ban/{}?seconds={seconds}", encode(&source.to_string()));
            let ban: BanEntry = client.post(&path, &[])?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&ban)?));
            }
            print(&format!("{} is kept out for {} s\n", ban.source, ban.seconds))
        }
        BanCommand::Remove { source } => {
            let path = format!("/v1/ban/{}", encode(&source.to_string()));
            let lifted: Lifted = client.delete(&path)?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&lifted)?));
            }
            let said = if lifted.lifted { "is let in again" } else { "was not banned" };
            print(&format!("{source} {said}\n"))?;
            Ok(lifted.lifted)
        }
        BanCommand::List => {
            let bans: Vec<BanEntry> = client.get("/v1/ban")?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&bans)?));
            }
            let lines = bans.iter().map(|ban| format!("{}  {} s left\n", ban.source, ban.seconds));
            print(&lines.collect::<String>())
        }
    }
}

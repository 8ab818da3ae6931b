//! `viaduct status` and `viaduct reload`.

use super::client::Client;
use super::{Common, print};
use crate::admin::Reloaded;
use crate::control::Status;

pub(super) fn run(common: &Common) -> anyhow::Result<bool> {
    let client = Client::new(common)?;
    if common.json {
        return print(&format!(
            "{}\n",
            String::from_utf8_lossy(&client.request("GET", "/v1/status", &[])?)
        ));
    }
    let status: Status = client.get("/v1/status")?;
    let trouble = status.store_trouble.as_ref();
    let trouble = trouble.map_or(String::new(), |fault| format!("  store trouble {fault}\n"));
    let state = if status.draining { "draining" } else { "serving" };
    print(&format!(
        "viaduct {version}  {state}  up {uptime}\n\
         \x20 listen        {listeners}\n\
         \x20 packets       {packets}, {workers} workers\n\
         \x20 policy        {policy}\n\
         \x20 transactions  {transactions}\n\
         \x20 connections   {connections}\n\
         \x20 location      {bindings} bindings of {aors} AoRs, {location}\n\
         \x20 media         {media}\n{trouble}",
        version = status.version,
        uptime = uptime(status.uptime_s),
        listeners = status.listeners.join(", "),
        packets = status.packets,
        workers = status.workers,
        policy = status.policy,
        transactions = status.transactions,
        connections = status.connections,
        bindings = status.bindings,
        aors = status.aors,
        location = status.location,
        media = status.media.as_deref().unwrap_or("off"),
    ))
}

fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

pub(super) fn reload(common: &Common) -> anyhow::Result<bool> {
    let reloaded: Reloaded = Client::new(common)?.post("/v1/reload", &[])?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&reloaded)?));
    }
    if reloaded.needs_restart.is_empty() {
        return print("reloaded\n");
    }
    print(&format!("reloaded; these need a restart: {}\n", reloaded.needs_restart.join(", ")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn uptime_has_two_units_at_most() {
        for (seconds, text) in
            [(5, "5 s"), (65, "1 min 5 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(super::uptime(seconds), text);
        }
    }
}

//! What a reload can change, and what needs a restart.

use super::Config;

impl Config {
    /// Keys that differ in `new` and that only a restart can change.
    pub fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let differing = [
            ("workers", self.workers != new.workers),
            ("listen", self.listeners != new.listeners),
            ("xdp", self.packets != new.packets),
            ("state_dir", self.state_dir != new.state_dir),
            ("policy.deployed_dir", self.policy.deployed_dir != new.policy.deployed_dir),
            ("auth", self.auth != new.auth),
            ("http", self.http != new.http),
            ("location", self.location != new.location),
            ("keepalive", self.keepalive != new.keepalive),
            ("probe", self.dispatcher.probing != new.dispatcher.probing),
            ("tables", self.tables != new.tables),
            ("media", self.media != new.media || self.rtpengine != new.rtpengine),
            ("admin", self.admin != new.admin),
            ("metrics", self.metrics != new.metrics),
            ("limits", self.limits != new.limits),
            ("log", self.log != new.log),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// `new`, but for what [`Config::needs_restart`] looks at.
    pub fn reloaded(&self, new: Config) -> Config {
        let old = self.clone();
        Config {
            workers: old.workers,
            listeners: old.listeners,
            packets: old.packets,
            state_dir: old.state_dir,
            policy: old.policy,
            auth: old.auth,
            http: old.http,
            location: old.location,
            keepalive: old.keepalive,
            dispatcher: new.dispatcher.with_probing_of(&old.dispatcher),
            tables: old.tables,
            media: old.media,
            rtpengine: old.rtpengine,
            admin: old.admin,
            metrics: old.metrics,
            limits: old.limits,
            log: old.log,
            ..new
        }
    }
}

//! What is to be live: which version in which scope, the canary, the shadow. Stored as text, so that a
//! restart comes up with it.

use std::collections::BTreeMap;

use crate::scope::Scope;

/// Most scopes beside all: each has a policy of its own live.
pub(crate) const MOST_SCOPES: usize = 16;

/// The versions one scope has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Serials in order of activation; the last is live. Each at most once.
    pub(crate) activations: Vec<u64>,
    /// Nothing but `unpin` changes it.
    pub(crate) pinned: bool,
}

impl Line {
    pub(crate) fn live(&self) -> Option<u64> {
        self.activations.last().copied()
    }

    /// What a rollback makes live.
    pub(crate) fn before(&self) -> Option<u64> {
        self.activations.iter().rev().nth(1).copied()
    }

    pub(crate) fn activate(&mut self, serial: u64) {
        self.activations.retain(|known| *known != serial);
        self.activations.push(serial);
    }
}

/// Everything that is to be live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) lines: BTreeMap<Scope, Line>,
    /// Its serial, and its share of new transactions in thousandths.
    pub(crate) canary: Option<(u64, u16)>,
    pub(crate) shadow: Option<u64>,
}

impl Plan {
    /// The line of all requests that no other takes.
    pub(crate) fn all(&self) -> Option<&Line> {
        self.lines.get(&Scope::All)
    }

    /// Serials that must stay loadable: live ones, those a rollback goes to, canary and shadow.
    pub(crate) fn needed(&self) -> Vec<u64> {
        let lines = self.lines.values().flat_map(|line| [line.live(), line.before()]);
        let guests = [self.canary.map(|(serial, _)| serial), self.shadow];
        lines.chain(guests).flatten().collect()
    }

    /// Leaves out versions that are not there.
    pub(crate) fn retain(&mut self, known: impl Fn(u64) -> bool) {
        for line in self.lines.values_mut() {
            line.activations.retain(|serial| known(*serial));
        }
        self.lines.retain(|_, line| !line.activations.is_empty());
        self.canary = self.canary.filter(|(serial, _)| known(*serial));
        self.shadow = self.shadow.filter(|serial| known(*serial));
    }

    /// `SERIAL [SCOPE]`, oldest first, `pinned SCOPE`, `canary SERIAL SHARE`, `shadow SERIAL`.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for (scope, line) in &self.lines {
            for serial in &line.activations {
                match scope {
                    Scope::All => text.push_str(&format!("{serial}\n")),
                    scope => text.push_str(&format!("{serial} {scope}\n")),
                }
            }
            if line.pinned {
                text.push_str(&format!("pinned {scope}\n"));
            }
        }
        if let Some((serial, share)) = self.canary {
            text.push_str(&format!("canary {serial} {share}\n"));
        }
        if let Some(serial) = self.shadow {
            text.push_str(&format!("shadow {serial}\n"));
        }
        text
    }

    /// Reads it back; lines that mean nothing are left out.
    pub(crate) fn from_text(text: &str) -> Plan {
        let mut plan = Plan::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["pinned", scope] => {
                    if let Ok(scope) = scope.parse() {
                        plan.lines.entry(scope).or_default().pinned = true;
                    }
                }
                ["canary", serial, share] => {
                    plan.canary = serial.parse().ok().zip(share.parse().ok());
                }
                ["shadow", serial] => plan.shadow = serial.parse().ok(),
                [serial] => plan.read_activation(serial, "all"),
                [serial, scope] => plan.read_activation(serial, scope),
                _ => {}
            }
        }
        plan
    }

    fn read_activation(&mut self, serial: &str, scope: &str) {
        if let (Ok(serial), Ok(scope)) = (serial.parse(), scope.parse()) {
            self.lines.entry(scope).or_default().activate(serial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let text = "1\n3\npinned all\n2 domain:example.com\ncanary 4 50\nshadow 5\n";
        let plan = Plan::from_text(text);
        assert_eq!(plan.to_text(), text);
        assert_eq!(plan.needed(), [3, 1, 2, 4, 5]);
        // The form of earlier versions, and what a stranger wrote.
        let plan = Plan::from_text("1\n2\nnonsense\n7 nowhere\n1\n");
        assert_eq!(plan.all().map(|line| line.activations.clone()), Some(vec![2, 1]));
    }

    #[test]
    fn what_is_gone_is_left_out() {
        let mut plan = Plan::from_text("1\n2\n3 domain:a.example\ncanary 4 50\nshadow 2\n");
        plan.retain(|serial| serial == 2);
        assert_eq!(plan.to_text(), "2\nshadow 2\n");
    }
}

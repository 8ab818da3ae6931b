//! Adding Path (RFC 3327 5.2, sip-behaviour 1.4, 1.5).

use viaduct_message::{Contacts, Method, NameAddr};

use super::{AddPathMode, PathRefusal, Run, StagedPath};

impl Run {
    /// Stages a Path value whose user part is the token of the flow the REGISTER came by (RFC 5626
    /// 5.1): what comes back with it reaches the phone over that flow and no other. `ob` is written
    /// where we are the first hop of a phone that registers a flow.
    pub fn add_path_flow(&mut self, mode: AddPathMode) -> Result<(), PathRefusal> {
        if self.settings.path_keys.is_empty() {
            return Err(PathRefusal::NoKey);
        }
        self.stage_path(mode, None, false)?;
        self.name_flow(self.registers_flow());
        Ok(())
    }

    /// Turns the staged value into one with a flow token.
    fn name_flow(&mut self, registers_flow: bool) {
        let ob = self.traits.first_hop && registers_flow;
        if let Some(path) = &mut self.effects.path {
            (path.flow, path.ob) = (true, ob);
            path.user = Box::default();
        }
    }

    /// Has a Contact a `reg-id`?
    fn registers_flow(&self) -> bool {
        let Contacts::List(list) = self.message().contacts() else { return false };
        let mut contacts = list.filter_map(|value| NameAddr::parse(value.bytes).ok());
        contacts.any(|contact| contact.params.has(b"reg-id"))
    }

    /// Stages a Path value of ours, with `received` where asked. It is rendered when the outgoing
    /// socket is known. A refusal leaves the message as it was (R-P7).
    ///
    /// A phone that registers a flow (`reg-id`) gets a flow token instead of `received`, which is
    /// what its registrar needs (RFC 5626 5.1); `user` is then not written.
    pub fn add_path(
        &mut self,
        mode: AddPathMode,
        user: Option<&str>,
        received: bool,
    ) -> Result<(), PathRefusal> {
        let flow = received && !self.settings.path_keys.is_empty() && self.registers_flow();
        self.stage_path(mode, user, received && !flow)?;
        if flow {
            self.name_flow(true);
        }
        Ok(())
    }

    fn stage_path(
        &mut self,
        mode: AddPathMode,
        user: Option<&str>,
        received: bool,
    ) -> Result<(), PathRefusal> {
        if self.message().method() != Method::Register {
            return Err(PathRefusal::NotRegister); // R-P8
        }
        if self.effects.path.is_some() {
            return Err(PathRefusal::Twice);
        }
        let user = user.unwrap_or_default();
        if !is_uri_user(user.as_bytes()) {
            return Err(PathRefusal::BadUser);
        }
        match (mode, self.traits.supports_path) {
            (AddPathMode::UaSupported, false) => return Err(PathRefusal::NotSupported),
            (AddPathMode::Require, false) => {
                // RFC 3327 5.2: SHOULD reject with 421 and Require: path in the response.
                self.effects.answer(421, "Extension Required", b"Require: path\r\n".to_vec());
                return Err(PathRefusal::ExtensionRequired);
            }
            _ => {}
        }
        self.effects.path = Some(StagedPath {
            user: user.as_bytes().into(),
            received,
            flow: false,
            ob: false,
            require: mode == AddPathMode::Require,
        });
        Ok(())
    }
}

/// Characters of a URI user that need no escaping (RFC 3261 25.1 unreserved, user-unreserved); at
/// most 64 of them.
fn is_uri_user(user: &[u8]) -> bool {
    user.len() <= 64
        && user.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(c))
}

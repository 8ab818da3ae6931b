//! Adding Path (RFC 3327 5.2, sip-behaviour 1.4, 1.5).

use viaduct_message::Method;

use super::{AddPathMode, PathRefusal, Run, StagedPath};

impl Run {
    /// Stages a Path value of ours, with `received` where asked. It is rendered when the outgoing
    /// socket is known. A refusal leaves the message as it was (R-P7).
    pub fn add_path(
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

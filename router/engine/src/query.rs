//! Questions a policy's run may have to the world outside memory, and their answers.
//!
//! A run that needs what is not in memory ends with [`crate::Verdict::Ask`]. The engine parks the
//! request, puts the question ([`crate::Output::Ask`]), and when the answer comes
//! ([`crate::Input::Answered`]) runs the policy again from the top, with the answer at hand. A new
//! kind of question is a variant here, a function of [`crate::Run`], and somebody in the shell who
//! answers it; the engine does not look inside.

use std::sync::Arc;

use crate::auth::{Account, Secrets};
use crate::http::{HttpRequest, HttpResult};
use crate::media::{CallView, MediaDialog, MediaOrder, MediaResult};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The secrets of a user.
    Credentials(Account),
    /// The response to a request.
    Http(Arc<HttpRequest>),
    /// What comes of an order, where the relay is elsewhere. It is put when the run has ended: the
    /// message waits, and no policy runs again.
    Media(Arc<MediaOrder>),
    /// How the media of a dialog stand, where the relay is elsewhere.
    MediaCall(Arc<MediaDialog>),
}

impl Query {
    /// What it asks for, a word for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Query::Credentials(_) => "credentials",
            Query::Http(_) => "http",
            Query::Media(_) | Query::MediaCall(_) => "media",
        }
    }
}

/// An answer, with what it is about.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The secrets of a user; `None`: there is no such user.
    Credentials(Account, Option<Arc<Secrets>>),
    /// The response to a request, or why there is none: the policy decides what that means.
    Http(Arc<HttpRequest>, HttpResult),
    /// What has come of an order.
    Media(MediaResult),
    /// How the media of a dialog stand; `None`: they are not relayed.
    MediaCall(Arc<MediaDialog>, Option<CallView>),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    /// Who should answer cannot, or not in time.
    #[error("unavailable")]
    Unavailable,
    /// Too many questions are under way.
    #[error("busy")]
    Busy,
    /// The policy asked more often than a request may.
    #[error("too many rounds")]
    Rounds,
}

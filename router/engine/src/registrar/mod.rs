//! Registrar core (RFC 3261 10.3, RFC 3327): what a REGISTER does to an AoR's bindings, and which
//! targets a lookup gives. Pure functions over values; storing is the location service's part.
//!
//! Start reading at [`save`] (one REGISTER) and [`lookup`] (one request to an AoR).

pub mod aor;
pub mod binding;
pub mod flags;
pub mod gruu;
pub mod home;
pub mod lookup;
pub mod remove;
pub mod save;

pub use aor::{canonical_aor, check_aor};
pub use binding::{Binding, BindingFields, BindingSet, Bindings};
pub use flags::{FlagError, LookupFlags, PathMode, SaveFlags, UaFilter};
pub use gruu::Gruu;
pub use home::Home;
pub use lookup::{Bound, LookupFault, LookupInput, Target, lookup, target_of, target_without_home};
pub use remove::{BindingFilter, remove, remove_failed, remove_matching};
pub use save::{OutboundMode, Registrar, SaveAnswer, SaveCode, SaveInput, SaveRefusal, save};

//! Headers taken apart on demand, one file a header.

mod auth_params;
mod cseq;
mod list;
mod name_addr;
mod params;
mod via;

pub use auth_params::{AuthParams, unescape_quoted};
pub use cseq::CSeq;
pub use list::{Contacts, Value, Values};
pub use name_addr::NameAddr;
pub use params::{Param, Params};
pub use via::Via;

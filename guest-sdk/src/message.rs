//! The message a phase is about.

use crate::bindings::viaduct::policy::message as host;

pub use crate::bindings::viaduct::policy::message::Field;
pub use crate::bindings::viaduct::policy::types::EditError;

/// The message a phase is about: [`Request`](crate::Request) and [`Response`](crate::Response) lend
/// it their reading functions. Needs the grant `message`.
///
/// Edits are staged, and made when the message is forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    // Not to be made by a policy: outside a run there is no message.
    _private: (),
}

impl Message {
    pub(crate) const CURRENT: Message = Message { _private: () };

    /// A part as text; empty where there is none. Each call asks the host (about 0.1 us): keep what
    /// is needed twice.
    pub fn get(&self, field: Field) -> String {
        host::get(field)
    }

    /// Value of the first header of that name, in any case, compact or full form.
    pub fn header(&self, name: &str) -> Option<String> {
        host::header(name)
    }

    /// All values of that header, one a line as received.
    pub fn headers(&self, name: &str) -> Vec<String> {
        host::headers(name)
    }

    /// The body; empty where there is none.
    pub fn body(&self) -> Vec<u8> {
        host::body()
    }

    /// Request-URI, as the router will route it (Route preprocessing is done).
    pub fn request_uri(&self) -> String {
        host::get(Field::RequestUri)
    }

    /// User part of the Request-URI; empty where it has none.
    pub fn request_user(&self) -> String {
        host::get(Field::RequestUser)
    }

    /// Host of the Request-URI.
    pub fn request_host(&self) -> String {
        host::get(Field::RequestHost)
    }

    /// User part of the From URI: who says to be calling. Not proven by anything.
    pub fn from_user(&self) -> String {
        host::get(Field::FromUser)
    }

    /// Host of the From URI.
    pub fn from_host(&self) -> String {
        host::get(Field::FromHost)
    }

    /// User part of the To URI; in a REGISTER, whose contacts it is about.
    pub fn to_user(&self) -> String {
        host::get(Field::ToUser)
    }

    /// Host of the To URI.
    pub fn to_host(&self) -> String {
        host::get(Field::ToHost)
    }

    /// Call-ID.
    pub fn call_id(&self) -> String {
        host::get(Field::CallId)
    }

    /// Address it came from, without the port.
    pub fn source_ip(&self) -> String {
        host::get(Field::SourceIp)
    }

    /// Appends a header. Refused for what is the router's own: Via, Route, Record-Route, Path,
    /// From, To, Call-ID, CSeq, Max-Forwards, Content-Length.
    pub fn add_header(&self, name: &str, value: &str) -> Result<(), EditError> {
        host::add_header(name, value)
    }

    /// Removes all headers of that name, compact or full form; how many there were.
    pub fn remove_header(&self, name: &str) -> Result<u32, EditError> {
        host::remove_header(name)
    }

    /// Replaces all headers of that name by one.
    pub fn set_header(&self, name: &str, value: &str) -> Result<(), EditError> {
        host::remove_header(name)?;
        host::add_header(name, value)
    }

    /// Replaces the Request-URI.
    pub fn set_request_uri(&self, uri: &str) -> Result<(), EditError> {
        host::set_request_uri(uri)
    }

    /// Is that host one of our domains? Without case.
    pub fn is_our_domain(&self, host: &str) -> bool {
        host::is_our_domain(host)
    }
}

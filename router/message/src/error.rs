//! What can be wrong with a message, one variant a fault.

use crate::name::header_name_text;

/// A fault in what a peer sent. Each knows the response it deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The first line is neither a request line nor a status line.
    #[error("bad start line")]
    StartLine,
    /// SIP version other than 2.0.
    #[error("SIP version not supported")]
    Version,
    /// A header line without a colon, or with bytes no header has.
    #[error("bad header line")]
    HeaderLine,
    /// More header lines than the limit.
    #[error("too many header fields")]
    TooManyHeaders,
    /// The message is larger than the limit.
    #[error("message too large")]
    TooLarge,
    /// The head does not end.
    #[error("headers do not end")]
    Unfinished,
    /// A header that must be there is missing.
    #[error("missing {0:?}")]
    Missing(crate::HeaderName),
    /// A header that may be there once is there more than once.
    #[error("repeated {0:?}")]
    Repeated(crate::HeaderName),
    /// A header's value does not parse.
    #[error("bad {0:?}")]
    Header(crate::HeaderName),
    /// Request-URI does not parse.
    #[error("bad Request-URI")]
    RequestUri,
    /// A URI in a header does not parse.
    #[error("bad URI")]
    Uri,
    /// CSeq names another method than the request line.
    #[error("CSeq method mismatch")]
    CSeqMethod,
    /// Less body than Content-Length announces.
    #[error("body shorter than announced")]
    BodyShort,
    /// Status code outside 100 to 699.
    #[error("bad status code")]
    StatusCode,
}

impl Fault {
    /// The status code that tells the sender: 400, 505, 413 or 513.
    pub fn status(self) -> u16 {
        match self {
            Fault::Version => 505,
            Fault::TooLarge | Fault::TooManyHeaders => 513,
            _ => 400,
        }
    }

    /// Reason phrase, short and fixed, safe to send.
    pub fn reason(self) -> &'static str {
        match self {
            Fault::StartLine => "Bad Start Line",
            Fault::Version => "Version Not Supported",
            Fault::HeaderLine => "Bad Header Line",
            Fault::TooManyHeaders => "Too Many Header Fields",
            Fault::TooLarge => "Message Too Large",
            Fault::Unfinished => "Headers Do Not End",
            Fault::Missing(name) => header_name_text!(name, "Missing "),
            Fault::Repeated(name) => header_name_text!(name, "Repeated "),
            Fault::Header(name) => header_name_text!(name, "Bad "),
            Fault::RequestUri => "Bad Request-URI",
            Fault::Uri => "Bad URI",
            Fault::CSeqMethod => "CSeq Method Mismatch",
            Fault::BodyShort => "Body Shorter Than Announced",
            Fault::StatusCode => "Bad Status Code",
        }
    }
}

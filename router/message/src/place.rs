//! What was parsed, as places in its message: for those who get the message again and want to read
//! it no second time. A place is of use with the same bytes only.

use std::net::IpAddr;

use crate::{Host, NameAddr, Params, Scheme, Span, Uri};

/// Where the parts of a URI stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UriPlace {
    scheme: Scheme,
    scheme_text: Span,
    user: Option<Span>,
    password: Option<Span>,
    /// The host where it is a number; a name is `host_text`.
    ip: Option<IpAddr>,
    host_text: Span,
    port: Option<u16>,
    params: Span,
    headers: Option<Span>,
}

impl UriPlace {
    /// Of a URI parsed from a part of `message`.
    pub fn locate(message: &[u8], uri: &Uri<'_>) -> UriPlace {
        let place = |part: &[u8]| Span::locate(message, part);
        UriPlace {
            scheme: uri.scheme,
            scheme_text: place(uri.scheme_text),
            user: uri.user.map(place),
            password: uri.password.map(place),
            ip: match uri.host {
                Host::Ip(ip) => Some(ip),
                Host::Name(_) => None,
            },
            host_text: place(uri.host_text),
            port: uri.port,
            params: place(uri.params.0),
            headers: uri.headers.map(place),
        }
    }

    /// The URI again.
    pub fn of(self, message: &[u8]) -> Uri<'_> {
        let part = |place: Span| place.of(message);
        let host_text = part(self.host_text);
        Uri {
            scheme: self.scheme,
            scheme_text: part(self.scheme_text),
            user: self.user.map(part),
            password: self.password.map(part),
            host: self.ip.map_or(Host::Name(host_text), Host::Ip),
            host_text,
            port: self.port,
            params: Params(part(self.params)),
            headers: self.headers.map(part),
        }
    }
}

/// Where URI and parameters of a Contact value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContactPlace {
    uri: Span,
    params: Span,
}

impl ContactPlace {
    /// Of a value parsed from a part of `message`.
    pub fn locate(message: &[u8], contact: &NameAddr<'_>) -> ContactPlace {
        ContactPlace {
            uri: Span::locate(message, contact.uri),
            params: Span::locate(message, contact.params.0),
        }
    }

    /// The URI as written, without angle brackets.
    pub fn uri(self, message: &[u8]) -> &[u8] {
        self.uri.of(message)
    }

    /// The header parameters.
    pub fn params(self, message: &[u8]) -> Params<'_> {
        Params(self.params.of(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_comes_back_as_it_was_also_from_a_copy() {
        for text in [
            "sip:a@b",
            "sip:b",
            "SIPS:a%20b:secret@[2001:db8::1]:5061;transport=tcp;lr?Subject=x&To=y",
            "sip:a@192.0.2.1:5060;x",
            "tel:+1-201-555-0123;phone-context=x",
            "mailto:a@b",
        ] {
            let message = format!("To: <{text}>\r\n").into_bytes();
            let uri = Uri::parse(&message[5..5 + text.len()]).expect(text);
            let place = UriPlace::locate(&message, &uri);
            let copy = message.clone();
            assert_eq!(place.of(&copy), uri, "{text}");
        }
    }

    #[test]
    fn a_contact_comes_back_with_its_parameters() {
        let message = b"Contact: \"a\" <sip:a@b;x=y>;expires=3 ; q=0.5\r\n";
        let contact = NameAddr::parse(&message[9..message.len() - 2]).unwrap();
        let place = ContactPlace::locate(message, &contact);
        assert_eq!(place.uri(message), contact.uri);
        assert_eq!(place.params(message), contact.params);
    }

    #[test]
    fn of_other_bytes_nothing_comes_that_they_do_not_have() {
        let message = b"To: <sip:alice@example.com>";
        let place = UriPlace::locate(message, &Uri::parse(&message[5..26]).unwrap());
        assert_eq!(place.of(b"To:").host_text, b"");
    }
}

//! URLs of HTTP, read once: what is granted and what is sent come from the same reading.

use url::Url;
use viaduct_engine::http::HttpOrigin;

/// Scheme, host and port of an absolute URL of `http` or `https`, and its path with query. `None`
/// for anything else, and where there is a user or a password in it.
pub(crate) fn split(text: &str) -> Option<(HttpOrigin, String)> {
    let url = Url::parse(text).ok()?;
    let secure = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let origin = HttpOrigin { secure, host: host.into(), port: url.port_or_known_default()? };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Some((origin, path))
}

/// An origin as a manifest grants it: a URL with nothing after host and port.
pub(crate) fn granted(text: &str) -> Option<HttpOrigin> {
    let (origin, path) = split(text)?;
    let bare = path == "/" && !text.ends_with('/') && !text.contains(['?', '#', '@', '*']);
    bare.then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_host_is_the_same() {
        let split = |text| split(text).map(|(origin, path)| (origin.to_string(), path));
        let expected = Some(("https://api.example.com".to_owned(), "/a%20b?c=d".to_owned()));
        assert_eq!(split("https://API.example.com:443/x/../a b?c=d#e"), expected);
        assert_eq!(split("http://127.1/").unwrap().0, "http://127.0.0.1");
        assert_eq!(split("http://0x7f.1/").unwrap().0, "http://127.0.0.1");
        assert_eq!(split("http://[::1]:8080").unwrap().0, "http://[::1]:8080");
        // A backslash ends the host for who sends the request, so it must end it here.
        assert_eq!(split("http://a.example\\@b.example/").unwrap().0, "http://a.example");
    }

    #[test]
    fn what_is_no_url_of_http_is_none() {
        for text in [
            "",
            "/relative",
            "api.example.com",
            "ftp://a.example/",
            "file:///etc/passwd",
            "http://",
            "https://user:secret@a.example/",
            "https://user@a.example/",
            "http://a.example:99999/",
        ] {
            assert_eq!(split(text), None, "{text}");
        }
    }

    #[test]
    fn a_grant_names_a_host_and_nothing_below() {
        let name = |text| granted(text).map(|origin| origin.to_string());
        assert_eq!(name("https://Api.Example.com").as_deref(), Some("https://api.example.com"));
        assert_eq!(name("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        for text in ["https://a.example/", "https://a.example/v1", "https://*.example", "a.example"]
        {
            assert_eq!(name(text), None, "{text}");
        }
    }
}

//! Talks HTTP/1.1 to the admin API: one request, one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use super::Common;
use crate::admin::{Fault, Token};
use crate::config::{AdminAddr, Config, DEFAULT_ADMIN_SOCKET};

/// A deployment compiles and stores before it answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer, bytes.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// The way to a router.
pub(super) struct Client {
    addr: AdminAddr,
    token: Option<Token>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Client {
    /// By `--admin`, else by the configuration file, else by the default socket.
    pub(super) fn new(common: &Common) -> anyhow::Result<Client> {
        let (addr, token_file) = match (&common.admin, &common.config) {
            (Some(text), _) => (parse_addr(text), None),
            (None, Some(file)) => {
                let admin = Config::load(file)?.admin;
                let admin = admin.context("the admin API is off in this configuration")?;
                (admin.listen, admin.token_file)
            }
            (None, None) => (AdminAddr::Unix(PathBuf::from(DEFAULT_ADMIN_SOCKET)), None),
        };
        let token_file = common.token_file.clone().or(token_file);
        let token = token_file.as_deref().map(Token::load).transpose()?;
        Ok(Client { addr, token })
    }

    /// GET, and the JSON of the answer.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        parse(&self.request("GET", path, &[])?)
    }

    /// POST, and the JSON of the answer.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> anyhow::Result<T> {
        parse(&self.request("POST", path, body)?)
    }

    /// DELETE, and the JSON of the answer.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        parse(&self.request("DELETE", path, &[])?)
    }

    /// The body of an answer of class 2xx; anything else is an error in the router's words.
    pub(super) fn request(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = self.connect()?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: viaduct\r\nConnection: close\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {}\r\n", token.as_text()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).context("admin API")?;
        stream.write_all(body).context("admin API")?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer).context("admin API")?;
        let (status, body) = split(&answer).context("the answer is no HTTP")?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        match serde_json::from_slice::<Fault>(&body) {
            Ok(fault) => bail!("{} ({})", fault.error, fault.place),
            Err(_) => bail!("the admin API answered {status}"),
        }
    }

    fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        match &self.addr {
            AdminAddr::Unix(path) => {
                let missing = || format!("no router answers at {}", path.display());
                let stream = UnixStream::connect(path).with_context(missing)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            AdminAddr::Tcp(addr) => {
                let missing = || format!("no router answers at {addr}");
                let stream = TcpStream::connect_timeout(addr, Duration::from_secs(5))
                    .with_context(missing)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the answer is not what this version expects")
}

/// `unix:PATH`, `IP:PORT`, or a path.
fn parse_addr(text: &str) -> AdminAddr {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return AdminAddr::Tcp(addr);
    }
    AdminAddr::Unix(Path::new(text.strip_prefix("unix:").unwrap_or(text)).to_owned())
}

/// Status and body of an answer; chunked bodies are put together.
fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at_checked(end)?;
    let body = rest.get(4..)?;
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let chunked = head.lines().any(|line| {
        line.to_ascii_lowercase()
            .split_once(':')
            .is_some_and(|(name, value)| name == "transfer-encoding" && value.trim() == "chunked")
    });
    let body = if chunked { unchunk(body)? } else { body.to_owned() };
    Some((status, body))
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let (size, rest) = body.split_at_checked(end)?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?.trim(), 16).ok()?;
        let rest = rest.get(2..)?;
        if size == 0 {
            return Some(whole);
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        whole.extend_from_slice(chunk);
        body = rest.strip_prefix(b"\r\n")?;
    }
}

/// Percent-encodes a part of a path or query (RFC 3986 2.1).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_and_in_chunks_give_the_same_body() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(split(plain), Some((200, b"hello".to_vec())));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        assert_eq!(split(chunked), Some((200, b"hello".to_vec())));
        for cut in 0..chunked.len() - 4 {
            assert_eq!(split(&chunked[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn addresses_are_sockets_or_ip_and_port() {
        assert_eq!(parse_addr("unix:/a"), AdminAddr::Unix("/a".into()));
        assert_eq!(parse_addr("run/a.sock"), AdminAddr::Unix("run/a.sock".into()));
        assert_eq!(parse_addr("127.0.0.1:8"), AdminAddr::Tcp("127.0.0.1:8".parse().unwrap()));
    }

    #[test]
    fn an_aor_is_encoded_as_one_part_of_a_path() {
        assert_eq!(encode("a/b%c@example.com"), "a%2Fb%25c%40example.com");
    }
}

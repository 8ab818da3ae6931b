//! The client against servers on loopback.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use viaduct_engine::http::{HttpMethod, HttpOrigin};

use super::*;

fn client(runtime: &tokio::runtime::Runtime, timeout_ms: u64, in_flight: usize) -> HttpClient {
    let config = HttpConfig {
        timeout_ms,
        wait_ms: 5000,
        waiting: 10,
        in_flight,
        response_bytes: 1000,
        ca_file: None,
    };
    HttpClient::new(&config, runtime.handle().clone()).unwrap()
}

fn request(to: SocketAddr, secure: bool) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Post,
        origin: HttpOrigin { secure, host: to.ip().to_string().into(), port: to.port() },
        path: "/a?b=c".into(),
        headers: vec![("X-Key".into(), "secret".into())].into(),
        body: b"question"[..].into(),
        timeout_ms: None,
    }
}

/// Answers one connection with these bytes, and gives what it was asked; `hold`: says nothing, until
/// the other end has gone.
fn server(answer: &'static str, hold: bool) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, questions) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let mut text = String::new();
        while !text.ends_with("question") {
            let length = stream.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        asked.send(text).unwrap();
        if hold {
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        } else {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, questions)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn fetch(answer: &'static str) -> (HttpResult, String) {
    let runtime = runtime();
    let (to, asked) = server(answer, false);
    let client = client(&runtime, 10_000, 1);
    let result = runtime.block_on(client.0.fetch(&request(to, false)));
    (result, asked.recv().unwrap())
}

#[test]
fn a_request_goes_out_whole_and_its_response_comes_back() {
    let (result, asked) =
        fetch("HTTP/1.1 201 Created\r\nX-Note: one\r\nContent-Length: 6\r\n\r\nanswer");
    assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n"), "{asked}");
    for line in ["x-key: secret\r\n", "content-length: 8\r\n", "host: 127.0.0.1:"] {
        assert!(asked.to_lowercase().contains(line), "{asked}");
    }
    let response = result.unwrap();
    assert_eq!((response.status, &*response.body), (201, &b"answer"[..]));
    let note: (Box<str>, Box<str>) = ("x-note".into(), "one".into());
    assert!(response.headers.contains(&note), "{:?}", response.headers);
}

#[test]
fn a_redirect_is_a_response_and_is_not_followed() {
    let (result, _) = fetch(
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(result.unwrap().status, 302);
}

#[test]
fn what_is_too_large_is_not_kept() {
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    let big = Box::leak(format!("{body}{}", "a".repeat(2000)).into_boxed_str());
    assert_eq!(fetch(big).0, Err(HttpFault::TooLarge));
    let wide = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "a".repeat(9000));
    assert_eq!(fetch(Box::leak(wide.into_boxed_str())).0, Err(HttpFault::TooLarge));
}

#[test]
fn what_is_no_http_and_what_is_cut_off_is_unreachable() {
    for answer in ["", "SIP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na"] {
        assert_eq!(fetch(answer).0, Err(HttpFault::Unreachable), "{answer:?}");
    }
}

#[test]
fn a_server_that_is_silent_is_given_up_in_time_and_one_that_is_gone_at_once() {
    let runtime = runtime();
    let (to, _asked) = server("", true);
    let slow = HttpRequest { timeout_ms: Some(30), ..request(to, false) };
    let result = runtime.block_on(client(&runtime, 10_000, 1).0.fetch(&slow));
    assert_eq!(result, Err(HttpFault::Timeout), "the policy's own limit");
    let (to, _asked) = server("", true);
    let result = runtime.block_on(client(&runtime, 30, 1).0.fetch(&request(to, false)));
    assert_eq!(result, Err(HttpFault::Timeout), "the router's");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for secure in [false, true] {
        let result =
            runtime.block_on(client(&runtime, 10_000, 1).0.fetch(&request(nobody, secure)));
        assert_eq!(result, Err(HttpFault::Unreachable));
    }
}

#[test]
fn what_is_connected_to_is_what_was_granted() {
    let mut wrong = request("127.0.0.1:80".parse().unwrap(), false);
    wrong.origin.host = "127.0.0.1:1@10.0.0.1".into();
    assert_eq!(message(&wrong).err(), Some(HttpFault::Syntax));
    wrong.origin.host = "a.example/b".into();
    assert_eq!(message(&wrong).err(), Some(HttpFault::Syntax));
}

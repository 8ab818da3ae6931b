//! The API over a real socket, with a router that only pretends.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::control::{
    AorEntry, AuthStatus, BanEntry, BindingEntry, DestinationEntry, DestinationState, MediaCall,
    Page, PolicyEntry, PolicyOrder, PolicyParts, RecordPart, RecordRequest, Status, UserEntry,
    UserOrder,
};
use crate::scratch::Scratch;
use viaduct_policy::record::{Header, Setup};

/// Remembers what it was told to do.
#[derive(Default)]
struct Fake {
    orders: Mutex<Vec<String>>,
}

impl Fake {
    fn note(&self, order: String) {
        self.orders.lock().unwrap().push(order);
    }
    fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

fn media_call(call_id: &str) -> MediaCall {
    MediaCall {
        node: None,
        call_id: call_id.into(),
        caller_tag: "a".into(),
        callee_tag: "b".into(),
        age_s: 7,
        answered: true,
        streams: Vec::new(),
    }
}

fn entry(aor: &str) -> AorEntry {
    let contact = "sip:alice@192.0.2.4".to_owned();
    AorEntry { aor: aor.into(), bindings: vec![BindingEntry { contact, ..Default::default() }] }
}

fn destination(state: DestinationState) -> DestinationEntry {
    DestinationEntry {
        set: "gw".into(),
        uri: "sip:192.0.2.5".into(),
        state,
        signs: 0,
        probe: Some(200),
        latency_us: Some(900),
        weight: 1,
        priority: 0,
        attributes: String::new(),
    }
}

impl Control for Fake {
    fn status(&self) -> Status {
        Status { policy: "registrar 1.0.0".into(), bindings: 7, ..Status::default() }
    }
    fn bindings(&self, table: &str, aor: &str) -> Option<AorEntry> {
        self.note(format!("bindings {table} {aor}"));
        (aor != "nobody@example.com").then(|| entry(aor))
    }
    fn page(&self, table: &str, cursor: usize, about: usize) -> Page {
        self.note(format!("page {table} {cursor} {about}"));
        Page { entries: vec![entry("alice@example.com")], next: (cursor == 0).then_some(4) }
    }
    fn remove(&self, table: &str, aor: &str, contact: Option<&str>) -> Result<usize, Refusal> {
        self.note(format!("remove {table} {aor} {contact:?}"));
        Ok(1)
    }
    fn policies(&self) -> Vec<PolicyEntry> {
        vec![PolicyEntry { serial: 1, live: true, ..Default::default() }]
    }
    fn change_policy(&self, order: PolicyOrder) -> Result<PolicyEntry, Refusal> {
        match &order {
            PolicyOrder::Deploy(component, scope) => {
                self.note(format!("deploy {} {scope}", component.len()));
                if component == b"bad" {
                    return Err(Refusal::Invalid("import usrloc is not granted".into()));
                }
                Ok(PolicyEntry { serial: 2, ..Default::default() })
            }
            PolicyOrder::Rollback(_) => {
                Err(Refusal::Conflict("there is no earlier version".into()))
            }
            other => {
                self.note(format!("{other:?}"));
                Ok(PolicyEntry::default())
            }
        }
    }
    fn policy_too_large(&self) {
        self.note("too large".to_owned());
    }
    fn policy_parts(&self, serial: u64) -> Result<PolicyParts, Refusal> {
        self.note(format!("parts {serial}"));
        Ok(PolicyParts { bytes: 9, ..Default::default() })
    }
    fn record(&self, request: &RecordRequest) -> Result<Header, Refusal> {
        self.note(format!("record {} {}", request.cases, request.seconds));
        Ok(Header { format: "f".into(), setup: Setup::default() })
    }
    fn take_record(&self, stop: bool) -> Result<RecordPart, Refusal> {
        let more = !stop;
        Ok(RecordPart { cases: vec!["{}".into()], more, lost: 0 })
    }
    fn auth(&self) -> AuthStatus {
        AuthStatus { on: true, cached_users: 3, ..AuthStatus::default() }
    }
    fn flush_auth(&self, user: Option<(&str, &str)>) -> Result<usize, Refusal> {
        self.note(format!("flush {user:?}"));
        Ok(2)
    }
    fn users(&self, after: Option<(&str, &str)>, most: usize) -> Result<Vec<UserEntry>, Refusal> {
        self.note(format!("users {after:?} {most}"));
        Ok(vec![UserEntry { user: "alice".into(), ..UserEntry::default() }])
    }
    fn change_user(&self, user: (&str, &str), order: UserOrder) -> Result<(), Refusal> {
        // Secrets show no more than for which algorithms they are.
        self.note(format!("{user:?} {order:?}"));
        match user.0 {
            "nobody" => Err(Refusal::NotFound("there is no user nobody".into())),
            _ => Ok(()),
        }
    }
    fn ban(&self, source: IpAddr, seconds: u64) -> Result<(), Refusal> {
        self.note(format!("ban {source} {seconds}"));
        Ok(())
    }
    fn unban(&self, source: IpAddr) -> Result<bool, Refusal> {
        self.note(format!("unban {source}"));
        Ok(true)
    }
    fn bans(&self) -> Result<Vec<BanEntry>, Refusal> {
        Ok(vec![BanEntry { source: "192.0.2.9".into(), seconds: 60 }])
    }
    fn media_calls(&self) -> Result<Vec<MediaCall>, Refusal> {
        Ok(vec![media_call("c1")])
    }
    fn media_call(&self, call_id: &str) -> Result<Vec<MediaCall>, Refusal> {
        match call_id {
            "a b/c" => Ok(vec![media_call("a b/c")]),
            _ => Err(Refusal::NotFound("no such call".to_owned())),
        }
    }
    fn kill_media(&self, call_id: &str) -> Result<usize, Refusal> {
        self.media_call(call_id).map(|calls| calls.len())
    }

    fn destinations(&self) -> Vec<DestinationEntry> {
        vec![destination(DestinationState::Up)]
    }
    fn set_destination(
        &self,
        set: &str,
        uri: &str,
        state: DestinationState,
    ) -> Result<DestinationEntry, Refusal> {
        self.note(format!("set {set} {uri} {state}"));
        if set != "gw" {
            return Err(Refusal::NotFound(format!("there is no set {set:?}")));
        }
        Ok(destination(state))
    }
    fn reload(&self, _: &Config) -> Result<(), Refusal> {
        Ok(())
    }
    fn is_alive(&self) -> bool {
        true
    }
    fn drain(&self, _: Duration) -> usize {
        0
    }
    fn hurry(&self) {}
}

/// A served API; ends with the value.
struct Served {
    socket: PathBuf,
    fake: Arc<Fake>,
    scratch: Scratch,
    _runtime: tokio::runtime::Runtime,
}

fn serve_api(token: Option<&str>) -> Served {
    let scratch = Scratch::new();
    let socket = scratch.path().join("admin.sock");
    let token_file = token.map(|token| {
        let file = scratch.path().join("token");
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    });
    let config = AdminConfig { listen: AdminAddr::Unix(socket.clone()), token_file };
    let fake = Arc::new(Fake::default());
    let api = Api {
        control: fake.clone(),
        metrics: Metrics::new(1),
        reload: Arc::new(|| Ok(vec!["workers"])),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bound = runtime.block_on(bind(&config)).unwrap();
    runtime.spawn(serve(bound, api));
    Served { socket, fake, scratch, _runtime: runtime }
}

impl Served {
    /// Status and body of one request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer and close before it has read a body that is too long.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }
    fn json(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let (status, body) = self.ask(method, path, "", body);
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}")))
    }
}

#[test]
fn users_are_looked_at_and_forgotten() {
    let served = serve_api(None);
    let (status, body) = served.ask("GET", "/v1/auth", "", b"");
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &value["cached_users"]), (200, &json!(3)));
    let (status, body) = served.ask("DELETE", "/v1/auth", "", b"");
    assert_eq!((status, body.as_str()), (200, "{\"flushed\":2}"));
    served.ask("DELETE", "/v1/auth?user=a%40b&realm=example.com", "", b"");
    let orders = served.fake.orders();
    assert_eq!(orders, ["flush None", "flush Some((\"a@b\", \"example.com\"))"]);
    for query in ["user=a", "realm=b", "name=a"] {
        let (status, body) = served.ask("DELETE", &format!("/v1/auth?{query}"), "", b"");
        assert_eq!(status, 400, "{query}: {body}");
    }
    assert!(served.fake.orders().is_empty());
}

#[test]
fn users_are_added_changed_removed_and_listed() {
    let served = serve_api(None);
    let (status, body) = served.json("GET", "/v1/user?about=5", b"");
    assert_eq!((status, &body[0]["user"]), (200, &json!("alice")));
    served.json("GET", "/v1/user?after_user=a&after_realm=r", b"");
    let alice = "/v1/user?user=a%40b&realm=r.example";
    assert_eq!(served.json("POST", alice, br#"{"password": "p"}"#), (200, json!({})));
    let md5 = br#"{"md5": "939e7578ed9e3c518a452acee763bce9"}"#;
    assert_eq!(served.json("PUT", alice, md5).0, 200);
    assert_eq!(served.json("DELETE", alice, b"").0, 200);
    let expected = [
        "users None 5",
        "users Some((\"a\", \"r\")) 100",
        "(\"a@b\", \"r.example\") Add({\"SHA-256\", \"SHA-512-256\", \"MD5\"})",
        "(\"a@b\", \"r.example\") Replace({\"MD5\"})",
        "(\"a@b\", \"r.example\") Remove",
    ];
    assert_eq!(served.fake.orders(), expected);
}

#[test]
fn what_is_wrong_with_a_user_is_told_without_the_secret() {
    let served = serve_api(None);
    let table = [
        ("?user=a", &br#"{"password": "hidden"}"#[..], 400, "realm"),
        ("?user=&realm=r", br#"{"password": "hidden"}"#, 400, "user"),
        ("?user=a&realm=%22", br#"{"password": "hidden"}"#, 400, "realm"),
        ("?user=a&realm=r", br#""hidden""#, 400, "body"),
        ("?user=a&realm=r", br#"{"passwrd": "hidden"}"#, 400, "body"),
        ("?user=a&realm=r", br#"{"md5": "hidden"}"#, 400, "md5"),
        ("?user=a&realm=r", b"{}", 400, "body"),
        ("?user=nobody&realm=r", br#"{"password": "hidden"}"#, 404, "user"),
    ];
    for (query, body, expected, place) in table {
        let (status, fault) = served.json("PUT", &format!("/v1/user{query}"), body);
        assert_eq!((status, &fault["where"]), (expected, &json!(place)), "{query}: {fault}");
        assert!(!fault.to_string().contains("hidden"), "{fault}");
    }
    for query in ["about=0", "about=1001", "after_user=a"] {
        assert_eq!(served.json("GET", &format!("/v1/user?{query}"), b"").0, 400, "{query}");
    }
}

#[test]
fn destinations_are_looked_at_and_set() {
    let served = serve_api(None);
    let (status, body) = served.json("GET", "/v1/destinations", &[]);
    let expected = json!([{"set": "gw", "uri": "sip:192.0.2.5", "state": "up", "signs": 0,
        "probe": 200, "latency_us": 900, "weight": 1, "priority": 0}]);
    assert_eq!((status, body), (200, expected));
    let path = "/v1/destinations?set=gw&uri=sip%3A192.0.2.5&state=disabled";
    let (status, body) = served.json("POST", path, &[]);
    assert_eq!((status, &body["state"]), (200, &json!("disabled")));
    assert_eq!(served.fake.orders(), ["set gw sip:192.0.2.5 disabled"]);
    for (query, expected, says) in [
        ("set=gw&uri=sip:a&state=off", 400, "allowed: up, down, disabled"),
        ("set=gw&state=up", 400, "missing field `uri`"),
        ("set=other&uri=sip:a&state=up", 404, "there is no set"),
    ] {
        let (status, body) = served.ask("POST", &format!("/v1/destinations?{query}"), "", b"");
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(says), "{body}");
    }
}

#[test]
fn sources_are_banned_and_let_in_again() {
    let served = serve_api(None);
    let (status, body) = served.json("GET", "/v1/ban", &[]);
    assert_eq!((status, body), (200, json!([{"source": "192.0.2.9", "seconds": 60}])));
    let (_, body) = served.json("POST", "/v1/ban/2001:db8::1?seconds=5", &[]);
    assert_eq!(body, json!({"source": "2001:db8::1", "seconds": 5}));
    let (_, body) = served.json("DELETE", "/v1/ban/192.0.2.9", &[]);
    assert_eq!(body, json!({"lifted": true}));
    assert_eq!(served.fake.orders(), ["ban 2001:db8::1 5", "unban 192.0.2.9"]);
    for path in ["/v1/ban/x?seconds=5", "/v1/ban/192.0.2.9?seconds=0", "/v1/ban/192.0.2.9"] {
        assert_eq!(served.json("POST", path, &[]).0, 400, "{path}");
    }
}

#[test]
fn relayed_calls_are_shown_and_ended_whatever_stands_in_their_call_id() {
    let served = serve_api(None);
    let (status, body) = served.json("GET", "/v1/media", &[]);
    assert_eq!((status, &body[0]["call_id"]), (200, &json!("c1")));
    let (_, body) = served.json("GET", "/v1/media/a%20b%2Fc", &[]);
    assert_eq!((&body[0]["age_s"], &body[0]["answered"]), (&json!(7), &json!(true)));
    let (_, body) = served.json("DELETE", "/v1/media/a%20b%2Fc", &[]);
    assert_eq!(body, json!({"killed": 1}));
    let (status, body) = served.json("DELETE", "/v1/media/none", &[]);
    assert_eq!((status, &body["where"]), (404, &json!("call_id")));
}

#[test]
fn what_is_asked_reaches_the_router_and_its_answer_comes_back() {
    let served = serve_api(None);
    let (status, body) = served.json("GET", "/v1/status", &[]);
    assert_eq!(
        (status, &body["policy"], &body["bindings"]),
        (200, &json!("registrar 1.0.0"), &json!(7))
    );
    let (_, body) = served.json("GET", "/v1/location/sip:a%2Fb@example.com?table=x", &[]);
    assert_eq!(body["aor"], "a/b@example.com");
    let (_, body) = served.json("GET", "/v1/location?about=5", &[]);
    assert_eq!(body["next"], 4);
    let (_, body) = served.json("GET", "/v1/location?cursor=4", &[]);
    assert_eq!(body.get("next"), None);
    let contact = "contact=sip%3Aalice%40192.0.2.4%3Bx%3D1";
    let (_, body) = served.json("DELETE", &format!("/v1/location/a@b?{contact}"), &[]);
    assert_eq!(body, json!({"removed": 1}));
    let (_, body) = served.json("POST", "/v1/policy", b"component");
    assert_eq!(body["serial"], 2);
    let (_, body) = served.json("GET", "/v1/policy", &[]);
    assert_eq!(body[0]["live"], true);
    let (_, body) = served.json("GET", "/v1/policy/3", &[]);
    assert_eq!(body["bytes"], 9);
    served.json("POST", "/v1/policy/pin?scope=domain%3Aa.example", &[]);
    served.json("POST", "/v1/policy/canary?share=50", b"c");
    let request = br#"{"share": 1000, "cases": 5, "seconds": 6}"#;
    let (_, body) = served.json("POST", "/v1/record", request);
    assert_eq!(body["format"], "f");
    let (_, body) = served.json("DELETE", "/v1/record", &[]);
    assert_eq!(body, json!({"cases": ["{}"], "more": false, "lost": 0}));
    let (_, body) = served.json("POST", "/v1/reload", &[]);
    assert_eq!(body, json!({"needs_restart": ["workers"]}));
    let expected = [
        "bindings x a/b@example.com",
        "page location 0 5",
        "page location 4 100",
        "remove location a@b Some(\"sip:alice@192.0.2.4;x=1\")",
        "deploy 9 all",
        "parts 3",
        "Pin(Domain(\"a.example\"), true)",
        "Canary([99], 50)",
        "record 5 6",
    ];
    assert_eq!(served.fake.orders(), expected);
    let (status, text) = served.ask("GET", "/metrics", "", &[]);
    assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn refusals_are_json_with_the_reason_and_the_place() {
    let served = serve_api(None);
    let table = [
        ("GET", "/v1/location/nobody@example.com", &b""[..], 404, "has no bindings", "aor"),
        ("GET", "/v1/location/nobody", b"", 400, "allowed: user@host", "aor"),
        ("GET", "/v1/location/@x", b"", 400, "allowed: user@host", "aor"),
        ("GET", "/v1/location?about=0", b"", 400, "allowed: 1 to 1000", "about"),
        ("GET", "/v1/location?about=1001", b"", 400, "allowed: 1 to 1000", "about"),
        ("GET", "/v1/location?cursor=-1", b"", 400, "", "/v1/location"),
        ("GET", "/v1/location?what=1", b"", 400, "unknown field", "/v1/location"),
        ("POST", "/v1/policy", b"bad", 422, "usrloc is not granted", "/v1/policy"),
        ("POST", "/v1/policy/rollback", b"", 409, "no earlier version", "/v1/policy/rollback"),
        ("POST", "/v1/policy/pin?scope=nowhere", b"", 400, "is no scope", "scope"),
        ("POST", "/v1/policy/activate", b"", 400, "is missing", "serial"),
        ("POST", "/v1/policy/fly", b"", 404, "no such resource", "/v1/policy/fly"),
        ("POST", "/v1/record", b"{}", 400, "missing field", "/v1/record"),
        ("POST", "/v1/status", b"", 405, "no such method", "/v1/status"),
        ("GET", "/v2", b"", 404, "no such resource", "/v2"),
    ];
    for (method, path, body, expected, needle, place) in table {
        let (status, fault) = served.json(method, path, body);
        assert_eq!(status, expected, "{method} {path}: {fault}");
        assert!(fault["error"].as_str().unwrap().contains(needle), "{method} {path}: {fault}");
        assert_eq!(fault["where"], place);
    }
}

#[test]
fn a_component_longer_than_32_mib_is_not_taken() {
    let served = serve_api(None);
    let (status, _) = served.json("POST", "/v1/policy", &vec![0; MOST_COMPONENT_BYTES]);
    assert_eq!(status, 200);
    let (status, fault) = served.json("POST", "/v1/policy", &vec![0; MOST_COMPONENT_BYTES + 1]);
    assert_eq!(status, 413, "{fault}");
    let told = [format!("deploy {MOST_COMPONENT_BYTES} all"), "too large".to_owned()];
    assert_eq!(served.fake.orders(), told);
}

#[test]
fn with_a_token_nothing_is_answered_without_it() {
    let served = serve_api(Some("0123456789abcdef"));
    for path in ["/v1/status", "/metrics", "/v1/policy", "/nowhere"] {
        for header in ["", "Authorization: Bearer 0123456789abcdeX\r\n"] {
            let (status, body) = served.ask("GET", path, header, &[]);
            assert_eq!(status, 401, "{path} {header}");
            assert!(body.contains("bearer token"), "{body}");
        }
    }
    let right = "Authorization: Bearer 0123456789abcdef\r\n";
    assert_eq!(served.ask("GET", "/v1/status", right, &[]).0, 200);
}

#[test]
fn the_socket_is_for_its_owner_alone_and_not_taken_from_a_living_router() {
    let served = serve_api(None);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&served.socket), 0o600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = AdminConfig { listen: AdminAddr::Unix(served.socket.clone()), token_file: None };
    let second = runtime.block_on(bind(&config));
    assert!(matches!(second, Err(AdminError::InUse(_))));
    // A socket whose router has died is no hindrance.
    let left = served.scratch.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let config = AdminConfig { listen: AdminAddr::Unix(left.clone()), token_file: None };
    runtime.block_on(bind(&config)).map(drop).unwrap();
    assert_eq!(mode(&left), 0o600);
    // A file that is no socket is nobody's to remove.
    let file = served.scratch.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn metrics_alone_serve_nothing_else() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(bind_tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let addr = listener.local_addr().unwrap();
    runtime.spawn(serve_metrics(listener, Metrics::new(1)));
    for (path, expected) in [("/metrics", "HTTP/1.1 200"), ("/v1/status", "HTTP/1.1 404")] {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
}

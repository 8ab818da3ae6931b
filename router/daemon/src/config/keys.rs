//! Every key of the file: its type, range and default, in the order of `viaduct.example.toml`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use viaduct_engine::registrar::{PathMode, Registrar};
use viaduct_engine::{Listener, Network, TimerValues};
use viaduct_message::Uri;
use viaduct_policy::GuardLimits;

use super::error::ConfigError;
use super::reader::{Key, Section, Sheet, Text, quoted};
use super::{
    AdminAddr, AdminConfig, Config, KeepaliveConfig, Limits, LogConfig, PolicyConfig, auth,
    dispatcher, http, listen, location, media, network, packets, registrar, size,
};

/// Most workers: worker numbers stand in branches, and 64 cores share one table well.
const MOST_WORKERS: u64 = 64;
const MOST_DOMAINS: usize = 10_000;
const MOST_NETWORKS: usize = 1_000;
const DEFAULT_STATE_DIR: &str = "/var/lib/viaduct";
/// Where the admin socket is unless the file says otherwise; the client commands look there too.
pub(crate) const DEFAULT_ADMIN_SOCKET: &str = "/run/viaduct/admin.sock";

/// Reads a text. The configuration is there whenever the text is TOML; it counts only without
/// errors. Also gives the keys that exist.
pub(super) fn read(
    text: &str,
    file: &Path,
    addresses: &dyn Fn() -> Vec<IpAddr>,
) -> (Option<Config>, Vec<ConfigError>, Vec<Key>) {
    let sheet = Sheet::new(text);
    let (document, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        // Keys that look missing after a syntax error are no news: report the syntax alone.
        for fault in &faults {
            let at = fault.span().map_or(0, |span| span.start);
            sheet.fault(at, "", format!("is no TOML: {}", fault.message()), "");
        }
        let (errors, keys) = sheet.finish();
        return (None, errors, keys);
    }
    let config = {
        let mut top = Section::top(&sheet, document.get_ref());
        let config = whole(&mut top, file, addresses);
        top.close();
        config
    };
    let (errors, keys) = sheet.finish();
    (Some(config), errors, keys)
}

fn whole(top: &mut Section<'_, '_>, file: &Path, addresses: &dyn Fn() -> Vec<IpAddr>) -> Config {
    let folder = file.parent().unwrap_or(Path::new(""));
    let workers = top.number("workers", 1..=MOST_WORKERS, processors());
    let named = domains(top);
    let trusted = trusted(top);
    let open = top.flag("open", false);
    let state_dir = path(top, "state_dir", DEFAULT_STATE_DIR, folder);
    let server_header = server_header(top);
    let force_rport = top.flag("force_rport", true);
    let use_received = top.flag("use_received", true);
    let drain_s = top.number("drain_s", 0..=3600, 32);
    let auth = auth::read(top, folder);
    let mut wishes = Vec::new();
    let listeners = listen::read(top, open || auth.is_some(), addresses, &mut wishes);
    let packets = packets::read(top, wishes);
    let (media, rtpengine) = media::read(top, &listeners);
    Config {
        file: file.to_owned(),
        workers: u8::try_from(workers).unwrap_or(1),
        domains: if named.is_empty() { hosts(&listeners) } else { named },
        trusted,
        open,
        server_header,
        force_rport,
        use_received,
        drain_s,
        auth,
        http: http::read(top, folder),
        policy: policy(top, folder, &state_dir),
        location: location::read(top, &listeners, folder, &state_dir),
        keepalive: keepalive(top, &listeners),
        dispatcher: dispatcher::read(top, &listeners),
        tables: dispatcher::tables(top),
        media,
        rtpengine,
        registrar: registrar(top),
        path_key_file: path_section(top, folder, &state_dir),
        timers: timers(top),
        limits: limits(top),
        admin: admin(top, folder),
        metrics: metrics(top),
        log: log(top),
        listeners,
        packets,
        state_dir,
    }
}

/// CPUs this process may use, at most the largest number of workers.
fn processors() -> u64 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u64::try_from(count).unwrap_or(1).clamp(1, MOST_WORKERS)
}

fn hosts(listeners: &[Listener]) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    for listener in listeners {
        if !hosts.contains(&listener.host) {
            hosts.push(listener.host.clone());
        }
    }
    hosts
}

fn domains(top: &mut Section<'_, '_>) -> Vec<Box<str>> {
    const ALLOWED: &str = "host names and IP addresses such as \"example.com\", \"192.0.2.1\", \
                           \"[2001:db8::1]\"";
    let texts = top.texts("domains", MOST_DOMAINS, "[]", ALLOWED).unwrap_or_default();
    let mut domains: Vec<Box<str>> = Vec::new();
    for text in &texts {
        let bare = text.value.trim_start_matches('[').trim_end_matches(']');
        // In a URI an IPv6 address stands in brackets, so that is how domains are compared.
        let domain = match bare.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Err(_) if listen::is_host_name(&text.value) => text.value.to_ascii_lowercase(),
            Err(_) => {
                let problem = format!("has {}", quoted(&text.value));
                top.sheet().fault(text.at, &text.key, problem, ALLOWED);
                continue;
            }
        };
        let domain = domain.into_boxed_str();
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

fn trusted(top: &mut Section<'_, '_>) -> Vec<Network> {
    let texts = top.texts("trusted", MOST_NETWORKS, "[]", network::ALLOWED).unwrap_or_default();
    let mut networks = Vec::new();
    for text in &texts {
        match network::parse(&text.value) {
            Ok(network) => networks.push(network),
            Err(problem) => top.sheet().fault(text.at, &text.key, problem, network::ALLOWED),
        }
    }
    networks
}

fn server_header(top: &mut Section<'_, '_>) -> Box<str> {
    const ALLOWED: &str = "printable ASCII, at most 64 characters; \"\" for no Server header";
    let fits =
        |text: &str| text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let text = top.text_if("server_header", "\"Viaduct\"", ALLOWED, fits);
    text.map_or_else(|| "Viaduct".into(), |text| text.value.trim().into())
}

/// A path; relative ones count from the configuration file's folder.
fn path(section: &mut Section<'_, '_>, key: &'static str, default: &str, folder: &Path) -> PathBuf {
    let shown = format!("\"{default}\"");
    let text = section.text(key, &shown, "a path");
    text.map_or_else(|| PathBuf::from(default), |text| folder.join(text.value))
}

/// A path whose default lies in the state folder.
pub(super) fn state_path(
    section: &mut Section<'_, '_>,
    key: &'static str,
    name: &str,
    folder: &Path,
    state_dir: &Path,
) -> PathBuf {
    let shown = format!("\"{DEFAULT_STATE_DIR}/{name}\"");
    let text = section.text(key, &shown, "a path");
    text.map_or_else(|| state_dir.join(name), |text| folder.join(text.value))
}

fn policy(top: &mut Section<'_, '_>, folder: &Path, state_dir: &Path) -> PolicyConfig {
    let mut section = top.section("policy");
    let config = PolicyConfig {
        file: path(&mut section, "file", "/usr/share/viaduct/registrar.wasm", folder),
        deployed_dir: state_path(&mut section, "deployed_dir", "policy", folder, state_dir),
        guard: GuardLimits {
            failures: section.number("rollback_failures_per_s", 0..=1_000_000, 20),
            percent: section.number("rollback_percent", 1..=100, 20),
        },
    };
    section.close();
    config
}

/// Longest expiry, seconds: a year.
pub(super) const YEAR_S: u64 = 31_536_000;

fn keepalive(top: &mut Section<'_, '_>, listeners: &[Listener]) -> KeepaliveConfig {
    const ALLOWED: &str = "a SIP URI such as \"sip:ping@example.com\"";
    let mut section = top.section("keepalive");
    let s = &mut section;
    let fits = |text: &str| Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip());
    let config = KeepaliveConfig {
        interval_s: s.number("interval_s", 0..=3600, 0),
        options: s.choice("method", &[("bytes", false), ("options", true)], ("bytes", false)),
        nated_only: s.flag("nated_only", true),
        max_lost: u8::try_from(s.number("max_lost", 0..=100, 3)).unwrap_or(3),
        from: match s.text_if("from", "", ALLOWED, fits) {
            Some(text) => text.value.into(),
            None => {
                let host = listeners.first().map_or("localhost", |listener| &*listener.host);
                format!("sip:keepalive@{host}").into()
            }
        },
    };
    section.close();
    config
}

fn registrar(top: &mut Section<'_, '_>) -> Registrar {
    const MODES: [(&str, PathMode); 4] = [
        ("ignore", PathMode::Ignore),
        ("off", PathMode::Off),
        ("lazy", PathMode::Lazy),
        ("strict", PathMode::Strict),
    ];
    let mut section = top.section("registrar");
    let s = &mut section;
    let registrar = Registrar {
        default_expires_s: word(s.number("default_expires_s", 1..=YEAR_S, 3600)),
        min_expires_s: word(s.number("min_expires_s", 0..=YEAR_S, 60)),
        reject_short_expires: s.flag("reject_short_expires", false),
        max_expires_s: word(s.number("max_expires_s", 0..=YEAR_S, 0)),
        max_contacts: half(s.number("max_contacts", 0..=64, 0)),
        max_contact_bytes: half(s.number("max_contact_bytes", 64..=4096, 512)),
        max_aor_bytes: half(s.number("max_aor_bytes", 32..=1024, 256)),
        // R-P15: at least 16 values and 2,048 bytes are taken, so less cannot be configured.
        max_path_values: u8::try_from(s.number("max_path_values", 16..=64, 16)).unwrap_or(16),
        max_path_bytes: half(s.number("max_path_bytes", 2048..=16_384, 2048)),
        path_mode: s.choice("path_mode", &MODES, ("lazy", PathMode::Lazy)),
        fold_user: s.flag("fold_user", false),
        retry_after_s: word(s.number("retry_after_s", 0..=86_400, 0)),
        cseq_delay_ms: word(s.number("cseq_delay_ms", 0..=600_000, 20_000)),
        allow_dup_cseq: s.flag("allow_dup_cseq", true),
        ..registrar::read(s)
    };
    let (least, most) = (registrar.min_expires_s, registrar.max_expires_s);
    if most > 0 && most < least.max(1) {
        let problem = format!("is {most}, less than min_expires_s = {least}");
        let name = section.name("max_expires_s");
        section.sheet().fault(section.place("max_expires_s"), &name, problem, "0 for no bound");
    }
    section.close();
    registrar
}

fn path_section(top: &mut Section<'_, '_>, folder: &Path, state_dir: &Path) -> PathBuf {
    let mut section = top.section("path");
    let file = state_path(&mut section, "key_file", "path.keys", folder, state_dir);
    section.close();
    file
}

fn timers(top: &mut Section<'_, '_>) -> TimerValues {
    let mut section = top.section("timers");
    let mut value = |key, range, default: u64| {
        let ms: u64 = section.number(key, range, default);
        ms.saturating_mul(1000)
    };
    let timers = TimerValues {
        t1_us: value("t1_ms", 10..=10_000, 500),
        t2_us: value("t2_ms", 10..=60_000, 4000),
        t4_us: value("t4_ms", 10..=60_000, 5000),
        // RFC 3261 16.6 step 11: Timer C is larger than 3 minutes.
        c_us: value("c_ms", 180_001..=3_600_000, 181_000),
    };
    if timers.t2_us < timers.t1_us {
        let problem = "is less than t1_ms".to_owned();
        section.sheet().fault(section.place("t2_ms"), "timers.t2_ms", problem, "t1_ms or more");
    }
    section.close();
    timers
}

fn limits(top: &mut Section<'_, '_>) -> Limits {
    let mut section = top.section("limits");
    let s = &mut section;
    let limits = Limits {
        transactions: size(s.number("transactions", 100..=50_000_000, 500_000)),
        branches: size(s.number("branches", 1..=64, 16)),
        message_bytes: word(s.number("message_bytes", 1500..=65_535, 65_535)),
        udp_request_bytes: size(s.number("udp_request_bytes", 0..=65_535, 0)),
        headers: half(s.number("headers", 32..=1024, 256)),
        tcp_connections: size(s.number("tcp_connections", 1..=1_000_000, 16_384)),
        tcp_connections_per_source: size(s.number(
            "tcp_connections_per_source",
            1..=1_000_000,
            256,
        )),
        tcp_idle_s: s.number("tcp_idle_s", 10..=86_400, 900),
        tcp_write_queue_bytes: size(s.number(
            "tcp_write_queue_bytes",
            65_536..=16_777_216,
            262_144,
        )),
        udp_receive_buffer_bytes: size(s.number(
            "udp_receive_buffer_bytes",
            0..=268_435_456,
            4_194_304,
        )),
        backlog_ms: s.number("backlog_ms", 0..=10_000, 250),
        shed_answers_per_s: word(s.number("shed_answers_per_s", 0..=1_000_000, 5000)),
        reserved_memory_mb: size(s.number("reserved_memory_mb", 0..=1_048_576, 0)),
    };
    section.close();
    limits
}

fn admin(top: &mut Section<'_, '_>, folder: &Path) -> Option<AdminConfig> {
    const ALLOWED: &str =
        "\"unix:PATH\", a loopback address such as \"127.0.0.1:8060\", or \"off\"";
    let mut section = top.section("admin");
    let listen = section.text("listen", &format!("\"unix:{DEFAULT_ADMIN_SOCKET}\""), ALLOWED);
    let token = section.text("token_file", "", "a path").map(|text| folder.join(text.value));
    let unix = |path| Some(AdminAddr::Unix(path));
    let addr = match &listen {
        None => unix(PathBuf::from(DEFAULT_ADMIN_SOCKET)),
        Some(text) if text.value == "off" => None,
        Some(text) => match text.value.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => unix(folder.join(path)),
            Some(_) => fault(&section, text, ALLOWED),
            None => match text.value.parse::<SocketAddr>() {
                Ok(addr) if addr.ip().is_loopback() && addr.port() > 0 => {
                    if token.is_none() {
                        let problem = "is missing: over TCP everybody here could be admin".into();
                        let name = section.name("token_file");
                        section.sheet().fault(text.at, &name, problem, "the path of a token file");
                    }
                    Some(AdminAddr::Tcp(addr))
                }
                _ => fault(&section, text, ALLOWED),
            },
        },
    };
    section.close();
    addr.map(|listen| AdminConfig { listen, token_file: token })
}

fn fault<T>(section: &Section<'_, '_>, text: &Text, allowed: &str) -> Option<T> {
    section.sheet().fault(text.at, &text.key, format!("is {}", quoted(&text.value)), allowed);
    None
}

fn metrics(top: &mut Section<'_, '_>) -> Option<SocketAddr> {
    const ALLOWED: &str = "an IP address with a port such as \"127.0.0.1:9290\", or \"off\"";
    let mut section = top.section("metrics");
    let open = section.flag("open", false);
    let text = section.text("listen", "\"off\"", ALLOWED);
    let text = text.filter(|text| text.value != "off");
    let addr = text.and_then(|text| match text.value.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => fault(&section, &text, ALLOWED),
        Ok(addr) if !addr.ip().is_loopback() && !open => {
            let problem = format!("is {addr}: whoever reaches it may read the metrics");
            let allowed = "a loopback address, or any with `open = true` in [metrics]";
            section.sheet().fault(text.at, &text.key, problem, allowed);
            None
        }
        Ok(addr) => Some(addr),
        Err(_) => fault(&section, &text, ALLOWED),
    });
    section.close();
    addr
}

fn log(top: &mut Section<'_, '_>) -> LogConfig {
    use tracing::Level;
    const LEVELS: [(&str, Level); 5] = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let mut section = top.section("log");
    let config = LogConfig {
        level: section.choice("level", &LEVELS, ("info", Level::INFO)),
        json: section.choice("format", &[("text", false), ("json", true)], ("text", false)),
        lines_per_s: word(section.number("lines_per_s", 1..=100_000, 1000)),
        show: section.flag("show", false),
    };
    section.close();
    config
}

// The ranges above keep these from ever saturating.
fn word(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn half(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

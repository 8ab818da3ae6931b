//! The text Prometheus reads (OpenMetrics 1.0): every metric's name, labels and help.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use viaduct_engine::media::{Carrier, EndReason};
use viaduct_media::kernel::RuleReport;
use viaduct_policy::LoadError;

use super::histogram::{BOUNDS_US, Reading};
use super::worker::{Codes, Counter, Gauge, WorkerStats};
use super::{Kept, Metrics, names, process};

/// Plain counters: name without `_total`, help.
const PLAIN: [(Counter, &str, &str); 33] = [
    (Counter::UdpReceived, "udp_received", "Datagrams received"),
    (Counter::UdpSent, "udp_sent", "Datagrams sent"),
    (Counter::UdpDropped, "udp_dropped", "Datagrams that could not be sent"),
    (Counter::UdpSieved, "udp_sieved", "New requests the kernel dropped unread for want of time"),
    (Counter::XdpReceived, "xdp_received", "Datagrams of these received by AF_XDP"),
    (Counter::XdpSent, "xdp_sent", "Datagrams of these sent by AF_XDP"),
    (Counter::TcpOpened, "tcp_opened", "TCP connections accepted or opened"),
    (Counter::TcpRefused, "tcp_refused", "TCP connections refused because of a limit"),
    (Counter::TcpSlow, "tcp_slow", "TCP connections closed as too much waited to be written"),
    (Counter::TurnsCut, "turns_cut", "Turns of workers that left something unread"),
    (Counter::HandedOver, "handed_over", "Messages handed to the worker that owns them"),
    (Counter::HandOverDropped, "handover_dropped", "Messages dropped at a full worker queue"),
    (Counter::Resolved, "resolved", "Names resolved"),
    (Counter::ResolveFailed, "resolve_failed", "Names that could not be resolved"),
    (Counter::EventsDropped, "events_dropped", "Events not logged because there were too many"),
    (Counter::Forwarded, "forwarded", "Requests sent on, retransmissions not counted"),
    (Counter::Retransmitted, "retransmitted", "Messages sent again by a timer"),
    (Counter::Absorbed, "absorbed", "Requests recognised as retransmissions"),
    (Counter::StrayResponses, "stray_responses", "Responses that matched no transaction"),
    (Counter::Shed, "shed", "Requests answered 503 because there was no room or time for them"),
    (Counter::Ignored, "ignored", "Requests dropped because even 503s would have been too many"),
    (Counter::PolicyRuns, "policy_runs", "Policy runs"),
    (Counter::AuthAccepted, "auth_accepted", "Requests with credentials that were right"),
    (Counter::AuthRefused, "auth_refused", "Requests with credentials that were wrong"),
    (Counter::Asked, "asked", "Questions put because something was not in memory"),
    (Counter::AskFailed, "ask_failed", "Requests answered by a fallback without an answer"),
    (Counter::TableFull, "table_full", "Changes of shared tables that found no room"),
    (Counter::Registrations, "registrations", "REGISTERs whose bindings were saved"),
    (Counter::RegistrationsRefused, "registrations_refused", "REGISTERs refused"),
    (Counter::Timeouts, "timeouts", "Branches that ended by Timer B, F or C"),
    (Counter::MediaFailed, "media_failed", "Orders about media that were not carried out"),
    (Counter::FlowsFailed, "flows_failed", "Bindings removed because their flow has failed"),
    (Counter::Undelivered, "undelivered", "Requests that came back as undeliverable (ICMP)"),
];

const COMMITS: [&str; 4] = ["stored", "conflict", "store-failed", "full"];

impl Metrics {
    /// Everything, as text.
    pub fn render(self: &Arc<Metrics>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(self.clone())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// One scrape.
struct Scrape(Arc<Metrics>);

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let out = &mut out;
        self.messages(out)?;
        self.policies(out)?;
        self.location(out)?;
        self.verdicts(out)?;
        self.media(out)?;
        self.media_nodes(out)?;
        for (counter, name, help) in PLAIN {
            self.counter(out, name, help, self.0.total(counter))?;
        }
        let transactions = self.0.gauge(Gauge::Transactions);
        gauge(out, "viaduct_transactions", "Server transactions now", transactions)?;
        let connections = self.0.gauge(Gauge::Connections);
        gauge(out, "viaduct_tcp_connections", "TCP connections now", connections)?;
        self.held(out)?;
        self.process(out)
    }
}

/// What workers hold: name without `viaduct_`, help.
const HELD: [(Gauge, &str, &str); 5] = [
    (Gauge::Strays, "strays_waiting", "Requests without state that wait for a name now"),
    (Gauge::Pings, "pings_waiting", "Pings that wait for a name now"),
    (Gauge::TakenBack, "taken_back", "REGISTERs remembered as they took bindings back"),
    (Gauge::Sources, "sources", "Sources that have transactions now"),
    (Gauge::Ways, "xdp_ways", "Peers whose way is known, for AF_XDP"),
];

impl Scrape {
    fn held(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (which, name, help) in HELD {
            gauge(out, &format!("viaduct_{name}"), help, self.0.gauge(which))?;
        }
        let outputs = self.0.greatest(Gauge::Outputs);
        gauge(out, "viaduct_outputs_most", "Most outputs of one input so far", outputs)?;
        for Kept { name, help, is_counter, value } in self.0.kept() {
            if is_counter {
                let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
                metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                gauge(out, name, help, value)?;
            }
        }
        Ok(())
    }

    fn messages(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.rows(out, "requests_received", "Requests received", "method", &names::METHODS, |w| {
            &w.requests_received
        })?;
        self.rows(out, "requests_sent", "Requests sent", "method", &names::METHODS, |w| {
            &w.requests_sent
        })?;
        self.codes(out, "viaduct_responses_received", "Responses received", |w| {
            &w.responses_received
        })?;
        self.codes(out, "viaduct_responses_sent", "Responses sent", |w| &w.responses_sent)?;
        let help = "Messages refused or dropped as malformed";
        self.rows(out, "malformed", help, "fault", &names::FAULTS, |w| &w.malformed)
    }

    fn shadows(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let name = "viaduct_policy_shadow";
        let help = "Decisions of the shadow, compared with the live version's";
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for shadow in self.0.policies().into_iter().filter_map(|version| version.shadow) {
            for (outcome, count) in [
                ("same", shadow.same),
                ("different", shadow.different),
                ("failed", shadow.failed),
                ("undecided", shadow.undecided),
            ] {
                let labels = [("outcome", outcome)];
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn policies(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("viaduct_policy_version_runs", "Policy runs by version");
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for version in self.0.policies() {
            let labels = [
                ("name", version.name.as_str()),
                ("version", version.version.as_str()),
                ("hash", version.hash.as_str()),
            ];
            let runs = version.runs;
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&runs, None)?;
        }
        let name = "viaduct_policy_guarded";
        let help = "Policy versions that kept failing";
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (outcome, count) in ["rolled-back", "stays"].into_iter().zip(&self.0.guarded) {
            let (labels, count) = ([("outcome", outcome)], count.load(Ordering::Relaxed));
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let name = "viaduct_policy_refused";
        let help = "Components that were to be deployed and were refused";
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (kind, count) in LoadError::KINDS.into_iter().zip(&self.0.refused) {
            let (labels, count) = ([("kind", kind)], count.load(Ordering::Relaxed));
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        self.shadows(out)?;
        let help = "Policy runs that ended by the fallback";
        self.rows(out, "policy_failures", help, "kind", &names::FAILURES, |w| &w.policy_failures)?;
        let mut counters: BTreeMap<String, u64> = BTreeMap::new();
        for worker in &self.0.workers {
            let own = worker.policy_counters.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, count) in own.iter() {
                let total = counters.entry(name.clone()).or_default();
                *total = total.wrapping_add(*count);
            }
        }
        let name = "viaduct_policy_counter";
        let help = "What policies count";
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (name, count) in &counters {
            let labels = [("name", name.as_str())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn verdicts(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("viaduct_xdp_packets", "Packets in front of the stack, by verdict");
        words(out, name, help, "verdict", self.0.verdicts())?;
        let (name, help) = ("viaduct_http_requests", "HTTP requests of policies, by outcome");
        words(out, name, help, "outcome", self.0.http())
    }

    fn media(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(media) = self.0.media() else { return Ok(()) };
        gauge(out, "viaduct_media_calls", "Calls whose media are relayed now", media.calls)?;
        gauge(out, "viaduct_media_ports_free", "Media ports that are free", media.ports_free)?;
        for (name, help, count) in [
            ("begun", "Calls whose media were relayed", media.calls_begun),
            ("busy", "Calls refused as there were too many", media.refused_busy),
            ("offers", "Offers passed on", media.offers),
            ("answers", "Answers passed on", media.answers),
            ("packets", "Packets relayed in calls that have ended", media.packets),
            ("octets", "Octets of UDP payload in them", media.octets),
            ("dropped", "Packets dropped in calls that have ended", media.dropped),
            ("kept", "Times it was written for the next process how calls stand", media.kept),
            ("orders_waited", "Orders to the kernel module that waited", media.orders_waited),
            ("learned", "Peers found at another address than signalled", media.learned),
            ("foreign", "Seconds in which strangers sent to settled peers", media.foreign),
        ] {
            self.counter(out, &format!("media_{name}"), help, count)?;
        }
        let help = "Media sessions by who carries them; RTP and RTCP of a stream are two";
        let mut metric =
            out.encode_descriptor("viaduct_media_sessions", help, None, MetricType::Gauge)?;
        for (carrier, count) in [
            (Carrier::Xdp, media.sessions_xdp),
            (Carrier::Kernel, media.sessions_kernel),
            (Carrier::UserSpace, media.sessions_userspace),
        ] {
            let labels = [("carrier", carrier.word())];
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            metric.encode_family(&labels)?.encode_gauge(&count)?;
        }
        let (name, help) = ("viaduct_media_ended", "Calls whose media have ended, by reason");
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in EndReason::ALL.into_iter().zip(media.ended) {
            let labels = [("reason", reason.word())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        steering(out, &media.rules)
    }

    fn media_nodes(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(numbers) = self.0.media_nodes() else { return Ok(()) };
        let help = "Commands to media nodes that await their answer";
        gauge(out, "viaduct_media_commands_waiting", help, numbers.under_way as u64)?;
        let counts = numbers.commands;
        for (name, help, count) in [
            ("commands", "Commands to media nodes", counts.commands),
            ("commands_resent", "Commands that were sent again", counts.resent),
            ("commands_timed_out", "Commands a node did not answer in time", counts.timeouts),
            ("commands_moved", "Commands that went to another node", counts.moved),
            ("answers_late", "Answers of nodes that came too late", counts.late),
            ("answers_stray", "Datagrams that were no answer", counts.stray),
            ("answers_malformed", "Answers that could not be read", counts.malformed),
        ] {
            self.counter(out, &format!("media_{name}"), help, count)?;
        }
        let (name, help) = ("viaduct_media_node_up", "Whether a media node answers");
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for node in &numbers.nodes {
            let labels = [("node", node.config.address.to_string())];
            metric.encode_family(&labels)?.encode_gauge(&i64::from(node.up))?;
        }
        let (name, help) = ("viaduct_media_node_answers", "Answers of a media node");
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for node in &numbers.nodes {
            let labels = [("node", node.config.address.to_string())];
            let count = node.answers;
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn location(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let size = self.0.location();
        gauge(out, "viaduct_aors", "AoRs with bindings", size.aors)?;
        gauge(out, "viaduct_bindings", "Bindings", size.bindings)?;
        gauge(out, "viaduct_bindings_bytes", "Memory of the bindings", size.memory_bytes)?;
        gauge(out, "viaduct_store_queue", "Changes waiting for the store", size.queued)?;
        let help = "Removals remembered for changes of other routers";
        gauge(out, "viaduct_removals", help, size.removals)?;
        gauge(out, "viaduct_nodes", "Routers that share the store and live", size.nodes)?;
        let help = "Starts of routers whose names are kept";
        gauge(out, "viaduct_node_starts", help, size.starts)?;
        let help = "1: the store takes no changes now, or is not loaded yet";
        gauge(out, "viaduct_store_down", help, size.store_down.into())?;
        self.counter(out, "store_groups", "Transactions of the store", size.groups)?;
        self.counter(out, "store_writes", "Changes stored", size.writes)?;
        self.counter(out, "store_failures", "Transactions the store refused", size.failures)?;
        let help = "Commits of bindings by result";
        self.rows(out, "commits", help, "result", &COMMITS, |w| &w.commits)?;
        let help = "Commits that memory alone decided, by result";
        self.rows(out, "commits_in_memory", help, "result", &COMMITS, |w| &w.commits_in_memory)?;
        let mut reading = Reading::default();
        for worker in &self.0.workers {
            worker.commit_us.add_to(&mut reading);
        }
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(reading.buckets).collect();
        let count = reading.buckets.iter().fold(0u64, |sum, bucket| sum.wrapping_add(*bucket));
        let name = "viaduct_commit_seconds";
        let help = "From a REGISTER's commit to its end";
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(reading.sum_us as f64 / 1e6, count, &buckets, None)
    }

    fn process(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let memory = process::resident_bytes();
        gauge(out, "process_resident_memory_bytes", "Resident memory", memory)?;
        gauge(out, "process_open_fds", "Open file descriptors", process::open_files())?;
        let start = self.0.started_unix_s;
        gauge(out, "process_start_time_seconds", "Start, seconds since 1970", start)?;
        let help = "CPU time of all threads";
        let mut metric =
            out.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&process::cpu_s(), None)?;
        let mut metric =
            out.encode_descriptor("viaduct_build", "The program", None, MetricType::Info)?;
        metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    fn counter(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: u64,
    ) -> fmt::Result {
        let name = format!("viaduct_{name}");
        let mut metric = out.encode_descriptor(&name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// One counter a status code that was seen, all workers together.
    fn codes(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        codes: impl Fn(&WorkerStats) -> &Codes,
    ) -> fmt::Result {
        let mut totals: BTreeMap<u16, u64> = BTreeMap::new();
        for worker in &self.0.workers {
            for (code, count) in codes(worker).counted() {
                let total = totals.entry(code).or_default();
                *total = total.wrapping_add(count);
            }
        }
        let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (code, total) in &totals {
            let labels = [("code", *code)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(total, None)?;
        }
        Ok(())
    }

    /// One counter a word, all workers together.
    fn rows<const N: usize>(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &str,
        words: &[&str; N],
        row: impl Fn(&WorkerStats) -> &[AtomicU64; N],
    ) -> fmt::Result {
        let name = format!("viaduct_{name}");
        let mut totals = [0u64; N];
        for worker in &self.0.workers {
            for (total, cell) in totals.iter_mut().zip(row(worker)) {
                *total = total.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        let mut metric = out.encode_descriptor(&name, help, None, MetricType::Counter)?;
        for (word, total) in words.iter().zip(totals) {
            let labels = [(label, *word)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&total, None)?;
        }
        Ok(())
    }
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

/// What the kernel module's steering rules have done; the last is that of RTP, if it has one.
fn steering(out: &mut DescriptorEncoder<'_>, rules: &[RuleReport]) -> fmt::Result {
    let name = "viaduct_media_steering_packets";
    let help = "Packets steering rules of the kernel module fitted, and what became of them";
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for rule in rules {
        let place = rule.id.to_string();
        for (outcome, count) in [
            ("matched", rule.matched),
            ("moved", rule.moved),
            ("full", rule.full),
            ("offline", rule.offline),
            ("before_stack", rule.before_stack),
        ] {
            let labels = [("rule", place.as_str()), ("outcome", outcome)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

/// One counter a word.
fn words(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: Vec<(&'static str, u64)>,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (word, count) in counts {
        let labels = [(label, word)];
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    Ok(())
}

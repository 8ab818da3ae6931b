//! Loads the tests of a policy and runs each in an instance of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use viaduct_engine::dispatcher::DestinationConfig;
use viaduct_engine::http::{HttpFault, HttpMethod, HttpResponse};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Error, Result as Trappable, Store, StoreLimits, StoreLimitsBuilder};

use super::{ChallengeAnswer, RecordedRun, RouterUnderTest, SentMessage};
use crate::bindings::policy_tests::viaduct::policy::router::{
    Host, HttpAnswer, HttpRequest, Run, Sent,
};
use crate::bindings::policy_tests::{PolicyTests, PolicyTestsPre};
use crate::origin;
use crate::package;
use crate::sandbox::{MAX_MEMORY_BYTES, Sandbox, TICK_MS};

/// Limits of one test: enough for anything that ends.
const FUEL: u64 = 1_000_000_000;
const WALL_MS: u64 = 30_000;
const MAX_TESTS: usize = 10_000;

/// Tests that cannot be loaded or listed.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No component, too large.
    #[error(transparent)]
    Package(#[from] package::PackageError),
    /// Does not compile, or is not made for world `policy-tests`.
    #[error("not the tests of a policy (world `policy-tests`): {0}")]
    WrongWorld(String),
    /// Listing the tests failed.
    #[error("the tests cannot be listed: {0}")]
    Names(String),
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Ok,
    /// It trapped, ran out of its limits, or used the router wrongly.
    Failed {
        /// What the test said, else the trap.
        message: String,
    },
}

/// One test that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// `module::function`
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// All runs of the policy in it, to be shown where it failed.
    pub runs: Vec<RecordedRun>,
}

/// The tests of one policy.
pub struct TestRunner {
    sandbox: Arc<Sandbox>,
    pre: PolicyTestsPre<Bench>,
    names: Vec<String>,
}

/// Which tests a filter selects: all without one; `exact` asks for whole names, else parts do.
pub fn selected<'a>(names: &'a [String], filters: &[String], exact: bool) -> Vec<&'a str> {
    let fits = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| if exact { name == f } else { name.contains(f.as_str()) })
    };
    names.iter().map(String::as_str).filter(|name| fits(name)).collect()
}

impl TestRunner {
    /// Loads a component made by [`package::build_tests`] and asks it for its tests.
    pub fn load(sandbox: &Arc<Sandbox>, component: &[u8]) -> Result<TestRunner, TestError> {
        let wrong = |error: Error| TestError::WrongWorld(format!("{error:#}"));
        let component = Component::from_binary(sandbox.engine(), component).map_err(wrong)?;
        let mut linker: Linker<Bench> = Linker::new(sandbox.engine());
        PolicyTests::add_to_linker::<_, HasSelf<Bench>>(&mut linker, |bench| bench)
            .map_err(wrong)?;
        let pre = linker.instantiate_pre(&component).map_err(wrong)?;
        let pre = PolicyTestsPre::new(pre).map_err(wrong)?;
        let mut runner = TestRunner { sandbox: Arc::clone(sandbox), pre, names: Vec::new() };
        let names = runner.list().map_err(|error| TestError::Names(format!("{error:#}")))?;
        runner.names = names.into_iter().take(MAX_TESTS).collect();
        Ok(runner)
    }

    /// Names of the tests, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Runs one test against a router made for it alone.
    pub fn run(&self, name: &str, router: Box<dyn RouterUnderTest>) -> TestResult {
        let mut store = self.store(Some(router));
        let ended = self.call(&mut store, name);
        let bench = store.data_mut();
        let said = std::mem::take(&mut bench.failure);
        let late = bench.router.as_mut().map(|router| router.runs()).unwrap_or_default();
        let mut runs = std::mem::take(&mut bench.runs);
        runs.extend(late);
        let outcome = match (ended, said) {
            (Ok(()), None) => Outcome::Ok,
            (_, Some(message)) => Outcome::Failed { message },
            (Err(error), None) => Outcome::Failed { message: format!("{error:#}") },
        };
        TestResult { name: name.to_owned(), outcome, runs }
    }

    fn list(&self) -> Trappable<Vec<String>> {
        let mut store = self.store(None);
        prepare(&mut store)?;
        let tests = self.pre.instantiate(&mut store)?;
        tests.viaduct_policy_tests().call_names(&mut store)
    }

    fn call(&self, store: &mut Store<Bench>, name: &str) -> Trappable<()> {
        prepare(store)?;
        let tests = self.pre.instantiate(&mut *store)?;
        tests.viaduct_policy_tests().call_run(&mut *store, name)
    }

    fn store(&self, router: Option<Box<dyn RouterUnderTest>>) -> Store<Bench> {
        let limits = StoreLimitsBuilder::new().memory_size(MAX_MEMORY_BYTES).build();
        let bench = Bench { router, failure: None, runs: Vec::new(), limits };
        let mut store = Store::new(self.sandbox.engine(), bench);
        store.limiter(|bench| &mut bench.limits);
        store
    }
}

fn prepare(store: &mut Store<Bench>) -> Trappable<()> {
    store.set_epoch_deadline(WALL_MS / TICK_MS);
    store.set_fuel(FUEL)
}

/// What the host keeps beside a test.
struct Bench {
    /// `None` while tests are listed.
    router: Option<Box<dyn RouterUnderTest>>,
    failure: Option<String>,
    runs: Vec<RecordedRun>,
    // wasmtime wants to share the store's data with nobody else while it asks.
    limits: StoreLimits,
}

impl Bench {
    fn router(&mut self) -> Trappable<&mut (dyn RouterUnderTest + 'static)> {
        let router = self.router.as_deref_mut();
        router.ok_or_else(|| Error::msg("there is no router while the tests are listed"))
    }
}

/// `name: value`
fn header(line: &str) -> Trappable<(Box<str>, Box<str>)> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| fault(format!("`{line}` is no header; write `name: value`")))?;
    Ok((name.trim().to_ascii_lowercase().into(), value.trim().into()))
}

fn fault(text: String) -> Error {
    Error::msg(text)
}

fn sent(messages: Vec<SentMessage>) -> Vec<Sent> {
    messages.into_iter().map(|message| Sent { to: message.to, text: message.text }).collect()
}

impl Host for Bench {
    fn set_binding(
        &mut self,
        aor: String,
        contact: String,
        path: String,
        expires_s: u32,
    ) -> Trappable<()> {
        self.router()?.set_binding(&aor, &contact, &path, expires_s).map_err(fault)
    }

    fn contacts(&mut self, aor: String) -> Trappable<Vec<String>> {
        self.router()?.contacts(&aor).map_err(fault)
    }

    fn set_password(
        &mut self,
        user: String,
        realm: String,
        password: Option<String>,
    ) -> Trappable<()> {
        self.router()?.set_password(&user, &realm, password.as_deref()).map_err(fault)
    }

    fn answer_after(&mut self, milliseconds: Option<u64>) -> Trappable<()> {
        self.router()?.answer_after(milliseconds).map_err(fault)
    }

    fn authorize(
        &mut self,
        request: String,
        challenge: String,
        user: String,
        password: String,
        algorithm: String,
        count: u32,
    ) -> Trappable<String> {
        let answer = ChallengeAnswer {
            challenge: &challenge,
            user: &user,
            password: &password,
            algorithm: &algorithm,
            count,
        };
        self.router()?.authorize(&request, &answer).map_err(fault)
    }

    fn add_trusted(&mut self, network: String) -> Trappable<()> {
        self.router()?.add_trusted(&network).map_err(fault)
    }

    fn add_domain(&mut self, domain: String) -> Trappable<()> {
        self.router()?.add_domain(&domain).map_err(fault)
    }

    fn set_setting(&mut self, name: String, value: Option<String>) -> Trappable<()> {
        self.router()?.set_setting(&name, value.as_deref()).map_err(fault)
    }

    fn set_destination(
        &mut self,
        set: String,
        uri: String,
        weight: u16,
        priority: u16,
        up: bool,
    ) -> Trappable<()> {
        if !viaduct_message::Uri::parse(uri.as_bytes()).is_ok_and(|uri| uri.is_sip()) {
            return Err(fault(format!("`{uri}` is no SIP URI")));
        }
        let (set, uri) = (set.into(), uri.into());
        let config = DestinationConfig { set, uri, weight, priority, attributes: "".into() };
        self.router()?.set_destination(config, up).map_err(fault)
    }

    fn destinations_up(&mut self, set: String) -> Trappable<Vec<String>> {
        Ok(self.router()?.destinations_up(&set))
    }

    fn set_http(
        &mut self,
        method: String,
        url: String,
        answer: Result<HttpAnswer, String>,
    ) -> Trappable<()> {
        let named = HttpMethod::from_name(&method);
        let method = named.ok_or_else(|| fault(format!("`{method}` is no method; write `GET`")))?;
        let (origin, path) =
            origin::split(&url).ok_or_else(|| fault(format!("`{url}` is no URL of HTTP")))?;
        let answer = match answer {
            Ok(HttpAnswer { status, headers, body }) => {
                let headers = headers.iter().map(|line| header(line)).collect::<Trappable<_>>()?;
                Ok(Arc::new(HttpResponse { status, headers, body: body.into() }))
            }
            Err(name) => {
                let known = HttpFault::from_name(&name);
                Err(known.ok_or_else(|| fault(format!("`{name}` is no fault; write `timeout`")))?)
            }
        };
        self.router()?.set_http(method, &format!("{origin}{path}"), answer).map_err(fault)
    }

    fn http_requests(&mut self) -> Trappable<Vec<HttpRequest>> {
        let line = |(name, value): &(Box<str>, Box<str>)| format!("{name}: {value}");
        let requests = self.router()?.http_requests();
        let lower = |request: &Arc<viaduct_engine::http::HttpRequest>| HttpRequest {
            method: request.method.name().to_owned(),
            url: request.url(),
            headers: request.headers.iter().map(line).collect(),
            body: request.body.to_vec(),
        };
        Ok(requests.iter().map(lower).collect())
    }

    fn receive(&mut self, source: String, message: String) -> Trappable<Vec<Sent>> {
        let router = self.router()?;
        let source: SocketAddr = source
            .parse()
            .map_err(|_| fault(format!("`{source}` is no source; write `192.0.2.1:5060`")))?;
        router.receive(source, message.as_bytes()).map(sent).map_err(fault)
    }

    fn advance(&mut self, milliseconds: u64) -> Trappable<Vec<Sent>> {
        self.router()?.advance(milliseconds).map(sent).map_err(fault)
    }

    fn runs(&mut self) -> Trappable<Vec<Run>> {
        let runs = self.router()?.runs();
        let to_guest = |run: &RecordedRun| Run {
            phase: run.phase.clone(),
            verdict: run.verdict.clone(),
            effects: run.effects.clone(),
            logs: run.logs.clone(),
        };
        let answer = runs.iter().map(to_guest).collect();
        self.runs.extend(runs);
        Ok(answer)
    }

    fn fail(&mut self, message: String) -> Trappable<()> {
        self.failure.get_or_insert(message);
        Ok(())
    }
}

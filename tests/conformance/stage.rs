//! What a case is given: a server it knows by address and domain, and agents of its own.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_text::{Request, unique};

use crate::agent::Agent;
use crate::server::Server;

/// How long agents register for, in seconds.
pub(crate) const LONG_S: u32 = 600;

/// The place of one case over one transport.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage<'a> {
    server: &'a Server,
    over: Transport,
    ip: IpAddr,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(server: &'a Server, over: Transport, ip: IpAddr) -> Self {
        Self { server, over, ip }
    }

    /// The server's domain.
    pub(crate) fn domain(&self) -> &'a str {
        self.server.domain()
    }

    /// Where the server listens, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The transport of this run.
    pub(crate) fn over(&self) -> Transport {
        self.over
    }

    /// Address of the agents of this run.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// A URI of the server itself.
    pub(crate) fn server_uri(&self) -> String {
        format!("sip:{}", self.domain())
    }

    /// An agent with a user of its own that has not registered.
    pub(crate) fn agent(&self) -> Result<Agent> {
        self.agent_over(self.over)
    }

    /// The same over a transport of the case's choice.
    pub(crate) fn agent_over(&self, over: Transport) -> Result<Agent> {
        self.agent_at(over, self.ip)
    }

    /// The same at another address.
    pub(crate) fn agent_at(&self, over: Transport, ip: IpAddr) -> Result<Agent> {
        let local = SocketAddr::new(ip, 0);
        Agent::new(over, local, self.address(), &unique("u"), self.domain())
    }

    /// An agent that has registered its contact.
    pub(crate) fn phone(&self) -> Result<Agent> {
        self.phone_over(self.over)
    }

    /// The same over a transport of the case's choice.
    pub(crate) fn phone_over(&self, over: Transport) -> Result<Agent> {
        let mut phone = self.agent_over(over)?;
        let user = phone.user().to_owned();
        self.bind(&mut phone, &user)?;
        Ok(phone)
    }

    /// Two phones of one user.
    pub(crate) fn two_phones(&self) -> Result<(Agent, Agent)> {
        let (first, mut second) = (self.phone()?, self.agent()?);
        second.take_user(first.user());
        self.bind(&mut second, first.user())?;
        Ok((first, second))
    }

    /// Registers the contact of an agent for a user.
    pub(crate) fn bind(&self, agent: &mut Agent, user: &str) -> Result<()> {
        let contact = agent.contact();
        let answer = agent.ask(&Request::register(user, self.domain(), &contact, LONG_S))?;
        ensure!(answer.status() == Some(200), "REGISTER was answered\n{}", answer.text);
        Ok(())
    }

    /// The contacts of a user, as the server lists them.
    pub(crate) fn contacts(&self, user: &str) -> Result<Vec<String>> {
        let answer = self.agent()?.ask(&Request::fetch(user, self.domain()))?;
        ensure!(answer.status() == Some(200), "a fetch was answered\n{}", answer.text);
        Ok(answer.list("Contact"))
    }
}

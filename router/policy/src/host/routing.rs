//! Where a request goes.

use super::edited;
use crate::bindings::policy::viaduct::policy::routing::{Host, Sides};
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::guest::Guest;

impl Host for Guest {
    fn record_route(&mut self) -> wasmtime::Result<()> {
        self.call("routing.record-route", &[])?.record_route();
        Ok(())
    }

    fn record_route_flows(&mut self, sides: Sides) -> wasmtime::Result<bool> {
        let (caller, callee) = (sides.contains(Sides::CALLER), sides.contains(Sides::CALLEE));
        Ok(self.call("routing.record-route-flows", &[])?.record_route_flows(caller, callee))
    }

    fn add_target(&mut self, uri: String, q_milli: u16) -> wasmtime::Result<Result<(), EditError>> {
        let added = self.call("routing.add-target", &[&uri])?.add_target(&uri, q_milli);
        Ok(edited(self, "routing.add-target", added))
    }

    fn set_destination(&mut self, uri: String) -> wasmtime::Result<Result<(), EditError>> {
        let set = self.call("routing.set-destination", &[&uri])?.set_destination(&uri);
        Ok(edited(self, "routing.set-destination", set))
    }

    fn add_reply_headers(&mut self, lines: String) -> wasmtime::Result<Result<(), EditError>> {
        let (run, cache) = self.call_with_cache("routing.add-reply-headers", &[&lines])?;
        let checked = cache.reply_lines(&lines);
        let added = checked.and_then(|lines| run.add_reply_headers(lines));
        Ok(edited(self, "routing.add-reply-headers", added))
    }

    fn add_reply_header(
        &mut self,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), EditError>> {
        let run = self.call("routing.add-reply-header", &[&name, &value])?;
        let added = run.add_reply_header(&name, &value);
        Ok(edited(self, "routing.add-reply-header", added))
    }
}

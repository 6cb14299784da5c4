//! Service groups: services that are configured together.

use crate::model::{Binding, Service};
use crate::options::Options;
use crate::value::Value;

/// Services that are configured together (`add serviceGroup`): one set of settings, many servers.
///
/// Each member is a [`Service`] of its own with a name that no operator can give, so whatever is
/// done for services is done for members: probing, choosing, mirroring, counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceGroup {
    /// What its members are made from: a service without a server that has the group's name, type,
    /// settings, state and monitors.
    pub pattern: Service,
    /// Its members by the names of their services, in the order of binding, with their share.
    pub members: Vec<Binding>,
}

impl ServiceGroup {
    /// A group without members.
    pub(crate) fn new(pattern: Service) -> ServiceGroup {
        ServiceGroup { pattern, members: Vec::new() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.pattern.name
    }

    /// Name of the service that is its member at a port of a server. Operators' names have no `?`.
    pub(crate) fn member_name(&self, server: &str, port: Option<u16>) -> String {
        format!("{}?{server}?{}", self.name(), crate::lines::port(port))
    }

    /// A member as the group's settings make it, with what belongs to `member` alone.
    pub(crate) fn fitted(&self, member: &Service) -> Service {
        Service {
            id: member.id,
            name: self.member_name(&member.server, member.port),
            group: Some(self.name().to_owned()),
            server: member.server.clone(),
            port: member.port,
            hash_id: member.hash_id,
            enabled: member.enabled,
            leaving: member.leaving,
            comment: String::new(),
            ..self.pattern.clone()
        }
    }
}

impl Options for ServiceGroup {
    fn get(&self, option: &str) -> Option<Value> {
        self.pattern.get(option)
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        self.pattern.put(option, value);
    }
}

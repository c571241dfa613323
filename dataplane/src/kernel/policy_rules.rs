//! Policy routing (`ip rule`), which the data plane does not follow, and says so.
//!
//! Every kernel has three rules: table `local` at priority 0, `main` at 32766 and `default` at 32767. With others,
//! packets the kernel routes (its own, and those that are punted) may take other ways than those that are forwarded.

use std::collections::BTreeSet;

use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// The priorities of the rules every kernel has.
const USUAL: [u32; 3] = [0, 32766, 32767];

/// The rules that were complained about: each is worth one line in the log.
#[derive(Debug, Default)]
pub(super) struct PolicyRules {
    known: BTreeSet<(&'static str, u32)>,
}

impl PolicyRules {
    /// Takes a rule of a dump or an event. What to tell the administrator, if there is anything new to tell.
    pub(super) fn note(&mut self, event: &RouteNetlinkMessage) -> Option<String> {
        match event {
            RouteNetlinkMessage::NewRule(rule) => {
                let key = key(rule).filter(|(_, priority)| !USUAL.contains(priority))?;
                let (command, priority) = key;
                self.known.insert(key).then(|| {
                    format!(
                        "`{command} rule` has a rule of priority {priority}: forwarded packets do not follow it, they are \
                         routed by the tables local and main alone; put what they need into table main"
                    )
                })
            }
            RouteNetlinkMessage::DelRule(rule) => {
                self.known.remove(&key(rule)?);
                None
            }
            _ => None,
        }
    }
}

fn key(rule: &RuleMessage) -> Option<(&'static str, u32)> {
    let command = match rule.header.family {
        AddressFamily::Inet => "ip",
        AddressFamily::Inet6 => "ip -6",
        _ => return None,
    };
    let priority = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    // The kernel leaves a priority of 0 out.
    Some((command, priority.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(family: AddressFamily, priority: Option<u32>) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        rule.attributes
            .extend(priority.map(RuleAttribute::Priority));
        rule
    }

    #[test]
    fn the_usual_rules_are_nothing_to_talk_about() {
        let mut rules = PolicyRules::default();
        for priority in [None, Some(32766), Some(32767)] {
            for family in [
                AddressFamily::Inet,
                AddressFamily::Inet6,
                AddressFamily::Mpls,
            ] {
                let event = RouteNetlinkMessage::NewRule(rule(family, priority));
                assert_eq!(rules.note(&event), None);
            }
        }
    }

    #[test]
    fn another_rule_is_told_once_until_it_is_deleted() {
        let mut rules = PolicyRules::default();
        let new = || RouteNetlinkMessage::NewRule(rule(AddressFamily::Inet6, Some(100)));
        let text = rules.note(&new()).unwrap();
        assert!(
            text.starts_with("`ip -6 rule` has a rule of priority 100"),
            "{text}"
        );
        assert_eq!(rules.note(&new()), None);
        let deleted = RouteNetlinkMessage::DelRule(rule(AddressFamily::Inet6, Some(100)));
        assert_eq!(rules.note(&deleted), None);
        assert!(rules.note(&new()).is_some());
    }
}

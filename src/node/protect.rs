//! From `[protect]` and `[proxy]` to what the sessions ask.

use crate::config::{Config, Network};
use crate::policy::{Rate, greylist};
use crate::server::guard::Settings;
use crate::server::listener::Protocol;
use std::net::IpAddr;
use std::rc::Rc;

fn within(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

pub(super) fn settings(config: &Config) -> Settings {
    let protect = &config.protect;
    let exempt = protect.exempt_networks.clone();
    let proxy = config.proxy.clone();
    let xclient = config.smtp.xclient_networks.clone();
    Settings {
        is_xclient: Rc::new(move |peer| within(&xclient, peer)),
        checks: protect.checks.clone(),
        is_exempt: Rc::new(move |client| within(&exempt, client)),
        connections: Rate::per_minute(protect.connections_per_minute),
        network_connections: Rate::per_minute(protect.network_connections_per_minute),
        commands: Rate::per_minute(protect.commands_per_minute),
        unknown_free: protect.free_unknown_recipients,
        unknown_max: protect.max_unknown_recipients,
        unknown: Rate::per_hour(protect.unknown_recipients_per_hour),
        greet_delay: protect.greet_delay,
        refuse_own_hello: protect.refuse_own_hello,
        refuse_bare_hello: protect.refuse_bare_hello,
        lists: protect.dns_lists.clone().into(),
        lists_reject: protect.dns_lists_reject,
        lists_mark: protect.dns_lists_mark,
        greylist: protect.greylist.enabled.then_some(greylist::Settings {
            delay: protect.greylist.delay,
            window: protect.greylist.window,
            keep: protect.greylist.keep,
            network_passes: protect.greylist.network_passes,
        }),
        proxy_timeout: proxy.timeout,
        is_proxy: Rc::new(move |protocol: Protocol, peer| {
            proxy.listeners.contains(&protocol.name()) && within(&proxy.networks, peer)
        }),
    }
}

//! From the name of a server to its addresses: as the system does it, or by our resolver.

use super::super::dns::{Data, Kind, Resolver, Want};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

/// Who is asked.
#[derive(Clone)]
pub(super) enum Names {
    System(GaiResolver),
    Ours(Resolver),
}

/// Without the port, which the connector knows.
type Addresses = std::vec::IntoIter<SocketAddr>;

impl Names {
    pub(super) fn of_system() -> Names {
        Names::System(GaiResolver::new())
    }

    pub(super) fn by(resolver: Resolver) -> Names {
        Names::Ours(resolver)
    }
}

impl Service<Name> for Names {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Names::System(system) => system.poll_ready(context),
            Names::Ours(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Names::System(system) => {
                let found = system.call(name);
                Box::pin(async move { Ok(found.await?.collect::<Vec<_>>().into_iter()) })
            }
            Names::Ours(resolver) => Box::pin(look_up(resolver.clone(), name)),
        }
    }
}

/// Both kinds, one beside the other; one of them is enough.
async fn look_up(resolver: Resolver, name: Name) -> io::Result<Addresses> {
    let ask = |kind| resolver.ask(kind, Want::Plain, name.as_str());
    let (old, new) = (ask(Kind::A), ask(Kind::Aaaa));
    let (mut all, mut why) = (Vec::new(), "it has no address".to_owned());
    for asked in [new, old] {
        let Ok(answer) = asked else { continue };
        match answer.await {
            Ok(Ok(found)) => all.extend(found.records.iter().filter_map(|data| match data {
                Data::Address(address) => Some(SocketAddr::new(*address, 0)),
                _ => None,
            })),
            Ok(Err(failed)) => why = failed.to_string(),
            Err(_) => {}
        }
    }
    if all.is_empty() { Err(io::Error::other(why)) } else { Ok(all.into_iter()) }
}

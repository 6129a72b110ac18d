//! What the command line asks of the node.

use super::{boot, demo, offline, shard};
use crate::admin::request::{Request, Response};
use crate::cli::{Actions, Failure, StoreTask};
use crate::config::{Config, Loaded};
use std::io::Write;
use std::path::Path;

/// The node behind the `pombal` binary.
#[derive(Clone, Copy, Debug)]
pub struct Node;

impl Actions for Node {
    fn serve(&self, loaded: Loaded, named: Option<&Path>) -> Result<(), Failure> {
        boot::serve(&loaded, named)
    }

    fn demo(&self, keep: bool, out: &mut dyn Write) -> Result<(), Failure> {
        demo::run(keep, out)
    }

    fn hash_password(&self, config: &Config, password: &str) -> Result<String, Failure> {
        let prepared = crate::proto::sasl::prepare(password.as_bytes())
            .map_err(|_| Failure::Wrong("the password has characters that none may have".into()))?;
        shard::secrets(config, &prepared).map_err(Failure::Failed)
    }

    fn ask_stopped(&self, config: &Config, request: &Request) -> Result<Response, Failure> {
        offline::ask(config, request)
    }

    fn store(
        &self,
        config: &Config,
        task: &StoreTask,
        json: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        offline::store(config, task, json, out)
    }
}

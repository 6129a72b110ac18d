//! What the command line asks of the node.

use super::{backup, boot, demo, offline, salvage, shard};
use crate::admin::request::{Request, Response};
use crate::auth::{self, Imported};
use crate::cli::{
    Actions, AppPassword, AsOf, AskKept, Asking, BackupTask, Failure, RestoreTask, StoreTask, Told,
};
use crate::config::{Config, Loaded};
use crate::proto::sasl::Terms;
use std::io::Write;
use std::path::{Path, PathBuf};

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

    fn hash_password(
        &self,
        config: &Config,
        bound: &[String],
        password: &str,
    ) -> Result<String, Failure> {
        let prepared = crate::proto::sasl::prepare(password.as_bytes())
            .map_err(|_| Failure::Wrong("the password has characters that none may have".into()))?;
        shard::secrets(config, &terms(bound)?, &prepared).map_err(Failure::Failed)
    }

    fn read_hash(&self, config: &Config, bound: &[String], text: &str) -> Result<String, Failure> {
        match auth::import(text) {
            Some(Imported::Hash(hash)) => Ok(hash),
            Some(Imported::Plain(password)) => self.hash_password(config, bound, &password),
            None => Err(Failure::Wrong("no password hash of a kind that is known".into())),
        }
    }

    fn app_password(&self, config: &Config, given: &[String]) -> Result<AppPassword, Failure> {
        let mut random = [0; 26];
        getrandom::fill(&mut random).map_err(|error| Failure::Failed(error.to_string()))?;
        let text = auth::app_password(&random);
        let keys = shard::scram_keys(config, &terms(given)?, &text).map_err(Failure::Failed)?;
        let keys = keys.iter().map(ToString::to_string).collect();
        Ok(AppPassword { digest: auth::app_digest(&text).to_vec(), keys, text })
    }

    fn ask_stopped(&self, config: &Config, request: &Request) -> Result<Response, Failure> {
        offline::ask(config, request)
    }

    fn with_stopped(
        &self,
        named: Option<&Path>,
        work: &mut dyn FnMut(&mut dyn Asking) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        offline::with_store(named, work)
    }

    fn answer(&self, config: &Config) -> Result<(), Failure> {
        offline::answer(config)
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

    fn salvage(
        &self,
        config: &Config,
        to: &Path,
        logs: &[PathBuf],
        mut told: Told<'_>,
    ) -> Result<(), Failure> {
        salvage::run(config, (to, logs), &mut told)
    }

    fn backup(&self, config: &Config, task: &BackupTask, told: Told<'_>) -> Result<(), Failure> {
        backup::run(config, task, told)
    }

    fn restore(&self, config: &Config, task: &RestoreTask, told: Told<'_>) -> Result<(), Failure> {
        backup::restore(config, task, told)
    }

    fn with_backup(
        &self,
        config: &Config,
        task: &RestoreTask,
        address: &str,
        work: &mut dyn FnMut(AskKept<'_>, &AsOf) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        backup::with_account(config, task, address, work)
    }
}

fn terms(texts: &[String]) -> Result<Vec<Terms>, Failure> {
    let terms: Option<Vec<Terms>> = texts.iter().map(|text| Terms::parse(text)).collect();
    terms.ok_or_else(|| Failure::Failed("the server has terms of SCRAM that are none".into()))
}

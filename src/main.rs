//! The `pombal` binary: hands the arguments to `cli`, and what needs a server to `node`.

use mimalloc::MiMalloc;
use pombal::admin::request::{Request, Response};
use pombal::cli::{self, Actions, Failure, StoreTask};
use pombal::config::{Config, Loaded};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

// docs/decisions/0004-allocator.md holds what was measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    ExitCode::from(cli::run(std::env::args_os(), &Unserved, &mut out, &mut err))
}

/// Stands where the node will: everything that needs a store or shards is refused.
struct Unserved;

impl Actions for Unserved {
    fn serve(&self, _: Loaded, _: Option<&Path>) -> Result<(), Failure> {
        not_built("serve")
    }

    fn demo(&self, _: bool, _: &mut dyn Write) -> Result<(), Failure> {
        not_built("demo")
    }

    fn hash_password(&self, _: &Config, _: &str) -> Result<String, Failure> {
        not_built("user")
    }

    fn ask_stopped(&self, _: &Config, _: &Request) -> Result<Response, Failure> {
        not_built("the directory")
    }

    fn store(&self, _: &Config, _: &StoreTask, _: bool, _: &mut dyn Write) -> Result<(), Failure> {
        not_built("store")
    }
}

fn not_built<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::Wrong(format!("{what}: not built yet")))
}

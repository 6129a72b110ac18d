//! The `pombal` binary: hands the arguments to `cli`, and what needs a server to `node`.

use mimalloc::MiMalloc;
use pombal::cli;
use pombal::node::actions::Node;
use std::process::ExitCode;

// docs/decisions/0004-allocator.md holds what was measured.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    ExitCode::from(cli::run(std::env::args_os(), &Node, &mut out, &mut err))
}

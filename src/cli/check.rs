//! `pombal check`: every mistake of the configuration, or every setting as it is in force.

use super::{Failure, show};
use crate::config::{self, Loaded, Mistake, Setting};
use std::io::Write;
use std::path::Path;

pub(super) fn run(
    named: Option<&Path>,
    effective: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match load(named) {
        Ok(loaded) if json => {
            let settings = effective.then_some(&loaded.settings);
            let source = &loaded.source;
            let shown = serde_json::json!({"source": source, "mistakes": [], "settings": settings});
            show::json(&shown, out)
        }
        Ok(loaded) if effective => print(&loaded, out),
        Ok(loaded) => Ok(writeln!(out, "{}: ok", loaded.source)?),
        Err(mistakes) => {
            if json {
                show::json(&serde_json::json!({"mistakes": mistakes}), out)?;
                return Err(Failure::Wrong(String::new()));
            }
            Err(refused(&mistakes))
        }
    }
}

/// Reads the configuration, and the files that it names.
fn load(named: Option<&Path>) -> Result<Loaded, Vec<Mistake>> {
    let loaded = config::load(named)?;
    config::oauth::read(&loaded.config).map_err(|mistake| vec![mistake])?;
    config::tls_policy::trust(&loaded.config).map_err(|mistake| vec![mistake])?;
    config::dns::anchors(&loaded.config).map_err(|mistake| vec![mistake])?;
    let untimely = config::certificates::read(&loaded.config.tls)?.untimely;
    if untimely.is_empty() { Ok(loaded) } else { Err(untimely) }
}

fn refused(mistakes: &[Mistake]) -> Failure {
    super::wrong(mistakes)
}

/// As a file that could be used, with what is allowed behind each key.
fn print(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "# {}", loaded.source)?;
    let mut section = "";
    for setting in &loaded.settings {
        let (table, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        if table != section {
            writeln!(out, "\n[{table}]")?;
            section = table;
        }
        writeln!(out, "{}", line(key, setting))?;
    }
    let routes = &loaded.config.routes;
    if !routes.is_empty() {
        writeln!(out, "\n# {} routes, first match wins", routes.len())?;
    }
    Ok(())
}

fn line(key: &str, setting: &Setting) -> String {
    let from = if setting.from_file { "" } else { "default; " };
    match &setting.value {
        Some(value) => format!("{:<44}# {from}{}", format!("{key} = {value}"), setting.allowed),
        None => format!("{:<44}# not set; {}", format!("# {key} ="), setting.allowed),
    }
}

//! The command line of `loadgen sink`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::profile::{Profile, WrittenProfile};
use super::rule::{Time, Written};
use crate::cli::OutputOptions;
use crate::values::parse_time;

#[derive(Args, Clone, Debug)]
pub(crate) struct SinkOptions {
    /// What to listen at: ADDRESS[-ADDRESS]:PORT[,PORT…]; may be repeated
    #[arg(long = "listen", value_name = "ADDRESS:PORT")]
    pub(crate) listen: Vec<String>,
    #[command(flatten)]
    pub(crate) behaviour: BehaviourOptions,
    /// Ends after this many messages
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Ends after this time; without --count and this, at SIGINT or SIGTERM
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) duration: Option<Duration>,
    /// At the end, open connections may take this long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_time)]
    pub(crate) linger: Duration,
    /// Journal of what was taken, and of answers that were lost; one that is there is written anew
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Exit status 0 whatever came: duplicates, changed messages, faults of the client
    #[arg(long)]
    pub(crate) allow_errors: bool,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// How the sink behaves, as far as it is not said in a profile.
#[derive(Args, Clone, Debug)]
pub(crate) struct BehaviourOptions {
    /// Sites and domains with manners of their own (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Speaks LMTP: one answer per recipient
    #[arg(long)]
    pub(crate) lmtp: bool,
    /// What is offered, with commas between; instead of PIPELINING, SIZE 104857600, 8BITMIME,
    /// SMTPUTF8, DSN, ENHANCEDSTATUSCODES
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) extensions: Option<Vec<String>>,
    /// Before each answer
    #[arg(long = "reply-delay", value_name = "TIME", value_parser = parse_time)]
    pub(crate) delay: Option<Duration>,
    /// Something that goes wrong: the fields of a rule of the profile, without quotes, as in
    /// at=rcpt,code=451,first=1; may be repeated
    #[arg(long = "rule", value_name = "FIELDS")]
    pub(crate) rules: Vec<String>,
    /// Connections of one site at a time; 421 above
    #[arg(long, value_name = "N")]
    pub(crate) connections_max: Option<usize>,
    /// Recipients of one message; 452 above
    #[arg(long, value_name = "N")]
    pub(crate) recipients_max: Option<usize>,
    /// Messages of one connection; 421 above
    #[arg(long, value_name = "N")]
    pub(crate) messages_max: Option<u64>,
    /// Certificate chain (PEM) for STARTTLS, instead of a self-signed one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Keeps every message in a file of this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Longest time that a client may say nothing
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    pub(crate) patience: Duration,
    /// Threads that the connections are spread over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) sink_threads: u64,
}

impl BehaviourOptions {
    /// The profile, with what the command line says in place of its default.
    pub(crate) fn written(&self) -> Result<WrittenProfile, String> {
        let mut written = match &self.profile {
            None => WrittenProfile::default(),
            Some(path) => {
                let named = |why: String| format!("{}: {why}", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()));
                Profile::parse(&text?).map_err(named)?
            }
        };
        let default = &mut written.default;
        if self.lmtp {
            default.lmtp = Some(true);
        }
        if let Some(extensions) = &self.extensions {
            let named = extensions.iter().filter(|line| !line.is_empty()).cloned();
            default.extensions = Some(named.collect());
        }
        default.delay = self.delay.map(Time).or(default.delay);
        default.connections_max = self.connections_max.or(default.connections_max);
        default.recipients_max = self.recipients_max.or(default.recipients_max);
        default.messages_max = self.messages_max.or(default.messages_max);
        for fields in &self.rules {
            let rule = parse_rule(fields).map_err(|why| format!("--rule {fields}: {why}"))?;
            default.rules.get_or_insert_default().push(rule);
        }
        Ok(written)
    }
}

/// The fields of a rule as the command line has them: texts without quotes.
fn parse_rule(fields: &str) -> Result<Written, String> {
    let mut table = toml::Table::new();
    for field in fields.split(',') {
        let (name, value) = field.split_once('=').ok_or("a field is NAME=VALUE")?;
        let value = match (value.parse::<i64>(), value.parse::<f64>()) {
            (Ok(number), _) => toml::Value::Integer(number),
            (_, Ok(number)) => toml::Value::Float(number),
            _ => toml::Value::String(value.to_owned()),
        };
        table.insert(name.to_owned(), value);
    }
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_needs_no_quotes() {
        let rule = parse_rule("at=rcpt,code=451,text=4.2.1 not now,first=2,for=30s").unwrap();
        assert_eq!(
            format!("{:?}", crate::sink::rule::Rule::new(&rule, 1).unwrap().act),
            r#"Reply { code: 451, text: "4.2.1 not now" }"#
        );
        assert!(parse_rule("rcpt").is_err());
        assert!(parse_rule("at=rcpt,chance=much").is_err());
        assert!(parse_rule("at=nowhere,code=451").unwrap_err().contains("unknown variant"));
    }
}

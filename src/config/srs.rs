//! The keys of `[srs]`.

use super::names::HostName;
use super::reader::Section;
use super::{Config, Srs};

pub(super) fn srs(mut section: Section<'_, '_, '_>) -> Srs {
    let allowed = "a domain whose mail comes to this server";
    let srs = Srs {
        enabled: section.flag("enabled", true),
        domain: section.word("domain", None, allowed, HostName::parse, HostName::to_string),
    };
    section.end();
    srs
}

impl Config {
    /// The domain under which senders are rewritten; none where they are not.
    pub fn srs_domain(&self) -> Option<String> {
        let domain = self.srs.domain.as_ref().unwrap_or(&self.hostname);
        self.srs.enabled.then(|| domain.as_str().to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    #[test]
    fn rewrites_under_the_name_of_the_host_unless_told_otherwise() {
        let domain = |text: &str| parse("test", text).unwrap().config.srs_domain();
        let host = "hostname = \"MX.example\"\n";
        assert_eq!(domain(host).as_deref(), Some("mx.example"));
        let named = format!("{host}[srs]\ndomain = \"srs.example\"");
        assert_eq!(domain(&named).as_deref(), Some("srs.example"));
        assert_eq!(domain(&format!("{host}[srs]\nenabled = false")), None);
        assert!(parse("test", "[srs]\ndomain = \"a b\"").is_err());
    }
}

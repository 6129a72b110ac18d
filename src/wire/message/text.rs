//! The text of a part as people read it, piece by piece: transfer encoding, charset, HTML undone.

use super::charset::ToUtf8;
use super::decode::Decoder;
use super::head::{FieldKind, Head};
use super::html::Html;
use super::mime::{Encoding, Part};
use super::params::{content_type, param};

/// Reads one text part. Memory: a few times the largest piece.
pub struct TextReader {
    decoder: Option<Decoder>,
    charset: ToUtf8,
    html: Option<Html>,
    octets: Vec<u8>,
    text: String,
    bare: String,
}

impl TextReader {
    /// For a part of `message`, of which the header alone is looked at.
    pub fn new(message: &[u8], part: &Part) -> TextReader {
        let upto = &message[..part.header().end];
        let (head, _) = Head::scan(upto, part.header().start, |_| false);
        TextReader::with_head(message, part, &head)
    }

    /// The same where the header of the part was scanned before.
    pub fn with_head(message: &[u8], part: &Part, head: &Head) -> TextReader {
        let named = head.value(message, FieldKind::ContentType).and_then(content_type);
        let mut charset = Vec::new();
        let mut is_html = false;
        if let Some(named) = named {
            is_html = named.subtype.eq_ignore_ascii_case(b"html");
            param(named.params, "charset", &mut charset);
        }
        let is_encoded = part.encoding != Encoding::Identity;
        TextReader {
            decoder: is_encoded.then(|| Decoder::new(part.encoding)),
            charset: ToUtf8::new(&charset),
            html: is_html.then(Html::new),
            octets: Vec::new(),
            text: String::new(),
            bare: String::new(),
        }
    }

    /// Hands the text of the next octets of the body to `sink`; `last` ends it.
    pub fn feed(&mut self, piece: &[u8], last: bool, sink: &mut dyn FnMut(&str)) {
        if self.decoder.is_none()
            && self.html.is_none()
            && let Some(text) = self.charset.as_it_is(piece)
        {
            return sink(text);
        }
        self.octets.clear();
        self.text.clear();
        let octets = match &mut self.decoder {
            None => piece,
            Some(decoder) => {
                decoder.feed(piece, &mut self.octets);
                if last {
                    decoder.end(&mut self.octets);
                }
                &self.octets
            }
        };
        self.charset.feed(octets, last, &mut self.text);
        let Some(html) = &mut self.html else { return sink(&self.text) };
        self.bare.clear();
        html.feed(&self.text, &mut self.bare);
        if last {
            html.end(&mut self.bare);
        }
        sink(&self.bare);
    }
}

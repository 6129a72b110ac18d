//! The text of HTML as far as a search and a preview need it: tags gone, entities read.
//!
//! Piece by piece, tolerant, no tree: scripts, styles, titles of the head and comments are passed
//! over; a tag that ends a line of text leaves a line end, one within a word (`<b>`) nothing.

use memchr::{memchr, memchr2};

/// Octets of a tag's or entity's name that are looked at.
const NAME_OCTETS_MAX: usize = 12;

/// Tags that do not part words.
const INLINE: &[&str] = &[
    "a", "abbr", "b", "bdo", "big", "cite", "code", "em", "font", "i", "ins", "kbd", "mark", "q",
    "s", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr",
];

/// Elements whose content is no text.
const HIDDEN: &[&str] = &["script", "style", "title"];

/// The entities for U+00A0 to U+00FF, in order.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 \
    sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute \
    Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH \
    Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN \
    szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave \
    iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute \
    ucirc uuml yacute thorn yuml";

const OTHERS: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("euro", '€'),
    ("hellip", '…'),
    ("mdash", '—'),
    ("ndash", '–'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("sbquo", '‚'),
    ("bull", '•'),
    ("trade", '™'),
    ("zwnj", '\u{200c}'),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// Behind `<`.
    Open,
    /// In the name of a tag.
    Name,
    /// Behind the name; in quotes if there is a quote.
    Attributes {
        quote: Option<char>,
        behind_equals: bool,
    },
    /// In `<!…>`, so many dashes at its begin.
    Declaration {
        dashes: u8,
    },
    /// In `<!--…-->`, so many dashes at its end.
    Comment {
        dashes: u8,
    },
    Entity,
}

/// Reads one text.
#[derive(Clone, Debug)]
pub struct Html {
    state: State,
    /// Of the tag or entity at hand, as far as it is looked at.
    name: String,
    /// The element that hides everything up to its end.
    hidden: Option<&'static str>,
}

impl Default for Html {
    fn default() -> Html {
        Html::new()
    }
}

impl Html {
    pub fn new() -> Html {
        Html { state: State::Text, name: String::new(), hidden: None }
    }

    /// Appends the text of the next piece, which may be cut anywhere.
    pub fn feed(&mut self, input: &str, out: &mut String) {
        let mut rest = input;
        while !rest.is_empty() {
            if self.state == State::Text {
                let at = memchr2(b'<', b'&', rest.as_bytes()).unwrap_or(rest.len());
                let (text, more) = rest.split_at(at);
                if self.hidden.is_none() {
                    out.push_str(text);
                }
                rest = more;
            }
            // Whatever means nothing in this state is passed over in bulk.
            let octets = rest.as_bytes();
            let skipped = match self.state {
                State::Attributes { quote: Some('"'), .. } => memchr(b'"', octets),
                State::Attributes { quote: None, behind_equals: false } => {
                    memchr2(b'=', b'>', octets)
                }
                State::Declaration { dashes: 2 } => memchr(b'>', octets),
                State::Comment { dashes: 0 } => memchr(b'-', octets),
                _ => Some(0),
            };
            let Some((_, more)) = skipped.and_then(|at| rest.split_at_checked(at)) else { return };
            rest = more;
            let mut letters = rest.chars();
            if let Some(letter) = letters.next() {
                self.step(letter, out);
                rest = letters.as_str();
            }
        }
    }

    /// The end of the text: an entity without its semicolon is written.
    pub fn end(&mut self, out: &mut String) {
        if self.state == State::Entity {
            self.put_entity(false, out);
        }
        self.state = State::Text;
    }

    fn step(&mut self, letter: char, out: &mut String) {
        match self.state {
            State::Text => {
                self.name.clear();
                match letter {
                    '<' => self.state = State::Open,
                    '&' if self.hidden.is_none() => self.state = State::Entity,
                    _ if self.hidden.is_none() => out.push(letter),
                    _ => {}
                }
            }
            State::Open => self.open(letter, out),
            State::Name => match letter {
                '>' => self.tag(out),
                _ if letter.is_ascii_whitespace() || letter == '/' => {
                    self.state = State::Attributes { quote: None, behind_equals: false };
                }
                _ => self.push_name(letter.to_ascii_lowercase()),
            },
            State::Attributes { quote, behind_equals } => {
                self.attributes(letter, quote, behind_equals, out);
            }
            State::Declaration { dashes } => {
                self.state = match letter {
                    '-' if dashes == 1 => State::Comment { dashes: 0 },
                    '-' if dashes == 0 => State::Declaration { dashes: 1 },
                    '>' => State::Text,
                    _ => State::Declaration { dashes: 2 },
                };
            }
            State::Comment { dashes } => {
                self.state = match letter {
                    '-' => State::Comment { dashes: (dashes + 1).min(2) },
                    '>' if dashes == 2 => State::Text,
                    _ => State::Comment { dashes: 0 },
                };
            }
            State::Entity => self.entity(letter, out),
        }
    }

    fn push_name(&mut self, letter: char) {
        if self.name.len() < NAME_OCTETS_MAX {
            self.name.push(letter);
        }
    }

    fn open(&mut self, letter: char, out: &mut String) {
        match letter {
            '!' => self.state = State::Declaration { dashes: 0 },
            '?' => self.state = State::Declaration { dashes: 2 },
            '/' => {
                self.name.push('/');
                self.state = State::Name;
            }
            // Within a script, a smaller-than begins no tag but its end.
            _ if letter.is_ascii_alphabetic() && self.hidden.is_none() => {
                self.name.push(letter.to_ascii_lowercase());
                self.state = State::Name;
            }
            _ => {
                // An arrow, a comparison: no tag.
                self.state = State::Text;
                if self.hidden.is_none() {
                    out.push('<');
                }
                self.step(letter, out);
            }
        }
    }

    fn attributes(
        &mut self,
        letter: char,
        quote: Option<char>,
        behind_equals: bool,
        out: &mut String,
    ) {
        let next = |quote, behind_equals| State::Attributes { quote, behind_equals };
        match (quote, letter) {
            (Some(quote), _) => {
                if letter == quote {
                    self.state = next(None, false);
                }
            }
            (None, '>') => self.tag(out),
            (None, '"' | '\'') if behind_equals => self.state = next(Some(letter), false),
            (None, _) => {
                let goes_on = letter == '=' || behind_equals && letter.is_ascii_whitespace();
                self.state = next(None, goes_on);
            }
        }
    }

    fn entity(&mut self, letter: char, out: &mut String) {
        let goes_on = letter.is_ascii_alphanumeric() || letter == '#' && self.name.is_empty();
        if goes_on && self.name.len() < NAME_OCTETS_MAX {
            self.name.push(letter);
            return;
        }
        self.put_entity(letter == ';', out);
        self.state = State::Text;
        if letter != ';' {
            self.step(letter, out);
        }
    }

    /// The end of a tag.
    fn tag(&mut self, out: &mut String) {
        self.state = State::Text;
        let (is_end, name) = match self.name.strip_prefix('/') {
            Some(name) => (true, name),
            None => (false, self.name.as_str()),
        };
        if let Some(hidden) = self.hidden {
            if is_end && name == hidden {
                self.hidden = None;
            }
            return;
        }
        if let Some(hidden) = HIDDEN.iter().find(|hidden| **hidden == name).filter(|_| !is_end) {
            self.hidden = Some(hidden);
        }
        if !INLINE.contains(&name) && !out.ends_with('\n') {
            out.push('\n');
        }
    }

    fn put_entity(&mut self, is_closed: bool, out: &mut String) {
        let name = std::mem::take(&mut self.name);
        match letter_of(&name) {
            // A name without its semicolon may be an address with an ampersand in it.
            Some(letter) if is_closed || name.starts_with('#') => out.push(letter),
            _ => {
                out.push('&');
                out.push_str(&name);
                if is_closed {
                    out.push(';');
                }
            }
        }
    }
}

fn letter_of(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code).filter(|letter| *letter != '\0');
    }
    let other = OTHERS.iter().find(|(known, _)| *known == name).map(|(_, letter)| *letter);
    other.or_else(|| {
        let mut latin = LATIN.split_ascii_whitespace().zip('\u{a0}'..='\u{ff}');
        latin.find(|(known, _)| *known == name).map(|(_, letter)| letter)
    })
}

/// Law: the pieces may be cut anywhere.
#[cfg(any(test, feature = "sim"))]
pub fn fuzz_html(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut whole, mut pieces) = (String::new(), String::new());
    let mut html = Html::new();
    html.feed(&text, &mut whole);
    html.end(&mut whole);
    let mut html = Html::new();
    for letter in text.chars() {
        html.feed(letter.encode_utf8(&mut [0; 4]), &mut pieces);
    }
    html.end(&mut pieces);
    assert_eq!(whole, pieces);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, want: &str) {
        let (mut html, mut out) = (Html::new(), String::new());
        html.feed(input, &mut out);
        html.end(&mut out);
        assert_eq!(out, want);
        fuzz_html(input.as_bytes());
    }

    #[test]
    fn leaves_the_text() {
        check("<p>Hello <b>wor</b>ld</p><p>x", "\nHello world\nx");
        check("<td>a</td><td>b</td>", "\na\nb\n");
        check("a<br/>b<BR>c", "a\nb\nc");
        check("<a href=\"x>y\" title='>'>z</a>", "z");
        check("a<!-- b > - c -->d<!DOCTYPE html>e<?xml?>f", "adef");
        check("<style>p { a: b }</style>x<script>if (a<b) {}</script>y", "\nx\ny");
    }

    #[test]
    fn reads_entities() {
        check("&lt;&amp;&gt; &auml;&nbsp;&yuml;&euro; &#65;&#x42;", "<&> ä\u{a0}ÿ€ AB");
        check("&nobody; a&b=c &amp &#0; &#xD800; R&D", "&nobody; a&b=c &amp &#0; &#xD800; R&D");
        check("&averylongnamethatisnone;", "&averylongnamethatisnone;");
        check("a < b <3 <", "a < b <3 ");
    }

    #[test]
    fn is_the_same_over_all_cuts() {
        arbtest::arbtest(|u| {
            let len = u.int_in_range(0..=16)?;
            let words =
                ["<", ">", "!--", "--", "p", "/style", "style", "&", "amp", ";", "=\"", "é"];
            let text: String =
                (0..len).map(|_| u.choose(&words).copied()).collect::<Result<_, _>>()?;
            fuzz_html(text.as_bytes());
            Ok(())
        });
    }
}

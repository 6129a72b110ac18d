//! What a user who is away has answered (RFC 3834, RFC 5230).
//!
//! ```text
//! vacation := days u16 | zeros{2} | from u32 | until u32 | subject text | text text | count u32 | address text{count}
//! ```
//! 0 for no `from`, 4294967295 for no `until`, an empty subject for none.

use super::record::Fields;
use crate::bytes::codec::{Put, Short, to_u32};
use crate::model::limits::{
    VACATION_ADDRESSES_MAX, VACATION_DAYS_MAX, VACATION_SUBJECT_OCTETS_MAX,
    VACATION_TEXT_OCTETS_MAX,
};
use crate::store::Damaged;

/// What is answered, when, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vacation {
    /// None: `Auto: ` and the subject of the message.
    pub subject: Option<Box<str>>,
    /// Lines that end with LF.
    pub text: Box<str>,
    /// From when on, in seconds since 1970; 0 for always.
    pub from: u32,
    /// Until when; `u32::MAX` for ever.
    pub until: u32,
    /// A sender is answered once in so many days.
    pub days: u16,
    /// Other addresses that are the user's too, as a target of an alias is written.
    pub addresses: Box<[Box<str>]>,
}

impl Vacation {
    /// Whether mail is answered at `now`, in seconds since 1970.
    pub fn is_on(&self, now: u32) -> bool {
        self.from <= now && now < self.until
    }

    /// What is wrong with it, for a person.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let is_line = |text: &str| !text.chars().any(char::is_control);
        let is_text =
            |text: &str| !text.chars().any(|one| one.is_control() && !matches!(one, '\n' | '\t'));
        if self.text.trim().is_empty() {
            Some("there is no text")
        } else if self.text.len() > VACATION_TEXT_OCTETS_MAX {
            Some("the text is too long")
        } else if !is_text(&self.text) {
            Some("the text has control characters")
        } else if !self.subject.as_deref().is_none_or(is_line) {
            Some("the subject has control characters")
        } else if self.subject.as_ref().is_some_and(|one| one.len() > VACATION_SUBJECT_OCTETS_MAX) {
            Some("the subject is too long")
        } else if !(1..=VACATION_DAYS_MAX).contains(&self.days) {
            Some("the period is not 1 to 365 days")
        } else if self.from >= self.until {
            Some("it ends before it begins")
        } else if self.addresses.len() > VACATION_ADDRESSES_MAX {
            Some("there are too many addresses")
        } else {
            None
        }
    }

    pub(super) fn put(&self, body: &mut Vec<u8>) {
        body.put_u16(self.days);
        body.put_u16(0);
        body.put_u32(self.from);
        body.put_u32(self.until);
        body.put_slice(self.subject.as_deref().unwrap_or_default().as_bytes());
        body.put_slice(self.text.as_bytes());
        body.put_u32(to_u32(self.addresses.len()));
        for address in &self.addresses {
            body.put_slice(address.as_bytes());
        }
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Vacation, Damaged> {
        let short = |Short| Damaged("a vacation that is cut short".into());
        let days = fields.0.u16().map_err(short)?;
        fields.0.u16().map_err(short)?;
        let (from, until) = (fields.u32()?, fields.u32()?);
        let subject = Some(fields.text()?).filter(|text| !text.is_empty()).map(Box::from);
        let text = fields.text()?.into();
        let count = fields.u32()?;
        let addresses =
            (0..count).map(|_| fields.text().map(Box::from)).collect::<Result<_, _>>()?;
        Ok(Vacation { subject, text, from, until, days, addresses })
    }
}

//! The message of a session: DATA or BDAT, and what is answered to it.

use std::sync::atomic::Ordering;

use super::Session;
use crate::audit::message::Read;
use crate::sink::body::{envelope_fields, read_report};
use crate::sink::connection::Gone;
use crate::sink::desk::{Answer, Event, Taken};
use crate::sink::profile::Manners;
use crate::sink::rule::{Act, Stage, steady_hash};
use crate::values::{to_u64, to_usize, wall_us};
use crate::wire::dots::{Piece, Reader};

impl Session {
    /// How the message under way is treated: as its first recipient's domain wants it.
    fn manners(&self) -> &'static Manners {
        let first = self.transaction.as_ref().and_then(|under_way| under_way.recipients.first());
        let domain = first.and_then(|recipient| self.shared.profile.domain(recipient));
        domain.unwrap_or(&self.site.manners)
    }

    fn has_recipients(&self) -> bool {
        self.transaction.as_ref().is_some_and(|under_way| !under_way.recipients.is_empty())
    }

    /// What tells this envelope from others.
    fn key(&self) -> u64 {
        self.transaction
            .as_ref()
            .map_or(0, |under_way| steady_hash(&(&under_way.sender, &under_way.recipients)))
    }

    pub(super) async fn data(&mut self) -> Result<(), Gone> {
        if !self.has_recipients() {
            let is_answered = self.transaction.is_some();
            // With PIPELINING it is no fault: all recipients may have been refused meanwhile.
            if is_answered {
                return self.say(Stage::Data, 554, "5.5.1", "no recipients").await;
            }
            return self.say(Stage::Data, 503, "5.5.1", "DATA at the wrong time").await;
        }
        let is_wrong = self
            .transaction
            .as_ref()
            .is_some_and(|under_way| under_way.in_chunks || under_way.allowed.binary);
        if is_wrong {
            return self.wrong(Stage::Data, 503, "5.5.1", "DATA where BDAT is due").await;
        }
        let (manners, key) = (self.manners(), self.key());
        if !self.pass(Stage::Data, manners, key).await? {
            self.transaction = None;
            return Ok(());
        }
        self.say(Stage::Data, 354, "", "go ahead").await?;
        self.begin_body();
        let (mut dots, mut is_middle) = (Reader::new(), true);
        loop {
            match dots.next(self.link.received()) {
                Piece::Text { text, used } => {
                    self.body.take(text);
                    self.link.used(used);
                    if std::mem::take(&mut is_middle) {
                        self.middle(manners, key).await?;
                    }
                }
                Piece::End { used } => {
                    self.link.used(used);
                    return self.finish().await;
                }
                Piece::More => self.link.fill().await?,
                Piece::Unstuffed => {
                    self.body.fault("dot that is not doubled");
                    self.link.used(1);
                    dots.pardon();
                }
            }
        }
    }

    pub(super) async fn bdat(&mut self, len: u64, is_last: bool) -> Result<(), Gone> {
        let is_offered = self.extended && self.site.offers("CHUNKING");
        let is_good = is_offered && self.has_recipients();
        let (manners, key) = (self.manners(), self.key());
        if is_good && !self.transaction.as_ref().is_some_and(|under_way| under_way.in_chunks) {
            self.begin_body();
            if let Some(transaction) = &mut self.transaction {
                transaction.in_chunks = true;
            }
        }
        let (mut left, mut is_middle) = (len, is_good);
        while left > 0 {
            let received = self.link.received();
            let len = received.len().min(to_usize(left));
            if len == 0 {
                self.link.fill().await?;
                continue;
            }
            if is_good {
                self.body.take(&received[..len]);
            }
            self.link.used(len);
            left -= to_u64(len);
            if std::mem::take(&mut is_middle) {
                self.middle(manners, key).await?;
            }
        }
        if !is_offered {
            return self.wrong(Stage::Data, 502, "5.5.1", "BDAT is not offered").await;
        }
        if !is_good {
            return self.say(Stage::Data, 503, "5.5.1", "BDAT at the wrong time").await;
        }
        if is_last {
            return self.finish().await;
        }
        if self.pass(Stage::Data, manners, key).await? {
            self.say(Stage::Data, 250, "2.0.0", "more").await?;
        } else {
            self.transaction = None;
        }
        Ok(())
    }

    fn begin_body(&mut self) {
        let Some(transaction) = &self.transaction else { return };
        let keep = transaction.sender.is_empty() || self.shared.keep.is_some();
        self.body.begin(transaction.allowed, keep);
    }

    /// In the middle of a message.
    async fn middle(&mut self, manners: &'static Manners, key: u64) -> Result<(), Gone> {
        if !manners.delays[Stage::Body.index()].is_zero() {
            self.delay(Stage::Body, manners).await?;
        }
        match self.fires(Stage::Body, manners, key) {
            Some(Act::Fail(how)) => Err(self.fail(Stage::Body, *how).await),
            _ => Ok(()),
        }
    }

    /// The whole message is there.
    async fn finish(&mut self) -> Result<(), Gone> {
        let at_us = wall_us();
        let manners = self.manners();
        let Some(transaction) = self.transaction.take() else { return Ok(()) };
        let read = self.body.end();
        for fault in self.body.faults() {
            self.desk.fault(fault);
        }
        // By LMTP there is an answer for each recipient (RFC 2033 §4.2).
        let answers = if self.site.lmtp { transaction.recipients.len() } else { 1 };
        if self.site.size_max.is_some_and(|size_max| self.body.octets() > size_max) {
            for _ in 0..answers {
                self.say(Stage::Dot, 552, "5.3.4", "that is too large").await?;
            }
            return Ok(());
        }
        let (mut refusals, mut failing) = (Vec::with_capacity(answers), None);
        for index in 0..answers {
            let (of, manners) = if self.site.lmtp {
                let recipient = &transaction.recipients[index];
                let domain = self.shared.profile.domain(recipient);
                (std::slice::from_ref(recipient), domain.unwrap_or(&self.site.manners))
            } else {
                (&transaction.recipients[..], manners)
            };
            let key = match (read.run, read.seq) {
                (Some(run), Some(seq)) => steady_hash(&(run, seq, of)),
                _ => steady_hash(&(&transaction.sender, of)),
            };
            match self.fires(Stage::Dot, manners, key) {
                None => refusals.push(None),
                Some(Act::Reply { code, text }) => refusals.push(Some((*code, &**text))),
                Some(Act::Fail(how)) => {
                    refusals.push(None);
                    failing.get_or_insert(*how);
                }
            }
        }
        let mut recipients = transaction.recipients;
        if self.site.lmtp {
            let mut refused = refusals.iter().map(Option::is_some);
            recipients.retain(|_| !refused.next().unwrap_or(false));
        } else if refusals.iter().any(Option::is_some) {
            recipients.clear();
        }
        let id = if recipients.is_empty() {
            None
        } else {
            Some(self.take(at_us, &transaction.sender, recipients, read))
        };
        if let Some(how) = failing {
            if let Some(id) = id {
                self.desk.note(Event::Answered { id, answer: Answer::Lost });
            }
            return Err(self.fail(Stage::Dot, how).await);
        }
        self.answer_all(manners, &refusals, id).await
    }

    /// The answers after the dot. Whoever leaves before he has them did not hear.
    async fn answer_all(
        &mut self,
        manners: &'static Manners,
        refusals: &[Option<(u16, &str)>],
        id: Option<u64>,
    ) -> Result<(), Gone> {
        self.delay(Stage::Dot, manners).await?;
        if let Some(id) = id {
            self.link.owe(id);
        }
        for refusal in refusals {
            match refusal {
                None => self.say(Stage::Dot, 250, "2.0.0", "taken").await?,
                Some((code, text)) => self.refuse(Stage::Dot, *code, text).await?,
            }
        }
        Ok(())
    }

    /// Takes the message; returns its number.
    fn take(&mut self, at_us: u64, sender: &str, recipients: Vec<Box<str>>, mut read: Read) -> u64 {
        let shared = self.shared;
        let id = shared.next_message.fetch_add(1, Ordering::Relaxed);
        let is_null = sender.is_empty();
        let is_sound = read.announced.map(|announced| announced == read.digest);
        let mut told = Vec::new();
        if let Some(kept) = self.body.kept() {
            if let Some(folder) = &shared.keep {
                let mut text = envelope_fields(sender, &recipients);
                text.extend_from_slice(kept);
                if std::fs::write(folder.join(format!("{id}.eml")), text).is_err() {
                    self.desk.fault("message that could not be kept in its file");
                }
            }
            if is_null {
                (told, read) = read_report(kept);
            }
        }
        let octets = self.body.octets();
        self.desk.count(|counts| {
            counts.messages += 1;
            counts.recipients += to_u64(recipients.len());
            counts.octets += octets;
            *counts.sites.entry(self.site_index).or_default() += 1;
        });
        self.last_taken = Some(id);
        self.desk.note(Event::Taken(Box::new(Taken {
            id,
            connection: self.number,
            at_us,
            octets,
            run: read.run,
            seq: read.seq,
            is_sound: is_sound.filter(|_| !is_null),
            is_null,
            recipients,
            told,
        })));
        shared.took_one();
        id
    }
}

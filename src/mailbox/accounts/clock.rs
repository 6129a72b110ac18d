//! Who rests: a hand goes round those that are awake (CLOCK).
//!
//! While they take more memory than they may, whoever was not asked for since the hand last passed, and
//! has no session, is packed. A small account may rest before its changes are saved, since it is one
//! page; a large one waits for the checkpoint, and is packed in steps: one that is asked for meanwhile
//! stays awake.

use super::super::account::Layout;
use super::super::image::{Image, Packing};
use super::Accounts;
use crate::model::id::AccountId;
use crate::model::limits::{
    REST_STEP_ACCOUNTS, REST_STEP_PAGES, REST_TURN_ACCOUNTS, REST_TURN_PART,
};
use std::rc::Weak;

/// Where the hand is.
#[derive(Debug, Default)]
pub(in super::super) struct Clock {
    /// Octets that accounts may take while awake.
    memory: usize,
    hand: usize,
    /// Accounts that this turn passes if there is room, and if there is none.
    easy: usize,
    hard: usize,
    /// A large account that is being packed, under the hand.
    packing: Option<(AccountId, Packing)>,
}

impl Accounts {
    /// Octets of memory that accounts may take while awake; those that are used stay awake over it.
    pub fn set_memory(&mut self, octets: usize) {
        self.clock.memory = octets;
    }

    /// Accounts that are awake.
    pub fn awake(&self) -> usize {
        self.places.awake_count()
    }

    /// Begins a turn of the hand. Where room is short it passes everybody twice, unless these are too
    /// many for one turn.
    pub fn begin_turn(&mut self) {
        let awake = self.places.awake_count();
        self.clock.easy = awake.div_ceil(REST_TURN_PART).min(REST_TURN_ACCOUNTS);
        self.clock.hard = (2 * awake).min(REST_TURN_ACCOUNTS);
    }

    /// A step of the turn, some 100 µs of work. Whether there is more to do.
    pub fn turn(&mut self) -> bool {
        for _ in 0..REST_STEP_ACCOUNTS {
            let is_over = self.places.awake_octets() > self.clock.memory;
            let left = if is_over { &mut self.clock.hard } else { &mut self.clock.easy };
            if *left == 0 || self.places.awake_count() == 0 {
                return false;
            }
            if self.pass(is_over) {
                return true;
            }
        }
        true
    }

    /// The hand passes one account. Whether that was work enough for a step.
    fn pass(&mut self, is_over: bool) -> bool {
        let hand = self.clock.hand % self.places.awake_count();
        let packing = self.clock.packing.take();
        let id = self.places.awake_at(hand).expect("the hand is one of those");
        let (account, has_image) = self.places.awake(id).expect("it is awake");
        self.places.weigh(account);
        let was_touched = is_over && account.touched.replace(false);
        let is_pinned = self.bells.get(&id).is_some_and(|bell| Weak::strong_count(bell) > 0);
        let may_rest = !account.dirty || (account.layout == Layout::Whole && account.is_small());
        if !is_over || was_touched || is_pinned || !may_rest {
            self.go_on(hand);
            return false;
        }
        let (image, is_work) = if has_image {
            (None, false)
        } else if account.is_small() {
            (Some(Image::pack(account)), false)
        } else {
            let mut packing = packing.filter(|(of, _)| *of == id).unwrap_or_default().1;
            let Some(image) = packing.step(account, REST_STEP_PAGES) else {
                self.clock.packing = Some((id, packing));
                self.clock.hand = hand;
                return true;
            };
            (Some(image), true)
        };
        self.places.rest(hand, image);
        // Where it was is another one now.
        self.go_on(hand);
        self.clock.hand = hand;
        is_work
    }

    fn go_on(&mut self, hand: usize) {
        let clock = &mut self.clock;
        clock.hand = hand + 1;
        clock.easy = clock.easy.saturating_sub(1);
        clock.hard = clock.hard.saturating_sub(1);
    }
}

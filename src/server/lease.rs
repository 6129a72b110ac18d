//! One session's part of a [`Room`], larger and smaller as the session goes on.
//!
//! Invariant: `held` counts in `used` of the room, and is given back when the lease is dropped.

use super::draft::Room;
use std::rc::Rc;

/// Memory of a room that one session has taken.
#[derive(Debug)]
pub struct Lease {
    room: Rc<Room>,
    held: usize,
}

impl Lease {
    /// A lease of nothing.
    pub fn new(room: &Rc<Room>) -> Lease {
        Lease { room: Rc::clone(room), held: 0 }
    }

    /// Octets of the room.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Holds so many octets from now on. False, and all is as it was: the room is full.
    pub fn hold(&mut self, octets: usize) -> bool {
        let fits = self.room.exchange(self.held, octets);
        if fits {
            self.held = octets;
        }
        fits
    }

    /// Holds so many octets more, which others can do without: half of the room stays free of what
    /// is taken this way. False, and all is as it was: that half is reached.
    pub fn hold_more_of_half(&mut self, octets: usize) -> bool {
        let is_spare = self.room.used() + octets <= self.room.max() / 2;
        is_spare && self.hold(self.held + octets)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.room.exchange(self.held, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_the_room_has_and_gives_it_back() {
        let room = Room::new(1_000, 0);
        let (mut one, mut other) = (Lease::new(&room), Lease::new(&room));
        assert!(one.hold(700));
        assert!(!other.hold(301));
        assert_eq!((room.used(), other.held()), (700, 0));
        assert!(other.hold(300) && one.hold(100));
        assert_eq!(room.used(), 400);
        assert!(!one.hold_more_of_half(101));
        assert!(one.hold_more_of_half(100));
        drop(other);
        assert_eq!((room.used(), one.held()), (200, 200));
        drop(one);
        assert_eq!(room.used(), 0);
    }
}

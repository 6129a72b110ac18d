//! A sorted set of small values that takes hardly more memory than they do.
//!
//! ```text
//!   heads   3        40       97          none of a run is smaller, none of the run before is as large
//!   parts   3 5 17   40 41    97 98 200   each in order, of RUN_MAX values at most
//! ```
//!
//! Nodes of a tree are half empty where values came in rising order, and two thirds full else. Runs have
//! room for a few more values than they hold. A value that comes or goes moves half a run; a run that comes
//! or goes moves the list of runs, once for many values. For sets of millions.

/// Values of a run at most.
const RUN_MAX: usize = 256;
/// By how many values a run grows.
const STEP: usize = 32;

/// See the header.
#[derive(Clone, Debug)]
pub struct Runs<T> {
    heads: Vec<T>,
    parts: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Runs { heads: Vec::new(), parts: Vec::new(), len: 0 }
    }
}

impl<T: Copy + Ord> From<Vec<T>> for Runs<T> {
    /// Many values at once, in any order: much faster than one by one.
    fn from(mut values: Vec<T>) -> Self {
        values.sort_unstable();
        values.dedup();
        // With room for some that come between them.
        let parts: Vec<Vec<T>> = values.chunks(RUN_MAX * 3 / 4).map(<[T]>::to_vec).collect();
        Runs { heads: parts.iter().map(|run| run[0]).collect(), parts, len: values.len() }
    }
}

impl<T: Copy + Ord> Runs<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a value in. False: it was there.
    pub fn insert(&mut self, value: T) -> bool {
        let Some(at) = self.run_of(value) else {
            self.heads.push(value);
            self.parts.push(vec![value]);
            self.len = 1;
            return true;
        };
        let run = &mut self.parts[at];
        let Err(place) = run.binary_search(&value) else { return false };
        if run.len() < RUN_MAX {
            put(run, place, value);
            self.heads[at] = self.heads[at].min(value);
            self.len += 1;
            return true;
        }
        // Behind all others: they have their final place, and the run stays full.
        let rest = if place == RUN_MAX { Vec::new() } else { run.split_off(RUN_MAX / 2) };
        run.shrink_to_fit();
        self.heads.insert(at + 1, rest.first().copied().unwrap_or(value));
        self.parts.insert(at + 1, rest);
        self.insert(value)
    }

    /// Takes a value out. False: it was not there.
    pub fn remove(&mut self, value: T) -> bool {
        let Some(at) = self.run_of(value) else { return false };
        let Ok(place) = self.parts[at].binary_search(&value) else { return false };
        self.parts[at].remove(place);
        self.len -= 1;
        self.tidy(at);
        true
    }

    pub fn contains(&self, value: T) -> bool {
        self.run_of(value).is_some_and(|at| self.parts[at].binary_search(&value).is_ok())
    }

    pub fn first(&self) -> Option<T> {
        self.parts.first()?.first().copied()
    }

    pub fn pop_first(&mut self) -> Option<T> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// The values that are not below `least`, rising.
    pub fn at_least(&self, least: T) -> impl Iterator<Item = T> {
        let at = self.run_of(least).unwrap_or(0);
        let runs = self.parts.get(at..).unwrap_or_default();
        let (first, others) = runs.split_first().map_or((&[][..], runs), |(one, rest)| {
            (&one[one.partition_point(|&value| value < least)..], rest)
        });
        first.iter().chain(others.iter().flatten()).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.parts.iter().flatten().copied()
    }

    pub fn clear(&mut self) {
        *self = Runs::default();
    }

    /// The run that a value is in, if it is in any.
    fn run_of(&self, value: T) -> Option<usize> {
        let behind = self.heads.partition_point(|&head| head <= value);
        (!self.parts.is_empty()).then(|| behind.saturating_sub(1))
    }

    /// A value of this run has gone: lets the run go if it is empty, and joins it with a neighbour where
    /// both are small. So any two neighbours have more than half a run together.
    fn tidy(&mut self, at: usize) {
        if self.parts[at].is_empty() {
            self.drop_run(at);
            return;
        }
        let together = |left: usize| Some(self.parts[left].len() + self.parts.get(left + 1)?.len());
        let is_small = |&left: &usize| together(left).is_some_and(|len| len <= RUN_MAX / 2);
        if let Some(left) = at.checked_sub(1).into_iter().chain([at]).find(is_small) {
            let more = self.drop_run(left + 1);
            let run = &mut self.parts[left];
            run.reserve_exact(more.len());
            run.extend(more);
            return;
        }
        let run = &mut self.parts[at];
        if run.capacity() >= 2 * (run.len() + STEP) {
            run.shrink_to(run.len() + STEP);
        }
    }

    fn drop_run(&mut self, at: usize) -> Vec<T> {
        self.heads.remove(at);
        let run = self.parts.remove(at);
        // A list that was long gives its room back.
        if self.parts.capacity() >= 2 * (self.parts.len() + STEP) {
            self.heads.shrink_to(self.heads.len() + STEP);
            self.parts.shrink_to(self.parts.len() + STEP);
        }
        run
    }
}

/// Room comes by steps, and by small ones first: most sets are small.
fn put<T>(run: &mut Vec<T>, place: usize, value: T) {
    if run.len() == run.capacity() {
        run.reserve_exact(run.len().clamp(4, STEP));
    }
    run.insert(place, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What it holds, and how it holds it.
    fn check(runs: &Runs<u64>, model: &BTreeSet<u64>) {
        assert!(runs.iter().eq(model.iter().copied()));
        assert_eq!((runs.len(), runs.first()), (model.len(), model.first().copied()));
        assert_eq!(runs.heads.len(), runs.parts.len());
        for (at, run) in runs.parts.iter().enumerate() {
            assert!(!run.is_empty() && run.len() <= RUN_MAX && runs.heads[at] <= run[0]);
            assert!(runs.heads.get(at + 1).is_none_or(|head| run.last() < Some(head)));
            let next = runs.parts.get(at + 1).map_or(RUN_MAX, Vec::len);
            assert!(run.len() + next > RUN_MAX / 2, "small runs are joined");
        }
    }

    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn holds_what_a_tree_would_hold() {
        for (seed, values, rising) in [(1, 200, false), (2, 6_000, false), (3, 1 << 40, true)] {
            let (mut state, mut runs, mut model) = (seed, Runs::default(), BTreeSet::new());
            for step in 0..30_000_u64 {
                let value = if rising { step } else { next(&mut state) % values };
                // It grows, and then goes down to nothing.
                let comes = next(&mut state) % 8 < if step < 15_000 { 6 } else { 2 };
                if comes {
                    assert_eq!(runs.insert(value), model.insert(value));
                } else if rising || next(&mut state).is_multiple_of(4) {
                    assert_eq!(runs.pop_first(), model.pop_first());
                } else {
                    assert_eq!(runs.remove(value), model.remove(&value));
                }
                assert_eq!(runs.contains(value), model.contains(&value));
                if step % 500 == 0 {
                    check(&runs, &model);
                    let from = next(&mut state) % values;
                    assert!(runs.at_least(from).eq(model.range(from..).copied()));
                }
            }
            check(&runs, &model);
            let mut many: Vec<u64> = (0..2_000).map(|_| next(&mut state)).collect();
            many.extend(model.iter());
            let mut runs = Runs::from(many.clone());
            model.extend(many);
            check(&runs, &model);
            model.into_iter().rev().for_each(|value| assert!(runs.remove(value)));
            assert!(runs.is_empty() && runs.parts.is_empty() && runs.first().is_none());
        }
    }

    #[test]
    fn takes_little_more_than_its_values() {
        let room = |runs: &Runs<u64>| {
            let list = runs.parts.capacity() * size_of::<Vec<u64>>() + runs.heads.capacity() * 8;
            runs.parts.iter().map(|run| run.capacity() * 8).sum::<usize>() + list
        };
        let (mut rising, mut mixed, mut state) = (Runs::default(), Runs::default(), 7);
        (0..200_000).for_each(|value| assert!(rising.insert(value)));
        (0..200_000).for_each(|_| assert!(mixed.insert(next(&mut state))));
        assert!(room(&rising) * 10 <= rising.len() * 8 * 11, "{}", room(&rising));
        assert!(room(&mixed) * 10 <= mixed.len() * 8 * 12, "{}", room(&mixed));
        let few: Vec<u64> = mixed.iter().step_by(100).collect();
        let all: Vec<u64> = mixed.iter().collect();
        all.into_iter().filter(|one| few.binary_search(one).is_err()).for_each(|one| {
            mixed.remove(one);
        });
        assert!(room(&mixed) <= few.len() * 8 * 3, "{} for {}", room(&mixed), few.len());
    }
}

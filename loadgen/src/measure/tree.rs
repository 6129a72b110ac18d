//! What a server spends: processor time, context switches and writes of a tree of processes.
//!
//! Looked at once a second and at both ends, so that processes which come and go in between
//! count as well. Two clocks are kept. `stat` (10 ms steps per process) loses nothing: what
//! a dead thread used stays with its process, and what a dead child used goes to the parent
//! that waited for it. `schedstat` counts nanoseconds but forgets the dead. So the finer
//! one is shown while no thread has ended, and the sure one otherwise.
//!
//! Context switches of threads that ended are those of the last look.

use pombal::bytes::hash::{Map, Set};
use serde::Serialize;

use super::process;

/// A process that belongs to the tree.
#[derive(Clone, Copy, Debug)]
struct Member {
    began: u64,
    cpu_ns: u64,
    write_octets: Option<u64>,
}

/// The latest figures of one thread and those from which it counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    first: process::Thread,
    last: process::Thread,
}

/// Watches a tree of processes.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    roots: Vec<u32>,
    members: Map<u32, Member>,
    threads: Map<(u32, u32, u64), Counted>,
    /// Sums over the members at the first look.
    base: Sums,
    last: Sums,
    begun: bool,
    thread_ended: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cpu_ns: u64,
    write_octets: Option<u64>,
}

/// What the tree used between two moments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spent {
    pub(crate) cpu_ns: u64,
    /// `schedstat` or `stat`: see the module.
    pub(crate) cpu_source: &'static str,
    /// By the coarse clock, always.
    pub(crate) cpu_stat_ns: u64,
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
    pub(crate) write_octets: Option<u64>,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
}

/// Memory of the whole tree, in octets.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct TreeMemory {
    pub(crate) resident: u64,
    pub(crate) private: Option<u64>,
}

impl Tree {
    /// A tree with these roots; without any, nothing is watched.
    pub(crate) fn new(roots: &[u32]) -> Result<Tree, String> {
        for root in roots {
            if process::stat(*root).is_none() {
                return Err(format!("--server-pid {root}: there is no such process"));
            }
        }
        Ok(Tree { roots: roots.to_vec(), ..Tree::default() })
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Takes the figures from which everything counts.
    pub(crate) fn begin(&mut self) {
        if self.is_watched() {
            self.begun = false;
            self.threads.clear();
            self.thread_ended = false;
            self.look();
            self.base = self.last;
            self.begun = true;
        }
    }

    /// Looks again. Cheap enough for once a second with a few hundred processes.
    pub(crate) fn look(&mut self) {
        if !self.is_watched() {
            return;
        }
        self.find_members();
        let mut sums = Sums { cpu_ns: 0, write_octets: Some(0) };
        for member in self.members.values() {
            sums.cpu_ns += member.cpu_ns;
            sums.write_octets = sums.write_octets.zip(member.write_octets).map(|(a, b)| a + b);
        }
        // A root that was killed takes its figures along: the last ones stay.
        self.last.cpu_ns = self.last.cpu_ns.max(sums.cpu_ns);
        if !self.members.is_empty() {
            self.last.write_octets = sums.write_octets;
        }
        self.look_at_threads();
    }

    /// The roots, their descendants, and whoever was a member and still lives.
    fn find_members(&mut self) {
        let all = process::all();
        let mut belongs: Set<u32> = self.roots.iter().copied().collect();
        for (pid, stat) in &all {
            if self.members.get(pid).is_some_and(|member| member.began == stat.began) {
                belongs.insert(*pid);
            }
        }
        // Parents mostly stand before their children; go round until nothing is added.
        loop {
            let before = belongs.len();
            for (pid, stat) in &all {
                if belongs.contains(&stat.parent) {
                    belongs.insert(*pid);
                }
            }
            if belongs.len() == before {
                break;
            }
        }
        self.members = all
            .iter()
            .filter(|(pid, _)| belongs.contains(pid))
            .map(|(pid, stat)| {
                let write_octets =
                    process::write_octets(*pid).or_else(|| stat.is_zombie.then_some(0));
                (*pid, Member { began: stat.began, cpu_ns: stat.cpu_ns, write_octets })
            })
            .collect();
    }

    fn look_at_threads(&mut self) {
        let mut alive: Set<(u32, u32, u64)> = Set::default();
        for (pid, member) in &self.members {
            for tid in process::threads(*pid) {
                let Some(now) = process::thread(*pid, tid) else { continue };
                let key = (*pid, tid, member.began);
                alive.insert(key);
                let counted = self.threads.entry(key).or_insert_with(|| Counted {
                    // What came after the beginning counts in full.
                    first: if self.begun { process::Thread::zero(now) } else { now },
                    last: now,
                });
                counted.last = now;
            }
        }
        self.thread_ended |= self.threads.keys().any(|key| !alive.contains(key));
    }

    /// What was used since [`Tree::begin`], as of the last look.
    pub(crate) fn spent(&self) -> Option<Spent> {
        if !self.is_watched() {
            return None;
        }
        let cpu_stat_ns = self.last.cpu_ns.saturating_sub(self.base.cpu_ns);
        let (mut fine_ns, mut voluntary_switches, mut involuntary_switches) = (Some(0), 0, 0);
        for Counted { first, last } in self.threads.values() {
            let used =
                last.cpu_ns.zip(first.cpu_ns).map(|(last, first)| last.saturating_sub(first));
            fine_ns = fine_ns.zip(used).map(|(sum, used)| sum + used);
            voluntary_switches += last.voluntary.saturating_sub(first.voluntary);
            involuntary_switches += last.involuntary.saturating_sub(first.involuntary);
        }
        let (cpu_ns, cpu_source) = match fine_ns {
            Some(fine_ns) if !self.thread_ended => (fine_ns, "schedstat"),
            _ => (cpu_stat_ns, "stat"),
        };
        let write_octets = self.last.write_octets.zip(self.base.write_octets);
        Some(Spent {
            cpu_ns,
            cpu_source,
            cpu_stat_ns,
            voluntary_switches,
            involuntary_switches,
            write_octets: write_octets.map(|(last, base)| last.saturating_sub(base)),
            processes: self.members.len(),
            threads: self.threads.len(),
        })
    }

    /// Memory of all members now.
    pub(crate) fn memory(&mut self) -> Option<TreeMemory> {
        if !self.is_watched() {
            return None;
        }
        self.find_members();
        let mut all = TreeMemory { resident: 0, private: Some(0) };
        for pid in self.members.keys() {
            let Some(one) = process::memory(*pid) else { continue };
            all.resident += one.resident;
            all.private = all.private.zip(one.private).map(|(sum, one)| sum + one);
        }
        Some(all)
    }
}

impl process::Thread {
    /// Nothing used yet, with the clocks that `like` has.
    fn zero(like: process::Thread) -> process::Thread {
        process::Thread { cpu_ns: like.cpu_ns.map(|_| 0), ..process::Thread::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A child that burns processor time in a short-lived child of its own and then waits.
    #[test]
    fn counts_children_that_came_and_went() {
        let script = "read go; sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo done; read end";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut tree = Tree::new(&[child.id()]).unwrap();
        tree.begin();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"go\n").unwrap();
        let mut output = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut output).unwrap();
        tree.look();
        let spent = tree.spent().unwrap();
        assert!(spent.cpu_stat_ns >= 20_000_000, "the grandchild's time is missing: {spent:?}");
        assert!(tree.memory().unwrap().resident > 0);
        drop(input);
        child.wait().unwrap();
    }

    #[test]
    fn says_so_when_there_is_no_such_process() {
        assert!(Tree::new(&[u32::MAX]).is_err());
        assert!(Tree::new(&[]).unwrap().spent().is_none());
    }
}

//! Messages in threads (RFC 5256 §3): by subject, by references, and by references alone.
//!
//! ```text
//! threads := *( "(" thread ")" )        thread := [ number *( SP number ) ] [ 2*( "(" thread ")" ) ]
//! ```
//!
//! What is known of the messages comes in as a plain slice, in the order of the mailbox. Work is
//! that of sorting them, whatever their references say: links are only ever made from a thread's
//! head, so a set of joined threads answers whether one more would close a circle. No recursion.
//!
//! The links that messages make for themselves come before those that others' references make
//! between two of them (step 1.A against 1.B); in one pass the later would have to be undone.

use crate::bytes::hash::Map;
use std::collections::hash_map::Entry;

/// The algorithms of THREAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    OrderedSubject,
    References,
    /// References without the joining of threads by subject; threads in the order of their newest
    /// message (as Dovecot has it).
    Refs,
}

/// What is known of one message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Sequence number or UID.
    pub number: u32,
    /// The moment it was sent, or arrived: seconds since 1970 (RFC 5256 §2.2).
    pub sent: i64,
    /// See [`super::ids::message_id`].
    pub id: Option<u64>,
    /// See [`super::ids::references`].
    pub references: &'a [u64],
    /// See [`super::subject`].
    pub base_subject: &'a [u8],
    pub is_reply: bool,
}

/// Appends the threads, each in its parentheses: what follows `* THREAD `.
pub fn put_threads(algorithm: Algorithm, messages: &[Message<'_>], out: &mut Vec<u8>) {
    let mut forest = Forest::new(messages);
    match algorithm {
        Algorithm::OrderedSubject => forest.link_subjects(),
        Algorithm::References | Algorithm::Refs => {
            forest.link_references();
            forest.prune();
            if algorithm == Algorithm::References {
                forest.gather_subjects();
            }
        }
    }
    forest.put(algorithm == Algorithm::Refs, out);
}

type Index = usize;
const NONE: Index = Index::MAX;

struct Forest<'m, 'a> {
    messages: &'m [Message<'a>],
    /// Of messages, then of those that are only referred to, then of made ones.
    parents: Vec<Index>,
    /// Removed: neither a head nor anybody's parent.
    gone: Vec<bool>,
    /// Towards the head of the thread, as far as it is known; see [`Forest::head_of`].
    heads: Vec<Index>,
}

impl<'m, 'a> Forest<'m, 'a> {
    fn new(messages: &'m [Message<'a>]) -> Forest<'m, 'a> {
        let count = messages.len();
        Forest {
            messages,
            parents: vec![NONE; count],
            gone: vec![false; count],
            heads: (0..count).collect(),
        }
    }

    fn add(&mut self) -> Index {
        self.parents.push(NONE);
        self.gone.push(false);
        self.heads.push(self.heads.len());
        self.parents.len() - 1
    }

    fn is_dummy(&self, node: Index) -> bool {
        node >= self.messages.len()
    }

    /// The head of the thread of `node`, while threads are only joined.
    fn head_of(&mut self, node: Index) -> Index {
        let mut at = node;
        while self.heads[at] != at {
            // Half of the way is made shorter each time it is gone.
            self.heads[at] = self.heads[self.heads[at]];
            at = self.heads[at];
        }
        at
    }

    /// Makes `parent` the parent of `child`, which must be a head, unless that closes a circle.
    fn join(&mut self, child: Index, parent: Index) {
        if self.parents[child] == NONE && self.head_of(parent) != child {
            self.parents[child] = parent;
            self.heads[child] = parent;
        }
    }

    /// Steps 1 and 2.
    fn link_references(&mut self) {
        let mut nodes: Map<u64, Index> = Map::default();
        for (node, message) in self.messages.iter().enumerate() {
            if let Some(id) = message.id {
                // Of two messages with one id, the second has none.
                nodes.entry(id).or_insert(node);
            }
        }
        for message in self.messages {
            for &id in message.references {
                if let Entry::Vacant(entry) = nodes.entry(id) {
                    entry.insert(self.parents.len());
                    self.add();
                }
            }
        }
        for (node, message) in self.messages.iter().enumerate() {
            if let Some(last) = message.references.last() {
                self.join(node, nodes[last]);
            }
        }
        for message in self.messages {
            for pair in message.references.windows(2) {
                let (parent, child) = (nodes[&pair[0]], nodes[&pair[1]]);
                // Step 1.B: a message without references has no parent.
                let is_free =
                    self.messages.get(child).is_none_or(|child| !child.references.is_empty());
                if is_free {
                    self.join(child, parent);
                }
            }
        }
    }

    /// The children of each node, ends of lists first.
    fn children(&self) -> Children {
        let mut children = Children { starts: vec![0; self.parents.len() + 1], nodes: Vec::new() };
        let is_child = |node: &Index| !self.gone[*node] && self.parents[*node] != NONE;
        for node in (0..self.parents.len()).filter(is_child) {
            children.starts[self.parents[node] + 1] += 1;
        }
        for index in 1..children.starts.len() {
            children.starts[index] += children.starts[index - 1];
        }
        children.nodes = vec![NONE; *children.starts.last().unwrap_or(&0)];
        let mut filled = children.starts.clone();
        for node in (0..self.parents.len()).filter(is_child) {
            let place = &mut filled[self.parents[node]];
            children.nodes[*place] = node;
            *place += 1;
        }
        children
    }

    /// Step 3: who is only referred to goes, but for heads of several.
    fn prune(&mut self) {
        for node in self.messages.len()..self.parents.len() {
            self.gone[node] = true;
        }
        // Whoever is above a message has somebody below.
        for node in 0..self.messages.len() {
            let mut at = self.parents[node];
            while at != NONE && self.gone[at] {
                self.gone[at] = false;
                at = self.parents[at];
            }
        }
        // Parents before children: then each is decided before those below it.
        let order = self.heads_first();
        for &node in &order {
            // Whoever is under a dummy that is no head moves up to the one above it.
            let parent = self.parents[node];
            if parent != NONE && self.is_dummy(parent) && self.parents[parent] != NONE {
                self.parents[node] = self.parents[parent];
            }
        }
        for &node in &order {
            if self.is_dummy(node) && self.parents[node] != NONE {
                self.gone[node] = true;
            }
        }
        let children = self.children();
        for &node in &order {
            if self.is_dummy(node) && !self.gone[node] && children.of(node).len() < 2 {
                for &child in children.of(node) {
                    self.parents[child] = NONE;
                }
                self.gone[node] = true;
            }
        }
    }

    /// All nodes, each behind its parent.
    fn heads_first(&self) -> Vec<Index> {
        let children = self.children();
        let mut order: Vec<Index> =
            (0..self.parents.len()).filter(|&node| self.parents[node] == NONE).collect();
        let mut at = 0;
        while at < order.len() {
            order.extend_from_slice(children.of(order[at]));
            at += 1;
        }
        order
    }

    /// Each node's moment and number: its own, or those of the first below a dummy.
    fn moments(&self) -> Vec<(i64, u32)> {
        let mut moments = vec![(i64::MAX, u32::MAX); self.parents.len()];
        for (moment, message) in moments.iter_mut().zip(self.messages) {
            *moment = (message.sent, message.number);
        }
        for node in 0..self.messages.len() {
            let parent = self.parents[node];
            if parent != NONE && self.is_dummy(parent) {
                moments[parent] = moments[parent].min(moments[node]);
            }
        }
        moments
    }

    /// The heads that are left, in the order of their moments (step 4).
    fn sorted_heads(&self, moments: &[(i64, u32)]) -> Vec<Index> {
        let is_head = |node: &Index| self.parents[*node] == NONE && !self.gone[*node];
        let mut heads: Vec<Index> = (0..self.parents.len()).filter(is_head).collect();
        heads.sort_unstable_by_key(|&node| moments[node]);
        heads
    }

    /// Steps 4 and 5: threads with the same base subject become one.
    fn gather_subjects(&mut self) {
        let moments = self.moments();
        let heads = self.sorted_heads(&moments);
        // The message that speaks for a head: itself, or the first below a dummy.
        let mut speakers: Vec<Index> = (0..self.parents.len()).collect();
        for node in 0..self.messages.len() {
            let parent = self.parents[node];
            if parent != NONE && self.is_dummy(parent) && moments[node] == moments[parent] {
                speakers[parent] = node;
            }
        }
        let subject = |node: Index| self.messages[speakers[node]].base_subject;
        let is_reply =
            |node: Index| self.messages.get(node).is_some_and(|message| message.is_reply);
        let mut table: Map<&[u8], Index> = Map::default();
        for &head in heads.iter().filter(|head| !subject(**head).is_empty()) {
            let entry = table.entry(subject(head)).or_insert(head);
            let is_better = self.is_dummy(head) || is_reply(*entry) && !is_reply(head);
            if !self.is_dummy(*entry) && is_better {
                *entry = head;
            }
        }
        let messages = self.messages;
        for head in heads {
            let subject = messages[speakers[head]].base_subject;
            let Some(&first) = table.get(subject).filter(|first| **first != head) else { continue };
            let replies = messages.get(head).is_some_and(|message| message.is_reply)
                && !messages.get(first).is_some_and(|message| message.is_reply);
            match (self.is_dummy(first), self.is_dummy(head)) {
                (true, true) => {
                    for node in 0..messages.len() {
                        if self.parents[node] == head {
                            self.parents[node] = first;
                        }
                    }
                    self.gone[head] = true;
                }
                (true, false) => self.parents[head] = first,
                (false, _) if replies => self.parents[head] = first,
                (false, _) => {
                    let made = self.add();
                    self.parents[head] = made;
                    self.parents[first] = made;
                    table.insert(subject, made);
                }
            }
        }
    }

    /// ORDEREDSUBJECT: the first of each subject is the head, all others its children.
    fn link_subjects(&mut self) {
        let mut order: Vec<Index> = (0..self.messages.len()).collect();
        order.sort_unstable_by_key(|&node| (self.messages[node].sent, self.messages[node].number));
        let mut firsts: Map<&[u8], Index> = Map::default();
        for node in order {
            match firsts.entry(self.messages[node].base_subject) {
                Entry::Vacant(entry) => {
                    entry.insert(node);
                }
                Entry::Occupied(entry) => self.parents[node] = *entry.get(),
            }
        }
    }

    /// Step 6, and the text. `by_newest` sorts threads by their last message.
    fn put(&self, by_newest: bool, out: &mut Vec<u8>) {
        let moments = self.moments();
        let mut children = self.children();
        for node in 0..self.parents.len() {
            let range = children.starts[node]..children.starts[node + 1];
            children.nodes[range].sort_unstable_by_key(|&child| moments[child]);
        }
        let mut heads = self.sorted_heads(&moments);
        if by_newest {
            let mut newest = moments;
            for &node in self.heads_first().iter().rev() {
                let parent = self.parents[node];
                if parent != NONE && !self.gone[node] {
                    let is_set = !self.is_dummy(parent) || newest[parent].0 != i64::MAX;
                    let before = if is_set { newest[parent] } else { (i64::MIN, 0) };
                    newest[parent] = before.max(newest[node]);
                }
            }
            heads.sort_unstable_by_key(|&node| newest[node]);
        }
        for head in heads {
            self.put_thread(head, &children, out);
        }
    }

    fn put_thread(&self, head: Index, children: &Children, out: &mut Vec<u8>) {
        /// What is still to be written, last first.
        enum Step {
            Node(Index),
            Close,
        }
        let mut steps = vec![Step::Node(head)];
        while let Some(step) = steps.pop() {
            let Step::Node(first) = step else {
                out.push(b')');
                continue;
            };
            out.push(b'(');
            steps.push(Step::Close);
            let mut node = first;
            loop {
                if let Some(message) = self.messages.get(node) {
                    if !out.ends_with(b"(") {
                        out.push(b' ');
                    }
                    super::nstring::put_number(message.number, out);
                }
                match children.of(node) {
                    [] => break,
                    &[only] => node = only,
                    several => {
                        if !out.ends_with(b"(") {
                            out.push(b' ');
                        }
                        steps.extend(several.iter().rev().map(|&child| Step::Node(child)));
                        break;
                    }
                }
            }
        }
    }
}

/// Lists of children, one behind the other.
struct Children {
    starts: Vec<usize>,
    nodes: Vec<Index>,
}

impl Children {
    fn of(&self, node: Index) -> &[Index] {
        &self.nodes[self.starts[node]..self.starts[node + 1]]
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;

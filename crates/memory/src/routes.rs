//! Which mailboxes a topic goes to: a trie over the words of the patterns.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_core::{Pattern, RESERVED_PREFIX};

use crate::mailbox::Mailbox;

/// Patterns and where they lead.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    words: BTreeMap<Box<[u8]>, Node>,
    /// Behind a `*`.
    any: Option<Box<Node>>,
    /// Patterns that end here.
    here: Vec<Arc<Mailbox>>,
    /// Patterns that end with a `>` here.
    tail: Vec<Arc<Mailbox>>,
}

impl Routes {
    /// Leads what matches `pattern` to `mailbox`; doing so twice is the same as once.
    pub(crate) fn add(&mut self, pattern: &Pattern, mailbox: &Arc<Mailbox>) {
        let mut node = &mut self.root;
        for word in pattern.words() {
            match word {
                ">" => return insert(&mut node.tail, mailbox),
                "*" => node = node.any.get_or_insert_default(),
                word => node = node.words.entry(word.as_bytes().into()).or_default(),
            }
        }
        insert(&mut node.here, mailbox);
    }

    /// Undoes [`add`](Self::add), and prunes what no pattern needs any more.
    pub(crate) fn remove(&mut self, pattern: &Pattern, mailbox: &Arc<Mailbox>) {
        let words: Vec<&str> = pattern.words().collect();
        self.root.remove(&words, mailbox);
    }

    /// Appends every mailbox that `topic` goes to, each once, in a fixed order.
    pub(crate) fn find(&self, topic: &[u8], into: &mut Vec<Arc<Mailbox>>) {
        let start = into.len();
        self.root.find(
            Some(topic),
            topic.starts_with(RESERVED_PREFIX.as_bytes()),
            into,
        );
        let found = &mut into[start..];
        if found.len() > 1 {
            found.sort_unstable_by_key(|mailbox| mailbox.id());
            into.dedup_by_key(|mailbox| mailbox.id());
        }
    }
}

fn insert(list: &mut Vec<Arc<Mailbox>>, mailbox: &Arc<Mailbox>) {
    if !list.iter().any(|this| this.id() == mailbox.id()) {
        list.push(Arc::clone(mailbox));
    }
}

impl Node {
    /// `rest` is what is left of the topic, `None` behind its last word; `reserved` is true only
    /// at the first word of one of the framework's own topics, which no wildcard matches.
    fn find(&self, rest: Option<&[u8]>, reserved: bool, into: &mut Vec<Arc<Mailbox>>) {
        let Some(rest) = rest else {
            into.extend_from_slice(&self.here);
            return;
        };
        let (word, after) = match rest.iter().position(|byte| *byte == b'.') {
            Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
            None => (rest, None),
        };
        if !reserved {
            into.extend_from_slice(&self.tail);
            if let Some(node) = &self.any {
                node.find(after, false, into);
            }
        }
        if let Some(node) = self.words.get(word) {
            node.find(after, false, into);
        }
    }

    /// Removes and says whether the node is of no more use.
    fn remove(&mut self, words: &[&str], mailbox: &Arc<Mailbox>) -> bool {
        match words {
            [] => self.here.retain(|this| this.id() != mailbox.id()),
            [">"] => self.tail.retain(|this| this.id() != mailbox.id()),
            ["*", rest @ ..] => {
                if self
                    .any
                    .as_mut()
                    .is_some_and(|node| node.remove(rest, mailbox))
                {
                    self.any = None;
                }
            }
            [word, rest @ ..] => {
                let word = word.as_bytes();
                if self
                    .words
                    .get_mut(word)
                    .is_some_and(|node| node.remove(rest, mailbox))
                {
                    self.words.remove(word);
                }
            }
        }
        self.words.is_empty() && self.any.is_none() && self.here.is_empty() && self.tail.is_empty()
    }
}

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
        self.root.find(Some(topic), topic.starts_with(RESERVED_PREFIX.as_bytes()), into);
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
                if self.any.as_mut().is_some_and(|node| node.remove(rest, mailbox)) {
                    self.any = None;
                }
            }
            [word, rest @ ..] => {
                let word = word.as_bytes();
                if self.words.get_mut(word).is_some_and(|node| node.remove(rest, mailbox)) {
                    self.words.remove(word);
                }
            }
        }
        self.words.is_empty() && self.any.is_none() && self.here.is_empty() && self.tail.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::mailbox::Role;
    use crate::state::Settings;
    use posthaste_core::Topic;
    use std::sync::Weak;

    fn mailbox(id: u64) -> Arc<Mailbox> {
        let name = Topic::new("name").expect("valid");
        let home = Home::new(None, None, Weak::new());
        Arc::new(Mailbox::new(id, Role::Subscription, name, Settings::default(), None, home))
    }

    /// Every sequence of up to `depth` of the given words.
    fn sequences(words: &[&str], depth: usize) -> Vec<String> {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut last = all.clone();
        for _ in 1..depth {
            last = last
                .iter()
                .flat_map(|start| words.iter().map(move |word| format!("{start}.{word}")))
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn a_topic_goes_exactly_where_a_pattern_matches_it() {
        let patterns: Vec<Pattern> = sequences(&["a", "_ph", "*", ">"], 3)
            .into_iter()
            .filter_map(|text| Pattern::new(text).ok())
            .collect();
        let mut routes = Routes::default();
        let mailboxes: Vec<_> = (0..).take(patterns.len()).map(mailbox).collect();
        for (pattern, mailbox) in patterns.iter().zip(&mailboxes) {
            routes.add(pattern, mailbox);
        }
        for topic in sequences(&["a", "b", "_ph"], 4) {
            let topic = Topic::new(topic).expect("valid");
            let mut found = Vec::new();
            routes.find(topic.as_bytes(), &mut found);
            let found: Vec<u64> = found.iter().map(|mailbox| mailbox.id()).collect();
            let expected: Vec<u64> =
                (0..).zip(&patterns).filter(|(_, p)| p.matches(&topic)).map(|(id, _)| id).collect();
            assert_eq!(found, expected, "{topic}");
        }
    }

    #[test]
    fn removing_every_pattern_leaves_nothing_behind() {
        let mut routes = Routes::default();
        let mailbox = mailbox(1);
        let patterns: Vec<Pattern> = sequences(&["a", "*", ">"], 3)
            .into_iter()
            .filter_map(|text| Pattern::new(text).ok())
            .collect();
        for pattern in &patterns {
            routes.add(pattern, &mailbox);
            routes.add(pattern, &mailbox);
        }
        for pattern in &patterns {
            routes.remove(pattern, &mailbox);
        }
        let root = &routes.root;
        assert!(root.words.is_empty() && root.any.is_none());
        assert!(root.here.is_empty() && root.tail.is_empty());
    }
}

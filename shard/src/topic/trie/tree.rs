//! Filters with wildcards: a tree with a node per level, whose edges lie in one hash table.

use hashbrown::HashTable;
use slab::Slab;

use super::node::{Node, NodeId, Slot};
use super::{ShortHash, TextHasher};
use crate::topic::{TopicFilter, TopicName};

/// The nodes, the edges with text between them, and where each filter's value lies.
///
/// Invariants: every node but the root is used, by a value or a node below; `edges` holds the nodes with text, each
/// under (its parent, its text), and `Node::plus` the others; `Node::literals` counts the edges down from it;
/// `filters` is the number of values; no node for `+` has a value in [`Slot::Own`], nor has the root.
pub(super) struct Tree<V> {
    nodes: Slab<Node<V>>,
    edges: HashTable<Edge>,
    filters: usize,
    hasher: TextHasher,
}

#[derive(Clone, Copy)]
struct Edge {
    /// Of the parent's number and the text.
    hash: ShortHash,
    /// Where it leads; parent and text are there.
    to: NodeId,
}

impl<V> Tree<V> {
    pub(super) fn new(hasher: TextHasher) -> Tree<V> {
        let mut nodes = Slab::new();
        let root = NodeId::new(nodes.insert(Node::new(NodeId::NONE, b"")));
        assert!(root == NodeId::ROOT, "an empty slab starts at 0");
        Tree {
            nodes,
            edges: HashTable::new(),
            filters: 0,
            hasher,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.filters
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, filter: TopicFilter<'_>) -> Option<&V> {
        let place = Place::of(filter);
        self.node(self.find(&place)?).value(place.slot)
    }

    pub(super) fn get_mut(&mut self, filter: TopicFilter<'_>) -> Option<&mut V> {
        let place = Place::of(filter);
        let id = self.find(&place)?;
        self.node_mut(id).value_mut(place.slot).as_mut()
    }

    pub(super) fn insert(&mut self, filter: TopicFilter<'_>, value: V) -> Option<V> {
        let place = Place::of(filter);
        let id = place
            .path()
            .fold(NodeId::ROOT, |parent, level| self.find_or_add_child(parent, level));
        let old = self.node_mut(id).value_mut(place.slot).replace(value);
        self.filters += usize::from(old.is_none());
        old
    }

    pub(super) fn remove(&mut self, filter: TopicFilter<'_>) -> Option<V> {
        let place = Place::of(filter);
        let mut id = self.find(&place)?;
        let old = self.node_mut(id).value_mut(place.slot).take()?;
        self.filters -= 1;
        while id != NodeId::ROOT && self.node(id).is_unused() {
            id = self.remove_node(id);
        }
        Some(old)
    }

    /// Depth first; what waits on the stack is the other choice (`+` or text) of each level above.
    pub(super) fn for_each_match(&self, topic: TopicName<'_>, scratch: &mut MatchScratch, mut visit: impl FnMut(&V)) {
        let text = topic.as_str().as_bytes();
        scratch.levels.clear();
        scratch.stack.clear();
        let mut next = (NodeId::ROOT, 0);
        if topic.starts_with_dollar() && !fault!(WildcardSeesDollar) {
            // Neither `+` nor `#` at the root applies [MQTT-4.7.2-1], so the first level is taken by its text.
            let Some(level) = scratch.level(0, text, &self.hasher) else {
                return;
            };
            let Some(child) = self.child(NodeId::ROOT, level.text(text), level.hash) else {
                return;
            };
            next = (child, 1);
        }
        loop {
            let (id, depth) = next;
            let node = self.node(id);
            if let Some(value) = node.value(Slot::Hash) {
                visit(value);
            }
            let mut literal = None;
            let mut plus = NodeId::NONE;
            match scratch.level(depth, text, &self.hasher) {
                Some(level) => {
                    if let (true, Some(value)) = (level.is_last(text), node.value(Slot::Plus)) {
                        visit(value);
                    }
                    if node.literals > 0 {
                        literal = self.child(id, level.text(text), level.hash);
                    }
                    plus = node.plus;
                }
                None => {
                    if let Some(value) = node.value(Slot::Own) {
                        visit(value);
                    }
                }
            }
            next = match (literal, plus) {
                (Some(child), NodeId::NONE) => (child, depth + 1),
                (Some(child), plus) => {
                    scratch.stack.push((plus, depth + 1));
                    (child, depth + 1)
                }
                (None, NodeId::NONE) => match scratch.stack.pop() {
                    Some(waiting) => waiting,
                    None => return,
                },
                (None, plus) => (plus, depth + 1),
            };
        }
    }

    /// In the order of the slab.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, &V)> {
        self.nodes.iter().flat_map(move |(index, node)| {
            let values = Slot::ALL.into_iter().filter_map(|slot| Some((slot, node.value(slot)?)));
            values.map(move |(slot, value)| (self.text(NodeId::new(index), slot), value))
        })
    }

    pub(super) fn check_invariants(&self) {
        let (mut values, mut literals, mut pluses) = (0, 0, 0);
        for (index, node) in &self.nodes {
            let id = NodeId::new(index);
            values += Slot::ALL.into_iter().filter(|slot| node.value(*slot).is_some()).count();
            literals += node.literals as usize;
            if node.plus != NodeId::NONE {
                assert!(self.node(node.plus).parent == id, "a node is below its parent");
                assert!(
                    self.node(node.plus).value(Slot::Own).is_none(),
                    "the value of a last + lies above"
                );
                pluses += 1;
            }
            if id == NodeId::ROOT {
                assert!(node.value(Slot::Own).is_none(), "no filter is empty");
                continue;
            }
            assert!(!node.is_unused(), "a node is used");
            if self.node(node.parent).plus != id {
                let hash = self.hasher.hash(node.level.as_bytes());
                let found = self.child(node.parent, node.level.as_bytes(), hash);
                assert!(found == Some(id), "a node with text has its edge");
            }
        }
        assert_eq!(values, self.filters, "each filter has one value");
        assert_eq!(literals, self.edges.len(), "each edge is counted by its parent");
        assert_eq!(
            literals + pluses + 1,
            self.nodes.len(),
            "each node is below exactly one other"
        );
    }

    /// The filter whose value is in `slot` of this node.
    fn text(&self, mut id: NodeId, slot: Slot) -> String {
        let mut levels = match slot {
            Slot::Own => vec![],
            Slot::Plus => vec!["+"],
            Slot::Hash => vec!["#"],
        };
        while id != NodeId::ROOT {
            let node = self.node(id);
            levels.push(if self.node(node.parent).plus == id {
                "+"
            } else {
                node.level.as_str()
            });
            id = node.parent;
        }
        levels.reverse();
        levels.join("/")
    }

    fn find(&self, place: &Place<'_>) -> Option<NodeId> {
        place
            .path()
            .try_fold(NodeId::ROOT, |parent, level| self.find_child(parent, level))
    }

    fn find_child(&self, parent: NodeId, level: &str) -> Option<NodeId> {
        if level == "+" {
            let plus = self.node(parent).plus;
            return (plus != NodeId::NONE).then_some(plus);
        }
        self.child(parent, level.as_bytes(), self.hasher.hash(level.as_bytes()))
    }

    fn find_or_add_child(&mut self, parent: NodeId, level: &str) -> NodeId {
        if let Some(id) = self.find_child(parent, level) {
            return id;
        }
        if level == "+" {
            let id = NodeId::new(self.nodes.insert(Node::new(parent, b"")));
            self.node_mut(parent).plus = id;
            return id;
        }
        let id = NodeId::new(self.nodes.insert(Node::new(parent, level.as_bytes())));
        let hash = edge_hash(parent, self.hasher.hash(level.as_bytes()));
        self.edges
            .insert_unique(hash.spread(), Edge { hash, to: id }, |edge| edge.hash.spread());
        self.node_mut(parent).literals += 1;
        id
    }

    /// The child under a text that is not `+`.
    #[inline]
    fn child(&self, parent: NodeId, level: &[u8], level_hash: u64) -> Option<NodeId> {
        let hash = edge_hash(parent, level_hash);
        let is_it = |edge: &Edge| {
            edge.hash == hash && {
                let node = self.node(edge.to);
                node.parent == parent && node.level.as_bytes() == level
            }
        };
        self.edges.find(hash.spread(), is_it).map(|edge| edge.to)
    }

    /// Takes an unused node away; returns the one above.
    fn remove_node(&mut self, id: NodeId) -> NodeId {
        let node = self.nodes.remove(id.index());
        let parent = self.node_mut(node.parent);
        if parent.plus == id {
            parent.plus = NodeId::NONE;
        } else {
            parent.literals -= 1;
            let hash = edge_hash(node.parent, self.hasher.hash(node.level.as_bytes()));
            let edge = self.edges.find_entry(hash.spread(), |edge| edge.to == id);
            edge.ok()
                .expect("a node that is not its parent's `+` has an edge")
                .remove();
        }
        node.parent
    }

    #[inline]
    fn node(&self, id: NodeId) -> &Node<V> {
        &self.nodes[id.index()]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<V> {
        &mut self.nodes[id.index()]
    }
}

/// A level's hash serves every node that a match looks from; only this cheap step is made for each.
#[inline]
fn edge_hash(parent: NodeId, level_hash: u64) -> ShortHash {
    let product = u128::from(level_hash ^ u64::from(parent.value())) * 0x9e37_79b9_7f4a_7c15;
    ShortHash::new((product >> 64) as u64 ^ product as u64)
}

/// Where a filter's value belongs: the levels from the root to a node, and the slot there.
struct Place<'a> {
    /// `None`: the root itself.
    levels: Option<&'a str>,
    slot: Slot,
}

impl<'a> Place<'a> {
    fn of(filter: TopicFilter<'a>) -> Place<'a> {
        let text = filter.as_str();
        let (above, last) = match text.rsplit_once('/') {
            Some((above, last)) => (Some(above), last),
            None => (None, text),
        };
        match last {
            "+" => Place {
                levels: above,
                slot: Slot::Plus,
            },
            "#" => Place {
                levels: above,
                slot: Slot::Hash,
            },
            _ => Place {
                levels: Some(text),
                slot: Slot::Own,
            },
        }
    }

    fn path(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.levels.into_iter().flat_map(|levels| levels.split('/'))
    }
}

/// What a match works in; reused, so that it allocates only for a topic with more levels than any before.
///
/// Bounded: `levels.len()` and `stack.len()` are at most the levels of the topic.
#[derive(Clone, Debug, Default)]
pub struct MatchScratch {
    /// The topic's levels, as far as the walk has come.
    levels: Vec<TopicLevel>,
    /// Nodes yet to be visited, each with how many levels its path has.
    stack: Vec<(NodeId, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct TopicLevel {
    start: u32,
    end: u32,
    hash: u64,
}

impl MatchScratch {
    /// Level `depth`, 0-based, of the topic; `None` after the last. The walk never skips one: `depth <= levels.len()`.
    #[inline]
    fn level(&mut self, depth: usize, topic: &[u8], hasher: &TextHasher) -> Option<TopicLevel> {
        if let Some(level) = self.levels.get(depth) {
            return Some(*level);
        }
        let start = match self.levels.last() {
            Some(last) if last.is_last(topic) => return None,
            Some(last) => last.end as usize + 1,
            None => 0,
        };
        let rest = &topic[start..];
        let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let level = TopicLevel {
            start: start as u32,
            end: (start + len) as u32,
            hash: hasher.hash(&rest[..len]),
        };
        self.levels.push(level);
        Some(level)
    }
}

impl TopicLevel {
    #[inline]
    fn text(self, topic: &[u8]) -> &[u8] {
        &topic[self.start as usize..self.end as usize]
    }

    #[inline]
    fn is_last(self, topic: &[u8]) -> bool {
        self.end as usize == topic.len()
    }
}

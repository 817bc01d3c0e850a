//! A node of the tree.

/// One level of one or more wildcard filters.
///
/// A `+` or `#` that ends a filter has no node of its own: its value lies in the node above. That halves the nodes of
/// sets like `sensors/…/device-34567/+`, and saves a match the way to them.
///
/// With a `u32` as value, all of it lies in one cache line: a match that visits the node waits for memory once (about a
/// tenth faster with a million filters).
#[repr(align(64))]
pub(super) struct Node<V> {
    /// The level's text; empty for the root and for `+`.
    pub(super) level: Level,
    /// By [`Slot`]: values of the filters that end at this node, or in a wildcard right below it.
    values: [Option<V>; Slot::COUNT],
    /// The node above; [`NodeId::NONE`] for the root.
    pub(super) parent: NodeId,
    /// The node for `+` below this one, if filters go on from there.
    pub(super) plus: NodeId,
    /// Edges with text that lead down from here.
    pub(super) literals: u32,
}

const _: () = assert!(size_of::<Node<u32>>() <= 64);

impl<V> Node<V> {
    pub(super) fn new(parent: NodeId, level: &[u8]) -> Node<V> {
        Node {
            level: Level::new(level),
            values: [None, None, None],
            parent,
            plus: NodeId::NONE,
            literals: 0,
        }
    }

    #[inline]
    pub(super) fn value(&self, slot: Slot) -> Option<&V> {
        self.values[slot as usize].as_ref()
    }

    pub(super) fn value_mut(&mut self, slot: Slot) -> &mut Option<V> {
        &mut self.values[slot as usize]
    }

    /// No filter needs this node.
    pub(super) fn is_unused(&self) -> bool {
        self.literals == 0 && self.plus == NodeId::NONE && self.values.iter().all(Option::is_none)
    }
}

/// Where the last level of a filter puts its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Slot {
    /// The filter ends with text: in the node of that text.
    Own = 0,
    /// The filter ends with `+`: in the node above.
    Plus = 1,
    /// The filter ends with `#`: in the node above, which it matches as well.
    Hash = 2,
}

impl Slot {
    pub(super) const ALL: [Slot; Slot::COUNT] = [Slot::Own, Slot::Plus, Slot::Hash];
    const COUNT: usize = 3;
}

/// A node's place in the slab.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NodeId(u32);

impl NodeId {
    /// The first node of every tree.
    pub(super) const ROOT: NodeId = NodeId(0);
    /// No node. The slab never gets there: that many nodes are 256 GiB.
    pub(super) const NONE: NodeId = NodeId(u32::MAX);

    pub(super) fn new(index: usize) -> NodeId {
        let index = u32::try_from(index).expect("fewer nodes than fit in 256 GiB");
        assert!(index != u32::MAX, "fewer nodes than fit in 256 GiB");
        NodeId(index)
    }

    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(super) const fn value(self) -> u32 {
        self.0
    }
}

/// The text of a level: mostly short enough to lie in the node itself.
pub(super) enum Level {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Box<[u8]>),
}

/// What a `Box<[u8]>` and a tag would occupy anyway.
const SHORT_BYTES_MAX: usize = 22;
const _: () = assert!(size_of::<Level>() == 24);

impl Level {
    fn new(text: &[u8]) -> Level {
        if text.len() > SHORT_BYTES_MAX {
            return Level::Long(text.into());
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Level::Short {
            len: text.len() as u8,
            bytes,
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Level::Short { len, bytes } => &bytes[..usize::from(*len)],
            Level::Long(bytes) => bytes,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("a whole level of a filter, which is a str")
    }
}

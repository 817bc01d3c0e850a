//! Topic Names and Topic Filters (section 4.7): validation, and the trie that matches one against many of the other.

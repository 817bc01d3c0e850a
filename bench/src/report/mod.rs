//! What a run found, for people ([`table`]) and machines ([`model`] is the JSON).
//!
//! A [`Report`] is one run. Knows no socket and no engine beyond the outcome it is made from.

pub(crate) mod format;
mod make;
mod model;
pub(crate) mod progress;
pub(crate) mod table;

pub(crate) use make::{Basis, Subject, make};
pub(crate) use model::Report;

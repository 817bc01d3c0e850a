//! What a run found, for people ([`table`], [`plot`], [`html`]) and machines ([`model`] is the JSON).
//!
//! A [`Report`] is one run; [`compare`] puts many side by side: several brokers, several rounds, medians. Knows no socket and no engine beyond the outcome it is made from.

pub(crate) mod chart;
pub(crate) mod compare;
pub(crate) mod format;
pub(crate) mod html;
mod make;
mod model;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod scaling;
pub(crate) mod table;

pub(crate) use make::{Basis, Subject, make};
pub(crate) use model::Report;

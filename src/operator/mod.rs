//! What an operator asks a running broker from a command line: over its admin listener, whose address and token are found
//! where the broker found them, in flags, environment and file.

mod error;
mod http;
mod reload;
mod trace;

pub use error::OperatorError;
pub use reload::reload;
pub use trace::{TraceArgs, trace};

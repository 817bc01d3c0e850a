//! The access control list that somebody else says a client has: a list of texts in JSON, each a line of the file's syntax.

use std::sync::Arc;

use ringmq_shard::access::{Acl, AclError};
use serde_json::Value;
use thiserror::Error;

/// What is no such list.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum OwnListError {
    #[error("acl is not a list of texts")]
    NotAList,
    #[error("acl has more than {ACL_LINES_MAX} lines")]
    Long,
    #[error("line {line} of acl: {0}", line = .0.line)]
    Line(#[from] AclError),
}

/// Reads one. An empty one allows nothing.
pub(super) fn own_list(value: &Value) -> Result<Arc<Acl>, OwnListError> {
    let lines = value.as_array().ok_or(OwnListError::NotAList)?;
    if lines.len() > ACL_LINES_MAX {
        return Err(OwnListError::Long);
    }
    let lines = lines.iter().map(|line| line.as_str().ok_or(OwnListError::NotAList));
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Acl::of_client(lines)?))
}

/// Each connection may have one. What it is read from has 64 KiB at most: the password of a CONNECT, an answer over HTTP.
const ACL_LINES_MAX: usize = 1_000;

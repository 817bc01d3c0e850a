//! A way to find out who a client is. Each is one file beside this one, and a line in [`Secrets::methods`](super::Secrets::methods).

use std::fmt::Debug;
use std::sync::Arc;

use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{Credentials, Verified};

/// Judges clients, on the threads of the [`Authenticator`](super::Authenticator): it may compute for a while, and waits for nobody.
pub(crate) trait Method: Debug + Send + Sync {
    /// Who the client is, or why it is refused; `None`: it is not this method's to say, and the next one is asked.
    fn judge(&self, credentials: &Credentials) -> Option<Result<Verified, AuthenticationError>>;
}

/// What the methods say together: the first one that says anything. `None`: none knows the client.
pub(super) fn judge(
    methods: &[Arc<dyn Method>],
    credentials: &Credentials,
) -> Option<Result<Verified, AuthenticationError>> {
    methods.iter().find_map(|method| method.judge(credentials))
}

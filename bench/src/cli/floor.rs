//! `ringmq-bench floor`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::floor::{Faults, Kind, Server};
use crate::net::pin;

/// What to serve, where, and how badly.
#[derive(Args, Debug)]
pub(crate) struct FloorArgs {
    /// How much the server does per message
    #[arg(value_enum)]
    kind: Kind,
    /// Port to listen on; 0 picks a free one
    #[arg(short, long, default_value_t = 1883)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Core to pin the server to
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten, next_help_heading = "Faults, to see the counts catch them")]
    faults: Faults,
}

/// Serves until SIGINT or SIGTERM; prints where.
///
/// # Errors
/// The system's.
pub(crate) fn serve(args: &FloorArgs) -> std::io::Result<()> {
    if let Some(core) = args.core {
        pin(core)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let server = Server::bind(SocketAddr::new(args.listen, args.port), args.kind, args.faults)?;
    println!("listening on {}", server.address()?);
    server.serve(&stop)
}

//! Binding the listening sockets, and taking away the file of one in the file system.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt,
};
use tracing::warn;

use crate::config::{ListenAddress, TcpOptions};

/// A listening socket. The file of a Unix domain socket goes with it.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    socket: OwnedFd,
    /// With the port that the system chose.
    address: ListenAddress,
    /// Of a Unix domain socket: device and inode of its file, so that nobody else's is removed.
    file: Option<(u64, u64)>,
}

impl ListenSocket {
    /// Binds and listens.
    ///
    /// # Errors
    /// The address is taken, is none of this host's, or needs a privilege.
    pub(crate) fn bind(address: &ListenAddress, tcp: TcpOptions) -> io::Result<ListenSocket> {
        match address {
            ListenAddress::Tcp(address) => {
                let socket = bind_without_listening(*address)?;
                // Accepted sockets inherit both.
                sockopt::set_tcp_nodelay(&socket, tcp.nodelay)?;
                if let Some(idle) = tcp.keep_alive {
                    set_keep_alive(&socket, idle)?;
                }
                listen(&socket, BACKLOG)?;
                Ok(ListenSocket {
                    address: ListenAddress::Tcp(socket.local_addr()?),
                    socket: socket.into(),
                    file: None,
                })
            }
            ListenAddress::Unix(path) => bind_unix(path),
        }
    }

    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Whether somebody waits to be accepted.
    pub(super) fn has_waiting(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
        // If that cannot be said, an attempt to accept will say it.
        poll(&mut socket, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ListenSocket {
    fn drop(&mut self) {
        if let (ListenAddress::Unix(path), Some(file)) = (&self.address, self.file)
            && fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == file)
            && let Err(error) = fs::remove_file(path)
        {
            warn!(path = %path.display(), %error, "the file of a unix socket stays behind");
        }
    }
}

/// Binds a port.
///
/// # Errors
/// As [`ListenSocket::bind`].
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind_without_listening(address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn bind_without_listening(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    // Connections of the process before that still linger must not keep this one from starting.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // One address, one family: with [::] and 0.0.0.0 both given, neither takes the other's port.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}

/// After `idle`, [`PROBES`] unanswered probes within the same time again end the connection.
fn set_keep_alive(socket: &TcpListener, idle: Duration) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, (idle / PROBES).clamp(PROBE_PAUSE_MIN, PROBE_PAUSE_MAX))?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    Ok(())
}

fn bind_unix(path: &Path) -> io::Result<ListenSocket> {
    remove_stale(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = fs::symlink_metadata(path)?;
    let socket = ListenSocket {
        socket,
        address: ListenAddress::Unix(path.to_owned()),
        file: Some((file.dev(), file.ino())),
    };
    // Nobody can connect before it listens, so nobody comes in under the permissions that it was made with.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Removes the socket of a process that is gone: nobody answers there. Whatever else has the name stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    // Without waiting: one that does not accept at the moment is somebody's, too.
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Ok(()) | Err(Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Connections that wait to be accepted: a reconnecting fleet arrives within one second. The kernel caps it at
/// `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;
/// Some may be lost on the way.
const PROBES: u32 = 4;
/// The least that the kernel knows.
const PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// As the kernel does by itself.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(75);
/// The broker's user and group connect to its Unix domain sockets, others do not.
const MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_second_broker_on_the_port_fails_to_start() {
        let first = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), TcpOptions::default()).unwrap();
        let error = ListenSocket::bind(first.address(), TcpOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let accepted = |tcp| {
            let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), tcp).unwrap();
            let ListenAddress::Tcp(address) = *listener.address() else {
                unreachable!("it is what was asked for")
            };
            let client = TcpStream::connect(address).unwrap();
            let accepted = rustix::net::accept(&listener).unwrap();
            drop(client);
            accepted
        };
        for nodelay in [true, false] {
            let accepted = accepted(TcpOptions {
                nodelay,
                ..TcpOptions::default()
            });
            assert_eq!(sockopt::tcp_nodelay(&accepted).unwrap(), nodelay);
        }
        let options = |keep_alive| {
            let accepted = accepted(TcpOptions {
                keep_alive,
                ..TcpOptions::default()
            });
            let pause = sockopt::tcp_keepintvl(&accepted).unwrap();
            sockopt::socket_keepalive(&accepted)
                .unwrap()
                .then(|| (sockopt::tcp_keepidle(&accepted).unwrap(), pause))
        };
        let seconds = Duration::from_secs;
        assert_eq!(options(None), None);
        assert_eq!(options(Some(seconds(1))), Some((seconds(1), seconds(1))));
        assert_eq!(options(Some(seconds(60))), Some((seconds(60), seconds(15))));
        assert_eq!(options(Some(seconds(600))), Some((seconds(600), seconds(75))));
    }

    #[test]
    fn a_unix_socket_has_one_broker_and_its_file_goes_with_it() {
        let folder = std::env::temp_dir().join(format!("ringmq-bind-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");
        let address = ListenAddress::Unix(path.clone());
        let first = ListenSocket::bind(&address, TcpOptions::default()).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert_eq!(
            ListenSocket::bind(&address, TcpOptions::default()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        UnixStream::connect(&path).unwrap();
        drop(first);
        assert!(!path.exists());

        // One that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let after = ListenSocket::bind(&address, TcpOptions::default()).unwrap();
        // Somebody has put another there meanwhile.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(after);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let refused = ListenSocket::bind(&address, TcpOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir_all(&folder).unwrap();
    }
}

//! `ringmq passwd FILE USER`: adds, changes and deletes entries of a password file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use thiserror::Error;

use super::password::{Cost, Password, PasswordError};
use super::{Passwords, SecretError};

/// Add, change or delete a user in a password file
///
/// The password is asked for twice on a terminal, and else read as one line from standard input. The file is made if there is
/// none, and replaced as a whole, so a broker that reads it at the same time sees the old one or the new one. SIGHUP makes a
/// running broker read it again.
#[derive(Clone, Debug, Eq, Parser, PartialEq)]
#[command(name = "passwd")]
pub struct PasswdArgs {
    /// The password file
    file: PathBuf,

    /// Whose entry
    user: String,

    /// Delete the entry
    #[arg(long, short = 'D')]
    delete: bool,

    /// How the password is hashed
    #[arg(long, value_name = "NAME", default_value = "argon2id", conflicts_with = "delete")]
    algorithm: Algorithm,
}

/// `--algorithm`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Algorithm {
    /// Argon2id with 19 MiB and 2 passes
    Argon2id,
    /// PBKDF2 with SHA-512 and 210 000 iterations, which Mosquitto reads too
    Sha512Pbkdf2,
}

/// Why the file was not changed.
#[derive(Debug, Error)]
pub enum PasswdError {
    /// A name that the file could not hold.
    #[error("a user name has 1 to 65535 bytes, no colon, no line break, and no # in front")]
    InvalidUser,
    /// Nothing to delete.
    #[error("{path}: there is no user {user}", path = path.display())]
    NoSuchUser {
        /// Which file.
        path: PathBuf,
        /// Whose entry was to go.
        user: String,
    },
    /// Typed twice, and not the same.
    #[error("the two passwords differ")]
    Differ,
    /// Nothing was typed.
    #[error("an empty password is no password")]
    Empty,
    /// The file is not one of passwords.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The password cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Carries the command out; what it did, for the operator.
///
/// # Errors
/// [`PasswdError`]: the file is as it was.
pub fn passwd(args: &PasswdArgs) -> Result<String, PasswdError> {
    let user = &args.user[..];
    let forbidden = |letter: char| letter == ':' || letter.is_control();
    if user.is_empty() || user.len() > usize::from(u16::MAX) || user.starts_with('#') || user.contains(forbidden) {
        return Err(PasswdError::InvalidUser);
    }
    let path = &args.file;
    let io = |source| PasswdError::Io {
        path: path.clone(),
        source,
    };
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !args.delete => None,
        Err(error) => return Err(io(error)),
    };
    if before.is_some() {
        // A file that is something else is not touched.
        Passwords::read(path)?;
    }
    let entry = if args.delete {
        None
    } else {
        let cost = match args.algorithm {
            Algorithm::Argon2id => Cost::DEFAULT,
            Algorithm::Sha512Pbkdf2 => Cost::MOSQUITTO,
        };
        let password = read_password(user).map_err(|source| PasswdError::Io {
            path: "standard input".into(),
            source,
        })?;
        let password = password.ok_or(PasswdError::Differ)?;
        if password.is_empty() {
            return Err(PasswdError::Empty);
        }
        Some(format!("{user}:{}", Password::new(password.as_bytes(), cost)?))
    };
    let (text, changed) = with_entry(before.as_deref().unwrap_or_default(), user, entry.as_deref());
    if args.delete && !changed {
        return Err(PasswdError::NoSuchUser {
            path: path.clone(),
            user: user.to_owned(),
        });
    }
    replace(path, &text).map_err(io)?;
    let what = match (entry.is_some(), changed) {
        (false, _) => "deleted",
        (true, true) => "changed",
        (true, false) => "added",
    };
    let file = path.display();
    Ok(if before.is_none() {
        format!("user {user} added; {file} is new\n")
    } else {
        format!("user {user} {what}\n")
    })
}

/// The file with this user's line replaced, appended or left out; and whether there was one. All other lines stay.
fn with_entry(text: &str, user: &str, entry: Option<&str>) -> (String, bool) {
    let mut changed = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_theirs = !line.starts_with('#') && line.split_once(':').is_some_and(|(of, _)| of == user);
        if is_theirs {
            changed = true;
            lines.extend(entry);
        } else {
            lines.push(line);
        }
    }
    if !changed {
        lines.extend(entry);
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    (text, changed)
}

/// Puts a new file in the place of the old one, with the rights of the old one, or for its owner alone.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // What a symbolic link names is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let old = fs::metadata(&path).ok();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        if let Some(old) = &old {
            use std::os::unix::fs::MetadataExt;
            file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o777))?;
            // Only the superuser may give a file away; whoever is not keeps what is theirs.
            let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// `None`: typed twice, and not the same.
fn read_password(user: &str) -> io::Result<Option<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock()).map(Some);
    }
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let ask = |prompt: &str| {
        eprint!("{prompt}");
        let answer = line(&mut stdin.lock());
        eprintln!();
        answer
    };
    let answers = ask(&format!("Password for {user}: ")).and_then(|one| Ok((one, ask("The same again: ")?)));
    tcsetattr(&stdin, OptionalActions::Flush, &shown)?;
    let (one, other) = answers?;
    Ok((one == other).then_some(one))
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_changes_and_the_others_stay() {
        let text = "# people\nann:1\nannabel:2\n\nbob:3\n";
        let put = |user, entry| with_entry(text, user, entry);
        assert_eq!(
            put("ann", Some("ann:9")),
            ("# people\nann:9\nannabel:2\n\nbob:3\n".into(), true)
        );
        assert_eq!(
            put("eve", Some("eve:9")),
            ("# people\nann:1\nannabel:2\n\nbob:3\neve:9\n".into(), false)
        );
        assert_eq!(put("bob", None), ("# people\nann:1\nannabel:2\n\n".into(), true));
        assert_eq!(with_entry("", "a", Some("a:1")), ("a:1\n".into(), false));
        assert_eq!(with_entry("a:1\n", "a", None), (String::new(), true));
    }
}

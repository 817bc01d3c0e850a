//! Files that are gone with their test, and programs that may be missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own for one test.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "ringmq-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a temporary folder");
        Folder(path)
    }

    /// The path of a file in it, there or not.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }

    /// Writes a file, in the place of one that is there; gives its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a temporary file");
        path
    }

    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether a program that others wrote is installed. A test that needs it says so loudly and ends, unless
/// `RINGMQ_TEST_REQUIRE` is set, as in CI: then it fails.
pub fn is_installed(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .env("PATH", path_with_sbin())
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var_os("RINGMQ_TEST_REQUIRE").is_none(),
            "{program} is not installed, and RINGMQ_TEST_REQUIRE is set"
        );
        eprintln!("\n*** SKIPPED: {program} is not installed (Debian: mosquitto, mosquitto-clients) ***\n");
    }
    found
}

/// A program that others wrote, wherever the distribution puts it.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", path_with_sbin());
    command
}

fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/usr/bin", std::env::var("PATH").unwrap_or_default())
}

//! What the command line can say about itself to other programs: manual pages, and completions for shells.

use std::path::PathBuf;
use std::{fs, io};

use clap::{Args, Command};
use clap_complete::Shell;

/// `ringmq man`
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub(super) struct ManArgs {
    /// Where the pages go: ringmq.1, and one for each command
    folder: PathBuf,
}

/// `ringmq completions`
#[derive(Args, Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CompletionsArgs {
    /// For which shell, to standard output
    shell: Shell,
}

impl ManArgs {
    /// Writes the pages of `command` and of everything below it; what was written.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub(super) fn write(&self, command: Command) -> io::Result<String> {
        fs::create_dir_all(&self.folder)?;
        clap_mangen::generate_to(command, &self.folder)?;
        Ok(format!("manual pages are in {}\n", self.folder.display()))
    }
}

impl CompletionsArgs {
    /// The script for that shell.
    pub(super) fn script(self, mut command: Command) -> String {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        String::from_utf8(script).expect("the flags' names and texts are UTF-8")
    }
}

//! Which places in the code a module of the log is: by the paths of Rust's modules, or by a target that the place names.

use tracing_subscriber::filter::Targets;

use crate::config::{LogModule, LogSetting};

/// What lines about denials name: they are written where connections are served.
pub(crate) const ACCESS: &str = "ringmq::access";
pub(super) const AUTH: &str = "ringmq::auth";
pub(super) const CONNECTION: &str = "ringmq::runtime";
pub(super) const LISTENER: &str = "ringmq::listener";

/// The lines that this setting wants.
pub(super) fn targets(setting: &LogSetting) -> Targets {
    let mut targets = Targets::new().with_default(setting.level);
    for (module, level) in &setting.modules {
        targets = targets.with_targets(prefixes(*module).iter().map(|prefix| (*prefix, *level)));
    }
    targets
}

fn prefixes(module: LogModule) -> &'static [&'static str] {
    match module {
        LogModule::Access => &[ACCESS],
        LogModule::Admin => &["ringmq::admin"],
        LogModule::Auth => &[AUTH],
        LogModule::Broker => &["ringmq::broker", "ringmq::service"],
        LogModule::Connection => &[CONNECTION],
        LogModule::Listener => &[LISTENER],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// How a file brings the macros in; where it names a target for each line, the file itself is none.
    const PLACES: [&str; 3] = ["use tracing::{", "use tracing::info;", "use tracing::warn;"];

    /// The target of each file that writes log lines.
    fn logging_files(folder: &Path, module: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("the sources are beside the manifest") {
            let path = entry.expect("readable").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let own = match stem.as_str() {
                "mod" | "lib" => module.to_owned(),
                name => format!("{module}::{name}"),
            };
            if path.is_dir() {
                logging_files(&path, &own, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !own.starts_with("ringmq::logging") {
                let text = fs::read_to_string(&path).expect("readable");
                if PLACES.iter().any(|import| text.contains(import)) {
                    found.push(own);
                }
            }
        }
    }

    #[test]
    fn every_line_belongs_to_a_module() {
        let mut files = Vec::new();
        logging_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "ringmq", &mut files);
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let owners = LogModule::ALL.iter().filter(|module| {
                let of = |prefix: &&str| file == *prefix || file.starts_with(&format!("{prefix}::"));
                prefixes(**module).iter().any(of)
            });
            assert_eq!(owners.count(), 1, "{file}");
        }
    }

    #[test]
    fn a_module_goes_its_own_way() {
        let targets = targets(&"text/warn,listener=debug,access=off".parse().expect("a setting"));
        for (target, level, wanted) in [
            ("ringmq::listener::bind", tracing::Level::DEBUG, true),
            ("ringmq::listener", tracing::Level::TRACE, false),
            ("ringmq::runtime::executor", tracing::Level::INFO, false),
            ("ringmq::runtime::executor", tracing::Level::WARN, true),
            (ACCESS, tracing::Level::ERROR, false),
        ] {
            assert_eq!(targets.would_enable(target, &level), wanted, "{target} {level}");
        }
    }
}

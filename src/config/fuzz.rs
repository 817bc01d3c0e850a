//! The body of the fuzz target `config`: any command line over any file is a configuration that holds together, or one line
//! that says where it does not.
//!
//! The first line of an input is the command line, split at spaces; the rest is the file. Environment variables are read by the
//! same parsers as the flags, and belong to the process, so they are not varied.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use ringmq_shard::shard::Admission;

use super::command::{Task, Typed, settings_command};
use super::file::File;
use super::layers::{Layer, Source};
use super::{ClientCertificates, Config, ListenAddress, TlsUserName, print};

/// Reads `script` as a command line and a file; panics where the result breaks what [`Config`] promises.
pub fn fuzz_config(script: &[u8]) {
    let Ok(script) = std::str::from_utf8(script) else {
        return;
    };
    let (line, text) = script.split_once('\n').unwrap_or((script, ""));
    let words = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from);
    let typed = match Typed::read(std::iter::once(PROGRAM.into()).chain(words).collect()) {
        // Other programs, as far as settings go.
        Ok(Typed {
            task: Task::Passwd(_) | Task::Man(_) | Task::Completions(_) | Task::Publish(_) | Task::Subscribe(_),
            ..
        }) => return,
        Ok(typed) => typed,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Typed::read(vec![PROGRAM.into()]).expect("nothing is given")
        }
    };
    let file = match File::parse(Path::new(FILE), text) {
        Ok(file) => file,
        Err(error) => return check_refusal(&error.to_string(), text),
    };
    match Config::in_force(&typed.line, &file, CORES) {
        Ok((config, broker, listeners)) => {
            check_config(&config);
            check_admission(&config, &broker, &listeners);
            check_sources(&typed, &file, &broker);
            check_printed(&config, &print::print(&broker, &listeners));
        }
        Err(error) => assert_is_line(&error.to_string()),
    }
}

/// A refusal says where, in one line.
fn check_refusal(refusal: &str, text: &str) {
    assert_is_line(refusal);
    let place = refusal.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
    let line = place.and_then(|place| place.split_once(": ")).map(|(line, _)| line);
    let line: usize = line.and_then(|line| line.parse().ok()).expect(refusal);
    assert!((1..=1 + text.matches('\n').count()).contains(&line), "{refusal}");
}

fn assert_is_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
}

/// What stands beside the fields of [`Config`], in the words of `docs/configuration.md`.
fn check_config(config: &Config) {
    assert!(!config.listeners.is_empty());
    let mut addresses = BTreeSet::new();
    for listener in &config.listeners {
        let address = listener.address.to_string();
        assert!(
            address.ends_with(":0") || addresses.insert(address.clone()),
            "{address} twice"
        );
    }
    for websocket in config
        .listeners
        .iter()
        .filter_map(|listener| listener.websocket.as_ref())
    {
        assert!(websocket.path.starts_with('/') && websocket.path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    for listener in &config.listeners {
        let told_by_permissions = matches!(listener.address, ListenAddress::Unix(_));
        let proxy = listener.proxy.as_ref();
        assert!(proxy.is_none_or(|proxy| told_by_permissions || !proxy.trusted.is_empty()));
    }
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        let shown = tls.client_certificates != ClientCertificates::None;
        assert!(!tls.certificates.is_empty() && tls.client_ca.is_some() == shown);
        assert!(shown || tls.user_name == TlsUserName::None);
    }
    assert!(!config.cores.is_empty() && config.cores.iter().all(|core| CORES.contains(core)));
    assert!(config.cores.is_sorted_by(|one, next| one < next));
    assert!((1..=1_024).contains(&config.shards.len()));
    let pinned: BTreeSet<usize> = config.shards.iter().copied().flatten().collect();
    assert!(pinned.is_empty() || pinned.len() == config.shards.len(), "a core each");
    assert!(pinned.iter().all(|core| config.cores.contains(core)));
    let limits = &config.limits;
    assert!(limits.connect_bytes_max <= limits.packet_bytes_max);
    assert!(limits.connect_bytes_max >= 128 && limits.packet_bytes_max <= 268_435_460);
    assert!(config.connections_max > 0 && limits.inflight_max > 0 && limits.inbound_qos2_max > 0);
    assert!(limits.memory_bytes_max >= 4 * 1024 * 1024);
    assert!((1..=64).contains(&config.auth_pool.threads) && config.auth_pool.waiting_max > 0);
    if let Some(service) = &config.auth_http {
        assert!((1..=256).contains(&service.threads) && !service.timeout.is_zero());
        assert!(service.ca_file.is_none() || service.url.is_https());
    }
    assert!(limits.output_bytes_max > 0 && limits.client_id_bytes_max > 0);
    assert!(limits.topic.levels_max > 0 && limits.topic.bytes_max > 0);
    assert!(!config.write_timeout.is_zero() && !limits.connect_timeout.is_zero());
    assert!(config.sys_interval.is_none_or(|interval| !interval.is_zero()));
}

/// Nobody comes in unasked from another host, unless the layer of that listener says so; a certificate that must be shown is an
/// answer too.
fn check_admission(config: &Config, broker: &Layer, listeners: &[Layer]) {
    let broker = listeners.is_empty().then_some(broker);
    let anonymous = listeners.iter().chain(broker).flat_map(|layer| {
        let addresses = layer.args.listen.len().max(1);
        std::iter::repeat_n(layer.args.listener.allow_anonymous, addresses)
    });
    let anonymous: Vec<bool> = anonymous.collect();
    assert_eq!(anonymous.len(), config.listeners.len());
    for (listener, anonymous) in config.listeners.iter().zip(anonymous) {
        let tls = listener.tls.as_ref();
        let shown = tls.is_some_and(|tls| tls.client_certificates == ClientCertificates::Required);
        let named = shown && tls.is_some_and(|tls| tls.user_name != TlsUserName::None);
        let verifies = config.password_file.is_some() || config.jwt.is_some() || config.auth_http.is_some();
        let expected = match verifies {
            _ if named => Admission::Verify { anonymous: false },
            true => Admission::Verify { anonymous },
            false => Admission::Open,
        };
        assert_eq!(listener.admission, expected);
        let is_local = listener.address.is_local() && listener.proxy.is_none();
        assert!(anonymous || is_local || shown || verifies, "{}", listener.address);
    }
}

/// A flag goes before the file, the file before the default, and each keeps its value.
fn check_sources(typed: &Typed, file: &File, broker: &Layer) {
    let alone = Layer::new(&typed.line, &File::default(), &[]);
    for argument in settings_command().get_arguments() {
        let key = argument.get_id().as_str();
        let written = file.settings.iter().find(|setting| setting.key == key);
        let (values, source) = match (typed.matches.value_source(key), written) {
            (Some(ValueSource::CommandLine), _) => (&alone.values[key], Source::Flag),
            // Set where the fuzzer runs.
            (Some(ValueSource::EnvVariable), _) => continue,
            (_, None) => (&alone.values[key], Source::Default),
            (_, Some(setting)) => {
                let path = FILE.into();
                let line = setting.line;
                (&setting.values, Source::File { path, line })
            }
        };
        assert_eq!(broker.source(key), &source, "{key}");
        // A list may come as one text, too.
        assert_eq!(broker.values[key].join(","), values.join(","), "{key}");
    }
}

/// What is printed is a file, and means the same.
fn check_printed(config: &Config, printed: &str) {
    let file = File::parse(Path::new(FILE), printed).unwrap_or_else(|error| panic!("{error}:\n{printed}"));
    let again = Config::in_force(&[PROGRAM.into()], &file, CORES);
    let (again, ..) = again.unwrap_or_else(|error| panic!("{error}:\n{printed}"));
    assert_eq!(again, *config, "{printed}");
}

const PROGRAM: &str = "ringmq";
const FILE: &str = "r.toml";
/// Those that the process may use.
const CORES: &[usize] = &[0, 1, 4, 5];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Every input of the committed corpus, through the function that the fuzzer calls.
    #[test]
    fn the_corpus_holds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let paths: BTreeSet<PathBuf> = paths.collect();
        assert!(!paths.is_empty());
        for path in paths {
            // Shown if it fails.
            println!("{}", path.display());
            fuzz_config(&fs::read(&path).unwrap());
        }
    }
}

//! What a running broker takes over of settings that are read again, and what it does not.
//!
//! A setting is [`RELOADED`], or belongs to what is made once: sockets, threads, tables whose place depends on it. Of the latter the
//! old value stays in force, and it is named, at every reload until the process is started anew. Nothing is taken over unless
//! everything that was read is good.

use std::collections::BTreeMap;

use super::command::{LISTEN, Typed, is_of_listener};
use super::layers::Layer;
use super::{AuthHttpConfig, Config, JwtConfig, ListenerConfig, LoadError};
use crate::auth::Secrets;

/// The settings in force as text, so that those can be named that change.
#[derive(Clone, Debug)]
pub struct Given {
    broker: Values,
    /// One entry per `[[listener]]`, or one for all.
    listeners: Vec<Values>,
    /// The cores that the process could use at its start.
    available: Vec<usize>,
}

/// By name.
type Values = BTreeMap<String, Vec<String>>;

/// Settings that were read again, and found good.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force from here on.
    pub config: Config,
    /// The files that it names.
    pub secrets: Secrets,
    /// The same as text.
    pub given: Given,
    /// Settings that have another value now.
    pub changed: Vec<String>,
    /// Settings that were given another value, and keep the old one until the broker is started anew.
    pub restart: Vec<String>,
}

impl Given {
    pub(super) fn new(broker: &Layer, listeners: &[Layer], available: &[usize]) -> Given {
        let own = |keep: fn(&str) -> bool, layer: &Layer| {
            let kept = layer.values.iter().filter(|(key, _)| keep(key));
            kept.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let of_listener = |layer: &Layer| own(is_of_listener, layer);
        Given {
            broker: own(|key| !is_of_listener(key), broker),
            listeners: match listeners {
                [] => vec![of_listener(broker)],
                listeners => listeners.iter().map(of_listener).collect(),
            },
            available: available.to_vec(),
        }
    }
}

impl Config {
    /// Reads command line, environment, file, and the files that it names again, for a broker that runs with `self`.
    ///
    /// # Errors
    /// Something cannot be read or cannot hold together: nothing is to be taken over.
    pub fn reload(&self, given: &Given) -> Result<Reloaded, LoadError> {
        let typed = Typed::read(std::env::args_os().collect())?;
        let (read, broker, listeners) = Config::layered(&typed, &given.available)?;
        let read_given = Given::new(&broker, &listeners, &given.available);
        let change = take_over(self, given, &read, read_given);
        let secrets = Secrets::load(&change.config)?;
        Ok(Reloaded {
            config: change.config,
            secrets,
            given: change.given,
            changed: change.changed,
            restart: change.restart,
        })
    }
}

/// What becomes of `running` by what was `read`.
#[derive(Debug)]
struct Change {
    config: Config,
    given: Given,
    changed: Vec<String>,
    restart: Vec<String>,
}

fn take_over(running: &Config, given: &Given, read: &Config, mut read_given: Given) -> Change {
    let (mut changed, mut restart) = (Vec::new(), Vec::new());
    for (key, value) in &mut read_given.broker {
        let old = &given.broker[key];
        if value == old || key == CONFIG {
        } else if is_reloaded(key, running, read) {
            changed.push(key.clone());
        } else {
            restart.push(key.clone());
            value.clone_from(old);
        }
    }
    let listeners = take_listeners(
        running,
        given,
        read,
        &mut read_given.listeners,
        &mut changed,
        &mut restart,
    );
    // A file's content can always be replaced; whether there is one decides what threads there are and what listeners ask.
    let path = |old: &Option<_>, new: &Option<_>| if new.is_some() && old.is_some() { new } else { old }.clone();
    let config = Config {
        listeners,
        password_file: path(&running.password_file, &read.password_file),
        // How tokens are verified stays; the key may be another.
        jwt: match (&running.jwt, &read.jwt) {
            (Some(old), Some(new)) => Some(JwtConfig {
                key_file: new.key_file.clone(),
                ..old.clone()
            }),
            (old, _) => old.clone(),
        },
        // Its threads are there already; whom they ask, and how, may change.
        auth_http: match (&running.auth_http, &read.auth_http) {
            (Some(old), Some(new)) => Some(AuthHttpConfig {
                threads: old.threads,
                ..new.clone()
            }),
            (old, _) => old.clone(),
        },
        acl_file: path(&running.acl_file, &read.acl_file),
        admin_token_file: path(&running.admin_token_file, &read.admin_token_file),
        connections_max: read.connections_max,
        limits: read.limits.clone(),
        write_timeout: read.write_timeout,
        sys_interval: read.sys_interval,
        spin: read.spin,
        shutdown_timeout: read.shutdown_timeout,
        log: read.log.clone(),
        ..running.clone()
    };
    Change {
        config,
        given: read_given,
        changed,
        restart,
    }
}

/// The listeners that go on, with the certificates that were read, where the rules around them are the same.
fn take_listeners(
    running: &Config,
    given: &Given,
    read: &Config,
    read_given: &mut Vec<Values>,
    changed: &mut Vec<String>,
    restart: &mut Vec<String>,
) -> Vec<ListenerConfig> {
    let addresses = |layers: &[Values]| layers.iter().map(|it| it[LISTEN].clone()).collect::<Vec<_>>();
    if addresses(&given.listeners) != addresses(read_given) {
        restart.push(LISTEN.to_owned());
        read_given.clone_from(&given.listeners);
        return running.listeners.clone();
    }
    let mut listeners = running.listeners.clone();
    let many = given.listeners.len() > 1;
    let mut at = 0;
    for (old, new) in given.listeners.iter().zip(read_given) {
        // Nothing given is the one default.
        let own = at..at + old[LISTEN].len().max(1);
        at = own.end;
        let takes = takes_certificates(&running.listeners[own.start], &read.listeners[own.start]);
        let differing: Vec<String> = new
            .iter()
            .filter(|(key, value)| **value != old[*key])
            .map(|(key, _)| key.clone())
            .collect();
        for key in differing {
            let name = match many {
                true => format!("{key} of {}", running.listeners[own.start].address),
                false => key.clone(),
            };
            if takes && RELOADED_OF_LISTENER.contains(&&*key) {
                changed.push(name);
            } else {
                restart.push(name);
                new.insert(key.clone(), old[&key].clone());
            }
        }
        if takes {
            for listener in own {
                listeners[listener].tls.clone_from(&read.listeners[listener].tls);
            }
        }
    }
    listeners
}

/// Whether files and versions of TLS can change alone: who comes in, and as whom, must be what the listener goes on asking.
fn takes_certificates(running: &ListenerConfig, read: &ListenerConfig) -> bool {
    let same_inside = running.websocket.is_some() == read.websocket.is_some();
    match (&running.tls, &read.tls) {
        (Some(old), Some(new)) => {
            same_inside && old.client_certificates == new.client_certificates && old.user_name == new.user_name
        }
        _ => false,
    }
}

fn is_reloaded(key: &str, running: &Config, read: &Config) -> bool {
    match key {
        "password_file" => running.password_file.is_some() && read.password_file.is_some(),
        "jwt_key_file" => running.jwt.is_some() && read.jwt.is_some(),
        "auth_http_url" | "auth_http_timeout" | "auth_http_token_file" | "auth_http_ca" | "auth_http_cache" => {
            running.auth_http.is_some() && read.auth_http.is_some()
        }
        "acl_file" => running.acl_file.is_some() && read.acl_file.is_some(),
        "admin_token_file" => running.admin_token_file.is_some() && read.admin_token_file.is_some(),
        key => RELOADED.contains(&key),
    }
}

/// Where the file is; it says nothing by itself.
const CONFIG: &str = "config";
/// Settings of the broker that a reload changes, beside the files.
const RELOADED: &[&str] = &[
    "acl_denied_publish",
    "backpressure_timeout",
    "connect_timeout",
    "log",
    "max_client_id_bytes",
    "max_connect_size",
    "max_connections",
    "max_connections_per_user",
    "max_inbound_qos2",
    "max_inflight",
    "max_keep_alive",
    "max_memory",
    "max_output_bytes",
    "max_packet_size",
    "max_publish_bytes_rate",
    "max_publish_rate",
    "max_queued_bytes",
    "max_queued_messages",
    "max_retained",
    "max_retained_bytes",
    "max_sessions",
    "max_subscriptions",
    "max_topic_bytes",
    "max_topic_levels",
    "publish_rate_timeout",
    "session_expiry",
    "shared_strategy",
    "shutdown_timeout",
    "slow_subscriber",
    "spin",
    "sys_interval",
    "write_timeout",
];
/// Settings of a listener that a reload changes.
const RELOADED_OF_LISTENER: &[&str] = &["tls_certificate", "tls_client_ca", "tls_key", "tls_min_version"];

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::command::settings_command;
    use super::super::file::File;
    use super::*;

    const AVAILABLE: &[usize] = &[0, 1, 4, 5];
    /// A broker in which every setting can change by itself.
    const BASE: &[(&str, &str)] = &[
        ("listen", "127.0.0.1:1"),
        ("tls_certificate", "c"),
        ("tls_key", "k"),
        ("tls_client_ca", "a"),
        ("tls_client_certificates", "required"),
        ("websocket", "true"),
        ("proxy_protocol", "true"),
        ("proxy_trusted", "127.0.0.1"),
        ("password_file", "p"),
        ("jwt_key_file", "j"),
        ("jwt_algorithm", "ES256"),
        ("auth_http_url", "https://here/"),
        ("acl_file", "a"),
        ("admin_listen", "127.0.0.1:9"),
        ("admin_token_file", "t"),
        ("max_publish_rate", "7"),
        ("max_connection_rate_per_address", "7"),
        ("max_memory", "100000000"),
        ("max_connect_size", "200"),
    ];

    fn read(settings: &[(&str, &str)]) -> (Config, Given) {
        let flag = |(key, value): &(&str, &str)| OsString::from(format!("--{}={value}", key.replace('_', "-")));
        let line: Vec<OsString> = std::iter::once("ringmq".into())
            .chain(settings.iter().map(flag))
            .collect();
        let (config, broker, listeners) =
            Config::in_force(&line, &File::default(), AVAILABLE).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        (config, Given::new(&broker, &listeners, AVAILABLE))
    }

    fn change(from: &[(&str, &str)], to: &[(&str, &str)]) -> (Config, Change) {
        let ((running, given), (read, read_given)) = (read(from), read(to));
        let change = take_over(&running, &given, &read, read_given);
        (running, change)
    }

    fn with<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
        let others = BASE.iter().copied().filter(|(other, _)| *other != key);
        others.chain([(key, value)]).collect()
    }

    /// A value that no setting has by default or in [`BASE`].
    fn another(key: &str) -> &'static str {
        match key {
            "listen" => "127.0.0.1:2",
            "allow_anonymous" => "true",
            "websocket" | "proxy_protocol" | "tcp_nodelay" => "false",
            "tls_client_certificates" => "optional",
            "tls_user_name" => "cn",
            "tls_min_version" => "1.3",
            "websocket_path" => "/other",
            "websocket_origin" => "https://example.org",
            "proxy_trusted" => "127.0.0.2",
            "acl_denied_publish" => "close",
            "admin_listen" => "127.0.0.1:8",
            "cores" => "4",
            "slow_subscriber" => "disconnect",
            "shared_strategy" => "sticky",
            "log" => "json/warn",
            "tls_certificate" | "tls_key" | "tls_client_ca" | "password_file" | "jwt_key_file" | "acl_file"
            | "admin_token_file" => "other",
            "auth_http_token_file" | "auth_http_ca" => "other",
            "jwt_algorithm" => "RS256",
            "auth_http_url" => "https://there/",
            "auth_http_threads" => "3",
            "max_memory" => "99000000",
            "auth_threads" => "3",
            _ => "333",
        }
    }

    /// What the page on configuration says of each setting: whether a reload changes it.
    fn documented() -> Vec<(String, bool)> {
        let page = include_str!("../../docs/configuration.md");
        let table = page.split("\n## Reload\n").nth(1).expect("a section about reload");
        let table = table.split("\n## ").next().expect("its end");
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `--")?.split(" | ");
            let key = cells.next()?.trim_end_matches('`').replace('-', "_");
            match cells.next()? {
                "yes" => Some((key, true)),
                "restart" => Some((key, false)),
                other => panic!("{key}: {other}"),
            }
        };
        table.lines().filter_map(row).collect()
    }

    #[test]
    fn a_reload_changes_what_the_page_says_and_names_the_rest() {
        let documented = documented();
        let mut looked_at = 0;
        for argument in settings_command().get_arguments() {
            let key = argument.get_id().as_str();
            if key == CONFIG {
                continue;
            }
            // Where it is part of a pair, the other one is not there either.
            let mut to = with(key, another(key));
            if key == "proxy_protocol" {
                to.retain(|(key, _)| *key != "proxy_trusted");
            }
            let (running, change) = change(BASE, &to);
            let (_, reloads) = documented
                .iter()
                .find(|(other, _)| other == key)
                .unwrap_or_else(|| panic!("{key} is not in the table of docs/configuration.md, section Reload"));
            let named = if *reloads { &change.changed } else { &change.restart };
            assert!(named.iter().any(|name| name == key), "{key}: {change:?}");
            assert_eq!(change.config != running, *reloads, "{key} is in force");
            looked_at += 1;
        }
        assert_eq!(documented.len(), looked_at, "the table has no other rows");
    }

    #[test]
    fn what_needs_a_restart_is_named_until_there_is_one() {
        let (running, given) = read(BASE);
        let (second, read_given) = read(&with("shards", "3"));
        let once = take_over(&running, &given, &second, read_given.clone());
        let twice = take_over(&once.config, &once.given, &second, read_given);
        assert_eq!(
            (&*twice.restart, &*twice.changed),
            (&["shards".to_owned()][..], &[][..])
        );
        assert_eq!(twice.config, running);
    }

    #[test]
    fn nobody_is_let_in_because_a_file_is_not_named_any_more() {
        for key in ["password_file", "auth_http_url", "acl_file", "admin_token_file"] {
            let without: Vec<_> = BASE.iter().copied().filter(|(other, _)| *other != key).collect();
            for (from, to) in [(BASE, &without[..]), (&without[..], BASE)] {
                let (running, change) = change(from, to);
                assert_eq!(change.restart, [key]);
                assert_eq!(change.config, running);
            }
        }
        let plain = |(key, _): &(&str, &str)| !key.starts_with("tls");
        let plain: Vec<_> = BASE.iter().copied().filter(plain).collect();
        let (running, change) = change(BASE, &plain);
        assert_eq!(change.config, running);
        assert_eq!(change.restart.len(), 4, "{change:?}");
    }
}

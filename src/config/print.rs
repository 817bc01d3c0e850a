//! `ringmq config`: the settings in force, as a configuration file.

use std::fmt::Write as _;

use super::command::{LISTEN, is_of_listener, settings_command};
use super::layers::Layer;

/// The settings in force with where each is from; what it prints means the same when it is read as a configuration file.
pub(super) fn print(broker: &Layer, listeners: &[Layer]) -> String {
    let mut text = String::new();
    for argument in settings_command().get_arguments() {
        let key = argument.get_id().as_str();
        if key == CONFIG || (key == LISTEN && !listeners.is_empty()) {
            continue;
        }
        let otherwise = argument.get_help().map(ToString::to_string).unwrap_or_default();
        put(&mut text, broker, key, &otherwise);
    }
    for listener in listeners {
        text.push_str("\n[[listener]]\n");
        for argument in settings_command().get_arguments() {
            let key = argument.get_id().as_str();
            if is_of_listener(key) {
                put(&mut text, listener, key, "");
            }
        }
    }
    text
}

fn put(text: &mut String, layer: &Layer, key: &str, help: &str) {
    let values = layer.values.get(key).map(Vec::as_slice).unwrap_or_default();
    let source = layer.source(key);
    let line = match values {
        // No value of its own; the help says what holds.
        [] => {
            let holds = help
                .rsplit_once("[default: ")
                .map_or("none", |(_, rest)| rest.trim_end_matches(']'));
            format!("# {key} is not set: {holds}")
        }
        [value] => format!("{:<40} # {source}", format!("{key} = {}", toml_value(value))),
        values => {
            let values: Vec<String> = values.iter().map(|value| toml_value(value)).collect();
            format!("{:<40} # {source}", format!("{key} = [{}]", values.join(", ")))
        }
    };
    writeln!(text, "{line}").expect("a String takes everything");
}

/// Numbers and truth values as they are, everything else as a text.
fn toml_value(value: &str) -> String {
    let is_number = value
        .parse::<u64>()
        .is_ok_and(|number| number.to_string() == value && i64::try_from(number).is_ok());
    if is_number || matches!(value, "true" | "false") {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            control if control.is_control() => {
                write!(text, "\\u{:04X}", u32::from(control)).expect("a String takes everything");
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

const CONFIG: &str = "config";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_toml_reads_back() {
        for (value, expected) in [
            ("17", "17"),
            ("true", "true"),
            ("0-3,6", "\"0-3,6\""),
            ("007", "\"007\""),
            ("18446744073709551615", "\"18446744073709551615\""),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("tab\there", r#""tab\u0009here""#),
        ] {
            assert_eq!(toml_value(value), expected);
        }
    }
}

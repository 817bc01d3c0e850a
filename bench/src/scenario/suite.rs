//! The cases of the Open MQTT Benchmark Suite, by name.
//!
//! A name carries its numbers, so any of them works:
//!
//! ```text
//! conn-tcp-CLIENTS-RATE                     1M clients, 5K new ones per second
//! p2p-PUBLISHERS-SUBSCRIBERS-TOPICS-RATE    RATE messages per second in, and as many out
//! fanout-PUBLISHERS-SUBSCRIBERS-TOPICS-RATE RATE messages per second out
//! sharedsub-PUBLISHERS-SUBSCRIBERS-TOPICS-RATE (also sharesub)
//! ```
//! QoS 1, 16-byte payloads, open loop, clean sessions, keep alive 300 s, as the suite has it.

use clap::Args;

use super::run::{Common, ScenarioError, load};
use super::state::idle;
use super::topic::numbered;
use super::traffic::{Sizes, fanout, pairs, publisher, sharedsub};
use crate::load::plan::{Load, Pace, Plan};
use crate::report::Basis;

/// Options of `suite`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SuiteArgs {
    /// The case, such as conn-tcp-1M-5K, p2p-50K-50K-50K-50K, fanout-5-1000-5-250K, sharedsub-50K-500-50K-50K
    name: String,
    /// Multiplies clients and rates; a fan-out keeps its publishers
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    #[command(flatten)]
    common: Common,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale.is_finite() => Ok(scale),
        _ => Err("a scale is a number above 0".to_owned()),
    }
}

/// A case with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Conn {
        clients: f64,
        rate: f64,
    },
    P2p {
        pairs: f64,
        rate: f64,
    },
    Fanout {
        publishers: f64,
        subscribers: f64,
        out_rate: f64,
    },
    Sharedsub {
        publishers: f64,
        subscribers: f64,
        rate: f64,
    },
}

/// Runs a case; `true` when nothing is wrong.
///
/// # Errors
/// [`ScenarioError::NoCase`] for a name that is none, else where the run did not happen.
pub(crate) fn suite(args: &SuiteArgs) -> Result<bool, ScenarioError> {
    let case = parse(&args.name).ok_or_else(|| ScenarioError::NoCase {
        name: args.name.clone(),
    })?;
    let scaled = |number: f64| (number * args.scale).round().max(1.0) as usize;
    let mut common = args.common.clone();
    let name = if args.scale == 1.0 {
        args.name.clone()
    } else {
        format!("{}×{}", args.name, args.scale)
    };
    common.output.case.get_or_insert(name);
    match case {
        Case::Conn { clients, rate } => {
            common.broker.connrate.get_or_insert(rate * args.scale);
            idle(&common, scaled(clients), "suite", 30.0)
        }
        Case::P2p { pairs: count, rate } => traffic(
            &common,
            scaled(count),
            scaled(count),
            rate * args.scale,
            pairs,
            Basis::Ingress,
        ),
        Case::Fanout {
            publishers,
            subscribers,
            out_rate,
        } => {
            // Every subscriber takes every topic, so what goes in is what comes out over the subscribers.
            traffic(
                &common,
                publishers as usize,
                scaled(subscribers),
                out_rate / subscribers,
                fanout,
                Basis::Delivery,
            )
        }
        Case::Sharedsub {
            publishers,
            subscribers,
            rate,
        } => traffic(
            &common,
            scaled(publishers),
            scaled(subscribers),
            rate * args.scale,
            sharedsub,
            Basis::Ingress,
        ),
    }
}

fn traffic(
    common: &Common,
    publishers: usize,
    subscribers: usize,
    rate: f64,
    clients: fn(&Sizes<'_>, &mut Plan),
    basis: Basis,
) -> Result<bool, ScenarioError> {
    let load = Load {
        pace: Pace::PerSecond(rate),
        ahead: 0,
        ..load(1, 16)
    };
    let mut plan = common.plan(load, 30.0)?;
    let client_id = |role, at| common.broker.client_id(role, at);
    let topic = "bench/test/%i";
    plan.publishers = (0..publishers)
        .map(|at| publisher(client_id('p', at), numbered(topic, at), at))
        .collect();
    clients(
        &Sizes {
            subscribers,
            topic,
            client_id: &client_id,
        },
        &mut plan,
    );
    let subject = common.subject("suite", String::new(), basis);
    common.run_and_emit(&subject, &plan)
}

fn parse(name: &str) -> Option<Case> {
    let name = name.strip_prefix("singlenode-").unwrap_or(name);
    if let Some(numbers) = name.strip_prefix("conn-tcp-") {
        let [clients, rate] = numbers_of(numbers)?;
        return Some(Case::Conn { clients, rate });
    }
    let (kind, numbers) = name.split_once('-')?;
    let [publishers, subscribers, topics, rate] = numbers_of(numbers)?;
    match kind {
        "p2p" if publishers == subscribers && publishers == topics => Some(Case::P2p {
            pairs: publishers,
            rate,
        }),
        "fanout" if publishers == topics => Some(Case::Fanout {
            publishers,
            subscribers,
            out_rate: rate,
        }),
        "sharedsub" | "sharesub" if publishers == topics => Some(Case::Sharedsub {
            publishers,
            subscribers,
            rate,
        }),
        _ => None,
    }
}

fn numbers_of<const N: usize>(text: &str) -> Option<[f64; N]> {
    text.split('-').map(number).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// `5`, `50K` or `1M`.
fn number(text: &str) -> Option<f64> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text
            .strip_suffix(['m', 'M'])
            .map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    digits
        .parse::<f64>()
        .ok()
        .filter(|&number| number >= 1.0)
        .map(|number| number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_numbers() {
        assert_eq!(
            parse("conn-tcp-1M-5K"),
            Some(Case::Conn {
                clients: 1e6,
                rate: 5e3
            })
        );
        assert_eq!(
            parse("singlenode-p2p-50K-50K-50K-50K"),
            Some(Case::P2p { pairs: 5e4, rate: 5e4 })
        );
        let fanout = Case::Fanout {
            publishers: 5.0,
            subscribers: 1000.0,
            out_rate: 250e3,
        };
        assert_eq!(parse("fanout-5-1000-5-250K"), Some(fanout));
        let sharedsub = Case::Sharedsub {
            publishers: 1e3,
            subscribers: 5.0,
            rate: 1e3,
        };
        assert_eq!(parse("sharedsub-1K-5-1K-1K"), Some(sharedsub));
        assert_eq!(parse("sharesub-1K-5-1K-1K"), Some(sharedsub));
        for wrong in ["p2p-1-2-1-1", "fanout-5-1000", "conn-tcp-x-1", "nothing"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

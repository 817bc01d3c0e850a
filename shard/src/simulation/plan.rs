//! What happens in a run, decided before it begins: the broker's setup, the clients, and what each of them does.
//!
//! A plan follows from its seed. Steps can be left out of it (that is how a failure is reduced) without changing the others:
//! messages are numbered here, and whoever needs a connection makes one.

use super::dice::Dice;
use super::setup::Setup;

/// A run before it begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) setup: Setup,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) messages: Vec<MessagePlan>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) struct ClientPlan {
    pub(super) id: String,
    pub(super) clean: bool,
    /// Does not wait for the CONNACK.
    pub(super) eager: bool,
}

/// A message that some step publishes, or some Will.
#[derive(Clone, Debug)]
pub(super) struct MessagePlan {
    pub(super) topic: &'static str,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
}

/// One thing that one client does.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) client: usize,
    pub(super) phase: u8,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Connects; a connection that is there is left standing, for the broker to find out.
    Connect {
        clean: bool,
        keep_alive: u16,
        will: Option<usize>,
        /// How many sockets try at once.
        sockets: usize,
    },
    Disconnect,
    /// The socket breaks; some of what was sent is lost.
    Cut,
    Publish(usize),
    /// Sends what was not acknowledged again.
    Resend,
    Subscribe(Vec<(&'static str, u8)>),
    Unsubscribe(Vec<&'static str>),
    /// Stops reading, or goes on.
    Stall(bool),
    /// Keeps its acknowledgements back, or lets them go.
    HoldAcknowledgements(bool),
    /// The next few acknowledgements get lost on the way.
    LoseAcknowledgements(usize),
    Ping,
    /// Does nothing for a time; `silent`: not even pings.
    Wait {
        milliseconds: u64,
        silent: bool,
    },
    /// A socket that never says who it is.
    Loiter,
    /// Left out of the plan.
    Nothing,
}

/// Topics that many publish to and many subscribe to, with and without wildcards.
const TOPICS: [&str; 10] = [
    "a",
    "a/b",
    "a/b/c",
    "a/c",
    "b",
    "b/c",
    "/",
    "a//c",
    "$data/x",
    "$data/y/z",
];
/// Topics of shared groups.
const WORK: [&str; 3] = ["work/1", "work/2", "work/3"];
/// Retained topics with one publisher each: its last message is what is retained.
const STATES: [&str; 6] = ["state/0", "state/1", "state/2", "state/3", "state/4", "$data/state"];
/// Retained topics of everybody.
const BOARD: [&str; 2] = ["board/1", "board/2"];
const FILTERS: [&str; 16] = [
    "#", "+", "+/#", "a/#", "a/+", "a/b", "+/b", "+/+", "b/#", "a//c", "/", "$data/#", "$data/x", "a/b/c", "b", "+/b/+",
];
const STATE_FILTERS: [&str; 11] = [
    "state/#",
    "state/+",
    "state/0",
    "state/1",
    "state/2",
    "state/3",
    "state/4",
    "+/3",
    "board/#",
    "board/1",
    "$data/state",
];
const SHARED: [&str; 6] = [
    "$share/g/work/#",
    "$share/g/work/1",
    "$share/h/work/+",
    "$share/g/a/#",
    "work/#",
    "$share/h/work/2",
];

impl Plan {
    pub(super) fn new(seed: u64) -> Plan {
        let dice = &mut Dice::new(seed);
        let setup = Setup::new(dice);
        let count = dice.between(2, 9);
        let clients: Vec<ClientPlan> = (0..count)
            .map(|n| ClientPlan {
                id: format!("client-{n}-{}", dice.below(1_000)),
                clean: dice.chance(45),
                eager: dice.chance(50),
            })
            .collect();
        let mut plan = Plan {
            setup,
            clients,
            messages: Vec::new(),
            steps: Vec::new(),
        };
        let later = &mut Dice::new(seed ^ LATER);
        plan.setup.add_restarts(later);
        plan.setup.limit_memory(later);
        let mut temper = Temper::new(dice);
        temper.shared = !temper.retained && later.chance(15);
        plan.setup.limit_rate(later);
        for phase in 0..plan.setup.phases {
            for client in 0..count {
                for _ in 0..dice.between(3, temper.steps_max) {
                    let action = plan.action(dice, client, &temper);
                    plan.steps.push(Step { client, phase, action });
                }
            }
        }
        plan
    }

    /// Leaves steps out, by index.
    pub(super) fn without(mut self, dropped: &[usize]) -> Plan {
        for at in dropped {
            if let Some(step) = self.steps.get_mut(*at) {
                // The indices of the others stay.
                step.action = Action::Nothing;
            }
        }
        self
    }

    fn action(&mut self, dice: &mut Dice, client: usize, temper: &Temper) -> Action {
        let wild = temper.wild;
        match dice.weighted(&[
            temper.publish,
            temper.subscribe,
            if temper.retained { 25 } else { 4 },
            2,
            3 + wild,
            wild,
            wild,
            wild,
            3,
            2,
            1,
            wild,
            1,
        ]) {
            0 => Action::Publish(self.message(dice, client, temper, false)),
            1 => Action::Subscribe(subscriptions(dice, temper)),
            2 => {
                let subscriptions = subscriptions(dice, temper);
                Action::Unsubscribe(subscriptions.into_iter().map(|(filter, _)| filter).collect())
            }
            3 => Action::Disconnect,
            4 => {
                let will = dice.chance(40).then(|| self.message(dice, client, temper, true));
                let usual = self.clients[client].clean;
                Action::Connect {
                    clean: if dice.chance(12) { !usual } else { usual },
                    keep_alive: if dice.chance(40) { dice.pick(&[1, 2, 10]) } else { 0 },
                    will,
                    sockets: if dice.chance(20) { dice.between(2, 4) } else { 1 },
                }
            }
            5 => Action::Cut,
            6 => Action::Stall(dice.chance(60)),
            7 => Action::HoldAcknowledgements(dice.chance(60)),
            8 => Action::Resend,
            9 => Action::Wait {
                milliseconds: dice.pick(&[5, 100, 2_000, 20_000]),
                silent: dice.chance(30),
            },
            10 => Action::Ping,
            11 => Action::LoseAcknowledgements(dice.between(1, 3)),
            _ => Action::Loiter,
        }
    }

    fn message(&mut self, dice: &mut Dice, client: usize, temper: &Temper, will: bool) -> usize {
        let number = self.messages.len();
        let own: Vec<&'static str> = STATES
            .into_iter()
            .enumerate()
            .filter(|(at, _)| at % self.clients.len() == client)
            .map(|(_, topic)| topic)
            .collect();
        let state = !own.is_empty() && !temper.shared && dice.chance(if temper.retained { 90 } else { 40 });
        let topic = match dice.below(20) {
            _ if state => dice.pick(&own),
            0..=14 if temper.shared => dice.pick(&WORK),
            0..=12 => dice.pick(&TOPICS),
            13..=16 => dice.pick(&WORK),
            17..=18 => dice.pick(&BOARD),
            _ => "$SYS/forbidden",
        };
        let topic = if will && topic == "$SYS/forbidden" { "a" } else { topic };
        let retain = dice.chance(if topic.starts_with("state") || topic.starts_with("board") {
            75
        } else {
            5
        });
        // Only where one client writes is it certain which message an empty one was.
        let clears = state && retain && !will && dice.chance(20);
        let mut payload = if clears {
            Vec::new()
        } else {
            format!("m{number}").into_bytes()
        };
        if !clears && dice.chance(4) {
            payload.resize(dice.pick(&[100, 3_000, 9_000]), b'.');
        }
        self.messages.push(MessagePlan {
            topic,
            qos: u8::try_from(dice.below(3)).expect("0, 1 or 2"),
            retain,
            payload,
        });
        number
    }
}

fn subscriptions(dice: &mut Dice, temper: &Temper) -> Vec<(&'static str, u8)> {
    let count = if dice.chance(70) { 1 } else { dice.between(2, 4) };
    let one = |dice: &mut Dice| {
        let filter = match dice.below(10) {
            _ if temper.retained => dice.pick(&STATE_FILTERS),
            0..=7 if temper.shared => dice.pick(&SHARED),
            0..=4 => dice.pick(&FILTERS),
            5..=7 => dice.pick(&STATE_FILTERS),
            _ => dice.pick(&SHARED),
        };
        (filter, u8::try_from(dice.below(3)).expect("0, 1 or 2"))
    };
    (0..count).map(|_| one(dice)).collect()
}

/// What most clients of a run are like.
struct Temper {
    publish: usize,
    subscribe: usize,
    wild: usize,
    steps_max: usize,
    /// All of it is about retained messages and new subscriptions to them.
    retained: bool,
    /// Most of it is about shared groups.
    shared: bool,
}

impl Temper {
    fn new(dice: &mut Dice) -> Temper {
        let retained = dice.chance(25);
        Temper {
            publish: dice.between(15, 60),
            subscribe: if retained { 30 } else { dice.between(4, 20) },
            wild: dice.pick(&[0, 1, 3, 6]),
            steps_max: dice.pick(&[8, 20, 40]),
            retained,
            shared: false,
        }
    }
}

/// Makes another seed of a seed, for dice that were added later than the plan's own; the scheduler's are `!seed`.
const LATER: u64 = 0x9E37_79B9_7F4A_7C15;

//! Settings are read again while clients are served: by SIGHUP, and by `ringmq reload`, which tells what came of it. Passwords,
//! certificates and the access control list alone have their tests beside what they are about.

mod common;

use std::process::{Command, ExitStatus};

use common::*;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// `secret`, as mosquitto_passwd 2.0.11 wrote it.
const ANN: &str = "ann:$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==\n";
const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

/// A broker whose settings are in a file, and that file.
struct Scene {
    broker: Broker,
    folder: Folder,
}

impl Scene {
    fn start(shards: u16, settings: &str, flags: &[&str]) -> Scene {
        let folder = Folder::new();
        let config = folder.write("r.toml", settings);
        let flags = [&["--config", &config], &ADMIN[..], flags].concat();
        let broker = Broker::start(shards, &flags);
        Scene { broker, folder }
    }

    /// `ringmq reload`, after the file was given this content: how it ended, and what it said.
    fn reload(&self, settings: &str) -> (bool, String) {
        let config = self.folder.write("r.toml", settings);
        let admin = self.broker.admin().to_string();
        let (status, said) = run(ringmq().args(["reload", "--config", &config, "--admin-listen", &admin]));
        (status.success(), said)
    }

    fn hang_up(&self, settings: &str, says: &str) {
        self.folder.write("r.toml", settings);
        let before = self.broker.log_lines(|line| line.contains(says)).len();
        self.broker.signal("HUP");
        self.broker
            .await_output(|output| (output.lines().filter(|line| line.contains(says)).count() > before).then_some(()));
    }
}

fn run(command: &mut Command) -> (ExitStatus, String) {
    let mut process = Process::spawn(command);
    let status = process.wait();
    (status, process.output())
}

/// A client that subscribes to so many filters; how many of them are granted.
fn granted(broker: &Broker, id: &str, filters: usize) -> usize {
    let mut client = broker.connect(id);
    let names: Vec<String> = (0..filters).map(|n| format!("f/{n}")).collect();
    let wanted: Vec<(&str, u8)> = names.iter().map(|name| (&**name, 0)).collect();
    client.send(wire::subscribe(1, &wanted));
    match client.recv() {
        Packet::Suback { codes, .. } => codes.iter().filter(|code| **code != 0x80).count(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_and_log_change_under_load_and_nobody_notices() {
    for shards in [1, 3] {
        let scene = Scene::start(shards, "", &[]);
        let control = Control::start(&scene.broker);
        let mut client = scene.broker.connect("served");
        for round in 0..10 {
            let most = 2 + round % 2;
            let (done, said) = scene.reload(&format!(
                "max_subscriptions = {most}\nmax_inflight = {most}\nmax_queued_messages = {}\nmax_memory = {}\n\
                 log = \"text/info,connection={}\"\n",
                100 + most,
                (64 + most) << 20,
                ["debug", "error"][round % 2],
            ));
            assert!(done, "{said}");
            assert!(said.contains("changed: max_subscriptions\n"), "{said}");
            // It is in force on all shards when the command ends.
            let (id, shard) = (format!("s{round}"), u16::try_from(round).expect("small") % shards);
            assert_eq!(granted(&scene.broker, &scene.broker.id_on(shard, &id), 5), most);
            client.ping();
        }
        control.finish();
    }
}

#[test]
fn the_log_follows_its_setting() {
    let scene = Scene::start(1, "log = \"text/info,connection=debug\"", &[]);
    let mentions = |id: &str| {
        scene
            .broker
            .log_lines(|line| line.contains(&format!("client=\"{id}\"")))
            .len()
    };
    let connected = |id: &str| {
        scene
            .broker
            .await_log(|line| line.contains(&format!("client=\"{id}\"")) && line.contains("connected"))
    };
    scene.broker.connect("first").disconnect();
    connected("first");
    assert!(scene.reload("log = \"text/info\"").0);
    scene.broker.connect("second").disconnect();
    assert!(scene.reload("log = \"json/debug\"").0);
    scene.broker.connect("third").disconnect();
    let line = scene
        .broker
        .await_log(|line| line.contains("\"third\"") && line.contains("connected"));
    assert!(line.starts_with('{'), "{line}");
    assert_eq!(mentions("second"), 0);
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_named() {
    for shards in [1, 3] {
        let good = "max_subscriptions = 2\n";
        let scene = Scene::start(shards, good, &[]);
        let control = Control::start(&scene.broker);
        for (bad, place) in [
            (
                "max_subscriptions = 5\nmax_inflght = 1\n",
                "r.toml:2: there is no setting max_inflght; did you mean max_inflight?",
            ),
            (
                "max_subscriptions = 5\n\nmax_inflight = 0\n",
                "r.toml:3: --max-inflight must be 1 to 65535, not 0",
            ),
            ("max_subscriptions = 5\nlog = \"text/loud\"\n", "r.toml:2: "),
            (
                "max_subscriptions = 5\nacl_file = \"/nowhere/acl\"\nx =\n",
                "r.toml:3: ",
            ),
        ] {
            // The broker finds it by itself,
            scene.hang_up(bad, "not reloaded");
            let line = scene
                .broker
                .await_log(|line| line.contains("not reloaded") && line.contains(place));
            assert!(line.contains("ERROR"), "{line}");
            // and the command does too.
            let (done, said) = scene.reload(bad);
            assert!(!done && said.contains(place), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert_eq!(granted(&scene.broker, "still", 5), 2, "{bad}");
        }
        control.finish();
    }
}

/// What only the broker can find is its answer, and what needs a restart is named each time.
#[test]
fn the_command_tells_what_came_of_it() {
    let lists = Folder::new();
    let first = lists.write("first", "topic readwrite #\n");
    let acl = lists.write("acl", "topic readwrite #\n");
    let scene = Scene::start(2, &format!("acl_file = \"{first}\"\n"), &[]);
    let settings = format!("acl_file = \"{acl}\"\n");
    let (done, said) = scene.reload(&settings);
    assert!(done && said.contains("changed: acl_file\n"), "{said}");
    lists.write("acl", "topic readwrite #\nno such line\n");
    let (done, said) = scene.reload(&settings);
    assert!(
        !done && said.contains("not reloaded") && said.contains("acl:2: "),
        "{said}"
    );
    lists.write("acl", "topic readwrite #\n");
    for _ in 0..2 {
        let (done, said) = scene.reload(&(settings.clone() + "auth_threads = 3\nmax_auth_waiting = 7\n"));
        assert!(done, "{said}");
        assert!(said.contains("needs a restart: auth_threads\n"), "{said}");
        assert!(said.contains("needs a restart: max_auth_waiting\n"), "{said}");
        assert!(!said.contains("changed: "), "{said}");
    }
    let warned = scene
        .broker
        .log_lines(|line| line.contains("needs a restart") && line.contains("auth_threads"));
    assert_eq!(warned.len(), 2);

    let (status, said) = run(ringmq().args(["reload", "--shards", "1"]));
    assert!(status.code() == Some(1) && said.contains("--admin-listen"), "{said}");
    let (status, said) = run(ringmq().args(["reload", "--admin-listen", "127.0.0.1:1"]));
    assert!(
        status.code() == Some(1) && said.contains("http://127.0.0.1:1: "),
        "{said}"
    );
}

#[test]
fn only_an_operator_reloads_over_http() {
    let folder = Folder::new();
    let token = folder.write("token", "a-token-of-some-length\n");
    let broker = Broker::start(1, &[&ADMIN[..], &["--admin-token-file", &token]].concat());
    assert_eq!(broker.ask("POST", "/api/reload", &[]).status, 401);
    let own = "Authorization: Bearer a-token-of-some-length";
    assert_eq!(broker.ask("GET", "/api/reload", &[own]).status, 405);
    let answer = broker.ask("POST", "/api/reload", &[own]);
    assert_eq!((answer.status, answer.text()), (200, "{\"changed\":[],\"restart\":[]}"));
    let admin = broker.admin().to_string();
    let args = ["reload", "--admin-listen", &admin, "--admin-token-file", &token];
    assert!(run(ringmq().args(args)).0.success());
    folder.write("token", "another-token-of-length\n");
    let (status, said) = run(ringmq().args(args));
    assert!(status.code() == Some(1) && said.contains("401"), "{said}");

    // Without a token, a page that a browser on this host shows cannot send a form here.
    let broker = Broker::start(1, &ADMIN);
    assert_eq!(
        broker
            .ask("POST", "/api/reload", &["Origin: https://evil.example"])
            .status,
        403
    );
    assert_eq!(broker.ask("POST", "/api/reload", &["Origin: null"]).status, 403);
    let own = format!("Origin: http://{}", broker.admin());
    assert_eq!(broker.ask("POST", "/api/reload", &[&own]).status, 200);
}

#[test]
fn the_limit_of_connections_moves_and_those_that_are_open_stay() {
    let scene = Scene::start(2, "max_connections = 3", &[]);
    let mut open: Vec<Client> = (0..3).map(|n| scene.broker.connect(&format!("c{n}"))).collect();
    scene.broker.dial().expect_close();
    assert!(scene.reload("max_connections = 4").0);
    open.push(scene.broker.connect("c3"));
    assert!(scene.reload("max_connections = 2").0);
    scene.broker.dial().expect_close();
    for client in &mut open {
        client.ping();
    }
    assert_eq!(scene.broker.metrics().sum("ringmq_connections_limit", &[]), 2);
}

/// Attack 21: a reload that finds no descriptor for the files keeps the passwords and the list that are in force.
#[test]
fn a_reload_without_descriptors_keeps_the_old_security() {
    let folder = Folder::new();
    let passwords = folder.write("passwords", ANN);
    let acl = folder.write("acl", "user ann\ntopic readwrite allowed/#\n");
    let broker = Broker::start(2, &["--password-file", &passwords, "--acl-file", &acl]);
    let connect = |id: &str| broker.connect_as(&Connect::new(id).user("ann", "secret")).0;
    let refused = |client: &mut Client| {
        client.send(wire::subscribe(9, &[("secret/#", 1)]));
        assert_eq!(
            client.recv(),
            Packet::Suback {
                id: 9,
                codes: vec![0x80]
            }
        );
    };
    let mut served = connect("served");
    refused(&mut served);
    // These would let everybody do everything, and lock ann out.
    folder.write("passwords", "");
    folder.write("acl", "topic readwrite #\nuser ann\ntopic readwrite #\n");
    let pid = Pid::from_raw(broker.pid().cast_signed());
    // No number is left below this one.
    let limit = Rlimit {
        current: Some(3),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let old = prlimit(pid, Resource::Nofile, limit).expect("a process of ours");
    broker.signal("HUP");
    let line = broker.await_log(|line| line.contains("not reloaded"));
    assert!(line.contains("os error 24"), "{line}");
    refused(&mut served);
    served.ping();
    prlimit(pid, Resource::Nofile, old).expect("a process of ours");
    refused(&mut connect("later"));
    broker.signal("HUP");
    broker.await_log(|line| line.contains("INFO reloaded"));
    served.send(wire::subscribe(10, &[("secret/#", 1)]));
    assert_eq!(served.recv(), Packet::Suback { id: 10, codes: vec![1] });
}

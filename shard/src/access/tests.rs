//! The compiled list against what it means: a table, and a naive reading of random lists.

use proptest::prelude::*;

use super::*;
use crate::topic::{Subscription, TopicFilter, TopicLimits};

const LIST: &str = "\
topic read public/#
topic deny public/staff/#

user ann
topic readwrite a/#
topic deny a/secret/#
topic deny +/+/hidden
topic read exact/one
topic read exact/two
topic write in/+/x
topic read deep/a/#
topic read deep-er/#
topic read deep/a/b/#
topic read $SYS/broker/uptime

user root
topic readwrite #
topic read $SYS/#

pattern write sensors/%c/#
pattern read for-%u/+/%c
pattern deny sensors/%c/calibration
pattern deny a/+/locked
pattern read %c/own
";

fn name(topic: &str) -> TopicName<'_> {
    TopicName::from_checked(topic)
}

/// Client Identifier and user name.
type Client<'a> = (&'a str, Option<&'a str>);

fn who<'a>(acl: &Acl, (client_id, user_name): Client<'a>) -> Who<'a> {
    Who {
        rights: acl.rights(client_id, user_name),
        client_id,
        user_name,
    }
}

fn may(acl: &Acl, client: Client<'_>, topic: &str, right: Right) -> bool {
    acl.allows(who(acl, client), right, name(topic))
}

#[test]
fn each_client_may_do_what_its_entries_say() {
    let acl = Acl::parse(LIST).unwrap();
    let (ann, anyone): (Client<'_>, Client<'_>) = (("c1", Some("ann")), ("c1", None));
    let (root, eve): (Client<'_>, Client<'_>) = (("c1", Some("root")), ("c1", Some("eve")));
    for (client, topic, read, write) in [
        (anyone, "public/news", true, false),
        (anyone, "public", true, false),
        (anyone, "public/staff", false, false),
        (anyone, "public/staff/x", false, false),
        (anyone, "publicity", false, false),
        (anyone, "a/x", false, false),
        (anyone, "sensors/c1/t", false, true),
        (anyone, "sensors/c1", false, true),
        (anyone, "sensors/c2/t", false, false),
        (anyone, "sensors/c1/calibration", false, false),
        (anyone, "for-/x/c1", false, false),
        (anyone, "$SYS/broker/uptime", false, false),
        // Entries for nobody are not for users.
        (eve, "public/news", false, false),
        (eve, "sensors/c1/t", false, true),
        (eve, "for-eve/x/c1", true, false),
        (eve, "for-eve/x/c2", false, false),
        (eve, "for-ann/x/c1", false, false),
        (ann, "a", true, true),
        (ann, "a/b/c", true, true),
        (ann, "a/secret", false, false),
        (ann, "a/secret/x", false, false),
        (ann, "a/secrets", true, true),
        (ann, "a/b/hidden", false, false),
        (ann, "ab", false, false),
        (ann, "exact/one", true, false),
        (ann, "exact/three", false, false),
        (ann, "in/1/x", false, true),
        (ann, "in//x", false, true),
        (ann, "in/1/2/x", false, false),
        (ann, "deep/a/b/c", true, false),
        (ann, "deep/a", true, false),
        (ann, "deep/b", false, false),
        (ann, "deep-er", true, false),
        (ann, "$SYS/broker/uptime", true, false),
        (ann, "$SYS/broker/version", false, false),
        // An entry of her own goes before a pattern.
        (ann, "a/x/locked", true, true),
        (root, "a/x/locked", true, true),
        (root, "anything", true, true),
        (root, "$SYS/broker/version", true, false),
        (root, "$other", false, false),
    ] {
        let who = who(&acl, client);
        let seen = [Right::Read, Right::Write].map(|right| acl.allows(who, right, name(topic)));
        assert_eq!(seen, [read, write], "{client:?} {topic}");
    }
}

/// A client that chooses its identifier chooses nobody else's topics.
#[test]
fn names_that_are_no_level_stand_for_nothing() {
    let list = Acl::parse(LIST).unwrap();
    let writes = |client: Client<'_>, topic: &str| may(&list, client, topic, Right::Write);
    for id in ["+", "#", "c1/#", "+/x", "c1#", "c+1"] {
        let other = format!("sensors/{}/t", id.replace(['+', '#'], "c1"));
        for topic in ["sensors/c1/t", "sensors/x", &other] {
            assert!(!writes((id, None), topic), "{id} {topic}");
            assert!(!writes((id, Some("eve")), topic), "{id} {topic}");
        }
        // Its own entries are as good as anybody's.
        assert!(writes((id, Some("ann")), "a/b"));
    }
    assert!(!writes(("c1", Some("+")), "sensors/c1/t"));
    // A slash makes two levels: `%c` is none, `%u` and what names neither are as they were.
    assert!(!writes(("c1/t", None), "sensors/c1/t"));
    assert!(!writes(("c1/t", None), "sensors/c1/t/x"));
    let acl = Acl::parse("pattern read u/%u\npattern read all\npattern deny all/%c\npattern read all/#").unwrap();
    let reads = |client: Client<'_>, topic: &str| may(&acl, client, topic, Right::Read);
    assert!(reads(("a/b", Some("ann")), "u/ann") && reads(("a/b", Some("ann")), "all"));
    assert!(!reads(("a/b", Some("x/y")), "u/x/y"));
    // What takes something away does so whatever the name is.
    assert!(!reads(("a/b", None), "all/a/b") && reads(("a/b", None), "all/a"));
    // No name makes an entry one about the broker's topics.
    assert!(!may(&list, ("$SYS", None), "$SYS/own", Right::Read));
    assert!(may(&list, ("x", None), "x/own", Right::Read));
}

#[test]
fn filters_are_granted_unless_nothing_in_them_is_readable() {
    let acl = Acl::parse(LIST).unwrap();
    let grants = |client, text: &str| {
        let wanted = Subscription::parse(text, &TopicLimits::default()).unwrap();
        acl.grants(who(&acl, client), wanted, &mut 0)
    };
    let (ann, anyone, root): (Client<'_>, Client<'_>, Client<'_>) =
        (("c1", Some("ann")), ("c1", None), ("c1", Some("root")));
    for (client, filter, granted) in [
        (anyone, "public/news", true),
        (anyone, "public/#", true),
        (anyone, "#", true),
        (anyone, "+/news", true),
        (anyone, "public/staff/+", false),
        (anyone, "a/#", false),
        (anyone, "sensors/c1/#", false),
        (anyone, "$SYS/#", false),
        (ann, "a/secret/#", false),
        (ann, "a/+/hidden", false),
        (ann, "a/+", true),
        (ann, "+/secret/x", true),
        (ann, "in/+/x", false),
        (ann, "exact/+", true),
        (ann, "exact/three", false),
        (ann, "for-ann/#", true),
        (ann, "for-eve/#", false),
        (ann, "$SYS/broker/#", true),
        (root, "#", true),
        (root, "$SYS/#", true),
        (root, "$x/#", false),
        // Shares: all or nothing.
        (anyone, "$share/g/public/news", true),
        (anyone, "$share/g/public/#", false),
        (anyone, "$share/g/public/+", false),
        (ann, "$share/g/a/b", true),
        (ann, "$share/g/a/+", false),
        (ann, "$share/g/deep/a/+/+", true),
        (ann, "$share/g/deep/a/#", false),
        (ann, "$share/g/deep/#", false),
        (ann, "$share/g/for-ann/+/c1", true),
        (ann, "$share/g/for-ann/x/#", false),
        (root, "$share/g/#", true),
    ] {
        assert_eq!(grants(client, filter), granted, "{client:?} {filter}");
    }
    assert!(grants(("x", Some("eve")), "for-eve/a/x"));
    assert!(!grants(("$SYS", None), "$share/g/$SYS/own"));
}

/// However long a list is, one packet does not stall its shard; what was not looked at is judged when a message comes.
#[test]
fn looking_ends_and_the_careful_answer_is_given() {
    let mut text = String::from("topic read all/#\n");
    for n in 0..STEPS_MAX {
        text.push_str(&format!(
            "topic read t{n}/+/x\ntopic read name/{n}\ntopic read tree/{n}/#\n"
        ));
    }
    let acl = Acl::parse(&text).unwrap();
    let mut steps = 0;
    let mut grants = |text: &str| {
        let wanted = Subscription::parse(text, &TopicLimits::default()).unwrap();
        acl.grants(who(&acl, ("c", None)), wanted, &mut steps)
    };
    assert!(!grants("none"), "a name is looked up");
    assert!(grants("$share/g/all/+") && grants("name/+") && grants("tree/7/x/+") && grants("all/#"));
    assert!(grants("+/+/y"), "something in `tree`");
    assert!(grants("t/+/y"), "more than may be looked at");
    assert!(!grants("$share/g/all/+"), "the steps are used up");
    assert!(grants("name/1") && !grants("none"));
    let wanted = Subscription::parse("no/+", &TopicLimits::default()).unwrap();
    let few = Acl::parse("topic read name/#\ntopic read t/+/x").unwrap();
    assert!(!few.grants(who(&few, ("c", None)), wanted, &mut 0));
}

/// A list, read as it is written.
#[derive(Clone, Debug)]
struct Naive {
    /// User (`None`: no name), and the entry.
    topics: Vec<(Option<String>, Entry)>,
    patterns: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// `None`: deny.
    allows: Option<(bool, bool)>,
    filter: String,
}

impl Naive {
    fn text(&self) -> String {
        let mut text = String::new();
        let line = |word: &str, entry: &Entry| {
            let access = match entry.allows {
                None => "deny",
                Some((true, false)) => "read",
                Some((false, true)) => "write",
                Some(_) => "readwrite",
            };
            format!("{word} {access} {}\n", entry.filter)
        };
        let (anonymous, named): (Vec<_>, Vec<_>) = self.topics.iter().partition(|(user, _)| user.is_none());
        for (_, entry) in anonymous {
            text += &line("topic", entry);
        }
        for (user, entry) in named {
            text += &format!("user {}\n{}", user.as_ref().unwrap(), line("topic", entry));
        }
        for entry in &self.patterns {
            text += &line("pattern", entry);
        }
        text
    }

    fn allows(&self, (id, user): Client<'_>, right: Right, topic: &str) -> bool {
        let own = |entry: &&(Option<String>, Entry)| entry.0.as_deref() == user;
        let own: Vec<(bool, Entry)> = self
            .topics
            .iter()
            .filter(own)
            .map(|(_, entry)| (naive_match(&entry.filter, &entry.filter, topic), entry.clone()))
            .collect();
        let wild = |name: &str| name.contains('+') || name.contains('#');
        let mut patterns = Vec::new();
        if !wild(id) && !user.is_some_and(wild) {
            for entry in &self.patterns {
                if entry.filter.contains("%u") && user.is_none() {
                    continue;
                }
                let names = [("%c", id), ("%u", user.unwrap_or_default())];
                let slash = |(of, name): &(&str, &str)| entry.filter.contains(of) && name.contains('/');
                if entry.allows.is_some() && names.iter().any(slash) {
                    continue;
                }
                let filter = entry.filter.replace("%c", id).replace("%u", user.unwrap_or_default());
                patterns.push((naive_match(&entry.filter, &filter, topic), entry.clone()));
            }
        }
        for entries in [own, patterns] {
            if entries
                .iter()
                .any(|(matches, entry)| *matches && entry.allows.is_none())
            {
                return false;
            }
            let gives = |entry: &Entry| match (entry.allows, right) {
                (Some((read, _)), Right::Read) => read,
                (Some((_, write)), Right::Write) => write,
                (None, _) => false,
            };
            if entries.iter().any(|(matches, entry)| *matches && gives(entry)) {
                return true;
            }
        }
        false
    }
}

/// Level by level; `$` topics only for entries that are written so.
fn naive_match(written: &str, filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([level, filter @ ..], [other, topic @ ..]) => level == other && levels(filter, topic),
            _ => false,
        }
    }
    let split = |text| str::split(text, '/').collect::<Vec<_>>();
    (!topic.starts_with('$') || written.starts_with('$')) && levels(&split(filter), &split(topic))
}

const LEVELS: [&str; 6] = ["a", "b", "ab", "", "a-", "$s"];

fn any_filter(levels: Vec<&'static str>) -> impl Strategy<Value = String> {
    (prop::collection::vec(prop::sample::select(levels), 0..4), any::<bool>())
        .prop_map(|(levels, open)| match (levels.join("/"), open) {
            (text, true) if levels.is_empty() => text + "#",
            (text, true) => text + "/#",
            (text, false) => text,
        })
        .prop_filter("not empty", |text| !text.is_empty())
}

fn any_entry(names: bool) -> impl Strategy<Value = Entry> {
    let mut levels = LEVELS.to_vec();
    levels.extend(["+", "+"]);
    if names {
        levels.extend(["%c", "%u", "x%c", "%c%u", "%u-"]);
    }
    let allows = prop::sample::select(vec![None, Some((true, false)), Some((false, true)), Some((true, true))]);
    (allows, any_filter(levels)).prop_map(|(allows, filter)| Entry { allows, filter })
}

fn any_list() -> impl Strategy<Value = Naive> {
    let user = prop::sample::select(vec![None, Some("ann".to_owned()), Some("a".to_owned())]);
    (
        prop::collection::vec((user, any_entry(false)), 0..12),
        prop::collection::vec(any_entry(true), 0..6),
    )
        .prop_map(|(topics, patterns)| Naive { topics, patterns })
}

fn any_topic() -> impl Strategy<Value = String> {
    let mut levels = LEVELS.to_vec();
    levels.extend(["ann", "xa", "aann", "ann-", "xa/b", "x"]);
    prop::collection::vec(prop::sample::select(levels), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

fn any_client() -> impl Strategy<Value = (&'static str, Option<&'static str>)> {
    (
        prop::sample::select(vec!["a", "b", "a/b", "+", "a#", "$s", "ab"]),
        prop::sample::select(vec![
            None,
            Some("ann"),
            Some("a"),
            Some("other"),
            Some("a/b"),
            Some("#"),
            Some("$s"),
        ]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn compiled_list_agrees_with_a_naive_reading(
        list in any_list(),
        client in any_client(),
        topics in prop::collection::vec(any_topic(), 12),
        wanted in any_filter(vec!["a", "b", "", "+", "ab", "$s"]),
    ) {
        let acl = Acl::parse(&list.text()).unwrap();
        let who = who(&acl, client);
        for topic in &topics {
            for right in [Right::Read, Right::Write] {
                let (seen, meant) = (acl.allows(who, right, name(topic)), list.allows(client, right, topic));
                prop_assert_eq!(seen, meant, "{:?} {:?} {}\n{}", client, right, topic, list.text());
            }
        }
        // No subscription is refused that could bring something, no share granted that loses something.
        let wanted = TopicFilter::from_checked(&wanted);
        let asks = |group| acl.grants(who, Subscription { group, filter: wanted }, &mut 0);
        let (plain, shared) = (asks(None), asks(Some("g")));
        for topic in topics.iter().filter(|topic| wanted.matches(name(topic))) {
            let readable = list.allows(client, Right::Read, topic);
            prop_assert!(plain || !readable, "{:?} {} {}\n{}", client, wanted, topic, list.text());
            prop_assert!(!shared || readable, "{:?} {} {}\n{}", client, wanted, topic, list.text());
        }
    }
}

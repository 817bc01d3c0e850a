//! Planted faults: mutations of the core, to prove that the simulator can fail.
//!
//! A hook in the core reads `if fault!(SkipConfirmation) { … }`. Without the feature `planted-faults` that is `if false`. With it,
//! a fault acts on the thread that chose it; none acts unless it is chosen.

/// Whether a planted fault acts.
#[cfg(not(feature = "planted-faults"))]
macro_rules! fault {
    ($name:ident) => {
        false
    };
}

/// Whether a planted fault acts.
#[cfg(feature = "planted-faults")]
macro_rules! fault {
    ($name:ident) => {
        $crate::fault::Fault::$name.is_planted()
    };
}

#[cfg(feature = "planted-faults")]
pub use planted::*;

#[cfg(feature = "planted-faults")]
mod planted {
    use std::cell::Cell;

    macro_rules! faults {
        ($($name:ident: $what:literal,)*) => {
            /// A mistake that the core could make.
            #[derive(Clone, Copy, Debug, Eq, PartialEq)]
            pub enum Fault {
                $(#[doc = $what] $name,)*
            }

            impl Fault {
                /// All of them.
                pub const ALL: &[Fault] = &[$(Fault::$name,)*];

                /// What goes wrong.
                #[must_use]
                pub const fn what(self) -> &'static str {
                    match self {
                        $(Fault::$name => $what,)*
                    }
                }
            }
        };
    }

    faults! {
        SkipConfirmation: "SUBACK after the first confirmation of a route instead of the last",
        ConfirmTooEarly: "a route's confirmation overtakes messages that were routed without it",
        RetainAfterMessages: "the store of a retained message leaves after its live copies",
        LeaveRoute: "the last subscriber's route is not withdrawn from the other shards",
        WithdrawTooLate: "a withdrawn route leaves after a route that was announced later",
        LeaveFilter: "a filter without subscribers stays in the registry",
        KeepSubscriber: "UNSUBSCRIBE leaves the subscriber in the registry",
        ReuseIdentifier: "a message gets the Packet Identifier of one in flight",
        DropDup: "a message is sent again without DUP",
        DeliverAtPublish: "a QoS 2 message is delivered at PUBLISH and again at PUBREL",
        DeliverEachPubRel: "a QoS 2 message is delivered at every PUBREL",
        ForgetInFlight: "a resumed session forgets what was in flight",
        ForgetInbound: "a resumed session forgets the QoS 2 messages it had taken over",
        ForgetQueued: "a message that waits for the window is dropped without being counted",
        ResumeClean: "Clean Session 1 goes on with the old session",
        LiveOvertakesRetained: "live messages are not held while retained ones are awaited",
        ForgetHeld: "a live message that was held is forgotten",
        HeldBeforeRetained: "held live messages leave before the retained ones",
        RetainedTwice: "a retained message leaves though its live copy is among the held ones",
        RetainLive: "a live message leaves with RETAIN 1",
        KeepCleared: "an empty payload does not clear the retained message",
        Qos0Overtakes: "QoS 0 overtakes everything that waits",
        DoubleDelivery: "overlapping filters deliver twice",
        LowerQos: "overlapping filters deliver at the lowest QoS",
        WildcardSeesDollar: "a filter that begins with a wildcard matches topics that begin with $",
        LoseWill: "a takeover loses the Will of the older connection",
        WillAfterGoodbye: "the Will is published after DISCONNECT",
        LoseRedispatch: "what a leaving member of a shared group had not acknowledged is lost",
        GroupToAll: "every member of a shared group on the shard gets the message",
        AcknowledgeTooEarly: "PUBACK before other shards' stores have the message",
        GrantTooEarly: "SUBACK before the subscription is durable",
        SendUnbound: "an outbound QoS 2 message leaves before its identifier is durable",
        DeafKeepAlive: "what a client sends does not count for its Keep Alive",
        NoKeepAlive: "a silent client is never disconnected",
        LeakPending: "a SUBSCRIBE whose session has ended is never forgotten",
        DoneWhenSent: "the store forgets a queued message when it is sent, not when it is acknowledged",
        ReleaseWhenHeld: "the store forgets a QoS 2 message before its PUBREL",
        ShedUncounted: "a message that is shed for want of memory is not counted",
        PauseForEver: "a publisher that was paused because memory is short is never read again",
        NeverPaid: "a publisher that was faster than its rate is never read again",
        UncountedDrop: "a message that a full queue refuses is not counted",
        PanicAtQos2: "a QoS 2 PUBLISH makes the shard panic",
    }

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    impl Fault {
        /// The one of this name, as it stands here.
        #[must_use]
        pub fn named(name: &str) -> Option<Fault> {
            Fault::ALL.iter().copied().find(|fault| format!("{fault:?}") == name)
        }

        /// Makes this fault act on this thread, instead of any other.
        pub fn plant(self) {
            PLANTED.set(Some(self));
        }

        /// Ends whatever acts.
        pub fn remove_all() {
            PLANTED.set(None);
        }

        /// Whether it acts.
        #[must_use]
        pub fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }
    }
}

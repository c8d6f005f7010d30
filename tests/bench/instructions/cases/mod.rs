//! The cases: what each prepares, and the one operation of it that is counted.
#![expect(clippy::unwrap_used, reason = "what is prepared here is known to be good")]

mod arrival;
mod drain;
mod roster;
mod stream;

/// Where the cost of one among many is asked for.
const SESSIONS: usize = 50_000;

/// Told how often it was called before.
pub(crate) type Operation = Box<dyn FnMut(usize)>;

/// An operation with all it needs.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn() -> Operation,
}

const fn case(name: &'static str, prepare: fn() -> Operation) -> Case {
    Case { name, prepare }
}

/// What calling an operation costs.
pub(crate) const NOTHING: Case = case("nothing", || Box::new(|_| {}));

pub(crate) const CASES: &[Case] = &[
    // One read of 64 packets, each in a frame of its own.
    case("skim-client-small", || stream::skim(&stream::small_frames(true), 16 * 1024)),
    case("skim-broker-small", || stream::skim(&stream::small_frames(false), 16 * 1024)),
    // The same in reads of 7 bytes: each header is cut.
    case("skim-client-split", || stream::skim(&stream::small_frames(true), 7)),
    // A packet of 256 KiB in reads of 16.
    case("skim-client-large", || stream::skim(&stream::large_frame(), 16 * 1024)),
    case("unmask-16", || stream::unmask(16)),
    // A size with a rest in each width.
    case("unmask-61", || stream::unmask(61)),
    case("unmask-128", || stream::unmask(128)),
    case("unmask-16384", || stream::unmask(16 * 1024)),
    // One read of a TCP broker: 16 packets, or the middle of a large one.
    case("wrap-small", stream::wrap_small),
    case("wrap-large", stream::wrap_large),
    case("route-10", || arrival::route(10)),
    case("route-100", || arrival::route(100)),
    case("handshake-check", arrival::check),
    case("handshake-accept", arrival::accept),
    case("forwarded", arrival::forwarded),
    case("connect-v3", arrival::connect_v3),
    case("connect-v5", arrival::connect_v5),
    case("pick-weighted-3", || arrival::pick("weighted", 3)),
    case("pick-weighted-100", || arrival::pick("weighted", 100)),
    case("pick-least-sessions-3", || arrival::pick("least-sessions", 3)),
    case("pick-least-sessions-100", || arrival::pick("least-sessions", 100)),
    case("pick-client-id-3", || arrival::pick("client-id", 3)),
    case("pick-client-id-100", || arrival::pick("client-id", 100)),
    // One slice of all sessions: none is wanted, or all are.
    case("roster-slice", || roster::slice("client_id=sensor-x")),
    case("roster-slice-listed", || roster::slice("limit=1000")),
    // The same of a drain, which looks for those to be asked: all are.
    case("drain-slice", drain::slice),
];

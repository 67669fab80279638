//! What is to go wrong, where, and how often. It decides which bytes of which connection meet a fault; what the
//! fault does to the sockets is done in `connection`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

/// One thing that goes wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Both sides see an orderly end (FIN).
    Cut,
    /// Both sides see a reset (RST).
    Reset,
    /// What was sent so far arrives; the server's next words are dropped, and the client sees a reset. Ordered behind
    /// a `COMMIT` the server has committed, and the client cannot know. Only for [`Direction::ToServer`].
    LoseAnswer,
    /// Nothing is forwarded any more, in either direction, and nothing is closed, as when a cable is pulled. It ends
    /// with [`FaultProxy::release`](super::FaultProxy::release), by a reset.
    HalfOpen,
    /// This direction waits for [`FaultProxy::release`](super::FaultProxy::release), then goes on: a moment for the
    /// test to do something else.
    Hold,
    /// This direction waits so long, then goes on.
    Delay(Duration),
    /// From here on this direction forwards no more than that.
    Throttle {
        /// At least 20.
        bytes_per_second: u32,
    },
    /// One bit of the next byte changes.
    Flip,
    /// The connection is accepted and reset before a byte of it was read. Only at the connect.
    Refuse,
}

/// A fault with its place and number: by default it fires once.
#[derive(Debug, Clone)]
pub struct Order {
    fault: Fault,
    place: Place,
    times: u64,
    skip: u64,
}

#[derive(Debug, Clone)]
enum Place {
    Connect,
    Byte(Direction, u64),
    Pattern(Direction, Vec<u8>),
}

/// How often an order has fired. Clones count the same.
#[derive(Debug, Clone, Default)]
pub struct Fired(Arc<AtomicU64>);

impl Fired {
    /// So often.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Fault {
    /// On the first connection on which so many bytes have gone that way.
    pub fn at(self, direction: Direction, byte: u64) -> Order {
        Order::new(self, Place::Byte(direction, byte))
    }

    /// Once these bytes have gone that way on any connection, with whatever came along in the same read.
    pub fn after(self, direction: Direction, pattern: impl Into<Vec<u8>>) -> Order {
        Order::new(self, Place::Pattern(direction, pattern.into()))
    }

    /// When a client connects.
    pub fn at_connect(self) -> Order {
        Order::new(self, Place::Connect)
    }
}

impl Order {
    fn new(fault: Fault, place: Place) -> Self {
        Self {
            fault,
            place,
            times: 1,
            skip: 0,
        }
    }

    /// It fires so often; at a byte, once per connection at most.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// It fires every time, until [`FaultProxy::clear`](super::FaultProxy::clear).
    #[must_use]
    pub fn lasting(self) -> Self {
        self.times(u64::MAX)
    }

    /// It lets pass so many occasions first.
    #[must_use]
    pub fn skip(mut self, occasions: u64) -> Self {
        self.skip = occasions;
        self
    }
}

/// All orders of a proxy.
#[derive(Debug, Default)]
pub(super) struct Orders {
    armed: Mutex<Vec<Armed>>,
    next: AtomicU64,
    fired: Fired,
}

#[derive(Debug)]
struct Armed {
    number: u64,
    order: Order,
    fired: Fired,
}

/// What one direction of one connection has seen.
#[derive(Debug)]
pub(super) struct Seen {
    direction: Direction,
    /// Bytes that have gone.
    position: u64,
    /// The last of them, in which a pattern may have begun.
    tail: Vec<u8>,
    /// Orders at a byte that this connection has had its occasion for.
    passed: Vec<u64>,
}

/// A fault that is due after so many of the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strike {
    pub after: usize,
    pub fault: Fault,
}

impl Seen {
    pub(super) fn nothing(direction: Direction) -> Self {
        Self {
            direction,
            position: 0,
            tail: Vec::new(),
            passed: Vec::new(),
        }
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// These bytes have gone.
    pub(super) fn add(&mut self, bytes: &[u8], keep: usize) {
        self.position += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(keep);
        self.tail.drain(..surplus);
    }
}

impl Orders {
    pub(super) fn push(&self, order: Order) -> Fired {
        let fired = Fired::default();
        self.lock().push(Armed {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            order,
            fired: fired.clone(),
        });
        fired
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn fired(&self) -> u64 {
        self.fired.count()
    }

    /// As many bytes as a pattern may have begun in before the next ones.
    pub(super) fn tail_length(&self) -> usize {
        let length = |armed: &Armed| match &armed.order.place {
            Place::Pattern(_, pattern) => pattern.len().saturating_sub(1),
            _ => 0,
        };
        self.lock().iter().map(length).max().unwrap_or(0)
    }

    /// The fault that a new connection meets.
    pub(super) fn strike_connect(&self) -> Option<Fault> {
        self.lock().iter_mut().find_map(|armed| {
            let here = matches!(armed.order.place, Place::Connect);
            (here && armed.is_due(&self.fired)).then(|| armed.order.fault.clone())
        })
    }

    /// The next fault among the bytes that are about to go.
    pub(super) fn strike(&self, seen: &mut Seen, bytes: &[u8]) -> Option<Strike> {
        let mut armed = self.lock();
        // Places at a byte first, in the order of the bytes: a pattern fires behind all that is at hand.
        loop {
            let next = armed
                .iter_mut()
                .filter_map(|it| Some((it.byte_in(seen, bytes.len())?, it)))
                .min_by_key(|(after, _)| *after);
            let Some((after, it)) = next else { break };
            seen.passed.push(it.number);
            if it.is_due(&self.fired) {
                let fault = it.order.fault.clone();
                return Some(Strike { after, fault });
            }
        }
        armed.iter_mut().find_map(|it| {
            let due = it.occurs_in(seen, bytes) && it.is_due(&self.fired);
            due.then(|| Strike {
                after: bytes.len(),
                fault: it.order.fault.clone(),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    /// Takes one occasion; whether the fault fires at it.
    fn is_due(&mut self, all: &Fired) -> bool {
        if self.order.skip > 0 {
            self.order.skip -= 1;
            return false;
        }
        if self.order.times == 0 {
            return false;
        }
        self.order.times -= 1;
        self.fired.0.fetch_add(1, Ordering::Relaxed);
        all.0.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// After how many of the next bytes its place comes.
    fn byte_in(&self, seen: &Seen, count: usize) -> Option<usize> {
        let Place::Byte(direction, byte) = self.order.place else {
            return None;
        };
        let after = usize::try_from(byte.checked_sub(seen.position)?).ok()?;
        let here = direction == seen.direction && after < count;
        (here && self.order.times > 0 && !seen.passed.contains(&self.number)).then_some(after)
    }

    /// Whether its pattern ends within the next bytes.
    fn occurs_in(&self, seen: &Seen, bytes: &[u8]) -> bool {
        let Place::Pattern(direction, pattern) = &self.order.place else {
            return false;
        };
        if *direction != seen.direction || self.order.times == 0 || pattern.is_empty() {
            return false;
        }
        let begun = seen.tail.len().min(pattern.len() - 1);
        let tail = seen.tail.get(seen.tail.len() - begun..).unwrap_or_default();
        let joined = [tail, bytes].concat();
        joined
            .windows(pattern.len())
            .any(|window| window == pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen::nothing(Direction::ToServer)
    }

    #[test]
    fn a_place_at_a_byte_is_met_once_per_connection_and_so_often_in_all() {
        let orders = Orders::default();
        let fired = orders.push(Fault::Flip.at(Direction::ToServer, 5).times(2));
        let mut first = seen();
        assert_eq!(orders.strike(&mut first, b"01234"), None);
        first.add(b"01234", 0);
        let strike = orders.strike(&mut first, b"5678").unwrap();
        assert_eq!((strike.after, strike.fault), (0, Fault::Flip));
        assert_eq!(orders.strike(&mut first, b"5678"), None);
        assert_eq!(orders.strike(&mut seen(), b"0123456").unwrap().after, 5);
        assert_eq!(orders.strike(&mut seen(), b"0123456"), None);
        assert_eq!((fired.count(), orders.fired()), (2, 2));
    }

    #[test]
    fn a_pattern_is_found_across_two_reads() {
        let orders = Orders::default();
        orders.push(Fault::Reset.after(Direction::ToServer, *b"COMMIT").skip(1));
        let mut seen = seen();
        for (bytes, met) in [
            (&b"xxCOM"[..], false),
            (b"MIT\0", false),
            (b"COMMI", false),
            (b"T", true),
            (b"COMMIT", false),
        ] {
            assert_eq!(orders.strike(&mut seen, bytes).is_some(), met, "{bytes:?}");
            seen.add(bytes, orders.tail_length());
        }
    }

    #[test]
    fn the_other_direction_is_left_alone() {
        let orders = Orders::default();
        orders.push(Fault::Cut.at(Direction::ToClient, 0).lasting());
        orders.push(Fault::Refuse.at_connect());
        assert_eq!(orders.strike(&mut seen(), b"abc"), None);
        assert_eq!(orders.strike_connect(), Some(Fault::Refuse));
        assert_eq!(orders.strike_connect(), None);
        let mut back = Seen::nothing(Direction::ToClient);
        assert!(orders.strike(&mut back, b"abc").is_some());
        orders.clear();
        let mut other = Seen::nothing(Direction::ToClient);
        assert_eq!(orders.strike(&mut other, b"abc"), None);
    }
}

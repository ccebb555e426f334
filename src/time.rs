//! The only time types. [`Tick`] is monotonic, counted from an origin that the environment chose: whatever lasts goes by it.
//! [`Wall`] is the date, which may step either way at any time, and is for what the protocol says in dates. [`Moment`] is both.
//! Nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the environment started: a process, or a simulated world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The origin.
    pub const ZERO: Tick = Tick(0);
    /// Later than every deadline: "never".
    pub const MAX: Tick = Tick(u64::MAX);

    /// A tick this many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Tick(nanos)
    }

    /// A tick this many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Tick(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub const fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;

    /// Saturates at [`Tick::MAX`], so that a huge timeout means "never".
    fn add(self, d: Duration) -> Tick {
        Tick(
            self.0
                .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Tick> for Tick {
    type Output = Duration;

    fn sub(self, earlier: Tick) -> Duration {
        self.since(earlier)
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(u64);

impl Wall {
    /// The date this many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Wall(millis)
    }

    /// The date this many seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Wall(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after, as when a clock was set back.
    pub const fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// What ages and waits are counted by.
    pub tick: Tick,
    /// What dates are held against.
    pub wall: Wall,
}

impl From<SystemTime> for Wall {
    /// A date before the epoch is the epoch.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Wall> for SystemTime {
    fn from(wall: Wall) -> Self {
        UNIX_EPOCH + Duration::from_millis(wall.0)
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;

    /// Saturates.
    fn add(self, d: Duration) -> Wall {
        Wall(
            self.0
                .saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Display for Tick {
    /// Seconds with three decimals: `12.345s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03}s",
            self.0 / 1_000_000_000,
            self.0 / 1_000_000 % 1000
        )
    }
}

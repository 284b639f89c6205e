//! The clock by which sessions judge themselves: monotonic, and going on while the machine sleeps, because the members go on as well.

use std::time::Duration;

/// Time since some moment in the past that does not change.
#[cfg(target_os = "linux")]
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).expect("time since boot is not negative");
    let nanoseconds = u32::try_from(now.tv_nsec).expect("below a second");
    Duration::new(seconds, nanoseconds)
}

/// Time since some moment in the past that does not change. Whether it counts a sleeping machine's time is up to the system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed()
}

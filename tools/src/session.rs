//! The life of a tool between attaching and leaving: waiting, reading, and noticing that it is time to stop.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bpfkit_loader::{Event, PerfBuffer, Sample};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Error;
use crate::output::Output;

/// How long a lone event may lie in its ring before it is looked for.
const TICK: Duration = Duration::from_millis(50);

/// Stops on SIGINT, SIGTERM and SIGHUP, when its time is over, and when nobody reads the output any more.
#[derive(Debug)]
pub struct Session {
    signals: PipeReader,
    deadline: Option<Instant>,
}

/// What a session did not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Events that were handed over.
    pub events: u64,
    /// Events that the kernel dropped because a ring was full.
    pub lost: u64,
}

impl Session {
    /// Begins to listen for signals. The time starts with [`Session::run`].
    ///
    /// What is attached goes with the process, however that ends. So who asks a second time, as when nobody reads what is to be
    /// written, is not kept waiting.
    ///
    /// # Errors
    /// When no pipe or signal handler can be had.
    pub fn new() -> Result<Self, Error> {
        let listen = || {
            let (signals, handler) = std::io::pipe()?;
            let asked = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                // A terminal that goes may say so twice.
                if signal != SIGHUP {
                    signal_hook::flag::register_conditional_shutdown(signal, 1, asked.clone())?;
                }
                signal_hook::flag::register(signal, asked.clone())?;
                signal_hook::low_level::pipe::register(signal, handler.try_clone()?)?;
            }
            Ok(signals)
        };
        Ok(Self {
            signals: listen().map_err(|error| Error::Io("cannot listen for signals".to_owned(), error))?,
            deadline: None,
        })
    }

    /// Hands over samples until it is time to stop, and then what is left.
    ///
    /// # Errors
    /// What `on_sample` says; [`Error::Closed`] when the output's reader has gone; a ring that cannot be read.
    pub fn run(
        &mut self,
        rings: &mut PerfBuffer,
        duration: Option<Duration>,
        output: &mut Output,
        on_sample: impl FnMut(&Sample<'_>, &mut Output) -> Result<(), Error>,
    ) -> Result<Accounts, Error> {
        self.run_between(rings, duration, output, on_sample, || Ok(()))
    }

    /// As [`Session::run`], with something else to do between one look at the rings and the next: at least 20 times a second.
    ///
    /// # Errors
    /// As [`Session::run`], and what `between` says.
    pub fn run_between(
        &mut self,
        rings: &mut PerfBuffer,
        duration: Option<Duration>,
        output: &mut Output,
        mut on_sample: impl FnMut(&Sample<'_>, &mut Output) -> Result<(), Error>,
        mut between: impl FnMut() -> Result<(), Error>,
    ) -> Result<Accounts, Error> {
        self.deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        let mut accounts = Accounts::default();
        loop {
            let stop = self.wait(Some(rings.as_fd()), output, TICK)?;
            let mut result = Ok(());
            let mut take = |event: Event<'_>| match event {
                Event::Sample(sample) => {
                    accounts.events += 1;
                    if result.is_ok() {
                        result = on_sample(&sample, output);
                    }
                }
                Event::Lost { count, .. } => accounts.lost += count,
            };
            if stop {
                rings.finish(&mut take)?
            } else {
                rings.drain(&mut take)?
            };
            result?;
            output.flush()?;
            if stop {
                return Ok(accounts);
            }
            between()?;
        }
    }

    /// Calls `on_ready` whenever there may be something to read, until it is time to stop, and then once more.
    ///
    /// # Errors
    /// What `on_ready` says; [`Error::Closed`] when the output's reader has gone.
    pub fn watch<F: AsFd>(
        &mut self,
        from: &mut F,
        duration: Option<Duration>,
        output: &mut Output,
        mut on_ready: impl FnMut(&mut F, &mut Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        loop {
            let stop = self.wait(Some(from.as_fd()), output, TICK)?;
            on_ready(from, output)?;
            output.flush()?;
            if stop {
                return Ok(());
            }
        }
    }

    /// Calls `on_tick` after every interval and at the end; only at the end without an interval.
    ///
    /// # Errors
    /// As [`Session::watch`].
    pub fn ticks(
        &mut self,
        interval: Option<Duration>,
        duration: Option<Duration>,
        output: &mut Output,
        mut on_tick: impl FnMut(&mut Output) -> Result<(), Error>,
    ) -> Result<(), Error> {
        output.flush()?;
        let started = Instant::now();
        self.deadline = duration.and_then(|duration| started.checked_add(duration));
        let mut next = interval.and_then(|interval| started.checked_add(interval));
        loop {
            let left = next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()));
            let stop = self.wait(None, output, left)?;
            if stop || next.is_some_and(|next| Instant::now() >= next) {
                next = next.zip(interval).and_then(|(next, interval)| next.checked_add(interval));
                on_tick(output)?;
                output.flush()?;
            }
            if stop {
                return Ok(());
            }
        }
    }

    /// Waits where there is nothing to read.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn idle(&mut self, duration: Option<Duration>, output: &mut Output) -> Result<(), Error> {
        self.ticks(None, duration, output, |_| Ok(()))
    }

    /// Waits for something to read, at most for so long; true when it is time to stop.
    fn wait(&self, from: Option<BorrowedFd<'_>>, output: &Output, most: Duration) -> Result<bool, Error> {
        let left = self.deadline.map_or(most, |deadline| deadline.saturating_duration_since(Instant::now()).min(most));
        // What is too long for the kernel is for ever.
        let timeout = Timespec::try_from(left).ok();
        // Without an event asked for, a pipe still tells that its reader has gone.
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty()),
        ];
        fds.extend(from.map(|from| PollFd::from_borrowed_fd(from, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::Io("cannot wait for events".to_owned(), error.into())),
        }
        if fds[1].revents().contains(PollFlags::ERR) {
            return Err(Error::Closed);
        }
        let over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        Ok(over || fds[0].revents().contains(PollFlags::IN))
    }
}

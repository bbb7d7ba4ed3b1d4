//! Which guest is next: every boot of every kernel is a job of its own, and the longest ones begin first, so that the end of a run
//! has none that everybody waits for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::guest::case::Boot;

use super::image::BootImage;
use super::results::KernelResult;

/// A boot of a kernel.
pub struct Job {
    /// The kernel.
    pub image: Arc<BootImage>,
    /// How to boot it.
    pub boot: Boot,
    /// How long it takes, in a unit that all jobs have in common.
    pub cost: usize,
    /// Which boot of the kernel it is, in the order of its results.
    place: usize,
}

/// What is to be done, by several at a time.
#[derive(Default)]
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: Vec<Job>,
    /// The results of kernels of which some boots are not over.
    begun: Vec<Begun>,
    /// Whether nothing is added any more.
    is_closed: bool,
}

/// A kernel, with the results of its boots.
struct Begun {
    image: Arc<BootImage>,
    results: Vec<Option<(Boot, KernelResult)>>,
}

impl Schedule {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the boots of a kernel, in the order of its results, each with its cost.
    pub fn add(&self, image: BootImage, boots: &[(Boot, usize)]) {
        let image = Arc::new(image);
        let mut state = self.state();
        state.begun.push(Begun { image: image.clone(), results: boots.iter().map(|_| None).collect() });
        let jobs =
            boots.iter().enumerate().map(|(place, &(boot, cost))| Job { image: image.clone(), boot, cost, place });
        state.pending.extend(jobs);
        self.changed.notify_all();
    }

    /// Nothing is added any more.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    /// Nothing is begun any more.
    pub fn stop(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.is_closed = true;
        self.changed.notify_all();
    }

    /// The costliest job, the first of several; none when all are begun. Waits for one where some may come.
    pub fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            let costs = state.pending.iter().enumerate().rev();
            if let Some((number, _)) = costs.max_by_key(|(_, job)| job.cost) {
                return Some(state.pending.remove(number));
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes in how a job ended, and gives the kernel's result when that was the last of its boots.
    pub fn finish(&self, job: &Job, result: KernelResult) -> Option<KernelResult> {
        let mut state = self.state();
        let number = state.begun.iter().position(|begun| Arc::ptr_eq(&begun.image, &job.image))?;
        let results = &mut state.begun[number].results;
        *results.get_mut(job.place)? = Some((job.boot, result));
        if results.iter().any(Option::is_none) {
            return None;
        }
        let Begun { results, .. } = state.begun.remove(number);
        drop(state);
        let mut results = results.into_iter().flatten();
        let (_, mut all) = results.next()?;
        results.for_each(|(boot, result)| all.add(boot.name, result));
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::kernel;
    use super::super::results::{Status, Totals};
    use super::*;
    use crate::protocol::Outcome;

    const USUAL: Boot = Boot { name: "", words: &[], smp: None };
    const FOUR: Boot = Boot { name: "four", words: &[], smp: Some(4) };

    fn image(name: &str) -> BootImage {
        BootImage { name: name.to_owned(), kernel: "/k".into(), btf: None, origin: String::new(), is_listed: true }
    }

    #[test]
    fn the_longest_begin_first_and_a_kernel_is_over_with_the_last_of_its_boots() {
        let schedule = Schedule::default();
        schedule.add(image("a"), &[(USUAL, 300), (FOUR, 4)]);
        schedule.add(image("b"), &[(USUAL, 300), (FOUR, 5)]);
        schedule.close();
        let jobs: Vec<Job> = std::iter::from_fn(|| schedule.next()).collect();
        let order: Vec<_> = jobs.iter().map(|job| (job.image.name.as_str(), job.boot.name)).collect();
        assert_eq!(order, [("a", ""), ("b", ""), ("b", "four"), ("a", "four")]);
        let result = |job: &Job| {
            let cases = if job.boot == USUAL { vec![Outcome::Pass] } else { vec![Outcome::Skip("no".into()); 2] };
            kernel(&job.image.name, Status::Ran, &cases)
        };
        assert!(schedule.finish(&jobs[3], result(&jobs[3])).is_none(), "the usual boot runs");
        let whole = schedule.finish(&jobs[0], result(&jobs[0])).expect("all of a");
        assert_eq!(whole.totals(), Totals { passed: 1, failed: 0, skipped: 2 });
        assert_eq!(whole.cases[0].outcome, Outcome::Pass, "the usual boot's come first, whichever ended first");
        assert!(schedule.finish(&jobs[1], result(&jobs[1])).is_none());
    }

    #[test]
    fn who_waits_is_told_what_came_and_that_nothing_comes() {
        let schedule = Schedule::default();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| (schedule.next().map(|job| job.image.name.clone()), schedule.next().is_none()));
            schedule.add(image("late"), &[(USUAL, 1)]);
            schedule.close();
            assert_eq!(worker.join().expect("no panic"), (Some("late".to_owned()), true));
        });
        schedule.add(image("more"), &[(USUAL, 1)]);
        schedule.stop();
        assert!(schedule.next().is_none());
    }
}

//! What a kernel answers to each question of a report: yes, no, or that it cannot be told, and why.

use bpfkit_asm::{Helper, Version};

use crate::feature::Feature;
use crate::kind::{MapType, ProgType};
use crate::probe::Said;
use crate::probe::kind::{Shape, Shapeless};
use crate::target::Target;
use crate::{privilege, probe};

/// What a kernel answers when it is asked whether it has something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It has it.
    Yes,
    /// It refused it, and took what is like it but for this.
    No,
    /// It could not be asked, or did not tell; the text says why.
    Unknown(String),
}

impl Answer {
    fn by_version(version: Version, since: Option<Version>) -> Self {
        if since.is_some_and(|since| version >= since) { Self::Yes } else { Self::No }
    }

    fn of(tried: Option<bool>, why_not: impl FnOnce() -> String) -> Self {
        match tried {
            Some(true) => Self::Yes,
            Some(false) => Self::No,
            None => Self::Unknown(why_not()),
        }
    }
}

/// Helpers of which the kernel tells everybody in its log when it is asked for them, as it does when they are used.
const LOUD: [Helper; 3] = [Helper::TRACE_PRINTK, Helper::PROBE_WRITE_USER, Helper::TRACE_VPRINTK];

/// Questions that are answered by trying alone, or for a kernel that does not run here by its version alone; [`Target::has`]
/// takes the version where trying does not tell.
impl Target {
    /// Whether it has a feature.
    pub fn try_feature(&self, feature: Feature) -> Answer {
        if !self.is_running() {
            return Answer::by_version(self.version(), Some(feature.since()));
        }
        Answer::of(probe::feature(feature, self), || self.why_not())
    }

    /// Whether it takes programs of a type.
    pub fn try_prog_type(&self, kind: ProgType) -> Answer {
        if !self.is_running() {
            return Answer::by_version(self.version(), kind.since());
        }
        match Shape::of(kind, self) {
            Ok(shape) => Answer::of(shape.is_taken(), || self.why_not()),
            Err(_) if kind == ProgType::EXT => self.try_feature(Feature::Freplace),
            Err(Shapeless::NoPlace) => Answer::No,
            Err(Shapeless::Unknown(why)) => Answer::Unknown(why),
        }
    }

    /// Whether it makes maps of a type.
    pub fn try_map_type(&self, kind: MapType) -> Answer {
        if !self.is_running() {
            return Answer::by_version(self.version(), kind.since());
        }
        match probe::map::kind(kind, self) {
            Ok(has) => Answer::of(Some(has), String::new),
            Err(why) => Answer::Unknown(why),
        }
    }

    /// Which of these helpers programs of a type may call. For a kernel that does not run here it is told which of them it
    /// has, as a version tells nothing of types. Asking for a few makes the kernel write to its log, which is left out unless
    /// `is_loud`.
    pub fn try_helpers(&self, kind: ProgType, helpers: &[Helper], is_loud: bool) -> Vec<Answer> {
        if !self.is_running() {
            return helpers.iter().map(|helper| Answer::by_version(self.version(), helper.since())).collect();
        }
        let shape = match Shape::of(kind, self) {
            Ok(shape) => shape,
            Err(Shapeless::NoPlace) => return vec![Answer::No; helpers.len()],
            Err(Shapeless::Unknown(why)) => return vec![Answer::Unknown(why); helpers.len()],
        };
        let more = Shape::more(kind, self);
        // The least number that the kernel has no helper of, as far as it is known.
        let mut end = u32::MAX;
        // What keeps the kernel from answering for one helper does so for all.
        let mut why_not = None;
        let answer = |&helper: &Helper| {
            if helper.0 >= end {
                return Answer::No;
            }
            if LOUD.contains(&helper) && !is_loud {
                return Answer::Unknown("it was not asked, as the kernel would tell of it in its log".to_owned());
            }
            let said = match more.as_ref().and_then(|more| more.ask(helper)) {
                Some(said @ (Said::Callable | Said::NoSuch)) => Some(said),
                Some(Said::NotHere) | None => shape.ask(helper),
            };
            if said == Some(Said::NoSuch) {
                end = helper.0;
            }
            let is_callable = said.map(|said| said == Said::Callable);
            Answer::of(is_callable, || why_not.get_or_insert_with(|| self.why_not()).clone())
        };
        helpers.iter().map(answer).collect()
    }

    /// Why the running kernel did not tell.
    fn why_not(&self) -> String {
        if probe::may_load().is_none() {
            return privilege::hint().unwrap_or_else(|| "the kernel takes no program at all".to_owned());
        }
        if let Err(error) = self.numbered_btf(Feature::Fentry) {
            return format!("it is tried with the kernel's own types: {error}");
        }
        match self.tracefs() {
            Err(error) => error.to_string(),
            Ok(_) => "the kernel lacks what it is tried with".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_run_here_has_what_its_version_brought() {
        let target = Target::offline(None, Version::new(5, 7));
        assert_eq!(target.try_feature(Feature::Lsm), Answer::Yes);
        assert_eq!(target.try_feature(Feature::PerfLink), Answer::No);
        assert_eq!(target.try_prog_type(ProgType::LSM), Answer::Yes);
        assert_eq!(target.try_map_type(MapType::RINGBUF), Answer::No);
        let asked = [Helper::GET_NS_CURRENT_PID_TGID, Helper::RINGBUF_OUTPUT, Helper(9999)];
        assert_eq!(target.try_helpers(ProgType::KPROBE, &asked, false), [Answer::Yes, Answer::No, Answer::No]);
        assert_eq!(target.try_map_type(MapType(1000)), Answer::No);
    }
}

//! What a kernel has: features, helpers, functions.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bpfkit_asm::Helper;

use super::Target;
use crate::feature::{Feature, Known};
use crate::kind::ProgType;
use crate::{Error, kallsyms, probe};

impl Target {
    /// Whether it has something. The running kernel is asked by trying; where that does not tell, and for other kernels, the
    /// version decides.
    pub fn has(&self, feature: Feature) -> bool {
        self.ask(feature).0
    }

    /// Whether it has something, and how that is known.
    pub fn ask(&self, feature: Feature) -> (bool, Known) {
        let answers = || self.features.lock().unwrap_or_else(PoisonError::into_inner);
        if self.without.contains(&feature) {
            answers().insert(feature, (false, Known::Without));
            return (false, Known::Without);
        }
        if let Some(&answer) = answers().get(&feature) {
            return answer;
        }
        // The table is not locked meanwhile, as asking for one may take another.
        let tried = self.is_running.then(|| probe::feature(feature, self)).flatten();
        let answer = tried.map_or((self.version >= feature.since(), Known::ByVersion), |has| (has, Known::Tried));
        answers().insert(feature, answer);
        answer
    }

    /// Whether it is to do without something; the kernel is not asked.
    pub(crate) fn is_without(&self, feature: Feature) -> bool {
        self.without.contains(&feature)
    }

    /// What it was asked for so far, and whether it has it: what the code that was made for it depends on.
    pub fn answers(&self) -> BTreeMap<Feature, bool> {
        let answers = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|(&feature, &(has, _))| (feature, has)).collect()
    }

    /// Whether programs of a type may call a helper. The running kernel is asked by trying; where that does not tell, and for
    /// other kernels, the version that brought the helper decides.
    pub fn has_helper(&self, kind: ProgType, helper: Helper) -> bool {
        const SPLIT_READS: [Helper; 4] = [
            Helper::PROBE_READ_USER,
            Helper::PROBE_READ_KERNEL,
            Helper::PROBE_READ_USER_STR,
            Helper::PROBE_READ_KERNEL_STR,
        ];
        // They came together, so who does without the one does without all.
        if SPLIT_READS.contains(&helper) && self.without.contains(&Feature::ProbeReadKernel) {
            return false;
        }
        let by_version = || helper.since().is_some_and(|since| since <= self.version);
        if !self.is_running {
            return by_version();
        }
        let answers = || self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&answer) = answers().get(&(kind, helper.0)) {
            return answer;
        }
        let answer =
            probe::kind::Shape::of(kind, self).ok().and_then(|shape| shape.may_call(helper)).unwrap_or_else(by_version);
        answers().insert((kind, helper.0), answer);
        answer
    }

    /// Whether the running kernel has functions whose names begin in this way; nothing where its list is hidden. It is read once.
    pub(crate) fn has_functions(&self, prefix: &'static str) -> Result<Option<bool>, Error> {
        let mut known = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&answer) = known.get(prefix) {
            return Ok(answer);
        }
        let answer = kallsyms::has_any(prefix)?;
        known.insert(prefix, answer);
        Ok(answer)
    }

    /// Insists on something.
    ///
    /// # Errors
    /// That it is missing, and how that is known.
    pub fn require(&self, feature: Feature) -> Result<(), Error> {
        let why = match self.ask(feature) {
            (true, _) => return Ok(()),
            (false, Known::Without) => "it is to do without".to_owned(),
            (false, Known::Tried) => feature.refused_by(self.version),
            (false, Known::ByVersion) => format!("{} is older", self.version),
        };
        Err(Error::Missing { feature, why })
    }
}

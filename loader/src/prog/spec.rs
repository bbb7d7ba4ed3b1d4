//! Programs that are to be loaded.

use std::os::fd::AsFd;

use bpfkit_asm::Asm;

use super::Prog;
use crate::Error;
use crate::attach::Attach;
use crate::func::{CType, Func, Linkage, Place, ProgFunc, Prototype};
use crate::linked::Linked;
use crate::map::Maps;
use crate::target::Target;
use crate::verifier::Verdict;

/// A program that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgSpec {
    /// Its name; the kernel keeps 15 bytes of it.
    pub name: String,
    /// Where it is attached.
    pub attach: Attach,
    /// Its licence. Many helpers are for GPL programs only.
    pub license: String,
    /// Its functions. The kernel enters at the first.
    pub funcs: Vec<Func>,
}

impl ProgSpec {
    /// A program of one function, under the licence `GPL`, which is what the kernel means by it: what it may call, not how
    /// this source is licensed.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn new(name: &str, attach: Attach, code: Asm) -> Result<Self, Error> {
        let entry = match &attach {
            // The kernel wants the prototype of the function that it takes the place of.
            Attach::Freplace(func) => (func.proto.clone(), Linkage::Global),
            _ => (Prototype::int().param("ctx", CType::Context), Linkage::Static),
        };
        let mut spec = Self { name: name.to_owned(), attach, license: "GPL".to_owned(), funcs: Vec::new() };
        spec = spec.func_with(name, entry.0, entry.1, code)?;
        Ok(spec)
    }

    /// Adds a function that `call name` finds, `static int name(void)` for those who look at the program.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn func(self, name: &str, code: Asm) -> Result<Self, Error> {
        self.func_with(name, Prototype::int(), Linkage::Static, code)
    }

    /// Adds a function that `call name` finds, with the prototype by which other programs watch or replace it. Where the kernel
    /// knows no global functions (before Linux 5.6) it is static.
    ///
    /// # Errors
    /// A mistake in the code.
    pub fn func_with(mut self, name: &str, proto: Prototype, linkage: Linkage, code: Asm) -> Result<Self, Error> {
        self.funcs.push(Func { name: name.to_owned(), code: code.finish()?, proto, linkage });
        Ok(self)
    }

    /// One of its functions, as a place for other programs.
    ///
    /// # Errors
    /// When it has none of this name.
    pub fn function(&self, name: &str) -> Result<ProgFunc, Error> {
        let found = self.funcs.iter().find(|func| func.name == name);
        let unknown = || Error::Unknown { what: "function", name: name.to_owned(), program: self.name.clone() };
        Ok(ProgFunc {
            program: self.name.clone(),
            kind: self.attach.prog_type(),
            func: name.to_owned(),
            proto: found.ok_or_else(unknown)?.proto.clone(),
        })
    }

    /// Fills the holes for a kernel.
    ///
    /// # Errors
    /// What cannot be found: a member, a function.
    pub fn link(&self, target: &Target) -> Result<Linked, Error> {
        Linked::new(self, target, None)
    }

    /// Loads it into the running kernel.
    ///
    /// # Errors
    /// As [`ProgSpec::link`]; a map that is not there; what the verifier says.
    pub fn load(&self, target: &Target, maps: &Maps) -> Result<Prog, Error> {
        self.link(target)?.load(target, maps)
    }

    /// Loads it into the running kernel, for a function of a program that is there already: fentry, fexit and freplace.
    ///
    /// # Errors
    /// As [`ProgSpec::load`]; a program that has no types, or no such function.
    pub fn load_onto(&self, target: &Target, maps: &Maps, onto: &Prog) -> Result<Prog, Error> {
        let loaded = self.link_onto(target, onto).and_then(|linked| linked.load_at(target, maps, Some(onto.as_fd())));
        loaded.map_err(|error| self.lacking(target, error))
    }

    /// What the verifier finds out about a program for a function of one that is there already; see [`Linked::walk`].
    ///
    /// # Errors
    /// As [`ProgSpec::load_onto`], but for a refusal.
    pub fn walk_onto(&self, target: &Target, maps: &Maps, onto: &Prog) -> Result<Verdict, Error> {
        let walked = self.link_onto(target, onto).and_then(|linked| linked.walk_at(target, maps, Some(onto.as_fd())));
        walked.map_err(|error| self.lacking(target, error))
    }

    fn link_onto(&self, target: &Target, onto: &Prog) -> Result<Linked, Error> {
        let func = self.attach.onto().ok_or_else(|| Error::Attach {
            what: self.attach.to_string(),
            tried: vec![(format!("program {}", onto.spec.name), "this belongs to no function of another".to_owned())],
        })?;
        let place = Place::find(func, &self.attach, onto)?;
        Linked::new(self, target, Some(&place))
    }

    /// What is missing from a kernel that refuses all programs of this kind says more than the refusal of one.
    pub(crate) fn lacking(&self, target: &Target, error: Error) -> Error {
        if error.is_permission() {
            return error;
        }
        self.attach.feature().and_then(|feature| target.require(feature).err()).unwrap_or(error)
    }
}

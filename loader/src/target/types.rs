//! A kernel's types: where they come from, and what is looked for among them.

use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

use bpfkit_btf::{Btf, Field, Form, Type};

use super::Target;
use crate::calibrate::{self, calibrate};
use crate::error::{Tried, chain};
use crate::feature::Feature;
use crate::origin::Origin;
use crate::sys::map::{PagedFile, map_file};
use crate::types::BtfSource;
use crate::{Error, kernel};

/// Where the running kernel shows its types.
pub(crate) const SYSFS_BTF: &str = "/sys/kernel/btf/vmlinux";

impl Target {
    /// Its types.
    ///
    /// # Errors
    /// Where they were looked for, and what was there.
    pub fn btf(&self) -> Result<&Btf, Error> {
        let found = self.btf.get_or_init(|| self.open_btf().map(|(btf, source)| (btf, Some(source))));
        found.as_ref().map(|(btf, _)| btf).map_err(|tried| Error::NoBtf(tried.clone()))
    }

    /// Where its types came from, if they were needed so far. Those of another kernel were given.
    pub fn btf_source(&self) -> Option<&BtfSource> {
        self.btf.get()?.as_ref().ok()?.1.as_ref()
    }

    /// What was looked for among its types so far, as [`bpfkit_btf::cut`] takes it.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Remembers that something was looked for among the types.
    pub(crate) fn note(&self, root: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(root.to_owned());
    }

    /// The running kernel's types as it shows them itself.
    fn own_btf(&self) -> Result<&(Btf, BtfSource), &String> {
        let open = || {
            if self.without.contains(&Feature::KernelBtf) {
                return Err("it is to do without".to_owned());
            }
            let started = Instant::now();
            let btf = sysfs_btf().map_err(|error| chain(&error))?;
            Ok((btf, BtfSource { place: SYSFS_BTF.to_owned(), form: Form::Btf, took: started.elapsed(), doubt: None }))
        };
        self.own_btf.get_or_init(open).as_ref()
    }

    /// The types by whose numbers the kernel knows its functions. Those of a running one are its own: another file may have the same
    /// types under other numbers.
    pub(crate) fn numbered_btf(&self, feature: Feature) -> Result<&Btf, Error> {
        if !self.is_running {
            return self.btf();
        }
        self.own_btf().map(|(btf, _)| btf).map_err(|why| Error::Missing {
            feature,
            why: format!("it takes the kernel's own types, {SYSFS_BTF}, which CONFIG_DEBUG_INFO_BTF brings: {why}"),
        })
    }

    fn open_btf(&self) -> Result<(Btf, BtfSource), Tried> {
        let mut tried = Tried::new();
        if self.search.file.is_none() {
            match self.own_btf() {
                Ok(own) => return Ok(own.clone()),
                Err(why) => tried.push((SYSFS_BTF.to_owned(), why.clone())),
            }
        }
        let release = kernel::release().unwrap_or_default();
        self.search.run(Path::new("/"), &release).map_err(|more| tried.into_iter().chain(more).collect())
    }

    /// The prototype of one of its functions.
    ///
    /// # Errors
    /// As [`Target::btf`], and when it has no such function.
    pub fn func_proto(&self, func: &str) -> Result<Type<'_>, Error> {
        self.note(func);
        Ok(self.btf()?.func_proto(func)?)
    }

    /// The prototype behind a typedef of a pointer to a function.
    pub(crate) fn typedef_proto(&self, name: &str) -> Result<Type<'_>, Error> {
        self.note(name);
        Ok(self.btf()?.typedef_proto(name)?)
    }

    /// Finds a member of a structure by its path.
    ///
    /// # Errors
    /// As [`Target::btf`] and [`Btf::field`].
    pub fn field(&self, path: &str) -> Result<Field, Error> {
        self.note(path);
        match self.btf() {
            Ok(btf) => self.undisputed(btf.field(path)?),
            Err(Error::NoBtf(mut tried)) if self.is_running && self.search.file.is_none() => {
                self.calibrated(path).map_err(|why| {
                    tried.push(("by trying".to_owned(), why));
                    Error::NoBtf(tried)
                })
            }
            Err(error) => Err(error),
        }
    }

    /// A member as the types that were given have it, unless the running kernel has types of its own, which have it elsewhere.
    fn undisputed(&self, field: Field) -> Result<Field, Error> {
        if let Some(file) = self.search.file.as_ref().filter(|_| self.is_running)
            && let Ok((own, _)) = self.own_btf()
            && let Ok(own) = own.field(&field.path)
            && own.offset != field.offset
        {
            let (file, path) = (file.display().to_string(), field.path);
            return Err(Error::OtherKernel { file, path, there: field.offset, here: own.offset });
        }
        Ok(field)
    }

    /// A member that was found by trying, without any types.
    fn calibrated(&self, path: &str) -> Result<Field, String> {
        let part = calibrate::part(path);
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layouts.entry(part.to_owned()).or_insert_with(|| calibrate(part, self));
        let layout = known.as_ref().map_err(Clone::clone)?;
        layout.field(path).ok_or_else(|| format!("{path} was not found"))
    }

    /// Where members come from that are found: the types where there are any.
    pub(crate) fn origin(&self) -> Origin {
        if self.btf().is_ok() { Origin::Types } else { Origin::Trying }
    }

    /// The structures whose members were found by trying, as there were no types.
    pub fn calibrated_structures(&self) -> Vec<String> {
        let layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let found = layouts.iter().filter(|(_, layout)| layout.is_ok());
        let mut names: Vec<_> = found.filter_map(|(part, _)| part.split('.').next().map(str::to_owned)).collect();
        names.dedup();
        names
    }

    /// Whether a function of the running kernel is given packets (`struct sk_buff`) by pointers to pointers, found by trying: for where
    /// no types have its prototype. It takes kprobes, and types that have `sk_buff.len`.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn takes_packets_indirectly(&self, symbol: &str) -> Result<bool, Error> {
        let tried =
            if self.is_running { calibrate::is_indirect(self, symbol) } else { Err("it does not run here".into()) };
        tried.map_err(|why| Error::NoBtf(vec![(format!("the prototype of {symbol} by trying"), why)]))
    }
}

/// The running kernel's types, of which those are looked at that are asked for. Linux 6.16 and newer let them be mapped, which spares the
/// reading.
fn sysfs_btf() -> Result<Btf, bpfkit_btf::Error> {
    let path = Path::new(SYSFS_BTF);
    let opened = match map_file(path) {
        Ok(mapping) => return Btf::trusted(mapping),
        Err(_) => PagedFile::open(path),
    };
    Btf::trusted(opened.map_err(|error| bpfkit_btf::Error::Io(path.to_owned(), error))?)
}

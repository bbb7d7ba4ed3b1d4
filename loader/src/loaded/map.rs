//! Maps of loaded programs.

use std::os::fd::AsFd;

use super::hidden::{Hidden, Shown};
use super::info::object_name;
use crate::kind::MapType;
use crate::map::MapInfo;
use crate::sys::bpf;
use crate::sys::info as answers;

/// A map that a program on the system uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedMap {
    /// Its number.
    pub id: u32,
    /// What it is like, if the kernel shows it.
    pub shown: Shown<(String, MapInfo)>,
}

impl LoadedMap {
    pub(super) fn by_id(id: u32) -> Self {
        let asked = bpf::map_by_id(id).and_then(|fd| answers::map_info(fd.as_fd()));
        let shown = asked.map_err(|error| Hidden::failed(&error)).map(|info| {
            let answers::MapInfo { kind, key_size, value_size, max_entries, .. } = info;
            (object_name(&info.name), MapInfo { kind: MapType(kind), key_size, value_size, max_entries })
        });
        Self { id, shown }
    }

    /// Its name, where it has one and the kernel shows it.
    pub fn name(&self) -> Option<&str> {
        self.shown.as_ref().ok().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty())
    }
}

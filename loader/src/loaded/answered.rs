//! The kernel's answer about a program out of bytes that no kernel wrote, for tests and fuzzers.

use bpfkit_btf::Btf;

use super::hidden::Hidden;
use super::info::ProgInfo;
use super::map::LoadedMap;
use super::{LoadedCode, Symbols};
use crate::Error;
use crate::kind::MapType;
use crate::map::MapInfo;
use crate::sys::info::{self as answers, ProgAnswer, ProgLists};

/// Takes bytes from the front; zeros where there are none left.
struct Front<'a>(&'a [u8]);

impl Front<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut array = [0; N];
        array[..head.len()].copy_from_slice(head);
        array
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// A list, after its length.
    fn list(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16()).min(self.0.len());
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head.to_vec()
    }
}

/// The numbers come first, then the lists, the types and the list of symbols, each after its length in two bytes.
pub(crate) fn answered(bytes: &[u8]) -> Result<LoadedCode, Error> {
    let mut front = Front(bytes);
    let known = usize::from(front.u16());
    let mut info = answers::ProgInfo {
        kind: front.u32(),
        id: front.u32(),
        xlated_len: front.u32(),
        xlated: front.u16().into(),
        jited_len: front.u32(),
        jited: front.u16().into(),
        jited_ksyms: front.u16().into(),
        line_info_count: front.u32(),
        jited_line_info_count: front.u32(),
        jited_line_info: front.u16().into(),
        btf_id: front.u32(),
        attach_btf_id: front.u32(),
        name: front.array(),
        ..answers::ProgInfo::default()
    };
    let lists = ProgLists {
        xlated: front.list(),
        jited: front.list(),
        map_ids: front.list(),
        jited_ksyms: front.list(),
        jited_func_lens: front.list(),
        func_info: front.list(),
        line_info: front.list(),
        jited_line_info: front.list(),
        prog_tags: front.list(),
    };
    info.jited_ksyms_count = u32::try_from(lists.jited_ksyms.len() / 8).unwrap_or_default();
    // A kernel's own counts are those of the lists, unless it hides them.
    if info.attach_btf_id & 1 == 0 {
        info.line_info_count = u32::try_from(lists.line_info.len() / 16).unwrap_or_default();
        info.jited_line_info_count = u32::try_from(lists.jited_line_info.len() / 8).unwrap_or_default();
    }
    let types = Btf::parse(front.list()).map_err(|_| Hidden::TYPES);
    let symbols = Symbols::new(front.0.to_vec(), None);
    let answer = ProgAnswer { info, lists, known };
    let info = ProgInfo::new(&answer);
    let shown = MapInfo { kind: MapType(1), key_size: 4, value_size: 8, max_entries: 1 };
    let map = |&id: &u32| LoadedMap { id, shown: Ok((format!("m{}", id % 4), shown)) };
    let maps = info.map_ids.iter().map(map).collect();
    LoadedCode::new(&answer, info, types, maps, &symbols)
}

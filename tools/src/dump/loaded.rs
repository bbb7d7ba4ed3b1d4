//! Programs that are on the system, whoever loaded them, as rows.

use std::path::PathBuf;
use std::time::Duration;

use bpfkit_asm::{Helper, Names, list};
use bpfkit_btf::{Btf, Header};
use bpfkit_loader::{Hidden, LoadedCode, LoadedFunc, LoadedMap, LoadedProg, MapInfo, RunStats, clock};
use serde::Serialize;

use super::holders::Holder;
use super::listing::{Function, Listing, MapUse, Row, hex, kind_name};
use crate::options::seconds;
use crate::{Error, Escaped};

/// Which programs of the system are shown.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "loaded", required = true, multiple = true)]
#[command(next_help_heading = "Programs that are on the system, whoever loaded them")]
pub struct Which {
    /// Show the program of this number
    #[arg(long, value_name = "N")]
    pub id: Vec<u32>,
    /// Show the programs of this name
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Show the program that is pinned here, or that of a pinned link
    #[arg(long, value_name = "PATH")]
    pub pinned: Vec<PathBuf>,
    /// Show all programs
    #[arg(long)]
    pub all: bool,
}

/// What is measured of them instead.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Programs that are on the system, whoever loaded them")]
pub struct Measure {
    /// Count their runs, and how long those take, each second until Ctrl-C
    #[arg(long, requires = "loaded")]
    pub stats: bool,
    /// Stop counting after this many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds, requires = "stats")]
    pub duration: Option<Duration>,
}

impl Which {
    /// Whether any is asked for.
    pub fn is_any(&self) -> bool {
        self.all || !(self.id.is_empty() && self.name.is_empty() && self.pinned.is_empty())
    }

    /// Opens them.
    ///
    /// # Errors
    /// One that is not there, or cannot be opened.
    pub fn open(&self) -> Result<Vec<LoadedProg>, Error> {
        let mut found = Vec::new();
        for &id in &self.id {
            found.push(LoadedProg::by_id(id)?);
        }
        for name in &self.name {
            let named = LoadedProg::named(name)?;
            if named.is_empty() {
                return Err(Error::Request(format!("no program on this system is called `{name}`; --all shows them")));
            }
            found.extend(named);
        }
        for path in &self.pinned {
            found.push(LoadedProg::pinned(path)?);
        }
        if self.all {
            bpfkit_loader::raise_descriptor_limit();
            found.extend(LoadedProg::all()?.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }
}

/// What is known of a program because it is loaded.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// Its number.
    pub id: u32,
    /// The digest by which bpftool knows it.
    pub tag: String,
    /// When it was loaded, in seconds since 1970.
    pub loaded_at: u64,
    /// The user who loaded it.
    pub uid: u32,
    /// Bytes of instructions.
    pub translated_bytes: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// The number of its types.
    pub btf_id: Option<u32>,
    /// How often it ran while somebody had the kernel count.
    pub runs: Option<u64>,
    /// How long that took, in nanoseconds.
    pub run_time_ns: Option<u64>,
    /// How often it was not run, as it was running already.
    pub recursion_misses: Option<u64>,
    /// How many instructions the verifier walked.
    pub verified_instructions: Option<u32>,
    /// The function or type of the kernel that it is attached to, where it knows that by its number.
    pub attached_to: Option<String>,
    /// The processes that hold it open.
    pub held_by: Vec<Holder>,
    /// What the kernel does not show, and why.
    pub hidden: Vec<String>,
}

impl Loaded {
    fn of(code: &LoadedCode, holders: &[(u32, Holder)]) -> Self {
        let info = &code.info;
        let runs = info.runs.as_ref().ok().copied();
        // Nobody has counted, and so nothing is known.
        let runs = runs.filter(|runs| runs.count != 0 || RunStats::is_on() == Some(true));
        let since_boot = clock::boottime().saturating_sub(info.load_time);
        let why = |what: &str, hidden: &Hidden| format!("{what}: {hidden}");
        let mut hidden = Vec::new();
        hidden.extend(code.insns.as_ref().err().map(|why_not| why("instructions", why_not)));
        hidden.extend(code.hidden_calls.as_ref().map(|why_not| why("what is called", why_not)));
        hidden.extend(code.jited.as_ref().err().map(|why_not| why("machine code", why_not)));
        hidden.extend(code.lines.as_ref().err().map(|why_not| why("source lines", why_not)));
        Self {
            id: info.id,
            tag: hex(&info.tag),
            loaded_at: clock::realtime().saturating_sub(since_boot) / 1_000_000_000,
            uid: info.uid,
            translated_bytes: info.xlated_len,
            jited_bytes: info.jited_len,
            btf_id: info.btf_id,
            runs: runs.map(|runs| runs.count),
            run_time_ns: runs.map(|runs| runs.time_ns),
            recursion_misses: info.recursion_misses.as_ref().ok().copied(),
            verified_instructions: info.verified_insns.as_ref().ok().copied().filter(|&count| count != 0),
            attached_to: code.attached_to.as_ref().ok().cloned().flatten(),
            held_by: holders.iter().filter(|(id, _)| *id == info.id).map(|(_, holder)| holder.clone()).collect(),
            hidden,
        }
    }

    /// The lines that go before a listing, for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("loaded {} by user {}, tag {}", date(self.loaded_at), self.uid, self.tag)];
        let mut sizes = format!("{} bytes translated", self.translated_bytes);
        if self.jited_bytes != 0 {
            sizes += &format!(", {} bytes of machine code", self.jited_bytes);
        }
        if let Some(count) = self.verified_instructions {
            sizes += &format!("; the verifier walked {count} instructions");
        }
        lines.push(sizes);
        if !self.held_by.is_empty() {
            let holder = |Holder { pid, comm }: &Holder| format!("{} ({pid})", Escaped(comm.as_bytes()));
            lines.push(format!("held by {}", self.held_by.iter().map(holder).collect::<Vec<_>>().join(", ")));
        }
        if let Some(name) = &self.attached_to {
            lines.push(format!("attached to {name}"));
        }
        if let (Some(count), Some(time)) = (self.runs, self.run_time_ns) {
            let average = time.checked_div(count).map_or(String::new(), |average| format!(", {average} ns each"));
            let misses = self.recursion_misses.filter(|&misses| misses != 0);
            let misses = misses.map_or(String::new(), |misses| format!("; not run {misses} times, as it was running"));
            lines.push(format!("ran {count} times{average}{misses}"));
        }
        lines.extend(self.hidden.iter().map(|what| format!("not shown: {what}")));
        lines
    }
}

/// Seconds since 1970 as a date and a time of day, in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Years are counted from March, so that a leap day comes last, in eras of 400 of them, each of 146097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

impl MapUse {
    fn loaded(map: &LoadedMap) -> Self {
        let name = map.name().map_or_else(|| format!("id:{}", map.id), str::to_owned);
        let info = map.shown.as_ref().map(|(_, info)| *info);
        let kind =
            info.as_ref().map_or_else(|hidden| hidden.to_string(), |info| kind_name(info.kind.name(), info.kind.0));
        let number = |of: fn(&MapInfo) -> u32| info.as_ref().map_or(0, of);
        Self {
            name,
            id: Some(map.id),
            kind,
            key_size: number(|info| info.key_size),
            value_size: number(|info| info.value_size),
            max_entries: number(|info| info.max_entries),
        }
    }
}

impl Listing {
    /// A program of the system, as far as the kernel shows it.
    pub fn loaded(code: &LoadedCode, holders: &[(u32, Holder)]) -> Self {
        let info = &code.info;
        let insns = code.insns.as_deref().unwrap_or_default();
        let types = code.types.as_ref().ok();
        let rows = list(insns, code).map(|listed| {
            let slot = listed.slot;
            Row {
                slot,
                insn: listed.insn,
                second: insns.get(slot + 1).filter(|_| listed.insn.is_wide()).copied(),
                text: listed.to_string(),
                labels: Vec::new(),
                to: listed.insn.destination(slot),
                source: code.line_at(slot).map(|line| line.source.clone()),
                map: code.map(slot).map(str::to_owned),
                filled: None,
                helper: code.function(slot).and_then(Helper::from_name),
                explanation: None,
                machine: Vec::new(),
                known: None,
            }
        });
        let name = if code.name.is_empty() { format!("id:{}", info.id) } else { code.name.clone() };
        Self {
            name,
            kind: kind_name(info.kind.name(), info.kind.0),
            attach: format!("program {}", info.id),
            license: if info.is_gpl { "GPL" } else { "not GPL" }.to_owned(),
            functions: code.funcs.iter().map(|func| function(func, types)).collect(),
            maps: code.maps.iter().map(MapUse::loaded).collect(),
            rows: rows.collect(),
            opinion: None,
            loaded: Some(Loaded::of(code, holders)),
        }
    }
}

fn function(func: &LoadedFunc, types: Option<&Btf>) -> Function {
    let prototype = types.zip(func.proto).map(|(types, proto)| Header::declaration(types, proto, &func.name));
    Function { slot: func.slot, name: func.name.clone(), prototype }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}

//! Every kind of map, as system calls see it.

use std::fs::{self, File};
use std::path::Path;

use bpfkit_loader::{Error, Feature, Map, MapSpec, MapType, Target, UpdateMode, possible_cpus};

use crate::guest::case::{Case, Ctx, Doing as _, Failure};
use crate::{ensure, ensure_eq, skip};

pub const CASES: &[Case] = &[
    Case { name: "loader::hash_map_keeps_what_it_is_given", run: hash },
    Case { name: "loader::array_map_has_every_index", run: array },
    Case { name: "loader::per_cpu_maps_have_a_value_for_each_cpu", run: per_cpu },
    Case { name: "loader::lru_maps_forget_when_full", run: lru },
    Case { name: "loader::perf_event_array_has_room_for_each_cpu", run: perf_event_array },
    Case { name: "loader::cgroup_array_takes_cgroups_only", run: cgroup_array },
    Case { name: "loader::pinned_map_is_found_again", run: pinned },
    Case { name: "loader::maps_tell_what_they_are_made_of", run: types },
    Case { name: "loader::elements_of_a_wrong_size_are_refused", run: sizes },
    Case { name: "loader::large_map_needs_no_limit_raised_by_hand", run: large },
];

/// Whether an error is that of the kernel's `number`.
fn is_errno(error: &Error, number: i32) -> bool {
    matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(number))
}

fn get(map: &Map, key: u32) -> Result<Option<u64>, Failure> {
    let mut value = [0; 8];
    Ok(map.lookup(&key.to_ne_bytes(), &mut value)?.then(|| u64::from_ne_bytes(value)))
}

fn set(map: &Map, key: u32, value: u64, mode: UpdateMode) -> Result<(), Error> {
    map.update(&key.to_ne_bytes(), &value.to_ne_bytes(), mode)
}

fn keys(map: &Map) -> Result<Vec<u32>, Failure> {
    let mut keys = Vec::new();
    for key in map.keys() {
        let key = key?;
        let word = key.as_slice().try_into().map_err(|_| Failure::Fail(format!("a key of {} bytes", key.len())))?;
        keys.push(u32::from_ne_bytes(word));
    }
    keys.sort_unstable();
    Ok(keys)
}

fn hash(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::hash("numbers", 4, 8, 3).create(&ctx.target()?)?;
    ensure_eq!(get(&map, 1)?, None);
    for key in 1..=3 {
        set(&map, key, u64::from(key) * 100, UpdateMode::NoExist)?;
    }
    ensure_eq!(keys(&map)?, [1, 2, 3]);
    ensure_eq!(get(&map, 2)?, Some(200));

    let again = set(&map, 2, 0, UpdateMode::NoExist);
    ensure!(matches!(&again, Err(error) if is_errno(error, libc::EEXIST)), "made twice: {again:?}");
    let missing = set(&map, 9, 0, UpdateMode::Exist);
    ensure!(matches!(&missing, Err(error) if is_errno(error, libc::ENOENT)), "replaced nothing: {missing:?}");
    let full = set(&map, 9, 0, UpdateMode::Any);
    ensure!(matches!(&full, Err(error) if is_errno(error, libc::E2BIG)), "a fourth of three: {full:?}");

    set(&map, 2, 201, UpdateMode::Exist)?;
    ensure_eq!(get(&map, 2)?, Some(201));
    ensure!(map.delete(&2_u32.to_ne_bytes())?);
    ensure!(!map.delete(&2_u32.to_ne_bytes())?, "deleted twice");
    ensure_eq!(keys(&map)?, [1, 3]);
    Ok(())
}

fn array(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::array("cells", 8, 4).create(&ctx.target()?)?;
    ensure_eq!(keys(&map)?, [0, 1, 2, 3]);
    ensure_eq!(get(&map, 3)?, Some(0));
    set(&map, 3, u64::MAX, UpdateMode::Any)?;
    ensure_eq!(get(&map, 3)?, Some(u64::MAX));
    let beyond = set(&map, 4, 0, UpdateMode::Any);
    ensure!(matches!(&beyond, Err(error) if is_errno(error, libc::E2BIG)), "beyond the end: {beyond:?}");
    Ok(())
}

fn per_cpu(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let cpus = possible_cpus()?.len();
    // Twelve bytes are padded to sixteen between CPUs, which a reader must know and a caller must not.
    let values: Vec<Vec<u8>> = (1..).map(|n| vec![n; 12]).take(cpus).collect();
    let padded: Vec<u8> = values.iter().flat_map(|value| [&value[..], &[0; 4]].concat()).collect();
    for spec in [
        MapSpec::percpu_array("per_array", 12, 2),
        MapSpec::percpu_hash("per_hash", 4, 12, 2),
        MapSpec::lru_percpu_hash("per_lru", 4, 12, 16),
    ] {
        let map = spec.create(&target)?;
        map.update(&1_u32.to_ne_bytes(), &padded, UpdateMode::Any).doing(|| format!("update {}", spec.name))?;
        let found = map.lookup_percpu(&1_u32.to_ne_bytes())?;
        ensure_eq!(found.as_ref(), Some(&values), "{}", spec.name);
        let absent = map.lookup_percpu(&0_u32.to_ne_bytes())?;
        ensure_eq!(absent.is_some(), spec.kind == MapType::PERCPU_ARRAY, "element 0 of {}", spec.name);
    }
    Ok(())
}

fn lru(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::lru_hash("recent", 4, 8, 64).create(&ctx.target()?)?;
    for key in 0..1000 {
        set(&map, key, u64::from(key), UpdateMode::Any)?;
    }
    let keys = keys(&map)?;
    ensure!(!keys.is_empty() && keys.len() <= 64, "{} keys of 64", keys.len());
    ensure_eq!(get(&map, 999)?, Some(999), "the last one");
    Ok(())
}

fn perf_event_array(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::perf_event_array("rings").create(&ctx.target()?)?;
    let last = possible_cpus()?.last().copied().unwrap_or_default();
    ensure_eq!(map.info().max_entries, last + 1);
    ensure_eq!(map.info().kind, MapType::PERF_EVENT_ARRAY);
    Ok(())
}

fn cgroup_array(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::cgroup_array("groups", 2).create(&ctx.target()?)?;
    let wrong = map.update_fd(0, File::open("/proc/self/exe")?, UpdateMode::Any);
    ensure!(wrong.is_err(), "a file was taken for a cgroup");
    let root = Path::new("/sys/fs/cgroup");
    if !root.join("cgroup.procs").exists() || !root.join("cgroup.controllers").exists() {
        skip!("there is no cgroup v2 at {}", root.display());
    }
    map.update_fd(0, File::open(root)?, UpdateMode::Any).doing(|| "put the root cgroup into the array".to_owned())
}

fn pinned(ctx: &mut Ctx) -> Result<(), Failure> {
    let path = Path::new("/sys/fs/bpf").join(format!("guest-{}", std::process::id()));
    let result = pin_and_open(&ctx.target()?, &path);
    // The name goes, whatever happened.
    let _ = fs::remove_file(&path);
    result?;
    let Err(error) = Map::from_pinned(&path) else { return Err(Failure::Fail("a removed pin was opened".to_owned())) };
    ensure!(error.to_string().contains("guest-"), "{error}");
    Ok(())
}

fn pin_and_open(target: &Target, path: &Path) -> Result<(), Failure> {
    let spec = MapSpec::hash("kept", 4, 8, 7);
    let map = spec.create(target)?;
    set(&map, 5, 55, UpdateMode::Any)?;
    map.pin(path).doing(|| "pin it".to_owned())?;
    drop(map);
    let map = Map::from_pinned(path)?;
    ensure_eq!(get(&map, 5)?, Some(55));
    let info = map.info();
    ensure_eq!((info.kind, info.key_size, info.value_size, info.max_entries), (MapType::HASH, 4, 8, 7));
    let twice = map.pin(path);
    ensure!(matches!(&twice, Err(error) if is_errno(error, libc::EEXIST)), "pinned twice: {twice:?}");
    Ok(())
}

/// The kernel would read and write past the caller's bytes.
fn sizes(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::hash("sized", 4, 8, 2).create(&ctx.target()?)?;
    ensure!(map.update(&[0; 3], &[0; 8], UpdateMode::Any).is_err(), "a short key");
    ensure!(map.update(&[0; 4], &[0; 7], UpdateMode::Any).is_err(), "a short value");
    ensure!(map.lookup(&[0; 4], &mut [0; 7]).is_err(), "room for less than a value");
    ensure!(map.delete(&[0; 8]).is_err(), "a long key");
    let per_cpu = MapSpec::percpu_array("sized_per", 8, 1).create(&ctx.target()?)?;
    if possible_cpus()?.len() > 1 {
        ensure!(per_cpu.lookup(&[0; 4], &mut [0; 8]).is_err(), "room for one CPU's value");
    }
    Ok(())
}

/// Before 5.11 a map is charged to RLIMIT_MEMLOCK, which is 64 KiB or 8 MiB for root in a bare guest.
fn large(ctx: &mut Ctx) -> Result<(), Failure> {
    let map = MapSpec::array("large", 4096, 4096).create(&ctx.target()?)?;
    ensure_eq!(map.info().max_entries, 4096);
    Ok(())
}

/// Kernels before 4.20 may do without for some kinds; what matters there is that the map is made all the same.
fn types(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let several = [("port", 2), ("family", 2), ("address", 16)];
    for spec in [
        MapSpec::hash("t_hash", 20, 8, 4).with_types(&several, &[("connects", 8)]),
        MapSpec::array("t_array", 8, 4).with_types(&[("index", 4)], &[("count", 8)]),
        MapSpec::percpu_hash("t_percpu", 20, 12, 4).with_types(&several, &[("count", 8), ("last", 4)]),
    ] {
        let map = spec.create(&target)?;
        let (may, must) = (target.has(Feature::MapBtf), target.has(Feature::ProgBtf));
        ensure!(
            if map.has_types()? { may || must } else { !must },
            "{}: types of maps: {may}, of programs: {must}",
            spec.name
        );
        let plain = MapSpec { types: None, ..spec };
        ensure!(!plain.create(&target)?.has_types()?, "{} has types that nobody gave it", plain.name);
    }
    // Types that do not fit the sizes are left out, and the map is there.
    let wrong = MapSpec::hash("t_wrong", 4, 8, 4).with_types(&[("key", 8)], &[("value", 8)]).create(&target)?;
    ensure!(!wrong.has_types()?, "the kernel took types of other sizes");
    Ok(())
}

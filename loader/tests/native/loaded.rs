//! Programs that are on the system, as anybody may look at them who did not load them.

use std::fs;
use std::path::Path;
use std::process::Command;

use bpfkit_asm::{Asm, bpf, list};
use bpfkit_loader::{
    Attach, CType, Error, Feature, Linkage, LoadedCode, LoadedProg, MapSpec, Maps, Prog, ProgSpec, ProgType, Prototype,
    RunStats, Symbols, Target,
};

use super::{Skip, chain, plain};

const NAME: &str = "looked_at_by_others";

/// A program of two functions that uses a map, and calls a helper that the kernel calls as it is.
fn first() -> Asm {
    bpf! {
        r6 = r1;
        *(u32 *)(r10 - 4) = 0;
        r1 = map[cells];
        r2 = r10;
        r2 += -4;
        r3 = r10;
        r3 += -16;
        *(u64 *)(r3 + 0) = 7;
        r4 = 0;
        call bpf_map_update_elem;
        call bpf_get_prandom_u32;
        r1 = r0;
        call second;
        exit;
    }
}

fn second() -> Asm {
    bpf! {
        r0 = r1;
        r0 &= 1;
        if r0 == 0 goto out;
        r0 += 2;
    out:
        exit;
    }
}

fn load(target: &Target) -> (Prog, Maps) {
    let mut maps = Maps::new();
    maps.create(&MapSpec::array("cells", 8, 1), target).unwrap();
    let spec = ProgSpec::new(NAME, Attach::None, first()).unwrap();
    let proto = Prototype::int().param("number", CType::U64);
    let spec = spec.func_with("second", proto, Linkage::Static, second()).unwrap();
    (spec.load(target, &maps).unwrap(), maps)
}

fn read(prog: &Prog) -> LoadedCode {
    LoadedProg::by_id(prog.info().unwrap().id).unwrap().code(&Symbols::open().unwrap()).unwrap()
}

fn texts(code: &LoadedCode) -> Vec<String> {
    list(code.insns.as_ref().unwrap(), code).map(|listed| listed.to_string()).collect()
}

pub fn found() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let (prog, _maps) = load(&target);
    let info = prog.info().unwrap();
    assert_eq!(LoadedProg::by_id(info.id).unwrap().info().unwrap(), info);
    assert!(LoadedProg::all().unwrap().any(|prog| prog.unwrap().info().unwrap().id == info.id));
    // By what the kernel kept of its name, and by the whole, which its types have.
    for name in [&NAME[..15], NAME] {
        let ids: Vec<u32> = LoadedProg::named(name).unwrap().iter().map(|prog| prog.info().unwrap().id).collect();
        assert!(ids.contains(&info.id), "{name}: {ids:?}");
    }
    let (other, _maps) = load(&target);
    assert!(LoadedProg::named(NAME).unwrap().len() >= 2, "two programs have the name");
    assert_eq!(LoadedProg::named("looked_at_by_nobody").unwrap().len(), 0);
    let id = other.info().unwrap().id;
    drop(other);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let error = LoadedProg::by_id(id).unwrap_err();
    assert!(matches!(error, Error::Gone(gone) if gone == id), "{}", chain(&error));
    pinned(&prog, info.id)
}

fn pinned(prog: &Prog, id: u32) -> Result<(), Skip> {
    let directory = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return Err(Skip("no bpf file system can be mounted".to_owned()));
    }
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_pins(prog, id, directory.path())));
    let unmounted = Command::new("umount").arg(directory.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    checked.unwrap();
    Ok(())
}

fn check_pins(prog: &Prog, id: u32, directory: &Path) {
    let target = Target::running().unwrap();
    prog.pin(directory.join("prog")).unwrap();
    assert_eq!(LoadedProg::pinned(directory.join("prog")).unwrap().info().unwrap().id, id);
    MapSpec::array("cells", 8, 1).create(&target).unwrap().pin(directory.join("map")).unwrap();
    for (path, why) in [("map", "it is no program"), ("none", "No such file")] {
        let error = chain(&LoadedProg::pinned(directory.join(path)).unwrap_err());
        assert!(error.contains(why) && error.contains(path), "{error}");
    }
    let error = chain(&LoadedProg::pinned("/proc/self/exe").unwrap_err());
    assert!(error.contains("it is in no bpf file system"), "{error}");
}

pub fn code() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let (prog, _maps) = load(&target);
    let code = read(&prog);
    assert_eq!((code.name.as_str(), code.info.kind, code.info.uid), (NAME, ProgType::SOCKET_FILTER, 0));
    let funcs: Vec<&str> = code.funcs.iter().map(|func| func.name.as_str()).collect();
    assert_eq!(funcs, [NAME, "second"]);
    let types = code.types.as_ref().unwrap();
    let second = types.ty(code.funcs[1].proto.unwrap()).unwrap();
    assert_eq!(second.params().map(|param| param.name.into_owned()).collect::<Vec<_>>(), ["number"]);
    let cells = &code.maps[0];
    assert_eq!((cells.name(), cells.shown.as_ref().unwrap().1.value_size), (Some("cells"), 8));

    let texts = texts(&code);
    assert!(texts.contains(&"(18) r1 = map[cells]".to_owned()), "{texts:#?}");
    let call = texts.iter().find(|text| text.contains("#second")).unwrap();
    let slot = texts.iter().position(|text| text == call).unwrap();
    assert!(texts[slot + 1].ends_with("exit") && call.starts_with("(85) call pc+1#"), "{texts:#?}");
    // As the kernel calls them, which may be something else than what was asked for.
    let calls: Vec<&String> = texts.iter().filter(|text| text.contains("(85) call") && !text.contains("pc+")).collect();
    assert!(calls[0].contains("array_map_update_elem"), "{calls:?}");
    assert!(calls[1].contains("bpf_user_rnd_u32") || calls[1].contains("bpf_get_prandom_u32"), "{calls:?}");

    let lines = code.lines.as_ref().unwrap();
    assert_eq!((lines[0].slot, lines[0].source.text.as_ref()), (0, "r6 = r1"));
    assert!(lines.iter().all(|line| line.source.file.ends_with("loader/tests/native/loaded.rs")), "{lines:#?}");
    let mut places = lines.iter().map(|line| line.source.line).collect::<Vec<_>>();
    places.dedup();
    assert!(places.is_sorted() && places.len() == lines.len(), "one line for each statement: {lines:#?}");
    let jump = texts.iter().position(|text| text.contains("if r0 == 0x0")).unwrap();
    // The map's address takes two slots.
    assert_eq!(code.line_at(jump + 1).unwrap().source.text, "if r0 == 0 goto out");
    Ok(())
}

pub fn jited() -> Result<(), Skip> {
    let target = Target::running().unwrap();
    let (prog, _maps) = load(&target);
    let code = read(&prog);
    let funcs = match &code.jited {
        Ok(funcs) => funcs,
        Err(hidden) => return Err(Skip(hidden.to_string())),
    };
    assert_eq!(funcs.len(), 2);
    let whole: usize = funcs.iter().map(|func| func.bytes.len()).sum();
    assert_eq!(whole, usize::try_from(code.info.jited_len).unwrap());
    // The kernel's own list of symbols has them at the same place.
    let addresses: Vec<u64> = funcs.iter().map(|func| func.address).collect();
    let names = Symbols::open().unwrap().names(&addresses).unwrap();
    assert!(
        names.is_empty()
            || names.len() == 2 && names.iter().any(|(at, name)| *at == addresses[1] && name.ends_with("_second")),
        "{names:?}"
    );
    for line in code.lines.as_ref().unwrap() {
        let number = usize::from(line.slot >= code.funcs[1].slot);
        let func = &funcs[number];
        let end = func.address + u64::try_from(func.bytes.len()).unwrap();
        let address = *line.address.as_ref().unwrap();
        assert!((func.address..end).contains(&address), "{line:?} of {:#x}..{end:#x}", func.address);
    }
    Ok(())
}

pub fn untyped() -> Result<(), Skip> {
    let target = Target::builder().without(Feature::ProgBtf).running().unwrap();
    let (prog, _maps) = load(&target);
    let code = read(&prog);
    assert_eq!(code.name, NAME[..15]);
    assert_eq!(code.types.as_ref().unwrap_err().to_string(), "the program was loaded without types");
    assert_eq!(code.lines.as_ref().unwrap_err(), code.types.as_ref().unwrap_err());
    // Functions are known by being called.
    let names: Vec<&str> = code.funcs.iter().map(|func| func.name.as_str()).collect();
    assert_eq!(names, [&NAME[..15], "subprog_1"]);
    assert!(texts(&code).contains(&"(85) call pc+1#subprog_1".to_owned()), "{:#?}", texts(&code));
    Ok(())
}

/// Makes this binary a process without CAP_SYSLOG, which runs one test.
const WITHOUT_SYSLOG: &str = "BPFKIT_TEST_WITHOUT_SYSLOG";

pub fn hidden() -> Result<(), Skip> {
    if std::env::var_os(WITHOUT_SYSLOG).is_some() {
        check_hidden();
        return Ok(());
    }
    let level = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    if level("kptr_restrict").trim() == "0" && matches!(level("perf_event_paranoid").trim(), "1" | "0" | "-1") {
        return Err(Skip("this machine shows the kernel's addresses to everybody".to_owned()));
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-syslog", "--inh-caps=-syslog"]).arg(std::env::current_exe().unwrap());
    let output = command.arg("what_is_hidden").env(WITHOUT_SYSLOG, "1").output();
    let output = output.map_err(|error| Skip(format!("cannot drop a capability by setpriv: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn check_hidden() {
    let (prog, _maps) = load(&Target::running().unwrap());
    let code = read(&prog);
    let why = code.jited.as_ref().unwrap_err().to_string();
    assert!(why.contains("CAP_SYSLOG") || why.contains("kptr_restrict"), "{why}");
    let lines = code.lines.as_ref().unwrap();
    assert!(lines.iter().all(|line| line.address.as_ref().is_err_and(|hidden| hidden.to_string() == why)), "{lines:?}");
    // Instructions are shown, but not whom they call in the kernel.
    let texts = texts(&code);
    assert_eq!(texts.iter().filter(|text| *text == "(85) call unknown#0").count(), 2, "{texts:#?}");
    assert!(texts.contains(&"(85) call pc+1#second".to_owned()), "{texts:#?}");
}

pub fn runs() -> Result<(), Skip> {
    for without in [None, Some(Feature::EnableStats)] {
        let target = without.into_iter().fold(Target::builder(), |builder, feature| builder.without(feature));
        let target = target.running().unwrap();
        let attach = Attach::Tracepoint { category: "raw_syscalls".to_owned(), name: "sys_enter".to_owned() };
        let prog = ProgSpec::new("runs", attach, plain()).unwrap().load(&target, &Maps::new()).unwrap();
        let link = prog.clone().attach(&target).map_err(|error| Skip(chain(&error)))?;
        let was_on = RunStats::is_on();
        let stats = RunStats::enable(&target).unwrap();
        let before = prog.info().unwrap().runs.unwrap();
        for _ in 0..100 {
            let _ = fs::metadata("/");
        }
        let runs = prog.info().unwrap().runs.unwrap().since(before);
        assert!(runs.count >= 100 && runs.average_ns().is_some_and(|average| average > 0), "{without:?}: {runs:?}");
        drop(stats);
        drop(link);
        assert_eq!(RunStats::is_on(), was_on, "{without:?}: it is as it was");
    }
    Ok(())
}

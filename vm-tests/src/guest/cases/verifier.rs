//! What the verifier of each kernel says, beside the instructions, and why it refuses programs.

use std::collections::BTreeSet;

use bpfkit_asm::Version;
use bpfkit_btf::Kind;
use bpfkit_loader::verifier::Place;
use bpfkit_loader::{Error, Feature};
use bpfkit_tests::verifier::{Refused, accepted, maps, refused};
use serde_json::Value;

use crate::guest::case::{Case, Ctx, Failure, chain};
use crate::{ensure, ensure_eq, fail, skip};

pub const CASES: &[Case] = &[
    Case { name: "verifier::each_step_of_an_accepted_program_has_a_state", run: taken },
    Case { name: "verifier::each_refusal_has_its_reason_place_and_causes", run: explained },
    Case { name: "verifier::a_rejection_says_why_and_what_to_do", run: rejection },
    Case { name: "verifier::dump_shows_states_of_every_tool", run: tools },
    Case { name: "verifier::dump_asks_without_leaving_anything", run: nothing_stays },
];

fn taken(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let maps = maps(&target)?;
    for spec in accepted() {
        let linked = spec.link(&target)?;
        if spec.name == "loops" && !target.has(Feature::BoundedLoops) {
            continue;
        }
        // Of this program's sum the verifier crashes there, and our own rules say so.
        if spec.name == "branches" && target.version() < Version::new(4, 20) {
            ensure!(
                linked.check(&target).is_err_and(|error| chain(&error).contains("crashes")),
                "the sum is not refused"
            );
            continue;
        }
        let verdict = linked.walk(&target, &maps)?;
        let walk = &verdict.walk;
        ensure!(verdict.refused.is_none() && !verdict.is_cut, "{}: {}", spec.name, verdict.log);
        ensure!(walk.words.is_empty(), "{}: {:?}", spec.name, walk.words);
        // Which instructions are walked does not depend on the kernel; all are, here.
        let insns = verdict.linked.insns();
        let begins = |slot: &usize| *slot == 0 || !insns[slot - 1].is_wide();
        let slots: Vec<usize> = (0..insns.len()).filter(begins).collect();
        ensure_eq!(walk.slots().map(|(slot, _)| slot).collect::<Vec<_>>(), slots);
        for step in &walk.steps {
            let state = step.before.as_ref();
            let Some(state) = state else { fail!("{}: nothing is known at {}", spec.name, step.slot) };
            let frame = state.get(Place::Reg(10)).map(|cell| cell.value.to_string());
            ensure_eq!(frame.as_deref(), Some("fp0"), "R10 at {}", step.slot);
        }
        let first = walk.steps[0].before.as_ref().map(ToString::to_string);
        ensure_eq!(first.as_deref(), Some("R1=ctx() R10=fp0"));
        ensure!(walk.end.processed.is_some_and(|count| count > 0), "{}", verdict.log);
    }
    Ok(())
}

fn explained(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let maps = maps(&target)?;
    for refused in refused() {
        let Refused { name, titles, slot, place, because, ref spec } = refused;
        // Where there are no loops at all, it is another rule that refuses this one, and at its other end.
        if name == "endless" && !target.has(Feature::BoundedLoops) {
            continue;
        }
        let verdict = spec.link(&target)?.walk(&target, &maps)?;
        ensure!(verdict.refused.is_some(), "{name} was taken: {}", verdict.log);
        let Some(diagnosis) = verdict.diagnosis else { fail!("{name} is not explained: {}", verdict.log) };
        ensure!(diagnosis.slot == Some(slot) || diagnosis.slot.is_none() && name == "no_end", "{name}: {diagnosis}");
        ensure_eq!(diagnosis.place.map(|place| place.to_string()).as_deref(), place, "{name}: {diagnosis}");
        let causes: Vec<usize> = diagnosis.path.iter().map(|cause| cause.slot).collect();
        ensure_eq!(causes.as_slice(), because, "{name}: {diagnosis}");
        ensure!(
            diagnosis.by_kernel || titles.contains(&diagnosis.title.as_str()),
            "{name}: {diagnosis}\n{}",
            verdict.log
        );
    }
    Ok(())
}

/// As a user sees it, whom nobody told of logs.
fn rejection(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    let maps = maps(&target)?;
    for refused in refused().into_iter().filter(|refused| ["may_be_null", "used_up"].contains(&refused.name)) {
        let Err(error) = refused.spec.load(&target, &maps) else { fail!("{} was loaded", refused.name) };
        let text = chain(&error);
        let Error::Rejected(rejection) = error else { fail!("{text}") };
        let Some(diagnosis) = &rejection.diagnosis else { fail!("{text}") };
        ensure_eq!(rejection.slot, Some(refused.slot));
        ensure!(text.contains("\n  reason: ") && text.contains("\n  to do: "), "{text}");
        ensure_eq!(diagnosis.path.iter().map(|cause| cause.slot).collect::<Vec<_>>(), refused.because);
        if refused.name == "may_be_null" {
            ensure!(text.contains("16 bytes, or NULL"), "what R6 is: {text}");
            ensure!(text.contains("because    5: the call gives R0: a pointer to a value"), "where from: {text}");
        }
    }
    Ok(())
}

/// Every instruction of every tool's programs that the verifier walked has a state.
fn tools(ctx: &mut Ctx) -> Result<(), Failure> {
    let target = ctx.target()?;
    if !target.has(Feature::Kprobes) {
        skip!("this kernel has no kprobes");
    }
    let lines: [&[&str]; 9] = [
        &["tcpconnect"],
        &["tcpconnect", "--probe", "kprobe", "-L", "-P", "80"],
        &["tcpconnect", "--probe", "tracepoint", "-c"],
        &["gethostlatency"],
        &["execsnoop", "-x"],
        &["icmpecho"],
        &["skbrecv"],
        &["writehist"],
        &["bpf2bpf"],
    ];
    // Linux 6.1 of Debian has only a copy of it, to which skbrecv attaches; what it lists is the program for the function itself.
    let received = target.btf().is_ok_and(|btf| btf.find("__netif_receive_skb_core", &[Kind::FUNC]).is_some());
    for line in lines.into_iter().filter(|line| received || line[0] != "skbrecv") {
        let mut command = ctx.dump(line)?;
        command.args(["--verifier", "--full", "--json"]);
        let output = command.output()?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{line:?}: {}: {errors}", output.status);
        let text = String::from_utf8(output.stdout)?;
        let programs: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(!programs.is_empty(), "{line:?}: no programs");
        for program in &programs {
            check(program).map_err(|failure| match failure {
                Failure::Fail(reason) => Failure::Fail(format!("{line:?}, {}: {reason}", program["name"])),
                other => other,
            })?;
        }
    }
    Ok(())
}

fn check(program: &Value) -> Result<(), Failure> {
    ensure_eq!(program["verifier"]["accepted"], true);
    let Some(insns) = program["instructions"].as_array() else { fail!("no instructions") };
    let mut walked = 0;
    for insn in insns {
        let known = &insn["verifier"];
        if known["visits"] == 0 {
            continue;
        }
        walked += 1;
        let Some(before) = known["before"].as_array() else { fail!("{insn}") };
        let places: BTreeSet<&str> = before.iter().filter_map(|fact| fact["place"].as_str()).collect();
        ensure!(places.contains("R10"), "nothing is known before {insn}");
        let value = |place: &str| before.iter().find(|fact| fact["place"] == place).map(|fact| fact["value"].clone());
        ensure_eq!(value("R10"), Some("fp0".into()));
        if insn["slot"] == 0 {
            ensure_eq!(value("R1"), Some("ctx()".into()));
        }
    }
    // Dead code is no mistake, but little of it is to be expected.
    ensure!(walked * 10 >= insns.len() * 9, "{walked} of {} instructions were walked", insns.len());
    Ok(())
}

fn nothing_stays(ctx: &mut Ctx) -> Result<(), Failure> {
    let run = |arguments: &[&str]| -> Result<_, Failure> {
        let line = [&["tcpconnect"], arguments].concat();
        Ok(ctx.dump(&line)?.output()?)
    };
    let output = run(&["--probe", "tracepoint", "--verifier"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("// the verifier takes it: "), "{text}");
    ensure!(text.contains("\n        | R1: a pointer to the context\n"), "{text}");
    ensure!(text.contains("\n        > R6: a pointer to the context\n"), "{text}");
    let other = run(&["--verifier", "--kernel", "5.4"])?;
    let words = String::from_utf8_lossy(&other.stderr).into_owned();
    ensure_eq!(other.status.code(), Some(1));
    ensure!(words.contains("cannot ask that of Linux 5.4"), "{words}");
    Ok(())
}

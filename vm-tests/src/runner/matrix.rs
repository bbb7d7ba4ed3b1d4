//! The whole run: images are fetched while the binaries are built, then the kernels are booted, a few at a time.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::guest::cases;
use crate::kernels::{Image, KERNELS, Kernel};

use super::boot::Plan;
use super::build;
use super::bundle::Bundle;
use super::cli::{AccelChoice, Cli};
use super::clock;
use super::image::Store;
use super::initramfs;
use super::kept;
use super::machine::{self, Accel};
use super::readme;
use super::report;
use super::results::{BROKEN, FAILED, KernelResult, Results, USAGE};
use super::schedule::Schedule;
use super::sources::{self, Mirror};

/// Why the run ended before it had results.
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub code: u8,
    /// What to tell the user.
    pub message: String,
}

/// How long a guest may go without an event: a case has a limit of 120 s of its own, which is the guest's to keep.
const SILENCE: Duration = Duration::from_secs(240);

fn broken(message: String) -> Stop {
    Stop { code: BROKEN, message }
}

fn usage(message: String) -> Stop {
    Stop { code: USAGE, message }
}

/// Runs the matrix and says with which code to exit.
///
/// # Errors
/// A wrong command line, or machinery that is missing altogether.
pub fn run(cli: &Cli) -> Result<u8, Stop> {
    // In one place whatever cargo's target directory is: images outlive the choice of a profile, and CI collects results.
    let work = cli.work.clone().unwrap_or_else(|| build::workspace().join("target/vm"));
    let mirror = match &cli.mirror {
        Some(uri) => Some(Mirror::at(uri)),
        None => Mirror::among(&sources::read(Path::new("/etc/apt"))),
    };
    let store = Store::new(&work, mirror, cli.refresh);
    let lines = cli.lines().map_err(usage)?;
    if cli.list {
        print!("{}", if cli.json { list_json(&work) } else { list(&work) });
        return Ok(0);
    }
    let selected = cases::selected(&cli.filter);
    if cli.list_cases {
        selected.iter().for_each(|name| println!("{name}"));
        return Ok(0);
    }
    if selected.is_empty() {
        return Err(usage(format!("no case has {} in its name", cli.filter.join(" or "))));
    }
    if cli.fetch {
        return Ok(fetch(&store, &lines));
    }
    fs::create_dir_all(&work).map_err(|error| broken(format!("create {}: {error}", work.display())))?;
    let order = unique_names(cli, &lines)?;
    let bundle = if cli.run.is_empty() { None } else { Some(Bundle::new(&cli.run, &cli.extras).map_err(usage)?) };
    machine::check().map_err(broken)?;
    kept::remove_old(&work);

    let begin = Instant::now();
    let schedule = Schedule::default();
    let unavailable = Mutex::new(Vec::new());
    let (mut kernels, built) = thread::scope(|scope| {
        let (images, queue) = channel();
        // The fetcher goes on while the binaries are built, and while the first kernels run.
        scope.spawn(|| {
            for image in &cli.outside {
                let _ = images.send(image.clone());
            }
            for line in &lines {
                match store.image(line) {
                    Ok(image) => drop(images.send(image)),
                    Err(reason) => {
                        let result = KernelResult::unavailable(line.name, reason);
                        println!("{}", report::line(&result));
                        unavailable.lock().unwrap_or_else(PoisonError::into_inner).push(result);
                    }
                }
            }
            drop(images);
        });
        let initramfs = match &bundle {
            Some(bundle) => {
                let guest = build::guest().map_err(broken)?;
                initramfs::of_program(&guest, &bundle.archive())
            }
            None => {
                let binaries = build::build(cli.bpfkit.as_deref()).map_err(broken)?;
                initramfs::of_cases(&binaries)
            }
        };
        let initramfs = initramfs.map_err(broken)?;
        let built = begin.elapsed();
        let timeout = Duration::from_secs(cli.timeout);
        let plan = Plan {
            initramfs,
            work: work.clone(),
            program: bundle.as_ref().map(|bundle| bundle.program.case.clone()),
            filter: cli.filter.clone(),
            timeout,
            // A program may be silent as long as it likes; a case is over sooner.
            silence: if bundle.is_some() { timeout } else { SILENCE },
            smp: cli.smp,
            memory: cli.memory.clone(),
            append: cli.append.clone(),
            tsc_khz: clock::tsc_khz(),
            kvm: AtomicBool::new(cli.accel == AccelChoice::Auto && Accel::kvm_is_worth_a_try()),
        };
        let (plan, schedule) = (&plan, &schedule);
        let boots = plan.boots();
        // What can be had is scheduled as it comes, and what is here already comes at once.
        thread::scope(|scope| {
            scope.spawn(move || {
                queue.into_iter().for_each(|image| schedule.add(image, &boots));
                schedule.close();
            });
            let processors = thread::available_parallelism().map_or(1, usize::from);
            let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let jobs = cli.jobs.map_or_else(|| guests(processors, &meminfo), usize::from);
            boot_all(plan, schedule, jobs).map_err(broken)
        })
        .map(|kernels| (kernels, built))
    })?;
    let took = begin.elapsed() - built;
    kernels.extend(unavailable.into_inner().unwrap_or_else(PoisonError::into_inner));

    kernels.sort_by_key(|kernel| order.get(&kernel.name));
    let results = Results::new(kernels);
    report::write(&work, &results).map_err(broken)?;
    print!("{}", report::terminal(&results, cli.table));
    if results.booted() < cli.min_kernels {
        eprintln!("cargo vm: {} kernels were booted, at least {} were to be", results.booted(), cli.min_kernels);
    }
    let stale =
        if cli.check_readme { readme::check(&build::workspace(), &results).map_err(broken)? } else { Vec::new() };
    stale.iter().for_each(|line| eprintln!("README.md: {line}"));
    println!("{}", report::time(&results, built, took));
    println!("{}", results.totals);
    let code = results.exit_code(cli.min_kernels);
    Ok(if code == 0 && !stale.is_empty() { FAILED } else { code })
}

/// Boots what is scheduled, `jobs` at a time.
fn boot_all(plan: &Plan, schedule: &Schedule, jobs: usize) -> Result<Vec<KernelResult>, String> {
    let worker = || {
        let mut results = Vec::new();
        while let Some(job) = schedule.next() {
            // What is missing for one kernel, such as room on the disk, is missing for the next.
            let result = plan.boot(&job.image, job.boot).inspect_err(|_| schedule.stop())?;
            if let Some(result) = schedule.finish(&job, result) {
                println!("{}", report::line(&result));
                results.push(result);
            }
        }
        Ok(results)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|_| Err("a worker panicked".to_owned()))?);
        }
        Ok(all)
    })
}

/// Guests at a time for each processor: they wait for half of their time, for timers, grace periods, and rows that are shown only
/// after a while, and one has but a thread.
const GUESTS: usize = 3;
/// What a guest takes of memory, with what the translator makes of its programs, in KiB.
const GUEST_MEMORY: usize = 1 << 20;

/// How many guests run at a time on a machine of so many processors that has /proc/meminfo like this.
fn guests(processors: usize, meminfo: &str) -> usize {
    let free =
        meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok());
    let room = free.map_or(usize::MAX, |free: usize| free / GUEST_MEMORY);
    (processors * GUESTS).min(room).max(1)
}

/// Each name's place in the results. Logs are named after the kernels, so two may not share a name.
fn unique_names(cli: &Cli, lines: &[&Kernel]) -> Result<HashMap<String, usize>, Stop> {
    let names = cli.outside.iter().map(|image| image.name.clone()).chain(lines.iter().map(|line| line.name.to_owned()));
    let mut order = HashMap::new();
    for (place, name) in names.enumerate() {
        if order.insert(name.clone(), place).is_some() {
            return Err(usage(format!("two kernels are called {name}: tell them apart by --kernel PATH,name=NAME")));
        }
    }
    Ok(order)
}

fn fetch(store: &Store, lines: &[&Kernel]) -> u8 {
    let mut code = 0;
    for line in lines {
        match store.image(line) {
            Ok(image) => println!("{:<8} {}", line.name, image.origin),
            Err(reason) => {
                println!("{:<8} unavailable: {reason}", line.name);
                code = BROKEN;
            }
        }
    }
    code
}

/// A kernel of the list, as `--list --json` gives it.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    /// The package of the image that is here.
    package: Option<String>,
    /// The suites of Debian that have it; none for one to be brought.
    suites: &'static [&'static str],
}

fn listed(work: &Path) -> Vec<Listed> {
    let package = |kernel: &Kernel| fs::read_to_string(work.join("kernels").join(kernel.name).join("package")).ok();
    let suites = |kernel: &Kernel| match kernel.image {
        Image::Debian { suites, .. } => suites,
        Image::BringYourOwn => &[],
    };
    KERNELS
        .iter()
        .map(|kernel| Listed { name: kernel.name, package: package(kernel), suites: suites(kernel) })
        .collect()
}

/// The list of kernels, with what is already here.
fn list(work: &Path) -> String {
    let mut text = String::new();
    for kernel in listed(work) {
        let origin = match kernel.package {
            Some(package) => package,
            None if kernel.suites.is_empty() => "bring your own: --kernel PATH[,btf=FILE]".to_owned(),
            None => format!("from Debian's {}", kernel.suites.join(", ")),
        };
        text.push_str(&format!("{:<8} {origin}\n", kernel.name));
    }
    text
}

/// The same in one line of JSON, whose `bootable` is what a matrix of jobs wants.
fn list_json(work: &Path) -> String {
    let kernels = listed(work);
    let bootable: Vec<&str> =
        kernels.iter().filter(|kernel| !kernel.suites.is_empty()).map(|kernel| kernel.name).collect();
    format!("{}\n", serde_json::json!({ "bootable": bootable, "kernels": kernels }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_what_can_be_booted_and_what_must_be_brought() {
        let directory = tempfile::tempdir().expect("directory");
        let here = directory.path().join("kernels/6.12");
        fs::create_dir_all(&here).expect("create");
        fs::write(here.join("package"), "linux-image-6.12.1 (trixie)").expect("write");
        let text = list(directory.path());
        assert!(text.contains("6.12     linux-image-6.12.1 (trixie)\n"), "{text}");
        assert!(text.contains("4.18     bring your own"), "{text}");
        assert!(text.contains("5.10     from Debian's bullseye-security"), "{text}");
        let line = list_json(directory.path());
        assert_eq!(line.matches('\n').count(), 1, "it fits a line of a job's output");
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let bootable = json["bootable"].as_array().expect("names");
        assert!(bootable.contains(&"7.3-rc".into()) && !bootable.contains(&"4.18".into()), "{line}");
        let find =
            |name: &str| json["kernels"].as_array().expect("kernels").iter().find(|kernel| kernel["name"] == name);
        assert_eq!(find("6.12").expect("6.12")["package"], "linux-image-6.12.1 (trixie)");
        assert_eq!(find("4.18").expect("4.18")["suites"], serde_json::json!([]));
    }

    #[test]
    fn guests_are_as_many_as_processors_keep_busy_and_memory_has_room_for() {
        assert_eq!(guests(2, "MemTotal: 99 kB\nMemAvailable:   24105000 kB\n"), 6);
        assert_eq!(guests(2, "MemAvailable:   4194304 kB\n"), 4);
        assert_eq!(guests(64, "MemAvailable:   4000 kB\n"), 1);
        assert_eq!(guests(1, "no such line"), 3);
    }

    #[test]
    fn the_public_forge_takes_its_jobs_from_the_list() {
        let workflow = include_str!("../../../.github/workflows/ci.yml");
        assert!(workflow.contains("cargo vm --list --json"), "{workflow}");
        assert!(workflow.contains("kernel: ${{ fromJSON(needs.list.outputs.list).bootable }}"), "{workflow}");
    }
}

//! The whole run: images are fetched while the binaries are built, then the kernels are booted, a few at a time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::guest::cases;
use crate::kernels::{Image, KERNELS, Kernel};

use super::boot::Plan;
use super::build;
use super::cli::{AccelChoice, Cli};
use super::image::{BootImage, Store};
use super::initramfs;
use super::machine::{self, Accel};
use super::report;
use super::results::{BROKEN, KernelResult, Results, USAGE};
use super::sources::{self, Mirror};

/// Why the run ended before it had results.
#[derive(Debug)]
pub struct Stop {
    /// The exit code.
    pub code: u8,
    /// What to tell the user.
    pub message: String,
}

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
    let work = build::workspace().join("target/vm");
    let mirror = match &cli.mirror {
        Some(uri) => Some(Mirror::at(uri)),
        None => Mirror::among(&sources::read(Path::new("/etc/apt"))),
    };
    let store = Store::new(&work, mirror, cli.refresh);
    let lines = cli.lines().map_err(usage)?;
    if cli.list {
        print!("{}", list(&work));
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
    let order = unique_names(cli, &lines)?;
    machine::check().map_err(broken)?;

    let mut kernels = thread::scope(|scope| {
        let (images, queue) = channel();
        // The fetcher goes on while the binaries are built, and while the first kernels run.
        scope.spawn(|| {
            for image in &cli.outside {
                let _ = images.send(Ok(image.clone()));
            }
            for line in &lines {
                let image = store.image(line).map_err(|reason| KernelResult::unavailable(line.name, reason));
                let _ = images.send(image);
            }
            drop(images);
        });
        let binaries = build::build(cli.bpfkit.as_deref()).map_err(broken)?;
        let plan = Plan {
            initramfs: initramfs::base(&binaries).map_err(broken)?,
            work: work.clone(),
            cases: selected,
            filter: cli.filter.clone(),
            timeout: Duration::from_secs(cli.timeout),
            smp: cli.smp,
            memory: cli.memory.clone(),
            append: cli.append.clone(),
            kvm: AtomicBool::new(cli.accel == AccelChoice::Auto && Accel::kvm_is_worth_a_try()),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        boot_all(&plan, queue, cli.jobs.map_or(cores, usize::from)).map_err(broken)
    })?;

    kernels.sort_by_key(|kernel| order.get(&kernel.name));
    let results = Results::new(kernels);
    report::write(&work, &results).map_err(broken)?;
    print!("{}", report::terminal(&results));
    if results.booted() < cli.min_kernels {
        eprintln!("cargo vm: {} kernels were booted, at least {} were to be", results.booted(), cli.min_kernels);
    }
    println!("{}", results.totals);
    Ok(results.exit_code(cli.min_kernels))
}

/// Boots what comes out of the queue, `jobs` at a time.
fn boot_all(
    plan: &Plan,
    queue: Receiver<Result<BootImage, KernelResult>>,
    jobs: usize,
) -> Result<Vec<KernelResult>, String> {
    let queue = Mutex::new(queue);
    let next = || queue.lock().ok().and_then(|queue| queue.recv().ok());
    let worker = || {
        let mut results = Vec::new();
        while let Some(image) = next() {
            let result = match image {
                Ok(image) => plan.boot(&image)?,
                Err(unavailable) => unavailable,
            };
            println!("{}", report::line(&result));
            results.push(result);
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

/// The list of kernels, with what is already here.
fn list(work: &Path) -> String {
    let mut text = String::new();
    for kernel in KERNELS {
        let package: PathBuf = work.join("kernels").join(kernel.name).join("package");
        let origin = match (kernel.image, fs::read_to_string(package)) {
            (_, Ok(package)) => package,
            (Image::Debian { suites, .. }, Err(_)) => format!("from Debian's {}", suites.join(", ")),
            (Image::BringYourOwn, Err(_)) => "bring your own: --kernel PATH[,btf=FILE]".to_owned(),
        };
        text.push_str(&format!("{:<8} {origin}\n", kernel.name));
    }
    text
}

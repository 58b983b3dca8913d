//! Reloading at scale (performance.md G7 and G9): what one save costs among many tenants, whether a storm of saves
//! is felt by decisions, how long a start takes, and what an idle daemon costs.
//!
//!     cargo bench --bench reload               all of it
//!     cargo bench --bench reload -- save       only what is named: save, storm, start
//!     cargo bench --bench reload -- --quick    in seconds, to see that it works: 500 tenants, short phases
//!
//! It asserts nothing about time. CPU time is the process's own, from the scheduler, without the thread that saves and
//! waits, and counts from the save until the new policy decides: what is kept on disk after that is no part of it. Wall
//! time counts on an idle machine only. The settle window (250 ms without a change) is taken off; the look for a writer
//! that is still at it (50 ms) is not.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use channel_orchestrator::{
    bundles::{Options, Policies, PolicyHandle, reload::SETTLE},
    decide::{DecisionInput, decide},
    domain::{
        address::{Reach, read_contacts},
        facts::Facts,
        ids::{CriterionName, TenantId},
        question::Question,
        time::{Clock, SystemClock},
    },
    policy::{assemble::PolicyEnvironment, template::Words},
    request::{Purpose, parse},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/support/mod.rs"]
mod support;

/// Of the goals.
const TENANTS: usize = 10_000;
const TENANTS_QUICK: usize = 500;
/// Saves measured one after the other.
const SAVES: u32 = 7;
/// Ten thousand a minute, over this many tenants.
const STORM_PAUSE: Duration = Duration::from_millis(6);
const STORM_TENANTS: usize = 100;
/// Quiet and stormy phases take turns, so that both meet the same machine.
const PHASES: usize = 5;

/// How long is waited.
#[derive(Clone, Copy)]
struct Pace {
    /// One phase of a storm.
    phase: Duration,
    /// Until a process has ended what follows a start.
    calm: Duration,
    /// Over which idling is measured.
    idle: Duration,
}

const FULL: Pace =
    Pace { phase: Duration::from_secs(4), calm: Duration::from_secs(12), idle: Duration::from_secs(30) };
const QUICK: Pace =
    Pace { phase: Duration::from_millis(500), calm: Duration::from_secs(1), idle: Duration::from_secs(3) };

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure: {name} {value:.3} {unit}");
}

/// CPU time of all threads of a process so far, in nanoseconds' exactness.
fn cpu(process: &str) -> Duration {
    cpu_without(process, "")
}

/// The same without one of its threads, and without the one that keeps on disk what is in force.
fn cpu_without(process: &str, thread: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("Linux").flatten();
    let keeps = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "policies-kept")
    };
    let tasks = tasks.filter(|task| thread.is_empty() || (task.file_name() != thread && !keeps(task)));
    let of_task = |task: PathBuf| -> u64 {
        let line = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        line.split(' ').next().and_then(|ran| ran.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(|task| of_task(task.path())).sum())
}

/// Resident memory of a process, in MiB.
fn resident(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib / 1024.0
}

/// Until this process has done next to nothing for a while: what follows a load (versions are kept on disk, memory is
/// given back) is over then.
fn until_idle() {
    let (given_up, quiet) = (Instant::now() + Duration::from_secs(180), Duration::from_millis(500));
    loop {
        let before = cpu("self");
        thread::sleep(quiet);
        if cpu("self").saturating_sub(before) < quiet / 50 || Instant::now() > given_up {
            return;
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn tenant(number: usize) -> String {
    format!("tenant-{number:05}")
}

/// What such a tenant writes: three keys that are its own, and the weight that saves change.
fn own_file(number: usize, cost: u32) -> String {
    format!(
        "# {}\nlocale = \"{}\"\n\n[weights]\ncost = {cost}\n\n[channels.email]\nfrom_name = \"Agence {number}\"\n",
        tenant(number),
        ["fr", "en"][number % 2],
    )
}

/// The shipped policies, and that many tenants.
fn lay(folder: &Path, tenants: usize) {
    support::daemon::copy_tree(&support::policies(), folder);
    for number in 0..tenants {
        fs::write(folder.join(format!("tenants/{}.toml", tenant(number))), own_file(number, 20))
            .expect("room");
    }
}

/// As editors do: written beside, and renamed.
fn save(folder: &Path, path: &str, text: &str) {
    let place = folder.join(path);
    let beside = place.with_extension("tmp");
    fs::write(&beside, text).expect("room");
    fs::rename(beside, place).expect("the same folder");
}

fn cost_of(handle: &PolicyHandle, number: usize) -> Option<f64> {
    let id = TenantId::parse(&tenant(number)).expect("an id");
    let cost = CriterionName::parse("cost").expect("a name");
    handle.current().tenant(&id)?.policy().weights.get(&cost).copied()
}

/// A watched folder in this process.
struct Watched {
    base: tempfile::TempDir,
    runtime: Runtime,
    policies: Arc<Policies>,
    stop: CancellationToken,
}

impl Watched {
    fn open(tenants: usize, pace: Pace) -> Self {
        let base = tempfile::tempdir().expect("a folder");
        lay(&base.path().join("policies"), tenants);
        let runtime = Runtime::new().expect("a runtime");
        let options = Options {
            folder: base.path().join("policies"),
            state_dir: base.path().join("state"),
            environment: PolicyEnvironment::default(),
            drivers: None,
            clock: Arc::new(SystemClock),
        };
        let policies = Arc::new(Policies::open(options).expect("policies"));
        let stop = CancellationToken::new();
        runtime.spawn(Arc::clone(&policies).run(stop.clone()));
        thread::sleep(pace.calm / 2);
        until_idle();
        Self { base, runtime, policies, stop }
    }

    fn folder(&self) -> PathBuf {
        self.base.path().join("policies")
    }

    /// Saves one file and waits until `live`: wall time beyond the settle window, and CPU time.
    fn save(&self, path: &str, text: &str, live: impl Fn(&PolicyHandle) -> bool) -> (f64, f64) {
        let (handle, mut progress) = (self.policies.handle(), self.policies.progress());
        // This thread is the editor, which writes and waits.
        let editor = std::process::id().to_string();
        let (before, started) = (cpu_without("self", &editor), Instant::now());
        save(&self.folder(), path, text);
        self.runtime.block_on(async {
            while !live(&handle) {
                progress.changed().await.expect("it runs");
            }
        });
        let took = started.elapsed().saturating_sub(SETTLE);
        (millis(took), millis(cpu_without("self", &editor).saturating_sub(before)))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn measure_saves(tenants: usize, pace: Pace) {
    let watched = Watched::open(tenants, pace);
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..SAVES {
        let number = tenants / 2 + round as usize;
        let path = format!("tenants/{}.toml", tenant(number));
        let cost = 30 + round;
        let live = |handle: &PolicyHandle| cost_of(handle, number) == Some(f64::from(cost));
        let (wall, cpu) = watched.save(&path, &own_file(number, cost), live);
        walls.push(wall);
        cpus.push(cpu);
        // What is kept after the swap is no part of it, and must be over before the next.
        thread::sleep(Duration::from_millis(700));
        until_idle();
    }
    println!(
        "{tenants} tenants, one file saved: live after the settle window {walls:.1?} ms, CPU {cpus:.2?} ms"
    );
    figure("reload.live", median(walls), "ms");
    figure("reload.cpu", median(cpus), "ms");

    let script = fs::read_to_string(watched.folder().join("criteria/cost.rhai")).expect("a script");
    let generation = watched.policies.handle().current().number;
    let live = |handle: &PolicyHandle| handle.current().number > generation;
    let (wall, used) = watched.save("criteria/cost.rhai", &format!("{script}\n// Touched.\n"), live);
    figure("reload.shared_script_live", wall, "ms");
    figure("reload.shared_script_cpu", used, "ms");
}

/// Decides for tenants in turn until told to stop; each decision's time in nanoseconds.
fn decide_until(handle: &PolicyHandle, tenants: usize, stop: &AtomicBool) -> Vec<u64> {
    let body = r#"{"context": {"tenantId": "acme", "prospectId": "p", "prospectPhone": "0612345678",
        "prospectEmail": "a@example.com"}, "content": {"body": "Votre rendez-vous est demain."}}"#;
    let asked = parse(body.as_bytes(), Purpose::Explain).expect("a request");
    let (facts, at) = (Facts::default(), SystemClock.now());
    let words = Words::plain(&asked.request.content);
    let ids: Vec<TenantId> = (0..tenants).map(|n| TenantId::parse(&tenant(n)).expect("an id")).collect();
    let mut times = Vec::with_capacity(4_000_000);
    for id in ids.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let generation = handle.current();
        let bundle = generation.tenant(id).expect("in force");
        let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
        let input = DecisionInput {
            question: Question::of(&asked.request),
            reach: Reach::of(&contacts),
            words: &words,
            facts: &facts,
            at,
            variant: None,
            generation: generation.number,
        };
        std::hint::black_box(decide(bundle, &input));
        drop(generation);
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        // A busy core says nothing of a service: a breath, as between two requests.
        if times.len().is_multiple_of(8) {
            thread::sleep(Duration::from_micros(50));
        }
    }
    times
}

/// One phase: the 99th percentile of decisions in microseconds, how many there were, and the saves beside them.
fn phase(watched: &Watched, tenants: usize, pace: Pace, stormy: bool, counter: &mut u32) -> (f64, usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let (handle, stopped) = (watched.policies.handle(), Arc::clone(&stop));
    let deciding = thread::spawn(move || decide_until(&handle, tenants, &stopped));
    let ends = Instant::now() + pace.phase;
    while Instant::now() < ends {
        if stormy {
            let number = *counter as usize % STORM_TENANTS.min(tenants);
            let path = format!("tenants/{}.toml", tenant(number));
            save(&watched.folder(), &path, &own_file(number, 1 + *counter % 900));
            *counter += 1;
        }
        thread::sleep(STORM_PAUSE);
    }
    stop.store(true, Ordering::Relaxed);
    let mut times = deciding.join().expect("decisions");
    times.sort_unstable();
    (times[times.len() * 99 / 100] as f64 / 1e3, times.len())
}

fn measure_storm(tenants: usize, pace: Pace) {
    let watched = Watched::open(tenants, pace);
    let (mut quiet, mut stormy, mut ratios, mut counter) = (Vec::new(), Vec::new(), Vec::new(), 0);
    phase(&watched, tenants, pace, false, &mut counter);
    let loads = watched.policies.progress().borrow().loads;
    for _ in 0..PHASES {
        let (calm, _) = phase(&watched, tenants, pace, false, &mut counter);
        let (storm, made) = phase(&watched, tenants, pace, true, &mut counter);
        println!(
            "p99 of a decision: {calm:.2} us without saves, {storm:.2} us in a storm ({made} decisions)"
        );
        quiet.push(calm);
        stormy.push(storm);
        ratios.push(storm / calm);
        thread::sleep(pace.phase / 2);
    }
    let loads = watched.policies.progress().borrow().loads - loads;
    println!("{tenants} tenants: {counter} saves over {STORM_TENANTS} of them, {loads} loads");
    figure("reload.storm_quiet_p99", median(quiet), "us");
    figure("reload.storm_stormy_p99", median(stormy), "us");
    figure("reload.storm_p99", median(ratios), "x");
}

/// From the start of the process until it says that it is ready.
fn start(daemon: &mut support::daemon::Daemon) -> (f64, f64) {
    let began = Instant::now();
    daemon.launch(&[]);
    let ready = || daemon.call("GET", "/readyz", &[], "").is_some_and(|answer| answer.status == 200);
    while !ready() {
        assert!(began.elapsed() < Duration::from_secs(120), "not ready:\n{}", daemon.log());
        thread::sleep(Duration::from_millis(1));
    }
    let took = millis(began.elapsed());
    let pid = daemon.pid().expect("it runs").to_string();
    (took, millis(cpu(&pid)))
}

fn measure_start(tenants: usize, pace: Pace) {
    let base = tempfile::tempdir().expect("a folder");
    let mut daemon = support::daemon::Daemon::prepare(base.path(), "", "");
    lay(&base.path().join("policies"), tenants);
    // A writer who was just at it is waited for: not what is measured here.
    thread::sleep(SETTLE * 2);
    let (wall, used) = start(&mut daemon);
    figure(&format!("reload.start_first_{tenants}"), wall, "ms");
    println!("{tenants} tenants, first start: {used:.0} ms of CPU");
    thread::sleep(pace.calm);
    daemon.terminate();
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let (wall, used) = start(&mut daemon);
        walls.push(wall);
        cpus.push(used);
        if round < 2 {
            daemon.terminate();
        }
    }
    figure(&format!("reload.start_{tenants}"), median(walls), "ms");
    figure(&format!("reload.start_cpu_{tenants}"), median(cpus), "ms");
    thread::sleep(pace.calm);
    let pid = daemon.pid().expect("it runs").to_string();
    let (before, from) = (cpu(&pid), Instant::now());
    thread::sleep(pace.idle);
    let share = cpu(&pid).saturating_sub(before).as_secs_f64() / from.elapsed().as_secs_f64();
    figure(&format!("reload.idle_memory_{tenants}"), resident(&pid), "MiB");
    figure(&format!("reload.idle_cpu_{tenants}"), share * 100.0, "%");
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let quick = words.iter().any(|word| word == "--quick");
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| *word == name);
    let (tenants, pace) = if quick { (TENANTS_QUICK, QUICK) } else { (TENANTS, FULL) };
    println!("cargo bench --bench reload -- {}", words.join(" "));
    if is_wanted("save") {
        measure_saves(tenants, pace);
    }
    if is_wanted("storm") {
        measure_storm(tenants, pace);
    }
    if is_wanted("start") {
        for tenants in [tenants / 10, tenants] {
            measure_start(tenants, pace);
        }
    }
}

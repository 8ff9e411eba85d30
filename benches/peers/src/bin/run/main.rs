//! Runs the programs side by side and tells the medians.
//!
//! ```text
//! run [--rounds N] [--quick | --divide N] [--only NAME,NAME] [--loads NAME,NAME] [--targets NAME,NAME] [--out DIR]
//!     [--bootstrap HOST:PORT | --start-kafka DIR] [--kafka-libs DIR]
//! ```
//!
//! Each round runs every program once before the next round begins, so that whatever else the machine does meets all
//! of them alike. The raw floors are in every round.

mod plot;
mod programs;
mod servers;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking_peers::wire;
use serde_json::{Value, json};

use programs::{LOADS, Load, PARTITIONS, PROGRAMS, Program};
use servers::{Kafka, Sink};

/// No program takes longer unless it hangs.
const BOUND: Duration = Duration::from_secs(300);

struct Options {
    rounds: u32,
    /// What the numbers of records are divided by.
    divide: u64,
    only: Vec<String>,
    loads: Vec<String>,
    targets: Vec<String>,
    out: PathBuf,
    bootstrap: Option<String>,
    start_kafka: Option<PathBuf>,
    kafka_libs: Option<PathBuf>,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 5,
        divide: 1,
        only: Vec::new(),
        loads: Vec::new(),
        targets: Vec::new(),
        out: "target/peers".into(),
        bootstrap: None,
        start_kafka: None,
        kafka_libs: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{flag} wants a value"));
        let names = |value: String| value.split(',').map(str::to_owned).collect();
        match &*flag {
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--quick" => options.divide = 4,
            "--divide" => options.divide = value().parse().unwrap(),
            "--only" => options.only = names(value()),
            "--loads" => options.loads = names(value()),
            "--targets" => options.targets = names(value()),
            "--out" => options.out = value().into(),
            "--bootstrap" => options.bootstrap = Some(value()),
            "--start-kafka" => options.start_kafka = Some(value().into()),
            "--kafka-libs" => options.kafka_libs = Some(value().into()),
            _ => panic!("{flag} is not known"),
        }
    }
    options
}

/// What the programs talk to.
enum Target {
    Sink(Sink),
    Kafka { bootstrap: String, _own: Option<Kafka> },
}

impl Target {
    fn bootstrap(&self) -> &str {
        match self {
            Self::Sink(sink) => &sink.address,
            Self::Kafka { bootstrap, .. } => bootstrap,
        }
    }
}

fn main() {
    let options = options();
    fs::create_dir_all(&options.out).unwrap();
    let classes = options.kafka_libs.as_deref().map(|libs| compile_java(libs, &options.out));
    let programs: Vec<&Program> = PROGRAMS
        .iter()
        .filter(|program| wanted(&options.only, program.name) || program.is_raw())
        .filter(|program| !program.is_java() || classes.is_some())
        .filter(|program| program.is_java() || binary(program).exists())
        .collect();

    let mut targets = Vec::new();
    let is_target = |name: &str| options.targets.is_empty() || options.targets.iter().any(|target| target == name);
    if is_target("sink") {
        targets.push(("sink", Target::Sink(Sink::start(&own("sink"), 0))));
    }
    if is_target("sink-5ms") {
        targets.push(("sink-5ms", Target::Sink(Sink::start(&own("sink"), 5))));
    }
    if is_target("kafka") {
        if let Some(bootstrap) = options.bootstrap.clone() {
            targets.push(("kafka", Target::Kafka { bootstrap, _own: None }));
        } else if let Some(data) = &options.start_kafka {
            let kafka = Kafka::start(options.kafka_libs.as_deref().expect("--kafka-libs DIR is missing"), data);
            targets.push(("kafka", Target::Kafka { bootstrap: kafka.address.clone(), _own: Some(kafka) }));
        }
    }

    for (_, target) in &targets {
        if let Target::Kafka { bootstrap, .. } = target {
            warm(bootstrap, &options);
        }
    }
    let mut results = Results::new();
    let mut log = fs::File::create(options.out.join("results.jsonl")).unwrap();
    let steal = Steal::now();
    let mut text = String::new();
    for round in 1..=options.rounds {
        for (target_name, target) in &targets {
            for load in LOADS.iter().filter(|load| wanted(&options.loads, load.name) && load.is_for(target_name)) {
                for program in programs.iter().filter(|program| load.suits(program)) {
                    eprint!("round {round} {target_name} {}: {} ", load.name, program.name);
                    let topic = match target {
                        Target::Sink(_) => "peers".to_owned(),
                        Target::Kafka { bootstrap, .. } => {
                            let topic = format!("peers-{round}-{}-{}", load.name, program.name.replace(' ', "-"));
                            wire::create_topic(bootstrap, &topic, load.partitions);
                            topic
                        }
                    };
                    let outcome =
                        run(program, load, (target_name, target.bootstrap()), &topic, &options, classes.as_deref());
                    if let Target::Kafka { bootstrap, .. } = target {
                        wire::delete_topic(bootstrap, &topic);
                    }
                    match outcome {
                        Ok(mut line) => {
                            eprintln!("{}", table::brief(&line));
                            line["program"] = json!(program.name);
                            line["target"] = json!(target_name);
                            line["load"] = json!(load.name);
                            line["round"] = json!(round);
                            writeln!(log, "{line}").unwrap();
                            results
                                .entry((*target_name, load.name))
                                .or_default()
                                .entry(program.name)
                                .or_default()
                                .push(line);
                        }
                        Err(error) => eprintln!("FAILED: {error}"),
                    }
                }
            }
        }
        // After each round: a run that is broken off has told what it knows.
        text = tables(&options, round, &steal, &programs, &results);
    }
    println!("{text}");
}

/// Whether a name contains one of these; none: all do.
fn wanted(parts: &[String], name: &str) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(&**part))
}

/// Writes the tables and plots of the rounds so far; answers the tables.
fn tables(options: &Options, rounds: u32, steal: &Steal, programs: &[&Program], results: &Results) -> String {
    let mut text = format!(
        "{rounds} rounds, {} CPUs, the host took {:.1} % of them. Medians (range). kafka-blocking {}.\n",
        thread::available_parallelism().unwrap(),
        steal.percent(),
        kafka_blocking_peers::version_of("kafka-blocking"),
    );
    for target in TARGETS {
        for load in LOADS {
            let Some(of_programs) = results.get(&(target, load.name)) else { continue };
            let rows = table::rows(programs, load, of_programs);
            text.push_str(&table::markdown(target, load, &rows));
            fs::write(options.out.join(format!("{target}-{}.svg", load.name)), plot::svg(target, load, &rows)).unwrap();
        }
    }
    fs::write(options.out.join("results.md"), &text).unwrap();
    text
}

const TARGETS: [&str; 3] = ["sink", "sink-5ms", "kafka"];

/// Lets the broker's virtual machine compile what it will need.
fn warm(bootstrap: &str, options: &Options) {
    const TOPIC: &str = "peers-warm-up";
    wire::create_topic(bootstrap, TOPIC, PARTITIONS);
    // There is no floor of transactions.
    let warms = |load: &Load, program: &Program| match load.is_transactional() {
        true => program.name == table::OURS && wanted(&options.loads, load.name),
        false => program.is_raw(),
    };
    for (load, program) in LOADS.iter().flat_map(|load| PROGRAMS.iter().map(move |program| (load, program))) {
        if load.suits(program) && warms(load, program) {
            eprintln!("warm-up {}: {}", load.name, program.name);
            if let Err(error) = run(program, load, ("kafka", bootstrap), TOPIC, options, None) {
                eprintln!("FAILED: {error}");
            }
        }
    }
    wire::delete_topic(bootstrap, TOPIC);
}

/// The lines of each program for each target and load.
type Results = BTreeMap<(&'static str, &'static str), BTreeMap<&'static str, Vec<Value>>>;

/// A program of this package.
fn own(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}

fn binary(program: &Program) -> PathBuf {
    own(program.command)
}

/// Compiles the Java program; answers its class path.
fn compile_java(libs: &Path, out: &Path) -> String {
    let (classes, jars) = (out.join("classes"), format!("{}/*", libs.display()));
    fs::create_dir_all(&classes).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/PeerProducer.java");
    let status =
        Command::new("javac").args(["-nowarn", "-cp", &jars, "-d"]).arg(&classes).arg(source).status().unwrap();
    assert!(status.success(), "javac failed");
    format!("{}:{jars}", classes.display())
}

fn run(
    program: &Program,
    load: &Load,
    (target, bootstrap): (&str, &str),
    topic: &str,
    options: &Options,
    class_path: Option<&str>,
) -> Result<Value, String> {
    let mut command = if program.is_java() && program.command == "java" {
        let mut command = Command::new("java");
        command.args(["-cp", class_path.unwrap(), "PeerProducer"]);
        command
    } else {
        let mut command = Command::new(binary(program));
        if let Some(class_path) = class_path.filter(|_| program.is_java()) {
            command.args(["--class-path", class_path]);
        }
        command
    };
    let (records, warmup) = program.records(load, target, options.divide);
    command.args(["--bootstrap", bootstrap, "--topic", topic, "--mode", &load.mode.to_string()]);
    command.args(["--records", &records.to_string(), "--warmup", &warmup.to_string()]);
    command.args(load.flags).args(program.flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        thread::spawn(move || {
            let mut text = String::new();
            let _ = from.read_to_string(&mut text);
            text
        })
    };
    let output = read(Box::new(child.stdout.take().unwrap()));
    let errors = read(Box::new(child.stderr.take().unwrap()));
    let deadline = Instant::now() + BOUND;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("not done after {BOUND:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
    if !status.success() {
        return Err(format!(
            "{status}: {}",
            errors.lines().filter(|line| !line.is_empty()).take(3).collect::<Vec<_>>().join(" ")
        ));
    }
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| format!("{error}: {last}"))
}

/// How much of the CPUs' time the host gave to others.
struct Steal(u64, u64);

impl Steal {
    fn now() -> Self {
        let mut text = String::new();
        fs::File::open("/proc/stat").unwrap().read_to_string(&mut text).unwrap();
        let numbers: Vec<u64> =
            text.lines().next().unwrap().split_whitespace().filter_map(|n| n.parse().ok()).collect();
        Self(numbers.get(7).copied().unwrap_or(0), numbers.iter().take(8).sum())
    }

    fn percent(&self) -> f64 {
        let now = Self::now();
        (now.0 - self.0) as f64 * 100.0 / (now.1 - self.1).max(1) as f64
    }
}

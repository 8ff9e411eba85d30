//! Kafka's jars, and those of others, fetched once per version with Maven.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A version of Kafka that the tests start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// The oldest broker that knows record batches v2; ZooKeeper mode.
    V0_11,
    /// The last line before KRaft became usable; ZooKeeper mode.
    V2_8,
    /// The last line before 4.0; KRaft.
    V3_9,
    /// The newest; KRaft.
    V4_3,
}

impl Version {
    /// The full version number.
    pub fn number(self) -> &'static str {
        match self {
            Self::V0_11 => "0.11.0.3",
            Self::V2_8 => "2.8.2",
            Self::V3_9 => "3.9.2",
            Self::V4_3 => "4.3.1",
        }
    }

    /// Whether the brokers keep their metadata in ZooKeeper.
    pub fn uses_zookeeper(self) -> bool {
        self < Self::V3_9
    }

    fn pom(self) -> &'static str {
        match self {
            Self::V0_11 => include_str!("poms/0.11.0.3.xml"),
            Self::V2_8 => include_str!("poms/2.8.2.xml"),
            Self::V3_9 => include_str!("poms/3.9.2.xml"),
            Self::V4_3 => include_str!("poms/4.3.1.xml"),
        }
    }
}

/// The class path of `version`. Java itself expands the star, so it must not pass through a shell unquoted.
pub fn class_path(version: Version) -> String {
    format!("{}/*", directory(version).display())
}

/// The directory with the jars of `version`, fetched first if need be.
pub fn directory(version: Version) -> PathBuf {
    fetched(version.number(), version.pom())
}

/// The directory with the jars that a pom names, and those that they need, fetched first if need be.
pub fn fetched(name: &str, pom: &str) -> PathBuf {
    fetched_by(name, |partial, project| {
        let file = project.join("pom.xml");
        fs::write(&file, pom).map_err(|error| error.to_string())?;
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(&file).args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        run(maven.arg(format!("-DoutputDirectory={}", partial.display())))
    })
}

/// The directory with the content of an artifact that is an archive, fetched first if need be.
pub fn unpacked(name: &str, artifact: &str) -> PathBuf {
    fetched_by(name, |partial, project| {
        let mut maven = Command::new("mvn");
        // Without a pom, Maven makes a directory for its own in the current one.
        maven.current_dir(project).args(["-q", "-B"]);
        // Later versions of the plugin want the artifact's poms as well, which not every mirror has.
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:2.8:unpack");
        run(maven.args([format!("-Dartifact={artifact}"), format!("-DoutputDirectory={}", partial.display())]))
    })
}

/// The directory of this name, which `fetch` fills the first time.
fn fetched_by(name: &str, fetch: impl Fn(&Path, &Path) -> Result<(), String>) -> PathBuf {
    static CHECKED: OnceLock<()> = OnceLock::new();
    CHECKED.get_or_init(check_java);
    let jars = super::home().join("jars");
    let directory = jars.join(name);
    if directory.is_dir() {
        return directory;
    }
    fs::create_dir_all(&jars).unwrap();
    // Several test processes may want the same jars at the same time.
    let lock = File::create(jars.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if directory.is_dir() {
        return directory;
    }
    let (partial, project) = (jars.join(format!("{name}.tmp")), jars.join(format!("{name}.project")));
    let fetch = || {
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&project).map_err(|error| error.to_string())?;
        fetch(&partial, &project)?;
        let _ = fs::remove_dir_all(&project);
        fs::rename(&partial, &directory).map_err(|error| error.to_string())
    };
    // A dropped connection to the repository is the usual reason for a failure, and Maven resumes where it stopped.
    if let Err(first) = fetch() {
        eprintln!("fetching {name} failed, trying once more: {first}");
        fetch().unwrap_or_else(|second| panic!("{name} could not be fetched: {second}"));
    }
    directory
}

fn run(maven: &mut Command) -> Result<(), String> {
    let output = maven
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run mvn ({error}); install Apache Maven 3.6 or newer"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        return Err(format!("mvn: {}\n{text}", output.status));
    }
    Ok(())
}

/// Panics with what to install unless `java` is there and new enough for Kafka 4.
fn check_java() {
    const WANTED: &str = "the tests start real Kafka servers: install a JDK, version 17 or newer, and put java on PATH";
    let output = Command::new("java").arg("-version").output();
    let output = output.unwrap_or_else(|error| panic!("cannot run java ({error}); {WANTED}"));
    let text = String::from_utf8_lossy(&output.stderr);
    match major_version(&text) {
        Some(major) if major >= 17 => {}
        Some(major) => panic!("java has version {major}; {WANTED}"),
        None => panic!("cannot read the version of java in {text:?}; {WANTED}"),
    }
}

/// The feature version in what `java -version` prints: `openjdk version "17.0.15" 2025-04-15`, `java version "1.8.0"`.
pub fn major_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(['.', '-', '+', '_']);
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

//! Kafka's jars, fetched once per version with Maven.

use std::fs::{self, File};
use std::path::PathBuf;
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
    pub const ALL: [Self; 4] = [Self::V4_3, Self::V3_9, Self::V2_8, Self::V0_11];

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
    static FETCHED: OnceLock<()> = OnceLock::new();
    FETCHED.get_or_init(check_java);
    let jars = super::home().join("jars");
    let directory = jars.join(version.number());
    if directory.is_dir() {
        return directory;
    }
    fs::create_dir_all(&jars).unwrap();
    // Several test processes may want the same jars at the same time.
    let lock = File::create(jars.join(format!("{}.lock", version.number()))).unwrap();
    lock.lock().unwrap();
    if directory.is_dir() {
        return directory;
    }
    // A dropped connection to the repository is the usual reason for a failure, and Maven resumes where it stopped.
    if let Err(first) = fetch(version) {
        eprintln!("fetching Kafka {} failed, trying once more: {first}", version.number());
        fetch(version).unwrap_or_else(|second| panic!("Kafka {} could not be fetched: {second}", version.number()));
    }
    directory
}

fn fetch(version: Version) -> Result<(), String> {
    let jars = super::home().join("jars");
    let partial = jars.join(format!("{}.tmp", version.number()));
    let project = jars.join(format!("{}.project", version.number()));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&project).map_err(|error| error.to_string())?;
    let pom = project.join("pom.xml");
    fs::write(&pom, version.pom()).map_err(|error| error.to_string())?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", partial.display()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run mvn ({error}); install Apache Maven 3.6 or newer"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        return Err(format!("mvn: {}\n{text}", output.status));
    }
    let _ = fs::remove_dir_all(&project);
    fs::rename(&partial, jars.join(version.number())).map_err(|error| error.to_string())
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

//! A schema registry: Apicurio, which has the REST interface of Confluent's. And Java's Avro, as the judge of what is
//! written with its schemas.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::jars;
use super::kafka::{RunDirectory, hold_machine_lock};
use super::process::Watched;

/// The last version that runs on Java 17.
const VERSION: &str = "3.0.9";
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running registry, with its data in memory; dropping it kills the process and removes its files.
#[derive(Debug)]
pub struct Registry {
    _process: Watched,
    directory: RunDirectory,
    http: String,
    https: String,
    certificate: String,
}

/// The registry that the tests of one binary share. Subjects need names of their own.
pub fn shared() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| Registry::start(&[]))
}

/// A registry that requires alice's password; the tests of one binary share it, too.
pub fn shared_with_password() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        Registry::start(&[
            "-Dquarkus.http.auth.basic=true",
            "-Dquarkus.security.users.embedded.enabled=true",
            "-Dquarkus.security.users.embedded.plain-text=true",
            "-Dquarkus.security.users.embedded.users.alice=ses@me",
            "-Dquarkus.security.users.embedded.roles.alice=sr-admin",
            "-Dapicurio.auth.role-based-authorization=true",
        ])
    })
}

impl Registry {
    fn start(settings: &[&str]) -> Self {
        hold_machine_lock();
        let artifact = format!("io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
        let home = jars::unpacked(&format!("apicurio-{VERSION}"), &artifact);
        let directory = RunDirectory::create();
        let (keys, certificate) = certificate(&directory);
        let log = directory.path.join("registry.log");
        let mut arguments: Vec<OsString> = [
            "-Xms32m",
            "-Xmx192m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Dquarkus.http.host=127.0.0.1",
            "-Dquarkus.http.port=0",
            "-Dquarkus.http.ssl-port=0",
            "-Dquarkus.http.insecure-requests=enabled",
            "-Dquarkus.http.ssl.certificate.key-store-password=changeit",
            "-Dquarkus.management.host=127.0.0.1",
            "-Dquarkus.management.port=0",
            "-Dquarkus.http.access-log.enabled=false",
            // Without this level it does not log the address at which it listens.
            "-Dquarkus.log.category.\"io.quarkus\".level=INFO",
        ]
        .iter()
        .chain(settings)
        .map(Into::into)
        .collect();
        arguments.push(format!("-Dquarkus.http.ssl.certificate.key-store-file={}", keys.display()).into());
        arguments.extend(["-jar".into(), home.join(format!("apicurio-registry-app-{VERSION}-runner.jar")).into()]);
        let mut process = Watched::start("java", arguments, &log, &log);
        let (http, https) = super::wait_for("the schema registry", START_LIMIT, || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            assert!(process.ended().is_none(), "the schema registry did not start:\n{text}");
            let line = text.lines().find(|line| line.contains("Listening on: "))?.to_owned();
            let address = |scheme: &str| {
                let rest = line.split_once(&format!("{scheme}://127.0.0.1:"))?.1;
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                Some(format!("{scheme}://127.0.0.1:{port}/apis/ccompat/v7"))
            };
            Some((address("http")?, address("https")?))
        });
        Self { _process: process, directory, http, https, certificate }
    }

    /// The address without encryption.
    pub fn url(&self) -> &str {
        &self.http
    }

    /// The address with encryption.
    pub fn https_url(&self) -> &str {
        &self.https
    }

    /// The certificate of the encrypted address, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Has Java's Avro do what these lines say (see the program), with the schemas of this registry; one line each
    /// comes back.
    pub fn judge(&self, lines: &[String]) -> Vec<String> {
        judge(self.url(), lines)
    }
}

/// Has Java's Avro do what these lines say (see the program), with the schemas of the registry at this address; one line
/// each comes back.
pub fn judge(registry: &str, lines: &[String]) -> Vec<String> {
    let jars = jars::fetched("avro-1.12.1", include_str!("poms/avro.xml"));
    let directory = RunDirectory::create();
    let [source, input, out, err] = ["AvroJudge.java", "in", "out", "err"].map(|name| directory.path.join(name));
    fs::write(&source, include_str!("java/AvroJudge.java")).unwrap();
    fs::write(&input, lines.join("\n")).unwrap();
    let arguments: Vec<OsString> = vec![
        "-XX:TieredStopAtLevel=1".into(),
        "-Dfile.encoding=UTF-8".into(),
        "-cp".into(),
        format!("{}/*", jars.display()).into(),
        source.into(),
        registry.into(),
        input.into(),
    ];
    let mut process = Watched::start("java", arguments, &out, &err);
    let status = process.wait(Duration::from_secs(180)).expect("the judge ends in time");
    let answers = fs::read_to_string(&out).unwrap_or_default();
    let complaints = fs::read_to_string(&err).unwrap_or_default();
    assert!(status.success(), "the judge failed: {answers}{complaints}");
    let answers: Vec<String> = answers.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len(), "{answers:?} {complaints}");
    answers
}

/// A key with a certificate for loopback: a PKCS #12 file, and the certificate in PEM.
fn certificate(directory: &RunDirectory) -> (PathBuf, String) {
    let keys = directory.path.join("keys.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new("keytool");
        command.args(arguments).args(["-alias", "registry", "-storetype", "PKCS12", "-storepass", "changeit"]);
        let output = command.arg("-keystore").arg(&keys).output().expect("keytool comes with the JDK");
        assert!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    };
    let names = "san=dns:localhost,ip:127.0.0.1";
    keytool(&[
        "-genkeypair",
        "-keyalg",
        "EC",
        "-groupname",
        "secp256r1",
        "-dname",
        "CN=registry",
        "-ext",
        names,
        "-validity",
        "30",
    ]);
    let pem = keytool(&["-exportcert", "-rfc"]);
    (keys, pem)
}
